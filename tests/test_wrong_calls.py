"""What a user gets wrong: every call says function, argument, rule and value found."""

import numpy as np
import pytest

import cyconv
from cyconv import layers, optimizers
from cyconv.layers import ELU, GELU, BatchNorm, Conv, Dense, Dropout, Flatten, MaxPool, ReLU, SeparableConv

X = np.ones((1, 1, 8, 8), np.float32)
W = np.ones((1, 1, 3, 3), np.float32)
PAIR, NONE = np.ones(2), np.zeros((1, 1, 2), int)
FLAG = "must be True or False, got"


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: cyconv.conv2d(X, W, flip=PAIR), TypeError, rf"conv2d: flip {FLAG} array\(\[1., 1.\]\)"),
    (lambda: cyconv.conv_transpose2d(X, W, flip="no"), TypeError, f"conv_transpose2d: flip {FLAG} 'no'"),
    (lambda: cyconv.convolution_matrix(W, X.shape, flip=None), TypeError, f"convolution_matrix: flip {FLAG} None"),
    (lambda: cyconv.max_pool2d(X, 2, ceil_mode=PAIR), TypeError, f"max_pool2d: ceil_mode {FLAG}"),
    (lambda: cyconv.min_pool2d(X, 2, return_indices=PAIR), TypeError, f"min_pool2d: return_indices {FLAG}"),
    (lambda: cyconv.avg_pool2d(X, 2, count_include_pad="no"), TypeError, f"avg_pool2d: count_include_pad {FLAG} 'no'"),
    (lambda: cyconv.global_avg_pool(X, keepdims=PAIR), TypeError, f"global_avg_pool: keepdims {FLAG}"),
    (lambda: cyconv.conv2d(X, W, n_threads=0), ValueError, "conv2d: n_threads must be None or a non-zero int, got 0"),
    (lambda: cyconv.conv_transpose(X, W, n_threads="2"), TypeError, "conv_transpose: n_threads must be"),
    (lambda: cyconv.max_pool2d(X, 2, n_threads=1.5), TypeError, "max_pool2d: n_threads must be .*, got 1.5"),
    (lambda: cyconv.global_sum_pool(X, n_threads=0), ValueError, "global_sum_pool: n_threads must be"),
    (lambda: cyconv.relu_backward(X, X, n_threads=0), ValueError, "relu_backward: n_threads must be"),
    (lambda: cyconv.moments(X, n_threads=0), ValueError, "moments: n_threads must be"),
    (lambda: layers.MaxPool().forward(X, {}, layers.Mode(n_threads=0)), ValueError, "MaxPool: n_threads must be"),
    (lambda: cyconv.Sequential([layers.ReLU()], (3,)).forward(np.ones((1, 3)), n_threads=0), ValueError,
     "Sequential: n_threads must be"),
    (lambda: optimizers.SGD(np.ones(2)).step(PAIR, n_threads=0), ValueError, "SGD: n_threads must be"),
    (lambda: cyconv.softmax(3.0), ValueError, "softmax: x must have at least one axis, got a single number"),
    (lambda: cyconv.maxout(3.0, 2), ValueError, "maxout: x must have at least one axis, got a single number"),
    (lambda: cyconv.log_softmax([3.0], 3), ValueError,
     r"log_softmax: axis must be an int from -1 to 0 for x of shape \(1,\), got 3"),
    (lambda: cyconv.output_size(2**70, 3), ValueError, "output_size: n must be <= 2147483647, got 11805"),
    (lambda: cyconv.output_size((5, -1), 3), ValueError, r"output_size: n must be >= 0 on every axis, got \(5, -1\)"),
    (lambda: cyconv.max_unpool1d(np.ones((1, 1, 2)), NONE, 2**31 - 1), ValueError,
     r"max_unpool1d: the size of the result must be <= 2147483647, got \(4294967294,\)"),
    (lambda: cyconv.conv2d(X, np.ones((1, 2, 3, 3))), ValueError, "conv2d: x has 1 channel but weight expects 2 "),
    (lambda: cyconv.conv_transpose2d(X, np.ones((2, 1, 3, 3))), ValueError,
     "conv_transpose2d: x has 1 channel but weight expects 2 "),
    (lambda: cyconv.conv2d(X, W, 3.0), ValueError, r"conv2d: bias must have shape \(1,\), got \(\)"),
    (lambda: cyconv.conv_transpose2d(X, W, np.float32(3)), ValueError, r"conv_transpose2d: bias must have shape"),
    (lambda: cyconv.separable_conv2d(X, W, np.ones((1, 1)), 3.0), ValueError, "separable_conv2d: bias must"),
    (lambda: cyconv.separable_conv(X, np.ones(3), np.ones((1, 1))), ValueError, "separable_conv: weight must have"),
    (lambda: cyconv.conv_grad_weight(X, np.ones((1, 3)), 3), ValueError, "conv_grad_weight: arrays must have 1 to 3"),
    (lambda: cyconv.conv2d(X, W, stride=range(2**40)), TypeError, "conv2d: stride must be"),
    (lambda: cyconv.conv2d(X, W, stride=np.broadcast_to(1, 2**40)), TypeError, "conv2d: stride must be"),
    (lambda: cyconv.receptive_field(range(2**40)), ValueError, "receptive_field: layers must have at most 100000"),
    (lambda: cyconv.global_sum_pool(np.broadcast_to(1.0, (1, 1, 2**30, 2**24))), ValueError,
     "global_sum_pool: x must have at most 17592186044416 elements"),
])
def test_wrong_call_of_a_function(call, error, message):
    with pytest.raises(error, match=f"^{message}"):
        call()


def test_small_integers_of_numpy_do_not_overflow():
    x, weight, groups = np.ones((1, 130, 4)), np.ones((130, 130, 3)), np.int8(1)
    y = cyconv.conv_transpose(x, weight, np.ones(130), groups=groups)
    assert cyconv.conv_transpose_grad_weight(y, x, 3, groups=groups).shape == weight.shape
    assert cyconv.conv_transpose_backward(y, x, weight, groups=groups).bias.shape == (130,)
    assert cyconv.conv_backward(x, x, weight, padding=1, groups=groups).weight.shape == weight.shape


def test_flags_of_numpy_are_flags():
    assert cyconv.max_pool2d(X[..., :7], 2, ceil_mode=np.True_).shape == (1, 1, 4, 4)
    np.testing.assert_array_equal(cyconv.conv2d(X, W, flip=np.False_), cyconv.conv2d(X, W, flip=False))


def network(layers, input_shape=(1, 8, 8), **options):
    return cyconv.Sequential(layers, input_shape, **options)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: network([ReLU(), Conv("2")]), TypeError, "layer 'conv1', .*: Conv: out_channels must be an int"),
    (lambda: network([Conv(2, padding_mode="bla")]), ValueError, "layer 'conv1', .*: Conv: unknown padding_mode 'bla'"),
    (lambda: network([SeparableConv(2, padding_mode="bla")]), ValueError, "layer 'separableconv1', .* unknown padding"),
    (lambda: network([Dropout("half")]), TypeError, r"layer 'dropout1', .* rate must be a number in .*, got .half."),
    (lambda: network([BatchNorm(eps=None)]), TypeError, "layer 'batchnorm1', .* eps must be a number >= 0, got None"),
    (lambda: network([Conv]), TypeError, r"layers must be Layers or \(str, Layer\), .*Conv.>; write Conv\(\.\.\.\)"),
    (lambda: network([("a", ReLU)]), TypeError, r"layers must be .*, got \('a', .*ReLU.>\); write ReLU\(\.\.\.\)"),
    (lambda: network([("a", ReLU(), 1)]), TypeError, r"layers must be Layers or .*, got \('a', ReLU\(\), 1\)"),
    (lambda: network("ab"), TypeError, r"layers must be Layers or \(str, Layer\), got 'a'"),
    (lambda: network(ReLU()), TypeError, r"layers must be a sequence of Layers or \(str, Layer\), got ReLU\(\)"),
    (lambda: network([], 8), TypeError, r"input_shape must be a tuple of ints, such as \(1, 28, 28\), got 8"),
    (lambda: network([], ()), ValueError, r"input_shape must be a tuple of ints, .*, got \(\)"),
    (lambda: network([Conv(2, 3.0)]), TypeError, "layer 'conv1', .* kernel_size must be an int or 2 ints, got 3.0"),
    (lambda: network([Dense(2.5)]), TypeError, "layer 'dense1', .* units must be an int, got 2.5"),
    (lambda: network([Dense(2, bias="no")]), TypeError, f"layer 'dense1', .* bias {FLAG} 'no'"),
    (lambda: network([MaxPool(ceil_mode=1)]), TypeError, f"layer 'maxpool1', .* ceil_mode {FLAG} 1"),
    (lambda: network([ELU("a")]), TypeError, "layer 'elu1', .* alpha must be a finite number, got 'a'"),
    (lambda: network([GELU("fast")]), ValueError, "layer 'gelu1', .* approximate must be 'none' or 'tanh', got 'fast'"),
    (lambda: network([], dtype="float16"), TypeError, "dtype must be float32 or float64, got 'float16'"),
    (lambda: network([], dtype="bla"), TypeError, "dtype must be float32 or float64, got 'bla'"),
    (lambda: network([], random_state=-1), ValueError, "random_state must be None or an int from 0 .*, got -1"),
])
def test_wrong_network(call, error, message):
    with pytest.raises(error, match=f"^Sequential: {message}"):
        call()


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: Conv(2).forward(X), ValueError, r"Conv\(.*: params must be a dict with weight, bias, .*, got \[\]"),
    (lambda: Dense(2).forward(X, None), TypeError, r"Dense\(.*: params must be a dict with weight, bias, .*, got None"),
    (lambda: MaxPool().forward(3.0), ValueError, r"MaxPool\(\): x must have shape \(N, C, \*spatial\), .*, got \(\)"),
    (lambda: ReLU().forward([1.0]), ValueError, r"ReLU\(\): x must have shape .*, got \(1,\)"),
    (lambda: BatchNorm().forward(X), ValueError, r"BatchNorm\(\): params must be a dict with weight, bias, "
     r"running_mean, running_var, as `initialize` and `initial_state` make it, got \[\]"),
    (lambda: SeparableConv(2).forward(X), ValueError, r"SeparableConv\(.*: params must be a dict with depthwise_w"),
    (lambda: Flatten().forward(None), TypeError, "Flatten: x must be an array, got None"),
    (lambda: Dropout().forward([["a"]]), TypeError, "Dropout: unsupported dtype <U1 for x; expected real numbers"),
    (lambda: ReLU().forward(X, {}, None), TypeError, r"ReLU\(\): mode must be a Mode, got None"),
    (lambda: ReLU().forward(X, {}, layers.Mode(data_format="x")), ValueError, "ReLU: data_format must be one of"),
    (lambda: MaxPool(3.0).forward(X), TypeError, "MaxPool: kernel_size must be an int or 2 ints, got 3.0"),
    (lambda: Dropout(2).forward(X), ValueError, r"Dropout: rate must be a number in \[0, 1\), got 2"),
])
def test_wrong_call_of_a_layer(call, error, message):
    with pytest.raises(error, match=f"^{message}"):
        call()


@pytest.mark.parametrize("parameters", [None, [1, 2], "weights"])
def test_parameters_are_a_dict(parameters):
    with pytest.raises(TypeError, match="^load_parameters: parameters must be a dict of names and arrays, got"):
        network([Conv(2)]).load_parameters(parameters)
