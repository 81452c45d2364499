"""Seconds of training until an accuracy is reached on scikit-learn's digits, with scikit-learn and skorch.

    python benchmarks/equal_accuracy.py [--accuracy A] [--seeds N]

After every epoch the accuracy on a quarter of the samples is taken, outside of the time. ConvNetClassifier and
the PyTorch network that skorch trains, when installed, have the same layers, batches and Adam; MLPClassifier has
its defaults, and one with as many weights. All run on all processors; the medians of N repetitions count.
"""

import argparse
import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from cyconv import ConvNetClassifier

try:
    import torch
    from skorch import NeuralNetClassifier
    from torch import nn
except ImportError:
    torch = None

EPOCHS = 200


def torch_network():
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(16, 32, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                         nn.Linear(128, 10))


def contenders(seed):
    made = {
        "ConvNetClassifier": ConvNetClassifier(
            input_shape=(8, 8), conv_channels=(16, 32), hidden_layer_sizes=(), batch_size=32,
            learning_rate_init=1e-3, alpha=0, random_state=seed),
        "MLPClassifier()": MLPClassifier(random_state=seed),
        "MLPClassifier((80,))": MLPClassifier((80,), batch_size=32, random_state=seed),
    }
    if torch:
        torch.manual_seed(seed)
        made["skorch, same network"] = NeuralNetClassifier(
            torch_network(), criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam, lr=1e-3, batch_size=32,
            iterator_train__shuffle=True, train_split=None, verbose=0, max_epochs=1)
    return made


def seconds_until(estimator, accuracy, X_train, X_test, y_train, y_test):
    """(seconds, epochs), or (nan, EPOCHS) when the accuracy is not reached."""
    seconds = 0.0
    how = {"classes": np.unique(y_train)} if hasattr(estimator, "n_iter_no_change") else {}
    for epoch in range(1, EPOCHS + 1):
        begin = time.perf_counter()
        estimator.partial_fit(X_train, y_train, **how)
        seconds += time.perf_counter() - begin
        if estimator.score(X_test, y_test) >= accuracy:
            return seconds, epoch
    return np.nan, EPOCHS


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--accuracy", type=float, default=0.97, help="on the quarter held out (default 0.97)")
    parser.add_argument("--seeds", type=int, default=5, help="repetitions (default 5)")
    options = parser.parse_args()
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    found = {}
    for seed in range(options.seeds):
        split = train_test_split(X, y, test_size=0.25, stratify=y, random_state=seed)
        for name, estimator in contenders(seed).items():
            found.setdefault(name, []).append(seconds_until(estimator, options.accuracy, *split))
    print(f"held-out accuracy of {options.accuracy} on digits, medians of {options.seeds} repetitions")
    print(f"{'estimator':24}{'seconds':>9}{'epochs':>8}{'ratio':>8}")
    own = np.median([seconds for seconds, _ in found["ConvNetClassifier"]])
    for name, values in found.items():
        seconds, epochs = np.median(values, axis=0)
        print(f"{name:24}{seconds:9.3f}{epochs:8.0f}{seconds / own:8.1f}")


if __name__ == "__main__":
    main()
