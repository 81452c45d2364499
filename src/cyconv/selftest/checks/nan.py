"""NaN, infinities, signed zeros and subnormal numbers come out as defined, in every lane and at every place."""

import ctypes
from itertools import product
from unittest import mock

import numpy as np

from .. import geometries, machine, reference
from ..arrays import LAYOUTS, bits, integers
from ..cases import (
    activations,
    columns,
    convolutions,
    plain,
    pooled,
    poolings,
    probabilities,
    resampled,
    transposed,
    unpooled,
    views,
)
from ..cases._case import prepared, results
from .exact import compare

SPECIAL = (np.nan, np.inf, -np.inf, -0.0)
ON_SPECIAL = (pooled, unpooled, columns, resampled)                         # whose definitions hold for all numbers
HOMOGENEOUS = (plain, transposed, pooled, unpooled, columns, resampled)     # twice the data, twice the result
AT_INFINITIES = {"elu": (-1, np.inf), "gelu": (np.nan, np.inf), "silu": (np.nan, np.inf), "swish": (np.nan, np.inf),
                 "sigmoid": (0, 1), "tanh": (-1, 1)}
ALONE = 4               # elements or rows of an array that are computed once more, alone


@np.errstate(all="ignore")
def case(seed, tally):
    before = rounding()
    for call in special_calls(seed):
        everywhere(call, seed, machine.FLOATS)
        tally.count("results with NaN, infinities and signed zeros", len(call.expected()) * len(machine.FLOATS))
    for call in HOMOGENEOUS[seed % len(HOMOGENEOUS)](seed):
        for dtype in machine.FLOATS:
            everywhere(on_subnormals(call, dtype), seed, [dtype])
        tally.count("results of subnormal numbers", len(call.expected()) * len(machine.FLOATS))
    for call in (*activations(seed), *probabilities(seed)):
        lanes(call, np.random.default_rng(seed), tally)
    if rounding() != before:
        raise AssertionError(f"rounding in this process was changed from {before} to {rounding()}")
    tally.note("0 mismatches")


def everywhere(call, seed, dtypes):
    """With every instruction set and layout, at tolerance 0."""
    expected = call.expected()
    for isa in machine.instruction_sets():
        for dtype, layout in product(dtypes, LAYOUTS):
            compare(call, expected, dtype, layout, 1 + seed % 3, (call.function, isa, dtype.__name__, layout))


def rounding():
    """How this process rounds, and whether it keeps subnormal numbers."""
    mode = ctypes.CDLL(None).fegetround() if hasattr(ctypes.CDLL(None), "fegetround") else None
    halves = [np.finfo(dtype).tiny / dtype(2) for dtype in machine.FLOATS]
    return mode, all(half > 0 for half in halves)


# ---------------------------------------------------------------- NaN, infinity, -0.0


def special(rng, shape):
    """Integers, and up to four of the special numbers."""
    values = integers(rng, shape).astype(float)
    if values.size:
        places = rng.integers(0, values.size, rng.integers(0, 5))
        values.flat[places] = rng.choice(SPECIAL, len(places))
    return values


def special_calls(seed):
    g, rng = geometries.convolution(seed), np.random.default_rng(seed)
    x, dy, bias = (special(rng, shape) for shape in (g.x_shape, g.y_shape, g.weight_shape[:1]))
    weight = (integers, special)[seed % 2](rng, g.weight_shape).astype(float)

    def expected():
        """(y, dx, dweight)"""
        y = extended(lambda x, w: reference.conv(x, w, None, g.windows, g.outputs, g.groups), x, weight)
        return (y + bias.reshape(-1, *[1] * len(g.sizes)),
                extended(lambda dy, w: reference.conv_grad_input(dy, w, g.sizes, g.windows, g.groups), dy, weight),
                extended(lambda dy, x: reference.conv_grad_weight(dy, x, g.windows, g.groups), dy, x))

    yield from convolutions.family(g, "conv", (x, weight, bias, dy), g.parameters, expected)
    with mock.patch.object(poolings, "integers", special), mock.patch.object(views, "integers", special):
        yield from ON_SPECIAL[seed % len(ON_SPECIAL)](seed)


def extended(products, a, b):
    """A sum of products of integers, for all floating-point numbers.

    Padding is no number: its product with infinity is not NaN, it does not exist.
    """
    def some(*pairs):
        return sum(products(p.astype(float), q.astype(float)) for p, q in pairs) > 0

    inf = np.inf
    up = some((a == inf, b > 0), (a > 0, b == inf), (a == -inf, b < 0), (a < 0, b == -inf))
    down = some((a == inf, b < 0), (a > 0, b == -inf), (a == -inf, b > 0), (a < 0, b == inf))
    undefined = some((np.isnan(a), np.ones_like(b)), (np.ones_like(a), np.isnan(b)),
                     (np.isinf(a), b == 0), (a == 0, np.isinf(b)))
    finite = products(*(np.where(np.isfinite(v), v, 0) for v in (a, b)))
    return np.select([undefined | up & down, up, down], [np.nan, inf, -inf], finite)


# ---------------------------------------------------------------- subnormal numbers


def on_subnormals(call, dtype):
    """The call on multiples of the smallest number: its results are as many multiples, to the last digit."""
    unit = float(np.finfo(dtype).smallest_subnormal)
    data = ("grad_out",) if "grad_out" in call.arguments else ("x", "bias")
    arguments = {name: value * unit if name in data and value is not None else value
                 for name, value in call.arguments.items()}

    def expected():
        values, *others = call.expected()
        is_index = call.arguments.get("return_indices", False)
        return values * unit, *(other if is_index else other * unit for other in others)

    return call._replace(arguments=arguments, expected=expected)


# ---------------------------------------------------------------- lanes


def lanes(call, rng, tally):
    """Elements, or rows along an axis, come out of a long array as they do alone: vectors as their tails."""
    arguments = {name: sprinkled(rng, value) if isinstance(value, np.ndarray) else value
                 for name, value in call.arguments.items()}
    arrays = [name for name, value in arguments.items() if isinstance(value, np.ndarray)]
    shape = arguments[arrays[0]].shape
    for isa in machine.instruction_sets():
        for dtype in machine.FLOATS:
            given = prepared(call._replace(arguments=arguments), dtype, LAYOUTS[0])
            together, = results(call, given)
            for _ in range(ALONE):
                place = tuple(slice(i, i + 1) for i in rng.integers(0, shape))
                if "axis" in arguments:
                    place = tuple(slice(None) if i == arguments["axis"] % 3 else p for i, p in enumerate(place))
                alone, = results(call, given | {name: given[name][place] for name in arrays})
                where = call.function, isa, dtype.__name__, shape, place
                if not same(together[place], alone):
                    raise AssertionError(f"alone an element has other bits: {where}")
                check_limits(call.function, given[arrays[0]][place], alone, where)
            tally.count("elements and rows computed alone", ALONE)


def sprinkled(rng, values):
    """Also with subnormal and very large numbers; a fifth of the elements."""
    some = rng.choice((*SPECIAL, 1e-42, -1e-310, 1e30, -1e30), values.shape)
    return np.where(rng.random(values.shape) < 0.2, some, values)


def same(got, want):
    """Equal bits, or NaN."""
    return np.array_equal(*(bits(np.where(np.isnan(v), np.nan, v).astype(v.dtype)) for v in (got, want)))


def check_limits(function, x, y, where):
    """Values, not slopes, where x is not finite."""
    if function in AT_INFINITIES:
        below, above = AT_INFINITIES[function]
        wanted = np.select([np.isnan(x), x == -np.inf, x == np.inf], [np.nan, below, above], y)
    elif function in ("softmax", "log_softmax"):
        wanted = np.full_like(y, np.nan) if not x.max() < np.inf or x.max() == -np.inf else y
    else:
        return
    if not np.array_equal(y, wanted.astype(y.dtype), equal_nan=True) or (
            function in ("softmax", "log_softmax") and np.isnan(y).any() and wanted is y):
        raise AssertionError(f"{x.ravel()[:3]} becomes {y.ravel()[:3]}: {where}")


# ---------------------------------------------------------------- planted faults


def without_nan(y):
    y[np.isnan(y)] = -np.finfo(y.dtype).max


def without_subnormals(y):
    y[abs(y) < np.finfo(y.dtype).tiny] = 0


def faults():
    """Kernels that take NaN for the smallest number, flush subnormal numbers to zero, or have a wrong tail."""
    def result(number, change):
        def spoil(*arguments):
            change(arguments[number])
        return spoil

    def wrong_tail(*arguments):
        if arguments[2].size % 4:
            machine.last_bit(2)(*arguments)

    return {f"{what} in {name}": machine.spoiled(module, kernel, spoil)
            for name, module in machine.kernel_modules().items()
            for what, kernel, spoil in (("NaN lost by convolutions", "conv", result(3, without_nan)),
                                        ("NaN lost by maxima", "extreme_pool", result(1, without_nan)),
                                        ("subnormal numbers flushed", "conv", result(3, without_subnormals)),
                                        ("a wrong tail of activations", "activate", wrong_tail))}
