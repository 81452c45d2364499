"""Depthwise convolutions, whose channels do not mix, and separable ones, which mix them afterwards."""

from typing import NamedTuple

import numpy as np

from .. import _arrays
from ._calls import check_needs, run, run_backward, run_grad_input, run_grad_weight
from ._plans import options, weight_rank
from ._ranked import batched, every_rank, input_shape_of, names_of_ranks

__all__ = ["SeparableGrads", *names_of_ranks(
    "depthwise_conv{}", "depthwise_conv{}_backward", "depthwise_conv{}_grad_input", "depthwise_conv{}_grad_weight",
    "separable_conv{}", "separable_conv{}_backward", "separable_conv{}_grad_input", "separable_conv{}_grad_weight")]


class SeparableGrads(NamedTuple):
    """Gradients of a separable convolution, None where not asked for."""

    x: np.ndarray | None
    depthwise_weight: np.ndarray | None
    pointwise_weight: np.ndarray | None
    bias: np.ndarray | None


def _depthwise_conv(function, rank, x, weight, bias=None, stride=1, padding=0, *, dilation=1, input_dilation=1,
                    padding_mode="zeros", flip=False, data_format="channels_first", out=None, n_threads=None):
    """Convolve every channel with its own kernels: `conv` with as many groups as channels.

    Parameters
    ----------
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input, or with the channels last. Converted to float32 or float64 as in `conv`.
    weight : array_like of shape (C * M, 1, KERNEL)
        M kernels for each channel, those of a channel next to each other.
    bias : array_like of shape (C * M,), optional
        Added to every output of a channel.
    stride, padding, dilation, input_dilation, padding_mode, flip, data_format, out, n_threads
        As in `conv`.

    Returns
    -------
    ndarray of shape (N, C * M, OUTPUTS), or as x without N or with channels last

    Raises
    ------
    ValueError, TypeError
        As `conv`.

    References
    ----------
    ``torch.nn.functional.conv2d`` with ``groups=C``. Keras' kernel is this weight with axes (R, S, C, M).

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> x = np.array([[[1.0, 2, 3], [10, 20, 30]]])
    >>> cyconv.depthwise_conv1d(x, np.array([[[1.0, 1]], [[-1, 1]]]))[0]
    array([[ 3.,  5.],
           [10., 10.]])
    """
    how = options(function, data_format, stride, padding, dilation, None, input_dilation, padding_mode, flip)
    return run(function, rank, x, weight, bias, how, out, n_threads)


def _depthwise_conv_grad_input(function, rank, grad_out, weight, input_shape, *, stride=1, padding=0, dilation=1,
                               input_dilation=1, padding_mode="zeros", flip=False, data_format="channels_first",
                               n_threads=None):
    """Gradient of a depthwise convolution with respect to its input.

    Parameters
    ----------
    grad_out : array_like of shape (N, C * M, OUTPUTS) or (C * M, OUTPUTS)
        Gradient with respect to the result, in the layout of ``data_format``.
    weight : array_like of shape (C * M, 1, KERNEL)
        Kernels of the forward call.
    input_shape : tuple of int
        Shape of the forward call's x.
    stride, padding, dilation, input_dilation, padding_mode, flip, data_format, n_threads
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
    >>> cyconv.depthwise_conv1d_grad_input(np.ones((1, 2, 2)), np.array([[[1.0, 1]], [[-1, 1]]]), (1, 2, 3))[0]
    array([[ 1.,  2.,  1.],
           [-1.,  0.,  1.]])
    """
    how = options(function, data_format, stride, padding, dilation, None, input_dilation, padding_mode, flip)
    return run_grad_input(function, rank, grad_out, weight, input_shape, how, n_threads)


def _depthwise_conv_grad_weight(function, rank, grad_out, x, kernel_size, *, stride=1, padding=0, dilation=1,
                                input_dilation=1, padding_mode="zeros", flip=False, data_format="channels_first",
                                n_threads=None):
    """Gradient of a depthwise convolution with respect to its weight.

    Parameters
    ----------
    grad_out : array_like of shape (N, C * M, OUTPUTS) or (C * M, OUTPUTS)
        Gradient with respect to the result, in the layout of ``data_format``.
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input of the forward call.
    kernel_size : int or tuple of int
        Taps of the weight per axis.
    stride, padding, dilation, input_dilation, padding_mode, flip, data_format, n_threads
        As in the forward call.

    Returns
    -------
    ndarray of shape (C * M, 1, KERNEL)

    Raises
    ------
    ValueError, TypeError
        As the forward call, and if grad_out has not the shape of its result.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> x = np.array([[[1.0, 2, 3], [10, 20, 30]]])
    >>> cyconv.depthwise_conv1d_grad_weight(np.ones((1, 2, 2)), x, 2)[:, 0]
    array([[ 3.,  5.],
           [30., 50.]])
    """
    how = options(function, data_format, stride, padding, dilation, None, input_dilation, padding_mode, flip)
    return run_grad_weight(function, rank, grad_out, x, kernel_size, how, n_threads)


def _depthwise_conv_backward(function, rank, grad_out, x, weight, *, stride=1, padding=0, dilation=1, input_dilation=1,
                             padding_mode="zeros", flip=False, data_format="channels_first",
                             needs=("x", "weight", "bias"), n_threads=None):
    """Gradients of a depthwise convolution with respect to its input, weight and bias.

    Parameters
    ----------
    grad_out : array_like of shape (N, C * M, OUTPUTS) or (C * M, OUTPUTS)
        Gradient with respect to the result, in the layout of ``data_format``.
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input of the forward call.
    weight : array_like of shape (C * M, 1, KERNEL)
        Kernels of the forward call.
    stride, padding, dilation, input_dilation, padding_mode, flip, data_format, n_threads
        As in the forward call.
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
    >>> x, weight = np.array([[[1.0, 2, 3], [10, 20, 30]]]), np.ones((2, 1, 2))
    >>> cyconv.depthwise_conv1d_backward(np.ones((1, 2, 2)), x, weight, needs=("bias",)).bias
    array([2., 2.])
    """
    how = options(function, data_format, stride, padding, dilation, None, input_dilation, padding_mode, flip)
    return run_backward(function, rank, grad_out, x, weight, how, needs, n_threads)


# ---------------------------------------------------------------- separable


def _separable_conv(function, rank, x, depthwise_weight, pointwise_weight, bias=None, stride=1, padding=0, *,
                    dilation=1, padding_mode="zeros", flip=False, data_format="channels_first", n_threads=None):
    """Depthwise separable convolution: `depthwise_conv`, then a mixing of the channels at every output.

    It has C * M * prod(kernel) + C * M * K weights where `conv` has C * K * prod(kernel).

    Parameters
    ----------
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input, or with the channels last. Converted to float32 or float64 as in `conv`.
    depthwise_weight : array_like of shape (C * M, 1, KERNEL)
        M kernels for each channel, those of a channel next to each other.
    pointwise_weight : array_like of shape (K, C * M), or with axes of one cell behind these
        What every channel of the depthwise convolution contributes to every output channel.
    bias : array_like of shape (K,), optional
        Added to every output of a channel.
    stride, padding, dilation, padding_mode, flip, data_format, n_threads
        As in `conv`, for the depthwise convolution.

    Returns
    -------
    ndarray of shape (N, K, OUTPUTS), or as x without N or with channels last

    Raises
    ------
    ValueError, TypeError
        As `conv`.

    References
    ----------
    ``keras.ops.separable_conv``.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> x = np.array([[[1.0, 2, 3], [10, 20, 30]]])
    >>> cyconv.separable_conv1d(x, np.array([[[1.0, 1]], [[-1, 1]]]), np.array([[1.0, 2]]))[0]
    array([[23., 25.]])
    """
    how = options(function, data_format, stride, padding, dilation, None, 1, padding_mode, flip)
    x, depthwise_weight, pointwise = separable_arrays(function, x, depthwise_weight, pointwise_weight)
    point = options(function, data_format)
    rank = weight_rank(function, rank, depthwise_weight.shape)
    x, is_single = batched(function, "x", x, rank, how.channels_last)
    parts = []
    for part in sample_blocks(x, depthwise_weight, pointwise):
        channels = run(function, rank, x[part], depthwise_weight, None, how, None, n_threads).result()
        parts.append(run(function, rank, channels, pointwise, bias, point, None, n_threads).result())
    y = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return y[0] if is_single else y


def separable_arrays(function, x, depthwise_weight, pointwise_weight, **more):
    """All arrays in one dtype, the pointwise weight with an axis of one cell for every spatial axis."""
    x, depthwise, pointwise, *more = _arrays.as_reals(function, x=x, depthwise_weight=depthwise_weight,
                                                      pointwise_weight=pointwise_weight, **more)
    weight_rank(function, None, depthwise.shape)
    if pointwise.ndim < 2 or pointwise.size != pointwise.shape[0] * pointwise.shape[1]:
        raise ValueError(f"{function}: pointwise_weight must have shape (out_channels, channels), got "
                         f"{pointwise.shape}")
    if pointwise.shape[1] != depthwise.shape[0]:
        raise ValueError(f"{function}: pointwise_weight mixes {pointwise.shape[1]} channels but depthwise_weight makes "
                         f"{depthwise.shape[0]}")
    return x, depthwise, pointwise.reshape(*pointwise.shape[:2], *[1] * (depthwise.ndim - 2)), *more


def sample_blocks(x, depthwise_weight, pointwise):
    """Slices of samples, so few that what is between the two convolutions is not larger than the result."""
    channels, out_channels = max(1, len(depthwise_weight)), max(1, len(pointwise))
    step = max(1, len(x) if channels <= out_channels else len(x) * out_channels // channels)
    return [slice(first, first + step) for first in range(0, max(1, len(x)), step)]


def _separable_conv_backward(function, rank, grad_out, x, depthwise_weight, pointwise_weight, *, stride=1, padding=0,
                             dilation=1, padding_mode="zeros", flip=False, data_format="channels_first",
                             needs=SeparableGrads._fields, n_threads=None):
    """Gradients of a separable convolution with respect to its input, both weights and bias.

    Parameters
    ----------
    grad_out : array_like of shape (N, K, OUTPUTS) or (K, OUTPUTS)
        Gradient with respect to the result, in the layout of ``data_format``.
    x, depthwise_weight, pointwise_weight : array_like
        Of the forward call.
    stride, padding, dilation, padding_mode, flip, data_format, n_threads
        As in the forward call.
    needs : collection of {"x", "depthwise_weight", "pointwise_weight", "bias"}
        The gradients to compute.

    Returns
    -------
    SeparableGrads
        Named tuple (x, depthwise_weight, pointwise_weight, bias) of arrays shaped as those, None where
        not needed.

    Raises
    ------
    ValueError, TypeError
        As the forward call, and if grad_out has not the shape of its result.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> x = np.array([[[1.0, 2, 3], [10, 20, 30]]])
    >>> grads = cyconv.separable_conv1d_backward(np.ones((1, 1, 2)), x, np.ones((2, 1, 2)), np.array([[1.0, 2]]))
    >>> grads.pointwise_weight
    array([[ 8., 80.]])
    >>> grads.x[0]
    array([[1., 2., 1.],
           [2., 4., 2.]])
    """
    check_needs(function, needs, SeparableGrads._fields)
    how = options(function, data_format, stride, padding, dilation, None, 1, padding_mode, flip)
    point = options(function, data_format)
    x, depthwise, pointwise, grad_out = separable_arrays(function, x, depthwise_weight, pointwise_weight,
                                                         grad_out=grad_out)
    batched(function, "grad_out", grad_out, depthwise.ndim - 2, how.channels_last)
    weights = {name for name in ("x", "depthwise_weight") if name in needs}
    outer = ["x"] * bool(weights) + [name.removeprefix("pointwise_") for name in ("pointwise_weight", "bias")
                                     if name in needs]
    channels = (run(function, rank, x, depthwise, None, how, None, n_threads).result() if "pointwise_weight" in needs
                else unread(grad_out, depthwise, how.channels_last))
    outer = run_backward(function, rank, grad_out, channels, pointwise, point, outer, n_threads).result()
    dx = dweight = None
    if weights:
        inner = [name.removeprefix("depthwise_") for name in weights]
        dx, dweight, _ = run_backward(function, rank, outer.x, x, depthwise, how, inner, n_threads).result()
    dpointwise = None if outer.weight is None else outer.weight.reshape(np.shape(pointwise_weight))
    return SeparableGrads(dx, dweight, dpointwise, outer.bias)


def unread(grad_out, depthwise_weight, channels_last):
    """Zeros in the place of the depthwise convolution, whose shape alone is needed."""
    shape = list(grad_out.shape)
    shape[-1 if channels_last else grad_out.ndim - depthwise_weight.ndim + 1] = len(depthwise_weight)
    return np.broadcast_to(grad_out.dtype.type(0), shape)


def _separable_conv_grad_input(function, rank, grad_out, depthwise_weight, pointwise_weight, input_shape, *, stride=1,
                               padding=0, dilation=1, padding_mode="zeros", flip=False, data_format="channels_first",
                               n_threads=None):
    """Gradient of a separable convolution with respect to its input.

    Parameters
    ----------
    grad_out : array_like of shape (N, K, OUTPUTS) or (K, OUTPUTS)
        Gradient with respect to the result, in the layout of ``data_format``.
    depthwise_weight, pointwise_weight : array_like
        Of the forward call.
    input_shape : tuple of int
        Shape of the forward call's x.
    stride, padding, dilation, padding_mode, flip, data_format, n_threads
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
    >>> cyconv.separable_conv1d_grad_input(np.ones((1, 1, 2)), np.ones((2, 1, 2)), np.array([[1.0, 2]]), (1, 2, 3))[0]
    array([[1., 2., 1.],
           [2., 4., 2.]])
    """
    ndim = np.ndim(grad_out)
    shape = input_shape_of(function, input_shape, np.ndim(depthwise_weight) - 2, ndim < np.ndim(depthwise_weight))
    x = np.broadcast_to(np.float32(0), shape[-ndim:])
    return _separable_conv_backward(function, rank, grad_out, x, depthwise_weight, pointwise_weight, stride=stride,
                                    padding=padding, dilation=dilation, padding_mode=padding_mode, flip=flip,
                                    data_format=data_format, needs=("x",), n_threads=n_threads).x


def _separable_conv_grad_weight(function, rank, grad_out, x, depthwise_weight, pointwise_weight, *, stride=1, padding=0,
                                dilation=1, padding_mode="zeros", flip=False, data_format="channels_first",
                                n_threads=None):
    """Gradients of a separable convolution with respect to its two weights.

    Parameters
    ----------
    grad_out : array_like of shape (N, K, OUTPUTS) or (K, OUTPUTS)
        Gradient with respect to the result, in the layout of ``data_format``.
    x, depthwise_weight, pointwise_weight : array_like
        Of the forward call.
    stride, padding, dilation, padding_mode, flip, data_format, n_threads
        As in the forward call.

    Returns
    -------
    SeparableGrads
        Named tuple (x, depthwise_weight, pointwise_weight, bias), the first and the last None.

    Raises
    ------
    ValueError, TypeError
        As the forward call, and if grad_out has not the shape of its result.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> x = np.array([[[1.0, 2, 3], [10, 20, 30]]])
    >>> cyconv.separable_conv1d_grad_weight(np.ones((1, 1, 2)), x, np.ones((2, 1, 2)), [[1.0, 2]]).pointwise_weight
    array([[ 8., 80.]])
    """
    return _separable_conv_backward(function, rank, grad_out, x, depthwise_weight, pointwise_weight, stride=stride,
                                    padding=padding, dilation=dilation, padding_mode=padding_mode, flip=flip,
                                    data_format=data_format, needs=("depthwise_weight", "pointwise_weight"),
                                    n_threads=n_threads)


depthwise_conv, depthwise_conv1d, depthwise_conv2d, depthwise_conv3d = every_rank(_depthwise_conv, "depthwise_conv{}")
depthwise_conv_backward, depthwise_conv1d_backward, depthwise_conv2d_backward, depthwise_conv3d_backward = every_rank(
    _depthwise_conv_backward, "depthwise_conv{}_backward")
(depthwise_conv_grad_input, depthwise_conv1d_grad_input, depthwise_conv2d_grad_input,
 depthwise_conv3d_grad_input) = every_rank(_depthwise_conv_grad_input, "depthwise_conv{}_grad_input")
(depthwise_conv_grad_weight, depthwise_conv1d_grad_weight, depthwise_conv2d_grad_weight,
 depthwise_conv3d_grad_weight) = every_rank(_depthwise_conv_grad_weight, "depthwise_conv{}_grad_weight")
separable_conv, separable_conv1d, separable_conv2d, separable_conv3d = every_rank(_separable_conv, "separable_conv{}")
separable_conv_backward, separable_conv1d_backward, separable_conv2d_backward, separable_conv3d_backward = every_rank(
    _separable_conv_backward, "separable_conv{}_backward")
(separable_conv_grad_input, separable_conv1d_grad_input, separable_conv2d_grad_input,
 separable_conv3d_grad_input) = every_rank(_separable_conv_grad_input, "separable_conv{}_grad_input")
(separable_conv_grad_weight, separable_conv1d_grad_weight, separable_conv2d_grad_weight,
 separable_conv3d_grad_weight) = every_rank(_separable_conv_grad_weight, "separable_conv{}_grad_weight")
