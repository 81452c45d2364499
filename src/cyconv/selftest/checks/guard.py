"""Nothing beyond an array is touched: all inputs, weights and results lie flush against protected pages.

The calls run in forked processes, because the first access beyond an array ends one.
"""

import ctypes
import os
from functools import cache
from itertools import product

import numpy as np

from ... import optimizers
from .. import machine
from ..arrays import LAYOUTS
from ..cases import EXACT, SMOOTH, custom, images, matrices
from ..cases._case import prepared, results
from ..guarded import Guarded
from ..processes import in_child

# Functions without kernels of their own need no guard.
FAMILIES = [family for family in (*EXACT, *SMOOTH) if family not in (custom, images, matrices)]
SEEDS = 30          # of a case, in one process


def case(seed, tally):
    """Many random calls, each with every instruction set, dtype and layout and at both ends."""
    if not hasattr(os, "fork"):
        raise machine.Skipped("this system has no fork")
    count = in_child(lambda: sum(calls(number) for number in range(seed * SEEDS, (seed + 1) * SEEDS)), 600)
    tally.count("calls with each instruction set", count)
    tally.note("0 faults")


@cache
def both_ends():
    return Guarded(at_end=False), Guarded(at_end=True)


def calls(number):
    """How many calls there were with each instruction set."""
    family, count = FAMILIES[number % len(FAMILIES)], 0
    n_threads = (1, 2, 3)[number // len(FAMILIES) % 3]
    cases = [(call, prepared(call, dtype, layout, n_threads))
             for call in family(number) for dtype, layout in product(machine.FLOATS, LAYOUTS)]
    for guarded in both_ends():
        with guarded.everywhere(), machine.threads_at_any_size():
            for _ in machine.instruction_sets():
                for call, arguments in cases:
                    one(call, arguments, guarded, number)
                train(number, guarded)
        count += len(cases)
    return count


def one(call, arguments, guarded, number):
    results(call, {name: infected(guarded.copy(value), name, number) if isinstance(value, np.ndarray) else value
                   for name, value in arguments.items()})


def infected(array, name, number):
    """Now and then weights and gradients hold infinities, which other paths take."""
    if number % 5 == 0 and name in ("weight", "grad_out"):
        array.reshape(-1)[::97] = np.inf
    return array


def train(number, guarded):
    """All optimizers on vectors of every length."""
    vector, gradient = np.random.default_rng(number).standard_normal((2, number % 70)).astype(
        machine.FLOATS[number % 2])
    for kind in (optimizers.SGD, optimizers.Adam, optimizers.AdamW, optimizers.RMSprop):
        kind(guarded.copy(vector), n_weights=len(vector) // 2).step(guarded.copy(gradient), l2=0.1, n_threads=2)
    optimizers.clip_by_norm(guarded.copy(gradient), 0.1)


def faults():
    """A kernel that reads one element beyond its result."""
    def beyond(position):
        def spoil(*arguments):
            y = arguments[3]
            if y.size and y.flags.c_contiguous:
                ctypes.string_at(y.ctypes.data + position(y), 1)
        return spoil

    return {f"{name} reads {where} its result": machine.spoiled(module, "conv", beyond(position))
            for name, module in machine.kernel_modules().items()
            for where, position in (("one byte beyond", lambda y: y.nbytes), ("one byte before", lambda y: -1))}
