"""Pooling with functions of one's own: against other kinds of pooling, blocks, dtypes, gradients, errors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cyconv
from cyconv.functional import custom_pooling
from cyconv.selftest import geometries, reference
from cyconv.selftest.arrays import HOSTILE, KINDS, assert_same_bits, channels_first, in_layout, integers
from cyconv.selftest.differences import assert_same_gradient, central_differences


def vjp_of_sum(windows, grad):
    return np.broadcast_to(grad[:, None], windows.shape)


def vjp_of_squares(windows, grad):
    return 2 * windows * grad[:, None]


def sum_of_squares(windows, axis):
    return (windows * windows).sum(axis=axis)


@pytest.fixture(params=[None, 1, 1000], ids=["blocks_of_1_MiB", "single_windows", "small_blocks"])
def block_bytes(request, monkeypatch):
    """Blocks of other sizes give the same."""
    if request.param:
        monkeypatch.setattr(custom_pooling, "BLOCK_BYTES", request.param)
    return request.param


# ---------------------------------------------------------------- values


def test_median_of_worked_example_11():
    tens = [[12, 20, 30, 0], [20, 12, 2, 0], [0, 70, 5, 2], [8, 2, 90, 3]]
    np.testing.assert_array_equal(cyconv.pool2d([tens], np.median, 2), [[[16, 1], [5, 4]]])
    np.testing.assert_array_equal(cyconv.pool2d([tens], np.ptp, 2), [[[8, 30], [70, 88]]])
    np.testing.assert_array_equal(cyconv.pool2d([tens], np.mean, 2), [[[16, 8], [20, 25]]])


def test_windows_hold_their_cells_in_row_major_order(data_format):
    """And what stands outside the input is pad_value."""
    for seed in range(150):
        g = geometries.pooling(seed)
        x = integers(np.random.default_rng(seed), g.x_shape)
        seen = []
        y = cyconv.pool(in_layout(x, data_format), lambda w, axis: seen.append(w.copy()) or w.sum(axis=axis),  # noqa: B023
                        **g.parameters, pad_value=77, data_format=data_format)
        expected = reference.window_cells(x, g.windows, g.outputs, 77)
        if data_format == "channels_last":
            expected = np.moveaxis(expected, 1, -2)
        np.testing.assert_array_equal(np.concatenate(seen), expected.reshape(-1, expected.shape[-1]))
        np.testing.assert_array_equal(y, expected.sum(axis=-1))


def test_exact_on_integers(dtype, data_format, block_bytes):
    for seed in range(200 if block_bytes is None else 4):
        g = geometries.pooling(seed)
        rng = np.random.default_rng(seed)
        x, dy = (in_layout(integers(rng, shape).astype(dtype), data_format) for shape in (g.x_shape, g.y_shape))
        window = {**g.parameters, "data_format": data_format}
        y = cyconv.pool(x, np.sum, **window)
        np.testing.assert_array_equal(y, cyconv.sum_pool(x, **window))
        np.testing.assert_array_equal(cyconv.pool(x, np.max, **window, pad_value=-np.inf), cyconv.max_pool(x, **window))
        dx = cyconv.pool_backward(dy, x, vjp_of_sum, **window)
        assert_same_bits(dx + 0, cyconv.sum_pool_backward(dy, x.shape, **window) + 0, g)


def test_both_layouts_give_the_same_bits(rng, block_bytes):
    x, dy = rng.standard_normal((2, 5, 9, 8)), rng.standard_normal((2, 5, 5, 5))
    window = {"kernel_size": 3, "stride": 2, "padding": ((1, 1), (2, 1))}
    y, backward = cyconv.pool2d(x, np.std, **window, func_vjp=vjp_of_squares)
    y_last, backward_last = cyconv.pool2d(in_layout(x, "channels_last"), np.std, **window, func_vjp=vjp_of_squares,
                                          data_format="channels_last")
    assert_same_bits(channels_first(y_last, "channels_last"), y)
    assert_same_bits(channels_first(backward_last(in_layout(dy, "channels_last")), "channels_last"), backward(dy))


def test_nan_functions_leave_the_padding_out(rng):
    x = rng.standard_normal((1, 3, 6, 7))
    y = cyconv.pool2d(x, np.nanmax, 3, 2, 1, pad_value=np.nan)
    assert_same_bits(y, cyconv.max_pool2d(x, 3, 2, 1))


def test_blocks_are_of_bounded_size(rng):
    sizes = []

    def func(windows, axis):
        sizes.append(windows.nbytes)
        return windows.sum(axis=axis)

    x = rng.standard_normal((4, 8, 64, 64), np.float32)
    y = cyconv.pool2d(x, func, 5, 1)
    assert max(sizes) <= 2**20 and sum(sizes) == y.size * 25 * 4
    assert len(sizes) < 60


# ---------------------------------------------------------------- dtypes and arrays


@pytest.mark.parametrize("stored, pad_value, seen", [
    ("u1", 0, "u1"), ("u1", 255, "u1"), ("i4", 0, "i4"), ("i4", np.nan, "f8"), ("?", 0, "i8"), ("?", True, "?"),
    ("f4", np.nan, "f4"), (">f4", 0, "=f4"), ("f2", 0.5, "f2"), ("f8", np.float32(1), "f8"), ("i8", 2**60, "i8"),
])
def test_windows_have_the_common_dtype_of_x_and_pad_value(stored, pad_value, seen):
    x = np.ones((1, 1, 3)).astype(stored)
    dtypes = []
    cyconv.pool(x, lambda w, axis: dtypes.append(w.dtype) or w[:, 0], 2, 1, 1, pad_value=pad_value)
    assert dtypes == [np.dtype(seen)]


def test_result_has_the_dtype_of_the_function():
    x = np.array([[[0, 3, 0, 0]]], np.int16)
    for func, expected in ((np.any, [True, False]), (np.median, [1.5, 0.0]), (np.argmax, [1, 0]), (np.max, [3, 0])):
        y = cyconv.pool(x, func, 2)
        assert y.dtype == func(x[0], axis=-1).dtype and y.tolist() == [[expected]]


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_array_gives_the_same(kind, data_format):
    change = KINDS[kind]
    for seed in range(8):
        g = geometries.pooling(seed, rank=2)
        rng = np.random.default_rng(seed)
        x, dy = (in_layout(integers(rng, s).astype(float), data_format) for s in (g.x_shape, g.y_shape))
        window = {**g.parameters, "data_format": data_format}
        np.testing.assert_array_equal(cyconv.pool2d(change(x), np.ptp, **window), cyconv.pool2d(x, np.ptp, **window))
        np.testing.assert_array_equal(cyconv.pool2d_backward(change(dy), change(x), vjp_of_squares, **window),
                                      cyconv.pool2d_backward(dy, x, vjp_of_squares, **window))


@pytest.mark.parametrize("x_shape, y_shape, padding", [
    ((0, 3, 4, 4), (0, 3, 2, 2), 0), ((2, 0, 4, 4), (2, 0, 2, 2), 0), ((2, 3, 0, 4), (2, 3, 1, 3), 1),
])
def test_empty_axes(x_shape, y_shape, padding):
    x = np.ones(x_shape, np.float32)
    y, backward = cyconv.pool2d(x, np.median, 2, padding=padding, pad_value=5, func_vjp=vjp_of_sum)
    assert y.shape == y_shape and y.dtype == np.float32 and (y == 5).all()
    assert backward(y).shape == x_shape


def test_unbatched_input_gives_an_unbatched_result(rng, data_format):
    x = in_layout(rng.standard_normal((1, 3, 6, 5)), data_format)
    y, backward = cyconv.pool2d(x, np.median, 2, 1, func_vjp=vjp_of_squares, data_format=data_format)
    single, backward_single = cyconv.pool2d(x[0], np.median, 2, 1, func_vjp=vjp_of_squares, data_format=data_format)
    assert_same_bits(single, y[0])
    assert_same_bits(backward_single(y[0]), backward(y)[0])


def test_input_is_never_changed(rng):
    x = rng.standard_normal((1, 2, 4, 4))
    before = x.copy()

    def careless(windows, axis):
        windows[...] = 0
        return windows.sum(axis=axis)

    cyconv.pool2d(x, careless, 1)
    np.testing.assert_array_equal(x, before)


# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_gradient_agrees_with_central_differences(rank, data_format, rng):
    x = in_layout(rng.standard_normal((2, 3, *(6, 5, 4)[:rank])), data_format)
    window = {"kernel_size": 2, "stride": 1, "padding": 1, "pad_value": 3, "data_format": data_format}
    y, backward = cyconv.pool(x, sum_of_squares, **window, func_vjp=vjp_of_squares)
    dy = rng.standard_normal(y.shape)
    expected = central_differences(lambda: np.vdot(cyconv.pool(x, sum_of_squares, **window), dy), x)
    assert_same_gradient(backward(dy), expected)
    assert_same_bits(backward(dy), cyconv.pool_backward(dy, x, vjp_of_squares, **window))


def test_a_small_network_can_pool(rng):
    """tanh of a weighted sum of the cells of a window: a convolution with its activation, channel by channel."""
    weight = rng.standard_normal(4)
    x, dy = rng.standard_normal((2, 1, 6, 5)), rng.standard_normal((2, 1, 3, 2))

    def network(windows, axis):
        return np.tanh(windows @ weight)

    def vjp(windows, grad):
        return np.outer(grad * (1 - np.tanh(windows @ weight) ** 2), weight)

    y, backward = cyconv.pool2d(x, network, 2, func_vjp=vjp)
    kernel = weight.reshape(1, 1, 2, 2)
    expected = np.tanh(cyconv.conv2d(x, kernel, stride=2))
    np.testing.assert_allclose(y, expected, rtol=1e-13)
    dx = cyconv.conv2d_grad_input(dy * (1 - expected**2), kernel, x.shape, stride=2)
    np.testing.assert_allclose(backward(dy), dx, rtol=1e-12)


# ---------------------------------------------------------------- errors


def test_functions_that_do_not_keep_the_contract_are_refused(monkeypatch):
    x = np.ones((1, 1, 4, 4))
    with pytest.raises(TypeError, match="^pool2d: func must be a function, got 'max'"):
        cyconv.pool2d(x, "max", 2)
    with pytest.raises(TypeError, match="^pool2d: func_vjp must be a function, got 3"):
        cyconv.pool2d(x, np.max, 2, func_vjp=3)
    with pytest.raises(ValueError, match=r"^pool2d: func must return shape \(4,\) for windows of shape \(4, 4\), got"):
        cyconv.pool2d(x, lambda windows, axis: windows, 2)
    with pytest.raises(ValueError, match=r"^pool2d_backward: func_vjp must return the shape of windows, \(4, 4\)"):
        cyconv.pool2d_backward(np.ones((1, 1, 2, 2)), x, lambda windows, grad: grad, 2)
    with pytest.raises(TypeError, match=r"^pool2d_backward: func_vjp must be a function"):
        cyconv.pool2d_backward(np.ones((1, 1, 2, 2)), x, None, 2)
    with pytest.raises(ValueError, match=r"^pool2d_backward: grad_out must have shape \(1, 1, 2, 2\), got \(2, 2\)"):
        cyconv.pool2d_backward(np.ones((2, 2)), x, vjp_of_sum, 2)
    monkeypatch.setattr(custom_pooling, "BLOCK_BYTES", 1)
    found = iter([1.0, 2, 3, 4])
    with pytest.raises(TypeError, match="^pool2d: func must always return the same dtype, got float64 and int64"):
        cyconv.pool2d(x, lambda windows, axis: np.array([next(found)]), 2)


@pytest.mark.parametrize("pad_value, error, message", [
    ("0", TypeError, "pad_value must be a number, got '0'"), (None, TypeError, "pad_value must be a number"),
    ([0], TypeError, "pad_value must be a number"), (2j, TypeError, "pad_value must be a number"),
    (-1, ValueError, "pad_value -1 does not fit the dtype uint8 of x"), (256, ValueError, "pad_value 256 does not fit"),
    (10**30, ValueError, "pad_value"),
])
def test_pad_value_that_is_none_is_refused(pad_value, error, message):
    with pytest.raises(error, match=f"^pool1d: {message}"):
        cyconv.pool1d(np.ones((1, 1, 4), np.uint8), np.max, 2, pad_value=pad_value)


def test_errors_of_the_function_come_through():
    def broken(windows, axis):
        raise ZeroDivisionError("from inside")

    with pytest.raises(ZeroDivisionError, match="from inside"):
        cyconv.pool1d(np.ones((1, 1, 4)), broken, 2)


@given(st.fixed_dictionaries({}, optional={name: st.sampled_from(HOSTILE) for name in (
    "kernel_size", "stride", "padding", "dilation", "data_format", "pad_value", "func_vjp")}))
def test_hostile_parameters_are_computed_or_refused_by_name(parameters):
    try:
        cyconv.pool2d(**{"x": np.ones((1, 1, 3, 3)), "func": np.max, "kernel_size": 2, **parameters})
    except (ValueError, TypeError) as error:
        assert any(name in str(error) for name in (*parameters, "effective kernel", "padded input"))
