"""Other views of a convolution, plain images, and what is exact among the activations."""

from math import prod

import numpy as np

from .. import geometries, reference
from ..arrays import LAYOUTS, integers
from ._case import Case
from .convolutions import drawn

MAX_CELLS = 300         # of both sides of a dense matrix
BOUNDARIES = {"fill": "constant", "wrap": "wrap", "symm": "symmetric", "reflect": "reflect", "edge": "edge"}


def columns(seed):
    """Windows as columns, and columns added up."""
    g = geometries.pooling(seed)
    g = g._replace(channels=min(g.channels, 5), ceil_mode=False,
                   outputs=tuple(w.output_size(n) for n, w in zip(g.sizes, g.windows)))
    rng, key = np.random.default_rng(seed), g._replace(seed=0, n_threads=0)
    x = integers(rng, g.x_shape)
    rows = integers(rng, (g.batch, g.channels * prod(w.kernel for w in g.windows), prod(g.outputs)))
    window = {name: value for name, value in g.parameters.items() if name != "ceil_mode"}
    digit = f"{len(g.sizes)}d" if seed % 2 else ""
    yield Case(f"unfold{digit}", {"x": x, **window}, lambda: [reference.unfold(x, g.windows, g.outputs)], key)
    yield Case(f"fold{digit}", {"x": rows, "output_size": g.sizes, **window},
               lambda: [reference.fold(rows, g.sizes, g.windows, g.outputs)], key)


def resampled(seed):
    """Zeros between cells, and every few cells only."""
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 4))
    factors = tuple(map(int, rng.integers(1, 5, rank)))
    trailing = tuple(int(rng.integers(0, f)) for f in factors)
    x = integers(rng, (*rng.integers(1, 5, 2), *rng.integers(1, 9, rank)))
    key = (x.shape, factors, trailing)
    yield Case("upsample_zeros", {"x": x, "factor": factors, "trailing": trailing},
               lambda: [reference.upsample_zeros(x, factors, trailing)], key)
    yield Case("downsample", {"x": x, "factor": factors},
               lambda: [x[(..., *(slice(None, None, f) for f in factors))]], key)


def matrices(seed):
    """A convolution as a sparse matrix."""
    g = drawn(seed, lambda g: max(prod(g.x_shape[1:]), prod(g.y_shape[1:])) <= MAX_CELLS
              and prod(g.weight_shape) <= 20_000)._replace(batch=1)
    weight = g.integers()[1]
    matrix = reference.convolution_matrix(weight, g.x_shape[1:], g.windows, g.outputs, g.groups)
    x_first, y_first = (np.arange(prod(shape[1:])).reshape(shape[1:]) for shape in (g.x_shape, g.y_shape))
    for data_format in LAYOUTS:
        x_cells, y_cells = (np.moveaxis(cells, 0, -1) if data_format == "channels_last" else cells
                            for cells in (x_first, y_first))
        yield Case("convolution_matrix", {"weight": weight, "input_shape": x_cells.shape, **g.parameters,
                                          "data_format": data_format},
                   lambda cells=(y_cells, x_cells): [matrix[np.ix_(*(c.ravel() for c in cells))]], g._replace(seed=0))


def images(seed):
    """A plain array and a plain kernel, with everything that may lie beyond the array."""
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 4))
    a = integers(rng, rng.integers(2, (30, 12, 6)[rank - 1], rank))
    k = integers(rng, [rng.integers(1, n + 1) for n in a.shape])
    mode, boundary = ("full", "same", "valid")[seed % 3], [*BOUNDARIES][seed % 5]
    fill = int(rng.integers(-8, 9)) if boundary == "fill" and mode != "valid" else 0
    for name in ("correlate", "convolve"):
        arguments = {"a": a, "k": k, "mode": mode, "boundary": boundary, "fillvalue": fill}
        yield Case(name, arguments, lambda name=name: [filtered(name, a, k, mode, boundary, fill)],
                   (a.shape, k.shape, mode, boundary))


def filtered(name, a, k, mode, boundary, fill):
    """Padded by NumPy, then every window times the kernel."""
    kernel = k[(slice(None, None, -1),) * k.ndim] if name == "convolve" else k
    before_after = {"full": [(m - 1, m - 1) for m in k.shape], "valid": [(0, 0)] * k.ndim,
                    "same": [(m // 2, (m - 1) // 2) for m in k.shape]}[mode]
    more = {"constant_values": fill} if boundary == "fill" else {}
    padded = np.pad(a, before_after, mode=BOUNDARIES[boundary], **more)
    view = np.lib.stride_tricks.sliding_window_view(padded, k.shape)
    return (view * kernel).sum(axis=tuple(range(-k.ndim, 0)))


def rectified(seed):
    """The activations without exponentials, at vector lengths of every remainder."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(0, 9, seed % 3)) + (int(rng.integers(1, 200)),)
    x, dy = integers(rng, shape), integers(rng, shape)
    slope = (0.5, -2.0, 0.0)[seed % 3]
    yield Case("relu", {"x": x}, lambda: [np.maximum(x, 0)], shape)
    yield Case("relu_backward", {"grad_out": dy, "y": np.maximum(x, 0)}, lambda: [dy * (x > 0)], shape)
    yield Case("leaky_relu", {"x": x, "negative_slope": slope}, lambda: [np.where(x > 0, x, slope * x)], shape)
    yield Case("leaky_relu_backward", {"grad_out": dy, "x": x, "negative_slope": slope},
               lambda: [np.where(x > 0, dy, slope * dy)], shape)
