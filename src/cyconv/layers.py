"""Layers: what each computes from which shapes, its parameters, its forward pass and its gradient.

A layer holds the literal arguments of its constructor and nothing else. Shapes here are those of one
sample, ``(C, *spatial)`` whatever the layout of the arrays, or ``(F,)`` once there is no map any more;
the number of spatial axes makes a layer 1-D, 2-D or 3-D. ``forward(x, params, mode)`` returns ``y`` and
a function ``backward(dy)`` that returns ``dx`` and the gradients of the parameters; it is a closure over
the arrays of that very call, so no layer stores an activation. How layers are joined is in `network`.
"""

from dataclasses import dataclass, fields
from math import prod, sqrt
from typing import Any, NamedTuple

import numpy as np

from . import functional
from ._geometry import output_sizes, per_axis, windows

__all__ = ["Layer", "Mode", "Conv", "MaxPool", "AvgPool", "ReLU", "Flatten", "Dense", "Dropout"]

NO_PARAMETERS = {}


class Mode(NamedTuple):
    """How a layer is to run.

    Parameters
    ----------
    training : bool, default False
        False: `Dropout` passes its input on, and `backward` is None.
    data_format : {"channels_first", "channels_last"}, default "channels_first"
        Layout of x and y: (N, C, *spatial) or (N, *spatial, C). Parameters have one layout only.
    n_threads : int or None, default None
        As for the functions of `cyconv.functional`; the result does not depend on it.
    rng : numpy.random.Generator or None, default None
        The stream that `Dropout` draws from; needed when training with it.
    needs_input_grad : bool, default True
        False: `backward` returns None for dx and saves the work.
    """

    training: bool = False
    data_format: str = "channels_first"
    n_threads: Any = None
    rng: Any = None
    needs_input_grad: bool = True


PREDICTING = Mode()


class Layer:
    """What all layers share; a subclass is a dataclass of literal arguments."""

    def get_params(self, deep=True):
        """Arguments of the constructor by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def set_params(self, **params):
        """Change arguments of the constructor; ValueError for a name it does not have."""
        known = [field.name for field in fields(self)]
        for name, value in params.items():
            if name not in known:
                raise ValueError(f"{type(self).__name__}: no parameter {name!r}; it has {', '.join(known) or 'none'}")
            setattr(self, name, value)
        return self

    def __repr__(self):
        changed = [f"{field.name}={getattr(self, field.name)!r}" for field in fields(self)
                   if getattr(self, field.name) != field.default]
        return f"{type(self).__name__}({', '.join(changed)})"

    def output_shape(self, input_shape):
        """Shape of one output sample for one input sample; ValueError when it cannot be."""
        return tuple(input_shape)

    def parameter_shapes(self, input_shape):
        """Shapes of the parameters by name, weights before biases."""
        return {}

    def n_params(self, input_shape):
        """Number of parameters."""
        return sum(map(prod, self.parameter_shapes(input_shape).values()))

    def n_macs(self, input_shape):
        """Multiplications by a weight for one sample, those with padded zeros included."""
        return 0

    def window(self, input_shape):
        """(kernel_size, stride, dilation) per spatial axis: the layer's part in a receptive field."""
        return ((1, 1, 1),) * (len(input_shape) - 1)

    def initialize(self, input_shape, rng, dtype=np.float32):
        """New parameters by name: uniform weights of variance 2 / fan_in, zero biases.

        Uniform numbers come from the generator without any logarithm or sine, so a seed gives the same
        weights on every machine. They are drawn in float64, so it gives the same network in either dtype.

        References
        ----------
        He, Zhang, Ren, Sun: Delving deep into rectifiers, ICCV 2015, section 2.2.
        """
        shapes = self.parameter_shapes(input_shape)
        params = {name: np.zeros(shape, dtype) for name, shape in shapes.items()}
        if "weight" in params:
            weight = params["weight"]
            limit = sqrt(6 / max(prod(weight.shape[1:]), 1))
            weight[...] = limit * (2 * rng.random(weight.shape) - 1)
        return params

    def forward(self, x, params=NO_PARAMETERS, mode=PREDICTING):
        """Output for a batch, and the function that carries gradients back.

        Parameters
        ----------
        x : ndarray of shape (N, C, *spatial), (N, *spatial, C) or (N, F), float32 or float64
            In the layout of ``mode.data_format``.
        params : dict of str to ndarray
            Parameters of this layer, as made by `initialize`.
        mode : Mode
            How to run.

        Returns
        -------
        y : ndarray of shape (N, *output_shape) in the layout of x
        backward : callable or None
            ``backward(dy) -> (dx, gradients)``; dx is None unless ``mode.needs_input_grad``, gradients
            are a dict with the names of params. None unless ``mode.training``.
        """
        raise NotImplementedError


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


@dataclass(repr=False)
class ReLU(Layer):
    """max(x, 0), element by element; its gradient at 0 is 0."""

    def forward(self, x, params=NO_PARAMETERS, mode=PREDICTING):
        y = functional.relu(x, n_threads=mode.n_threads)
        if not mode.training:
            return y, None
        return y, lambda dy: (functional.relu_backward(dy, y, n_threads=mode.n_threads), {})


@dataclass(repr=False)
class Flatten(Layer):
    """All values of a sample as one vector, in the order (C, *spatial) for either layout.

    Examples
    --------
    >>> Flatten().output_shape((32, 7, 7))
    (1568,)
    """

    def output_shape(self, input_shape):
        return (prod(input_shape),)

    def window(self, input_shape):
        return ()

    def forward(self, x, params=NO_PARAMETERS, mode=PREDICTING):
        y, restore = flatten(x, mode.data_format)
        return y, (lambda dy: (restore(dy), {})) if mode.training else None


@dataclass(repr=False)
class Dense(Layer):
    """Every output is a weighted sum of all inputs.

    The input may be a map or a vector; the features of a map count in the order (C, *spatial) for either
    layout, as behind a `Flatten`. Computed as a convolution of one cell with as many channels as features.

    Parameters
    ----------
    units : int
        Number of outputs, at least 1.
    bias : bool, default True
        Whether a bias is added to each output.

    Examples
    --------
    >>> Dense(10).n_params((32, 2, 2))
    1290
    """

    units: int
    bias: bool = True

    def output_shape(self, input_shape):
        return self.parameter_shapes(input_shape)["weight"][:1]

    def parameter_shapes(self, input_shape):
        units, = per_axis("Dense", "units", self.units, 1, 1)
        shapes = {"weight": (units, prod(input_shape))}
        return shapes | {"bias": (units,)} if self.bias else shapes

    def n_macs(self, input_shape):
        return self.units * prod(input_shape)

    def window(self, input_shape):
        return tuple((size, 1, 1) for size in input_shape[1:])

    def forward(self, x, params, mode=PREDICTING):
        rows, restore = flatten(x, mode.data_format)
        cells = rows[:, :, None]
        weight = params["weight"]
        kernel = weight[:, :, None]
        y = functional.conv(cells, kernel, params.get("bias"), n_threads=mode.n_threads)[:, :, 0]
        if not mode.training:
            return y, None
        needs = tuple(params) if not mode.needs_input_grad else ("x", *params)

        def backward(dy):
            grads = functional.conv_backward(dy[:, :, None], cells, kernel, needs=needs, n_threads=mode.n_threads)
            dx = restore(grads.x[:, :, 0]) if mode.needs_input_grad else None
            return dx, {name: getattr(grads, name).reshape(params[name].shape) for name in params}

        return y, backward


@dataclass(repr=False)
class Dropout(Layer):
    """In training, sets each value to zero with probability ``rate`` and divides the others by 1 - rate.

    The random numbers are drawn in the order (N, C, *spatial), so they depend on the generator alone and
    neither on the layout nor on the number of threads.

    Parameters
    ----------
    rate : float in [0, 1)
        Probability of a zero.

    References
    ----------
    Srivastava et al.: Dropout: a simple way to prevent neural networks from overfitting, JMLR 15, 2014.
    """

    rate: float = 0.5

    def output_shape(self, input_shape):
        if not 0 <= self.rate < 1:
            raise ValueError(f"Dropout: rate must be in [0, 1), got {self.rate!r}")
        return tuple(input_shape)

    def forward(self, x, params=NO_PARAMETERS, mode=PREDICTING):
        if not mode.training:
            return x, None
        if self.rate == 0:
            return x, lambda dy: (dy, {})
        if mode.rng is None:
            raise ValueError("Dropout: training needs a numpy.random.Generator in mode.rng")
        channels_last = mode.data_format == "channels_last" and x.ndim > 2
        shape = np.moveaxis(x, -1, 1).shape if channels_last else x.shape
        kept = mode.rng.random(shape, np.float32) >= self.rate
        factor = kept * x.dtype.type(1 / (1 - self.rate))
        if channels_last:
            factor = np.moveaxis(factor, 1, -1)
        return x * factor, lambda dy: (dy * factor, {})


# ---------------------------------------------------------------- vectors, windows

def flatten(x, data_format):
    """x as rows (N, F) in the order (C, *spatial), and the function that gives rows the shape of x."""
    is_last = data_format == "channels_last" and x.ndim > 2
    first = np.moveaxis(x, -1, 1) if is_last else x
    shape = first.shape

    def restore(rows):
        return np.moveaxis(rows.reshape(shape), 1, -1) if is_last else rows.reshape(shape)

    return first.reshape(len(x), prod(shape[1:])), restore


def window_per_axis(function, layer, input_shape):
    """(kernel_size, stride, dilation) of every spatial axis of a layer with a window."""
    return tuple((w.kernel, w.stride, w.dilation) for w in layer_windows(function, layer, input_shape))


def window_output(function, layer, input_shape):
    """Spatial output sizes of a layer with a window."""
    found = layer_windows(function, layer, input_shape)
    return output_sizes(function, input_shape[1:], found, getattr(layer, "ceil_mode", False))


def layer_windows(function, layer, input_shape):
    if not 2 <= len(input_shape) <= 4:
        raise ValueError(f"{function}: input must have shape (C, L), (C, H, W) or (C, D, H, W), "
                         f"got {tuple(input_shape)}")
    stride = layer.kernel_size if layer.stride is None else layer.stride
    return windows(function, input_shape[1:], layer.kernel_size, stride, layer.padding, layer.dilation)
