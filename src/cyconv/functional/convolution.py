"""Convolutions and their gradients: user forms -> plan -> arrays -> one kernel call.

A plan holds all that follows from shapes and parameters alone; it is looked up, not recomputed, when
the same call comes again.
"""

from collections.abc import Collection
from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from .. import _arrays, _geometry, _kernels
from ._ranked import (
    LETTERS,
    batched,
    check_shape,
    every_rank,
    frozen,
    input_shape_of,
    names_of_ranks,
    shape_of,
    spatial_of,
    team,
)

__all__ = ["ConvGrads", *names_of_ranks("conv{}", "conv{}_backward", "conv{}_grad_input", "conv{}_grad_weight")]


class ConvGrads(NamedTuple):
    """Gradients of a convolution, None where not asked for."""

    x: np.ndarray | None
    weight: np.ndarray | None
    bias: np.ndarray | None


class Plan(NamedTuple):
    """What the shapes and parameters of a convolution determine."""

    out_shape: tuple
    table: np.ndarray            # phases of the outputs, for the forward pass and the weight gradient
    adjoint_table: np.ndarray    # phases of the inputs, for the input gradient
    reaches_all_outputs: bool
    reaches_all_inputs: bool
    reaches_all_taps: bool
    is_one_phase: bool           # all outputs have the same taps
    work: int                    # multiplications


@lru_cache(maxsize=1024, typed=True)
def plan_conv(function, x_shape, weight_shape, stride, padding, dilation, groups, input_dilation, flip, channels_last):
    """The `Plan` of a batch; all checks of shapes and parameters."""
    channels = x_shape[-1 if channels_last else 1]
    sizes = spatial_of(x_shape, channels_last)
    check_groups(function, groups)
    if weight_shape[0] % groups:
        raise ValueError(f"{function}: groups={groups} must divide out_channels={weight_shape[0]}")
    if channels != weight_shape[1] * groups:
        raise ValueError(f"{function}: x has {channels} channels but weight expects {weight_shape[1] * groups} "
                         f"(weight.shape[1]={weight_shape[1]} * groups={groups})")
    windows = _geometry.windows(function, sizes, weight_shape[2:], stride, padding, dilation, input_dilation, flip)
    outputs = _geometry.output_sizes(function, sizes, windows)
    out_shape = shape_of(x_shape[0], weight_shape[0], outputs, channels_last)
    _geometry.check_elements(function, out_shape)
    adjoint = tuple(w.adjoint() for w in windows)
    phases = [w.phases(o) for w, o in zip(windows, outputs)]
    back = [w.phases(n) for w, n in zip(adjoint, sizes)]
    work = prod(out_shape) * prod(weight_shape[1:])
    return Plan(
        out_shape,
        np.array(_geometry.phase_table(windows, outputs), np.intp),
        np.array(_geometry.phase_table(adjoint, sizes), np.intp),
        work > 0 and covers(phases, "n_out", outputs),
        work > 0 and covers(back, "n_out", sizes),
        work > 0 and covers(phases, "n_taps", weight_shape[2:]),
        all(len(axis) == 1 for axis in phases),
        work,
    )


def check_groups(function, groups):
    if not _geometry.is_integer(groups) or groups < 1:
        raise ValueError(f"{function}: groups must be an int >= 1, got {groups!r}")


def check_needs(function, needs):
    is_collection = isinstance(needs, Collection) and not isinstance(needs, str)
    if not is_collection or not all(name in ConvGrads._fields for name in needs):
        kind = ValueError if is_collection else TypeError
        raise kind(f"{function}: needs must be a collection of 'x', 'weight' and 'bias', got {needs!r}")


def covers(phases, what, extents):
    return all(sum(getattr(p, what) for p in axis) == n for axis, n in zip(phases, extents))


class Call(NamedTuple):
    """One checked call: batched float arrays of one dtype, and the plan."""

    plan: Plan
    kernels: object
    groups: int
    channels_last: bool
    n_threads: int


def prepare(function, x_shape, weight_shape, dtype, stride, padding, dilation, groups, input_dilation, flip,
            channels_last, n_threads):
    plan = plan_conv(function, x_shape, weight_shape, frozen(stride), frozen(padding), frozen(dilation), frozen(groups),
                     frozen(input_dilation), bool(flip), channels_last)
    return Call(plan, _kernels.kernels[dtype], groups, channels_last, team(n_threads, plan.work))


def check_weight(function, rank, shape):
    """The rank of the convolution, from the name or the weight."""
    if rank is None and 3 <= len(shape) <= 5:
        return len(shape) - 2
    if rank is None or len(shape) != rank + 2:
        expected = f"{rank + 2} dimensions" if rank else "3 to 5 dimensions"
        axes = LETTERS[rank]["KERNEL"]
        raise ValueError(f"{function}: weight must have {expected} (out_channels, in_channels / groups, {axes}), "
                         f"got shape {shape}")
    return rank


def _conv(function, rank, x, weight, bias=None, stride=1, padding=0, *, dilation=1, groups=1, input_dilation=1,
          flip=False, data_format="channels_first", out=None, n_threads=None):
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
    channels_last = _arrays.is_channels_last(function, data_format)
    x, weight = _arrays.as_reals(function, x=x, weight=weight)
    rank = check_weight(function, rank, weight.shape)
    x, is_single = batched(function, "x", x, rank, channels_last)
    call = prepare(function, x.shape, weight.shape, x.dtype, stride, padding, dilation, groups, input_dilation, flip,
                   channels_last, n_threads)
    if bias is not None:
        bias = np.ascontiguousarray(_arrays.as_array(function, "bias", bias), x.dtype)
        check_shape(function, "bias", bias, weight.shape[:1])
    shape = call.plan.out_shape
    result, copy = _arrays.output_for(function, out, shape[1:] if is_single else shape, x.dtype, (x, weight, bias))
    y = result[None] if is_single else result
    if not call.plan.reaches_all_outputs:
        y[...] = 0 if bias is None else bias if channels_last else bias.reshape(-1, *[1] * rank)
    if call.plan.work:
        call.kernels.conv(x, weight, bias, y, call.plan.table, groups, channels_last, False, call.n_threads)
    if copy:
        out[...] = result
    return out if copy else result


def _conv_grad_input(function, rank, grad_out, weight, input_shape, *, stride=1, padding=0, dilation=1, groups=1,
                     input_dilation=1, flip=False, data_format="channels_first", n_threads=None):
    """Gradient of a convolution with respect to its input: the adjoint map of grad_out.

    Parameters
    ----------
    grad_out : array_like of shape (N, K, OUTPUTS) or (K, OUTPUTS)
        Gradient with respect to the result, in the layout of ``data_format``.
    weight : array_like of shape (K, C / groups, KERNEL)
        Kernels of the forward call.
    input_shape : tuple of int
        Shape of the forward call's x. It cannot be derived: several sizes give the same outputs.
    stride, padding, dilation, groups, input_dilation, flip, data_format, n_threads
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
    channels_last = _arrays.is_channels_last(function, data_format)
    grad_out, weight = _arrays.as_reals(function, grad_out=grad_out, weight=weight)
    rank = check_weight(function, rank, weight.shape)
    grad_out, is_single = batched(function, "grad_out", grad_out, rank, channels_last)
    x_shape = input_shape_of(function, input_shape, rank, is_single)
    call = prepare(function, x_shape, weight.shape, weight.dtype, stride, padding, dilation, groups, input_dilation,
                   flip, channels_last, n_threads)
    check_shape(function, "grad_out", grad_out, call.plan.out_shape)
    dx = grad_input(call, grad_out, weight, x_shape)
    return dx[0] if is_single else dx


def grad_input(call, grad_out, weight, x_shape):
    plan = call.plan
    dx = (np.empty if plan.reaches_all_inputs else np.zeros)(x_shape, weight.dtype)
    if plan.work:
        call.kernels.conv(grad_out, weight, None, dx, plan.adjoint_table, call.groups, call.channels_last, True,
                          call.n_threads)
    return dx


def _conv_grad_weight(function, rank, grad_out, x, kernel_size, *, stride=1, padding=0, dilation=1, groups=1,
                      input_dilation=1, flip=False, data_format="channels_first", n_threads=None):
    """Gradient of a convolution with respect to its weight.

    Parameters
    ----------
    grad_out : array_like of shape (N, K, OUTPUTS) or (K, OUTPUTS)
        Gradient with respect to the result, in the layout of ``data_format``.
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input of the forward call.
    kernel_size : int or tuple of int
        Taps of the weight per axis.
    stride, padding, dilation, groups, input_dilation, flip, data_format, n_threads
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
    channels_last = _arrays.is_channels_last(function, data_format)
    grad_out, x = _arrays.as_reals(function, grad_out=grad_out, x=x)
    if rank is None:
        rank = len(kernel_size) if _geometry.as_tuple(kernel_size) else x.ndim - 2
    kernel = _geometry.per_axis(function, "kernel_size", kernel_size, rank, 1)
    grad_out, _ = batched(function, "grad_out", grad_out, rank, channels_last)
    x, _ = batched(function, "x", x, rank, channels_last)
    check_groups(function, groups)
    axis = -1 if channels_last else 1
    if x.shape[axis] % groups:
        raise ValueError(f"{function}: groups={groups} must divide in_channels={x.shape[axis]}")
    weight_shape = (grad_out.shape[axis], x.shape[axis] // groups, *kernel)
    call = prepare(function, x.shape, weight_shape, x.dtype, stride, padding, dilation, groups, input_dilation, flip,
                   channels_last, n_threads)
    check_shape(function, "grad_out", grad_out, call.plan.out_shape)
    return grad_weight(call, grad_out, x, weight_shape, False)[0]


def grad_weight(call, grad_out, x, weight_shape, needs_bias):
    """(dweight, dbias); dbias is None unless needed."""
    plan = call.plan
    dweight = (np.empty if plan.reaches_all_taps else np.zeros)(weight_shape, x.dtype)
    # Outputs that no tap reaches are in no phase, but the bias reaches them.
    together = needs_bias and plan.reaches_all_outputs and plan.is_one_phase
    dbias = np.empty(weight_shape[0], x.dtype) if together else None
    if plan.work:
        call.kernels.conv_grad_weight(grad_out, x, dweight, dbias, plan.table, call.groups, call.channels_last,
                                      call.n_threads)
    if needs_bias and not together:
        dbias = grad_bias(call, grad_out)
    return dweight, dbias


def grad_bias(call, grad_out):
    """Sum of grad_out per channel: the gradient of a 1 x 1 kernel on ones."""
    channels = grad_out.shape[-1 if call.channels_last else 1]
    outputs = spatial_of(grad_out.shape, call.channels_last)
    total = np.zeros((channels, 1) + (1,) * len(outputs), grad_out.dtype)
    if grad_out.size:
        shape = shape_of(grad_out.shape[0], 1, outputs, call.channels_last)
        table = np.array(_geometry.phase_table([_geometry.Window(1)] * len(outputs), outputs), np.intp)
        call.kernels.conv_grad_weight(grad_out, np.broadcast_to(grad_out.dtype.type(1), shape), total, None, table, 1,
                                      call.channels_last, call.n_threads)
    return total.reshape(channels)


def _conv_backward(function, rank, grad_out, x, weight, *, stride=1, padding=0, dilation=1, groups=1, input_dilation=1,
                   flip=False, data_format="channels_first", needs=("x", "weight", "bias"), n_threads=None):
    """Gradients of a convolution with respect to its input, weight and bias.

    Parameters
    ----------
    grad_out : array_like of shape (N, K, OUTPUTS) or (K, OUTPUTS)
        Gradient with respect to the result, in the layout of ``data_format``.
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input of the forward call.
    weight : array_like of shape (K, C / groups, KERNEL)
        Kernels of the forward call.
    stride, padding, dilation, groups, input_dilation, flip, data_format, n_threads
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
    check_needs(function, needs)
    channels_last = _arrays.is_channels_last(function, data_format)
    grad_out, x, weight = _arrays.as_reals(function, grad_out=grad_out, x=x, weight=weight)
    rank = check_weight(function, rank, weight.shape)
    x, is_single = batched(function, "x", x, rank, channels_last)
    grad_out, _ = batched(function, "grad_out", grad_out, rank, channels_last)
    call = prepare(function, x.shape, weight.shape, x.dtype, stride, padding, dilation, groups, input_dilation, flip,
                   channels_last, n_threads)
    check_shape(function, "grad_out", grad_out, call.plan.out_shape)
    dx = dweight = dbias = None
    if "x" in needs:
        dx = grad_input(call, grad_out, weight, x.shape)
        dx = dx[0] if is_single else dx
    if "weight" in needs:
        dweight, dbias = grad_weight(call, grad_out, x, weight.shape, "bias" in needs)
    elif "bias" in needs:
        dbias = grad_bias(call, grad_out)
    return ConvGrads(dx, dweight, dbias)


conv, conv1d, conv2d, conv3d = every_rank(_conv, "conv{}")
conv_backward, conv1d_backward, conv2d_backward, conv3d_backward = every_rank(_conv_backward, "conv{}_backward")
conv_grad_input, conv1d_grad_input, conv2d_grad_input, conv3d_grad_input = every_rank(
    _conv_grad_input, "conv{}_grad_input")
conv_grad_weight, conv1d_grad_weight, conv2d_grad_weight, conv3d_grad_weight = every_rank(
    _conv_grad_weight, "conv{}_grad_weight")
