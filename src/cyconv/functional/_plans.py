"""Convolutions as plans: what shapes and options determine, and the kernel calls that carry it out.

A plan is looked up, not recomputed, when the same call comes again. All convolutions have one: a
transposed one is the plan of the convolution whose input gradient it is, a depthwise one has a group
per channel, and where weights are tiled the phases of the outputs also say which weights compute them.
"""

from functools import lru_cache, partial
from math import prod
from typing import NamedTuple

import numpy as np

from .. import _arrays, _geometry, _kernels
from .._scalars import counted
from . import _borders
from ._ranked import LETTERS, as_flag, check_shape, frozen, shape_of, spatial_of


class Options(NamedTuple):
    """What a convolution is, apart from its arrays; padding_mode already one of `_borders.MODES`."""

    stride: object
    padding: object
    dilation: object
    groups: object               # None: one per input channel
    input_dilation: object
    padding_mode: str
    flip: bool
    channels_last: bool


def options(function, data_format, stride=1, padding=0, dilation=1, groups=1, input_dilation=1, padding_mode="zeros",
            flip=False):
    """`Options` from what the user wrote, hashable; numbers are checked when the shapes are known."""
    return Options(frozen(stride), frozen(padding), frozen(dilation), frozen(groups), frozen(input_dilation),
                   _borders.mode_named(function, padding_mode), as_flag(function, "flip", flip),
                   _arrays.is_channels_last(function, data_format))


class Plan(NamedTuple):
    """What the shapes and options of a convolution determine."""

    x_shape: tuple
    out_shape: tuple
    windows: tuple
    outputs: tuple
    tiles: tuple                 # of the weights per axis, () for ordinary weights
    table: np.ndarray            # phases of the outputs, for the forward pass and the weight gradient
    adjoint_table: np.ndarray    # phases of the inputs, for the input gradient
    reaches_all_outputs: bool
    reaches_all_inputs: bool
    reaches_all_taps: bool
    is_one_phase: bool           # all outputs have the same taps
    has_border: bool             # of other cells than zeros
    work: int                    # multiplications


class Call(NamedTuple):
    """One checked call: the plan, and how to run it."""

    plan: Plan
    kernels: object
    dtype: np.dtype
    groups: int
    padding_mode: str
    channels_last: bool


def prepare(function, x_shape, weight_shape, dtype, how, kind="plain"):
    """The `Call` for a batch; all checks of shapes and options."""
    if how.groups is None:
        how = how._replace(groups=x_shape[-1 if how.channels_last else 1])
    plan = plan_conv(function, x_shape, weight_shape, how)
    if kind == "local" and plan.tiles != plan.outputs:
        raise ValueError(f"{function}: weight has kernels for {plan.tiles} outputs, the convolution has {plan.outputs}")
    return call_of(plan, dtype, how)


def call_of(plan, dtype, how):
    return Call(plan, _kernels.kernels[dtype], dtype, how.groups, how.padding_mode, how.channels_last)


@lru_cache(maxsize=1024, typed=True)
def plan_conv(function, x_shape, weight_shape, how):
    """The `Plan` of a convolution of a batch."""
    check_channels(function, x_shape, weight_shape, how)
    sizes = spatial_of(x_shape, how.channels_last)
    windows = _geometry.windows(function, sizes, weight_shape[len(weight_shape) - len(sizes):], how.stride, how.padding,
                                how.dilation, how.input_dilation, how.flip)
    outputs = _geometry.output_sizes(function, sizes, windows)
    _borders.check(function, how.padding_mode, sizes, windows)
    return make_plan(function, x_shape, weight_shape, windows, outputs, how)


def make_plan(function, x_shape, weight_shape, windows, outputs, how):
    sizes = spatial_of(x_shape, how.channels_last)
    tiles, weight_shape = weight_shape[:-len(sizes) - 2], weight_shape[-len(sizes) - 2:]
    out_shape = shape_of(x_shape[0], weight_shape[0], outputs, how.channels_last)
    _geometry.check_elements(function, out_shape)
    each = [w for w in zip(windows, sizes, outputs, tiles or (1,) * len(sizes))]
    phases = [_geometry.tiled_phases(w, o, t) for w, _, o, t in each]
    back = [_geometry.tiled_adjoint_phases(w, n, o, t) for w, n, o, t in each]
    work = prod(out_shape) * prod(weight_shape[1:])
    return Plan(
        x_shape, out_shape, windows, outputs, tiles,
        np.array(_geometry.table_of(phases), np.intp),
        np.array(_geometry.table_of(back), np.intp),
        reaches_all_outputs=work > 0 and covers(phases, "n_out", outputs),
        reaches_all_inputs=work > 0 and not tiles and covers(back, "n_out", sizes),
        reaches_all_taps=work > 0 and not tiles and covers(phases, "n_taps", weight_shape[2:]),
        is_one_phase=all(len(axis) == 1 for axis in phases),
        has_border=how.padding_mode != "zeros" and any(w.low or w.high for w in windows),
        work=work,
    )


def covers(phases, what, extents):
    return all(sum(getattr(p, what) for p in axis) == n for axis, n in zip(phases, extents))


# ---------------------------------------------------------------- checks


def check_channels(function, x_shape, weight_shape, how):
    channels = x_shape[-1 if how.channels_last else 1]
    out_channels, in_channels = weight_shape[-len(x_shape):][:2]
    check_groups(function, how.groups)
    if out_channels % how.groups:
        raise ValueError(f"{function}: groups={how.groups} must divide out_channels={out_channels}")
    if channels != in_channels * how.groups:
        raise ValueError(f"{function}: x has {counted(channels, 'channel')} but weight expects "
                         f"{in_channels * how.groups} (weight.shape[{len(weight_shape) - len(x_shape) + 1}]="
                         f"{in_channels} * groups={how.groups})")


def check_groups(function, groups):
    if not _geometry.is_integer(groups) or groups < 1:
        raise ValueError(f"{function}: groups must be an int >= 1, got {groups!r}")


def weight_rank(function, rank, shape, kind="plain"):
    """The rank of the convolution, from the name or the weight."""
    first, per_rank = ("", 1) if kind == "plain" else ("*tiles, " if kind == "tiled" else "*outputs, ", 2)
    found = (len(shape) - 2) // per_rank
    if not 1 <= found <= 3 or len(shape) != per_rank * found + 2 or rank not in (None, found):
        counts = [per_rank * r + 2 for r in ((rank,) if rank else (1, 2, 3))]
        expected = str(counts[0]) if rank else "3 to 5" if per_rank == 1 else "4, 6 or 8"
        raise ValueError(f"{function}: weight must have {expected} dimensions ({first}out_channels, "
                         f"in_channels / groups, {LETTERS[rank]['KERNEL']}), got shape {shape}")
    return found


def bias_for(function, bias, n, dtype):
    """``bias`` as n contiguous numbers, or None."""
    if bias is not None:
        bias = _arrays.as_array(function, "bias", bias)
        check_shape(function, "bias", bias, (n,))
        bias = np.ascontiguousarray(bias, dtype)
        bias = bias if bias.flags.aligned else bias.copy()
    return bias


# ---------------------------------------------------------------- carried out
#
# What a call runs again and again, made once: functions of arrays and of the number of threads.


def forward(call):
    """``run(x, weight, bias, y, n_threads)``, which writes the convolution of x into y."""
    plan, kernels, groups, channels_last = call.plan, call.kernels, call.groups, call.channels_last
    if plan.has_border and plan.work:
        return partial(_borders.forward, call)
    table, work, reaches_all = plan.table, plan.work, plan.reaches_all_outputs

    def run(x, weight, bias, y, n_threads):
        if not reaches_all:
            fill_with_bias(y, bias, channels_last)
        if work:
            kernels.conv(x, weight, bias, y, table, groups, channels_last, False, False, n_threads)

    return run


def adjoint(call):
    """``run(grad_out, weight, bias, dx, n_threads)``, which writes the input gradient plus bias into dx."""
    plan, kernels, groups, channels_last = call.plan, call.kernels, call.groups, call.channels_last
    if plan.has_border and plan.work:
        return partial(_borders.grad_input, call)
    table, work, reaches_all = plan.adjoint_table, plan.work, plan.reaches_all_inputs
    adds = bool(plan.tiles)     # the weights of several tiles reach the same inputs

    def run(grad_out, weight, bias, dx, n_threads):
        if not reaches_all:
            fill_with_bias(dx, bias, channels_last)
        if work:
            kernels.conv(grad_out, weight, bias, dx, table, groups, channels_last, True, adds, n_threads)

    return run


def fill_with_bias(y, bias, channels_last):
    y[...] = 0 if bias is None else bias if channels_last else bias.reshape(-1, *[1] * (y.ndim - 2))


def grad_weight(call):
    """``run(grad_out, x, dweight, dbias, n_threads)``, which writes the gradients of weight and, unless None, bias."""
    plan, kernels, groups, channels_last = call.plan, call.kernels, call.groups, call.channels_last
    table, work, reaches_all, has_border = plan.table, plan.work, plan.reaches_all_taps, plan.has_border
    # Outputs that no tap reaches are in no phase, but the bias reaches them.
    together = plan.reaches_all_outputs and plan.is_one_phase and not has_border
    biased = None if together else grad_bias(call, plan.out_shape)

    def run(grad_out, x, dweight, dbias, n_threads):
        if not reaches_all:
            dweight[...] = 0
        if has_border and work:
            _borders.grad_weight(call, grad_out, x, dweight, n_threads)
        elif work:
            kernels.conv_grad_weight(grad_out, x, dweight, dbias if together else None, table, groups, channels_last,
                                     n_threads)
        if dbias is not None and not together:
            biased(grad_out, dbias, n_threads)

    return run


def grad_bias(call, shape):
    """``run(grad_out, dbias, n_threads)``, which writes the sums of a grad_out of this shape per channel.

    They are the gradient of a 1 x 1 kernel on ones.
    """
    kernels, channels_last = call.kernels, call.channels_last
    outputs = spatial_of(shape, channels_last)
    table = np.array(_geometry.phase_table([_geometry.Window(1)] * len(outputs), outputs), np.intp)
    ones = np.broadcast_to(call.dtype.type(1), shape_of(shape[0], 1, outputs, channels_last))

    def run(grad_out, dbias, n_threads):
        if grad_out.size:
            sums = dbias.reshape(-1, 1, *[1] * len(outputs))
            kernels.conv_grad_weight(grad_out, ones, sums, None, table, 1, channels_last, n_threads)
        else:
            dbias[...] = 0

    return run
