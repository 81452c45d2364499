"""Settings of the process that checks change for a while: instruction set, threads, new memory, faults."""

import warnings
from contextlib import contextmanager
from importlib import import_module
from unittest import mock

import numpy as np

from .. import _kernels
from ..functional import _ranked

FLOATS = (np.float32, np.float64)


class Skipped(Exception):
    """The machine lacks what a check is about."""


def available():
    """Names of the instruction sets that the processor runs."""
    return _kernels.available


@contextmanager
def using(isa):
    """With another instruction set."""
    before = _kernels.isa
    _kernels.use(isa)
    try:
        yield
    finally:
        _kernels.use(before)


def instruction_sets():
    """Every instruction set that the processor runs, one after the other in use."""
    for name in available():
        with using(name):
            yield name


def threads_at_any_size():
    """Small problems use as many threads as large ones."""
    return mock.patch.object(_ranked, "SERIAL_WORK", -1)


def nan_in_new_arrays():
    """Memory that a function allocates and forgets to write holds NaN."""
    def full_of_nan(shape, dtype=float, order="C"):
        return np.full(shape, np.nan if np.issubdtype(dtype, np.floating) else -77, dtype, order)

    return mock.patch.object(np, "empty", full_of_nan)


def kernel_modules():
    """All compiled modules that the processor runs, by instruction set and dtype."""
    return {f"{name} {real}": import_module(f"{_kernels.__name__}.{name}_{real}")
            for name in _kernels.available for real in ("f32", "f64")}


@contextmanager
def spoiled(module, name, spoil):
    """``module.name``, after which ``spoil`` changes its arguments: a defect of the kernel."""
    original = getattr(module, name)

    def broken(*arguments):
        result = original(*arguments)
        spoil(*arguments)
        return result

    with mock.patch.object(module, name, broken):
        yield


def last_bit(number):
    """A spoiler: moves the last element of argument ``number`` to the next floating-point number."""
    def spoil(*arguments):
        array = arguments[number]
        if array.size:
            array[(-1,) * array.ndim] = np.nextafter(array[(-1,) * array.ndim], np.inf)

    return spoil


def add_one(number):
    """A spoiler: adds 1 to the first element of argument ``number``."""
    def spoil(*arguments):
        array = arguments[number]
        if array.size:
            array[(0,) * array.ndim] += 1

    return spoil


@contextmanager
def quietly():
    """Without warnings: that training was cut short, or interrupted, is what checks want."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
