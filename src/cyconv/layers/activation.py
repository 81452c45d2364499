"""Layers that act on every value by itself."""

from dataclasses import dataclass

import numpy as np

from .. import functional
from ._layer import NO_PARAMETERS, PREDICTING, Layer


@dataclass(repr=False)
class ReLU(Layer):
    """max(x, 0), element by element; its gradient at 0 is 0."""

    def forward(self, x, params=NO_PARAMETERS, mode=PREDICTING):
        y = functional.relu(x, n_threads=mode.n_threads)
        if not mode.training:
            return y, None
        return y, lambda dy: (functional.relu_backward(dy, y, n_threads=mode.n_threads), {})


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
