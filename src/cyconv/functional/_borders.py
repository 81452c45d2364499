"""Padding with other cells than zeros: reflected, symmetric, repeated or wrapped around.

The padded input is never made. The outputs are computed in blocks; what a block reads is a view of the
input or, where it crosses the border, a copy of at most `BLOCK` cells, gathered by index. Input
gradients of such a copy are added back to the cells that they were gathered from.
"""

from itertools import product
from math import prod

import numpy as np

from .. import _geometry
from ._ranked import shape_of, spatial_of

# Cells of a block: half a MiB of float32.
BLOCK = 1 << 17

# What is added up here raises no warning about infinities, as in kernels.
SILENT = np.errstate(invalid="ignore", over="ignore")

# By every name that users know; numpy.pad's meaning.
MODES = {
    "zeros": "zeros", "constant": "zeros", "reflect": "reflect", "symmetric": "symmetric",
    "edge": "edge", "replicate": "edge", "wrap": "wrap", "circular": "wrap",
}


def mode_named(function, name):
    if not isinstance(name, str) or name.lower() not in MODES:
        raise ValueError(f"{function}: unknown padding_mode {name!r}; expected one of " + ", ".join(map(repr, MODES)))
    return MODES[name.lower()]


def check(function, mode, sizes, windows):
    """What a border of other cells than zeros asks of an input."""
    if mode == "zeros":
        return
    if any(w.input_dilation > 1 for w in windows):
        raise ValueError(f"{function}: padding_mode={mode!r} needs input_dilation=1, got "
                         f"{tuple(w.input_dilation for w in windows)}; pad x with numpy.pad instead")
    if any(n == 0 and (w.low or w.high) for n, w in zip(sizes, windows)):
        raise ValueError(f"{function}: padding_mode={mode!r} has no cell to repeat in an input of shape {sizes}")


def cells(mode, padded, n):
    """The input cells that stand at the cells ``padded`` of the padded axis, 0 being the first of the input."""
    i = np.arange(padded.start, padded.stop, padded.step)
    if mode == "edge":
        return i.clip(0, n - 1)
    if mode == "wrap":
        return i % n
    period = max(2 * n - 2, 1) if mode == "reflect" else 2 * n
    i %= period
    return np.where(i < n, i, (period if mode == "reflect" else period - 1) - i)


def blocks(call, batch):
    """Cut the outputs: (samples, outputs per axis, padded cells per axis), slices and ranges.

    How the axes are cut depends on one sample alone, and tiled weights start over in every block.
    """
    plan = call.plan
    channels = plan.x_shape[-1 if call.channels_last else 1]
    steps = list(plan.outputs)

    def n_cells():
        return channels * prod(len(read(w, slice(0, step))) for w, step in zip(plan.windows, steps))

    for axis, least in enumerate(plan.tiles or [1] * len(steps)):
        while n_cells() > BLOCK and steps[axis] > least:
            steps[axis] = max(-(-steps[axis] // (2 * least)) * least, least)
    samples = max(1, BLOCK // n_cells())
    for first in range(0, batch, samples):
        for starts in product(*(range(0, o, step) for o, step in zip(plan.outputs, steps))):
            outputs = [slice(s, min(s + step, o)) for s, step, o in zip(starts, steps, plan.outputs)]
            yield slice(first, first + samples), outputs, [read(w, o) for w, o in zip(plan.windows, outputs)]


def read(window, outputs):
    """The padded cells that neighbouring outputs read; of a single output those of its taps only."""
    begin = outputs.start * window.stride - window.low
    if outputs.stop - outputs.start == 1:
        return range(begin, begin + window.extent, window.dilation)
    return range(begin, begin + (outputs.stop - outputs.start - 1) * window.stride + window.extent)


def table(call, outputs, adjoint=False):
    """Phases of a block of the cells that it reads."""
    phases = []
    for window, cut, tiles in zip(call.plan.windows, outputs, call.plan.tiles or [1] * len(outputs)):
        n_out = cut.stop - cut.start
        inner = window._replace(low=0, high=0, dilation=1 if n_out == 1 else window.dilation)
        phases.append(_geometry.tiled_adjoint_phases(inner, len(read(window, cut)), n_out, tiles) if adjoint
                      else _geometry.tiled_phases(inner, n_out, tiles))
    return np.array(_geometry.table_of(phases), np.intp)


def gather(call, x, padded):
    """The cells ``padded`` of x, a view unless they cross the border."""
    for axis, n, where in spatial_axes(call, x, padded):
        if where.start >= 0 and where[-1] < n:
            x = x[(slice(None),) * axis + (slice(where.start, where.stop, where.step),)]
        else:
            x = x.take(cells(call.padding_mode, where, n), axis)
    return x


@SILENT
def scatter(call, part, padded, dx):
    """Add ``part`` to the cells of dx that `gather` reads."""
    pieces = [(part, dx)]
    for axis, n, where in spatial_axes(call, dx, padded):
        if where.start >= 0 and where[-1] < n:
            runs = [(slice(None), slice(where.start, where.stop, where.step), 1)]
        else:
            runs = list(straight_runs(cells(call.padding_mode, where, n)))
        before = (slice(None),) * axis
        pieces = [(some[(*before, values)], target[(*before, sources)], axis if step == 0 else None)
                  for some, target, *_ in pieces for values, sources, step in runs]
        pieces = [(some if same is None else some.sum(same, keepdims=True), target) for some, target, same in pieces]
    for some, target in pieces:
        target += some


def straight_runs(sources):
    """Cut a list of cells where it turns: (slice of the list, slice of cells, step), the step 1, -1 or 0."""
    steps, first, end = np.diff(sources).tolist(), 0, len(sources)
    while first < end:
        last, step = first, steps[first] if first + 1 < end and abs(steps[first]) <= 1 else 1
        while last + 1 < end and steps[last] == step:
            last += 1
        low, high = sorted((int(sources[first]), int(sources[last])))
        values = slice(last, first - 1 if first else None, -1) if step == -1 else slice(first, last + 1)
        yield values, slice(low, high + 1), step
        first = last + 1


def spatial_axes(call, x, padded):
    """(axis, its extent, the cells read) of the spatial axes of a batch."""
    first = 1 if call.channels_last else 2
    return list(zip(range(first, first + len(padded)), spatial_of(x.shape, call.channels_last), padded))


def cut(array, samples, outputs, channels_last):
    return array[(samples, *outputs)] if channels_last else array[(samples, slice(None), *outputs)]


def forward(call, x, weight, bias, y, n_threads):
    for samples, outputs, padded in blocks(call, len(x)):
        call.kernels.conv(gather(call, x[samples], padded), weight, bias, cut(y, samples, outputs, call.channels_last),
                          table(call, outputs), call.groups, call.channels_last, False, False, n_threads)


def grad_input(call, grad_out, weight, bias, dx, n_threads):
    dx[...] = 0
    channels = dx.shape[-1 if call.channels_last else 1]
    for samples, outputs, padded in blocks(call, len(dx)):
        dy = cut(grad_out, samples, outputs, call.channels_last)
        part = np.zeros(shape_of(len(dy), channels, [len(where) for where in padded], call.channels_last), dx.dtype)
        call.kernels.conv(dy, weight, None, part, table(call, outputs, adjoint=True), call.groups, call.channels_last,
                          True, bool(call.plan.tiles), n_threads)
        scatter(call, part, padded, dx[samples])


@SILENT
def grad_weight(call, grad_out, x, dweight, n_threads):
    """Blocks are added up in order, so they show in the bits: they depend on shapes alone."""
    dweight[...] = 0
    part = np.zeros_like(dweight)     # taps that no output of a block reaches stay 0
    for samples, outputs, padded in blocks(call, len(x)):
        call.kernels.conv_grad_weight(cut(grad_out, samples, outputs, call.channels_last),
                                      gather(call, x[samples], padded), part, None, table(call, outputs), call.groups,
                                      call.channels_last, n_threads)
        dweight += part
