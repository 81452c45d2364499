"""Training steps and predictions of small networks, in cyconv and, when installed, PyTorch.

    python benchmarks/training.py [--threads N] [--batch N ...] [--only NAME ...] [--quick] [--json FILE]

Both start from the same weights and take the same batches with Adam in float32; PyTorch runs in both
layouts, and the faster one counts. Contenders are interleaved, after the losses of 50 steps have been
compared: in float64 with the usual learning rate, in float32 with a hundredth of it, for with more
rounding grows until the losses of large networks are percents apart. "MB" is what a network adds to the
memory of the process at its highest, when it takes its first steps with a batch after one with a single sample.
"""

from timing import OtherWork, interleaved, peak_memory  # isort: skip: sets up the threads of all that follow

import time

import numpy as np
import report

import cyconv
from cyconv import Sequential
from cyconv.layers import Conv, Dense, GlobalPool, MaxPool, ReLU
from cyconv.optimizers import Adam

try:
    import torch
    from torch import nn
except ImportError:
    torch = None

STEPS = 50
RATE = 1e-3
TOLERANCE = {np.float64: (RATE, 1e-9), np.float32: (RATE / 100, 1e-4)}    # learning rate, relative difference of losses


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
    def __init__(self, layers, shape, n_threads, dtype, rate=RATE):
        self.network = Sequential(layers, shape, dtype=dtype, random_state=0)
        self.optimizer = Adam(self.network.vector, rate)
        self.n_threads = n_threads

    def step(self, x, labels):
        loss, gradient = self.network.training_step(x, labels, n_threads=self.n_threads)
        self.optimizer.step(gradient, n_threads=self.n_threads)
        return loss

    def predict(self, x):
        return self.network.forward(x, n_threads=self.n_threads)[0]


class PyTorch:
    """The same network with the parameters of ``network``, in one of the layouts."""

    def __init__(self, network, channels_last, rate):
        rank = len(network.shapes[0]) - 1
        self.memory_format = (torch.contiguous_format, torch.channels_last, torch.channels_last_3d)[
            rank - 1 if channels_last else 0]
        modules = []
        for layer, shape in zip(network.layers, network.shapes):
            modules += self.modules(layer, shape, rank)
        self.module = nn.Sequential(*modules).to(torch.from_numpy(network.vector).dtype)
        self.load(network)
        self.module = self.module.to(memory_format=self.memory_format)
        self.optimizer = torch.optim.Adam(self.module.parameters(), rate)
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


def contenders(name, n_threads, dtype=np.float32, rate=RATE):
    layers, shape, _ = NETWORKS[name]
    result = {"cyconv": Cyconv(layers, shape, n_threads, dtype, rate)}
    if torch:
        result["torch first"] = PyTorch(result["cyconv"].network, False, rate)
        if len(shape) > 2:
            result["torch last"] = PyTorch(result["cyconv"].network, True, rate)
    return result


def check_losses(name, n_threads, x, labels):
    """Equal work must give equal losses, up to rounding."""
    for dtype, (rate, tolerance) in TOLERANCE.items():
        found = contenders(name, n_threads, dtype, rate)
        losses = {key: [one.step(x.astype(dtype), labels) for _ in range(STEPS)] for key, one in found.items()}
        for key, values in losses.items():
            np.testing.assert_allclose(values, losses["cyconv"], rtol=tolerance, err_msg=f"{name}, {key}")


def memory_of_step(name, n_threads, x, labels):
    """Bytes of the largest moment of a step, by contender: of three networks the one in the middle."""
    found = {}
    for _ in range(3):
        for key, one in contenders(name, n_threads).items():
            one.step(x[:1], labels[:1])
            steps = peak_memory(lambda one=one: [one.step(x, labels) for _ in range(3)], warm=lambda: None)
            found.setdefault(key, []).append(steps)
    return {key: sorted(values)[1] for key, values in found.items()}


def measure(name, n, options):
    """A row for the step and one for the prediction."""
    layers, shape, usual = NETWORKS[name]
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((n, *shape), np.float32), rng.integers(0, layers[-1].units, n)
    if n == usual:
        check_losses(name, options.threads, x, labels)
    memory = memory_of_step(name, options.threads, x, labels) if n > 1 else {}
    found = contenders(name, options.threads)
    calls = {"step": {key: lambda one=one: one.step(x, labels) for key, one in found.items()},
             "predict": {key: lambda one=one: one.predict(x) for key, one in found.items()}}
    for which, functions in calls.items():
        with OtherWork() as others:
            times = interleaved(functions, options.rounds)
        seconds, spread = times.pop("cyconv")
        best = min(times, key=times.get, default=None)
        yield {"benchmark": "training", "name": name, "batch": n, "pass": which, "dtype": "float32",
               "threads": options.threads, "isa": cyconv.show_config("dicts")["instruction set"],
               "seconds": seconds, "spread": spread, "rate": n / seconds, "best": best,
               "ratio": times[best].seconds / seconds if best else None,
               "rivals": {key: time._asdict() for key, time in times.items()},
               "memory": memory if which == "step" else {}, "others": others.share}


def epoch(options, n_samples=60_000, batch=64):
    """Seconds of one pass of LeNet-5 over shuffled images, by contender."""
    layers, shape, _ = NETWORKS["LeNet-5"]
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((n_samples, *shape), np.float32), rng.integers(0, 10, n_samples)
    order = rng.permutation(n_samples)
    seconds = {}
    for key, one in contenders("LeNet-5", options.threads).items():
        begin = time.perf_counter()
        for start in range(0, n_samples, batch):
            chosen = order[start:start + batch]
            one.step(x[chosen], labels[chosen])
        seconds[key] = time.perf_counter() - begin
    own = seconds.pop("cyconv")
    return {"benchmark": "training", "name": "LeNet-5", "batch": batch, "pass": "epoch", "dtype": "float32",
            "threads": options.threads, "isa": cyconv.show_config("dicts")["instruction set"], "seconds": own,
            "rate": n_samples / own, "rivals": {key: {"seconds": value} for key, value in seconds.items()},
            "ratio": min(seconds.values(), default=own) / own}


def print_row(row):
    memory = dict(row["memory"])
    own, least = memory.pop("cyconv", None), min((v for v in memory.values() if v), default=None)
    print(f"{row['name']:12} {row['batch']:5} {row['pass']:8} {row['seconds'] * 1e3:9.3f} {row['spread']:6.0%} "
          f"{row['rate']:10,.0f} {row['ratio'] or 1:8.2f}"
          + "".join(f"{value / 1e6:8.1f}" if value is not None else "" for value in (own, least))
          + (f"  others used {row['others']:.0%} of the machine" if row["others"] > report.BUSY else ""), flush=True)


def main():
    batch = {"type": int, "nargs": "+", "help": "samples of a batch (default: each network's own, 1, 16, 64, 256)"}
    options = report.parse(__doc__, batch=batch)
    if torch:
        torch.set_num_threads(options.threads)
    print(f"float32, Adam, {options.threads} threads; x torch: its time in its faster layout over ours")
    print(f"{'network':12} {'batch':>5} {'what':8} {'ms':>9} {'spread':>6} {'images/s':>10} {'x torch':>8} {'MB':>7} "
          f"{'torch':>7}")
    for name in report.chosen(NETWORKS, options.only):
        for n in options.batch or sorted({1, 16, 64, 256, NETWORKS[name][2]}):
            rows = list(measure(name, n, options))
            for row in rows:
                print_row(row)
            if options.json:
                report.save(options.json, rows)
        if name == "LeNet-5" and not options.batch:
            row = epoch(options)
            print(f"LeNet-5, one epoch of 60,000 images: {row['seconds']:.2f} s, {row['ratio']:.2f} x torch")
            if options.json:
                report.save(options.json, [row])


if __name__ == "__main__":
    main()
