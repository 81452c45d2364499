"""conv2d and its gradients against NumPy (im2col + BLAS) and, when installed, PyTorch.

    python benchmarks/conv2d.py [--threads N] [--json FILE]

All contenders run interleaved in one process, float32, with the same number of threads. A rate is
GFLOP/s of the median time; "peak" is its share of the processor's fused multiply-adds; "x torch" and
"x NumPy" are the rivals' times over ours.
"""

import argparse
import json
import os
from math import exp, log

from timing import fma_peak, interleaved  # isort: skip: sets up the threads of all that follow

import numpy as np
from shapes import CONV2D
from threadpoolctl import threadpool_limits

import cyconv

try:
    import torch
except ImportError:
    torch = None

PASSES = ("forward", "grad input", "grad weight")


def to_layout(array, layout):
    return np.ascontiguousarray(np.moveaxis(array, 1, -1)) if layout == "channels_last" else array


def ours(x, weight, bias, grad, padding, layout, n_threads):
    keywords = {"padding": padding, "data_format": layout, "n_threads": n_threads}
    return (
        lambda: cyconv.conv2d(x, weight, bias, **keywords),
        lambda: cyconv.conv2d_grad_input(grad, weight, x.shape, **keywords),
        lambda: cyconv.conv2d_backward(grad, x, weight, needs=("weight", "bias"), **keywords),
    )


def columns(x, kernel, padding, layout):
    """im2col: channels first (N, C * taps, outputs), channels last (N * outputs, taps * C)."""
    axes = (1, 2) if layout == "channels_last" else (2, 3)
    pads = [(padding, padding) if axis in axes else (0, 0) for axis in range(4)]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, pads), (kernel, kernel), axes)
    if layout == "channels_last":
        return windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, kernel * kernel * x.shape[3])
    return windows.transpose(0, 1, 4, 5, 2, 3).reshape(x.shape[0], x.shape[1] * kernel * kernel, -1)


def numpy_im2col(x, weight, bias, grad, padding, layout):
    """Unit stride and "same" padding, so that a gradient with respect to x is a convolution too."""
    k, c, kernel, _ = weight.shape

    def forward(x, weight, bias=0):
        if layout == "channels_last":
            matrix = weight.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0])
            return (columns(x, kernel, padding, layout) @ matrix + bias).reshape(*x.shape[:3], -1)
        bias = np.reshape(bias, (-1, 1))
        return (weight.reshape(weight.shape[0], -1) @ columns(x, kernel, padding, layout) + bias).reshape(
            x.shape[0], -1, *x.shape[2:])

    def grad_weight():
        cols = columns(x, kernel, padding, layout)
        if layout == "channels_last":
            flat = grad.reshape(-1, k)
            return (cols.T @ flat).reshape(kernel, kernel, c, k).transpose(3, 2, 0, 1), flat.sum(axis=0)
        flat = grad.reshape(grad.shape[0], k, -1)
        return (flat @ cols.transpose(0, 2, 1)).sum(axis=0).reshape(weight.shape), flat.sum(axis=(0, 2))

    rotated = np.ascontiguousarray(weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3))
    return lambda: forward(x, weight, bias), lambda: forward(grad, rotated), grad_weight


def pytorch(x, weight, bias, grad, padding, layout):
    def tensor(array):
        if layout == "channels_first":
            return torch.from_numpy(array)
        return torch.from_numpy(array).permute(0, 3, 1, 2)    # a channels_last tensor, no copy

    x, grad, weight, bias = tensor(x), tensor(grad), torch.from_numpy(weight), torch.from_numpy(bias)

    def backward(mask):
        return torch.ops.aten.convolution_backward(grad, x, weight, [len(bias)], [1, 1], [padding] * 2, [1, 1], False,
                                                   [0, 0], 1, mask)

    return (lambda: torch.conv2d(x, weight, bias, padding=padding), lambda: backward([True, False, False]),
            lambda: backward([False, True, True]))


def contenders(shape, layout, n_threads):
    """One dict of contenders per pass, after checking that they agree."""
    rng = np.random.default_rng(0)
    x = to_layout(rng.standard_normal((shape.n, shape.c, shape.h, shape.w), np.float32), layout)
    grad = to_layout(rng.standard_normal((shape.n, shape.k, *shape.outputs), np.float32), layout)
    weight = rng.standard_normal((shape.k, shape.c, shape.kernel, shape.kernel), np.float32)
    bias = rng.standard_normal(shape.k, np.float32)
    arguments = x, weight, bias, grad, shape.padding, layout
    calls = {"cyconv": ours(*arguments, n_threads), "NumPy": numpy_im2col(*arguments)}
    if torch:
        calls["torch"] = pytorch(*arguments)
    passes = [{name: functions[i] for name, functions in calls.items()} for i in range(3)]
    for index, functions in enumerate(passes):
        results = [function() for function in functions.values()]
        results = [np.asarray(r[1] if index == 2 and hasattr(r, "_fields") else r[0] if index == 2 else r)
                   for r in results[:2]]
        np.testing.assert_allclose(results[0], results[1], rtol=1e-3, atol=1e-3 * np.abs(results[1]).max())
    return passes


def measure(shape, layout, n_threads, peak):
    rows = []
    for name, functions in zip(PASSES, contenders(shape, layout, n_threads)):
        seconds = interleaved(functions)
        own = seconds.pop("cyconv")
        rate = shape.flops / own / 1e9
        rows.append({"shape": str(shape), "layout": layout, "pass": name, "gflops": rate, "share": rate / peak,
                     "times": {rival: value / own for rival, value in seconds.items()}})
    return rows


def print_rows(rows, rivals):
    for row in rows:
        print(f"{row['shape']:28} {row['layout']:14} {row['pass']:11} {row['gflops']:8.0f} {row['share']:6.0%}"
              + "".join(f"{row['times'][rival]:9.2f}" for rival in rivals), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=None, help="threads for every contender (default: all)")
    parser.add_argument("--json", metavar="FILE", help="also write the rows to FILE")
    options = parser.parse_args()
    n_threads = options.threads or os.cpu_count()
    rivals = ["NumPy"] + (["torch"] if torch else [])
    if torch:
        torch.set_num_threads(n_threads)
    with threadpool_limits(n_threads, "blas"), torch.no_grad() if torch else threadpool_limits():
        peak = fma_peak(np.dtype(np.float32), n_threads)
        print(f"float32, {n_threads} threads, {cyconv.show_config('dicts')['instruction set']}, "
              f"FMA peak {peak:.0f} GFLOP/s")
        print(f"{'shape':28} {'layout':14} {'pass':11} {'GFLOP/s':>8} {'peak':>6}"
              + "".join(f"{'x ' + rival:>9}" for rival in rivals))
        rows = []
        for shape in CONV2D:
            for layout in ("channels_first", "channels_last"):
                new = measure(shape, layout, n_threads, peak)
                print_rows(new, rivals)
                rows += new
    for rival in rivals:
        ratios = [row["times"][rival] for row in rows]
        mean = exp(sum(map(log, ratios)) / len(ratios))
        print(f"against {rival}: geometric mean {mean:.2f}, lowest {min(ratios):.2f}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
