"""The table that `verbose` prints: a line per epoch."""

from datetime import timedelta
from math import ceil


class ProgressTable:
    """Prints epochs of a fit with loss, validation, speed and the time that is left, if `verbose` says so.

    The time left is that of all epochs up to max_iter; training may end before.
    """

    def __init__(self, estimator, problem, n_epochs):
        self._is_on = bool(estimator.verbose)
        self._n_epochs, self._n_samples = n_epochs, len(problem.samples.X)
        self._is_validated = problem.validation is not None
        if self._is_on:
            self._print("epoch", "loss", "validation loss", "validation score", "samples/s", "time left")

    def show(self, estimator):
        """Print the last epoch."""
        if not self._is_on:
            return
        last = {name: column[-1] for name, column in estimator.history_.items()}
        n_done = estimator.n_iter_
        left = (self._n_epochs - n_done) * sum(estimator.history_["seconds"][-n_done:]) / n_done
        self._print(f"{n_done}/{self._n_epochs}", f"{last['loss']:.6f}", f"{last['validation_loss']:.6f}",
                    f"{last['validation_score']:.4f}", f"{self._n_samples / last['seconds']:,.0f}",
                    str(timedelta(seconds=ceil(left))))

    def _print(self, epoch, loss, validation_loss, score, speed, left):
        validation = f"  {validation_loss:>15}  {score:>16}" if self._is_validated else ""
        print(f"{epoch:>9}  {loss:>10}{validation}  {speed:>10}  {left:>9}", flush=True)
