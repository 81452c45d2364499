"""ReLU and the softmax: values, extreme values, accuracy of exp and log, equal bits."""

from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cyconv
from cyconv import _kernels
from cyconv.selftest.arrays import KINDS, assert_same_bits
from cyconv.selftest.differences import assert_same_gradient, central_differences

INF, NAN, TINY = np.inf, np.nan, 5e-324

# ---------------------------------------------------------------- relu


@pytest.mark.parametrize("x, y", [
    (-1, 0), (-0.0, 0.0), (0.0, 0.0), (2, 2), (INF, INF), (-INF, 0), (NAN, NAN), (TINY, TINY), (-TINY, 0),
])
@pytest.mark.parametrize("n", [1, 3, 16, 37])
def test_relu_of_every_kind_of_number(x, y, n, isa):
    assert_same_bits(cyconv.relu(np.full(n, x, float)), np.full(n, y, float))


def test_relu_keeps_shape_and_dtype(dtype):
    for shape in ((), (0,), (3,), (2, 0, 4), (2, 3, 4, 5)):
        y = cyconv.relu(np.full(shape, -1, dtype))
        assert y.shape == shape and y.dtype == dtype and not y.any()


def test_relu_backward_lets_pass_where_the_result_is_positive(isa, dtype):
    x = np.array([-1, -0.0, 0.0, TINY, 2, INF, -INF], dtype)
    grad_out = np.arange(1, 8).astype(dtype)
    expected = np.where(x > 0, grad_out, dtype(0))
    assert_same_bits(cyconv.relu_backward(grad_out, x), expected)
    assert_same_bits(cyconv.relu_backward(grad_out, cyconv.relu(x)), expected)


def test_relu_has_the_same_bits_for_any_threads(isa, threads_at_any_size, rng):
    x, grad_out = rng.standard_normal((2, 1001))
    for n_threads in (2, 3, 7):
        assert_same_bits(cyconv.relu(x, n_threads=n_threads), cyconv.relu(x))
        assert_same_bits(cyconv.relu_backward(grad_out, x, n_threads=n_threads), cyconv.relu_backward(grad_out, x))


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_array_gives_the_same(kind, dtype, rng):
    x, grad_out = rng.standard_normal((2, 1, 5, 6)).astype(dtype)
    x, changed = x.copy(), KINDS[kind](x)
    assert_same_bits(cyconv.relu(changed), cyconv.relu(x))
    assert_same_bits(cyconv.relu_backward(KINDS[kind](grad_out), changed), cyconv.relu_backward(grad_out, x))
    for axis in (0, 1, 2):
        assert_same_bits(cyconv.softmax(changed, axis), cyconv.softmax(x, axis))
        assert_same_bits(cyconv.log_softmax(changed, axis), cyconv.log_softmax(x, axis))


def test_relu_writes_to_out_and_in_place(dtype, rng):
    x = rng.standard_normal((3, 4)).astype(dtype)
    expected, out = np.maximum(x, 0), np.full((3, 4), np.nan, dtype)
    assert cyconv.relu(x, out=out) is out
    assert_same_bits(out, expected)
    assert cyconv.relu(x, out=x) is x
    assert_same_bits(x, expected)


@pytest.mark.parametrize("shift", [-3, -1, 1, 3])
def test_out_may_overlap_the_input(shift, rng):
    memory = rng.standard_normal(40)
    x, out = memory[5:35], memory[5 + shift:35 + shift]
    expected = np.maximum(x, 0)
    assert cyconv.relu(x, out=out) is out
    assert_same_bits(out, expected)


@pytest.mark.parametrize("out", [
    np.empty((3, 4)), np.empty((4, 3), np.float32), np.empty((4, 6))[:, ::2], [[0.0] * 3] * 4,
], ids=range(4))
def test_out_that_does_not_fit_is_refused(out):
    with pytest.raises(ValueError, match="^relu: out must be "):
        cyconv.relu(np.ones((4, 3)), out=out)


def test_errors_of_relu():
    with pytest.raises(ValueError, match=r"^relu_backward: grad_out must have shape \(3,\), got \(2,\)"):
        cyconv.relu_backward([1, 2], [1, 2, 3])
    with pytest.raises(TypeError, match=r"^relu: unsupported dtype complex128 for x"):
        cyconv.relu([1j])
    with pytest.raises(TypeError, match=r"^relu: x is a masked array"):
        cyconv.relu(np.ma.ones(3))


# ---------------------------------------------------------------- softmax: extreme values


@pytest.mark.parametrize("x, y, log_y", [
    ([0, 0], [.5, .5], [-np.log(2)] * 2),
    ([7], [1], [0]),
    ([1e308], [1], [0]),
    ([0, 1000], [0, 1], [-1000, 0]),
    ([-745, 0], [TINY, 1], [-745, 0]),
    ([-746, 0], [0, 1], [-746, 0]),
    ([700, 1445], [TINY, 1], [-745, 0]),
    ([1e308, 1e308], [.5, .5], [-np.log(2)] * 2),
    ([1e308, -1e308], [1, 0], [0, -INF]),
    ([-1e308, -1e308], [.5, .5], [-np.log(2)] * 2),
    ([TINY, 0], [.5, .5], [-np.log(2)] * 2),
    ([-INF, 3], [0, 1], [-INF, 0]),
    ([-INF, 3, -INF, 3], [0, .5, 0, .5], [-INF, -np.log(2), -INF, -np.log(2)]),
    ([-INF, -INF], [NAN, NAN], [NAN, NAN]),
    ([INF, 3], [NAN, NAN], [NAN, NAN]),
    ([INF, INF], [NAN, NAN], [NAN, NAN]),
    ([INF, -INF], [NAN, NAN], [NAN, NAN]),
    ([NAN, 3], [NAN, NAN], [NAN, NAN]),
    ([3, NAN, INF], [NAN] * 3, [NAN] * 3),
])
def test_softmax_of_extreme_values(x, y, log_y, isa):
    np.testing.assert_array_equal(cyconv.softmax(np.array(x, float)), y)
    np.testing.assert_array_equal(cyconv.log_softmax(np.array(x, float)), log_y)


@pytest.mark.parametrize("x, y", [([-103, 0], [np.float32(1e-45), 1]), ([-104, 0], [0, 1]), ([3e38, -3e38], [1, 0])])
def test_softmax_of_extreme_float32(x, y, isa):
    np.testing.assert_array_equal(cyconv.softmax(np.array(x, np.float32)), np.array(y, np.float32))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 4)])
def test_softmax_of_nothing(shape):
    for function in (cyconv.softmax, cyconv.log_softmax):
        assert function(np.ones(shape)).shape == shape


@pytest.mark.parametrize("function", [cyconv.softmax, cyconv.log_softmax])
def test_axis(function, rng):
    x = rng.standard_normal((3, 4, 5))
    for axis in (-3, -2, -1, 0, 1, 2):
        y = function(x, axis)
        assert y.flags.c_contiguous
        assert_same_bits(y, np.moveaxis(function(np.moveaxis(x, axis, -1)), -1, axis))
    for axis in (3, -4, 1.0, None, True, (0, 1)):
        with pytest.raises(ValueError, match=rf"^{function.__name__}: axis must be an int from -3 to 2 .*, got"):
            function(x, axis)
    with pytest.raises(ValueError, match=rf"^{function.__name__}: x must have at least one axis, got a single number"):
        function(1.0)


def test_row_of_a_softmax_does_not_depend_on_the_others(isa, dtype, rng):
    x = (10 * rng.standard_normal((20, 13))).astype(dtype)
    for function in (cyconv.softmax, cyconv.log_softmax):
        for i in range(20):
            assert_same_bits(function(x)[i], function(x[i]))


# ---------------------------------------------------------------- softmax: accuracy


def exact_softmax(row):
    """softmax and log_softmax of a row as decimals of 50 digits."""
    powers = [Decimal(float(v)).exp() for v in row]
    return [p / sum(powers) for p in powers], [(p / sum(powers)).ln() for p in powers]


def errors(actual, exact, unit=None):
    """Distance of each result from the exact one, in units of the last place, or of ``unit``."""
    units = [Decimal(float(np.spacing(np.abs(a)) if unit is None else unit)) for a in actual]
    return [float(abs(Decimal(float(a)) - e) / u) for a, e, u in zip(actual, exact, units)]


@pytest.fixture
def fifty_digits():
    with localcontext(prec=50, Emin=-10**6, Emax=10**6):
        yield


def rows_of_softmax(rng, dtype):
    """Differences, none of which is rounded, from everywhere in the range of exp and its reduction points."""
    steps = np.log(2) * (np.arange(-1070, 0, 13) + rng.choice([-.5, -.4999, 0, .0001, .5], 83))
    low = [-103.0, 0.0] if dtype == np.float32 else [-744.5, 0.0]
    singles = np.concatenate([steps, rng.uniform(-40, 0, 100), -(10.0 ** rng.uniform(-12, 0, 50))])
    longer = np.round(rng.normal(0, 3000, (40, 10))) / 1024
    return [np.array(row, dtype) for row in [*([x, 0.0] for x in singles), low, *longer]]


def test_softmax_is_within_four_units_of_the_last_place(isa, dtype, rng, fifty_digits):
    """Powers, sum and quotient err by one each; float32 is computed in float64 and rounded once."""
    limit = 4 if dtype == np.float64 else 0.501
    for row in rows_of_softmax(rng, dtype):
        assert max(errors(cyconv.softmax(row), exact_softmax(row)[0])) <= limit, row


def test_log_softmax_is_within_two_units_of_its_largest_term(isa, dtype, rng, fifty_digits):
    for row in rows_of_softmax(rng, dtype):
        exact = exact_softmax(row)[1]
        unit = np.spacing(dtype(max(1, *map(abs, map(float, exact)))))
        assert max(errors(cyconv.log_softmax(row), exact, unit)) <= 2, row


def test_logarithm_is_within_one_unit_of_the_last_place(isa, fifty_digits):
    """n equal logits give -log(n)."""
    for n in [*range(2, 200), 1023, 1024, 1025, 4097, 10_000]:
        assert errors([cyconv.log_softmax(np.zeros(n))[0]], [-Decimal(n).ln()]) <= [1], n


def test_exponential_is_within_one_unit_of_the_last_place(isa, rng, fifty_digits):
    """Against a logit so much larger that the sum is its 1."""
    x = np.concatenate([rng.uniform(-745, -40, 400), -np.log(2) * np.arange(60, 1070, 10.5)])
    for v in x:
        assert errors(cyconv.softmax([v, 0.0])[:1], [Decimal(float(v)).exp()]) <= [1], v


def test_softmax_sums_to_one(isa, rng):
    y = cyconv.softmax(rng.normal(0, 20, (200, 50)))
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-14)


@pytest.mark.skipif(not {"avx2", "avx512"} <= set(_kernels.available), reason="needs AVX2 and AVX-512")
def test_softmax_has_the_same_bits_on_both_instruction_sets(every_isa, dtype, rng):
    """Unlike the exp and log of C and of NumPy."""
    x = np.concatenate([rng.normal(0, scale, (500, 37)) for scale in (1e-3, 1, 30, 300)]).astype(dtype)
    x[rng.random(x.shape) < .001] = NAN
    x[rng.random(x.shape) < .01] = -INF
    _kernels.use("avx2")
    expected = cyconv.softmax(x), cyconv.log_softmax(x)
    _kernels.use("avx512")
    assert_same_bits(cyconv.softmax(x), expected[0])
    assert_same_bits(cyconv.log_softmax(x), expected[1])


@given(st.lists(st.floats(width=64), min_size=1, max_size=9))
def test_softmax_is_a_distribution_or_nan(row):
    y, log_y = cyconv.softmax(row), cyconv.log_softmax(row)
    if np.isnan(row).any() or INF in row or max(row) == -INF:
        assert np.isnan(y).all() and np.isnan(log_y).all()
    else:
        assert (y >= 0).all() and abs(y.sum() - 1) < 1e-14
        assert (log_y <= 0).all()
        assert y.max() == y[np.argmax(row)] and log_y.max() == log_y[np.argmax(row)]


# ---------------------------------------------------------------- softmax: gradients


@pytest.mark.parametrize("function, backward", [
    (cyconv.softmax, cyconv.softmax_backward), (cyconv.log_softmax, cyconv.log_softmax_backward)])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gradient_of_a_softmax_agrees_with_central_differences(function, backward, axis, isa, rng):
    x, dy = rng.standard_normal((2, 3, 4, 5))
    expected = central_differences(lambda: float((function(x, axis) * dy).sum()), x)
    assert_same_gradient(backward(dy, function(x, axis), axis), expected)


def test_gradient_of_a_softmax_worked_by_hand(isa, dtype):
    y = np.array([[.25, .75]], dtype)
    assert_same_bits(cyconv.softmax_backward(np.array([[4, 0]], dtype), y), np.array([[.75, -.75]], dtype))
    assert_same_bits(cyconv.log_softmax_backward(np.array([[4, -4]], dtype), y), np.array([[4, -4]], dtype))


@pytest.mark.parametrize("backward", [cyconv.softmax_backward, cyconv.log_softmax_backward])
def test_errors_of_softmax_gradients(backward):
    name = backward.__name__
    with pytest.raises(ValueError, match=rf"^{name}: grad_out must have shape \(2, 3\), got \(3,\)"):
        backward(np.ones(3), np.ones((2, 3)))
    with pytest.raises(ValueError, match=rf"^{name}: axis must be an int from -2 to 1 .*, got 2"):
        backward(np.ones((2, 3)), np.ones((2, 3)), 2)
    assert backward(np.ones((0, 3)), np.ones((0, 3))).shape == (0, 3)
