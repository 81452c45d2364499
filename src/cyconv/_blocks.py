"""Layers on blocks of samples, the fastest memory for batches of small maps.

In place of (N, C, *spatial) a map is (blocks, *spatial, C, samples): the values that a cell of one channel
has in 16 samples (8 in float64) stand side by side and fill whole vectors, whatever the size of the map and
the number of channels. Nothing is padded, packed or shuffled on the way from layer to layer. A network
enters the blocks with its batch and leaves them before its first layer that does not run on them.
Outputs are the same bits as in the other layouts; gradients of weights differ in the last.

The last block may hold places without a sample. They start as zeros and have zero gradients.

Every map has memory of its own, written by the same threads in every step. Sharing it between layers saved a
quarter but cost half of what a second thread gains: cells moved from the cache of one processor to the other's.
"""

from math import prod

import numpy as np

from . import _arrays, _kernels
from .functional._ranked import team
from .layers import AvgPool, Conv, GlobalPool, MaxPool, MinPool, Mode, SumPool
from .layers.activation import Activation

BLOCK_BYTES = 64           # one vector of the widest instruction set
FILLED = 0.8               # share of the places that must have samples, of two blocks or more
COPY_WORK = 4              # multiplications that take as long as copying a value
CROWDED = 16               # cells so many channels apart would compete for places in the caches

POOLS = MaxPool, MinPool, AvgPool, SumPool, GlobalPool


def samples_of(dtype):
    """Samples of a block."""
    return BLOCK_BYTES // dtype.itemsize


def n_leading(layers, shapes, n, dtype):
    """How many of the layers, from the first on, run on blocks; 0 when that does not pay."""
    samples = samples_of(dtype)
    if n < 2 * samples or n < FILLED * samples * -(-n // samples):
        return 0
    count = 0
    while count < len(layers) and runs_on_blocks(layers[count], shapes[count], n, dtype):
        count += 1
    convolutions = [isinstance(layer, Conv) for layer in layers]
    return count if any(convolutions) and not any(convolutions[count:]) else 0


def runs_on_blocks(layer, shape, n, dtype):
    """Whether a layer does for n samples of ``shape``: poolings, activations, and convolutions without borders."""
    if len(shape) == 1:
        return False
    if isinstance(layer, Conv):
        plan = layer.call((n, *shape), layer.weight_shape(shape), dtype, Mode()).plan
        return plan.is_one_phase and plan.reaches_all_outputs and not plan.has_border
    return type(layer) in POOLS or isinstance(layer, Activation)


class Blocks:
    """Arrays for the maps of layers, for one batch size and dtype; shapes: of their inputs and of the last output."""

    def __init__(self, layers, shapes, n, dtype, n_threads):
        self.layers, self.shapes, self.n, self.dtype, self.n_threads = layers, shapes, n, dtype, n_threads
        self.samples = samples_of(dtype)
        self.kernels = _kernels.kernels[dtype]
        self.count = -(-n // self.samples)
        self.keeps_batch, self.batch = False, None    # from entering until the gradient that needs it

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
            if self.keeps_batch:
                self.batch = np.moveaxis(x, -1, 1) if channels_last else x
            self.kernels.to_blocks(np.ascontiguousarray(x).reshape(rows), flat, n_threads)
            return y, None

        return run

    def leave(self, channels_last):
        """run: blocks to a batch in the network's layout; its backward goes the other way."""
        channels, *spatial = map_shape = self.shapes[-1]
        y = np.empty((self.n, channels, prod(spatial)), self.dtype)
        maps = y.reshape(self.n, *map_shape)
        result = np.moveaxis(maps, 1, -1) if channels_last and spatial else maps
        dx = self.empty(map_shape)
        n_threads = self.team(y.size)

        def run(x, params, rng=None):
            self.kernels.from_blocks(x, y, n_threads)

            def backward(dy, gradients):
                dy = np.moveaxis(dy, -1, 1) if channels_last and spatial else dy
                self.kernels.to_blocks(np.ascontiguousarray(dy).reshape(y.shape), dx, n_threads)
                return dx

            return result, backward

        return run

    def bind(self, place, mode):
        """`Layer.bind` for the layer at a place."""
        layer, map_shape, is_first = self.layers[place], self.shapes[place], place == 0
        if isinstance(layer, Conv):
            return self.convolution(layer, map_shape, mode, is_first)
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

    def convolution(self, layer, map_shape, mode, is_first):
        weight_shape = layer.weight_shape(map_shape)
        call = layer.call((self.count, *map_shape), weight_shape, self.dtype,
                          mode._replace(data_format="channels_first"))
        plan, groups, kernels = call.plan, call.groups, self.kernels
        n_threads = team("Sequential", mode.n_threads, plan.work * self.samples, awake=True)
        n_in, n_out = map_shape[0], weight_shape[0]
        y = self.empty(layer.output_shape(map_shape))
        y_cells = cells(y, n_out)
        dx = self.empty(map_shape) if mode.training and mode.needs_input_grad else None
        # The first layer has its input in rows of pixels too, which are better for many filters of few channels.
        of_batch = is_first and n_out // groups >= self.samples
        self.keeps_batch |= of_batch and mode.training

        def run(x, params, rng=None):
            weight = params["weight"]
            x_cells = cells(x, n_in)
            kernels.conv(x_cells, weight, params.get("bias"), y_cells, plan.table, groups, False, False, False,
                         n_threads, True)

            def backward(dy, gradients):
                dy_cells = cells(dy, n_out)
                if not plan.reaches_all_taps:
                    gradients["weight"][...] = 0
                kernels.conv_grad_weight(dy_cells, self.batch if of_batch else x_cells, gradients["weight"],
                                         gradients.get("bias"), plan.table, groups, False, n_threads, 1 + of_batch)
                if of_batch:
                    self.batch = None
                if dx is not None:
                    if not plan.reaches_all_inputs:
                        dx.fill(0)
                    kernels.conv(dy_cells, weight, None, cells(dx, n_in), plan.adjoint_table, groups, False, True,
                                 False, n_threads, True)
                return dx

            return y, backward

        return run


def cells(blocks, channels):
    """The first samples of the blocks as (blocks, C, *spatial)."""
    return np.moveaxis(blocks[..., :channels, 0], -1, 1)
