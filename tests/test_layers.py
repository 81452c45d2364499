"""Layers: shapes, counts, gradients, layouts."""

import pickle

import numpy as np
import pytest

from cyconv.layers import (
    AvgPool,
    Conv,
    ConvTranspose,
    Dense,
    DepthwiseConv,
    Dropout,
    Flatten,
    LocalConv,
    MaxPool,
    Mode,
    ReLU,
    SeparableConv,
    TiledConv,
)
from cyconv.selftest.differences import assert_same_gradient, central_differences

# One layer of every kind and option, with the shape (C, *spatial) of a sample: 1-D, 2-D and 3-D.
CASES = [
    (Conv(3, 3), (2, 7)),
    (Conv(3, 4, stride=2, padding="same", dilation=2), (2, 9)),
    (Conv(4, 3, padding=1, groups=2), (2, 5, 6)),
    (Conv(3, (3, 2), stride=(2, 1), padding=((1, 0), (0, 1)), bias=False), (2, 6, 5)),
    (Conv(2, (1, 2, 3), padding="same"), (3, 3, 4, 4)),
    (Conv(2, 3, padding=2, padding_mode="reflect"), (2, 5, 4)),
    (ConvTranspose(3, 3), (2, 7)),
    (ConvTranspose(4, (2, 3), stride=2, padding=(0, 1), output_padding=1, groups=2), (2, 3, 4)),
    (ConvTranspose(2, 2, stride=2, padding="same", dilation=2, bias=False), (2, 2, 3, 2)),
    (DepthwiseConv(), (3, 7)),
    (DepthwiseConv(2, 3, stride=2, padding="same", dilation=2, padding_mode="wrap"), (2, 6, 5)),
    (DepthwiseConv(1, 2, bias=False), (2, 3, 3, 2)),
    (SeparableConv(4, 3), (3, 7)),
    (SeparableConv(2, (2, 3), stride=2, padding=1, multiplier=2, bias=False), (2, 5, 6)),
    (TiledConv(3, 3, tiles=3), (2, 8)),
    (TiledConv(2, 3, stride=2, padding=1, groups=2, tiles=(1, 2)), (2, 5, 6)),
    (LocalConv(3, 3), (2, 6)),
    (LocalConv(2, (2, 3), stride=2, padding="same", bias=False), (1, 4, 5)),
    (MaxPool(2), (3, 9)),
    (MaxPool(3, stride=2, padding=1, dilation=2), (2, 8, 7)),
    (MaxPool((2, 3), stride=1), (2, 5, 6)),
    (MaxPool(2, ceil_mode=True), (2, 3, 5, 4)),
    (AvgPool(2), (3, 9)),
    (AvgPool(3, stride=2, padding=1), (2, 8, 7)),
    (AvgPool(3, stride=2, padding="same", count_include_pad=False), (2, 7, 6)),
    (AvgPool((1, 2, 2), ceil_mode=True), (2, 3, 5, 4)),
    (ReLU(), (4,)),
    (ReLU(), (2, 3, 4)),
    (Flatten(), (2, 5)),
    (Flatten(), (2, 3, 4)),
    (Flatten(), (2, 3, 2, 2)),
    (Flatten(), (6,)),
    (Dense(5), (7,)),
    (Dense(4, bias=False), (7,)),
    (Dense(3), (2, 6)),
    (Dense(3), (2, 3, 4)),
    (Dense(3), (2, 3, 2, 2)),
    (Dropout(0.4), (3, 4, 5)),
    (Dropout(0.0), (6,)),
]
IDS = [f"{layer!r}-{len(shape) - 1}D" for layer, shape in CASES]
all_cases = pytest.mark.parametrize(("layer", "shape"), CASES, ids=IDS)


def stored(x, data_format):
    """A channels-first batch as ``data_format`` stores it."""
    return np.moveaxis(x, 1, -1) if data_format == "channels_last" else x


def mode(data_format="channels_first", **changes):
    return Mode(training=True, data_format=data_format, rng=np.random.default_rng(5))._replace(**changes)


def batch(shape, dtype=np.float64, n=3):
    return np.random.default_rng(0).standard_normal((n, *shape)).astype(dtype)


def parameters(layer, shape, dtype=np.float64):
    params = layer.initialize(shape, np.random.default_rng(1), dtype)
    if "bias" in params:
        params["bias"][...] = np.arange(len(params["bias"])) - 1
    return params


@all_cases
@pytest.mark.parametrize("training", (False, True))
def test_forward_has_the_shape_and_dtype_that_the_layer_states(layer, shape, data_format, dtype, training):
    x = stored(batch(shape, dtype), data_format)
    y, backward = layer.forward(x, parameters(layer, shape, dtype), mode(data_format, training=training))
    assert y.shape == stored(np.empty((3, *layer.output_shape(shape))), data_format).shape
    assert y.dtype == dtype
    assert (backward is None) == (not training)


@all_cases
def test_gradients_agree_with_central_differences(layer, shape, data_format):
    x, params = stored(batch(shape), data_format).copy(), parameters(layer, shape)
    y, backward = layer.forward(x, params, mode(data_format))
    dy = np.random.default_rng(2).standard_normal(y.shape)
    dx, gradients = backward(dy)

    def total():
        return float((layer.forward(x, params, mode(data_format))[0] * dy).sum())

    assert_same_gradient(dx, central_differences(total, x))
    assert gradients.keys() == params.keys()
    for name, value in params.items():
        assert_same_gradient(gradients[name], central_differences(total, value))


@all_cases
def test_both_layouts_give_the_same_bits(layer, shape):
    x, params = batch(shape, np.float32), parameters(layer, shape, np.float32)
    y, backward = layer.forward(x, params, mode())
    y_last, backward_last = layer.forward(stored(x, "channels_last"), params, mode("channels_last"))
    np.testing.assert_array_equal(stored(y, "channels_last"), y_last)
    dx, gradients = backward(y)
    dx_last, gradients_last = backward_last(y_last)
    np.testing.assert_array_equal(stored(dx, "channels_last"), dx_last)
    for name in gradients:
        np.testing.assert_array_equal(gradients[name], gradients_last[name])


@pytest.mark.parametrize("layer", [Conv(3, 2), Dense(3)])
def test_backward_leaves_out_an_input_gradient_that_nobody_needs(layer):
    shape = (2, 4, 4)
    y, backward = layer.forward(batch(shape), parameters(layer, shape), mode(needs_input_grad=False))
    dx, gradients = backward(y)
    assert dx is None
    assert gradients.keys() == {"weight", "bias"}


def test_arrays_that_do_not_fit_are_converted_or_refused():
    layer, shape = Conv(3, 2), (2, 4, 4)
    x, params = batch(shape), parameters(layer, shape)
    y, backward = layer.forward(x, params, mode())
    halves = {name: value.astype(np.float16) for name, value in params.items()}
    doubles = {name: value.astype(float) for name, value in halves.items()}
    np.testing.assert_array_equal(layer.forward(x, halves)[0], layer.forward(x, doubles)[0])
    np.testing.assert_array_equal(backward(np.ones(y.shape, int))[0], backward(np.ones(y.shape))[0])
    with pytest.raises(ValueError, match=r"Conv\(.*\): dy must have shape \(3, 3, 3, 3\), got \(3, 3, 3\)"):
        backward(np.ones((3, 3, 3)))
    with pytest.raises(ValueError, match=r"weight must have shape \(3, 2, 2, 2\), got \(3, 2, 2\)"):
        layer.forward(x, params | {"weight": params["weight"][..., 0]})


def test_backward_belongs_to_its_own_call():
    layer, params = Conv(3, 2), parameters(Conv(3, 2), (2, 4, 4))
    x = batch((2, 4, 4))
    y, backward = layer.forward(x, params, mode())
    expected = backward(y)[0]
    y, backward = layer.forward(x, params, mode())
    layer.forward(2 * x[:1], params, mode())
    np.testing.assert_array_equal(backward(y)[0], expected)


@all_cases
def test_number_of_parameters_is_what_initialize_makes(layer, shape):
    params = layer.initialize(shape, np.random.default_rng(0))
    assert layer.n_params(shape) == sum(value.size for value in params.values())
    assert {name: value.shape for name, value in params.items()} == layer.parameter_shapes(shape)


@pytest.mark.parametrize(("layer", "shape", "expected"), [
    (Conv(4, 5, bias=False), (3, 20), 60),
    (Dense(5), (10, 8, 8), 3205),
    (Conv(2, (2, 4)), (5, 8, 8), 82),
    (Conv(2, (2, 2, 3), bias=False), (2, 4, 4, 4), 48),
    (Conv(64, 3), (3, 224, 224), 1792),
    (Dense(100, bias=False), (36_000_000,), 3_600_000_000),
    (Conv(4, 3, groups=2), (2, 5, 5), 40),
    (MaxPool(2), (3, 4, 4), 0),
])
def test_numbers_of_parameters_worked_by_hand(layer, shape, expected):
    assert layer.n_params(shape) == expected


@pytest.mark.parametrize(("layer", "shape", "expected"), [
    (Conv(64, 3), (3, 224, 224), 64 * 3 * 3 * 3 * 222 * 222),
    (Conv(4, 3, groups=2, padding=1), (2, 5, 5), 4 * 5 * 5 * 9),
    (Dense(10), (32, 2, 2), 1280),
    (AvgPool(2), (3, 4, 4), 0),
])
def test_numbers_of_multiplications_worked_by_hand(layer, shape, expected):
    assert layer.n_macs(shape) == expected


@pytest.mark.parametrize(("layer", "shape", "expected"), [
    (Conv(5, (3, 1), stride=2), (1, 5, 7), (5, 2, 4)),
    (Conv(12, 6, stride=2, padding=1), (1, 20, 20), (12, 9, 9)),
    (Conv(16, 5, stride=3, padding=2), (4, 32, 32), (16, 11, 11)),
    (Conv(3, (7, 5), stride=(2, 1), padding=(2, 2)), (12, 64, 64), (3, 31, 64)),
    (MaxPool(2), (3, 7, 5), (3, 3, 2)),
    (MaxPool(2, ceil_mode=True), (3, 7, 5), (3, 4, 3)),
])
def test_output_shapes_worked_by_hand(layer, shape, expected):
    assert layer.output_shape(shape) == expected


def test_initial_weights_have_variance_two_over_fan_in():
    params = Conv(200, 3).initialize((50, 9, 9), np.random.default_rng(0), np.float64)
    fan_in = 50 * 9
    assert params["weight"].var() == pytest.approx(2 / fan_in, rel=0.02)
    assert abs(params["weight"].mean()) < 0.01 * np.sqrt(2 / fan_in)
    assert np.abs(params["weight"]).max() <= np.sqrt(6 / fan_in)
    assert not params["bias"].any()


def test_initial_weights_are_the_same_numbers_in_both_dtypes():
    single, double = (Dense(7).initialize((9,), np.random.default_rng(0), dtype)["weight"]
                      for dtype in (np.float32, np.float64))
    np.testing.assert_array_equal(single, double.astype(np.float32))


def test_dense_on_a_map_is_flatten_then_dense(data_format):
    x, params = batch((2, 3, 4)), parameters(Dense(5), (2, 3, 4))
    flat, _ = Flatten().forward(stored(x, data_format), {}, mode(data_format))
    np.testing.assert_array_equal(flat, x.reshape(3, -1))
    expected, _ = Dense(5).forward(flat, params)
    y, _ = Dense(5).forward(stored(x, data_format), params, mode(data_format))
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_allclose(y, x.reshape(3, -1) @ params["weight"].T + params["bias"], rtol=1e-12)


def test_dropout_zeroes_its_share_and_keeps_the_mean():
    y, _ = Dropout(0.25).forward(np.ones((400, 500)), {}, mode())
    assert set(np.unique(y)) == {0, 1 / 0.75}
    assert (y == 0).mean() == pytest.approx(0.25, abs=0.005)
    assert y.mean() == pytest.approx(1, abs=0.01)


def test_dropout_passes_everything_when_not_training():
    x = np.ones((4, 5))
    assert Dropout(0.9).forward(x)[0] is x


def test_dropout_depends_on_its_generator_only():
    x = np.ones((6, 50))
    first, again, other = (Dropout().forward(x, {}, mode(rng=np.random.default_rng(seed)))[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_dropout_without_a_generator_is_an_error():
    with pytest.raises(ValueError, match=r"numpy.random.Generator in mode.rng"):
        Dropout().forward(np.ones((2, 2)), {}, Mode(training=True))


def test_repr_shows_what_differs_from_the_defaults():
    assert repr(Conv(8, padding="same")) == "Conv(out_channels=8, padding='same')"
    assert repr(ReLU()) == "ReLU()"


def test_arguments_are_kept_literally():
    layer = Conv(8, (3, 1), padding="SAME")
    assert layer.get_params()["padding"] == "SAME"
    assert layer.set_params(kernel_size=5, bias=False) is layer
    assert layer == Conv(8, 5, padding="SAME", bias=False)
    assert pickle.loads(pickle.dumps(layer)) == layer
    with pytest.raises(ValueError, match=r"Conv: no parameter 'filters'; it has out_channels"):
        layer.set_params(filters=3)


@pytest.mark.parametrize(("layer", "shape", "message"), [
    (Conv(3, 5), (1, 4, 9), r"Conv: effective kernel \(5, 5\) is larger than the padded input \(4, 9\)"),
    (Conv(3, 3), (4,), r"Conv: input must have shape .*, got \(4,\)"),
    (MaxPool(2), (1, 2, 3, 4, 5), r"MaxPool: input must have shape"),
    (Conv(0), (1, 4, 4), r"Conv: out_channels must be >= 1, got 0"),
    (Conv(3, groups=2), (4, 4, 4), r"Conv: groups=2 must divide the 4 channels of the input and out_channels=3"),
    (Conv(3, padding="smae"), (1, 4, 4), r"Conv: unknown padding 'smae'"),
    (MaxPool(2, stride=0), (1, 4, 4), r"MaxPool: stride must be >= 1"),
    (Dense(-1), (4,), r"Dense: units must be >= 1, got -1"),
    (Dropout(1.0), (4,), r"Dropout: rate must be a number in \[0, 1\), got 1.0"),
])
def test_errors_name_layer_argument_and_value(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer.output_shape(shape)


@pytest.mark.parametrize(("layer", "shape", "function"), [
    (Conv(4, 3, stride=2, padding=1, groups=2), (2, 7, 6), "conv2d"),
    (Conv(4, 3, dilation=2), (2, 9), "conv1d"),
    (Conv(2, 2), (2, 3, 4, 4), "conv3d"),
])
def test_convolution_agrees_with_pytorch(layer, shape, function):
    torch = pytest.importorskip("torch")
    x, params = batch(shape), parameters(layer, shape)
    y, backward = layer.forward(x, params, mode())
    dx, gradients = backward(np.cos(y))
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, params["weight"], params["bias"])]
    expected = getattr(torch.nn.functional, function)(
        *tensors, layer.stride, layer.padding, layer.dilation, layer.groups)
    expected.backward(torch.tensor(np.cos(y)))
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-12, atol=1e-13)
    for actual, tensor in zip((dx, gradients["weight"], gradients["bias"]), tensors):
        np.testing.assert_allclose(actual, tensor.grad.numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("layer", "shape", "function"), [
    (MaxPool(3, 2, 1), (2, 8, 7), "max_pool2d"),
    (MaxPool(2), (2, 9), "max_pool1d"),
    (AvgPool(3, 2, 1), (2, 8, 7), "avg_pool2d"),
    (AvgPool(2, ceil_mode=True), (2, 3, 5, 5), "avg_pool3d"),
])
def test_pooling_agrees_with_pytorch(layer, shape, function):
    torch = pytest.importorskip("torch")
    x = batch(shape)
    y, backward = layer.forward(x, {}, mode())
    tensor = torch.tensor(x, requires_grad=True)
    expected = getattr(torch.nn.functional, function)(
        tensor, layer.kernel_size, layer.stride, layer.padding, ceil_mode=layer.ceil_mode)
    expected.backward(torch.tensor(np.cos(y)))
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-13)
    np.testing.assert_allclose(backward(np.cos(y))[0], tensor.grad.numpy(), rtol=1e-12)
