"""scikit-learn's own checks, and its tools around a ConvNetClassifier."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier, VotingClassifier
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score, cross_validate, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from cyconv import ConvNetClassifier, ConvNetRegressor
from cyconv.layers import Conv, ReLU

X, Y = load_digits(return_X_y=True)
X = X.astype(np.float32)
X_TRAIN, X_TEST, Y_TRAIN, Y_TEST = train_test_split(X, Y, test_size=0.3, stratify=Y, random_state=0)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def quick(**changes):
    return ConvNetClassifier(**({"conv_channels": (8, 12), "input_shape": (8, 8), "max_iter": 8, "random_state": 0,
                                 "learning_rate_init": 0.01, "n_jobs": 1} | changes))


ONE_LABEL = "class_weight is for one label per sample"
IN_ONE_PART = "balanced weights need all samples at once, so partial_fit refuses them"
EXCUSED = {"check_classifiers_multilabel_representation_invariance": ONE_LABEL,
           "check_classifiers_multilabel_output_format_predict": ONE_LABEL,
           "check_classifiers_multilabel_output_format_predict_proba": ONE_LABEL,
           "check_classifiers_multilabel_output_format_decision_function": ONE_LABEL,
           "check_estimators_partial_fit_n_features": IN_ONE_PART,
           "check_fit_score_takes_y": IN_ONE_PART,
           "check_n_features_in_after_fitting": IN_ONE_PART}
TOGETHER = "partial_fit refuses early_stopping"
AT_RANDOM = "samples that repeat are set aside or changed one by one"
EARLY = {"check_estimators_partial_fit_n_features": TOGETHER, "check_fit_score_takes_y": TOGETHER,
         "check_n_features_in_after_fitting": TOGETHER, "check_sample_weight_equivalence_on_dense_data": AT_RANDOM}
BY_BATCH = "means and deviations of a batch do not weigh its samples"


def excused(estimator):
    parts = ((estimator.batch_norm, {"check_sample_weight_equivalence_on_dense_data": BY_BATCH}),
             (estimator.augment, {"check_sample_weight_equivalence_on_dense_data": AT_RANDOM}),
             (estimator.early_stopping, EARLY), (getattr(estimator, "class_weight", None), EXCUSED))
    return {check: reason for applies, part in parts if applies for check, reason in part.items()}


# Nothing is excused but what class_weight="balanced", batch_norm, early_stopping and augment cannot do.
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([
    ConvNetClassifier(),
    ConvNetClassifier(n_jobs=2),
    ConvNetClassifier(data_format="channels_last", pool="avg", hidden_layer_sizes=(10,)),
    ConvNetClassifier(conv_channels=(), hidden_layer_sizes=(20,), solver="rmsprop"),
    ConvNetClassifier(solver="sgd", learning_rate_init=0.05, class_weight="balanced"),
    ConvNetClassifier(batch_norm=True, activation="gelu", solver="adamw"),
    ConvNetClassifier(solver="sgd", learning_rate="adaptive", batch_size=10_000, learning_rate_init=0.05),
    ConvNetClassifier(early_stopping=True, validation_fraction=0.3, dropout=0.1),
    ConvNetClassifier(layers=[("conv", Conv(4, padding="same")), ("relu", ReLU())], augment={"noise": 0.1}),
    ConvNetRegressor(),
    ConvNetRegressor(early_stopping=True, scoring=None, hidden_layer_sizes=(10,), dropout=0.1),
    ConvNetRegressor(n_jobs=2, loss="huber"),
    ConvNetRegressor(data_format="channels_last", pool="avg", hidden_layer_sizes=(10,)),
    ConvNetRegressor(conv_channels=(), hidden_layer_sizes=(20,), solver="rmsprop"),
    ConvNetRegressor(batch_norm=True, activation="gelu", solver="adamw"),
    ConvNetRegressor(solver="sgd", learning_rate="adaptive", batch_size=10_000, learning_rate_init=0.05),
], xfail_strict=True, expected_failed_checks=excused)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_pipeline_with_a_scaler():
    pipeline = make_pipeline(StandardScaler(), quick()).fit(X_TRAIN, Y_TRAIN)
    assert pipeline.score(X_TEST, Y_TEST) > 0.93


def test_pipeline_that_makes_images_itself():
    images = FunctionTransformer(lambda rows: rows.reshape(-1, 1, 8, 8))
    pipeline = make_pipeline(images, quick(input_shape=None)).fit(X_TRAIN, Y_TRAIN)
    np.testing.assert_array_equal(pipeline.predict(X_TEST), quick().fit(X_TRAIN, Y_TRAIN).predict(X_TEST))


def test_grid_search_over_architecture_and_training_on_two_processes():
    grid = {"convnetclassifier__conv_channels": [(4,), (4, 8)], "convnetclassifier__alpha": [1e-4, 1.0],
            "convnetclassifier__solver": ["adam", "sgd"]}
    search = GridSearchCV(make_pipeline(MinMaxScaler(), quick(max_iter=4)), grid, cv=3, n_jobs=2)
    search.fit(X_TRAIN, Y_TRAIN)
    scores = search.cv_results_["mean_test_score"]
    assert len(scores) == 8
    assert np.isfinite(scores).all()
    assert len(set(scores)) > 4
    assert search.score(X_TEST, Y_TEST) > 0.8


def test_a_grid_search_does_not_depend_on_its_processes():
    grid = {"kernel_size": [2, 3], "hidden_layer_sizes": [(), (12,)]}
    one, two = (GridSearchCV(quick(max_iter=3), grid, cv=3, n_jobs=n).fit(X_TRAIN[:300], Y_TRAIN[:300]) for n in (1, 2))
    np.testing.assert_array_equal(one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"])


def test_cross_validation_of_images():
    assert cross_val_score(quick(input_shape=None), X.reshape(-1, 8, 8), Y, cv=3).mean() > 0.9
    assert cross_val_predict(quick(max_iter=2), X[:300], Y[:300], method="predict_proba").shape == (300, 10)


def test_every_scorer_works():
    scoring = ["accuracy", "neg_log_loss", "roc_auc_ovr", "f1_macro"]
    result = cross_validate(quick(), X[:600], Y[:600], cv=3, scoring=scoring)
    assert result["test_roc_auc_ovr"].mean() > 0.95


@pytest.mark.parametrize("wrap", [
    lambda e: CalibratedClassifierCV(e, cv=3),
    lambda e: VotingClassifier([("cnn", e), ("linear", LogisticRegression(max_iter=200))], voting="soft"),
    lambda e: BaggingClassifier(e, n_estimators=2, random_state=0),
    lambda e: AdaBoostClassifier(e, n_estimators=2, random_state=0),
], ids=["calibrated", "voting", "bagging", "adaboost"])
def test_meta_estimators(wrap):
    fitted = wrap(quick()).fit(X_TRAIN / 16, Y_TRAIN)
    assert fitted.score(X_TEST / 16, Y_TEST) > 0.9


def test_permutation_importance_finds_the_ink():
    fitted = quick(max_iter=4).fit(X_TRAIN, Y_TRAIN)
    importance = permutation_importance(fitted, X_TEST, Y_TEST, n_repeats=1, random_state=0).importances_mean
    assert importance[0] == 0            # the top left corner is always empty
    assert importance.max() > 0.01


def test_sample_weight_is_routed_through_a_pipeline():
    weight = np.where(Y_TRAIN < 5, 1.0, 0.0)
    with config_context(enable_metadata_routing=True):
        routed = make_pipeline(FunctionTransformer(), quick().set_fit_request(sample_weight=True))
        routed.fit(X_TRAIN, Y_TRAIN, sample_weight=weight)
    assert set(routed.predict(X_TEST)) <= set(range(5))


def test_representation_names_the_changed_parameters():
    assert repr(ConvNetClassifier(conv_channels=(8,), input_shape=(8, 8))) == (
        "ConvNetClassifier(conv_channels=(8,), input_shape=(8, 8))")
    assert "ConvNetClassifier" in quick()._repr_html_()
