"""Convolution and its gradients: exact integers, equal bits, identities, kinds of arrays, errors."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cyconv
from cyconv import _kernels
from cyconv.functional._plans import bias_for
from cyconv.selftest import geometries, reference
from cyconv.selftest.arrays import HOSTILE, KINDS, LAYOUTS, assert_same_bits, channels_first, in_layout, integers

FLOATS = (np.float32, np.float64)


def results(x, weight, bias, dy, **parameters):
    """The output and its gradients: y, dx, dweight, dbias."""
    y = cyconv.conv(x, weight, bias, **parameters)
    return y, *cyconv.conv_backward(dy, x, weight, **parameters)


def names_and_layouts(data_format):
    """What `results` returns and how it lies in memory."""
    return ("y", data_format), ("dx", data_format), ("dweight", "channels_first"), ("dbias", "channels_first")


# ---------------------------------------------------------------- exact on integers

N_BLOCKS, BLOCK = 80, 50


def check_exact(g, instruction_sets):
    """The output and all gradients of one geometry, in every instruction set, dtype and layout."""
    x, weight, bias, dy = g.integers()
    bias = bias if g.seed % 3 else None
    expected = (reference.conv(x, weight, bias, g.windows, g.outputs, g.groups),
                reference.conv_grad_input(dy, weight, g.sizes, g.windows, g.groups),
                reference.conv_grad_weight(dy, x, g.windows, g.groups),
                reference.conv_grad_bias(dy))
    for isa, dtype, data_format in product(instruction_sets, FLOATS, LAYOUTS):
        _kernels.use(isa)
        actual = results(in_layout(x.astype(dtype), data_format), weight.astype(dtype),
                         None if bias is None else bias.astype(dtype), in_layout(dy.astype(dtype), data_format),
                         **g.parameters, data_format=data_format, n_threads=g.n_threads)
        for (name, layout), got, want in zip(names_and_layouts(data_format), actual, expected):
            is_equal = got.dtype == dtype and np.array_equal(channels_first(got, layout), want)
            assert is_equal, (name, isa, np.dtype(dtype).name, data_format, g)


@pytest.mark.parametrize("block", range(N_BLOCKS))
def test_exact_on_integers(block, every_isa, threads_at_any_size, nan_in_new_arrays):
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        check_exact(geometries.convolution(seed), every_isa)


@pytest.mark.campaign
@pytest.mark.parametrize("block", range(N_BLOCKS, 2000))
def test_exact_on_many_more_integers(block, every_isa, threads_at_any_size, nan_in_new_arrays):
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        check_exact(geometries.convolution(seed), every_isa)


def test_geometries_are_more_than_two_thousand_and_distinct():
    drawn = [geometries.convolution(seed)._replace(seed=0) for seed in range(N_BLOCKS * BLOCK)]
    assert len(set(drawn)) == len(drawn) > 2000


def depthwise(channels, kernels, sizes, kernel_size, padding="same", stride=1, dilation=1, batch=1):
    """The geometry of a depthwise convolution on three threads."""
    windows = cyconv._geometry.windows("", sizes, kernel_size, stride, padding, dilation)
    outputs = cyconv._geometry.output_sizes("", sizes, windows)
    return geometries.Geometry(1, batch, channels, 1, kernels, sizes, windows, outputs, 3)


# Lanes are channels (17 and more, channels_last) or outputs of a row (long ones in place), and outputs slide
# down the outermost axis of the kernel, where they share rows.
DEPTHWISE = {
    "one_image": depthwise(1, 1, (40, 200), (5, 5)),
    "one_image_without_border": depthwise(1, 1, (14, 150), (3, 7), "valid"),
    "two_filters": depthwise(1, 2, (20, 140), (3, 3)),
    "short_rows": depthwise(3, 1, (7, 7), (3, 3), batch=2),
    "some_kernels_of_a_channel": depthwise(5, 4, (6, 20), (3, 3), batch=2),
    "channels": depthwise(33, 1, (9, 14), (3, 3), batch=2),
    "channels_with_some_kernels": depthwise(17, 2, (5, 9), (3, 3)),
    "strided": depthwise(18, 1, (15, 70), (3, 3), 1, stride=2),
    "strides_that_share_rows": depthwise(17, 1, (20, 12), (3, 3), 2, stride=2, dilation=2),
    "dilated": depthwise(18, 1, (23, 70), (3, 3), dilation=(3, 2)),
    "dilated_beyond_the_input": depthwise(18, 1, (5, 6), (3, 3), dilation=(9, 4)),
    "more_border_than_input": depthwise(17, 1, (2, 3), (4, 5), 7),
    **{f"rows_of_{n}_with_stride_{stride}": depthwise(2, 1, (7, n), (3, 3), 1, stride=stride)
       for n in (120, 261, 467, 900) for stride in (1, 2)},
    "signals": depthwise(19, 1, (300,), (7,), batch=2),
    "a_long_kernel": depthwise(2, 1, (900,), (300,)),
    "volume": depthwise(20, 1, (9, 5, 18), (3, 2, 3)),
    "volume_of_nine_rows_a_window": depthwise(20, 1, (5, 6, 21), (3, 3, 3), batch=2),
    "strided_volume": depthwise(17, 1, (6, 9, 40), (3, 3, 3), 1, stride=(1, 2, 2), dilation=(1, 2, 1)),
    "volume_of_more_channels_than_are_copied": depthwise(400, 1, (2, 8, 16), (3, 3, 3)),
    "volume_with_flat_kernel": depthwise(3, 1, (4, 5, 70), (1, 3, 3)),
    "slots_of_the_weight_gradient": depthwise(4, 1, (50, 60), (3, 3), batch=2),
    **{f"height_{height}": depthwise(17, 1, (height + 4, 67), (height, 2), 1) for height in range(1, 15)},
}


@pytest.mark.parametrize("geometry", DEPTHWISE.values(), ids=DEPTHWISE)
def test_depthwise_is_exact_on_integers(geometry, every_isa, threads_at_any_size, nan_in_new_arrays):
    check_exact(geometry, every_isa)


@pytest.mark.parametrize("geometry", DEPTHWISE.values(), ids=DEPTHWISE)
def test_bits_of_depthwise_depend_on_nothing_else(geometry, every_isa, threads_at_any_size):
    """Not on the layout, threads, other samples and instruction sets with FMA."""
    x, weight, bias, dy = geometry.normals(np.float32)
    expected = None
    with_fma = every_isa[1:] or every_isa
    for isa, data_format, n_threads in product(with_fma, LAYOUTS, (1, 2, 5)):
        _kernels.use(isa)
        actual = results(in_layout(x, data_format), weight, bias, in_layout(dy, data_format), **geometry.parameters,
                         data_format=data_format, n_threads=n_threads)
        actual = [channels_first(a, layout) for a, (_, layout) in zip(actual, names_and_layouts(data_format))]
        for one, other in zip(actual, expected or actual):
            assert_same_bits(np.ascontiguousarray(one), np.ascontiguousarray(other))
        expected = expected or actual
    alone = cyconv.conv(x[-1:], weight, bias, **geometry.parameters)
    assert_same_bits(alone, np.ascontiguousarray(expected[0][-1:]))


def test_taps_far_outside_take_no_memory(isa, dtype, data_format, rng):
    x, dy = (in_layout(rng.integers(-9, 10, (2, 20, 8, 30)).astype(dtype), data_format) for _ in range(2))
    how = {"groups": 20, "data_format": data_format}
    dw = cyconv.conv2d_grad_weight(dy, x, 3, padding=(4 * 10**8, 1), dilation=(4 * 10**8, 1), **how)
    np.testing.assert_array_equal(dw[:, :, 1:2], cyconv.conv2d_grad_weight(dy, x, (1, 3), padding=(0, 1), **how))
    assert not dw[:, :, ::2].any()


# Sizes at which work is cut up that random geometries are too small for.
LARGE = {
    "packed_weights_of_many_channels": ((1, 1, 9, 17), (2100, 1, 8, 8), {}),
    "several_blocks_of_panels": ((2, 300, 5, 5), (300, 300, 3, 3), {"padding": 1}),
    "row_cut_for_the_scratch": ((1, 700, 2, 300), (3, 700, 1, 3), {"padding": (0, 1)}),
    "taps_cut_into_blocks": ((1, 2, 70, 70), (3, 2, 64, 64), {"padding": 3}),
    "many_slots_of_the_weight_gradient": ((9, 3, 40, 40), (5, 3, 3, 3), {"padding": 1}),
    "blocks_of_the_weight_gradient": ((3, 96, 12, 12), (96, 96, 3, 3), {"stride": 2}),
    "vgg": ((1, 64, 30, 30), (64, 64, 3, 3), {"padding": 1}),
    "steps_of_rows_of_many_channels": ((2, 140, 20, 30), (20, 140, 3, 3), {"padding": 1}),
    "steps_of_samples_of_many_channels": ((40, 150, 4, 4), (20, 150, 3, 3), {"padding": 1}),
    "steps_of_depthwise": ((2, 201, 20, 30), (201, 1, 3, 3), {"padding": 1, "groups": 201}),
    "single_rows_of_many_channels_of_depthwise": ((1, 260, 3, 134), (260, 1, 3, 3), {"groups": 260}),
    "small_gradient_of_many_panels": ((2, 1, 24, 24), (257, 1, 1, 1), {}),
}


@pytest.mark.parametrize("x_shape, weight_shape, parameters", LARGE.values(), ids=LARGE)
def test_large_sizes_are_exact_and_have_the_same_bits_for_any_threads(x_shape, weight_shape, parameters, isa, rng):
    x, weight, bias = (integers(rng, shape) for shape in (x_shape, weight_shape, weight_shape[:1]))
    groups = parameters.get("groups", 1)
    spatial = {name: value for name, value in parameters.items() if name != "groups"}
    windows = cyconv._geometry.windows("", x_shape[2:], weight_shape[2:], **spatial)
    x, weight, bias = (a.astype(float) for a in (x, weight, bias))
    y = reference.conv(x, weight, bias, windows, [w.output_size(n) for n, w in zip(x_shape[2:], windows)], groups)
    dy = integers(rng, y.shape).astype(float)
    expected = (y, reference.conv_grad_input(dy, weight, x_shape[2:], windows, groups),
                reference.conv_grad_weight(dy, x, windows, groups), reference.conv_grad_bias(dy))
    for data_format in LAYOUTS:
        arrays = (in_layout(x, data_format), weight, bias, in_layout(dy, data_format))
        single = results(*(a.astype(np.float32) for a in arrays), **parameters, data_format=data_format, n_threads=1)
        for (_, layout), got, want in zip(names_and_layouts(data_format), single, expected):
            np.testing.assert_array_equal(channels_first(got, layout), want)
    x, weight, bias, dy = (rng.standard_normal(a.shape, np.float32) for a in (x, weight, bias, dy))
    single = results(x, weight, bias, dy, **parameters, n_threads=1)
    for data_format, n_threads in product(LAYOUTS, (2, 3, 7)):
        many = results(in_layout(x, data_format), weight, bias, in_layout(dy, data_format), **parameters,
                       data_format=data_format, n_threads=n_threads)
        for (_, layout), one, other in zip(names_and_layouts(data_format), single, many):
            assert_same_bits(np.ascontiguousarray(channels_first(other, layout)), one)


@pytest.mark.parametrize("block", range(4))
def test_gradients_are_adjoint_without_tolerance(block, isa, dtype):
    """<conv(x, w), dy> = <x, dx> = <w, dw> and <bias on every output, dy> = <bias, dbias>"""
    for seed in range(block * 25, (block + 1) * 25):
        g = geometries.convolution(seed)
        x, weight, bias, dy = g.integers()
        y, dx, dweight, dbias = results(*(a.astype(dtype) for a in (x, weight, 0 * bias, dy)), **g.parameters)
        products = [int(np.vdot(a, b.astype(np.int64))) for a, b in ((dy, y), (x, dx), (weight, dweight))]
        assert products[0] == products[1] == products[2], g
        assert np.vdot(bias, dbias) == (bias.reshape(-1, *[1] * len(g.sizes)) * dy).sum(), g


# ---------------------------------------------------------------- equal bits on any data

SEEDS = range(120)


@pytest.mark.parametrize("n_threads", [2, 3, 7])
def test_bits_do_not_depend_on_threads(n_threads, isa, threads_at_any_size):
    for seed in SEEDS:
        g = geometries.convolution(seed)
        values = g.normals(FLOATS[seed % 2])
        for one, many in zip(results(*values, **g.parameters, n_threads=1),
                             results(*values, **g.parameters, n_threads=n_threads)):
            assert_same_bits(many, one, g)


def test_bits_do_not_depend_on_the_other_samples_of_a_batch(isa, dtype):
    for seed in SEEDS:
        g = geometries.convolution(seed)
        x, weight, bias, dy = g.normals(dtype)
        y, dx, _, _ = results(x, weight, bias, dy, **g.parameters)
        for some in (slice(i, j) for i, j in ((0, 1), (1, 2), (1, 15), (2, 20)) if i < g.batch):
            y_some, dx_some, _, _ = results(x[some], weight, bias, dy[some], **g.parameters)
            assert_same_bits(y_some, y[some], g)
            assert_same_bits(dx_some, dx[some], g)


def test_bits_do_not_depend_on_the_layout(isa, dtype):
    for seed in SEEDS:
        g = geometries.convolution(seed)
        x, weight, bias, dy = g.normals(dtype)
        first = results(x, weight, bias, dy, **g.parameters)
        last = results(in_layout(x, "channels_last"), weight, bias, in_layout(dy, "channels_last"),
                       **g.parameters, data_format="channels_last")
        for (_, layout), a, b in zip(names_and_layouts("channels_last"), first, last):
            assert_same_bits(channels_first(b, layout), a, g)


@pytest.mark.skipif(not {"avx2", "avx512"} <= set(_kernels.available), reason="needs AVX2 and AVX-512")
def test_bits_do_not_depend_on_the_instruction_set(every_isa, dtype):
    for seed in SEEDS:
        g = geometries.convolution(seed)
        values = g.normals(dtype)
        _kernels.use("avx2")
        narrow = results(*values, **g.parameters)
        _kernels.use("avx512")
        for a, b in zip(narrow, results(*values, **g.parameters)):
            assert_same_bits(b, a, g)


@pytest.mark.parametrize("needs", [("x",), ("weight",), ("bias",), ("bias", "x"), {"weight", "bias"}, []])
def test_only_needed_gradients_are_computed(needs, isa):
    """And have the same bits; but the bias gradient comes with that of the weight, in its order of additions."""
    for seed in range(40):
        g = geometries.convolution(seed)
        x, weight, _, dy = g.normals(np.float32)
        together = cyconv.conv_backward(dy, x, weight, **g.parameters)._asdict()
        alone = cyconv.conv_backward(dy, x, weight, **g.parameters, needs=needs)._asdict()
        assert {name for name, grad in alone.items() if grad is not None} == set(needs)
        for name in needs:
            if name == "bias" and "weight" not in needs:
                np.testing.assert_allclose(alone[name], together[name], rtol=1e-5, atol=1e-4)
            else:
                assert_same_bits(alone[name], together[name], g)


def test_single_gradients_are_those_of_backward(isa, data_format):
    for seed in range(40):
        g = geometries.convolution(seed, rank=2)
        x, weight, _, dy = g.normals(np.float32)
        x, dy = in_layout(x, data_format), in_layout(dy, data_format)
        parameters = {**g.parameters, "data_format": data_format}
        grads = cyconv.conv2d_backward(dy, x, weight, **parameters)
        assert_same_bits(cyconv.conv2d_grad_input(dy, weight, x.shape, **parameters), grads.x, g)
        assert_same_bits(cyconv.conv2d_grad_weight(dy, x, weight.shape[2:], **parameters), grads.weight, g)


# ---------------------------------------------------------------- identities


def plane_geometries(count=60):
    return (geometries.convolution(seed, rank=2) for seed in range(count))


def test_strided_is_a_slice_of_unit_stride(isa):
    for g in plane_geometries():
        x, weight, bias, _ = g.normals(np.float32)
        (s, t), dense = g.parameters["stride"], {**g.parameters, "stride": 1}
        y = cyconv.conv2d(x, weight, bias, **g.parameters)
        assert_same_bits(y, cyconv.conv2d(x, weight, bias, **dense)[:, :, ::s, ::t], g)


def test_padding_is_numpy_pad(isa):
    for g in plane_geometries():
        x, weight, bias, _ = g.normals(np.float32)
        parameters = {**g.parameters, "input_dilation": 1, "stride": 1}
        padded = np.pad(x, ((0, 0), (0, 0), *parameters["padding"]))
        if min(n - w.extent for n, w in zip(padded.shape[2:], g.windows)) >= 0:
            y = cyconv.conv2d(x, weight, bias, **parameters)
            assert_same_bits(y, cyconv.conv2d(padded, weight, bias, **{**parameters, "padding": 0}), g)


def test_groups_are_a_concatenation(isa):
    for g in plane_geometries():
        x, weight, bias, dy = g.normals(np.float32)
        parameters = {**g.parameters, "groups": 1}
        parts = zip(*(np.split(a, g.groups, axis) for a, axis in ((x, 1), (weight, 0), (bias, 0), (dy, 1))))
        parts = list(zip(*(results(*part, **parameters) for part in parts)))
        for whole, part, axis in zip(results(x, weight, bias, dy, **g.parameters), parts, (1, 1, 0, 0)):
            assert_same_bits(whole, np.concatenate(part, axis), g)


def test_flip_is_a_rotated_kernel(isa):
    for g in plane_geometries():
        x, weight, bias, dy = g.normals(np.float32)
        rotated = weight[:, :, ::-1, ::-1]
        y, dx, dweight, dbias = results(x, weight, bias, dy, **{**g.parameters, "flip": True})
        same = results(x, rotated, bias, dy, **{**g.parameters, "flip": False})
        for a, b in zip((y, dx, dweight[:, :, ::-1, ::-1], dbias), same):
            assert_same_bits(a, b, g)


def test_dilated_is_a_kernel_with_zeros_between(isa):
    for g in plane_geometries():
        x, weight, bias, _ = (a.astype(np.float32) for a in g.integers())
        d, e = g.parameters["dilation"]
        stuffed = np.zeros((*weight.shape[:2], *(w.extent for w in g.windows)), np.float32)
        stuffed[:, :, ::d, ::e] = weight
        assert np.array_equal(cyconv.conv2d(x, weight, bias, **g.parameters),
                              cyconv.conv2d(x, stuffed, bias, **{**g.parameters, "dilation": 1})), g


def test_input_dilation_is_an_input_with_zeros_between(isa):
    for g in plane_geometries():
        x, weight, bias, dy = (a.astype(np.float32) for a in g.integers())
        u, v = g.parameters["input_dilation"]
        stuffed = np.zeros((*x.shape[:2], *(max(n * w.input_dilation - w.input_dilation + 1, 0) if n else 0
                                            for n, w in zip(g.sizes, g.windows))), np.float32)
        stuffed[:, :, ::u, ::v] = x
        y, dx, dweight, _ = results(stuffed, weight, bias, dy, **{**g.parameters, "input_dilation": 1})
        for a, b in zip(results(x, weight, bias, dy, **g.parameters), (y, dx[:, :, ::u, ::v], dweight)):
            assert np.array_equal(a, b), g


def test_convolution_of_a_shifted_input_is_shifted(isa):
    for g in plane_geometries():
        x, weight, bias, _ = g.normals(np.float32)
        parameters = {**g.parameters, "padding": 0, "stride": 1, "input_dilation": 1}
        if all(n > w.extent for n, w in zip(g.sizes, g.windows)):
            y = cyconv.conv2d(x, weight, bias, **parameters)
            assert_same_bits(cyconv.conv2d(x[:, :, 1:, 1:], weight, bias, **parameters), y[:, :, 1:, 1:], g)


def test_permuted_samples_and_channels_permute_the_output(isa, rng):
    for g in plane_geometries():
        x, weight, bias, _ = g.normals(np.float32)
        samples, channels = rng.permutation(g.batch), rng.permutation(g.out_channels)
        order = (channels + g.out_channels * np.arange(g.groups)[:, None]).ravel()
        y = cyconv.conv2d(x, weight, bias, **g.parameters)
        assert_same_bits(cyconv.conv2d(x[samples], weight[order], bias[order], **g.parameters), y[samples][:, order], g)


def test_unbatched_input_gives_an_unbatched_result(data_format):
    for seed in range(40):
        g = geometries.convolution(seed)._replace(batch=1)
        x, weight, bias, dy = g.normals(np.float32)
        x, dy = in_layout(x, data_format), in_layout(dy, data_format)
        parameters = {**g.parameters, "data_format": data_format}
        y, dx, dweight, dbias = results(x, weight, bias, dy, **parameters)
        for a, b in zip(results(x[0], weight, bias, dy[0], **parameters), (y[0], dx[0], dweight, dbias)):
            assert_same_bits(a, b, g)


def test_unbatched_single_gradients(rng):
    dy, x, weight = rng.standard_normal((4, 5, 6)), rng.standard_normal((3, 7, 8)), rng.standard_normal((4, 3, 3, 3))
    grads = cyconv.conv2d_backward(dy, x, weight)
    assert_same_bits(cyconv.conv2d_grad_input(dy, weight, x.shape), grads.x)
    assert_same_bits(cyconv.conv2d_grad_weight(dy, x, 3), grads.weight)


# ---------------------------------------------------------------- infinity and NaN


def by_reference(g, x, weight, bias, dy):
    return {"y": reference.conv(x, weight, bias, g.windows, g.outputs, g.groups),
            "dx": reference.conv_grad_input(dy, weight, g.sizes, g.windows, g.groups),
            "dweight": reference.conv_grad_weight(dy, x, g.windows, g.groups),
            "dbias": reference.conv_grad_bias(dy)}


DEPENDENT = {"x": ("y", "dweight"), "weight": ("y", "dx"), "dy": ("dx", "dweight", "dbias")}


@pytest.mark.parametrize("operand", DEPENDENT)
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_infinity_and_nan_reach_the_results_that_read_them_and_no_others(operand, bad, isa, dtype, rng):
    """Above all none through padded taps, which contribute nothing, or through unused lanes."""
    for seed in range(150):
        g = geometries.convolution(seed)
        values = {name: np.abs(a) + 1 for name, a in zip(("x", "weight", "bias", "dy"), g.integers())}
        if not values[operand].size:
            continue
        position = np.unravel_index(rng.integers(values[operand].size), values[operand].shape)
        clean = {**values, operand: values[operand].copy()}
        clean[operand][position] = 0
        marks = {name: np.zeros_like(a) if name in ("bias", operand) else np.ones_like(a) for name, a in values.items()}
        marks[operand][position] = 1
        finite, reached = by_reference(g, **clean), by_reference(g, **marks)
        spoiled = {name: a.astype(dtype) for name, a in values.items()}
        spoiled[operand][position] = bad
        data_format = LAYOUTS[seed % 2]
        x, dy = (in_layout(spoiled[name], data_format) for name in ("x", "dy"))
        actual = results(x, spoiled["weight"], spoiled["bias"], dy, **g.parameters, data_format=data_format)
        for (name, layout), got in zip(names_and_layouts(data_format), actual):
            is_hit = (reached[name] > 0) & (name in DEPENDENT[operand])
            is_equal = np.array_equal(channels_first(got, layout), np.where(is_hit, bad, finite[name]), equal_nan=True)
            assert is_equal, (name, position, data_format, g)


@pytest.mark.parametrize("bad", [1.0, np.inf, np.nan])
def test_strided_depthwise_gradients_have_the_same_bits_in_both_layouts(bad, isa, dtype, rng):
    """Channels first, the phases along W are one convolution with zeros between cells if all weights are finite."""
    for kernel, stride, dilation, padding, width in product((1, 2, 3, 6), (2, 3), (1, 2, 3), (0, 1), (17, 18, 40)):
        weight = rng.standard_normal((24, 1, 3, kernel)).astype(dtype)
        weight[5, 0, 1, kernel // 2] *= bad
        keywords = {"stride": (2, stride), "dilation": (1, dilation), "padding": (1, padding), "groups": 24}
        x = np.zeros((2, 24, 9, width), dtype)
        dy = rng.standard_normal(cyconv.conv2d(x, weight, **keywords).shape).astype(dtype)
        first = cyconv.conv2d_grad_input(dy, weight, x.shape, **keywords)
        last = cyconv.conv2d_grad_input(in_layout(dy, "channels_last"), weight, (2, 9, width, 24), **keywords,
                                        data_format="channels_last")
        assert_same_bits(first, channels_first(last, "channels_last"))


def test_infinite_weight_on_padding_gives_infinity_where_pytorch_gives_nan(isa):
    y = cyconv.conv(np.ones((1, 1, 4)), [[[np.inf, 1, 1]]], padding=1)
    np.testing.assert_array_equal(y[0, 0], [2, np.inf, np.inf, np.inf])


@pytest.mark.parametrize("x_shape, weight_shape, groups", [
    ((64, 3, 3, 3), (16, 3, 2, 2), 1), ((8, 4, 1, 1), (16, 4, 3, 3), 1), ((16, 2, 5, 9), (3, 2, 3, 3), 1),
    ((4, 40, 6, 6), (40, 1, 3, 3), 40), ((4, 4, 6, 40), (4, 1, 5, 5), 4),
])
@pytest.mark.parametrize("bias", [0.0, -0.0])
def test_products_that_vanish_leave_no_sign(x_shape, weight_shape, groups, bias, every_isa, rng):
    """Whether padding is trimmed or read as zeros depends on the batch, the layout and the lanes."""
    x = rng.standard_normal(x_shape) * 10.0 ** rng.uniform(-24, -20, x_shape) * (rng.random(x_shape) < 0.3)
    x, weight = x.astype(np.float32), (rng.standard_normal(weight_shape) * 1e-23).astype(np.float32)
    found = []
    for isa, data_format in product((isa for isa in every_isa if isa != "baseline"), LAYOUTS):
        _kernels.use(isa)
        how = {"padding": 1, "groups": groups, "data_format": data_format}
        b = np.full(len(weight), bias, np.float32)
        given = in_layout(x, data_format)
        y = cyconv.conv2d(given, weight, b, **how)
        for part, rows in ((y, given), *((y[i:i + 1], given[i:i + 1]) for i in range(3))):
            alone = cyconv.conv2d(rows, weight, b, **how)
            assert_same_bits(alone, part, isa, data_format)
        found.append((channels_first(y, data_format), *cyconv.conv2d_backward(y, given, weight, **how)[1:]))
    assert (found[0][0] == 0).any() and not np.signbit(found[0][0][found[0][0] == 0]).any()
    for results in found:
        for got, want in zip(results, found[0]):
            assert_same_bits(got, want)


def test_biases_reach_the_kernels_aligned(dtype):
    """x86 reads numbers that are not, other processors need not."""
    bias = KINDS["unaligned"](np.arange(5, dtype=dtype))
    given = bias_for("conv", bias, 5, dtype)
    assert not bias.flags.aligned and given.flags.aligned and np.array_equal(given, bias)


# ---------------------------------------------------------------- nothing to sum, nothing to return


@pytest.mark.parametrize("x_shape, weight_shape, parameters", [
    ((2, 0, 5, 5), (4, 0, 3, 3), {}),
    ((2, 0, 5, 5), (4, 0, 3, 3), {"groups": 2}),
    ((0, 3, 5, 5), (4, 3, 3, 3), {}),
    ((2, 3, 5, 5), (0, 3, 3, 3), {}),
    ((2, 3, 0, 5), (4, 3, 3, 3), {"padding": 2}),
    ((2, 3, 0, 0), (4, 3, 1, 1), {"padding": 1}),
    ((0, 0, 0, 0), (0, 0, 1, 1), {"padding": 1}),
])
def test_empty_axes(x_shape, weight_shape, parameters, isa, dtype, data_format, nan_in_new_arrays):
    x, weight, bias = np.ones(x_shape, dtype), np.ones(weight_shape, dtype), np.arange(weight_shape[0]).astype(dtype)
    x = in_layout(x, data_format)
    y = cyconv.conv2d(x, weight, bias, **parameters, data_format=data_format)
    grads = cyconv.conv2d_backward(np.ones_like(y), x, weight, **parameters, data_format=data_format)
    y = channels_first(y, data_format)
    np.testing.assert_array_equal(y, np.broadcast_to(bias[:, None, None], y.shape))
    np.testing.assert_array_equal(grads.x, np.zeros(x.shape))
    np.testing.assert_array_equal(grads.weight, np.zeros(weight_shape))
    np.testing.assert_array_equal(grads.bias, np.full(weight_shape[0], y.size // max(weight_shape[0], 1)))


# ---------------------------------------------------------------- kinds of arrays


def everything(x, weight, bias, dy):
    """Every function of this module, on a plane with padding, strides and groups."""
    window = {"stride": (2, 1), "padding": ((1, 0), (2, 1)), "groups": 2}
    return (*results(x, weight, bias, dy, **window),
            cyconv.conv2d_grad_input(dy, weight, np.shape(x), **window),
            cyconv.conv2d_grad_weight(dy, x, (3, 2), **window))


def values_for_everything(rng, dtype):
    shapes = {"x": (3, 4, 7, 18), "weight": (6, 2, 3, 2), "bias": (6,), "dy": (3, 6, 3, 20)}
    return {name: integers(rng, shape).astype(dtype) for name, shape in shapes.items()}


@pytest.mark.parametrize("argument", ["x", "weight", "bias", "dy"])
@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_array_gives_the_same(kind, argument, isa, dtype, rng):
    plain = values_for_everything(rng, dtype)
    changed = {**plain, argument: KINDS[kind](plain[argument])}
    for a, b in zip(everything(**plain), everything(**changed)):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype and b.flags.c_contiguous and b.flags.writeable


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_channels_last_array_gives_the_same(kind, isa, dtype, rng):
    plain = values_for_everything(rng, dtype)
    x, dy = (in_layout(plain[name], "channels_last") for name in ("x", "dy"))
    parameters = {"stride": (2, 1), "padding": ((1, 0), (2, 1)), "groups": 2, "data_format": "channels_last"}
    weight, bias = plain["weight"], plain["bias"]
    for a, b in zip(results(x, weight, bias, dy, **parameters),
                    results(KINDS[kind](x), weight, bias, KINDS[kind](dy), **parameters)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("argument, axis", [*product(("x", "weight", "dy"), range(4)), ("bias", 0)])
def test_broadcast_views_give_the_same(argument, axis, isa, dtype, rng):
    """Strides of zero."""
    values = values_for_everything(rng, dtype)
    view = np.broadcast_to(values[argument].take([0], axis), values[argument].shape)
    for a, b in zip(everything(**{**values, argument: view.copy()}), everything(**{**values, argument: view})):
        assert_same_bits(b, a)


def test_lists_are_arrays_of_float64(rng):
    plain = values_for_everything(rng, np.float64)
    for a, b in zip(everything(**plain), everything(**{name: a.tolist() for name, a in plain.items()})):
        assert_same_bits(b, a)


@pytest.mark.parametrize("others, computed", [
    ("f2", "f4"), ("f4", "f4"), ("f8", "f8"), ("?", "f4"), ("i1", "f4"), ("u1", "f4"), ("i2", "f4"), ("u2", "f4"),
    ("i4", "f8"), ("u4", "f8"), ("i8", "f8"), ("u8", "f8"),
])
def test_computation_dtype_is_that_of_numpy_promotion(others, computed, rng):
    x, weight, bias, dy = (np.abs(a).astype(others) for a in values_for_everything(rng, np.float64).values())
    for a, b in zip(everything(x, weight, bias, dy),
                    everything(*(a.astype(computed) for a in (x, weight, bias, dy)))):
        assert_same_bits(a, b)


def test_mixed_dtypes_compute_in_the_larger():
    x, weight = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 2, 2))
    assert cyconv.conv2d(x, weight).dtype == np.float64
    assert cyconv.conv2d(x, weight.astype(np.float16)).dtype == np.float32
    assert cyconv.conv2d(x, weight.astype(np.float32), bias=np.ones(1)).dtype == np.float32


def test_eight_bit_integers_do_not_wrap():
    x = np.full((1, 1, 1, 2), 200, np.uint8)
    np.testing.assert_array_equal(cyconv.conv2d(x, np.ones((1, 1, 1, 2), np.uint8)), [[[[400]]]])


# ---------------------------------------------------------------- out


def test_out_is_filled_and_returned(isa, dtype, data_format):
    for seed in range(60):
        g = geometries.convolution(seed)
        x, weight, bias, _ = g.normals(dtype)
        x = in_layout(x, data_format)
        y = cyconv.conv(x, weight, bias, **g.parameters, data_format=data_format)
        out = np.full_like(y, np.nan)
        assert cyconv.conv(x, weight, bias, **g.parameters, data_format=data_format, out=out) is out
        assert_same_bits(out, y, g)


def test_out_of_an_unbatched_call_has_no_batch_axis():
    x, weight, out = np.ones((1, 3, 3)), np.ones((2, 1, 3, 3)), np.full((2, 1, 1), np.nan)
    assert cyconv.conv2d(x, weight, out=out) is out
    np.testing.assert_array_equal(out, np.full((2, 1, 1), 9))


@pytest.mark.parametrize("shift", [0, 1, 37, 128])
def test_out_may_overlap_every_input(shift, isa, rng):
    memory = rng.standard_normal(2048)
    x, out = memory[:512].reshape(2, 4, 8, 8), memory[shift:shift + 512].reshape(2, 4, 8, 8)
    weight, bias = memory[shift:shift + 144].reshape(4, 4, 3, 3), memory[shift + 7:shift + 11]
    expected = cyconv.conv2d(x.copy(), weight.copy(), bias.copy(), padding=1)
    assert cyconv.conv2d(x, weight, bias, padding=1, out=out) is out
    assert_same_bits(out, expected)


@pytest.mark.parametrize("out", [
    np.empty((1, 1, 2, 3)), np.empty((1, 2, 2)), np.empty((1, 1, 2, 2), np.float32), np.empty((1, 1, 2, 2), ">f8"),
    np.empty((1, 1, 2, 2), int), np.empty((1, 1, 2, 4))[..., ::2], np.empty((1, 1, 2, 2)).swapaxes(2, 3),
    np.broadcast_to(np.empty(()), (1, 1, 2, 2)), [[[[0.0, 0], [0, 0]]]],
    KINDS["read_only"](np.empty((1, 1, 2, 2))), KINDS["unaligned"](np.empty((1, 1, 2, 2))),
], ids=range(11))
def test_out_that_does_not_fit_is_refused_untouched(out):
    before = np.array(out)
    with pytest.raises(ValueError, match=r"conv2d: out must be "):
        cyconv.conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)), out=out)
    np.testing.assert_array_equal(out, before)


# ---------------------------------------------------------------- errors


def zeros(*shape):
    return np.zeros(shape)


ERRORS = [
    ({"x": zeros(5, 5)}, ValueError,
     r"conv2d: x must have 4 dimensions \(N, C, H, W\) or 3 \(C, H, W\), got shape \(5, 5\)"),
    ({"x": zeros(5, 5), "data_format": "channels_last"}, ValueError,
     r"conv2d: x must have 4 dimensions \(N, H, W, C\) or 3 \(H, W, C\), got shape \(5, 5\)"),
    ({"x": zeros(1, 1, 1, 5, 5)}, ValueError, r"conv2d: x must have 4 dimensions .* got shape \(1, 1, 1, 5, 5\)"),
    ({"weight": zeros(3, 3)}, ValueError,
     r"conv2d: weight must have 4 dimensions \(out_channels, in_channels / groups, R, S\), got shape \(3, 3\)"),
    ({"x": zeros(2, 3, 32, 32)}, ValueError,
     r"conv2d: x has 3 channels but weight expects 4 \(weight.shape\[1\]=4 \* groups=1\)"),
    ({"groups": 2, "weight": zeros(3, 2, 3, 3)}, ValueError, r"conv2d: groups=2 must divide out_channels=3"),
    ({"groups": 0}, ValueError, r"conv2d: groups must be an int >= 1, got 0"),
    ({"bias": zeros(4)}, ValueError, r"conv2d: bias must have shape \(8,\), got \(4,\)"),
    ({"bias": zeros(8, 1)}, ValueError, r"conv2d: bias must have shape \(8,\), got \(8, 1\)"),
    ({"padding": (1, 2, 3, 4)}, ValueError,
     r"conv2d: padding must be an int, 2 ints, 2 \(low, high\) pairs or a string, got \(1, 2, 3, 4\); "
     r"for per-side padding write \(\(1, 2\), \(3, 4\)\)"),
    ({"padding": "smae"}, ValueError,
     r"conv2d: unknown padding 'smae'; expected one of 'valid', 'same', 'same_upper', 'same_lower', 'full'"),
    ({"padding": -1}, ValueError, r"conv2d: padding must be >= 0 on every axis, got -1"),
    ({"padding": ((0, 0), (0, -1))}, ValueError,
     r"conv2d: padding must be >= 0 on every axis, got \(\(0, 0\), \(0, -1\)\)"),
    ({"stride": (2, 0)}, ValueError, r"conv2d: stride must be >= 1 on every axis, got \(2, 0\)"),
    ({"stride": (1, 1, 1)}, ValueError, r"conv2d: stride must be an int or 2 ints, got \(1, 1, 1\)"),
    ({"stride": 1.0}, TypeError, r"conv2d: stride must be an int or 2 ints, got 1.0"),
    ({"stride": True}, TypeError, r"conv2d: stride must be an int or 2 ints, got True"),
    ({"dilation": 0}, ValueError, r"conv2d: dilation must be >= 1 on every axis, got 0"),
    ({"dilation": 2**31}, ValueError, r"conv2d: dilation must be <= 2147483647, got 2147483648"),
    ({"dilation": 2**30}, ValueError, r"conv2d: the padded input .* and the dilated kernel \(2147483649 cells\)"),
    ({"input_dilation": (1, 0)}, ValueError, r"conv2d: input_dilation must be >= 1 on every axis, got \(1, 0\)"),
    ({"weight": zeros(8, 4, 5, 5), "x": zeros(1, 4, 4, 6)}, ValueError,
     r"conv2d: effective kernel \(5, 5\) is larger than the padded input \(4, 6\)"),
    ({"weight": zeros(8, 4, 0, 3)}, ValueError, r"conv2d: kernel_size must be >= 1 on every axis, got \(0, 3\)"),
    ({"x": zeros(1, 4, 9, 9).astype(complex)}, TypeError, r"conv2d: unsupported dtype complex128 for x"),
    ({"weight": np.full((8, 4, 3, 3), None)}, TypeError, r"conv2d: unsupported dtype object for weight"),
    ({"bias": np.array(["a"] * 8)}, TypeError, r"conv2d: unsupported dtype <U1 for bias"),
    ({"x": zeros(1, 4, 9, 9).astype("M8[s]")}, TypeError, r"conv2d: unsupported dtype datetime64\[s\] for x"),
    ({"x": np.ma.masked_array(zeros(1, 4, 9, 9))}, TypeError, r"conv2d: x is a masked array, .* x.filled\(value\)"),
    ({"x": zeros(1, 4, 9, 9).astype(np.longdouble)}, TypeError,
     r"conv2d: x, weight compute in dtype (longdouble|float128|float96); only float32 and float64 are supported"),
    ({"data_format": "NCHW"}, ValueError,
     r"conv2d: data_format must be one of \('channels_first', 'channels_last'\), got 'NCHW'"),
    ({"n_threads": 0}, ValueError, r"conv2d: n_threads must be None or a non-zero int, got 0"),
    ({"groups": "2"}, ValueError, r"conv2d: groups must be an int >= 1, got '2'"),
    ({"groups": [1]}, ValueError, r"conv2d: groups must be an int >= 1, got"),
    ({"stride": {}}, TypeError, r"conv2d: stride must be an int or 2 ints, got {}"),
]


@pytest.mark.parametrize("arguments, error, message", ERRORS, ids=range(len(ERRORS)))
def test_error_names_the_argument_and_the_value(arguments, error, message):
    with pytest.raises(error, match=f"^{message}"):
        cyconv.conv2d(**{"x": zeros(1, 4, 9, 9), "weight": zeros(8, 4, 3, 3), **arguments})


X_W = zeros(1, 1, 3, 3), zeros(1, 1, 2, 2)


@pytest.mark.parametrize("arguments, error, message", [
    ((zeros(1, 1, 2, 3), *X_W), ValueError, r"grad_out must have shape \(1, 1, 2, 2\), got \(1, 1, 2, 3\)"),
    ((zeros(2, 3), *X_W), ValueError, r"grad_out must have 4 dimensions .* got shape \(2, 3\)"),
    ((np.ma.zeros((1, 1, 2, 2)), *X_W), TypeError, r"grad_out is a masked array"),
])
def test_error_of_all_gradients_names_the_argument_and_the_value(arguments, error, message):
    with pytest.raises(error, match=f"^conv2d_backward: {message}"):
        cyconv.conv2d_backward(*arguments)


@pytest.mark.parametrize("needs, error, shown", [
    (("x", "w"), ValueError, r"\('x', 'w'\)"), ([["x"]], ValueError, r"\[\['x'\]\]"),
    ("x", TypeError, "'x'"), (None, TypeError, "None"),
])
def test_unknown_needs_are_refused(needs, error, shown):
    message = f"^conv2d_backward: needs must be a collection of 'x', 'weight' and 'bias', got {shown}$"
    with pytest.raises(error, match=message):
        cyconv.conv2d_backward(zeros(1, 1, 2, 2), *X_W, needs=needs)


@pytest.mark.parametrize("input_shape, message", [
    ((1, 1, 4, 3), r"grad_out must have shape \(1, 1, 3, 2\), got \(1, 1, 2, 2\)"),
    ((1, 2, 3, 3), r"x has 2 channels but weight expects 1"),
    ((3, 3), r"input_shape must be 4 sizes >= 0, got \(3, 3\)"),
    ((1, 1, -3, 3), r"input_shape must be 4 sizes >= 0, got \(1, 1, -3, 3\)"),
    (9, r"input_shape must be 4 sizes >= 0, got 9"),
    ((2**40, 2**40, 3, 3), r"an array of shape \(1099511627776, 1099511627776, 3, 3\) would have"),
])
def test_error_of_the_input_gradient_names_the_argument_and_the_value(input_shape, message):
    with pytest.raises(ValueError, match=f"^conv2d_grad_input: {message}"):
        cyconv.conv2d_grad_input(zeros(1, 1, 2, 2), zeros(1, 1, 2, 2), input_shape)


@pytest.mark.parametrize("kernel_size, groups, message", [
    (2, 2, r"groups=2 must divide in_channels=3"),
    (2, 0, r"groups must be an int >= 1, got 0"),
    (0, 1, r"kernel_size must be >= 1 on every axis, got 0"),
    ((2, 2, 2), 1, r"kernel_size must be an int or 2 ints, got \(2, 2, 2\)"),
    (4, 1, r"effective kernel \(4, 4\) is larger than the padded input \(3, 3\)"),
])
def test_error_of_the_weight_gradient_names_the_argument_and_the_value(kernel_size, groups, message):
    with pytest.raises(ValueError, match=f"^conv2d_grad_weight: {message}"):
        cyconv.conv2d_grad_weight(zeros(1, 2, 2, 2), zeros(1, 3, 3, 3), kernel_size, groups=groups)


def test_rank_is_taken_from_the_weight_or_refused():
    for rank in (1, 2, 3):
        assert cyconv.conv(zeros(1, 1, *(3,) * rank), zeros(1, 1, *(2,) * rank)).shape == (1, 1, *(2,) * rank)
    for rank in (0, 4):
        with pytest.raises(ValueError, match=r"^conv: weight must have 3 to 5 dimensions"):
            cyconv.conv(zeros(1, 1, *(3,) * rank), zeros(1, 1, *(2,) * rank))


@given(st.fixed_dictionaries({}, optional={name: st.sampled_from(HOSTILE) for name in (
    "stride", "padding", "dilation", "groups", "input_dilation", "data_format", "n_threads", "bias", "out")}))
def test_hostile_parameters_are_computed_or_refused_by_name(parameters):
    try:
        cyconv.conv2d(zeros(1, 1, 3, 3), zeros(1, 1, 2, 2), **parameters)
    except (ValueError, TypeError) as error:
        assert any(name in str(error) for name in (*parameters, "effective kernel", "padded input"))


def test_bias_takes_the_dtype_of_the_others():
    x, weight = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 2, 2), np.float32)
    assert cyconv.conv2d(x, weight, np.zeros(1)).dtype == np.float32


@pytest.mark.parametrize(("call", "message"), [
    (lambda x, w: cyconv.conv2d(None, w), "^conv2d: x must be an array, got None"),
    (lambda x, w: cyconv.conv2d(x, w, strides=2), "^conv2d: got an unexpected keyword argument 'strides'"),
    (lambda x, w: cyconv.conv2d(x, w, None, 1, 0, 1),
     "^conv2d: too many positional arguments; dilation, .* keyword-only"),
])
def test_wrong_calls_are_explained_under_the_public_name(call, message):
    with pytest.raises(TypeError, match=message):
        call(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2)))


def test_an_array_instead_of_its_shape_is_explained():
    with pytest.raises(ValueError, match="got an array of shape .1, 1, 3, 3.; pass its shape"):
        cyconv.conv2d_grad_input(np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2)), np.ones((1, 1, 3, 3)))
