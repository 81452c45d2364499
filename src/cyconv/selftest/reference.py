"""Plain NumPy definitions that the kernels are compared with: obvious, slow, any dtype.

Zeros are really inserted and really padded; every tap is one strided slice. Axes are channels first
and of any rank; a window is (kernel, stride, dilation, input_dilation, low, high) per spatial axis.
"""

from itertools import product
from math import prod

import numpy as np

from .._geometry import Window


def spread(x, windows):
    """x with zeros inserted and padded as the windows say."""
    sizes = [(max(n - 1, 0) * w.input_dilation + min(n, 1)) for n, w in zip(x.shape[2:], windows)]
    padded = np.zeros(x.shape[:2] + tuple(n + w.low + w.high for n, w in zip(sizes, windows)), x.dtype)
    padded[inner(x.shape[2:], windows)] = x
    return padded


def inner(sizes, windows):
    """Where the cells of the input lie in the spread array."""
    return (...,) + tuple(slice(w.low, w.low + (n - 1) * w.input_dilation + 1 if n else w.low, w.input_dilation)
                          for n, w in zip(sizes, windows))


def taps(windows, outputs):
    """For every tap: its index in the kernel, and the slice of the spread input that it reads."""
    def along(w, n):
        for j in range(w.kernel):
            first = j * w.dilation
            yield w.kernel - 1 - j if w.flip else j, slice(first, first + (n - 1) * w.stride + 1, w.stride)

    for tap in product(*map(along, windows, outputs)):
        yield tuple(zip(*tap))


def split(channels, groups):
    """Array with its channel axis (1) split into (groups, channels per group)."""
    return channels.reshape(channels.shape[0], groups, channels.shape[1] // groups, *channels.shape[2:])


def flat(array):
    """Array with its spatial axes (3 and following) as one."""
    return array.reshape(*array.shape[:3], prod(array.shape[3:]))


def conv(x, weight, bias, windows, outputs, groups=1):
    """y[n, k, o] = bias[k] + sum_{c, j} weight[k, c, j] x[n, c, cell(o, j)]"""
    padded = split(spread(x, windows), groups)
    w = weight.reshape(groups, -1, *weight.shape[1:])
    y = np.zeros((x.shape[0], groups, w.shape[1], *outputs), x.dtype)
    for index, cells in taps(windows, outputs):
        y += (w[(..., *index)] @ flat(padded[(..., *cells)])).reshape(y.shape)
    y = y.reshape(x.shape[0], weight.shape[0], *outputs)
    return y if bias is None else y + bias.reshape(-1, *[1] * len(outputs))


def conv_grad_input(dy, weight, input_sizes, windows, groups=1):
    """dx[n, c, i] = sum over k, o, j with cell(o, j) = i of  weight[k, c, j] dy[n, k, o]"""
    outputs = dy.shape[2:]
    w, dy = weight.reshape(groups, -1, *weight.shape[1:]), flat(split(dy, groups))
    dx = np.zeros((dy.shape[0], groups * weight.shape[1], *input_sizes), dy.dtype)
    padded = split(spread(dx, windows), groups)
    for index, cells in taps(windows, outputs):
        cells = padded[(..., *cells)]
        cells += (w[(..., *index)].swapaxes(1, 2) @ dy).reshape(cells.shape)
    padded = padded.reshape(dx.shape[:2] + padded.shape[3:])
    return padded[inner(input_sizes, windows)]


def conv_grad_weight(dy, x, windows, groups=1):
    """dweight[k, c, j] = sum over n, o of  dy[n, k, o] x[n, c, cell(o, j)]"""
    padded, dy = split(spread(x, windows), groups), split(dy, groups)
    dw = np.zeros((groups, dy.shape[2], padded.shape[2], *(w.kernel for w in windows)), x.dtype)
    for index, cells in taps(windows, dy.shape[3:]):
        dw[(..., *index)] = (flat(dy) @ flat(padded[(..., *cells)]).swapaxes(2, 3)).sum(axis=0)
    return dw.reshape(-1, *dw.shape[2:])


def conv_grad_bias(dy):
    """dbias[k] = sum over n, o of  dy[n, k, o]"""
    return dy.sum(axis=(0, *range(2, dy.ndim)))


def with_border(x, windows, mode):
    """x with its spatial axes padded as `numpy.pad` does."""
    return np.pad(x, [(0, 0), (0, 0), *((w.low, w.high) for w in windows)], mode=mode)


def fold_border(dpadded, sizes, windows, mode):
    """dx[i] = sum over the cells of the padded input that hold x[i] of  dpadded"""
    dx = np.zeros((*dpadded.shape[:2], *sizes), dpadded.dtype)
    cells = [np.pad(np.arange(n), (w.low, w.high), mode=mode) for n, w in zip(sizes, windows)]
    np.add.at(dx, (..., *np.ix_(*cells)), dpadded)
    return dx


def pool_taps(sizes, windows, outputs):
    """For every tap of a window in row-major order: the input cell per axis and output, and which exist."""
    for tap in product(*(range(w.kernel) for w in windows)):
        cells = [np.arange(o) * w.stride + j * w.dilation - w.low for j, w, o in zip(tap, windows, outputs)]
        exists = np.ones((), bool)
        for c, n in zip(cells, sizes):
            exists = exists[..., None] & (0 <= c) & (c < n)
        yield np.meshgrid(*(np.clip(c, 0, n - 1) for c, n in zip(cells, sizes)), indexing="ij"), exists


def max_pool(x, windows, outputs):
    """Values and flat indices of the first maximum, or the first NaN, of x of a floating dtype."""
    values = np.full((*x.shape[:2], *outputs), -np.inf, x.dtype)
    indices = np.full(values.shape, -1)
    if not x.size:
        return values, indices
    for cells, exists in pool_taps(x.shape[2:], windows, outputs):
        new = x[(..., *cells)]
        wins = exists & ((indices < 0) | (new > values) | (np.isnan(new) & ~np.isnan(values)))
        values = np.where(wins, new, values)
        indices = np.where(wins, np.ravel_multi_index(cells, x.shape[2:]), indices)
    return values, indices


def max_pool_backward(dy, indices, input_sizes):
    """dx[n, c, i] = sum over the o with index[n, c, o] = i of  dy[n, c, o]"""
    dx = np.zeros((*dy.shape[:2], prod(input_sizes)), dy.dtype)
    n, c, *o = np.nonzero(indices >= 0)
    np.add.at(dx, (n, c, indices[n, c, *o]), dy[n, c, *o])
    return dx.reshape(*dy.shape[:2], *input_sizes)


def sum_pool(x, windows, outputs):
    """y[n, c, o] = sum over j of  x[n, c, cell(o, j)]"""
    y = np.zeros((*x.shape[:2], *outputs), x.dtype)
    if x.size:
        for cells, exists in pool_taps(x.shape[2:], windows, outputs):
            y += np.where(exists, x[(..., *cells)], 0)
    return y


def sum_pool_backward(dy, input_sizes, windows):
    """dx[n, c, i] = sum over o, j with cell(o, j) = i of  dy[n, c, o]"""
    dx = np.zeros((*dy.shape[:2], *input_sizes), dy.dtype)
    if dx.size:
        for cells, exists in pool_taps(input_sizes, windows, dy.shape[2:]):
            np.add.at(dx, (..., *cells), np.where(exists, dy, 0))
    return dx


def cells_that_count(sizes, windows, outputs, include_pad):
    """Taps of every window inside the input, or also inside its padding, but not beyond."""
    padded = np.ones((1, 1, *(n + w.low + w.high if include_pad else n for n, w in zip(sizes, windows))), int)
    if include_pad:
        windows = [w._replace(low=0) for w in windows]
    return sum_pool(padded, windows, outputs)[0, 0]


# ---------------------------------------------------------------- other views of a convolution


def upsample_zeros(x, factors, trailing):
    """Every cell followed by zeros: a window of one tap that steps over them."""
    return spread(x, [Window(1, input_dilation=f, high=end) for f, end in zip(factors, trailing)])


def unfold(x, windows, outputs):
    """columns[n, (c, j), o] = x[n, c, cell(o, j)]"""
    padded = spread(x, windows)
    columns = np.stack([padded[(..., *cells)] for _, cells in taps(windows, outputs)], axis=2)
    return columns.reshape(x.shape[0], x.shape[1] * columns.shape[2], prod(outputs))


def fold(columns, input_sizes, windows, outputs):
    """x[n, c, i] = sum over j, o with cell(o, j) = i of  columns[n, (c, j), o]"""
    n_taps = prod(w.kernel for w in windows)
    columns = columns.reshape(columns.shape[0], columns.shape[1] // n_taps, n_taps, *outputs)
    x = np.zeros((*columns.shape[:2], *input_sizes), columns.dtype)
    padded = spread(x, windows)
    for tap, (_, cells) in enumerate(taps(windows, outputs)):
        padded[(..., *cells)] += columns[:, :, tap]
    return padded[inner(input_sizes, windows)]


def convolution_matrix(weight, x_shape, windows, outputs, groups=1):
    """Column i is the convolution of an input that is 1 in cell i and 0 elsewhere."""
    units = np.eye(prod(x_shape), dtype=weight.dtype).reshape(prod(x_shape), *x_shape)
    columns = conv(units, weight, None, windows, outputs, groups)
    return columns.reshape(len(units), prod(columns.shape[1:])).T


# ---------------------------------------------------------------- other poolings


def min_pool(x, windows, outputs):
    """Values and flat indices of the first minimum, or the first NaN, of x of a floating dtype."""
    values, indices = max_pool(-x, windows, outputs)
    return -values, indices


def lp_pool(x, p, windows, outputs):
    """(sum over j of  |x[n, c, cell(o, j)]|**p) ** (1 / p)"""
    if p == np.inf:
        return np.maximum(max_pool(np.abs(x), windows, outputs)[0], 0)
    return sum_pool(np.abs(x) ** p, windows, outputs) ** (1 / np.asarray(p, x.dtype))


def lp_pool_backward(dy, x, p, windows):
    """dx[i] = sum over o, j with cell(o, j) = i of  dy[o] sign(x[i]) (|x[i]| / y[o])**(p - 1)"""
    dx, y = np.zeros(x.shape, x.dtype), lp_pool(x, p, windows, dy.shape[2:])
    for cells, exists in pool_taps(x.shape[2:], windows, dy.shape[2:]) if x.size else ():
        tap = x[(..., *cells)]
        counts = exists & (tap != 0) & (y != 0)
        ratio = np.abs(np.divide(tap, y, out=np.ones_like(y), where=counts))
        np.add.at(dx, (..., *cells), np.where(counts, dy * np.sign(tap) * ratio ** (p - 1), 0))
    return dx


def window_cells(x, windows, outputs, pad_value):
    """The cells of every window along a new last axis, in row-major order."""
    cells = [np.where(exists, x[(..., *index)] if x.size else pad_value, pad_value)
             for index, exists in pool_taps(x.shape[2:], windows, outputs)]
    return np.stack([np.broadcast_to(c, (*x.shape[:2], *outputs)) for c in cells], axis=-1)


def bins(sizes, outputs):
    """For every output of an adaptive pooling: its index, and the slices of the cells of its bin."""
    for o in product(*map(range, outputs)):
        yield (..., *o), (..., *(slice(i * n // k, -(-(i + 1) * n // k)) for i, n, k in zip(o, sizes, outputs)))


def adaptive_max_pool(x, outputs):
    """Values and flat indices of the first maximum of every bin."""
    plane = np.arange(prod(x.shape[2:])).reshape(x.shape[2:])
    values, indices = np.empty((*x.shape[:2], *outputs), x.dtype), np.empty((*x.shape[:2], *outputs), int)
    for o, cells in bins(x.shape[2:], outputs):
        window = flat(x[cells][None])[0]
        values[o], indices[o] = window.max(axis=-1), plane[cells].ravel()[window.argmax(axis=-1)]
    return values, indices


def adaptive_sum_pool(x, outputs):
    """Sums of the bins, and the number of cells of each."""
    y, counts = np.zeros((*x.shape[:2], *outputs), x.dtype), np.zeros(outputs, int)
    for o, cells in bins(x.shape[2:], outputs):
        y[o] = x[cells].sum(axis=tuple(range(2, x.ndim)))
        counts[o] = prod(c.stop - c.start for c in cells[1:])
    return y, counts


def adaptive_sum_pool_backward(dy, sizes):
    """dx[i] = sum over the bins o that hold cell i of  dy[o]"""
    dx = np.zeros((*dy.shape[:2], *sizes), dy.dtype)
    for o, cells in bins(sizes, dy.shape[2:]):
        dx[cells] += dy[o].reshape(*dy.shape[:2], *[1] * len(sizes))
    return dx


def max_unpool(x, indices, sizes):
    """y[n, c, indices[n, c, o]] = x[n, c, o], the last of equal indices; 0 elsewhere"""
    y = np.zeros((*x.shape[:2], prod(sizes)), x.dtype)
    for position in np.ndindex(x.shape):
        if indices[position] >= 0:
            y[(*position[:2], indices[position])] = x[position]
    return y.reshape(*x.shape[:2], *sizes)
