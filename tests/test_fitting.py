"""The course of a fit: history, schedules, early stopping, validation data, partial_fit, interruption."""

import copy
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import make_scorer
from sklearn.neural_network import MLPClassifier

from cyconv import ConvNetClassifier, ConvNetRegressor, _kernels, _training, optimizers, schedules

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_digits(return_X_y=True)
X = X.astype(np.float32)
FEW, FEW_Y, VAL, VAL_Y = X[:300], Y[:300], X[300:400], Y[300:400]


def quick(kind=ConvNetClassifier, **changes):
    return kind(**({"conv_channels": (4, 6), "input_shape": (8, 8), "max_iter": 3, "random_state": 0,
                    "learning_rate_init": 0.01, "n_jobs": 1} | changes))


def weights(estimator):
    return np.concatenate([value.ravel() for value in estimator.parameters_.values()])


def log_loss(estimator):
    return -float(estimator.predict_log_proba(VAL)[np.arange(100), VAL_Y].astype(float).mean())


@pytest.mark.parametrize("n_threads", [1, 2, 5, 9])
@pytest.mark.parametrize("size", [1, 15, 784, 3000])
def test_rows_of_a_batch_are_those_that_were_drawn(isa, dtype, size, n_threads):
    rng = np.random.default_rng(size)
    samples, rows = rng.standard_normal((40, size)).astype(dtype), rng.permutation(40)[:7].astype(np.intp)
    taken = np.full((7, size), np.nan, dtype)
    _kernels.kernels[np.dtype(dtype)].take_rows(samples, rows, 0.25, taken, n_threads)
    np.testing.assert_array_equal(taken, 0.25 * samples[rows])


def test_batches_are_all_samples_once():
    for shuffle in True, False:
        drawn = list(_training.batches(10, 4, seed=0, epoch=0, shuffle=shuffle))
        assert [len(rows) for rows in drawn] == [4, 4, 2]
        assert sorted(np.concatenate(drawn)) == list(range(10))
        assert (list(np.concatenate(drawn)) == list(range(10))) is not shuffle


def rates(learning_rate, max_iter=6, **changes):
    return quick(learning_rate=learning_rate, max_iter=max_iter, tol=0.0, batch_size=100,
                 **changes).fit(FEW, FEW_Y).history_["learning_rate"]


# ---------------------------------------------------------------- history

def test_history_has_columns_of_one_length():
    fitted = quick().fit(FEW, FEW_Y, X_val=VAL, y_val=VAL_Y)
    assert list(fitted.history_) == ["epoch", "loss", "validation_loss", "validation_score", "learning_rate", "seconds"]
    assert {len(column) for column in fitted.history_.values()} == {3}
    assert fitted.history_["epoch"] == [1, 2, 3]
    assert fitted.loss_curve_ == fitted.history_["loss"]
    assert min(fitted.history_["seconds"]) > 0


def test_validation_loss_and_score_are_those_of_the_predictions():
    fitted = quick(max_iter=1, alpha=0.0).fit(FEW, FEW_Y, X_val=VAL, y_val=VAL_Y)
    assert fitted.history_["validation_loss"][0] == pytest.approx(log_loss(fitted), rel=1e-5)
    assert fitted.validation_scores_ == [fitted.best_validation_score_] == [fitted.score(VAL, VAL_Y)]
    regressor = quick(ConvNetRegressor, max_iter=2).fit(FEW, 10.0 * FEW_Y, X_val=VAL, y_val=10.0 * VAL_Y)
    expected = np.square(regressor.predict(VAL) - 10.0 * VAL_Y).mean() / 2
    assert regressor.history_["validation_loss"][-1] == pytest.approx(expected, rel=1e-5)
    assert regressor.validation_scores_[-1] == pytest.approx(regressor.score(VAL, 10.0 * VAL_Y), rel=1e-6)


def test_looking_at_validation_data_changes_nothing_but_the_history():
    looked, plain = quick().fit(FEW, FEW_Y, X_val=VAL, y_val=VAL_Y), quick().fit(FEW, FEW_Y)
    np.testing.assert_array_equal(weights(looked), weights(plain))
    assert np.isnan(plain.history_["validation_loss"]).all() and plain.validation_scores_ is None


def test_weights_of_validation_samples_count():
    weight = np.arange(100.0)
    fitted = quick(max_iter=1).fit(FEW, FEW_Y, X_val=VAL, y_val=VAL_Y, sample_weight_val=weight)
    assert fitted.validation_scores_[0] == pytest.approx(fitted.score(VAL, VAL_Y, sample_weight=weight))


@pytest.mark.parametrize(("data", "message"), [
    ({"X_val": VAL}, "X_val and y_val go together, got y_val=None"),
    ({"y_val": VAL_Y}, "X_val and y_val go together, got X_val=None"),
    ({"sample_weight_val": np.ones(100)}, "sample_weight_val goes together with X_val and y_val, got None"),
    ({"X_val": VAL[:, 1:], "y_val": VAL_Y}, "X_val: X has 63 features"),
    ({"X_val": VAL.reshape(100, 4, 16), "y_val": VAL_Y}, "X_val: samples of X have shape"),
    ({"X_val": VAL[0], "y_val": VAL_Y}, "X_val: Expected 2D array"),
    ({"X_val": np.full_like(VAL, np.nan), "y_val": VAL_Y}, "X_val: Input X contains NaN"),
    ({"X_val": VAL, "y_val": VAL_Y + 1}, r"y_val: y has labels that are not among the classes .*: \[10\]"),
    ({"X_val": VAL, "y_val": VAL_Y[1:]}, "y_val: expected 100 samples as in X_val, got 99"),
    ({"X_val": VAL, "y_val": np.stack([VAL_Y, VAL_Y], 1)}, r"y_val: expected the shape \(100,\), .* got \(100, 2\)"),
    ({"X_val": VAL, "y_val": np.full(100, np.nan)}, "y_val: Input y contains NaN"),
    ({"X_val": VAL, "y_val": VAL_Y, "sample_weight_val": np.ones(99)}, "sample_weight_val: sample_weight.shape"),
    ({"X_val": VAL, "y_val": VAL_Y, "sample_weight_val": -np.ones(100)}, "sample_weight_val: Negative values in"),
])
def test_validation_data_that_do_not_fit_are_errors(data, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        quick().fit(FEW, FEW_Y, **data)


def test_validation_targets_have_the_columns_of_y():
    message = r"^y_val: expected the shape \(100, 2\), with as many columns as y, got \(100,\)"
    with pytest.raises(ValueError, match=message):
        quick(ConvNetRegressor).fit(FEW, np.stack([FEW_Y, FEW_Y], 1), X_val=VAL, y_val=VAL_Y)


def test_verbose_shows_validation(capsys):
    quick(verbose=True).fit(FEW, FEW_Y, X_val=VAL, y_val=VAL_Y)
    lines = capsys.readouterr().out.splitlines()
    assert "validation loss  validation score" in lines[0]
    assert len({len(line) for line in lines}) == 1


# ---------------------------------------------------------------- learning rate

def test_schedules_decide_the_rate_of_every_epoch():
    assert rates("constant") == [0.01] * 6
    assert rates("invscaling") == [0.01 / np.sqrt(300 * epoch + 1) for epoch in range(6)]
    assert rates("step", max_iter=12)[8:] == pytest.approx([0.01, 0.01, 0.001, 0.001])
    assert rates({"schedule": "step", "step_size": 2, "factor": 0.5}) == [0.01, 0.01, 0.005, 0.005, 0.0025, 0.0025]
    cosine = schedules.Cosine(18)
    assert rates("cosine") == [cosine.rate(3 * epoch + 2, 0.01) for epoch in range(6)]
    one_cycle = schedules.OneCycle(18, div_factor=5.0)
    assert rates({"schedule": "one_cycle", "div_factor": 5.0}) == [one_cycle.rate(3 * i + 2, 0.01) for i in range(6)]
    warm = schedules.WarmUp(schedules.Cosine(12), 6, 0.0)
    assert rates({"schedule": "cosine", "warm_up": 2, "start_factor": 0.0}) == [warm.rate(3 * i + 2, 0.01)
                                                                                for i in range(6)]


def test_rates_change_with_every_batch_and_matter():
    same, cosine = quick(max_iter=1).fit(FEW, FEW_Y), quick(max_iter=1, learning_rate="cosine").fit(FEW, FEW_Y)
    assert not np.array_equal(weights(same), weights(cosine))


def test_plateau_reduces_the_rate_when_nothing_is_gained():
    found = rates({"schedule": "plateau", "patience": 1, "threshold": 0.99}, max_iter=7, n_iter_no_change=100)
    assert found == pytest.approx([0.01, 0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001])


def test_adaptive_divides_by_five_and_stops_as_in_mlp_classifier():
    how = {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 1e-4, "max_iter": 40, "tol": 10.0,
           "n_iter_no_change": 2, "random_state": 0}
    ours, mlp = ConvNetClassifier(input_shape=(8, 8), **how).fit(FEW, FEW_Y), MLPClassifier(**how).fit(FEW, FEW_Y)
    assert ours.n_iter_ == mlp.n_iter_ < 40
    assert ours.history_["learning_rate"][-1] == pytest.approx(1e-4 / 5**3)


def test_schedules_of_known_length_do_not_warn_of_the_end():
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        quick(learning_rate="cosine").fit(FEW, FEW_Y)
        quick(n_iter_no_change=np.inf).fit(FEW, FEW_Y)


@pytest.mark.parametrize("value", ["linear", None, {"step_size": 3}, {"schedule": "step", "factor": 2.0},
                                   {"schedule": "cosine", "steps": 3}, {"schedule": "cosine", "warm_up": 9}])
def test_rates_that_break_a_rule_are_named(value):
    with pytest.raises(ValueError, match="The 'learning_rate' parameter of ConvNetClassifier"):
        quick(learning_rate=value).fit(FEW, FEW_Y)


@pytest.mark.parametrize(("value", "keys"), [
    ({"schedule": "step", "stepsize": 3}, "schedule, step_size, factor, warm_up, start_factor"),
    ({"schedule": "cosine", "n_steps": 3}, "schedule, min_rate, warm_up, start_factor"),
])
def test_keys_of_a_schedule_are_listed(value, keys):
    with pytest.raises(ValueError, match=f"may have the keys {keys}$"):
        quick(learning_rate=value).fit(FEW, FEW_Y)


@pytest.mark.parametrize("solver", ("sgd", "adam", "adamw", "rmsprop"))
def test_every_solver_learns(solver):
    fitted = quick(solver=solver, max_iter=15, learning_rate_init=0.003 if solver == "rmsprop" else 0.02)
    assert fitted.fit(FEW, FEW_Y).score(VAL, VAL_Y) > 0.7
    assert fitted.loss_curve_[-1] < fitted.loss_curve_[0] / 3


def test_adamw_shrinks_weights_apart_from_the_loss():
    one_step = {"solver": "adamw", "max_iter": 1, "batch_size": 300}
    plain, shrunk = (quick(alpha=alpha, **one_step).fit(FEW, FEW_Y) for alpha in (0.0, 10.0))
    assert shrunk.loss_ == plain.loss_
    assert np.square(weights(shrunk)).sum() < 0.9 * np.square(weights(plain)).sum()


# ---------------------------------------------------------------- early stopping

def test_early_stopping_restores_the_best_epoch():
    fitted = quick(max_iter=60, early_stopping=True, n_iter_no_change=3, tol=0.0, learning_rate_init=0.05)
    fitted.fit(FEW, FEW_Y, X_val=VAL, y_val=VAL_Y)
    losses = fitted.history_["validation_loss"]
    assert fitted.n_iter_ == len(losses) < 60
    assert np.argmin(losses) < len(losses) - 3
    assert log_loss(fitted) == pytest.approx(min(losses), rel=1e-5)
    again = clone(fitted).set_params(max_iter=int(np.argmin(losses)) + 1).fit(FEW, FEW_Y, X_val=VAL, y_val=VAL_Y)
    np.testing.assert_array_equal(weights(again), weights(fitted))
    np.testing.assert_array_equal(again.optimizer_state_["mean"], fitted.optimizer_state_["mean"])


@pytest.mark.parametrize("scoring", (None, "accuracy", "neg_log_loss"))
def test_early_stopping_by_a_score(scoring):
    fitted = quick(max_iter=12, early_stopping=True, scoring=scoring, n_iter_no_change=2)
    fitted.fit(FEW, FEW_Y, X_val=VAL, y_val=VAL_Y)
    score = -log_loss(fitted) if scoring == "neg_log_loss" else fitted.score(VAL, VAL_Y)
    assert fitted.best_validation_score_ == max(fitted.validation_scores_) == pytest.approx(score, rel=1e-5)


def without_weight(estimator, X, y):
    return estimator.score(X, y)


@pytest.mark.parametrize("scoring", (without_weight, make_scorer(lambda y, predicted: (y == predicted).mean())))
def test_scorers_need_not_take_weights(scoring):
    data = {"X_val": VAL, "y_val": VAL_Y}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = quick(scoring=scoring).fit(FEW, FEW_Y, **data)
    assert fitted.validation_scores_[-1] == fitted.score(VAL, VAL_Y)
    with pytest.warns(UserWarning, match="scoring=.* takes no sample_weight: the validation data are scored without"):
        fitted = quick(scoring=scoring, class_weight="balanced").fit(FEW, FEW_Y, **data)
    assert fitted.validation_scores_[-1] == fitted.score(VAL, VAL_Y)


def test_scorers_that_take_weights_are_given_them():
    weight = np.arange(100.0)
    fitted = quick(scoring="accuracy").fit(FEW, FEW_Y, X_val=VAL, y_val=VAL_Y, sample_weight_val=weight)
    assert fitted.validation_scores_[-1] == pytest.approx(fitted.score(VAL, VAL_Y, sample_weight=weight))


def test_scores_that_are_no_numbers_are_named():
    with pytest.raises(ValueError, match="scoring=.* must return a number, got 'good'"):
        quick(scoring=lambda *args: "good").fit(FEW, FEW_Y, X_val=VAL, y_val=VAL_Y)
    with pytest.warns(UserWarning, match="scoring=.* returned NaN, which counts as worse than any number") as found:
        fitted = quick(scoring=lambda *args: np.nan).fit(FEW, FEW_Y, X_val=VAL, y_val=VAL_Y)
    assert np.isnan(fitted.best_validation_score_) and not [w for w in found if w.category is RuntimeWarning]


def test_early_stopping_sets_samples_of_every_class_aside():
    looked = []

    def scoring(estimator, X, y, sample_weight=None):
        looked.append((X, y))
        return 0.0

    quick(early_stopping=True, validation_fraction=0.2, scoring=scoring, max_iter=2).fit(FEW, FEW_Y)
    (first, labels), (second, _) = looked
    np.testing.assert_array_equal(first, second)
    assert len(first) == 60 and set(np.bincount(labels)) <= {5, 6, 7}
    assert (first[:, None] == FEW).all(axis=2).any(axis=1).all()


def test_samples_set_aside_are_not_trained_with():
    fitted = quick(early_stopping=True, max_iter=2, validation_fraction=0.25).fit(FEW, FEW_Y)
    assert fitted.t_ == 2 * 225
    regressor = quick(ConvNetRegressor, early_stopping=True, max_iter=2).fit(FEW, FEW_Y)
    assert regressor.t_ == 2 * 270 and len(regressor.validation_scores_) == 2


def test_early_stopping_with_a_lonely_class_says_what_to_do():
    labels = FEW_Y.copy()
    labels[0] = 77
    with pytest.raises(ValueError, match="early_stopping=True cannot set validation_fraction=0.1 .* pass X_val and y_"):
        quick(early_stopping=True).fit(FEW, labels)


def test_warm_start_after_early_stopping_goes_on_from_the_best():
    fitted = quick(max_iter=30, early_stopping=True, n_iter_no_change=3, learning_rate_init=0.05, warm_start=True)
    fitted.fit(FEW, FEW_Y, X_val=VAL, y_val=VAL_Y)
    before, length = weights(fitted), len(fitted.loss_curve_)
    fitted.set_params(max_iter=1, learning_rate_init=1e-30).fit(FEW, FEW_Y, X_val=VAL, y_val=VAL_Y)
    np.testing.assert_allclose(weights(fitted), before, rtol=1e-6)
    assert len(fitted.loss_curve_) == length + 1


def test_an_interruption_keeps_the_best_of_the_whole_epochs(monkeypatch):
    original, count = optimizers.Adam.step, iter(range(10_000))

    def step(self, gradient, **how):
        original(self, gradient, **how)
        if next(count) == 35:
            raise KeyboardInterrupt

    how = {"early_stopping": True, "learning_rate_init": 0.02}
    expected = quick(max_iter=3, **how).fit(FEW, FEW_Y, X_val=VAL, y_val=VAL_Y)
    monkeypatch.setattr(optimizers.Adam, "step", step)
    with pytest.warns(UserWarning, match="Training was interrupted; the network is that of epoch 3"):
        fitted = quick(max_iter=9, **how).fit(FEW, FEW_Y, X_val=VAL, y_val=VAL_Y)
    np.testing.assert_array_equal(weights(fitted), weights(expected))
    assert {len(column) for column in fitted.history_.values()} == {3}


# ---------------------------------------------------------------- partial_fit

@pytest.mark.parametrize("solver", ("sgd", "adam", "rmsprop"))
def test_partial_fit_on_everything_is_an_epoch(solver):
    whole = quick(max_iter=3, solver=solver, learning_rate_init=0.001).fit(FEW, FEW_Y)
    parts = quick(solver=solver, learning_rate_init=0.001)
    for _ in range(3):
        parts = copy.deepcopy(parts).partial_fit(FEW, FEW_Y, classes=range(10))
    np.testing.assert_array_equal(weights(parts), weights(whole))
    assert parts.loss_curve_ == whole.loss_curve_ and parts.n_iter_ == 3 and parts.t_ == 900


def test_partial_fit_prints_a_line_per_call(capsys):
    fitted = quick(verbose=1).partial_fit(FEW, FEW_Y, classes=range(10)).partial_fit(FEW, FEW_Y)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [f"call 2 of partial_fit: loss {fitted.loss_:.6f}"] and lines[0].startswith("call 1 of")


def test_partial_fit_learns_from_a_stream():
    stream = quick(learning_rate_init=0.005)
    for _ in range(12):
        for start in range(0, 1500, 300):
            stream.partial_fit(X[start:start + 300], Y[start:start + 300], classes=range(10))
    assert stream.score(X[1500:], Y[1500:]) > 0.85
    regressor = quick(ConvNetRegressor).partial_fit(FEW, FEW_Y).partial_fit(VAL, VAL_Y)
    assert regressor.t_ == 400 and len(regressor.loss_curve_) == 2


def test_partial_fit_needs_not_see_all_classes_at_once():
    some = FEW_Y < 5
    fitted = quick().partial_fit(FEW[some], FEW_Y[some], classes=range(10)).partial_fit(FEW[~some], FEW_Y[~some])
    assert list(fitted.classes_) == list(range(10))


def test_partial_fit_keeps_the_memory_of_a_schedule():
    fitted = quick(learning_rate={"schedule": "plateau", "patience": 0, "threshold": 0.99})
    for _ in range(4):
        fitted.partial_fit(FEW, FEW_Y, classes=range(10))
    assert fitted.history_["learning_rate"] == pytest.approx([0.01, 0.01, 0.001, 0.0001])


@pytest.mark.parametrize(("changes", "classes", "message"), [
    ({}, None, "needs classes, all labels that there are, in its first call"),
    ({}, range(5), r"y has labels that are not among the classes .*: \[5 6 7 8 9\]"),
    ({"early_stopping": True}, range(10), "does not support early_stopping=True"),
    ({"class_weight": "balanced"}, range(10), "does not support class_weight='balanced'"),
])
def test_partial_fit_refuses_what_it_cannot_do(changes, classes, message):
    with pytest.raises(ValueError, match=message):
        quick(**changes).partial_fit(FEW, FEW_Y, classes=classes)


def test_partial_fit_with_other_classes_than_before_is_an_error():
    fitted = quick().fit(FEW, FEW_Y)
    with pytest.raises(ValueError, match="training goes on only with the classes_ of the last fit"):
        fitted.partial_fit(FEW, FEW_Y, classes=range(11))


# ---------------------------------------------------------------- augmentation

def test_augmentation_changes_training_only():
    plain, augmented = quick(max_iter=1).fit(FEW, FEW_Y), quick(max_iter=1, augment={"shift": 1}).fit(FEW, FEW_Y)
    assert not np.array_equal(weights(plain), weights(augmented))
    np.testing.assert_array_equal(augmented.predict_proba(FEW[:5]), augmented.predict_proba(FEW)[:5])
    np.testing.assert_array_equal(weights(quick(augment={}).fit(FEW, FEW_Y)), weights(quick().fit(FEW, FEW_Y)))


def test_augmentation_is_in_the_units_of_the_data():
    noise = quick(augment={"noise": 2.0}).fit(FEW, FEW_Y), quick(augment={"noise": 32.0}).fit(16 * FEW, FEW_Y)
    np.testing.assert_array_equal(noise[0].predict_proba(FEW), noise[1].predict_proba(16 * FEW))


def test_augmentation_does_not_depend_on_threads_layout_and_restarts():
    how = {"augment": "digits", "max_iter": 4}
    expected = weights(quick(**how).fit(FEW, FEW_Y))
    np.testing.assert_array_equal(weights(quick(**how, n_jobs=2).fit(FEW, FEW_Y)), expected)
    np.testing.assert_array_equal(weights(quick(**how, data_format="channels_last").fit(FEW, FEW_Y)), expected)
    halves = quick(augment="digits", max_iter=2, warm_start=True).fit(FEW, FEW_Y).fit(FEW, FEW_Y)
    np.testing.assert_array_equal(weights(halves), expected)


@pytest.mark.parametrize(("value", "message"), [
    (3, "'augment' parameter of ConvNetClassifier must be None, the name of a preset or a dict"),
    ("faces", "'augment' parameter of ConvNetClassifier: augment: a preset must be one of 'digits'"),
    ({"rotate": 270}, "'augment' parameter of ConvNetClassifier: augment: 'rotate' must be degrees from 0 to 180"),
])
def test_augmentation_that_breaks_a_rule_is_named(value, message):
    with pytest.raises(ValueError, match=message):
        quick(augment=value).fit(FEW, FEW_Y)
