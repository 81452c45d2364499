"""Minimum, sum and norm pooling and their gradients: worked values, exact integers, equal bits, accuracy, errors."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cyconv
from cyconv import _kernels
from cyconv.selftest import geometries, reference
from cyconv.selftest.arrays import HOSTILE, KINDS, LAYOUTS, assert_same_bits, channels_first, in_layout, integers
from cyconv.selftest.differences import assert_same_gradient, central_differences

FLOATS = (np.float32, np.float64)
INF, NAN = np.inf, np.nan
TENS = [[12, 20, 30, 0], [20, 12, 2, 0], [0, 70, 5, 2], [8, 2, 90, 3]]


def row(*values, dtype=float):
    return np.array([[values]], dtype)


# ---------------------------------------------------------------- values worked by hand


@pytest.mark.parametrize("function, arguments, expected", [
    (cyconv.min_pool2d, (), [[12, 0], [0, 2]]),
    (cyconv.sum_pool2d, (), [[64, 32], [80, 100]]),
    (lambda x, *a, **k: cyconv.lp_pool2d(x, 1, *a, **k), (), [[64, 32], [80, 100]]),
    (lambda x, *a, **k: cyconv.lp_pool2d(x, INF, *a, **k), (), [[20, 30], [70, 90]]),
    (lambda x, *a, **k: cyconv.lp_pool2d(x, 2, *a, **k) ** 2, (), [[1088, 904], [4968, 8138]]),
], ids=["min", "sum", "l1", "linf", "l2"])
def test_worked_example_11_by_other_kinds(function, arguments, expected, isa, data_format):
    x = in_layout(np.array([[TENS]], float), data_format)
    y = channels_first(function(x, 2, data_format=data_format), data_format)
    np.testing.assert_allclose(y[0, 0], expected, rtol=1e-15)


def test_worked_example_13_every_kind_keeps_the_number_of_channels(data_format, rng):
    """But maxout, whose business are the channels."""
    x = in_layout(rng.standard_normal((2, 6, 8, 8)), data_format)
    common = {"data_format": data_format}
    kinds = [getattr(cyconv, f"{kind}_pool2d")(x, 2, **common) for kind in ("max", "avg", "sum", "min")]
    kinds += [cyconv.lp_pool2d(x, 2, 2, **common), cyconv.pool2d(x, np.median, 2, **common)]
    assert {channels_first(y, data_format).shape for y in kinds} == {(2, 6, 4, 4)}
    y = cyconv.maxout(x, 3, 1 if data_format == "channels_first" else -1)
    assert channels_first(y, data_format).shape == (2, 2, 8, 8)


def test_minimum_of_the_first_worked_example_with_its_place(isa):
    values, indices = cyconv.min_pool2d(np.arange(9.0).reshape(1, 1, 3, 3), 2, 1, return_indices=True)
    np.testing.assert_array_equal(values[0, 0], [[0, 1], [3, 4]])
    np.testing.assert_array_equal(indices[0, 0], [[0, 1], [3, 4]])


def test_norm_takes_absolute_values(isa):
    x = row(3, -4)
    for p, expected in ((1, 7), (2, 5), (3, 91 ** (1 / 3)), (4, 337**0.25), (0.5, 7 + 2 * 12**0.5), (INF, 4)):
        np.testing.assert_allclose(cyconv.lp_pool(x, p, 2), [[[expected]]], rtol=4e-16)


# ---------------------------------------------------------------- exact on integers

N_BLOCKS, BLOCK = 6, 100


def check_exact(seed, instruction_sets):
    """All kinds and their gradients of one geometry, in every instruction set, dtype and layout."""
    g = geometries.pooling(seed)
    rng = np.random.default_rng(seed)
    x, dy = integers(rng, g.x_shape), integers(rng, g.y_shape)
    shape = g.windows, g.outputs
    smallest, indices = reference.min_pool(x.astype(float), *shape)
    total, dx = reference.sum_pool(x, *shape), reference.sum_pool_backward(dy, g.sizes, g.windows)
    norms = {1: reference.sum_pool(abs(x), *shape), 2: np.sqrt(reference.sum_pool(x * x, *shape)),
             INF: reference.lp_pool(x.astype(float), INF, *shape)}
    dx_of_norm = reference.sum_pool_backward(dy, g.sizes, g.windows) * np.sign(x)
    dx_of_largest = np.sign(x) * reference.max_pool_backward(
        dy * (norms[INF] != 0), reference.max_pool(abs(x).astype(float), *shape)[1], g.sizes)
    dx_of_smallest = reference.max_pool_backward(dy, indices, g.sizes)
    for isa, dtype, data_format in product(instruction_sets, FLOATS, LAYOUTS):
        _kernels.use(isa)
        fx, fdy, places = (in_layout(a, data_format) for a in (x.astype(dtype), dy.astype(dtype), indices))
        common = {"data_format": data_format, "n_threads": g.n_threads}
        window = {**g.parameters, **common}
        got_smallest, got_indices = cyconv.min_pool(fx, **window, return_indices=True)
        norm = {p: cyconv.lp_pool(fx, p, **window) for p in norms}
        comparisons = [
            (got_smallest, smallest),
            (got_indices, indices),
            (cyconv.min_pool_backward(fdy, places, fx.shape, **common), dx_of_smallest),
            (cyconv.sum_pool(fx, **window), total),
            (cyconv.sum_pool_backward(fdy, fx.shape, **window), dx),
            *((norm[p], norms[p].astype(dtype)) for p in norms),
            (cyconv.lp_pool_backward(fdy, fx, norm[1], 1, **window), dx_of_norm),
            (cyconv.lp_pool_backward(fdy, fx, norm[INF], INF, **window), dx_of_largest),
        ]
        for i, (got, want) in enumerate(comparisons):
            is_equal = np.array_equal(channels_first(got, data_format), want)
            assert is_equal, (i, isa, np.dtype(dtype).name, data_format, g)


@pytest.mark.parametrize("block", range(N_BLOCKS))
def test_exact_on_integers(block, every_isa, threads_at_any_size, nan_in_new_arrays):
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        check_exact(seed, every_isa)


@pytest.mark.campaign
@pytest.mark.parametrize("block", range(N_BLOCKS, N_BLOCKS + 50))
def test_exact_on_many_more_integers(block, every_isa, threads_at_any_size, nan_in_new_arrays):
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        check_exact(seed, every_isa)


# Windows that are larger than the scratch of a thread: the taps come in slabs, along one, two or three axes.
LARGE = [
    ((1, 70, 3000), 2500, 7), ((2, 65, 9, 900), (9, 900), 1), ((1, 66, 200, 20), (90, 20), 50),
    ((1, 33, 11, 23, 40), (10, 20, 40), 2), ((1, 64, 5, 4000), (3, 3), 2), ((3, 5, 20000), 16000, 250),
    ((2, 3, 30, 60), (25, 30), 1), ((1, 2, 31, 40), (26, 38), 1),      # rows of fewer outputs than a block
]


@pytest.mark.parametrize("shape, kernel_size, stride", LARGE)
def test_exact_on_integers_in_large_windows(shape, kernel_size, stride, isa, dtype, rng, nan_in_new_arrays):
    x = integers(rng, shape)
    x[rng.random(shape) < .3] = 0
    sizes = shape[2:]
    windows = cyconv._geometry.windows("test", sizes, kernel_size, stride)
    outputs = cyconv._geometry.output_sizes("test", sizes, windows)
    view = np.lib.stride_tricks.sliding_window_view(x, [w.kernel for w in windows], axis=tuple(range(2, x.ndim)))
    view = view[(..., *(slice(None, None, w.stride) for w in windows), *[slice(None)] * len(sizes))]
    cells = tuple(range(-len(sizes), 0))
    place = np.array([[v.reshape(*outputs, -1).argmax(-1) for v in sample] for sample in view])
    corner = np.zeros(outputs, int)
    for n, w, o in zip(sizes, windows, np.indices(outputs)):
        corner = corner * n + o * w.stride
    in_window = np.unravel_index(place, [w.kernel for w in windows])
    expected = corner + np.ravel_multi_index(in_window, sizes, mode="clip")
    for data_format in LAYOUTS:
        fx = in_layout(x.astype(dtype), data_format)
        common = {"data_format": data_format}
        largest, indices = cyconv.max_pool(fx, kernel_size, stride, return_indices=True, **common)
        results = [(largest, view.max(cells)), (indices, expected),
                   (cyconv.min_pool(fx, kernel_size, stride, **common), view.min(cells)),
                   (cyconv.sum_pool(fx, kernel_size, stride, **common), view.sum(cells)),
                   (cyconv.lp_pool(fx, 1, kernel_size, stride, **common), abs(view).sum(cells)),
                   (cyconv.lp_pool(fx, 2, kernel_size, stride, **common), np.sqrt((view * view).sum(cells)))]
        for i, (got, want) in enumerate(results):
            assert np.array_equal(channels_first(got, data_format), want.astype(got.dtype)), (i, data_format)


# ---------------------------------------------------------------- equal bits on any data

ORDERS = (1, 2, INF, 3, 7, 2.5, 0.5, 40)


def results(g, x, dy, orders, data_format="channels_first", **more):
    """All kinds and their gradients, channels first."""
    x, dy = in_layout(x, data_format), in_layout(dy, data_format)
    more["data_format"] = data_format
    window = {**g.parameters, **more}
    values, indices = cyconv.min_pool(x, **window, return_indices=True)
    found = [values, indices, cyconv.min_pool_backward(dy, indices, x.shape, **more), cyconv.sum_pool(x, **window),
             cyconv.sum_pool_backward(dy, x.shape, **window)]
    for p in orders:
        y = cyconv.lp_pool(x, p, **window)
        found += [y, cyconv.lp_pool_backward(dy, x, y, p, **window)]
    return [channels_first(a, data_format) for a in found]


def normal_geometries(dtype, count):
    """Geometries with normally distributed x, a quarter of it zeros of both signs, and dy."""
    for seed in range(count):
        g, rng = geometries.pooling(seed), np.random.default_rng(seed)
        is_kept = rng.random(g.x_shape) < 0.75
        yield g, rng.standard_normal(g.x_shape, dtype) * is_kept, rng.standard_normal(g.y_shape, dtype)


def test_bits_do_not_depend_on_threads_and_layout(isa, dtype, threads_at_any_size):
    for g, x, dy in normal_geometries(dtype, 30):
        expected = results(g, x, dy, ORDERS, n_threads=1)
        for n_threads, data_format in ((3, "channels_first"), (2, "channels_last")):
            for a, b in zip(results(g, x, dy, ORDERS, data_format, n_threads=n_threads), expected):
                assert_same_bits(a, b, g)


def test_bits_do_not_depend_on_the_other_samples_and_channels(isa, dtype):
    for g, x, dy in normal_geometries(dtype, 40):
        some = (slice(1, 3), slice(None, None, 2))
        if x[some].size:
            for a, b in zip(results(g, x[some], dy[some], ORDERS), results(g, x, dy, ORDERS)):
                assert_same_bits(a, b[some], g)


def test_bits_do_not_depend_on_the_instruction_set(every_isa, dtype):
    """Of the baseline neither, but for orders that need exp and log, which are fused where the processor can."""
    for g, x, dy in normal_geometries(dtype, 50):
        for orders, sets in (((1, 2, INF), every_isa), (ORDERS, [n for n in every_isa if n != "baseline"])):
            expected = None
            for name in sets:
                _kernels.use(name)
                found = results(g, x, dy, orders)
                for a, b in zip(found, expected or found):
                    assert_same_bits(a, b, name, g)
                expected = found


# ---------------------------------------------------------------- identities


def test_minimum_is_the_negative_maximum_of_the_negative(isa, dtype):
    for g, x, _ in normal_geometries(dtype, 60):
        values, indices = cyconv.min_pool(x, **g.parameters, return_indices=True)
        negative, places = cyconv.max_pool(-x, **g.parameters, return_indices=True)
        assert_same_bits(values, -negative, g)
        np.testing.assert_array_equal(indices, places)


def test_mean_is_the_sum_over_its_divisor(isa, dtype):
    for g, x, _ in normal_geometries(dtype, 60):
        assert_same_bits(cyconv.avg_pool(x, **g.parameters, divisor_override=3),
                         cyconv.sum_pool(x, **g.parameters) / dtype(3), g)


def test_gradient_of_the_sum_is_adjoint(isa):
    for seed in range(100):
        g, rng = geometries.pooling(seed), np.random.default_rng(seed)
        x, dy = integers(rng, g.x_shape), integers(rng, g.y_shape)
        dx = cyconv.sum_pool_backward(dy, g.x_shape, **g.parameters)
        assert np.vdot(cyconv.sum_pool(x, **g.parameters), dy) == np.vdot(x, dx), g


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, 4.25, 17, INF])
def test_norms_are_homogeneous_and_their_gradients_obey_euler(p, isa, rng):
    """norm(2**k x) = 2**k norm(x) without a rounding error; <gradient, x> = <dy, norm>."""
    x, window = rng.standard_normal((2, 5, 9, 10)), (p, 3, 2, 1)
    y = cyconv.lp_pool2d(x, *window)
    for k in (-900, -300, 20, 500, 1000):
        assert_same_bits(cyconv.lp_pool2d(np.ldexp(x, k), *window), np.ldexp(y, k), k)
    dy = rng.standard_normal(y.shape)
    dx = cyconv.lp_pool2d_backward(dy, x, y, *window)
    np.testing.assert_allclose(np.vdot(dx, x), np.vdot(dy, y), rtol=1e-12)


def test_norms_decrease_with_their_order(isa, dtype, rng):
    x = rng.standard_normal((2, 5, 9, 10)).astype(dtype)
    norms = [cyconv.lp_pool2d(x, p, 3) for p in (0.3, 0.5, 1, 1.5, 2, 3, 5.5, 16, 17, 100, 1e4, INF)]
    for larger, smaller in zip(norms, norms[1:]):
        assert (larger >= smaller * (1 - 1e-6)).all()
    for p in (1e300, 10**400):
        assert_same_bits(cyconv.lp_pool2d(x, p, 3), norms[-1])


@pytest.mark.parametrize("p", [1, 2, 3, 2.5, 0.7, 9])
def test_gradients_of_norms_agree_with_central_differences(p, data_format, rng):
    x, window = rng.standard_normal((2, 5, 4, 3)), {"kernel_size": 2, "stride": 1, "padding": ((1, 0), (0, 1)),
                                                    "dilation": (2, 1), "ceil_mode": True, "data_format": data_format}
    y = cyconv.lp_pool2d(x, p, **window)
    dy = rng.standard_normal(y.shape)
    expected = central_differences(lambda: np.vdot(cyconv.lp_pool2d(x, p, **window), dy), x)
    assert_same_gradient(cyconv.lp_pool2d_backward(dy, x, y, p, **window), expected, 1e-5)


# ---------------------------------------------------------------- accuracy and range of norms


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="needs a longer double to compare with")
@pytest.mark.parametrize("p", [1.5, 2, 2.5, 3, 4, 5, 10, 16, 17, 33.3, 300, 0.75, 0.5])
def test_norm_is_within_a_few_units_of_the_last_place(p, isa, dtype, rng):
    for seed in range(15):
        g = geometries.pooling(seed)
        x = np.random.default_rng(seed).standard_normal(g.x_shape).astype(dtype)
        y = cyconv.lp_pool(x, p, **g.parameters)
        if y.size:
            exact = reference.lp_pool(x.astype(np.longdouble), p, g.windows, g.outputs)
            units = np.abs(y - exact) / np.spacing(np.maximum(exact, np.finfo(dtype).tiny).astype(dtype))
            taps = np.prod([w.kernel for w in g.windows])
            limit = 0.51 if dtype is np.float32 else (4 + np.log(taps)) * max(1, 1 / p)
            assert units.max() <= limit, (g, units.max())


def test_gradient_of_a_norm_is_that_of_the_definition(isa, dtype, tolerance):
    for p, seed in product((1.5, 2, 3, 5.5), range(12)):
        g, rng = geometries.pooling(seed), np.random.default_rng(seed)
        x, dy = rng.standard_normal(g.x_shape).astype(dtype), rng.standard_normal(g.y_shape).astype(dtype)
        dx = cyconv.lp_pool_backward(dy, x, cyconv.lp_pool(x, p, **g.parameters), p, **g.parameters)
        expected = reference.lp_pool_backward(dy.astype(float), x.astype(float), p, g.windows)
        np.testing.assert_allclose(dx, expected, rtol=0, atol=tolerance * max(1, np.abs(dy).max(initial=0)) * 10)


@pytest.mark.parametrize("p", [0.01, 0.5, 1, 1.5, 2, 3, 16, 20, 1000, INF])
@pytest.mark.parametrize("scale", [5e-324, 1e-310, 1e-200, 1e200, 1e308])
def test_norm_neither_overflows_nor_vanishes_before_its_result(p, scale, isa):
    for x in (row(scale, 0), row(-scale), row(0, 0, scale)):
        np.testing.assert_array_equal(cyconv.lp_pool(x, p, x.shape[-1]), [[[scale]]])
    if p >= 1 and scale < 1e308:
        y = cyconv.lp_pool(row(scale, scale), p, 2)
        np.testing.assert_allclose(y, [[[scale * 2 ** (1 / p)]]], rtol=1e-14, atol=5e-324)


def test_tiny_terms_count_with_small_orders(isa):
    """Their share is not tiny, though the quotient of the terms is no normal number, or none at all."""
    for x, p in (((1e200, 1e-110), 0.001), ((1e300, 1e-30), 0.002), ((1.7e308, 5e-324), 0.01)):
        share = np.exp(p * np.log(np.longdouble(x[1]) / x[0]))
        exact = np.longdouble(x[0]) * (1 + share) ** (1 / np.longdouble(p))
        np.testing.assert_allclose(cyconv.lp_pool(row(*x), p, 2), [[[float(exact)]]], rtol=1e-10)


@pytest.mark.parametrize("p", [1, 2, 3, 2.5, INF])
def test_norm_of_what_is_not_finite(p, isa, dtype, data_format):
    for cells, expected in (((INF, 1), INF), ((-INF, 1), INF), ((INF, -INF), INF), ((NAN, 1), NAN), ((1, NAN), NAN),
                            ((NAN, INF), NAN), ((INF, NAN), NAN), ((0, 0), 0), ((-0.0, -0.0), 0)):
        x = in_layout(np.broadcast_to(row(*cells, dtype=dtype), (1, 19, 2)), data_format)
        y = channels_first(cyconv.lp_pool(x, p, 2, data_format=data_format), data_format)
        np.testing.assert_array_equal(y, np.full((1, 19, 1), expected))


@pytest.mark.parametrize("p", [0.5, 1, 2, 3, 2.5, INF])
def test_windows_of_zeros_and_of_padding_receive_no_gradient(p, isa, dtype):
    x = row(0, 0, 3, 0, dtype=dtype)
    y = cyconv.lp_pool(x, p, 2, padding=2)
    np.testing.assert_array_equal(y, row(0, 0, 3, 0))
    dx = cyconv.lp_pool_backward(row(9, 7, 5, 3), x, y, p, 2, padding=2)
    np.testing.assert_array_equal(dx, row(0, 0, 5, 0))


def test_first_of_equal_largest_values_receives_the_gradient_of_infinity(isa):
    x = row(-2, 2, 2, 1, -5, 5)
    y = cyconv.lp_pool(x, INF, 3)
    np.testing.assert_array_equal(cyconv.lp_pool_backward(row(7, 9), x, y, INF, 3), row(-7, 0, 0, 0, -9, 0))


# ---------------------------------------------------------------- which minimum, and dtypes


@pytest.mark.parametrize("lanes", [1, 3, 8, 16, 17, 33, 70])
@pytest.mark.parametrize("window, value, place", [
    ((3, 1, 2, 4), 1, 1), ((2, 2, 2, 2), 2, 0), ((0.0, -0.0, 1, 1), 0.0, 0), ((-0.0, 0.0, 1, 1), -0.0, 0),
    ((NAN, 1, NAN, 0), NAN, 0), ((1, NAN, 0, NAN), NAN, 1), ((-INF, NAN, 1, 1), NAN, 1), ((INF, INF, INF, INF), INF, 0),
    ((INF, INF, 3e38, INF), 3e38, 2), ((0, -5e-324, 0, 0), -5e-324, 1),
])
def test_first_minimum_wins_and_nan_before_numbers(window, value, place, lanes, isa, data_format):
    x = np.broadcast_to(np.array(window, float), (1, lanes, 4)).copy()
    y, indices = cyconv.min_pool(in_layout(x, data_format), 4, return_indices=True, data_format=data_format)
    assert_same_bits(channels_first(y, data_format), np.full((1, lanes, 1), value, float))
    assert (indices == place).all()


@pytest.mark.parametrize("kept", [np.uint8, np.int8, np.int16, np.uint64, np.int64, np.float16, bool, ">i4", ">f8"])
def test_minima_keep_the_dtype_of_x(kept):
    x = np.array([[[1, 1, 0, 1], [1, 1, 1, 1]]]).astype(kept)
    values, indices = cyconv.min_pool2d(x, 2, padding=((0, 0), (0, 2)), return_indices=True)
    kept = np.dtype(kept).newbyteorder("=")
    assert values.dtype == kept and values[0, 0, :2].tolist() == [1, 0]
    assert indices[0, 0].tolist() == [0, 2, -1]
    assert values[0, 0, 2] == (INF if kept.kind == "f" else np.iinfo(kept).max if kept.kind != "b" else True)


def test_smallest_integers_have_a_minimum_though_no_negative():
    x = np.array([[[-128, 127, -128, 5]]], np.int8)
    assert_same_bits(cyconv.min_pool(x, 2), np.array([[[-128, -128]]], np.int8))
    with pytest.raises(TypeError, match="^min_pool: x has int64 values beyond 2"):
        cyconv.min_pool(np.full((1, 1, 2), -2**53 - 1), 2)


@pytest.mark.parametrize("stored, computed", [("f2", "f4"), ("?", "f4"), ("u1", "f4"), ("i8", "f8"), (">f4", "f4")])
def test_sums_and_norms_have_the_dtype_of_numpy_promotion(stored, computed, rng):
    x = np.abs(integers(rng, (1, 2, 6, 6))).astype(stored)
    for function in (cyconv.sum_pool2d, lambda x, k: cyconv.lp_pool2d(x, 3, k)):
        assert_same_bits(function(x, 2), function(x.astype(computed), 2))


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_array_gives_the_same(kind, isa, data_format):
    for seed in range(8):
        g = geometries.pooling(seed, rank=2)
        x, dy = (in_layout(np.random.default_rng(seed).standard_normal(s), data_format) for s in (g.x_shape, g.y_shape))
        window, change = {**g.parameters, "data_format": data_format}, KINDS[kind]
        y, dx = cyconv.lp_pool2d(x, 3, **window), cyconv.sum_pool2d_backward(dy, x.shape, **window)
        for got, want in (
            (cyconv.min_pool2d(change(x), **window), cyconv.min_pool2d(x, **window)),
            (cyconv.sum_pool2d(change(x), **window), cyconv.sum_pool2d(x, **window)),
            (cyconv.sum_pool2d_backward(change(dy), x.shape, **window), dx),
            (cyconv.lp_pool2d(change(x), 3, **window), y),
            (cyconv.lp_pool2d_backward(change(dy), change(x), change(y), 3, **window),
             cyconv.lp_pool2d_backward(dy, x, y, 3, **window)),
        ):
            np.testing.assert_array_equal(got, want)


def test_unbatched_input_gives_an_unbatched_result(data_format):
    for seed in range(20):
        g = geometries.pooling(seed, rank=2)._replace(batch=1)
        x, dy = (in_layout(np.random.default_rng(seed).standard_normal(s), data_format) for s in (g.x_shape, g.y_shape))
        window = {**g.parameters, "data_format": data_format}
        y = cyconv.lp_pool2d(x, 3, **window)
        assert_same_bits(cyconv.lp_pool2d(x[0], 3, **window), y[0])
        assert_same_bits(cyconv.lp_pool2d_backward(dy[0], x[0], y[0], 3, **window),
                         cyconv.lp_pool2d_backward(dy, x, y, 3, **window)[0])
        values, indices = cyconv.min_pool2d(x[0], **window, return_indices=True)
        assert values.shape == indices.shape == g.y_shape[1:] if data_format == "channels_first" else y[0].shape
        assert_same_bits(cyconv.min_pool2d_backward(dy[0], indices, x[0].shape, data_format=data_format),
                         cyconv.min_pool2d_backward(dy, indices[None], x.shape, data_format=data_format)[0])
        assert_same_bits(cyconv.sum_pool2d(x[0], **window), cyconv.sum_pool2d(x, **window)[0])
        assert_same_bits(cyconv.sum_pool2d_backward(dy[0], x[0].shape, **window),
                         cyconv.sum_pool2d_backward(dy, x.shape, **window)[0])


@pytest.mark.parametrize("x_shape, y_shape, padding", [
    ((0, 3, 4, 4), (0, 3, 2, 2), 0), ((2, 0, 4, 4), (2, 0, 2, 2), 0), ((2, 3, 0, 4), (2, 3, 1, 3), 1),
])
def test_empty_axes(x_shape, y_shape, padding, isa, nan_in_new_arrays):
    x = np.ones(x_shape)
    values, indices = cyconv.min_pool2d(x, 2, padding=padding, return_indices=True)
    assert values.shape == indices.shape == y_shape and (values == INF).all() and (indices == -1).all()
    for p in (1, 2, 3, INF):
        norm = cyconv.lp_pool2d(x, p, 2, padding=padding)
        assert norm.shape == y_shape and (norm == 0).all()
        assert cyconv.lp_pool2d_backward(norm, x, norm, p, 2, padding=padding).shape == x_shape
    assert (cyconv.sum_pool2d(x, 2, padding=padding) == 0).all()


def test_long_sums_are_as_accurate_as_those_of_numpy(isa, data_format, rng):
    """A million float32 added one after the other would lose four digits."""
    x = in_layout(rng.random((1, 2, 1000, 1000), np.float32) + 1, data_format)
    exact = channels_first(x, data_format).mean(axis=(2, 3), dtype=float)
    y = channels_first(cyconv.avg_pool2d(x, 1000, data_format=data_format), data_format)
    np.testing.assert_allclose(y[..., 0, 0], exact, rtol=6e-8)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("p, error, message", [
    (0, ValueError, "p must be > 0, got 0"), (-1.5, ValueError, "p must be > 0, got -1.5"),
    (NAN, ValueError, "p must be > 0, got nan"), (-10**400, ValueError, "p must be > 0, got -1000"),
    (Fraction(1, 10**400), ValueError, r"p must be > 0, got Fraction\("),
    ("2", TypeError, "p must be a number > 0 or infinity, got '2'"),
    (None, TypeError, "p must be a number"), (True, TypeError, "p must be a number"), (2j, TypeError, "p must be"),
])
def test_order_that_is_no_order_is_refused(p, error, message):
    x = np.ones((1, 1, 4, 4))
    with pytest.raises(error, match=f"^lp_pool2d: {message}"):
        cyconv.lp_pool2d(x, p, 2)
    with pytest.raises(error, match=f"^lp_pool2d_backward: {message}"):
        cyconv.lp_pool2d_backward(x, x, x, p, 1)
    with pytest.raises(error, match=f"^global_lp_pool: {message}"):
        cyconv.global_lp_pool(x, p)


@pytest.mark.parametrize("name", ["grad_out", "out"])
def test_gradient_of_a_norm_refuses_another_shape(name):
    arrays = {"grad_out": np.ones((1, 1, 2, 2)), "out": np.ones((1, 1, 2, 2)), name: np.ones((1, 1, 3, 2))}
    with pytest.raises(ValueError, match=rf"^lp_pool2d_backward: {name} must have shape \(1, 1, 2, 2\), got"):
        cyconv.lp_pool2d_backward(arrays["grad_out"], np.ones((1, 1, 4, 4)), arrays["out"], 2, 2)


def test_errors_name_the_function_that_was_called():
    for call in (cyconv.min_pool2d, cyconv.sum_pool2d):
        with pytest.raises(ValueError, match=f"^{call.__name__}: stride must be >= 1"):
            call(np.ones((1, 1, 4, 4)), 2, 0)
    with pytest.raises(ValueError, match="^sum_pool2d_backward: grad_out must have shape"):
        cyconv.sum_pool2d_backward(np.ones((1, 1, 3, 2)), (1, 1, 4, 4), 2)
    with pytest.raises(ValueError, match=r"^min_pool2d_backward: index 16 at position \(0, 0, 0, 0\) is outside"):
        cyconv.min_pool2d_backward(np.ones((1, 1, 1, 1)), np.full((1, 1, 1, 1), 16), (1, 1, 4, 4))


@given(st.sampled_from([cyconv.min_pool2d, cyconv.sum_pool2d, cyconv.lp_pool2d]), st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(HOSTILE) for name in ("kernel_size", "stride", "padding", "dilation", "p")}))
def test_hostile_parameters_are_computed_or_refused_by_name(function, parameters):
    if function is cyconv.lp_pool2d:
        parameters.setdefault("p", 2)
    else:
        parameters.pop("p", None)
    try:
        function(**{"x": np.ones((1, 1, 3, 3)), "kernel_size": 2, **parameters})
    except (ValueError, TypeError) as error:
        assert any(name in str(error) for name in (*parameters, "effective kernel", "padded input"))


# ---------------------------------------------------------------- PyTorch


@pytest.mark.parametrize("p", [1, 2, 3, 4.5])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_norms_of_positive_numbers_are_those_of_pytorch(p, rank, rng):
    torch = pytest.importorskip("torch")
    x = rng.random((2, 3, *(7, 8, 9)[:rank])) + 0.1
    window = (2, 3, 2)[:rank] if rank > 1 else 3
    y = cyconv.lp_pool(x, p, window, 2)
    dy = rng.standard_normal(y.shape)
    tensor = torch.tensor(x, requires_grad=True)
    expected = getattr(torch.nn.functional, f"lp_pool{rank}d")(tensor, p, window, 2)
    expected.backward(torch.tensor(dy))
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-13)
    dx = cyconv.lp_pool_backward(dy, x, y, p, window, 2)
    np.testing.assert_allclose(dx, tensor.grad.numpy(), rtol=1e-12, atol=1e-15)


def test_norms_of_negative_numbers_and_of_partial_windows_differ_there():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.functional.lp_pool1d
    assert theirs(torch.tensor([[[3.0, -4.0]]]), 1, 2).item() == -1 and cyconv.lp_pool(row(3, -4), 1, 2).item() == 7
    assert theirs(torch.ones(1, 1, 4), 1, 3, ceil_mode=True).tolist() == [[[3, 3]]]
    assert cyconv.lp_pool(np.ones((1, 1, 4)), 1, 3, ceil_mode=True).tolist() == [[[3, 1]]]
