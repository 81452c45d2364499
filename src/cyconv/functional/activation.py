"""Activations and the softmax. exp and log are cyconv's own: the same bits on every instruction set."""

import numpy as np

from .. import _arrays, _geometry, _kernels
from ._ranked import check_shape, team

__all__ = ["relu", "relu_backward", "softmax", "log_softmax"]


def relu(x, *, out=None, n_threads=None):
    """Rectified linear unit, ``max(x, 0)`` elementwise; NaN stays NaN.

    Parameters
    ----------
    x : array_like of any shape
        Computed in float32 or float64, ``np.result_type(x, np.float32)``.
    out : ndarray, optional
        C-contiguous array of x's shape and the computation dtype to write to; x itself is allowed.
    n_threads : int, optional
        As in `conv2d`.

    Returns
    -------
    ndarray of the shape of x

    Raises
    ------
    TypeError
        If x is not of real numbers that fit float32 or float64.
    ValueError
        If ``out`` does not fit.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.relu([-1.0, 0.0, 2.0])
    array([0., 0., 2.])
    """
    given = x
    (x,) = _arrays.as_reals("relu", x=x)
    x = np.ascontiguousarray(x).reshape(x.shape)
    y, copy = _arrays.output_for("relu", out, x.shape, x.dtype, () if out is given else (x,))
    _kernels.kernels[x.dtype].relu(x, y, team(n_threads, x.size))
    if copy:
        out[...] = y
    return out if copy else y


def relu_backward(grad_out, y, *, n_threads=None):
    """Gradient of `relu` from its result: ``grad_out`` where ``y > 0``, else 0.

    Parameters
    ----------
    grad_out : array_like
        Gradient with respect to the result.
    y : array_like of the same shape
        The result, or the input: both have the same sign.
    n_threads : int, optional
        As in `conv2d`.

    Returns
    -------
    ndarray of the shape of y

    Raises
    ------
    ValueError, TypeError
        If shapes differ or dtypes do not fit.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.relu_backward([5.0, 6.0, 7.0], [0.0, 0.0, 2.0])
    array([0., 0., 7.])
    """
    reals = _arrays.as_reals("relu_backward", grad_out=grad_out, y=y)
    grad_out, y = (np.ascontiguousarray(a).reshape(a.shape) for a in reals)
    check_shape("relu_backward", "grad_out", grad_out, y.shape)
    dx = np.empty_like(y)
    _kernels.kernels[y.dtype].relu_backward(grad_out, y, dx, team(n_threads, y.size))
    return dx


def softmax(x, axis=-1):
    """Exponentials along an axis over their sum.

    Parameters
    ----------
    x : array_like
        Computed in float32 or float64, ``np.result_type(x, np.float32)``; sums are in float64.
    axis : int, default -1
        The axis whose results sum to 1.

    Returns
    -------
    ndarray of the shape of x
        In [0, 1].

    Raises
    ------
    TypeError, ValueError
        If x is not of real numbers, or has no such axis.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.softmax(np.log([[1.0, 3.0]]))
    array([[0.25, 0.75]])
    """
    return along_axis("softmax", x, axis, False)


def log_softmax(x, axis=-1):
    """Logarithm of the softmax, accurate where the softmax is tiny.

    Parameters
    ----------
    x : array_like
        Computed in float32 or float64, ``np.result_type(x, np.float32)``; sums are in float64.
    axis : int, default -1
        The axis of the softmax.

    Returns
    -------
    ndarray of the shape of x
        At most 0.

    Raises
    ------
    TypeError, ValueError
        If x is not of real numbers, or has no such axis.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.log_softmax([[0.0, 1000.0]])
    array([[-1000.,     0.]])
    """
    return along_axis("log_softmax", x, axis, True)


def along_axis(function, x, axis, log):
    (x,) = _arrays.as_reals(function, x=x)
    if not _geometry.is_integer(axis) or not -x.ndim <= axis < x.ndim:
        raise ValueError(f"{function}: axis must be an int from {-x.ndim} to {x.ndim - 1}, got {axis!r}")
    rows = np.ascontiguousarray(np.moveaxis(x, axis, -1))
    y = np.empty_like(rows)
    if y.size:
        _kernels.kernels[y.dtype].softmax(rows, y, rows.shape[-1], log)
    return np.ascontiguousarray(np.moveaxis(y, -1, axis))
