"""Losses: one number for a batch, and its gradient with respect to the outputs of the network."""

from math import fsum

import numpy as np

from . import functional

__all__ = ["softmax_cross_entropy"]


def softmax_cross_entropy(logits, labels, sample_weight=None):
    """Mean of -log(softmax(logits)[label]) over a batch, and its gradient.

    loss = sum_i w_i * l_i / sum_i w_i. Sums are exactly rounded, so that their order cannot matter.

    Parameters
    ----------
    logits : ndarray of shape (N, n_classes), float32 or float64
        Outputs of the network.
    labels : ndarray of shape (N,), int
        Right class of each sample, 0 to n_classes - 1.
    sample_weight : ndarray of shape (N,) or None, default None
        Weights w_i, at least 0 and not all 0; None is 1 for every sample.

    Returns
    -------
    loss : float
    dlogits : ndarray of shape (N, n_classes)
        (softmax(logits) - onehot(labels)) * w_i / sum_i w_i, in the dtype of logits.

    Raises
    ------
    ValueError
        When labels are not one class number per row of logits, or there are no rows.

    Examples
    --------
    >>> import numpy as np
    >>> loss, dlogits = softmax_cross_entropy(np.zeros((1, 2)), np.array([0]))
    >>> round(loss, 6)
    0.693147
    >>> dlogits
    array([[-0.5,  0.5]])
    """
    check_labels(logits, labels)
    rows = np.arange(len(logits))
    losses = -functional.log_softmax(logits)[rows, labels].astype(np.float64)
    dlogits = functional.softmax(logits)
    dlogits[rows, labels] -= 1
    if sample_weight is None:
        total = len(logits)
        dlogits *= 1 / total
    else:
        sample_weight = np.asarray(sample_weight, np.float64)
        total = fsum(sample_weight)
        losses *= sample_weight
        dlogits *= (sample_weight / total).astype(dlogits.dtype)[:, None]
    return fsum(losses) / total, dlogits


def check_labels(logits, labels):
    """Indexing by a negative label would silently pick another class."""
    n, n_classes = logits.shape
    if n == 0 or labels.shape != (n,) or labels.min() < 0 or labels.max() >= n_classes:
        found = f" from {labels.min()} to {labels.max()}" if labels.size else ""
        raise ValueError(f"softmax_cross_entropy: labels must be {n} numbers (at least 1) from 0 to {n_classes - 1}, "
                         f"got shape {labels.shape}{found}")
