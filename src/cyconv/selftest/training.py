"""A small training run, the same bits everywhere: what `hash`, `fork`, `threads` and `interrupt` compare."""

import hashlib

import numpy as np

from ..classifier import ConvNetClassifier
from ..layers import ELU, AvgPool, BatchNorm, Conv, Dense, Dropout, MaxPool, ReLU
from . import machine


def samples(n=120):
    """Images and labels, from integers that every version of NumPy draws alike."""
    numbers = np.random.Generator(np.random.PCG64(7)).integers(-128, 128, (n, 1, 12, 12))
    return (numbers / 64).astype(np.float32), numbers[:, 0, 0, 0] % 3


def estimator(**more):
    """A network with most kinds of layers; up to its normalisation whole batches run on blocks, the last does not."""
    layers = [("conv1", Conv(6, 3, padding="same")), ("relu1", ReLU()), ("pool1", MaxPool()),
              ("conv2", Conv(9, 3, padding="same")), ("elu2", ELU()), ("pool2", AvgPool()),
              ("norm", BatchNorm()), ("dense", Dense(17)), ("elu3", ELU()), ("drop", Dropout(0.1))]
    how = {"layers": layers, "batch_size": 48, "max_iter": 3, "random_state": 0, **more}
    return ConvNetClassifier(**how)


def fitted(network=None, **more):
    """An estimator trained on the samples, in teams of any size that is asked for."""
    with machine.quietly(), machine.threads_at_any_size():
        return (network or estimator(**more)).fit(*samples())


def digest(network):
    """SHA-256 of the parameters and predictions of a fitted estimator."""
    arrays = [*network.parameters_.values(), network.predict_proba(samples()[0])]
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def trained_digest(**more):
    return digest(fitted(**more))
