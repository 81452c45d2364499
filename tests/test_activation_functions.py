"""Elementwise activations and their gradients: values, extreme values, accuracy, bits, options, PyTorch."""

from functools import lru_cache

import numpy as np
import pytest

import cyconv
from cyconv import _kernels
from cyconv.selftest.arrays import KINDS, assert_same_bits
from cyconv.selftest.differences import assert_same_gradient, central_differences

INF, NAN = np.inf, np.nan
SCALE, ALPHA = 1.0507009873554804934, 1.6732632423543772848

# name -> function, gradient, what the gradient takes, arguments
CASES = {
    "relu": (cyconv.relu, cyconv.relu_backward, "y", {}),
    "leaky_relu": (cyconv.leaky_relu, cyconv.leaky_relu_backward, "x", {}),
    "leaky_relu_steep": (cyconv.leaky_relu, cyconv.leaky_relu_backward, "x", {"negative_slope": -1.5}),
    "elu": (cyconv.elu, cyconv.elu_backward, "x", {}),
    "elu_half": (cyconv.elu, cyconv.elu_backward, "x", {"alpha": 0.5}),
    "selu": (cyconv.selu, cyconv.selu_backward, "x", {}),
    "gelu": (cyconv.gelu, cyconv.gelu_backward, "x", {}),
    "gelu_tanh": (cyconv.gelu, cyconv.gelu_backward, "x", {"approximate": "tanh"}),
    "silu": (cyconv.silu, cyconv.silu_backward, "x", {}),
    "sigmoid": (cyconv.sigmoid, cyconv.sigmoid_backward, "y", {}),
    "tanh": (cyconv.tanh, cyconv.tanh_backward, "y", {}),
}
SMOOTH = ["elu", "selu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"]
every_case = pytest.mark.parametrize("name", CASES)


def value(name, x, **options):
    function, _, _, arguments = CASES[name]
    return function(x, **arguments, **options)


def gradient(name, dy, x, **options):
    _, backward, takes, arguments = CASES[name]
    return backward(dy, x if takes == "x" else value(name, x), **arguments, **options)


def points(dtype, n=300):
    """Numbers from everywhere: around 0, small, large, beyond all limits, and those that are not finite."""
    rng = np.random.default_rng(7)
    edge = 110 if dtype == np.float32 else 770
    powers = 10.0 ** rng.uniform(-45 if dtype == np.float32 else -323, 38, n) * rng.choice([-1, 1], n)
    special = [0.0, -0.0, INF, -INF, NAN, np.finfo(dtype).max, np.finfo(dtype).min, np.finfo(dtype).tiny]
    return np.concatenate([rng.normal(0, 1, n), rng.normal(0, 5, n), rng.uniform(-edge, edge / 4, n), powers,
                           special]).astype(dtype)


# ---------------------------------------------------------------- values

@pytest.mark.parametrize("name, x, y", [
    ("leaky_relu", -2.0, -0.02), ("leaky_relu", 3.0, 3.0), ("leaky_relu_steep", -2.0, 3.0),
    ("elu", -np.log(2), -0.5), ("elu", 2.0, 2.0), ("elu_half", -np.log(2), -0.25),
    ("selu", 1.0, SCALE), ("selu", -np.log(2), -0.5 * SCALE * ALPHA),
    ("gelu", 1.0, 0.8413447460685429), ("gelu", -1.0, -0.15865525393145707),
    ("gelu_tanh", 1.0, 0.8411919906082768), ("gelu_tanh", -1.0, -0.15880800939172324),
    ("silu", np.log(3), 0.75 * np.log(3)), ("sigmoid", -np.log(3), 0.25), ("tanh", -np.log(2), -0.6),
])
@pytest.mark.parametrize("n", [1, 3, 16, 37, 64])
def test_values_worked_by_hand(name, x, y, n, isa, dtype):
    np.testing.assert_allclose(value(name, np.full(n, x, dtype)), np.full(n, y), rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name, below, above", [
    ("relu", 0.0, INF), ("leaky_relu", -INF, INF), ("elu", -1.0, INF), ("selu", -SCALE * ALPHA, INF),
    ("gelu", NAN, INF), ("gelu_tanh", NAN, INF), ("silu", NAN, INF), ("sigmoid", 0.0, 1.0), ("tanh", -1.0, 1.0),
])
def test_infinite_and_missing_values(name, below, above, isa, dtype):
    y = value(name, np.array([-INF, INF, NAN], dtype))
    np.testing.assert_array_equal(y, np.array([below, above, NAN], dtype))


@every_case
def test_finite_numbers_never_give_nan(name, isa, dtype):
    x = points(dtype)
    x = x[np.isfinite(x)]
    assert np.isfinite(value(name, x[np.abs(x) < 1e38])).all()
    assert not np.isnan(value(name, x)).any()
    assert not np.isnan(gradient(name, np.ones_like(x), x)).any()


@every_case
def test_nan_stays_nan_in_values(name, isa, dtype):
    assert np.isnan(value(name, np.full(20, NAN, dtype))).all()


@pytest.mark.parametrize("name", ["leaky_relu", "elu", "selu", "gelu", "gelu_tanh", "silu", "tanh"])
def test_the_sign_of_zero_is_kept(name, isa, dtype):
    zeros = np.array([0.0, -0.0] * 9, dtype)
    assert_same_bits(value(name, zeros), zeros)


@pytest.mark.parametrize("name, slope", [("elu", 1), ("tanh", 1), ("gelu", 0.5), ("gelu_tanh", 0.5), ("silu", 0.5)])
def test_tiny_numbers_keep_their_digits(name, slope, isa, dtype):
    x = np.float64(10.0) ** -np.arange(10, 37) * np.resize([1, -1], 27)
    x = x.astype(dtype)
    np.testing.assert_allclose(value(name, x), slope * x, rtol=3e-7 if dtype == np.float32 else 1e-9)


@pytest.mark.parametrize("name", ["elu", "tanh", "leaky_relu"])
def test_numbers_below_the_normal_ones_are_not_lost(name, isa, dtype):
    x = np.full(5, np.nextafter(dtype(0), dtype(1)) * dtype(100), dtype)
    assert_same_bits(value(name, x), x)


def test_swish_is_another_name_of_silu():
    assert cyconv.swish is cyconv.silu and cyconv.swish_backward is cyconv.silu_backward


# ---------------------------------------------------------------- accuracy

@lru_cache
def exact(name, dtype):
    """Results for `points` by 60 digits, as pairs of the rounded number and the rest."""
    mp = pytest.importorskip("mpmath").mp.clone()
    mp.dps = 60

    def logistic(v):
        return 1 / (1 + mp.exp(-v))

    scale = mp.mpf("1.0507009873554804934193349852946")
    alpha = mp.mpf("1.6732632423543772848170429916717")
    cubic = 2 * mp.sqrt(2 / mp.pi)
    functions = {
        "elu": lambda v: v if v > 0 else mp.expm1(v),
        "selu": lambda v: scale * (v if v > 0 else alpha * mp.expm1(v)),
        "gelu": lambda v: v * mp.erfc(-v / mp.sqrt(2)) / 2,
        "gelu_tanh": lambda v: v * logistic(cubic * (v + mp.mpf("0.044715") * v**3)),
        "silu": lambda v: v * logistic(v),
        "sigmoid": logistic,
        "tanh": mp.tanh,
    }
    x = points(dtype)
    x = x[np.isfinite(x) & (np.abs(x) < 1e30)]
    results = [functions[name](mp.mpf(float(v))) for v in x]
    near = np.array([float(r) for r in results]).astype(dtype)
    rest = np.array([float(r - mp.mpf(float(v))) for r, v in zip(results, near)])
    return x, near, rest


@pytest.mark.parametrize("name", SMOOTH)
def test_results_are_within_four_units_of_the_last_place(name, isa, dtype):
    """Anywhere: around 0, in the tails, and below the normal numbers."""
    x, near, rest = exact(name, dtype)
    errors = np.abs((value(name, x).astype(np.float64) - near) - rest) / np.spacing(np.abs(near))
    assert errors.max() < 4, (x[errors.argmax()], errors.max())


@pytest.mark.campaign
@pytest.mark.parametrize("name", SMOOTH)
def test_float32_of_all_sizes_is_within_four_units_of_the_last_place(name):
    """Every 1009th of all numbers, against float64."""
    special = pytest.importorskip("scipy.special")
    x = np.arange(0, 2**32, 1009).astype(np.uint32).view(np.float32)
    x = x[np.isfinite(x) & (np.abs(x) < 1e30)]
    v = x.astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):
        expected = {
            "elu": lambda: np.where(v > 0, v, np.expm1(np.minimum(v, 0))),
            "selu": lambda: np.where(v > 0, SCALE * v, SCALE * ALPHA * np.expm1(np.minimum(v, 0))),
            "gelu": lambda: v * special.ndtr(v),
            "gelu_tanh": lambda: v * special.expit(2 * np.sqrt(2 / np.pi) * (v + 0.044715 * v**3)),
            "silu": lambda: v * special.expit(v), "sigmoid": lambda: special.expit(v), "tanh": lambda: np.tanh(v),
        }[name]()
        unit = np.spacing(np.abs(expected.astype(np.float32))).astype(np.float64)
    errors = np.abs(value(name, x) - expected) / unit
    assert errors.max() < 4, (x[errors.argmax()], errors.max())


# ---------------------------------------------------------------- gradients

@every_case
def test_gradients_agree_with_central_differences(name, isa, rng):
    x = np.concatenate([rng.normal(0, 1.5, 60), rng.uniform(-12, 12, 20), [1e-3, -1e-3]])
    dy = rng.standard_normal(x.size)
    expected = central_differences(lambda: float((value(name, x) * dy).sum()), x)
    assert_same_gradient(gradient(name, dy, x), expected)


@pytest.mark.parametrize("name, below, above", [
    ("elu", 0, 1), ("selu", 0, SCALE), ("gelu", 0, 1), ("gelu_tanh", 0, 1), ("silu", 0, 1), ("sigmoid", 0, 0),
    ("tanh", 0, 0), ("leaky_relu", 0.01, 1),
])
def test_gradients_far_from_zero_are_the_limits(name, below, above, isa, dtype):
    x = np.array([-INF, -1e30, -2000, 2000, 1e30, INF], dtype)
    expected = np.array([below] * 3 + [above] * 3, dtype)
    np.testing.assert_array_equal(gradient(name, np.ones(6, dtype), x), expected)


@pytest.mark.parametrize("name, x, slope", [
    ("elu", -np.log(4), 0.25), ("gelu", 0.0, 0.5), ("gelu_tanh", 0.0, 0.5), ("silu", 0.0, 0.5), ("sigmoid", 0.0, 0.25),
    ("tanh", -np.log(2), 0.64), ("gelu", -10.0, -7.618400096464814e-22), ("silu", -50.0, -9.450874255023197e-21),
])
def test_gradients_worked_by_hand(name, x, slope, isa, dtype):
    """The tails too have relative accuracy."""
    result = gradient(name, np.full(9, 2, dtype), np.full(9, x, dtype))
    np.testing.assert_allclose(result, np.full(9, 2 * slope), rtol=8 * np.finfo(dtype).eps)


def test_gradient_of_leaky_relu_takes_the_result_too(rng):
    x, dy = rng.standard_normal((2, 50))
    assert_same_bits(cyconv.leaky_relu_backward(dy, cyconv.leaky_relu(x)), cyconv.leaky_relu_backward(dy, x))


# ---------------------------------------------------------------- bits

@every_case
def test_every_instruction_set_gives_the_same_bits(name, every_isa, dtype):
    x = points(dtype)
    dy = np.random.default_rng(3).standard_normal(x.size).astype(dtype)
    results = []
    for isa in every_isa:
        _kernels.use(isa)
        results.append((value(name, x), gradient(name, dy, x)))
    for result in results[1:]:
        assert_same_bits(result[0], results[0][0])
        assert_same_bits(result[1], results[0][1])


@every_case
def test_an_element_does_not_depend_on_its_place_or_the_threads(name, isa, dtype, threads_at_any_size):
    x = points(dtype)[:203]
    dy = x[::-1].copy()
    y, dx = value(name, x, n_threads=1), gradient(name, dy, x, n_threads=1)
    for n_threads in (2, 3, 7):
        assert_same_bits(value(name, x, n_threads=n_threads), y)
        assert_same_bits(gradient(name, dy, x, n_threads=n_threads), dx)
    for n in range(0, 70, 3):
        assert_same_bits(value(name, x[n:n + 5]), y[n:n + 5])
        assert_same_bits(gradient(name, dy[n:n + n], x[n:n + n]), dx[n:n + n])


# ---------------------------------------------------------------- options

@every_case
@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_array_gives_the_same(name, kind, dtype, rng):
    x, dy = rng.standard_normal((2, 1, 5, 6)).astype(dtype)
    x = x.copy()
    assert_same_bits(value(name, KINDS[kind](x)), value(name, x))
    assert_same_bits(gradient(name, KINDS[kind](dy), KINDS[kind](x)), gradient(name, dy, x))


@every_case
@pytest.mark.usefixtures("nan_in_new_arrays")
def test_every_element_is_written_and_shapes_are_kept(name, dtype):
    for shape in ((), (0,), (1,), (17,), (2, 0, 4), (2, 3, 4, 5)):
        x = np.full(shape, 0.5, dtype)
        for result in (value(name, x), gradient(name, x, x)):
            assert result.shape == shape and result.dtype == dtype and not np.isnan(result).any()


@every_case
def test_results_go_to_out_and_in_place(name, dtype, rng):
    x = rng.standard_normal((3, 7)).astype(dtype)
    expected, out = value(name, x), np.full((3, 7), NAN, dtype)
    assert value(name, x, out=out) is out
    assert_same_bits(out, expected)
    assert value(name, x, out=x) is x
    assert_same_bits(x, expected)


def test_integers_are_computed_as_floats():
    assert cyconv.sigmoid(np.array([0], np.int8)).dtype == np.float32
    assert cyconv.sigmoid([0]).dtype == np.float64


@pytest.mark.parametrize("call, error, message", [
    (lambda: cyconv.leaky_relu([1.0], "0.1"), TypeError,
     "^leaky_relu: negative_slope must be a finite number, got '0.1'"),
    (lambda: cyconv.leaky_relu([1.0], NAN), ValueError, "^leaky_relu: negative_slope must be a finite number, got nan"),
    (lambda: cyconv.elu([1.0], True), TypeError, "^elu: alpha must be a finite number, got True"),
    (lambda: cyconv.elu_backward([1.0], [1.0], INF), ValueError,
     "^elu_backward: alpha must be a finite number, got inf"),
    (lambda: cyconv.leaky_relu(np.zeros(1, np.float32), 1e300), ValueError,
     r"^leaky_relu: negative_slope must be a finite number, at most 3.4e\+38 in size, got 1e\+300"),
    (lambda: cyconv.gelu([1.0], "erf"), ValueError, "^gelu: approximate must be 'none' or 'tanh', got 'erf'"),
    (lambda: cyconv.gelu_backward([1.0], [1.0], None), ValueError, "^gelu_backward: approximate must be"),
    (lambda: cyconv.sigmoid([1j]), TypeError, "^sigmoid: unsupported dtype complex128 for x"),
    (lambda: cyconv.silu_backward([1.0], [1.0, 2.0]), ValueError, r"^silu_backward: grad_out must have shape \(2,\)"),
    (lambda: cyconv.tanh([1.0], out=np.empty(2)), ValueError, "^tanh: out must be a float64 array"),
    (lambda: cyconv.tanh_backward([1j], [1.0]), TypeError, "^tanh_backward: unsupported dtype complex128 for grad_out"),
])
def test_errors_name_function_argument_and_value(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---------------------------------------------------------------- PyTorch

@every_case
def test_values_and_gradients_agree_with_pytorch(name, dtype):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    function = {
        "leaky_relu_steep": lambda x: functional.leaky_relu(x, -1.5), "elu_half": lambda x: functional.elu(x, 0.5),
        "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"), "sigmoid": torch.sigmoid, "tanh": torch.tanh,
    }.get(name) or getattr(functional, name)
    x = np.concatenate([np.linspace(-8, 8, 401), [0.0, -0.0]]).astype(dtype)
    dy = np.cos(np.arange(x.size)).astype(dtype)
    tensor = torch.tensor(x, requires_grad=True)
    expected = function(tensor)
    expected.backward(torch.tensor(dy))
    tolerance = {"rtol": 4 * np.finfo(dtype).eps, "atol": 16 * np.finfo(dtype).eps}
    np.testing.assert_allclose(value(name, x), expected.detach().numpy(), **tolerance)
    np.testing.assert_allclose(gradient(name, dy, x), tensor.grad.numpy(), **tolerance)


@every_case
def test_special_values_are_those_of_pytorch(name):
    """In float64; its float32 makes gelu(inf) NaN."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    function = {
        "leaky_relu_steep": lambda x: functional.leaky_relu(x, -1.5), "elu_half": lambda x: functional.elu(x, 0.5),
        "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"), "sigmoid": torch.sigmoid, "tanh": torch.tanh,
    }.get(name) or getattr(functional, name)
    x = np.array([NAN, INF, -INF, 0.0, -0.0, 1e-322, -1e-322, 1e-310, 1e300, -1e300])
    y, expected = value(name, x), function(torch.tensor(x)).numpy()
    np.testing.assert_array_equal(y, expected)
    assert name == "relu" or (np.signbit(y) == np.signbit(expected))[3:].all()


def test_gelu_is_exact_where_pytorch_has_lost_all_digits():
    torch = pytest.importorskip("torch")
    x = np.array([-6.0], np.float32)
    assert torch.nn.functional.gelu(torch.tensor(x)).item() != pytest.approx(-5.919525928e-09, rel=1e-3)
    assert cyconv.gelu(x)[0] == pytest.approx(-5.919525928e-09, rel=1e-6)
