"""Convolutions with other borders, transposed, depthwise, separable, tiled and local ones, and their gradients.

Every kind is compared with the plain definitions on the same random geometries, exactly on integers.
"""

import tracemalloc
from itertools import product
from random import Random

import numpy as np
import pytest

import cyconv
from cyconv import _kernels
from cyconv.functional import _borders
from cyconv.selftest import geometries, reference
from cyconv.selftest.arrays import KINDS, LAYOUTS, assert_same_bits, channels_first, in_layout, integers

FLOATS = (np.float32, np.float64)
MODES = ("reflect", "symmetric", "edge", "wrap")
N_BLOCKS, BLOCK = 12, 25


# ---------------------------------------------------------------- what each kind computes


def bordered(seed, g):
    """Padding with other cells than zeros, or None where the geometry has none."""
    if any(w.input_dilation > 1 for w in g.windows) or not all(g.sizes):
        return None
    mode = Random(seed).choice(MODES)
    x, weight, bias, dy = g.integers()
    padded, bare = reference.with_border(x, g.windows, mode), [w._replace(low=0, high=0) for w in g.windows]
    expected = (reference.conv(padded, weight, bias, bare, g.outputs, g.groups),
                reference.fold_border(reference.conv_grad_input(dy, weight, padded.shape[2:], bare, g.groups),
                                      g.sizes, g.windows, mode),
                reference.conv_grad_weight(dy, padded, bare, g.groups))
    return cyconv.conv, cyconv.conv_backward, (x, weight, bias, dy), g.parameters | {"padding_mode": mode}, expected


def transposed(seed, g):
    """From the outputs of the geometry back to its inputs."""
    if any(w.input_dilation > 1 for w in g.windows) or not all(g.sizes):
        return None
    weight = g.integers()[1]
    rng = np.random.default_rng(seed)
    x, bias, dy = integers(rng, g.y_shape), integers(rng, g.x_shape[1:2]), integers(rng, g.x_shape)
    parameters = {name: g.parameters[name] for name in ("stride", "padding", "dilation", "groups", "flip")}
    smallest = [(o - 1) * w.stride - w.low - w.high + w.extent for o, w in zip(g.outputs, g.windows)]
    if any(not 0 <= n - s < max(w.stride, w.dilation) for n, s, w in zip(g.sizes, smallest, g.windows)):
        return None
    expected = (reference.conv_grad_input(x, weight, g.sizes, g.windows, g.groups)
                + bias.reshape(-1, *[1] * len(g.sizes)),
                reference.conv(dy, weight, None, g.windows, g.outputs, g.groups),
                reference.conv_grad_weight(x, dy, g.windows, g.groups))

    def forward(x, weight, bias, **more):
        return cyconv.conv_transpose(x, weight, bias, output_size=g.sizes, **more)

    return forward, cyconv.conv_transpose_backward, (x, weight, bias, dy), parameters, expected


def tiled(seed, g, tiles=None, forward=cyconv.tiled_conv, backward=cyconv.tiled_conv_backward):
    """As many convolutions as tiles, of each of which every so many outputs count."""
    rng = Random(seed)
    tiles = tiles or [rng.randint(1, 4) for _ in g.sizes]
    x, _, bias, dy = g.integers()
    weight = integers(np.random.default_rng(seed), (*tiles, *g.weight_shape))
    y, dx, dweight = np.zeros(g.y_shape, int), np.zeros(g.x_shape, int), np.zeros_like(weight)
    for tile in product(*map(range, tiles)):
        own = (..., *(slice(t, None, step) for t, step in zip(tile, tiles)))
        y[own] = reference.conv(x, weight[tile], bias, g.windows, g.outputs, g.groups)[own]
        part = np.zeros_like(dy)
        part[own] = dy[own]
        dx += reference.conv_grad_input(part, weight[tile], g.sizes, g.windows, g.groups)
        dweight[tile] = reference.conv_grad_weight(part, x, g.windows, g.groups)
    return forward, backward, (x, weight, bias, dy), g.parameters, (y, dx, dweight)


def local(seed, g):
    if np.prod(g.outputs) * np.prod(g.weight_shape) > 200_000:
        return None
    return tiled(seed, g, list(g.outputs), cyconv.local_conv, cyconv.local_conv_backward)


def depthwise(seed, g):
    if g.in_channels > 1:
        return None
    x, weight, bias, dy = g.integers()
    expected = (reference.conv(x, weight, bias, g.windows, g.outputs, g.groups),
                reference.conv_grad_input(dy, weight, g.sizes, g.windows, g.groups),
                reference.conv_grad_weight(dy, x, g.windows, g.groups))
    parameters = {name: value for name, value in g.parameters.items() if name != "groups"}
    return cyconv.depthwise_conv, cyconv.depthwise_conv_backward, (x, weight, bias, dy), parameters, expected


ALL = (bordered, transposed, tiled, local, depthwise)


# ---------------------------------------------------------------- exact on integers


def check_exact(kind, seed, instruction_sets):
    g = geometries.convolution(seed)
    case = kind(seed, g)
    if case is None:
        return False
    forward, backward, (x, weight, bias, dy), parameters, expected = case
    expected = (*expected, reference.conv_grad_bias(dy))
    for isa, dtype, data_format in product(instruction_sets, FLOATS, LAYOUTS):
        _kernels.use(isa)
        values = [in_layout(x.astype(dtype), data_format), weight.astype(dtype), bias.astype(dtype)]
        grad = in_layout(dy.astype(dtype), data_format)
        more = parameters | {"data_format": data_format, "n_threads": g.n_threads}
        actual = forward(*values, **more), *backward(grad, *values[:2], **more)
        layouts = (data_format, data_format, "channels_first", "channels_first")
        for name, layout, got, want in zip(("y", "dx", "dweight", "dbias"), layouts, actual, expected):
            got = got if name in ("dweight", "dbias") else channels_first(got, layout)
            assert got.dtype == dtype and np.array_equal(got, want), (kind.__name__, name, isa, dtype, data_format, g)
    return True


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("block", range(N_BLOCKS))
def test_exact_on_integers(kind, block, every_isa, threads_at_any_size, nan_in_new_arrays, monkeypatch):
    monkeypatch.setattr(_borders, "BLOCK", (1, 100, 1 << 17)[block % 3])
    checked = [check_exact(kind, seed, every_isa) for seed in range(block * BLOCK, (block + 1) * BLOCK)]
    assert any(checked)


@pytest.mark.campaign
@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("block", range(N_BLOCKS, 300))
def test_exact_on_many_more_integers(kind, block, every_isa, threads_at_any_size, nan_in_new_arrays, monkeypatch):
    monkeypatch.setattr(_borders, "BLOCK", (1, 100, 1 << 17)[block % 3])
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        check_exact(kind, seed, every_isa)


@pytest.mark.parametrize("kind", ALL)
def test_bits_do_not_depend_on_threads(kind, isa, threads_at_any_size):
    for seed in range(40):
        case = kind(seed, geometries.convolution(seed))
        if case is None:
            continue
        forward, backward, arrays, parameters, _ = case
        rng = np.random.default_rng(seed)
        x, weight, bias, dy = (rng.standard_normal(a.shape, np.float32) for a in arrays)
        one, *others = [(forward(x, weight, bias, **parameters, n_threads=n),
                         *backward(dy, x, weight, **parameters, n_threads=n)) for n in (1, 2, 3, 7)]
        for other in others:
            for a, b in zip(one, other):
                assert_same_bits(b, a, seed)


@pytest.mark.parametrize("kind", ALL)
def test_bits_do_not_depend_on_the_other_samples_of_a_batch(kind, isa):
    for seed in range(40):
        g = geometries.convolution(seed)
        case = kind(seed, g)
        if case is None or g.batch < 2:
            continue
        forward, backward, arrays, parameters, _ = case
        rng = np.random.default_rng(seed)
        x, weight, bias, dy = (rng.standard_normal(a.shape, np.float32) for a in arrays)
        assert_same_bits(forward(x[1:], weight, bias, **parameters), forward(x, weight, bias, **parameters)[1:])
        assert_same_bits(backward(dy[1:], x[1:], weight, **parameters).x, backward(dy, x, weight, **parameters).x[1:])


# ---------------------------------------------------------------- borders


@pytest.mark.parametrize("mode, expected", [
    ("reflect", [3, 4, 3, 2, 1, 2, 3, 4, 3, 2, 1]),
    ("symmetric", [4, 3, 2, 1, 1, 2, 3, 4, 4, 3, 2]),
    ("edge", [1, 1, 1, 1, 1, 2, 3, 4, 4, 4, 4]),
    ("replicate", [1, 1, 1, 1, 1, 2, 3, 4, 4, 4, 4]),
    ("wrap", [1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3]),
    ("circular", [1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3]),
    ("zeros", [0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0]),
    ("constant", [0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0]),
])
def test_an_identity_kernel_shows_the_border(mode, expected):
    x = np.array([[[1.0, 2, 3, 4]]])
    y = cyconv.conv1d(x, np.ones((1, 1, 1)), padding=((4, 3),), padding_mode=mode)
    np.testing.assert_array_equal(y[0, 0], expected)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("mode", MODES)
def test_border_cells_are_those_of_numpy_pad(mode, n):
    for low, high in product(range(0, 13, 3), repeat=2):
        expected = np.pad(np.arange(n), (low, high), mode=mode)
        np.testing.assert_array_equal(_borders.cells(mode, range(-low, n + high), n), expected)


@pytest.mark.parametrize("mode", MODES)
def test_a_padded_argument_is_numpy_pad_to_the_bit(mode, isa, dtype, data_format, rng):
    x = rng.standard_normal((2, 5, 11, 9)).astype(dtype)
    weight = rng.standard_normal((7, 5, 3, 4)).astype(dtype)
    padded = np.pad(x, ((0, 0), (0, 0), (2, 1), (3, 4)), mode=mode)
    y = cyconv.conv2d(in_layout(x, data_format), weight, padding=((2, 1), (3, 4)), padding_mode=mode, stride=(1, 2),
                      data_format=data_format)
    assert_same_bits(channels_first(y, data_format), cyconv.conv2d(padded, weight, stride=(1, 2)))


def test_huge_dilations_and_paddings_take_no_more_memory_than_their_outputs():
    y = cyconv.conv1d(np.arange(5.0).reshape(1, 1, 5), np.ones((1, 1, 2)), padding=2**29, dilation=2**30,
                      stride=2**30, padding_mode="wrap")
    np.testing.assert_array_equal(y, [[[2**29 * -1 % 5 + 2**29 % 5]]])


@pytest.mark.parametrize("parameters, message", [
    ({"padding_mode": "mirror"}, "^conv2d: unknown padding_mode 'mirror'; expected one of 'zeros', "),
    ({"padding_mode": None}, "^conv2d: unknown padding_mode None"),
    ({"padding_mode": "edge", "input_dilation": 2}, r"padding_mode='edge' needs input_dilation=1, got \(2, 2\); pad x"),
])
def test_wrong_borders_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        cyconv.conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), padding=1, **parameters)


def test_nothing_can_be_repeated_in_an_empty_input():
    with pytest.raises(ValueError, match=r"padding_mode='reflect' has no cell to repeat in an input of shape \(0,\)"):
        cyconv.conv1d(np.ones((1, 1, 0)), np.ones((1, 1, 1)), padding=1, padding_mode="reflect")


def test_gradients_of_borders_with_infinities_raise_no_warning():
    dy = np.zeros((1, 1, 6))
    dy[..., 0], dy[..., 5] = np.inf, -np.inf
    dx = cyconv.conv1d_grad_input(dy, np.ones((1, 1, 3)), dy.shape, padding=1, padding_mode="wrap")
    assert np.isnan(dx[0, 0]).tolist() == [True, False, False, False, False, True]
    x = np.zeros((40, 1, 6000))
    x[0], x[-1] = np.inf, -np.inf
    grad = cyconv.conv1d_grad_weight(np.ones_like(x), x, 3, padding=1, padding_mode="edge")
    assert np.isnan(grad).all()


# ---------------------------------------------------------------- transposed


def test_a_transposed_convolution_is_the_adjoint_with_the_same_weight(isa, dtype):
    """<conv(x, w), y> = <x, conv_transpose(y, w)>, without tolerance on integers."""
    for seed in range(60):
        case = transposed(seed, geometries.convolution(seed))
        if case is None:
            continue
        forward, _, (y, weight, _, x), parameters, _ = case
        y, weight, x = (a.astype(dtype) for a in (y, weight, x))
        left = np.vdot(cyconv.conv(x, weight, **parameters).astype(int), y.astype(int))
        assert left == np.vdot(x.astype(int), forward(y, weight, None, **parameters).astype(int))


def test_a_transposed_convolution_is_the_input_gradient_to_the_bit(isa, dtype, rng):
    y = rng.standard_normal((2, 6, 5, 4)).astype(dtype)
    weight = rng.standard_normal((6, 3, 3, 2)).astype(dtype)
    expected = cyconv.conv2d_grad_input(y, weight, (2, 3, 11, 8), stride=2, padding=(0, 0))
    assert_same_bits(cyconv.conv_transpose2d(y, weight, stride=2, output_size=(11, 8)), expected)


@pytest.mark.parametrize("padding, stride, kernel, size", [
    ("valid", 2, 3, 9), ("same", 2, 3, 8), ("same_lower", 2, 3, 8), ("same", 3, 2, 12), ("same", 1, 4, 4),
    ("full", 1, 3, 2), (1, 2, 3, 7), (((0, 2),), 2, 3, 7),
])
def test_sizes_of_transposed_convolutions(padding, stride, kernel, size):
    y = cyconv.conv_transpose1d(np.ones((1, 1, 4)), np.ones((1, 1, kernel)), stride=stride, padding=padding)
    assert y.shape == (1, 1, size)


@pytest.mark.parametrize("name", ["same", "same_lower"])
@pytest.mark.parametrize("stride, kernel", [(1, 3), (1, 4), (2, 3), (2, 4), (3, 2), (2, 5), (3, 3)])
def test_same_is_adjoint_to_the_same_of_a_convolution(name, stride, kernel, rng):
    x, weight = integers(rng, (1, 1, 6 * stride)).astype(float), integers(rng, (1, 1, kernel)).astype(float)
    y = integers(rng, (1, 1, 6)).astype(float)
    forward = cyconv.conv1d(x, weight, stride=stride, padding=name)
    back = cyconv.conv_transpose1d(y, weight, stride=stride, padding=name)
    assert back.shape == x.shape and np.vdot(forward, y) == np.vdot(x, back)


def test_output_size_may_be_a_whole_shape():
    x, weight = np.ones((2, 3, 4, 5)), np.ones((3, 6, 3, 3))
    assert cyconv.conv_transpose2d(x, weight, stride=2, output_size=(2, 6, 10, 12)).shape == (2, 6, 10, 12)
    assert cyconv.conv_transpose2d(x, weight, stride=2, output_size=(9, 11)).shape == (2, 6, 9, 11)


@pytest.mark.parametrize("parameters, message", [
    ({"output_padding": (2, 0), "stride": 2},
     r"^conv_transpose2d: output_padding=\(2, 0\) must be smaller than max\(stride, dilation\)=\(2, 2\)"),
    ({"output_size": (10, 10), "stride": 2, "padding": 1},
     r"^conv_transpose2d: output_size=\(10, 10\) not reachable; valid range is \(7, 7\) to \(8, 8\)"),
    ({"padding": 4}, r"^conv_transpose2d: padding \(\(4, 4\), \(4, 4\)\) leaves outputs of size \(-2, -2\)"),
    ({"groups": 2}, "^conv_transpose2d: groups=2 must divide in_channels=3"),
    ({"groups": 0}, "^conv_transpose2d: groups must be an int >= 1, got 0"),
    ({"bias": np.ones(2)}, r"^conv_transpose2d: bias must have shape \(5,\), got \(2,\)"),
    ({"padding": "smae"}, "^conv_transpose2d: unknown padding 'smae'"),
    ({"output_padding": -1}, "output_padding must be >= 0"),
])
def test_wrong_transposed_convolutions_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        cyconv.conv_transpose2d(np.ones((1, 3, 4, 4)), np.ones((3, 5, 3, 3)), **parameters)


def test_channels_of_a_transposed_convolution_must_fit():
    with pytest.raises(ValueError, match=r"x has 4 channels but weight expects 3 \(weight.shape\[0\]=3\)"):
        cyconv.conv_transpose2d(np.ones((1, 4, 4, 4)), np.ones((3, 5, 3, 3)))
    with pytest.raises(ValueError, match=r"conv_transpose2d_backward: grad_out must have shape"):
        cyconv.conv_transpose2d_backward(np.ones((1, 4, 6, 6)), np.ones((1, 3, 4, 4)), np.ones((3, 5, 3, 3)))


def test_single_gradients_of_a_transposed_convolution(rng):
    x, weight, dy = (rng.standard_normal(shape) for shape in ((2, 4, 5, 3), (4, 3, 3, 2), (2, 6, 11, 6)))
    parameters = {"stride": 2, "groups": 2}
    grads = cyconv.conv_transpose2d_backward(dy, x, weight, **parameters)
    assert_same_bits(cyconv.conv_transpose2d_grad_input(dy, weight, x.shape, **parameters), grads.x)
    assert_same_bits(cyconv.conv_transpose2d_grad_weight(dy, x, (3, 2), **parameters), grads.weight)
    assert cyconv.conv_transpose2d_backward(dy, x, weight, needs=("bias",), **parameters)[:2] == (None, None)


# ---------------------------------------------------------------- depthwise and separable


def test_depthwise_is_grouped_to_the_bit(isa, dtype, data_format, rng):
    x = in_layout(rng.standard_normal((2, 5, 9, 8)).astype(dtype), data_format)
    weight = rng.standard_normal((10, 1, 3, 3)).astype(dtype)
    parameters = {"padding": 1, "stride": 2, "data_format": data_format}
    y = cyconv.depthwise_conv2d(x, weight, **parameters)
    assert_same_bits(y, cyconv.conv2d(x, weight, groups=5, **parameters))
    assert_same_bits(cyconv.depthwise_conv2d_grad_input(y, weight, x.shape, **parameters),
                     cyconv.conv2d_grad_input(y, weight, x.shape, groups=5, **parameters))
    assert_same_bits(cyconv.depthwise_conv2d_grad_weight(y, x, 3, **parameters),
                     cyconv.conv2d_grad_weight(y, x, 3, groups=5, **parameters))


def test_a_depthwise_weight_has_one_channel():
    with pytest.raises(ValueError, match=r"depthwise_conv2d: x has 3 channels but weight expects 6 "):
        cyconv.depthwise_conv2d(np.ones((1, 3, 4, 4)), np.ones((3, 2, 3, 3)))


@pytest.mark.parametrize("batch, multiplier, out_channels", [(0, 1, 4), (1, 2, 3), (5, 3, 2), (4, 1, 9)])
def test_separable_is_depthwise_then_pointwise(batch, multiplier, out_channels, data_format, rng):
    x = in_layout(integers(rng, (batch, 3, 6, 7)).astype(float), data_format)
    depthwise_weight = integers(rng, (3 * multiplier, 1, 3, 2)).astype(float)
    pointwise = integers(rng, (out_channels, 3 * multiplier)).astype(float)
    bias = integers(rng, (out_channels,)).astype(float)
    layout, windows = {"data_format": data_format}, {"padding": 1, "stride": 2, "data_format": data_format}
    cells = pointwise[:, :, None, None]
    between = cyconv.depthwise_conv2d(x, depthwise_weight, **windows)
    y = cyconv.separable_conv2d(x, depthwise_weight, pointwise, bias, **windows)
    np.testing.assert_array_equal(y, cyconv.conv2d(between, cells, bias, **layout))
    dy = integers(rng, y.shape).astype(float)
    outer = cyconv.conv2d_backward(dy, between, cells, **layout)
    inner = cyconv.depthwise_conv2d_backward(outer.x, x, depthwise_weight, **windows)
    grads = cyconv.separable_conv2d_backward(dy, x, depthwise_weight, pointwise, **windows)
    for got, want in zip(grads, (inner.x, inner.weight, outer.weight[..., 0, 0], outer.bias)):
        np.testing.assert_array_equal(got, want)
    weights = depthwise_weight, pointwise
    np.testing.assert_array_equal(cyconv.separable_conv2d_grad_input(dy, *weights, x.shape, **windows), grads.x)
    both = cyconv.separable_conv2d_grad_weight(dy, x, *weights, **windows)
    np.testing.assert_array_equal(both.depthwise_weight, grads.depthwise_weight)
    np.testing.assert_array_equal(both.pointwise_weight, grads.pointwise_weight)
    if batch:
        one = cyconv.separable_conv2d_grad_input(dy[0], *weights, x.shape[1:], **windows)
        np.testing.assert_array_equal(one, grads.x[0])
    for name in grads._fields:
        only = cyconv.separable_conv2d_backward(dy, x, depthwise_weight, pointwise, needs=[name], **windows)
        assert [field for field in only._fields if getattr(only, field) is not None] == [name]


def test_wrong_separable_weights_are_refused():
    x, depthwise_weight = np.ones((1, 3, 4, 4)), np.ones((6, 1, 3, 3))
    with pytest.raises(ValueError, match="pointwise_weight mixes 5 channels but depthwise_weight makes 6"):
        cyconv.separable_conv2d(x, depthwise_weight, np.ones((2, 5)))
    with pytest.raises(ValueError, match=r"pointwise_weight must have shape \(out_channels, channels\), got"):
        cyconv.separable_conv2d(x, depthwise_weight, np.ones((2, 6, 3)))
    with pytest.raises(ValueError, match="needs must be a collection of 'x', 'depthwise_weight', .* and 'bias'"):
        cyconv.separable_conv2d_backward(x, x, depthwise_weight, np.ones((2, 6)), needs=("weight",))
    for name in ("x", "pointwise_weight"):
        with pytest.raises(ValueError, match="grad_out must have 4 dimensions"):
            cyconv.separable_conv2d_backward(1.0, x, depthwise_weight, np.ones((2, 6)), needs=(name,))


# ---------------------------------------------------------------- tiled and local


def test_one_tile_is_a_convolution_to_the_bit(isa, dtype, data_format, rng):
    x = in_layout(rng.standard_normal((3, 4, 9, 8)).astype(dtype), data_format)
    weight = rng.standard_normal((6, 4, 3, 3)).astype(dtype)
    parameters = {"padding": 1, "stride": (2, 1), "data_format": data_format}
    y = cyconv.conv2d(x, weight, **parameters)
    assert_same_bits(cyconv.tiled_conv2d(x, weight[None, None], **parameters), y)
    for got, want in zip(cyconv.tiled_conv2d_backward(y, x, weight[None, None], **parameters),
                         cyconv.conv2d_backward(y, x, weight, **parameters)):
        assert_same_bits(got.reshape(want.shape), want)


def test_as_many_tiles_as_outputs_are_a_local_convolution(isa, dtype, rng):
    x = rng.standard_normal((3, 2, 5, 6)).astype(dtype)
    weight = rng.standard_normal((3, 5, 4, 2, 3, 2)).astype(dtype)
    y = cyconv.local_conv2d(x, weight)
    assert_same_bits(y, cyconv.tiled_conv2d(x, weight))
    assert_same_bits(cyconv.local_conv2d_grad_weight(y, x, (3, 2)),
                     cyconv.tiled_conv2d_grad_weight(y, x, (3, 2), (3, 5)))
    np.testing.assert_allclose(y, np.einsum("pqkcrs,ncpqrs->nkpq", weight, np.lib.stride_tricks.sliding_window_view(
        x, (3, 2), (2, 3))), rtol=1e-4 if dtype == np.float32 else 1e-12, atol=1e-5)


def test_equal_tiles_are_one(rng, data_format):
    x = in_layout(integers(rng, (2, 3, 7, 9)).astype(float), data_format)
    weight = integers(rng, (4, 3, 3, 3)).astype(float)
    tiles = np.broadcast_to(weight, (2, 3, 4, 3, 3, 3))
    parameters = {"padding": 2, "padding_mode": "reflect", "data_format": data_format}
    y = cyconv.conv2d(x, weight, **parameters)
    np.testing.assert_array_equal(cyconv.tiled_conv2d(x, tiles, **parameters), y)
    grads, tiled_grads = cyconv.conv2d_backward(y, x, weight, **parameters), cyconv.tiled_conv2d_backward(
        y, x, tiles, **parameters)
    np.testing.assert_array_equal(tiled_grads.x, grads.x)
    np.testing.assert_array_equal(tiled_grads.weight.sum(axis=(0, 1)), grads.weight)


@pytest.mark.parametrize("call, message", [
    (lambda x: cyconv.local_conv2d(x, np.ones((3, 3, 1, 1, 3, 3)), padding=1),
     r"^local_conv2d: weight has kernels for \(3, 3\) outputs, the convolution has \(4, 4\)"),
    (lambda x: cyconv.tiled_conv2d(x, np.ones((1, 1, 3, 3))),
     r"^tiled_conv2d: weight must have 6 dimensions \(\*tiles, out_channels, in_channels / groups, R, S\), got shape"),
    (lambda x: cyconv.tiled_conv(x, np.ones((1, 1, 3, 3, 3))), "^tiled_conv: weight must have 4, 6 or 8 dimensions"),
    (lambda x: cyconv.tiled_conv2d_grad_weight(x, x, 1, 0), "^tiled_conv2d_grad_weight: tiles must be >= 1"),
])
def test_wrong_tiles_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((1, 1, 4, 4)))


# ---------------------------------------------------------------- all kinds


CALLS = {
    "bordered": (lambda x, w: cyconv.conv2d(x, w, padding=1, padding_mode="symmetric"), (3, 2, 3, 3)),
    "transposed": (lambda x, w: cyconv.conv_transpose2d(x, w, stride=2), (2, 3, 3, 3)),
    "depthwise": (lambda x, w: cyconv.depthwise_conv2d(x, w), (2, 1, 3, 3)),
    "separable": (lambda x, w: cyconv.separable_conv2d(x, w, np.ones((2, 2))), (2, 1, 3, 3)),
    "tiled": (lambda x, w: cyconv.tiled_conv2d(x, w), (2, 2, 3, 2, 3, 3)),
    "local": (lambda x, w: cyconv.local_conv2d(x, w), (3, 4, 3, 2, 3, 3)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CALLS)
def test_every_kind_of_array_gives_the_same(name, kind, rng):
    call, weight_shape = CALLS[name]
    x, weight = integers(rng, (2, 2, 5, 6)).astype(float), integers(rng, weight_shape).astype(float)
    assert_same_bits(call(KINDS[kind](x), KINDS[kind](weight)), call(x, weight))


@pytest.mark.parametrize("name", CALLS)
def test_unbatched_input_gives_an_unbatched_result(name, rng):
    call, weight_shape = CALLS[name]
    x, weight = rng.standard_normal((1, 2, 5, 6)), rng.standard_normal(weight_shape)
    assert_same_bits(call(x[0], weight), call(x, weight)[0])


@pytest.mark.parametrize("name", CALLS)
def test_empty_batches_stay_empty(name):
    call, weight_shape = CALLS[name]
    assert call(np.ones((0, 2, 5, 6)), np.ones(weight_shape)).shape[0] == 0


def test_out_is_written(rng):
    x, weight = rng.standard_normal((1, 2, 5, 6)), rng.standard_normal((2, 3, 3, 3))
    out = np.full((1, 3, 7, 8), np.nan)
    assert cyconv.conv_transpose2d(x, weight, out=out) is out
    assert_same_bits(out, cyconv.conv_transpose2d(x, weight))
    with pytest.raises(ValueError, match="conv_transpose2d: out must be a float64 array of shape"):
        cyconv.conv_transpose2d(x, weight, out=np.empty((1, 3, 7, 7)))


LARGE = {
    "zeros": lambda x, w: cyconv.conv2d(x, w, padding=1),
    "reflect": lambda x, w: cyconv.conv2d(x, w, padding=1, padding_mode="reflect"),
    "input gradient": lambda x, w: cyconv.conv2d_grad_input(x, w, x.shape, padding=1, padding_mode="wrap"),
    "weight gradient": lambda x, w: cyconv.conv2d_grad_weight(x, x, 3, padding=1, padding_mode="edge"),
    "transposed": lambda x, w: cyconv.conv_transpose2d(x, w, stride=2),
    "depthwise": lambda x, w: cyconv.depthwise_conv2d(x, w[:, :1], padding=1),
    "separable": lambda x, w: cyconv.separable_conv2d(x, w[:, :1], w[:, :, 0, 0], padding=1),
    "tiled": lambda x, w: cyconv.tiled_conv2d(x, np.broadcast_to(w, (3, 2, *w.shape)), padding=1),
}


@pytest.mark.parametrize("name", LARGE)
def test_nothing_much_larger_than_the_result_is_allocated(name, rng):
    """Twice the result for the separable one, which holds what is between its two convolutions."""
    x, w = rng.standard_normal((2, 3, 600, 700), np.float32), rng.standard_normal((3, 3, 3, 3), np.float32)
    LARGE[name](x, w)
    tracemalloc.start()
    result = LARGE[name](x, w)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < result.nbytes * (2 if name == "separable" else 1) + 2**22
