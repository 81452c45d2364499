"""Softmax cross-entropy: values by hand, gradient, weights, errors."""

from math import log

import numpy as np
import pytest
from differences import assert_same_gradient, central_differences

from cyconv.losses import softmax_cross_entropy

LOGITS = np.random.default_rng(0).standard_normal((5, 4))
LABELS = np.array([3, 0, 1, 1, 2])
WEIGHTS = np.array([0.5, 2.0, 0.0, 1.0, 3.0])


def test_equal_logits_give_the_logarithm_of_the_number_of_classes():
    loss, gradient = softmax_cross_entropy(np.zeros((3, 4)), np.array([0, 1, 3]))
    assert loss == pytest.approx(log(4), rel=1e-15)
    np.testing.assert_allclose(gradient[1], [1 / 12, -3 / 12, 1 / 12, 1 / 12], rtol=1e-15)


def test_loss_worked_by_hand():
    logits = np.log([[1.0, 3.0], [2.0, 2.0]])
    loss, gradient = softmax_cross_entropy(logits, np.array([1, 0]))
    assert loss == pytest.approx((log(4 / 3) + log(2)) / 2, rel=1e-15)
    np.testing.assert_allclose(gradient, [[0.125, -0.125], [-0.25, 0.25]], rtol=1e-14)


def test_weighted_loss_is_the_weighted_mean():
    loss, gradient = softmax_cross_entropy(np.log([[1.0, 3.0], [2.0, 2.0]]), np.array([1, 0]), np.array([3.0, 1.0]))
    assert loss == pytest.approx((3 * log(4 / 3) + log(2)) / 4, rel=1e-15)
    np.testing.assert_allclose(gradient, [[0.1875, -0.1875], [-0.125, 0.125]], rtol=1e-14)


@pytest.mark.parametrize("weight", (None, WEIGHTS))
def test_gradient_agrees_with_central_differences(weight):
    logits = LOGITS.copy()
    gradient = softmax_cross_entropy(logits, LABELS, weight)[1]
    expected = central_differences(lambda: softmax_cross_entropy(logits, LABELS, weight)[0], logits)
    assert_same_gradient(gradient, expected)


def test_equal_weights_give_the_bits_of_no_weights(dtype):
    loss, gradient = softmax_cross_entropy(LOGITS.astype(dtype), LABELS)
    weighted_loss, weighted_gradient = softmax_cross_entropy(LOGITS.astype(dtype), LABELS, np.ones(5))
    assert loss == weighted_loss
    np.testing.assert_array_equal(gradient, weighted_gradient)
    assert gradient.dtype == dtype


def test_order_of_samples_does_not_matter():
    order = [4, 2, 0, 3, 1]
    loss, gradient = softmax_cross_entropy(LOGITS, LABELS, WEIGHTS)
    shuffled_loss, shuffled_gradient = softmax_cross_entropy(LOGITS[order], LABELS[order], WEIGHTS[order])
    assert loss == shuffled_loss
    np.testing.assert_array_equal(gradient[order], shuffled_gradient)


def test_huge_logits_stay_finite():
    loss, gradient = softmax_cross_entropy(np.array([[1e4, -1e4]]), np.array([1]))
    assert loss == 2e4
    np.testing.assert_array_equal(gradient, [[1, -1]])


def test_arguments_are_not_changed():
    arguments = LOGITS.copy(), LABELS.copy(), WEIGHTS.copy()
    softmax_cross_entropy(*arguments)
    for argument, original in zip(arguments, (LOGITS, LABELS, WEIGHTS)):
        np.testing.assert_array_equal(argument, original)


@pytest.mark.parametrize("labels", ([0, 1, 2, 3, 4], [0, 1, 2, -1, 0], [0, 1]))
def test_labels_out_of_range_are_an_error(labels):
    with pytest.raises(ValueError, match=r"labels must be 5 numbers .* from 0 to 3"):
        softmax_cross_entropy(LOGITS, np.array(labels))


def test_an_empty_batch_is_an_error():
    with pytest.raises(ValueError, match="at least 1"):
        softmax_cross_entropy(np.empty((0, 3)), np.empty(0, int))


@pytest.mark.parametrize("weight", (None, WEIGHTS))
def test_loss_agrees_with_pytorch(weight):
    torch = pytest.importorskip("torch")
    logits = torch.tensor(LOGITS, requires_grad=True)
    losses = torch.nn.functional.cross_entropy(logits, torch.tensor(LABELS), reduction="none")
    factors = torch.ones(5, dtype=torch.float64) if weight is None else torch.tensor(weight)
    expected = (losses * factors).sum() / factors.sum()
    expected.backward()
    loss, gradient = softmax_cross_entropy(LOGITS, LABELS, weight)
    assert loss == pytest.approx(expected.item(), rel=1e-14)
    np.testing.assert_allclose(gradient, logits.grad.numpy(), rtol=1e-13, atol=1e-16)
