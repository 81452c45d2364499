"""One pass over the training data: batches, loss, gradient, penalty, step. And how to scale the data."""

from math import frexp, ldexp, sqrt
from typing import NamedTuple

import numpy as np

from . import _kernels
from .network import SHUFFLE, random_stream

ROWS_AT_ONCE = 4096
MAX_EXPONENT = 100      # 2**127 is the last in float32


class Samples(NamedTuple):
    """Training data in memory.

    X : ndarray of shape (N, n_features), C-contiguous, float32 or float64
    labels : ndarray of shape (N,), int
    weight : ndarray of shape (N,), float64, or None for equal weights
    """

    X: np.ndarray
    labels: np.ndarray
    weight: np.ndarray | None


def scale_of(samples):
    """The power of two that brings the root mean square of X nearest to 1.

    Initial weights and step sizes suit values of that size. Multiplying by a power of two is exact, so
    scaled data with the weights are the same network as the data with scaled weights.
    """
    largest = float(max(samples.X.max(), -samples.X.min()))
    if largest == 0:
        return 1.0
    blocks = [slice(start, start + ROWS_AT_ONCE) for start in range(0, len(samples.X), ROWS_AT_ONCE)]
    squares = np.concatenate([np.square(samples.X[rows] / largest).sum(axis=1, dtype=np.float64) for rows in blocks])
    weight = np.ones(len(squares)) if samples.weight is None else samples.weight
    mean_square = float((squares * weight).sum() / weight.sum()) / samples.X.shape[1]
    fraction, exponent = frexp(largest * sqrt(mean_square))
    nearest = exponent if fraction >= sqrt(0.5) else exponent - 1
    return ldexp(1.0, -max(-MAX_EXPONENT, min(nearest, MAX_EXPONENT)))


def batches(n_samples, batch_size, seed, epoch, shuffle):
    """Rows of each batch of an epoch; the order depends on seed and epoch only."""
    order = random_stream(seed, SHUFFLE, epoch).permutation(n_samples) if shuffle else None
    for start in range(0, n_samples, batch_size):
        rows = slice(start, start + batch_size)
        yield order[rows] if shuffle else rows


def train_epoch(network, optimizer, samples, *, scale, epoch, batch_size, shuffle, alpha, n_threads):
    """Update the network with every batch of ``scale * X`` once.

    Each step goes down on  sum_i w_i l_i / W + alpha / 2 * |weights|**2 / W  with W = sum_i w_i over the
    batch. Returns the mean of that over the batches, weighted by W.
    """
    loss = total = 0.0
    rows_by_batch = batches(len(samples.X), batch_size, network.seed, epoch, shuffle)
    for number, rows in enumerate(rows_by_batch):
        x = (scale * samples.X[rows]).reshape(-1, *network.input_shape)
        weight = None if samples.weight is None else samples.weight[rows]
        batch_total = len(x) if weight is None else float(weight.sum())
        batch_loss, gradient = network.training_step(
            x, samples.labels[rows], weight, step=(epoch << 32) + number, n_threads=n_threads)
        l2 = alpha / batch_total
        if alpha:
            batch_loss += l2 / 2 * squares(network.weights)
        optimizer.step(gradient, l2=l2, n_threads=n_threads)
        loss += batch_loss * batch_total
        total += batch_total
    return loss / total


def squares(weights):
    """Sum of the squares of an array, in float64."""
    return _kernels.kernels[weights.dtype].sum_of_squares(weights)
