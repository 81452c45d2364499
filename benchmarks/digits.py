"""Accuracy and fitting time on scikit-learn's handwritten digits, all estimators on the same folds.

    python benchmarks/digits.py [--seeds N]

Stratified and shuffled 5-fold cross-validation, repeated with random_state 0 .. N - 1 for the folds and
the estimators. Without shuffling the folds hold different writers, and every estimator is about 2 points worse.
"""

import argparse
import time
import warnings

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.svm import SVC

from cyconv import ConvNetClassifier

ESTIMATORS = {
    "ConvNetClassifier(input_shape=(8, 8))": lambda seed: ConvNetClassifier(input_shape=(8, 8), random_state=seed),
    "with augment and early_stopping": lambda seed: ConvNetClassifier(
        (32, 64), input_shape=(8, 8), augment="digits", early_stopping=True, learning_rate="cosine", max_iter=100,
        n_iter_no_change=np.inf, random_state=seed),
    "the default after MinMaxScaler": lambda seed: make_pipeline(
        MinMaxScaler(), ConvNetClassifier(input_shape=(8, 8), random_state=seed)),
    "MLPClassifier() after MinMaxScaler": lambda seed: make_pipeline(MinMaxScaler(), MLPClassifier(random_state=seed)),
    "SVC()": lambda seed: SVC(),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3, help="repetitions (default 3)")
    seeds = range(parser.parse_args().seeds)
    X, y = load_digits(return_X_y=True)
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(f"{'':38}{'accuracy':>9}  by random_state{'':{max(0, 8 * len(seeds) - 14)}}{'s per fold':>11}{'slowest':>9}")
    for name, make in ESTIMATORS.items():
        accuracy, seconds = np.empty((len(seeds), 5)), []
        for seed in seeds:
            folds = StratifiedKFold(5, shuffle=True, random_state=seed).split(X, y)
            for fold, (train, test) in enumerate(folds):
                begin = time.perf_counter()
                estimator = make(seed).fit(X[train], y[train])
                seconds.append(time.perf_counter() - begin)
                accuracy[seed, fold] = estimator.score(X[test], y[test])
        by_seed = "  ".join(f"{value:.4f}" for value in accuracy.mean(axis=1))
        print(f"{name:38}{accuracy.mean():9.4f}  {by_seed}  {np.median(seconds):11.2f}{max(seconds):9.2f}", flush=True)


if __name__ == "__main__":
    main()
