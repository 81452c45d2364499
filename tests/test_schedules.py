"""Schedules: rates worked by hand, PyTorch's and scikit-learn's rates, exact arithmetic, state, errors."""

import copy
import json
import math
import pickle
import warnings
from decimal import Decimal, localcontext
from fractions import Fraction
from math import inf, nan

import numpy as np
import pytest

from cyconv.schedules import (
    Adaptive,
    Constant,
    Cosine,
    InverseScaling,
    OneCycle,
    ReduceOnPlateau,
    Schedule,
    StepDecay,
    WarmUp,
    cos_pi,
    integer_power,
)

ALL = (
    Constant(), InverseScaling(), InverseScaling(power_t=0.3), StepDecay(step_size=7, factor=0.3), Cosine(n_steps=20),
    Cosine(n_steps=20, min_rate=1e-3), OneCycle(n_steps=40), OneCycle(n_steps=40, rise=0.5, div_factor=3.0),
    WarmUp(schedule=Cosine(n_steps=20), n_steps=5), WarmUp(schedule=ReduceOnPlateau(patience=1), n_steps=3),
    Adaptive(patience=2), ReduceOnPlateau(factor=0.5, patience=2, cooldown=1),
)
LOSSES = [3.0, 2.0, 2.5, 1.9999, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.6, 0.7, 0.7, nan, 0.7, 0.4]


@pytest.fixture(params=ALL, ids=map(repr, ALL))
def schedule(request):
    return copy.deepcopy(request.param)


def rates(schedule, n=30, base_rate=0.1):
    return [schedule.rate(step, base_rate) for step in range(n)]


def observed(schedule, losses=LOSSES, base_rate=0.1):
    """The rate after each loss."""
    found = []
    for loss in losses:
        assert schedule.observe(loss, base_rate)
        found.append(schedule.rate(0, base_rate))
    return found


# ---------------------------------------------------------------- values


def test_cosine_worked_by_hand():
    """cos(pi / 3) = 1 / 2."""
    assert rates(Cosine(3, min_rate=0.2), 6, 1.0) == pytest.approx([1, 0.8, 0.4, 0.2, 0.2, 0.2], rel=1e-15)


def test_one_cycle_worked_by_hand():
    found = rates(OneCycle(7, rise=3 / 7, div_factor=10, final_div_factor=2), 9, 1.0)
    assert found == pytest.approx([0.1, 0.55, 1, 0.05 + 0.95 * (2 + math.sqrt(2)) / 4, 0.525,
                                   0.05 + 0.95 * (2 - math.sqrt(2)) / 4, 0.05, 0.05, 0.05], rel=1e-15)


def test_one_cycle_of_few_steps_has_no_rise():
    assert rates(OneCycle(3), 4, 1.0) == pytest.approx([1, 0.5 + 0.5 * 4e-6, 4e-6, 4e-6], rel=1e-12)
    assert rates(OneCycle(1), 2, 1.0) == pytest.approx([4e-6, 4e-6], rel=1e-12)


def test_adaptive_worked_by_hand():
    schedule = Adaptive(tol=0.5, patience=1, divisor=2)
    assert observed(schedule, [3, 2, 1.8, 1.6, 1.1, 0.5, 0.5, 0.5], 1.0) == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]


def test_adaptive_ends_when_the_rate_cannot_go_lower():
    schedule = Adaptive(patience=0, min_rate=0.05)
    assert [schedule.observe(loss, 1.0) for loss in (2, 2, 2, 1, 1)] == [True, True, True, True, False]
    assert schedule.rate(0, 1.0) == pytest.approx(0.04)
    assert schedule.observe(0.5, 1.0)


def test_plateau_worked_by_hand():
    schedule = ReduceOnPlateau(0.5, patience=1, cooldown=2, min_rate=0.3)
    assert observed(schedule, [3, 3, 3, 3, 3, 3, 3, 3, 3], 1.0) == [1, 1, 0.5, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3]


def test_plateau_of_a_score_is_that_of_a_negative_loss():
    score = observed(ReduceOnPlateau(patience=1, mode="max"), [0.5, 0.9, 0.9, 0.9, 0.95, 0.8, 0.8])
    assert score == observed(ReduceOnPlateau(patience=1), [-0.5, -0.9, -0.9, -0.9, -0.95, -0.8, -0.8])
    assert len(set(score)) == 3


def test_rate_is_proportional_to_the_base_rate(schedule):
    """Without a smallest rate; a power of two is exact."""
    if getattr(schedule, "min_rate", 0) == 0:
        for _ in range(5):
            schedule.observe(1.0, 0.1)
            assert rates(schedule, base_rate=0.2) == [2 * rate for rate in rates(schedule)]


def test_warm_up_joins_the_other_schedule_without_a_jump():
    for inner in (Constant(), Cosine(20), OneCycle(40), StepDecay(7)):
        found = rates(WarmUp(inner, 5, start_factor=0.0), 20)
        assert found[5:] == rates(inner, 15)
        np.testing.assert_allclose(found[:6], np.linspace(0, inner.rate(0, 0.1), 6), rtol=1e-15)


# ---------------------------------------------------------------- peers


def rates_of_torch(scheduler_of, n, base_rate=0.1, losses=None):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=base_rate)
    scheduler = scheduler_of(torch.optim.lr_scheduler, optimizer)
    found = []
    for step in range(n):
        if losses is None:
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        else:
            scheduler.step(losses[step])
            found.append(optimizer.param_groups[0]["lr"])
    return found


TORCH = [
    (StepDecay(7, 0.3), lambda s, o: s.StepLR(o, 7, 0.3), 30),
    (StepDecay(1, 0.9), lambda s, o: s.ExponentialLR(o, 0.9), 30),
    (Cosine(20, 1e-3), lambda s, o: s.CosineAnnealingLR(o, 20, 1e-3), 21),
    (OneCycle(40), lambda s, o: s.OneCycleLR(o, 0.1, 40), 40),
    (OneCycle(33, 0.45, 7, 100), lambda s, o: s.OneCycleLR(
        o, 0.1, 33, pct_start=0.45, div_factor=7, final_div_factor=100), 33),
    (OneCycle(33), lambda s, o: s.OneCycleLR(o, 0.1, 33, cycle_momentum=False), 33),
    (WarmUp(Constant(), 5), lambda s, o: s.LinearLR(o), 30),
    (WarmUp(Constant(), 8, 0.25), lambda s, o: s.LinearLR(o, 0.25, total_iters=8), 30),
    (WarmUp(StepDecay(7, 0.3), 5, 0.1), lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, total_iters=5), s.StepLR(o, 7, 0.3)], [5]), 30),
]


@pytest.mark.parametrize(("schedule", "scheduler_of", "n"), TORCH, ids=[f"{case[0]}" for case in TORCH])
def test_rates_agree_with_pytorch(schedule, scheduler_of, n):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")         # torch's own, from inside SequentialLR
        expected = rates_of_torch(scheduler_of, n)
    np.testing.assert_allclose(rates(schedule, n), expected, rtol=1e-12)


@pytest.mark.parametrize("arguments", [
    {}, {"factor": 0.5, "patience": 2}, {"factor": 0.5, "patience": 0, "threshold": 0.2},
    {"patience": 1, "cooldown": 2},
    {"factor": 0.3, "patience": 0, "min_rate": 0.005}, {"factor": 0.5, "patience": 1, "mode": "max"},
])
def test_plateau_agrees_with_pytorch(arguments):
    theirs = {"min_lr" if name == "min_rate" else name: value for name, value in arguments.items()}
    expected = rates_of_torch(lambda s, o: s.ReduceLROnPlateau(o, eps=0, **{"patience": 10} | theirs), len(LOSSES),
                              losses=LOSSES)
    assert observed(ReduceOnPlateau(**arguments)) == expected
    assert arguments == {} or len(set(expected)) > 1


@pytest.mark.parametrize("power_t", (0.5, 0.3, 0, 1))
def test_inverse_scaling_agrees_with_scikit_learn(power_t):
    network = pytest.importorskip("sklearn.neural_network")
    X = np.random.default_rng(0).standard_normal((50, 3))
    for epochs in (1, 2, 7):
        model = network.MLPClassifier((3,), solver="sgd", learning_rate="invscaling", learning_rate_init=0.1,
                                      power_t=power_t, random_state=0, max_iter=epochs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")     # no convergence
            model.fit(X, X[:, 0] > 0)
        assert InverseScaling(power_t).rate(model.t_, 0.1) == pytest.approx(model._optimizer.learning_rate, rel=1e-15)


@pytest.mark.parametrize("tol, patience", [(1e-4, 10), (1e-2, 2), (1e-2, 1)])
def test_adaptive_agrees_with_scikit_learn(tol, patience):
    """Its losses observed here give its last rate, and the same end."""
    network = pytest.importorskip("sklearn.neural_network")
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((50, 3)), rng.integers(0, 2, 50)
    model = network.MLPClassifier((3,), solver="sgd", learning_rate="adaptive", learning_rate_init=0.1, tol=tol,
                                  n_iter_no_change=patience, random_state=0, max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
    schedule = Adaptive(tol, patience)
    goes_on = [schedule.observe(loss, 0.1) for loss in model.loss_curve_]
    assert schedule.rate(0, 0.1) == model._optimizer.learning_rate < 0.1
    assert all(goes_on[:-1])
    assert goes_on[-1] == (model.n_iter_ == 1000)


# ---------------------------------------------------------------- arithmetic


def test_cosine_is_accurate_and_exact_where_it_can_be():
    with localcontext(prec=40):
        pi = Decimal("3.141592653589793238462643383279502884197")
        for x in [*np.linspace(0, 1, 201), 1e-9, 0.49999999, 1 - 1e-9]:
            z, term, total = pi * Decimal(float(x)), Decimal(1), Decimal(0)
            for k in range(40):
                total += term
                term *= -z * z / ((2 * k + 1) * (2 * k + 2))
            assert abs(Decimal(cos_pi(float(x))) - total) < Decimal(4e-16), x
    assert [cos_pi(x) for x in (0.0, 0.5, 1.0)] == [1, 0, -1]
    values = [cos_pi(x) for x in np.linspace(0, 1, 1001).tolist()]
    assert all(a > b for a, b in zip(values, values[1:]))


def test_powers_are_accurate():
    for x, n in [(0.1, 3), (0.5, 1000), (0.9, 100), (0.999, 5000), (1.0, 10**9), (0.3, 0)]:
        assert integer_power(x, n) == pytest.approx(float(Fraction(x)**n if n < 10**4 else 1), rel=1e-13, abs=5e-324)
    assert InverseScaling(0.25).rate(15, 1.0) == 0.5
    assert InverseScaling(2).rate(9, 1.0) == 0.01
    assert InverseScaling(0).rate(9, 0.3) == 0.3
    assert InverseScaling(500).rate(10**6, 1.0) == 0


def test_rates_need_no_function_of_the_c_library():
    """The bits are known; those of other arithmetic differ from machine to machine."""
    from_library = [0.05 * (1 + math.cos(2 * math.pi / 7)), 0.1 - 0.048 * (1 + math.cos(3 * math.pi / 11)),
                    0.1 / 100**0.3, 0.1 * 0.9**33]
    found = [Cosine(7).rate(2, 0.1), OneCycle(40).rate(3, 0.1), InverseScaling(0.3).rate(99, 0.1),
             StepDecay(1, 0.9).rate(33, 0.1)]
    assert found == pytest.approx(from_library, rel=1e-14)
    assert [rate.hex() for rate in found] == ["0x1.4c7d9f437f8bbp-4", "0x1.50f6ed9e86dc8p-6",
                                              "0x1.9b8c272fbe6e1p-6", "0x1.950dc77bbb779p-9"]


def test_rate_stays_within_its_bounds(schedule):
    found = rates(schedule, 200)
    assert all(0 <= rate <= 0.1 for rate in found)
    assert all(type(rate) is float for rate in found)


# ---------------------------------------------------------------- objects


def test_schedule_is_what_its_repr_says_and_pickles(schedule):
    assert eval(repr(schedule)) == schedule
    for loss in LOSSES:
        schedule.observe(loss, 0.1)
    other = pickle.loads(pickle.dumps(schedule))
    assert other == schedule and other is not schedule
    assert rates(other) == rates(schedule)


def test_state_resumes(schedule):
    fresh = copy.deepcopy(schedule)
    for loss in LOSSES[:6]:
        schedule.observe(loss, 0.1)
    state = json.loads(json.dumps(schedule.state()))
    expected = observed(schedule, LOSSES[6:])
    fresh.load_state(state)
    assert observed(fresh, LOSSES[6:]) == expected
    assert fresh.state().keys() == schedule.state().keys()


def test_state_is_a_copy():
    schedule = ReduceOnPlateau(patience=0)
    state = schedule.state()
    observed(schedule)
    assert state == {"best": inf, "stalled": 0, "cooling": 0, "reductions": 0}


def test_state_of_another_kind_is_an_error(schedule):
    with pytest.raises(ValueError, match=r"^load_state: \w+ expects \["):
        schedule.load_state({"speed": 1})


def test_functions_of_the_step_remember_nothing():
    for schedule in (Constant(), InverseScaling(), StepDecay(3), Cosine(9), OneCycle(9)):
        before = rates(schedule)
        assert all(schedule.observe(loss, 0.1) for loss in LOSSES)
        assert rates(schedule) == before and schedule.state() == {}
        assert isinstance(schedule, Schedule) and hash(schedule) == hash(copy.copy(schedule))


def test_schedule_survives_a_clone_of_scikit_learn(schedule):
    base = pytest.importorskip("sklearn.base")
    assert base.clone(schedule, safe=False) == schedule


@pytest.mark.parametrize(("make", "message"), [
    (lambda: InverseScaling(-1), "InverseScaling: power_t must be a number >= 0, got -1"),
    (lambda: InverseScaling(nan), "InverseScaling: power_t must be"),
    (lambda: StepDecay(0), "StepDecay: step_size must be an int >= 1, got 0"),
    (lambda: StepDecay(2.0), "StepDecay: step_size must be an int >= 1, got 2.0"),
    (lambda: StepDecay(1, 1.5), r"StepDecay: factor must be a number in \(0, 1\], got 1.5"),
    (lambda: Cosine(5, -0.1), "Cosine: min_rate must be a number >= 0, got -0.1"),
    (lambda: OneCycle(5, 0), "OneCycle: rise must be a number between 0 and 1, got 0"),
    (lambda: OneCycle(5, div_factor=0), "OneCycle: div_factor must be a number > 0, got 0"),
    (lambda: OneCycle(5, final_div_factor=inf), "OneCycle: final_div_factor must be a number > 0, got inf"),
    (lambda: WarmUp(Constant(), 0), "WarmUp: n_steps must be an int >= 1, got 0"),
    (lambda: WarmUp(Constant(), 3, 2), "WarmUp: start_factor must be a number in \\[0, 1\\], got 2"),
    (lambda: Adaptive(divisor=1), "Adaptive: divisor must be a number > 1, got 1"),
    (lambda: Adaptive(patience=-1), "Adaptive: patience must be an int >= 0, got -1"),
    (lambda: ReduceOnPlateau(1.0), "ReduceOnPlateau: factor must be a number between 0 and 1, got 1.0"),
    (lambda: ReduceOnPlateau(cooldown=0.5), "ReduceOnPlateau: cooldown must be an int >= 0, got 0.5"),
    (lambda: StepDecay(2).rate(-5, 1.0), "StepDecay: step must be an int >= 0, got -5"),
    (lambda: InverseScaling().rate(2.5, 1.0), "InverseScaling: step must be an int >= 0, got 2.5"),
    (lambda: Cosine(10).rate(3, 0), "Cosine: base_rate must be a number > 0, got 0"),
    (lambda: Constant().rate(1, nan), "Constant: base_rate must be a number > 0, got nan"),
    (lambda: ReduceOnPlateau(mode="best"), "ReduceOnPlateau: mode must be 'min' or 'max', got 'best'"),
])
def test_errors(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Cosine(True), "Cosine: n_steps must be an int >= 1, got True"),
    (lambda: Adaptive(tol="x"), "Adaptive: tol must be a number >= 0, got 'x'"),
    (lambda: StepDecay(2).rate("1", 1.0), "StepDecay: step must be an int >= 0, got '1'"),
    (lambda: WarmUp(Constant(), 3).rate(1, "0.1"), "WarmUp: base_rate must be a number > 0, got '0.1'"),
    (lambda: Adaptive().observe(None, 1.0), "Adaptive: loss must be a number, got None"),
    (lambda: ReduceOnPlateau().observe([1.0], 1.0), r"ReduceOnPlateau: loss must be a number, got \[1.0\]"),
    (lambda: Adaptive().load_state(None), "load_state: state must be a dict, as `state` returns, got None"),
])
def test_errors_of_kind(make, message):
    with pytest.raises(TypeError, match=f"^{message}"):
        make()


def test_loss_that_is_not_a_number_is_no_improvement():
    schedule = Adaptive(patience=1)
    for loss in (1.0, nan, nan):
        schedule.observe(loss, 1.0)
    assert schedule.rate(3, 1.0) == 0.2


def test_warm_up_of_no_schedule_is_an_error():
    with pytest.raises(TypeError, match="^WarmUp: schedule must be a Schedule, got 'cosine'"):
        WarmUp("cosine", 3)
