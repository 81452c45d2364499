"""Convolutions whose weights change with the position: tiled ones, in which they repeat, and local ones."""

from ._calls import run, run_backward, run_grad_input, run_grad_weight
from ._plans import options
from ._ranked import every_rank, names_of_ranks

__all__ = names_of_ranks(*(kind + suffix for kind in ("tiled_conv{}", "local_conv{}")
                           for suffix in ("", "_backward", "_grad_input", "_grad_weight")))


def _tiled_conv(function, rank, x, weight, bias=None, stride=1, padding=0, *, dilation=1, groups=1, input_dilation=1,
                padding_mode="zeros", flip=False, data_format="channels_first", out=None, n_threads=None):
    """Convolution with several sets of weights that take turns along every axis.

    Output o of an axis with t tiles is computed with the weights number ``o % t``: one tile is a
    convolution, as many tiles as outputs are a local one.

    Parameters
    ----------
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input, or with the channels last. Converted to float32 or float64 as in `conv`.
    weight : array_like of shape (*tiles, K, C / groups, KERNEL)
        Kernels of each tile; the first axes, one for every spatial axis, number the tiles.
    bias : array_like of shape (K,), optional
        Added to every output of a channel.
    stride, padding, dilation, groups, input_dilation, padding_mode, flip, data_format, out, n_threads
        As in `conv`.

    Returns
    -------
    ndarray of shape (N, K, OUTPUTS), or as x without N or with channels last
        As many as `conv` has.

    Raises
    ------
    ValueError, TypeError
        As `conv`.

    References
    ----------
    Goodfellow, Bengio, Courville: Deep Learning, section 9.5, equation 9.10; Gregor and LeCun, 2010.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> weight = np.array([1.0, 100]).reshape(2, 1, 1, 1)          # two tiles of one tap
    >>> cyconv.tiled_conv1d(np.array([[1.0, 2, 3, 4, 5]]), weight)
    array([[  1., 200.,   3., 400.,   5.]])
    """
    how = options(function, data_format, stride, padding, dilation, groups, input_dilation, padding_mode, flip)
    return run(function, rank, x, weight, bias, how, out, n_threads, "tiled")


def _tiled_conv_grad_input(function, rank, grad_out, weight, input_shape, *, stride=1, padding=0, dilation=1, groups=1,
                           input_dilation=1, padding_mode="zeros", flip=False, data_format="channels_first",
                           n_threads=None):
    """Gradient of a tiled convolution with respect to its input.

    Parameters
    ----------
    grad_out : array_like of shape (N, K, OUTPUTS) or (K, OUTPUTS)
        Gradient with respect to the result, in the layout of ``data_format``.
    weight : array_like of shape (*tiles, K, C / groups, KERNEL)
        Kernels of the forward call.
    input_shape : tuple of int
        Shape of the forward call's x.
    stride, padding, dilation, groups, input_dilation, padding_mode, flip, data_format, n_threads
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
    >>> weight = np.array([1.0, 100]).reshape(2, 1, 1, 1)
    >>> cyconv.tiled_conv1d_grad_input(np.ones((1, 5)), weight, (1, 5))
    array([[  1., 100.,   1., 100.,   1.]])
    """
    how = options(function, data_format, stride, padding, dilation, groups, input_dilation, padding_mode, flip)
    return run_grad_input(function, rank, grad_out, weight, input_shape, how, n_threads, "tiled")


def _tiled_conv_grad_weight(function, rank, grad_out, x, kernel_size, tiles, *, stride=1, padding=0, dilation=1,
                            groups=1, input_dilation=1, padding_mode="zeros", flip=False,
                            data_format="channels_first", n_threads=None):
    """Gradient of a tiled convolution with respect to its weight.

    Parameters
    ----------
    grad_out : array_like of shape (N, K, OUTPUTS) or (K, OUTPUTS)
        Gradient with respect to the result, in the layout of ``data_format``.
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input of the forward call.
    kernel_size : int or tuple of int
        Taps of a kernel per axis.
    tiles : int or tuple of int
        Numbers of sets of weights per axis.
    stride, padding, dilation, groups, input_dilation, padding_mode, flip, data_format, n_threads
        As in the forward call.

    Returns
    -------
    ndarray of shape (*tiles, K, C / groups, KERNEL)

    Raises
    ------
    ValueError, TypeError
        As the forward call, and if grad_out has not the shape of its result.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.tiled_conv1d_grad_weight(np.ones((1, 5)), np.array([[1.0, 2, 3, 4, 5]]), 1, 2).ravel()
    array([9., 6.])
    """
    how = options(function, data_format, stride, padding, dilation, groups, input_dilation, padding_mode, flip)
    return run_grad_weight(function, rank, grad_out, x, kernel_size, how, n_threads, "tiled", tiles)


def _tiled_conv_backward(function, rank, grad_out, x, weight, *, stride=1, padding=0, dilation=1, groups=1,
                         input_dilation=1, padding_mode="zeros", flip=False, data_format="channels_first",
                         needs=("x", "weight", "bias"), n_threads=None):
    """Gradients of a tiled convolution with respect to its input, weight and bias.

    Parameters
    ----------
    grad_out : array_like of shape (N, K, OUTPUTS) or (K, OUTPUTS)
        Gradient with respect to the result, in the layout of ``data_format``.
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input of the forward call.
    weight : array_like of shape (*tiles, K, C / groups, KERNEL)
        Kernels of the forward call.
    stride, padding, dilation, groups, input_dilation, padding_mode, flip, data_format, n_threads
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
    >>> x, weight = np.array([[1.0, 2, 3, 4, 5]]), np.array([1.0, 100]).reshape(2, 1, 1, 1)
    >>> cyconv.tiled_conv1d_backward(np.ones((1, 5)), x, weight).weight.ravel()
    array([9., 6.])
    """
    how = options(function, data_format, stride, padding, dilation, groups, input_dilation, padding_mode, flip)
    return run_backward(function, rank, grad_out, x, weight, how, needs, n_threads, "tiled")


def _local_conv(function, rank, x, weight, bias=None, stride=1, padding=0, *, dilation=1, groups=1, input_dilation=1,
                padding_mode="zeros", flip=False, data_format="channels_first", out=None, n_threads=None):
    """Locally connected layer: a convolution with weights of its own for every output position.

    Parameters
    ----------
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input, or with the channels last. Converted to float32 or float64 as in `conv`.
    weight : array_like of shape (OUTPUTS, K, C / groups, KERNEL)
        The kernels of every output.
    bias : array_like of shape (K,), optional
        Added to every output of a channel.
    stride, padding, dilation, groups, input_dilation, padding_mode, flip, data_format, out, n_threads
        As in `conv`.

    Returns
    -------
    ndarray of shape (N, K, OUTPUTS), or as x without N or with channels last
        As many as `conv` has, and as the weight.

    Raises
    ------
    ValueError, TypeError
        As `conv`, and if the weight has not one kernel for every output.

    References
    ----------
    ``keras.layers.LocallyConnected2D`` of Keras 2, whose kernel is flattened; Goodfellow, Bengio, Courville: Deep
    Learning, section 9.5.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> weight = np.arange(4.0).reshape(4, 1, 1, 1)               # four outputs, one tap each
    >>> cyconv.local_conv1d(np.array([[1.0, 2, 3, 4]]), weight)
    array([[ 0.,  2.,  6., 12.]])
    """
    how = options(function, data_format, stride, padding, dilation, groups, input_dilation, padding_mode, flip)
    return run(function, rank, x, weight, bias, how, out, n_threads, "local")


def _local_conv_grad_input(function, rank, grad_out, weight, input_shape, *, stride=1, padding=0, dilation=1, groups=1,
                           input_dilation=1, padding_mode="zeros", flip=False, data_format="channels_first",
                           n_threads=None):
    """Gradient of a local convolution with respect to its input.

    Parameters
    ----------
    grad_out : array_like of shape (N, K, OUTPUTS) or (K, OUTPUTS)
        Gradient with respect to the result, in the layout of ``data_format``.
    weight : array_like of shape (OUTPUTS, K, C / groups, KERNEL)
        Kernels of the forward call.
    input_shape : tuple of int
        Shape of the forward call's x.
    stride, padding, dilation, groups, input_dilation, padding_mode, flip, data_format, n_threads
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
    >>> cyconv.local_conv1d_grad_input(np.ones((1, 4)), np.arange(4.0).reshape(4, 1, 1, 1), (1, 4))
    array([[0., 1., 2., 3.]])
    """
    how = options(function, data_format, stride, padding, dilation, groups, input_dilation, padding_mode, flip)
    return run_grad_input(function, rank, grad_out, weight, input_shape, how, n_threads, "local")


def _local_conv_grad_weight(function, rank, grad_out, x, kernel_size, *, stride=1, padding=0, dilation=1, groups=1,
                            input_dilation=1, padding_mode="zeros", flip=False, data_format="channels_first",
                            n_threads=None):
    """Gradient of a local convolution with respect to its weight.

    Parameters
    ----------
    grad_out : array_like of shape (N, K, OUTPUTS) or (K, OUTPUTS)
        Gradient with respect to the result, in the layout of ``data_format``.
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input of the forward call.
    kernel_size : int or tuple of int
        Taps of a kernel per axis.
    stride, padding, dilation, groups, input_dilation, padding_mode, flip, data_format, n_threads
        As in the forward call.

    Returns
    -------
    ndarray of shape (OUTPUTS, K, C / groups, KERNEL)

    Raises
    ------
    ValueError, TypeError
        As the forward call, and if grad_out has not the shape of its result.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.local_conv1d_grad_weight(np.ones((1, 4)), np.array([[1.0, 2, 3, 4]]), 1).ravel()
    array([1., 2., 3., 4.])
    """
    how = options(function, data_format, stride, padding, dilation, groups, input_dilation, padding_mode, flip)
    return run_grad_weight(function, rank, grad_out, x, kernel_size, how, n_threads, "local")


def _local_conv_backward(function, rank, grad_out, x, weight, *, stride=1, padding=0, dilation=1, groups=1,
                         input_dilation=1, padding_mode="zeros", flip=False, data_format="channels_first",
                         needs=("x", "weight", "bias"), n_threads=None):
    """Gradients of a local convolution with respect to its input, weight and bias.

    Parameters
    ----------
    grad_out : array_like of shape (N, K, OUTPUTS) or (K, OUTPUTS)
        Gradient with respect to the result, in the layout of ``data_format``.
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input of the forward call.
    weight : array_like of shape (OUTPUTS, K, C / groups, KERNEL)
        Kernels of the forward call.
    stride, padding, dilation, groups, input_dilation, padding_mode, flip, data_format, n_threads
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
    >>> x, weight = np.array([[1.0, 2, 3, 4]]), np.arange(4.0).reshape(4, 1, 1, 1)
    >>> cyconv.local_conv1d_backward(np.ones((1, 4)), x, weight).bias
    array([4.])
    """
    how = options(function, data_format, stride, padding, dilation, groups, input_dilation, padding_mode, flip)
    return run_backward(function, rank, grad_out, x, weight, how, needs, n_threads, "local")


tiled_conv, tiled_conv1d, tiled_conv2d, tiled_conv3d = every_rank(_tiled_conv, "tiled_conv{}")
(tiled_conv_backward, tiled_conv1d_backward, tiled_conv2d_backward,
 tiled_conv3d_backward) = every_rank(_tiled_conv_backward, "tiled_conv{}_backward")
(tiled_conv_grad_input, tiled_conv1d_grad_input, tiled_conv2d_grad_input,
 tiled_conv3d_grad_input) = every_rank(_tiled_conv_grad_input, "tiled_conv{}_grad_input")
(tiled_conv_grad_weight, tiled_conv1d_grad_weight, tiled_conv2d_grad_weight,
 tiled_conv3d_grad_weight) = every_rank(_tiled_conv_grad_weight, "tiled_conv{}_grad_weight")
local_conv, local_conv1d, local_conv2d, local_conv3d = every_rank(_local_conv, "local_conv{}")
(local_conv_backward, local_conv1d_backward, local_conv2d_backward,
 local_conv3d_backward) = every_rank(_local_conv_backward, "local_conv{}_backward")
(local_conv_grad_input, local_conv1d_grad_input, local_conv2d_grad_input,
 local_conv3d_grad_input) = every_rank(_local_conv_grad_input, "local_conv{}_grad_input")
(local_conv_grad_weight, local_conv1d_grad_weight, local_conv2d_grad_weight,
 local_conv3d_grad_weight) = every_rank(_local_conv_grad_weight, "local_conv{}_grad_weight")
