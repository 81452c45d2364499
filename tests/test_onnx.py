"""Networks as ONNX graphs compute what cyconv computes: in onnx's own evaluator, and in ONNX Runtime if installed."""

import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from cyconv import ConvNetClassifier, ConvNetRegressor, Sequential, presets, to_onnx
from cyconv.layers import (
    ELU,
    GELU,
    SELU,
    AdaptivePool,
    AvgPool,
    BatchNorm,
    Conv,
    ConvTranspose,
    Dense,
    DepthwiseConv,
    Dropout,
    Flatten,
    GlobalPool,
    LeakyReLU,
    LocalConv,
    LpPool,
    Maxout,
    MaxPool,
    MinPool,
    ReLU,
    SeparableConv,
    Sigmoid,
    SiLU,
    Softmax,
    SumPool,
    Tanh,
    TiledConv,
)

onnx = pytest.importorskip("onnx")
reference_evaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_digits(return_X_y=True)
X = X.astype(np.float32)
RANDOM = np.random.default_rng(0)

# Layers, and the shape (C, *spatial) or (F,) of their input.
LAYERS = [
    (Conv(4), (2, 9)), (Conv(4), (2, 7, 6)), (Conv(4, 2), (2, 4, 5, 3)),
    (Conv(6, (3, 2), (2, 1), ((0, 2), (1, 0)), (1, 2), groups=2, bias=False), (4, 9, 8)),
    (Conv(2, 4, padding="same"), (1, 6, 7)), (Conv(2, 4, 2, "same_lower"), (1, 6, 7)),
    (Conv(2, padding="full"), (1, 5)),
    *((Conv(2, 3, padding=2, padding_mode=mode), (1, 5, 4)) for mode in ("reflect", "symmetric", "edge", "wrap")),
    (Conv(2, 3, 2, "same", padding_mode="reflect"), (1, 5, 4, 3)),
    (ConvTranspose(4), (3, 5)), (ConvTranspose(4, 3, 2, 1, 1, groups=2), (4, 4, 3)),
    (ConvTranspose(2, (3, 2), 2, "same"), (3, 4, 5)), (ConvTranspose(2, 2, 3, ((0, 1), (1, 0)), 2, 2), (3, 4, 3)),
    (ConvTranspose(2, 2, 4, "same", bias=False), (1, 2, 3, 2)),
    (DepthwiseConv(2, 3, 2, 1), (3, 7, 6)), (DepthwiseConv(padding_mode="edge", padding=1), (3, 7)),
    (SeparableConv(5, 3, 1, "same"), (3, 6, 6)), (SeparableConv(5, 2, multiplier=2, bias=False), (2, 4, 3, 3)),
    (Dense(4), (5,)), (Dense(4, bias=False), (2, 3, 2)), (Flatten(), (2, 3, 2)), (Flatten(), (4,)),
    *((kind(*how), (2, 8, 7)) for kind in (MaxPool, MinPool, AvgPool, SumPool)
      for how in ((), (3, 2, 1), (2, 3, ((0, 2), (1, 1))), ((3, 2), 1, 0, 2), (3, 2, ((1, 0), (0, 1)), 1, True))),
    (AvgPool(3, 2, 1, count_include_pad=False), (2, 6, 5)), (AvgPool(3, 2, 2, 2, True, False), (2, 6, 7)),
    (MaxPool(2), (2, 7)), (MinPool(2), (1, 4, 5, 4)), (AvgPool(2, padding=1), (1, 4, 5, 4)), (SumPool(3), (2, 9)),
    (LpPool(), (2, 6, 5)), (LpPool(1.5, 3, 2, 1, 1, True), (2, 6, 5)), (LpPool(np.inf, 2, padding=2), (1, 5, 4)),
    *((GlobalPool(kind), (3, 4, 5)) for kind in ("avg", "max", "min", "sum", "lp")), (GlobalPool("lp", 3), (3, 6)),
    (GlobalPool("lp", np.inf), (2, 3, 2, 2)),
    *((AdaptivePool(size, kind), (2, 6, 7)) for size in ((3, 7), 4, (None, 9)) for kind in ("avg", "max")),
    (Maxout(2), (6, 4, 3)), (Maxout(3), (6,)),
    *((layer, (3, 4, 5)) for layer in (ReLU(), LeakyReLU(0.2), ELU(0.7), SELU(), GELU(), GELU("tanh"), SiLU(),
                                       Sigmoid(), Tanh(), Softmax(), BatchNorm(), Dropout())),
    (BatchNorm(0.1, affine=False), (3, 4, 5)), (Softmax(), (5,)), (BatchNorm(), (5,)),
]


def reference(model):
    evaluator = reference_evaluator(model)
    return lambda x: evaluator.run(None, {"X": x})


def runtime(model):
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"X": x})


# ONNX keeps numbers that are no arrays, such as the slope of a rectifier, in float32.
RUN = [(reference, np.float64, 1e-6), (runtime, np.float32, 2e-5)]
IDS = ["reference", "runtime"]


def network(layers, shape, data_format, dtype):
    """With no parameter that is 0 or 1."""
    stored = (*shape[1:], shape[0]) if data_format == "channels_last" else shape
    result = Sequential(layers, stored, dtype=dtype, data_format=data_format, random_state=0)
    result.load_parameters({name: RANDOM.uniform(0.5, 1.5, value.shape) if "running" in name else
                            RANDOM.standard_normal(value.shape) for name, value in result.parameters().items()})
    return result


@pytest.mark.parametrize(("run", "dtype", "tolerance"), RUN, ids=IDS)
@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda value: repr(value))
def test_every_layer(layer, shape, run, dtype, tolerance, data_format):
    if data_format == "channels_last" and len(shape) == 1:
        pytest.skip("a vector has one layout")
    if run is reference and isinstance(layer, ConvTranspose) and layer.groups > 1:
        pytest.skip("onnx's evaluator cannot")
    ours = network([layer], shape, data_format, dtype)
    model = to_onnx(ours, dtype=dtype)
    onnx.checker.check_model(model, full_check=True)
    for n in (1, 3):
        x = RANDOM.standard_normal((n, *ours.input_shape)).astype(dtype)
        expected, (found,) = ours.forward(x)[0], run(model)(x)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("layers", [presets.lenet5(), presets.vgg_small(), presets.signal_net()],
                         ids=["lenet5", "vgg_small", "signal_net"])
def test_whole_networks(layers, data_format):
    ours = network([*layers, ("output", Dense(3))], (2, 12, 16), data_format, np.float32)
    x = RANDOM.standard_normal((5, *ours.input_shape)).astype(np.float32)
    expected = ours.forward(x)[0]
    for run in (reference, runtime):
        np.testing.assert_allclose(run(to_onnx(ours))(x)[0], expected, atol=1e-4 * np.abs(expected).max())


def test_nodes_and_parameters_bear_the_names_of_their_layers():
    graph = to_onnx(Sequential([("first", Conv(2)), ReLU(), Dropout(), ("second", Dense(3))], (1, 4, 4))).graph
    assert [constant.name for constant in graph.initializer] == ["first.weight", "first.bias", "second.weight",
                                                                 "second.bias"]
    assert [node.name.split("/")[0] for node in graph.node] == ["first", "relu1", "second", "second", "Y"]


def test_a_network_without_layers():
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(reference(to_onnx(Sequential([], (3,))))(x)[0], x)


# ---------------------------------------------------------------- estimators

def quick(kind=ConvNetClassifier, **changes):
    return kind(**({"conv_channels": (4, 8), "input_shape": (8, 8), "max_iter": 3, "random_state": 0,
                    "learning_rate_init": 0.02, "n_jobs": 1} | changes))


LABELS = {"integers": Y, "strings": np.array([f"digit {y}" for y in Y]),
          "objects": np.array(list("abcdefghij"), object)[Y],
          "booleans": Y > 4, "floats": Y + 0.0}


@pytest.mark.parametrize("run", [reference, runtime])
@pytest.mark.parametrize("kind", LABELS)
def test_labels_and_probabilities(kind, run):
    fitted = quick().fit(X[:300], LABELS[kind][:300])
    model = to_onnx(fitted)
    onnx.checker.check_model(model, full_check=True)
    assert [output.name for output in model.graph.output] == ["label", "probabilities"]
    labels, probabilities = run(model)(X[:50].reshape(-1, 1, 8, 8))
    np.testing.assert_array_equal(labels, fitted.predict(X[:50]))
    np.testing.assert_allclose(probabilities, fitted.predict_proba(X[:50]), atol=1e-5)


@pytest.mark.parametrize("run", [reference, runtime])
def test_several_labels(run):
    fitted = quick().fit(X[:300], np.stack([Y % 2, Y // 5], axis=1)[:300])
    labels, probabilities = run(to_onnx(fitted, flattened=True))(X[:50])
    np.testing.assert_array_equal(labels, fitted.predict(X[:50]))
    np.testing.assert_allclose(probabilities, fitted.predict_proba(X[:50]), atol=1e-5)


@pytest.mark.parametrize("run", [reference, runtime])
@pytest.mark.parametrize("y", [Y[:300], np.stack([Y, Y**2], axis=1)[:300]], ids=["one", "two"])
def test_numbers(run, y):
    fitted = quick(ConvNetRegressor).fit(X[:300].astype(np.float64), y)
    found, = run(to_onnx(fitted, flattened=True))(X[:50])
    np.testing.assert_allclose(found, fitted.predict(X[:50]).reshape(50, -1), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("run", [reference, runtime])
def test_channels_last_as_samples_and_as_rows(run):
    images = RANDOM.standard_normal((60, 6, 5, 3)).astype(np.float32)
    fitted = quick(input_shape=None, data_format="channels_last").fit(images, np.arange(60) % 3)
    expected = fitted.predict_proba(images)
    for x, flattened in ((images, False), (images.reshape(60, -1), True)):
        np.testing.assert_allclose(run(to_onnx(fitted, flattened=flattened))(x)[1], expected, atol=1e-5)


# ---------------------------------------------------------------- errors

@pytest.mark.parametrize("layer", [LocalConv(2), TiledConv(2)])
def test_layers_that_onnx_does_not_know(layer):
    with pytest.raises(ValueError, match=r"to_onnx: ONNX has no operation for layer 'odd', (Local|Tiled)Conv\("):
        to_onnx(Sequential([("odd", layer)], (1, 8, 8)))


def test_what_cannot_be_converted():
    with pytest.raises(TypeError, match="to_onnx: model must be a ConvNetClassifier, .* got Pipeline; of a pipe"):
        to_onnx(make_pipeline(quick()))
    with pytest.raises(TypeError, match="to_onnx: dtype must be float32 or float64, got 'float16'"):
        to_onnx(Sequential([], (3,)), dtype="float16")
    with pytest.raises(TypeError, match="to_onnx: flattened must be True or False, got 'x'"):
        to_onnx(Sequential([], (3,)), flattened="x")
    with pytest.raises(NotFittedError):
        to_onnx(quick())


def test_onnx_is_asked_for_when_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match="to_onnx needs the package onnx; .*pip install onnx"):
        to_onnx(Sequential([], (3,)))
