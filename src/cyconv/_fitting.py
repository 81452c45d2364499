"""The course of a fit: epochs, validation, early stopping, interruption, callbacks.

What an epoch does is in `_training`, the learning rate in `_rates`. The estimator is told of every whole
epoch; what an epoch changes is kept beside it, so that one that breaks off leaves no trace.
"""

import warnings
from math import inf, isfinite, isnan, nan
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ._progress import ProgressTable
from ._training import Samples, outputs_of, train_epoch

HISTORY = ("epoch", "loss", "validation_loss", "validation_score", "learning_rate", "seconds")
NOTHING_LEARNED = {"n_iter_": 0, "t_": 0, "loss_": inf, "best_loss_": inf, "loss_curve_": [],
                   "validation_scores_": None, "best_validation_score_": None,
                   "history_": {name: [] for name in HISTORY}}


class Problem(NamedTuple):
    """What is to be learned.

    samples, validation : Samples
        validation may be None.
    loss : callable
        ``loss(outputs, targets, weight) -> (value, gradient)``.
    unit : float
        Factor from its values to those that are reported, and the unit of `tol`.
    score : callable
        ``score(outputs, export) -> float`` of the validation samples, larger is better; ``export()`` are the
        attributes that make a fitted estimator of the network as it is.
    """

    samples: Samples
    validation: Samples | None
    loss: Any
    unit: float
    score: Any


class Point(NamedTuple):
    """A whole number of epochs: everything that the next one changes."""

    vector: np.ndarray
    kept: np.ndarray
    optimizer: dict
    schedule: dict
    noted: dict


class Fitting:
    """One fit of an estimator's network."""

    def __init__(self, estimator, network, optimizer, rate, problem, batch_size, export):
        self.estimator, self.network, self.optimizer, self.rate = estimator, network, optimizer, rate
        self.problem, self.batch_size, self.export = problem, batch_size, export
        self.monitored = self._monitored()
        self.done = self.best = self._point()
        self.best_value = min(map(self._to_lower, estimator.history_[self.monitored]), default=inf)
        self.without_progress = 0

    def _monitored(self):
        """The column of the history that decides when to stop."""
        if not self.estimator.early_stopping:
            return "loss"
        return "validation_loss" if self.estimator.scoring == "loss" else "validation_score"

    def _to_lower(self, value):
        """A monitored value as one that is to become lower."""
        return inf if isnan(value) else -value if self.monitored == "validation_score" else value

    def run(self, n_epochs, context, given):
        """Train for ``n_epochs``, or until nothing is gained any more.

        ``context`` is that of scikit-learn's callbacks, which are shown ``given``: X, y and metadata.
        """
        table = ProgressTable(self.estimator, self.problem, n_epochs)
        try:
            for _ in range(n_epochs):
                task = context.subcontext(task_name="epoch")
                task.call_on_fit_task_begin(estimator=self.estimator, **given)
                self.epoch()
                table.show(self.estimator)
                has_stopped = task.call_on_fit_task_end(
                    estimator=self.estimator, **given, reconstruction_attributes=self.export)
                if self.has_settled() or has_stopped:
                    break
            else:
                self._warn_of_the_end(n_epochs)
        except KeyboardInterrupt:
            if self.done.noted["n_iter_"] == 0:
                raise
            self.go_to(self.done)
            vars(self.estimator).update(self.done.noted)
            warnings.warn(f"Training was interrupted; the network is that of epoch {self.estimator.n_iter_}.",
                          stacklevel=4)
        if self.estimator.early_stopping:
            self.go_to(self.best)

    def epoch(self):
        """Train with all samples once, then look at what has come of it."""
        estimator, problem, start = self.estimator, self.problem, perf_counter()
        number = len(estimator.loss_curve_)
        loss = problem.unit * train_epoch(
            self.network, self.optimizer, problem.samples, problem.loss, scale=estimator.input_scale_, epoch=number,
            batch_size=self.batch_size, shuffle=estimator.shuffle, change=estimator.augment, n_threads=estimator.n_jobs,
            alpha=0.0 if estimator.solver == "adamw" else estimator.alpha,
            rate=None if self.rate.is_constant else lambda batch: self.rate.of(estimator.n_iter_, batch))
        if not isfinite(loss):
            raise ValueError(f"the loss is {loss} after epoch {estimator.n_iter_ + 1}: "
                             f"lower learning_rate_init={estimator.learning_rate_init}, or scale and centre X"
                             + " and y" * estimator._y_is_numeric)
        validation_loss, score = self._validate()
        record = dict(zip(HISTORY, (number + 1, loss, validation_loss, score, self.optimizer.learning_rate,
                                    perf_counter() - start)))
        vars(estimator).update(self._noted(record))
        value = self._to_lower(record[self.monitored])
        slack = estimator.tol * (1.0 if self.monitored == "validation_score" else problem.unit)
        self.without_progress = self.without_progress + 1 if value > self.best_value - slack else 0
        self.goes_on = self.rate.observe(value)
        self.done = self._point()
        if value < self.best_value:
            self.best, self.best_value = self.done, value

    def _validate(self):
        validation = self.problem.validation
        if validation is None:
            return nan, nan
        outputs = outputs_of(self.network, validation.X, self.estimator.input_scale_, self.estimator.n_jobs)
        loss, _ = self.problem.loss(outputs, validation.targets, validation.weight)
        return self.problem.unit * loss, self.problem.score(outputs, self.export)

    def _noted(self, record):
        """Attributes of the estimator after one more epoch."""
        before = self.estimator
        noted = {"n_iter_": before.n_iter_ + 1, "t_": before.t_ + len(self.problem.samples.X), "loss_": record["loss"],
                 "best_loss_": min(before.best_loss_, record["loss"]),
                 "history_": {name: [*column, record[name]] for name, column in before.history_.items()}}
        noted["loss_curve_"] = noted["history_"]["loss"]
        if self.problem.validation is not None:
            scores = noted["history_"]["validation_score"]
            best = max((score for score in scores if not isnan(score)), default=nan)
            noted |= {"validation_scores_": scores, "best_validation_score_": float(best)}
        return noted

    def has_settled(self):
        """Whether nothing was gained for so many epochs that it is time to stop."""
        is_stuck = self.without_progress > self.estimator.n_iter_no_change
        return not self.goes_on or (is_stuck and not self.rate.decides_the_end)

    def _warn_of_the_end(self, n_epochs):
        if not (self.rate.ends_by_itself or self.estimator.n_iter_no_change == inf):
            warnings.warn(f"{type(self.estimator).__name__} stopped at max_iter={n_epochs} before the loss settled; "
                          "raise max_iter or tol.", ConvergenceWarning, stacklevel=5)

    def _point(self):
        noted = {name: getattr(self.estimator, name) for name in NOTHING_LEARNED}
        return Point(self.network.vector.copy(), self.network.state.copy(), self.optimizer.state(),
                     self.rate.schedule.state(), noted)

    def go_to(self, point):
        """Network, optimizer and schedule as they were."""
        self.network.vector[:], self.network.state[:] = point.vector, point.kept
        self.optimizer.load_state(point.optimizer)
        self.rate.schedule.load_state(point.schedule)
