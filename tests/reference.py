"""Plain NumPy definitions that the kernels are compared with: obvious, slow, any dtype.

Zeros are really inserted and really padded; every tap is one strided slice. Axes are channels first
and of any rank; a window is (kernel, stride, dilation, input_dilation, low, high) per spatial axis.
"""

from itertools import product

import numpy as np


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
    for tap in product(*(range(w.kernel) for w in windows)):
        index = tuple(w.kernel - 1 - j if w.flip else j for j, w in zip(tap, windows))
        yield index, tuple(slice(j * w.dilation, j * w.dilation + (o - 1) * w.stride + 1, w.stride)
                           for j, w, o in zip(tap, windows, outputs))


def split(channels, groups):
    """Array with its channel axis (1) split into (groups, channels per group)."""
    return channels.reshape(channels.shape[0], groups, channels.shape[1] // groups, *channels.shape[2:])


def conv(x, weight, bias, windows, outputs, groups=1):
    """y[n, k, o] = bias[k] + sum_{c, j} weight[k, c, j] x[n, c, cell(o, j)]"""
    padded = split(spread(x, windows), groups)
    w = weight.reshape(groups, -1, *weight.shape[1:])
    y = np.zeros((x.shape[0], groups, w.shape[1], *outputs), x.dtype)
    for index, cells in taps(windows, outputs):
        y += np.einsum("gkc,ngc...->ngk...", w[(..., *index)], padded[(..., *cells)])
    y = y.reshape(x.shape[0], weight.shape[0], *outputs)
    return y if bias is None else y + bias.reshape(-1, *[1] * len(outputs))


def conv_grad_input(dy, weight, input_sizes, windows, groups=1):
    """dx[n, c, i] = sum over k, o, j with cell(o, j) = i of  weight[k, c, j] dy[n, k, o]"""
    w = weight.reshape(groups, -1, *weight.shape[1:])
    dx = np.zeros((dy.shape[0], groups * weight.shape[1], *input_sizes), dy.dtype)
    padded = split(spread(dx, windows), groups)
    for index, cells in taps(windows, dy.shape[2:]):
        padded[(..., *cells)] += np.einsum("gkc,ngk...->ngc...", w[(..., *index)], split(dy, groups))
    padded = padded.reshape(dx.shape[:2] + padded.shape[3:])
    return padded[inner(input_sizes, windows)]


def conv_grad_weight(dy, x, windows, groups=1):
    """dweight[k, c, j] = sum over n, o of  dy[n, k, o] x[n, c, cell(o, j)]"""
    padded, dy = split(spread(x, windows), groups), split(dy, groups)
    dw = np.zeros((groups, dy.shape[2], padded.shape[2], *(w.kernel for w in windows)), x.dtype)
    for index, cells in taps(windows, dy.shape[3:]):
        dw[(..., *index)] = np.einsum("ngkp,ngcp->gkc", dy.reshape(*dy.shape[:3], -1),
                                      padded[(..., *cells)].reshape(*padded.shape[:3], -1))
    return dw.reshape(-1, *dw.shape[2:])


def conv_grad_bias(dy):
    """dbias[k] = sum over n, o of  dy[n, k, o]"""
    return dy.sum(axis=(0, *range(2, dy.ndim)))
