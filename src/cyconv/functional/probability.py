"""The softmax along an axis, its logarithm, and their gradients."""

import numpy as np

from .. import _arrays, _kernels
from ._public import Checked, public
from ._ranked import check_shape, checked_axis

__all__ = ["softmax", "softmax_backward", "log_softmax", "log_softmax_backward"]


@public
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


@public
def softmax_backward(grad_out, y, axis=-1):
    """Gradient of `softmax` from its result: ``y * (grad_out - sum(grad_out * y))``.

    Parameters
    ----------
    grad_out : array_like
        Gradient with respect to the result.
    y : array_like of the same shape
        The result, not the input; sums are in float64.
    axis : int, default -1
        As in `softmax`.

    Returns
    -------
    ndarray of the shape of y

    Raises
    ------
    TypeError, ValueError
        If the arrays are not of real numbers of one shape, or have no such axis.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.softmax_backward([4.0, 0.0], [0.25, 0.75])
    array([ 0.75, -0.75])
    """
    return along_axis_backward("softmax_backward", grad_out, y, axis, False)


@public
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


@public
def log_softmax_backward(grad_out, y, axis=-1):
    """Gradient of `log_softmax` from its result: ``grad_out - exp(y) * sum(grad_out)``.

    Parameters
    ----------
    grad_out : array_like
        Gradient with respect to the result.
    y : array_like of the same shape
        The result, not the input; sums are in float64.
    axis : int, default -1
        As in `log_softmax`.

    Returns
    -------
    ndarray of the shape of y

    Raises
    ------
    TypeError, ValueError
        If the arrays are not of real numbers of one shape, or have no such axis.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.log_softmax_backward([4.0, 0.0], np.log([0.25, 0.75]))
    array([ 3., -3.])
    """
    return along_axis_backward("log_softmax_backward", grad_out, y, axis, True)


def along_axis(function, x, axis, log):
    (x,) = _arrays.as_reals(function, x=x)
    axis = checked_axis(function, "x", x, axis)
    kernels, n, to_rows, from_rows = _kernels.kernels[x.dtype], x.shape[axis], *rows_along(axis, x)

    def compute(x):
        rows = to_rows(x)
        y = np.empty(rows.shape, rows.dtype)
        if y.size:
            kernels.softmax(rows, y, n, log)
        return from_rows(y)

    return Checked(compute, x)


def along_axis_backward(function, grad_out, y, axis, log):
    grad_out, y = _arrays.as_reals(function, grad_out=grad_out, y=y)
    check_shape(function, "grad_out", grad_out, y.shape)
    axis = checked_axis(function, "y", y, axis)
    kernels, n, to_rows, from_rows = _kernels.kernels[y.dtype], y.shape[axis], *rows_along(axis, grad_out, y)

    def compute(grad_out, y):
        grad_rows, rows = to_rows(grad_out), to_rows(y)
        dx = np.empty(rows.shape, rows.dtype)
        if dx.size:
            kernels.softmax_backward(grad_rows, rows, dx, n, log)
        return from_rows(dx)

    return Checked(compute, grad_out, y)


def rows_along(axis, *arrays):
    """Functions from such arrays to contiguous ones whose last axis is this, and back."""
    if all(axis == array.ndim - 1 and array.flags.c_contiguous for array in arrays):
        return (lambda array: array,) * 2
    return (lambda array: np.ascontiguousarray(np.moveaxis(array, axis, -1)),
            lambda rows: np.ascontiguousarray(np.moveaxis(rows, -1, axis)))
