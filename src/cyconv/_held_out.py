"""Validation data of a fit, the user's or some set aside, and what scores them."""

import warnings
from contextlib import contextmanager
from copy import copy
from inspect import signature
from math import isnan
from numbers import Real

import numpy as np
from scipy.sparse import issparse
from sklearn.metrics import check_scoring
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array
from sklearn.utils.validation import _check_sample_weight, column_or_1d


def given(estimator, X, y, weight, shape):
    """The user's validation data, checked, or None for none; ``shape`` is that of one target in training."""
    if X is None and y is None:
        if weight is not None:
            raise ValueError("sample_weight_val goes together with X_val and y_val, got None for both")
        return None
    if X is None or y is None:
        raise ValueError(f"X_val and y_val go together, got {'X_val' if X is None else 'y_val'}=None")
    with errors_naming("X_val"):
        X = np.require(estimator._rows(X), requirements="C")
    with errors_naming("y_val"):
        y = checked_targets(estimator, y)
        if len(y) != len(X):
            raise ValueError(f"expected {len(X)} samples as in X_val, got {len(y)}")
        if y.shape[1:] != shape:
            raise ValueError(f"expected the shape {(len(X), *shape)}, with as many columns as y, got {y.shape}")
        estimator._encode(y, X.dtype)
    if weight is not None:
        with errors_naming("sample_weight_val"):
            weight = _check_sample_weight(weight, X, dtype=np.float64, ensure_non_negative=True)
    return X, y, weight


def set_aside(samples, fraction, strata, seed):
    """Samples to train with, and a fraction of them to look at."""
    try:
        rows = train_test_split(np.arange(len(samples.X)), test_size=fraction, random_state=seed, stratify=strata)
    except ValueError as error:
        raise ValueError(f"early_stopping=True cannot set validation_fraction={fraction} of the samples aside; pass "
                         f"X_val and y_val to fit. {error}") from error
    return tuple(samples.take(np.sort(part)) for part in rows)


def scorer_of(estimator, validation):
    """``score(outputs, export)`` of the validation data; None if ``scoring`` has none to score."""
    scoring = estimator.scoring
    if scoring in (None, "loss"):
        return lambda outputs, export: estimator._score(outputs, validation.targets, validation.weight)
    scorer = check_scoring(estimator, scoring)
    if validation is None:
        return None
    y, weight = estimator._decode(validation.targets), {}
    if validation.weight is not None and accepts_weight(scorer):
        weight = {"sample_weight": validation.weight}
    elif validation.weight is not None:
        warnings.warn(f"scoring={scoring!r} takes no sample_weight: the validation data are scored without "
                      "their weights", UserWarning, stacklevel=4)

    def score(outputs, export):
        fitted = copy(estimator)
        vars(fitted).update(export())
        value = scorer(fitted, validation.X, y, **weight)
        if not isinstance(value, Real):
            raise ValueError(f"scoring={scoring!r} must return a number, got {value!r:.100}")
        if isnan(value):
            warnings.warn(f"scoring={scoring!r} returned NaN, which counts as worse than any number",
                          UserWarning, stacklevel=6)
        return float(value)

    return score


def accepts_weight(scorer):
    """Whether a scorer takes sample_weight, decided as scikit-learn's searches do."""
    if hasattr(scorer, "_accept_sample_weight"):
        return scorer._accept_sample_weight()
    return "sample_weight" in signature(scorer).parameters


def checked_targets(estimator, y):
    """y, also as a sparse array, of one or two dimensions; of a regressor, numbers."""
    return without_single_column(check_array(
        y, accept_sparse="csr", ensure_2d=False, dtype="numeric" if estimator._y_is_numeric else None,
        input_name="y", estimator=estimator))


def without_single_column(y):
    y = y.toarray() if issparse(y) else y
    return column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y


@contextmanager
def errors_naming(argument):
    """Put the name of an argument in front of what scikit-learn, who knows X, y and sample_weight, says of it."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise (TypeError if isinstance(error, TypeError) else ValueError)(f"{argument}: {error}") from error
