"""Pooling of whole planes, that is of one bin per axis, and the gradients."""

from math import prod

import numpy as np

from .. import _arrays, _geometry
from ._pooling import (
    as_comparable,
    as_indices,
    checked_rank,
    countable,
    extremes,
    move,
    norm_order,
    norms,
    norms_backward,
    prepare_bins,
    sums,
    sums_backward,
)
from ._public import Checked, public
from ._ranked import as_flag, input_shape_of, shape_of

__all__ = [f"global_{kind}_pool{direction}" for direction in ("", "_backward")
           for kind in ("max", "min", "avg", "sum", "lp")]


def plan_global(function, name, array, data_format):
    """The plan of a batch with one bin, and whether the channels are last."""
    channels_last = _arrays.is_channels_last(function, data_format)
    if not 3 <= array.ndim <= 5:
        axes = "(N, *spatial, C)" if channels_last else "(N, C, *spatial)"
        raise ValueError(f"{function}: {name} must have 3 to 5 dimensions {axes}, got shape {array.shape}")
    return prepare_bins(function, array.shape, 1, channels_last), channels_last


def reduced(plan, run, keepdims):
    """``run`` whose results lose the axes of length 1, unless they are to be kept."""
    if as_flag(plan.function, "keepdims", keepdims):
        return run
    shape = plan.out_shape[0], prod(plan.out_shape[1:])

    def compute(x):
        result = run(x)
        return tuple(array.reshape(shape) for array in result) if isinstance(result, tuple) else result.reshape(shape)

    return compute


def with_axes(function, name, array, shape, channels_last):
    """``array`` of shape (N, C) or with axes of length 1, as what a global pooling of ``shape`` returns."""
    n, channels = shape[0], shape[-1 if channels_last else 1]
    full = shape_of(n, channels, (1,) * (len(shape) - 2), channels_last)
    if array.shape not in ((n, channels), full):
        raise ValueError(f"{function}: {name} must have shape {full} or {(n, channels)}, got {array.shape}")
    return array.reshape(full)


def global_extreme(function, smallest, x, keepdims, return_indices, data_format, n_threads):
    given, x = as_comparable(function, x)
    plan, channels_last = plan_global(function, "x", x, data_format)
    run = extremes(countable(function, plan), x.dtype, given.dtype, smallest, return_indices, channels_last, n_threads)
    return Checked(reduced(plan, run, keepdims), x)


def global_sum(function, divisor, x, keepdims, data_format, n_threads):
    (x,) = _arrays.as_reals(function, x=x)
    plan, channels_last = plan_global(function, "x", x, data_format)
    return Checked(reduced(plan, sums(plan, x.dtype, divisor, False, channels_last, n_threads), keepdims), x)


def global_shape(function, input_shape):
    return input_shape_of(function, input_shape, checked_rank(function, len(_geometry.as_tuple(input_shape) or ()) - 2),
                          False)


def global_extreme_backward(function, grad_out, indices, input_shape, data_format, n_threads):
    channels_last = _arrays.is_channels_last(function, data_format)
    (grad_out,) = _arrays.as_reals(function, grad_out=grad_out)
    shape = global_shape(function, input_shape)
    indices = as_indices(function, indices, grad_out.shape)
    dy = with_axes(function, "grad_out", grad_out, shape, channels_last)
    full, dtype = dy.shape, dy.dtype

    def compute(grad_out, indices):
        dx = np.empty(shape, dtype)
        grad_out = np.ascontiguousarray(grad_out.reshape(full))
        move(function, "max_pool_backward", grad_out, indices, dx, channels_last, n_threads)
        return dx

    return Checked(compute, grad_out, indices)


def global_sum_backward(function, divisor, grad_out, input_shape, data_format, n_threads):
    (grad_out,) = _arrays.as_reals(function, grad_out=grad_out)
    channels_last = _arrays.is_channels_last(function, data_format)
    shape = global_shape(function, input_shape)
    plan = prepare_bins(function, shape, 1, channels_last)
    full = with_axes(function, "grad_out", grad_out, shape, channels_last).shape
    run = sums_backward(plan, grad_out.dtype, shape, divisor, False, channels_last, n_threads)
    return Checked(lambda grad_out: run(grad_out.reshape(full)), grad_out)


@public
def global_max_pool(x, *, keepdims=True, return_indices=False, data_format="channels_first", n_threads=None):
    """Maximum of every plane.

    Parameters
    ----------
    x : array_like of shape (N, C, *spatial)
        Input with one to three spatial axes, or with the channels last; integers of more than 53 bits
        are refused.
    keepdims : bool, default True
        Keep the spatial axes, with length 1.
    return_indices : bool, default False
        Also return where each maximum stands.
    data_format : {"channels_first", "channels_last"}, default "channels_first"
        Layout of x and of the results.
    n_threads : int, optional
        As in `conv2d`.

    Returns
    -------
    values : ndarray of shape (N, C, 1, ...), with the channels last if x has, or (N, C) without ``keepdims``
        Of the dtype of x. NaN wins over numbers. -inf, or the smallest integer, of empty planes.
    indices : int64 ndarray of the same shape
        Only with ``return_indices``: as in `max_pool2d`.

    Raises
    ------
    ValueError, TypeError
        If x has other dimensions or dtypes, or planes of more than 2**24 cells.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.global_max_pool(np.arange(12.0).reshape(1, 2, 2, 3), keepdims=False)
    array([[ 5., 11.]])
    """
    return global_extreme("global_max_pool", False, x, keepdims, return_indices, data_format, n_threads)


@public
def global_min_pool(x, *, keepdims=True, return_indices=False, data_format="channels_first", n_threads=None):
    """Minimum of every plane.

    Parameters
    ----------
    x, keepdims, return_indices, data_format, n_threads
        As in `global_max_pool`.

    Returns
    -------
    values : ndarray of shape (N, C, 1, ...), with the channels last if x has, or (N, C) without ``keepdims``
        Of the dtype of x. NaN wins over numbers. inf, or the largest integer, of empty planes.
    indices : int64 ndarray of the same shape
        Only with ``return_indices``: as in `max_pool2d`, of the first minimum.

    Raises
    ------
    ValueError, TypeError
        As `global_max_pool`.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.global_min_pool(np.arange(12.0).reshape(1, 2, 2, 3), keepdims=False)
    array([[0., 6.]])
    """
    return global_extreme("global_min_pool", True, x, keepdims, return_indices, data_format, n_threads)


@public
def global_avg_pool(x, *, keepdims=True, data_format="channels_first", n_threads=None):
    """Mean of every plane.

    Parameters
    ----------
    x : array_like of shape (N, C, *spatial)
        Input with one to three spatial axes, or with the channels last. Converted to float32 or float64
        like a convolution's.
    keepdims, data_format, n_threads
        As in `global_max_pool`.

    Returns
    -------
    ndarray of shape (N, C, 1, ...), with the channels last if x has, or (N, C) without ``keepdims``
        NaN of empty planes. Planes of more than 64 cells are summed in float64.

    Raises
    ------
    ValueError, TypeError
        If x has other dimensions or dtypes.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.global_avg_pool(np.arange(12.0).reshape(1, 2, 2, 3))
    array([[[[2.5]],
    <BLANKLINE>
            [[8.5]]]])
    """
    return global_sum("global_avg_pool", 0.0, x, keepdims, data_format, n_threads)


@public
def global_sum_pool(x, *, keepdims=True, data_format="channels_first", n_threads=None):
    """Sum of every plane.

    Parameters
    ----------
    x, keepdims, data_format, n_threads
        As in `global_avg_pool`.

    Returns
    -------
    ndarray of shape (N, C, 1, ...), with the channels last if x has, or (N, C) without ``keepdims``
        0 of empty planes. Planes of more than 64 cells are summed in float64.

    Raises
    ------
    ValueError, TypeError
        If x has other dimensions or dtypes.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.global_sum_pool(np.arange(12.0).reshape(1, 2, 2, 3), keepdims=False)
    array([[15., 51.]])
    """
    return global_sum("global_sum_pool", 1.0, x, keepdims, data_format, n_threads)


@public
def global_lp_pool(x, p, *, keepdims=True, data_format="channels_first", n_threads=None):
    """Norm of every plane, ``(sum |x|**p) ** (1 / p)``.

    Parameters
    ----------
    x, keepdims, data_format, n_threads
        As in `global_avg_pool`.
    p : float
        Order of the norm, > 0; infinity for the largest absolute value.

    Returns
    -------
    ndarray of shape (N, C, 1, ...), with the channels last if x has, or (N, C) without ``keepdims``
        0 of empty planes; accurate as in `lp_pool2d`.

    Raises
    ------
    ValueError, TypeError
        If x has other dimensions or dtypes, or p is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.global_lp_pool(np.array([[[[3.0, 4.0]]]]), 2, keepdims=False)
    array([[5.]])
    """
    (x,) = _arrays.as_reals("global_lp_pool", x=x)
    p = norm_order("global_lp_pool", p)
    plan, channels_last = plan_global("global_lp_pool", "x", x, data_format)
    return Checked(reduced(plan, norms(plan, x.dtype, p, channels_last, n_threads), keepdims), x)


@public
def global_max_pool_backward(grad_out, indices, input_shape, *, data_format="channels_first", n_threads=None):
    """Gradient of a global maximum pooling: grad_out at the cells of the maxima.

    Parameters
    ----------
    grad_out : array_like of shape (N, C, 1, ...) or (N, C)
        Gradient with respect to the values.
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
    ValueError, TypeError
        As `max_pool2d_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.global_max_pool_backward(np.array([[7.0]]), np.array([[2]]), (1, 1, 4))
    array([[[0., 0., 7., 0.]]])
    """
    return global_extreme_backward("global_max_pool_backward", grad_out, indices, input_shape, data_format, n_threads)


@public
def global_min_pool_backward(grad_out, indices, input_shape, *, data_format="channels_first", n_threads=None):
    """Gradient of a global minimum pooling: grad_out at the cells of the minima.

    Parameters
    ----------
    grad_out, indices, input_shape, data_format, n_threads
        As in `global_max_pool_backward`.

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
    >>> cyconv.global_min_pool_backward(np.array([[7.0]]), np.array([[2]]), (1, 1, 4))
    array([[[0., 0., 7., 0.]]])
    """
    return global_extreme_backward("global_min_pool_backward", grad_out, indices, input_shape, data_format, n_threads)


@public
def global_avg_pool_backward(grad_out, input_shape, *, data_format="channels_first", n_threads=None):
    """Gradient of a global mean pooling: grad_out spread evenly over its plane.

    Parameters
    ----------
    grad_out : array_like of shape (N, C, 1, ...) or (N, C)
        Gradient with respect to the means.
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
    >>> cyconv.global_avg_pool_backward(np.array([[8.0]]), (1, 1, 4))
    array([[[2., 2., 2., 2.]]])
    """
    return global_sum_backward("global_avg_pool_backward", 0.0, grad_out, input_shape, data_format, n_threads)


@public
def global_sum_pool_backward(grad_out, input_shape, *, data_format="channels_first", n_threads=None):
    """Gradient of a global sum pooling: grad_out at every cell of its plane.

    Parameters
    ----------
    grad_out, input_shape, data_format, n_threads
        As in `global_avg_pool_backward`.

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
    >>> cyconv.global_sum_pool_backward(np.array([[8.0]]), (1, 1, 4))
    array([[[8., 8., 8., 8.]]])
    """
    return global_sum_backward("global_sum_pool_backward", 1.0, grad_out, input_shape, data_format, n_threads)


@public
def global_lp_pool_backward(grad_out, x, out, p, *, data_format="channels_first", n_threads=None):
    """Gradient of a global norm pooling, ``grad_out * sign(x) * (|x| / out) ** (p - 1)``.

    Parameters
    ----------
    grad_out : array_like of shape (N, C, 1, ...) or (N, C)
        Gradient with respect to the norms.
    x : array_like of shape (N, C, *spatial)
        The forward call's input.
    out : array_like of shape (N, C, 1, ...) or (N, C)
        The forward call's result.
    p, data_format, n_threads
        As in the forward call.

    Returns
    -------
    ndarray of the shape of x
        As of `lp_pool2d_backward` where x or ``out`` is 0, or p infinite.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes or p do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.global_lp_pool_backward(np.array([[1.0]]), np.array([[[3.0, -4.0]]]), np.array([[5.0]]), 2)
    array([[[ 0.6, -0.8]]])
    """
    function = "global_lp_pool_backward"
    grad_out, x, out = _arrays.as_reals(function, grad_out=grad_out, x=x, out=out)
    p = norm_order(function, p)
    plan, channels_last = plan_global(function, "x", x, data_format)
    full, _ = (with_axes(function, name, array, x.shape, channels_last).shape
               for name, array in (("grad_out", grad_out), ("out", out)))
    run = norms_backward(plan, x.dtype, p, channels_last, n_threads)
    return Checked(lambda grad_out, x, out: run(grad_out.reshape(full), x, out.reshape(full)), grad_out, x, out)
