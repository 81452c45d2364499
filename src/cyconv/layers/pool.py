"""Pooling layers: of windows, of whole planes, of bins, and of groups of channels."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from .. import _kernels, functional
from .._arrays import aligned_zeros
from .._geometry import per_axis
from ..functional._pooling import (
    WORK_PER_CELL,
    bin_sizes,
    extremes,
    norm_order,
    prepare,
    prepare_bins,
    sums,
    sums_backward,
)
from ..functional._ranked import team
from ._layer import Layer, window_output, window_per_axis

# Windows of at most so many taps have these numbered in bytes.
BYTE_TAPS = 255

# Of the kinds that add up: what the sum is divided by, 0 for the number of cells.
DIVISORS = {"avg": 0.0, "sum": 1.0}

# What the gradient of each kind is made of, besides the parameters of its windows.
NEEDS = {"max": "indices", "min": "indices", "avg": "shape", "sum": "shape", "lp": "result"}


def run(kind, pattern, x, arguments, options, mode, again=((), {})):
    """y and backward by the functions that ``pattern`` names; ``again``: parameters that the gradient takes."""
    function = getattr(functional, pattern.format(kind))
    gradient = getattr(functional, f"{pattern.format(kind)}_backward")
    how = {"data_format": mode.data_format, "n_threads": mode.n_threads}
    if not mode.training:
        return function(x, *arguments, **options, **how), None
    if NEEDS[kind] == "indices":
        y, indices = function(x, *arguments, **options, return_indices=True, **how)
        known, again = (indices, x.shape), ((), {})
    else:
        y = function(x, *arguments, **options, **how)
        known = (x, y) if NEEDS[kind] == "result" else (x.shape,)
    arguments, options = again
    return y, lambda dy: (gradient(dy, *known, *arguments, **options, **how), {})


@dataclass(repr=False)
class WindowPool(Layer):
    """What layers share that pool windows, channel by channel. A subclass says its ``kind``."""

    kernel_size: Any = 2
    stride: Any = None
    padding: Any = 0
    dilation: Any = 1
    ceil_mode: bool = False

    def output_shape(self, input_shape):
        return (input_shape[0], *window_output(type(self).__name__, self, input_shape))

    def window(self, input_shape):
        return window_per_axis(type(self).__name__, self, input_shape)

    def parameters(self):
        """Of the function of this kind: what it takes by position, and by name."""
        return (self.kernel_size, self.stride, self.padding), {"dilation": self.dilation, "ceil_mode": self.ceil_mode}

    def compute(self, x, params, mode):
        arguments, options = self.parameters()
        return run(self.kind, "{}_pool", x, arguments, options, mode, again=(arguments, options))


@dataclass(repr=False)
class ExtremePool(WindowPool):
    """What maximum and minimum share: their gradients follow the index of the winner."""

    keeps_output = False

    def bind(self, shape, dtype, mode, rectify=False):
        """``rectify``: a rectifier follows, and its result is wanted; in prediction."""
        channels_last = mode.data_format == "channels_last"
        plan = prepare(type(self).__name__, shape, self.kernel_size, self.stride, self.padding, self.dilation,
                       self.ceil_mode, channels_last)
        kernels, n_threads = _kernels.kernels[dtype], team(plan.function, mode.n_threads, plan.work * WORK_PER_CELL,
                                                         awake=True)
        smallest, is_numbered = self.kind == "min", plan.n_taps <= BYTE_TAPS
        result = aligned_zeros(plan.out_shape, dtype)
        taps = np.empty(plan.out_shape, np.uint8) if mode.training and is_numbered else None
        gradient = np.empty(shape, dtype) if mode.training and mode.needs_input_grad else None

        def run(x, params, rng=None):
            y, index = result, taps
            if mode.training and not is_numbered:
                y, index = extremes(plan, dtype, dtype, smallest, True, channels_last, mode.n_threads)(x)
            elif y.size:
                kernels.extreme_pool(x, y, taps, plan.table, plan.windows, smallest, rectify, channels_last, n_threads)

            def backward(dy, gradients):
                if gradient is None:
                    return None
                dy, dx = np.ascontiguousarray(dy), x if mode.in_place and x.flags.carray else gradient
                if is_numbered and y.size:
                    kernels.extreme_pool_backward(dy, taps, dx, plan.table, plan.windows, channels_last, n_threads)
                else:
                    kernels.max_pool_backward(dy, index, dx, channels_last, n_threads)
                return dx

            return y, backward

        return run


@dataclass(repr=False)
class MaxPool(ExtremePool):
    """Largest value of each window, channel by channel.

    Parameters
    ----------
    kernel_size, stride, padding, dilation, ceil_mode
        As for `cyconv.max_pool2d`; a number counts for every axis. ``stride=None`` is kernel_size.

    Examples
    --------
    >>> MaxPool(2).output_shape((16, 28, 28))
    (16, 14, 14)
    """

    kind = "max"


@dataclass(repr=False)
class MinPool(ExtremePool):
    """Smallest value of each window, channel by channel.

    Parameters
    ----------
    kernel_size, stride, padding, dilation, ceil_mode
        As for `MaxPool`.
    """

    kind = "min"


@dataclass(repr=False)
class SumPool(WindowPool):
    """Sum of each window, channel by channel.

    Parameters
    ----------
    kernel_size, stride, padding, dilation, ceil_mode
        As for `MaxPool`.
    """

    kind = "sum"


@dataclass(repr=False)
class AvgPool(WindowPool):
    """Mean of each window, channel by channel.

    Parameters
    ----------
    kernel_size, stride, padding, dilation, ceil_mode, count_include_pad
        As for `cyconv.avg_pool2d`; a number counts for every axis. ``stride=None`` is kernel_size.

    Examples
    --------
    >>> AvgPool(3, stride=2).output_shape((16, 7, 7))
    (16, 3, 3)
    """

    kind = "avg"
    count_include_pad: bool = True

    def parameters(self):
        arguments, options = super().parameters()
        return arguments, options | {"count_include_pad": self.count_include_pad}


@dataclass(repr=False)
class Order:
    """The first argument of `LpPool`, which comes before those that it inherits."""

    p: Any = 2


@dataclass(repr=False)
class LpPool(WindowPool, Order):
    """Norm of each window, channel by channel.

    Parameters
    ----------
    p : float, default 2
        Order of the norm, > 0 or infinity.
    kernel_size, stride, padding, dilation, ceil_mode
        As for `MaxPool`.

    Examples
    --------
    >>> LpPool(3, kernel_size=2)
    LpPool(p=3)
    """

    kind = "lp"

    def output_shape(self, input_shape):
        norm_order("LpPool", self.p)
        return super().output_shape(input_shape)

    def parameters(self):
        arguments, options = super().parameters()
        return (self.p, *arguments), options


@dataclass(repr=False)
class GlobalPool(Layer):
    """One number for each channel: its mean, maximum, minimum, sum or norm over the whole map.

    The result is a vector, as behind a `Flatten`.

    Parameters
    ----------
    kind : {"avg", "max", "min", "sum", "lp"}, default "avg"
        What is computed.
    p : float, default 2
        Order of the norm for kind "lp", > 0 or infinity.

    Examples
    --------
    >>> GlobalPool().output_shape((16, 7, 7))
    (16,)
    """

    kind: str = "avg"
    p: Any = 2

    @property
    def keeps_output(self):
        return self.kind == "lp"

    def output_shape(self, input_shape):
        check_kind("GlobalPool", self.kind, tuple(NEEDS))
        check_map("GlobalPool", input_shape)
        if self.kind == "lp":
            norm_order("GlobalPool", self.p)
        return tuple(input_shape[:1])

    def window(self, input_shape):
        return tuple((size, 1, 1) for size in input_shape[1:])

    def bind(self, shape, dtype, mode):
        if self.kind not in DIVISORS:
            return super().bind(shape, dtype, mode)
        channels_last = mode.data_format == "channels_last"
        plan = prepare_bins("GlobalPool", shape, 1, channels_last)
        how = DIVISORS[self.kind], False, channels_last, mode.n_threads
        forward, into = sums(plan, dtype, *how), sums_backward(plan, dtype, shape, *how)
        rows = shape[0], prod(plan.out_shape[1:])

        def run(x, params, rng=None):
            def backward(dy, gradients):
                return into(dy.reshape(plan.out_shape), x if mode.in_place and x.flags.carray else None)

            return forward(x).reshape(rows), backward

        return run

    def compute(self, x, params, mode):
        arguments = (self.p,) if self.kind == "lp" else ()
        return run(self.kind, "global_{}_pool", x, arguments, {"keepdims": False}, mode, again=(arguments, {}))


@dataclass(repr=False)
class AdaptivePool(Layer):
    """Mean or maximum of a given number of bins per axis, whatever the size of the map.

    Parameters
    ----------
    output_size : int, None, or tuple of these
        Bins per axis, at least 1; None for as many as the axis has cells. As for
        `cyconv.adaptive_avg_pool2d`.
    kind : {"avg", "max"}, default "avg"
        What is computed.

    Examples
    --------
    >>> AdaptivePool((4, None)).output_shape((16, 30, 7))
    (16, 4, 7)
    """

    output_size: Any
    kind: str = "avg"

    def output_shape(self, input_shape):
        check_kind("AdaptivePool", self.kind, ("avg", "max"))
        check_map("AdaptivePool", input_shape)
        sizes = bin_sizes("AdaptivePool", self.output_size, input_shape[1:])
        if 0 in sizes:
            raise ValueError(f"AdaptivePool: output_size must be >= 1, got {self.output_size!r}")
        return (input_shape[0], *sizes)

    def window(self, input_shape):
        """The largest bin, at the mean step; bins of one axis differ by a cell."""
        outputs = self.output_shape(input_shape)[1:]
        return tuple((max(-(-(i + 1) * n // o) - i * n // o for i in range(o)), max(n // o, 1), 1)
                     for n, o in zip(input_shape[1:], outputs))

    def compute(self, x, params, mode):
        return run(self.kind, "adaptive_{}_pool", x, (self.output_size,), {}, mode)


@dataclass(repr=False)
class Maxout(Layer):
    """Largest of each group of channels that follow each other, cell by cell.

    Parameters
    ----------
    pieces : int, default 2
        Channels, or values of a vector, in a group; divides their number.

    References
    ----------
    Goodfellow, Warde-Farley, Mirza, Courville, Bengio: Maxout networks, ICML 2013.

    Examples
    --------
    >>> Maxout(4).output_shape((16, 28, 28))
    (4, 28, 28)
    """

    pieces: int = 2

    def output_shape(self, input_shape):
        pieces, = per_axis("Maxout", "pieces", self.pieces, 1, 1)
        if input_shape[0] % pieces:
            raise ValueError(f"Maxout: pieces={pieces} must divide the {input_shape[0]} channels of the input")
        return (input_shape[0] // pieces, *input_shape[1:])

    def compute(self, x, params, mode):
        axis = -1 if mode.data_format == "channels_last" else 1
        how = {"axis": axis, "n_threads": mode.n_threads}
        if not mode.training:
            return functional.maxout(x, self.pieces, **how), None
        y, indices = functional.maxout(x, self.pieces, return_indices=True, **how)
        return y, lambda dy: (functional.maxout_backward(dy, indices, self.pieces, **how), {})


def check_kind(layer, kind, kinds):
    if kind not in kinds:
        raise ValueError(f"{layer}: kind must be one of {', '.join(map(repr, kinds))}, got {kind!r}")


def check_map(layer, input_shape):
    if not 2 <= len(input_shape) <= 4:
        raise ValueError(f"{layer}: input must have shape (C, L), (C, H, W) or (C, D, H, W), got {tuple(input_shape)}")
