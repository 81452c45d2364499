"""Maximum and mean pooling and their gradients: exact integers, equal bits, borders, errors."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cyconv
from cyconv import _kernels
from cyconv.selftest import geometries, reference
from cyconv.selftest.arrays import HOSTILE, KINDS, LAYOUTS, assert_same_bits, channels_first, in_layout, integers

FLOATS = (np.float32, np.float64)
POOLS = (cyconv.max_pool2d, cyconv.avg_pool2d)
INF, NAN = np.inf, np.nan


def row(*values):
    return np.array([[values]], float)


# ---------------------------------------------------------------- exact on integers

N_BLOCKS, BLOCK = 21, 100


def means(g, x, dy, include_pad, divisor):
    """Mean pooling and its gradient by reference: sums are exact, divided once. Empty windows give NaN."""
    divisors = np.full(g.outputs, divisor) if divisor else reference.cells_that_count(
        g.sizes, g.windows, g.outputs, include_pad)
    total = reference.sum_pool(x, g.windows, g.outputs)
    y = np.divide(total, divisors, out=np.full(total.shape, np.nan), where=divisors != 0)
    return y, dy * divisors, reference.sum_pool_backward(dy * (divisors != 0), g.sizes, g.windows)


def check_exact(seed, instruction_sets):
    """Values, indices and gradients of one geometry, in every instruction set, dtype and layout."""
    g = geometries.pooling(seed)
    rng = np.random.default_rng(seed)
    x, dy = integers(rng, g.x_shape), integers(rng, g.y_shape)
    include_pad, divisor = bool(seed % 2), (None, None, 7, -0.5)[seed % 4]
    largest, indices = reference.max_pool(x.astype(float), g.windows, g.outputs)
    dx_of_largest = reference.max_pool_backward(dy, indices, g.sizes)
    mean, dy_of_mean, dx_of_mean = means(g, x, dy, include_pad, divisor)
    mean_parameters = {**g.parameters, "count_include_pad": include_pad, "divisor_override": divisor}
    for isa, dtype, data_format in product(instruction_sets, FLOATS, LAYOUTS):
        _kernels.use(isa)
        fx, fdy, fdy_of_mean, places = (in_layout(a, data_format) for a in (
            x.astype(dtype), dy.astype(dtype), dy_of_mean.astype(dtype), indices))
        common = {"data_format": data_format, "n_threads": g.n_threads}
        got_largest, got_indices = cyconv.max_pool(fx, **g.parameters, return_indices=True, **common)
        comparisons = [
            (got_largest, largest),
            (got_indices, indices),
            (cyconv.max_pool_backward(fdy, places, fx.shape, **common), dx_of_largest),
            (cyconv.avg_pool(fx, **mean_parameters, **common), mean.astype(dtype)),
            (cyconv.avg_pool_backward(fdy_of_mean, fx.shape, **mean_parameters, **common), dx_of_mean),
        ]
        for i, (got, want) in enumerate(comparisons):
            is_equal = np.array_equal(channels_first(got, data_format), want, equal_nan=True)
            assert is_equal, (i, isa, np.dtype(dtype).name, data_format, include_pad, divisor, g)


@pytest.mark.parametrize("block", range(N_BLOCKS))
def test_exact_on_integers(block, every_isa, threads_at_any_size, nan_in_new_arrays):
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        check_exact(seed, every_isa)


@pytest.mark.campaign
@pytest.mark.parametrize("block", range(N_BLOCKS, 1000))
def test_exact_on_many_more_integers(block, every_isa, threads_at_any_size, nan_in_new_arrays):
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        check_exact(seed, every_isa)


def test_geometries_are_more_than_two_thousand_and_distinct():
    drawn = [geometries.pooling(seed)._replace(seed=0) for seed in range(N_BLOCKS * BLOCK)]
    assert len(set(drawn)) > 2000


# ---------------------------------------------------------------- equal bits on any data


def results(g, x, dy, data_format="channels_first", **more):
    """Both poolings and their gradients, all channels first."""
    x, dy = in_layout(x, data_format), in_layout(dy, data_format)
    more["data_format"] = data_format
    largest, indices = cyconv.max_pool(x, **g.parameters, return_indices=True, **more)
    mean = cyconv.avg_pool(x, **g.parameters, **more)
    grads = (cyconv.max_pool_backward(dy, indices, x.shape, **more),
             cyconv.avg_pool_backward(dy, x.shape, **g.parameters, **more))
    return [channels_first(a, data_format) for a in (largest, indices, mean, *grads)]


def normal_geometries(dtype, count=150):
    """Geometries with normally distributed x, a quarter of it zeros of both signs, and dy."""
    for seed in range(count):
        g, rng = geometries.pooling(seed), np.random.default_rng(seed)
        is_kept = rng.random(g.x_shape) < 0.75
        yield g, rng.standard_normal(g.x_shape, dtype) * is_kept, rng.standard_normal(g.y_shape, dtype)


@pytest.mark.parametrize("n_threads", [2, 3, 7])
def test_bits_do_not_depend_on_threads(n_threads, isa, threads_at_any_size):
    for data_format in LAYOUTS:
        for g, x, dy in normal_geometries(np.float32, 60):
            single = results(g, x, dy, data_format, n_threads=1)
            for one, many in zip(single, results(g, x, dy, data_format, n_threads=n_threads)):
                assert_same_bits(many, one, g)


def test_bits_do_not_depend_on_the_layout(isa, dtype):
    for g, x, dy in normal_geometries(dtype):
        for first, last in zip(results(g, x, dy), results(g, x, dy, "channels_last")):
            assert_same_bits(last, first, g)


@pytest.mark.parametrize("padding", [(0, 0), (1, 1)])
def test_gradient_of_flat_windows_of_a_volume_is_that_of_its_images(padding, isa, dtype, data_format, rng):
    dy = rng.standard_normal((2, 3, 5, 4 + padding[0], 6 + padding[1])).astype(dtype)
    how = {"kernel_size": 3, "stride": 2, "padding": padding}
    images = np.stack([cyconv.avg_pool2d_backward(dy[:, :, d], (2, 3, 9, 13), **how) for d in range(5)], 2)
    how = {"kernel_size": (1, 3, 3), "stride": (1, 2, 2), "padding": (0, *padding), "data_format": data_format}
    dx = cyconv.avg_pool3d_backward(in_layout(dy, data_format), in_layout(images, data_format).shape, **how)
    assert_same_bits(np.ascontiguousarray(channels_first(dx, data_format)), images)


@pytest.mark.parametrize("how", [
    {"kernel_size": 4, "stride": 1, "dilation": 4}, {"kernel_size": 4, "stride": 1},
    {"kernel_size": (2, 2, 16), "stride": 1}, {"kernel_size": 3, "stride": (1, 2, 1), "dilation": (6, 1, 7)},
    {"kernel_size": (1, 3, 3), "stride": (1, 2, 2), "padding": (0, 1, 1)},
    {"kernel_size": (1, 3, 3), "stride": (1, 2, 2)}])
def test_bits_of_gradients_of_means_do_not_depend_on_layout_and_instruction_set(how, every_isa, dtype, rng):
    """Also where rows of channels would not fit into the scratch, and are added up in another way."""
    x_shape = (1, 70, 20, 20, 20)
    dy = rng.standard_normal(cyconv.avg_pool3d(np.zeros(x_shape, dtype), **how).shape).astype(dtype)
    found = []
    for isa, layout in product(every_isa, LAYOUTS):
        _kernels.use(isa)
        shape = in_layout(np.broadcast_to(dtype(0), x_shape), layout).shape
        dx = cyconv.avg_pool3d_backward(in_layout(dy, layout), shape, **how, data_format=layout)
        found.append(channels_first(dx, layout))
    for dx in found[1:]:
        assert_same_bits(dx, found[0])


def test_bits_do_not_depend_on_the_other_samples_and_channels(isa, dtype):
    for g, x, dy in normal_geometries(dtype):
        whole = results(g, x, dy)
        for some in ((slice(0, 1), slice(1, 9)), (slice(1, 3), slice(None, None, 2))):
            if x[some].size:
                for a, b in zip(results(g, x[some], dy[some]), whole):
                    assert_same_bits(a, b[some], g)


def test_bits_do_not_depend_on_the_instruction_set(every_isa, dtype):
    """Of the baseline either: there is nothing to fuse."""
    for g, x, dy in normal_geometries(dtype):
        _kernels.use(every_isa[0])
        expected = results(g, x, dy)
        for isa in every_isa[1:]:
            _kernels.use(isa)
            for a, b in zip(results(g, x, dy), expected):
                assert_same_bits(a, b, g)


# ---------------------------------------------------------------- identities


def test_values_stand_at_their_indices(isa, dtype):
    for g, x, _ in normal_geometries(dtype):
        values, indices = cyconv.max_pool(x, **g.parameters, return_indices=True)
        if x.size:
            places = np.maximum(indices, 0).reshape(*x.shape[:2], -1)
            found = np.take_along_axis(x.reshape(*x.shape[:2], -1), places, 2).reshape(values.shape)
            assert_same_bits(np.where(indices < 0, dtype(-INF), found), values, g)


def test_values_are_the_same_without_indices(isa, dtype):
    for g, x, _ in normal_geometries(dtype):
        assert_same_bits(cyconv.max_pool(x, **g.parameters), cyconv.max_pool(x, **g.parameters, return_indices=True)[0])


def test_gradient_of_the_maximum_keeps_the_sum(isa):
    for seed in range(60):
        g = geometries.pooling(seed)
        rng = np.random.default_rng(seed)
        _, indices = cyconv.max_pool(integers(rng, g.x_shape), **g.parameters, return_indices=True)
        dy = integers(rng, g.y_shape)
        assert cyconv.max_pool_backward(dy, indices, g.x_shape).sum() == (dy * (indices >= 0)).sum()


def test_gradient_of_the_mean_is_adjoint(isa):
    """<avg_pool(x), dy> = <x, avg_pool_backward(dy)>, exact with a divisor that is a power of two."""
    for seed in range(150):
        g = geometries.pooling(seed)
        rng = np.random.default_rng(seed)
        x, dy = integers(rng, g.x_shape), integers(rng, g.y_shape)
        y = cyconv.avg_pool(x, **g.parameters, divisor_override=4)
        dx = cyconv.avg_pool_backward(dy, g.x_shape, **g.parameters, divisor_override=4)
        assert np.vdot(y, dy) == np.vdot(x, dx), g


def test_unbatched_input_gives_an_unbatched_result(data_format):
    for seed in range(60):
        g = geometries.pooling(seed, rank=2)._replace(batch=1)
        rng = np.random.default_rng(seed)
        x, dy = (in_layout(rng.standard_normal(shape), data_format) for shape in (g.x_shape, g.y_shape))
        mean = cyconv.avg_pool2d(x, **g.parameters, data_format=data_format)
        assert_same_bits(cyconv.avg_pool2d(x[0], **g.parameters, data_format=data_format), mean[0])
        _, indices = cyconv.max_pool2d(x, **g.parameters, data_format=data_format, return_indices=True)
        _, single = cyconv.max_pool2d(x[0], **g.parameters, data_format=data_format, return_indices=True)
        np.testing.assert_array_equal(single, indices[0])
        assert_same_bits(cyconv.max_pool2d_backward(dy[0], single, x.shape[1:], data_format=data_format),
                         cyconv.max_pool2d_backward(dy, indices, x.shape, data_format=data_format)[0])
        assert_same_bits(cyconv.avg_pool2d_backward(dy[0], x.shape[1:], **g.parameters, data_format=data_format),
                         cyconv.avg_pool2d_backward(dy, x.shape, **g.parameters, data_format=data_format)[0])


# ---------------------------------------------------------------- which maximum

@pytest.mark.parametrize("lanes", [1, 3, 4, 7, 8, 15, 16, 17, 33, 128, 130])
@pytest.mark.parametrize("window, value, place", [
    ((1, 3, 2, 0), 3, 1),
    ((2, 2, 2, 2), 2, 0),
    ((1, 2, 2, 1), 2, 1),
    ((-0.0, 0.0, -1, -1), -0.0, 0),
    ((-1, 0.0, -0.0, -1), 0.0, 1),
    ((NAN, 1, NAN, 2), NAN, 0),
    ((1, NAN, 2, NAN), NAN, 1),
    ((INF, NAN, INF, 1), NAN, 1),
    ((NAN, NAN, NAN, NAN), NAN, 0),
    ((-INF, -INF, -INF, -INF), -INF, 0),
    ((-INF, NAN, -INF, 3), NAN, 1),
    ((-INF, -INF, -3e38, -INF), -3e38, 2),
    ((1, INF, INF, 2), INF, 1),
    ((0, 5e-324, 0, 0), 5e-324, 1),
])
def test_first_maximum_wins_and_nan_before_numbers(window, value, place, lanes, isa, data_format):
    """In every lane of a vector, and in those that are left over."""
    for shape in ((1, lanes, 4, 1), (1, 1, 4, lanes)):
        x = np.broadcast_to(np.array(window, float)[:, None], shape).copy()
        y, indices = cyconv.max_pool2d(in_layout(x, data_format), (4, 1), return_indices=True, data_format=data_format)
        assert_same_bits(channels_first(y, data_format), np.full((1, shape[1], 1, shape[3]), value, float))
        expected = place * shape[3] + np.arange(shape[3])
        assert (channels_first(indices, data_format) == expected).all()


@pytest.mark.parametrize("n_channels", [1, 3, 16, 17])
def test_nan_stays_in_its_channel(n_channels, isa, dtype, data_format):
    """TensorFlow issue 125965: vector body and scalar tail differed."""
    for bad in range(n_channels):
        x = np.ones((1, n_channels, 3, 3), dtype)
        x[0, bad, 1, 1] = np.nan
        y = channels_first(cyconv.max_pool2d(in_layout(x, data_format), 3, data_format=data_format), data_format)
        assert np.isnan(y).ravel().tolist() == [c == bad for c in range(n_channels)]


def test_gradient_goes_to_the_first_maximum_and_adds_up(isa):
    for x, expected in ((row(1, 3, 2, 0), [0, 2, 1, 0]), (row(1, 1, 1, 1), [1, 1, 1, 0])):
        values, indices = cyconv.max_pool(x, 2, 1, return_indices=True)
        np.testing.assert_array_equal(cyconv.max_pool_backward(np.ones_like(values), indices, x.shape)[0, 0], expected)


# ---------------------------------------------------------------- windows in the padding


def test_padding_never_wins(isa, dtype):
    y = cyconv.max_pool2d(np.full((1, 1, 2, 2), -5, dtype), 2, 1, padding=1)
    np.testing.assert_array_equal(y, np.full((1, 1, 3, 3), -5))


def test_maximum_of_a_window_of_padding_is_minus_infinity_without_index(isa, data_format):
    x = in_layout(np.ones((1, 3, 2, 2)), data_format)
    y, indices = cyconv.max_pool2d(x, 1, 1, padding=((2, 0), (0, 1)), return_indices=True, data_format=data_format)
    y, indices = channels_first(y, data_format), channels_first(indices, data_format)
    np.testing.assert_array_equal(y[0, 0], [[-INF] * 3, [-INF] * 3, [1, 1, -INF], [1, 1, -INF]])
    np.testing.assert_array_equal(indices[0, 2], [[-1] * 3, [-1] * 3, [0, 1, -1], [2, 3, -1]])


def test_window_without_index_receives_no_gradient(isa):
    x = np.ones((1, 1, 2, 2))
    y, indices = cyconv.max_pool2d(x, 2, 2, padding=2, return_indices=True)
    assert (indices == [[[[-1, -1, -1], [-1, 0, -1], [-1, -1, -1]]]]).all()
    dx = cyconv.max_pool2d_backward(np.full(y.shape, 7), indices, x.shape)
    np.testing.assert_array_equal(dx[0, 0], [[7, 0], [0, 0]])


def test_minus_infinity_in_the_input_has_an_index_and_in_the_padding_none(isa):
    x = np.full((1, 1, 1, 2), -INF)
    y, indices = cyconv.max_pool2d(x, 1, padding=((0, 0), (1, 0)), return_indices=True)
    np.testing.assert_array_equal(y, [[[[-INF] * 3]]])
    np.testing.assert_array_equal(indices, [[[[-1, 0, 1]]]])


def test_index_where_a_window_spans_more_cells_than_32_bits_count(isa, dtype):
    x, far = np.arange(9, dtype=dtype).reshape(1, 1, 3, 3), 2**31 - 4
    values, indices = cyconv.max_pool2d(x, (2, 1), 1, ((far, 0), (0, 0)), dilation=(far, 1), return_indices=True)
    assert values.dtype == dtype and np.array_equal(values, x)
    assert np.array_equal(indices, x)


@pytest.mark.parametrize("columns", [1, 3, 8, 15, 16, 17, 31, 40, 1100])
@pytest.mark.parametrize("window", [{"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1},
                                    {"kernel_size": (3, 5), "stride": 1, "padding": (1, 2)},
                                    {"kernel_size": (2, 3), "stride": (1, 2), "dilation": (1, 3), "padding": 3}])
def test_short_and_long_rows_have_the_same_bits_in_both_layouts(columns, window, isa, dtype, rng):
    x = rng.standard_normal((2, 3, 7, 2 * columns + 1)).astype(dtype)
    x[rng.random(x.shape) < 0.3] = -np.inf
    x[rng.random(x.shape) < 0.05] = np.nan
    x[rng.random(x.shape) < 0.1] = -0.0
    for pool in (cyconv.max_pool2d, cyconv.min_pool2d):
        assert_same_bits(*(channels_first(a, layout) for layout in LAYOUTS
                           for a in [pool(in_layout(x, layout), **window, data_format=layout)]))
        first, last = (pool(in_layout(x, layout), **window, data_format=layout, return_indices=True)[1]
                       for layout in LAYOUTS)
        assert np.array_equal(first, channels_first(last, "channels_last"))
    finite = np.nan_to_num(x, neginf=1)
    for pool in (cyconv.avg_pool2d, cyconv.sum_pool2d):
        assert_same_bits(*(channels_first(pool(in_layout(finite, layout), **window, data_format=layout), layout)
                           for layout in LAYOUTS))


@pytest.mark.parametrize("shape", [(3, 9, 12), (40, 16, 17), (2, 33, 40), (70, 20, 9), (2, 40, 600), (1, 300, 37)])
@pytest.mark.parametrize("kernel, stride, padding", [
    ((3, 3), (2, 2), (1, 1)), ((2, 4), (1, 2), (0, 2)), ((7, 7), (1, 1), (3, 3)), ((5, 8), (2, 3), (2, 1)),
    ((9, 6), (1, 1), (0, 0)),
])
def test_windows_that_share_cells_have_the_values_at_their_indices(kernel, stride, padding, shape, isa, dtype,
                                                                   data_format, rng):
    """Values alone come from rows of intervals, values with indices from windows visited tap by tap."""
    how = {"kernel_size": kernel, "stride": stride, "padding": padding, "data_format": data_format}
    x = rng.standard_normal((2, *shape)).astype(dtype)
    x[rng.random(x.shape) < 0.1] = -0.0
    x[rng.random(x.shape) < 0.1] = np.inf
    x[0, :, :, -1][rng.random(x.shape[1:3]) < 0.2] = np.nan
    x[1][rng.random(shape) < 0.002] = np.nan
    for pool in (cyconv.max_pool2d, cyconv.min_pool2d):
        for signed in (x, -x):
            cells = in_layout(signed, data_format)
            assert_same_bits(pool(cells, **how), pool(cells, **how, return_indices=True)[0])
    whole = rng.integers(-9, 10, x.shape).astype(dtype)
    total = cyconv.sum_pool2d(in_layout(whole, data_format), **how)
    cells = np.pad(whole, [(0, 0), (0, 0), *((p, p) for p in padding)])
    windows = np.lib.stride_tricks.sliding_window_view(cells, kernel, (2, 3))[:, :, ::stride[0], ::stride[1]]
    np.testing.assert_array_equal(channels_first(total, data_format), windows.sum((4, 5)))


@pytest.mark.parametrize("channels, columns", [(1, 1), (3, 15), (2, 16), (17, 33), (70, 40), (1, 40_000), (70, 700)])
@pytest.mark.parametrize("kernel, stride, dilation, padding", [
    ((2, 2), (2, 2), (1, 1), (0, 0)), ((2, 2), (3, 3), (1, 1), (0, 0)), ((3, 3), (2, 2), (1, 1), (1, 1)),
    ((3, 3), (2, 2), (1, 1), (0, 1)), ((3, 3), (2, 2), (1, 1), (1, 0)), ((3, 3), (2, 2), (1, 1), (0, 0)),
    ((2, 3), (1, 2), (1, 3), (0, 3)), ((3, 2), (1, 1), (2, 5), (2, 3)), ((1, 90), (1, 1), (1, 1), (0, 45)),
])
def test_gradient_of_sums_is_exact_in_rows_of_any_width(kernel, stride, dilation, padding, channels, columns, isa,
                                                        dtype, data_format, rng):
    x = np.zeros((2, channels, 5, columns + 2))
    how = {"kernel_size": kernel, "stride": stride, "dilation": dilation, "padding": padding}
    dy = rng.integers(-9, 10, cyconv.sum_pool2d(x, **how).shape).astype(dtype)
    expected = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    for r, s in np.ndindex(kernel):
        ends = (t * d + (n - 1) * step + 1 for t, d, n, step in zip((r, s), dilation, dy.shape[2:], stride))
        rows, cells = (slice(t * d, end, step) for t, d, end, step in zip((r, s), dilation, ends, stride))
        expected[:, :, rows, cells] += dy
    expected = expected[:, :, padding[0]:padding[0] + x.shape[2], padding[1]:padding[1] + x.shape[3]]
    shape = in_layout(x, data_format).shape
    dx = cyconv.sum_pool2d_backward(in_layout(dy, data_format), shape, **how, data_format=data_format)
    np.testing.assert_array_equal(channels_first(dx, data_format), expected)


def test_mean_of_a_window_of_padding(isa, dtype):
    """Zero when padding counts; else NaN as numpy.mean of nothing, and no gradient."""
    x, window = np.ones((1, 1, 1, 2), dtype), {"kernel_size": 1, "padding": ((0, 0), (1, 0))}
    np.testing.assert_array_equal(cyconv.avg_pool2d(x, **window), [[[[0, 1, 1]]]])
    np.testing.assert_array_equal(cyconv.avg_pool2d(x, **window, count_include_pad=False), [[[[NAN, 1, 1]]]])
    np.testing.assert_array_equal(cyconv.avg_pool2d(x, **window, divisor_override=2), [[[[0, .5, .5]]]])
    dx = cyconv.avg_pool2d_backward(np.ones((1, 1, 1, 3), dtype), x.shape, **window, count_include_pad=False)
    np.testing.assert_array_equal(dx, [[[[1, 1]]]])


@pytest.mark.parametrize("parameters, expected", [
    ({}, [2 / 3, 1, 1]),
    ({"count_include_pad": False}, [1, 1, 1]),
    ({"ceil_mode": True}, [2 / 3, 1, 1, 1 / 2]),
    ({"ceil_mode": True, "count_include_pad": False}, [1, 1, 1, 1]),
    ({"ceil_mode": True, "divisor_override": 2}, [1, 1.5, 1.5, .5]),
    ({"ceil_mode": True, "divisor_override": -2, "count_include_pad": False}, [-1, -1.5, -1.5, -.5]),
])
def test_mean_divides_by_the_cells_that_count_but_not_by_what_hangs_over(parameters, expected, isa):
    y = cyconv.avg_pool(np.ones((1, 1, 6)), 3, 2, 1, **parameters)
    np.testing.assert_allclose(y[0, 0], expected, rtol=1e-15)


@pytest.mark.parametrize("n, kernel, stride, padding, floor, ceil", [
    (4, 3, 3, 0, 1, 2), (5, 2, 2, 0, 2, 3), (5, 2, 2, 1, 3, 3), (6, 3, 2, 1, 3, 4), (7, 3, 2, 0, 3, 3),
    (2, 1, 2, 0, 1, 1), (3, 2, 4, 1, 1, 1),
])
def test_ceil_mode_pools_a_last_window_that_starts_inside(n, kernel, stride, padding, floor, ceil):
    for ceil_mode, size in ((False, floor), (True, ceil)):
        y = cyconv.max_pool(np.ones((1, 1, n)), kernel, stride, padding, ceil_mode=ceil_mode)
        np.testing.assert_array_equal(y, np.ones((1, 1, size)))


def test_window_with_one_living_tap(isa, data_format):
    """Dilation carries all but the middle tap over the input."""
    x = in_layout(np.arange(4.0).reshape(1, 1, 2, 2), data_format)
    parameters = {"kernel_size": 3, "stride": 1, "padding": 5, "dilation": 5, "data_format": data_format}
    y, indices = cyconv.max_pool2d(x, **parameters, return_indices=True)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(indices.ravel(), [0, 1, 2, 3])
    np.testing.assert_array_equal(cyconv.avg_pool2d(x, **parameters, count_include_pad=False), x)
    np.testing.assert_array_equal(cyconv.avg_pool2d(x, **parameters), x / 9)


def test_infinite_and_nan_cells_in_a_mean(isa):
    y = cyconv.avg_pool(row(INF, 1, -INF, 1, NAN, 1), 2, 2)
    np.testing.assert_array_equal(y, row(INF, -INF, NAN))


@pytest.mark.parametrize("x_shape, y_shape, padding", [
    ((0, 3, 4, 4), (0, 3, 2, 2), 0), ((2, 0, 4, 4), (2, 0, 2, 2), 0), ((2, 3, 0, 4), (2, 3, 1, 3), 1),
])
def test_empty_axes(x_shape, y_shape, padding, isa, nan_in_new_arrays):
    x = np.ones(x_shape)
    values, indices = cyconv.max_pool2d(x, 2, padding=padding, return_indices=True)
    assert values.shape == indices.shape == y_shape
    assert (values == -INF).all() and (indices == -1).all()
    mean = cyconv.avg_pool2d(x, 2, padding=padding)
    assert mean.shape == y_shape and (mean == 0).all()
    assert cyconv.max_pool2d_backward(mean, indices, x_shape).shape == x_shape
    assert cyconv.avg_pool2d_backward(mean, x_shape, 2, padding=padding).shape == x_shape


# ---------------------------------------------------------------- kinds of arrays


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_array_gives_the_same(kind, isa, dtype, data_format):
    for seed in range(20):
        g = geometries.pooling(seed, rank=2)
        rng = np.random.default_rng(seed)
        x, dy = (in_layout(integers(rng, shape).astype(dtype), data_format) for shape in (g.x_shape, g.y_shape))
        parameters = {**g.parameters, "data_format": data_format}
        values, indices = cyconv.max_pool2d(x, **parameters, return_indices=True)
        changed = cyconv.max_pool2d(KINDS[kind](x), **parameters, return_indices=True)
        np.testing.assert_array_equal(changed[0], values)
        np.testing.assert_array_equal(changed[1], indices)
        mean = cyconv.avg_pool2d(x, **parameters)
        np.testing.assert_array_equal(cyconv.avg_pool2d(KINDS[kind](x), **parameters), mean)
        dx = cyconv.max_pool2d_backward(dy, indices, x.shape, data_format=data_format)
        changed = cyconv.max_pool2d_backward(KINDS[kind](dy), KINDS[kind](indices), x.shape, data_format=data_format)
        np.testing.assert_array_equal(changed, dx)
        dx = cyconv.avg_pool2d_backward(dy, x.shape, **parameters)
        np.testing.assert_array_equal(cyconv.avg_pool2d_backward(KINDS[kind](dy), x.shape, **parameters), dx)


def test_lists_are_arrays(rng):
    x = integers(rng, (1, 2, 5, 6))
    values, indices = cyconv.max_pool2d(x, 2, return_indices=True)
    np.testing.assert_array_equal(cyconv.max_pool2d(x.tolist(), 2), values)
    np.testing.assert_array_equal(cyconv.avg_pool2d(x.tolist(), 2), cyconv.avg_pool2d(x, 2))
    np.testing.assert_array_equal(cyconv.max_pool2d_backward(values.tolist(), indices.tolist(), list(x.shape)),
                                  cyconv.max_pool2d_backward(values, indices, x.shape))


@pytest.mark.parametrize("axis", range(4))
def test_broadcast_views_give_the_same(axis, isa, data_format, rng):
    view = np.broadcast_to(rng.standard_normal((2, 5, 6, 7)).take([0], axis), (2, 5, 6, 7))
    for function in POOLS:
        assert_same_bits(function(view, 2, data_format=data_format), function(view.copy(), 2, data_format=data_format))


@pytest.mark.parametrize("given, computed", [
    ("f2", "f4"), ("f4", "f4"), ("f8", "f8"), ("?", "f4"), ("u1", "f4"), ("i8", "f8"),
])
def test_maxima_keep_the_dtype_and_means_are_those_of_numpy_promotion(given, computed, rng):
    x = np.abs(integers(rng, (1, 2, 6, 6))).astype(given)
    assert_same_bits(cyconv.max_pool2d(x, 2), cyconv.max_pool2d(x.astype(computed), 2).astype(given))
    assert_same_bits(cyconv.avg_pool2d(x, 2), cyconv.avg_pool2d(x.astype(computed), 2))


# ---------------------------------------------------------------- hostile indices


@pytest.mark.parametrize("dtype_of_indices", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
def test_indices_of_any_integer_dtype(dtype_of_indices, rng):
    x = integers(rng, (2, 3, 8, 8))
    values, indices = cyconv.max_pool2d(x, 2, return_indices=True)
    dx = cyconv.max_pool2d_backward(values, indices, x.shape)
    np.testing.assert_array_equal(cyconv.max_pool2d_backward(values, indices.astype(dtype_of_indices), x.shape), dx)


@pytest.mark.parametrize("bad, dtype_of_indices", [
    (16, "i8"), (-2, "i8"), (118, "i4"), (-2, "i1"), (255, "u1"), (2**31 - 1, "i4"), (-2**31, "i4"),
    (2**32 + 3, "i8"), (2**32 + 3, "u8"), (2**63 - 1, "i8"), (-2**63, "i8"),
    (2**63 - 1, "u8"), (2**63, "u8"), (2**64 - 1, "u8"), (2**64 - 2, "u8"),
])
def test_index_outside_the_plane_is_refused(bad, dtype_of_indices, isa, data_format):
    indices = np.zeros((1, 2, 2, 2), dtype_of_indices)
    indices[0, 1, 1, 0] = bad
    indices = in_layout(indices, data_format)
    shape = (1, 4, 4, 2) if data_format == "channels_last" else (1, 2, 4, 4)
    position = (0, 1, 0, 1) if data_format == "channels_last" else (0, 1, 1, 0)
    message = rf"^max_pool2d_backward: index {bad} at position {position} is outside the input plane of 16 cells$"
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        cyconv.max_pool2d_backward(np.ones(indices.shape), indices, shape, data_format=data_format)


@pytest.mark.parametrize("bad", [100, 101, -2, -30, 1000])
@pytest.mark.parametrize("position", [0, 17, 499, 999])
def test_no_gradient_is_written_at_an_index_outside_the_plane(position, bad, isa, data_format, guarded_arrays):
    indices = np.zeros((1, 10, 10, 10), int)
    indices.flat[position] = bad
    with pytest.raises(ValueError, match="outside the input plane"):
        cyconv.max_pool2d_backward(np.ones(indices.shape), indices, (1, 10, 10, 10), data_format=data_format)
    guarded_arrays()


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 20), min_size=4, max_size=4))
def test_hostile_indices_are_scattered_or_refused(indices):
    indices = np.array(indices).reshape(1, 1, 2, 2)
    is_valid = ((indices >= -1) & (indices < 16)).all()
    try:
        dx = cyconv.max_pool2d_backward(np.ones((1, 1, 2, 2)), indices, (1, 1, 4, 4))
    except ValueError:
        assert not is_valid
    else:
        assert is_valid and dx.sum() == (indices >= 0).sum()


@pytest.mark.parametrize("indices", [np.zeros((1, 1, 2, 2)), np.zeros((1, 1, 2, 2), bool), [[[["0", "0"], ["0", "0"]]]],
                                     np.full((1, 1, 2, 2), None), np.ma.zeros((1, 1, 2, 2), int)], ids=range(5))
def test_indices_that_are_not_integers_are_refused(indices):
    with pytest.raises(TypeError, match=r"^max_pool2d_backward: .*indices"):
        cyconv.max_pool2d_backward(np.ones((1, 1, 2, 2)), indices, (1, 1, 4, 4))


# ---------------------------------------------------------------- errors


def ones(*shape):
    return np.ones(shape)


@pytest.mark.parametrize("function", POOLS, ids=["max", "avg"])
@pytest.mark.parametrize("arguments, error, message", [
    ({"x": ones(5, 5)}, ValueError, r"x must have 4 dimensions \(N, C, H, W\) or 3 \(C, H, W\), got shape \(5, 5\)"),
    ({"x": ones(1, 1, 4, 6), "kernel_size": 5}, ValueError,
     r"effective kernel \(5, 5\) is larger than the padded input \(4, 6\)"),
    ({"kernel_size": 0}, ValueError, r"kernel_size must be >= 1 on every axis, got 0"),
    ({"kernel_size": (2, 2, 2)}, ValueError, r"kernel_size must be an int or 2 ints, got \(2, 2, 2\)"),
    ({"kernel_size": None}, TypeError, r"kernel_size must be an int or 2 ints, got None"),
    ({"kernel_size": 2.0}, TypeError, r"kernel_size must be an int or 2 ints, got 2.0"),
    ({"kernel_size": 2**13, "padding": 2**13}, ValueError, r"kernel_size must have at most 16777216 cells, got 8192"),
    ({"stride": 0}, ValueError, r"stride must be >= 1 on every axis, got 0"),
    ({"padding": -1}, ValueError, r"padding must be >= 0 on every axis, got -1"),
    ({"padding": (0, 1, 0, 1)}, ValueError, r"padding must be .* for per-side padding write \(\(0, 1\), \(0, 1\)\)"),
    ({"padding": "some"}, ValueError, r"unknown padding 'some'; expected one of 'valid'"),
    ({"dilation": (1, 0)}, ValueError, r"dilation must be >= 1 on every axis, got \(1, 0\)"),
    ({"data_format": "NHWC"}, ValueError, r"data_format must be one of"),
    ({"x": ones(1, 1, 6, 6).astype(complex)}, TypeError, r"unsupported dtype complex128 for x"),
    ({"x": np.ma.ones((1, 1, 6, 6))}, TypeError, r"x is a masked array"),
])
def test_error_names_the_argument_and_the_value(function, arguments, error, message):
    with pytest.raises(error, match=f"^{function.__name__}: {message}"):
        function(**{"x": ones(1, 1, 6, 6), "kernel_size": 2, **arguments})


@pytest.mark.parametrize("divisor, error", [
    (0, ValueError), (0.0, ValueError), (NAN, ValueError), (INF, ValueError), (1e-60, ValueError), (1e300, ValueError),
    ("2", TypeError), ([2], TypeError), (2j, TypeError),
])
def test_divisor_that_is_no_divisor_is_refused(divisor, error):
    """Nor one that becomes 0 or infinite in the dtype of the computation."""
    x, message = np.ones((1, 1, 4, 4), np.float32), "divisor_override must be a finite float32 other than 0, got"
    with pytest.raises(error, match=f"^avg_pool2d: {message}"):
        cyconv.avg_pool2d(x, 2, divisor_override=divisor)
    with pytest.raises(error, match=f"^avg_pool2d_backward: {message}"):
        cyconv.avg_pool2d_backward(x, (1, 1, 8, 8), 2, divisor_override=divisor)


@pytest.mark.parametrize("shape, shape_of_indices, input_shape, message", [
    ((1, 1, 2, 2), (1, 1, 2, 3), (1, 1, 4, 4), r"indices must have shape \(1, 1, 2, 2\), got \(1, 1, 2, 3\)"),
    ((1, 2, 2, 2), (1, 2, 2, 2), (1, 3, 4, 4),
     r"grad_out of shape \(1, 2, 2, 2\) and input_shape \(1, 3, 4, 4\) differ in N or C"),
    ((2, 1, 2, 2), (2, 1, 2, 2), (1, 1, 4, 4),
     r"grad_out of shape \(2, 1, 2, 2\) and input_shape \(1, 1, 4, 4\) differ in N or C"),
    ((1, 1, 2, 2), (1, 1, 2, 2), (4, 4), r"input_shape must be 4 sizes >= 0, got \(4, 4\)"),
    ((1, 1, 2, 2), (1, 1, 2, 2), (1, 1, 4, -4), r"input_shape must be 4 sizes >= 0, got \(1, 1, 4, -4\)"),
    ((1, 1, 2, 2), (1, 1, 2, 2), (1, 1, 2**50, 4), r"an array of shape \(1, 1, 1125899906842624, 4\) would have"),
    ((1, 1, 2, 2), (1, 1, 2, 2), (1, 1, 0, 4), r"index 0 at position \(0, 0, 0, 0\) is outside .* of 0 cells"),
])
def test_error_of_a_gradient_names_the_argument_and_the_value(shape, shape_of_indices, input_shape, message):
    with pytest.raises(ValueError, match=f"^max_pool2d_backward: {message}"):
        cyconv.max_pool2d_backward(np.ones(shape), np.zeros(shape_of_indices, int), input_shape)


def test_gradient_of_the_mean_refuses_another_shape():
    message = r"^avg_pool2d_backward: grad_out must have shape \(1, 1, 2, 2\), got \(1, 1, 3, 2\)"
    with pytest.raises(ValueError, match=message):
        cyconv.avg_pool2d_backward(ones(1, 1, 3, 2), (1, 1, 4, 4), 2)


def test_rank_is_taken_from_the_arguments_or_refused():
    for rank in (1, 2, 3):
        for kernel_size in (2, (2,) * rank):
            assert cyconv.max_pool(ones(1, 1, *(4,) * rank), kernel_size).shape == (1, 1, *(2,) * rank)
    for rank in (0, 4):
        x = ones(1, 1, *(4,) * rank)
        for call in (lambda x: cyconv.max_pool(x, 2), lambda x: cyconv.avg_pool(x, 2),
                     lambda x: cyconv.max_pool_backward(x, x.astype(int), x.shape),
                     lambda x: cyconv.avg_pool_backward(x, x.shape, 1)):
            with pytest.raises(ValueError, match=r"arrays must have 1 to 3 spatial axes, got"):
                call(x)


@given(st.sampled_from(POOLS), st.fixed_dictionaries({}, optional={name: st.sampled_from(HOSTILE) for name in (
    "kernel_size", "stride", "padding", "dilation", "data_format", "n_threads")}))
def test_hostile_parameters_are_computed_or_refused_by_name(function, parameters):
    try:
        function(**{"x": ones(1, 1, 3, 3), "kernel_size": 2, **parameters})
    except (ValueError, TypeError) as error:
        assert any(name in str(error) for name in (*parameters, "effective kernel", "padded input"))


@pytest.mark.parametrize("function", [cyconv.max_pool_backward, cyconv.max_pool2d_backward, cyconv.avg_pool2d_backward])
@pytest.mark.parametrize("input_shape", [None, 9, "9999", (), [[1]], (1, 1, 4.0, 4), (True, 1, 4, 4), {1: 1}])
def test_hostile_input_shapes_are_refused(function, input_shape):
    second = np.zeros((1, 1, 2, 2), int) if function is not cyconv.avg_pool2d_backward else input_shape
    third = input_shape if function is not cyconv.avg_pool2d_backward else 2
    with pytest.raises(ValueError, match="input_shape must be|arrays must have"):
        function(ones(1, 1, 2, 2), second, third)


@pytest.mark.parametrize("kept", [np.uint8, np.int16, np.int64, np.float16, bool])
def test_maxima_keep_the_dtype_of_x(kept):
    x = np.array([[[0, 1, 1, 0], [1, 1, 0, 0]]]).astype(kept)
    values, indices = cyconv.max_pool2d(x, 2, padding=((0, 0), (0, 2)), return_indices=True)
    assert values.dtype == kept and values[0, 0, :2].tolist() == [1, 1]
    assert indices[0, 0].tolist() == [1, 2, -1]
    assert values[0, 0, 2] == (-np.inf if kept is np.float16 else np.iinfo(kept).min if kept is not bool else 0)


def test_integers_that_floats_cannot_hold_are_refused():
    with pytest.raises(TypeError, match="x has int64 values beyond 2"):
        cyconv.max_pool2d(np.full((1, 2, 2), 2**53 + 1), 2)
