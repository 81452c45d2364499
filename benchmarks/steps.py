"""Losses with their gradients and steps of optimizers, against PyTorch when installed.

    python benchmarks/steps.py [--threads N] [--only NAME ...] [--quick] [--json FILE]

All contenders run interleaved in one process, float32, with the same number of threads. "x torch" is
PyTorch's time over ours; its optimizers are the fused ones where it has them. The vectors have as many
entries as LeNet-5, a Keras-like MNIST network and a VGG-like one have parameters, and 3 million.
"""

from timing import interleaved  # isort: skip: sets up the threads of all that follow

import numpy as np
import report

import cyconv
from cyconv import losses, optimizers

try:
    import torch
except ImportError:
    torch = None

BATCHES = [(32, 10), (64, 10), (256, 10), (64, 100)]
SIZES = [61_706, 421_642, 1_117_000, 3_000_000]
LOSSES = {"softmax_cross_entropy": "cross_entropy", "binary_cross_entropy": "binary_cross_entropy_with_logits",
          "squared_error": "mse_loss", "huber": "huber_loss"}
# gradient and parameters are read, memory is read and written, parameters are written
ARRAYS_MOVED = {"SGD": 5, "Adam": 7, "AdamW": 7, "RMSprop": 5}


def loss_contenders(name, n, n_outputs):
    rng = np.random.default_rng(0)
    outputs = rng.standard_normal((n, n_outputs)).astype(np.float32)
    is_softmax = name == "softmax_cross_entropy"
    targets = rng.integers(0, n_outputs, n) if is_softmax else rng.integers(0, 2, (n, n_outputs)).astype(np.float32)
    found = {"cyconv": lambda: getattr(losses, name)(outputs, targets)}
    if torch:
        leaf, truth = torch.tensor(outputs, requires_grad=True), torch.tensor(targets)
        peer = getattr(torch.nn.functional, LOSSES[name])
        found["torch"] = lambda: torch.autograd.grad(peer(leaf, truth), leaf)
    return found


def step_contenders(name, n_params, n_threads):
    rng = np.random.default_rng(0)
    vector, gradient = rng.standard_normal((2, n_params)).astype(np.float32)
    own = getattr(optimizers, name)(vector.copy())
    found = {"cyconv": lambda: own.step(gradient, n_threads=n_threads)}
    if torch:
        tensor = torch.tensor(vector, requires_grad=True)
        tensor.grad = torch.tensor(gradient)
        arguments = {"momentum": 0.9, "nesterov": True} if name == "SGD" else {}
        arguments |= {"foreach": True} if name == "RMSprop" else {"fused": True}
        found["torch"] = getattr(torch.optim, name)([tensor], lr=1e-3, **arguments).step
    return found


def measure(label, contenders, options, amount=0):
    times = interleaved(contenders, options.rounds)
    seconds, spread = times.pop("cyconv")
    ratio = times["torch"].seconds / seconds if times else None
    print(f"{label:38} {seconds * 1e6:9.1f} {spread:6.0%} {f'{amount / seconds / 1e9:6.0f}' if amount else '':>6}"
          + (f"{ratio:9.2f}" if ratio else ""), flush=True)
    if options.json:
        report.save(options.json, [{"benchmark": "steps", "name": label, "threads": options.threads, "seconds": seconds,
                                    "spread": spread, "ratio": ratio, "best": "torch"}])


def main():
    options = report.parse(__doc__)
    if torch:
        torch.set_num_threads(options.threads)
    print(f"float32, {options.threads} threads, {cyconv.show_config('dicts')['instruction set']}")
    print(f"{'what':38} {'us':>9} {'spread':>6} {'GB/s':>6}" + (f"{'x torch':>9}" if torch else ""))
    for name in report.chosen([*LOSSES, *ARRAYS_MOVED], options.only):
        if name in LOSSES:
            for n, n_outputs in BATCHES:
                measure(f"{name}, {n} x {n_outputs}", loss_contenders(name, n, n_outputs), options)
        else:
            for n_params in SIZES:
                measure(f"{name}, {n_params:,} parameters", step_contenders(name, n_params, options.threads),
                        options, 4 * ARRAYS_MOVED[name] * n_params)


if __name__ == "__main__":
    main()
