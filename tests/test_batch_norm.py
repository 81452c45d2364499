"""Batch normalisation: moments, functions, gradients, the layer, its state in networks and estimators, PyTorch."""

import pickle
from fractions import Fraction

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits

import cyconv
from cyconv import ConvNetClassifier, Sequential, _fitting, _kernels, _training
from cyconv.layers import BatchNorm, Conv, Dense, Mode, ReLU
from cyconv.selftest.arrays import KINDS, assert_same_bits, in_layout
from cyconv.selftest.differences import assert_same_gradient, central_differences

SHAPES = [(4, 3), (2, 3, 5), (3, 5, 4, 7), (2, 17, 3, 6, 5), (1, 1, 40), (5, 9, 1, 1)]
all_shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)
DIGITS, LABELS = load_digits(n_class=4, return_X_y=True)


def layout(array, data_format):
    return array if array.ndim == 2 else in_layout(array, data_format)


def data(shape, dtype, data_format="channels_first", seed=0):
    rng = np.random.default_rng(seed)
    x, dy = rng.standard_normal((2, *shape)).astype(dtype)
    weight, bias = rng.standard_normal((2, shape[1])).astype(dtype)
    return layout(2 * x + 3, data_format), layout(dy, data_format), weight, bias


def normed(x, weight, bias, **options):
    return cyconv.batch_norm(x, *cyconv.moments(x, **options), weight, bias, **options)


# ---------------------------------------------------------------- values

def test_moments_worked_by_hand(isa, dtype):
    mean, var = cyconv.moments(np.array([[[1, 2, 3, 6]], [[1, 1, 1, 1]]], dtype))
    assert mean.tolist() == [2.0] and var.tolist() == [2.75]
    assert mean.dtype == var.dtype == np.float64


@all_shapes
def test_moments_of_integers_err_by_the_last_place_of_their_spread(shape, isa, data_format, dtype):
    x = np.random.default_rng(1).integers(-50, 50, shape)
    mean, var = cyconv.moments(layout(x, data_format).astype(dtype), data_format=data_format)
    for c in range(shape[1]):
        values = [Fraction(int(v)) for v in x[:, c].ravel()]
        exact = sum(values) / len(values)
        assert mean[c] == pytest.approx(float(exact), rel=1e-15, abs=1e-16 * 50)
        assert var[c] == pytest.approx(float(sum((v - exact)**2 for v in values) / len(values)), rel=1e-14)


def test_a_mean_far_from_zero_costs_no_digits(isa, data_format):
    x = (1e4 + 1e-2 * np.random.default_rng(0).standard_normal((8, 3, 20, 20))).astype(np.float32)
    exact = np.moveaxis(x, 1, 0).reshape(3, -1).astype(np.longdouble)
    mean, var = cyconv.moments(layout(x, data_format), data_format=data_format)
    np.testing.assert_allclose(mean, exact.mean(axis=1).astype(float), rtol=1e-14)
    np.testing.assert_allclose(var, exact.var(axis=1).astype(float), rtol=1e-12)
    y = cyconv.batch_norm(layout(x, data_format), mean, var, eps=0.0, data_format=data_format)
    y = layout(np.moveaxis(y, -1, 1), "channels_first") if data_format == "channels_last" else y
    expected = (x - mean[:, None, None]) / np.sqrt(var)[:, None, None]
    np.testing.assert_allclose(y, expected, rtol=1e-6)


def test_float64_far_from_zero_keeps_what_the_data_have(isa):
    x = 1e9 + np.random.default_rng(0).standard_normal((50, 2, 100))
    exact = x.astype(np.longdouble)
    np.testing.assert_allclose(cyconv.moments(x).var, exact.var(axis=(0, 2)).astype(float), rtol=1e-13)


def test_a_constant_channel_has_no_variance(isa, dtype):
    x = np.full((3, 2, 5), 0.1, dtype)
    mean, var = cyconv.moments(x)
    assert_same_bits(mean, x[0, :, 0].astype(np.float64))
    assert not var.any()
    assert not normed(x, None, None).any()


@all_shapes
def test_batch_norm_is_its_formula(shape, isa, data_format, dtype, tolerance):
    x, _, weight, bias = data(shape, dtype)
    mean, var = np.arange(shape[1]) / 7, np.arange(1, shape[1] + 1) / 3
    y = cyconv.batch_norm(layout(x, data_format), mean, var, weight, bias, 0.25, data_format=data_format)
    column = (1, -1, *[1] * (len(shape) - 2))
    mean, var, weight, bias = (a.astype(np.float64).reshape(column) for a in (mean, var, weight, bias))
    expected = (x - mean) / np.sqrt(var + 0.25) * weight + bias
    assert y.dtype == dtype
    np.testing.assert_allclose(y, layout(expected, data_format), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("training", [True, False])
@all_shapes
def test_gradients_agree_with_central_differences(shape, data_format, training):
    x, dy, weight, bias = data(shape, np.float64, data_format)
    fixed = cyconv.moments(x + 1, data_format=data_format)

    def moments():
        return cyconv.moments(x, data_format=data_format) if training else fixed

    def total():
        return float((cyconv.batch_norm(x, *moments(), weight, bias, 0.1, data_format=data_format) * dy).sum())

    grads = cyconv.batch_norm_backward(dy, x, *moments(), weight, 0.1, training=training, data_format=data_format)
    for gradient, array in zip(grads, (x, weight, bias)):
        assert gradient.shape == array.shape
        assert_same_gradient(gradient, central_differences(total, array))


# ---------------------------------------------------------------- bits and arrays

def everything(x, dy, weight, bias, **options):
    mean, var = cyconv.moments(x, **options)
    grads = cyconv.batch_norm_backward(dy, x, mean, var, weight, **options)
    return mean, var, cyconv.batch_norm(x, mean, var, weight, bias, **options), *grads


@all_shapes
@pytest.mark.usefixtures("threads_at_any_size", "nan_in_new_arrays")
def test_layouts_threads_and_instruction_sets_do_not_change_a_bit(shape, every_isa, dtype):
    x, dy, weight, bias = data(shape, dtype)
    expected = everything(x, dy, weight, bias, n_threads=1)
    assert not any(np.isnan(a).any() for a in expected)
    for isa in every_isa:
        _kernels.use(isa)
        for n_threads in (1, 2, 3, 7):
            for data_format in ("channels_first", "channels_last"):
                results = everything(layout(x, data_format), layout(dy, data_format), weight, bias,
                                     n_threads=n_threads, data_format=data_format)
                for actual, other in zip(results, expected):
                    other = layout(other, data_format) if other.shape == shape else other
                    assert_same_bits(actual, other, isa, n_threads, data_format)


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_array_gives_the_same(kind, dtype):
    arrays = data((2, 3, 4, 5), dtype)
    for actual, expected in zip(everything(*map(KINDS[kind], arrays)), everything(*arrays)):
        assert_same_bits(actual, expected)


def test_results_go_to_out_and_in_place(dtype):
    x, _, weight, bias = data((2, 3, 4), dtype)
    mean, var = cyconv.moments(x)
    expected, out = cyconv.batch_norm(x, mean, var, weight, bias), np.empty_like(x)
    assert cyconv.batch_norm(x, mean, var, weight, bias, out=out) is out
    assert_same_bits(out, expected)
    assert cyconv.batch_norm(x, mean, var, weight, bias, out=x) is x
    assert_same_bits(x, expected)


def test_no_samples_have_no_moments_and_normalise_to_nothing():
    with pytest.raises(ValueError, match=r"^moments: x must have at least one value per channel, got shape \(0, 3\)"):
        cyconv.moments(np.ones((0, 3)))
    assert cyconv.batch_norm(np.ones((0, 3)), np.zeros(3), np.ones(3)).shape == (0, 3)
    assert cyconv.batch_norm_backward(np.ones((0, 3)), np.ones((0, 3)), np.zeros(3), np.ones(3)).x.shape == (0, 3)


def test_nan_and_inf_stay_in_their_channel(isa, data_format):
    x = np.ones((2, 4, 5))
    x[0, 1, 2], x[1, 3, 0] = np.nan, np.inf
    mean, var = cyconv.moments(layout(x, data_format), data_format=data_format)
    np.testing.assert_array_equal(np.isnan(var), [False, True, False, True])
    np.testing.assert_array_equal(mean[[0, 2]], [1, 1])


@pytest.mark.parametrize("call, error, message", [
    (lambda x: cyconv.moments([1.0]), ValueError, r"^moments: x must have shape \(N, C, \*spatial\).* got \(1,\)"),
    (lambda x: cyconv.moments(x, data_format="NCHW"), ValueError, "^moments: data_format must be one of"),
    (lambda x: cyconv.moments(x * 1j), TypeError, "^moments: unsupported dtype complex128 for x"),
    (lambda x: cyconv.batch_norm(x, [0.0], [1.0] * 3), ValueError,
     r"^batch_norm: mean must have shape \(3,\), got \(1,\)"),
    (lambda x: cyconv.batch_norm(x, [0.0] * 3, [1, 1, -1]), ValueError, "^batch_norm: var must be >= 0, got -1.0"),
    (lambda x: cyconv.batch_norm(x, [0.0] * 3, [1.0] * 3, [1.0]), ValueError, r"^batch_norm: weight must have shape"),
    (lambda x: cyconv.batch_norm(x, [0.0] * 3, [1.0] * 3, eps=-1), ValueError, "^batch_norm: eps must be .* >= 0"),
    (lambda x: cyconv.batch_norm(x, [0.0] * 3, [1.0] * 3, eps="0"), TypeError, "^batch_norm: eps must be a number"),
    (lambda x: cyconv.batch_norm_backward(x[:1], x, [0.0] * 3, [1.0] * 3), ValueError,
     r"^batch_norm_backward: grad_out must have shape \(2, 3, 4\), got \(1, 3, 4\)"),
])
def test_errors_name_function_argument_and_value(call, error, message):
    with pytest.raises(error, match=message):
        call(np.ones((2, 3, 4)))


# ---------------------------------------------------------------- layer

def params_of(layer, shape, dtype=np.float64):
    return layer.initialize(shape, None, dtype) | layer.initial_state(shape, dtype)


def test_the_layer_starts_as_the_identity():
    params = params_of(BatchNorm(eps=0.0), (3, 4, 4))
    assert [(name, a.tolist()) for name, a in params.items()] == [
        ("weight", [1] * 3), ("bias", [0] * 3), ("running_mean", [0] * 3), ("running_var", [1] * 3)]
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 4))
    y, backward = BatchNorm(eps=0.0).forward(x, params)
    assert backward is None
    np.testing.assert_array_equal(y, x)
    assert list(params_of(BatchNorm(affine=False), (3, 4, 4))) == ["running_mean", "running_var"]
    assert BatchNorm(affine=False).n_params((3, 4, 4)) == 0 and BatchNorm().n_params((3, 4, 4)) == 6


def test_running_averages_worked_by_hand(dtype):
    params = params_of(BatchNorm(momentum=0.25), (1, 2), dtype)
    BatchNorm(momentum=0.25).forward(np.array([[[1, 3]], [[5, 7]]], dtype), params, Mode(training=True))
    assert params["running_mean"].tolist() == [1.0]                                  # 0.75 * 0 + 0.25 * 4
    assert params["running_var"] == pytest.approx([0.75 + 0.25 * 20 / 3])            # unbiased: 20 / 3
    assert params["running_var"].dtype == dtype


def test_one_value_per_channel_gives_the_bias_and_no_variance():
    params = params_of(BatchNorm(), (2,))
    params["bias"][:] = 5, 6
    y, backward = BatchNorm().forward(np.array([[3.0, 4.0]]), params, Mode(training=True))
    assert y.tolist() == [[5, 6]] and params["running_var"].tolist() == [1, 1]
    assert params["running_mean"] == pytest.approx([0.3, 0.4])
    assert not backward(np.ones((1, 2)))[0].any()


@pytest.mark.parametrize("layer, message", [
    (BatchNorm(momentum=1.5), r"momentum must be a number in \[0, 1\], got 1.5"),
    (BatchNorm(eps=-1.0), "eps must be .* got -1.0"),
])
def test_arguments_out_of_range_are_errors(layer, message):
    with pytest.raises(ValueError, match=message):
        layer.output_shape((3, 4))


@pytest.mark.parametrize("shape, kind", [((6, 3), 1), ((4, 3, 8), 1), ((4, 3, 5, 6), 2), ((2, 3, 4, 5, 3), 3)])
@pytest.mark.parametrize("affine", [True, False])
def test_several_steps_agree_with_pytorch(shape, kind, affine, dtype):
    torch = pytest.importorskip("torch")
    peer = getattr(torch.nn, f"BatchNorm{kind}d")(3, affine=affine, dtype=torch.from_numpy(np.ones(1, dtype)).dtype)
    layer, rtol = BatchNorm(affine=affine), 2e-5 if dtype == np.float32 else 1e-11
    params = params_of(layer, shape[1:], dtype)
    assert params.keys() == {name for name in peer.state_dict() if name != "num_batches_tracked"}
    for step in range(4):
        x, dy, _, _ = data(shape, dtype, seed=step)
        tensor = torch.tensor(x, requires_grad=True)
        expected = peer(tensor)
        peer.zero_grad()
        expected.backward(torch.tensor(dy))
        y, backward = layer.forward(x, params, Mode(training=True))
        dx, gradients = backward(dy)
        np.testing.assert_allclose(y, expected.detach().numpy(), rtol=rtol, atol=rtol)
        np.testing.assert_allclose(dx, tensor.grad.numpy(), rtol=rtol, atol=rtol)
        assert gradients.keys() == dict(peer.named_parameters()).keys()
        for name, own in peer.named_parameters():
            np.testing.assert_allclose(gradients[name], own.grad.numpy(), rtol=rtol, atol=10 * rtol)
        for name in ("running_mean", "running_var"):
            np.testing.assert_allclose(params[name], getattr(peer, name).numpy(), rtol=rtol)
    peer.eval()
    expected = peer(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(layer.forward(x, params)[0], expected, rtol=rtol, atol=rtol)


# ---------------------------------------------------------------- network

def network(dtype=np.float64, **options):
    layers = [Conv(3, 3, bias=False), BatchNorm(), ReLU(), Dense(4), BatchNorm(affine=False), ReLU(), Dense(3)]
    return Sequential(layers, (2, 6, 5), dtype=dtype, random_state=1, **options)


def test_gradient_of_a_network_agrees_with_central_differences():
    net = network()
    x, labels = np.random.default_rng(0).standard_normal((7, 2, 6, 5)), np.arange(7) % 3
    gradient = net.loss_and_gradient(x, labels)[1]
    assert_same_gradient(gradient, central_differences(lambda: net.loss_and_gradient(x, labels)[0], net.vector))


def test_state_stands_beside_the_parameters():
    net = network()
    shapes = {name: value.shape for name, value in net.parameters().items() if "batchnorm" in name}
    assert shapes == {"batchnorm1.weight": (3,), "batchnorm1.bias": (3,), "batchnorm1.running_mean": (3,),
                      "batchnorm1.running_var": (3,), "batchnorm2.running_mean": (4,), "batchnorm2.running_var": (4,)}
    assert net.state.size == 14
    assert net.vector.size == 2 * 3 * 9 + 3 + 3 + 3 * 12 * 4 + 4 + 4 * 3 + 3
    assert net.weights.size == 2 * 3 * 9 + 3 * 12 * 4 + 4 * 3        # no factor of a channel is penalised
    assert [line.split()[0] for line in net.summary().splitlines()][2] == "batchnorm1"


def test_training_moves_the_state_and_prediction_does_not():
    net = network()
    x = 5 + np.random.default_rng(0).standard_normal((7, 2, 6, 5))
    before = net.state.copy()
    net.forward(x)
    np.testing.assert_array_equal(net.state, before)
    net.forward(x, training=True)
    assert (net.state != before).all()


def test_state_makes_the_round_trip():
    net, other = network(), network()
    x = 5 + np.random.default_rng(0).standard_normal((7, 2, 6, 5))
    net.forward(x, training=True)
    other.load_parameters(net.parameters())
    np.testing.assert_array_equal(other.state, net.state)
    np.testing.assert_array_equal(other.forward(x)[0], net.forward(x)[0])
    with pytest.raises(ValueError, match="batchnorm1.running_var"):
        other.load_parameters({k: v for k, v in net.parameters().items() if k != "batchnorm1.running_var"})


def test_a_prediction_does_not_depend_on_its_batch():
    net = network(np.float32)
    x = np.random.default_rng(0).standard_normal((9, 2, 6, 5), np.float32)
    net.forward(x, training=True)
    np.testing.assert_array_equal(net.forward(x[2:5])[0], net.forward(x)[0][2:5])


def test_the_scale_of_the_input_moves_into_the_weights_before_it():
    net = network(np.float32)
    x = np.random.default_rng(0).standard_normal((9, 2, 6, 5), np.float32)
    net.forward(x, training=True)
    expected = net.forward(x / 8)[0]
    net.scale_input(1 / 8)
    np.testing.assert_array_equal(net.forward(x)[0], expected)
    for affine in (True, False):
        with pytest.raises(ValueError, match="scale_input: layer 'batchnorm1', .* comes before the first weights"):
            Sequential([BatchNorm(affine=affine), Conv(2, 3)], (1, 5, 5)).scale_input(2)


# ---------------------------------------------------------------- classifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def quick(**changes):
    return ConvNetClassifier(**({"conv_channels": (4, 6), "input_shape": (8, 8), "max_iter": 4, "random_state": 0,
                                 "learning_rate_init": 0.01, "batch_norm": True, "n_jobs": 1} | changes))


def test_the_classifier_normalises_every_convolution():
    fitted = quick(max_iter=10).fit(DIGITS[:400], LABELS[:400])
    kinds = [kind for _, kind, _ in fitted.architecture_]
    assert kinds == ["Conv", "BatchNorm", "ReLU", "MaxPool"] * 2 + ["Dense"]
    assert "conv1.bias" not in fitted.parameters_ and "batchnorm2.running_var" in fitted.parameters_
    assert fitted.score(DIGITS[400:], LABELS[400:]) > 0.95


def test_scaled_data_give_the_same_normalised_network():
    first, second = quick().fit(DIGITS, LABELS), quick().fit(DIGITS / 64, LABELS)
    np.testing.assert_array_equal(first.predict_proba(DIGITS), second.predict_proba(DIGITS / 64))
    assert second.input_scale_ == 64 * first.input_scale_


def test_state_is_carried_by_pickles_and_not_by_clones():
    fitted = quick().fit(DIGITS, LABELS)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(DIGITS), fitted.predict_proba(DIGITS))
    assert not hasattr(clone(fitted), "parameters_") and clone(fitted).batch_norm
    same = clone(fitted).fit(DIGITS, LABELS)
    np.testing.assert_array_equal(same.predict_proba(DIGITS), fitted.predict_proba(DIGITS))


def test_a_warm_start_goes_on_with_the_state():
    whole = quick(max_iter=6, tol=0.0).fit(DIGITS, LABELS)
    halves = quick(max_iter=3, tol=0.0, warm_start=True).fit(DIGITS, LABELS).fit(DIGITS, LABELS)
    for name, value in whole.parameters_.items():
        np.testing.assert_array_equal(halves.parameters_[name], value)


def test_an_interrupted_epoch_leaves_the_state_of_the_last_one(monkeypatch):
    expected = quick(max_iter=2).fit(DIGITS, LABELS)
    epochs = []

    def interrupted(network, *args, **kwargs):
        epochs.append(None)
        loss = _training.train_epoch(network, *args, **kwargs)
        if len(epochs) == 3:
            raise KeyboardInterrupt
        return loss

    monkeypatch.setattr(_fitting, "train_epoch", interrupted)
    with pytest.warns(UserWarning, match="Training was interrupted; the network is that of epoch 2"):
        fitted = quick(max_iter=9).fit(DIGITS, LABELS)
    for name, value in expected.parameters_.items():
        np.testing.assert_array_equal(fitted.parameters_[name], value)


def test_batch_norm_must_be_a_flag():
    with pytest.raises(ValueError, match="The 'batch_norm' parameter of ConvNetClassifier must be True, False or"):
        quick(batch_norm="yes").fit(DIGITS, LABELS)
