"""Layers on blocks of samples, the fastest memory for batches of small maps.

In place of (N, C, *spatial) a map is (blocks, *spatial, C, samples): the values that a cell of one channel
has in 16 samples (8 in float64) stand side by side and fill whole vectors, whatever the size of the map and
the number of channels. Nothing is padded, packed or shuffled on the way from layer to layer. A network
enters the blocks with its batch and leaves them before its first layer that does not run on them.
Outputs are the same bits as in the other layouts; gradients of weights differ in the last.

A convolution takes along a pooling into maxima and a rectifier that follow it: only the maxima come to memory.

The last block may hold places without a sample. They start as zeros and have zero gradients.

Every map that comes to memory has its own, and its gradient takes its place once nothing reads the map any more: the
same threads write it in every step. Sharing memory between layers cost half of what a second thread gains: cells moved
from the cache of one processor to the other's.
"""

from math import prod

import numpy as np

from . import _arrays, _kernels
from .functional._ranked import team
from .layers import AvgPool, Conv, Dense, GlobalPool, MaxPool, MinPool, Mode, ReLU, SumPool
from .layers._layer import layer_windows
from .layers.activation import Activation
from .layers.pool import BYTE_TAPS

BLOCK_BYTES = 64           # one vector of the widest instruction set
FILLED = 0.8               # share of the places that must have samples
COPY_WORK = 4              # multiplications that take as long as copying a value
CROWDED = 16               # cells so many channels apart would compete for places in the caches
NO_TAP = 256               # more than any number of a tap

POOLS = MaxPool, MinPool, AvgPool, SumPool, GlobalPool


def samples_of(dtype):
    """Samples of a block."""
    return BLOCK_BYTES // dtype.itemsize


def n_leading(layers, shapes, n, dtype):
    """How many of the layers, from the first on, run on blocks; 0 when that does not pay."""
    samples = samples_of(dtype)
    if n < FILLED * samples * -(-n // samples):
        return 0
    count = 0
    while count < len(layers) and runs_on_blocks(layers[count], shapes[count], n, dtype):
        count += 1
    convolutions = [isinstance(layer, Conv) for layer in layers]
    return count if any(convolutions) and not any(convolutions[count:]) else 0


def runs_on_blocks(layer, shape, n, dtype):
    """Whether a layer does for n samples of ``shape``: on vectors the dense ones and activations; on maps convolutions
    without borders and poolings too."""
    if type(layer) is Dense or isinstance(layer, Activation):
        return True
    if len(shape) == 1:
        return False
    if isinstance(layer, Conv):
        plan = layer.call((n, *shape), layer.weight_shape(shape), dtype, Mode()).plan
        return plan.is_one_phase and plan.reaches_all_outputs and not plan.has_border
    return type(layer) in POOLS


def window_of(layer, map_shape):
    """Sizes of the windows of a maximum that tile a map but for its end, else None."""
    if type(layer) is not MaxPool:
        return None
    found = layer_windows("Sequential", layer, map_shape)
    sizes = tuple(w.kernel for w in found)
    outputs = tuple(n // size for n, size in zip(map_shape[1:], sizes))
    apart = all(w.stride == w.kernel and w.dilation == 1 and w.low == w.high == 0 for w in found)
    fits = 0 not in outputs and outputs == layer.output_shape(map_shape)[1:]
    return sizes if apart and fits and prod(sizes) < BYTE_TAPS else None


class Blocks:
    """Arrays for the maps of layers, for one batch size and dtype; shapes: of their inputs and of the last output."""

    def __init__(self, layers, shapes, n, dtype, n_threads):
        self.layers, self.shapes, self.n, self.dtype, self.n_threads = layers, shapes, n, dtype, n_threads
        self.samples = samples_of(dtype)
        self.kernels = _kernels.kernels[dtype]
        self.count = -(-n // self.samples)
        self.taken = set()                            # places of layers that run in the convolution before them

    def shape(self, map_shape):
        channels, *spatial = map_shape
        return self.count, *spatial, channels + (channels % CROWDED == 0), self.samples

    def empty(self, map_shape):
        return _arrays.aligned_zeros(self.shape(map_shape), self.dtype)

    def team(self, values):
        return team("Sequential", self.n_threads, COPY_WORK * values, awake=True)

    def enter(self, channels_last):
        """run: a batch in the network's layout to blocks."""
        channels, *spatial = map_shape = self.shapes[0]
        y = _arrays.aligned_zeros((self.count, *spatial, channels, self.samples), self.dtype)
        flat = y.reshape(self.count, -1, 1, self.samples) if channels_last else y
        rows = (self.n, 1, prod(map_shape)) if channels_last else (self.n, channels, prod(spatial))
        n_threads = self.team(y.size)

        def run(x, params, rng=None):
            self.kernels.to_blocks(np.ascontiguousarray(x).reshape(rows), flat, n_threads)
            return y, None

        return run

    def leave(self, channels_last, in_place):
        """run: blocks to a batch in the network's layout; its backward goes the other way, in place or not."""
        channels, *spatial = map_shape = self.shapes[-1]
        y = np.empty((self.n, channels, prod(spatial)), self.dtype)
        maps = y.reshape(self.n, *map_shape)
        result = np.moveaxis(maps, 1, -1) if channels_last and spatial else maps
        own = None if in_place else self.empty(map_shape)
        n_threads = self.team(y.size)

        def run(x, params, rng=None):
            self.kernels.from_blocks(x, y, n_threads)

            def backward(dy, gradients):
                dy, dx = np.moveaxis(dy, -1, 1) if channels_last and spatial else dy, x if in_place else own
                self.kernels.to_blocks(np.ascontiguousarray(dy).reshape(y.shape), dx, n_threads)
                return dx

            return result, backward

        return run

    def bind(self, place, mode):
        """`Layer.bind` for the layer at a place; None for one that the convolution before it takes along."""
        layer, map_shape, is_first = self.layers[place], self.shapes[place], place == 0
        if place in self.taken:
            return None
        if place - 1 in self.taken:    # by a convolution, which does not read its output again
            mode = mode._replace(in_place=True)
        if isinstance(layer, Conv):
            return self.convolution(place, mode)
        if isinstance(layer, Dense):
            return self.dense(place, mode)
        count, *spatial, channels, samples = shape = self.shape(map_shape)
        if is_first:
            count, *spatial, channels, samples = shape = (*shape[:-2], map_shape[0], samples)
        mode = mode._replace(data_format="channels_last")
        if isinstance(layer, Activation):
            return layer.bind(shape, self.dtype, mode)
        after = self.shape(layer.output_shape(map_shape))[:-2]
        inner = layer.bind((count, *spatial, channels * samples), self.dtype, mode)

        def run(x, params, rng=None):
            y, into = inner(x.reshape(count, *spatial, channels * samples), params)

            def backward(dy, gradients):
                dx = into(dy.reshape(y.shape), gradients)
                return None if dx is None else dx.reshape(shape)

            return y.reshape(*after, channels, samples), backward

        return run

    def dense(self, place, mode):
        layer, map_shape, kernels = self.layers[place], self.shapes[place], self.kernels
        n_threads = team("Sequential", mode.n_threads, self.n * layer.n_macs(map_shape), awake=True)
        y = self.empty(self.shapes[place + 1])
        wants_dx = mode.training and mode.needs_input_grad
        own = self.empty(map_shape) if wants_dx and not mode.in_place else None

        def run(x, params, rng=None):
            weight = params["weight"]
            kernels.dense_blocks(x, weight, params.get("bias"), y, n_threads)

            def backward(dy, gradients):
                kernels.dense_blocks_gradient(dy, x, gradients["weight"], gradients.get("bias"), self.n, n_threads)
                if not wants_dx:
                    return None
                dx = x if mode.in_place else own
                kernels.dense_blocks_adjoint(dy, weight, dx, n_threads)
                return dx

            return y, backward

        return run

    def following(self, place):
        """Windows of the maximum and whether a rectifier follow a convolution, and the place after them."""
        window, rectify, after = None, False, place + 1
        if prod(self.layers[place].weight_shape(self.shapes[place])[1:]) <= self.kernels.sum_terms:
            if after < len(self.layers):
                window = window_of(self.layers[after], self.shapes[after])
                after += window is not None
            rectify = after < len(self.layers) and type(self.layers[after]) is ReLU
        return window or (1,) * (len(self.shapes[place]) - 1), rectify, after + rectify

    def convolution(self, place, mode):
        layer, map_shape = self.layers[place], self.shapes[place]
        weight_shape, after = layer.weight_shape(map_shape), layer.output_shape(map_shape)
        call = layer.call((self.count, *map_shape), weight_shape, self.dtype,
                          mode._replace(data_format="channels_first"))
        plan, groups, kernels = call.plan, call.groups, self.kernels
        n_threads = team("Sequential", mode.n_threads, plan.work * self.samples, awake=True)
        n_in, n_out = map_shape[0], weight_shape[0]
        window, rectify, end = self.following(place)
        self.taken |= set(range(place + 1, end))
        y = self.empty(self.shapes[end])
        y_cells = cells(y, n_out)
        wants_dx = mode.training and mode.needs_input_grad
        own = self.empty(map_shape) if wants_dx and not mode.in_place else None
        own_cells = None if own is None else cells(own, n_in)
        as_input, as_output = remembered(lambda x: cells(x, n_in)), remembered(lambda dy: cells(dy, n_out))
        taps, places = None, None
        if mode.training and end > place + 1:
            taps, places = cells(np.zeros(y.shape, np.uint8), n_out), tap_places(after[1:], window, y_cells)
        window = (1,) * (3 - len(window)) + window

        def run(x, params, rng=None):
            weight = params["weight"]
            x_cells = as_input(x)
            kernels.conv_blocks(x_cells, weight, params.get("bias"), y_cells, plan.table, groups, window, rectify, taps,
                                n_threads)

            def backward(dy, gradients):
                dy_cells = as_output(dy)
                if not plan.reaches_all_taps:
                    gradients["weight"][...] = 0
                kernels.conv_grad_weight(dy_cells, x_cells, gradients["weight"], gradients.get("bias"), plan.table,
                                         groups, False, n_threads, True, taps, places)
                if not wants_dx:
                    return None
                dx, dx_cells = (x, x_cells) if mode.in_place else (own, own_cells)
                if not plan.reaches_all_inputs:
                    dx.fill(0)
                kernels.conv_blocks_adjoint(dy_cells, weight, dx_cells, plan.adjoint_table, groups, taps, places,
                                            n_threads)
                return dx

            return y, backward

        return run


def tap_places(sizes, window, maxima):
    """For the outputs of each axis of a convolution: steps to the maximum of their window, their part of its tap."""
    tables, name = [], 1
    for n, w, strides in zip(reversed(sizes), reversed(window), reversed(maxima.strides)):
        output = np.arange(n)
        left_out = output // w >= n // w
        step = np.where(left_out, 0, output // w * (strides // maxima.itemsize))
        tables.insert(0, np.stack([step, np.where(left_out, NO_TAP, output % w * name)], axis=1).astype(np.intp))
        name *= w
    return (np.zeros((1, 2), np.intp),) * (3 - len(tables)) + tuple(tables)


def remembered(view):
    """``view`` of an array; made once while the same array comes again and again, as in training."""
    last = [None, None]

    def of(array):
        if array is not last[0]:
            last[:] = array, view(array)
        return last[1]

    return of


def cells(blocks, channels):
    """The first samples of the blocks as (blocks, C, *spatial)."""
    last = blocks.ndim - 2
    return blocks[..., :channels, 0].transpose(0, last, *range(1, last))
