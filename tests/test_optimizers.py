"""Optimizers: steps worked by hand, PyTorch's steps, state."""

import tracemalloc
from math import sqrt

import numpy as np
import pytest

from cyconv.optimizers import SGD, Adam

OPTIMIZERS = [
    (SGD, {"momentum": 0.0}, "SGD", {}),
    (SGD, {"nesterov": False}, "SGD", {"momentum": 0.9}),
    (SGD, {"momentum": 0.7}, "SGD", {"momentum": 0.7, "nesterov": True}),
    (Adam, {}, "Adam", {}),
    (Adam, {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}, "Adam", {"betas": (0.5, 0.9), "eps": 1e-3}),
]
every_optimizer = pytest.mark.parametrize(("kind", "arguments"), [case[:2] for case in OPTIMIZERS])


def gradients(steps=20, size=7):
    return np.random.default_rng(0).standard_normal((steps, size))


def test_momentum_worked_by_hand():
    vector = np.array([1.0])
    optimizer = SGD(vector, learning_rate=0.5, momentum=0.5, nesterov=False)
    positions = []
    for gradient in (1.0, 1.0, -2.0):
        optimizer.step(np.array([gradient]))
        positions.append(vector[0])
    assert positions == [0.5, -0.25, 0.375]     # velocities -0.5, -0.75, 0.625


def test_nesterov_worked_by_hand():
    vector = np.array([1.0])
    optimizer = SGD(vector, learning_rate=0.5, momentum=0.5, nesterov=True)
    positions = []
    for gradient in (1.0, 1.0, -2.0):
        optimizer.step(np.array([gradient]))
        positions.append(vector[0])
    assert positions == [0.25, -0.625, 0.6875]  # plus momentum * velocity - step of the same velocities


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


@every_optimizer
def test_state_restores_the_very_same_steps(kind, arguments):
    vector = np.zeros(7)
    optimizer = kind(vector, **arguments)
    for gradient in gradients()[:10]:
        optimizer.step(gradient)
    copy, state = vector.copy(), optimizer.state()
    for gradient in gradients()[10:]:
        optimizer.step(gradient)
    restored = kind(copy, **arguments)
    restored.load_state(state)
    for gradient in gradients()[10:]:
        restored.step(gradient)
    np.testing.assert_array_equal(copy, vector)


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
    kind(np.zeros(7), **arguments).step(gradient)
    np.testing.assert_array_equal(gradient, gradients()[0])


@every_optimizer
def test_state_of_other_parameters_is_an_error(kind, arguments):
    with pytest.raises(ValueError, match=r"load_state: expected an array .* of shape \(3,\), got \(7,\)"):
        kind(np.zeros(3), **arguments).load_state(kind(np.zeros(7), **arguments).state())
    with pytest.raises(ValueError, match="load_state: expected an array"):
        kind(np.zeros(3), **arguments).load_state({})
