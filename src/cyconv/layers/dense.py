"""Layers on vectors."""

from dataclasses import dataclass
from math import prod

import numpy as np

from .._geometry import per_axis
from ..functional._plans import adjoint, forward, grad_weight, options, prepare
from ..functional._ranked import team
from ._layer import Layer, channels_first, flatten, unflatten


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

    def compute(self, x, params, mode):
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

    keeps_output = False

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

    def bind(self, shape, dtype, mode):
        n, features = shape[0], prod(shape[1:])
        how = options("Dense", "channels_first")
        call = prepare("Dense", (n, features, 1), (self.units, features, 1), dtype, how)
        n_threads = team("Dense", mode.n_threads, call.plan.work, awake=True)
        write, write_dx, write_gradients = forward(call), adjoint(call), grad_weight(call)
        y = np.empty((n, self.units, 1), dtype)
        wants_dx, result = mode.training and mode.needs_input_grad, y[:, :, 0]
        own = np.empty((n, features, 1), dtype) if wants_dx and not mode.in_place else None

        def run(x, params, rng=None):
            cells = channels_first(x, mode.data_format).reshape(n, features, 1)
            weight = params["weight"][:, :, None]
            write(cells, weight, params.get("bias"), y, n_threads)

            def backward(dy, gradients):
                dy = dy[:, :, None]
                write_gradients(dy, cells, gradients["weight"][:, :, None], gradients.get("bias"), n_threads)
                if not wants_dx:
                    return None
                dx = cells if mode.in_place else own
                write_dx(dy, weight, None, dx, n_threads)
                return unflatten(dx, shape, mode.data_format)

            return result, backward

        return run
