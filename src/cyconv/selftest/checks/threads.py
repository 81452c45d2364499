"""Many Python threads predict with one estimator while others train: every result has the same bits."""

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from unittest import mock

import numpy as np

from ... import network
from .. import machine, training
from ..arrays import bits

N_PREDICTING, N_FITTING = 16, 2
PREDICTIONS = 10    # of each thread in a case


@cache
def shared():
    """The estimator, and what it predicts when nothing else runs."""
    fitted = training.fitted(n_jobs=1)
    return fitted, fitted.predict_proba(training.samples()[0]), training.digest(fitted)


def case(seed, tally):
    """Threads switch as often as Python can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        together(seed, tally)
    finally:
        sys.setswitchinterval(before)


def together(seed, tally):
    fitted, expected, digest = shared()
    X, _ = training.samples()

    def predict(number):
        rows = np.random.default_rng([seed, number]).permutation(len(X))
        for _ in range(PREDICTIONS):
            if not np.array_equal(bits(fitted.predict_proba(X[rows])), bits(expected[rows])):
                raise AssertionError("a prediction differs when others predict and fit at the same time")

    def fit(_):
        if (found := training.digest(training.estimator().fit(*training.samples()))) != digest:
            raise AssertionError(f"trained {found} instead of {digest} while others predict")

    with machine.quietly(), ThreadPoolExecutor(N_PREDICTING + N_FITTING) as pool:
        jobs = [pool.submit(fit, n) for n in range(N_FITTING)] + [pool.submit(predict, n) for n in range(N_PREDICTING)]
        for job in jobs:
            job.result()
    tally.count("predictions by 16 threads on one estimator", N_PREDICTING * PREDICTIONS)
    tally.count("fits at the same time", N_FITTING)
    tally.note("0 differing bits")


@contextmanager
def shared_memory():
    """All networks of one shape write their inputs to the same memory, as careless buffering would."""
    shared()
    buffers, batch = {}, network.Sequential._batch

    def careless(self, x):
        x = batch(self, x)
        buffer = buffers.setdefault((x.shape, x.dtype), np.empty_like(x))
        buffer[...] = x
        return buffer

    with mock.patch.object(network.Sequential, "_batch", careless):
        yield


def faults():
    return {"memory shared by all threads": shared_memory()}
