"""Other views of a convolution: zeros between cells, windows as columns.

They are for understanding, checking and exchanging data. The convolution itself makes no such copies; as one
large matrix it is in `matrix`.
"""

from itertools import product
from math import prod

import numpy as np

from .. import _arrays, _geometry
from ._ranked import (
    batched,
    every_rank,
    frozen,
    names_of_ranks,
    shape_of,
    spatial_of,
)
from .pooling import checked_rank, pool_rank

__all__ = names_of_ranks("upsample_zeros{}", "downsample{}", "unfold{}", "fold{}")


def batch_of(function, rank, x, sizes, channels_last):
    """x as a batch of its own dtype in native byte order, whether the batch axis was added, and its spatial sizes.

    Without a rank in the name that of ``sizes``, an argument of one value or one per axis, counts, then that of x.
    """
    x = _arrays.as_array(function, "x", x)
    x, is_single = batched(function, "x", x, pool_rank(function, rank, sizes, x.ndim), channels_last)
    return x.astype(x.dtype.newbyteorder("="), copy=False), is_single, spatial_of(x.shape, channels_last)


def at(slices, channels_last):
    """Index of a part of each map of a batch."""
    return (slice(None), *slices) if channels_last else (slice(None), slice(None), *slices)


# ---------------------------------------------------------------- resampling


def _upsample_zeros(function, rank, x, factor, *, trailing=None, data_format="channels_first"):
    """Put zeros between the cells of every map, for a convolution with a fractional stride.

    Parameters
    ----------
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input, or with the channels last. Any real dtype.
    factor : int or tuple of int
        Every cell is followed by ``factor - 1`` zeros, per axis; at least 1.
    trailing : int or tuple of int, optional
        Zeros after the last cell of each axis, 0 to ``factor - 1``; None for ``factor - 1``.
    data_format : {"channels_first", "channels_last"}, default "channels_first"
        Layout of x and of the result.

    Returns
    -------
    ndarray of the shape of x with other sizes
        Per axis ``(n - 1) * factor + 1 + trailing``, which is ``n * factor`` unless told otherwise; of the
        dtype of x.

    Raises
    ------
    ValueError, TypeError
        If shapes or parameters do not fit together.

    See Also
    --------
    downsample : The inverse and the gradient, for any ``trailing``.

    Notes
    -----
    ``conv(x, weight, stride=a, input_dilation=b, padding=p)`` is
    ``downsample(conv(upsample_zeros(x, b, trailing=0), weight, padding=p), a)``, for any p in numbers and without
    the copy.

    References
    ----------
    The expander of signal processing: Vaidyanathan, Multirate Systems and Filter Banks, 1993, section 4.1.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.upsample_zeros(np.array([[[1, 2], [3, 4]]]), (1, 3))
    array([[[1, 0, 0, 2, 0, 0],
            [3, 0, 0, 4, 0, 0]]])
    >>> cyconv.upsample_zeros(np.array([[[1, 2], [3, 4]]]), (1, 3), trailing=0)
    array([[[1, 0, 0, 2],
            [3, 0, 0, 4]]])
    """
    channels_last, factor = _arrays.is_channels_last(function, data_format), frozen(factor)
    x, is_single, sizes = batch_of(function, rank, x, factor, channels_last)
    factors = _geometry.per_axis(function, "factor", factor, len(sizes), 1)
    ends = tuple(f - 1 for f in factors)
    if trailing is not None:
        ends = _geometry.per_axis(function, "trailing", frozen(trailing), len(sizes), 0)
        if any(end >= f for end, f in zip(ends, factors)):
            raise ValueError(f"{function}: trailing must be < factor={factors} on every axis, got {trailing!r}")
    pads = tuple((0, end if n else 0) for n, end in zip(sizes, ends))
    windows = _geometry.windows(function, sizes, 1, padding=pads, input_dilation=factors)
    outputs = tuple(w.padded(n) for n, w in zip(sizes, windows))
    shape = shape_of(x.shape[0], x.shape[-1 if channels_last else 1], outputs, channels_last)
    _geometry.check_elements(function, shape)
    y = np.zeros(shape, x.dtype)
    y[at((slice(None, None, f) for f in factors), channels_last)] = x
    return y[0] if is_single else y


def _downsample(function, rank, x, factor, *, data_format="channels_first"):
    """Keep the first of every ``factor`` cells: what a stride does to the convolution of stride 1.

    Parameters
    ----------
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input, or with the channels last. Any real dtype.
    factor : int or tuple of int
        Step between the cells that are kept, per axis; at least 1.
    data_format : {"channels_first", "channels_last"}, default "channels_first"
        Layout of x and of the result.

    Returns
    -------
    ndarray of the shape of x with other sizes
        A copy of ``ceil(n / factor)`` cells per axis, of the dtype of x.

    Raises
    ------
    ValueError, TypeError
        If shapes or parameters do not fit together.

    See Also
    --------
    upsample_zeros : The gradient, with ``trailing=(n - 1) % factor`` for a map of n cells.

    References
    ----------
    The decimator of signal processing: Vaidyanathan, Multirate Systems and Filter Banks, 1993, section 4.1.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.downsample1d([[0, 1, 2, 3, 4, 5, 6]], 3)
    array([[0, 3, 6]])
    """
    channels_last, factor = _arrays.is_channels_last(function, data_format), frozen(factor)
    x, is_single, sizes = batch_of(function, rank, x, factor, channels_last)
    factors = _geometry.per_axis(function, "factor", factor, len(sizes), 1)
    y = x[at((slice(None, None, f) for f in factors), channels_last)].copy()
    return y[0] if is_single else y


# ---------------------------------------------------------------- windows as columns


def copies(windows, sizes, outputs):
    """For every tap that reads the input: the tap, the slices of the outputs that it serves, and those it reads."""
    for axes in product(*(w.reads(n, o) for w, n, o in zip(windows, sizes, outputs))):
        yield tuple(zip(*axes))


def windows_of(function, sizes, kernel_size, stride, padding, dilation):
    """Windows, and the numbers of their outputs."""
    windows = _geometry.windows(function, sizes, *map(frozen, (kernel_size, stride, padding, dilation)))
    return windows, _geometry.output_sizes(function, sizes, windows)


def columns_at(columns, channels, windows, outputs, channels_last):
    """Columns as an array (N, C, *kernel, *outputs), which shares their memory, and its indexing by a tap."""
    kernel = tuple(w.kernel for w in windows)
    if channels_last:
        cells = columns.reshape(columns.shape[0], *outputs, channels, *kernel)
        return cells, lambda tap, places: (slice(None), *places, slice(None), *tap)
    cells = columns.reshape(columns.shape[0], channels, *kernel, *outputs)
    return cells, lambda tap, places: (slice(None), slice(None), *tap, *places)


def _unfold(function, rank, x, kernel_size, *, stride=1, padding=0, dilation=1, data_format="channels_first"):
    """Windows as the columns of a matrix, known as im2col.

    A convolution is one matrix product with them: ``weight.reshape(K, -1) @ unfold(x, kernel_size)``, reshaped to
    the outputs; with the channels last ``unfold(x, kernel_size) @ weight.reshape(K, -1).T``.

    Parameters
    ----------
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input, or with the channels last. Any real dtype.
    kernel_size, stride, padding, dilation
        As in `conv2d`; padded cells are 0.
    data_format : {"channels_first", "channels_last"}, default "channels_first"
        Layout of x and of the result.

    Returns
    -------
    ndarray of shape (N, C * prod(kernel_size), L), or (N, L, C * prod(kernel_size)) with the channels last
        L windows in row-major order, without N as x; for each the channels, and for each of them the taps in
        row-major order, whatever the layout. Of the dtype of x.

    Raises
    ------
    ValueError, TypeError
        If shapes or parameters do not fit together.

    See Also
    --------
    fold : The adjoint, and so the gradient: ``fold(grad_out, sizes, kernel_size, ...)`` with the sizes of x.

    References
    ----------
    ``torch.nn.functional.unfold``, which takes images only, symmetric padding, and its parameters in another order.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.unfold2d(np.arange(9).reshape(1, 3, 3), 2)
    array([[0, 1, 3, 4],
           [1, 2, 4, 5],
           [3, 4, 6, 7],
           [4, 5, 7, 8]])
    """
    channels_last, kernel_size = _arrays.is_channels_last(function, data_format), frozen(kernel_size)
    x, is_single, sizes = batch_of(function, rank, x, kernel_size, channels_last)
    windows, outputs = windows_of(function, sizes, kernel_size, stride, padding, dilation)
    channels = x.shape[-1 if channels_last else 1]
    shape = shape_of(x.shape[0], channels * prod(w.kernel for w in windows), (prod(outputs),), channels_last)
    _geometry.check_elements(function, shape)
    columns = np.zeros(shape, x.dtype)
    cells, place = columns_at(columns, channels, windows, outputs, channels_last)
    for tap, places, reads in copies(windows, sizes, outputs):
        cells[place(tap, places)] = x[at(reads, channels_last)]
    return columns[0] if is_single else columns


def _fold(function, rank, x, output_size, kernel_size, *, stride=1, padding=0, dilation=1,
          data_format="channels_first"):
    """Add up columns at the places that they were unfolded from, known as col2im: the adjoint of `unfold`.

    Parameters
    ----------
    x : array_like of shape (N, C * prod(kernel_size), L), or (N, L, C * prod(kernel_size)) with the channels last
        Columns, in the order of `unfold`, with or without N. Converted to float32 or float64 like the input of a
        convolution.
    output_size : int or tuple of int
        Sizes of the maps that were unfolded.
    kernel_size, stride, padding, dilation
        As in `unfold`.
    data_format : {"channels_first", "channels_last"}, default "channels_first"
        Layout of x and of the result.

    Returns
    -------
    ndarray of shape (N, C, SPATIAL), or as x without N or with channels last
        Of sizes output_size; 0 where no window reads.

    Raises
    ------
    ValueError, TypeError
        If shapes or parameters do not fit together.

    See Also
    --------
    unfold : The adjoint, and so the gradient: ``unfold(grad_out, kernel_size, ...)``.

    Notes
    -----
    A cell gets its terms in the row-major order of the taps.

    References
    ----------
    ``torch.nn.functional.fold``, which gives images only and takes its parameters in another order.

    Examples
    --------
    Each cell comes back as often as windows read it:

    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.fold2d(cyconv.unfold2d(np.ones((1, 3, 4)), 2), (3, 4), 2)
    array([[[1., 2., 2., 1.],
            [2., 4., 4., 2.],
            [1., 2., 2., 1.]]])
    """
    channels_last = _arrays.is_channels_last(function, data_format)
    (x,) = _arrays.as_reals(function, x=x)
    sizes, kernel = fold_axes(function, rank, frozen(output_size), frozen(kernel_size))
    windows, outputs = windows_of(function, sizes, kernel, stride, padding, dilation)
    is_single = x.ndim == 2
    columns = x[None] if is_single else x
    taps, count = prod(kernel), prod(outputs)
    axis = -1 if channels_last else 1
    if columns.ndim != 3 or columns.shape[axis] % taps or columns.shape[-axis] != count:
        rows = f"C * {taps}"
        expected = f"{count}, {rows}" if channels_last else f"{rows}, {count}"
        raise ValueError(f"{function}: x must have shape (N, {expected}) or ({expected}), for {taps} taps and "
                         f"{count} windows in maps of {sizes}, got {x.shape}")
    channels = columns.shape[axis] // taps
    shape = shape_of(columns.shape[0], channels, sizes, channels_last)
    _geometry.check_elements(function, shape)
    maps = np.zeros(shape, x.dtype)
    cells, place = columns_at(columns, channels, windows, outputs, channels_last)
    for tap, places, reads in copies(windows, sizes, outputs):
        maps[at(reads, channels_last)] += cells[place(tap, places)]
    return maps[0] if is_single else maps


def fold_axes(function, rank, output_size, kernel_size):
    """Sizes of the maps and of the kernel, with the axes that the name or the longer of both has."""
    if rank is None:
        entries = (_geometry.as_tuple(value) for value in (output_size, kernel_size))
        rank = checked_rank(function, max(0 if e is None else len(e) for e in entries))
    return (_geometry.per_axis(function, "output_size", output_size, rank, 0),
            _geometry.per_axis(function, "kernel_size", kernel_size, rank, 1))


upsample_zeros, upsample_zeros1d, upsample_zeros2d, upsample_zeros3d = every_rank(_upsample_zeros, "upsample_zeros{}")
downsample, downsample1d, downsample2d, downsample3d = every_rank(_downsample, "downsample{}")
unfold, unfold1d, unfold2d, unfold3d = every_rank(_unfold, "unfold{}")
fold, fold1d, fold2d, fold3d = every_rank(_fold, "fold{}")
