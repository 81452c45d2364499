"""How long does a grid search over large images take, with cyconv's own choice of threads and with yours?

    python benchmarks/grid_search.py [--rounds N] [--samples N]

joblib hands the images to its worker processes as a read-only memory map. "auto" leaves the estimator's n_jobs
at None; the others set it. Settings take turns in an order drawn anew, medians of all rounds; the ratio is to the
best of the others.
"""

import argparse
import time
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from cyconv import ConvNetClassifier

SETTINGS = {      # (of the search, of the estimator)
    "2 processes, auto": (2, None), "2 processes, 1 thread each": (2, 1), "2 processes, 2 threads each": (2, 2),
    "1 process, 2 threads": (1, 2), "1 process, 1 thread": (1, 1),
}


def search(X, y, n_processes, n_threads):
    net = ConvNetClassifier((8, 16), max_iter=1, random_state=0, batch_size=64, n_jobs=n_threads)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        GridSearchCV(net, {"alpha": [0.0, 1e-4]}, cv=2, n_jobs=n_processes, refit=False).fit(X, y)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="repetitions (default 15)")
    parser.add_argument("--samples", type=int, default=4000, help="images of 28 x 28 (default 4000)")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    X = rng.standard_normal((options.samples, 1, 28, 28), np.float32)
    y = rng.integers(0, 10, options.samples)
    seconds = {name: [] for name in SETTINGS}
    search(X[:200], y[:200], 2, None)       # starts the worker processes
    for _ in range(options.rounds):
        for name in rng.permutation(list(SETTINGS)):    # the first search after those of one process wakes workers
            seconds[name].append(search(X, y, *SETTINGS[name]))
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    own, *others = medians.values()
    print(f"X of {X.nbytes / 2**20:.0f} MB, 4 fits of one epoch and their scores, median of {options.rounds} rounds")
    for name, value in medians.items():
        print(f"{name:28}{value:7.2f} s")
    print(f"auto / best of the others: {own / min(others):.2f}")


if __name__ == "__main__":
    main()
