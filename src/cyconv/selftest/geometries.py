"""Random geometries of windows, drawn from the output back to the input.

The output size, kernel, stride, dilations and paddings come first; the input size is then any that
gives this output, so that unused trailing cells occur. A seed names its geometry, and a failure
prints both.
"""

from math import prod
from random import Random
from typing import NamedTuple

import numpy as np

from .._geometry import Window
from .arrays import integers

CHANNELS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 15, 16, 17, 24, 31, 32, 33, 40)
NARROW = (1, 2, 3, 4, 5, 6, 7, 8)
ROWS = (13, 14, 15, 16, 17, 27, 28, 29, 31, 32, 33, 35)  # around one and two tiles and vectors
WIDE = (64, 65, 70, 97, 131)
SAMPLES = tuple(range(13, 31))

MAX_PRODUCTS = 1_000_000  # of a convolution: the reference takes a few milliseconds


class Geometry(NamedTuple):
    """A convolution: everything but the values."""

    seed: int
    batch: int
    groups: int
    in_channels: int    # of a group
    out_channels: int   # of a group
    sizes: tuple
    windows: tuple
    outputs: tuple
    n_threads: int

    @property
    def x_shape(self):
        return (self.batch, self.groups * self.in_channels, *self.sizes)

    @property
    def weight_shape(self):
        return (self.groups * self.out_channels, self.in_channels, *(w.kernel for w in self.windows))

    @property
    def y_shape(self):
        return (self.batch, self.groups * self.out_channels, *self.outputs)

    @property
    def parameters(self):
        """The arguments of a call that describe the windows."""
        return {**pool_parameters(self.windows), "groups": self.groups, "flip": self.windows[0].flip,
                "input_dilation": tuple(w.input_dilation for w in self.windows)}

    def integers(self):
        """x, weight, bias and the gradient of y, as integers."""
        rng = np.random.default_rng(self.seed)
        shapes = self.x_shape, self.weight_shape, self.weight_shape[:1], self.y_shape
        return [integers(rng, shape) for shape in shapes]

    def normals(self, dtype):
        """The same, normally distributed."""
        rng = np.random.default_rng(self.seed)
        shapes = self.x_shape, self.weight_shape, self.weight_shape[:1], self.y_shape
        return [rng.standard_normal(shape, dtype) for shape in shapes]


def pool_parameters(windows):
    return {"stride": tuple(w.stride for w in windows), "dilation": tuple(w.dilation for w in windows),
            "padding": tuple((w.low, w.high) for w in windows)}


def convolution(seed, rank=None, windows=None):
    """The geometry named by ``seed``, with axes of one of the profiles below."""
    rng = Random(seed)
    rank = rank or rng.choice((1, 2, 2, 2, 2, 3))
    while True:
        geometry = rng.choice(PROFILES)(rng, seed, rank)
        products = prod(geometry.y_shape) * prod(geometry.weight_shape[1:])
        if max(products, prod(geometry.x_shape), prod(geometry.y_shape)) <= MAX_PRODUCTS:
            return geometry


def draw(rng, seed, rank, rows, others=NARROW, kernels=(1, 2, 3, 3, 4, 5), batches=(1, 1, 2, 3), channels=CHANNELS,
         out_channels=CHANNELS):
    axes = [draw_axis(rng, rng.choice(others), rng.choice(kernels)) for _ in range(rank - 1)]
    axes.append(draw_axis(rng, rng.choice(rows), rng.choice(kernels)))
    sizes, windows, outputs = zip(*axes)
    groups = rng.choice((1, 1, 1, 2, 3, 5))
    flip = rng.random() < 0.25
    batch = 0 if rng.random() < 0.05 else rng.choice(batches)
    return Geometry(seed, batch, groups, rng.choice(channels), rng.choice(out_channels), sizes,
                    tuple(w._replace(flip=flip) for w in windows), outputs, rng.choice((1, 2, 3)))


def mixed(rng, seed, rank):
    return draw(rng, seed, rank, NARROW + ROWS)


def wide_rows(rng, seed, rank):
    return draw(rng, seed, rank, ROWS + WIDE, others=(1, 2, 3), channels=(1, 2, 3, 5))


def many_samples(rng, seed, rank):
    """Small maps, where tiles hold samples."""
    return draw(rng, seed, rank, NARROW[:4], others=NARROW[:4], batches=SAMPLES)


def long_sums(rng, seed, rank):
    """So many terms that a sum has several blocks."""
    return draw(rng, seed, rank, NARROW + WIDE, others=(1, 2), kernels=(1, 3, 5), channels=(130, 257, 600, 1200),
                out_channels=(*CHANNELS, 65, 100, 130))


def many_taps(rng, seed, rank):
    return draw(rng, seed, rank, NARROW + ROWS, others=(1, 2, 3), kernels=(7, 11, 15, 25, 40), channels=(1, 2, 3))


def depthwise(rng, seed, rank):
    geometry = draw(rng, seed, rank, NARROW + ROWS, channels=(1,))
    return geometry._replace(groups=rng.choice(CHANNELS), out_channels=rng.choice((1, 1, 2)))


def dense(rng, seed, rank):
    """A window that is the whole map."""
    sizes = tuple(rng.choice(NARROW) for _ in range(rank))
    geometry = draw(rng, seed, rank, (1,), others=(1,), batches=(1, 2, *SAMPLES))
    return geometry._replace(sizes=sizes, windows=tuple(Window(n) for n in sizes))


PROFILES = (mixed, mixed, mixed, wide_rows, many_samples, long_sums, many_taps, depthwise, dense)


def draw_axis(rng, outputs, kernel, input_dilation=True):
    """(input size, window, outputs) of one axis."""
    while True:
        window = Window(kernel, rng.choice((1, 1, 1, 2, 3, 4, 6)), rng.choice((1, 1, 1, 2, 3, 8)),
                        rng.choice((1, 1, 1, 1, 2, 3)) if input_dilation else 1)
        half, beyond = window.extent // 2, window.extent + 2
        low, high = rng.choice(((0, 0), (half, half), *[(rng.randint(0, beyond), rng.randint(0, beyond))] * 2))
        # The dilated input and its padding span `least` cells, or up to stride - 1 unused ones more.
        least = window.extent + (outputs - 1) * window.stride
        spans = [span - low - high for span in range(least, least + window.stride)]
        sizes = [(span - 1) // window.input_dilation + 1 for span in spans
                 if span >= 1 and (span - 1) % window.input_dilation == 0]
        sizes += [0] * (0 in spans and rng.random() < 0.1)
        if sizes:
            return rng.choice(sizes), window._replace(low=low, high=high), outputs


class PoolGeometry(NamedTuple):
    """A pooling: everything but the values."""

    seed: int
    batch: int
    channels: int
    sizes: tuple
    windows: tuple
    outputs: tuple
    ceil_mode: bool
    n_threads: int

    @property
    def x_shape(self):
        return (self.batch, self.channels, *self.sizes)

    @property
    def y_shape(self):
        return (self.batch, self.channels, *self.outputs)

    @property
    def parameters(self):
        """The arguments of a call that describe the windows."""
        return {"kernel_size": tuple(w.kernel for w in self.windows), "ceil_mode": self.ceil_mode,
                **pool_parameters(self.windows)}


def pooling(seed, rank=None, max_padding=None):
    rng = Random(seed)
    rank = rank or rng.choice((1, 2, 2, 2, 2, 3))
    while True:
        ceil_mode = rng.random() < 0.4
        axes = [draw_pool_axis(rng, rng.choice(NARROW), ceil_mode) for _ in range(rank - 1)]
        axes.append(draw_pool_axis(rng, rng.choice(NARROW + ROWS + WIDE), ceil_mode))
        sizes, windows, outputs = zip(*axes)
        geometry = PoolGeometry(seed, rng.choice((0, 1, 1, 2, 3)), rng.choice((*CHANNELS, 129, 140)), sizes, windows,
                                outputs, ceil_mode, rng.choice((1, 2, 3)))
        if max(prod(geometry.x_shape), prod(geometry.y_shape) * prod(w.kernel for w in windows)) <= MAX_PRODUCTS // 10:
            return geometry


def draw_pool_axis(rng, outputs, ceil_mode):
    """(input size, window, outputs) of one axis; in ceil mode the last window may hang over."""
    while True:
        size, window, n_out = draw_axis(rng, outputs, rng.choice((1, 2, 2, 3, 3, 4, 5, 9)), input_dilation=False)
        if ceil_mode:
            n_out += (size + window.low + window.high - window.extent) % window.stride > 0
            n_out -= (n_out - 1) * window.stride >= size + window.low
        if n_out > 0:
            return size, window, n_out


class Bins(NamedTuple):
    """An adaptive pooling: everything but the values."""

    seed: int
    batch: int
    channels: int
    sizes: tuple
    outputs: tuple
    n_threads: int

    @property
    def x_shape(self):
        return (self.batch, self.channels, *self.sizes)

    @property
    def y_shape(self):
        return (self.batch, self.channels, *self.outputs)


def adaptive(seed, rank=None):
    """Bins of several cells, of one, and more bins than cells."""
    rng = Random(seed)
    rank = rank or rng.choice((1, 2, 2, 2, 3))
    while True:
        outputs = [rng.choice((1, 1, *NARROW, rng.choice(ROWS))) for _ in range(rank)]
        sizes = [rng.choice((o, o * rng.randint(1, 9), o + rng.randint(0, 9), *NARROW, rng.choice(ROWS + WIDE)))
                 for o in outputs]
        geometry = Bins(seed, rng.choice((0, 1, 1, 2, 3)), rng.choice((*CHANNELS, 129, 140)), tuple(sizes),
                        tuple(outputs), rng.choice((1, 2, 3)))
        if max(prod(geometry.x_shape), prod(geometry.y_shape)) <= MAX_PRODUCTS // 20 and prod(outputs) <= 400:
            return geometry
