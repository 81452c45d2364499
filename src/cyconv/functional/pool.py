"""Pooling and its gradients: user forms -> plan -> arrays -> one kernel call."""

from functools import lru_cache
from math import isfinite, prod
from typing import NamedTuple

import numpy as np

from .. import _arrays, _geometry, _kernels
from ._ranked import batched, check_shape, frozen, input_shape_of, ranked, shape_of, spatial_of, team

# Taps are counted in floats inside the kernels.
MAX_TAPS = 2**24


class Plan(NamedTuple):
    """What the shapes and parameters of a pooling determine."""

    out_shape: tuple
    table: np.ndarray              # the window as _geometry.phase_table
    spans: np.ndarray              # per tap of the last axis: the outputs that it serves
    cells: np.ndarray              # per tap of the window: its cell in the plane, from the first tap on
    counts: dict                   # for count_include_pad False, True: cells that count, per axis and output
    work: int                      # cells visited


@lru_cache(maxsize=4096, typed=True)
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
    return Plan(
        out_shape,
        np.array(_geometry.phase_table(windows, outputs), np.intp),
        np.array([windows[-1].outputs_inside(s, sizes[-1], outputs[-1]) for s in range(windows[-1].kernel)], np.intp),
        cells_of_taps(sizes, windows),
        {include: np.array([1] * (3 - len(sizes)) + [count for n, w, o in zip(sizes, windows, outputs) for count in
                           (w.cells_in(-w.low, n + w.high, o) if include else w.cells_in(0, n, o))], np.intp)
         for include in (False, True)},
        prod(out_shape) * taps,
    )


def cells_of_taps(sizes, windows):
    """Flat distance in the input plane from the first tap of a window to each of its taps."""
    cells = np.zeros((), np.int64)
    for n, w in zip(sizes, windows):
        cells = cells[..., None] * n + np.arange(w.kernel) * w.dilation
    return cells.ravel()


def pool_rank(rank, kernel_size, ndim):
    """The rank of a pooling, from the name, the kernel size, or a batch of ``ndim`` axes."""
    if rank is not None:
        return rank
    sizes = _geometry.as_tuple(kernel_size)
    return ndim - 2 if sizes is None or len(sizes) == 1 else len(sizes)


def prepare(function, x_shape, kernel_size, stride, padding, dilation, ceil_mode, channels_last):
    return plan_pool(function, x_shape, frozen(kernel_size), frozen(stride), frozen(padding), frozen(dilation),
                     bool(ceil_mode), channels_last)


def _max_pool(function, rank, x, kernel_size, stride=None, padding=0, *, dilation=1, ceil_mode=False,
              return_indices=False, data_format="channels_first", n_threads=None):
    """Maximum of every window.

    Parameters
    ----------
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input, or with the channels last. Converted to float32 or float64 like a convolution's.
    kernel_size : int or tuple of int
        Size of the window, at least 1.
    stride : int or tuple of int, optional
        Step of the window, at least 1; None for ``kernel_size``.
    padding : int, tuple, or str, default 0
        Cells around the input that never win; forms as in `conv2d`.
    dilation : int or tuple of int, default 1
        Step between the cells of a window.
    ceil_mode : bool, default False
        Also pool the last, partly filled window, if it starts inside the input or its left padding.
    return_indices : bool, default False
        Also return where each maximum stands.
    data_format : {"channels_first", "channels_last"}, default "channels_first"
        Layout of x and of the results.
    n_threads : int, optional
        As in `conv2d`.

    Returns
    -------
    values : ndarray of shape (N, C, OUTPUTS), or as x without N or with channels last
        NaN wins over numbers. -inf where a window has no input cell.
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
    (x,) = _arrays.as_reals(function, x=x)
    x, is_single = batched(function, "x", x, pool_rank(rank, kernel_size, x.ndim), channels_last)
    plan = prepare(function, x.shape, kernel_size, stride, padding, dilation, ceil_mode, channels_last)
    y = np.empty(plan.out_shape, x.dtype)
    indices = np.empty(plan.out_shape, np.int64) if return_indices else None
    if y.size:
        _kernels.kernels[x.dtype].max_pool(x, y, indices, plan.table, plan.spans, plan.cells, channels_last,
                                           team(n_threads, plan.work))
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
        rank = len(_geometry.as_tuple(input_shape) or ()) - (2 if grad_out.ndim == len(input_shape) else 1)
    grad_out, is_single = batched(function, "grad_out", grad_out, rank, channels_last)
    shape = input_shape_of(function, input_shape, rank, is_single)
    indices = np.asarray(indices)
    if indices.dtype.kind not in "iu":
        raise TypeError(f"{function}: indices must be integers, got dtype {indices.dtype}")
    indices = indices[None] if is_single else indices
    check_shape(function, "indices", indices, grad_out.shape)
    axis = -1 if channels_last else 1
    if grad_out.shape[0] != shape[0] or grad_out.shape[axis] != shape[axis]:
        raise ValueError(f"{function}: grad_out of shape {grad_out.shape} and input_shape {shape} differ in N or C")
    if indices.dtype == np.uint64 and indices.size and indices.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{function}: index {indices.max()} is outside the input plane")
    indices = np.ascontiguousarray(indices, np.int64)
    dx = np.zeros(shape, grad_out.dtype)
    bad = _kernels.kernels[dx.dtype].max_pool_backward(np.ascontiguousarray(grad_out), indices, dx, channels_last,
                                                       team(n_threads, dx.size))
    if bad >= 0:
        position = tuple(int(i) for i in np.unravel_index(bad, indices.shape))
        raise ValueError(f"{function}: index {indices[position]} at position {position} is outside the input plane of "
                         f"{prod(spatial_of(shape, channels_last))} cells")
    return dx[0] if is_single else dx


def mean_divisor(function, divisor_override):
    if divisor_override is None:
        return 0.0
    value = float(divisor_override)
    if value == 0 or not isfinite(value):
        raise ValueError(f"{function}: divisor_override must be a finite number other than 0, got {divisor_override!r}")
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
    x, is_single = batched(function, "x", x, pool_rank(rank, kernel_size, x.ndim), channels_last)
    plan = prepare(function, x.shape, kernel_size, stride, padding, dilation, ceil_mode, channels_last)
    y = np.empty(plan.out_shape, x.dtype)
    if y.size:
        _kernels.kernels[x.dtype].avg_pool(
            x, y, plan.table, plan.spans, plan.counts[bool(count_include_pad)],
            mean_divisor(function, divisor_override), channels_last, team(n_threads, plan.work))
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
    rank = pool_rank(rank, kernel_size, len(_geometry.as_tuple(input_shape) or ()))
    grad_out, is_single = batched(function, "grad_out", grad_out, rank, channels_last)
    shape = input_shape_of(function, input_shape, rank, is_single)
    plan = prepare(function, shape, kernel_size, stride, padding, dilation, ceil_mode, channels_last)
    check_shape(function, "grad_out", grad_out, plan.out_shape)
    dx = np.zeros(shape, grad_out.dtype)
    if grad_out.size and dx.size:
        _kernels.kernels[dx.dtype].avg_pool_backward(
            grad_out, dx, plan.table, plan.spans, plan.counts[bool(count_include_pad)],
            mean_divisor(function, divisor_override), channels_last, team(n_threads, plan.work))
    return dx[0] if is_single else dx


max_pool = ranked(_max_pool, "max_pool", None)
max_pool2d = ranked(_max_pool, "max_pool2d", 2)
max_pool_backward = ranked(_max_pool_backward, "max_pool_backward", None)
max_pool2d_backward = ranked(_max_pool_backward, "max_pool2d_backward", 2)
avg_pool = ranked(_avg_pool, "avg_pool", None)
avg_pool2d = ranked(_avg_pool, "avg_pool2d", 2)
avg_pool_backward = ranked(_avg_pool_backward, "avg_pool_backward", None)
avg_pool2d_backward = ranked(_avg_pool_backward, "avg_pool2d_backward", 2)
