"""Pooling of a given number of bins per axis, whatever the size of the input, and the gradients."""

from .. import _arrays, _geometry
from ._pooling import (
    as_comparable,
    check_channels,
    checked_rank,
    countable,
    extremes,
    pool_rank,
    prepare_bins,
    sums,
    sums_backward,
)
from ._public import Checked
from ._ranked import batched, every_rank, input_shape_of, names_of_ranks, spatial_of, without_batch
from .pooling import _max_pool_backward

__all__ = names_of_ranks("adaptive_avg_pool{}", "adaptive_max_pool{}", "adaptive_avg_pool{}_backward",
                         "adaptive_max_pool{}_backward")


def _adaptive_avg_pool(function, rank, x, output_size, *, data_format="channels_first", n_threads=None):
    """Mean of every bin of a grid that divides the plane as evenly as whole cells allow.

    Parameters
    ----------
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input, or with the channels last. Converted to float32 or float64 like a convolution's.
    output_size : int, None, or tuple of these
        Bins per axis, at least 0; None for as many as the axis has cells.
    data_format : {"channels_first", "channels_last"}, default "channels_first"
        Layout of x and of the result.
    n_threads : int, optional
        As in `conv2d`.

    Returns
    -------
    ndarray of shape (N, C, OUTPUTS), or as x without N or with channels last
        Output i of o along an axis of n cells is the mean of the cells ``floor(i * n / o)`` to
        ``ceil((i + 1) * n / o) - 1``; neighbours may share a cell. NaN if the axis has no cells.

    Raises
    ------
    ValueError, TypeError
        If shapes, parameters or dtypes do not fit.

    References
    ----------
    ``torch.nn.functional.adaptive_avg_pool2d``.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.adaptive_avg_pool1d(np.arange(10.0).reshape(1, 10), 3)
    array([[1.5, 4.5, 7.5]])
    """
    channels_last = _arrays.is_channels_last(function, data_format)
    (x,) = _arrays.as_reals(function, x=x)
    batch, is_single = batched(function, "x", x, pool_rank(function, rank, output_size, x.ndim), channels_last)
    plan = prepare_bins(function, batch.shape, output_size, channels_last)
    return Checked(without_batch(sums(plan, x.dtype, 0.0, False, channels_last, n_threads), is_single), x)


def _adaptive_avg_pool_backward(function, rank, grad_out, input_shape, *, data_format="channels_first",
                                n_threads=None):
    """Gradient of an adaptive mean pooling: grad_out spread evenly over the cells of each bin.

    Parameters
    ----------
    grad_out : array_like of shape (N, C, OUTPUTS) or (C, OUTPUTS)
        Gradient with respect to the means, in the layout of ``data_format``; its shape says how many
        bins there were.
    input_shape : tuple of int
        Shape of the forward call's x.
    data_format, n_threads
        As in the forward call.

    Returns
    -------
    ndarray of shape ``input_shape``

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.adaptive_avg_pool1d_backward(np.array([[2.0, 4.0]]), (1, 3))
    array([[1., 3., 2.]])
    """
    channels_last = _arrays.is_channels_last(function, data_format)
    (grad_out,) = _arrays.as_reals(function, grad_out=grad_out)
    if rank is None:
        rank = checked_rank(function, len(_geometry.as_tuple(input_shape) or ()) - 2)
    dy, is_single = batched(function, "grad_out", grad_out, rank, channels_last)
    shape = input_shape_of(function, input_shape, rank, is_single)
    check_channels(function, dy, shape, channels_last)
    plan = prepare_bins(function, shape, spatial_of(dy.shape, channels_last), channels_last)
    run = sums_backward(plan, dy.dtype, shape, 0.0, False, channels_last, n_threads)
    return Checked(without_batch(run, is_single), grad_out)


def _adaptive_max_pool(function, rank, x, output_size, *, return_indices=False, data_format="channels_first",
                       n_threads=None):
    """Maximum of every bin of a grid that divides the plane as evenly as whole cells allow.

    Parameters
    ----------
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input, or with the channels last; integers of more than 53 bits are refused.
    output_size, data_format, n_threads
        As in `adaptive_avg_pool2d`.
    return_indices : bool, default False
        Also return where each maximum stands.

    Returns
    -------
    values : ndarray of shape (N, C, OUTPUTS), or as x without N or with channels last
        Of the dtype of x. Bins as in `adaptive_avg_pool2d`; NaN wins over numbers.
    indices : int64 ndarray of the same shape
        Only with ``return_indices``: as in `max_pool2d`.

    Raises
    ------
    ValueError, TypeError
        If shapes, parameters or dtypes do not fit.

    References
    ----------
    ``torch.nn.functional.adaptive_max_pool2d``.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.adaptive_max_pool1d(np.arange(10).reshape(1, 10), 3)
    array([[3, 6, 9]])
    """
    channels_last = _arrays.is_channels_last(function, data_format)
    given, x = as_comparable(function, x)
    batch, is_single = batched(function, "x", x, pool_rank(function, rank, output_size, x.ndim), channels_last)
    plan = countable(function, prepare_bins(function, batch.shape, output_size, channels_last))
    run = extremes(plan, x.dtype, given.dtype, False, return_indices, channels_last, n_threads)
    return Checked(without_batch(run, is_single), x)


def _adaptive_max_pool_backward(function, rank, grad_out, indices, input_shape, *, data_format="channels_first",
                                n_threads=None):
    """Gradient of an adaptive maximum pooling: grad_out added up at the cells of the maxima.

    Parameters
    ----------
    grad_out : array_like of shape (N, C, OUTPUTS) or (C, OUTPUTS)
        Gradient with respect to the values, in the layout of ``data_format``.
    indices, input_shape, data_format, n_threads
        As in `max_pool2d_backward`.

    Returns
    -------
    ndarray of shape ``input_shape``

    Raises
    ------
    ValueError, TypeError
        As `max_pool2d_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> x = np.array([[[1.0, 5.0, 2.0]]])
    >>> values, indices = cyconv.adaptive_max_pool1d(x, 2, return_indices=True)
    >>> cyconv.adaptive_max_pool1d_backward(np.ones_like(values), indices, x.shape)
    array([[[0., 2., 0.]]])
    """
    return _max_pool_backward(function, rank, grad_out, indices, input_shape, data_format=data_format,
                              n_threads=n_threads)


adaptive_avg_pool, adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = every_rank(
    _adaptive_avg_pool, "adaptive_avg_pool{}")
adaptive_max_pool, adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = every_rank(
    _adaptive_max_pool, "adaptive_max_pool{}")
(adaptive_avg_pool_backward, adaptive_avg_pool1d_backward, adaptive_avg_pool2d_backward,
 adaptive_avg_pool3d_backward) = every_rank(_adaptive_avg_pool_backward, "adaptive_avg_pool{}_backward")
(adaptive_max_pool_backward, adaptive_max_pool1d_backward, adaptive_max_pool2d_backward,
 adaptive_max_pool3d_backward) = every_rank(_adaptive_max_pool_backward, "adaptive_max_pool{}_backward")
