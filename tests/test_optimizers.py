"""Optimizers: steps worked by hand, plain NumPy's and PyTorch's steps, equal bits, penalty, clipping, state."""

import pickle
import tracemalloc
from fractions import Fraction
from math import inf, isnan, nan, sqrt

import numpy as np
import pytest

from cyconv import _kernels
from cyconv.optimizers import SGD, Adam, AdamW, RMSprop, clip_by_norm, clip_by_value
from cyconv.selftest.arrays import KINDS, assert_same_bits

# class, arguments, PyTorch's class, its arguments
OPTIMIZERS = [
    (SGD, {"momentum": 0.0}, "SGD", {}),
    (SGD, {"nesterov": False}, "SGD", {"momentum": 0.9}),
    (SGD, {"momentum": 0.7}, "SGD", {"momentum": 0.7, "nesterov": True}),
    (Adam, {}, "Adam", {}),
    (Adam, {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}, "Adam", {"betas": (0.5, 0.9), "eps": 1e-3}),
    (AdamW, {}, "AdamW", {}),
    (AdamW, {"weight_decay": 0.3}, "AdamW", {"weight_decay": 0.3}),
    (RMSprop, {}, "RMSprop", {}),
    (RMSprop, {"alpha": 0.5, "epsilon": 1e-3, "momentum": 0.8},
     "RMSprop", {"alpha": 0.5, "eps": 1e-3, "momentum": 0.8}),
]
every_optimizer = pytest.mark.parametrize(("kind", "arguments"), [case[:2] for case in OPTIMIZERS])
SIZES = (0, 1, 3, 4, 7, 8, 15, 16, 17, 33, 100)    # around the lanes of every instruction set


def gradients(steps=50, size=7):
    return np.random.default_rng(0).standard_normal((steps, size))


# ---------------------------------------------------------------- values


def positions(optimizer, *slopes):
    """Where a single parameter is after each step."""
    found = []
    for slope in slopes:
        optimizer.step(np.array([slope]))
        found.append(optimizer.vector[0])
    return found


def test_momentum_worked_by_hand():
    optimizer = SGD(np.array([1.0]), learning_rate=0.5, momentum=0.5, nesterov=False)
    assert positions(optimizer, 1.0, 1.0, -2.0) == [0.5, -0.25, 0.375]     # velocities -0.5, -0.75, 0.625


def test_nesterov_worked_by_hand():
    """Plus momentum * velocity - step of the same velocities."""
    optimizer = SGD(np.array([1.0]), learning_rate=0.5, momentum=0.5, nesterov=True)
    assert positions(optimizer, 1.0, 1.0, -2.0) == [0.25, -0.625, 0.6875]


def test_adam_worked_by_hand():
    vector = np.array([1.0])
    optimizer = Adam(vector, learning_rate=0.5, beta_1=0.5, beta_2=0.75, epsilon=0.25)
    optimizer.step(np.array([2.0]))             # mean 1 / 0.5 = 2, square 1 / 0.25 = 4
    assert vector[0] == pytest.approx(1 - 0.5 * 2 / (2 + 0.25), rel=1e-15)
    before = vector[0]
    optimizer.step(np.array([-1.0]))            # mean 0 / 0.75 = 0, square 1
    assert vector[0] == before
    optimizer.step(np.array([1.0]))             # mean 0.5 / 0.875, square 1 / (1 - 0.75**3)
    assert vector[0] == pytest.approx(before - 0.5 * (4 / 7) / (sqrt(64 / 37) + 0.25), rel=1e-15)


def test_adamw_shrinks_weights_and_no_biases():
    vector = np.array([1.0, -2.0, 4.0])
    optimizer = AdamW(vector, learning_rate=0.5, weight_decay=0.5, n_weights=2)
    optimizer.step(np.zeros(3))
    np.testing.assert_array_equal(vector, [0.75, -1.5, 4])
    optimizer.learning_rate = 0.25              # decay follows the rate
    optimizer.step(np.zeros(3))
    np.testing.assert_array_equal(vector, [0.65625, -1.3125, 4])


def test_rmsprop_worked_by_hand():
    optimizer = RMSprop(np.array([1.0]), learning_rate=0.5, alpha=0.75, epsilon=0.5)
    assert positions(optimizer, 1.0) == [0.5]                               # square 1/4: 0.5 * 1 / (0.5 + 0.5)
    optimizer = RMSprop(np.array([1.0]), learning_rate=0.5, alpha=0.75, epsilon=0.5, momentum=0.5)
    assert positions(optimizer, 1.0, 0.0)[0] == 0.5
    assert optimizer.vector[0] == 0.25                                      # velocity 0.5


@pytest.mark.parametrize(("kind", "arguments", "torch_kind", "torch_arguments"), OPTIMIZERS)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 2e-5), (np.float64, 1e-12)])
def test_steps_agree_with_pytorch(kind, arguments, torch_kind, torch_arguments, dtype, rtol):
    torch = pytest.importorskip("torch")
    vector = np.linspace(-1, 1, 7).astype(dtype)
    tensor = torch.tensor(vector.copy(), requires_grad=True)
    optimizer = kind(vector, learning_rate=0.01, **arguments)
    expected = getattr(torch.optim, torch_kind)([tensor], lr=0.01, **torch_arguments)
    for gradient in gradients().astype(dtype):
        optimizer.step(gradient)
        tensor.grad = torch.tensor(gradient)
        expected.step()
        np.testing.assert_allclose(vector, tensor.detach().numpy(), rtol=rtol, atol=rtol)


@pytest.mark.parametrize(("kind", "arguments", "torch_kind", "torch_arguments"),
                         [case for case in OPTIMIZERS if case[0] is not AdamW])
def test_penalty_is_the_weight_decay_of_pytorch(kind, arguments, torch_kind, torch_arguments):
    torch = pytest.importorskip("torch")
    vector = np.linspace(-1, 1, 7)
    tensor = torch.tensor(vector.copy(), requires_grad=True)
    optimizer = kind(vector, learning_rate=0.01, **arguments)
    expected = getattr(torch.optim, torch_kind)([tensor], lr=0.01, weight_decay=0.2, **torch_arguments)
    for gradient in gradients():
        optimizer.step(gradient, l2=0.2)
        tensor.grad = torch.tensor(gradient)
        expected.step()
    np.testing.assert_allclose(vector, tensor.detach().numpy(), rtol=1e-12)


# ---------------------------------------------------------------- bits


class InNumpy:
    """The same steps as operations on whole arrays, each of which rounds."""

    def __init__(self, optimizer):
        self.o = optimizer
        self.w = optimizer.vector.copy()
        self.a = np.zeros_like(self.w)
        self.b = np.zeros_like(self.w)
        self.t = 0

    def step(self, gradient, l2=0.0):
        gradient = gradient.copy()
        weights = slice(self.o.n_weights)
        if l2:
            gradient[weights] += self.w[weights] * self.w.dtype.type(l2)
        getattr(self, type(self.o).__name__)(gradient, weights)

    def SGD(self, g, weights):
        step = g * self.o.learning_rate
        self.a = self.a * self.o.momentum - step
        self.w = self.w - step + self.a * self.o.momentum if self.o.nesterov else self.w + self.a

    def Adam(self, g, weights):
        o, self.t = self.o, self.t + 1
        power_1, power_2 = np.cumprod([o.beta_1] * self.t)[-1], np.cumprod([o.beta_2] * self.t)[-1]
        self.a = self.a * o.beta_1 + g * (1 - o.beta_1)
        self.b = self.b * o.beta_2 + g * g * (1 - o.beta_2)
        root = np.sqrt(self.b) * float(1 / np.sqrt(1 - power_2)) + o.epsilon
        self.w = self.w - self.a / root * float(o.learning_rate / (1 - power_1))

    def AdamW(self, g, weights):
        self.w[weights] *= 1 - self.o.learning_rate * self.o.weight_decay
        self.Adam(g, weights)

    def RMSprop(self, g, weights):
        o = self.o
        self.a = self.a * o.alpha + g * g * (1 - o.alpha)
        self.b = self.b * o.momentum + g / (np.sqrt(self.a) + o.epsilon)
        self.w = self.w - self.b * o.learning_rate


@every_optimizer
@pytest.mark.parametrize("l2", (0.0, 0.3))
def test_steps_have_the_bits_of_numpy_on_every_instruction_set(kind, arguments, l2, dtype, isa, rng):
    for size in SIZES:
        for n_weights in (None, size // 2):
            vector = rng.standard_normal(size).astype(dtype)
            optimizer = kind(vector, learning_rate=0.01, n_weights=n_weights, **arguments)
            expected = InNumpy(optimizer)
            for gradient in gradients(5, size).astype(dtype):
                optimizer.step(gradient, l2=l2)
                expected.step(gradient, l2)
            assert_same_bits(vector, expected.w, size, n_weights)


@every_optimizer
def test_threads_do_not_change_a_bit(kind, arguments, dtype, isa, threads_at_any_size):
    for size in (5, 16, 1001):
        expected = None
        for n_threads in (1, 2, 3, 7):
            vector = np.linspace(-1, 1, size).astype(dtype)
            optimizer = kind(vector, n_weights=size // 3, **arguments)
            for gradient in gradients(5, size).astype(dtype):
                optimizer.step(gradient, l2=0.1, n_threads=n_threads)
            expected = vector if expected is None else expected
            assert_same_bits(vector, expected)


@every_optimizer
def test_nothing_beside_the_vector_is_written(kind, arguments, dtype, isa):
    for size in SIZES:
        memory = np.full(size + 64, 7, dtype)
        gradient = np.full(size + 64, nan, dtype)
        vector = memory[32:32 + size]
        gradient[32:32 + size] = gradients(1, size)[0]
        optimizer = kind(vector, **arguments)
        for _ in range(2):
            optimizer.step(gradient[32:32 + size])
        assert np.isfinite(vector).all()
        assert (memory[:32] == 7).all() and (memory[32 + size:] == 7).all()


@every_optimizer
def test_without_penalty_weights_and_biases_are_alike(kind, arguments):
    """Also those that are infinite or a negative zero."""
    start = np.array([inf, -0.0, 1, inf, -0.0, 1])
    optimizer = kind(start.copy(), n_weights=3, **arguments | ({"weight_decay": 0.0} if kind is AdamW else {}))
    optimizer.step(np.array([1, -0.0, 2, 1, -0.0, 2]), l2=0.0)
    assert_same_bits(optimizer.vector[:3], optimizer.vector[3:])
    assert not np.isnan(optimizer.vector).any()


# ---------------------------------------------------------------- state


@every_optimizer
def test_state_restores_the_very_same_steps(kind, arguments):
    vector = np.zeros(7)
    optimizer = kind(vector, **arguments)
    for gradient in gradients()[:10]:
        optimizer.step(gradient)
    copy, state, pickled = vector.copy(), optimizer.state(), pickle.dumps(optimizer)
    for gradient in gradients()[10:]:
        optimizer.step(gradient)
    restored = kind(copy, **arguments)
    restored.load_state(state)
    for other in (restored, pickle.loads(pickled)):
        for gradient in gradients()[10:]:
            other.step(gradient)
        assert_same_bits(other.vector, vector)


@every_optimizer
def test_state_is_plain_and_a_copy(kind, arguments):
    optimizer = kind(np.zeros(7), **arguments)
    optimizer.step(gradients()[0])
    state = optimizer.state()
    assert all(type(value) in (np.ndarray, float) for value in state.values())
    before = {name: np.copy(value) for name, value in state.items()}
    optimizer.step(gradients()[1])
    for name, value in before.items():
        np.testing.assert_array_equal(state[name], value)


@every_optimizer
def test_a_step_changes_the_vector_in_place_and_allocates_no_array(kind, arguments):
    vector, gradient = np.zeros(100_000), np.ones(100_000)
    optimizer = kind(vector, **arguments)
    optimizer.step(gradient)
    tracemalloc.start()
    optimizer.step(gradient)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert optimizer.vector is vector
    assert vector.all()
    assert peak < 10_000


@every_optimizer
def test_gradient_is_not_changed(kind, arguments):
    gradient = gradients()[0]
    kind(np.ones(7), **arguments).step(gradient, l2=0.5)
    np.testing.assert_array_equal(gradient, gradients()[0])


@pytest.mark.parametrize("form", KINDS.values(), ids=KINDS)
@every_optimizer
def test_any_kind_of_gradient_gives_the_same(kind, arguments, form, dtype):
    vectors = np.ones((2, 7), dtype)
    gradient = gradients()[0].astype(dtype)
    kind(vectors[0], **arguments).step(gradient)
    kind(vectors[1], **arguments).step(form(gradient))
    assert_same_bits(vectors[0], vectors[1])


@every_optimizer
def test_state_of_other_parameters_is_an_error(kind, arguments):
    with pytest.raises(ValueError, match=r"load_state: expected an array .* of shape \(3,\), got \(7,\)"):
        kind(np.zeros(3), **arguments).load_state(kind(np.zeros(7), **arguments).state())
    with pytest.raises(ValueError, match="load_state: expected an array"):
        kind(np.zeros(3), **arguments).load_state({})


@every_optimizer
def test_errors(kind, arguments):
    name = kind.__name__
    for wrong in (np.ones(6), np.ones((7, 1)), 1.0, np.ones((2, 7))):
        with pytest.raises(ValueError, match=rf"^{name}: gradient must have the shape of vector, \(7,\), got \("):
            kind(np.zeros(7), **arguments).step(wrong)
    for wrong in ([1.0], np.ones(3, int), np.ones(3, ">f4"), np.ones(3, np.float16), None):
        with pytest.raises(TypeError, match=f"^{name}: vector must be an ndarray of float32 or float64, got"):
            kind(wrong, **arguments)
    for wrong in (np.ones(6)[::2], KINDS["read_only"](np.ones(3)), KINDS["unaligned"](np.ones(3))):
        with pytest.raises(ValueError, match=f"^{name}: vector is changed in place and must be C-contiguous"):
            kind(wrong, **arguments)
    for wrong in (-1, 8, 1.5, True, "x"):
        with pytest.raises(ValueError, match=f"^{name}: n_weights must be None or an int from 0 to 7"):
            kind(np.zeros(7), n_weights=wrong, **arguments)
    with pytest.raises(AttributeError):
        kind(np.zeros(7), **arguments).vector = np.zeros(3)


# ---------------------------------------------------------------- clipping


def test_clipping_agrees_with_pytorch(dtype, rng):
    torch = pytest.importorskip("torch")
    for max_norm in (0.1, 3.0, 1e6):
        gradient = rng.standard_normal(1001).astype(dtype)
        leaf = torch.zeros(1001, dtype=torch.tensor(gradient).dtype, requires_grad=True)
        leaf.grad = torch.tensor(gradient.copy())
        expected = torch.nn.utils.clip_grad_norm_(leaf, max_norm)
        rtol = 1e-5 if dtype == np.float32 else 1e-13
        assert clip_by_norm(gradient, max_norm) == pytest.approx(expected.item(), rel=rtol)
        np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=2e-6)
        torch.nn.utils.clip_grad_value_(leaf, max_norm / 50)
        clip_by_value(gradient, max_norm / 50)
        np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=2e-6)


def test_norm_is_as_exact_as_float64_and_has_the_same_bits_everywhere(dtype, every_isa, rng):
    for size in (0, 1, 5, 16, 17, 4096, 4097, 20_011):
        gradient = rng.standard_normal(size).astype(dtype)
        norms = []
        for isa in every_isa:
            _kernels.use(isa)
            norms.append(clip_by_norm(gradient, inf))
        exact = sqrt(sum((Fraction(float(g))**2 for g in gradient), Fraction(0)))
        assert norms[0] == pytest.approx(exact, rel=1e-14)
        assert set(norms) == {norms[0]}


def test_norm_of_a_gradient_whose_squares_leave_the_range():
    for scale in (2.0**-1074, 1e-200, 1e200, 2.0**1020):
        gradient = np.array([3.0, -4.0]) * scale
        assert clip_by_norm(gradient, inf) == pytest.approx(5 * scale, rel=1e-15)
        clip_by_norm(gradient, 4 * scale)
        assert clip_by_norm(gradient, inf) == pytest.approx(4 * scale, rel=1e-15)


def test_gradients_that_are_not_finite_are_not_changed():
    for bad in (nan, inf, -inf):
        gradient = np.array([1.0, bad, 3.0])
        norm = clip_by_norm(gradient, 1.0)
        assert isnan(norm) if isnan(bad) else norm == inf
        np.testing.assert_array_equal(gradient, [1.0, bad, 3.0])


def test_small_gradients_keep_their_bits():
    gradient = np.array([3.0, 4.0])
    assert clip_by_norm(gradient, 5.0) == 5.0
    clip_by_value(gradient, 4.0)
    np.testing.assert_array_equal(gradient, [3, 4])
    zero = np.zeros(3)
    assert clip_by_norm(zero, 1.0) == 0
    np.testing.assert_array_equal(zero, [0, 0, 0])


@pytest.mark.parametrize(("kind", "name", "rule", "wrong"), [
    *((kind, "learning_rate", "a number >= 0", wrong) for kind in (SGD, Adam, AdamW, RMSprop)
      for wrong in (-1.0, nan, inf, "0.1", None, True)),
    (SGD, "momentum", r"a number in \[0, 1\]", -0.5), (RMSprop, "momentum", r"a number in \[0, 1\]", 1.5),
    (Adam, "beta_1", r"a number in \[0, 1\)", 1), (AdamW, "beta_2", r"a number in \[0, 1\)", "x"),
    (RMSprop, "alpha", r"a number in \[0, 1\)", 2), (Adam, "epsilon", "a number >= 1.4e-45", 1e-300),
    (RMSprop, "epsilon", "a number >= 1.4e-45", 0), (AdamW, "weight_decay", "a number >= 0", -0.1),
    (SGD, "nesterov", "True or False", "no"),
])
def test_numbers_out_of_their_range_are_refused(kind, name, rule, wrong):
    error = ValueError if type(wrong) in (int, float) else TypeError
    with pytest.raises(error, match=f"^{kind.__name__}: {name} must be {rule}, got {wrong!r}$"):
        kind(np.ones(3), **{name: wrong})


def test_numbers_changed_between_steps_are_checked_too():
    optimizer = SGD(np.ones(3, np.float32))
    optimizer.learning_rate = 0.0            # where some schedules end
    with pytest.raises(ValueError, match=r"^SGD: learning_rate must be .* >= 0, at most 3.4e\+38 in size, got 1e\+300"):
        optimizer.learning_rate = 1e300
    assert optimizer.learning_rate == 0
    with pytest.raises(ValueError, match="^SGD: l2 must be a number >= 0, got -1"):
        optimizer.step(np.ones(3), l2=-1)
    with pytest.raises(TypeError, match="^SGD: l2 must be a number >= 0, got 'x'"):
        optimizer.step(np.ones(3), l2="x")
    np.testing.assert_array_equal(optimizer.vector, [1, 1, 1])


def test_state_of_another_kind_is_refused_whole():
    optimizer = Adam(np.ones(3))
    with pytest.raises(TypeError, match="^load_state: state must be a dict, as `state` returns, got None"):
        optimizer.load_state(None)
    with pytest.raises(ValueError, match=r"^load_state: expected an array 'power_1' of shape \(\), got \['mean', 's"):
        optimizer.load_state({"mean": np.ones(3), "square": np.ones(3)})
    with pytest.raises(TypeError, match="^load_state: unsupported dtype <U1 for square"):
        optimizer.load_state(optimizer.state() | {"mean": np.ones(3), "square": np.array(["a", "b", "c"])})
    np.testing.assert_array_equal(optimizer.state()["mean"], [0, 0, 0])


@pytest.mark.parametrize("powers", [[], [0.9], [0.9, 0.9, 0.9], ["a", 0.9], None, 0.9])
def test_damaged_pickle_steps_to_a_clear_kind_of_error(powers):
    optimizer = Adam(np.ones(3))
    optimizer.__setstate__(optimizer.__reduce_ex__(4)[2] | {"_powers": powers})
    with pytest.raises((ValueError, TypeError)):
        optimizer.step(np.ones(3))
    np.testing.assert_array_equal(optimizer.vector, [1, 1, 1])


@pytest.mark.parametrize(("clip", "name"), [(clip_by_norm, "max_norm"), (clip_by_value, "max_value")])
def test_errors_of_clipping(clip, name):
    for limit in (0, -1.0, nan):
        with pytest.raises(ValueError, match=f"^{clip.__name__}: {name} must be a number > 0 or infinity, got"):
            clip(np.ones(3), limit)
    with pytest.raises(TypeError, match=f"^{clip.__name__}: {name} must be a number > 0 or infinity, got None"):
        clip(np.ones(3), None)
    with pytest.raises(TypeError, match=f"^{clip.__name__}: gradient must be an ndarray"):
        clip([1.0], 1.0)
    with pytest.raises(ValueError, match=f"^{clip.__name__}: gradient is changed in place"):
        clip(np.ones(6)[::2], 1.0)
