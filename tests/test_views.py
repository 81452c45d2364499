"""Resampling, windows as columns, convolution as a matrix: worked values, exact integers, identities, errors."""

import subprocess
import sys
from itertools import product
from math import prod

import numpy as np
import pytest

import cyconv
from cyconv.selftest import geometries, reference
from cyconv.selftest.arrays import HOSTILE, KINDS, LAYOUTS, assert_same_bits, channels_first, in_layout, integers

FLOATS = (np.float32, np.float64)


def columns_in_layout(columns, data_format):
    return np.ascontiguousarray(np.swapaxes(columns, 1, 2) if data_format == "channels_last" else columns)


def poolings(count):
    """Geometries of windows on single channels, with the windows that fit entirely."""
    for seed in range(count):
        g = geometries.pooling(seed)
        g = g._replace(channels=min(g.channels, 5), ceil_mode=False,
                       outputs=tuple(w.output_size(n) for n, w in zip(g.sizes, g.windows)))
        if prod(g.y_shape) * prod(w.kernel for w in g.windows) <= 30_000:
            yield g


def parameters_of(g):
    return {name: value for name, value in g.parameters.items() if name != "ceil_mode"}


# ---------------------------------------------------------------- values worked by hand


def test_zeros_follow_every_row_and_column():
    x = np.array([[[[1, 2], [3, 4]]]])
    np.testing.assert_array_equal(cyconv.upsample_zeros(x, 2)[0, 0],
                                  [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(cyconv.upsample_zeros(x, 2, trailing=0)[0, 0], [[1, 0, 2], [0, 0, 0], [3, 0, 4]])
    np.testing.assert_array_equal(cyconv.upsample_zeros(x, (1, 3), trailing=(0, 1))[0, 0],
                                  [[1, 0, 0, 2, 0], [3, 0, 0, 4, 0]])


def test_downsampling_keeps_the_first_of_every_few():
    x = np.arange(20).reshape(1, 4, 5)
    np.testing.assert_array_equal(cyconv.downsample2d(x, (3, 2)), [[[0, 2, 4], [15, 17, 19]]])


def test_columns_list_channels_then_taps():
    x = np.arange(8).reshape(1, 2, 4)
    np.testing.assert_array_equal(cyconv.unfold(x, 2, stride=2, padding=((0, 1),)),
                                  [[[0, 2], [1, 3], [4, 6], [5, 7]]])
    np.testing.assert_array_equal(cyconv.unfold(x, 3, padding=1, dilation=2)[0, :3], [[0, 0], [1, 2], [3, 0]])


def test_columns_folded_add_up():
    columns = [[1.0, 2, 3], [10, 20, 30]]
    np.testing.assert_array_equal(cyconv.fold1d(columns, 4, 2), [[1, 12, 23, 30]])
    np.testing.assert_array_equal(cyconv.fold1d(columns, 6, 2, stride=2), [[1, 10, 2, 20, 3, 30]])
    np.testing.assert_array_equal(cyconv.fold1d(columns, 5, 2, dilation=2), [[1, 2, 13, 20, 30]])


def test_matrix_of_one_channel_is_a_toeplitz_matrix(rng):
    weight = rng.integers(1, 9, (1, 1, 4))
    matrix = cyconv.convolution_matrix(weight, (1, 9), padding=2).toarray()
    for offset in range(-9, 10):
        assert len(set(np.diagonal(matrix, offset))) <= 1


# ---------------------------------------------------------------- exact on integers


@pytest.mark.parametrize("data_format", LAYOUTS)
def test_columns_are_exact_and_keep_the_dtype(data_format, nan_in_new_arrays):
    dtypes = (np.float32, np.float64, np.int8, np.int64, np.float16)
    for number, g in enumerate(poolings(400)):
        x = integers(np.random.default_rng(g.seed), g.x_shape).astype(dtypes[number % 5])
        expected = reference.unfold(x, g.windows, g.outputs)
        columns = cyconv.unfold(in_layout(x, data_format), data_format=data_format, **parameters_of(g))
        assert columns.dtype == x.dtype and columns.flags.c_contiguous, g
        assert np.array_equal(columns, columns_in_layout(expected, data_format)), g


@pytest.mark.parametrize("data_format", LAYOUTS)
def test_folded_columns_are_exact(data_format, nan_in_new_arrays):
    for number, g in enumerate(poolings(400)):
        shape = (g.batch, g.channels * prod(w.kernel for w in g.windows), prod(g.outputs))
        columns = integers(np.random.default_rng(g.seed), shape).astype(FLOATS[number % 2])
        expected = reference.fold(columns, g.sizes, g.windows, g.outputs)
        maps = cyconv.fold(columns_in_layout(columns, data_format), g.sizes, data_format=data_format,
                           **parameters_of(g))
        assert maps.dtype == columns.dtype and maps.flags.c_contiguous, g
        assert np.array_equal(channels_first(maps, data_format), expected), g


@pytest.mark.parametrize("data_format", LAYOUTS)
def test_resampling_is_exact_and_keeps_the_dtype(data_format, rng):
    for case in range(200):
        rank = case % 3 + 1
        factors = tuple(map(int, rng.integers(1, 5, rank)))
        trailing = tuple(int(rng.integers(0, f)) for f in factors)
        x = integers(rng, (2, 3, *rng.integers(0, 5, rank))).astype((np.int16, np.float32)[case % 2])
        given_x = in_layout(x, data_format)
        for ends in (trailing, None):
            y = cyconv.upsample_zeros(given_x, factors, trailing=ends, data_format=data_format)
            expected = reference.upsample_zeros(x, factors, ends or tuple(f - 1 for f in factors))
            if ends is None and all(x.shape):
                assert expected.shape[2:] == tuple(n * f for n, f in zip(x.shape[2:], factors))
            assert y.dtype == x.dtype and y.flags.c_contiguous
            if all(x.shape):
                assert np.array_equal(channels_first(y, data_format), expected), (x.shape, factors, ends)
            else:
                assert y.size == 0
            back = cyconv.downsample(y, factors, data_format=data_format)
            assert_same_bits(back.astype(float), given_x.astype(float), x.shape, factors, ends)


def small_convolutions(count):
    for seed in range(count):
        g = geometries.convolution(seed)._replace(batch=1 + seed % 2)
        if max(prod(g.x_shape), prod(g.y_shape)) <= 600 and prod(g.weight_shape) <= 20_000:
            yield g


@pytest.mark.parametrize("data_format", LAYOUTS)
def test_matrix_is_the_convolution_and_transposed_its_gradient(data_format, dtype):
    count = 0
    for g in small_convolutions(400):
        x, weight, _, dy = (a.astype(dtype) for a in g.integers())
        x, dy = in_layout(x, data_format), in_layout(dy, data_format)
        given_parameters = {**g.parameters, "data_format": data_format}
        matrix = cyconv.convolution_matrix(weight, x.shape, **given_parameters)
        y = cyconv.conv(x, weight, **given_parameters)
        assert matrix.dtype == dtype and matrix.shape == (y.size, x.size), g
        assert np.array_equal(matrix @ x.ravel(), y.ravel()), g
        dx = cyconv.conv_grad_input(dy, weight, x.shape, **given_parameters)
        assert np.array_equal(matrix.T @ dy.ravel(), dx.ravel()), g
        count += 1
    assert count > 100


def test_matrix_is_exact_and_has_an_entry_for_every_tap_on_the_input():
    for g in small_convolutions(200):
        weight = np.abs(g.integers()[1]) + 1
        expected = reference.convolution_matrix(weight, g.x_shape[1:], g.windows, g.outputs, g.groups)
        matrix = cyconv.convolution_matrix(weight, g.x_shape[1:], **g.parameters)
        assert np.array_equal(matrix.toarray(), expected), g
        zeros = cyconv.convolution_matrix(0 * weight, g.x_shape[1:], **g.parameters)
        assert matrix.nnz == zeros.nnz == np.count_nonzero(expected), g


def test_matrix_of_a_batch_is_block_diagonal():
    weight = np.arange(1, 13).reshape(2, 2, 3)
    one = cyconv.convolution_matrix(weight, (2, 5)).toarray()
    three = cyconv.convolution_matrix(weight, (3, 2, 5))
    np.testing.assert_array_equal(three.toarray(), np.kron(np.eye(3), one))
    assert three.nnz == 3 * one.astype(bool).sum()
    assert cyconv.convolution_matrix(weight, (0, 2, 5)).shape == (0, 0)


@pytest.mark.parametrize("x_shape, weight_shape, padding", [
    ((0, 4), (3, 0, 2), 0), ((2, 4), (0, 2, 2), 0), ((2, 0), (3, 2, 2), 1), ((2, 1), (3, 2, 1), 1)])
def test_matrix_of_empty_axes(x_shape, weight_shape, padding):
    y = cyconv.conv(np.ones(x_shape), np.ones(weight_shape), padding=padding)
    matrix = cyconv.convolution_matrix(np.ones(weight_shape), x_shape, padding=padding)
    assert matrix.shape == (y.size, prod(x_shape))
    np.testing.assert_array_equal(matrix @ np.ones(prod(x_shape)), y.ravel())


# ---------------------------------------------------------------- identities


def test_fractional_stride_is_upsampling_convolution_and_downsampling(isa, data_format):
    """conv(x, stride=S2, input_dilation=S1), without a tolerance."""
    for seed in range(80):
        g = geometries.convolution(seed)
        x, weight, bias, _ = (a.astype(np.float32) for a in g.integers())
        x = in_layout(x, data_format)
        strides, spread = g.parameters["stride"], g.parameters["input_dilation"]
        plain = {**g.parameters, "stride": 1, "input_dilation": 1, "data_format": data_format}
        upsampled = cyconv.upsample_zeros(x, spread, trailing=0, data_format=data_format)
        dense = cyconv.conv(upsampled, weight, bias, **plain)
        y = cyconv.conv(x, weight, bias, **g.parameters, data_format=data_format)
        assert np.array_equal(cyconv.downsample(dense, strides, data_format=data_format), y), g


def test_downsampling_is_the_adjoint_of_upsampling_and_each_the_gradient_of_the_other(rng):
    for n, f in product(range(1, 12), range(1, 6)):
        x = integers(rng, (2, 3, n))
        for end in range(f):
            y = integers(rng, (2, 3, (n - 1) * f + 1 + end))
            assert np.vdot(cyconv.upsample_zeros(x, f, trailing=end), y) == np.vdot(x, cyconv.downsample(y, f))
        y = integers(rng, cyconv.downsample(x, f).shape)
        dx = cyconv.upsample_zeros(y, f, trailing=(n - 1) % f)
        assert dx.shape == x.shape and np.vdot(cyconv.downsample(x, f), y) == np.vdot(x, dx)


def test_folding_is_the_adjoint_of_unfolding(data_format):
    for g in poolings(200):
        rng = np.random.default_rng(g.seed)
        x = in_layout(integers(rng, g.x_shape), data_format).astype(float)
        columns = cyconv.unfold(x, **parameters_of(g), data_format=data_format)
        dcolumns = integers(rng, columns.shape)
        dx = cyconv.fold(dcolumns, g.sizes, **parameters_of(g), data_format=data_format)
        assert np.vdot(columns, dcolumns) == np.vdot(x, dx), g


def test_convolution_is_a_matrix_product_with_the_columns(data_format):
    for seed in range(200):
        g = geometries.convolution(seed)._replace(groups=1)
        if any(w.input_dilation > 1 for w in g.windows) or g.windows[0].flip or prod(g.y_shape) > 5000:
            continue
        x, weight, _, _ = (a.astype(float) for a in g.integers())
        x, rows = in_layout(x, data_format), weight.reshape(len(weight), -1)
        given_parameters = {name: g.parameters[name] for name in ("stride", "padding", "dilation")}
        columns = cyconv.unfold(x, weight.shape[2:], **given_parameters, data_format=data_format)
        y = columns @ rows.T if data_format == "channels_last" else rows @ columns
        expected = cyconv.conv(x, weight, **given_parameters, data_format=data_format)
        assert np.array_equal(y.reshape(expected.shape), expected), g


@pytest.mark.parametrize("padding", ["valid", "same", "same_lower", "full", ((0, 3), (2, 1))])
def test_forms_of_padding_are_those_of_the_convolution(padding, rng):
    x, weight = rng.integers(-8, 9, (2, 3, 7, 8)), rng.integers(-8, 9, (4, 3, 2, 4))
    how = {"stride": (2, 1), "padding": padding, "dilation": (1, 2)}
    y, columns = cyconv.conv2d(x, weight, **how), cyconv.unfold(x, (2, 4), **how)
    np.testing.assert_array_equal((weight.reshape(4, -1) @ columns).reshape(y.shape), y)
    dy = rng.integers(-8, 9, y.shape)
    dcolumns = weight.reshape(4, -1).T @ dy.reshape(2, 4, -1)
    dx = cyconv.conv2d_grad_input(dy, weight, x.shape, **how)
    np.testing.assert_array_equal(cyconv.fold(dcolumns, (7, 8), (2, 4), **how), dx)
    matrix = cyconv.convolution_matrix(weight, x.shape, **how)
    np.testing.assert_array_equal(matrix @ x.ravel(), y.ravel())


def test_folding_what_was_unfolded_counts_the_windows_of_each_cell():
    x = np.arange(1.0, 31).reshape(1, 1, 5, 6)
    counts = cyconv.conv2d_grad_input(np.ones((1, 1, 2, 5)), np.ones((1, 1, 3, 2)), x.shape, stride=(2, 1))
    np.testing.assert_array_equal(
        cyconv.fold(cyconv.unfold(x, (3, 2), stride=(2, 1)), (5, 6), (3, 2), stride=(2, 1)), counts * x)


def test_unbatched_and_named_ranks_are_the_batched_generic_function(rng, data_format):
    for rank, digit in enumerate(("1d", "2d", "3d"), 1):
        x = rng.standard_normal((1, *[5] * rank, 2) if data_format == "channels_last" else (1, 2, *[5] * rank))
        columns = cyconv.unfold(x, 2, data_format=data_format)
        for name, args in (("upsample_zeros", (x, 2)), ("downsample", (x, 2)), ("unfold", (x, 2)),
                           ("fold", (columns, (5,) * rank, (2,) * rank))):
            y = getattr(cyconv, name)(*args, data_format=data_format)
            named = getattr(cyconv, name + digit)
            assert_same_bits(named(*args, data_format=data_format), y)
            assert_same_bits(named(args[0][0], *args[1:], data_format=data_format), y[0])


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_array_is_read(kind, rng):
    x, columns = rng.standard_normal((2, 3, 6, 7)), rng.standard_normal((2, 12, 30))
    weight = rng.standard_normal((4, 3, 2, 2))
    assert_same_bits(cyconv.upsample_zeros(KINDS[kind](x), 2), cyconv.upsample_zeros(x, 2))
    assert_same_bits(cyconv.downsample(KINDS[kind](x), 2), cyconv.downsample(x, 2))
    assert_same_bits(cyconv.unfold(KINDS[kind](x), 2), cyconv.unfold(x, 2))
    assert_same_bits(cyconv.fold(KINDS[kind](columns), (6, 7), 2), cyconv.fold(columns, (6, 7), 2))
    assert_same_bits(cyconv.convolution_matrix(KINDS[kind](weight), x.shape).toarray(),
                     cyconv.convolution_matrix(weight, x.shape).toarray())


def test_results_share_no_memory_with_the_input(rng):
    x = rng.standard_normal((1, 1, 4))
    for y in (cyconv.upsample_zeros(x, 1), cyconv.downsample(x, 1), cyconv.unfold(x, 1), cyconv.fold(x, 4, (1,))):
        assert np.array_equal(y, x) and not np.may_share_memory(y, x)


# ---------------------------------------------------------------- peers


def test_columns_agree_with_pytorch(rng):
    torch = pytest.importorskip("torch")
    for _ in range(100):
        kernel, stride, padding, dilation = (tuple(map(int, rng.integers(low, high, 2)))
                                             for low, high in ((1, 4), (1, 4), (0, 3), (1, 3)))
        sizes = tuple(int(rng.integers(7, 12)) for _ in range(2))
        x = rng.standard_normal((2, 3, *sizes))
        theirs = torch.nn.functional.unfold(torch.from_numpy(x), kernel, dilation, padding, stride)
        how = {"stride": stride, "padding": padding, "dilation": dilation}
        assert_same_bits(cyconv.unfold(x, kernel, **how), theirs.numpy())
        columns = rng.integers(-8, 9, theirs.shape).astype(float)
        folded = torch.nn.functional.fold(torch.from_numpy(columns), sizes, kernel, dilation, padding, stride)
        np.testing.assert_array_equal(cyconv.fold(columns, sizes, kernel, **how), folded.numpy())


def test_columns_of_signals_and_volumes_are_refused_by_pytorch():
    torch = pytest.importorskip("torch")
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.nn.functional.unfold(torch.ones(1, 1, 3, 3, 3), 2)
    assert cyconv.unfold(np.ones((1, 1, 3, 3, 3)), 2).shape == (1, 8, 8)


def test_scipy_is_imported_only_for_the_matrix():
    code = ("import sys, numpy, cyconv; x = numpy.ones((1, 1, 4)); cyconv.unfold(x, 2); cyconv.upsample_zeros(x, 2); "
            "cyconv.correlate(x[0, 0], x[0, 0]); cyconv.filters.gabor_bank(); assert 'scipy' not in sys.modules; "
            "cyconv.convolution_matrix(x, (1, 4)); assert 'scipy' in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------- errors

X = np.ones((1, 1, 4, 5))


@pytest.mark.parametrize("call, error, message", [
    (lambda: cyconv.upsample_zeros(X, 0), ValueError, "upsample_zeros: factor must be >= 1 on every axis, got 0"),
    (lambda: cyconv.upsample_zeros(X, 1.5), TypeError, "upsample_zeros: factor must be an int or 2 ints, got 1.5"),
    (lambda: cyconv.upsample_zeros2d(X, (1, 2, 3)), ValueError, "upsample_zeros2d: factor must be an int or 2 ints"),
    (lambda: cyconv.upsample_zeros(X, (2, 3), trailing=2), ValueError,
     "upsample_zeros: trailing must be < factor=(2, 3) on every axis, got 2"),
    (lambda: cyconv.upsample_zeros(X, 2, trailing=-1), ValueError, "upsample_zeros: trailing must be >= 0"),
    (lambda: cyconv.upsample_zeros(X, 2**30), ValueError, "upsample_zeros: the padded input (4294967296 cells)"),
    (lambda: cyconv.upsample_zeros(X, 2**28), ValueError, "upsample_zeros: an array of shape"),
    (lambda: cyconv.upsample_zeros(X + 1j, 2), TypeError, "upsample_zeros: unsupported dtype complex128 for x"),
    (lambda: cyconv.downsample(X, (2,), data_format="NHWC"), ValueError, "downsample: data_format must be one of"),
    (lambda: cyconv.downsample2d(X[0, 0], 2), ValueError,
     "downsample2d: x must have 4 dimensions (N, C, H, W) or 3 (C, H, W), got shape (4, 5)"),
    (lambda: cyconv.downsample(np.ones(3), 2), ValueError, "downsample: arrays must have 1 to 3 spatial axes"),
    (lambda: cyconv.unfold(X, 6), ValueError, "unfold: effective kernel (6, 6) is larger than the padded input (4, 5)"),
    (lambda: cyconv.unfold(X, 2, 2), TypeError, "unfold: too many positional arguments; stride, padding"),
    (lambda: cyconv.unfold(X, 2, padding=(1, 1, 1, 1)), ValueError, "for per-side padding write ((1, 1), (1, 1))"),
    (lambda: cyconv.fold(np.ones((1, 3, 12)), (4, 5), 2), ValueError,
     "fold: x must have shape (N, C * 4, 12) or (C * 4, 12), for 4 taps and 12 windows in maps of (4, 5), "
     "got (1, 3, 12)"),
    (lambda: cyconv.fold(np.ones((1, 4, 11)), (4, 5), 2, data_format="channels_last"), ValueError,
     "fold: x must have shape (N, 12, C * 4) or (12, C * 4)"),
    (lambda: cyconv.fold(np.ones((1, 4, 12)), 4, 2), ValueError, "fold: arrays must have 1 to 3 spatial axes, got 0"),
    (lambda: cyconv.fold(np.ones((1, 4, 12)), (4, -5), 2), ValueError, "fold: output_size must be >= 0"),
    (lambda: cyconv.fold(np.ones(4), (4, 5), 2), ValueError, "got (4,)"),
    (lambda: cyconv.convolution_matrix(np.ones((2, 3)), (3, 4)), ValueError,
     "convolution_matrix: weight must have 3 to 5 dimensions"),
    (lambda: cyconv.convolution_matrix(np.ones((2, 3, 2)), (4, 5)), ValueError,
     "convolution_matrix: x has 4 channels but weight expects 3"),
    (lambda: cyconv.convolution_matrix(np.ones((2, 3, 2)), (5,)), ValueError,
     "convolution_matrix: input_shape must be 3 sizes >= 0, got (5,)"),
    (lambda: cyconv.convolution_matrix(np.ones((2, 3, 2)), X), ValueError, "pass its shape"),
])
def test_errors_name_the_function_and_the_value(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert message in str(raised.value)


def test_hostile_parameters_are_computed_or_refused_by_name():
    for first, second in product(HOSTILE, HOSTILE):
        for call in (lambda a, b: cyconv.upsample_zeros(X, a, trailing=b), lambda a, b: cyconv.downsample(X, a),
                     lambda a, b: cyconv.unfold(X, a, stride=b),
                     lambda a, b: cyconv.unfold(X, 2, padding=a, dilation=b),
                     lambda a, b: cyconv.fold(np.ones((1, 4, 12)), a, b), lambda a, b: cyconv.fold(a, (4, 5), b),
                     lambda a, b: cyconv.convolution_matrix(X, (1, 5, 5), stride=a, padding=b),
                     lambda a, b: cyconv.convolution_matrix(X, a, groups=b)):
            try:
                call(first, second)
            except MemoryError:
                pass
            except (ValueError, TypeError) as error:
                assert str(error).partition(":")[0] in ("upsample_zeros", "downsample", "unfold", "fold",
                                                        "convolution_matrix"), (first, second)
