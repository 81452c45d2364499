"""Pooling with any function of the window that works along the last axis of an array, and its gradient."""

from math import prod
from numbers import Real

import numpy as np

from .. import _arrays
from ._pooling import pool_rank, prepare
from ._ranked import batched, check_shape, every_rank, names_of_ranks

__all__ = names_of_ranks("pool{}", "pool{}_backward")

# Blocks of windows, with the indices that collect them, are of about so many bytes.
BLOCK_BYTES = 2**20
BYTES_OF_INDICES = 256       # per window


def _pool(function, rank, x, func, kernel_size, stride=None, padding=0, *, dilation=1, ceil_mode=False, pad_value=0,
          func_vjp=None, data_format="channels_first"):
    """Any function of every window.

    Parameters
    ----------
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input, or with the channels last, of any real dtype.
    func : callable
        ``func(windows, axis=-1)`` for windows of shape (M, cells), cells in row-major order, returns an
        array of shape (M,): `numpy.median`, `numpy.ptp`, `numpy.std`, `numpy.any`, ... It is called on
        blocks of at most 1 MiB, must not keep or change them, and must treat every row by itself.
    kernel_size, stride, padding, dilation, ceil_mode, data_format
        As in `max_pool2d`.
    pad_value : number, default 0
        What windows hold outside the input; NaN for `numpy.nanmedian` and the like. The windows have
        the common dtype of x and pad_value.
    func_vjp : callable, optional
        As in `pool2d_backward`: also return the function that carries gradients back.

    Returns
    -------
    y : ndarray of shape (N, C, OUTPUTS), or as x without N or with channels last
        Of the dtype that func returns.
    backward : callable
        Only with ``func_vjp``: ``backward(grad_out)`` is the gradient with respect to x.

    Raises
    ------
    ValueError, TypeError
        If shapes, parameters or dtypes do not fit, or func returns anything but one value for each
        window, always of the same dtype.

    References
    ----------
    ``scipy.ndimage.generic_filter``, which calls its function once for every window.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.pool2d(np.array([[[12.0, 20, 30, 0], [20, 12, 2, 0]]]), np.median, 2)
    array([[[16.,  1.]]])
    """
    check_callable(function, "func", func)
    if func_vjp is not None:
        check_callable(function, "func_vjp", func_vjp)
    channels_last = _arrays.is_channels_last(function, data_format)
    x = given = _arrays.as_array(function, "x", x)
    x, is_single = batched(function, "x", x, pool_rank(function, rank, kernel_size, x.ndim), channels_last)
    window = (kernel_size, stride, padding, dilation, ceil_mode)
    plan = prepare(function, x.shape, *window, channels_last)
    y = None
    for block, windows, _ in blocks(function, plan, x, pad_value, channels_last):
        values = np.asarray(func(windows, axis=-1))
        if values.shape != (len(windows),):
            raise ValueError(f"{function}: func must return shape {(len(windows),)} for windows of shape "
                             f"{windows.shape}, got {values.shape}")
        if y is None:
            y = np.empty(prod(plan.out_shape), values.dtype)
        if values.dtype != y.dtype:
            raise TypeError(f"{function}: func must always return the same dtype, got {y.dtype} and {values.dtype}")
        y[block] = values
    y = y.reshape(plan.out_shape[1:] if is_single else plan.out_shape)
    if func_vjp is None:
        return y

    def backward(grad_out):
        return custom_gradient(function, rank, grad_out, given, func_vjp, window, pad_value, data_format)

    return y, backward


def _pool_backward(function, rank, grad_out, x, func_vjp, kernel_size, stride=None, padding=0, *, dilation=1,
                   ceil_mode=False, pad_value=0, data_format="channels_first"):
    """Gradient of a pooling with a function of one's own.

    Parameters
    ----------
    grad_out : array_like of shape (N, C, OUTPUTS) or (C, OUTPUTS)
        Gradient with respect to the result, in the layout of ``data_format``.
    x : array_like
        The forward call's input.
    func_vjp : callable
        ``func_vjp(windows, grad)`` for windows of shape (M, cells) and grad of shape (M,) returns what
        each cell of each window receives, an array of the shape of windows.
    kernel_size, stride, padding, dilation, ceil_mode, pad_value, data_format
        As in the forward call.

    Returns
    -------
    ndarray of the shape of x
        Of float32 or float64, the common dtype of grad_out, x and float32.

    Raises
    ------
    ValueError, TypeError
        As the forward call, and if grad_out has not the shape of its result or func_vjp not that of
        its windows.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> def vjp_of_range(windows, grad):
    ...     highest, lowest = (np.zeros_like(windows) for _ in range(2))
    ...     np.put_along_axis(highest, windows.argmax(axis=-1)[:, None], 1, axis=-1)
    ...     np.put_along_axis(lowest, windows.argmin(axis=-1)[:, None], 1, axis=-1)
    ...     return (highest - lowest) * grad[:, None]
    >>> x = np.array([[[4.0, 1.0, 9.0, 7.0]]])
    >>> cyconv.pool2d(x, np.ptp, (1, 2))
    array([[[3., 2.]]])
    >>> cyconv.pool2d_backward(np.array([[[1.0, 5.0]]]), x, vjp_of_range, (1, 2))
    array([[[ 1., -1.,  5., -5.]]])
    """
    check_callable(function, "func_vjp", func_vjp)
    return custom_gradient(function, rank, grad_out, x, func_vjp, (kernel_size, stride, padding, dilation, ceil_mode),
                           pad_value, data_format)


def custom_gradient(function, rank, grad_out, x, func_vjp, window, pad_value, data_format):
    channels_last = _arrays.is_channels_last(function, data_format)
    x = _arrays.as_array(function, "x", x)
    dtype = _arrays.as_reals(function, grad_out=grad_out, x=x)[0].dtype
    grad_out = _arrays.as_array(function, "grad_out", grad_out)
    x, is_single = batched(function, "x", x, pool_rank(function, rank, window[0], x.ndim), channels_last)
    plan = prepare(function, x.shape, *window, channels_last)
    check_shape(function, "grad_out", grad_out, plan.out_shape[1:] if is_single else plan.out_shape)
    grad = np.ascontiguousarray(grad_out, dtype).ravel()
    dx = np.zeros(prod(x.shape), dtype)
    for block, windows, (cells, exist) in blocks(function, plan, x, pad_value, channels_last, 2 * dtype.itemsize + 18):
        share = np.asarray(func_vjp(windows, grad[block]))
        if share.shape != windows.shape:
            raise ValueError(f"{function}: func_vjp must return the shape of windows, {windows.shape}, "
                             f"got {share.shape}")
        cells = np.ravel_multi_index(cells, x.shape, mode="clip").reshape(share.shape) if x.size else share[:, :0]
        exist = exist.reshape(share.shape)
        # One after the other, so an input cell sums in the order of the outputs in either layout.
        if exist.any():
            np.add.at(dx, cells[exist], share[exist].astype(dtype, copy=False))
    dx = dx.reshape(x.shape)
    return dx[0] if is_single else dx


def check_callable(function, name, value):
    if not callable(value):
        raise TypeError(f"{function}: {name} must be a function, got {value!r}")


def blocks(function, plan, x, pad_value, channels_last, more_per_cell=1):
    """The windows of some outputs after the other: the outputs as a slice, windows, cells and which exist.

    ``more_per_cell`` are the bytes that the caller needs beside each cell of a window. Yields at least one
    block, so that a function of no windows says its dtype.
    """
    dtype, pad_value = padded_dtype(function, x.dtype, pad_value)
    size = max(1, BLOCK_BYTES // (plan.n_taps * (dtype.itemsize + more_per_cell) + BYTES_OF_INDICES))
    n_outputs = prod(plan.out_shape)
    for first in range(0, max(n_outputs, 1), size):
        block = slice(first, min(first + size, n_outputs))
        outputs = np.unravel_index(np.arange(block.start, block.stop), plan.out_shape)
        cells, exist = cells_of_outputs(plan, outputs, channels_last)
        if x.size:
            windows = x[cells].astype(dtype, copy=False)
            np.copyto(windows, pad_value, where=~exist)
        else:
            windows = np.full(exist.shape, pad_value, dtype)
        yield block, windows.reshape(len(outputs[0]), plan.n_taps), (cells, exist)


def cells_of_outputs(plan, outputs, channels_last):
    """Index arrays into x, one per axis, that broadcast to (M, *kernel), and which cells exist."""
    sizes, windows = plan.cells
    rank = len(sizes)
    by_axis = list(outputs[1:-1] if channels_last else outputs[2:])
    exist = np.ones((len(outputs[0]),) + tuple(w.kernel for w in windows), bool)
    for axis, (n, w, o) in enumerate(zip(sizes, windows, by_axis)):
        shape = [-1] + [1] * rank
        shape[axis + 1] = w.kernel
        cells = (o[:, None] * w.stride + np.arange(w.kernel) * w.dilation - w.low).reshape(shape)
        exist &= (cells >= 0) & (cells < n)
        by_axis[axis] = np.clip(cells, 0, max(n - 1, 0))
    others = [index.reshape(-1, *[1] * rank) for index in (outputs[0], outputs[-1 if channels_last else 1])]
    return (others[0], *by_axis, others[1]) if channels_last else (*others, *by_axis), exist


def padded_dtype(function, dtype, pad_value):
    """The common dtype of x and pad_value, in the byte order of the machine, and pad_value in it."""
    if not isinstance(pad_value, (Real, np.bool_)):
        raise TypeError(f"{function}: pad_value must be a number, got {pad_value!r}")
    try:
        common = np.result_type(dtype, pad_value).newbyteorder("=")
        return common, common.type(pad_value)
    except OverflowError:
        raise ValueError(f"{function}: pad_value {pad_value!r} does not fit the dtype {dtype} of x") from None


pool, pool1d, pool2d, pool3d = every_rank(_pool, "pool{}")
pool_backward, pool1d_backward, pool2d_backward, pool3d_backward = every_rank(_pool_backward, "pool{}_backward")
