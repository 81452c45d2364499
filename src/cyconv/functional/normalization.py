"""Batch normalisation: moments of each channel, the normalisation by them, and its gradients.

What is computed from x is computed in float64, so that a mean far from zero costs no digits.
"""

from math import prod
from typing import NamedTuple

import numpy as np

from .. import _arrays, _kernels
from .._scalars import NOT_NEGATIVE, checked_number
from ._ranked import check_shape, team

__all__ = ["moments", "batch_norm", "batch_norm_backward"]

# A cell takes about as long as so many multiplications of a convolution.
WORK_PER_CELL = 16


class Moments(NamedTuple):
    """Mean and variance of each channel, ndarrays of shape (C,), float64."""

    mean: np.ndarray
    var: np.ndarray


class BatchNormGrads(NamedTuple):
    """Gradients of a batch normalisation, each of the shape and dtype of what it belongs to."""

    x: np.ndarray
    weight: np.ndarray
    bias: np.ndarray


class Batch(NamedTuple):
    """Arrays of one shape as the kernels read them: (N, C, P), or (N, P, C) if channels_last."""

    arrays: list
    channels_last: bool
    n_channels: int
    count: int                     # values per channel
    threads: int

    @classmethod
    def of(cls, function, data_format, n_threads, **values):
        channels_last = _arrays.is_channels_last(function, data_format)
        arrays = _arrays.as_reals(function, **values)
        shape = arrays[-1].shape
        if len(shape) < 2:
            raise ValueError(f"{function}: x must have shape (N, C, *spatial), (N, *spatial, C) or (N, C), got {shape}")
        for name, array in zip(values, arrays):
            check_shape(function, name, array, shape)
        channels_last = channels_last or len(shape) == 2
        n_channels = shape[-1 if channels_last else 1]
        positions = prod(shape[1:-1] if channels_last else shape[2:])
        inner = (shape[0], positions, n_channels) if channels_last else (shape[0], n_channels, positions)
        arrays = [np.ascontiguousarray(array).reshape(inner) for array in arrays]
        threads = team(function, n_threads, prod(shape) * WORK_PER_CELL)
        return cls(arrays, channels_last, n_channels, shape[0] * positions, threads)

    def sums(self, mean, u=None):
        """Per channel the sum of u and of u * (x - mean); u None stands for x - mean."""
        x = self.arrays[-1]
        parts, sums = np.zeros(32 * self.n_channels), np.empty((2, self.n_channels))
        _kernels.kernels[x.dtype].channel_sums(x, u, mean, parts, sums, self.channels_last, self.threads)
        return sums

    def mapped(self, mean, factor, shift, y, u=None, u_factor=None):
        """y = u * u_factor + (x - mean) * factor + shift, channel by channel."""
        x = self.arrays[-1]
        table = np.stack([mean, mean if u is None else u_factor, factor, shift])
        y = y.reshape(x.shape)
        _kernels.kernels[x.dtype].channel_map(x, u, table, y, self.channels_last, self.threads)


def moments(x, *, data_format="channels_first", n_threads=None):
    """Mean and variance of each channel, over samples and positions.

    Two passes in float64: the variance is that of the differences from the mean, so nothing cancels.

    Parameters
    ----------
    x : array_like of shape (N, C, *spatial), (N, *spatial, C) or (N, C), any rank
        float32 or float64; everything else is converted.
    data_format : {"channels_first", "channels_last"}, default "channels_first"
        Where x has its channels.
    n_threads : int, optional
        As in `conv2d`; the result does not depend on it.

    Returns
    -------
    mean, var : ndarray of shape (C,), float64
        A named tuple. The variance is divided by the number of values, not by one less.

    Raises
    ------
    TypeError, ValueError
        If x is not of real numbers, has one axis only, or a channel has no values.

    Examples
    --------
    >>> import cyconv
    >>> mean, var = cyconv.moments([[1.0, 5.0], [3.0, 5.0]])
    >>> mean, var
    (array([2., 5.]), array([1., 0.]))
    """
    batch = Batch.of("moments", data_format, n_threads, x=x)
    if batch.count == 0:
        raise ValueError(f"moments: x must have at least one value per channel, got shape {np.shape(x)}")
    with np.errstate(invalid="ignore", over="ignore"):      # NaN and inf in x give NaN
        mean = batch.sums(np.zeros(batch.n_channels))[0] / batch.count
        rest, squares = batch.sums(mean) / batch.count      # rest: what rounding left of the mean
        return Moments(mean + rest, np.maximum(squares - rest * rest, 0))


def batch_norm(x, mean, var, weight=None, bias=None, eps=1e-5, *, data_format="channels_first", out=None,
               n_threads=None):
    """``(x - mean) / sqrt(var + eps) * weight + bias``, channel by channel.

    Computed in float64 and rounded once.

    Parameters
    ----------
    x : array_like of shape (N, C, *spatial), (N, *spatial, C) or (N, C), any rank
        The result has its dtype, float32 or float64; everything else is converted.
    mean, var : array_like of shape (C,)
        Those of x from `moments` to train, running averages of them to predict; var >= 0.
    weight, bias : array_like of shape (C,) or None, default None
        None is 1 and 0.
    eps : float >= 0, default 1e-5
        Added to the variance.
    data_format : {"channels_first", "channels_last"}, default "channels_first"
        Where x has its channels.
    out : ndarray, optional
        C-contiguous array of x's shape and the computation dtype to write to; x itself is allowed.
    n_threads : int, optional
        As in `conv2d`; the result does not depend on it.

    Returns
    -------
    ndarray of the shape of x

    Raises
    ------
    TypeError, ValueError
        If arrays are not of real numbers, their shapes do not fit, or var or eps are negative.

    References
    ----------
    Ioffe, Szegedy: Batch normalization: accelerating deep network training by reducing internal covariate
    shift, ICML 2015. Unlike `torch.nn.functional.batch_norm` it takes the moments it is to use, and
    updates nothing.

    Examples
    --------
    >>> import cyconv
    >>> x = [[1.0, 5.0], [3.0, 6.0]]
    >>> cyconv.batch_norm(x, *cyconv.moments(x), eps=0.0)
    array([[-1., -1.],
           [ 1.,  1.]])
    """
    function, given = "batch_norm", x
    batch = Batch.of(function, data_format, n_threads, x=x)
    mean, scale, weight, bias = channel_values(function, batch.n_channels, mean, var, weight, bias, eps)
    x, shape = batch.arrays[0], _arrays.as_array(function, "x", x).shape
    y, copy = _arrays.output_for(function, out, shape, x.dtype, () if out is given else (x,))
    batch.mapped(mean, scale * weight, bias, y)
    if copy:
        out[...] = y
    return out if copy else y


def batch_norm_backward(grad_out, x, mean, var, weight=None, eps=1e-5, *, training=True,
                        data_format="channels_first", n_threads=None):
    """Gradients of `batch_norm` with respect to x, weight and bias.

    Parameters
    ----------
    grad_out : array_like of the shape of x
        Gradient with respect to the result.
    x, mean, var, weight, eps
        As in `batch_norm`.
    training : bool, default True
        Whether mean and var are the `moments` of x and change with it, rather than constants.
    data_format : {"channels_first", "channels_last"}, default "channels_first"
        Where x has its channels.
    n_threads : int, optional
        As in `conv2d`; the result does not depend on it.

    Returns
    -------
    x, weight, bias : ndarray
        A named tuple; the first of the shape of x, the others of shape (C,).

    Raises
    ------
    TypeError, ValueError
        As `batch_norm`.

    References
    ----------
    Ioffe, Szegedy, as in `batch_norm`, section 3.

    Examples
    --------
    >>> import cyconv
    >>> x = [[1.0], [3.0]]
    >>> grads = cyconv.batch_norm_backward([[1.0], [0.0]], x, *cyconv.moments(x), eps=0.0)
    >>> grads.weight, grads.bias
    (array([-1.]), array([1.]))
    """
    function = "batch_norm_backward"
    batch = Batch.of(function, data_format, n_threads, grad_out=grad_out, x=x)
    mean, scale, weight, _ = channel_values(function, batch.n_channels, mean, var, weight, None, eps)
    dy, x = batch.arrays
    dx = np.empty(x.shape, x.dtype)
    dbias, product = batch.sums(mean, dy)
    # dx = weight scale (dy - mean of dy - (x - mean) scale**2 (mean of dy (x - mean))), the means only in training
    factor, count = weight * scale, max(batch.count, 1) if training else np.inf
    batch.mapped(mean, -factor * scale * scale * (product / count), -factor * (dbias / count), dx, dy, factor)
    shape = _arrays.as_array(function, "grad_out", grad_out).shape
    return BatchNormGrads(dx.reshape(shape), (product * scale).astype(x.dtype), dbias.astype(x.dtype))


def channel_values(function, n_channels, mean, var, weight, bias, eps):
    """mean, 1 / sqrt(var + eps), weight and bias as float64 arrays of shape (C,)."""
    checked_number(function, "eps", eps, NOT_NEGATIVE)
    weight = np.ones(n_channels) if weight is None else weight
    bias = np.zeros(n_channels) if bias is None else bias
    arrays = []
    for name, value in (("mean", mean), ("var", var), ("weight", weight), ("bias", bias)):
        array = _arrays.as_array(function, name, value)
        check_shape(function, name, array, (n_channels,))
        arrays.append(np.require(array, np.float64, "CA"))
    mean, var, weight, bias = arrays
    if (var < 0).any():
        raise ValueError(f"{function}: var must be >= 0, got {var.min()}")
    with np.errstate(divide="ignore"):                     # a variance of 0 without eps gives inf
        return mean, 1 / np.sqrt(var + float(eps)), weight, bias
