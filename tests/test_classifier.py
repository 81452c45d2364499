"""ConvNetClassifier: learning, shapes and types of input, weights, restarts, reproducibility, errors."""

import hashlib
import io
import pickle
import warnings

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import StratifiedKFold, cross_validate

from cyconv import ConvNetClassifier, ImageScaler, _kernels, _training, optimizers
from cyconv.layers import Conv

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_digits(return_X_y=True)
X = X.astype(np.float32)
FEW, FEW_Y = X[:300], Y[:300]


def quick(**changes):
    """A network that is fitted in a moment."""
    return ConvNetClassifier(**({"conv_channels": (4, 6), "input_shape": (8, 8), "max_iter": 3, "random_state": 0,
                                 "learning_rate_init": 0.01, "n_jobs": 1} | changes))


def weights(estimator):
    return np.concatenate([value.ravel() for value in estimator.parameters_.values()])


def same_weights(first, second):
    return np.array_equal(weights(first), weights(second))


# ---------------------------------------------------------------- learning

def test_digits_are_learned():
    fitted = quick(conv_channels=(16, 32), max_iter=15).fit(X[:1300], Y[:1300])
    assert fitted.score(X[1300:], Y[1300:]) > 0.9
    assert fitted.score(X[:1300], Y[:1300]) > 0.98


@pytest.mark.campaign
@pytest.mark.parametrize("scale", (1, 1 / 16))
def test_default_reaches_the_promised_accuracy_and_time(scale):
    accuracy, seconds = [], []
    for seed in (0, 1, 2):
        folds = StratifiedKFold(5, shuffle=True, random_state=seed)
        result = cross_validate(ConvNetClassifier(input_shape=(8, 8), random_state=seed), scale * X, Y, cv=folds)
        accuracy.append(result["test_score"].mean())
        seconds += list(result["fit_time"])
    assert np.mean(accuracy) >= 0.985
    assert np.median(seconds) < 4


def test_loss_goes_down_and_is_recorded():
    fitted = quick(max_iter=6).fit(FEW, FEW_Y)
    assert fitted.loss_curve_[0] > 1.5 * fitted.loss_curve_[-1] > 0
    assert fitted.loss_ == fitted.loss_curve_[-1]
    assert fitted.best_loss_ == min(fitted.loss_curve_)
    assert fitted.n_iter_ == len(fitted.loss_curve_) == 6
    assert fitted.t_ == 6 * 300


def test_loss_is_the_mean_over_samples_plus_penalty():
    fitted = quick(batch_size=300, max_iter=1, alpha=50.0, solver="sgd", learning_rate_init=1e-12).fit(FEW, FEW_Y)
    data_loss = -fitted.predict_log_proba(FEW)[np.arange(300), FEW_Y].mean()
    scaled = [value / (fitted.input_scale_ if name == "conv1.weight" else 1)
              for name, value in fitted.parameters_.items() if "weight" in name]
    penalty = 50 / 2 * sum(float((value.astype(np.float64)**2).sum()) for value in scaled) / 300
    assert fitted.loss_ == pytest.approx(data_loss + penalty, rel=1e-5)


def test_alpha_makes_weights_smaller():
    small, large = (quick(alpha=alpha, max_iter=10).fit(FEW, FEW_Y) for alpha in (100.0, 0.0))
    assert np.square(weights(small)).sum() < 0.7 * np.square(weights(large)).sum()


@pytest.mark.filterwarnings("error")
def test_training_stops_when_the_loss_does():
    fitted = quick(tol=0.5, n_iter_no_change=2, max_iter=100).fit(FEW, FEW_Y)
    assert fitted.n_iter_ < 20


@pytest.mark.filterwarnings("default")
def test_training_that_ends_too_early_warns():
    with pytest.warns(ConvergenceWarning, match="stopped at max_iter=3"):
        quick().fit(FEW, FEW_Y)


@pytest.mark.parametrize("change", [
    {"conv_channels": (4, 7)}, {"conv_channels": 4}, {"conv_channels": ()}, {"kernel_size": 5}, {"kernel_size": (3, 5)},
    {"kernel_size": ((3, 1), 3)}, {"stride": 2}, {"padding": 1, "kernel_size": 2}, {"padding": ("same", "valid")},
    {"dilation": 2}, {"pool": "avg"}, {"pool": None}, {"pool": ("max", None)}, {"pool_size": 3}, {"pool_size": (2, 3)},
    {"activation": "identity"}, {"activation": "gelu"}, {"batch_norm": True}, {"dropout": 0.5},
    {"hidden_layer_sizes": 9}, {"hidden_layer_sizes": (9, 8)},
])
def test_every_architecture_parameter_changes_the_architecture(change):
    default, changed = quick(max_iter=1).fit(FEW, FEW_Y), quick(max_iter=1, **change).fit(FEW, FEW_Y)
    assert changed.architecture_ != default.architecture_
    assert changed.predict_proba(FEW).shape == (300, 10)


@pytest.mark.parametrize("change", [
    {"solver": "sgd"}, {"alpha": 10.0}, {"batch_size": 50}, {"learning_rate_init": 0.02}, {"max_iter": 2},
    {"shuffle": False}, {"random_state": 1}, {"beta_1": 0.5}, {"beta_2": 0.9}, {"epsilon": 0.1},
    {"class_weight": {3: 5.0}}, {"tol": 1e9, "n_iter_no_change": 1},
])
def test_every_training_parameter_changes_the_training(change):
    changed = quick(**({"max_iter": 5} | change))
    assert not same_weights(quick(max_iter=5).fit(FEW, FEW_Y), changed.fit(FEW, FEW_Y))


@pytest.mark.parametrize("change", [{"momentum": 0.5}, {"nesterovs_momentum": False}])
def test_every_parameter_of_sgd_changes_the_training(change):
    assert not same_weights(quick(solver="sgd").fit(FEW, FEW_Y), quick(solver="sgd", **change).fit(FEW, FEW_Y))


def test_verbose_prints_a_line_per_epoch(capsys):
    quick(verbose=True).fit(FEW, FEW_Y)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0].split("  ")[-1] == "time left" and "validation" not in lines[0]
    assert lines[1].split()[0] == "1/3" and lines[3].split()[-1] == "0:00:00"
    quick(verbose=2).fit(FEW, FEW_Y)
    assert "receptive field" in capsys.readouterr().out
    quick().fit(FEW, FEW_Y)
    assert capsys.readouterr().out == ""


# ---------------------------------------------------------------- input

@pytest.mark.parametrize(("changes", "shape"), [
    ({}, (8, 8)),
    ({"input_shape": (1, 8, 8)}, (1, 8, 8)),
    ({"input_shape": None}, (8, 8)),
    ({"input_shape": None}, (1, 8, 8)),
    ({"input_shape": (8, 8, 1), "data_format": "channels_last"}, (8, 8, 1)),
    ({"input_shape": None, "data_format": "channels_last"}, (8, 8)),
])
def test_flat_and_n_dimensional_images_are_the_same(changes, shape):
    images = FEW.reshape(-1, *shape)
    flat, fitted = quick().fit(FEW, FEW_Y), quick(**changes).fit(images, FEW_Y)
    assert same_weights(flat, fitted)
    assert fitted.n_features_in_ == 64
    assert sorted(fitted.input_shape_) == [1, 8, 8]
    for form in (FEW, images):
        np.testing.assert_array_equal(fitted.predict_proba(form), flat.predict_proba(FEW))


@pytest.mark.filterwarnings("ignore:X is taken for signals")
@pytest.mark.parametrize(("shape", "changes", "stored", "kernel"), [
    ((64,), {}, (1, 64), (3,)),
    ((4, 16), {"spatial_dims": 1}, (4, 16), (3,)),
    ((16, 4), {"spatial_dims": 1, "data_format": "channels_last"}, (16, 4), (3,)),
    ((4, 16), {}, (1, 4, 16), (3, 3)),
    ((4, 4, 4), {}, (4, 4, 4), (3, 3)),
    ((4, 4, 4), {"spatial_dims": 3}, (1, 4, 4, 4), (3, 3, 3)),
    ((1, 4, 4, 4), {}, (1, 4, 4, 4), (3, 3, 3)),
])
def test_signals_images_and_volumes(shape, changes, stored, kernel):
    for data, given in ((FEW.reshape(-1, *shape), None), (FEW, shape)):
        fitted = quick(**({"input_shape": given} | changes)).fit(data, FEW_Y)
        assert fitted.input_shape_ == stored
        assert fitted.parameters_["conv1.weight"].shape[2:] == kernel
        np.testing.assert_array_equal(fitted.predict(data), fitted.predict(FEW))


@pytest.mark.parametrize("n_features", (1, 2, 3))
@pytest.mark.parametrize("pool", ("max", "avg", None))
def test_the_smallest_inputs_work(n_features, pool):
    fitted = ConvNetClassifier(pool=pool, max_iter=2, n_jobs=1).fit(FEW[:, 20:20 + n_features], FEW_Y)
    assert fitted.predict(FEW[:, 20:20 + n_features]).shape == (300,)


@pytest.mark.parametrize(("data", "expected"), [
    (FEW, np.float32), (FEW.astype(np.float64), np.float64), (FEW.astype(np.uint8), np.float32),
    (FEW.astype(np.int64), np.float32), (FEW.astype(np.float16), np.float32), (FEW.astype(">f8"), np.float64),
    (FEW.tolist(), np.float64), (FEW > 8, np.float32),
], ids=list("abcdefgh"))
def test_float32_and_float64_are_kept(data, expected):
    fitted = quick().fit(data, FEW_Y)
    assert {value.dtype for value in fitted.parameters_.values()} == {np.dtype(expected)}
    for result in (fitted.predict_proba(data), fitted.predict_log_proba(data), fitted.decision_function(data)):
        assert result.dtype == expected


@pytest.mark.parametrize("make", [
    np.asfortranarray,
    lambda a: np.repeat(a, 2, axis=0)[::2],
    lambda a: a[::-1].copy()[::-1],
    lambda a: a.astype(">f4"),
    lambda a: np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view(np.float32).reshape(a.shape),
], ids=["fortran", "strided", "reversed", "big-endian", "unaligned"])
def test_layout_of_the_data_in_memory_does_not_matter(make):
    reference, data = quick().fit(FEW, FEW_Y), make(FEW)
    expected = reference.predict_proba(FEW)
    assert same_weights(reference, quick().fit(data, FEW_Y))
    np.testing.assert_array_equal(reference.predict_proba(data), expected)


def test_data_are_not_written():
    data, labels, weight = FEW.copy(), FEW_Y.copy(), np.ones(300)
    for array in (data, labels, weight):
        array.flags.writeable = False
    quick(dropout=0.2).fit(data, labels, weight).predict(data)
    np.testing.assert_array_equal(data, FEW)


def test_feature_names_are_kept_and_checked():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(FEW, columns=[f"pixel{i}" for i in range(64)])
    fitted = quick().fit(frame, FEW_Y)
    assert list(fitted.feature_names_in_) == list(frame.columns)
    fitted.predict(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(frame[frame.columns[::-1]])


@pytest.mark.parametrize("factor", (2.0**-10, 2.0**6))
def test_a_power_of_two_in_the_data_changes_nothing(factor):
    first, second = quick().fit(FEW, FEW_Y), quick().fit(factor * FEW, FEW_Y)
    np.testing.assert_array_equal(first.predict_proba(FEW), second.predict_proba(factor * FEW))
    assert second.input_scale_ == first.input_scale_ / factor


@pytest.mark.parametrize(("data", "expected"), [
    (np.full((4, 2), 3.0), 0.25), (np.full((4, 2), 2.5), 0.5), (np.full((4, 2), -1.0), 1.0), (np.zeros((4, 2)), 1.0),
    (np.full((4, 2), 1e-300), 2.0**100), (np.full((4, 2), 1e300), 2.0**-100),
])
def test_the_scale_is_the_nearest_power_of_two(data, expected):
    assert _training.scale_of(_training.Samples(data, None, None)) == expected


@pytest.mark.parametrize(("changes", "data", "message"), [
    ({"input_shape": (28, 28)}, FEW, r"input_shape=\(28, 28\) holds 784 values, X has 64 features; "
                                     r"input_shape=\(8, 8\) would fit"),
    ({"input_shape": (3, 5, 5)}, FEW[:, :60], r"holds 75 values, X has 60 features$"),
    ({}, FEW.reshape(-1, 4, 16), r"samples of X have shape \(4, 16\), which is not input_shape=\(8, 8\)"),
    ({"spatial_dims": 3}, FEW, r"a sample of shape \(8, 8\) does not have spatial_dims=3 axes"),
    ({"input_shape": None}, FEW.reshape(-1, 2, 2, 2, 2, 4), r"a sample of shape .* does not have one to four axes"),
])
def test_shapes_that_do_not_fit_are_errors_in_fit(changes, data, message):
    with pytest.raises(ValueError, match=message):
        quick(**changes).fit(data, FEW_Y)


def test_shapes_that_do_not_fit_are_errors_in_predict():
    fitted = quick().fit(FEW, FEW_Y)
    with pytest.raises(ValueError, match=r"samples of X have shape \(4, 16\), expected \(1, 8, 8\) as in fit"):
        fitted.predict(FEW.reshape(-1, 4, 16))
    with pytest.raises(ValueError, match="X has 63 features, but ConvNetClassifier is expecting 64"):
        fitted.predict(FEW[:, 1:])
    with pytest.raises(ValueError, match="Reshape your data"):
        fitted.predict(FEW[0])


def test_a_single_image_without_its_batch_axis_is_refused():
    colour = np.repeat(FEW.reshape(-1, 1, 8, 8), 3, axis=1)
    fitted = quick(input_shape=None).fit(colour, FEW_Y)
    with pytest.raises(ValueError, match=r"for a single sample pass X\[None\]"):
        fitted.predict(colour[0])
    assert fitted.predict(colour[0][None]).shape == (1,)
    grey = quick(input_shape=None).fit(FEW.reshape(-1, 8, 8), FEW_Y)
    with pytest.raises(ValueError, match=r"X has shape \(8, 8\), which is that of one sample; pass X\[None\]"):
        grey.predict(FEW[0].reshape(8, 8))


def test_samples_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="X is no array, since its samples differ in shape"):
        quick().fit([np.ones((8, 8)), np.ones((8, 7))], [0, 1])


def test_signals_taken_for_images_warn():
    data, how = np.random.default_rng(0).standard_normal((20, 3, 20)), {"max_iter": 1, "n_iter_no_change": np.inf}
    message = r"samples of shape \(3, 20\) are taken for images; .* signals of 3 channels, pass spatial_dims=1"
    with pytest.warns(UserWarning, match=message) as seen:
        ConvNetClassifier(**how).fit(data, np.arange(20) % 2)
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for dims in (1, 2):
            ConvNetClassifier(spatial_dims=dims, **how).fit(data, np.arange(20) % 2)


def test_flat_images_taken_for_signals_warn():
    with pytest.warns(UserWarning, match=r"of 64 values; if they are images, pass input_shape=\(8, 8\)") as seen:
        quick(input_shape=None).fit(FEW, FEW_Y)
    assert seen[0].filename == __file__
    with pytest.warns(UserWarning, match=r"input_shape=\(8, 8, 3\)"):
        quick(input_shape=None, data_format="channels_last").fit(np.repeat(FEW, 3, axis=1), FEW_Y)


@pytest.mark.parametrize(("shape", "layout", "other"), [((8, 8, 3), "first", "last"), ((3, 8, 8), "last", "first"),
                                                        ((9, 7, 5, 1), "first", "last"), ((9, 3), "first", "last")])
def test_channels_at_the_other_end_warn(shape, layout, other):
    data = np.ones((20, *shape), np.float32)
    how = {"max_iter": 1, "n_iter_no_change": np.inf, "n_jobs": 1, "spatial_dims": len(shape) - 1}
    message = f"channels by data_format='channels_{layout}'; if they have .*, pass data_format='channels_{other}'"
    with pytest.warns(UserWarning, match=message) as caught:
        ConvNetClassifier(data_format=f"channels_{layout}", **how).fit(data, np.arange(20) % 2)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=message):
        ImageScaler(data_format=f"channels_{layout}", spatial_dims=len(shape) - 1).fit(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        ConvNetClassifier(data_format=f"channels_{other}", **how).fit(data, np.arange(20) % 2)


def test_float64_in_a_large_network_warns():
    data, how = np.random.default_rng(0).standard_normal((20, 32, 32)), {"max_iter": 1, "n_iter_no_change": np.inf}
    with pytest.warns(UserWarning, match="X is float64, .* takes about twice as long as in float32; pass X.as") as seen:
        ConvNetClassifier(**how).fit(data, np.arange(20) % 2)
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        ConvNetClassifier(**how).fit(data.astype(np.float32), np.arange(20) % 2)


def test_nan_is_an_error():
    data = FEW.copy()
    data[3, 5] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        quick().fit(data, FEW_Y)


# ---------------------------------------------------------------- labels and predictions

@pytest.mark.parametrize("names", [
    np.array(list("zyxwvutsrq")), np.arange(10) * -7, np.arange(10) + 0.0, np.array(list("abcdefghij"), object),
], ids=["str", "negative", "float", "object"])
def test_labels_of_any_type_come_back(names):
    fitted = quick(max_iter=8, learning_rate_init=0.01).fit(FEW, names[FEW_Y])
    np.testing.assert_array_equal(fitted.classes_, np.unique(names))
    predicted = fitted.predict(FEW)
    assert predicted.dtype == names.dtype
    assert (predicted == names[FEW_Y]).mean() > 0.8


def test_two_classes_have_one_decision_each():
    fitted = quick(max_iter=5).fit(FEW, FEW_Y > 4)
    decision, probability = fitted.decision_function(FEW), fitted.predict_proba(FEW)
    assert decision.shape == (300,)
    np.testing.assert_array_equal(fitted.predict(FEW), decision > 0)
    np.testing.assert_allclose(probability[:, 1], 1 / (1 + np.exp(-decision)), rtol=1e-5)


def test_predictions_agree_with_each_other():
    fitted = quick().fit(FEW, FEW_Y)
    probability, logits = fitted.predict_proba(FEW), fitted.decision_function(FEW)
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(np.log(probability), fitted.predict_log_proba(FEW), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(fitted.predict(FEW), logits.argmax(axis=1))
    np.testing.assert_array_equal(fitted.to_sequential().forward(FEW.reshape(-1, 1, 8, 8))[0], logits)


def test_a_prediction_does_not_depend_on_the_other_samples(monkeypatch):
    fitted = quick().fit(FEW, FEW_Y)
    together = fitted.predict_proba(X)
    np.testing.assert_array_equal(np.concatenate([fitted.predict_proba(x[None]) for x in X[:50]]), together[:50])
    np.testing.assert_array_equal(fitted.predict_proba(X[::-1]), together[::-1])
    monkeypatch.setattr(_training, "VALUES_AT_ONCE", 4 * 64 * 7)      # seven samples at a time
    np.testing.assert_array_equal(fitted.predict_proba(X), together)


def test_prediction_before_fit_is_an_error():
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        with pytest.raises(NotFittedError):
            getattr(quick(), method)(FEW)
    with pytest.raises(NotFittedError):
        quick().to_sequential()


def test_one_class_is_an_error():
    with pytest.raises(ValueError, match="at least 2 classes in y, got 1 class: 7"):
        quick().fit(FEW, np.full(300, 7))


def test_continuous_targets_are_an_error():
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        quick().fit(FEW, FEW_Y + 0.5)


def test_changing_parameters_after_fit_does_not_change_the_network():
    fitted = quick().fit(FEW, FEW_Y)
    before = fitted.predict_proba(FEW)
    fitted.set_params(conv_channels=(9,), hidden_layer_sizes=(5,), pool="avg")
    np.testing.assert_array_equal(fitted.predict_proba(FEW), before)


# ---------------------------------------------------------------- weights

def exact(**changes):
    """Training on all samples at once, where weights and repetitions mean the same."""
    return quick(solver="sgd", batch_size=10_000, learning_rate_init=0.01, max_iter=10, tol=0, **changes)


def test_equal_sample_weights_change_nothing():
    assert same_weights(quick().fit(FEW, FEW_Y), quick().fit(FEW, FEW_Y, np.ones(300)))


def test_a_common_factor_of_weights_matters_only_against_the_penalty():
    first, second = (exact(alpha=0.0).fit(FEW, FEW_Y, np.full(300, factor)) for factor in (1.0, 8.0))
    assert same_weights(first, second)


def test_weights_are_repetitions():
    data = FEW.astype(np.float64)
    times = np.random.default_rng(0).integers(0, 4, 300)
    repeated = exact().fit(data.repeat(times, axis=0), FEW_Y.repeat(times))
    weighted = exact().fit(data, FEW_Y, times)
    assert weighted.loss_ == pytest.approx(repeated.loss_, rel=1e-9)
    np.testing.assert_allclose(weights(weighted), weights(repeated), rtol=1e-7, atol=1e-9)


def test_samples_of_weight_zero_do_not_count():
    weight = np.where(np.arange(300) < 200, 1.0, 0.0)
    garbage = FEW.copy()
    garbage[200:] = 1e6
    assert same_weights(quick().fit(FEW[:200], FEW_Y[:200]), quick().fit(garbage, FEW_Y, weight))


def test_class_weight_multiplies_sample_weight():
    factors = np.array([1.0, 2, 1, 1, 0.5, 1, 1, 1, 1, 3])
    weight = np.random.default_rng(0).random(300)
    by_class = quick(class_weight=dict(enumerate(factors))).fit(FEW, FEW_Y, weight)
    assert same_weights(by_class, quick().fit(FEW, FEW_Y, weight * factors[FEW_Y]))


def test_balanced_classes_have_the_same_total():
    chosen = np.r_[:100, np.flatnonzero(FEW_Y == 3)]
    data, labels = FEW[chosen], FEW_Y[chosen]
    factors = len(labels) / (10 * np.bincount(labels))
    assert same_weights(quick(class_weight="balanced").fit(data, labels), quick().fit(data, labels, factors[labels]))


def test_class_weight_helps_a_rare_class():
    chosen = np.r_[np.flatnonzero(Y == 8)[:8], np.flatnonzero(Y == 1)[:120]]
    data, labels = X[chosen], Y[chosen]
    test = np.flatnonzero(Y == 8)[8:]
    plain, balanced = (quick(class_weight=c, max_iter=4).fit(data, labels) for c in (None, "balanced"))
    assert balanced.score(X[test], Y[test]) > plain.score(X[test], Y[test])


@pytest.mark.parametrize(("weight", "message"), [
    (np.zeros(300), "zero"), (-np.ones(300), "[Nn]egative"), (np.ones(7), r"sample_weight.shape"),
    (np.full(300, 1e-50), "alpha=0.0001 is divided by the weight of a batch, .*, and is too large"),
])
def test_weights_that_make_no_sense_are_errors(weight, message):
    with pytest.raises(ValueError, match=message):
        quick().fit(FEW, FEW_Y, weight)


# ---------------------------------------------------------------- again, on, and interrupted

def test_fit_again_is_the_same():
    estimator = quick(dropout=0.3)
    first = weights(estimator.fit(FEW, FEW_Y))
    np.testing.assert_array_equal(weights(estimator.fit(FEW, FEW_Y)), first)
    np.testing.assert_array_equal(weights(clone(estimator).fit(FEW, FEW_Y)), first)


def test_random_states():
    assert not same_weights(*(quick(random_state=None).fit(FEW, FEW_Y) for _ in range(2)))
    assert same_weights(*(quick(random_state=np.random.RandomState(3)).fit(FEW, FEW_Y) for _ in range(2)))


@pytest.mark.parametrize("changes", [{}, {"solver": "sgd"}, {"dropout": 0.3}])
def test_warm_start_goes_on_where_it_stopped(changes):
    whole = quick(max_iter=6, **changes).fit(FEW, FEW_Y)
    halves = quick(max_iter=3, warm_start=True, **changes).fit(FEW, FEW_Y)
    halves = pickle.loads(pickle.dumps(halves)).fit(FEW, FEW_Y)
    assert same_weights(whole, halves)
    assert halves.loss_curve_ == whole.loss_curve_
    assert (halves.n_iter_, halves.t_) == (3, whole.t_)


def test_warm_start_with_another_solver_or_dtype_keeps_the_weights():
    estimator = quick(warm_start=True, max_iter=10).fit(FEW, FEW_Y)
    loss = estimator.loss_
    estimator.set_params(solver="sgd", max_iter=1).fit(FEW.astype(np.float64), FEW_Y)
    assert estimator.loss_ < 1.2 * loss
    assert estimator.predict_proba(FEW).dtype == np.float64


@pytest.mark.parametrize(("changes", "data", "labels", "message"), [
    ({"conv_channels": (5, 6)}, FEW, FEW_Y, "only with the architecture_ of the last fit, .'conv1', .*"
     "'out_channels': 4, .*'out_channels': 5, .*; for another network set warm_start=False"),
    ({"input_shape": (4, 16)}, FEW, FEW_Y, r"only with the input_shape_ of the last fit, \(1, 8, 8\), got \(1, 4,"),
    ({}, FEW, FEW_Y + 1, "only with the classes_ of the last fit"),
    ({}, FEW[:, 1:], FEW_Y, "X has 63 features"),
])
def test_warm_start_with_another_problem_is_an_error(changes, data, labels, message):
    estimator = quick(warm_start=True).fit(FEW, FEW_Y).set_params(**changes)
    with pytest.raises(ValueError, match=message):
        estimator.fit(data, labels)


def interrupt_after(monkeypatch, batches):
    """Ctrl-C in the middle of an epoch."""
    original, count = optimizers.Adam.step, iter(range(1, 10_000))

    def step(self, gradient, **how):
        original(self, gradient, **how)
        if next(count) == batches:
            raise KeyboardInterrupt

    monkeypatch.setattr(optimizers.Adam, "step", step)


def test_an_interrupted_fit_keeps_the_last_whole_epoch(monkeypatch):
    expected = quick(max_iter=2).fit(FEW, FEW_Y)
    interrupt_after(monkeypatch, 2 * 10 + 4)
    with pytest.warns(UserWarning, match="Training was interrupted; the network is that of epoch 2"):
        fitted = quick(max_iter=5).fit(FEW, FEW_Y)
    assert same_weights(expected, fitted)
    assert fitted.n_iter_ == len(fitted.loss_curve_) == 2
    np.testing.assert_array_equal(fitted.optimizer_state_["mean"], expected.optimizer_state_["mean"])


def test_an_interrupted_first_epoch_leaves_the_last_fit(monkeypatch):
    fitted = quick(max_iter=2).fit(FEW, FEW_Y)
    expected = fitted.predict_proba(FEW)
    interrupt_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(FEW, FEW_Y + 1)
    np.testing.assert_array_equal(fitted.predict_proba(FEW), expected)
    assert fitted.n_iter_ == 2 and fitted.classes_[0] == 0


def test_a_failed_fit_leaves_the_last_one():
    fitted = quick(max_iter=2).fit(FEW, FEW_Y)
    expected = fitted.predict(FEW)
    with pytest.raises(ValueError, match="the loss is"), np.errstate(all="ignore"):
        fitted.set_params(solver="sgd", learning_rate_init=1e38).fit(FEW, FEW_Y + 100)
    np.testing.assert_array_equal(fitted.predict(FEW), expected)


def test_changing_data_format_after_fit_does_not_change_predictions():
    fitted = quick(input_shape=None).fit(FEW.reshape(-1, 1, 8, 8), FEW_Y)
    expected = fitted.predict_proba(FEW)
    np.testing.assert_array_equal(fitted.set_params(data_format="channels_last").predict_proba(FEW), expected)


@pytest.mark.parametrize(("class_weight", "message"), [
    ({0: -1}, "'class_weight' parameter .* must be None, 'balanced' or a dict with numbers >= 0"),
    ({0: np.nan}, "'class_weight' parameter"), ({0: "a"}, "'class_weight' parameter"),
    (dict.fromkeys(range(10), 0), "must leave a weight above zero"),
])
def test_class_weights_are_checked(class_weight, message):
    with pytest.raises(ValueError, match=message):
        quick(class_weight=class_weight).fit(FEW, FEW_Y)


def test_diverging_training_is_an_error():
    with pytest.raises(ValueError, match=r"the loss is (nan|inf) after .* lower learning_rate_init=1e\+20"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            quick(learning_rate_init=1e20, solver="sgd").fit(FEW, FEW_Y)


# ---------------------------------------------------------------- reproducibility and persistence

def digest(estimator):
    return hashlib.sha256(b"".join(value.tobytes() for value in estimator.parameters_.values())).hexdigest()


@pytest.mark.usefixtures("threads_at_any_size")
@pytest.mark.parametrize("changes", [{"dropout": 0.2}, {"solver": "sgd", "pool": "avg", "hidden_layer_sizes": 20}])
def test_trained_weights_have_one_digest_for_all_threads_and_instruction_sets(every_isa, changes):
    digests = {}
    for name in every_isa:
        _kernels.use(name)
        for n_jobs in (1, 2, 3, 7):
            digests[name, n_jobs] = digest(quick(n_jobs=n_jobs, max_iter=2, **changes).fit(FEW, FEW_Y))
    with_fma = {value for (name, _), value in digests.items() if name != "baseline"}
    without = {value for (name, _), value in digests.items() if name == "baseline"}
    assert len(with_fma) <= 1 and len(without) <= 1


def test_both_layouts_train_the_same_network():
    colour = np.stack([FEW, FEW[::-1]], axis=1).reshape(-1, 2, 8, 8)
    first = quick(input_shape=None, dropout=0.3).fit(colour, FEW_Y)
    last = quick(input_shape=None, dropout=0.3, data_format="channels_last").fit(np.moveaxis(colour, 1, -1), FEW_Y)
    assert digest(first) == digest(last)


def plain(value):
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(plain, value))
    return value is None or type(value) in (bool, int, float, str, np.ndarray)


def test_fitted_state_is_plain_values():
    fitted = quick(max_iter=2, dropout=0.1, hidden_layer_sizes=(5,), class_weight="balanced").fit(FEW, FEW_Y)
    for name, value in vars(fitted).items():
        assert plain(value), name


@pytest.mark.parametrize("copy", [
    lambda e: pickle.loads(pickle.dumps(e)), lambda e: joblib.load(io.BytesIO(dump(e))),
], ids=["pickle", "joblib"])
def test_copies_predict_the_same(copy):
    fitted = quick().fit(FEW, FEW_Y)
    np.testing.assert_array_equal(copy(fitted).predict_proba(FEW), fitted.predict_proba(FEW))


def dump(estimator):
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    return buffer.getvalue()


def test_read_only_memory_maps_of_the_weights_predict_and_train_on(tmp_path):
    fitted = quick(warm_start=True).fit(FEW, FEW_Y)
    joblib.dump(fitted, tmp_path / "model")
    mapped = joblib.load(tmp_path / "model", mmap_mode="r")
    assert not mapped.parameters_["conv1.weight"].flags.writeable
    np.testing.assert_array_equal(mapped.predict_proba(FEW), fitted.predict_proba(FEW))
    assert same_weights(mapped.fit(FEW, FEW_Y), fitted.fit(FEW, FEW_Y))


def test_parameters_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    fitted = quick(conv_channels=(4, 6), hidden_layer_sizes=7).fit(FEW, FEW_Y)
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
                          nn.Conv2d(4, 6, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
                          nn.Flatten(), nn.Linear(24, 7), nn.ReLU(), nn.Linear(7, 10))
    with torch.no_grad():
        for tensor, value in zip(model.parameters(), fitted.parameters_.values()):
            tensor.copy_(torch.tensor(value))
        expected = model(torch.tensor(FEW.reshape(-1, 1, 8, 8))).numpy()
    np.testing.assert_allclose(fitted.decision_function(FEW), expected, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- parameters

@pytest.mark.parametrize(("name", "value", "rule"), [
    ("conv_channels", (8, 0), "an int >= 1 or a sequence"),
    ("conv_channels", 2.5, "an int"),
    ("kernel_size", 0, "an int >= 1"),
    ("stride", "2", "an int >= 1"),
    ("dilation", (1, 0), "an int >= 1"),
    ("pool", "mean", "'max', 'avg', None"),
    ("pool_size", 0, "an int >= 1"),
    ("activation", "softsign", "one of 'relu', 'leaky_relu'"),
    ("dropout", 1.0, r"a number in \[0, 1\)"),
    ("hidden_layer_sizes", -1, "an int >= 1"),
    ("input_shape", (8, 0), "None or a tuple"),
    ("input_shape", 64, "None or a tuple"),
    ("spatial_dims", 4, "None, 1, 2 or 3"),
    ("data_format", "NCHW", "'channels_first' or 'channels_last'"),
    ("solver", "lbfgs", "one of 'adam', 'sgd'"),
    ("alpha", -1e-4, "a number >= 0"),
    ("batch_size", 0, "'auto' or an int"),
    ("learning_rate_init", 0, "a number > 0"),
    ("learning_rate_init", float("nan"), "a number > 0"),
    ("max_iter", 0, "an int >= 1"),
    ("max_iter", True, "an int >= 1"),
    ("shuffle", "yes", "True or False"),
    ("tol", -1.0, "a number >= 0"),
    ("verbose", -1, "a bool or an int"),
    ("warm_start", 2, "True or False"),
    ("momentum", 1.1, r"a number in \[0, 1\]"),
    ("nesterovs_momentum", None, "True or False"),
    ("n_iter_no_change", 0, "an int >= 1 or numpy.inf"),
    ("beta_1", 1.0, r"in \[0, 1\)"),
    ("beta_2", -0.1, r"in \[0, 1\)"),
    ("epsilon", 0.0, "a number > 0"),
    ("class_weight", "even", "None, 'balanced' or a dict"),
    ("n_jobs", 0, "None or an int"),
])
def test_parameters_that_break_their_rule_are_named(name, value, rule):
    message = f"The '{name}' parameter of ConvNetClassifier must be .*{rule}.* Got .* instead"
    with pytest.raises(ValueError, match=message):
        quick(**{name: value}).fit(FEW, FEW_Y)


@pytest.mark.parametrize(("changes", "message"), [
    ({"kernel_size": (3, 3, 3)}, r"kernel_size must be one value or one for each of the 2 conv layers, got \(3, 3"),
    ({"batch_norm": (True,)}, r"batch_norm must be one value or one for each of the 2 conv layers, got \(True,\)"),
    ({"activation": ["relu"]}, r"activation must be one value or one for each of the 2 conv and hidden layers, got"),
    ({"dropout": (0.1, 0.2)}, r"dropout must be one value or one for each of the 1 dense layers, got \(0.1, 0.2\)"),
    ({"kernel_size": ((3, 3, 3), 3)}, r"kernel_size must be an int or 2 ints, got \(3, 3, 3\)"),
    ({"padding": "smae"}, "unknown padding 'smae'"),
    ({"padding": 0, "pool_size": 3}, r"conv layer 2, Conv\(.*\), does not fit its input of shape \(4, 2, 2\): Conv"),
    ({"padding": 0, "kernel_size": 9}, r"effective kernel \(9, 9\) is larger than the padded input \(8, 8\)"),
])
def test_windows_that_do_not_fit_are_explained(changes, message):
    with pytest.raises(ValueError, match=message):
        quick(**changes).fit(FEW, FEW_Y)


def test_each_layer_may_have_its_own_activation_normalisation_and_dropout():
    network = quick(activation=("tanh", "identity", "gelu"), batch_norm=(True, False), dropout=(0.0, 0.5),
                    hidden_layer_sizes=6, max_iter=1).fit(FEW, FEW_Y).to_sequential()
    assert network.names == ("conv1", "batchnorm1", "tanh1", "maxpool1", "conv2", "maxpool2", "dense1", "gelu1",
                             "dropout1", "dense2")
    assert [layer.bias for layer in network.layers if isinstance(layer, Conv)] == [False, True]


def test_numpy_numbers_are_accepted():
    numbers = {"alpha": np.float32(0.1), "max_iter": np.int32(1), "shuffle": np.bool_(True)}
    assert quick(conv_channels=(np.int64(4),), **numbers).fit(FEW, FEW_Y).n_iter_ == 1
