"""Maxima back to where they stood, and maxima over groups of channels."""

from math import prod

import numpy as np

from .. import _arrays, _geometry
from ._pooling import as_comparable, as_indices, check_channels, extremes, in_dtype, move, pool_rank, prepare
from ._ranked import batched, checked_axis, every_rank, frozen, names_of_ranks, shape_of, spatial_of

__all__ = [*names_of_ranks("max_unpool{}", "max_unpool{}_backward"), "maxout", "maxout_backward"]


def _max_unpool(function, rank, x, indices, kernel_size, stride=None, padding=0, *, dilation=1, output_size=None,
                data_format="channels_first", n_threads=None):
    """Values at their indices in a plane of zeros: undoes a maximum pooling as far as possible.

    Parameters
    ----------
    x : array_like of shape (N, C, OUTPUTS) or (C, OUTPUTS)
        Values, of the shape that the pooling returned; integers of more than 53 bits are refused.
    indices : array_like of int, shape of x
        From `max_pool2d`; -1 places nothing. Of equal indices the last one in row-major order counts.
    kernel_size, stride, padding, dilation
        Of the pooling; they say how large its input was. Names of paddings other than "valid" depend on
        that size and need ``output_size``.
    output_size : tuple of int, optional
        Spatial sizes of the result, or its whole shape: the shape of the pooling's input. Several sizes
        give the same number of windows; the default is the one that they exactly cover.
    data_format, n_threads
        As in `max_pool2d`.

    Returns
    -------
    ndarray of shape (N, C, SPATIAL), or as x without N or with channels last
        Of the dtype of x, with sizes ``(outputs - 1) * stride - low - high + dilation * (kernel_size - 1)
        + 1`` unless ``output_size`` says otherwise.

    Raises
    ------
    ValueError
        If shapes or parameters do not fit, ``output_size`` differs from the default by ``stride`` or
        more, or an index lies outside its plane. Nothing is written there.
    TypeError
        If indices are not integers, or dtypes do not fit.

    References
    ----------
    ``torch.nn.functional.max_unpool2d``, which has neither dilation nor padding per side.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> x = np.array([[[1, 9, 2, 3], [4, 5, 6, 8]]])
    >>> values, indices = cyconv.max_pool2d(x, 2, return_indices=True)
    >>> cyconv.max_unpool2d(values, indices, 2)
    array([[[0, 9, 0, 0],
            [0, 0, 0, 8]]])
    """
    channels_last = _arrays.is_channels_last(function, data_format)
    given, x = as_comparable(function, x)
    indices = as_indices(function, indices, x.shape)
    x, is_single = batched(function, "x", x, pool_rank(function, rank, kernel_size, x.ndim), channels_last)
    indices = indices[None] if is_single else indices
    kernel_size, padding, dilation = frozen(kernel_size), frozen(padding), frozen(dilation)
    stride = kernel_size if stride is None else frozen(stride)
    channels = x.shape[-1 if channels_last else 1]
    sizes = unpooled_sizes(function, spatial_of(x.shape, channels_last), kernel_size, stride, padding, dilation,
                           spatial_output_size(function, output_size, x, channels, channels_last, is_single))
    shape = shape_of(x.shape[0], channels, sizes, channels_last)
    _geometry.check_elements(function, shape)
    _geometry.check_range(function, "the size of the result", sizes, sizes, 0)
    y = np.empty(shape, x.dtype)
    move(function, "max_unpool", np.ascontiguousarray(x), indices, y, channels_last, n_threads, "output")
    y = in_dtype(y, given.dtype)
    return y[0] if is_single else y


def spatial_output_size(function, output_size, x, channels, channels_last, is_single):
    """``output_size`` as spatial sizes, or None."""
    if output_size is None:
        return None
    rank = x.ndim - 2
    sizes = _geometry.as_tuple(frozen(output_size))
    full = rank + (1 if is_single else 2)
    if sizes is None or len(sizes) not in (rank, full) or not all(_geometry.is_integer(n) and n >= 0 for n in sizes):
        raise ValueError(f"{function}: output_size must be {rank} or {full} sizes >= 0, "
                         f"got {_geometry.shape_hint(output_size)}")
    sizes = tuple(int(n) for n in sizes)
    if len(sizes) == rank:
        return sizes
    shape = (1, *sizes) if is_single else sizes
    if (shape[0], shape[-1 if channels_last else 1]) != (x.shape[0], channels):
        raise ValueError(f"{function}: output_size {output_size!r} and x of shape {x.shape} differ in N or C")
    return spatial_of(shape, channels_last)


def unpooled_sizes(function, outputs, kernel_size, stride, padding, dilation, output_size):
    """Input sizes of a pooling with so many outputs."""
    if output_size is None and isinstance(padding, str) and padding.lower() in _geometry.PADDING_NAMES:
        if padding.lower() not in ("valid", "full"):
            raise ValueError(f"{function}: padding={padding!r} depends on the size of the result; pass output_size")
    windows = _geometry.windows(function, output_size or outputs, kernel_size, stride, padding, dilation)
    exact = [(o - 1) * w.stride + w.extent - w.low - w.high for o, w in zip(outputs, windows)]
    sizes = exact if output_size is None else output_size
    # Ceil mode may drop a window that lies in the padding, which stride does not account for.
    if not all(abs(n - e) < w.stride or w.output_size(n, True) == o
               for n, e, w, o in zip(sizes, exact, windows, outputs)):
        least, most = (tuple(max(e + sign * (w.stride - 1), 0) for e, w in zip(exact, windows)) for sign in (-1, 1))
        raise ValueError(f"{function}: output_size={tuple(sizes)} not reachable; valid range is {least} to {most}")
    if any(n < 0 for n in sizes):
        raise ValueError(f"{function}: padding {padding!r} is larger than the windows of {tuple(outputs)} outputs")
    return tuple(sizes)


def _max_unpool_backward(function, rank, grad_out, indices, *, data_format="channels_first", n_threads=None):
    """Gradient of an unpooling: grad_out at the indices.

    Parameters
    ----------
    grad_out : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Gradient with respect to the result, in the layout of ``data_format``.
    indices : array_like of int
        As in the forward call; of equal ones each receives the gradient. 0 for -1.
    data_format, n_threads
        As in the forward call.

    Returns
    -------
    ndarray of the shape of indices
        (N, C, OUTPUTS), or without N or with channels last.

    Raises
    ------
    ValueError
        If shapes do not fit or an index lies outside its plane.
    TypeError
        If indices are not integers, or dtypes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.max_unpool1d_backward(np.array([[10.0, 20, 30, 40]]), np.array([[1, 3]]))
    array([[20., 40.]])
    """
    channels_last = _arrays.is_channels_last(function, data_format)
    (grad_out,) = _arrays.as_reals(function, grad_out=grad_out)
    grad_out, is_single = batched(function, "grad_out", grad_out, pool_rank(function, rank, 1, grad_out.ndim),
                                  channels_last)
    indices = _arrays.as_array(function, "indices", indices)
    if indices.ndim != grad_out.ndim - is_single:
        raise ValueError(f"{function}: indices must have {grad_out.ndim - is_single} dimensions as grad_out, "
                         f"got shape {indices.shape}")
    indices = as_indices(function, indices, indices.shape)
    indices = indices[None] if is_single else indices
    check_channels(function, grad_out, indices.shape, channels_last, "indices of shape")
    dx = np.empty(indices.shape, grad_out.dtype)
    move(function, "max_unpool_backward", dx, indices, np.ascontiguousarray(grad_out), channels_last, n_threads,
         "output")
    return dx[0] if is_single else dx


max_unpool, max_unpool1d, max_unpool2d, max_unpool3d = every_rank(_max_unpool, "max_unpool{}")
max_unpool_backward, max_unpool1d_backward, max_unpool2d_backward, max_unpool3d_backward = every_rank(
    _max_unpool_backward, "max_unpool{}_backward")


# ---------------------------------------------------------------- maxout


def maxout(x, pieces, axis=1, *, return_indices=False, n_threads=None):
    """Maximum over groups of channels that follow each other.

    Parameters
    ----------
    x : array_like
        Any shape with K * pieces values along ``axis``; integers of more than 53 bits are refused.
    pieces : int
        Channels of a group, at least 1.
    axis : int, default 1
        The axis of the channels; -1 with the channels last.
    return_indices : bool, default False
        Also return which channel each maximum comes from.
    n_threads : int, optional
        As in `conv2d`.

    Returns
    -------
    values : ndarray of the shape of x, with K values along ``axis``
        ``values[k] = max(x[k * pieces], ..., x[k * pieces + pieces - 1])``, of the dtype of x. NaN wins
        over numbers.
    indices : int64 ndarray of the same shape
        Only with ``return_indices``: number along ``axis`` of the first maximum (or first NaN).

    Raises
    ------
    ValueError, TypeError
        If pieces does not divide the channels, or dtypes do not fit.

    References
    ----------
    Goodfellow, Warde-Farley, Mirza, Courville, Bengio: Maxout networks, ICML 2013.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.maxout([[1, 5, 2, 4, 3, 0]], 3)
    array([[5, 4]])
    """
    given, x = as_comparable("maxout", x)
    axis = checked_axis("maxout", "x", x, axis)
    (pieces,) = _geometry.per_axis("maxout", "pieces", pieces, 1, 1)
    if x.shape[axis] % pieces:
        raise ValueError(f"maxout: pieces={pieces} must divide the {x.shape[axis]} channels of x "
                         f"(axis {axis} of shape {x.shape})")
    shape = (*x.shape[:axis], x.shape[axis] // pieces, *x.shape[axis + 1:])
    if x.size:
        rows, channels_last = as_rows(x, axis)
        plan = prepare("maxout", rows.shape, pieces, None, 0, 1, False, channels_last)
        found = extremes(plan, x.dtype, given.dtype, False, return_indices, channels_last, n_threads)(rows)
    else:
        y = in_dtype(x, given.dtype)
        found = (y, np.empty(shape, np.int64)) if return_indices else y
    return tuple(array.reshape(shape) for array in found) if return_indices else found.reshape(shape)


def maxout_backward(grad_out, indices, pieces, axis=1, *, n_threads=None):
    """Gradient of `maxout`: grad_out at the channels of the maxima.

    Parameters
    ----------
    grad_out : array_like
        Gradient with respect to the values.
    indices : array_like of int, shape of grad_out
        From the forward call; -1 receives nothing.
    pieces, axis, n_threads
        As in the forward call.

    Returns
    -------
    ndarray of the shape of the forward call's x

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes do not fit, or an index is no channel. Nothing is written there.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.maxout_backward([[7.0, 8.0]], [[1, 3]], 3)
    array([[0., 7., 0., 8., 0., 0.]])
    """
    function = "maxout_backward"
    (grad_out,) = _arrays.as_reals(function, grad_out=grad_out)
    indices = as_indices(function, indices, grad_out.shape)
    axis = checked_axis(function, "grad_out", grad_out, axis)
    (pieces,) = _geometry.per_axis(function, "pieces", pieces, 1, 1)
    shape = (*grad_out.shape[:axis], grad_out.shape[axis] * pieces, *grad_out.shape[axis + 1:])
    _geometry.check_elements(function, shape)
    dx = np.empty(shape, grad_out.dtype)
    planes, channels_last = as_rows(dx, axis)
    move(function, "max_pool_backward", np.ascontiguousarray(grad_out), indices, planes, channels_last, n_threads)
    return dx


def as_rows(x, axis):
    """x as a batch with ``axis`` as its only spatial axis, and whether its channels are last."""
    before, after = prod(x.shape[:axis]), prod(x.shape[axis + 1:])
    if after == 1:
        return x.reshape(1, before, x.shape[axis]), False
    return x.reshape(before, x.shape[axis], after), True
