"""Damaged model files and states of pickles make a whole model or a clear error; nothing is executed."""

import copy
import io
import json
import os
import resource
import sys
import tempfile
import zipfile
from contextlib import contextmanager
from functools import cache, partial
from random import Random
from unittest import mock

import numpy as np

from ... import ConvNetClassifier, ConvNetRegressor, Sequential, _archive, _fitted, layers, load, optimizers, schedules

FILES, STATES = 40, 40      # of each case
MAX_GROWTH = 64             # MB of resident memory, over all files and states
REFUSALS = (ValueError, TypeError, KeyError, AttributeError, OverflowError)     # of states; of files only the first
EXECUTING = {"exec", "os.exec", "os.fork", "os.posix_spawn", "os.system", "pickle.find_class", "subprocess.Popen",
             "cyconv.executed"}
HOSTILE = (None, True, -1, 0, 3, 2**31, 2**63, 2**64 + 3, 10**400, 1.5, 1e308, -0.0, "", "x" * 999, "__class__", [], {},
           [[]], {"dict": []}, {"tuple": [2**31]}, {"float": "nan"}, {"array": "0"}, {"layer": ["Layer", {"dict": []}]},
           {"layer": ["Conv", {"dict": [["out_channels", 2**30]]}]}, {"schedule": ["Constant", {"dict": []}]})
INTS = (0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1)
X = np.linspace(0, 1, 192, dtype=np.float32).reshape(3, 64)


def case(seed, tally):
    rng, before = Random(seed), peak_memory()
    with tempfile.TemporaryDirectory() as folder, watched() as executed:
        path = os.path.join(folder, "model.npz")
        for number in range(FILES):
            data, change = damaged_file(rng, number)
            with open(path, "wb") as file:
                file.write(data)
            judge(f"file {number} ({change})", partial(load, path), (ValueError,), tally)
        for number in range(STATES):
            thing, change = rng.choice(states()), rng.randrange(2**32)
            make = partial(with_damaged_state, thing, Random(change))
            judge(f"state {number} of {type(thing).__name__}", make, REFUSALS, tally)
    if executed:
        raise AssertionError(f"executed {sorted(set(executed))}")
    tally.count("files", FILES)
    tally.count("states", STATES)
    tally.extreme("MB more memory", (peak_memory() - before) / 2**10)


def finish(tally):
    if tally.largest["MB more memory"] > MAX_GROWTH:
        raise AssertionError(f"resident memory grew by more than {MAX_GROWTH} MB")


def judge(what, make, refusals, tally):
    """Refused as it should be, or made and of use."""
    try:
        model = make()
    except refusals:
        tally.count("refused")
        return
    except BaseException as error:
        raise AssertionError(f"{what} ended in {type(error).__name__}: {error!s:.200}") from error
    try:
        use(model)
    except BaseException as error:
        if isinstance(error, REFUSALS):       # values, not shapes: a negative variance, an unknown kind of padding
            tally.count("refused in use")
            return
        raise AssertionError(f"{what} made a model that ends in {type(error).__name__}: {error!s:.200}") from error


def use(model):
    if isinstance(model, schedules.Schedule):
        model.observe(0.5, 0.1)
        model.rate(3, 0.1)
    elif isinstance(model, optimizers.Optimizer):
        model.step(np.ones_like(model.vector))
    elif isinstance(model, Sequential):
        model.forward(np.zeros((2, *model.input_shape)))
    else:
        model.predict(X)
        network = model.to_sequential()
        if {name: value.shape for name, value in network.parameters().items()} != {
                name: value.shape for name, value in model.parameters_.items()}:
            raise AssertionError("parameters of other shapes")


# ---------------------------------------------------------------- intact models

@cache
def estimators():
    y = np.arange(3)
    options = {"conv_channels": 2, "input_shape": (8, 8), "max_iter": 1, "random_state": 0, "n_iter_no_change": np.inf}
    own = [("conv", layers.Conv(3)), ("norm", layers.BatchNorm()), ("act", layers.ELU()), ("last", layers.AvgPool(2))]
    return (ConvNetClassifier(**options).fit(X, np.array(["a", "b", "c"], object)[y]),
            ConvNetRegressor(layers=own, learning_rate="adaptive", **options).fit(X, y))


@cache
def network():
    return Sequential([layers.Conv(2, padding=1), layers.SeparableConv(3), layers.LeakyReLU(), layers.MaxPool(),
                       layers.Dropout(), layers.Dense(2)], (1, 8, 8), random_state=0)


@cache
def states():
    vector = np.ones(5)
    return (*estimators(), network(), optimizers.SGD(vector), optimizers.Adam(vector, n_weights=3),
            optimizers.RMSprop(vector, momentum=0.5), schedules.ReduceOnPlateau(), schedules.Adaptive(),
            schedules.WarmUp(schedules.Cosine(5), 2))


@cache
def files():
    with tempfile.TemporaryDirectory() as folder:
        path, found = os.path.join(folder, "model.npz"), []
        for model in (*estimators(), network()):
            model.save(path, **({} if model is network() else {"for_training": True}))
            load(path)              # imports what reading needs
            with open(path, "rb") as file:
                found.append(file.read())
    return tuple(found)


# ---------------------------------------------------------------- damage

class Evil:
    """What runs when a pickle of it is read."""

    def __reduce__(self):
        return sys.audit, ("cyconv.executed",)


def damaged_file(rng, number):
    always = plant_pickle, shrink_array, lose_classes      # for each planted fault something that meets it
    change = always[number] if number < len(always) else rng.choice(
        (damage_bytes, damage_bytes, damage_entry, damage_document, damage_document, damage_document, shrink_array))
    data = files()[0] if change is lose_classes else rng.choice(files())
    if change is damage_bytes:
        return damage_bytes(rng, data), change.__name__
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(rng, entries)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", rng.choice((zipfile.ZIP_STORED,) * 9 + (zipfile.ZIP_DEFLATED,))) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue(), change.__name__


def damage_bytes(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        place = rng.randrange(len(data)) if rng.random() < 0.5 else max(0, len(data) - rng.randrange(1, 1500))
        length = rng.choice((1, 2, 4, 8, 64))
        kind = rng.randrange(5)
        if kind == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[place:place + 4] = rng.choice(INTS).to_bytes(4, "little")
        elif kind == 2:
            del data[place:place + length]
        elif kind == 3:
            data[place:place] = rng.randbytes(length)
        else:
            del data[place + 1:]
        if not data:
            break
    return bytes(data)


def arrays_of(entries):
    return [name for name in entries if name.endswith(".npy")]


def damage_entry(rng, entries):
    name = rng.choice(list(entries))
    kind = rng.randrange(4)
    if kind == 0:
        del entries[name]
    elif kind == 1:
        entries[name[1:]] = entries.pop(name)
    elif kind == 2:
        entries[name] = entries[rng.choice(list(entries))]
    else:      # mostly the header of an array
        content = entries[name]
        entries[name] = damage_bytes(rng, content[:128]) + content[128:]


def shrink_array(rng, entries):
    """An array of one element, or of no size that a file could have."""
    name = rng.choice(arrays_of(entries))
    content = saved(np.zeros((1,), rng.choice(("<f4", "<f8", "<i8", "<U1"))))
    if rng.random() < 0.3:
        huge = f"'shape': ({rng.choice((2**31, 2**40, 10**30, -1, 0))},)".encode()
        content = content.replace(b"'shape': (1,)" + b" " * (len(huge) - 13), huge)
    entries[name] = content


def plant_pickle(rng, entries):
    entries[rng.choice(arrays_of(entries))] = saved(np.array([Evil()] * rng.randint(1, 3), object))


def lose_classes(rng, entries):
    """Fewer classes than outputs."""
    entries["fitted.classes_.npy"] = saved(np.array(["a"]))


def saved(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def damage_document(rng, entries):
    document = json.loads(entries["model.json"])
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        holder, key = rng.choice(places(document))
        kind = rng.randrange(6)
        if kind < 3:
            holder[key] = copy.deepcopy(rng.choice(HOSTILE))
        elif kind == 3:
            del holder[key]
        elif kind == 4 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        else:
            holder[key] = damage_value(rng, holder[key])
    entries["model.json"] = json.dumps(document).encode()


def damage_value(rng, value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return rng.choice((value + 1, -value, value * 2**31, value // 3, str(value)))
    if isinstance(value, str):
        return rng.choice((value[:-1], value + "_", value.upper(), "../" + value))
    return [value]


def places(value):
    """Every (container, key) of nested dicts and lists."""
    found, waiting = [], [value]
    while waiting:
        holder = waiting.pop()
        for key, item in holder.items() if isinstance(holder, dict) else enumerate(holder):
            found.append((holder, key))
            if isinstance(item, (dict, list)):
                waiting.append(item)
    return found


def with_damaged_state(thing, rng):
    """A thing of its class with what unpickling would give it, changed somewhere."""
    state = copy.deepcopy(thing.__reduce_ex__(4)[2])
    holder, key = rng.choice([(state, key) for key in state] + places(state))
    old, kind = holder[key], rng.randrange(4)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(old, np.ndarray) and old.dtype.kind != "O":
        holder[key] = rng.choice((old[:-1], old.astype("f4"), old.astype("f8"), old[..., None], old.reshape(-1)[::2]))
    elif kind == 2 and isinstance(old, (bool, int, float, str)):
        holder[key] = damage_value(rng, old)
    else:
        holder[key] = copy.deepcopy(rng.choice(HOSTILE))
    other = type(thing).__new__(type(thing))
    other.__setstate__(state)
    return other


# ---------------------------------------------------------------- what happens meanwhile

_events = None


def note(event, arguments):
    if _events is not None and event in EXECUTING:
        _events.append(event)


@contextmanager
def watched():
    """The list of what is executed inside."""
    global _events
    files(), states()
    if not hasattr(watched, "hook"):
        watched.hook = sys.addaudithook(note)
    _events = []
    try:
        yield _events
    finally:
        _events = None


def peak_memory():
    """KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)


# ---------------------------------------------------------------- negative controls

def with_pickle(archive, info):
    with archive.open(info) as stream:
        return _archive.npy.read_array(stream, allow_pickle=True)


def faults():
    return {
        "arrays are read with pickle": mock.patch.object(_archive, "read_array", with_pickle),
        "attributes are not checked": mock.patch.object(_fitted.Saved, "_check_fitted", lambda self: None),
        "shapes of parameters are not checked": mock.patch.object(
            Sequential, "_check", lambda self, parameters: parameters),
    }
