"""Pooling layers."""

from dataclasses import dataclass
from typing import Any

from .. import functional
from ._layer import NO_PARAMETERS, PREDICTING, Layer, window_output, window_per_axis


@dataclass(repr=False)
class MaxPool(Layer):
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

    kernel_size: Any = 2
    stride: Any = None
    padding: Any = 0
    dilation: Any = 1
    ceil_mode: bool = False

    def output_shape(self, input_shape):
        return (input_shape[0], *window_output("MaxPool", self, input_shape))

    def window(self, input_shape):
        return window_per_axis("MaxPool", self, input_shape)

    def forward(self, x, params=NO_PARAMETERS, mode=PREDICTING):
        how = {"dilation": self.dilation, "ceil_mode": self.ceil_mode, "data_format": mode.data_format,
               "n_threads": mode.n_threads}
        if not mode.training:
            return functional.max_pool(x, self.kernel_size, self.stride, self.padding, **how), None
        y, indices = functional.max_pool(x, self.kernel_size, self.stride, self.padding, return_indices=True, **how)
        shape = x.shape

        def backward(dy):
            return functional.max_pool_backward(
                dy, indices, shape, data_format=mode.data_format, n_threads=mode.n_threads), {}

        return y, backward


@dataclass(repr=False)
class AvgPool(Layer):
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

    kernel_size: Any = 2
    stride: Any = None
    padding: Any = 0
    dilation: Any = 1
    ceil_mode: bool = False
    count_include_pad: bool = True

    def output_shape(self, input_shape):
        return (input_shape[0], *window_output("AvgPool", self, input_shape))

    def window(self, input_shape):
        return window_per_axis("AvgPool", self, input_shape)

    def forward(self, x, params=NO_PARAMETERS, mode=PREDICTING):
        how = {"dilation": self.dilation, "ceil_mode": self.ceil_mode, "count_include_pad": self.count_include_pad,
               "data_format": mode.data_format, "n_threads": mode.n_threads}
        y = functional.avg_pool(x, self.kernel_size, self.stride, self.padding, **how)
        if not mode.training:
            return y, None
        shape = x.shape

        def backward(dy):
            return functional.avg_pool_backward(
                dy, shape, self.kernel_size, self.stride, self.padding, **how), {}

        return y, backward
