"""Pooling and its gradients: user forms -> plan -> arrays -> one kernel call."""

from functools import lru_cache
from math import isfinite, prod
from numbers import Real
from typing import NamedTuple

import numpy as np

from .. import _arrays, _geometry, _kernels
from ._ranked import (
    batched,
    check_shape,
    every_rank,
    frozen,
    input_shape_of,
    names_of_ranks,
    shape_of,
    spatial_of,
    team,
)

__all__ = names_of_ranks("max_pool{}", "avg_pool{}", "max_pool{}_backward", "avg_pool{}_backward")

# Taps are counted in floats inside the kernels.
MAX_TAPS = 2**24

# A cell takes about as long as so many multiplications of a convolution.
WORK_PER_CELL = 16


class Plan(NamedTuple):
    """What the shapes and parameters of a pooling determine."""

    out_shape: tuple
    table: np.ndarray              # the window as _geometry.phase_table
    inside: np.ndarray             # per output of each axis in turn: first tap and number of taps inside x
    counts: dict                   # for count_include_pad False, True: cells that count, per axis and output
    cells: tuple                   # arguments of `cells_of_taps`, which only maxima with indices need
    work: int                      # cells visited, as multiplications that take as long


@lru_cache(maxsize=256, typed=True)
def plan_pool(function, x_shape, kernel_size, stride, padding, dilation, ceil_mode, channels_last):
    """The `Plan` of a batch; all checks of shapes and parameters."""
    sizes = spatial_of(x_shape, channels_last)
    stride = kernel_size if stride is None else stride
    windows = _geometry.windows(function, sizes, kernel_size, stride, padding, dilation)
    outputs = _geometry.output_sizes(function, sizes, windows, ceil_mode)
    taps = prod(w.kernel for w in windows)
    if taps > MAX_TAPS:
        raise ValueError(f"{function}: kernel_size must have at most {MAX_TAPS} cells, got {kernel_size!r}")
    channels = x_shape[-1 if channels_last else 1]
    out_shape = shape_of(x_shape[0], channels, outputs, channels_last)
    _geometry.check_elements(function, out_shape)
    unit = [(0, 1)] * (3 - len(sizes))
    inside = unit + [span for n, w, o in zip(sizes, windows, outputs) for span in w.taps_in(0, n, o)]
    padded = unit + [span for n, w, o in zip(sizes, windows, outputs) for span in w.taps_in(-w.low, n + w.high, o)]
    return Plan(
        out_shape,
        np.array(_geometry.phase_table(windows, outputs), np.intp),
        np.array(inside, np.intp),
        {include: np.array([n for _, n in spans], np.intp) for include, spans in ((False, inside), (True, padded))},
        (sizes, windows),
        prod(out_shape) * taps * WORK_PER_CELL,
    )


@lru_cache(maxsize=16)
def cells_of_taps(sizes, windows):
    """Flat distance in the input plane from the first tap of a window to each of its taps."""
    cells = np.zeros((), np.int64)
    for n, w in zip(sizes, windows):
        cells = cells[..., None] * n + np.arange(w.kernel) * w.dilation
    return cells.ravel()


def pool_rank(function, rank, kernel_size, ndim):
    """The rank of a pooling, from the name, the kernel size, or a batch of ``ndim`` axes."""
    if rank is not None:
        return rank
    sizes = _geometry.as_tuple(kernel_size)
    return checked_rank(function, ndim - 2 if sizes is None or len(sizes) == 1 else len(sizes))


def checked_rank(function, rank):
    if not 1 <= rank <= 3:
        raise ValueError(f"{function}: arrays must have 1 to 3 spatial axes, got {rank}")
    return rank


def prepare(function, x_shape, kernel_size, stride, padding, dilation, ceil_mode, channels_last):
    return plan_pool(function, x_shape, frozen(kernel_size), frozen(stride), frozen(padding), frozen(dilation),
                     bool(ceil_mode), channels_last)


def check_exact(function, x):
    """Refuse integers that float64, in which they are compared, cannot hold."""
    if x.dtype.itemsize == 8 and x.dtype.kind in "iu" and x.size and max(int(x.max()), -int(x.min())) > 2**53:
        raise TypeError(f"{function}: x has {x.dtype} values beyond 2**53, which are not compared exactly; "
                        "pass smaller integers or floats")
    return x


def in_dtype(y, dtype):
    """``y`` in the dtype of the input; an integer that stands for -inf is the smallest there is."""
    if y.dtype == dtype:
        return y
    if dtype.kind == "f":
        return y.astype(dtype.newbyteorder("="))
    smallest = np.iinfo(dtype).min if dtype.kind in "iu" else False
    return np.where(np.isneginf(y), smallest, np.nan_to_num(y)).astype(dtype.newbyteorder("="))


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
    channels_last = _arrays.is_channels_last(function, data_format)
    given = _arrays.as_array(function, "x", x)
    (x,) = _arrays.as_reals(function, x=check_exact(function, given))
    x, is_single = batched(function, "x", x, pool_rank(function, rank, kernel_size, x.ndim), channels_last)
    plan = prepare(function, x.shape, kernel_size, stride, padding, dilation, ceil_mode, channels_last)
    y = np.empty(plan.out_shape, x.dtype)
    indices = np.empty(plan.out_shape, np.int64) if return_indices else None
    if y.size:
        _kernels.kernels[x.dtype].max_pool(x, y, indices, plan.table, plan.inside,
                                           cells_of_taps(*plan.cells) if return_indices else None, channels_last,
                                           team(n_threads, plan.work))
    y = in_dtype(y, given.dtype)
    if is_single:
        y, indices = y[0], indices[0] if return_indices else None
    return (y, indices) if return_indices else y


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
        If shapes do not fit or an index lies outside its plane. Checked before anything is written.
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
    grad_out, is_single = batched(function, "grad_out", grad_out, rank, channels_last)
    shape = input_shape_of(function, input_shape, rank, is_single)
    indices = _arrays.as_array(function, "indices", indices)
    if indices.dtype.kind not in "iu":
        raise TypeError(f"{function}: indices must be integers, got dtype {indices.dtype}")
    indices = indices[None] if is_single else indices
    check_shape(function, "indices", indices, grad_out.shape)
    axis = -1 if channels_last else 1
    if grad_out.shape[0] != shape[0] or grad_out.shape[axis] != shape[axis]:
        raise ValueError(f"{function}: grad_out of shape {grad_out.shape} and input_shape {shape} differ in N or C")
    plane = prod(spatial_of(shape, channels_last))
    if indices.dtype == np.uint64 and (indices >= plane).any():  # before large ones become negative
        raise outside(function, indices, np.argmax(indices >= plane), plane)
    indices = np.ascontiguousarray(indices, np.int64)
    dx = np.zeros(shape, grad_out.dtype)
    bad = _kernels.kernels[dx.dtype].max_pool_backward(np.ascontiguousarray(grad_out), indices, dx, channels_last,
                                                       team(n_threads, grad_out.size * WORK_PER_CELL))
    if bad >= 0:
        raise outside(function, indices, bad, plane)
    return dx[0] if is_single else dx


def outside(function, indices, flat, plane):
    position = tuple(int(i) for i in np.unravel_index(flat, indices.shape))
    return ValueError(f"{function}: index {indices[position]} at position {position} is outside the input plane of "
                      f"{plane} cells")


def mean_divisor(function, divisor_override, dtype):
    """What the kernel divides by, 0.0 for the number of cells that count."""
    if divisor_override is None:
        return 0.0
    is_number = isinstance(divisor_override, Real)
    with np.errstate(over="ignore", under="ignore"):
        value = float(dtype.type(divisor_override)) if is_number else 0.0
    if value == 0 or not isfinite(value):
        kind = ValueError if is_number else TypeError
        raise kind(f"{function}: divisor_override must be a finite {dtype} other than 0, got {divisor_override!r}")
    return value


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
        NaN where a window has no cell that counts.

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
    x, is_single = batched(function, "x", x, pool_rank(function, rank, kernel_size, x.ndim), channels_last)
    plan = prepare(function, x.shape, kernel_size, stride, padding, dilation, ceil_mode, channels_last)
    divisor = mean_divisor(function, divisor_override, x.dtype)
    y = np.empty(plan.out_shape, x.dtype)
    if y.size:
        _kernels.kernels[x.dtype].avg_pool(
            x, y, plan.table, plan.inside, plan.counts[bool(count_include_pad)], divisor, channels_last,
            team(n_threads, plan.work))
    return y[0] if is_single else y


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
    grad_out, is_single = batched(function, "grad_out", grad_out, rank, channels_last)
    shape = input_shape_of(function, input_shape, rank, is_single)
    plan = prepare(function, shape, kernel_size, stride, padding, dilation, ceil_mode, channels_last)
    check_shape(function, "grad_out", grad_out, plan.out_shape)
    divisor = mean_divisor(function, divisor_override, grad_out.dtype)
    dx = np.zeros(shape, grad_out.dtype)
    if grad_out.size and dx.size:
        _kernels.kernels[dx.dtype].avg_pool_backward(
            grad_out, dx, plan.table, plan.inside, plan.counts[bool(count_include_pad)], divisor, channels_last,
            team(n_threads, plan.work))
    return dx[0] if is_single else dx


max_pool, max_pool1d, max_pool2d, max_pool3d = every_rank(_max_pool, "max_pool{}")
avg_pool, avg_pool1d, avg_pool2d, avg_pool3d = every_rank(_avg_pool, "avg_pool{}")
max_pool_backward, max_pool1d_backward, max_pool2d_backward, max_pool3d_backward = every_rank(
    _max_pool_backward, "max_pool{}_backward")
avg_pool_backward, avg_pool1d_backward, avg_pool2d_backward, avg_pool3d_backward = every_rank(
    _avg_pool_backward, "avg_pool{}_backward")
