"""Calls of a convolution: what the user gave -> arrays and a plan -> the result.

``how`` are the `Options` of the call. Weights of the ``kind`` "plain" have shape (K, C / groups, *kernel);
"tiled" and "local" ones have, before these axes, one of tiles or outputs for every spatial axis.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from .. import _arrays, _geometry
from ._plans import adjoint, bias_for, check_groups, forward, grad_bias, grad_weight, prepare, weight_rank
from ._public import Checked
from ._ranked import as_batch, batched, check_shape, checked_rank, input_shape_of, spatial_of, team


class ConvGrads(NamedTuple):
    """Gradients of a convolution, None where not asked for."""

    x: np.ndarray | None
    weight: np.ndarray | None
    bias: np.ndarray | None


def run(function, rank, x, weight, bias, how, out, n_threads, kind="plain"):
    x, weight = _arrays.as_reals(function, x=x, weight=weight)
    rank = weight_rank(function, rank, weight.shape, kind)
    batch, is_single = batched(function, "x", x, rank, how.channels_last)
    call = prepare(function, batch.shape, weight.shape, x.dtype, how, kind)
    bias = bias_for(function, bias, weight.shape[-rank - 2], x.dtype)
    return convolution(function, forward(call), call, call.plan.out_shape, is_single, n_threads, x, weight, bias, out)


def convolution(function, write, call, shape, is_single, n_threads, x, weight, bias, out):
    """The checked call of what ``write`` makes of x, weight and bias: an array of ``shape``."""
    dtype, work = call.dtype, call.plan.work
    shape = shape[1:] if is_single else shape

    if out is not None:
        _arrays.check_out(function, out, shape, dtype)

    def compute(x, weight, bias=None, out=None):
        y, copy = (np.empty(shape, dtype), False) if out is None else _arrays.apart_from(out, (x, weight, bias))
        n = team(function, n_threads, work)
        if is_single:
            write(x[None], weight, bias, y[None], n)
        else:
            write(x, weight, bias, y, n)
        if copy:
            out[...] = y
        return out if copy else y

    return Checked(compute, x, weight, bias, out)


def run_grad_input(function, rank, grad_out, weight, input_shape, how, n_threads, kind="plain"):
    grad_out, weight = _arrays.as_reals(function, grad_out=grad_out, weight=weight)
    rank = weight_rank(function, rank, weight.shape, kind)
    batch, is_single = batched(function, "grad_out", grad_out, rank, how.channels_last)
    x_shape = input_shape_of(function, input_shape, rank, is_single)
    call = prepare(function, x_shape, weight.shape, weight.dtype, how, kind)
    check_shape(function, "grad_out", batch, call.plan.out_shape)
    return convolution(function, adjoint(call), call, x_shape, is_single, n_threads, grad_out, weight, None, None)


def run_grad_weight(function, rank, grad_out, x, kernel_size, how, n_threads, kind="plain", tiles=None):
    """``tiles`` are the numbers of tiles per axis of a tiled weight."""
    grad_out, x = _arrays.as_reals(function, grad_out=grad_out, x=x)
    if rank is None:
        rank = checked_rank(function, len(kernel_size) if _geometry.as_tuple(kernel_size) else x.ndim - 2)
    kernel = _geometry.per_axis(function, "kernel_size", kernel_size, rank, 1)
    dy, _ = batched(function, "grad_out", grad_out, rank, how.channels_last)
    batch, _ = batched(function, "x", x, rank, how.channels_last)
    axis = -1 if how.channels_last else 1
    if how.groups is None:
        how = how._replace(groups=batch.shape[axis])
    check_groups(function, how.groups)
    if batch.shape[axis] % how.groups:
        raise ValueError(f"{function}: groups={how.groups} must divide in_channels={batch.shape[axis]}")
    if kind != "plain":
        tiles = spatial_of(dy.shape, how.channels_last) if kind == "local" else tiles
        tiles = _geometry.per_axis(function, "tiles", tiles, rank, 1)
    weight_shape = (*(tiles or ()), dy.shape[axis], batch.shape[axis] // how.groups, *kernel)
    call = prepare(function, batch.shape, weight_shape, x.dtype, how, kind)
    check_shape(function, "grad_out", dy, call.plan.out_shape)
    return weight_gradient(function, grad_weight(call), call, weight_shape, n_threads, grad_out, x)


def weight_gradient(function, write, call, weight_shape, n_threads, grad_out, x):
    """The checked call of the array of ``weight_shape`` that ``write`` makes of grad_out and x."""
    dtype, work, ndim = call.dtype, call.plan.work, len(call.plan.x_shape)

    def compute(grad_out, x):
        dweight = np.empty(weight_shape, dtype)
        write(as_batch(grad_out, ndim), as_batch(x, ndim), dweight, None, team(function, n_threads, work))
        return dweight

    return Checked(compute, grad_out, x)


def run_backward(function, rank, grad_out, x, weight, how, needs, n_threads, kind="plain"):
    check_needs(function, needs)
    grad_out, x, weight = _arrays.as_reals(function, grad_out=grad_out, x=x, weight=weight)
    rank = weight_rank(function, rank, weight.shape, kind)
    batch, _ = batched(function, "x", x, rank, how.channels_last)
    dy, _ = batched(function, "grad_out", grad_out, rank, how.channels_last)
    call = prepare(function, batch.shape, weight.shape, x.dtype, how, kind)
    check_shape(function, "grad_out", dy, call.plan.out_shape)
    return gradients(function, adjoint(call), grad_weight(call), call, dy.shape, needs, n_threads, grad_out, x, weight)


def gradients(function, write_dx, write_dweight, call, dy_shape, needs, n_threads, grad_out, x, weight):
    """The checked call of those of the three gradients that are needed."""
    dtype, work, ndim = call.dtype, call.plan.work, len(dy_shape)
    x_shape, weight_shape, out_channels = x.shape, weight.shape, dy_shape[-1 if call.channels_last else 1]
    needs_x, needs_weight, needs_bias = (name in needs for name in ConvGrads._fields)
    write_dbias = grad_bias(call, dy_shape) if needs_bias and not needs_weight else None

    def compute(grad_out, x, weight):
        n = team(function, n_threads, work)
        grad_out, x = as_batch(grad_out, ndim), as_batch(x, ndim)
        dx = np.empty(x_shape, dtype) if needs_x else None
        dweight = np.empty(weight_shape, dtype) if needs_weight else None
        dbias = np.empty(out_channels, dtype) if needs_bias else None
        if needs_x:
            write_dx(grad_out, weight, None, as_batch(dx, ndim), n)
        if needs_weight:
            write_dweight(grad_out, x, dweight, dbias, n)
        elif needs_bias:
            write_dbias(grad_out, dbias, n)
        return ConvGrads(dx, dweight, dbias)

    return Checked(compute, grad_out, x, weight)


def check_needs(function, needs, names=ConvGrads._fields):
    is_collection = isinstance(needs, Collection) and not isinstance(needs, str)
    if not is_collection or not all(name in names for name in needs):
        kind = ValueError if is_collection else TypeError
        expected = ", ".join(map(repr, names[:-1])) + f" and {names[-1]!r}"
        raise kind(f"{function}: needs must be a collection of {expected}, got {needs!r}")
