"""Maximum, minimum, mean and sum of windows, and their gradients.

Norms are in `norm_pooling`, any other function of a window in `custom_pooling`, other than windows in
`adaptive_pooling` and `global_pooling`.
"""

import numpy as np

from .. import _arrays, _geometry
from ._pooling import (
    as_comparable,
    as_indices,
    check_channels,
    checked_rank,
    extremes,
    mean_divisor,
    move,
    pool_rank,
    prepare,
    sums,
    sums_backward,
)
from ._public import Checked
from ._ranked import as_flag, batched, check_shape, every_rank, input_shape_of, names_of_ranks, without_batch

__all__ = names_of_ranks(
    "max_pool{}", "min_pool{}", "avg_pool{}", "sum_pool{}",
    "max_pool{}_backward", "min_pool{}_backward", "avg_pool{}_backward", "sum_pool{}_backward")


# ---------------------------------------------------------------- maximum and minimum


def _max_pool(function, rank, x, kernel_size, stride=None, padding=0, *, dilation=1, ceil_mode=False,
              return_indices=False, data_format="channels_first", n_threads=None):
    """Maximum of every window.

    Parameters
    ----------
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input, or with the channels last; integers of more than 53 bits are refused.
    kernel_size : int or tuple of int
        Size of the window, at least 1.
    stride : int or tuple of int, optional
        Step of the window, at least 1; None for ``kernel_size``.
    padding : int, tuple, or str, default 0
        Cells around the input that never win; forms as in `conv2d`.
    dilation : int or tuple of int, default 1
        Step between the cells of a window.
    ceil_mode : bool, default False
        Round the number of outputs up, for a last window that is partly filled, but only as far as
        windows start inside the input or its low padding.
    return_indices : bool, default False
        Also return where each maximum stands.
    data_format : {"channels_first", "channels_last"}, default "channels_first"
        Layout of x and of the results.
    n_threads : int, optional
        As in `conv2d`.

    Returns
    -------
    values : ndarray of shape (N, C, OUTPUTS), or as x without N or with channels last
        Of the dtype of x. NaN wins over numbers. -inf, or the smallest integer, where a window has no
        input cell.
    indices : int64 ndarray of the same shape
        Only with ``return_indices``: flat row-major index of the first maximum (or first NaN) in its
        input plane of shape (SPATIAL); -1 where a window has no input cell.

    Raises
    ------
    ValueError, TypeError
        If shapes, parameters or dtypes do not fit.

    References
    ----------
    ``torch.nn.functional.max_pool2d``, which reports the last NaN of a window instead of the first.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> values, indices = cyconv.max_pool2d(np.arange(9.0).reshape(1, 3, 3), 2, 1, return_indices=True)
    >>> values[0], indices[0]
    (array([[4., 5.],
           [7., 8.]]), array([[4, 5],
           [7, 8]]))
    """
    return extreme_pool(function, rank, False, x, (kernel_size, stride, padding, dilation, ceil_mode), return_indices,
                        data_format, n_threads)


def _min_pool(function, rank, x, kernel_size, stride=None, padding=0, *, dilation=1, ceil_mode=False,
              return_indices=False, data_format="channels_first", n_threads=None):
    """Minimum of every window.

    Parameters
    ----------
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input, or with the channels last; integers of more than 53 bits are refused.
    kernel_size, stride, padding, dilation, ceil_mode, return_indices, data_format, n_threads
        As in `max_pool2d`.

    Returns
    -------
    values : ndarray of shape (N, C, OUTPUTS), or as x without N or with channels last
        Of the dtype of x. NaN wins over numbers. inf, or the largest integer, where a window has no
        input cell.
    indices : int64 ndarray of the same shape
        Only with ``return_indices``: as in `max_pool2d`, of the first minimum (or first NaN).

    Raises
    ------
    ValueError, TypeError
        If shapes, parameters or dtypes do not fit.

    References
    ----------
    ``-max_pool2d(-x)``, but also for integers whose negative does not exist.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.min_pool2d(np.array([[[3, 1, 5, 6], [2, 4, 8, 7]]]), 2)
    array([[[1, 5]]])
    """
    return extreme_pool(function, rank, True, x, (kernel_size, stride, padding, dilation, ceil_mode), return_indices,
                        data_format, n_threads)


def extreme_pool(function, rank, smallest, x, window, return_indices, data_format, n_threads):
    channels_last = _arrays.is_channels_last(function, data_format)
    given, x = as_comparable(function, x)
    batch, is_single = batched(function, "x", x, pool_rank(function, rank, window[0], x.ndim), channels_last)
    plan = prepare(function, batch.shape, *window, channels_last)
    run = extremes(plan, x.dtype, given.dtype, smallest, return_indices, channels_last, n_threads)
    return Checked(without_batch(run, is_single), x)


def _max_pool_backward(function, rank, grad_out, indices, input_shape, *, data_format="channels_first",
                       n_threads=None):
    """Gradient of a maximum pooling: grad_out added up at the cells of the maxima.

    Parameters
    ----------
    grad_out : array_like of shape (N, C, OUTPUTS) or (C, OUTPUTS)
        Gradient with respect to the values, in the layout of ``data_format``.
    indices : array_like of int, shape of grad_out
        From the forward call; -1 receives nothing.
    input_shape : tuple of int
        Shape of the forward call's x.
    data_format, n_threads
        As in the forward call.

    Returns
    -------
    ndarray of shape ``input_shape``

    Raises
    ------
    ValueError
        If shapes do not fit or an index lies outside its plane. Nothing is written there.
    TypeError
        If indices are not integers.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> x = np.array([[[1.0, 3.0, 2.0, 0.0]]])
    >>> values, indices = cyconv.max_pool2d(x, (1, 2), 1, return_indices=True)
    >>> cyconv.max_pool2d_backward(np.ones_like(values), indices, x.shape)
    array([[[0., 2., 1., 0.]]])
    """
    channels_last = _arrays.is_channels_last(function, data_format)
    (grad_out,) = _arrays.as_reals(function, grad_out=grad_out)
    if rank is None:
        rank = checked_rank(function, len(_geometry.as_tuple(input_shape) or ()) - 2)
    dy, is_single = batched(function, "grad_out", grad_out, rank, channels_last)
    shape, dtype = input_shape_of(function, input_shape, rank, is_single), dy.dtype
    indices = as_indices(function, indices, grad_out.shape)
    check_channels(function, dy, shape, channels_last)

    def run(grad_out, indices):
        dx = np.empty(shape, dtype)
        move(function, "max_pool_backward", np.ascontiguousarray(grad_out), indices, dx, channels_last, n_threads)
        return dx

    return Checked(without_batch(run, is_single), grad_out, indices)


def _min_pool_backward(function, rank, grad_out, indices, input_shape, *, data_format="channels_first",
                       n_threads=None):
    """Gradient of a minimum pooling: grad_out added up at the cells of the minima.

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
    >>> x = np.array([[[1.0, 3.0, 2.0, 0.0]]])
    >>> values, indices = cyconv.min_pool2d(x, (1, 2), 1, return_indices=True)
    >>> cyconv.min_pool2d_backward(np.ones_like(values), indices, x.shape)
    array([[[1., 0., 1., 1.]]])
    """
    return _max_pool_backward(function, rank, grad_out, indices, input_shape, data_format=data_format,
                              n_threads=n_threads)


# ---------------------------------------------------------------- mean and sum


def _avg_pool(function, rank, x, kernel_size, stride=None, padding=0, *, dilation=1, ceil_mode=False,
              count_include_pad=True, divisor_override=None, data_format="channels_first", n_threads=None):
    """Mean of every window.

    Parameters
    ----------
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input, or with the channels last. Converted to float32 or float64 like a convolution's.
    kernel_size, stride, padding, dilation, ceil_mode, data_format, n_threads
        As in `max_pool2d`; padding adds zeros to the sum.
    count_include_pad : bool, default True
        Divide by the number of cells inside the padded input; False: inside the input. What
        ``ceil_mode`` adds beyond the padding never counts.
    divisor_override : float, optional
        Divide by this instead.

    Returns
    -------
    ndarray of shape (N, C, OUTPUTS), or as x without N or with channels last
        NaN where a window has no cell that counts. Windows of more than 64 cells are summed in float64.

    Raises
    ------
    ValueError, TypeError
        If shapes, parameters or dtypes do not fit.

    References
    ----------
    ``torch.nn.functional.avg_pool2d``. ONNX's default is ``count_include_pad=False``.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.avg_pool2d(np.array([[[12.0, 20, 30, 0], [20, 12, 2, 0]]]), 2)
    array([[[16.,  8.]]])
    """
    channels_last = _arrays.is_channels_last(function, data_format)
    (x,) = _arrays.as_reals(function, x=x)
    batch, is_single = batched(function, "x", x, pool_rank(function, rank, kernel_size, x.ndim), channels_last)
    plan = prepare(function, batch.shape, kernel_size, stride, padding, dilation, ceil_mode, channels_last)
    divisor = mean_divisor(function, divisor_override, x.dtype)
    include_pad = as_flag(function, "count_include_pad", count_include_pad)
    run = sums(plan, x.dtype, divisor, include_pad, channels_last, n_threads)
    return Checked(without_batch(run, is_single), x)


def _avg_pool_backward(function, rank, grad_out, input_shape, kernel_size, stride=None, padding=0, *, dilation=1,
                       ceil_mode=False, count_include_pad=True, divisor_override=None, data_format="channels_first",
                       n_threads=None):
    """Gradient of a mean pooling: grad_out spread evenly over the cells of each window.

    Parameters
    ----------
    grad_out : array_like of shape (N, C, OUTPUTS) or (C, OUTPUTS)
        Gradient with respect to the means, in the layout of ``data_format``.
    input_shape : tuple of int
        Shape of the forward call's x.
    kernel_size, stride, padding, dilation, ceil_mode, count_include_pad, divisor_override, data_format, n_threads
        As in the forward call.

    Returns
    -------
    ndarray of shape ``input_shape``

    Raises
    ------
    ValueError, TypeError
        As the forward call, and if grad_out has not the shape of its result.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.avg_pool2d_backward(np.array([[[4.0, 8.0]]]), (1, 2, 4), 2)
    array([[[1., 1., 2., 2.],
            [1., 1., 2., 2.]]])
    """
    channels_last = _arrays.is_channels_last(function, data_format)
    (grad_out,) = _arrays.as_reals(function, grad_out=grad_out)
    rank = pool_rank(function, rank, kernel_size, len(_geometry.as_tuple(input_shape) or ()))
    dy, is_single = batched(function, "grad_out", grad_out, rank, channels_last)
    shape = input_shape_of(function, input_shape, rank, is_single)
    plan = prepare(function, shape, kernel_size, stride, padding, dilation, ceil_mode, channels_last)
    check_shape(function, "grad_out", dy, plan.out_shape)
    divisor = mean_divisor(function, divisor_override, dy.dtype)
    include_pad = as_flag(function, "count_include_pad", count_include_pad)
    run = sums_backward(plan, dy.dtype, shape, divisor, include_pad, channels_last, n_threads)
    return Checked(without_batch(run, is_single), grad_out)


def _sum_pool(function, rank, x, kernel_size, stride=None, padding=0, *, dilation=1, ceil_mode=False,
              data_format="channels_first", n_threads=None):
    """Sum of every window.

    Parameters
    ----------
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input, or with the channels last. Converted to float32 or float64 like a convolution's.
    kernel_size, stride, padding, dilation, ceil_mode, data_format, n_threads
        As in `max_pool2d`; padding adds nothing.

    Returns
    -------
    ndarray of shape (N, C, OUTPUTS), or as x without N or with channels last
        0 where a window has no input cell. Windows of more than 64 cells are summed in float64.

    Raises
    ------
    ValueError, TypeError
        If shapes, parameters or dtypes do not fit.

    References
    ----------
    `avg_pool2d` with ``divisor_override=1``.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.sum_pool2d(np.array([[[12.0, 20, 30, 0], [20, 12, 2, 0]]]), 2)
    array([[[64., 32.]]])
    """
    return _avg_pool(function, rank, x, kernel_size, stride, padding, dilation=dilation, ceil_mode=ceil_mode,
                     divisor_override=1, data_format=data_format, n_threads=n_threads)


def _sum_pool_backward(function, rank, grad_out, input_shape, kernel_size, stride=None, padding=0, *, dilation=1,
                       ceil_mode=False, data_format="channels_first", n_threads=None):
    """Gradient of a sum pooling: grad_out added to every cell of its window.

    Parameters
    ----------
    grad_out : array_like of shape (N, C, OUTPUTS) or (C, OUTPUTS)
        Gradient with respect to the sums, in the layout of ``data_format``.
    input_shape : tuple of int
        Shape of the forward call's x.
    kernel_size, stride, padding, dilation, ceil_mode, data_format, n_threads
        As in the forward call.

    Returns
    -------
    ndarray of shape ``input_shape``

    Raises
    ------
    ValueError, TypeError
        As the forward call, and if grad_out has not the shape of its result.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.sum_pool_backward(np.array([[[4.0, 8.0]]]), (1, 1, 3), 2, 1)
    array([[[ 4., 12.,  8.]]])
    """
    return _avg_pool_backward(function, rank, grad_out, input_shape, kernel_size, stride, padding, dilation=dilation,
                              ceil_mode=ceil_mode, divisor_override=1, data_format=data_format, n_threads=n_threads)


max_pool, max_pool1d, max_pool2d, max_pool3d = every_rank(_max_pool, "max_pool{}")
min_pool, min_pool1d, min_pool2d, min_pool3d = every_rank(_min_pool, "min_pool{}")
avg_pool, avg_pool1d, avg_pool2d, avg_pool3d = every_rank(_avg_pool, "avg_pool{}")
sum_pool, sum_pool1d, sum_pool2d, sum_pool3d = every_rank(_sum_pool, "sum_pool{}")
max_pool_backward, max_pool1d_backward, max_pool2d_backward, max_pool3d_backward = every_rank(
    _max_pool_backward, "max_pool{}_backward")
min_pool_backward, min_pool1d_backward, min_pool2d_backward, min_pool3d_backward = every_rank(
    _min_pool_backward, "min_pool{}_backward")
avg_pool_backward, avg_pool1d_backward, avg_pool2d_backward, avg_pool3d_backward = every_rank(
    _avg_pool_backward, "avg_pool{}_backward")
sum_pool_backward, sum_pool1d_backward, sum_pool2d_backward, sum_pool3d_backward = every_rank(
    _sum_pool_backward, "sum_pool{}_backward")
