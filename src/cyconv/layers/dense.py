"""Layers on vectors."""

from dataclasses import dataclass
from math import prod

from .. import functional
from .._geometry import per_axis
from ._layer import NO_PARAMETERS, PREDICTING, Layer, flatten


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
