"""Trained weights have one SHA-256, the published one, for all threads, instruction sets with FMA, and processes.

``python -m cyconv.selftest.checks.hash`` publishes the value of this version, after a change that is meant
to train differently: it writes `PUBLISHED` anew. Without fused multiply-adds (the baseline of x86-64) results are
rounded more often, so that instruction set is left out.
"""

import os
import warnings
from itertools import product
from pathlib import Path
from threading import Thread

from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from ... import _kernels
from ...functional import _ranked
from .. import machine, training
from ..processes import in_child

PUBLISHED = Path(__file__).with_name("hash.txt")
FUSED = [name for name in _kernels.available if name != "baseline"]
N_THREADS = (1, 2, 3, 5, 8, 4, 7, 16, 6, *range(9, 16))


def direct(isa, n_threads):
    before = _kernels.isa
    _kernels.use(isa)
    try:
        return training.trained_digest(n_jobs=n_threads)
    finally:
        _kernels.use(before)


def forked(isa, n_threads):
    return in_child(lambda: direct(isa, n_threads)) if hasattr(os, "fork") else direct(isa, n_threads)


def threaded(isa, n_threads):
    found = []
    worker = Thread(target=lambda: found.append(direct(isa, n_threads)))
    worker.start()
    worker.join()
    return found[0]


class Pin(TransformerMixin, BaseEstimator):
    """Changes nothing but the instruction set, threads and warnings of the worker that fits it."""

    def __init__(self, isa=None):
        self.isa = isa

    def fit(self, X, y=None):
        _kernels.use(self.isa)
        _ranked.SERIAL_WORK = -1
        warnings.simplefilter("ignore")
        return self

    def transform(self, X):
        return X


def first_bits(pipeline, X, y):
    """Of the hash, as many as a score holds."""
    return float(int(training.digest(pipeline[-1])[:13], 16))


def searched(isa, n_threads):
    """In a worker process of a grid search."""
    pipeline = Pipeline([("pin", Pin(isa)), ("net", training.estimator())])
    X, y = training.samples()
    every = [(range(len(X)), range(len(X)))]
    search = GridSearchCV(pipeline, {"net__n_jobs": [n_threads]}, scoring=first_bits, cv=every, n_jobs=2, refit=False)
    shape = X.shape[1:]
    pipeline.set_params(net__input_shape=shape)
    return f"{int(search.fit(X.reshape(len(X), -1), y).best_score_):013x}"


CONFIGURATIONS = tuple(product(N_THREADS, (direct, forked, threaded, searched), FUSED))


def case(seed, tally):
    if not FUSED:
        raise machine.Skipped("this processor and this build have no instruction set with FMA that has a name")
    n_threads, how, isa = CONFIGURATIONS[seed % len(CONFIGURATIONS)]
    published = PUBLISHED.read_text().strip()
    found = how(isa, n_threads)
    if not published.startswith(found):
        raise AssertionError(f"weights trained with {isa}, {n_threads} threads, {how.__name__}, have SHA-256 {found}, "
                             f"published is {published}; see cyconv/selftest/checks/hash.py")
    tally.distinct(f"configurations of threads, instruction set and process, each {published[:16]}...",
                   (n_threads, how.__name__, isa))


def faults():
    """The last bit of one weight's gradient, in one instruction set."""
    return {f"a gradient of {name}": machine.spoiled(module, "conv_grad_weight", machine.add_one(2))
            for name, module in machine.kernel_modules().items() if name.endswith("f32") and name.split()[0] in FUSED}


if __name__ == "__main__":
    PUBLISHED.write_text(direct(_kernels.available[-1], 1) + "\n")
    print(PUBLISHED.read_text(), end="")
