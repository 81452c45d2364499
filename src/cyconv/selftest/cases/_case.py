"""One call of a public function: its arguments on integers, channels first, and how to make it."""

import inspect
from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import NamedTuple

import numpy as np

import cyconv

from ..arrays import channels_first, in_layout

LAID_OUT = ("x", "grad_out", "indices", "out", "y")     # arguments in the layout of data_format


class Case(NamedTuple):
    """A call: everything but dtype, layout and instruction set.

    function : name in `cyconv`, with dots for modules
    arguments : by name; arrays channels first, integers unless the function is not exact on them
    expected : function of no arguments that returns the results, arrays channels first
    geometry : what makes this case another one than others of the same function
    """

    function: str
    arguments: dict
    expected: Callable
    geometry: tuple = ()

    @property
    def takes(self):
        """Names of all parameters."""
        return parameters(self.function)


@cache
def parameters(name):
    return frozenset(inspect.signature(attrgetter(name)(cyconv)).parameters)


def prepared(case, dtype, data_format, n_threads=None):
    """The arguments as a user of ``dtype`` and ``data_format`` has them."""
    has_layout = "data_format" in case.takes and "data_format" not in case.arguments
    is_last = has_layout and data_format == "channels_last"
    result = {}
    for name, value in case.arguments.items():
        if isinstance(value, np.ndarray):
            value = value if name in ("indices", "targets") and value.dtype.kind == "i" else value.astype(dtype)
            value = in_layout(value, data_format) if is_last and name in LAID_OUT else value
        elif name == "input_shape" and is_last:
            value = (value[0], *value[2:], value[1])
        result[name] = value
    if has_layout:
        result["data_format"] = data_format
    if "n_threads" in case.takes and n_threads is not None:
        result["n_threads"] = n_threads
    return result


def results(case, arguments):
    """The results of a call as a list of arrays, channels first. None among them is left out."""
    found = attrgetter(case.function)(cyconv)(**arguments)
    names = getattr(found, "_fields", None)
    if hasattr(found, "toarray"):
        found = found.toarray()
    found = found if isinstance(found, tuple) else (found,)
    if "data_format" not in case.takes or case.function.endswith(("grad_weight", "matrix", "moments")):
        laid_out = [False] * len(found)
    else:
        laid_out = [name == "x" for name in names] if names else [True] * len(found)
    return [channels_first(np.asarray(array), arguments["data_format"]) if moves else np.asarray(array)
            for array, moves in zip(found, laid_out) if array is not None]
