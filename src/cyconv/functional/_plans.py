"""Convolutions as plans: what shapes and options determine, and the kernel calls that carry it out.

A plan is looked up, not recomputed, when the same call comes again. All convolutions have one: a
transposed one is the plan of the convolution whose input gradient it is, a depthwise one has a group
per channel, and where weights are tiled the phases of the outputs also say which weights compute them.
"""

from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from .. import _arrays, _geometry, _kernels
from . import _borders
from ._ranked import LETTERS, as_flag, check_shape, frozen, shape_of, spatial_of, team


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
    groups: int
    padding_mode: str
    channels_last: bool
    n_threads: int


def prepare(function, x_shape, weight_shape, dtype, how, n_threads, kind="plain", awake=False):
    """The `Call` for a batch; all checks of shapes and options. ``awake`` as for `team`."""
    if how.groups is None:
        how = how._replace(groups=x_shape[-1 if how.channels_last else 1])
    plan = plan_conv(function, x_shape, weight_shape, how)
    if kind == "local" and plan.tiles != plan.outputs:
        raise ValueError(f"{function}: weight has kernels for {plan.tiles} outputs, the convolution has {plan.outputs}")
    return call_of(function, plan, dtype, how, n_threads, awake)


def call_of(function, plan, dtype, how, n_threads, awake=False):
    return Call(plan, _kernels.kernels[dtype], how.groups, how.padding_mode, how.channels_last,
                team(function, n_threads, plan.work, awake))


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
        raise ValueError(f"{function}: x has {channels} channels but weight expects {in_channels * how.groups} "
                         f"(weight.shape[{len(weight_shape) - len(x_shape) + 1}]={in_channels} * groups={how.groups})")


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


def forward(call, x, weight, bias, y):
    """Write the convolution of x into y."""
    plan = call.plan
    if plan.has_border and plan.work:
        _borders.forward(call, x, weight, bias, y)
        return
    if not plan.reaches_all_outputs:
        fill_with_bias(call, y, bias)
    if plan.work:
        call.kernels.conv(x, weight, bias, y, plan.table, call.groups, call.channels_last, False, False, call.n_threads)


def adjoint(call, grad_out, weight, bias, dx):
    """Write the input gradient plus bias into dx."""
    plan = call.plan
    if plan.has_border and plan.work:
        _borders.grad_input(call, grad_out, weight, dx)
        return
    if not plan.reaches_all_inputs:
        fill_with_bias(call, dx, bias)
    if plan.work:
        # The weights of several tiles reach the same inputs, so their parts add up.
        call.kernels.conv(grad_out, weight, bias, dx, plan.adjoint_table, call.groups, call.channels_last, True,
                          bool(plan.tiles), call.n_threads)


def fill_with_bias(call, y, bias):
    y[...] = 0 if bias is None else bias if call.channels_last else bias.reshape(-1, *[1] * (y.ndim - 2))


def grad_input(call, grad_out, weight):
    dx = np.empty(call.plan.x_shape, weight.dtype)
    adjoint(call, grad_out, weight, None, dx)
    return dx


def grad_weight(call, grad_out, x, dweight, dbias=None):
    """Write the gradients of the weight and, unless None, of the bias."""
    plan = call.plan
    # Outputs that no tap reaches are in no phase, but the bias reaches them.
    together = plan.reaches_all_outputs and plan.is_one_phase and not plan.has_border
    if not plan.reaches_all_taps:
        dweight[...] = 0
    if plan.has_border and plan.work:
        _borders.grad_weight(call, grad_out, x, dweight)
    elif plan.work:
        call.kernels.conv_grad_weight(grad_out, x, dweight, dbias if together else None, plan.table, call.groups,
                                      call.channels_last, call.n_threads)
    if dbias is not None and not together:
        grad_bias(call, grad_out, dbias)


def grad_bias(call, grad_out, dbias):
    """Write the sum of grad_out per channel: the gradient of a 1 x 1 kernel on ones."""
    outputs = spatial_of(grad_out.shape, call.channels_last)
    if not grad_out.size:
        dbias[...] = 0
        return
    shape = shape_of(grad_out.shape[0], 1, outputs, call.channels_last)
    table = np.array(_geometry.phase_table([_geometry.Window(1)] * len(outputs), outputs), np.intp)
    call.kernels.conv_grad_weight(grad_out, np.broadcast_to(grad_out.dtype.type(1), shape),
                                  dbias.reshape(-1, 1, *[1] * len(outputs)), None, table, 1, call.channels_last,
                                  call.n_threads)
