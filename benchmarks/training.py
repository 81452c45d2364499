"""Training steps and predictions of small networks, in cyconv and, when installed, PyTorch.

    python benchmarks/training.py [--threads N] [--batch N] [--json FILE]

Both start from the same weights and take the same batches with Adam in float32. First the losses of 50
steps in float64 are compared; in float32 rounding would grow to percents. PyTorch runs in both layouts,
and the faster one counts. Contenders are interleaved.
"""

import argparse
import json
import os

from timing import interleaved  # isort: skip: sets up the threads of all that follow

import numpy as np

from cyconv import Sequential
from cyconv.layers import Conv, Dense, GlobalPool, MaxPool, ReLU
from cyconv.optimizers import Adam

try:
    import torch
    from torch import nn
except ImportError:
    torch = None

STEPS = 50


def block(channels, kernel_size=3, padding="same"):
    return [Conv(channels, kernel_size, padding=padding), ReLU(), MaxPool(2)]


# name: layers, shape of a sample, batch
NETWORKS = {
    "digits": ([*block(16), *block(32), Dense(10)], (1, 8, 8), 32),
    "LeNet-5": ([*block(6, 5, 2), *block(16, 5, 0), Dense(120), ReLU(), Dense(84), ReLU(), Dense(10)], (1, 28, 28), 64),
    "Keras MNIST": ([*block(32), *block(64), Dense(128), ReLU(), Dense(10)], (1, 28, 28), 64),
    "CIFAR": ([Conv(32, 3, padding="same"), ReLU(), *block(32), Conv(64, 3, padding="same"), ReLU(), *block(64),
               Dense(256), ReLU(), Dense(10)], (3, 32, 32), 64),
    "signal": ([*block(32, 7), Conv(64, 5, padding="same"), ReLU(), GlobalPool("avg"), Dense(5)], (3, 256), 64),
    "volume": ([*block(8), *block(16), Dense(10)], (1, 16, 16, 16), 32),
}


class Cyconv:
    def __init__(self, layers, shape, n_threads, dtype):
        self.network = Sequential(layers, shape, dtype=dtype, random_state=0)
        self.optimizer = Adam(self.network.vector)
        self.n_threads = n_threads

    def step(self, x, labels):
        loss, gradient = self.network.training_step(x, labels, n_threads=self.n_threads)
        self.optimizer.step(gradient, n_threads=self.n_threads)
        return loss

    def predict(self, x):
        return self.network.forward(x, n_threads=self.n_threads)[0]


class PyTorch:
    """The same network with the parameters of ``network``, in one of the layouts."""

    def __init__(self, network, channels_last):
        rank = len(network.shapes[0]) - 1
        self.memory_format = (torch.contiguous_format, torch.channels_last, torch.channels_last_3d)[
            rank - 1 if channels_last else 0]
        modules = []
        for layer, shape in zip(network.layers, network.shapes):
            modules += self.modules(layer, shape, rank)
        self.module = nn.Sequential(*modules).to(torch.from_numpy(network.vector).dtype)
        self.load(network)
        self.module = self.module.to(memory_format=self.memory_format)
        self.optimizer = torch.optim.Adam(self.module.parameters())
        self.loss = nn.CrossEntropyLoss()

    def load(self, network):
        """Parameters come in the same order and layouts in both."""
        own = network.parameters().values()
        with torch.no_grad():
            for target, value in zip(self.module.parameters(), own, strict=True):
                target.copy_(torch.from_numpy(value))

    def modules(self, layer, shape, rank):
        if isinstance(layer, ReLU):
            return [nn.ReLU()]
        if isinstance(layer, MaxPool):
            return [(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[rank - 1](layer.kernel_size)]
        if isinstance(layer, GlobalPool):
            return [(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[rank - 1](1), nn.Flatten()]
        if isinstance(layer, Dense):
            made = nn.Linear(int(np.prod(shape)), layer.units)
        else:
            conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
            made = conv(shape[0], layer.out_channels, layer.kernel_size, padding=layer.padding)
        return [nn.Flatten(), made] if isinstance(layer, Dense) and len(shape) > 1 else [made]

    def step(self, x, labels):
        self.optimizer.zero_grad()
        loss = self.loss(self.module(self.tensor(x)), torch.from_numpy(labels))
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def predict(self, x):
        with torch.inference_mode():
            return self.module(self.tensor(x)).numpy()

    def tensor(self, x):
        return torch.from_numpy(x).to(memory_format=self.memory_format)


def contenders(layers, shape, n_threads, dtype=np.float32):
    result = {"cyconv": Cyconv(layers, shape, n_threads, dtype)}
    if torch:
        result["torch"] = PyTorch(result["cyconv"].network, False)
        if len(shape) > 2:
            result["torch channels_last"] = PyTorch(result["cyconv"].network, True)
    return result


def check_losses(layers, shape, n_threads, x, labels):
    """Equal work must give equal losses, up to rounding."""
    found = contenders(layers, shape, n_threads, np.float64)
    losses = {name: [one.step(x.astype(np.float64), labels) for _ in range(STEPS)] for name, one in found.items()}
    for name, values in losses.items():
        np.testing.assert_allclose(values, losses["cyconv"], rtol=1e-6, err_msg=name)


def measure(name, batch, n_threads):
    layers, shape, usual = NETWORKS[name]
    n, rng = batch or usual, np.random.default_rng(0)
    x, labels = rng.standard_normal((n, *shape), np.float32), rng.integers(0, layers[-1].units, n)
    check_losses(layers, shape, n_threads, x, labels)
    found = contenders(layers, shape, n_threads)
    calls = {"step": {key: lambda one=one: one.step(x, labels) for key, one in found.items()},
             "predict": {key: lambda one=one: one.predict(x) for key, one in found.items()}}
    row = {"network": name, "batch": n}
    for what, functions in calls.items():
        seconds = interleaved(functions)
        own = seconds.pop("cyconv")
        row |= {f"{what}_ms": own * 1e3, f"{what}_rate": n / own,
                f"{what}_ratio": min(seconds.values(), default=own) / own}
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="for every contender (default: all)")
    parser.add_argument("--batch", type=int, help="samples of a batch, instead of each network's own")
    parser.add_argument("--json", metavar="FILE", help="also write the rows to FILE")
    options = parser.parse_args()
    if torch:
        torch.set_num_threads(options.threads)
    print(f"float32, Adam, {options.threads} threads; x torch: its time in its faster layout over ours")
    columns = f"{'images/s':>9} {'x torch':>8}"
    print(f"{'network':12} {'batch':>5} {'step ms':>9} {columns} {'predict ms':>11} {columns}")
    rows = []
    for name in NETWORKS:
        row = measure(name, options.batch, options.threads)
        print(f"{name:12} {row['batch']:5} {row['step_ms']:9.3f} {row['step_rate']:9.0f} {row['step_ratio']:8.2f} "
              f"{row['predict_ms']:11.3f} {row['predict_rate']:9.0f} {row['predict_ratio']:8.2f}", flush=True)
        rows.append(row)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
