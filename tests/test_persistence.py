"""Model files: what is saved comes back bit by bit; whatever else a file holds is refused, and never run."""

import hashlib
import io
import json
import os
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

import cyconv
from cyconv import (
    ConvNetClassifier,
    ConvNetRegressor,
    Sequential,
    _archive,
    _fitted,
    _plain,
    layers,
    load,
    optimizers,
    persistence,
    schedules,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore:X is taken for")

GOLDEN = Path(__file__).parent / "golden"
RNG = np.random.default_rng(20240229)
X, Y = RNG.random((60, 64), np.float32), np.arange(60) % 3


def fitted(labels=Y, x=X, **changes):
    return ConvNetClassifier(**({"conv_channels": 4, "input_shape": (8, 8), "max_iter": 2, "random_state": 0,
                                 "batch_norm": True} | changes)).fit(x, labels)


def assert_same(first, second):
    """Equal to the last bit, with equal types; a scalar of NumPy may have become Python's."""
    assert type(first) is type(second.item() if isinstance(second, np.generic) else second)
    if isinstance(first, dict):
        assert list(first) == list(second)
        for name in first:
            assert_same(first[name], second[name])
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for one, other in zip(first, second):
            assert_same(one, other)
    elif isinstance(first, np.ndarray):
        assert first.dtype == second.dtype and first.shape == second.shape
        assert first.dtype.kind in "OT" or first.tobytes() == second.tobytes()
        assert first.tolist() == second.tolist() or first.dtype.kind == "f"
    else:
        assert first == second or first != first and second != second


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.npz"


@pytest.fixture(scope="module")
def model():
    return fitted()


@pytest.fixture
def file(model, path):
    model.save(path, for_training=True)
    return path


# ---------------------------------------------------------------- round trip

@pytest.mark.parametrize("labels", [
    Y, Y.astype(np.int8), Y == 0, Y.astype(float), Y.astype(str), Y.astype(str).astype(object),
    np.array(["ä", "\n", "𝔛"])[Y], np.array(["conv1.weight", "x", ""], object)[Y],
], ids=["int", "int8", "bool", "float", "str", "object", "unicode", "names"])
def test_classifier_comes_back_with_any_labels(labels, path):
    estimator = fitted(labels)
    estimator.save(path)
    again = load(path)
    assert_same(again.get_params(), estimator.get_params())
    assert_same({name: getattr(estimator, name) for name in vars(again)}, vars(again))
    assert vars(estimator).keys() - vars(again).keys() == {"optimizer_state_"}
    assert_same(again.predict(X), estimator.predict(X))
    assert_same(again.predict_proba(X), estimator.predict_proba(X))


@pytest.mark.parametrize("changes", [
    {"conv_channels": (), "hidden_layer_sizes": (5, 4), "dropout": 0.5}, {"class_weight": {0: 1.0, 1: 2.0, 2: 0.5}},
    {"kernel_size": ((3, 1),), "padding": ((1, 0),), "conv_channels": (3,)}, {"pool": None, "activation": "gelu"},
    {"alpha": np.float64(0.1), "max_iter": np.int64(3), "n_iter_no_change": np.inf}, {"solver": "sgd"},
    {"x": X.astype(np.float64)}, {"x": X.reshape(-1, 1, 8, 8), "input_shape": None}, {"data_format": "channels_last"},
    {"input_shape": None, "spatial_dims": 1},
], ids=str)
def test_any_parameters_come_back(changes, path):
    estimator = fitted(**changes)
    estimator.save(path, for_training=True)
    again = load(path)
    assert again.get_params() == estimator.get_params()
    attributes = {name: value for name, value in vars(estimator).items() if name not in estimator.get_params()}
    assert_same({name: getattr(again, name) for name in attributes}, attributes)


@pytest.mark.parametrize("targets", [Y + 0.5, np.column_stack([Y, -Y, Y * Y]).astype(float)], ids=["one", "three"])
def test_regressor_comes_back(targets, path):
    estimator = ConvNetRegressor(4, input_shape=(8, 8), max_iter=2, warm_start=True, loss="huber", random_state=3)
    estimator.fit(X, targets)
    estimator.save(path, for_training=True)
    again = load(path)
    assert_same(again.predict(X), estimator.predict(X))
    assert_same(again.fit(X, targets).parameters_, estimator.fit(X, targets).parameters_)


def test_several_labels_and_own_layers_come_back(path):
    own = [("first", layers.Conv(3, 2)), ("act", layers.ELU(0.5)), ("last", layers.GlobalPool("max"))]
    estimator = fitted(np.eye(3, dtype=int)[Y], layers=own, early_stopping=True, learning_rate="adaptive")
    estimator.save(path, for_training=True)
    again = load(path)
    assert again.get_params(deep=False).keys() == estimator.get_params(deep=False).keys()
    assert again.get_params()["first"] == own[0][1]
    assert_same(again.predict(X), estimator.predict(X))
    assert_same(again.history_, estimator.history_)


def test_partial_fit_goes_on_with_the_same_bits(path):
    estimator = ConvNetRegressor(4, input_shape=(8, 8), learning_rate="adaptive", random_state=1).partial_fit(X, Y)
    estimator.save(path, for_training=True)
    again = load(path).partial_fit(X, Y)
    assert_same(again.parameters_, estimator.partial_fit(X, Y).parameters_)
    estimator.save(path)
    load(path).partial_fit(X, Y)


def test_feature_names_come_back(path):
    pandas = pytest.importorskip("pandas")
    estimator = fitted(x=pandas.DataFrame(X, columns=[f"pixel {i}" for i in range(64)]))
    estimator.save(path)
    assert_same(load(path).feature_names_in_, estimator.feature_names_in_)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_training_goes_on_with_the_same_bits(solver, path):
    options = {"warm_start": True, "solver": solver, "dropout": 0.25}
    estimator = fitted(**options)
    estimator.save(path, for_training=True)
    again = load(path).fit(X, Y)
    estimator.fit(X, Y)
    assert_same(again.parameters_, estimator.parameters_)
    assert_same(again.optimizer_state_, estimator.optimizer_state_)
    assert_same(again.loss_curve_, estimator.loss_curve_)


def test_without_the_optimizer_a_warm_start_begins_a_new_one(path):
    fitted(warm_start=True).save(path)
    again = load(path)
    before = again.parameters_
    assert not hasattr(again, "optimizer_state_")
    again.fit(X, Y)
    assert again.t_ == 240 and not np.array_equal(again.parameters_["dense1.weight"], before["dense1.weight"])


NETWORK = [layers.Conv(4, (3, 2), padding="same", groups=1), layers.BatchNorm(), ("my.own/name", layers.LeakyReLU(0.1)),
           layers.MaxPool(2), layers.SeparableConv(6), layers.LpPool(np.inf, 2), layers.Dropout(0.3), layers.Dense(5)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_network_comes_back(dtype, path, data_format):
    shape = (2, 9, 9) if data_format == "channels_first" else (9, 9, 2)
    network = Sequential(NETWORK, shape, dtype=dtype, data_format=data_format)
    network.vector[::7] = np.nan
    network.vector[1::7] = -0.0
    network.state[:] = RNG.random(network.state.size)
    network.save(path)
    again = load(path)
    x = RNG.random((4, *shape))
    assert again.vector.tobytes() == network.vector.tobytes() and again.state.tobytes() == network.state.tobytes()
    assert repr(again) == repr(network) and (again.seed, again.dtype) == (network.seed, network.dtype)
    assert_same(again.forward(x)[0], network.forward(x)[0])
    assert_same(again.forward(x, training=True, step=3)[0], network.forward(x, training=True, step=3)[0])


@pytest.mark.parametrize("name", sorted(_plain.LAYERS))
def test_every_layer_comes_back(name):
    needed = {"out_channels": 3, "units": 3, "output_size": (2, None)}
    kind = _plain.LAYERS[name]
    layer = kind(**{field: needed[field] for field in needed if field in kind.__dataclass_fields__})
    document = json.loads(json.dumps(_plain.encode(layer, "", {})))
    assert_same(_plain.decode(document, {}).get_params(), layer.get_params())


@pytest.mark.parametrize("value", [
    None, True, 0, -2**70, 0.1, -0.0, 5e-324, float("inf"), "", "ä\0\ud800", [], [1, [2.5]], (), (1, (None,)), {},
    {"a": {"b": 1}, "c": 2}, {1: "x", "1": "y", False: 2, 2.5: (3,)}, [0.1] * 40, np.arange(6).reshape(2, 3),
    np.zeros((0, 3)), np.array(2.0, np.float32), np.array([True]), np.array(["a", "bcd"]), np.array(["a", "b"], object),
    schedules.WarmUp(schedules.Cosine(10), 3), schedules.Adaptive(), np.arange(6.0)[::2],
], ids=repr)
def test_plain_values_come_back(value):
    arrays = {}
    document = json.loads(json.dumps(_plain.encode(value, "", arrays), allow_nan=False))
    assert_same(_plain.decode(document, arrays), value)
    assert not arrays


# ---------------------------------------------------------------- the file

def test_file_is_an_archive_that_numpy_opens_without_pickle(model, file):
    with np.load(file, allow_pickle=False) as archive:
        assert_same(archive["fitted.parameters_.conv1.weight"], model.parameters_["conv1.weight"])
        assert json.loads(archive["model.json"])["model"] == "ConvNetClassifier"


def test_same_model_gives_the_same_file(model, file, tmp_path):
    model.save(tmp_path / "other")
    load(file).save(tmp_path / "another")
    assert (tmp_path / "other").read_bytes() == (tmp_path / "another").read_bytes()


def test_file_is_replaced_whole_or_not_at_all(model, file, monkeypatch):
    before = file.read_bytes()
    real = _archive.npy.write_array

    def fail_in_the_middle(stream, array, **options):
        if array.ndim > 1:
            raise OSError("disk full")
        real(stream, array, **options)

    with monkeypatch.context() as patch:
        patch.setattr(_archive.npy, "write_array", fail_in_the_middle)
        with pytest.raises(OSError, match="disk full"):
            model.save(file)
    assert file.read_bytes() == before and os.listdir(file.parent) == [file.name]
    model.save(file)
    assert len(file.read_bytes()) < len(before) and os.listdir(file.parent) == [file.name]


def test_link_stays_a_link(model, file, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(file)
    model.save(str(link))
    assert link.is_symlink() and load(link).n_features_in_ == 64


def test_paths_that_cannot_be_are_named(tmp_path):
    network = Sequential([layers.Dense(2)], (3,), random_state=0)
    with pytest.raises(FileNotFoundError, match="save: there is no folder '.*nowhere'"):
        network.save(tmp_path / "nowhere" / "model")
    with pytest.raises(ValueError, match=f"save: '{tmp_path}' is a folder or a device; give the path of a file"):
        network.save(tmp_path)
    with pytest.raises(TypeError, match="load: path must be a str or path-like, got 3"):
        load(3)
    with pytest.raises(TypeError, match="save: path must be a str or path-like, got 3"):
        network.save(3)


@pytest.mark.parametrize("name", ["classifier-1", "regressor-1", "sequential-1"])
def test_files_of_every_version_load(name):
    """Written by cyconv 0.1.0 as `write_golden` does; they stay as they are, and go on with the same bits."""
    expected = json.loads((GOLDEN / "expected.json").read_text())[name]
    model = load(GOLDEN / f"{name}.npz")
    parameters = model.parameters() if name == "sequential-1" else model.parameters_
    assert digest(parameters) == expected["parameters"]
    x = np.linspace(0, 1, 5 * 64, dtype=np.float32).reshape(5, 64)
    if name == "classifier-1":
        assert model.predict(x).tolist() == expected["labels"]
        outputs = model.predict_proba(x)
        assert model.set_params(warm_start=True).fit(x, np.array(["one", "two", "three"])[[0, 1, 2, 0, 1]]).t_ > 60
    elif name == "regressor-1":
        outputs = model.predict(x)
    else:
        outputs = model.forward(x.reshape(-1, 1, 8, 8))[0]
    np.testing.assert_allclose(outputs, expected["outputs"], rtol=1e-5, atol=1e-6)


def digest(parameters):
    return {name: hashlib.sha256(value.tobytes()).hexdigest() for name, value in parameters.items()}


def write_golden():
    """How the files of this version were made: ``python -c "import test_persistence as t; t.write_golden()"``."""
    x = np.linspace(0, 1, 5 * 64, dtype=np.float32).reshape(5, 64)
    classifier = fitted(np.array(["one", "two", "three"])[Y], class_weight={"one": 2.0, "two": 1.0, "three": 1.0})
    regressor = ConvNetRegressor(4, input_shape=(8, 8), max_iter=2, random_state=0).fit(X, np.column_stack([Y, -Y]))
    network = Sequential(NETWORK, (1, 8, 8), random_state=7)
    regressor.save(GOLDEN / "regressor-1.npz", for_training=True)
    classifier.save(GOLDEN / "classifier-1.npz", for_training=True)
    network.save(GOLDEN / "sequential-1.npz")
    expected = {
        "classifier-1": {"parameters": digest(classifier.parameters_), "labels": classifier.predict(x).tolist(),
                         "outputs": classifier.predict_proba(x).tolist()},
        "regressor-1": {"parameters": digest(regressor.parameters_), "outputs": regressor.predict(x).tolist()},
        "sequential-1": {"parameters": digest(network.parameters()),
                         "outputs": network.forward(x.reshape(-1, 1, 8, 8))[0].tolist()}}
    (GOLDEN / "expected.json").write_text(json.dumps(expected, indent=1))


# ---------------------------------------------------------------- what cannot be saved

def test_unfitted_estimator_is_not_saved(path):
    with pytest.raises(NotFittedError):
        ConvNetClassifier().save(path)


@pytest.mark.parametrize("changes, words", [
    ({"random_state": np.random.RandomState(0)}, "parameters.random_state is RandomState"),
    ({"verbose": -1}, "verbose"),
    ({"labels": np.array(["a", "b", "c\0"], object)[Y]}, "null character"),
], ids=["RandomState", "broken rule", "null"])
def test_what_would_not_come_back_is_not_saved(changes, words, path):
    estimator = fitted(**{name: value for name, value in changes.items() if name != "verbose"})
    estimator.set_params(**{name: value for name, value in changes.items() if name == "verbose"})
    with pytest.raises((TypeError, ValueError), match=words):
        estimator.save(path)
    assert not path.exists()


def test_classes_that_load_does_not_know_are_not_saved(path):
    class Mine(ConvNetClassifier):
        pass

    class Scale(layers.ReLU):
        pass

    with pytest.raises(TypeError, match="no class of cyconv"):
        Mine(input_shape=(8, 8), max_iter=1).fit(X, Y).save(path)
    with pytest.raises(TypeError, match="Scale"):
        Sequential([Scale(), layers.Dense(3)], (4,)).save(path)


def test_attributes_of_others_are_not_saved(model, path):
    extended = pickle.loads(pickle.dumps(model))
    extended.remark_ = "mine"
    with pytest.raises(ValueError, match="remark_"):
        extended.save(path)


# ---------------------------------------------------------------- files that are refused

def rewritten(path, change):
    """The file with ``change(entries)`` made to the dict of its entries, with right checksums."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def edited(path, change):
    """The file with ``change(document)`` made."""
    def change_text(entries):
        document = json.loads(entries["model.json"])
        change(document)
        entries["model.json"] = json.dumps(document)

    rewritten(path, change_text)


def value_of(document, *names):
    """The encoded dict at ``names`` as a dict that writes back."""
    node = document["content"]
    for name in names:
        node = next(pair[1] for pair in node["dict"] if pair[0] == name)
    return node


def put(*names_and_value):
    *names, last, value = names_and_value

    def change(document):
        pairs = value_of(document, *names)["dict"]
        pairs[:] = [pair for pair in pairs if pair[0] != last] + [[last, value]]

    return change


def npy(header, data=b""):
    header = header.encode()
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + data


HUGE = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }")
ENTRY = "fitted.parameters_.conv1.weight.npy"


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


def object_array():
    stream = io.BytesIO()
    np.save(stream, np.array([Evil()], object), allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize("change, words", [
    (lambda e: e.pop("model.json"), "no model.json"),
    (lambda e: e.update({"model.json": b"[" * 100_000}), "no whole file"),
    (lambda e: e.update({"model.json": b'{"a": 1, "a": 2}'}), "twice"),
    (lambda e: e.update({"model.json": b'{"a": NaN}'}), "no JSON"),
    (lambda e: e.update({"model.json": b" " * 2**21}), "too long"),
    (lambda e: e.update({"model.json": b"7" * 5000}), "no whole file"),
    (lambda e: e.update({"model.json": b"[]"}), "does not say"),
    (lambda e: e.update({"model.json": "{}".encode("utf-16")}), "no whole file"),
    (lambda e: e.update({"evil.py": b"import os"}), "unknown entries"),
    (lambda e: e.update({"more.npy": e[ENTRY]}), "nothing refers"),
    (lambda e: e.pop(ENTRY), "there is no array"),
    (lambda e: e.update({ENTRY: b""}), "no whole file"),
    (lambda e: e.update({ENTRY: HUGE}), "does not hold"),
    (lambda e: e.update({ENTRY: e[ENTRY] + b"\0\0\0\0"}), "does not hold"),
    (lambda e: e.update({ENTRY: npy("-" * 60_000 + "1")}), "large"),
    (lambda e: e.update({ENTRY: npy("{'descr': '<f4', 'fortran_order': True, 'shape': (4, 1, 3, 3), }", bytes(144))}),
     "has dtype"),
    (lambda e: e.update({ENTRY: npy("{'descr': '<U0', 'fortran_order': False, 'shape': (9,), }")}), "has dtype"),
    (lambda e: e.update({ENTRY: npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -36), }", bytes(144))}),
     "has dtype"),
    (lambda e: e.update({ENTRY: npy("{'descr': '<f8', 'fortran_order': False, 'shape': (4, 1, 3, 3), }", bytes(288))}),
     "one dtype"),
    (lambda e: e.update({ENTRY: npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 1, 9), }", bytes(144))}),
     "must have shape"),
    (lambda e: e.update({ENTRY: object_array()}), "has dtype object"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_damaged_entries_are_refused(change, words, file, monkeypatch):
    monkeypatch.chdir(file.parent)
    rewritten(file, change)
    with pytest.raises(ValueError, match=words):
        load(file)
    assert not Path("executed").exists()


def put_layer(kind, arguments):
    layer = {"tuple": ["conv1", kind, {"dict": [list(pair) for pair in arguments.items()]}]}
    return lambda document: value_of(document, "fitted", "architecture_").__setitem__(0, layer)


@pytest.mark.parametrize("change, words", [
    (lambda d: d.update(version=2, written_by="9.9"), "version 2 of the format, written by cyconv '9.9'"),
    (lambda d: d.update(format="other"), "format"),
    (lambda d: d.update(extra=1), "expected"),
    (lambda d: d.update(model="os"), "expected"),
    (lambda d: d.update(model=["ConvNetClassifier"]), "expected"),
    (lambda d: d.update(model="Sequential"), "Sequential: its state"),
    (lambda d: d.update(content={"exec": "1"}), "stands for no value"),
    (put("parameters", "unheard_of", 1), "unheard_of"),
    (put("parameters", "alpha", -1.0), "alpha"),
    (put("parameters", "alpha", 10**400), "too large"),
    (put("parameters", "conv_channels", "16"), "conv_channels"),
    (put("fitted", "__class__", 1), "__class__"),
    (put("fitted", "predict", 1), "predict"),
    (put("fitted", "n_features_in_", 65), "n_features_in_"),
    (put("fitted", "input_scale_", {"float": "nan"}), "input_scale_"),
    (put("fitted", "input_shape_", {"tuple": [1, 2**62, 8]}), "n_features_in_"),
    (put("fitted", "loss_curve_", {"dict": []}), "loss_curve_"),
    (put("fitted", "t_", -1), "t_"),
    (put("fitted", "data_format_", "channels_lost"), "data_format_"),
    (put("fitted", "optimizer_state_", {"array": "fitted.parameters_.conv1.weight"}), "used twice"),
    (put("fitted", "classes_", {"tuple": [0, 1]}), "nothing refers"),
    (put_layer("Conv", {"out_channels": 2**40}), "out_channels"),
    (put_layer("Conv", {"out_channels": 2**30, "bias": False}), "must have shape"),
    (put_layer("Conv", {"out_channels": 4.5}), "out_channels"),
    (put_layer("Conv", {"out_channels": 4, "bias": {"float": "nan"}}), "bias"),
    (put_layer("Conv", {"out_channels": 4, "padding": {"dict": []}}), "padding"),
    (put_layer("Conv", {}), "out_channels"),
    (put_layer("Conv", {"out_channels": 4, "__init__": 1}), "__init__"),
    (put_layer("Layer", {}), "unknown layer"),
    (put_layer("_layer", {}), "unknown layer"),
    (put_layer("dataclass", {}), "unknown layer"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_wrong_documents_are_refused(change, words, file):
    edited(file, change)
    with pytest.raises(ValueError, match=words):
        load(file)


def test_compressed_entries_are_refused_before_they_grow(file):
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.npy", bytes(2**26))
    tracemalloc.start()
    with pytest.raises(ValueError, match="compressed"):
        load(file)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_memory_stays_in_proportion_to_the_file(path):
    network = Sequential([layers.Dense(1000)], (2000,), random_state=0)      # 8 MB
    network.save(path)
    tracemalloc.start()
    again = load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert again.vector.nbytes == 8_004_000 and peak < 4 * path.stat().st_size + 2**20


@pytest.mark.parametrize("n", [2**12, 2**16])
def test_long_tables_of_contents_are_refused_unread(n, path):
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(n):
            archive.writestr(zipfile.ZipInfo(f"{number}" * 60), b"")
    with pytest.raises(ValueError, match="table of contents|does not end"):
        load(path)


def test_entries_with_one_name_are_refused(file):
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("model.json", b"{}")
    with pytest.raises(ValueError, match="one name"):
        load(file)


def test_every_truncation_is_refused(file):
    data = file.read_bytes()
    for size in [*range(0, 200), *range(200, len(data), 97), len(data) - 1]:
        file.write_bytes(data[:size])
        with pytest.raises(ValueError, match="no whole file"):
            load(file)


def test_every_flipped_bit_of_a_weight_is_noticed(model, file):
    data = bytearray(file.read_bytes())
    start = data.index(model.parameters_["dense1.weight"].tobytes())
    for place in range(start, start + 40):
        data[place] ^= 1 << place % 8
        file.write_bytes(data)
        with pytest.raises(ValueError, match="CRC"):
            load(file)
        data[place] ^= 1 << place % 8


def test_other_files_and_no_files(tmp_path, file):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent")
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    (tmp_path / "pickle").write_bytes(pickle.dumps(Evil()))
    for name in ("arrays.npz", "pickle"):
        with pytest.raises(ValueError, match="no whole file"):
            load(tmp_path / name)
    assert not (tmp_path / "executed").exists()


# ---------------------------------------------------------------- damaged pickles

def damaged(thing, **changes):
    """What unpickling makes of the state of a thing after changes."""
    other = type(thing).__new__(type(thing))
    state = thing.__reduce_ex__(4)[2]
    other.__setstate__(state | changes)
    return other


def test_intact_states_are_accepted(model):
    network = model.to_sequential()
    optimizer = optimizers.Adam(np.zeros(3))
    for thing in (model, network, optimizer, schedules.ReduceOnPlateau(), schedules.WarmUp(schedules.Constant(), 2)):
        damaged(thing)


@pytest.mark.parametrize("changes", [
    {"parameters_": {}}, {"architecture_": []}, {"architecture_": None}, {"classes_": np.arange(4)},
    {"input_shape_": (1, 64, 64)}, {"input_shape_": (64,)}, {"n_features_in_": 2**62}, {"input_scale_": "1"},
    {"optimizer_state_": {"mean": np.zeros(3)}}, {"data_format_": "channels_last"},
], ids=str)
def test_damaged_estimators_are_refused(changes, model):
    with pytest.raises(ValueError):
        damaged(model, **changes)


@pytest.mark.parametrize("changes", [
    {"layers": []}, {"input_shape": (1, 12, 12)}, {"input_shape": ()},
    {"dtype": "float64"}, {"dtype": "object"}, {"random_state": -1},
    {"parameters": {}}, {"_slices": []}, {"layers": [("conv1", print)]}, {"parameters": [1]}, {"data_format": 3},
], ids=str)
def test_damaged_networks_are_refused(changes, model):
    with pytest.raises((TypeError, ValueError)):
        damaged(model.to_sequential(), **changes)


@pytest.mark.parametrize("changes", [
    {"_vector": np.zeros(2)}, {"_vector": np.zeros(3, np.float32)}, {"_vector": None}, {"n_weights": 4},
    {"_memory": {"mean": np.zeros(3), "square": np.zeros(1)}}, {"_memory": {"mean": 0, "square": np.zeros(3)}},
    {"_vector": np.zeros(6)[::2]}, {"learning_rate": "x"}, {"beta_1": 2.0},
], ids=str)
def test_damaged_optimizers_are_refused(changes):
    with pytest.raises((TypeError, ValueError)):
        damaged(optimizers.Adam(np.zeros(3)), **changes)


@pytest.mark.parametrize("changes", [
    {"mean": None}, {"mean": [0.0]}, {"mean": ["x"] * 3}, {"power_1": "x"}, {"power_2": 2}], ids=str)
def test_wrong_state_of_an_optimizer_changes_nothing(changes):
    optimizer = optimizers.Adam(np.zeros(3))
    optimizer.step(np.ones(3))
    before = optimizer.state()
    with pytest.raises((TypeError, ValueError)):
        optimizer.load_state(before | {"mean": np.zeros(3), "square": np.ones(3)} | changes)
    assert_same(optimizer.state(), before)


@pytest.mark.parametrize("changes", [
    {"factor": 2}, {"_best": "x"}, {"_stalled": -1}, {"_cooling": 0.5}, {"other": 1}], ids=str)
def test_damaged_schedules_are_refused(changes):
    with pytest.raises((TypeError, ValueError)):
        damaged(schedules.ReduceOnPlateau(), **changes)
    with pytest.raises(ValueError):
        schedules.ReduceOnPlateau().load_state({"best": 0.0, "stalled": 0, "cooling": 0, "reductions": -1})


def test_what_fit_sets_has_a_rule(model):
    """So that no attribute of a new version is forgotten."""
    regressor = ConvNetRegressor(4, input_shape=(8, 8), max_iter=1, early_stopping=True).fit(X, Y)
    own = {name for estimator in (model, regressor) for name in vars(estimator) if name.endswith("_")}
    assert own <= set(_fitted.FITTED)
    assert set(persistence.MODELS) <= set(cyconv.__all__)
