"""Layers of the pooling family: shapes, gradients, layouts, errors, and inside a network."""

import pickle

import numpy as np
import pytest

import cyconv
from cyconv.layers import (
    AdaptivePool,
    AvgPool,
    Conv,
    Dense,
    GlobalPool,
    LpPool,
    Maxout,
    MaxPool,
    MinPool,
    Mode,
    ReLU,
    SumPool,
)
from cyconv.network import Sequential
from cyconv.selftest import geometries
from cyconv.selftest.arrays import assert_same_bits, in_layout
from cyconv.selftest.differences import assert_same_gradient, central_differences

CASES = [
    (MaxPool(3, stride=2, padding=1), (2, 8, 7)),
    (MinPool(2), (3, 9)),
    (MinPool(3, stride=2, padding=1, dilation=2), (2, 8, 7)),
    (MinPool(2, ceil_mode=True), (2, 3, 5, 4)),
    (SumPool((2, 3), stride=1), (2, 5, 6)),
    (SumPool(3, stride=2, padding="same"), (2, 7, 6)),
    (LpPool(), (3, 9)),
    (LpPool(1, 3, stride=2, padding=1), (2, 8, 7)),
    (LpPool(2.5, (1, 2, 2), ceil_mode=True), (2, 3, 5, 4)),
    (LpPool(np.inf, 3, 1), (2, 5, 5)),
    (GlobalPool(), (3, 9)),
    (GlobalPool("max"), (2, 4, 5)),
    (GlobalPool("min"), (2, 4, 5)),
    (GlobalPool("sum"), (2, 2, 3, 4)),
    (GlobalPool("lp", 3), (2, 4, 5)),
    (AdaptivePool(3), (3, 10)),
    (AdaptivePool((3, None)), (2, 5, 4)),
    (AdaptivePool((2, 1, 5), "max"), (2, 3, 4, 3)),
    (AdaptivePool((3, 2), kind="max"), (2, 4, 4)),
    (Maxout(2), (6,)),
    (Maxout(3), (6, 4, 5)),
    (Maxout(2), (4, 2, 3, 2)),
]
all_cases = pytest.mark.parametrize(("layer", "shape"), CASES, ids=[f"{a!r}-{len(s) - 1}D" for a, s in CASES])


def stored(x, data_format):
    """A channels-first batch as ``data_format`` stores it."""
    return np.moveaxis(x, 1, -1) if data_format == "channels_last" and x.ndim > 2 else x


def mode(data_format="channels_first", training=True):
    return Mode(training=training, data_format=data_format)


def batch(shape, dtype=np.float64, n=3):
    return np.random.default_rng(0).standard_normal((n, *shape)).astype(dtype)


@all_cases
@pytest.mark.parametrize("training", (False, True))
def test_forward_has_the_shape_and_dtype_that_the_layer_states(layer, shape, data_format, dtype, training):
    x = stored(batch(shape, dtype), data_format)
    y, backward = layer.forward(x, {}, mode(data_format, training))
    assert y.shape == stored(np.empty((3, *layer.output_shape(shape))), data_format).shape
    assert y.dtype == dtype
    assert (backward is None) == (not training)
    np.testing.assert_array_equal(y, layer.forward(x, {}, mode(data_format))[0])


@all_cases
def test_gradients_agree_with_central_differences(layer, shape, data_format):
    x = stored(batch(shape), data_format).copy()
    y, backward = layer.forward(x, {}, mode(data_format))
    dy = np.random.default_rng(2).standard_normal(y.shape)
    dx, gradients = backward(dy)
    expected = central_differences(lambda: float((layer.forward(x, {}, mode(data_format))[0] * dy).sum()), x)
    assert gradients == {} and dx.shape == x.shape
    assert_same_gradient(dx, expected)


@all_cases
def test_both_layouts_give_the_same_bits(layer, shape):
    x = batch(shape, np.float32)
    y, backward = layer.forward(x, {}, mode())
    y_last, backward_last = layer.forward(stored(x, "channels_last"), {}, mode("channels_last"))
    np.testing.assert_array_equal(stored(y, "channels_last"), y_last)
    np.testing.assert_array_equal(stored(backward(y)[0], "channels_last"), backward_last(y_last)[0])


@pytest.mark.parametrize("block", range(6))
def test_maxima_and_gradients_have_the_bits_of_the_functions(block, isa, dtype, data_format):
    for seed in range(50 * block, 50 * block + 50):
        g = geometries.pooling(seed)
        assert_same_as_functions(g.parameters, g.x_shape, seed, dtype, data_format, g.n_threads)


@pytest.mark.parametrize("sizes", [(4, 3, 2), (6, 8), (3, 14), (9,), (2, 31), (5, 32), (4, 33), (2, 70), (1, 1)])
@pytest.mark.parametrize("window", [{}, {"kernel_size": 1, "stride": 2}, {"stride": 3}, {"padding": 1}, {"dilation": 2},
                                    {"kernel_size": 3, "padding": 1, "ceil_mode": True}, {"stride": 1, "padding": 1},
                                    {"kernel_size": 16, "stride": 1, "padding": 8}])
def test_windows_apart_and_overlapping_have_the_bits_of_the_functions(window, sizes, isa, dtype, data_format):
    parameters = {"kernel_size": 2, "padding": "same" if min(sizes) < 3 and not window else 0} | window
    if min(sizes) >= parameters.get("dilation", 1) + 1 or parameters["padding"]:
        assert_same_as_functions(parameters, (3, 17, *sizes), 0, dtype, data_format, 2)


def assert_same_as_functions(parameters, shape, seed, dtype, data_format, n_threads):
    rng = np.random.default_rng(seed)
    x = in_layout(rng.standard_normal(shape).astype(dtype), data_format)
    x[rng.random(x.shape) < 0.2] = -np.inf
    how = {"data_format": data_format, "n_threads": n_threads}
    for layer, function in ((MaxPool, cyconv.max_pool), (MinPool, cyconv.min_pool)):
        values, indices = function(x, **parameters, return_indices=True, **how)
        dy = rng.standard_normal(values.shape).astype(dtype) * (rng.random(values.shape) < 0.8)
        run = layer(**parameters).bind(x.shape, x.dtype, Mode(True, **how))
        for factor in 2, 1:     # the second time into arrays full of other numbers
            y, backward = run(factor * x, {})
            dx = backward(factor * dy, {})
        assert_same_bits(y, values, parameters, shape)
        assert_same_bits(dx, cyconv.max_pool_backward(dy, indices, x.shape, **how), parameters, shape)


def test_backward_belongs_to_its_own_call():
    x = batch((2, 4, 4))
    for layer in (MinPool(2), LpPool(3), GlobalPool("max"), AdaptivePool(3), Maxout(2)):
        y, backward = layer.forward(x, {}, mode())
        expected = backward(y)[0]
        layer.forward(2 * x[:1], {}, mode())
        np.testing.assert_array_equal(backward(y)[0], expected)


@pytest.mark.parametrize(("layer", "shape", "expected"), [
    (MinPool(2), (3, 7, 5), (3, 3, 2)), (SumPool(2, ceil_mode=True), (3, 7, 5), (3, 4, 3)),
    (LpPool(2, 3, stride=1, padding=1), (3, 7, 5), (3, 7, 5)), (GlobalPool(), (16, 7, 7), (16,)),
    (AdaptivePool(1), (16, 7, 7), (16, 1, 1)), (AdaptivePool((None, 3)), (16, 7, 7), (16, 7, 3)),
    (Maxout(4), (16, 7, 7), (4, 7, 7)), (Maxout(4), (16,), (4,)),
])
def test_output_shapes_worked_by_hand(layer, shape, expected):
    assert layer.output_shape(shape) == expected
    assert layer.n_params(shape) == layer.n_macs(shape) == 0


@pytest.mark.parametrize(("layer", "shape", "expected"), [
    (MinPool(3, stride=2, dilation=2), (1, 9, 9), ((3, 2, 2), (3, 2, 2))),
    (LpPool(2, (2, 3)), (1, 9, 9), ((2, 2, 1), (3, 3, 1))),
    (GlobalPool(), (1, 9, 5), ((9, 1, 1), (5, 1, 1))),
    (AdaptivePool((3, None)), (1, 10, 5), ((4, 3, 1), (1, 1, 1))),
    (Maxout(1), (1, 9, 5), ((1, 1, 1), (1, 1, 1))),
])
def test_windows_worked_by_hand(layer, shape, expected):
    assert layer.window(shape) == expected


def test_arguments_are_kept_literally():
    for layer, text in ((LpPool(3, 2), "LpPool(p=3)"), (MinPool(padding="SAME"), "MinPool(padding='SAME')"),
                        (GlobalPool("max"), "GlobalPool(kind='max')"),
                        (AdaptivePool(2), "AdaptivePool(output_size=2)")):
        assert repr(layer) == text
    assert list(LpPool().get_params()) == ["p", "kernel_size", "stride", "padding", "dilation", "ceil_mode"]
    assert list(AvgPool().get_params())[-1] == "count_include_pad"
    for layer, _ in CASES:
        assert pickle.loads(pickle.dumps(layer)) == layer
    assert MinPool(2) != MaxPool(2)


@pytest.mark.parametrize(("layer", "shape", "message"), [
    (MinPool(5), (1, 4, 9), r"MinPool: effective kernel \(5, 5\) is larger than the padded input \(4, 9\)"),
    (SumPool(2), (4,), r"SumPool: input must have shape"),
    (LpPool(0), (1, 4, 4), r"LpPool: p must be > 0, got 0"),
    (LpPool(2, stride=0), (1, 4, 4), r"LpPool: stride must be >= 1"),
    (GlobalPool("median"), (1, 4, 4), r"GlobalPool: kind must be one of 'max', 'min', .*, got 'median'"),
    (GlobalPool(), (4,), r"GlobalPool: input must have shape"),
    (GlobalPool("lp", -1), (1, 4, 4), r"GlobalPool: p must be > 0, got -1"),
    (AdaptivePool(2, "min"), (1, 4, 4), r"AdaptivePool: kind must be one of 'avg', 'max', got 'min'"),
    (AdaptivePool((2, 2, 2)), (1, 4, 4), r"AdaptivePool: output_size must be an int or None, or 2 of them"),
    (AdaptivePool(0), (1, 4, 4), r"AdaptivePool: output_size must be >= 1, got 0"),
    (AdaptivePool(2), (4,), r"AdaptivePool: input must have shape"),
    (Maxout(4), (6, 4, 4), r"Maxout: pieces=4 must divide the 6 channels of the input"),
    (Maxout(0), (6, 4, 4), r"Maxout: pieces must be >= 1, got 0"),
])
def test_errors_name_layer_argument_and_value(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer.output_shape(shape)


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_network_of_all_pools_has_the_gradient_of_its_loss(data_format):
    layers = [Conv(12, 3, padding="same"), Maxout(2), MinPool(2), ReLU(), LpPool(3, 2, stride=1), SumPool(2, stride=1),
              AdaptivePool(3), AvgPool(2, stride=1), GlobalPool("lp"), Dense(8), Maxout(2), Dense(3)]
    shape = (1, 12, 11) if data_format == "channels_first" else (12, 11, 1)
    network = Sequential(layers, shape, dtype=np.float64, data_format=data_format, random_state=0)
    x = np.random.default_rng(0).standard_normal((5, *shape))
    labels = np.array([0, 1, 2, 1, 0])
    _, gradient = network.loss_and_gradient(x, labels)
    expected = central_differences(lambda: network.loss_and_gradient(x, labels)[0], network.vector)
    assert_same_gradient(gradient, expected, 1e-5)
    assert "globalpool1" in network.summary()


def test_global_mean_makes_a_network_of_any_image_size():
    x = np.random.default_rng(0).standard_normal((2, 3, 9, 7))
    layers = [Conv(4, 3), GlobalPool(), Dense(5)]
    small = Sequential(layers, (3, 9, 7), dtype=np.float64, random_state=0)
    large = Sequential(layers, (3, 20, 30), dtype=np.float64, random_state=0)
    np.testing.assert_array_equal(small.vector, large.vector)
    maps = cyconv.conv2d(x, small.vector[:108].reshape(4, 3, 3, 3))
    expected = maps.mean(axis=(2, 3)) @ small.vector[108:128].reshape(5, 4).T
    np.testing.assert_allclose(small.forward(x)[0], expected, rtol=1e-12, atol=1e-14)
