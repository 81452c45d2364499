"""Calls of a convolution: what the user gave -> arrays and a plan -> the result.

``how`` are the `Options` of the call. Weights of the ``kind`` "plain" have shape (K, C / groups, *kernel);
"tiled" and "local" ones have, before these axes, one of tiles or outputs for every spatial axis.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from .. import _arrays, _geometry
from ._plans import bias_for, check_groups, forward, grad_bias, grad_input, grad_weight, prepare, weight_rank
from ._ranked import batched, check_shape, checked_rank, input_shape_of, spatial_of


class ConvGrads(NamedTuple):
    """Gradients of a convolution, None where not asked for."""

    x: np.ndarray | None
    weight: np.ndarray | None
    bias: np.ndarray | None


def run(function, rank, x, weight, bias, how, out, n_threads, kind="plain"):
    x, weight = _arrays.as_reals(function, x=x, weight=weight)
    rank = weight_rank(function, rank, weight.shape, kind)
    x, is_single = batched(function, "x", x, rank, how.channels_last)
    call = prepare(function, x.shape, weight.shape, x.dtype, how, n_threads, kind)
    bias = bias_for(function, bias, weight.shape[-rank - 2], x.dtype)
    shape = call.plan.out_shape
    result, copy = _arrays.output_for(function, out, shape[1:] if is_single else shape, x.dtype, (x, weight, bias))
    forward(call, x, weight, bias, result[None] if is_single else result)
    if copy:
        out[...] = result
    return out if copy else result


def run_grad_input(function, rank, grad_out, weight, input_shape, how, n_threads, kind="plain"):
    grad_out, weight = _arrays.as_reals(function, grad_out=grad_out, weight=weight)
    rank = weight_rank(function, rank, weight.shape, kind)
    grad_out, is_single = batched(function, "grad_out", grad_out, rank, how.channels_last)
    x_shape = input_shape_of(function, input_shape, rank, is_single)
    call = prepare(function, x_shape, weight.shape, weight.dtype, how, n_threads, kind)
    check_shape(function, "grad_out", grad_out, call.plan.out_shape)
    dx = grad_input(call, grad_out, weight)
    return dx[0] if is_single else dx


def run_grad_weight(function, rank, grad_out, x, kernel_size, how, n_threads, kind="plain", tiles=None):
    """``tiles`` are the numbers of tiles per axis of a tiled weight."""
    grad_out, x = _arrays.as_reals(function, grad_out=grad_out, x=x)
    if rank is None:
        rank = checked_rank(function, len(kernel_size) if _geometry.as_tuple(kernel_size) else x.ndim - 2)
    kernel = _geometry.per_axis(function, "kernel_size", kernel_size, rank, 1)
    grad_out, _ = batched(function, "grad_out", grad_out, rank, how.channels_last)
    x, _ = batched(function, "x", x, rank, how.channels_last)
    axis = -1 if how.channels_last else 1
    if how.groups is None:
        how = how._replace(groups=x.shape[axis])
    check_groups(function, how.groups)
    if x.shape[axis] % how.groups:
        raise ValueError(f"{function}: groups={how.groups} must divide in_channels={x.shape[axis]}")
    if kind != "plain":
        tiles = spatial_of(grad_out.shape, how.channels_last) if kind == "local" else tiles
        tiles = _geometry.per_axis(function, "tiles", tiles, rank, 1)
    weight_shape = (*(tiles or ()), grad_out.shape[axis], x.shape[axis] // how.groups, *kernel)
    call = prepare(function, x.shape, weight_shape, x.dtype, how, n_threads, kind)
    check_shape(function, "grad_out", grad_out, call.plan.out_shape)
    dweight = np.empty(weight_shape, x.dtype)
    grad_weight(call, grad_out, x, dweight)
    return dweight


def run_backward(function, rank, grad_out, x, weight, how, needs, n_threads, kind="plain"):
    check_needs(function, needs)
    grad_out, x, weight = _arrays.as_reals(function, grad_out=grad_out, x=x, weight=weight)
    rank = weight_rank(function, rank, weight.shape, kind)
    x, is_single = batched(function, "x", x, rank, how.channels_last)
    grad_out, _ = batched(function, "grad_out", grad_out, rank, how.channels_last)
    call = prepare(function, x.shape, weight.shape, x.dtype, how, n_threads, kind)
    check_shape(function, "grad_out", grad_out, call.plan.out_shape)
    dx = grad_input(call, grad_out, weight) if "x" in needs else None
    dweight = np.empty(weight.shape, x.dtype) if "weight" in needs else None
    dbias = np.empty(weight.shape[-rank - 2], x.dtype) if "bias" in needs else None
    if dweight is not None:
        grad_weight(call, grad_out, x, dweight, dbias)
    elif dbias is not None:
        grad_bias(call, grad_out, dbias)
    return ConvGrads(dx[0] if is_single and dx is not None else dx, dweight, dbias)


def check_needs(function, needs, names=ConvGrads._fields):
    is_collection = isinstance(needs, Collection) and not isinstance(needs, str)
    if not is_collection or not all(name in names for name in needs):
        kind = ValueError if is_collection else TypeError
        expected = ", ".join(map(repr, names[:-1])) + f" and {names[-1]!r}"
        raise kind(f"{function}: needs must be a collection of {expected}, got {needs!r}")
