"""All kinds of convolution on random geometries, with their gradients."""

from functools import cache
from itertools import product
from math import prod
from random import Random

import numpy as np

from .. import geometries, reference
from ..arrays import integers
from ._case import Case

BORDERS = ("reflect", "symmetric", "edge", "wrap")
MAX_TILED_PRODUCTS, MAX_TILED_TAPS = 10**6, 300     # as many convolutions as tiles define the result


def family(g, function, arrays, parameters, expected):
    """The function and its three gradients. ``expected() -> (y, dx, dweight)``, computed once."""
    x, weight, bias, dy = arrays
    spatial = {name: value for name, value in parameters.items() if name not in ("output_size",)}
    tiles = {"tiles": weight.shape[:len(g.sizes)]} if function.startswith("tiled") else {}
    kernel = tuple(w.kernel for w in g.windows)
    all_of = cache(expected)
    key = (g._replace(seed=0, n_threads=0), str(parameters.get("padding_mode")), tuple(tiles.values()))
    digits = (function, f"{function}{len(g.sizes)}d")
    name = digits[g.seed % 2]
    yield Case(name, {"x": x, "weight": weight, "bias": bias, **parameters}, lambda: all_of()[:1], key)
    yield Case(f"{name}_backward", {"grad_out": dy, "x": x, "weight": weight, **spatial},
               lambda: (*all_of()[1:], reference.conv_grad_bias(dy)), key)
    yield Case(f"{name}_grad_input", {"grad_out": dy, "weight": weight, "input_shape": x.shape, **spatial},
               lambda: all_of()[1:2], key)
    yield Case(f"{name}_grad_weight", {"grad_out": dy, "x": x, "kernel_size": kernel, **tiles, **spatial},
               lambda: all_of()[2:], key)


def of_reference(g, x, weight, bias, dy):
    """(y, dx, dweight) of an ordinary convolution."""
    return (reference.conv(x, weight, bias, g.windows, g.outputs, g.groups),
            reference.conv_grad_input(dy, weight, g.sizes, g.windows, g.groups),
            reference.conv_grad_weight(dy, x, g.windows, g.groups))


def plain(seed):
    g = geometries.convolution(seed)
    arrays = g.integers()
    return family(g, "conv", arrays, g.parameters, lambda: of_reference(g, *arrays))


def drawn(seed, fits):
    """The first geometry from a seed on that fits; seeds of a family are far apart."""
    number = seed
    while not fits(g := geometries.convolution(number)):
        number += 1_000_003
    return g._replace(seed=seed)


def is_undilated(g):
    return all(w.input_dilation == 1 for w in g.windows) and all(g.sizes)


def bordered(seed):
    """Padding with other cells than zeros."""
    g = drawn(seed, is_undilated)
    x, weight, bias, dy = arrays = g.integers()
    mode = Random(seed).choice(BORDERS)
    bare = [w._replace(low=0, high=0) for w in g.windows]

    def expected():
        padded = reference.with_border(x, g.windows, mode)
        dpadded = reference.conv_grad_input(dy, weight, padded.shape[2:], bare, g.groups)
        return (reference.conv(padded, weight, bias, bare, g.outputs, g.groups),
                reference.fold_border(dpadded, g.sizes, g.windows, mode),
                reference.conv_grad_weight(dy, padded, bare, g.groups))

    return family(g, "conv", arrays, g.parameters | {"padding_mode": mode}, expected)


def is_reached_back(g):
    """Whether a transposed convolution can have outputs of the sizes of the geometry's inputs."""
    smallest = [(o - 1) * w.stride - w.low - w.high + w.extent for o, w in zip(g.outputs, g.windows)]
    return is_undilated(g) and all(0 <= n - s < max(w.stride, w.dilation)
                                   for n, s, w in zip(g.sizes, smallest, g.windows))


def transposed(seed):
    """From the outputs of the geometry back to its inputs."""
    g = drawn(seed, is_reached_back)
    rng = np.random.default_rng(seed)
    weight, x, bias, dy = (integers(rng, s) for s in (g.weight_shape, g.y_shape, g.x_shape[1:2], g.x_shape))
    parameters = {name: value for name, value in g.parameters.items() if name != "input_dilation"}

    def expected():
        y, dx, dweight = of_reference(g, dy, weight, None, x)
        return dx + bias.reshape(-1, *[1] * len(g.sizes)), y, dweight

    return family(g, "conv_transpose", (x, weight, bias, dy), parameters | {"output_size": g.sizes}, expected)


def tiled(seed):
    rng = Random(seed)
    tiles = [rng.randint(1, 4) for _ in range(3)]
    g = drawn(seed, lambda g: is_small(g, prod(tiles[:len(g.sizes)])))
    return with_tiles(g, "tiled_conv", tiles[:len(g.sizes)])


def local(seed):
    g = drawn(seed, lambda g: is_small(g, prod(g.outputs)))
    return with_tiles(g, "local_conv", g.outputs)


def is_small(g, n_tiles):
    return (n_tiles * prod(g.y_shape) * prod(g.weight_shape[1:]) <= MAX_TILED_PRODUCTS
            and n_tiles * prod(w.kernel for w in g.windows) <= MAX_TILED_TAPS)


def with_tiles(g, function, tiles):
    """As many convolutions as tiles, of each of which every so many outputs count."""
    x, _, bias, dy = g.integers()
    weight = integers(np.random.default_rng(g.seed), (*tiles, *g.weight_shape))

    def expected():
        y, dx, dweight = np.zeros(g.y_shape, int), np.zeros(g.x_shape, int), np.zeros_like(weight)
        for tile in product(*map(range, tiles)):
            own = (..., *(slice(t, None, step) for t, step in zip(tile, tiles)))
            part = np.zeros_like(dy)
            part[own] = dy[own]
            all_outputs, dx_of_part, dweight[tile] = of_reference(g, x, weight[tile], bias, part)
            y[own] = all_outputs[own]
            dx += dx_of_part
        return y, dx, dweight

    return family(g, function, (x, weight, bias, dy), g.parameters, expected)


def depthwise(seed):
    g = drawn(seed, lambda g: g.in_channels == 1)
    arrays = g.integers()
    return family(g, "depthwise_conv", arrays, without_groups(g), lambda: of_reference(g, *arrays))


def without_groups(g):
    return {name: value for name, value in g.parameters.items() if name != "groups"}


def separable(seed):
    """A depthwise convolution, and one of kernels of a single cell on its result."""
    g = drawn(seed, lambda g: g.in_channels == 1 and is_undilated(g))
    rng = np.random.default_rng(seed)
    rank, out_channels = len(g.sizes), Random(seed).choice((1, 3, 8, 17))
    x, deep = integers(rng, g.x_shape), integers(rng, g.weight_shape) // 4  # sums of three factors stay exact
    point = integers(rng, (out_channels, g.y_shape[1], *[1] * rank))
    bias, dy = integers(rng, (out_channels,)), integers(rng, (g.batch, out_channels, *g.outputs))
    one = [w._replace(kernel=1, stride=1, dilation=1, low=0, high=0) for w in g.windows]
    parameters = {name: value for name, value in without_groups(g).items() if name != "input_dilation"}

    @cache
    def expected():
        between = reference.conv(x, deep, None, g.windows, g.outputs, g.groups)
        dbetween = reference.conv_grad_input(dy, point, g.outputs, one)
        _, dx, ddeep = of_reference(g, x, deep, None, dbetween)
        return (reference.conv(between, point, bias, one, g.outputs), dx, ddeep,
                reference.conv_grad_weight(dy, between, one), reference.conv_grad_bias(dy))

    key = (g._replace(seed=0, n_threads=0), out_channels)
    weights = {"depthwise_weight": deep, "pointwise_weight": point}
    yield Case("separable_conv", {"x": x, **weights, "bias": bias, **parameters}, lambda: expected()[:1], key)
    yield Case("separable_conv_backward", {"grad_out": dy, "x": x, **weights, **parameters},
               lambda: expected()[1:], key)
    yield Case("separable_conv_grad_input", {"grad_out": dy, **weights, "input_shape": x.shape, **parameters},
               lambda: expected()[1:2], key)
    yield Case("separable_conv_grad_weight", {"grad_out": dy, "x": x, **weights, **parameters},
               lambda: expected()[2:4], key)
