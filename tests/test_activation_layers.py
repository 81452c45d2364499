"""Layers of activations: gradients, layouts, arguments, names, and the classifier that uses them."""

import pickle

import numpy as np
import pytest
from sklearn.datasets import load_digits

import cyconv
from cyconv import ConvNetClassifier, Sequential, layers
from cyconv.layers import ACTIVATIONS, ELU, GELU, SELU, Dense, LeakyReLU, Mode, ReLU, Sigmoid, SiLU, Softmax, Tanh
from cyconv.selftest.differences import assert_same_gradient, central_differences

CASES = [ReLU(), LeakyReLU(), LeakyReLU(0.3), ELU(), ELU(alpha=0.5), SELU(), GELU(), GELU("tanh"), SiLU(), Sigmoid(),
         Tanh(), Softmax()]
every_layer = pytest.mark.parametrize("layer", CASES, ids=map(repr, CASES))
TRAINING = {data_format: Mode(True, data_format) for data_format in ("channels_first", "channels_last")}


@every_layer
@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5), (2, 3, 4, 2), (2, 2, 3, 2, 2)], ids=["vectors", "1D", "2D", "3D"])
def test_gradients_agree_with_central_differences(layer, shape, data_format, rng):
    x, dy = rng.standard_normal((2, *shape))
    y, backward = layer.forward(x, {}, TRAINING[data_format])
    assert y.shape == x.shape
    dx, gradients = backward(dy)
    expected = central_differences(lambda: float((layer.forward(x, {}, TRAINING[data_format])[0] * dy).sum()), x)
    assert_same_gradient(dx, expected)
    assert gradients == {}


@every_layer
def test_both_layouts_give_the_same_bits(layer, dtype, rng):
    x, dy = rng.standard_normal((2, 3, 4, 5, 6)).astype(dtype)
    last_x, last_dy = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (x, dy))
    y, backward = layer.forward(x, {}, TRAINING["channels_first"])
    last_y, last_backward = layer.forward(last_x, {}, TRAINING["channels_last"])
    np.testing.assert_array_equal(np.moveaxis(y, 1, -1), last_y)
    np.testing.assert_array_equal(np.moveaxis(backward(dy)[0], 1, -1), last_backward(last_dy)[0])
    assert y.dtype == dtype


@every_layer
def test_nothing_is_kept_for_a_gradient_when_not_training(layer):
    y, backward = layer.forward(np.ones((2, 3)))
    assert backward is None and y.shape == (2, 3)


@every_layer
def test_shape_and_counts(layer):
    assert layer.output_shape((3, 4, 5)) == (3, 4, 5)
    assert layer.n_params((3, 4, 5)) == layer.n_macs((3, 4, 5)) == 0
    assert pickle.loads(pickle.dumps(layer)) == layer
    assert getattr(layers, type(layer).__name__) is type(layer)


def test_arguments_reach_the_function(rng):
    x = rng.standard_normal((4, 5))
    np.testing.assert_array_equal(LeakyReLU(0.3).forward(x)[0], cyconv.leaky_relu(x, 0.3))
    np.testing.assert_array_equal(ELU(2.0).forward(x)[0], cyconv.elu(x, 2.0))
    np.testing.assert_array_equal(GELU("tanh").forward(x)[0], cyconv.gelu(x, "tanh"))
    assert repr(GELU("tanh")) == "GELU(approximate='tanh')"
    assert LeakyReLU(0.3).get_params() == {"negative_slope": 0.3}


def test_softmax_is_over_channels(data_format, rng):
    x = rng.standard_normal((2, 3, 4, 5))
    y = Softmax().forward(x, {}, Mode(data_format=data_format))[0]
    np.testing.assert_allclose(y.sum(axis=-1 if data_format == "channels_last" else 1), 1, rtol=1e-14)


def test_names_are_those_of_pytorch_and_of_scikit_learn():
    assert list(ACTIVATIONS) == ["relu", "leaky_relu", "elu", "selu", "gelu", "silu", "swish", "sigmoid", "logistic",
                                 "tanh", "identity"]
    assert ACTIVATIONS["swish"] is SiLU and ACTIVATIONS["logistic"] is Sigmoid and ACTIVATIONS["identity"] is None


@pytest.mark.parametrize("activation", ["GELU", "softmax", "", None, 1, ("relu", "no"), ReLU()])
def test_other_names_are_refused_by_the_classifier(activation):
    with pytest.raises(ValueError, match="The 'activation' parameter of ConvNetClassifier must be one of 'relu', 'lea"):
        ConvNetClassifier(activation=activation).fit(np.eye(4), [0, 1, 0, 1])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_classifier_learns_with_every_activation(activation):
    X, y = load_digits(n_class=4, return_X_y=True)
    fitted = ConvNetClassifier((6,), activation=activation, hidden_layer_sizes=(12,), input_shape=(8, 8), max_iter=12,
                               learning_rate_init=0.01, random_state=0, n_jobs=1).fit(X[:400], y[:400])
    kinds = [kind for _, kind, _ in fitted.architecture_]
    expected = [] if activation == "identity" else [ACTIVATIONS[activation].__name__]
    assert kinds == ["Conv", *expected, "MaxPool", "Dense", *expected, "Dense"]
    assert fitted.score(X[:400], y[:400]) > 0.95 and fitted.score(X[400:], y[400:]) > 0.8
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))


def test_synonyms_give_the_same_network():
    X, y = np.random.default_rng(0).standard_normal((40, 6)), np.arange(40) % 2
    with pytest.warns(Warning):
        fitted = [ConvNetClassifier(3, activation=name, random_state=0, max_iter=2, n_jobs=1).fit(X, y)
                  for name in ("silu", "swish", "sigmoid", "logistic")]
    results = [one.predict_proba(X) for one in fitted]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[2], results[3])


def test_a_network_of_every_activation_agrees_with_central_differences(rng):
    network = Sequential([layer for kind in CASES[:-1] for layer in (Dense(4), kind)] + [Dense(3)], (5,),
                         dtype=np.float64, random_state=1)
    x, labels = rng.standard_normal((7, 5)), np.arange(7) % 3
    network.vector += 0.1 * rng.standard_normal(network.vector.size)       # nothing lies at the kink of ReLU

    def loss():
        return network.loss_and_gradient(x, labels)[0]

    gradient = network.loss_and_gradient(x, labels)[1]
    assert_same_gradient(gradient, central_differences(loss, network.vector))
