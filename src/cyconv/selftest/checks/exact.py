"""Every operation and gradient is exact on integers: all ranks, dtypes, layouts and instruction sets, tolerance 0."""

from itertools import product
from random import Random

import numpy as np

from .. import machine
from ..arrays import LAYOUTS
from ..cases import EXACT, plain
from ..cases._case import prepared, results

CONVOLUTIONS = 3        # of a case, for one geometry of another family


def case(seed, tally):
    """Convolutions and one of the other families, with their gradients, in both dtypes.

    Each time with another instruction set and layout, drawn by the seed: more geometries find more than more runs
    of the same one.
    """
    rng, others = Random(seed), [family for family in EXACT if family is not plain]
    ways = [*product(machine.available(), LAYOUTS)]
    drawn = [(plain, CONVOLUTIONS * seed + number) for number in range(CONVOLUTIONS)]
    for family, number in (*drawn, (others[seed % len(others)], seed)):
        calls = [(call, call.expected()) for call in family(number)]
        with machine.threads_at_any_size(), machine.nan_in_new_arrays():
            for dtype in machine.FLOATS:
                isa, layout = rng.choice(ways)
                with machine.using(isa):
                    for call, expected in calls:
                        where = call.function, isa, dtype.__name__, layout
                        compare(call, expected, dtype, layout, 1 + seed % 3, where)
        kind = "convolutions" if family.__module__ == plain.__module__ else "other operations"
        tally.distinct(f"geometries of {kind}", (family.__name__, calls[0][0].geometry))
        tally.count("results of functions and gradients, each in both dtypes", sum(len(want) for _, want in calls))
    tally.note("0 mismatches")


def compare(call, expected, dtype, layout, n_threads, where):
    actual = results(call, prepared(call, dtype, layout, n_threads))
    for number, (got, want) in enumerate(zip(actual, expected, strict=True)):
        want = np.asarray(want).astype(got.dtype)
        if got.shape != want.shape or not np.array_equal(got, want, equal_nan=got.dtype.kind == "f"):
            raise AssertionError(f"result {number} of {' '.join(map(str, where))} is wrong for {call.geometry}")


def faults():
    """The last bit of one result of one compiled module."""
    return {f"last bit of the convolution of {name}": machine.spoiled(module, "conv", machine.last_bit(3))
            for name, module in machine.kernel_modules().items()}
