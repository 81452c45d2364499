"""Every kind of array gives the bits that a plain one gives, or a documented error: any strides, order, source."""

import array as standard
import ctypes
import mmap
import tempfile

import numpy as np

from ... import _kernels
from .. import machine
from ..arrays import KINDS, LAYOUTS, bits
from ..cases import EXACT, SMOOTH
from ..cases._case import prepared, results


class Subclass(np.ndarray):
    """A subclass without behaviour of its own."""


class Protocol:
    """An object that is no array but has one."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array, dtype)


class Interface:
    """An object that describes its memory."""

    def __init__(self, array):
        self.array = array

    @property
    def __array_interface__(self):
        return self.array.__array_interface__


def in_file(array):
    file = tempfile.TemporaryFile()
    result = np.memmap(file, array.dtype, "w+", shape=array.shape) if array.size else array
    result[...] = array
    return result


def read_only_file(array):
    result = in_file(array)
    result.flags.writeable = False
    return result


def field(array):
    """A column of records: strides that are no multiple of the element."""
    records = np.zeros(array.shape, [("flag", "u1"), ("value", array.dtype)])
    records["value"] = array
    return records["value"]


def real_part(array):
    return (array + 1j).real if array.dtype.kind == "f" else array


def broadcast(array):
    return np.broadcast_to(array, array.shape)


def windows_of_one(array):
    if not array.size:
        return array
    return np.lib.stride_tricks.sliding_window_view(array, (1,) * array.ndim)[(..., *(0,) * array.ndim)]


def in_ctypes(array):
    memory = (ctypes.c_char * max(array.nbytes, 1))()
    result = np.frombuffer(memory, array.dtype, array.size).reshape(array.shape)
    result[...] = array
    return result


def in_bytes(array):
    return np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape) if array.size else array


def in_standard_array(array):
    memory = standard.array("B", array.tobytes() or b"\0")
    return np.frombuffer(memory, array.dtype, array.size).reshape(array.shape)


def shared(array):
    result = np.frombuffer(mmap.mmap(-1, max(array.nbytes, 1)), array.dtype, array.size).reshape(array.shape)
    result[...] = array
    return result


def inside(array):
    """The middle of something larger."""
    return np.pad(array, 1)[(slice(1, -1),) * array.ndim]


def backwards_last(array):
    return array[..., ::-1].copy()[..., ::-1] if array.ndim else array


def backwards_first(array):
    return array[::-1].copy()[::-1] if array.ndim else array


def rolled_axes(array):
    """All axes in another order in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 0, -1)), -1, 0) if array.ndim else array


MORE = {
    "fortran_big_endian": lambda a: np.asfortranarray(a.astype(a.dtype.newbyteorder(">"))),
    "subclass": lambda a: a.view(Subclass),
    "protocol": Protocol, "interface": Interface, "memmap": in_file, "read_only_memmap": read_only_file,
    "list": np.ndarray.tolist, "field": field, "real_part": real_part, "broadcast": broadcast,
    "windows": windows_of_one, "ctypes": in_ctypes, "bytes": in_bytes,
    "standard_array": in_standard_array, "shared_memory": shared, "inside": inside, "backwards_last": backwards_last,
    "backwards_first": backwards_first, "rolled": rolled_axes, "memoryview": memoryview,
    "masked": np.ma.masked_array, "object": lambda a: a.astype(object), "complex": lambda a: a.astype(complex),
    "text": lambda a: a.astype(str),
}
REFUSED = ("masked", "object", "complex", "text")       # with TypeError
ALL = KINDS | MORE


def case(seed, tally):
    """All calls of a family, every time with one argument of every kind."""
    families = (*EXACT, *SMOOTH)
    for call in families[seed % len(families)](seed):
        plain = prepared(call, np.float64, LAYOUTS[seed % 2])
        given = [name for name, value in plain.items() if isinstance(value, np.ndarray) and value.ndim]
        if not all(plain[name].size for name in given):     # a list cannot say its shape then
            continue
        expected = results(call, plain)
        for number, kind in enumerate(ALL):
            compare(call, plain, expected, given[(seed + number) % len(given)], kind)
            tally.distinct("kinds of arrays", kind)
            tally.count("calls")
        tally.distinct("functions", call.function)
    tally.note("0 differing bits")


def compare(call, plain, expected, name, kind):
    original = plain[name].copy()
    where = f"{name} of {call.function} as {kind}, {call.geometry}"
    try:
        actual = results(call, plain | {name: ALL[kind](plain[name])})
    except TypeError as error:
        if kind not in REFUSED:
            raise AssertionError(f"refused: {where}: {error}") from error
        return
    if kind in REFUSED:
        raise AssertionError(f"taken: {where}")
    for got, want in zip(actual, expected, strict=True):
        if got.dtype != want.dtype or not np.array_equal(bits(got), bits(want)):
            raise AssertionError(f"other bits: {where}")
    if not np.array_equal(bits(original), bits(plain[name])):
        raise AssertionError(f"written: {where}")


def faults():
    """A kernel that takes its input for contiguous."""
    def writes_input(*arguments):
        if not arguments[0].flags.c_contiguous:
            machine.last_bit(3)(*arguments)

    return {f"last bit of {name} for strided inputs": machine.spoiled(module, "conv", writes_input)
            for name, module in machine.kernel_modules().items() if name == f"{_kernels.isa} f64"}
