"""Convolutions and their gradients against PyTorch, ONNX Runtime, OpenVINO and NumPy (im2col and BLAS).

    python benchmarks/conv.py [--threads N] [--only NAME ...] [--quick] [--json FILE]

README.md explains the columns of the table.
"""

from contest import Contest  # isort: skip: sets up the threads of all that follow

import numpy as np
import rivals
from shapes import CONV

import cyconv

PASSES = ("forward", "grad input", "grad weight")


def ours(shape, x, weight, bias, grad, layout, n_threads):
    """A call for each pass."""
    name = f"conv_transpose{shape.rank}d" if shape.transposed else f"conv{shape.rank}d"
    forward, grad_input, backward = (getattr(cyconv, name + end) for end in ("", "_grad_input", "_backward"))
    if layout == "channels_last":
        x, grad = (np.ascontiguousarray(np.moveaxis(array, 1, -1)) for array in (x, grad))
    keywords = shape.options | {"data_format": layout, "n_threads": n_threads}
    out = np.empty_like(grad)
    return (lambda: forward(x, weight, bias, **keywords),
            lambda: grad_input(grad, weight, x.shape, **keywords),
            lambda: backward(grad, x, weight, needs=("weight", "bias"), **keywords)[1:],
            lambda: forward(x, weight, bias, out=out, **keywords))


def contenders(shape, dtype, n_threads):
    """The calls of each pass."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(size).astype(dtype)
              for size in (shape.x_shape, shape.weight_shape, (shape.k,), shape.y_shape)]
    found = {}
    for layout in ("channels_first", "channels_last"):
        *found[layout], in_place = ours(shape, *arrays, layout, n_threads)
        found[f"{layout} out"] = [in_place]
    found |= rivals.torch_conv(shape, *arrays)
    found |= rivals.prepared_conv(shape, *arrays[:3], n_threads)
    found["numpy"] = rivals.Im2col(shape).calls(*arrays)
    return [{name: calls[index] for name, calls in found.items() if index < len(calls)} for index in range(3)]


def main():
    contest = Contest("conv", __doc__)
    for shape, dtype in contest.chosen(CONV):
        for which, calls in zip(PASSES, contenders(shape, dtype, contest.threads)):
            contest.add(shape, which, dtype, calls)
    contest.finish()


if __name__ == "__main__":
    main()
