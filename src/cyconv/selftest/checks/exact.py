"""Every operation and gradient is exact on integers: all ranks, dtypes, layouts and instruction sets, tolerance 0."""

from contextlib import ExitStack
from itertools import product

import numpy as np

from .. import machine
from ..arrays import LAYOUTS
from ..cases import EXACT, plain
from ..cases._case import prepared, results


def case(seed, tally):
    """A convolution and its gradients, and one of the other families."""
    others = [family for family in EXACT if family is not plain]
    for family in (plain, others[seed % len(others)]):
        for call in family(seed):
            expected = call.expected()
            for isa in machine.instruction_sets():
                for dtype, layout in product(machine.FLOATS, LAYOUTS):
                    compare(call, expected, dtype, layout, 1 + seed % 3, (call.function, isa, dtype.__name__, layout))
            kind = "convolutions" if family.__module__ == plain.__module__ else "other operations"
            tally.distinct(f"geometries of {kind}", (family.__name__, call.geometry))
            tally.count("results of functions and gradients", len(expected) * len(machine.FLOATS))
            tally.count("comparisons", len(expected) * len(LAYOUTS) * len(machine.FLOATS))
    tally.note("0 mismatches")


def compare(call, expected, dtype, layout, n_threads, where):
    arguments = prepared(call, dtype, layout, n_threads)
    with ExitStack() as stack:
        stack.enter_context(machine.threads_at_any_size())
        stack.enter_context(machine.nan_in_new_arrays())
        actual = results(call, arguments)
    for number, (got, want) in enumerate(zip(actual, expected, strict=True)):
        want = np.asarray(want).astype(got.dtype)
        if got.shape != want.shape or not np.array_equal(got, want, equal_nan=got.dtype.kind == "f"):
            raise AssertionError(f"result {number} of {' '.join(map(str, where))} is wrong for {call.geometry}")


def faults():
    """The last bit of one result of one compiled module."""
    return {f"last bit of the convolution of {name}": machine.spoiled(module, "conv", machine.last_bit(3))
            for name, module in machine.kernel_modules().items()}
