"""Adaptive and global pooling and their gradients: worked values, exact integers, equal bits, errors."""

from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cyconv
from cyconv import _kernels
from cyconv.selftest import geometries, reference
from cyconv.selftest.arrays import HOSTILE, KINDS, LAYOUTS, assert_same_bits, channels_first, in_layout, integers
from cyconv.selftest.differences import assert_same_gradient, central_differences

INF, NAN = np.inf, np.nan
FLOATS = (np.float32, np.float64)


# ---------------------------------------------------------------- values worked by hand


@pytest.mark.parametrize("n, outputs, mean, largest", [
    (10, 3, [1.5, 4.5, 7.5], [3, 6, 9]),
    (2, 5, [0, 0, .5, 1, 1], [0, 0, 1, 1, 1]),
    (4, 2, [.5, 2.5], [1, 3]),
    (4, 4, [0, 1, 2, 3], [0, 1, 2, 3]),
    (4, None, [0, 1, 2, 3], [0, 1, 2, 3]),
    (5, 1, [2], [4]),
    (5, 0, [], []),
])
def test_bins_worked_by_hand(n, outputs, mean, largest, isa, data_format):
    x = in_layout(np.arange(float(n)).reshape(1, 1, n), data_format)
    y = channels_first(cyconv.adaptive_avg_pool1d(x, outputs, data_format=data_format), data_format)
    np.testing.assert_array_equal(y[0, 0], mean)
    y, indices = cyconv.adaptive_max_pool1d(x, outputs, return_indices=True, data_format=data_format)
    np.testing.assert_array_equal(y.ravel(), largest)
    np.testing.assert_array_equal(indices.ravel(), largest)


def test_global_pooling_worked_by_hand(isa, data_format):
    x = in_layout(np.array([[[[3.0, -4], [0, 12]]]]), data_format)
    common = {"keepdims": False, "data_format": data_format}
    assert cyconv.global_max_pool(x, **common) == [[12]]
    assert cyconv.global_min_pool(x, **common) == [[-4]]
    assert cyconv.global_sum_pool(x, **common) == [[11]]
    assert cyconv.global_avg_pool(x, **common) == [[2.75]]
    assert cyconv.global_lp_pool(x, 2, **common) == [[13]]
    assert [i.item() for i in cyconv.global_max_pool(x, return_indices=True, data_format=data_format)] == [12, 3]
    assert [i.item() for i in cyconv.global_min_pool(x, return_indices=True, data_format=data_format)] == [-4, 1]


# ---------------------------------------------------------------- exact on integers

N_BLOCKS, BLOCK = 6, 50


def check_exact(seed, instruction_sets):
    """Adaptive and global pooling of one geometry, in every instruction set, dtype and layout."""
    g = geometries.adaptive(seed)
    rng = np.random.default_rng(seed)
    x, dy, dplane = integers(rng, g.x_shape), integers(rng, g.y_shape), integers(rng, g.x_shape[:2])
    largest, indices = reference.adaptive_max_pool(x, g.outputs)
    total, counts = reference.adaptive_sum_pool(x, g.outputs)
    dx_of_largest = reference.max_pool_backward(dy, indices, g.sizes)
    dx_of_mean = reference.adaptive_sum_pool_backward(dy, g.sizes)
    plane = x.reshape(*x.shape[:2], prod(g.sizes))
    for isa, dtype, data_format in product(instruction_sets, FLOATS, LAYOUTS):
        _kernels.use(isa)
        fx, fdy, places = (in_layout(a, data_format) for a in (x.astype(dtype), (dy * counts).astype(dtype), indices))
        common = {"data_format": data_format, "n_threads": g.n_threads}
        flat = {"keepdims": False, **common}
        got_largest, got_indices = cyconv.adaptive_max_pool(fx, g.outputs, return_indices=True, **common)
        greatest, where = cyconv.global_max_pool(fx, return_indices=True, **flat)
        comparisons = [
            (got_largest, largest),
            (got_indices, indices),
            (cyconv.adaptive_max_pool_backward(in_layout(dy, data_format), places, fx.shape, **common), dx_of_largest),
            (cyconv.adaptive_avg_pool(fx, g.outputs, **common), (total / counts).astype(dtype)),
            (cyconv.adaptive_avg_pool_backward(fdy, fx.shape, **common), dx_of_mean),
            (greatest, plane.max(-1)),
            (where, plane.argmax(-1)),
            (cyconv.global_min_pool(fx, **flat), plane.min(-1)),
            (cyconv.global_sum_pool(fx, **flat), plane.sum(-1)),
            (cyconv.global_avg_pool(fx, **flat), (plane.sum(-1) / plane.shape[-1]).astype(dtype)),
            (cyconv.global_lp_pool(fx, 1, **flat), abs(plane).sum(-1)),
            (cyconv.global_lp_pool(fx, 2, **flat), np.sqrt((plane * plane).sum(-1)).astype(dtype)),
            (cyconv.global_sum_pool_backward(dplane.astype(dtype), fx.shape, **common),
             np.broadcast_to(dplane.reshape(*dplane.shape, *[1] * len(g.sizes)), x.shape)),
        ]
        for i, (got, want) in enumerate(comparisons):
            got = channels_first(got, data_format) if got.ndim > 2 else got
            assert np.array_equal(got, want), (i, isa, np.dtype(dtype).name, data_format, g)


@pytest.mark.parametrize("block", range(N_BLOCKS))
def test_exact_on_integers(block, every_isa, threads_at_any_size, nan_in_new_arrays):
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        check_exact(seed, every_isa)


@pytest.mark.campaign
@pytest.mark.parametrize("block", range(N_BLOCKS, N_BLOCKS + 100))
def test_exact_on_many_more_integers(block, every_isa, threads_at_any_size, nan_in_new_arrays):
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        check_exact(seed, every_isa)


@pytest.mark.parametrize("shape, outputs", [((1, 70, 5000), 3), ((2, 65, 90, 170), (2, 3)), ((1, 33, 31, 23, 40), 2)])
def test_exact_on_integers_in_large_bins(shape, outputs, isa, data_format, rng):
    """Whose input comes to the kernel in slabs where it must be transposed."""
    x = integers(rng, shape)
    outputs = cyconv._geometry.per_axis("test", "outputs", outputs, len(shape) - 2, 1)
    fx = in_layout(x.astype(np.float32), data_format)
    values, indices = cyconv.adaptive_max_pool(fx, outputs, return_indices=True, data_format=data_format)
    largest, places = reference.adaptive_max_pool(x, outputs)
    np.testing.assert_array_equal(channels_first(values, data_format), largest)
    np.testing.assert_array_equal(channels_first(indices, data_format), places)
    total, counts = reference.adaptive_sum_pool(x, outputs)
    mean = cyconv.adaptive_avg_pool(fx, outputs, data_format=data_format)
    np.testing.assert_array_equal(channels_first(mean, data_format), (total / counts).astype(np.float32))


# ---------------------------------------------------------------- equal bits and identities


def results(g, x, dy, data_format="channels_first", **more):
    x, dy = in_layout(x, data_format), in_layout(dy, data_format)
    more["data_format"] = data_format
    largest, indices = cyconv.adaptive_max_pool(x, g.outputs, return_indices=True, **more)
    norm = cyconv.global_lp_pool(x, 3, **more)
    found = [largest, indices, cyconv.adaptive_max_pool_backward(dy, indices, x.shape, **more),
             cyconv.adaptive_avg_pool(x, g.outputs, **more), cyconv.adaptive_avg_pool_backward(dy, x.shape, **more),
             cyconv.global_avg_pool(x, **more), norm, cyconv.global_lp_pool_backward(norm, x, norm, 3, **more),
             cyconv.global_avg_pool_backward(norm, x.shape, **more)]
    return [channels_first(a, data_format) for a in found]


def normal_geometries(dtype, count):
    for seed in range(count):
        g, rng = geometries.adaptive(seed), np.random.default_rng(seed)
        yield g, rng.standard_normal(g.x_shape).astype(dtype), rng.standard_normal(g.y_shape).astype(dtype)


def test_bits_do_not_depend_on_threads_layout_and_other_samples(isa, dtype, threads_at_any_size):
    for g, x, dy in normal_geometries(dtype, 50):
        expected = results(g, x, dy, n_threads=1)
        for n_threads, data_format in ((3, "channels_first"), (2, "channels_last")):
            for a, b in zip(results(g, x, dy, data_format, n_threads=n_threads), expected):
                assert_same_bits(a, b, g)
        some = (slice(1, 3), slice(None, None, 2))
        if x[some].size:
            for a, b in zip(results(g, x[some], dy[some]), expected):
                assert_same_bits(a, b[some], g)


def test_bins_of_one_size_are_windows(isa, dtype):
    for g, x, _ in normal_geometries(dtype, 150):
        if all(o and n % o == 0 for n, o in zip(g.sizes, g.outputs)):
            kernel = tuple(n // o for n, o in zip(g.sizes, g.outputs))
            assert_same_bits(cyconv.adaptive_max_pool(x, g.outputs), cyconv.max_pool(x, kernel), g)
            assert_same_bits(cyconv.adaptive_avg_pool(x, g.outputs), cyconv.avg_pool(x, kernel), g)


@pytest.mark.parametrize("kind", ["max", "min", "avg", "sum"])
def test_a_whole_plane_is_one_window(kind, isa, data_format, rng):
    x = in_layout(rng.standard_normal((2, 5, 6, 7)), data_format)
    whole = getattr(cyconv, f"{kind}_pool2d")(x, (6, 7), data_format=data_format)
    assert_same_bits(getattr(cyconv, f"global_{kind}_pool")(x, data_format=data_format), whole)
    dy = in_layout(rng.standard_normal((2, 5, 1, 1)), data_format)
    if kind in ("max", "min"):
        _, indices = getattr(cyconv, f"{kind}_pool2d")(x, (6, 7), return_indices=True, data_format=data_format)
        arguments, again = (dy, indices, x.shape), (dy, indices, x.shape)
    else:
        arguments, again = (dy, x.shape, (6, 7)), (dy, x.shape)
    expected = getattr(cyconv, f"{kind}_pool2d_backward")(*arguments, data_format=data_format)
    dx = getattr(cyconv, f"global_{kind}_pool_backward")(*again, data_format=data_format)
    assert_same_bits(dx, expected)


def test_gradients_are_the_same_with_and_without_kept_axes(data_format, rng):
    x, dy = in_layout(rng.standard_normal((2, 3, 4, 5)), data_format), rng.standard_normal((2, 3))
    kept = in_layout(dy[:, :, None, None], data_format)
    values, indices = cyconv.global_max_pool(x, keepdims=False, return_indices=True, data_format=data_format)
    common = {"data_format": data_format}
    assert_same_bits(cyconv.global_max_pool_backward(dy, indices, x.shape, **common),
                     cyconv.global_max_pool_backward(kept, indices.reshape(kept.shape), x.shape, **common))
    assert_same_bits(cyconv.global_avg_pool_backward(dy, x.shape, **common),
                     cyconv.global_avg_pool_backward(kept, x.shape, **common))
    norm = cyconv.global_lp_pool(x, 2, keepdims=False, **common)
    assert_same_bits(cyconv.global_lp_pool_backward(dy, x, norm, 2, **common),
                     cyconv.global_lp_pool_backward(kept, x, norm.reshape(kept.shape), 2, **common))


def test_gradients_agree_with_central_differences(data_format, rng):
    x = in_layout(rng.standard_normal((2, 3, 5, 4)), data_format)
    common = {"data_format": data_format}
    y = cyconv.adaptive_avg_pool2d(x, (3, 6), **common)
    dy = rng.standard_normal(y.shape)
    assert_same_gradient(cyconv.adaptive_avg_pool2d_backward(dy, x.shape, **common), central_differences(
        lambda: np.vdot(cyconv.adaptive_avg_pool2d(x, (3, 6), **common), dy), x))
    y, indices = cyconv.adaptive_max_pool2d(x, (3, 6), return_indices=True, **common)
    assert_same_gradient(cyconv.adaptive_max_pool2d_backward(dy, indices, x.shape, **common), central_differences(
        lambda: np.vdot(cyconv.adaptive_max_pool2d(x, (3, 6), **common), dy), x))
    for p in (1, 2, 3.5, INF):
        y = cyconv.global_lp_pool(x, p, **common)
        dy = rng.standard_normal(y.shape)
        assert_same_gradient(cyconv.global_lp_pool_backward(dy, x, y, p, **common), central_differences(
            lambda p=p, dy=dy: np.vdot(cyconv.global_lp_pool(x, p, **common), dy), x), 1e-5)


# ---------------------------------------------------------------- arrays


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_array_gives_the_same(kind, isa, dtype):
    change = KINDS[kind]
    for g, x, dy in normal_geometries(dtype, 15):
        for function in (lambda x: cyconv.adaptive_max_pool(x, g.outputs), cyconv.global_avg_pool,  # noqa: B023
                         lambda x: cyconv.adaptive_avg_pool(x, g.outputs)):  # noqa: B023
            np.testing.assert_array_equal(function(change(x)), function(x))
        np.testing.assert_array_equal(cyconv.adaptive_avg_pool_backward(change(dy), x.shape),
                                      cyconv.adaptive_avg_pool_backward(dy, x.shape))


def test_unbatched_input_gives_an_unbatched_result(data_format, rng):
    x = in_layout(rng.standard_normal((1, 3, 5, 7)), data_format)
    common = {"data_format": data_format}
    y, indices = cyconv.adaptive_max_pool2d(x, (2, 3), return_indices=True, **common)
    values, places = cyconv.adaptive_max_pool2d(x[0], (2, 3), return_indices=True, **common)
    assert_same_bits(values, y[0])
    np.testing.assert_array_equal(places, indices[0])
    assert_same_bits(cyconv.adaptive_max_pool2d_backward(y[0], places, x[0].shape, **common),
                     cyconv.adaptive_max_pool2d_backward(y, indices, x.shape, **common)[0])
    mean = cyconv.adaptive_avg_pool2d(x, (2, 3), **common)
    assert_same_bits(cyconv.adaptive_avg_pool2d(x[0], (2, 3), **common), mean[0])
    assert_same_bits(cyconv.adaptive_avg_pool2d_backward(y[0], x[0].shape, **common),
                     cyconv.adaptive_avg_pool2d_backward(y, x.shape, **common)[0])


def test_empty_axes():
    for shape in ((0, 3, 4, 4), (2, 0, 4, 4)):
        assert cyconv.adaptive_avg_pool2d(np.ones(shape), 2).shape == (*shape[:2], 2, 2)
        assert cyconv.global_max_pool(np.ones(shape)).shape == (*shape[:2], 1, 1)
        assert cyconv.global_avg_pool_backward(np.ones(shape[:2]), shape).shape == shape
    empty = np.ones((1, 2, 0, 4))
    assert np.isnan(cyconv.adaptive_avg_pool2d(empty, 2)).all() and np.isnan(cyconv.global_avg_pool(empty)).all()
    assert (cyconv.global_sum_pool(empty) == 0).all() and (cyconv.global_lp_pool(empty, 3) == 0).all()
    for function, value in ((cyconv.global_max_pool, -INF), (cyconv.global_min_pool, INF)):
        values, indices = function(empty, return_indices=True)
        assert (values == value).all() and (indices == -1).all()
    assert cyconv.adaptive_avg_pool2d_backward(np.ones((1, 2, 2, 2)), empty.shape).shape == empty.shape
    assert cyconv.adaptive_max_pool2d(np.ones((1, 2, 3, 4)), (0, 2)).shape == (1, 2, 0, 2)
    assert (cyconv.adaptive_avg_pool2d_backward(np.ones((1, 2, 0, 2)), (1, 2, 3, 4)) == 0).all()


@pytest.mark.parametrize("kept", [np.uint8, np.int64, np.float16, bool])
def test_extremes_keep_the_dtype_of_x(kept):
    x = np.array([[[0, 1, 1, 0]]]).astype(kept)
    assert_same_bits(cyconv.adaptive_max_pool1d(x, 2).astype(np.int8), np.array([[[1, 1]]], np.int8))
    for function in (cyconv.adaptive_max_pool1d(x, 2), cyconv.global_max_pool(x), cyconv.global_min_pool(x)):
        assert function.dtype == kept


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("output_size, error, message", [
    (-1, ValueError, r"output_size must be >= 0 on every axis, got -1"),
    ((2, 2, 2), ValueError, r"output_size must be an int or None, or 2 of them, got \(2, 2, 2\)"),
    (2.0, TypeError, r"output_size must be an int or None, or 2 of them, got 2.0"),
    ("22", TypeError, r"output_size must be an int or None"), ((2, 1.5), ValueError, r"output_size must be an int"),
    (2**31 - 1, ValueError, r"output_size must be <= 16777216, got 2147483647"),
    ((2**24, 2**24), ValueError, r"an array of shape .* would have"),
])
@pytest.mark.parametrize("function", [cyconv.adaptive_avg_pool2d, cyconv.adaptive_max_pool2d])
def test_output_size_that_is_none_is_refused(function, output_size, error, message):
    with pytest.raises(error, match=f"^{function.__name__}: {message}"):
        function(np.ones((1, 1, 4, 4)), output_size)


def test_errors_name_the_argument_and_the_value():
    x = np.ones((1, 2, 4, 4))
    with pytest.raises(ValueError, match=r"^global_avg_pool: x must have 3 to 5 dimensions \(N, C, \*spatial\), got"):
        cyconv.global_avg_pool(x[0, 0])
    with pytest.raises(ValueError, match=r"^global_sum_pool_backward: grad_out must have shape \(1, 2, 1, 1\) or"):
        cyconv.global_sum_pool_backward(np.ones((2, 1)), x.shape)
    with pytest.raises(ValueError, match=r"^global_lp_pool_backward: out must have shape \(1, 2, 1, 1\) or \(1, 2\)"):
        cyconv.global_lp_pool_backward(np.ones((1, 2)), x, np.ones((1, 3)), 2)
    with pytest.raises(ValueError, match=r"^global_max_pool_backward: index 16 at position \(0, 1\) is outside"):
        cyconv.global_max_pool_backward(np.ones((1, 2)), np.array([[0, 16]]), x.shape)
    with pytest.raises(ValueError, match=r"^adaptive_avg_pool2d_backward: grad_out of shape .* differ in N or C"):
        cyconv.adaptive_avg_pool2d_backward(np.ones((1, 3, 2, 2)), x.shape)
    with pytest.raises(ValueError, match=r"^adaptive_max_pool: arrays must have 1 to 3 spatial axes, got 0"):
        cyconv.adaptive_max_pool(np.ones((1, 1)), 1)
    with pytest.raises(TypeError, match=r"^global_min_pool: unsupported dtype complex128 for x"):
        cyconv.global_min_pool(x * 1j)


@given(st.sampled_from([cyconv.adaptive_avg_pool2d, cyconv.adaptive_max_pool2d]), st.sampled_from(HOSTILE))
def test_hostile_output_sizes_are_computed_or_refused_by_name(function, output_size):
    try:
        function(np.ones((1, 1, 3, 3)), output_size)
    except (ValueError, TypeError) as error:
        assert "output_size" in str(error) or "would have" in str(error)


# ---------------------------------------------------------------- PyTorch


def test_adaptive_pooling_is_that_of_pytorch(dtype, tolerance):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    for g, x, dy in normal_geometries(dtype, 120):
        if not g.batch or 0 in g.outputs:
            continue
        rank = len(g.sizes)
        tensor = torch.tensor(x, requires_grad=True)
        mean = getattr(functional, f"adaptive_avg_pool{rank}d")(tensor, g.outputs)
        mean.backward(torch.tensor(dy))
        y, dx = cyconv.adaptive_avg_pool(x, g.outputs), cyconv.adaptive_avg_pool_backward(dy, x.shape)
        np.testing.assert_allclose(y, mean.detach().numpy(), tolerance, 10 * tolerance)
        np.testing.assert_allclose(dx, tensor.grad.numpy(), 0, 100 * tolerance)
        values, indices = cyconv.adaptive_max_pool(x, g.outputs, return_indices=True)
        tensor.grad = None
        largest, places = getattr(functional, f"adaptive_max_pool{rank}d")(tensor, g.outputs, return_indices=True)
        largest.backward(torch.tensor(dy))
        assert_same_bits(values, largest.detach().numpy(), g)
        np.testing.assert_array_equal(indices, places.numpy())
        dx = cyconv.adaptive_max_pool_backward(dy, indices, x.shape)
        np.testing.assert_allclose(dx, tensor.grad.numpy(), 0, 100 * tolerance)
