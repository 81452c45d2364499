"""Optimizers: how a gradient changes the parameters.

An optimizer is bound to one vector of parameters and changes it in place by a few operations on whole
arrays, without allocating. It uses only + - * / and square roots, which round exactly, so that a step
gives the same bits on every machine; powers of the decay rates are running products for that reason.
"""

from math import sqrt

import numpy as np

__all__ = ["SGD", "Adam"]


class SGD:
    """Stochastic gradient descent with momentum.

    velocity <- momentum * velocity - learning_rate * gradient;  vector <- vector + velocity,
    or with Nesterov's momentum  vector <- vector + momentum * velocity - learning_rate * gradient.

    Parameters
    ----------
    vector : ndarray of shape (n_params,), float32 or float64
        The parameters; `step` changes them in place.
    learning_rate : float, default 0.001
        Above 0. May be changed between steps.
    momentum : float in [0, 1], default 0.9
    nesterov : bool, default True

    References
    ----------
    Sutskever, Martens, Dahl, Hinton: On the importance of initialization and momentum in deep learning, 2013.

    Examples
    --------
    >>> import numpy as np
    >>> vector = np.array([1.0, 2.0])
    >>> SGD(vector, learning_rate=0.5, momentum=0.0).step(np.array([1.0, -1.0]))
    >>> vector
    array([0.5, 2.5])
    """

    def __init__(self, vector, learning_rate=0.001, momentum=0.9, nesterov=True):
        self.vector = vector
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.nesterov = nesterov
        self._velocity = np.zeros_like(vector)
        self._scaled = np.empty_like(vector)

    def step(self, gradient):
        """Change the parameters by one step against ``gradient``, an ndarray of the vector's shape."""
        velocity, scaled = self._velocity, self._scaled
        np.multiply(gradient, self.learning_rate, out=scaled)
        velocity *= self.momentum
        velocity -= scaled
        if not self.nesterov:
            self.vector += velocity
            return
        self.vector -= scaled
        np.multiply(velocity, self.momentum, out=scaled)
        self.vector += scaled

    def state(self):
        """Everything that a later step depends on, as a dict of new arrays and numbers."""
        return {"velocity": self._velocity.copy()}

    def load_state(self, state):
        """Go on from what `state` returned; ValueError when it belongs to other parameters."""
        load_array(self._velocity, state, "velocity")


class Adam:
    """Adaptive moment estimation.

    mean <- beta_1 * mean + (1 - beta_1) * gradient,  square <- beta_2 * square + (1 - beta_2) * gradient**2,
    vector <- vector - learning_rate * mean' / (sqrt(square') + epsilon), where mean' = mean / (1 - beta_1**t)
    and square' = square / (1 - beta_2**t) at step t.

    Parameters
    ----------
    vector : ndarray of shape (n_params,), float32 or float64
        The parameters; `step` changes them in place.
    learning_rate : float, default 0.001
        Above 0. May be changed between steps.
    beta_1, beta_2 : float in [0, 1), default 0.9 and 0.999
        Decay rates of the two means.
    epsilon : float, default 1e-8
        Above 0.

    References
    ----------
    Kingma, Ba: Adam, a method for stochastic optimization, ICLR 2015, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> vector = np.array([1.0, 2.0])
    >>> Adam(vector, learning_rate=0.5).step(np.array([3.0, -0.1]))
    >>> vector.round(6)
    array([0.5, 2.5])
    """

    def __init__(self, vector, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
        self.vector = vector
        self.learning_rate = learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self._mean = np.zeros_like(vector)
        self._square = np.zeros_like(vector)
        self._scratch = np.empty_like(vector)
        self._power_1 = self._power_2 = 1.0      # beta_1**t and beta_2**t

    def step(self, gradient):
        """Change the parameters by one step against ``gradient``, an ndarray of the vector's shape."""
        mean, square, scratch = self._mean, self._square, self._scratch
        self._power_1 *= self.beta_1
        self._power_2 *= self.beta_2
        mean *= self.beta_1
        np.multiply(gradient, 1 - self.beta_1, out=scratch)
        mean += scratch
        square *= self.beta_2
        np.multiply(gradient, gradient, out=scratch)
        scratch *= 1 - self.beta_2
        square += scratch
        np.sqrt(square, out=scratch)
        scratch *= 1 / sqrt(1 - self._power_2)
        scratch += self.epsilon
        np.divide(mean, scratch, out=scratch)
        scratch *= self.learning_rate / (1 - self._power_1)
        self.vector -= scratch

    def state(self):
        """Everything that a later step depends on, as a dict of new arrays and numbers."""
        return {"mean": self._mean.copy(), "square": self._square.copy(),
                "power_1": self._power_1, "power_2": self._power_2}

    def load_state(self, state):
        """Go on from what `state` returned; ValueError when it belongs to other parameters."""
        load_array(self._mean, state, "mean")
        load_array(self._square, state, "square")
        self._power_1, self._power_2 = state["power_1"], state["power_2"]


def load_array(target, state, name):
    if name not in state or state[name].shape != target.shape:
        raise ValueError(f"load_state: expected an array {name!r} of shape {target.shape}, "
                         f"got {state[name].shape if name in state else sorted(state)}")
    target[...] = state[name]
