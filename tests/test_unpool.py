"""Unpooling and maxout with their gradients: worked values, exact integers, sizes, hostile indices, errors."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cyconv
from cyconv import _kernels
from cyconv.selftest import geometries, reference
from cyconv.selftest.arrays import HOSTILE, KINDS, LAYOUTS, assert_same_bits, channels_first, in_layout, integers

INF, NAN = np.inf, np.nan
FLOATS = (np.float32, np.float64)


# ---------------------------------------------------------------- unpooling: values


def test_maxima_go_back_to_where_they_stood(isa, data_format):
    tens = np.array([[[[12, 20, 30, 0], [20, 12, 2, 0], [0, 70, 5, 2], [8, 2, 90, 3]]]])
    x = in_layout(tens, data_format)
    values, indices = cyconv.max_pool2d(x, 2, return_indices=True, data_format=data_format)
    y = cyconv.max_unpool2d(values, indices, 2, data_format=data_format)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(channels_first(y, data_format)[0, 0], [
        [0, 20, 30, 0], [0, 0, 0, 0], [0, 70, 0, 0], [0, 0, 90, 0]])


def test_last_of_equal_indices_counts_and_each_receives_the_gradient(isa, data_format):
    x, indices = (in_layout(np.array([[a]]), data_format) for a in ([1.0, 2, 3, 4], [2, 2, -1, 0]))
    y = cyconv.max_unpool1d(x, indices, 1, data_format=data_format)
    np.testing.assert_array_equal(y.ravel(), [4, 0, 2, 0])
    dy = in_layout(np.array([[[10.0, 20, 30, 40]]]), data_format)
    dx = cyconv.max_unpool1d_backward(dy, indices, data_format=data_format)
    np.testing.assert_array_equal(dx.ravel(), [30, 30, 0, 10])


N_BLOCKS, BLOCK = 3, 100


def check_exact(seed, instruction_sets):
    """Unpooling of one pooling and its gradient, in every instruction set, dtype and layout."""
    g = geometries.pooling(seed)
    rng = np.random.default_rng(seed)
    x, dy = integers(rng, g.y_shape), integers(rng, g.x_shape)
    _, indices = reference.max_pool(integers(rng, g.x_shape).astype(float), g.windows, g.outputs)
    y = reference.max_unpool(x, indices, g.sizes)
    planes = np.concatenate([dy.reshape(*dy.shape[:2], -1 if dy.size else 0), np.zeros((*dy.shape[:2], 1))], axis=2)
    dx = np.take_along_axis(planes, indices.reshape(*x.shape[:2], np.prod(g.outputs)), axis=2).reshape(x.shape)
    window = {name: value for name, value in g.parameters.items() if name != "ceil_mode"}
    for isa, dtype, data_format in product(instruction_sets, FLOATS, LAYOUTS):
        _kernels.use(isa)
        fx, fdy, places = (in_layout(a, data_format) for a in (x.astype(dtype), dy.astype(dtype), indices))
        common = {"data_format": data_format, "n_threads": g.n_threads}
        got = cyconv.max_unpool(fx, places, **window, output_size=g.sizes, **common)
        assert np.array_equal(channels_first(got, data_format), y), (isa, dtype, data_format, g)
        got = cyconv.max_unpool_backward(fdy, places, **common)
        assert np.array_equal(channels_first(got, data_format), dx), (isa, dtype, data_format, g)


@pytest.mark.parametrize("block", range(N_BLOCKS))
def test_exact_on_integers(block, every_isa, threads_at_any_size, nan_in_new_arrays):
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        check_exact(seed, every_isa)


@pytest.mark.campaign
@pytest.mark.parametrize("block", range(N_BLOCKS, N_BLOCKS + 50))
def test_exact_on_many_more_integers(block, every_isa, threads_at_any_size, nan_in_new_arrays):
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        check_exact(seed, every_isa)


def test_unpooling_undoes_a_pooling_and_is_adjoint_to_its_gradient(dtype, data_format, rng):
    """pool(unpool(pool(x))) = pool(x) for x > 0, <unpool(x), y> = <x, unpool_backward(y)>."""
    x = in_layout(rng.random((2, 3, 9, 8)).astype(dtype) + 1, data_format)
    common = {"data_format": data_format}
    values, indices = cyconv.max_pool2d(x, 2, return_indices=True, **common)
    back = cyconv.max_unpool2d(values, indices, 2, output_size=x.shape, **common)
    assert back.shape == x.shape
    assert_same_bits(cyconv.max_pool2d(back, 2, **common), values)
    assert_same_bits(cyconv.max_unpool2d_backward(back, indices, **common), values)
    assert_same_bits(cyconv.max_pool2d_backward(values, indices, x.shape, **common), back)
    dy = integers(rng, x.shape)
    np.testing.assert_allclose(np.vdot(back, dy), np.vdot(values, cyconv.max_unpool2d_backward(dy, indices, **common)),
                               rtol=1e-5)


@pytest.mark.parametrize("n_threads", [2, 3])
def test_bits_do_not_depend_on_threads(n_threads, isa, threads_at_any_size, data_format, rng):
    x, indices = rng.standard_normal((2, 5, 9, 8)), rng.integers(-1, 72, (2, 5, 9, 8))
    common = {"data_format": data_format}
    x, indices = in_layout(x, data_format), in_layout(indices, data_format)
    for function, arguments in ((cyconv.max_unpool2d, (x, indices, 1)), (cyconv.max_unpool2d_backward, (x, indices))):
        expected = function(*arguments, n_threads=1, **common)
        assert_same_bits(function(*arguments, n_threads=n_threads, **common), expected)


# ---------------------------------------------------------------- unpooling: sizes


@pytest.mark.parametrize("parameters, default, least, most", [
    ({"kernel_size": 2}, 6, 5, 7), ({"kernel_size": 3}, 9, 7, 11), ({"kernel_size": 3, "stride": 2}, 7, 6, 8),
    ({"kernel_size": 3, "stride": 2, "padding": 1}, 5, 4, 6), ({"kernel_size": 2, "padding": ((0, 1),)}, 5, 4, 6),
    ({"kernel_size": 2, "stride": 1, "dilation": 3}, 6, 6, 6),
    ({"kernel_size": 2, "stride": 1, "padding": "full"}, 2, 2, 2),
])
def test_sizes_worked_by_hand(parameters, default, least, most):
    """Three values; the default and larger sizes are those of inputs with three windows."""
    x, indices = np.ones((1, 1, 3)), np.full((1, 1, 3), -1)
    assert cyconv.max_unpool(x, indices, **parameters).shape == (1, 1, default)
    for size in range(least, most + 1):
        assert cyconv.max_unpool(x, indices, **parameters, output_size=(size,)).shape == (1, 1, size)
        assert size < default or cyconv.max_pool(np.ones((1, 1, size)), **parameters).shape == x.shape
    for size in (least - 1, most + 1):
        with pytest.raises(ValueError, match=rf"^max_unpool: output_size=\({size},\) not reachable; valid range is "
                                             rf"\({least},\) to \({most},\)"):
            cyconv.max_unpool(x, indices, **parameters, output_size=(size,))


def test_padding_same_needs_the_size_of_the_result(rng):
    x = rng.random((1, 2, 7, 8))
    values, indices = cyconv.max_pool2d(x, 3, 2, "same", return_indices=True)
    with pytest.raises(ValueError, match="^max_unpool2d: padding='same' depends on the size of the result"):
        cyconv.max_unpool2d(values, indices, 3, 2, "same")
    y = cyconv.max_unpool2d(values, indices, 3, 2, "same", output_size=(7, 8))
    np.testing.assert_array_equal(y[y > 0], x[y > 0])


def test_output_size_is_spatial_or_the_whole_shape(data_format):
    x = in_layout(np.ones((2, 3, 2, 2)), data_format)
    indices, common = np.zeros(x.shape, int), {"data_format": data_format}
    shape = in_layout(np.ones((2, 3, 5, 4)), data_format).shape
    assert cyconv.max_unpool2d(x, indices, 2, output_size=(5, 4), **common).shape == shape
    assert cyconv.max_unpool2d(x, indices, 2, output_size=shape, **common).shape == shape
    assert cyconv.max_unpool2d(x[0], indices[0], 2, output_size=shape[1:], **common).shape == shape[1:]
    with pytest.raises(ValueError, match=r"^max_unpool2d: output_size .* differ in N or C"):
        cyconv.max_unpool2d(x, indices, 2, output_size=(1, *shape[1:]), **common)
    for wrong in ((5,), (5, 4, 3), 5, (5, -4), (5, 4.0), "54"):
        with pytest.raises(ValueError, match=r"^max_unpool2d: output_size must be 2 or 4 sizes >= 0, got"):
            cyconv.max_unpool2d(x, indices, 2, output_size=wrong, **common)


# ---------------------------------------------------------------- unpooling: indices, arrays, errors


@pytest.mark.parametrize("bad, stored", [
    (16, "i8"), (-2, "i8"), (118, "i4"), (-2, "i1"), (255, "u1"), (2**32 + 3, "i8"), (-2**63, "i8"),
    (2**63, "u8"), (2**64 - 1, "u8"),
])
def test_index_outside_the_plane_is_refused(bad, stored, isa, data_format):
    indices = np.zeros((1, 2, 2, 2), stored)
    indices[0, 1, 1, 0] = bad
    indices = in_layout(indices, data_format)
    position = r"\(0, 1, 0, 1\)" if data_format == "channels_last" else r"\(0, 1, 1, 0\)"
    message = f"index {bad} at position {position} is outside the output plane of 16 cells$"
    with pytest.raises(ValueError, match=f"^max_unpool2d: {message}"):
        cyconv.max_unpool2d(np.ones(indices.shape), indices, 2, data_format=data_format)
    plane = in_layout(np.ones((1, 2, 4, 4)), data_format)
    with pytest.raises(ValueError, match=f"^max_unpool2d_backward: {message}"):
        cyconv.max_unpool2d_backward(plane, indices, data_format=data_format)


@pytest.mark.parametrize("bad", [400, 500, -2, -30])
@pytest.mark.parametrize("position", [0, 17, 99])
def test_no_value_is_written_at_an_index_outside_the_plane(position, bad, isa, guarded_arrays):
    indices = np.zeros((1, 1, 10, 10), int)
    indices.flat[position] = bad
    for call in (lambda: cyconv.max_unpool2d(np.ones(indices.shape), indices, 2),
                 lambda: cyconv.max_unpool2d_backward(np.ones((1, 1, 20, 20)), indices),
                 lambda: cyconv.maxout_backward(np.ones(indices.shape), indices, 2, axis=2)):
        with pytest.raises(ValueError, match="outside the (in|out)put plane"):
            call()
    guarded_arrays()


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 20), min_size=4, max_size=4))
def test_hostile_indices_are_placed_or_refused(indices):
    indices = np.array(indices).reshape(1, 1, 2, 2)
    is_valid = ((indices >= -1) & (indices < 16)).all()
    try:
        y = cyconv.max_unpool2d(np.ones((1, 1, 2, 2)), indices, 2)
        dx = cyconv.max_unpool2d_backward(np.ones((1, 1, 4, 4)), indices)
    except ValueError:
        assert not is_valid
    else:
        assert is_valid and y.sum() == len(set(indices[indices >= 0])) and dx.sum() == (indices >= 0).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_array_gives_the_same(kind, isa, data_format, rng):
    change = KINDS[kind]
    x, indices, plane = (in_layout(a, data_format) for a in (
        rng.standard_normal((2, 3, 4, 5)), rng.integers(-1, 80, (2, 3, 4, 5)), rng.standard_normal((2, 3, 8, 10))))
    common = {"data_format": data_format}
    np.testing.assert_array_equal(cyconv.max_unpool2d(change(x), change(indices), 2, **common),
                                  cyconv.max_unpool2d(x, indices, 2, **common))
    np.testing.assert_array_equal(cyconv.max_unpool2d_backward(change(plane), change(indices), **common),
                                  cyconv.max_unpool2d_backward(plane, indices, **common))
    axis = 2 if data_format == "channels_first" else 1
    np.testing.assert_array_equal(cyconv.maxout(change(x), 2, axis), cyconv.maxout(x, 2, axis))


@pytest.mark.parametrize("kept", [np.uint8, np.int64, np.float16, bool, np.float32, ">f8"])
def test_unpooling_and_maxout_keep_the_dtype_of_x(kept):
    x = np.array([[[1, 0, 1, 1]]]).astype(kept)
    y = cyconv.max_unpool1d(x, [[[0, 2, 4, 7]]], 2)
    assert y.dtype == np.dtype(kept).newbyteorder("=") and y.tolist() == [[[1, 0, 0, 0, 1, 0, 0, 1]]]
    assert cyconv.maxout(x, 2, axis=2).dtype == y.dtype


def test_empty_axes():
    for shape in ((0, 3, 2, 2), (2, 0, 2, 2)):
        assert cyconv.max_unpool2d(np.ones(shape), np.zeros(shape, int), 2).shape == (*shape[:2], 4, 4)
        assert cyconv.max_unpool2d_backward(np.ones((*shape[:2], 4, 4)), np.zeros(shape, int)).shape == shape
    assert cyconv.maxout(np.ones((0, 4)), 2).shape == (0, 2)
    assert cyconv.maxout(np.ones((3, 4, 0)), 2).shape == (3, 2, 0)
    values, indices = cyconv.maxout(np.ones((3, 0, 5), np.int8), 2, return_indices=True)
    assert values.shape == indices.shape == (3, 0, 5) and values.dtype == np.int8
    assert cyconv.maxout_backward(values, indices, 2).shape == (3, 0, 5)


@pytest.mark.parametrize("arguments, error, message", [
    ({"indices": np.zeros((1, 1, 2, 3), int)}, ValueError, r"indices must have shape \(1, 1, 2, 2\), got"),
    ({"indices": np.zeros((1, 1, 2, 2))}, TypeError, r"indices must be integers, got dtype float64"),
    ({"kernel_size": 0}, ValueError, r"kernel_size must be >= 1 on every axis, got 0"),
    ({"stride": (1, 2, 3)}, ValueError, r"stride must be an int or 2 ints"),
    ({"padding": 9}, ValueError, r"padding 9 is larger than the windows of \(2, 2\) outputs"),
    ({"padding": "some"}, ValueError, r"unknown padding 'some'"),
    ({"kernel_size": 2**31 - 1}, ValueError, r"an array of shape .* would have"),
    ({"x": np.ones((2, 2)), "indices": np.zeros((2, 2), int)}, ValueError, r"x must have 4 dimensions"),
])
def test_error_names_the_argument_and_the_value(arguments, error, message):
    with pytest.raises(error, match=f"^max_unpool2d: {message}"):
        cyconv.max_unpool2d(**{"x": np.ones((1, 1, 2, 2)), "indices": np.zeros((1, 1, 2, 2), int), "kernel_size": 2,
                               **arguments})


def test_gradient_of_unpooling_refuses_other_channels_and_dimensions():
    with pytest.raises(ValueError, match=r"^max_unpool2d_backward: grad_out of shape .* and indices of shape"):
        cyconv.max_unpool2d_backward(np.ones((1, 2, 4, 4)), np.zeros((1, 3, 2, 2), int))
    with pytest.raises(ValueError, match=r"^max_unpool2d_backward: indices must have 4 dimensions"):
        cyconv.max_unpool2d_backward(np.ones((1, 2, 4, 4)), np.zeros((2, 2, 2), int))


@given(st.fixed_dictionaries({}, optional={name: st.sampled_from(HOSTILE) for name in (
    "kernel_size", "stride", "padding", "dilation", "output_size")}))
def test_hostile_parameters_are_computed_or_refused_by_name(parameters):
    x = np.ones((1, 1, 3, 3))
    try:
        cyconv.max_unpool2d(**{"x": x, "indices": np.zeros(x.shape, int), "kernel_size": 2, **parameters})
    except (ValueError, TypeError) as error:
        assert any(name in str(error) for name in (*parameters, "effective kernel", "padded input", "would have"))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_unpooling_is_that_of_pytorch(rank, rng):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((2, 3, *(9, 8, 7)[:rank]))
    values, indices = cyconv.max_pool(x, 3, 2, 1, return_indices=True)
    tensor = torch.tensor(values, requires_grad=True)
    expected = getattr(torch.nn.functional, f"max_unpool{rank}d")(
        tensor, torch.tensor(indices), 3, 2, 1, output_size=x.shape[2:])
    y = cyconv.max_unpool(values, indices, 3, 2, 1, output_size=x.shape[2:])
    assert_same_bits(y, expected.detach().numpy())
    expected.backward(torch.tensor(x))
    assert_same_bits(cyconv.max_unpool_backward(x, indices), tensor.grad.numpy())


# ---------------------------------------------------------------- maxout


@pytest.mark.parametrize("shape, axis, pieces", [
    ((6,), 0, 3), ((4, 6), 1, 2), ((5, 7, 6), -1, 6), ((2, 12, 3, 4), 1, 4), ((2, 3, 4, 12), -1, 3),
    ((3, 4, 5, 6, 2), 3, 2), ((70, 33), 0, 35), ((2, 5), 1, 1), ((1, 130, 40), 1, 65),
])
def test_maxout_is_the_maximum_over_groups(shape, axis, pieces, isa, dtype, rng):
    x = integers(rng, shape).astype(dtype)
    values, indices = cyconv.maxout(x, pieces, axis, return_indices=True)
    groups = np.moveaxis(x, axis, -1)
    groups = groups.reshape(*groups.shape[:-1], -1, pieces)
    places = groups.argmax(-1) + pieces * np.arange(groups.shape[-2])
    np.testing.assert_array_equal(np.moveaxis(values, axis, -1), groups.max(-1))
    np.testing.assert_array_equal(np.moveaxis(indices, axis, -1), places)
    dy = integers(rng, values.shape).astype(dtype)
    dx = cyconv.maxout_backward(dy, indices, pieces, axis)
    expected = np.zeros(np.moveaxis(x, axis, -1).shape, dtype)
    np.put_along_axis(expected, places, np.moveaxis(dy, axis, -1), -1)
    np.testing.assert_array_equal(np.moveaxis(dx, axis, -1), expected)


@pytest.mark.parametrize("group, value, place", [((1, 3, 3), 3, 1), ((NAN, 1, NAN), NAN, 0), ((1, NAN, 2), NAN, 1),
                                                 ((-INF, -INF, -INF), -INF, 0)])
def test_first_of_a_group_wins_and_nan_before_numbers(group, value, place, isa, dtype):
    for axis in (0, 1, 2):
        x = np.broadcast_to(np.moveaxis(np.array(group, dtype).reshape(3, 1, 1), 0, axis), np.roll((3, 17, 17), axis))
        values, indices = cyconv.maxout(x, 3, axis, return_indices=True)
        np.testing.assert_array_equal(values, np.full_like(values, value))
        assert (indices == place).all()


@pytest.mark.parametrize("arguments, error, message", [
    ({"pieces": 4}, ValueError, r"pieces=4 must divide the 6 channels of x \(axis 1 of shape \(2, 6\)\)"),
    ({"pieces": 0}, ValueError, r"pieces must be >= 1, got 0"), ({"pieces": 2.0}, TypeError, r"pieces must be an int"),
    ({"axis": 2}, ValueError, r"axis must be an int from -2 to 1 for x of shape \(2, 6\), got 2"),
    ({"axis": None}, ValueError, r"axis must be an int"),
    ({"x": 5.0}, ValueError, r"x must have at least one axis, got a single number"),
    ({"x": np.full((1, 2), 2**60)}, TypeError, r"x has int64 values beyond 2\*\*53"),
])
def test_error_of_maxout_names_the_argument_and_the_value(arguments, error, message):
    with pytest.raises(error, match=f"^maxout: {message}"):
        cyconv.maxout(**{"x": np.ones((2, 6)), "pieces": 2, **arguments})


def test_gradient_of_maxout_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"^maxout_backward: index 6 at position \(1, 2\) is outside"):
        cyconv.maxout_backward(np.ones((2, 3)), np.array([[0, 2, 4], [0, 2, 6]]), 2)
    with pytest.raises(ValueError, match=r"^maxout_backward: indices must have shape \(2, 3\), got \(2, 2\)"):
        cyconv.maxout_backward(np.ones((2, 3)), np.zeros((2, 2), int), 2)
