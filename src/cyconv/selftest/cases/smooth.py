"""Functions with exponentials, roots and quotients: expected within rounding, from 80-bit definitions.

The values are numbers that float32 holds too, so that one expected result serves both dtypes.
"""

from math import erfc, sqrt
from typing import NamedTuple

import numpy as np

from ._case import Case

REAL = np.longdouble
ROOT_HALF, ROOT_2_PI = sqrt(0.5), np.sqrt(REAL(2) / REAL(np.pi))
SCALE, ALPHA = REAL("1.0507009873554804934"), REAL("1.6732632423543772848")


class Bounded(NamedTuple):
    """An expected result, and the sum of the absolute terms that it rounds: its error's unit, times eps."""

    value: np.ndarray
    terms: np.ndarray


def normals(rng, shape, factor=1):
    """Normally distributed float64 values that float32 holds."""
    return (factor * rng.standard_normal(shape)).astype(np.float32).astype(np.float64)


def length(rng):
    return int(rng.choice((1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 200)))


# ---------------------------------------------------------------- activations


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def normal_below(x):
    """The probability that a standard normal number is below x."""
    return REAL(0.5) * np.vectorize(erfc, otypes=[REAL])(-x * ROOT_HALF)


def gelu_slope(x):
    return normal_below(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * REAL(np.pi))


def gelu_tanh(x):
    return x * sigmoid(2 * ROOT_2_PI * (x + REAL(0.044715) * x**3))


def gelu_tanh_slope(x):
    s = sigmoid(2 * ROOT_2_PI * (x + REAL(0.044715) * x**3))
    return s + x * s * (1 - s) * 2 * ROOT_2_PI * (1 + 3 * REAL(0.044715) * x * x)


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def elu_slope(x):
    return np.where(x > 0, 1, np.exp(np.minimum(x, 0)))


def silu_slope(x):
    return sigmoid(x) * (1 + x * (1 - sigmoid(x)))


# From the input: value, slope, options. An argument of exp is rounded, so large ones cost |x| roundings.
OF_INPUT = {
    "elu": (elu, elu_slope, {}),
    "selu": (lambda x: SCALE * np.where(x > 0, x, ALPHA * np.expm1(np.minimum(x, 0))),
             lambda x: SCALE * np.where(x > 0, 1, ALPHA * np.exp(np.minimum(x, 0))), {}),
    "gelu": (lambda x: x * normal_below(x), gelu_slope, {"approximate": "none"}),
    "gelu_tanh": (gelu_tanh, gelu_tanh_slope, {"approximate": "tanh"}),
    "silu": (lambda x: x * sigmoid(x), silu_slope, {}),
    "swish": (lambda x: x * sigmoid(x), silu_slope, {}),
}
# From the output y: value, and the terms of the slope.
OF_OUTPUT = {
    "sigmoid": (sigmoid, lambda y: (y * (1 - y), y * (1 + y))),
    "tanh": (np.tanh, lambda y: (1 - y * y, 1 + y * y)),
}


def activations(seed):
    rng = np.random.default_rng(seed)
    n = length(rng)
    x, dy = normals(rng, n, 2), normals(rng, n)
    wide, unit = x.astype(REAL), 1 + x * x
    for name, (value, slope, options) in OF_INPUT.items():
        y, dx = value(wide), dy * slope(wide)
        public = name.removesuffix("_tanh")
        yield Case(public, {"x": x, **options}, lambda y=y: [Bounded(y, abs(y) * unit)], (n,))
        yield Case(f"{public}_backward", {"grad_out": dy, "x": x, **options},
                   lambda dx=dx: [Bounded(dx, abs(dy) * unit)], (n,))
    for name, (value, slope) in OF_OUTPUT.items():
        y = value(wide)
        given = y.astype(np.float32).astype(np.float64)
        dx, terms = (dy * s for s in slope(given.astype(REAL)))
        yield Case(name, {"x": x}, lambda y=y: [Bounded(y, abs(y) * unit)], (n,))
        yield Case(f"{name}_backward", {"grad_out": dy, "y": given},
                   lambda dx=dx, terms=terms: [Bounded(dx, abs(terms))], (n,))


# ---------------------------------------------------------------- softmax


def probabilities(seed):
    rng = np.random.default_rng(seed)
    shape, axis = (int(rng.integers(1, 5)), length(rng), int(rng.integers(1, 4))), int(rng.integers(-3, 3))
    x, dy = normals(rng, shape, 3), normals(rng, shape)
    from_top = x.astype(REAL) - x.max(axis, keepdims=True)
    total = np.exp(from_top).sum(axis, keepdims=True)
    y, log_y = np.exp(from_top) / total, from_top - np.log(total)
    far = 1 + abs(from_top) + np.log(total)
    yield Case("softmax", {"x": x, "axis": axis}, lambda: [Bounded(y, y * far)], (shape, axis))
    yield Case("log_softmax", {"x": x, "axis": axis}, lambda: [Bounded(log_y, far)], (shape, axis))
    given = y.astype(np.float32).astype(np.float64)
    products = dy * given.astype(REAL)
    yield Case("softmax_backward", {"grad_out": dy, "y": given, "axis": axis}, lambda: [Bounded(
        given * (dy - products.sum(axis, keepdims=True)),
        given * (abs(dy) + abs(products).sum(axis, keepdims=True)))], (shape, axis))
    logs = log_y.astype(np.float32).astype(np.float64)
    p = np.exp(logs.astype(REAL))
    yield Case("log_softmax_backward", {"grad_out": dy, "y": logs, "axis": axis}, lambda: [Bounded(
        dy - p * dy.sum(axis, keepdims=True, dtype=REAL),
        abs(dy) + (1 + abs(logs)) * p * abs(dy).sum(axis, keepdims=True))], (shape, axis))


# ---------------------------------------------------------------- normalisation


def normalizations(seed):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(2, 5)), length(rng) % 40 + 1, *map(int, rng.integers(1, 7, seed % 4)))
    axes, per_channel = (0, *range(2, len(shape))), (-1, *[1] * (len(shape) - 2))
    x, dy = normals(rng, shape), normals(rng, shape)
    weight, bias = normals(rng, shape[1]), normals(rng, shape[1])
    wide, eps = x.astype(REAL), 1e-3
    mean, var = wide.mean(axes), wide.var(axes)
    yield Case("moments", {"x": x},
               lambda: [Bounded(mean, abs(x).mean(axes)), Bounded(var, (x * x).mean(axes))], shape)
    mean, var = (a.astype(np.float32).astype(np.float64) for a in (mean, var))
    m, v, w, b = (a.reshape(per_channel).astype(REAL) for a in (mean, var, weight, bias))
    s = 1 / np.sqrt(v + eps)
    common = {"x": x, "mean": mean, "var": var, "weight": weight, "eps": eps}
    y, far = (wide - m) * s * w + b, (abs(x) + abs(m)) * s
    yield Case("batch_norm", {**common, "bias": bias}, lambda: [Bounded(y, far * abs(w) + abs(b))], shape)
    normal = (wide - m) * s
    sums = dy.sum(axes, dtype=REAL), (dy * normal).sum(axes)
    terms = abs(dy).sum(axes), (abs(dy) * far).sum(axes)

    def gradients():
        count = x.size / shape[1]
        mean_dy, mean_product = (a.reshape(per_channel) / count for a in sums)
        dx = w * s * (dy - mean_dy - normal * mean_product)
        unit = abs(w) * s * (abs(dy) + terms[0].reshape(per_channel) / count
                             + far * terms[1].reshape(per_channel) / count)
        return [Bounded(dx, unit), Bounded(sums[1], terms[1]), Bounded(sums[0], terms[0])]

    yield Case("batch_norm_backward", {"grad_out": dy, **common}, gradients, shape)


# ---------------------------------------------------------------- losses


def losses(seed):
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 12)), length(rng) % 40 + 1
    outputs, targets = normals(rng, (n, k), 2), normals(rng, (n, k), 2)
    probable, labels = normals(rng, (n, k)) % 1, rng.integers(0, k, n)
    weight = np.float64(rng.integers(1, 9, n)) / 4
    wide, share = outputs.astype(REAL), weight[:, None] / weight.sum()

    def case(name, targets, value, slope, share=share / k, **options):
        """From the loss and slope of every output."""
        return Case(f"losses.{name}", {"outputs": outputs, "targets": targets, "sample_weight": weight, **options},
                    lambda: [Bounded((share * value).sum(), (share * (1 + abs(value) + abs(wide))).sum()),
                             Bounded(share * slope, share * (1 + abs(slope) + abs(wide)))], (n, k))

    log_p = wide - wide.max(1, keepdims=True)
    log_p = log_p - np.log(np.exp(log_p).sum(1, keepdims=True))
    truth = np.eye(k)[labels]
    yield case("softmax_cross_entropy", labels, -truth * log_p, np.exp(log_p) - truth, share)
    yield case("binary_cross_entropy", probable, np.maximum(wide, 0) - wide * probable + np.log1p(np.exp(-abs(wide))),
               sigmoid(wide) - probable)
    error = wide - targets
    yield case("squared_error", targets, error * error / 2, error)
    yield case("huber", targets, np.where(abs(error) <= 1, error * error / 2, abs(error) - REAL(0.5)),
               np.clip(error, -1, 1), delta=1.0)
