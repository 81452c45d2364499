"""Optimizers: how a gradient changes the parameters.

An optimizer is bound to one vector of parameters and changes it in place, in one compiled pass that
allocates nothing. It uses only + - * / and square roots, each rounded by itself, so that a step gives
the same bits on every machine and for any number of threads; powers of the decay rates are running
products for that reason. Clipping changes a gradient before the step. Rates that change are in `schedules`.
"""

from collections.abc import Mapping
from math import frexp, inf, ldexp, sqrt

import numpy as np

from . import _arrays, _geometry, _kernels
from ._scalars import (
    BELOW_ONE,
    NOT_NEGATIVE,
    NOT_VANISHING,
    POSITIVE_OR_INFINITE,
    UP_TO_ONE,
    checked_flag,
    checked_number,
)
from .functional._ranked import team

__all__ = ["Optimizer", "SGD", "Adam", "AdamW", "RMSprop", "clip_by_norm", "clip_by_value"]

POWERS = "power_1", "power_2"
WORK_PER_ENTRY = 32     # multiplications that take as long as one entry's step, 0.3 ns from memory

RULES = {"learning_rate": NOT_NEGATIVE, "momentum": UP_TO_ONE, "beta_1": BELOW_ONE, "beta_2": BELOW_ONE,
         "alpha": BELOW_ONE, "epsilon": NOT_VANISHING, "weight_decay": NOT_NEGATIVE}


class Optimizer:
    """What all optimizers share: the vector, what they remember, the checks.

    Parameters
    ----------
    vector : ndarray of shape (n_params,), float32 or float64
        The parameters; `step` changes them in place.
    learning_rate : float
        At least 0. May be changed between steps.
    n_weights : int or None
        The first n_weights entries are weights, which ``l2`` and weight decay are about, the others are
        biases; None: all are weights.
    memory : str
        Names of the arrays of the vector's shape that are remembered between steps.

    Raises
    ------
    TypeError, ValueError
        If the vector cannot be changed in place, or a number is out of its range, when it is changed too.
    """

    def __init__(self, vector, learning_rate, n_weights, memory):
        self._vector = checked_vector(type(self).__name__, vector)
        self.learning_rate = learning_rate
        self.n_weights = checked_count(type(self).__name__, n_weights, vector.size)
        self._memory = {name: np.zeros_like(vector) for name in memory.split()}

    def __setattr__(self, name, value):
        if name in RULES:
            value = checked_number(type(self).__name__, name, value, RULES[name])
        super().__setattr__(name, value)

    @property
    def vector(self):
        """The parameters."""
        return self._vector

    def step(self, gradient, *, l2=0.0, n_threads=None):
        """Change the parameters by one step.

        Parameters
        ----------
        gradient : ndarray of the vector's shape
            What to go against.
        l2 : float >= 0, default 0.0
            Adds ``l2 * weights`` to the gradient of the weights, that of ``l2 / 2 * sum(weights**2)``.
        n_threads : int or None, default None
            As for the functions; short vectors take one thread.

        Raises
        ------
        TypeError, ValueError
            If gradient is not of real numbers or has another shape, or l2 is out of its range.
        """
        vector = self._vector
        gradient = converted(type(self).__name__, gradient, vector)
        checked_number(type(self).__name__, "l2", l2, NOT_NEGATIVE)
        kernels = _kernels.kernels[vector.dtype]
        n_threads = team(type(self).__name__, n_threads, WORK_PER_ENTRY * vector.size, awake=True)
        self._step(kernels, gradient, self.n_weights, l2, n_threads)

    def state(self):
        """Everything that a later step depends on, as a dict of new arrays and numbers."""
        return {name: value.copy() for name, value in self._memory.items()}

    def load_state(self, state):
        """Go on from what `state` returned; ValueError, and nothing changed, when it belongs to other parameters."""
        if not isinstance(state, Mapping):
            raise TypeError(f"load_state: state must be a dict, as `state` returns, got {state!r}")
        values = {}
        for name, own in self.state().items():
            if name not in state or np.shape(state[name]) != np.shape(own):
                raise ValueError(f"load_state: expected an array {name!r} of shape {np.shape(own)}, "
                                 f"got {np.shape(state[name]) if name in state else sorted(state)}")
            values[name] = _arrays.as_array("load_state", name, state[name])
        for name, target in self._memory.items():
            target[...] = values[name]

    def __setstate__(self, state):
        """From a pickle, which may be damaged: the compiled step trusts sizes."""
        for name, value in state.items():
            setattr(self, name, value)
        name, vector = type(self).__name__, vars(self).get("_vector")
        checked_vector(name, vector)
        checked_count(name, self.n_weights, vector.size)
        for array in self._memory.values():
            if checked_vector(name, array).shape != vector.shape or array.dtype != vector.dtype:
                raise ValueError(f"{name}: its memory must have shape {vector.shape} and dtype {vector.dtype}, "
                                 f"got {array.shape} and {array.dtype}")


class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

    velocity <- momentum * velocity - learning_rate * gradient;  vector <- vector + velocity,
    or with Nesterov's momentum  vector <- vector + momentum * velocity - learning_rate * gradient.

    Parameters
    ----------
    vector : ndarray of shape (n_params,), float32 or float64
        The parameters, C-contiguous; `step` changes them in place.
    learning_rate : float, default 0.001
        At least 0. May be changed between steps.
    momentum : float in [0, 1], default 0.9
    nesterov : bool, default True
    n_weights : int or None, default None
        How many of the first entries are weights, see `step`; None is all.

    References
    ----------
    Sutskever, Martens, Dahl, Hinton: On the importance of initialization and momentum in deep learning, 2013;
    scikit-learn's SGDOptimizer. ``torch.optim.SGD`` multiplies the velocity by the rate when it is used: the
    same steps while the rate is constant.

    Examples
    --------
    >>> import numpy as np
    >>> vector = np.array([1.0, 2.0])
    >>> SGD(vector, learning_rate=0.5, momentum=0.0).step(np.array([1.0, -1.0]))
    >>> vector
    array([0.5, 2.5])
    """

    def __init__(self, vector, learning_rate=0.001, momentum=0.9, nesterov=True, *, n_weights=None):
        super().__init__(vector, learning_rate, n_weights, "velocity")
        self.momentum = momentum
        self.nesterov = checked_flag("SGD", "nesterov", nesterov)

    def _step(self, kernels, gradient, n_weights, l2, n_threads):
        kernels.sgd_step(self._vector, self._memory["velocity"], gradient, self.learning_rate, self.momentum,
                         self.nesterov, n_weights, l2, n_threads)


class Adam(Optimizer):
    """Adaptive moment estimation.

    mean <- beta_1 * mean + (1 - beta_1) * gradient,  square <- beta_2 * square + (1 - beta_2) * gradient**2,
    vector <- vector - learning_rate * mean' / (sqrt(square') + epsilon), where mean' = mean / (1 - beta_1**t)
    and square' = square / (1 - beta_2**t) at step t.

    Parameters
    ----------
    vector : ndarray of shape (n_params,), float32 or float64
        The parameters, C-contiguous; `step` changes them in place.
    learning_rate : float, default 0.001
        At least 0. May be changed between steps.
    beta_1, beta_2 : float in [0, 1), default 0.9 and 0.999
        Decay rates of the two means.
    epsilon : float, default 1e-8
        Above 0.
    n_weights : int or None, default None
        How many of the first entries are weights, see `step`; None is all.

    References
    ----------
    Kingma, Ba: Adam, a method for stochastic optimization, ICLR 2015, algorithm 1; ``torch.optim.Adam``.
    scikit-learn's AdamOptimizer follows the form at the end of section 2 of the paper instead, where epsilon
    is added to sqrt(square).

    Examples
    --------
    >>> import numpy as np
    >>> vector = np.array([1.0, 2.0])
    >>> Adam(vector, learning_rate=0.5).step(np.array([3.0, -0.1]))
    >>> vector.round(6)
    array([0.5, 2.5])
    """

    def __init__(self, vector, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-8, *, n_weights=None):
        super().__init__(vector, learning_rate, n_weights, "mean square")
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self._powers = [1.0, 1.0]                # beta_1**t and beta_2**t

    def _step(self, kernels, gradient, n_weights, l2, n_threads, shrink=1.0):
        power_1, power_2 = self._powers
        self._powers[:] = power_1, power_2 = power_1 * self.beta_1, power_2 * self.beta_2
        kernels.adam_step(self._vector, self._memory["mean"], self._memory["square"], gradient,
                          self.learning_rate / (1 - power_1), self.beta_1, self.beta_2,
                          1 / sqrt(1 - power_2), self.epsilon, shrink, n_weights, l2, n_threads)

    def state(self):
        """Everything that a later step depends on, as a dict of new arrays and numbers."""
        return super().state() | dict(zip(POWERS, self._powers))

    def load_state(self, state):
        """Go on from what `state` returned; ValueError when it belongs to other parameters."""
        powers = {name: state.get(name, 1.0) for name in POWERS} if isinstance(state, Mapping) else {}
        for name, power in powers.items():
            checked_number("load_state", name, power, UP_TO_ONE)
        super().load_state(state)
        self._powers = list(powers.values())


class AdamW(Adam):
    """`Adam` whose weights decay on their own, not by way of the gradient.

    weights <- weights * (1 - learning_rate * weight_decay), then the step of Adam.

    Parameters
    ----------
    vector : ndarray of shape (n_params,), float32 or float64
        The parameters, C-contiguous; `step` changes them in place.
    learning_rate : float, default 0.001
        At least 0. May be changed between steps.
    beta_1, beta_2 : float in [0, 1), default 0.9 and 0.999
        Decay rates of the two means.
    epsilon : float, default 1e-8
        Above 0.
    weight_decay : float, default 0.01
        At least 0.
    n_weights : int or None, default None
        How many of the first entries are weights, which decay; None is all.

    References
    ----------
    Loshchilov, Hutter: Decoupled weight decay regularization, ICLR 2019; ``torch.optim.AdamW``.

    Examples
    --------
    >>> import numpy as np
    >>> vector = np.array([1.0, 1.0])
    >>> AdamW(vector, learning_rate=0.5, weight_decay=0.5, n_weights=1).step(np.zeros(2))
    >>> vector
    array([0.75, 1.  ])
    """

    def __init__(self, vector, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=0.01, *,
                 n_weights=None):
        super().__init__(vector, learning_rate, beta_1, beta_2, epsilon, n_weights=n_weights)
        self.weight_decay = weight_decay

    def _step(self, kernels, gradient, n_weights, l2, n_threads):
        super()._step(kernels, gradient, n_weights, l2, n_threads, 1 - self.learning_rate * self.weight_decay)


class RMSprop(Optimizer):
    """Steps divided by the root of the mean square of recent gradients.

    square <- alpha * square + (1 - alpha) * gradient**2,
    velocity <- momentum * velocity + gradient / (sqrt(square) + epsilon),  vector <- vector - learning_rate * velocity.

    Parameters
    ----------
    vector : ndarray of shape (n_params,), float32 or float64
        The parameters, C-contiguous; `step` changes them in place.
    learning_rate : float, default 0.01
        At least 0. May be changed between steps.
    alpha : float in [0, 1), default 0.99
        Decay rate of the mean square.
    epsilon : float, default 1e-8
        Above 0.
    momentum : float in [0, 1], default 0.0
    n_weights : int or None, default None
        How many of the first entries are weights, see `step`; None is all.

    References
    ----------
    Tieleman, Hinton: Lecture 6.5, rmsprop, 2012; ``torch.optim.RMSprop`` with ``centered=False``.

    Examples
    --------
    >>> import numpy as np
    >>> vector = np.array([1.0, 2.0])
    >>> RMSprop(vector, learning_rate=0.5, alpha=0.75).step(np.array([3.0, -0.1]))
    >>> vector.round(6)
    array([0., 3.])
    """

    def __init__(self, vector, learning_rate=0.01, alpha=0.99, epsilon=1e-8, momentum=0.0, *, n_weights=None):
        self.momentum = momentum
        super().__init__(vector, learning_rate, n_weights, "square velocity" if momentum else "square")
        self.alpha = alpha
        self.epsilon = epsilon

    def _step(self, kernels, gradient, n_weights, l2, n_threads):
        kernels.rmsprop_step(self._vector, self._memory["square"], self._memory.get("velocity"), gradient,
                             self.learning_rate, self.alpha, self.epsilon, self.momentum, n_weights, l2, n_threads)


# ---------------------------------------------------------------- clipping


def clip_by_norm(gradient, max_norm):
    """Scale a gradient in place so that its Euclidean norm is at most ``max_norm``.

    Parameters
    ----------
    gradient : ndarray of shape (n_params,), float32 or float64
        C-contiguous; multiplied by max_norm / norm if its norm is larger.
    max_norm : float
        Above 0; infinity only measures.

    Returns
    -------
    float
        The norm before, summed in float64 in a fixed order; NaN or infinity if an entry is, and
        the gradient is not changed then.

    Raises
    ------
    TypeError, ValueError
        If gradient is no such array, or max_norm is not above 0.

    References
    ----------
    Pascanu, Mikolov, Bengio: On the difficulty of training recurrent neural networks, 2013;
    ``torch.nn.utils.clip_grad_norm_``, which adds 1e-6 to the norm before it divides, and makes NaN of a
    gradient with an infinite entry.

    Examples
    --------
    >>> import numpy as np
    >>> gradient = np.array([3.0, 4.0])
    >>> clip_by_norm(gradient, 2.5)
    5.0
    >>> gradient
    array([1.5, 2. ])
    """
    checked_vector("clip_by_norm", gradient, "gradient")
    checked_number("clip_by_norm", "max_norm", max_norm, POSITIVE_OR_INFINITE)
    norm = norm_of(gradient)
    if max_norm < norm < inf:
        gradient *= max_norm / norm
    return norm


def norm_of(vector):
    """Euclidean norm; where squares leave the range of a double, of the vector times a power of two."""
    total = _kernels.kernels[vector.dtype].sum_of_squares(vector)
    if 1e-250 < total < inf:
        return sqrt(total)
    largest = float(np.abs(vector).max(initial=0))
    if not 0 < largest < inf:
        return largest
    exponent = frexp(largest)[1]
    scaled = np.ldexp(vector.astype(np.float64), -exponent)
    return ldexp(sqrt(_kernels.kernels[scaled.dtype].sum_of_squares(scaled)), exponent)


def clip_by_value(gradient, max_value):
    """Cut every entry of a gradient in place to ``[-max_value, max_value]``.

    Parameters
    ----------
    gradient : ndarray of shape (n_params,), float32 or float64
        C-contiguous. NaN stays NaN.
    max_value : float
        Above 0.

    Raises
    ------
    TypeError, ValueError
        If gradient is no such array, or max_value is not above 0.

    References
    ----------
    ``torch.nn.utils.clip_grad_value_``.

    Examples
    --------
    >>> import numpy as np
    >>> gradient = np.array([3.0, -0.5, -4.0])
    >>> clip_by_value(gradient, 2.0)
    >>> gradient
    array([ 2. , -0.5, -2. ])
    """
    checked_vector("clip_by_value", gradient, "gradient")
    checked_number("clip_by_value", "max_value", max_value, POSITIVE_OR_INFINITE)
    np.clip(gradient, -max_value, max_value, out=gradient)


# ---------------------------------------------------------------- checks


def checked_vector(function, vector, name="vector"):
    """``vector`` if a kernel can change it in place."""
    if not isinstance(vector, np.ndarray) or vector.dtype not in (_arrays.FLOAT32, _arrays.FLOAT64):
        found = vector.dtype if isinstance(vector, np.ndarray) else type(vector).__name__
        raise TypeError(f"{function}: {name} must be an ndarray of float32 or float64, got {found}")
    if not vector.flags.carray:
        raise ValueError(f"{function}: {name} is changed in place and must be C-contiguous, aligned and writeable")
    return vector


def checked_count(function, n_weights, size):
    if n_weights is None:
        return size
    if not _geometry.is_integer(n_weights) or not 0 <= n_weights <= size:
        raise ValueError(f"{function}: n_weights must be None or an int from 0 to {size}, the size of vector, "
                         f"got {n_weights!r}")
    return int(n_weights)


def converted(function, gradient, vector):
    gradient = _arrays.as_array(function, "gradient", gradient)
    if gradient.shape != vector.shape:
        raise ValueError(f"{function}: gradient must have the shape of vector, {vector.shape}, got {gradient.shape}")
    return _arrays.contiguous(gradient, vector.dtype)
