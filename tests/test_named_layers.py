"""Networks given layer by layer, presets, inner features."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from cyconv import ConvNetClassifier, ConvNetRegressor, layers, presets
from cyconv.layers import AvgPool, BatchNorm, Conv, Dense, MaxPool, ReLU, SeparableConv, Tanh

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_digits(return_X_y=True)
X = X.astype(np.float32)
FEW, FEW_Y = X[:300], Y[:300]


def network():
    return [("conv1", Conv(4, padding="same")), ("relu1", ReLU()), ("pool1", MaxPool()),
            ("conv2", Conv(6, padding="same")), ("relu2", ReLU()), ("pool2", MaxPool())]


def quick(kind=ConvNetClassifier, **changes):
    return kind(**({"layers": network(), "input_shape": (8, 8), "max_iter": 3, "random_state": 0,
                    "learning_rate_init": 0.01, "n_jobs": 1} | changes))


def weights(estimator):
    return np.concatenate([value.ravel() for value in estimator.parameters_.values()])


# ---------------------------------------------------------------- layers

def test_layers_are_the_same_network_as_parameters():
    flat = quick(layers=None, conv_channels=(4, 6)).fit(FEW, FEW_Y)
    np.testing.assert_array_equal(weights(quick().fit(FEW, FEW_Y)), weights(flat))


def test_the_layer_of_outputs_is_added_or_given():
    assert quick().fit(FEW, FEW_Y).architecture_[-1] == ("output", "Dense", {"units": 10, "bias": True})
    given = quick(layers=[*network(), ("last", Dense(10, bias=False))]).fit(FEW, FEW_Y)
    assert given.architecture_[-1] == ("last", "Dense", {"units": 10, "bias": False})
    assert given.predict_proba(FEW).shape == (300, 10)
    regressor = quick(ConvNetRegressor, layers=[*network(), ("last", Dense(1, bias=False))]).fit(FEW, FEW_Y)
    assert [name for name in regressor.parameters_ if name.startswith("last")] == ["last.weight"]


def test_layers_and_their_arguments_are_parameters():
    estimator = quick()
    params = estimator.get_params()
    assert params["conv1__kernel_size"] == 3 and params["pool2"] is estimator.layers[5][1]
    assert "conv1" not in estimator.get_params(deep=False)
    estimator.set_params(conv1__kernel_size=5, pool2=AvgPool(2), max_iter=1)
    assert estimator.layers[0][1] == Conv(4, 5, padding="same") and type(estimator.layers[5][1]) is AvgPool
    copied = clone(estimator).set_params(conv2__out_channels=2)
    assert estimator.layers[3][1].out_channels == 6 and copied.layers[3][1].out_channels == 2
    with pytest.raises(ValueError, match="no parameter 'size'"):
        estimator.set_params(conv1__size=5)
    with pytest.raises(ValueError, match="Invalid parameter 'conv9'"):
        estimator.set_params(conv9__kernel_size=5)


def test_grid_search_over_arguments_of_layers():
    grid = {"conv1__out_channels": [2, 8], "pool1": [MaxPool(), AvgPool()], "conv2__kernel_size": [1, 3]}
    search = GridSearchCV(quick(), grid, cv=2, n_jobs=2).fit(FEW, FEW_Y)
    assert len(set(search.cv_results_["mean_test_score"])) > 3
    best = dict(search.best_estimator_.layers)
    assert best["conv1"].out_channels == search.best_params_["conv1__out_channels"]


def test_fit_does_not_touch_the_layers_and_they_do_not_touch_the_network():
    estimator, before = quick(), network()
    expected = estimator.fit(FEW, FEW_Y).predict_proba(FEW)
    assert estimator.layers == before
    estimator.set_params(conv1__out_channels=9)
    np.testing.assert_array_equal(estimator.predict_proba(FEW), expected)


@pytest.mark.parametrize("first", [
    Tanh(), BatchNorm(), SeparableConv(4), AvgPool(2), Dense(7), layers.Softmax(),
], ids=lambda layer: type(layer).__name__)
def test_the_scale_of_the_input_is_right_whatever_comes_first(first):
    fitted = quick(layers=[("first", first), ("dense", Dense(8)), ("relu", ReLU())], max_iter=1).fit(64 * FEW, FEW_Y)
    assert (fitted.input_scale_ != 1) == (type(first) in (SeparableConv, AvgPool, Dense))
    again = clone(fitted).set_params(alpha=0.0, batch_size=300, solver="sgd", learning_rate_init=1e-12)
    again.fit(64 * FEW, FEW_Y)
    loss = -again.predict_log_proba(64 * FEW)[np.arange(300), FEW_Y].astype(float).mean()
    assert type(first) is BatchNorm or again.loss_ == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize(("value", "message"), [
    ("lenet5", r"must be None or a list of \(name, Layer\), such as cyconv.presets.lenet5\(\)"),
    ([Conv(4)], r"must be a list of \(name, Layer\); entry 0, Conv\(.*\), is no pair of a str and a Layer"),
    ([("a", Conv(4)), ("b", ReLU)], r"entry 1, .*, holds a class; write ReLU\(...\)"),
    ([("a", Conv(4)), ("b", None)], r"entry 1, \('b', None\), holds no layer; leave it out, or write Dropout\(0\)"),
    ([("a", "passthrough")], r"entry 0, .*, holds no layer; leave it out, or write Dropout\(0\)"),
    ([("a", Conv(4)), ("b", np.tanh)], "entry 1, .*, holds no layer of cyconv.layers"),
    ([("", Conv(4))], "the name '' is empty"),
    ([("dense", Dense(10)), ("p", layers.Softmax())], "leave out the last layer, 'p', Softmax: the estimator adds"),
    ([("output", Dense(7))], r"'output' is the name of the layer Dense\(10\) that is added; call yours otherwise"),
    ([("a", Conv(4)), ("a", ReLU())], "'layers' parameter of ConvNetClassifier: the name 'a' stands twice"),
    ([("dropout", ReLU())], "the name 'dropout' is that of a parameter; call the layer 'dropout1' or"),
    ([("a__b", ReLU())], "the name 'a__b' contains '__', which"),
    ([("conv", Conv(4, 11))], r"layer 'conv', Conv\(.*\), does not fit its input of shape \(1, 8, 8\)"),
])
def test_layers_that_cannot_be_are_named(value, message):
    with pytest.raises(ValueError, match=message):
        quick(layers=value).fit(FEW, FEW_Y)


@pytest.mark.parametrize(("last", "warns"), [
    ([Dense(7)], True), ([Dense(10), layers.Sigmoid()], True), ([Dense(10), ReLU()], True), ([Dense(1), Tanh()], True),
    ([Dense(7), ReLU()], False), ([ReLU()], False), ([Dense(10)], False), ([], False),
])
def test_outputs_with_another_layer_behind_them_are_a_warning(last, warns, recwarn):
    quick(layers=[(f"l{number}", layer) for number, layer in enumerate(last)]).fit(FEW, FEW_Y)
    said = [str(warning.message) for warning in recwarn if "is added behind the last one" in str(warning.message)]
    assert len(said) == warns and all(repr(last[-1]) in text and "Dense(10)" in text for text in said)


def test_no_layers_are_a_linear_model():
    fitted = quick(layers=[]).fit(FEW, FEW_Y)
    assert list(fitted.parameters_) == ["output.weight", "output.bias"]
    assert fitted.transform(FEW).shape == (300, 64)


# ---------------------------------------------------------------- presets

@pytest.mark.parametrize(("preset", "shape"), [
    (presets.lenet5, (28, 28)), (presets.vgg_small, (3, 16, 16)), (presets.signal_net, (2, 40)),
])
def test_presets_learn(preset, shape):
    rng = np.random.default_rng(0)
    patterns = rng.normal(size=(3, *shape))
    labels = np.arange(60) % 3
    data = (patterns[labels] + 0.3 * rng.normal(size=(60, *shape))).astype(np.float32)
    fitted = ConvNetClassifier(layers=preset(), spatial_dims=1 if preset is presets.signal_net else None, max_iter=12,
                               random_state=0, learning_rate_init=3e-3, n_jobs=1).fit(data, labels)
    assert fitted.score(data, labels) > 0.9
    assert preset() == preset() and preset()[0][1] is not preset()[0][1]


# ---------------------------------------------------------------- inner features

def test_transform_shows_the_layer_before_the_outputs():
    fitted = quick().fit(FEW, FEW_Y)
    features = fitted.transform(FEW)
    weight, bias = fitted.parameters_["output.weight"], fitted.parameters_["output.bias"]
    np.testing.assert_allclose(features @ weight.T + bias, fitted.decision_function(FEW), rtol=1e-4, atol=1e-4)
    assert list(fitted.get_feature_names_out()[:3]) == ["pool2_c0_h0_w0", "pool2_c0_h0_w1", "pool2_c0_h1_w0"]


@pytest.mark.parametrize("name", ("conv1", "relu1", "pool1", "output"))
def test_transform_shows_any_layer(name):
    fitted = quick(feature_layer=name).fit(FEW, FEW_Y)
    expected = dict(fitted.to_sequential().outputs(FEW.reshape(-1, 1, 8, 8)))[name]
    np.testing.assert_array_equal(fitted.transform(FEW), expected.reshape(300, -1))
    assert len(fitted.get_feature_names_out()) == fitted.transform(FEW).shape[1]


def test_features_do_not_depend_on_the_layout():
    first, last = (quick(data_format=layout, feature_layer="conv1").fit(FEW, FEW_Y)
                   for layout in ("channels_first", "channels_last"))
    np.testing.assert_array_equal(first.transform(FEW), last.transform(FEW))


def test_names_of_features_of_signals_volumes_and_vectors():
    data = FEW.reshape(300, 1, 4, 4, 4)
    volume = quick(input_shape=None, feature_layer="pool1").fit(data, FEW_Y)
    assert volume.get_feature_names_out()[-1] == "pool1_c3_d1_h1_w1"
    signal = quick(input_shape=None, spatial_dims=1, feature_layer="pool1").fit(FEW[:, None], FEW_Y)
    assert signal.get_feature_names_out()[-1] == "pool1_c3_l31"
    vector = quick(layers=[("dense", Dense(5)), ("tanh", Tanh())]).fit(FEW, FEW_Y)
    assert list(vector.get_feature_names_out()) == [f"tanh_{i}" for i in range(5)]


def test_an_unknown_layer_is_an_error():
    message = "feature_layer must be a layer of the network, conv1, .*; got 'conv7'"
    with pytest.raises(ValueError, match=message):
        quick(feature_layer="conv7").fit(FEW, FEW_Y)
    with pytest.raises(ValueError, match=message):
        quick().fit(FEW, FEW_Y).set_params(feature_layer="conv7").transform(FEW)


def test_an_own_layer_of_outputs_may_be_called_output():
    fitted = quick(layers=[*network(), ("output", Dense(10))]).fit(FEW, FEW_Y)
    assert fitted.architecture_[-1][0] == "output"


def test_dropout_of_nothing_stands_for_no_layer():
    without, nothing = network(), network()
    without[4:5], nothing[4] = [], ("relu2", layers.Dropout(0))
    np.testing.assert_array_equal(*(weights(quick(layers=value).fit(FEW, FEW_Y)) for value in (without, nothing)))


def test_features_as_a_frame():
    pytest.importorskip("pandas")
    frame = quick().set_output(transform="pandas").fit(FEW, FEW_Y).transform(FEW)
    assert list(frame.columns)[:1] == ["pool2_c0_h0_w0"] and frame.shape == (300, 24)


def test_a_classifier_of_learned_features():
    pipeline = make_pipeline(quick(max_iter=10), SVC()).fit(X[:800], Y[:800])
    assert pipeline.score(X[800:], Y[800:]) > 0.85


def test_summary_is_that_of_the_network():
    fitted = quick().fit(FEW, FEW_Y)
    assert fitted.summary() == fitted.to_sequential().summary()
    assert "conv2" in fitted.summary()
