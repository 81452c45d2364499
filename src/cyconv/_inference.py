"""Networks for prediction: kept by each thread while they are small, and cut off at an inner layer."""

import threading
from weakref import WeakKeyDictionary

import numpy as np

from ._training import outputs_of
from .layers._layer import flatten
from .network import Sequential

FEW = 64      # samples of a call for which building the network would take most of the time


class Kept(threading.local):
    """Networks of this thread by estimator. A network writes into arrays of its own, so no two threads share one."""

    def __init__(self):
        self.networks = WeakKeyDictionary()


_kept = Kept()


def predicting_network(estimator, n_samples):
    """The network of a fitted estimator with its parameters as they are now.

    For a few samples it is one that this thread has used before: building and planning a network takes
    several times as long as one small image. Larger calls make their own, whose arrays go when it goes.
    """
    if n_samples > FEW:
        return estimator.to_sequential()
    architecture, network = _kept.networks.get(estimator, (None, None))
    if architecture is not estimator.architecture_ or network.dtype != estimator._dtype:
        network = estimator.to_sequential()
        _kept.networks[estimator] = estimator.architecture_, network
    else:
        network.load_parameters(estimator.parameters_)
    return network


def layer_number(names, name):
    """Number of the layer of that name; None is the last but one, -1 if there is only one."""
    if name is None:
        return len(names) - 2
    if name not in names:
        raise ValueError(f"feature_layer must be a layer of the network, {', '.join(names)}; got {name!r}")
    return names.index(name)


def features(network, name, X, n_threads):
    """Outputs of a layer as rows, in the order (C, *spatial)."""
    end = layer_number(network.names, name) + 1
    names = network.names[:end]
    parameters = {key: value for key, value in network.parameters().items() if key.rpartition(".")[0] in names}
    inner = Sequential(list(zip(names, network.layers)), network.input_shape, dtype=network.dtype,
                       data_format=network.data_format, random_state=0, parameters=parameters)
    rows, _ = flatten(outputs_of(inner, X, 1, n_threads), network.data_format)
    return rows


def feature_names(network, name):
    """Names of the columns of `features`."""
    number = layer_number(network.names, name)
    shape, prefix = network.shapes[number + 1], network.names[number] if number >= 0 else "input"
    letters = ("",) if len(shape) == 1 else ("c", *"dhw"[-len(shape) + 1:]) if len(shape) > 2 else ("c", "l")
    return np.array(["_".join([prefix, *(f"{letter}{i}" for letter, i in zip(letters, index))])
                     for index in np.ndindex(*shape)], dtype=object)
