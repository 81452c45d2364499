"""Layers that normalise."""

from dataclasses import dataclass

import numpy as np

from .. import functional
from .._scalars import NOT_NEGATIVE, UP_TO_ONE, checked_number
from ._layer import Layer


@dataclass(repr=False)
class BatchNorm(Layer):
    """Each channel minus its mean, over its standard deviation; then times a weight, plus a bias.

    In training by the mean and variance of the batch, over samples and positions; otherwise by running
    averages of those of the training batches. The average of the variance is of unbiased ones, divided by
    one less than the number of values; a batch of one value per channel has none and leaves it as it is.

    Parameters
    ----------
    eps : float >= 0, default 1e-5
        Added to the variance.
    momentum : float in [0, 1], default 0.1
        Share of a batch in the running averages.
    affine : bool, default True
        Whether there are a weight and a bias for each channel, 1 and 0 at first.

    References
    ----------
    Ioffe, Szegedy: Batch normalization: accelerating deep network training by reducing internal covariate
    shift, ICML 2015. Defaults and names are those of `torch.nn.BatchNorm2d`, which refuses a batch of
    one value per channel.

    Examples
    --------
    >>> BatchNorm().parameter_shapes((16, 8, 8))
    {'weight': (16,), 'bias': (16,)}
    >>> BatchNorm().state_shapes((16, 8, 8))
    {'running_mean': (16,), 'running_var': (16,)}
    """

    eps: float = 1e-5
    momentum: float = 0.1
    affine: bool = True

    def output_shape(self, input_shape):
        checked_number("BatchNorm", "momentum", self.momentum, UP_TO_ONE)
        checked_number("BatchNorm", "eps", self.eps, NOT_NEGATIVE)
        return tuple(input_shape)

    def parameter_shapes(self, input_shape):
        return {"weight": input_shape[:1], "bias": input_shape[:1]} if self.affine else {}

    def state_shapes(self, input_shape):
        return {"running_mean": input_shape[:1], "running_var": input_shape[:1]}

    def initialize(self, input_shape, rng, dtype=np.float32):
        initial = {"weight": np.ones, "bias": np.zeros}
        return {name: initial[name](shape, dtype) for name, shape in self.parameter_shapes(input_shape).items()}

    def initial_state(self, input_shape, dtype=np.float32):
        initial = {"running_mean": np.zeros, "running_var": np.ones}
        return {name: initial[name](shape, dtype) for name, shape in self.state_shapes(input_shape).items()}

    def compute(self, x, params, mode):
        weight, bias = params.get("weight"), params.get("bias")
        how = {"data_format": mode.data_format, "n_threads": mode.n_threads}
        if not mode.training:
            return functional.batch_norm(x, params["running_mean"], params["running_var"], weight, bias, self.eps,
                                         **how), None
        mean, var = functional.moments(x, **how)
        y = functional.batch_norm(x, mean, var, weight, bias, self.eps, **how)
        self._follow(params, mean, var, x.size // len(mean))

        def backward(dy):
            grads = functional.batch_norm_backward(dy, x, mean, var, weight, self.eps, **how)
            return grads.x, {name: getattr(grads, name) for name in ("weight", "bias") if self.affine}

        return y, backward

    def _follow(self, params, mean, var, count):
        """Move the running averages by ``momentum`` towards those of a batch of ``count`` values per channel."""
        targets = {"running_mean": mean}
        if count > 1:
            targets["running_var"] = var * (count / (count - 1))
        for name, target in targets.items():
            params[name][...] = (1 - self.momentum) * params[name].astype(np.float64) + self.momentum * target
