"""Losses: one number for a batch, and its gradient with respect to the outputs of the network.

All are called as ``loss(outputs, targets, sample_weight=None, **options)`` and return (loss, gradient).
With l_i the loss of sample i, the mean over its outputs, the loss of the batch is sum_i w_i l_i / sum_i w_i:
a sample of weight 2 counts as two, one of weight 0 as absent, whatever it holds. Sums over samples are
exactly rounded, so that their order cannot matter. exp and log are cyconv's own.
"""

from math import fsum, inf

import numpy as np

from . import _arrays, _kernels
from ._scalars import POSITIVE_OR_INFINITE, UP_TO_ONE, checked_number

__all__ = ["softmax_cross_entropy", "binary_cross_entropy", "squared_error", "huber"]

LABELS = np.dtype(np.int64)
FLOATS = _arrays.FLOAT32, _arrays.FLOAT64


def softmax_cross_entropy(outputs, targets, sample_weight=None, *, label_smoothing=0.0):
    """Mean of -log(softmax(outputs)[target]) over a batch, and its gradient.

    l_i = -sum_k t_k log(p_k) with p = softmax(outputs[i]) and t_k = label_smoothing / n_classes, to which the
    right class adds 1 - label_smoothing.

    Parameters
    ----------
    outputs : array_like of shape (N, n_classes), float32 or float64
        Logits.
    targets : array_like of shape (N,), int
        Right class of each sample, 0 to n_classes - 1.
    sample_weight : array_like of shape (N,) or None, default None
        Weights w_i, at least 0 and not all 0; None is 1 for every sample.
    label_smoothing : float in [0, 1], default 0.0
        Part of the target that is spread evenly over all classes.

    Returns
    -------
    loss : float
    gradient : ndarray of shape (N, n_classes)
        (p - t) * w_i / sum_i w_i, in the dtype of outputs.

    Raises
    ------
    TypeError
        If targets are no integers or an argument has no real numbers.
    ValueError
        If targets are not one class number per row of outputs, there are no rows, or weights do not fit.

    References
    ----------
    ``torch.nn.functional.cross_entropy``, with its ``label_smoothing``; its ``weight`` is per class.
    Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the inception architecture, 2016, section 7.

    Examples
    --------
    >>> import numpy as np
    >>> loss, gradient = softmax_cross_entropy(np.zeros((1, 2)), [0])
    >>> round(loss, 6)
    0.693147
    >>> gradient
    array([[-0.5,  0.5]])
    """
    name = "softmax_cross_entropy"
    outputs = outputs_for(name, outputs)
    targets = _arrays.as_array(name, "targets", targets)
    n = len(outputs)
    if outputs.ndim != 2:
        raise ValueError(f"{name}: outputs must have 2 dimensions (N, n_classes), got shape {outputs.shape}")
    n_classes = outputs.shape[1]
    if targets.dtype.kind not in "iu":
        raise TypeError(f"{name}: targets must be integers, got dtype {targets.dtype}; use targets.astype(int)")
    if targets.shape != (n,):
        raise ValueError(f"{name}: targets must have shape ({n},), one class number per sample, got {targets.shape}")
    checked_number(name, "label_smoothing", label_smoothing, UP_TO_ONE)
    labels = _arrays.contiguous(targets, LABELS)
    return evaluate(name, outputs, targets, sample_weight, f"class numbers from 0 to {n_classes - 1}",
                    lambda *batch: _kernels.kernels[outputs.dtype].softmax_cross_entropy(
                        outputs, labels, *batch, label_smoothing, np.empty(n_classes)))


def binary_cross_entropy(outputs, targets, sample_weight=None):
    """Mean of -(t log(p) + (1 - t) log(1 - p)) with p = sigmoid(outputs), and its gradient.

    For labels of which any number may be right at once. l_i is the mean over the outputs of sample i.

    Parameters
    ----------
    outputs : array_like of shape (N, ...), float32 or float64
        Logits, with (N, n_outputs) for a multilabel classifier.
    targets : array_like of the same shape
        0 or 1, or probabilities between; converted to the dtype of outputs.
    sample_weight : array_like of shape (N,) or None, default None
        Weights w_i, at least 0 and not all 0; None is 1 for every sample.

    Returns
    -------
    loss : float
    gradient : ndarray of the shape of outputs
        (p - t) / n_outputs * w_i / sum_i w_i, in the dtype of outputs.

    Raises
    ------
    TypeError
        If an argument has no real numbers.
    ValueError
        If shapes differ, there are no outputs, targets are not in [0, 1], or weights do not fit.

    References
    ----------
    ``torch.nn.functional.binary_cross_entropy_with_logits`` with its mean over all samples and outputs.
    scikit-learn's MLPClassifier adds up the outputs of a sample instead: its loss is n_outputs times as large.

    Examples
    --------
    >>> import numpy as np
    >>> loss, gradient = binary_cross_entropy(np.zeros((1, 2)), [[0, 1]])
    >>> round(loss, 6)
    0.693147
    >>> gradient
    array([[ 0.25, -0.25]])
    """
    name = "binary_cross_entropy"
    outputs = outputs_for(name, outputs)
    targets = targets_like(name, outputs, targets)
    return evaluate(name, outputs, targets, sample_weight, "in [0, 1]",
                    lambda *batch: _kernels.kernels[outputs.dtype].binary_cross_entropy(
                        outputs, targets, *batch, np.empty(outputs[0].size)))


def squared_error(outputs, targets, sample_weight=None):
    """Mean of (outputs - targets)**2 / 2 over a batch, and its gradient.

    l_i is the mean over the outputs of sample i.

    Parameters
    ----------
    outputs : array_like of shape (N, ...), float32 or float64
    targets : array_like of the same shape
        Finite; converted to the dtype of outputs.
    sample_weight : array_like of shape (N,) or None, default None
        Weights w_i, at least 0 and not all 0; None is 1 for every sample.

    Returns
    -------
    loss : float
    gradient : ndarray of the shape of outputs
        (outputs - targets) / n_outputs * w_i / sum_i w_i, in the dtype of outputs.

    Raises
    ------
    TypeError
        If an argument has no real numbers.
    ValueError
        If shapes differ, there are no outputs, targets are not finite, or weights do not fit.

    References
    ----------
    The loss of scikit-learn's MLPRegressor; half of ``torch.nn.functional.mse_loss`` and of
    ``sklearn.metrics.mean_squared_error``; `huber` with a large delta. MLPRegressor does not divide the
    gradient of several outputs by their number, this function does.

    Examples
    --------
    >>> import numpy as np
    >>> squared_error(np.array([[3.0], [1.0]]), [[1], [1]])
    (1.0, array([[1.], [0.]]))
    """
    return distance("squared_error", outputs, targets, sample_weight, inf)


def huber(outputs, targets, sample_weight=None, *, delta=1.0):
    """Mean of a loss that is squared for small errors and linear for large ones, and its gradient.

    With e = outputs - targets: e**2 / 2 where abs(e) <= delta, else delta * (abs(e) - delta / 2).
    l_i is the mean over the outputs of sample i.

    Parameters
    ----------
    outputs : array_like of shape (N, ...), float32 or float64
    targets : array_like of the same shape
        Finite; converted to the dtype of outputs.
    sample_weight : array_like of shape (N,) or None, default None
        Weights w_i, at least 0 and not all 0; None is 1 for every sample.
    delta : float, default 1.0
        Largest slope, above 0; errors beyond it count as outliers.

    Returns
    -------
    loss : float
    gradient : ndarray of the shape of outputs
        e cut to [-delta, delta], / n_outputs * w_i / sum_i w_i, in the dtype of outputs.

    Raises
    ------
    TypeError
        If an argument has no real numbers.
    ValueError
        If shapes differ, there are no outputs, targets are not finite, or weights or delta do not fit.

    References
    ----------
    Huber: Robust estimation of a location parameter, 1964; ``torch.nn.functional.huber_loss``.

    Examples
    --------
    >>> import numpy as np
    >>> huber(np.array([[3.0], [1.0]]), [[0], [1]], delta=2.0)
    (2.0, array([[1.], [0.]]))
    """
    checked_number("huber", "delta", delta, POSITIVE_OR_INFINITE)
    return distance("huber", outputs, targets, sample_weight, delta)


def distance(name, outputs, targets, sample_weight, delta):
    outputs = outputs_for(name, outputs)
    targets = targets_like(name, outputs, targets)
    return evaluate(name, outputs, targets, sample_weight, "finite",
                    lambda *batch: _kernels.kernels[outputs.dtype].huber(outputs, targets, *batch, delta))


def evaluate(name, outputs, targets, sample_weight, rule, kernel):
    """``kernel(gradient, losses, weight, total)`` fills the gradient and the weighted losses of the samples."""
    n = len(outputs)
    weight, total = (None, n) if sample_weight is None else weights_for(name, sample_weight, n)
    gradient, losses = np.empty_like(outputs), np.empty(n)
    bad = kernel(gradient, losses, weight, total)
    if bad >= 0:
        place = [int(i) for i in np.unravel_index(bad, targets.shape)]
        raise ValueError(f"{name}: targets must be {rule}, got targets{place} = {targets[tuple(place)]}")
    return exact_sum(losses.tolist()) / total, gradient


def exact_sum(values):
    """Sum of numbers >= 0, rounded once; math.fsum refuses one above the largest double."""
    try:
        return fsum(values)
    except OverflowError:
        return inf


def outputs_for(name, outputs):
    outputs = _arrays.as_array(name, "outputs", outputs)
    if outputs.dtype not in FLOATS:
        (outputs,) = _arrays.as_reals(name, outputs=outputs)
    if outputs.ndim == 0 or outputs.size == 0:
        raise ValueError(f"{name}: outputs must hold at least one sample with one output, got shape {outputs.shape}")
    return _arrays.contiguous(outputs, outputs.dtype)


def targets_like(name, outputs, targets):
    targets = _arrays.as_array(name, "targets", targets)
    if targets.shape != outputs.shape:
        raise ValueError(f"{name}: targets must have the shape of outputs, {outputs.shape}, got {targets.shape}")
    return _arrays.contiguous(targets, outputs.dtype)


def weights_for(name, sample_weight, n):
    """Weights as float64, and their sum."""
    weight = _arrays.contiguous(_arrays.as_array(name, "sample_weight", sample_weight), _arrays.FLOAT64)
    if weight.shape != (n,):
        raise ValueError(f"{name}: sample_weight must have shape ({n},), one weight per sample, got {weight.shape}")
    values = weight.tolist()
    total = exact_sum(values) if min(values) >= 0 else -inf
    if not 0 < total < inf:                # a sum with NaN is NaN
        raise ValueError(f"{name}: sample_weight must be finite numbers >= 0 with a finite sum > 0, "
                         f"got {weight.min()} to {weight.max()}")
    return weight, total
