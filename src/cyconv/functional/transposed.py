"""Transposed convolutions: the adjoint maps of convolutions, with a bias. Their gradients are convolutions."""

from functools import lru_cache

from .. import _arrays, _geometry
from .._scalars import counted
from ._calls import check_needs, convolution, gradients, weight_gradient
from ._plans import (
    adjoint,
    bias_for,
    call_of,
    check_groups,
    forward,
    grad_bias,
    grad_weight,
    make_plan,
    options,
    weight_rank,
)
from ._ranked import (
    batched,
    check_shape,
    checked_rank,
    every_rank,
    frozen,
    input_shape_of,
    names_of_ranks,
    shape_of,
    spatial_of,
)

__all__ = names_of_ranks("conv_transpose{}", "conv_transpose{}_backward", "conv_transpose{}_grad_input",
                         "conv_transpose{}_grad_weight")


@lru_cache(maxsize=1024, typed=True)
def plan_transposed(function, x_shape, weight_shape, how, output_padding, output_size):
    """The `Plan` of the convolution from the result to x."""
    check_groups(function, how.groups)
    channels = x_shape[-1 if how.channels_last else 1]
    if channels != weight_shape[0]:
        raise ValueError(f"{function}: x has {counted(channels, 'channel')} but weight expects {weight_shape[0]} "
                         f"(weight.shape[0]={weight_shape[0]})")
    if channels % how.groups:
        raise ValueError(f"{function}: groups={how.groups} must divide in_channels={channels}")
    sizes = spatial_of(x_shape, how.channels_last)
    windows, outputs = _geometry.transposed_windows(function, sizes, weight_shape[2:], how.stride, how.padding,
                                                    how.dilation, output_padding, output_size, how.flip)
    y_shape = shape_of(x_shape[0], weight_shape[1] * how.groups, outputs, how.channels_last)
    _geometry.check_elements(function, y_shape)
    return make_plan(function, y_shape, weight_shape, windows, sizes, how)


def prepare(function, x_shape, weight_shape, dtype, how, output_padding=0, output_size=None):
    plan = plan_transposed(function, x_shape, weight_shape, how, frozen(output_padding), frozen(output_size))
    return call_of(plan, dtype, how)


def check_result(function, grad_out, call):
    """grad_out, whose spatial sizes the plan already has, must have the channels and samples of the result."""
    check_shape(function, "grad_out", grad_out, call.plan.x_shape)


def spatial_size(output_size, rank):
    """``output_size`` without the batch and channels of a full shape."""
    entries = _geometry.as_tuple(output_size)
    return output_size if entries is None or len(entries) != rank + 2 else entries[2:]


def _conv_transpose(function, rank, x, weight, bias=None, stride=1, padding=0, *, output_padding=0, output_size=None,
                    dilation=1, groups=1, flip=False, data_format="channels_first", out=None, n_threads=None):
    """Transposed convolution: the adjoint of `conv` with the same weight, plus a bias.

    Every input cell adds its value times the kernel to a window of the outputs, ``stride`` apart. For
    any x and y, ``sum(conv(x, w) * y) == sum(x * conv_transpose(y, w))`` with equal options.

    Parameters
    ----------
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input, or with the channels last. Converted to float32 or float64 as in `conv`.
    weight : array_like of shape (C, K / groups, KERNEL)
        Kernels: the array of the convolution that maps K channels to C.
    bias : array_like of shape (K,), optional
        Added to every output of a channel.
    stride : int or tuple of int, default 1
        Step between the windows of neighbouring inputs, at least 1.
    padding : int, tuple, or str, default 0
        Outputs cut off at the low and the high end: one number, one per axis or one (low, high) pair per
        axis; "valid" (none), "same" = "same_upper" (leaves n * stride outputs; an odd one goes at the end),
        "same_lower" (at the front) or "full" (only outputs that all taps reach).
    output_padding : int or tuple of int, default 0
        Additional outputs at the high end, less than max(stride, dilation): a convolution gives the same
        size for several input sizes.
    output_size : tuple of int, optional
        Spatial size of the result, instead of ``output_padding``; a whole shape (N, K, SPATIAL) will do.
    dilation : int or tuple of int, default 1
        Step between the taps of a window, at least 1.
    groups : int, default 1
        Divides C and K.
    flip : bool, default False
        Rotate the kernel by 180 degrees.
    data_format : {"channels_first", "channels_last"}, default "channels_first"
        Layout of x and of the result.
    out : ndarray, optional
        C-contiguous array of the result's shape and dtype to write to.
    n_threads : int, optional
        As in `conv`.

    Returns
    -------
    ndarray of shape (N, K, OUTPUTS), or as x without N or with channels last
        Per axis ``(n - 1) * stride - low - high + dilation * (kernel - 1) + 1 + output_padding`` outputs.

    Raises
    ------
    ValueError
        If shapes or parameters do not fit together.
    TypeError
        If an array is not of real numbers or computes in another dtype than float32 or float64.

    References
    ----------
    ``torch.nn.functional.conv_transpose2d``; "same" is that of Keras. JAX's ``conv_transpose`` does not
    rotate the kernel unless ``transpose_kernel=True`` and so is no adjoint by default.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> x = np.array([[[[1.0, 2], [3, 4]]]])
    >>> cyconv.conv_transpose2d(x, np.ones((1, 1, 2, 2)), stride=2)[0, 0]
    array([[1., 1., 2., 2.],
           [1., 1., 2., 2.],
           [3., 3., 4., 4.],
           [3., 3., 4., 4.]])
    """
    how = options(function, data_format, stride, padding, dilation, groups, flip=flip)
    x, weight = _arrays.as_reals(function, x=x, weight=weight)
    rank = weight_rank(function, rank, weight.shape)
    batch, is_single = batched(function, "x", x, rank, how.channels_last)
    call = prepare(function, batch.shape, weight.shape, x.dtype, how, output_padding, spatial_size(output_size, rank))
    bias = bias_for(function, bias, weight.shape[1] * how.groups, x.dtype)
    return convolution(function, adjoint(call), call, call.plan.x_shape, is_single, n_threads, x, weight, bias, out)


def _conv_transpose_grad_input(function, rank, grad_out, weight, input_shape, *, stride=1, padding=0, dilation=1,
                               groups=1, flip=False, data_format="channels_first", n_threads=None):
    """Gradient of a transposed convolution with respect to its input: the convolution of grad_out.

    Parameters
    ----------
    grad_out : array_like of shape (N, K, OUTPUTS) or (K, OUTPUTS)
        Gradient with respect to the result, in the layout of ``data_format``.
    weight : array_like of shape (C, K / groups, KERNEL)
        Kernels of the forward call.
    input_shape : tuple of int
        Shape of the forward call's x.
    stride, padding, dilation, groups, flip, data_format, n_threads
        As in the forward call; ``output_padding`` follows from the shapes.

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
    >>> grad_out = np.arange(16.0).reshape(1, 1, 4, 4)
    >>> cyconv.conv_transpose2d_grad_input(grad_out, np.ones((1, 1, 2, 2)), (1, 1, 2, 2), stride=2)[0, 0]
    array([[10., 18.],
           [42., 50.]])
    """
    how = options(function, data_format, stride, padding, dilation, groups, flip=flip)
    grad_out, weight = _arrays.as_reals(function, grad_out=grad_out, weight=weight)
    rank = weight_rank(function, rank, weight.shape)
    dy, is_single = batched(function, "grad_out", grad_out, rank, how.channels_last)
    x_shape = input_shape_of(function, input_shape, rank, is_single)
    call = prepare(function, x_shape, weight.shape, weight.dtype, how,
                   output_size=spatial_of(dy.shape, how.channels_last))
    check_result(function, dy, call)
    return convolution(function, forward(call), call, x_shape, is_single, n_threads, grad_out, weight, None, None)


def _conv_transpose_grad_weight(function, rank, grad_out, x, kernel_size, *, stride=1, padding=0, dilation=1,
                                groups=1, flip=False, data_format="channels_first", n_threads=None):
    """Gradient of a transposed convolution with respect to its weight.

    Parameters
    ----------
    grad_out : array_like of shape (N, K, OUTPUTS) or (K, OUTPUTS)
        Gradient with respect to the result, in the layout of ``data_format``.
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input of the forward call.
    kernel_size : int or tuple of int
        Taps of the weight per axis.
    stride, padding, dilation, groups, flip, data_format, n_threads
        As in the forward call; ``output_padding`` follows from the shapes.

    Returns
    -------
    ndarray of shape (C, K / groups, KERNEL)

    Raises
    ------
    ValueError, TypeError
        As the forward call, and if grad_out has not the shape of its result.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> grad_out, x = np.arange(16.0).reshape(1, 1, 4, 4), np.ones((1, 1, 2, 2))
    >>> cyconv.conv_transpose2d_grad_weight(grad_out, x, 2, stride=2)[0, 0]
    array([[20., 24.],
           [36., 40.]])
    """
    how = options(function, data_format, stride, padding, dilation, groups, flip=flip)
    grad_out, x = _arrays.as_reals(function, grad_out=grad_out, x=x)
    if rank is None:
        rank = checked_rank(function, len(kernel_size) if _geometry.as_tuple(kernel_size) else x.ndim - 2)
    kernel = _geometry.per_axis(function, "kernel_size", kernel_size, rank, 1)
    dy, _ = batched(function, "grad_out", grad_out, rank, how.channels_last)
    batch, _ = batched(function, "x", x, rank, how.channels_last)
    axis = -1 if how.channels_last else 1
    check_groups(function, how.groups)
    if dy.shape[axis] % how.groups:
        raise ValueError(f"{function}: groups={how.groups} must divide out_channels={dy.shape[axis]}")
    weight_shape = (batch.shape[axis], dy.shape[axis] // how.groups, *kernel)
    call = prepare(function, batch.shape, weight_shape, x.dtype, how,
                   output_size=spatial_of(dy.shape, how.channels_last))
    check_result(function, dy, call)
    return weight_gradient(function, grad_weight_transposed(call), call, weight_shape, n_threads, grad_out, x)


def grad_weight_transposed(call):
    """As `grad_weight`: the convolution has x for its gradient and grad_out for its input."""
    write, write_bias = grad_weight(call), grad_bias(call, call.plan.x_shape)

    def run(grad_out, x, dweight, dbias, n_threads):
        write(x, grad_out, dweight, None, n_threads)
        if dbias is not None:
            write_bias(grad_out, dbias, n_threads)

    return run


def _conv_transpose_backward(function, rank, grad_out, x, weight, *, stride=1, padding=0, dilation=1, groups=1,
                             flip=False, data_format="channels_first", needs=("x", "weight", "bias"), n_threads=None):
    """Gradients of a transposed convolution with respect to its input, weight and bias.

    Parameters
    ----------
    grad_out : array_like of shape (N, K, OUTPUTS) or (K, OUTPUTS)
        Gradient with respect to the result, in the layout of ``data_format``.
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input of the forward call.
    weight : array_like of shape (C, K / groups, KERNEL)
        Kernels of the forward call.
    stride, padding, dilation, groups, flip, data_format, n_threads
        As in the forward call; ``output_padding`` follows from the shapes.
    needs : collection of {"x", "weight", "bias"}
        The gradients to compute.

    Returns
    -------
    ConvGrads
        Named tuple (x, weight, bias) of arrays shaped as those, None where not needed.

    Raises
    ------
    ValueError, TypeError
        As the forward call, and if grad_out has not the shape of its result.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> grads = cyconv.conv_transpose2d_backward(np.ones((1, 3, 4, 4)), np.ones((1, 2, 2, 2)), np.ones((2, 3, 2, 2)),
    ...                                          stride=2)
    >>> grads.x.shape, grads.weight.shape, grads.bias
    ((1, 2, 2, 2), (2, 3, 2, 2), array([16., 16., 16.]))
    """
    check_needs(function, needs)
    how = options(function, data_format, stride, padding, dilation, groups, flip=flip)
    grad_out, x, weight = _arrays.as_reals(function, grad_out=grad_out, x=x, weight=weight)
    rank = weight_rank(function, rank, weight.shape)
    batch, _ = batched(function, "x", x, rank, how.channels_last)
    dy, _ = batched(function, "grad_out", grad_out, rank, how.channels_last)
    call = prepare(function, batch.shape, weight.shape, x.dtype, how,
                   output_size=spatial_of(dy.shape, how.channels_last))
    check_result(function, dy, call)
    return gradients(function, forward(call), grad_weight_transposed(call), call, dy.shape, needs, n_threads, grad_out,
                     x, weight)


conv_transpose, conv_transpose1d, conv_transpose2d, conv_transpose3d = every_rank(_conv_transpose, "conv_transpose{}")
conv_transpose_backward, conv_transpose1d_backward, conv_transpose2d_backward, conv_transpose3d_backward = every_rank(
    _conv_transpose_backward, "conv_transpose{}_backward")
(conv_transpose_grad_input, conv_transpose1d_grad_input, conv_transpose2d_grad_input,
 conv_transpose3d_grad_input) = every_rank(_conv_transpose_grad_input, "conv_transpose{}_grad_input")
(conv_transpose_grad_weight, conv_transpose1d_grad_weight, conv_transpose2d_grad_weight,
 conv_transpose3d_grad_weight) = every_rank(_conv_transpose_grad_weight, "conv_transpose{}_grad_weight")
