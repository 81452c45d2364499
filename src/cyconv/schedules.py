"""Schedules: how the learning rate changes while a network is trained.

A schedule is a small object of numbers: it prints as the call that makes it, compares by value and
pickles. It is asked for the rate of a step and told the loss of every epoch::

    optimizer.learning_rate = schedule.rate(step, base_rate)      # step 0, 1, 2, ... before each
    goes_on = schedule.observe(loss, base_rate)                   # after each epoch

What a step is, a batch, an epoch or for `InverseScaling` a sample, is the caller's choice. Most are
functions of the step alone. `Adaptive` and `ReduceOnPlateau` remember what they observed, so whoever
trains takes a copy of them; `state` and `load_state` go on where another one stopped.

Rates are computed by + - * / and square roots on Python floats, each rounded by itself, with a cosine
of our own and powers in decimal arithmetic: the same bits on every machine, unlike with ``math.cos``
and ``**``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from decimal import Context, Decimal
from math import inf, pi, sqrt

from ._scalars import COUNT, COUNT_FROM_ZERO, NOT_NEGATIVE, POSITIVE, UP_TO_ONE, checked_number

ABOVE_ONE = ("a number > 1", lambda v: 1 < v < inf)
INSIDE_ONE = ("a number between 0 and 1", lambda v: 0 < v < 1)
SHARE = ("a number in (0, 1]", lambda v: 0 < v <= 1)
LOSS = ("a number", lambda v: True)

__all__ = ["Schedule", "Constant", "InverseScaling", "StepDecay", "Cosine", "OneCycle", "WarmUp", "Adaptive",
           "ReduceOnPlateau"]


class Schedule:
    """What all schedules have in common."""

    def rate(self, step, base_rate):
        """Learning rate of a step.

        Parameters
        ----------
        step : int
            At least 0: how many came before.
        base_rate : float
            Above 0.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If step or base_rate is out of its range.
        """
        check(self, COUNT_FROM_ZERO, step=step)
        check(self, POSITIVE, base_rate=base_rate)
        return self._rate(step, base_rate)

    def _rate(self, step, base_rate):
        raise NotImplementedError

    def observe(self, loss, base_rate):
        """Note the loss of an epoch that has ended, a float; False when training should end."""
        return True

    def state(self):
        """What was observed, as a dict of numbers."""
        return {}

    def load_state(self, state):
        """Go on from what `state` returned; ValueError when it belongs to another kind of schedule."""
        if not isinstance(state, Mapping):
            raise TypeError(f"load_state: state must be a dict, as `state` returns, got {state!r}")
        if state.keys() != self.state().keys():
            raise ValueError(f"load_state: {type(self).__name__} expects {sorted(self.state())}, got {sorted(state)}")
        check_memory(self, {f"_{name}": value for name, value in state.items()})
        for name, value in state.items():
            setattr(self, f"_{name}", value)

    def __post_init__(self):
        """Check the arguments."""

    def __setstate__(self, state):
        """From a pickle, which may be damaged."""
        if not isinstance(state, dict) or not (
                {f.name for f in fields(self) if f.init} <= state.keys() <= {f.name for f in fields(self)}):
            raise ValueError(f"{type(self).__name__}: this is not its state: {state!r:.200}")
        vars(self).update(state)
        self.__post_init__()
        check_memory(self, vars(type(self)) | state)


# ---------------------------------------------------------------- functions of the step


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate always: base_rate.

    Examples
    --------
    >>> Constant().rate(1000, 0.1)
    0.1
    """

    def _rate(self, step, base_rate):
        return base_rate


@dataclass(frozen=True)
class InverseScaling(Schedule):
    """base_rate / (step + 1)**power_t.

    Parameters
    ----------
    power_t : float, default 0.5
        At least 0.

    References
    ----------
    ``learning_rate="invscaling"`` of scikit-learn's MLPClassifier, where a step is a sample that was
    trained with, and the rate changes after every epoch.

    Examples
    --------
    >>> [InverseScaling().rate(step, 1.0) for step in (0, 3, 99)]
    [1.0, 0.5, 0.1]
    """

    power_t: float = 0.5

    def __post_init__(self):
        check(self, NOT_NEGATIVE, power_t=self.power_t)

    def _rate(self, step, base_rate):
        if self.power_t == 0.5:
            return base_rate / sqrt(step + 1)
        return base_rate / decimal_power(step + 1, self.power_t)


@dataclass(frozen=True)
class StepDecay(Schedule):
    """base_rate * factor**(step // step_size): times factor after every step_size steps.

    Parameters
    ----------
    step_size : int
        At least 1.
    factor : float in (0, 1], default 0.1
        With ``step_size=1`` the decay is exponential.

    References
    ----------
    ``torch.optim.lr_scheduler.StepLR`` and ``ExponentialLR``, where factor is gamma.

    Examples
    --------
    >>> [StepDecay(10, 0.5).rate(step, 1.0) for step in (0, 9, 10, 29)]
    [1.0, 1.0, 0.5, 0.25]
    """

    step_size: int
    factor: float = 0.1

    def __post_init__(self):
        check(self, COUNT, step_size=self.step_size)
        check(self, SHARE, factor=self.factor)

    def _rate(self, step, base_rate):
        return base_rate * integer_power(self.factor, step // self.step_size)


@dataclass(frozen=True)
class Cosine(Schedule):
    """From base_rate to min_rate along half a wave of the cosine.

    min_rate + (base_rate - min_rate) * (1 + cos(pi * step / n_steps)) / 2, and min_rate after n_steps.

    Parameters
    ----------
    n_steps : int
        At least 1.
    min_rate : float, default 0.0
        At least 0.

    References
    ----------
    Loshchilov, Hutter: SGDR, stochastic gradient descent with warm restarts, ICLR 2017, without restarts;
    ``torch.optim.lr_scheduler.CosineAnnealingLR``, whose rate rises again after n_steps (T_max).

    Examples
    --------
    >>> [Cosine(10).rate(step, 1.0) for step in (0, 5, 10, 11)]
    [1.0, 0.5, 0.0, 0.0]
    """

    n_steps: int
    min_rate: float = 0.0

    def __post_init__(self):
        check(self, COUNT, n_steps=self.n_steps)
        check(self, NOT_NEGATIVE, min_rate=self.min_rate)

    def _rate(self, step, base_rate):
        return along_cosine(base_rate, self.min_rate, step / self.n_steps)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up to base_rate and down to almost nothing, once, each along half a wave of the cosine.

    From base_rate / div_factor at step 0 to base_rate at step rise * n_steps - 1, then to
    base_rate / div_factor / final_div_factor at step n_steps - 1, and that after it.

    Parameters
    ----------
    n_steps : int
        At least 1: of the whole training.
    rise : float in (0, 1), default 0.3
        Part of the steps in which the rate goes up.
    div_factor : float, default 25.0
        Above 0: base_rate over the first rate.
    final_div_factor : float, default 10000.0
        Above 0: the first rate over the last.

    References
    ----------
    Smith, Topin: Super-convergence, 2018; ``torch.optim.lr_scheduler.OneCycleLR``, where base_rate is max_lr
    and rise is pct_start. torch changes the momentum too, this does not, as with ``cycle_momentum=False``.

    Examples
    --------
    >>> [OneCycle(10, rise=0.5, div_factor=4).rate(step, 1.0) for step in (0, 2, 4, 9)]
    [0.25, 0.625, 1.0, 2.5e-05]
    """

    n_steps: int
    rise: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def __post_init__(self):
        check(self, COUNT, n_steps=self.n_steps)
        check(self, INSIDE_ONE, rise=self.rise)
        check(self, POSITIVE, div_factor=self.div_factor, final_div_factor=self.final_div_factor)

    def _rate(self, step, base_rate):
        first = base_rate / self.div_factor
        peak, end = self.rise * self.n_steps - 1, self.n_steps - 1
        if step < peak:
            return along_cosine(first, base_rate, step / peak)
        if step >= end:
            return first / self.final_div_factor
        return along_cosine(base_rate, first / self.final_div_factor, (step - max(peak, 0)) / (end - max(peak, 0)))


# ---------------------------------------------------------------- around another one


@dataclass(frozen=True)
class WarmUp(Schedule):
    """A linear rise before another schedule, whose step 0 comes after it.

    (start_factor + (1 - start_factor) * step / n_steps) * schedule.rate(0, base_rate) before n_steps,
    then schedule.rate(step - n_steps, base_rate).

    Parameters
    ----------
    schedule : Schedule
        Told every loss.
    n_steps : int
        At least 1.
    start_factor : float in [0, 1], default 1 / 3

    References
    ----------
    ``torch.optim.lr_scheduler.LinearLR`` in a ``SequentialLR`` with the other one.

    Examples
    --------
    >>> schedule = WarmUp(StepDecay(2, 0.5), n_steps=2, start_factor=0.5)
    >>> [schedule.rate(step, 1.0) for step in range(6)]
    [0.5, 0.75, 1.0, 1.0, 0.5, 0.5]
    """

    schedule: Schedule
    n_steps: int
    start_factor: float = 1 / 3

    def __post_init__(self):
        if not isinstance(self.schedule, Schedule):
            raise TypeError(f"WarmUp: schedule must be a Schedule, got {self.schedule!r}")
        check(self, COUNT, n_steps=self.n_steps)
        check(self, UP_TO_ONE, start_factor=self.start_factor)

    def _rate(self, step, base_rate):
        if step >= self.n_steps:
            return self.schedule.rate(step - self.n_steps, base_rate)
        factor = self.start_factor + (1 - self.start_factor) * (step / self.n_steps)
        return factor * self.schedule.rate(0, base_rate)

    def observe(self, loss, base_rate):
        return self.schedule.observe(loss, base_rate)

    def state(self):
        return self.schedule.state()

    def load_state(self, state):
        self.schedule.load_state(state)


# ---------------------------------------------------------------- functions of the losses


@dataclass
class Adaptive(Schedule):
    """base_rate, divided by 5 whenever the loss stops improving.

    An epoch has not improved if its loss is above the smallest so far minus tol. After more than
    patience such epochs in a row the rate is divided and they are counted anew; if it is at most
    min_rate already, training should end.

    Parameters
    ----------
    tol : float, default 1e-4
        At least 0.
    patience : int, default 10
        At least 0.
    divisor : float, default 5.0
        Above 1.
    min_rate : float, default 1e-6
        At least 0.

    References
    ----------
    ``learning_rate="adaptive"`` of scikit-learn's MLPClassifier, where patience is n_iter_no_change.

    Examples
    --------
    >>> schedule = Adaptive(patience=1)
    >>> [schedule.observe(loss, 1.0) for loss in (3.0, 2.0, 2.0, 2.0)]
    [True, True, True, True]
    >>> schedule.rate(4, 1.0)
    0.2
    """

    tol: float = 1e-4
    patience: int = 10
    divisor: float = 5.0
    min_rate: float = 1e-6
    _best: float = field(default=inf, init=False, repr=False)
    _stalled: int = field(default=0, init=False, repr=False)
    _reductions: int = field(default=0, init=False, repr=False)

    def __post_init__(self):
        check(self, COUNT_FROM_ZERO, patience=self.patience)
        check(self, NOT_NEGATIVE, tol=self.tol, min_rate=self.min_rate)
        check(self, ABOVE_ONE, divisor=self.divisor)

    def _rate(self, step, base_rate):
        for _ in range(self._reductions):
            base_rate /= self.divisor
        return base_rate

    def observe(self, loss, base_rate):
        check(self, LOSS, loss=loss)
        self._stalled = 0 if loss <= self._best - self.tol else self._stalled + 1     # NaN is no improvement
        self._best = min(self._best, loss)
        if self._stalled <= self.patience:
            return True
        if self._rate(0, base_rate) <= self.min_rate:
            return False
        self._reductions += 1
        self._stalled = 0
        return True

    def state(self):
        return memory_of(self)


@dataclass
class ReduceOnPlateau(Schedule):
    """base_rate, multiplied by factor whenever the loss stops improving.

    An epoch has improved if its loss is below best - threshold * abs(best), or with ``mode="max"`` its score
    above best + threshold * abs(best). After more than patience others in a row the rate is multiplied,
    and the next cooldown epochs are not counted.

    Parameters
    ----------
    factor : float in (0, 1), default 0.1
    patience : int, default 10
        At least 0.
    threshold : float, default 1e-4
        At least 0.
    cooldown : int, default 0
        At least 0.
    min_rate : float, default 0.0
        Where reducing ends, at least 0.
    mode : {"min", "max"}, default "min"
        "max" when a score is observed in place of a loss.

    References
    ----------
    ``torch.optim.lr_scheduler.ReduceLROnPlateau`` with ``threshold_mode="rel"`` and ``eps=0``; it compares
    with best * (1 - threshold), which for negative losses is above the best.

    Examples
    --------
    >>> schedule = ReduceOnPlateau(0.5, patience=1)
    >>> for loss in (3.0, 2.0, 2.0, 2.0):
    ...     goes_on = schedule.observe(loss, 1.0)
    >>> schedule.rate(4, 1.0)
    0.5
    """

    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    cooldown: int = 0
    min_rate: float = 0.0
    mode: str = "min"
    _best: float = field(default=inf, init=False, repr=False)
    _stalled: int = field(default=0, init=False, repr=False)
    _cooling: int = field(default=0, init=False, repr=False)
    _reductions: int = field(default=0, init=False, repr=False)

    def __post_init__(self):
        check(self, INSIDE_ONE, factor=self.factor)
        check(self, COUNT_FROM_ZERO, patience=self.patience, cooldown=self.cooldown)
        check(self, NOT_NEGATIVE, threshold=self.threshold, min_rate=self.min_rate)
        if self.mode not in ("min", "max"):
            raise ValueError(f"ReduceOnPlateau: mode must be 'min' or 'max', got {self.mode!r}")

    def _rate(self, step, base_rate):
        for _ in range(self._reductions):
            if base_rate <= self.min_rate:
                break
            base_rate = max(base_rate * self.factor, self.min_rate)
        return base_rate

    def observe(self, loss, base_rate):
        """As for all; ``loss`` is a score with ``mode="max"``."""
        check(self, LOSS, loss=loss)
        value = loss if self.mode == "min" else -loss
        margin = 0 if self._best == inf else self.threshold * abs(self._best)
        if value < self._best - margin:
            self._best = value
            self._stalled = 0
        else:
            self._stalled += 1
        if self._cooling:
            self._cooling -= 1
            self._stalled = 0
        if self._stalled > self.patience:
            self._reductions += 1
            self._cooling = self.cooldown
            self._stalled = 0
        return True

    def state(self):
        return memory_of(self)


# ---------------------------------------------------------------- arithmetic


def along_cosine(start, end, part):
    """From start at part 0 to end at part 1 along half a wave, end after it."""
    if part >= 1:
        return end
    return end + (start - end) * ((1 + cos_pi(part)) / 2)


# sin(pi u) = u * sum of SINE[i] * u**(2 i): Taylor; the first term left out is below 2e-18 for |u| <= 1/2.
SINE = [pi]
for _i in range(1, 12):
    SINE.append(-SINE[-1] * pi * pi / (2 * _i * (2 * _i + 1)))


def cos_pi(x):
    """cos(pi x) for x in [0, 1] as sin(pi (1/2 - x)), exact at 0, 1/2 and 1."""
    if x == 0 or x == 1:
        return 1.0 - 2 * x
    u = 0.5 - x
    total = 0.0
    for coefficient in reversed(SINE):
        total = total * (u * u) + coefficient
    return u * total


def integer_power(x, n):
    """x**n for n >= 0 by squaring; ``**`` asks the C library."""
    result = 1.0
    while n:
        if n & 1:
            result *= x
        x *= x
        n >>= 1
    return result


def decimal_power(x, p):
    """x**p for x > 0 to 30 digits, rounded to a float."""
    return float(Context(prec=30).power(Decimal(x), Decimal(p)))


# ---------------------------------------------------------------- checks and memory


def memory_of(schedule):
    return {f.name[1:]: getattr(schedule, f.name) for f in fields(schedule) if not f.init}


def check(schedule, rule, **values):
    for name, value in values.items():
        checked_number(type(schedule).__name__, name, value, rule)


def check_memory(schedule, state):
    for f in fields(schedule):
        if not f.init:
            rule = ("a number", lambda value: True) if f.type is float else COUNT_FROM_ZERO
            checked_number(type(schedule).__name__, f.name, state.get(f.name), rule)
