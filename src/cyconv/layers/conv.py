"""Convolutional layers: all run the function of their kind, in as many dimensions as the input has."""

from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np

from .. import functional
from .._geometry import per_axis, transposed_windows
from ..functional._borders import mode_named
from ..functional._plans import adjoint, forward, grad_weight, options, prepare
from ..functional._ranked import team
from ..functional.transposed import grad_weight_transposed
from ..functional.transposed import prepare as prepare_transposed
from ._layer import Layer, sample_shape, window_output, window_per_axis


class Convolution(Layer):
    """What convolutional layers share; ``kind`` is that of the weight in `cyconv.functional`."""

    keeps_output = False
    kind = "plain"
    options = ("stride", "padding", "dilation", "groups", "padding_mode")

    @property
    def name(self):
        return type(self).__name__

    def output_shape(self, input_shape):
        mode_named(self.name, self.padding_mode)
        return (self.group_shape(input_shape)[0], *window_output(self.name, self, input_shape))

    def channels_out(self, input_shape):
        return per_axis(self.name, "out_channels", self.out_channels, 1, 1)[0]

    def kernel(self, input_shape):
        return per_axis(self.name, "kernel_size", self.kernel_size, len(input_shape) - 1, 1)

    def group_shape(self, input_shape):
        """(out_channels, in_channels of a group)"""
        channels, out_channels = input_shape[0], self.channels_out(input_shape)
        groups, = per_axis(self.name, "groups", self.groups, 1, 1)
        if channels % groups or out_channels % groups:
            raise ValueError(f"{self.name}: groups={groups} must divide the {channels} channels of the input "
                             f"and out_channels={out_channels}")
        return out_channels, channels // groups

    def weight_shape(self, input_shape):
        return (*self.group_shape(input_shape), *self.kernel(input_shape))

    def parameter_shapes(self, input_shape):
        shapes = {"weight": self.weight_shape(input_shape)}
        return shapes | {"bias": (self.channels_out(input_shape),)} if self.bias else shapes

    def fan_in(self, weight_shape, input_shape):
        return prod(weight_shape[-len(input_shape):])

    def n_macs(self, input_shape):
        return prod(self.output_shape(input_shape)) * self.fan_in(self.weight_shape(input_shape), input_shape)

    def window(self, input_shape):
        return window_per_axis(self.name, self, input_shape)

    def call(self, shape, weight_shape, dtype, mode):
        """The planned call for batches of ``shape``."""
        return prepare(self.name, shape, weight_shape, dtype, self.how(mode), self.kind)

    def how(self, mode):
        return options(self.name, mode.data_format, **{name: getattr(self, name) for name in self.options})

    def bind(self, shape, dtype, mode):
        call = self.call(shape, self.weight_shape(sample_shape(shape, mode.data_format)), dtype, mode)
        return self.bound(call, forward(call), adjoint(call), grad_weight(call), call.plan.out_shape, shape, mode)

    def bound(self, call, write, write_dx, write_gradients, y_shape, x_shape, mode):
        """``run`` of `Layer.bind` by the functions that carry out a call."""
        n_threads = team(self.name, mode.n_threads, call.plan.work, awake=True)
        y = np.empty(y_shape, call.dtype)
        own = np.empty(x_shape, call.dtype) if mode.training and mode.needs_input_grad else None

        def run(x, params, rng=None):
            weight = params["weight"]
            write(x, weight, params.get("bias"), y, n_threads)

            def backward(dy, gradients):
                write_gradients(dy, x, gradients["weight"], gradients.get("bias"), n_threads)
                if own is None:
                    return None
                dx = x if mode.in_place and x.flags.carray else own
                write_dx(dy, weight, None, dx, n_threads)
                return dx

            return y, backward

        return run


@dataclass(repr=False)
class Conv(Convolution):
    """Convolution in as many dimensions as the input has.

    Parameters
    ----------
    out_channels : int
        Number of filters, at least 1.
    kernel_size, stride, padding, dilation, groups, padding_mode
        As for `cyconv.conv2d`; a number counts for every axis.
    bias : bool, default True
        Whether a bias is added to each output channel.

    Examples
    --------
    >>> Conv(16, kernel_size=3, padding="same").output_shape((1, 28, 28))
    (16, 28, 28)
    >>> Conv(64, 3).n_params((3, 224, 224))
    1792
    """

    out_channels: int
    kernel_size: Any = 3
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1
    bias: bool = True
    padding_mode: str = "zeros"


@dataclass(repr=False)
class ConvTranspose(Convolution):
    """Transposed convolution, which enlarges a map by its stride.

    Parameters
    ----------
    out_channels : int
        Number of output channels, at least 1.
    kernel_size, stride, padding, output_padding, dilation, groups
        As for `cyconv.conv_transpose2d`; a number counts for every axis.
    bias : bool, default True
        Whether a bias is added to each output channel.

    Examples
    --------
    >>> ConvTranspose(8, kernel_size=2, stride=2).output_shape((16, 7, 7))
    (8, 14, 14)
    """

    out_channels: int
    kernel_size: Any = 3
    stride: Any = 1
    padding: Any = 0
    output_padding: Any = 0
    dilation: Any = 1
    groups: int = 1
    bias: bool = True

    options = ("stride", "padding", "dilation", "groups")

    def output_shape(self, input_shape):
        return (self.group_shape(input_shape)[0], *self.windows(input_shape)[1])

    def windows(self, input_shape):
        return transposed_windows(self.name, input_shape[1:], self.kernel_size, self.stride, self.padding,
                                  self.dilation, self.output_padding)

    def weight_shape(self, input_shape):
        out_channels, _ = self.group_shape(input_shape)
        return (input_shape[0], out_channels // self.groups, *self.kernel(input_shape))

    def fan_in(self, weight_shape, input_shape):
        strides = per_axis(self.name, "stride", self.stride, len(input_shape) - 1, 1)
        return weight_shape[0] // self.groups * prod(weight_shape[2:]) / prod(strides)

    def n_macs(self, input_shape):
        return prod(input_shape[1:]) * prod(self.weight_shape(input_shape))

    def window(self, input_shape):
        """One output sees the inputs of the taps that are a multiple of the stride apart."""
        return tuple((w.kernel, Fraction(1, w.stride), Fraction(w.dilation, w.stride))
                     for w in self.windows(input_shape)[0])

    def bind(self, shape, dtype, mode):
        weight_shape = self.weight_shape(sample_shape(shape, mode.data_format))
        call = prepare_transposed(self.name, shape, weight_shape, dtype, self.how(mode), self.output_padding)
        return self.bound(call, adjoint(call), forward(call), grad_weight_transposed(call), call.plan.x_shape, shape,
                          mode)


@dataclass(repr=False)
class DepthwiseConv(Convolution):
    """Convolution of each channel with kernels of its own.

    Parameters
    ----------
    multiplier : int, default 1
        Kernels, and so output channels, for each input channel.
    kernel_size, stride, padding, dilation, padding_mode
        As for `cyconv.depthwise_conv2d`; a number counts for every axis.
    bias : bool, default True
        Whether a bias is added to each output channel.

    Examples
    --------
    >>> DepthwiseConv(kernel_size=3).n_params((16, 8, 8))
    160
    """

    multiplier: int = 1
    kernel_size: Any = 3
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    bias: bool = True
    padding_mode: str = "zeros"

    options = ("stride", "padding", "dilation", "groups", "padding_mode")
    groups = None       # as many as channels

    def channels_out(self, input_shape):
        return input_shape[0] * per_axis(self.name, "multiplier", self.multiplier, 1, 1)[0]

    def group_shape(self, input_shape):
        return self.channels_out(input_shape), 1


@dataclass(repr=False)
class TiledConv(Convolution):
    """Convolution with several sets of weights that take turns along every axis.

    Parameters
    ----------
    out_channels : int
        Number of filters of a set, at least 1.
    kernel_size, stride, padding, dilation, groups, padding_mode
        As for `cyconv.tiled_conv2d`; a number counts for every axis.
    tiles : int or tuple of int, default 2
        Numbers of sets of weights per axis.
    bias : bool, default True
        Whether a bias is added to each output channel.

    Examples
    --------
    >>> TiledConv(4, kernel_size=3, tiles=2).n_params((1, 8, 8))
    148
    """

    out_channels: int
    kernel_size: Any = 3
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1
    tiles: Any = 2
    bias: bool = True
    padding_mode: str = "zeros"

    kind = "tiled"

    def weight_shape(self, input_shape):
        tiles = per_axis(self.name, "tiles", self.tiles, len(input_shape) - 1, 1)
        return (*tiles, *super().weight_shape(input_shape))


@dataclass(repr=False)
class LocalConv(Convolution):
    """Locally connected layer: a convolution with weights of its own for every output position.

    Parameters
    ----------
    out_channels : int
        Number of filters, at least 1.
    kernel_size, stride, padding, dilation, groups, padding_mode
        As for `cyconv.local_conv2d`; a number counts for every axis.
    bias : bool, default True
        Whether a bias is added to each output channel.

    Examples
    --------
    >>> LocalConv(4, kernel_size=3).n_params((1, 8, 8))
    1300
    """

    out_channels: int
    kernel_size: Any = 3
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1
    bias: bool = True
    padding_mode: str = "zeros"

    kind = "local"

    def weight_shape(self, input_shape):
        return (*self.output_shape(input_shape)[1:], *super().weight_shape(input_shape))


@dataclass(repr=False)
class SeparableConv(Convolution):
    """Depthwise convolution, then a mixing of the channels at every position.

    Parameters
    ----------
    out_channels : int
        Number of output channels, at least 1.
    kernel_size, stride, padding, dilation, padding_mode
        As for `cyconv.separable_conv2d`; a number counts for every axis.
    multiplier : int, default 1
        Kernels of the depthwise convolution for each input channel.
    bias : bool, default True
        Whether a bias is added to each output channel.

    Examples
    --------
    >>> SeparableConv(64, kernel_size=3, bias=False).n_params((32, 28, 28))     # 32 * 9 + 32 * 64
    2336
    """

    out_channels: int
    kernel_size: Any = 3
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    multiplier: int = 1
    bias: bool = True
    padding_mode: str = "zeros"

    def group_shape(self, input_shape):
        return self.channels_out(input_shape), input_shape[0]

    def parameter_shapes(self, input_shape):
        multiplier, = per_axis(self.name, "multiplier", self.multiplier, 1, 1)
        out_channels, channels = self.channels_out(input_shape), input_shape[0] * multiplier
        shapes = {"depthwise_weight": (channels, 1, *self.kernel(input_shape)),
                  "pointwise_weight": (out_channels, channels)}
        return shapes | {"bias": (out_channels,)} if self.bias else shapes

    def fan_in(self, weight_shape, input_shape):
        return prod(weight_shape[1:])

    def n_macs(self, input_shape):
        shapes = self.parameter_shapes(input_shape)
        weights = prod(shapes["depthwise_weight"]) + prod(shapes["pointwise_weight"])
        return prod(self.output_shape(input_shape)[1:]) * weights

    def bind(self, shape, dtype, mode):
        return Layer.bind(self, shape, dtype, mode)

    def compute(self, x, params, mode):
        how = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation,
               "padding_mode": self.padding_mode, "data_format": mode.data_format, "n_threads": mode.n_threads}
        weights = params["depthwise_weight"], params["pointwise_weight"]
        y = functional.separable_conv(x, *weights, params.get("bias"), **how)
        if not mode.training:
            return y, None
        needs = tuple(params) if not mode.needs_input_grad else ("x", *params)

        def backward(dy):
            grads = functional.separable_conv_backward(dy, x, *weights, needs=needs, **how)
            return grads.x, {name: getattr(grads, name) for name in params}

        return y, backward
