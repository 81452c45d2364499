"""Calls leave no memory behind, neither those that return nor those that raise."""

import gc
from contextlib import contextmanager, suppress
from functools import cache
from operator import attrgetter
from random import Random
from unittest import mock

import numpy as np

import cyconv

from ..._kernels import front
from .. import machine, training
from ..arrays import HOSTILE, LAYOUTS
from ..cases import EXACT, SMOOTH
from ..cases._case import prepared
from .hostile import ALLOWED, resident

ROUNDS = 10             # of all calls, in a case
SETTLED = 5             # cases until caches and heaps have their size
MAX_PER_CALL = 1.0      # bytes, over all cases
GRAIN = 2**17           # bytes by which the size of a heap varies, all cases together
CASE_GRAIN = 2**20      # and in one case, the first of which makes it larger


@cache
def good():
    """Calls of every function with arguments that are right, and of an estimator."""
    calls = [(attrgetter(call.function)(cyconv), prepared(call, np.float32, LAYOUTS[0]))
             for family in (*EXACT, *SMOOTH) for call in family(1)]
    estimator, (X, y) = training.fitted(), training.samples(24)
    fit = training.estimator(max_iter=1).fit
    return [*calls, (estimator.predict_proba, {"X": X}), (fit, {"X": X, "y": y})]


@cache
def bad():
    """The same calls, each with an argument that is refused."""
    rng, found = Random(0), []
    for function, arguments in good():
        for _ in range(20):
            changed = arguments | {rng.choice([*arguments]): rng.choice(HOSTILE)}
            if is_refused(function, changed):
                found.append((function, changed))
                break
    return found


def is_refused(function, arguments):
    try:
        function(**arguments)
    except ALLOWED:
        return True
    return False


@cache
def warm_up():
    """Twice all calls: plans and small blocks of memory are kept for the next ones."""
    for function, arguments in 2 * (good() + bad()):
        with machine.quietly(), suppress(*ALLOWED):
            function(**arguments)


def case(seed, tally):
    warm_up()
    with machine.quietly():
        for calls, what in ((good(), "calls that return"), (bad(), "calls that raise")):
            before = settled()
            for _ in range(ROUNDS):
                for function, arguments in calls:
                    with suppress(*ALLOWED):
                        function(**arguments)
            count, grown = ROUNDS * len(calls), settled() - before
            tally.count(what, count)
            tally.memory.setdefault(what, []).append((count, grown))
            if grown > CASE_GRAIN:
                raise AssertionError(f"{count} {what} left {grown} bytes behind")


def settled():
    """Bytes in use when nothing waits for the garbage collector."""
    gc.collect()
    return resident()


def finish(tally):
    for what, measured in tally.memory.items():
        count, grown = (sum(column) for column in zip(*measured[SETTLED:], (0, 0)))
        tally.extreme(f"bytes of growth for each of the {what}", grown / max(count, 1))
        if grown > max(MAX_PER_CALL * count, GRAIN):
            raise AssertionError(f"{count} {what} left {grown} bytes behind")


@contextmanager
def hoarding(module, name, bytes_kept):
    """A function that keeps memory whenever it is called."""
    kept, original = [], getattr(module, name)

    def hoards(*arguments, **options):
        kept.append(np.zeros(bytes_kept // 8))
        return original(*arguments, **options)

    warm_up()
    with mock.patch.object(module, name, hoards):
        yield


def faults():
    return {"1 KB kept of every call": hoarding(front, "call", 1024)}
