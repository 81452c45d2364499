"""Convolutional layers."""

from dataclasses import dataclass
from math import prod
from typing import Any

from .. import functional
from .._geometry import per_axis
from ._layer import PREDICTING, Layer, window_output, window_per_axis


@dataclass(repr=False)
class Conv(Layer):
    """Convolution in as many dimensions as the input has.

    Parameters
    ----------
    out_channels : int
        Number of filters, at least 1.
    kernel_size, stride, padding, dilation, groups
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

    def output_shape(self, input_shape):
        spatial = window_output("Conv", self, input_shape)
        return (self.parameter_shapes(input_shape)["weight"][0], *spatial)

    def parameter_shapes(self, input_shape):
        channels, *sizes = input_shape
        out_channels, = per_axis("Conv", "out_channels", self.out_channels, 1, 1)
        groups, = per_axis("Conv", "groups", self.groups, 1, 1)
        if channels % groups or out_channels % groups:
            raise ValueError(f"Conv: groups={groups} must divide the {channels} channels of the input "
                             f"and out_channels={out_channels}")
        kernel = per_axis("Conv", "kernel_size", self.kernel_size, len(sizes), 1)
        shapes = {"weight": (out_channels, channels // groups, *kernel)}
        return shapes | {"bias": (out_channels,)} if self.bias else shapes

    def n_macs(self, input_shape):
        weight = self.parameter_shapes(input_shape)["weight"]
        return prod(self.output_shape(input_shape)) * prod(weight[1:])

    def window(self, input_shape):
        return window_per_axis("Conv", self, input_shape)

    def forward(self, x, params, mode=PREDICTING):
        weight, bias = params["weight"], params.get("bias")
        how = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups,
               "data_format": mode.data_format, "n_threads": mode.n_threads}
        y = functional.conv(x, weight, bias, **how)
        if not mode.training:
            return y, None
        needs = tuple(params) if not mode.needs_input_grad else ("x", *params)

        def backward(dy):
            grads = functional.conv_backward(dy, x, weight, needs=needs, **how)
            return grads.x, {name: getattr(grads, name) for name in params}

        return y, backward
