"""A convolution as one large sparse matrix. Needs SciPy, which is imported on use."""

from math import prod

import numpy as np

from .. import _arrays, _geometry
from ._plans import options, plan_conv, weight_rank
from ._ranked import input_shape_of, ranked, spatial_of
from .views import copies

__all__ = ["convolution_matrix"]


def _convolution_matrix(function, rank, weight, input_shape, *, stride=1, padding=0, dilation=1, groups=1,
                        input_dilation=1, flip=False, data_format="channels_first"):
    """The sparse matrix that a convolution multiplies its input by.

    ``convolution_matrix(weight, x.shape) @ x.ravel()`` is ``conv(x, weight).ravel()``. For one axis and one channel
    it is a Toeplitz matrix: constant along its diagonals.

    Parameters
    ----------
    weight : array_like of shape (K, C / groups, KERNEL)
        Kernels.
    input_shape : tuple of int
        Shape (N, C, SPATIAL) or (C, SPATIAL) of the input, in the layout of ``data_format``.
    stride, padding, dilation, groups, input_dilation, flip
        As in `conv2d`.
    data_format : {"channels_first", "channels_last"}, default "channels_first"
        Layout of the input and of the result, of which the matrix takes and gives the cells in C order.

    Returns
    -------
    scipy.sparse.csr_array of shape (outputs, inputs)
        With an entry wherever a tap reads an input cell, also of weight 0, and none for padding. The transposed
        matrix gives the gradient with respect to the input, and is the transposed convolution.

    Raises
    ------
    ValueError, TypeError
        If shapes or parameters do not fit together.
    ImportError
        If SciPy is not installed.

    References
    ----------
    Goodfellow, Bengio, Courville: Deep Learning, 2016, section 9.1.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.convolution_matrix([[[1, 2, 3]]], (1, 5)).todense()
    array([[1., 2., 3., 0., 0.],
           [0., 1., 2., 3., 0.],
           [0., 0., 1., 2., 3.]])
    """
    from scipy import sparse

    how = options(function, data_format, stride, padding, dilation, groups, input_dilation, flip=flip)
    (weight,) = _arrays.as_reals(function, weight=weight)
    rank = weight_rank(function, rank, weight.shape)
    is_single = len(_geometry.as_tuple(input_shape) or ()) == rank + 1
    shape = input_shape_of(function, input_shape, rank, is_single)
    plan = plan_conv(function, shape, weight.shape, how)
    entries = matrix_entries(weight, plan, how)
    one = sparse.coo_array(entries, shape=(prod(plan.out_shape[1:]), prod(shape[1:]))).tocsr()
    if is_single:
        return one
    return sparse.csr_array(sparse.block_diag([one] * shape[0])) if shape[0] else one[:0, :0]


def matrix_entries(weight, plan, how):
    """(values, (rows, columns)) of the matrix for one sample, for every output channel, input channel and read."""
    out_channels, per_group = weight.shape[:2]
    sizes = spatial_of(plan.x_shape, how.channels_last)
    out_plane, in_plane = (np.arange(prod(s)).reshape(s) for s in (plan.outputs, sizes))
    reads = [(out_plane[places].ravel(), in_plane[cells].ravel(), np.ravel_multi_index(tap, weight.shape[2:]))
             for tap, places, cells in copies(plan.windows, sizes, plan.outputs)]
    empty = np.zeros(0, np.intp)
    rows = np.concatenate([empty, *(places for places, _, _ in reads)])
    columns = np.concatenate([empty, *(cells for _, cells, _ in reads)])
    taps = np.repeat(np.array([tap for _, _, tap in reads], np.intp), [len(places) for places, _, _ in reads])
    k = np.arange(out_channels)[:, None, None]
    c = k // max(out_channels // how.groups, 1) * per_group + np.arange(per_group)[:, None]
    if how.channels_last:
        rows, columns = rows * out_channels + k, columns * (per_group * how.groups) + c
    else:
        rows, columns = k * out_plane.size + rows, c * in_plane.size + columns
    values = weight.reshape(out_channels, per_group, prod(weight.shape[2:]))[:, :, taps]
    return values.ravel(), tuple(np.broadcast_to(a, values.shape).ravel() for a in (rows, columns))


convolution_matrix = ranked(_convolution_matrix, "convolution_matrix", None)
