"""Absurd arguments give a result or ValueError, TypeError, OverflowError or MemoryError: quickly, in little memory."""

import inspect
import sys
import warnings
from contextlib import contextmanager
from operator import attrgetter
from random import Random
from time import perf_counter, process_time
from unittest import mock

import numpy as np

import cyconv

from ... import _threads
from ..arrays import HOSTILE, LAYOUTS
from ..cases import EXACT, SMOOTH
from ..cases._case import prepared

ALLOWED = ValueError, TypeError, OverflowError, MemoryError
MAX_SECONDS = 1.0
MAX_GROWTH = 64 * 2**20         # bytes of resident memory, over all calls
MAX_ADDRESSES = 2**30           # bytes of address space that calls may ask for, so that absurd sizes fail
CALLS = 60                      # of a function, in a case

ARRAYS = (
    np.broadcast_to(np.float32(1), 2**45), np.broadcast_to(1.0, (2**20, 2**25, 1, 1)),
    np.broadcast_to(1.0, (1, 1, 2**31, 2**20)), range(2**40), np.zeros((0,) * 4),
    np.zeros((1,) * 20), np.zeros((2, 0, 3, 3)), np.full((2, 2, 2, 2), np.nan), np.zeros((3, 3), "M8[s]"),
    np.zeros(3, [("a", int)]), np.array(["a"]), np.array([None]), np.array(1j), np.array(2**63, np.uint64),
    np.zeros((2, 2, 3, 3), np.float16), np.ones((1, 1, 4, 4), np.longdouble), np.array([[[[2**62]]]]),
)
# Functions of parameters only, with arguments that are right.
PLAIN = {
    "output_size": {"n": 5, "kernel_size": 3, "stride": 2, "padding": 1},
    "receptive_field": {"layers": [(3, 2, 1), (2, 1, 1)], "input_size": 9},
    "conv_macs": {"input_shape": (3, 8, 8), "out_channels": 4, "kernel_size": 3},
    "conv_parameters": {"in_channels": 3, "out_channels": 4, "kernel_size": 3},
    "filters.box": {"size": 3, "ndim": 2}, "filters.identity": {"size": 3, "ndim": 2}, "filters.edge": {"ndim": 2},
    "filters.gaussian": {"size": 3, "sigma": 1.0, "ndim": 2}, "filters.laplacian": {"ndim": 2},
    "filters.sharpen": {"ndim": 2}, "filters.sobel": {"axis": 0, "ndim": 2}, "filters.prewitt": {"axis": 0, "ndim": 2},
    "filters.gabor": {"size": 5, "frequency": 0.2, "theta": 0.5, "sigma": 1.0},
    "filters.gabor_bank": {"n_orientations": 2, "frequencies": (0.2,), "size": 5},
    "filters.bank": {"kernels": [np.ones((3, 3)), np.ones((3, 3))]},
}


def case(seed, tally):
    """One or two arguments of a right call are replaced, many times."""
    before = tally.memory.setdefault("resident", resident())
    attempts(seed, tally)
    growth = resident() - before        # now that the data of this case are gone
    tally.extreme("growth of resident memory in MB", growth / 1e6)
    if growth > MAX_GROWTH:
        raise AssertionError(f"resident memory grew by {growth} bytes")


def attempts(seed, tally):
    rng, families = Random(seed), (*EXACT, *SMOOTH)
    family = families[seed % len(families)]
    calls = [(call.function, prepared(call, np.float32, LAYOUTS[seed % 2])) for call in family(seed)]
    name = rng.choice([*PLAIN])
    for function, arguments in (*calls, (name, PLAIN[name])):
        public = attrgetter(function)(cyconv)
        names = [*inspect.signature(public).parameters]
        tally.distinct("functions", function)
        # The stacks of 1024 threads alone are more addresses than that, and OpenMP ends the process then.
        with bounded_addresses(), mock.patch.object(_threads, "MAX_THREADS", 8), warnings.catch_warnings():
            warnings.simplefilter("error")      # such as an overflow in a size
            for _ in range(CALLS):
                changed = {rng.choice(names): rng.choice(HOSTILE + ARRAYS) for _ in range(rng.choice((1, 1, 1, 2)))}
                attempt(public, function, arguments | changed, changed, tally)


def attempt(public, function, arguments, changed, tally):
    start = perf_counter(), process_time()
    try:
        public(**arguments)
        tally.count("results")
    except ALLOWED as error:
        tally.count("clear refusals")
        if not (str(error) or isinstance(error, MemoryError)):
            raise AssertionError(f"an error without a message: {function} with {said(changed)}") from error
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error}: {function} with {said(changed)}") from error
    # Waiting for other processes is not the call's fault.
    seconds = min(perf_counter() - start[0], process_time() - start[1])
    tally.extreme("longest seconds", seconds)
    if seconds > MAX_SECONDS:
        raise AssertionError(f"{seconds:.1f} s: {function} with {said(changed)}")


def said(changed):
    return ", ".join(f"{name}={np.shape(value) if isinstance(value, np.ndarray) else value!r}"
                     for name, value in changed.items())


def resident():
    """Bytes of memory in use now; 0 where the system does not say."""
    if sys.platform != "linux":
        return 0
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@contextmanager
def bounded_addresses():
    """An allocation of more than a GiB fails, whatever the system would promise."""
    if sys.platform != "linux":
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MAX_ADDRESSES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def careless():
    """A check of groups that divides before it looks."""
    with mock.patch("cyconv.functional._plans.check_groups", lambda function, groups: 1 // groups):
        yield


def faults():
    return {"a division by groups=0": careless()}
