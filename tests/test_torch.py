"""Agreement with PyTorch where both define the same, and the documented differences where they do not."""

import numpy as np
import pytest

import cyconv
from cyconv.selftest import geometries

torch = pytest.importorskip("torch")
F = torch.nn.functional


def assert_close(actual, expected, tolerance, *where):
    """Equal up to a part of the largest result: the order of additions differs."""
    expected = expected.detach().numpy()
    assert actual.dtype == expected.dtype and actual.shape == expected.shape, where
    assert np.abs(actual - expected).max(initial=0) <= tolerance * max(1, np.abs(expected).max(initial=0)), where


def tensors(*arrays):
    return [torch.from_numpy(a).requires_grad_() for a in arrays]


# ---------------------------------------------------------------- agreement


def plain_convolutions(count):
    """Geometries without what PyTorch has not: input dilation, flipped kernels, empty axes."""
    for seed in range(count):
        g = geometries.convolution(seed)
        is_plain = all(w.input_dilation == 1 for w in g.windows) and not g.windows[0].flip
        if is_plain and g.batch and all(g.sizes):
            yield g


def test_convolution_and_its_gradients(dtype, tolerance):
    for g in plain_convolutions(600):
        x, weight, bias, dy = g.normals(dtype)
        parameters = g.parameters
        tx, tweight, tbias = tensors(x, weight, bias)
        pads = [pad for w in reversed(g.windows) for pad in (w.low, w.high)]
        conv = (F.conv1d, F.conv2d, F.conv3d)[len(g.sizes) - 1]
        expected = conv(F.pad(tx, pads), tweight, tbias, parameters["stride"], 0, parameters["dilation"], g.groups)
        expected.backward(torch.from_numpy(dy))
        assert_close(cyconv.conv(x, weight, bias, **parameters), expected, tolerance, g)
        grads = cyconv.conv_backward(dy, x, weight, **parameters)
        for actual, tensor in zip(grads, (tx, tweight, tbias)):
            assert_close(actual, tensor.grad, 10 * tolerance, g)


def test_transposed_convolution_and_its_gradients(dtype, tolerance):
    names = F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d
    checked = 0
    for g in plain_convolutions(300):
        paddings, strides = [w.low for w in g.windows], [w.stride for w in g.windows]
        extra = [n - ((o - 1) * w.stride - 2 * w.low + w.extent) for n, o, w in zip(g.sizes, g.outputs, g.windows)]
        if any(w.low != w.high for w in g.windows) or any(
                not 0 <= e < max(w.stride, w.dilation) for e, w in zip(extra, g.windows)):
            continue
        checked += 1
        dy, weight, _, x = g.normals(dtype)
        bias = np.arange(g.x_shape[1], dtype=dtype)
        tensor_x, tensor_w, tensor_b = tensors(x, weight, bias)
        expected = names[len(g.sizes) - 1](tensor_x, tensor_w, tensor_b, strides, paddings, extra, g.groups,
                                           [w.dilation for w in g.windows])
        parameters = {name: g.parameters[name] for name in ("stride", "padding", "dilation", "groups")}
        y = cyconv.conv_transpose(x, weight, bias, output_padding=extra, **parameters)
        assert_close(y, expected, tolerance, g)
        expected.backward(torch.from_numpy(dy))
        for actual, tensor in zip(cyconv.conv_transpose_backward(dy, x, weight, **parameters),
                                  (tensor_x, tensor_w, tensor_b)):
            assert_close(actual, tensor.grad, 10 * tolerance, g)
    assert checked > 20


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_modes_and_their_gradients(mode, dtype, tolerance, rng):
    x, weight = rng.standard_normal((2, 3, 6, 7)).astype(dtype), rng.standard_normal((4, 3, 3, 2)).astype(dtype)
    tx, tweight = tensors(x, weight)
    expected = F.conv2d(F.pad(tx, (3, 1, 2, 4), mode=mode), tweight, stride=2)
    expected.sum().backward()
    parameters = {"stride": 2, "padding": ((2, 4), (3, 1)), "padding_mode": mode}
    y = cyconv.conv2d(x, weight, **parameters)
    assert_close(y, expected, tolerance)
    grads = cyconv.conv2d_backward(np.ones_like(y), x, weight, **parameters)
    assert_close(grads.x, tx.grad, 10 * tolerance)
    assert_close(grads.weight, tweight.grad, 10 * tolerance)


def test_single_gradients_are_those_of_torch_nn_grad(dtype, tolerance, rng):
    x, weight, dy = (rng.standard_normal(shape).astype(dtype) for shape in ((2, 4, 9, 8), (6, 2, 3, 2), (2, 6, 5, 4)))
    parameters = {"stride": 2, "padding": (1, 0), "dilation": (1, 1), "groups": 2}
    tx, tweight, tdy = (torch.from_numpy(a) for a in (x, weight, dy))
    assert_close(cyconv.conv2d_grad_input(dy, weight, x.shape, **parameters),
                 torch.nn.grad.conv2d_input(x.shape, tweight, tdy, **parameters), tolerance)
    assert_close(cyconv.conv2d_grad_weight(dy, x, (3, 2), **parameters),
                 torch.nn.grad.conv2d_weight(tx, weight.shape, tdy, **parameters), 10 * tolerance)


def test_positional_arguments_mean_the_same():
    x, weight, bias = np.ones((1, 1, 5, 5)), np.ones((1, 1, 3, 3)), np.ones(1)
    assert_close(cyconv.conv2d(x, weight, bias, 2, 1), F.conv2d(*tensors(x, weight, bias), 2, 1), 0)
    assert_close(cyconv.max_pool2d(x, 3, 2, 1), F.max_pool2d(*tensors(x), 3, 2, 1), 0)
    assert_close(cyconv.avg_pool2d(x, 3, 2, 1), F.avg_pool2d(*tensors(x), 3, 2, 1), 1e-15)


def plain_pools(count, dilated):
    """Geometries whose padding PyTorch accepts and whose windows all hold a cell."""
    for seed in range(count):
        g = geometries.pooling(seed, rank=2)
        fits = all(w.low == w.high <= w.kernel // 2 and n >= w.extent for w, n in zip(g.windows, g.sizes))
        if fits and g.batch and (dilated or all(w.dilation == 1 for w in g.windows)):
            yield g, tuple(w.low for w in g.windows)


def test_maximum_pooling_and_its_gradient(dtype, tolerance):
    for g, padding in plain_pools(1500, dilated=True):
        rng = np.random.default_rng(g.seed)
        x, dy = rng.standard_normal(g.x_shape).astype(dtype), rng.standard_normal(g.y_shape).astype(dtype)
        parameters = {**g.parameters, "padding": padding}
        values, indices = cyconv.max_pool2d(x, **parameters, return_indices=True)
        (tx,) = tensors(x)
        expected, places = F.max_pool2d(tx, **parameters, return_indices=True)
        assert_close(values, expected, 0, g)
        assert np.array_equal(indices, places.numpy()), g
        expected.backward(torch.from_numpy(dy))
        assert_close(cyconv.max_pool2d_backward(dy, indices, x.shape), tx.grad, tolerance, g)


@pytest.mark.parametrize("count_include_pad", [False, True])
@pytest.mark.parametrize("divisor_override", [None, 3, -2])
def test_mean_pooling_and_its_gradient(count_include_pad, divisor_override, dtype, tolerance):
    for g, padding in plain_pools(1500, dilated=False):
        rng = np.random.default_rng(g.seed)
        x, dy = rng.standard_normal(g.x_shape).astype(dtype), rng.standard_normal(g.y_shape).astype(dtype)
        parameters = {**g.parameters, "padding": padding, "count_include_pad": count_include_pad,
                      "divisor_override": divisor_override}
        (tx,) = tensors(x)
        expected = F.avg_pool2d(tx, **{name: value for name, value in parameters.items() if name != "dilation"})
        expected.backward(torch.from_numpy(dy))
        assert_close(cyconv.avg_pool2d(x, **parameters), expected, tolerance, g)
        assert_close(cyconv.avg_pool2d_backward(dy, x.shape, **parameters), tx.grad, tolerance, g)


def test_activations(dtype, tolerance, rng):
    x, dy = (10 * rng.standard_normal((2, 30, 7))).astype(dtype)
    (tx,) = tensors(x)
    expected = F.relu(tx)
    expected.backward(torch.from_numpy(dy))
    assert_close(cyconv.relu(x), expected, 0)
    assert_close(cyconv.relu_backward(dy, x), tx.grad, 0)
    for axis in (0, 1):
        assert_close(cyconv.softmax(x, axis), F.softmax(tx, axis), tolerance)
        assert_close(cyconv.log_softmax(x, axis), F.log_softmax(tx, axis), tolerance)


@pytest.mark.parametrize("row", [[np.nan, 1.0], [np.inf, 1.0], [-np.inf, -np.inf], [-np.inf, 1.0]])
def test_softmax_of_what_is_not_finite(row):
    for ours, theirs in ((cyconv.softmax, F.softmax), (cyconv.log_softmax, F.log_softmax)):
        np.testing.assert_array_equal(ours(row), theirs(torch.tensor(row, dtype=torch.float64), 0).numpy())


# ---------------------------------------------------------------- documented differences


def ones(*shape):
    return np.ones(shape)


def test_padding_same_allows_a_stride():
    with pytest.raises(RuntimeError):
        F.conv2d(*tensors(ones(1, 1, 5, 5), ones(1, 1, 3, 3)), padding="same", stride=2)
    assert cyconv.conv2d(ones(1, 1, 5, 5), ones(1, 1, 3, 3), padding="same", stride=2).shape == (1, 1, 3, 3)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_padding_same_is_the_same_at_stride_one(rng):
    x, weight = rng.standard_normal((1, 2, 7, 8)), rng.standard_normal((3, 2, 4, 3))
    assert_close(cyconv.conv2d(x, weight, padding="same"), F.conv2d(*tensors(x, weight), padding="same"), 1e-13)


def test_padding_per_side_is_refused_there():
    with pytest.raises((RuntimeError, TypeError)):
        F.conv2d(*tensors(ones(1, 1, 5, 5), ones(1, 1, 3, 3)), padding=(1, 0, 1, 0))
    assert cyconv.conv2d(ones(1, 1, 5, 5), ones(1, 1, 3, 3), padding=((1, 0), (1, 0))).shape == (1, 1, 4, 4)


def test_infinite_weight_on_padding_is_nan_there():
    x, weight = ones(1, 1, 4), np.array([[[np.inf, 1, 1]]])
    assert torch.isnan(F.conv1d(*tensors(x, weight), padding=1)[0, 0, 0])
    assert cyconv.conv(x, weight, padding=1)[0, 0, 0] == 2


def test_no_input_channels_lose_the_bias_there():
    x, weight, bias = ones(2, 0, 4, 4), ones(3, 0, 1, 1), np.array([1.0, 2, 3])
    assert F.conv2d(*tensors(x, weight, bias)).shape != (2, 3, 4, 4)
    np.testing.assert_array_equal(cyconv.conv2d(x, weight, bias)[0, :, 0, 0], bias)


def test_mixed_dtypes_are_refused_there():
    x, weight = ones(1, 1, 4, 4).astype(np.float32), ones(1, 1, 3, 3)
    with pytest.raises(RuntimeError):
        F.conv2d(*tensors(x, weight))
    assert cyconv.conv2d(x, weight).dtype == np.float64


def test_index_of_nan_is_the_last_there_and_the_first_here():
    x = np.array([[[[np.nan, 1, np.nan, 2]]]])
    _, places = F.max_pool2d(*tensors(x), (1, 4), return_indices=True)
    _, indices = cyconv.max_pool2d(x, (1, 4), return_indices=True)
    assert (places.item(), indices.item()) == (2, 0)


def test_padding_of_more_than_half_a_window_is_refused_there():
    with pytest.raises(RuntimeError):
        F.max_pool2d(*tensors(ones(1, 1, 4, 4)), 2, padding=2)
    assert cyconv.max_pool2d(ones(1, 1, 4, 4), 2, padding=2).shape == (1, 1, 4, 4)


def test_mean_pooling_has_no_dilation_there():
    with pytest.raises(TypeError):
        F.avg_pool2d(*tensors(ones(1, 1, 5, 5)), 2, dilation=2)
    assert cyconv.avg_pool2d(ones(1, 1, 5, 5), 2, dilation=2).shape == (1, 1, 2, 2)


def test_divisor_is_truncated_to_an_integer_or_refused_there():
    x = ones(1, 1, 2, 2)
    try:
        theirs = F.avg_pool2d(*tensors(x), 2, divisor_override=2.5).item()
    except TypeError:
        theirs = None
    assert theirs in (2, None)
    assert cyconv.avg_pool2d(x, 2, divisor_override=2.5).item() == 1.6


@pytest.mark.parametrize("change", [
    lambda a: a[..., ::-1], lambda a: a.astype(a.dtype.newbyteorder(">")),
], ids=["negative_strides", "big_endian"])
def test_some_kinds_of_arrays_are_refused_there(change, rng):
    x, weight = rng.standard_normal((1, 2, 5, 5)), rng.standard_normal((3, 2, 3, 3))
    with pytest.raises((ValueError, TypeError)):
        torch.from_numpy(change(x))
    np.testing.assert_array_equal(cyconv.conv2d(change(x), weight), cyconv.conv2d(change(x).copy(), weight))
