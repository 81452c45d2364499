"""Pooling indices that point outside their plane are rejected before anything is written."""

from contextlib import contextmanager
from unittest import mock

import numpy as np

from .. import machine
from ..arrays import LAYOUTS
from ..cases import adaptive, global_, maxout, pooled, unpooled
from ..cases._case import prepared, results

FAMILIES = (pooled, unpooled, adaptive, global_, maxout)
WRONG = (-2, -(2**31), -(2**63), 2**31 - 1, 2**31, 2**32, 2**32 + 3, 2**62, 2**63 - 1)      # and the first one beyond
PER_CALL = 10


def case(seed, tally):
    rng = np.random.default_rng(seed)
    for call in FAMILIES[seed % len(FAMILIES)](seed):
        if "indices" not in call.arguments or not call.arguments["indices"].size:
            continue
        for isa in machine.instruction_sets():
            for number in range(PER_CALL):
                corrupted(call, rng, LAYOUTS[number % 2], (call.function, isa), tally)


def corrupted(call, rng, layout, where, tally):
    """One index is wrong; the array that would be returned stays as it was made."""
    arguments = prepared(call, np.float64, layout, n_threads=2)
    indices = arguments["indices"] = np.array(arguments["indices"])
    place, plane = int(rng.integers(indices.size)), cells(call)
    indices.flat[place] = wrong = (*WRONG, plane)[rng.integers(len(WRONG) + 1)]
    made = []
    with recorded("zeros", made), recorded("empty", made):
        try:
            results(call, arguments)
        except ValueError as error:
            if "outside" not in str(error):
                raise AssertionError(f"index {wrong} of {where}: {error}") from error
        else:
            raise AssertionError(f"index {wrong} is taken by {where}, {call.geometry}")
    if any(array.any() for array in made):
        raise AssertionError(f"something was written before index {wrong} was refused by {where}")
    tally.count("corrupted arrays of indices, all rejected before any write")


def cells(call):
    """The first index that lies outside."""
    if "axis" in call.arguments:
        axis = call.arguments["axis"]
        return call.arguments["indices"].shape[axis] * call.arguments["pieces"]
    arguments = call.arguments
    if "input_shape" in arguments:
        return int(np.prod(arguments["input_shape"][2:]))
    return int(np.prod(arguments["output_size"] if "output_size" in arguments else arguments["grad_out"].shape[2:]))


@contextmanager
def recorded(name, made):
    """New arrays are zero, and kept."""
    zeros = np.zeros
    with mock.patch.object(np, name, lambda *arguments, **options: made.append(zeros(*arguments, **options))
                           or made[-1]):
        yield


@contextmanager
def blind(module, name):
    """A kernel that writes what it can and then finds every index right."""
    original = getattr(module, name)

    def found_right(*arguments):
        original(*arguments)
        return -1

    with mock.patch.object(module, name, found_right):
        yield


def faults():
    return {f"a {kernel} kernel of {name} that finds every index right": blind(module, kernel)
            for name, module in machine.kernel_modules().items() if name.endswith("f64")
            for kernel in ("max_pool_backward", "max_unpool")}
