"""Several labels per sample: what is predicted, the loss, what is refused."""

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from cyconv import ConvNetClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, DIGIT = load_digits(return_X_y=True)
X = X[:600].astype(np.float32)
Y = np.stack([DIGIT % 2, DIGIT > 4, np.isin(DIGIT, (0, 6, 8, 9))], axis=1)[:600].astype(int)      # odd, large, round
TRAIN, TEST = slice(0, 450), slice(450, 600)


def quick(**changes):
    return ConvNetClassifier(**({"input_shape": (8, 8), "max_iter": 25, "random_state": 0, "n_jobs": 1,
                                 "learning_rate_init": 0.005} | changes))


@pytest.fixture(scope="module")
def fitted():
    return quick().fit(X[TRAIN], Y[TRAIN])


def test_several_labels_are_learned(fitted):
    assert fitted.score(X[TEST], Y[TEST]) > 0.75
    mlp = MLPClassifier(max_iter=1).fit(X, Y)
    assert fitted.multilabel_ and list(fitted.classes_) == list(mlp.classes_)


def test_predictions_agree_with_each_other(fitted):
    decision, probability = fitted.decision_function(X), fitted.predict_proba(X)
    assert decision.shape == probability.shape == (600, 3)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-decision)), rtol=1e-5)
    np.testing.assert_allclose(fitted.predict_log_proba(X), np.log(probability), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(fitted.predict(X), decision > 0)
    assert fitted.predict(X).dtype == int


def test_loss_is_the_mean_of_the_binary_ones():
    fitted = quick(max_iter=1, batch_size=600, alpha=0.0, solver="sgd", learning_rate_init=1e-12).fit(X, Y)
    p = fitted.predict_proba(X).astype(float)
    assert fitted.loss_ == pytest.approx(-np.where(Y, np.log(p), np.log(1 - p)).mean(), rel=1e-5)


def test_sparse_indicators_are_the_same():
    first, second = (quick(max_iter=2).fit(X, y).predict_proba(X) for y in (Y, csr_array(Y)))
    np.testing.assert_array_equal(first, second)


def test_early_stopping_and_partial_fit():
    stopped = quick(early_stopping=True, max_iter=3).fit(X, Y)
    assert len(stopped.validation_scores_) == 3
    parts = quick().partial_fit(X[TRAIN], Y[TRAIN], classes=range(3)).partial_fit(X[TEST], Y[TEST])
    assert parts.predict(X).shape == (600, 3)


@pytest.mark.parametrize(("changes", "y", "message"), [
    ({}, np.stack([DIGIT, DIGIT], axis=1)[:600], "wrap the estimator in sklearn.multioutput.MultiOutputClassifier"),
    ({"class_weight": "balanced"}, Y, "class_weight is for one label per sample"),
    ({}, 2 * Y, r"y of several labels must be of 0 and 1, got \[2\]"),
])
def test_what_cannot_be_is_refused(changes, y, message):
    with pytest.raises(ValueError, match=message):
        quick(**changes).fit(X, y)
