"""Python threads that share inputs, estimators and, disjointly or not, outputs. ThreadSanitizer watches.

``python tests/races.py disjoint`` is what users may do; ``overlapping`` is the planted race.
"""

import sys
import threading

import numpy as np

import cyconv

THREADS, CALLS = 4, 20
RNG = np.random.default_rng(0)


def on_threads(function):
    barrier = threading.Barrier(THREADS)

    def run(number):
        barrier.wait()
        for _ in range(CALLS):
            function(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def convolutions(dtype, overlapping):
    """Every thread computes samples of one output from samples of one input."""
    x, weight = RNG.random((8, 5, 20, 20)).astype(dtype), RNG.random((7, 5, 3, 3)).astype(dtype)
    y = np.empty((8, 7, 18, 18), dtype)

    def run(number):
        rows = slice(0, 8) if overlapping else slice(2 * number, 2 * number + 2)
        cyconv.conv2d(x[rows], weight, out=y[rows])
        cyconv.conv2d_backward(y[rows].copy(), x[rows], weight)

    on_threads(run)
    if not overlapping:
        assert np.array_equal(y, cyconv.conv2d(x, weight))


def others(dtype):
    x = RNG.standard_normal((4, 6, 15, 15)).astype(dtype)
    y, where = cyconv.max_pool2d(x, 2, return_indices=True)
    functions = [lambda: cyconv.max_pool2d(x, 3, 2), lambda: cyconv.max_pool2d_backward(y, where, x.shape),
                 lambda: cyconv.lp_pool2d(x, 3, 2), lambda: cyconv.gelu(x), lambda: cyconv.softmax(x),
                 lambda: cyconv.depthwise_conv2d(x, x[:6, :1, :3, :3].repeat(2, 0)[:6]), lambda: cyconv.moments(x)]
    for function in functions:
        on_threads(lambda _: function())      # noqa: B023


def estimators(dtype):
    X, y = RNG.random((40, 64)).astype(dtype), np.arange(40) % 3
    options = {"input_shape": (8, 8), "max_iter": 2, "conv_channels": 4, "random_state": 0, "n_iter_no_change": np.inf}
    shared = cyconv.ConvNetClassifier(**options).fit(X, y)
    expected = shared.predict_proba(X)

    def run(number):
        assert np.array_equal(shared.predict_proba(X), expected)
        if number == 0:
            cyconv.ConvNetClassifier(**options).fit(X, y)

    on_threads(run)


if __name__ == "__main__":
    overlapping = sys.argv[1] == "overlapping"
    for real in (np.float32, np.float64):
        convolutions(real, overlapping)
        if not overlapping:
            others(real)
            estimators(real)
    print(f"{sys.argv[1]}: done")
