"""Layers that act on every value by itself, and the softmax."""

from dataclasses import dataclass
from math import prod

import numpy as np

from .. import _kernels, functional
from .._scalars import BELOW_ONE, checked_number
from ..functional._ranked import team
from ..functional.activation import WORK_PER_ELEMENT
from ._layer import Layer


class Activation(Layer):
    """Function of every value by itself; a subclass names it, its gradient and what the gradient takes.

    The arguments of the constructor are those of the function.
    """

    function = gradient = None
    keeps = "x"                # or "y": what the gradient is computed from

    def output_shape(self, input_shape):
        self.function(np.empty(0, np.float32), **self.get_params())        # refuses wrong arguments
        return tuple(input_shape)

    def compute(self, x, params, mode):
        how = {**self.get_params(), "n_threads": mode.n_threads}
        y = self.function(x, **how)
        if not mode.training:
            return y, None
        kept = x if self.keeps == "x" else y
        return y, lambda dy: (self.gradient(dy, kept, **how), {})


@dataclass(repr=False)
class ReLU(Activation):
    """max(x, 0), element by element; its gradient at 0 is 0."""

    function, gradient, keeps = staticmethod(functional.relu), staticmethod(functional.relu_backward), "y"

    def bind(self, shape, dtype, mode):
        kernels, n_threads = _kernels.kernels[dtype], team("ReLU", mode.n_threads, prod(shape) * WORK_PER_ELEMENT,
                                                         awake=True)
        result, gradient = (None, None) if mode.in_place else np.empty((2, *shape), dtype)

        def run(x, params, rng=None):
            x = np.ascontiguousarray(x)
            y = x if mode.in_place else result
            kernels.activate("relu", x, y, 0, 0, n_threads)

            def backward(dy, gradients):
                dy = np.ascontiguousarray(dy)
                dx = dy if mode.in_place else gradient
                kernels.activate_backward("relu", dy, y, dx, 0, 0, n_threads)
                return dx

            return y, backward

        return run


@dataclass(repr=False)
class LeakyReLU(Activation):
    """x where x > 0, else ``negative_slope * x``; see `cyconv.leaky_relu`."""

    negative_slope: float = 0.01
    function, gradient = staticmethod(functional.leaky_relu), staticmethod(functional.leaky_relu_backward)


@dataclass(repr=False)
class ELU(Activation):
    """x where x > 0, else ``alpha * (exp(x) - 1)``; see `cyconv.elu`."""

    alpha: float = 1.0
    function, gradient = staticmethod(functional.elu), staticmethod(functional.elu_backward)


@dataclass(repr=False)
class SELU(Activation):
    """The exponential linear unit that keeps mean 0 and variance 1; see `cyconv.selu`."""

    function, gradient = staticmethod(functional.selu), staticmethod(functional.selu_backward)


@dataclass(repr=False)
class GELU(Activation):
    """x times the probability that a standard normal number is below x; see `cyconv.gelu`."""

    approximate: str = "none"
    function, gradient = staticmethod(functional.gelu), staticmethod(functional.gelu_backward)


@dataclass(repr=False)
class SiLU(Activation):
    """``x / (1 + exp(-x))``, also called swish; see `cyconv.silu`."""

    function, gradient = staticmethod(functional.silu), staticmethod(functional.silu_backward)


@dataclass(repr=False)
class Sigmoid(Activation):
    """``1 / (1 + exp(-x))``; see `cyconv.sigmoid`."""

    function, gradient, keeps = staticmethod(functional.sigmoid), staticmethod(functional.sigmoid_backward), "y"


@dataclass(repr=False)
class Tanh(Activation):
    """Hyperbolic tangent; see `cyconv.tanh`."""

    function, gradient, keeps = staticmethod(functional.tanh), staticmethod(functional.tanh_backward), "y"


# By the names of PyTorch and those of scikit-learn's networks; None is no layer.
ACTIVATIONS = {"relu": ReLU, "leaky_relu": LeakyReLU, "elu": ELU, "selu": SELU, "gelu": GELU, "silu": SiLU,
               "swish": SiLU, "sigmoid": Sigmoid, "logistic": Sigmoid, "tanh": Tanh, "identity": None}


@dataclass(repr=False)
class Softmax(Layer):
    """Exponentials over their sum, over the channels of each position, or over all values of a vector.

    Not needed in front of a softmax cross-entropy, which takes the values that go in here.
    """

    def compute(self, x, params, mode):
        axis = -1 if mode.data_format == "channels_last" else 1
        y = functional.softmax(x, axis)
        if not mode.training:
            return y, None
        return y, lambda dy: (functional.softmax_backward(dy, y, axis), {})


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
        checked_number("Dropout", "rate", self.rate, BELOW_ONE)
        return tuple(input_shape)

    def compute(self, x, params, mode):
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
