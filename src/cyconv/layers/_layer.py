"""What all layers share: the protocol, and the arithmetic of windows and vectors."""

from dataclasses import fields
from math import prod, sqrt
from typing import Any, NamedTuple

import numpy as np

from .._arrays import as_array, is_channels_last
from .._geometry import output_sizes, windows
from .._scalars import checked_flag

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
    in_place : bool, default False
        True: a bound layer may write its result and dx over x, and dx over dy.
    """

    training: bool = False
    data_format: str = "channels_first"
    n_threads: Any = None
    rng: Any = None
    needs_input_grad: bool = True
    in_place: bool = False


PREDICTING = Mode()


class Layer:
    """What all layers share; a subclass is a dataclass of literal arguments."""

    keeps_output = True     # for its gradient, or its output may be its input

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

    def state_shapes(self, input_shape):
        """Shapes by name of the arrays that training updates in passing and no optimizer changes."""
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
        for name, weight in params.items():
            if name.endswith("weight"):
                limit = sqrt(6 / max(self.fan_in(weight.shape, input_shape), 1))
                weight[...] = limit * (2 * rng.random(weight.shape) - 1)
        return params

    def fan_in(self, weight_shape, input_shape):
        """How many weights of an array of ``weight_shape`` one output sums."""
        return prod(weight_shape[1:])

    def initial_state(self, input_shape, dtype=np.float32):
        """The arrays of `state_shapes` before any training."""
        return {}

    def forward(self, x, params=NO_PARAMETERS, mode=PREDICTING):
        """Output for a batch, and the function that carries gradients back.

        Parameters
        ----------
        x : ndarray of shape (N, C, *spatial), (N, *spatial, C) or (N, F), float32 or float64
            In the layout of ``mode.data_format``.
        params : dict of str to ndarray
            Parameters of this layer, as made by `initialize`, and its state, as made by `initial_state`,
            which is updated in place if ``mode.training``.
        mode : Mode
            How to run.

        Returns
        -------
        y : ndarray of shape (N, *output_shape) in the layout of x
        backward : callable or None
            ``backward(dy) -> (dx, gradients)``; dx is None unless ``mode.needs_input_grad``, gradients
            are a dict with the names of the parameters. None unless ``mode.training``.
        """
        x, params, names = self.checked(x, params, mode)
        y, backward = self.bind(x.shape, x.dtype, mode)(x, params, mode.rng)
        if not mode.training:
            return y, None

        def new(dy):
            dy = real_array(self, "dy", dy, y.shape, y.dtype)
            gradients = {name: np.empty_like(params[name]) for name in names}
            return backward(dy, gradients), gradients

        return y, new

    def checked(self, x, params, mode):
        """x and params as arrays that the compiled code can read, and the names of the parameters; or an error."""
        x = as_array(type(self).__name__, "x", x)
        if not isinstance(mode, Mode):
            raise TypeError(f"{self!r}: mode must be a Mode, got {mode!r}")
        is_channels_last(type(self).__name__, mode.data_format)
        if x.ndim < 2:
            raise ValueError(f"{self!r}: x must have shape (N, C, *spatial), (N, *spatial, C) or (N, F), got {x.shape}")
        sample = sample_shape(x.shape, mode.data_format)
        check_flags(self)
        self.output_shape(sample)
        shapes, kept = self.parameter_shapes(sample), self.state_shapes(sample)
        if not isinstance(params, dict) or not shapes.keys() | kept.keys() <= params.keys():
            makers = "`initialize` makes it" if not kept else "`initialize` and `initial_state` make it"
            raise (ValueError if isinstance(params, dict) else TypeError)(
                f"{self!r}: params must be a dict with {', '.join(shapes | kept) or 'nothing'}, as {makers}, "
                f"got {sorted(params) if isinstance(params, dict) else params!r}")
        dtype = x.dtype if x.dtype in (np.float32, np.float64) else np.dtype(np.float32)
        arrays = {name: real_array(self, name, params[name], shape, dtype) for name, shape in (shapes | kept).items()}
        return real_array(self, "x", x, x.shape, dtype), params | {name: arrays[name] for name in shapes}, list(shapes)

    def compute(self, x, params, mode):
        """What `forward` returns, without checks; a layer defines this or `bind`."""
        raise NotImplementedError

    def bind(self, shape, dtype, mode):
        """`forward` planned once for batches of one shape, dtype and mode, for networks: nothing is checked.

        Parameters
        ----------
        shape : tuple of int
            Of the batches, in the layout of ``mode.data_format``.
        dtype : dtype
        mode : Mode

        Returns
        -------
        run : callable
            ``run(x, params, rng) -> (y, backward)`` with ``backward(dy, gradients) -> dx``, which writes into
            the arrays of the dict ``gradients``. The next ``run`` may overwrite y and dx.
        """
        def run(x, params, rng=None):
            y, backward = self.compute(x, params, mode._replace(rng=rng))

            def into(dy, gradients):
                dx, found = backward(dy)
                for name, value in found.items():
                    gradients[name][...] = value
                return dx

            return y, into

        return run


def flatten(x, data_format):
    """x as rows (N, F) in the order (C, *spatial), and the function that gives rows the shape of x."""
    shape = x.shape
    rows = channels_first(x, data_format).reshape(shape[0], prod(shape[1:]))
    return rows, lambda rows: unflatten(rows, shape, data_format)


def unflatten(rows, shape, data_format):
    """Rows in the order (C, *spatial) as an array of ``shape`` in the layout of ``data_format``."""
    if data_format == "channels_last" and len(shape) > 2:
        return np.moveaxis(rows.reshape(shape[0], shape[-1], *shape[1:-1]), 1, -1)
    return rows.reshape(shape)


def channels_first(x, data_format):
    return np.moveaxis(x, -1, 1) if data_format == "channels_last" and x.ndim > 2 else x


def real_array(layer, name, value, shape, dtype):
    """``value`` as an aligned array of dtype; ValueError when it has another shape."""
    array = np.require(value, dtype, "A")
    if array.shape != shape:
        raise ValueError(f"{layer!r}: {name} must have shape {tuple(shape)}, got {array.shape}")
    return array


def check_flags(layer):
    """TypeError for an argument that should be True or False."""
    for field in fields(layer):
        if field.type is bool:
            checked_flag(type(layer).__name__, field.name, getattr(layer, field.name))


def sample_shape(shape, data_format):
    """(C, *spatial) or (F,) of one sample of a batch of ``shape``."""
    return (shape[-1], *shape[1:-1]) if data_format == "channels_last" and len(shape) > 2 else tuple(shape[1:])


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
