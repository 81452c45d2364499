"""ConvNetRegressor: learning, several outputs, losses, the scale of targets, weights, restarts."""

import pickle

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.metrics import r2_score

from cyconv import ConvNetRegressor, load

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(5)
X = RNG.normal(size=(600, 1, 24)).astype(np.float32)
Y = np.abs(np.diff(X[:, 0])).max(axis=1)                       # the largest jump: what two taps and a maximum see
TWO = np.stack([Y, 100 * X[:, 0].max(axis=1)], axis=1)
TRAIN, TEST = slice(0, 450), slice(450, 600)


def quick(**changes):
    return ConvNetRegressor(**({"conv_channels": 8, "pool_size": 24, "spatial_dims": 1, "learning_rate_init": 0.02,
                                "max_iter": 25, "random_state": 0, "n_jobs": 1} | changes))


def weights(estimator):
    return np.concatenate([value.ravel() for value in estimator.parameters_.values()])


def test_jumps_of_signals_are_learned():
    fitted = quick(max_iter=40).fit(X[TRAIN], Y[TRAIN])
    assert fitted.score(X[TEST], Y[TEST]) > 0.8
    assert fitted.predict(X[TEST]).shape == (150,)
    assert fitted.predict(X[TEST]).dtype == np.float32


@pytest.mark.parametrize("loss", ("squared_error", "huber"))
def test_several_outputs(loss):
    scaled = TWO / [1, 100]
    fitted = quick(loss=loss, max_iter=40).fit(X[TRAIN], scaled[TRAIN])
    assert fitted.predict(X[TEST]).shape == (150, 2) and fitted.n_outputs_ == 2
    assert r2_score(scaled[TEST], fitted.predict(X[TEST]), multioutput="raw_values").min() > 0.7


@pytest.mark.parametrize("loss", ("squared_error", "huber"))
def test_outputs_of_different_size_are_learned_alike(loss):
    factors = np.array([2.0**-10, 2.0**10])
    two = TWO / [1, 100]
    plain, scaled = (quick(loss=loss, max_iter=20).fit(X[TRAIN], y[TRAIN]) for y in (two, two * factors))
    np.testing.assert_array_equal(scaled.predict(X[TEST]), (plain.predict(X[TEST]) * factors).astype(np.float32))
    np.testing.assert_array_equal(scaled.output_scale_, plain.output_scale_ * factors)
    assert scaled.history_["loss"] == plain.history_["loss"]
    assert r2_score(two[TEST] * factors, scaled.predict(X[TEST]), multioutput="raw_values").min() > 0.6


def test_loss_of_several_outputs_is_that_of_y_over_output_scale():
    fitted = quick(batch_size=600, max_iter=1, alpha=0.0, solver="sgd", learning_rate_init=1e-12).fit(X, TWO)
    error = (fitted.predict(X) - TWO) / fitted.output_scale_
    assert fitted.output_scale_.shape == (2,) and fitted.loss_ == pytest.approx(np.square(error).mean() / 2, rel=1e-5)


def test_a_constant_beside_another_output_does_no_harm():
    fitted = quick(max_iter=40).fit(X[TRAIN], np.stack([Y, np.full(600, 0.1)], axis=1)[TRAIN])
    assert fitted.output_scale_[1] == 1
    assert r2_score(Y[TEST], fitted.predict(X[TEST])[:, 0]) > 0.7


def test_restarts_and_files_keep_the_scales_of_outputs(tmp_path):
    whole = quick(max_iter=4).fit(X, TWO)
    quick(max_iter=2, warm_start=True).fit(X, TWO).save(tmp_path / "half.npz", for_training=True)
    halves = load(tmp_path / "half.npz").fit(X, TWO)
    np.testing.assert_array_equal(weights(halves), weights(whole))
    halves.output_scale_ = np.ones(3)
    with pytest.raises(ValueError, match="output_scale_=.* does not belong to n_outputs_=2"):
        pickle.loads(pickle.dumps(halves))


def test_a_column_of_targets_is_one_output():
    with pytest.warns(UserWarning, match="A column-vector y was passed"):
        fitted = quick(max_iter=2).fit(X, Y[:, None])
    np.testing.assert_array_equal(weights(fitted), weights(quick(max_iter=2).fit(X, Y)))


def test_loss_is_half_the_mean_square_plus_penalty_in_units_of_y():
    y = 1000 * Y
    fitted = quick(batch_size=600, max_iter=1, alpha=0.0, solver="sgd", learning_rate_init=1e-12).fit(X, y)
    assert fitted.loss_ == pytest.approx(np.square(fitted.predict(X) - y).mean() / 2, rel=1e-5)
    huber = clone(fitted).set_params(loss="huber", huber_delta=200.0).fit(X, y)
    error = np.abs(huber.predict(X) - y)
    expected = np.where(error <= 200, error**2 / 2, 200 * (error - 100)).mean()
    assert (error > 200).any() and huber.loss_ == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("factor", (2.0**-12, 2.0**14))
def test_a_power_of_two_in_the_targets_changes_nothing(factor):
    first, second = quick(max_iter=5).fit(X, Y), quick(max_iter=5).fit(X, factor * Y)
    np.testing.assert_array_equal(factor * first.predict(X), second.predict(X))
    assert second.loss_ == factor**2 * first.loss_
    assert second.output_scale_ == factor * first.output_scale_


def test_targets_far_from_zero_are_learned():
    fitted = quick(max_iter=40).fit(X[TRAIN], 1e4 + Y[TRAIN])
    assert fitted.score(X[TEST], 1e4 + Y[TEST]) > 0.7


def test_constant_targets_are_predicted():
    fitted = quick(max_iter=20).fit(X, np.full(600, 7.5))
    assert abs(fitted.predict(X) - 7.5).mean() < 0.3


def test_a_diverged_fit_names_y():
    with pytest.raises(ValueError, match="the loss is (nan|inf) after .*, or scale and centre X and y"):
        quick(learning_rate_init=1e20, solver="sgd").fit(X, Y)


@pytest.mark.parametrize(("target", "message"), [
    ("1.5", "not compatible with arrays of bytes/strings"), (None, "Input y contains NaN"), (1 + 2j, "Complex data"),
])
def test_targets_that_are_no_numbers_are_named(target, message):
    with pytest.raises(ValueError, match=message):
        quick().fit(X, np.array([target] * len(X)))


def test_sparse_targets_are_those_of_the_dense_array():
    two = (TWO > 1).astype(float)
    assert np.array_equal(weights(quick(max_iter=2).fit(X, csr_array(two))), weights(quick(max_iter=2).fit(X, two)))


def test_huber_is_less_moved_by_outliers():
    y = Y.copy()
    y[:450:15] += 50
    squared, huber = (quick(loss=loss, max_iter=40, huber_delta=0.5).fit(X[TRAIN], y[TRAIN]).score(X[TEST], Y[TEST])
                      for loss in ("squared_error", "huber"))
    assert huber > squared + 0.5


def test_weights_are_repetitions():
    data, times = X[:200].astype(np.float64), np.random.default_rng(0).integers(0, 4, 200)
    exact = {"solver": "sgd", "batch_size": 10_000, "max_iter": 10, "tol": 0}
    repeated = quick(**exact).fit(data.repeat(times, axis=0), Y[:200].repeat(times))
    weighted = quick(**exact).fit(data, Y[:200], times)
    np.testing.assert_allclose(weighted.predict(data), repeated.predict(data), rtol=1e-7)
    assert weighted.loss_ == pytest.approx(repeated.loss_, rel=1e-9)


def test_warm_start_goes_on_where_it_stopped():
    whole = quick(max_iter=6).fit(X, Y)
    halves = quick(max_iter=3, warm_start=True).fit(X, Y)
    halves = pickle.loads(pickle.dumps(halves)).fit(X, Y)
    np.testing.assert_array_equal(weights(whole), weights(halves))
    assert halves.loss_curve_ == whole.loss_curve_


@pytest.mark.parametrize(("name", "value"), [("loss", "absolute"), ("huber_delta", 0.0)])
def test_parameters_that_break_their_rule_are_named(name, value):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of ConvNetRegressor must be"):
        quick(**{name: value}).fit(X, Y)


def test_another_number_of_outputs_is_an_error_in_a_warm_start():
    fitted = quick(max_iter=1, warm_start=True).fit(X, Y)
    with pytest.raises(ValueError, match="training goes on only with the n_outputs_ of the last fit, 1, got 2"):
        fitted.fit(X, TWO)
