"""Losses: values by hand, gradients, weights, extreme values, equal bits, errors, PyTorch."""

from decimal import Decimal, localcontext
from math import exp, inf, log, nan

import numpy as np
import pytest

from cyconv import _kernels
from cyconv.losses import binary_cross_entropy, huber, softmax_cross_entropy, squared_error
from cyconv.selftest.arrays import KINDS, assert_same_bits
from cyconv.selftest.differences import assert_same_gradient, central_differences

N = 5
rng_of_cases = np.random.default_rng(0)
LOGITS = rng_of_cases.standard_normal((N, 4))
LABELS = np.array([3, 0, 1, 1, 2])
PROBABILITIES = rng_of_cases.random((N, 4)).round(3)
VALUES = LOGITS + 2 * rng_of_cases.standard_normal((N, 4))
WEIGHTS = np.array([0.5, 2.0, 0.0, 1.0, 3.0])

# loss, targets, options
CASES = {
    "softmax": (softmax_cross_entropy, LABELS, {}),
    "smoothed": (softmax_cross_entropy, LABELS, {"label_smoothing": 0.1}),
    "uniform": (softmax_cross_entropy, LABELS, {"label_smoothing": 1}),
    "binary": (binary_cross_entropy, PROBABILITIES.round(), {}),
    "probabilities": (binary_cross_entropy, PROBABILITIES, {}),
    "squared": (squared_error, VALUES, {}),
    "huber": (huber, VALUES, {}),
    "narrow_huber": (huber, VALUES, {"delta": 0.25}),
}
every_case = pytest.mark.parametrize("loss, targets, options", CASES.values(), ids=CASES)
every_weight = pytest.mark.parametrize("weight", (None, WEIGHTS), ids=("even", "weighted"))

# ---------------------------------------------------------------- values


def test_equal_logits_give_the_logarithm_of_the_number_of_classes():
    loss, gradient = softmax_cross_entropy(np.zeros((3, 4)), np.array([0, 1, 3]))
    assert loss == pytest.approx(log(4), rel=1e-15)
    np.testing.assert_allclose(gradient[1], [1 / 12, -3 / 12, 1 / 12, 1 / 12], rtol=1e-15)


def test_softmax_cross_entropy_worked_by_hand():
    logits = np.log([[1.0, 3.0], [2.0, 2.0]])
    loss, gradient = softmax_cross_entropy(logits, np.array([1, 0]))
    assert loss == pytest.approx((log(4 / 3) + log(2)) / 2, rel=1e-15)
    np.testing.assert_allclose(gradient, [[0.125, -0.125], [-0.25, 0.25]], rtol=1e-14)


def test_weighted_loss_is_the_weighted_mean():
    loss, gradient = softmax_cross_entropy(np.log([[1.0, 3.0], [2.0, 2.0]]), np.array([1, 0]), np.array([3.0, 1.0]))
    assert loss == pytest.approx((3 * log(4 / 3) + log(2)) / 4, rel=1e-15)
    np.testing.assert_allclose(gradient, [[0.1875, -0.1875], [-0.125, 0.125]], rtol=1e-14)


def test_label_smoothing_worked_by_hand():
    """Targets 0.9 and 0.1 against probabilities 0.75 and 0.25."""
    loss, gradient = softmax_cross_entropy(np.log([[3.0, 1.0]]), [0], label_smoothing=0.2)
    assert loss == pytest.approx(-0.9 * log(0.75) - 0.1 * log(0.25), rel=1e-15)
    np.testing.assert_allclose(gradient, [[-0.15, 0.15]], rtol=1e-14)


def test_binary_cross_entropy_worked_by_hand():
    """Probabilities 0.75 and 0.2, targets 1 and 0.5."""
    loss, gradient = binary_cross_entropy(np.log([[3.0, 0.25]]), [[1, 0.5]])
    assert loss == pytest.approx((-log(0.75) - 0.5 * log(0.2) - 0.5 * log(0.8)) / 2, rel=1e-15)
    np.testing.assert_allclose(gradient, [[-0.125, -0.15]], rtol=1e-14)


def test_squared_error_worked_by_hand():
    loss, gradient = squared_error([[1.0, 5.0], [2.0, 2.0]], [[3, 4], [2, 6]], [3, 1])
    assert loss == (3 * (4 + 1) / 4 + (0 + 16) / 4) / 4
    np.testing.assert_array_equal(gradient, [[-0.75, 0.375], [0, -0.5]])


def test_huber_worked_by_hand():
    """Errors -2, 0.5 and 1 with delta 1: at delta both forms agree."""
    loss, gradient = huber([-2.0, 0.5, 1.0, 0.0], [0, 0, 0, 0])
    assert loss == (1.5 + 0.125 + 0.5) / 4
    np.testing.assert_array_equal(gradient, [-0.25, 0.125, 0.25, 0])


def test_huber_of_a_large_delta_is_the_squared_error(dtype):
    outputs = LOGITS.astype(dtype)
    assert huber(outputs, VALUES, WEIGHTS, delta=1e9)[0] == squared_error(outputs, VALUES, WEIGHTS)[0]


@every_weight
@every_case
def test_gradient_agrees_with_central_differences(loss, targets, options, weight):
    outputs = LOGITS.copy()
    gradient = loss(outputs, targets, weight, **options)[1]
    expected = central_differences(lambda: loss(outputs, targets, weight, **options)[0], outputs)
    assert_same_gradient(gradient, expected)


@every_weight
@every_case
def test_float32_is_computed_in_float64_and_rounded_once(loss, targets, options, weight):
    outputs = LOGITS.astype(np.float32)
    targets = np.float32(targets) if targets.ndim == 2 else targets
    value, gradient = loss(outputs, targets, weight, **options)
    value_64, gradient_64 = loss(outputs.astype(np.float64), targets, weight, **options)
    assert value == value_64 and type(value) is float
    assert_same_bits(gradient, gradient_64.astype(np.float32))


@pytest.mark.parametrize("loss", (binary_cross_entropy, squared_error, huber))
def test_outputs_of_a_sample_may_have_any_shape(loss):
    flat = loss(LOGITS, PROBABILITIES, WEIGHTS)
    value, gradient = loss(LOGITS.reshape(N, 2, 2), PROBABILITIES.reshape(N, 2, 2), WEIGHTS)
    assert value == flat[0]
    assert_same_bits(gradient, flat[1].reshape(N, 2, 2))
    assert loss(LOGITS[:, 0], PROBABILITIES[:, 0])[0] == loss(LOGITS[:, :1], PROBABILITIES[:, :1])[0]


# ---------------------------------------------------------------- weights and order


@every_case
def test_equal_weights_give_the_bits_of_no_weights(loss, targets, options, dtype):
    value, gradient = loss(LOGITS.astype(dtype), targets, **options)
    weighted_value, weighted_gradient = loss(LOGITS.astype(dtype), targets, np.ones(N), **options)
    assert value == weighted_value
    assert_same_bits(weighted_gradient, gradient)


@every_case
def test_a_weight_counts_as_repetition(loss, targets, options):
    counts = np.array([3, 1, 0, 2, 5])
    rows = np.repeat(np.arange(N), counts)
    value, gradient = loss(LOGITS, targets, counts, **options)
    repeated_value, repeated_gradient = loss(LOGITS[rows], targets[rows], **options)
    assert value == pytest.approx(repeated_value, rel=1e-15)
    sums = np.zeros_like(LOGITS)
    np.add.at(sums, rows, repeated_gradient)
    np.testing.assert_allclose(gradient, sums, rtol=1e-14)


@every_case
@pytest.mark.parametrize("value", (nan, inf, -inf))
def test_a_sample_of_weight_0_is_absent_whatever_it_holds(loss, targets, options, value):
    outputs = LOGITS.copy()
    outputs[2] = value
    rows = [0, 1, 3, 4]
    total, gradient = loss(outputs, targets, WEIGHTS, **options)
    expected_total, expected = loss(LOGITS[rows], targets[rows], WEIGHTS[rows], **options)
    assert total == expected_total
    assert_same_bits(gradient[rows], expected)
    assert_same_bits(gradient[2], np.zeros(4))


@every_weight
@every_case
def test_order_of_samples_does_not_matter(loss, targets, options, weight):
    order = [4, 2, 0, 3, 1]
    value, gradient = loss(LOGITS, targets, weight, **options)
    shuffled = loss(LOGITS[order], targets[order], None if weight is None else weight[order], **options)
    assert value == shuffled[0]
    assert_same_bits(gradient[order], shuffled[1])


# ---------------------------------------------------------------- extreme values


def test_huge_logits_stay_finite():
    loss, gradient = softmax_cross_entropy(np.array([[1e4, -1e4]]), np.array([1]))
    assert loss == 2e4
    np.testing.assert_array_equal(gradient, [[1, -1]])
    loss, gradient = binary_cross_entropy([[1e4, -1e4, 1e308]], [[0, 0, 1]])
    assert loss == pytest.approx(1e4 / 3, rel=1e-15)
    np.testing.assert_array_equal(gradient, [[1 / 3, 0, 0]])


def test_a_class_that_is_impossible_costs_nothing_unless_it_is_the_right_one_or_smoothed():
    logits = np.array([[0.0, 0.0, -inf]])
    assert softmax_cross_entropy(logits, [0])[0] == pytest.approx(log(2), rel=1e-15)
    assert softmax_cross_entropy(logits, [2])[0] == inf
    assert softmax_cross_entropy(logits, [0], label_smoothing=0.1)[0] == inf
    np.testing.assert_array_equal(softmax_cross_entropy(logits, [2])[1], [[0.5, 0.5, -1]])


@every_case
def test_nan_gives_nan(loss, targets, options):
    outputs = LOGITS.copy()
    outputs[1, 2] = nan
    value, gradient = loss(outputs, targets, **options)
    assert np.isnan(value) and np.isnan(gradient[1, 2])
    assert np.isfinite(gradient[[0, 2, 3, 4]]).all()


def test_a_sum_beyond_the_largest_double_is_infinite():
    assert squared_error([1.5e154, 1.5e154], [0, 0])[0] == inf
    assert squared_error([1e300], [0])[0] == inf
    assert huber([1e300, 1e300], [0, 0])[0] == 1e300


def test_binary_cross_entropy_is_accurate_where_it_is_tiny(isa):
    """Loss log(1 + exp(-x)) and gradient -1 / (1 + exp(x)) of a right answer, against 400 digits."""
    with localcontext(prec=400):
        for x in [*np.linspace(-3, 3, 61), 1e-9, 0.4, 0.88, 10, 36, 37, 50, 700]:
            power = (-Decimal(float(x))).exp()
            loss, gradient = binary_cross_entropy([x], [1])
            assert abs(Decimal(loss) / (1 + power).ln() - 1) < Decimal(6e-16), x
            assert abs(Decimal(gradient[0]) / -(power / (1 + power)) - 1) < Decimal(6e-16), x
    assert binary_cross_entropy([740.0], [1])[0] == pytest.approx(exp(-740), rel=0.01)


# ---------------------------------------------------------------- bits


def large_case(loss, targets, dtype, rng):
    outputs = np.concatenate([rng.normal(0, scale, (150, 13)) for scale in (1e-3, 1, 30, 300)]).astype(dtype)
    if targets.ndim == 1:
        return outputs, rng.integers(0, 13, 600), rng.random(600)
    return outputs, np.where(rng.random((600, 13)) < 0.5, rng.random((600, 13)), 1), rng.random(600)


@pytest.mark.skipif(not {"avx2", "avx512"} <= set(_kernels.available), reason="needs AVX2 and AVX-512")
@every_case
def test_same_bits_on_both_instruction_sets(loss, targets, options, dtype, every_isa, rng):
    case = large_case(loss, targets, dtype, rng)
    _kernels.use("avx2")
    value, gradient = loss(*case, **options)
    _kernels.use("avx512")
    assert value == loss(*case, **options)[0]
    assert_same_bits(loss(*case, **options)[1], gradient)


@pytest.mark.parametrize("loss", (squared_error, huber))
def test_distances_have_the_same_bits_on_every_instruction_set(loss, dtype, every_isa, rng):
    case = large_case(loss, VALUES, dtype, rng)
    value, gradient = loss(*case)
    for isa in every_isa:
        _kernels.use(isa)
        assert value == loss(*case)[0]
        assert_same_bits(loss(*case)[1], gradient)


@every_case
def test_baseline_differs_by_rounding_only(loss, targets, options, every_isa, rng):
    case = large_case(loss, targets, np.float64, rng)
    value, gradient = loss(*case, **options)
    _kernels.use(every_isa[0])
    assert loss(*case, **options)[0] == pytest.approx(value, rel=1e-14)
    np.testing.assert_allclose(loss(*case, **options)[1], gradient, rtol=1e-13, atol=1e-18)


@every_case
def test_gradient_of_a_sample_does_not_depend_on_the_others(loss, targets, options, dtype, isa, rng):
    outputs, targets, _ = large_case(loss, targets, dtype, rng)
    gradient = loss(outputs[:64], targets[:64], **options)[1]
    for i in (0, 7, 63):
        alone = loss(outputs[i:i + 1], targets[i:i + 1], **options)[1]
        assert_same_bits(gradient[i] * dtype(64), alone[0])


@every_case
def test_all_memory_is_written(loss, targets, options, nan_in_new_arrays, isa):
    for weight in (None, WEIGHTS):
        value, gradient = loss(LOGITS, targets, weight, **options)
        assert np.isfinite(value) and np.isfinite(gradient).all()


# ---------------------------------------------------------------- arguments


@every_case
def test_arguments_are_not_changed(loss, targets, options):
    arguments = LOGITS.copy(), targets.copy(), WEIGHTS.copy()
    loss(*arguments, **options)
    for argument, original in zip(arguments, (LOGITS, targets, WEIGHTS)):
        np.testing.assert_array_equal(argument, original)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@every_case
def test_any_kind_of_array_gives_the_same(loss, targets, options, kind, dtype):
    outputs = LOGITS.astype(dtype)
    value, gradient = loss(outputs, targets, WEIGHTS, **options)
    other = loss(kind(outputs), kind(targets), kind(WEIGHTS), **options)
    assert value == other[0]
    assert_same_bits(other[1], gradient)


@pytest.mark.parametrize("kind", (np.uint8, np.int8, np.int32, np.uint64))
def test_any_integers_are_labels(kind):
    assert softmax_cross_entropy(LOGITS, LABELS.astype(kind))[0] == softmax_cross_entropy(LOGITS, LABELS)[0]
    assert softmax_cross_entropy(LOGITS.tolist(), LABELS.tolist())[0] == softmax_cross_entropy(LOGITS, LABELS)[0]


@pytest.mark.parametrize("labels, place", [([0, 1, 2, 3, 4], "4] = 4"), ([0, 1, 2, -1, 0], "3] = -1"),
                                           (np.array([2**64 - 1, 0, 0, 0, 0], np.uint64), "0] = 18446744073709551615")])
def test_labels_out_of_range_are_an_error(labels, place):
    with pytest.raises(ValueError, match=r"^softmax_cross_entropy: targets must be class numbers from 0 to 3, "
                                         rf"got targets\[{place}"):
        softmax_cross_entropy(LOGITS, labels)


@pytest.mark.parametrize("value", (-0.001, 1.001, nan, inf))
def test_targets_that_are_no_probabilities_are_an_error(value):
    targets = PROBABILITIES.copy()
    targets[3, 2] = value
    with pytest.raises(ValueError, match=r"^binary_cross_entropy: targets must be in \[0, 1\], "
                                         rf"got targets\[3, 2\] = {value}"):
        binary_cross_entropy(LOGITS, targets)


@pytest.mark.parametrize("loss", (squared_error, huber))
@pytest.mark.parametrize("value", (nan, inf, -inf))
def test_targets_that_are_not_finite_are_an_error(loss, value):
    targets = VALUES.copy()
    targets[0, 3] = value
    with pytest.raises(ValueError, match=rf"^{loss.__name__}: targets must be finite, got targets\[0, 3\] = {value}"):
        loss(LOGITS, targets)


@every_case
def test_shapes_that_do_not_fit_are_an_error(loss, targets, options):
    name = loss.__name__
    for wrong in (targets[:4], targets[..., None], targets[:0], 1):
        with pytest.raises(ValueError, match=f"^{name}: targets must have (the )?shape"):
            loss(LOGITS, wrong, **options)
    for empty in (np.empty((0, 4)), np.empty((N, 0)), 1.0):
        with pytest.raises(ValueError, match=f"^{name}: outputs must hold at least one sample"):
            loss(empty, targets, **options)
    for wrong in (WEIGHTS[:4], WEIGHTS[:, None], 1.0):
        with pytest.raises(ValueError, match=rf"^{name}: sample_weight must have shape \(5,\)"):
            loss(LOGITS, targets, wrong, **options)


@every_case
@pytest.mark.parametrize("weight", ([0] * 5, [1, 1, -1, 1, 1], [1, 1, nan, 1, 1], [nan, 1, 1, 1, 1],
                                    [inf, 1, 1, 1, 1], [1e308] * 5))
def test_weights_that_make_no_mean_are_an_error(loss, targets, options, weight):
    with pytest.raises(ValueError, match=rf"^{loss.__name__}: sample_weight must be finite numbers >= 0"):
        loss(LOGITS, targets, weight, **options)


def test_other_errors():
    with pytest.raises(ValueError, match=r"outputs must have 2 dimensions \(N, n_classes\), got shape \(5, 2, 2\)"):
        softmax_cross_entropy(LOGITS.reshape(N, 2, 2), LABELS)
    with pytest.raises(TypeError, match=r"targets must be integers, got dtype float64; use targets.astype\(int\)"):
        softmax_cross_entropy(LOGITS, LABELS * 1.0)
    for smoothing in (-0.1, 1.1, nan, "x", None, True):
        with pytest.raises((TypeError, ValueError), match=r"label_smoothing must be a number in \[0, 1\], got"):
            softmax_cross_entropy(LOGITS, LABELS, label_smoothing=smoothing)
    for delta in (0, -1, nan, "x", None):
        with pytest.raises((TypeError, ValueError), match="^huber: delta must be a number > 0 or infinity, got"):
            huber(LOGITS, VALUES, delta=delta)
    with pytest.raises(TypeError, match="^squared_error: outputs is a masked array"):
        squared_error(np.ma.ones((5, 4)), VALUES)
    with pytest.raises(TypeError, match="^squared_error: unsupported dtype complex128 for targets"):
        squared_error(LOGITS, VALUES * 1j)


# ---------------------------------------------------------------- peers

PEERS = {
    "softmax": lambda f, x, t: f.cross_entropy(x, t, reduction="none"),
    "smoothed": lambda f, x, t: f.cross_entropy(x, t, reduction="none", label_smoothing=0.1),
    "uniform": lambda f, x, t: f.cross_entropy(x, t, reduction="none", label_smoothing=1.0),
    "binary": lambda f, x, t: f.binary_cross_entropy_with_logits(x, t, reduction="none").mean(dim=1),
    "probabilities": lambda f, x, t: f.binary_cross_entropy_with_logits(x, t, reduction="none").mean(dim=1),
    "squared": lambda f, x, t: f.mse_loss(x, t, reduction="none").mean(dim=1) / 2,
    "huber": lambda f, x, t: f.huber_loss(x, t, reduction="none").mean(dim=1),
    "narrow_huber": lambda f, x, t: f.huber_loss(x, t, reduction="none", delta=0.25).mean(dim=1),
}


@every_weight
@pytest.mark.parametrize("case", CASES)
def test_loss_agrees_with_pytorch(case, weight, dtype):
    torch = pytest.importorskip("torch")
    loss, targets, options = CASES[case]
    outputs = LOGITS.astype(dtype)
    leaf = torch.tensor(outputs, requires_grad=True)
    truth = torch.tensor(targets if targets.ndim == 1 else targets.astype(dtype))
    losses = PEERS[case](torch.nn.functional, leaf, truth)
    factors = torch.tensor(np.ones(N, dtype) if weight is None else weight.astype(dtype))
    expected = (losses * factors).sum() / factors.sum()
    expected.backward()
    value, gradient = loss(outputs, targets, weight, **options)
    rtol = 1e-13 if dtype == np.float64 else 1e-5
    assert value == pytest.approx(expected.item(), rel=rtol)
    np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=rtol, atol=rtol / 100)


def test_mean_is_that_of_pytorch():
    """Over samples and outputs, for one output and for many."""
    torch = pytest.importorskip("torch")
    peers = torch.nn.functional
    x, t, labels = torch.tensor(LOGITS), torch.tensor(PROBABILITIES), torch.tensor(LABELS)
    for ours, theirs in ((binary_cross_entropy(LOGITS, PROBABILITIES), peers.binary_cross_entropy_with_logits(x, t)),
                         (squared_error(LOGITS, PROBABILITIES), peers.mse_loss(x, t) / 2),
                         (huber(LOGITS, PROBABILITIES), peers.huber_loss(x, t)),
                         (softmax_cross_entropy(LOGITS, LABELS), peers.cross_entropy(x, labels))):
        assert ours[0] == pytest.approx(theirs.item(), rel=1e-14)


@every_weight
def test_losses_agree_with_scikit_learn(weight):
    metrics = pytest.importorskip("sklearn.metrics")
    expected = metrics.mean_squared_error(VALUES, LOGITS, sample_weight=weight) / 2
    assert squared_error(LOGITS, VALUES, weight)[0] == pytest.approx(expected, rel=1e-14)
    probabilities = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    expected = metrics.log_loss(LABELS, probabilities, sample_weight=weight)
    assert softmax_cross_entropy(LOGITS, LABELS, weight)[0] == pytest.approx(expected, rel=1e-14)
    labels, probabilities = PROBABILITIES.round().astype(int), 1 / (1 + np.exp(-LOGITS))
    expected = np.mean([metrics.log_loss(labels[:, k], probabilities[:, k], sample_weight=weight, labels=[0, 1])
                        for k in range(4)])
    assert binary_cross_entropy(LOGITS, labels, weight)[0] == pytest.approx(expected, rel=1e-14)


def test_outputs_of_too_many_elements_are_refused_before_they_are_copied():
    outputs = np.broadcast_to(np.float32(0), (2**45, 1))
    with pytest.raises(ValueError, match="outputs must have at most"):
        squared_error(outputs, outputs)
