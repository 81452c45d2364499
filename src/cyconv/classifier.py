"""ConvNetClassifier: a small convolutional network behind scikit-learn's interface.

Here are labels, class weights and what is predicted. What it shares with `regressor` is in `_estimator`.
"""

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from . import functional
from ._documentation import documented
from ._estimator import ConvNet, keep
from .losses import binary_cross_entropy, softmax_cross_entropy

__all__ = ["ConvNetClassifier"]


@documented
class ConvNetClassifier(ClassifierMixin, ConvNet):
    """Convolutional network for classification of images, signals and volumes.

    Blocks of convolution, activation and pooling, then dense layers; softmax cross-entropy (binary
    cross-entropy for several labels) with an L2 penalty is minimised by stochastic gradient descent.
    Parameters that `sklearn.neural_network.MLPClassifier` has too have its names and meaning. A given
    random_state gives the same network for any number of threads.

    X need not be scaled: training multiplies it by the power of two that brings its root mean square
    nearest to 1, from 2**-100 to 2**100, and the weights of the trained network include that factor.
    Data far from zero are better centred first.

    Parameters
    ----------
    {parameters}
    class_weight : dict of label to float, "balanced" or None, default None
        Factors >= 0 for sample weights; "balanced" gives all classes the same total.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels; for several labels per sample their numbers.
    multilabel_ : bool
        Whether a sample may have several labels, y being of 0 and 1 for each.
    {attributes}

    See Also
    --------
    sklearn.neural_network.MLPClassifier : The same without convolution.
    ConvNetRegressor : The same for numbers.
    cyconv.Sequential : The network itself.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from cyconv import ConvNetClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> classifier = ConvNetClassifier(input_shape=(8, 8), random_state=0).fit(X_train, y_train)
    >>> classifier.score(X_test, y_test) > 0.97
    True
    """

    def __init__(self, conv_channels=(16, 32), *, kernel_size=3, stride=1, padding="same", dilation=1, pool="max",
                 pool_size=2, activation="relu", batch_norm=False, dropout=0.0, hidden_layer_sizes=(), layers=None,
                 input_shape=None, spatial_dims=None, data_format="channels_first", solver="adam", alpha=1e-4,
                 batch_size="auto", learning_rate="constant", learning_rate_init=3e-3, power_t=0.5, max_iter=200,
                 shuffle=True, random_state=None, tol=1e-4, verbose=False, warm_start=False, momentum=0.9,
                 nesterovs_momentum=True, early_stopping=False, validation_fraction=0.1, scoring="loss",
                 n_iter_no_change=10, beta_1=0.9, beta_2=0.999, epsilon=1e-8, augment=None, feature_layer=None,
                 n_jobs=None, class_weight=None):
        keep(locals())

    # ------------------------------------------------------------ targets

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Train once with some samples, starting from the network as it is.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.
        classes : array_like of shape (n_classes,) or None, default None
            All labels that there are, needed in the first call.

        Returns
        -------
        self : ConvNetClassifier
        """
        if self.class_weight == "balanced":
            raise ValueError("partial_fit does not support class_weight='balanced', for it does not see the shares of "
                             "the classes; pass a dict")
        if classes is None and not hasattr(self, "parameters_"):
            raise ValueError("partial_fit needs classes, all labels that there are, in its first call")
        return self._partial_fit(X, y, sample_weight, self.classes_ if classes is None else classes)

    def _describe_targets(self, y, classes):
        check_classification_targets(y)
        kind = type_of_target(y, input_name="y")
        if kind == "multiclass-multioutput":
            raise ValueError("y has several columns of more than two labels; wrap the estimator in "
                             "sklearn.multioutput.MultiOutputClassifier")
        is_multilabel = kind == "multilabel-indicator"
        found = np.arange(y.shape[1]) if is_multilabel else np.unique(y)
        classes = found if classes is None else np.unique(classes)
        unknown = np.setdiff1d(found, classes)
        if len(unknown):
            raise ValueError(f"y has labels that are not among the classes {classes}: {unknown}")
        if len(classes) < 2:
            raise ValueError(f"{type(self).__name__} needs at least 2 classes in y, got 1 class: {classes[0]}")
        if is_multilabel and self.class_weight is not None:
            raise ValueError("class_weight is for one label per sample; use sample_weight with several")
        return {"classes_": classes, "n_outputs_": len(classes), "multilabel_": is_multilabel}

    def _encode(self, y, dtype):
        if self.multilabel_:
            if not np.isin(y, (0, 1)).all():
                raise ValueError(f"y of several labels must be of 0 and 1, got {np.setdiff1d(y, (0, 1))[:5]}")
            return np.ascontiguousarray(y, dtype)
        number = np.searchsorted(self.classes_, y).clip(max=len(self.classes_) - 1)
        if not np.array_equal(self.classes_[number], y):
            raise ValueError(f"y has labels that are not among the classes {self.classes_}: "
                             f"{np.setdiff1d(y, self.classes_)}")
        return number

    def _decode(self, targets):
        return targets.astype(int) if self.multilabel_ else self.classes_[targets]

    def _class_factors(self, y, weight):
        if self.class_weight is None:
            return None
        factors = compute_class_weight(self.class_weight, classes=self.classes_, y=y, sample_weight=weight)
        return np.where(np.isfinite(factors), factors, 0)     # a class whose samples have no weight

    def _strata(self, targets):
        return None if self.multilabel_ else targets

    def _loss(self):
        return binary_cross_entropy if self.multilabel_ else softmax_cross_entropy, 1.0

    def _score(self, outputs, targets, weight):
        is_right = ((outputs > 0) == targets).all(axis=1) if self.multilabel_ else outputs.argmax(axis=1) == targets
        return float(np.average(is_right, weights=weight))

    # ------------------------------------------------------------ prediction

    def predict(self, X):
        """Labels of the samples, X as in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,), or for several labels (n_samples, n_classes) of 0 and 1
        """
        outputs = self._outputs(X)
        return (outputs > 0).astype(int) if self.multilabel_ else self.classes_[outputs.argmax(axis=1)]

    def predict_proba(self, X):
        """Probability of each label, ndarray of shape (n_samples, n_classes); X as in `fit`."""
        outputs = self._outputs(X)
        return functional.sigmoid(outputs) if self.multilabel_ else functional.softmax(outputs)

    def predict_log_proba(self, X):
        """Logarithm of the probabilities, ndarray of shape (n_samples, n_classes), exact far below 1e-300."""
        outputs = self._outputs(X)
        return -np.logaddexp(0, -outputs) if self.multilabel_ else functional.log_softmax(outputs)

    def decision_function(self, X):
        """Outputs before softmax or sigmoid, ndarray of shape (n_samples, n_classes); X as in `fit`.

        With two classes it has shape (n_samples,): the logarithm of the odds of the second.
        """
        outputs = self._outputs(X)
        return outputs if self.multilabel_ or len(self.classes_) > 2 else outputs[:, 1] - outputs[:, 0]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
