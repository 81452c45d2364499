"""All kinds of pooling on random geometries, with their gradients."""

from functools import cache
from math import inf, prod

import numpy as np

from .. import geometries, reference
from ..arrays import integers
from ._case import Case


def drawn(seed):
    """A geometry, its key, x and the gradient of y."""
    g, rng = geometries.pooling(seed), np.random.default_rng(seed)
    return g, g._replace(seed=0, n_threads=0), integers(rng, g.x_shape), integers(rng, g.y_shape)


def named(g, function):
    """With the digit of the rank on odd seeds."""
    return function.replace("_pool", f"_pool{len(g.sizes)}d") if g.seed % 2 else function


def pooled(seed):
    """The largest and the smallest cell, where they stand, and the gradient that goes back there."""
    g, key, x, dy = drawn(seed)
    for kind, function in (("max", reference.max_pool), ("min", reference.min_pool)):
        values, indices = function(x.astype(float), g.windows, g.outputs)
        yield Case(named(g, f"{kind}_pool"), {"x": x, **g.parameters, "return_indices": True},
                   lambda found=(values, indices): found, key)
        yield Case(named(g, f"{kind}_pool_backward"), {"grad_out": dy, "indices": indices, "input_shape": x.shape},
                   lambda indices=indices: [reference.max_pool_backward(dy, indices, g.sizes)], key)


def means(seed):
    """Sums, and means over windows with and without their padding, by a divisor of one's own."""
    g, key, x, dy = drawn(seed)
    include_pad, divisor = bool(seed % 2), (None, None, 7, -0.5)[seed % 4]
    window, sizes = (g.windows, g.outputs), {"input_shape": x.shape}
    options = {**g.parameters, "count_include_pad": include_pad, "divisor_override": divisor}
    divisors = np.full(g.outputs, divisor) if divisor else reference.cells_that_count(g.sizes, *window, include_pad)

    def mean():
        total = reference.sum_pool(x, *window)
        return [np.divide(total, divisors, out=np.full(total.shape, np.nan), where=divisors != 0)]

    def back(dy):
        return [reference.sum_pool_backward(dy, g.sizes, g.windows)]

    yield Case(named(g, "sum_pool"), {"x": x, **g.parameters}, lambda: [reference.sum_pool(x, *window)], key)
    yield Case(named(g, "sum_pool_backward"), {"grad_out": dy, **sizes, **g.parameters}, lambda: back(dy), key)
    yield Case(named(g, "avg_pool"), {"x": x, **options}, mean, key)
    yield Case(named(g, "avg_pool_backward"), {"grad_out": dy * divisors, **sizes, **options},
               lambda: back(dy * (divisors != 0)), key)


def norms(seed):
    """Orders 1, 2 and infinity, whose roots are exact or correctly rounded."""
    g, key, x, dy = drawn(seed)
    window = g.windows, g.outputs
    total = reference.sum_pool(abs(x), *window)
    largest, where = reference.max_pool(abs(x).astype(float), *window)
    largest = np.maximum(largest, 0)
    for p, y in ((1, total), (2, np.sqrt(reference.sum_pool(x * x, *window))), (inf, largest)):
        yield Case(named(g, "lp_pool"), {"x": x, "p": p, **g.parameters}, lambda y=y: [y], key)
    gradients = {1: lambda: [reference.sum_pool_backward(dy, g.sizes, g.windows) * np.sign(x)],
                 inf: lambda: [np.sign(x) * reference.max_pool_backward(dy * (largest != 0), where, g.sizes)]}
    for p, y in ((1, total), (inf, largest)):
        yield Case(named(g, "lp_pool_backward"), {"grad_out": dy, "x": x, "out": y, "p": p, **g.parameters},
                   gradients[p], key)


def unpooled(seed):
    """Values back to where they stood."""
    g, key, _, x = drawn(seed)
    rng = np.random.default_rng(seed + 1)
    dy, inputs = integers(rng, g.x_shape), integers(rng, g.x_shape)
    _, indices = reference.max_pool(inputs.astype(float), g.windows, g.outputs)
    window = {name: value for name, value in g.parameters.items() if name != "ceil_mode"}
    name = f"max_unpool{len(g.sizes)}d" if seed % 2 else "max_unpool"

    def gathered():
        planes = np.concatenate([dy.reshape(*dy.shape[:2], prod(g.sizes)), np.zeros((*dy.shape[:2], 1))], axis=2)
        return [np.take_along_axis(planes, indices.reshape(*x.shape[:2], prod(g.outputs)), axis=2).reshape(x.shape)]

    yield Case(name, {"x": x, "indices": indices, **window, "output_size": g.sizes},
               lambda: [reference.max_unpool(x, indices, g.sizes)], key)
    yield Case(f"{name}_backward", {"grad_out": dy, "indices": indices}, gathered, key)


def adaptive(seed):
    """As many bins as are asked for."""
    g, rng = geometries.adaptive(seed), np.random.default_rng(seed)
    key, shape = g._replace(seed=0, n_threads=0), {"input_shape": g.x_shape}
    x, dy = integers(rng, g.x_shape), integers(rng, g.y_shape)
    values, indices = reference.adaptive_max_pool(x, g.outputs)
    total, counts = reference.adaptive_sum_pool(x, g.outputs)
    yield Case(named(g, "adaptive_max_pool"), {"x": x, "output_size": g.outputs, "return_indices": True},
               lambda: (values, indices), key)
    yield Case(named(g, "adaptive_max_pool_backward"), {"grad_out": dy, "indices": indices, **shape},
               lambda: [reference.max_pool_backward(dy, indices, g.sizes)], key)
    yield Case(named(g, "adaptive_avg_pool"), {"x": x, "output_size": g.outputs}, lambda: [total / counts], key)
    yield Case(named(g, "adaptive_avg_pool_backward"), {"grad_out": dy * counts, **shape},
               lambda: [reference.adaptive_sum_pool_backward(dy, g.sizes)], key)


def global_(seed):
    """One value of every channel: a window that is the whole map."""
    g, rng = geometries.adaptive(seed), np.random.default_rng(seed)
    key = (g.batch, g.channels, g.sizes)
    result_shape = (*g.x_shape[:2], *[1] * len(g.sizes))
    x, dy = integers(rng, g.x_shape), integers(rng, result_shape)
    cells, count, shape = x.reshape(*x.shape[:2], prod(g.sizes)), prod(g.sizes), {"input_shape": g.x_shape}
    for kind, find in (("max", np.argmax), ("min", np.argmin)):
        indices = find(cells, axis=2).reshape(result_shape)
        values = np.take_along_axis(cells, indices.reshape(*x.shape[:2], 1), axis=2).reshape(result_shape)
        yield Case(f"global_{kind}_pool", {"x": x, "return_indices": True}, lambda found=(values, indices): found, key)
        yield Case(f"global_{kind}_pool_backward", {"grad_out": dy, "indices": indices, **shape},
                   lambda indices=indices: [reference.max_pool_backward(dy, indices, g.sizes)], key)
    total, norm = (array.sum(axis=2).reshape(result_shape) for array in (cells, abs(cells)))
    yield Case("global_sum_pool", {"x": x}, lambda: [total], key)
    yield Case("global_sum_pool_backward", {"grad_out": dy, **shape}, lambda: [np.broadcast_to(dy, x.shape)], key)
    yield Case("global_avg_pool", {"x": x}, lambda: [total / count], key)
    yield Case("global_avg_pool_backward", {"grad_out": dy * count, **shape},
               lambda: [np.broadcast_to(dy, x.shape)], key)
    yield Case("global_lp_pool", {"x": x, "p": 1}, lambda: [norm], key)
    yield Case("global_lp_pool_backward", {"grad_out": dy, "x": x, "out": norm, "p": 1},
               lambda: [dy * np.sign(x)], key)


def maxout(seed):
    """The largest of groups of channels."""
    rng = np.random.default_rng(seed)
    pieces, axis = int(rng.integers(1, 6)), int(rng.integers(-3, 3))
    shape = [*rng.integers(1, 20, 3)]
    shape[axis] *= pieces
    x = integers(rng, shape)
    groups = np.moveaxis(x, axis, -1)
    groups = groups.reshape(*groups.shape[:-1], -1, pieces)
    places = groups.argmax(-1) + pieces * np.arange(groups.shape[-2])
    values, indices = np.moveaxis(groups.max(-1), -1, axis), np.moveaxis(places, -1, axis)
    dy = integers(rng, values.shape)

    @cache
    def dx():
        result = np.zeros(np.moveaxis(x, axis, -1).shape, int)
        np.put_along_axis(result, places, np.moveaxis(dy, axis, -1), -1)
        return [np.moveaxis(result, -1, axis)]

    key = (*shape, axis, pieces)
    yield Case("maxout", {"x": x, "pieces": pieces, "axis": axis, "return_indices": True},
               lambda: (values, indices), key)
    yield Case("maxout_backward", {"grad_out": dy, "indices": indices, "pieces": pieces, "axis": axis}, dx, key)


def spread_evenly(windows, grad):
    """The gradient of a sum."""
    return np.broadcast_to(grad[:, None], windows.shape)


def custom(seed):
    """A function of one's own, and its gradient."""
    g, key, x, dy = drawn(seed)
    name = f"pool{len(g.sizes)}d" if seed % 2 else "pool"
    yield Case(name, {"x": x, "func": np.median, **g.parameters, "pad_value": 3},
               lambda: [np.median(reference.window_cells(x, g.windows, g.outputs, 3), axis=-1)], key)
    yield Case(f"{name}_backward", {"grad_out": dy, "x": x, "func_vjp": spread_evenly, **g.parameters},
               lambda: [reference.sum_pool_backward(dy, g.sizes, g.windows)], key)
