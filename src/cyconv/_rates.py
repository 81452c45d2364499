"""The learning rate of every step: from what `learning_rate` says to a schedule of `schedules`.

A name, or a dict of the name and the arguments of the schedule, counted in epochs where it counts steps::

    "cosine"    {"schedule": "step", "step_size": 20, "factor": 0.5}    {"schedule": "one_cycle", "warm_up": 3}
"""

from collections.abc import Mapping
from dataclasses import fields
from math import ceil, inf

from .schedules import Adaptive, Constant, Cosine, InverseScaling, OneCycle, ReduceOnPlateau, StepDecay, WarmUp

SCHEDULES = {"constant": Constant, "invscaling": InverseScaling, "adaptive": Adaptive, "step": StepDecay,
             "cosine": Cosine, "one_cycle": OneCycle, "plateau": ReduceOnPlateau}
OF_KNOWN_LENGTH = (Cosine, OneCycle)
WARM_UP = ("warm_up", "start_factor")
STEP_SIZE = 10      # epochs, unless the dict says otherwise
PATIENCE = 5        # epochs of "plateau": half of the default n_iter_no_change


def is_learning_rate(value):
    """Whether `learning_rate` names a schedule."""
    name = value.get("schedule") if isinstance(value, Mapping) else value
    return isinstance(name, str) and name in SCHEDULES


class Rate:
    """Learning rates of a fit.

    Parameters
    ----------
    estimator : ConvNetClassifier or ConvNetRegressor
        Its `learning_rate` and the parameters that this refers to.
    n_samples, n_batches : int
        Of an epoch.
    unit : float
        One unit of the loss in which `tol` is given.
    """

    def __init__(self, estimator, n_samples, n_batches, unit):
        self._base = estimator.learning_rate_init
        self._by_sample = False
        self._n_samples, self._n_batches = n_samples, n_batches
        try:
            self.schedule = self._schedule(estimator, unit)
        except (TypeError, ValueError) as error:
            raise ValueError(f"The 'learning_rate' parameter of {type(estimator).__name__}, "
                             f"{estimator.learning_rate!r}: {error}") from error

    def _schedule(self, estimator, unit):
        given = estimator.learning_rate
        options = dict(given) if isinstance(given, Mapping) else {"schedule": given}
        kind = SCHEDULES[options.pop("schedule")]
        warm_up = {name: options.pop(name) for name in WARM_UP if name in options}
        known = [f.name for f in fields(kind) if f.init and f.name != "n_steps"]
        if not options.keys() <= set(known):
            raise ValueError(f"a dict of it may have the keys {', '.join(['schedule', *known, *WARM_UP])}")
        self._by_sample = kind is InverseScaling
        if kind is InverseScaling:
            options = {"power_t": estimator.power_t} | options
        elif kind is Adaptive:
            patience = estimator.n_iter_no_change
            options = {"tol": estimator.tol * unit, "patience": 10**9 if patience == inf else patience} | options
        elif kind is StepDecay:
            options = {"factor": 0.1} | options
            options["step_size"] = self._steps(options.get("step_size", STEP_SIZE))
        elif kind is ReduceOnPlateau:
            options = {"patience": PATIENCE} | options
        elif kind in OF_KNOWN_LENGTH:
            options["n_steps"] = self._steps(estimator.max_iter - warm_up.get("warm_up", 0))
        schedule = kind(**options)
        if not warm_up:
            return schedule
        return WarmUp(schedule, self._steps(warm_up.pop("warm_up")), **warm_up)

    def _steps(self, epochs):
        return ceil(epochs * (self._n_samples if self._by_sample else self._n_batches))

    @property
    def is_constant(self):
        return isinstance(self.schedule, Constant)

    @property
    def _inner(self):
        return self.schedule.schedule if isinstance(self.schedule, WarmUp) else self.schedule

    @property
    def ends_by_itself(self):
        """Whether the schedule says when training is over, so that reaching max_iter is as it should be."""
        return isinstance(self._inner, OF_KNOWN_LENGTH)

    @property
    def decides_the_end(self):
        """Whether the schedule reacts to a loss that does not go down and ends training itself."""
        return isinstance(self._inner, Adaptive)

    def of(self, epoch, batch):
        """The rate for a batch of an epoch, both counted from 0."""
        step = epoch * self._n_samples if self._by_sample else epoch * self._n_batches + batch
        return self.schedule.rate(step, self._base)

    def observe(self, loss):
        """Note what an epoch has come to; False when training should end."""
        return self.schedule.observe(loss, self._base)
