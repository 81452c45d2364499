"""The numbers and concepts of lectures on convolutional networks, numbered as their examples are.

What a user learns there can be done here in a line or two.
"""

import numpy as np
import pytest

import cyconv
from cyconv import filters
from cyconv._geometry import windows
from cyconv.layers import Conv, Dense, MaxPool, ReLU
from cyconv.selftest.arrays import channels_first, in_layout


def plane(values):
    """A batch of one sample with one channel."""
    return np.array([[values]], float)


X = np.arange(9.0).reshape(3, 3)
W = [[0, 1], [2, 3]]

# ---------------------------------------------------------------- 1 to 9: convolution

FIVE = [[0, 2, -3, 2, -3], [-2, -2, -2, -1, -2], [-3, -3, 2, -2, 1], [-3, -2, 1, -3, 1], [0, -1, 0, 2, -3]]
FIVE_W = [[-1, 0, -2], [1, 1, -1], [-1, -1, 0]]
TENTHS = [[1, .9, 1.6, .3, .4], [.9, .2, 0, .5, 3], [.4, .2, .8, .6, .3], [.5, .8, 1, .7, 2.1]]

CONVOLUTIONS = {
    "1": (X, W, {}, [[19, 25], [37, 43]]),
    "1_bias": (X, W, {"bias": [1]}, [[20, 26], [38, 44]]),
    "2_padding": (X, W, {"padding": 1}, [[0, 3, 8, 4], [9, 19, 25, 10], [21, 37, 43, 16], [6, 7, 8, 0]]),
    "2_strides": (X, W, {"padding": 1, "stride": (3, 2)}, [[0, 8], [6, 8]]),
    "3": (X, [[0, 1], [1, -1]], {"bias": [1]}, [[1, 2], [4, 5]]),
    "5_stride_1": (FIVE, FIVE_W, {"bias": [-1]}, [[9, -9, 7], [2, 5, 6], [-7, 9, -10]]),
    "5_stride_2": (FIVE, FIVE_W, {"bias": [-1], "stride": 2}, [[9, 7], [-7, -10]]),
    "6_stride_1": (TENTHS, [[1, 0], [1, 1]], {}, [[2.1, 1.1, 2.1, 3.8], [1.5, 1.2, 1.4, 1.4], [1.7, 2, 2.5, 3.4]]),
    "6_stride_2": (TENTHS, [[1, 0], [1, 1]], {"stride": 2}, [[2.1, 2.1], [1.7, 2.5]]),
    "6_right_column": (TENTHS, [[1, 0], [1, 1]], {"stride": 2, "padding": ((0, 0), (0, 1))},
                       [[2.1, 2.1, 3.4], [1.7, 2.5, 2.4]]),
    "7_flip": (X, [[3, 2], [1, 0]], {"flip": True}, [[19, 25], [37, 43]]),
}


@pytest.mark.parametrize("x, weight, parameters, expected", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolution(isa, data_format, x, weight, parameters, expected):
    y = cyconv.conv2d(in_layout(plane(x), data_format), plane(weight), **parameters, data_format=data_format)
    np.testing.assert_allclose(channels_first(y, data_format)[0, 0], expected, rtol=1e-15)


def test_4_convolution_sums_over_input_channels(isa):
    y = cyconv.conv2d(np.array([[X, X + 1]]), np.array([[W, np.add(W, 1)]]))
    np.testing.assert_array_equal(y[0, 0], [[56, 72], [104, 120]])


def test_5_stride_2_keeps_every_second_row_and_column():
    y = cyconv.conv2d(plane(FIVE), plane(FIVE_W))
    np.testing.assert_array_equal(cyconv.downsample(y, (2, 2)), cyconv.conv2d(plane(FIVE), plane(FIVE_W), stride=2))


def test_7_flip_rotates_the_kernel(isa):
    """On an impulse the mathematical convolution shows the kernel, the correlation the rotated kernel."""
    impulse, weight = [[1.0]], [[1.0, 2], [3, 4]]
    np.testing.assert_array_equal(cyconv.convolve(impulse, weight), weight)
    np.testing.assert_array_equal(cyconv.correlate(impulse, weight), [[4, 3], [2, 1]])
    np.testing.assert_array_equal(cyconv.conv2d(plane(impulse), plane(weight), padding="full", flip=True)[0, 0], weight)


def test_7_in_one_dimension_is_numpy_convolve(isa, rng):
    """s_t = sum_a u_a w_(t-a)"""
    u, w = rng.integers(-8, 9, 20), rng.integers(-8, 9, 5)
    s = cyconv.conv(u.reshape(1, 1, -1), w.reshape(1, 1, -1), padding="full", flip=True)
    np.testing.assert_array_equal(s[0, 0], np.convolve(u, w))
    np.testing.assert_array_equal(cyconv.convolve(u, w), s[0, 0])


def test_8_dilation_in_one_dimension(isa):
    """z[h] = sum_i w[i] x[h + i d], as with a kernel with d - 1 zeros between its elements."""
    x, w, d = np.arange(10.0) ** 2, np.array([1.0, 10, 100]), 3
    z = cyconv.conv(x.reshape(1, 1, -1), w.reshape(1, 1, -1), dilation=d)
    np.testing.assert_array_equal(z[0, 0], [sum(w[i] * x[h + i * d] for i in range(3)) for h in range(4)])
    spread = cyconv.upsample_zeros1d(w[None], d, trailing=0)
    np.testing.assert_array_equal(spread, [[1, 0, 0, 10, 0, 0, 100]])
    np.testing.assert_array_equal(cyconv.conv(x.reshape(1, 1, -1), spread[None]), z)


def test_9_fractional_stride_puts_zeros_after_every_row_and_column(isa):
    x, w = plane([[1, 2], [3, 4]]), plane([[1, 10], [100, 1000]])
    upsampled = cyconv.upsample_zeros(x, (2, 2))
    np.testing.assert_array_equal(upsampled[0, 0], [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]])
    y = cyconv.conv2d(upsampled, w)
    np.testing.assert_array_equal(y[0, 0], [[1, 20, 2], [300, 4000, 400], [3, 40, 4]])
    np.testing.assert_array_equal(cyconv.conv2d(x, w, input_dilation=2, padding=((0, 1), (0, 1))), y)


def test_9_any_stride_is_upsampling_convolution_and_downsampling(isa, rng):
    """Stride 2/3: upsample by 3, convolve, downsample by 2."""
    x, weight = rng.integers(-8, 9, (1, 1, 4, 5)), rng.integers(-8, 9, (1, 1, 3, 3))
    upsampled = cyconv.upsample_zeros2d(x, 3, trailing=0)
    np.testing.assert_array_equal(cyconv.conv2d(x, weight, stride=2, input_dilation=3),
                                  cyconv.downsample2d(cyconv.conv2d(upsampled, weight), 2))


# ---------------------------------------------------------------- 10 to 13: pooling

TENS = [[12, 20, 30, 0], [20, 12, 2, 0], [0, 70, 5, 2], [8, 2, 90, 3]]
Y = [[1.1, 2.0, .3, 1.0, .3], [1.9, 3.2, 2.1, 1.5, 0], [2.3, 0, 3.8, 0, 4.3], [1.9, 1.9, 1.9, .3, 2.5]]


@pytest.mark.parametrize("function, x, stride, expected", [
    (cyconv.max_pool2d, X, 1, [[4, 5], [7, 8]]),
    (cyconv.avg_pool2d, TENS, None, [[16, 8], [20, 25]]),
    (cyconv.max_pool2d, TENS, None, [[20, 30], [70, 90]]),
    (cyconv.max_pool2d, Y, 1, [[3.2, 3.2, 2.1, 1.5], [3.2, 3.8, 3.8, 4.3], [2.3, 3.8, 3.8, 4.3]]),
    (cyconv.avg_pool2d, Y, 1, [[2.05, 1.9, 1.225, .7], [1.85, 2.275, 1.85, 1.45], [1.525, 1.9, 1.5, 1.775]]),
], ids=["10_max", "11_mean", "11_max", "12_max", "12_mean"])
def test_pooling(function, x, stride, expected, isa, data_format):
    y = function(in_layout(plane(x), data_format), 2, stride, data_format=data_format)
    np.testing.assert_allclose(channels_first(y, data_format)[0, 0], expected, rtol=1e-15)


def test_12_place_of_the_maximum_in_its_window(isa):
    _, indices = cyconv.max_pool2d(plane(Y), 2, 1, return_indices=True)
    row_in_window = indices[0, 0] // 5 - np.arange(3)[:, None]
    column_in_window = indices[0, 0] % 5 - np.arange(4)
    np.testing.assert_array_equal(2 * row_in_window + column_in_window + 1, [[4, 3, 3, 3], [2, 4, 3, 4], [1, 2, 1, 2]])


def test_12_mean_is_a_convolution_with_a_uniform_kernel(isa):
    mean = cyconv.avg_pool2d(plane(Y), 2, 1)
    np.testing.assert_allclose(mean, cyconv.conv2d(plane(Y), filters.bank([filters.box(2)])), rtol=1e-15)


def test_13_sum_and_l2_norm_of_a_window():
    total = cyconv.avg_pool2d(plane(TENS), 2, divisor_override=1)
    np.testing.assert_array_equal(total[0, 0], [[64, 32], [80, 100]])
    norm = np.sqrt(cyconv.avg_pool2d(np.square(plane(TENS)), 2, divisor_override=1))
    np.testing.assert_allclose(norm[0, 0, 0, 0], np.sqrt(12 ** 2 + 20 ** 2 + 20 ** 2 + 12 ** 2), rtol=1e-15)


def test_13_a_general_function_of_the_window_sees_it_as_a_column():
    """The median of each 2 x 2 window."""
    medians = np.median(cyconv.unfold(plane(TENS), 2, stride=2), axis=1)
    np.testing.assert_array_equal(medians, [[16, 1, 5, 4]])


def test_13_pooling_keeps_the_number_of_channels(rng):
    x = rng.standard_normal((2, 7, 6, 6))
    assert cyconv.max_pool2d(x, 2).shape == cyconv.avg_pool2d(x, 2).shape == (2, 7, 3, 3)


# ---------------------------------------------------------------- 14 to 19: sizes, counts, receptive fields


@pytest.mark.parametrize("x_shape, weight_shape, parameters, y_shape", [
    ((1, 7, 7), (1, 1, 3, 3), {"stride": 2}, (1, 3, 3)),
    ((1, 32, 32), (1, 1, 5, 5), {}, (1, 28, 28)),
    ((1, 5, 7), (1, 1, 3, 1), {"stride": 2}, (1, 2, 4)),
    ((5, 20), (12, 5, 6), {"stride": 2, "padding": 1}, (12, 9)),
    ((4, 32, 32), (16, 4, 5, 5), {"stride": 3, "padding": 2}, (16, 11, 11)),
    ((12, 64, 64), (3, 12, 7, 5), {"stride": (2, 1), "padding": (2, 2)}, (3, 31, 64)),
    ((1, 320, 280), (1, 1, 2, 1), {}, (1, 319, 280)),
])
def test_14_output_size(x_shape, weight_shape, parameters, y_shape):
    assert cyconv.conv(np.zeros(x_shape), np.zeros(weight_shape), **parameters).shape == y_shape
    assert cyconv.output_size(x_shape[1:], weight_shape[2:], **parameters) == y_shape[1:]


def test_14_seven_layers():
    n = 32
    for _ in range(7):
        n = cyconv.output_size(n, 5)
    assert n == 4


@pytest.mark.parametrize("kernel, front, end", [(2, 1, 0), (3, 1, 1), (4, 2, 1), (6, 3, 2)])
def test_15_same_lower_puts_the_odd_cell_to_the_front(kernel, front, end, rng):
    (window,) = windows("conv", (10,), (kernel,), padding="same_lower")
    assert (window.low, window.high) == (front, end)
    x, weight = rng.integers(-8, 9, (1, 1, 10)), rng.integers(-8, 9, (1, 1, kernel))
    np.testing.assert_array_equal(cyconv.conv(x, weight, padding="same_lower"),
                                  cyconv.conv(x, weight, padding=((front, end),)))


@pytest.mark.parametrize("args, parameters, expected", [
    ((3, 4, (5,)), {"bias": False}, 60),
    ((10, 5, (8, 8)), {}, 3205),
    ((5, 2, (2, 4)), {}, 82),
    ((2, 2, (2, 2, 3)), {"bias": False}, 48),
    ((3, 64, 3), {}, 1792),
    ((36_000_000, 100, 1), {"bias": False}, 3_600_000_000),
])
def test_16_parameters(args, parameters, expected):
    assert cyconv.conv_parameters(*args, **parameters) == expected


def test_17_multiplications():
    assert cyconv.conv_macs((3, 224, 224), 64, 3) == 64 * 3 * 3 * 3 * 222 * 222


def test_18_depthwise_separable_convolution_has_fewer_parameters(rng):
    channels, h, w = 16, 3, 5
    depthwise = cyconv.conv_parameters(channels, channels, (h, w), groups=channels, bias=False)
    pointwise = cyconv.conv_parameters(channels, channels, 1, bias=False)
    assert depthwise + pointwise == h * w * channels + channels * channels
    assert cyconv.conv_parameters(channels, channels, (h, w), bias=False) == h * w * channels * channels
    # Together they are one convolution whose kernels are products.
    x = rng.integers(-3, 4, (1, channels, 7, 8))
    each, mix = rng.integers(-3, 4, (channels, 1, h, w)), rng.integers(-3, 4, (channels, channels, 1, 1))
    np.testing.assert_array_equal(cyconv.separable_conv2d(x, each, mix), cyconv.conv2d(x, mix * each[:, 0]))


@pytest.mark.parametrize("layers, field", [([(3, 1)], 3), ([(3, 1)] * 2, 5), ([(3, 1)] * 3, 7), ([(3, 2), (3, 1)], 7)])
def test_19_receptive_field(layers, field):
    assert cyconv.receptive_field(layers) == field


# ---------------------------------------------------------------- concepts


def test_convolution_is_a_structured_matrix():
    """Sparse connections (most entries are missing) and shared parameters (the rows are shifted copies)."""
    weight = np.array([[[2.0, 3, 5]]])
    matrix = cyconv.convolution_matrix(weight, (1, 6))
    np.testing.assert_array_equal(matrix.toarray(), [
        [2, 3, 5, 0, 0, 0], [0, 2, 3, 5, 0, 0], [0, 0, 2, 3, 5, 0], [0, 0, 0, 2, 3, 5]])
    x = np.arange(6.0)
    np.testing.assert_array_equal(matrix @ x, cyconv.conv(x[None], weight)[0])
    assert matrix.nnz == 12 and cyconv.conv_parameters(1, 1, (3,), bias=False) == 3


def test_convolution_in_two_dimensions_is_a_matrix_of_toeplitz_blocks():
    matrix = cyconv.convolution_matrix(plane(W), (1, 3, 3)).toarray()
    np.testing.assert_array_equal(matrix @ X.ravel(), [19, 25, 37, 43])
    blocks = matrix.reshape(2, 2, 3, 3).swapaxes(1, 2)
    np.testing.assert_array_equal(blocks[0, 0], [[0, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(blocks[0, 1], blocks[1, 2])


def test_locality_one_cell_changes_only_the_outputs_whose_windows_hold_it(rng):
    x, weight = rng.standard_normal((1, 1, 9, 9)), rng.standard_normal((1, 1, 3, 3))
    changed = x.copy()
    changed[..., 4, 5] += 1
    rows, columns = np.nonzero((cyconv.conv2d(x, weight) != cyconv.conv2d(changed, weight))[0, 0])
    assert set(zip(rows, columns)) == {(r, s) for r in (2, 3, 4) for s in (3, 4, 5)}


def test_convolution_of_a_shifted_image_is_the_shifted_convolution(rng):
    image, kernel = rng.integers(0, 256, (8, 9)), rng.integers(-3, 4, (3, 3))
    y = cyconv.correlate(image, kernel, "same", "wrap")
    shifted = cyconv.correlate(np.roll(image, (2, -3), (0, 1)), kernel, "same", "wrap")
    np.testing.assert_array_equal(shifted, np.roll(y, (2, -3), (0, 1)))


def test_pooling_makes_small_shifts_harmless():
    x = np.zeros((1, 1, 8))
    x[..., 4] = 1
    pooled = cyconv.max_pool(x, 4)
    np.testing.assert_array_equal(cyconv.max_pool(np.roll(x, 2), 4), pooled)
    assert not np.array_equal(np.roll(x, 2), x)


def test_pattern_detectors():
    np.testing.assert_array_equal(filters.edge(), [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]])
    np.testing.assert_array_equal(filters.sharpen(), [[0, -1, 0], [-1, 5, -1], [0, -1, 0]])
    np.testing.assert_array_equal(filters.gaussian(), np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16)
    weight = filters.bank([filters.edge(), filters.sharpen(), filters.gaussian(), filters.gabor(3, 0.25)])
    even_ground = cyconv.conv2d(np.full((1, 1, 5, 5), 7.0), weight)[0, :, 0, 0]
    np.testing.assert_array_equal(even_ground[:3], [0, 7, 7])


def test_several_kernels_give_as_many_feature_maps_each_over_all_channels(rng):
    x, weight = rng.integers(-8, 9, (1, 3, 6, 6)), rng.integers(-8, 9, (5, 3, 2, 2))
    maps = cyconv.conv2d(x, weight)
    assert maps.shape == (1, 5, 5, 5)
    for k in range(5):
        total = sum(cyconv.correlate(x[0, c], weight[k, c], "valid") for c in range(3))
        np.testing.assert_array_equal(maps[0, k], total)


def test_depthwise_layers_convolve_each_channel_with_its_own_kernel(rng):
    x, weight = rng.integers(-8, 9, (1, 3, 6, 6)), rng.integers(-8, 9, (3, 1, 2, 2))
    maps = cyconv.depthwise_conv2d(x, weight)
    for c in range(3):
        np.testing.assert_array_equal(maps[0, c], cyconv.correlate(x[0, c], weight[c, 0], "valid"))


def test_tiled_layers_take_turns_with_their_weights_and_local_ones_share_none():
    """One tile is a convolution; as many tiles as outputs are a locally connected layer."""
    x, one, two = np.arange(6.0)[None], np.array([[[1.0, 10]]]), np.array([[[100.0, 1000]]])
    np.testing.assert_array_equal(cyconv.tiled_conv1d(x, one[None]), cyconv.conv1d(x, one))
    y = cyconv.tiled_conv1d(x, np.stack([one, two]))
    np.testing.assert_array_equal(y, [[10, 2100, 32, 4300, 54]])
    np.testing.assert_array_equal(cyconv.local_conv1d(x, np.stack([one, two, one, two, one])), y)


def test_transposed_convolution_is_the_transposed_matrix(rng):
    weight, y = rng.integers(-8, 9, (4, 3, 3, 2)), rng.integers(-8, 9, (4, 5, 6))
    x = cyconv.conv_transpose2d(y, weight, stride=2, padding=1)
    matrix = cyconv.convolution_matrix(weight, x.shape, stride=2, padding=1)
    np.testing.assert_array_equal(matrix.T @ y.ravel(), x.ravel())


def test_motif_of_dna_is_found_where_it_stands():
    """One dimension, one channel per letter."""
    letters, text, motif = "ACGT", "TTGACATACGACAGG", "GACA"
    def one_hot(word):
        return np.array([[letter == c for c in word] for letter in letters], float)

    score = cyconv.conv1d(one_hot(text), one_hot(motif)[None])[0]
    assert [i for i in range(len(score)) if score[i] == len(motif)] == [2, 9]


def test_three_dimensions_for_volumes():
    volume = np.zeros((1, 1, 6, 6, 6))
    volume[..., 2:4, 3, 3] = 1
    found = cyconv.conv3d(volume, np.ones((1, 1, 2, 1, 1)))
    assert np.unravel_index(found.argmax(), found.shape) == (0, 0, 2, 3, 3)


def test_blocks_of_lenet():
    layers = [Conv(6, 5, padding=2), ReLU(), MaxPool(2), Conv(16, 5), ReLU(), MaxPool(2),
              Dense(120), ReLU(), Dense(84), ReLU(), Dense(10)]
    network = cyconv.Sequential(layers, (1, 28, 28), random_state=0)
    assert [network.shapes[n] for n in (1, 3, 4, 6, 7)] == [(6, 28, 28), (6, 14, 14), (16, 10, 10), (16, 5, 5), (120,)]
    assert network.vector.size == 156 + 2416 + 48_120 + 10_164 + 850


def test_blocks_of_vgg():
    """Two 3 x 3 layers see what one 5 x 5 layer sees, with fewer parameters."""
    layers = [Conv(8, 3, padding="same"), ReLU(), Conv(8, 3, padding="same"), ReLU(), MaxPool(2), Dense(10)]
    network = cyconv.Sequential(layers, (8, 16, 16), random_state=0)
    assert network.receptive_fields()[3] == (5, 5)
    assert 2 * cyconv.conv_parameters(8, 8, 3, bias=False) < cyconv.conv_parameters(8, 8, 5, bias=False)


# ---------------------------------------------------------------- backpropagation


def test_backpropagation_through_a_stride_puts_zeros_between_the_gradients(rng):
    """The gradient of a strided convolution is that of the dense one, on the upsampled gradient."""
    x, weight = rng.integers(-8, 9, (2, 3, 8, 9)), rng.integers(-8, 9, (4, 3, 3, 2))
    dy = rng.integers(-8, 9, cyconv.conv2d(x, weight, stride=(2, 3)).shape)
    dense = cyconv.conv2d(x, weight).shape[2:]
    spread = cyconv.upsample_zeros(dy, (2, 3), trailing=[(n - 1) % s for n, s in zip(dense, (2, 3))])
    for ours, expected in zip(cyconv.conv2d_backward(dy, x, weight, stride=(2, 3)),
                              cyconv.conv2d_backward(spread, x, weight)):
        np.testing.assert_array_equal(ours, expected)


def test_backpropagation_through_padding_cuts_the_gradient(rng):
    x, weight = rng.integers(-8, 9, (1, 2, 5, 5)), rng.integers(-8, 9, (3, 2, 3, 3))
    dy = rng.integers(-8, 9, (1, 3, 5, 5))
    padded = cyconv.conv2d_backward(dy, np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), weight)
    grads = cyconv.conv2d_backward(dy, x, weight, padding=1)
    np.testing.assert_array_equal(grads.x, padded.x[:, :, 1:-1, 1:-1])
    np.testing.assert_array_equal(grads.weight, padded.weight)


def test_backpropagation_is_a_convolution_with_flipped_kernels_summed_over_output_channels(rng):
    weight, dy = rng.integers(-8, 9, (3, 2, 3, 3)), rng.integers(-8, 9, (1, 3, 4, 4))
    dx = cyconv.conv2d_grad_input(dy, weight, (1, 2, 6, 6))
    for c in range(2):
        np.testing.assert_array_equal(dx[0, c], sum(cyconv.convolve(dy[0, k], weight[k, c]) for k in range(3)))


def test_backpropagation_to_the_weight_correlates_input_and_gradient(rng):
    x, dy = rng.integers(-8, 9, (2, 6, 6)), rng.integers(-8, 9, (3, 4, 4))
    dweight = cyconv.conv2d_grad_weight(dy, x, 3)
    for k in range(3):
        for c in range(2):
            np.testing.assert_array_equal(dweight[k, c], cyconv.correlate(x[c], dy[k], "valid"))


def test_backpropagation_through_pooling_follows_the_tracked_index():
    values, indices = cyconv.max_pool2d(plane(TENS), 2, return_indices=True)
    dx = cyconv.max_pool2d_backward(np.array([[[[1.0, 2], [3, 4]]]]), indices, (1, 1, 4, 4))
    np.testing.assert_array_equal(dx[0, 0], [[0, 1, 2, 0], [0, 0, 0, 0], [0, 3, 0, 0], [0, 0, 4, 0]])
    dx = cyconv.avg_pool2d_backward(np.array([[[[4.0, 8], [12, 16]]]]), (1, 1, 4, 4), 2)
    np.testing.assert_array_equal(dx[0, 0], np.kron([[1, 2], [3, 4]], np.ones((2, 2))))
