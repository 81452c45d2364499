"""One pass over the training data: batches, loss, gradient, penalty, step. And how to scale the data."""

from math import frexp, ldexp, prod, sqrt
from typing import NamedTuple

import numpy as np

from . import _kernels
from ._scalars import LARGEST
from .augmentation import Changes
from .functional._ranked import team
from .network import AUGMENT, SHUFFLE, random_stream

ROWS_AT_ONCE = 4096
FETCH_WORK = 40         # multiplications that take as long as fetching a value of X from memory
VALUES_AT_ONCE = 2**21  # of the largest activation while predicting
MAX_EXPONENT = 100      # 2**127 is the last in float32


class Samples(NamedTuple):
    """Training data in memory.

    X : ndarray of shape (N, n_features), C-contiguous and aligned, float32 or float64
    targets : ndarray of shape (N,), int, or (N, n_outputs)
        What the loss compares the outputs with.
    weight : ndarray of shape (N,), float64, or None for equal weights
    """

    X: np.ndarray
    targets: np.ndarray
    weight: np.ndarray | None

    def take(self, rows):
        """The samples of some rows."""
        return Samples(self.X[rows], self.targets[rows], None if self.weight is None else self.weight[rows])

    def with_weight(self):
        """Those whose weight is not zero."""
        return self if self.weight is None or self.weight.all() else self.take(self.weight > 0)


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
    return 1 / nearest_power(largest * sqrt(mean_square))


def nearest_power(value):
    """The power of two nearest to a number > 0, from 2**-MAX_EXPONENT to 2**MAX_EXPONENT."""
    fraction, exponent = frexp(value)
    nearest = exponent if fraction >= sqrt(0.5) else exponent - 1
    return ldexp(1.0, max(-MAX_EXPONENT, min(nearest, MAX_EXPONENT)))


def batches(n_samples, batch_size, seed, epoch, shuffle):
    """Rows of each batch of an epoch; the order depends on seed and epoch only."""
    order = random_stream(seed, SHUFFLE, epoch).permutation(n_samples) if shuffle else np.arange(n_samples)
    order = order.astype(np.intp, copy=False)
    for start in range(0, n_samples, batch_size):
        yield order[start:start + batch_size]


def train_epoch(network, optimizer, samples, loss, *, scale, epoch, batch_size, shuffle, alpha, n_threads, rate=None,
                change=None):
    """Update the network with every batch of ``scale * X`` once.

    Each step goes down on  sum_i w_i l_i / W + alpha / 2 * |weights|**2 / W  with W = sum_i w_i over the
    batch. ``rate(number)`` is the learning rate of a batch, unless it is to stay what it is; X is first
    changed as the literal ``change`` says, if there is one. Returns the mean of that over the batches, weighted by W.
    """
    total_loss = total = 0.0
    rows_by_batch = batches(len(samples.X), batch_size, network.seed, epoch, shuffle)
    changes = None if change is None else Changes(
        change, network.shapes[0][1:], len(samples.X), random_stream(network.seed, AUGMENT, epoch), network.dtype)
    taken = np.empty((min(batch_size, len(samples.X)), *network.input_shape), network.dtype)
    fetchers = team("train_epoch", n_threads, FETCH_WORK * taken.size, awake=True)
    for number, rows in enumerate(rows_by_batch):
        step = (epoch << 32) + number
        x = taken[:len(rows)]
        _kernels.kernels[network.dtype].take_rows(samples.X, rows, scale if changes is None else 1.0, x, fetchers)
        if changes is not None:
            x = scale * changes.applied(x, number * batch_size, network.data_format == "channels_last", n_threads)
        weight = None if samples.weight is None else samples.weight[rows]
        batch_total = len(x) if weight is None else float(weight.sum())
        batch_loss, gradient = network.training_step(
            x, samples.targets[rows], weight, loss=loss, step=step, n_threads=n_threads)
        if float(alpha) > LARGEST * batch_total:
            raise ValueError(f"alpha={alpha} is divided by the weight of a batch, {batch_total:.2g}, and is too large "
                             "for that; take a smaller alpha, or sample_weight with a mean near 1")
        l2 = alpha / batch_total
        if alpha:
            batch_loss += l2 / 2 * squares(network.weights)
        if rate is not None:
            optimizer.learning_rate = rate(number)
        optimizer.step(gradient, l2=l2, n_threads=n_threads)
        total_loss += batch_loss * batch_total
        total += batch_total
    return total_loss / total


def squares(weights):
    """Sum of the squares of an array, in float64."""
    return _kernels.kernels[weights.dtype].sum_of_squares(weights)


def outputs_of(network, X, scale, n_threads):
    """Outputs of the network for ``scale * X``, as many samples at a time as fit into a few MiB."""
    step = max(1, VALUES_AT_ONCE // max(map(prod, network.shapes)))
    batches = (X[start:start + step].reshape(-1, *network.input_shape) for start in range(0, len(X), step))
    outputs = [network.forward(batch if scale == 1 else scale * batch, n_threads=n_threads)[0] for batch in batches]
    return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)
