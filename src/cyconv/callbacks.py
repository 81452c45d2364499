"""Callbacks for the estimators that `sklearn.callback` does not have: the network of every epoch, in memory or a file.

They are attached by ``estimator.set_callbacks(...)`` and see the epochs of `fit`, not those of `partial_fit`.
"""

import os
from copy import copy

from ._archive import as_path
from ._plain import encode

__all__ = ["Checkpoint", "Snapshots"]


class EpochCallback:
    """What is called after epochs with the estimator as it would be if training ended now."""

    def __init__(self, every=1):
        self.every = every

    def setup(self, estimator, context):
        """Before training."""
        if not isinstance(self.every, int) or self.every < 1:
            raise ValueError(f"{type(self).__name__}: every must be an int >= 1, got {self.every!r}")

    def teardown(self, estimator, context):
        """After training."""

    def on_fit_task_begin(self, estimator, context):
        """Before an epoch."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        """After an epoch, and after all of them."""
        if context.task_name == "epoch" and estimator.n_iter_ % self.every == 0:
            fitted = copy(fitted_estimator)
            self.look(fitted.set_callbacks())


class Snapshots(EpochCallback):
    """Keeps the estimator as it was after each epoch, for predictions by stage.

    Parameters
    ----------
    every : int, default 1
        Epochs from one to the next.

    Attributes
    ----------
    estimators : list of ConvNetClassifier or ConvNetRegressor
        Of the last fit; each has weights of its own.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from cyconv import ConvNetClassifier
    >>> from cyconv.callbacks import Snapshots
    >>> X, y = load_digits(return_X_y=True)
    >>> snapshots = Snapshots(every=5)
    >>> classifier = ConvNetClassifier(input_shape=(8, 8), max_iter=15, n_iter_no_change=np.inf, random_state=0)
    >>> _ = classifier.set_callbacks(snapshots).fit(X[:1000], y[:1000])
    >>> first, _, last = [stage.score(X[1000:], y[1000:]) for stage in snapshots.estimators]
    >>> last == classifier.score(X[1000:], y[1000:]) > first
    True
    """

    def setup(self, estimator, context):
        super().setup(estimator, context)
        self.estimators = []

    def look(self, estimator):
        """Keep it."""
        self.estimators.append(estimator)


class Checkpoint(EpochCallback):
    """Saves the estimator after each epoch, so that training can go on when the process has ended.

    ``load(path).set_params(warm_start=True, max_iter=...).fit(X, y)`` goes on, at a constant learning rate with
    the same bits as if nothing had happened.

    Parameters
    ----------
    path : str or path-like
        File that every epoch replaces when it is whole, as `ConvNetClassifier.save` does.
    every : int, default 1
        Epochs from one to the next.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from cyconv import ConvNetClassifier, load
    >>> from cyconv.callbacks import Checkpoint
    >>> X, y = np.eye(16).reshape(16, 4, 4), np.arange(16) % 2
    >>> classifier = ConvNetClassifier(max_iter=3, n_iter_no_change=np.inf, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model")
    ...     _ = classifier.set_callbacks(Checkpoint(path)).fit(X, y)
    ...     loaded = load(path)
    >>> loaded.n_iter_, bool((loaded.predict_proba(X) == classifier.predict_proba(X)).all())
    (3, True)
    """

    def __init__(self, path, every=1):
        super().__init__(every)
        self.path = path

    def setup(self, estimator, context):
        super().setup(estimator, context)
        folder = os.path.dirname(os.path.abspath(as_path("Checkpoint", self.path)))
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"Checkpoint: there is no folder {folder!r}")
        encode(estimator.get_params(deep=False), "parameters", {})      # refuses now what cannot be saved

    def look(self, estimator):
        """Save it."""
        estimator.save(self.path, for_training=True)
