"""Plain Python values and arrays as JSON and back, exactly.

None, bool, int, float, str, list, tuple, dict, arrays of numbers or strings, and the layers and schedules of
cyconv, which hold nothing else. JSON knows fewer kinds; the others become objects with one key, which names
the kind. No name in a document leads to anything but these.
"""

from dataclasses import fields
from math import isfinite
from numbers import Real
from urllib.parse import quote

import numpy as np

from . import layers, schedules
from ._geometry import is_integer
from ._scalars import is_number

SCHEDULES = {name: getattr(schedules, name) for name in schedules.__all__ if name != "Schedule"}
LAYERS = {name: getattr(layers, name) for name in layers.__all__ if name not in ("ACTIVATIONS", "Layer", "Mode")}
LONG = 16     # floats in a list that becomes an array


# ---------------------------------------------------------------- to JSON


def encode(value, name, arrays):
    """JSON for ``value``; its arrays go into the dict ``arrays``, under names that begin with ``name``."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if isfinite(value) else {"float": repr(float(value))}
    if type(value) is list:
        if len(value) >= LONG and all(type(item) is float for item in value):
            return {"list": kept(np.array(value), name, arrays)}
        return [encode(item, f"{name}.{number}", arrays) for number, item in enumerate(value)]
    if type(value) is tuple:
        return {"tuple": [encode(item, f"{name}.{number}", arrays) for number, item in enumerate(value)]}
    if type(value) is dict:
        return {"dict": [[encode(key, name, arrays), encode(item, f"{name}.{key}".lstrip("."), arrays)]
                         for key, item in value.items()]}
    if isinstance(value, np.ndarray):
        return encode_array(value, name, arrays)
    for kind, known in (("layer", LAYERS), ("schedule", SCHEDULES)):
        if known.get(type(value).__name__) is type(value):
            return {kind: [type(value).__name__, encode(arguments(value), name, arrays)]}
    raise TypeError(f"save: {name} is {value!r}; only plain values, arrays of numbers or strings, and layers and "
                    "schedules of cyconv can be saved")


def arguments(value):
    """Of the constructor of a layer or schedule, by name."""
    return {field.name: getattr(value, field.name) for field in fields(value) if field.init}


def encode_array(value, name, arrays):
    if value.dtype.kind in "biuf" and value.dtype.itemsize <= 8:
        return {"array": kept(value, name, arrays)}
    if value.dtype.kind in "UOT" and all(isinstance(item, str) for item in value.flat):
        strings = value.astype(str)
        if all(old == new for old, new in zip(value.flat, strings.flat)):
            return {STRINGS[value.dtype.kind]: kept(strings, name, arrays)}
    raise TypeError(f"save: {name} is an array of dtype {value.dtype}; only numbers of up to 64 bits can be saved, "
                    "and strings that do not end in a null character")


STRINGS = {"U": "array", "O": "objects", "T": "strings"}


def kept(array, name, arrays):
    """The name under which ``arrays`` keeps an array from now on."""
    name = quote(name)
    while name in arrays:
        name += "_"
    arrays[name] = np.require(array, requirements="C")
    return name


# ---------------------------------------------------------------- from JSON


def decode(document, arrays):
    """The value that `encode` encoded; takes its arrays out of the dict. ValueError for anything else."""
    if document is None or isinstance(document, (bool, int, str)):
        return document
    if isinstance(document, float) and isfinite(document):
        return document
    if isinstance(document, list):
        return [decode(item, arrays) for item in document]
    if isinstance(document, dict) and len(document) == 1:
        (kind, content), = document.items()
        if kind in DECODERS:
            return DECODERS[kind](content, arrays)
    raise ValueError(f"{document!r:.100} stands for no value")


def decode_float(content, arrays):
    if content not in ("nan", "inf", "-inf"):
        raise ValueError(f"unknown float {content!r:.100}")
    return float(content)


def decode_tuple(content, arrays):
    return tuple(decode(item, arrays) for item in pieces("tuple", content))


def decode_dict(content, arrays):
    found = {}
    for pair in pieces("dict", content):
        key, value = (decode(item, arrays) for item in pieces("entry of a dict", pair, 2))
        if not isinstance(key, (bool, int, float, str)) or key in found:
            raise ValueError(f"{key!r:.100} is no key of a dict, or stands twice")
        found[key] = value
    return found


def decode_array(content, arrays):
    if not isinstance(content, str) or content not in arrays:
        raise ValueError(f"there is no array {content!r:.100}, or it is used twice")
    return arrays.pop(content)


def decode_list(content, arrays):
    array = decode_array(content, arrays)
    if array.dtype != np.float64 or array.ndim != 1:
        raise ValueError(f"{content} is no list of floats")
    return array.tolist()


def decode_strings(dtype):
    def decode_into(content, arrays):
        array = decode_array(content, arrays)
        if array.dtype.kind != "U":
            raise ValueError(f"{content} is no array of strings")
        return array.astype(dtype)

    return decode_into


def decode_object(build):
    def decode_with(content, arrays):
        kind, values = pieces("layer or schedule", content, 2)
        return build(kind, decode(values, arrays))

    return decode_with


def pieces(what, content, count=None):
    if not isinstance(content, list) or count not in (None, len(content)):
        raise ValueError(f"{content!r:.100} is no {what}")
    return content


# ---------------------------------------------------------------- layers and schedules


def layer_of(kind, values):
    """The layer of class ``kind`` with these arguments; ValueError for another kind, name or type of argument."""
    layer = instance(LAYERS, "layer", kind, values)
    for field in fields(layer):
        words, test = OF_TYPE.get(field.type, SETTING)
        value = getattr(layer, field.name)
        if not test(value):
            raise ValueError(f"{kind}: {field.name} must be {words}, got {value!r:.100}")
    return layer


def schedule_of(kind, values):
    """The schedule of class ``kind`` with these arguments, checked by itself."""
    return instance(SCHEDULES, "schedule", kind, values)


def instance(known, what, kind, values):
    if not isinstance(kind, str) or kind not in known:
        raise ValueError(f"unknown {what} {kind!r:.100}")
    names = {field.name for field in fields(known[kind]) if field.init}
    if not isinstance(values, dict) or not values.keys() <= names:      # some may be newer than a file
        raise ValueError(f"{kind}: expected the arguments {sorted(names)}, got {values!r:.200}")
    return known[kind](**values)


def is_setting(value):
    """Whether a layer may have such an argument: a number, a name, None, or several of them."""
    if isinstance(value, (tuple, list)):
        return all(map(is_setting, value))
    return value is None or isinstance(value, (str, Real)) or is_integer(value)


OF_TYPE = {
    bool: ("True or False", lambda value: isinstance(value, (bool, np.bool_))),
    int: ("an int", is_integer),
    float: ("a number", is_number),
    str: ("a str", lambda value: isinstance(value, str)),
}
SETTING = ("a number, a name, None or a sequence of these", is_setting)
DECODERS = {
    "float": decode_float, "tuple": decode_tuple, "dict": decode_dict, "array": decode_array, "list": decode_list,
    "objects": decode_strings(object), "strings": decode_strings(np.dtypes.StringDType()),
    "layer": decode_object(layer_of), "schedule": decode_object(schedule_of),
}
