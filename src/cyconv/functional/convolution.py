"""Convolutions of any rank, and their gradients."""

from ._calls import ConvGrads, run, run_backward, run_grad_input, run_grad_weight
from ._plans import options
from ._ranked import every_rank, names_of_ranks

__all__ = ["ConvGrads", *names_of_ranks("conv{}", "conv{}_backward", "conv{}_grad_input", "conv{}_grad_weight")]


def _conv(function, rank, x, weight, bias=None, stride=1, padding=0, *, dilation=1, groups=1, input_dilation=1,
          padding_mode="zeros", flip=False, data_format="channels_first", out=None, n_threads=None):
    """Convolve a batch of multi-channel arrays with a bank of kernels.

    The cross-correlation that deep learning calls convolution: ``y[n, k, o] = bias[k] + sum over
    channels c and taps j of weight[k, c, j] * x[n, c, o * stride + j * dilation - padding]``.

    Parameters
    ----------
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input; with ``data_format="channels_last"`` of shape (N, SPATIAL, C) or (SPATIAL, C). Any
        strides; converted to the computation dtype, ``np.result_type(x, weight, np.float32)``,
        which must be float32 or float64.
    weight : array_like of shape (K, C / groups, KERNEL)
        Kernels.
    bias : array_like of shape (K,), optional
        Added to every output of a channel. Takes the computation dtype.
    stride : int or tuple of int, default 1
        Step of the window in input cells, per axis, at least 1.
    padding : int, tuple, or str, default 0
        Zeros around the input: one number, one per axis, one (low, high) pair per axis, "valid" (none),
        "same" = "same_upper" (ceil(n / stride) outputs, an odd cell at the end), "same_lower" (an odd
        cell at the front) or "full" (every overlap).
    dilation : int or tuple of int, default 1
        Step between the taps of the window, at least 1.
    groups : int, default 1
        Divides C and K; each group of outputs sees its own group of inputs.
    input_dilation : int or tuple of int, default 1
        Puts ``input_dilation - 1`` zeros between inputs: ``stride=a, input_dilation=b`` is the stride a / b.
    padding_mode : {"zeros", "reflect", "symmetric", "edge", "wrap"}, default "zeros"
        What stands in the padding, as in `numpy.pad`; "constant" = "zeros", "replicate" = "edge" and
        "circular" = "wrap" are other names. Pads may be longer than the input.
    flip : bool, default False
        Rotate the kernel by 180 degrees: the convolution of mathematics.
    data_format : {"channels_first", "channels_last"}, default "channels_first"
        Layout of x and of the result.
    out : ndarray, optional
        C-contiguous array of the result's shape and dtype to write to.
    n_threads : int, optional
        Threads to use; None for as many as OMP_NUM_THREADS or, without it, the physical cores allow;
        negative counts back from these. Small problems run on one.

    Returns
    -------
    ndarray of shape (N, K, OUTPUTS), or as x without N or with channels last
        Per axis ``(n + low + high - dilation * (kernel - 1) - 1) // stride + 1`` outputs, where n is
        ``(size - 1) * input_dilation + 1``.

    Raises
    ------
    ValueError
        If shapes or parameters do not fit together.
    TypeError
        If an array is not of real numbers or computes in another dtype than float32 or float64.

    Notes
    -----
    Integers give the exact result as long as no sum exceeds 2**24 (float32) or 2**53 (float64). int8,
    int16, uint8, uint16 and float16 compute in float32, wider integers in float64.

    The bits of a result depend neither on the number of threads nor on the other samples of the
    batch nor, with FMA, on the instruction set. Padded taps contribute nothing, so an infinite
    weight on a padded cell gives no NaN.

    References
    ----------
    Definition and argument names follow ``torch.nn.functional``; "same" follows TensorFlow and JAX.
    `scipy.ndimage` calls "symmetric" here "reflect".

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> weight = np.arange(4.0).reshape(1, 1, 2, 2)
    >>> cyconv.conv2d(x, weight, bias=[1.0])[0, 0]
    array([[20., 26.],
           [38., 44.]])
    """
    how = options(function, data_format, stride, padding, dilation, groups, input_dilation, padding_mode, flip)
    return run(function, rank, x, weight, bias, how, out, n_threads)


def _conv_grad_input(function, rank, grad_out, weight, input_shape, *, stride=1, padding=0, dilation=1, groups=1,
                     input_dilation=1, padding_mode="zeros", flip=False, data_format="channels_first", n_threads=None):
    """Gradient of a convolution with respect to its input: the adjoint map of grad_out.

    Parameters
    ----------
    grad_out : array_like of shape (N, K, OUTPUTS) or (K, OUTPUTS)
        Gradient with respect to the result, in the layout of ``data_format``.
    weight : array_like of shape (K, C / groups, KERNEL)
        Kernels of the forward call.
    input_shape : tuple of int
        Shape of the forward call's x. It cannot be derived: several sizes give the same outputs.
    stride, padding, dilation, groups, input_dilation, padding_mode, flip, data_format, n_threads
        As in the forward call.

    Returns
    -------
    ndarray of shape ``input_shape``

    Raises
    ------
    ValueError, TypeError
        As the forward call, and if grad_out has not the shape of its result.

    References
    ----------
    ``torch.nn.grad.conv2d_input``.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.conv2d_grad_input(np.ones((1, 1, 2, 2)), np.arange(4.0).reshape(1, 1, 2, 2), (1, 1, 3, 3))[0, 0]
    array([[0., 1., 1.],
           [2., 6., 4.],
           [2., 5., 3.]])
    """
    how = options(function, data_format, stride, padding, dilation, groups, input_dilation, padding_mode, flip)
    return run_grad_input(function, rank, grad_out, weight, input_shape, how, n_threads)


def _conv_grad_weight(function, rank, grad_out, x, kernel_size, *, stride=1, padding=0, dilation=1, groups=1,
                      input_dilation=1, padding_mode="zeros", flip=False, data_format="channels_first",
                      n_threads=None):
    """Gradient of a convolution with respect to its weight.

    Parameters
    ----------
    grad_out : array_like of shape (N, K, OUTPUTS) or (K, OUTPUTS)
        Gradient with respect to the result, in the layout of ``data_format``.
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input of the forward call.
    kernel_size : int or tuple of int
        Taps of the weight per axis.
    stride, padding, dilation, groups, input_dilation, padding_mode, flip, data_format, n_threads
        As in the forward call.

    Returns
    -------
    ndarray of shape (K, C / groups, KERNEL)

    Raises
    ------
    ValueError, TypeError
        As the forward call, and if grad_out has not the shape of its result.

    References
    ----------
    ``torch.nn.grad.conv2d_weight``.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.conv2d_grad_weight(np.ones((1, 1, 2, 2)), np.arange(9.0).reshape(1, 1, 3, 3), 2)[0, 0]
    array([[ 8., 12.],
           [20., 24.]])
    """
    how = options(function, data_format, stride, padding, dilation, groups, input_dilation, padding_mode, flip)
    return run_grad_weight(function, rank, grad_out, x, kernel_size, how, n_threads)


def _conv_backward(function, rank, grad_out, x, weight, *, stride=1, padding=0, dilation=1, groups=1, input_dilation=1,
                   padding_mode="zeros", flip=False, data_format="channels_first", needs=("x", "weight", "bias"),
                   n_threads=None):
    """Gradients of a convolution with respect to its input, weight and bias.

    Parameters
    ----------
    grad_out : array_like of shape (N, K, OUTPUTS) or (K, OUTPUTS)
        Gradient with respect to the result, in the layout of ``data_format``.
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input of the forward call.
    weight : array_like of shape (K, C / groups, KERNEL)
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

    References
    ----------
    ``aten::convolution_backward``.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> x, weight = np.arange(9.0).reshape(1, 1, 3, 3), np.ones((1, 1, 2, 2))
    >>> grads = cyconv.conv2d_backward(np.ones((1, 1, 2, 2)), x, weight, needs=("weight", "bias"))
    >>> grads.x is None, grads.weight.ravel(), grads.bias
    (True, array([ 8., 12., 20., 24.]), array([4.]))
    """
    how = options(function, data_format, stride, padding, dilation, groups, input_dilation, padding_mode, flip)
    return run_backward(function, rank, grad_out, x, weight, how, needs, n_threads)


conv, conv1d, conv2d, conv3d = every_rank(_conv, "conv{}")
conv_backward, conv1d_backward, conv2d_backward, conv3d_backward = every_rank(_conv_backward, "conv{}_backward")
conv_grad_input, conv1d_grad_input, conv2d_grad_input, conv3d_grad_input = every_rank(
    _conv_grad_input, "conv{}_grad_input")
conv_grad_weight, conv1d_grad_weight, conv2d_grad_weight, conv3d_grad_weight = every_rank(
    _conv_grad_weight, "conv{}_grad_weight")
