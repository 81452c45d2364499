"""Activations and their gradients, elementwise: the same bits on every instruction set.

A function states what is its own; what all have in common is filled into the docstrings by `described`.
"""

import numpy as np

from .. import _arrays, _kernels
from .._scalars import FINITE, checked_number
from ._public import Checked, public
from ._ranked import check_shape, team

__all__ = [
    "relu", "relu_backward", "leaky_relu", "leaky_relu_backward", "elu", "elu_backward", "selu", "selu_backward",
    "gelu", "gelu_backward", "silu", "silu_backward", "swish", "swish_backward", "sigmoid", "sigmoid_backward",
    "tanh", "tanh_backward",
]

# An element of an exponential takes about as long as so many multiplications of a convolution.
WORK_PER_ELEMENT = 16

SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717

# What stands for each word of a docstring, by itself on a line.
COMMON = {
    "FORWARD_INPUT": """\
    x : array_like of any shape
        Computed in float32 or float64, ``np.result_type(x, np.float32)``.""",
    "FORWARD_REST": """\
    out : ndarray, optional
        C-contiguous array of x's shape and the computation dtype to write to; x itself is allowed.
    n_threads : int, optional
        As in `conv2d`.

    Returns
    -------
    ndarray of the shape of x

    Raises
    ------
    TypeError
        If x is not of real numbers that fit float32 or float64.
    ValueError
        If ``out`` does not fit, or a parameter is out of its range.""",
    "BACKWARD_INPUT": """\
    grad_out : array_like
        Gradient with respect to the result.""",
    "BACKWARD_REST": """\
    n_threads : int, optional
        As in `conv2d`.

    Returns
    -------
    ndarray of the common shape

    Raises
    ------
    ValueError, TypeError
        If shapes differ, dtypes do not fit or a parameter is out of its range.""",
}


def described(function):
    """``function`` with the words of COMMON in its docstring replaced."""
    for word, text in COMMON.items():
        function.__doc__ = function.__doc__.replace(f"    {word}", text)
    return function


def activate(function, kind, x, out, n_threads, a=0.0, b=0.0):
    (x,) = _arrays.as_reals(function, x=x)
    shape, dtype, is_contiguous = x.shape, x.dtype, x.flags.c_contiguous
    kernels, work = _kernels.kernels[dtype], x.size * WORK_PER_ELEMENT

    def compute(x, out=None):
        y, copy = _arrays.output_for(function, out, shape, dtype, () if out is x else (x,))
        x = x if is_contiguous else np.ascontiguousarray(x)
        kernels.activate(kind, x, y, a, b, team(function, n_threads, work))
        if copy:
            out[...] = y
        return out if copy else y

    return Checked(compute, x, out)


def activate_backward(function, kind, grad_out, n_threads, a=0.0, b=0.0, **saved):
    """``saved`` is x or y, under its name."""
    (name, value), = saved.items()
    grad_out, value = _arrays.as_reals(function, grad_out=grad_out, **{name: value})
    check_shape(function, "grad_out", grad_out, value.shape)
    shape, dtype, is_contiguous = value.shape, value.dtype, grad_out.flags.c_contiguous and value.flags.c_contiguous
    kernels, work = _kernels.kernels[dtype], value.size * WORK_PER_ELEMENT

    def compute(grad_out, value):
        if not is_contiguous:
            grad_out, value = np.ascontiguousarray(grad_out), np.ascontiguousarray(value)
        dx = np.empty(shape, dtype)
        kernels.activate_backward(kind, grad_out, value, dx, a, b, team(function, n_threads, work))
        return dx

    return Checked(compute, grad_out, value)


def gelu_kind(function, approximate):
    if not isinstance(approximate, str) or approximate not in ("none", "tanh"):
        raise ValueError(f"{function}: approximate must be 'none' or 'tanh', got {approximate!r}")
    return "gelu" if approximate == "none" else "gelu_tanh"


@public
@described
def relu(x, *, out=None, n_threads=None):
    """Rectified linear unit, ``max(x, 0)`` elementwise; NaN stays NaN.

    Parameters
    ----------
    FORWARD_INPUT
    FORWARD_REST

    Examples
    --------
    >>> import cyconv
    >>> cyconv.relu([-1.0, 0.0, 2.0])
    array([0., 0., 2.])
    """
    return activate("relu", "relu", x, out, n_threads)


@public
@described
def relu_backward(grad_out, y, *, n_threads=None):
    """Gradient of `relu` from its result: ``grad_out`` where ``y > 0``, else 0.

    Parameters
    ----------
    BACKWARD_INPUT
    y : array_like of the same shape
        The result, or the input: both have the same sign.
    BACKWARD_REST

    Examples
    --------
    >>> import cyconv
    >>> cyconv.relu_backward([5.0, 6.0, 7.0], [0.0, 0.0, 2.0])
    array([0., 0., 7.])
    """
    return activate_backward("relu_backward", "relu", grad_out, n_threads, y=y)


@public
@described
def leaky_relu(x, negative_slope=0.01, *, out=None, n_threads=None):
    """``x`` where x > 0, else ``negative_slope * x``.

    Parameters
    ----------
    FORWARD_INPUT
    negative_slope : float, default 0.01
        Any finite number.
    FORWARD_REST

    Examples
    --------
    >>> import cyconv
    >>> cyconv.leaky_relu([-1.0, 0.0, 2.0], 0.5)
    array([-0.5,  0. ,  2. ])
    """
    slope = checked_number("leaky_relu", "negative_slope", negative_slope, FINITE)
    return activate("leaky_relu", "leaky_relu", x, out, n_threads, slope)


@public
@described
def leaky_relu_backward(grad_out, x, negative_slope=0.01, *, n_threads=None):
    """Gradient of `leaky_relu` from its input: ``grad_out`` where x > 0, else ``negative_slope * grad_out``.

    Parameters
    ----------
    BACKWARD_INPUT
    x : array_like of the same shape
        The input; or, if negative_slope >= 0, the result, which is positive in the same places.
    negative_slope : float, default 0.01
        As in `leaky_relu`.
    BACKWARD_REST

    Examples
    --------
    >>> import cyconv
    >>> cyconv.leaky_relu_backward([4.0, 4.0], [-1.0, 2.0], 0.5)
    array([2., 4.])
    """
    slope = checked_number("leaky_relu_backward", "negative_slope", negative_slope, FINITE)
    return activate_backward("leaky_relu_backward", "leaky_relu", grad_out, n_threads, slope, x=x)


@public
@described
def elu(x, alpha=1.0, *, out=None, n_threads=None):
    """Exponential linear unit: ``x`` where x > 0, else ``alpha * (exp(x) - 1)``, accurate near 0 too.

    Parameters
    ----------
    FORWARD_INPUT
    alpha : float, default 1.0
        Minus the limit for x to -inf; any finite number.
    FORWARD_REST

    References
    ----------
    Clevert, Unterthiner, Hochreiter: Fast and accurate deep network learning by exponential linear units,
    ICLR 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.elu([-np.log(2), 0.0, 2.0])
    array([-0.5,  0. ,  2. ])
    """
    return activate("elu", "elu", x, out, n_threads, checked_number("elu", "alpha", alpha, FINITE), 1.0)


@public
@described
def elu_backward(grad_out, x, alpha=1.0, *, n_threads=None):
    """Gradient of `elu` from its input: ``grad_out`` where x > 0, else ``grad_out * alpha * exp(x)``.

    Parameters
    ----------
    BACKWARD_INPUT
    x : array_like of the same shape
        The input, not the result, which has lost the tail of exp.
    alpha : float, default 1.0
        As in `elu`.
    BACKWARD_REST

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.elu_backward([4.0, 4.0], [-np.log(2), 2.0])
    array([2., 4.])
    """
    alpha = checked_number("elu_backward", "alpha", alpha, FINITE)
    return activate_backward("elu_backward", "elu", grad_out, n_threads, alpha, 1.0, x=x)


@public
@described
def selu(x, *, out=None, n_threads=None):
    """Scaled exponential linear unit: ``scale * elu(x, alpha)`` whose constants keep mean 0 and variance 1.

    Parameters
    ----------
    FORWARD_INPUT
    FORWARD_REST

    References
    ----------
    Klambauer, Unterthiner, Mayr, Hochreiter: Self-normalizing neural networks, NeurIPS 2017:
    scale 1.0507009873554805, alpha 1.6732632423543772.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.selu([-1000.0, 0.0, 1.0]).round(4)
    array([-1.7581,  0.    ,  1.0507])
    """
    return activate("selu", "elu", x, out, n_threads, SELU_SCALE * SELU_ALPHA, SELU_SCALE)


@public
@described
def selu_backward(grad_out, x, *, n_threads=None):
    """Gradient of `selu` from its input: ``grad_out * scale`` where x > 0, else times ``alpha * exp(x)`` too.

    Parameters
    ----------
    BACKWARD_INPUT
    x : array_like of the same shape
        The input.
    BACKWARD_REST

    Examples
    --------
    >>> import cyconv
    >>> cyconv.selu_backward([1.0, 1.0], [-1e-9, 1.0]).round(4)
    array([1.7581, 1.0507])
    """
    return activate_backward("selu_backward", "elu", grad_out, n_threads, SELU_SCALE * SELU_ALPHA, SELU_SCALE, x=x)


@public
@described
def gelu(x, approximate="none", *, out=None, n_threads=None):
    """Gaussian error linear unit: ``x`` times the probability that a standard normal number is below x.

    The relative error stays small however far x lies below zero. For -inf the result is NaN, as in PyTorch.

    Parameters
    ----------
    FORWARD_INPUT
    approximate : {"none", "tanh"}, default "none"
        "tanh" is ``x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))``.
    FORWARD_REST

    References
    ----------
    Hendrycks, Gimpel: Gaussian error linear units (GELUs), arXiv:1606.08415, 2016.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.gelu([-1.0, 0.0, 1.0]).round(4)
    array([-0.1587,  0.    ,  0.8413])
    """
    return activate("gelu", gelu_kind("gelu", approximate), x, out, n_threads)


@public
@described
def gelu_backward(grad_out, x, approximate="none", *, n_threads=None):
    """Gradient of `gelu` from its input; times 0 at -inf and 1 at inf, the limits.

    Parameters
    ----------
    BACKWARD_INPUT
    x : array_like of the same shape
        The input.
    approximate : {"none", "tanh"}, default "none"
        As in `gelu`.
    BACKWARD_REST

    Examples
    --------
    >>> import cyconv
    >>> cyconv.gelu_backward([2.0, 2.0], [0.0, 100.0])
    array([1., 2.])
    """
    kind = gelu_kind("gelu_backward", approximate)
    return activate_backward("gelu_backward", kind, grad_out, n_threads, x=x)


@public
@described
def silu(x, *, out=None, n_threads=None):
    """Sigmoid linear unit, also called swish: ``x / (1 + exp(-x))``. For -inf it is NaN, as in PyTorch.

    Parameters
    ----------
    FORWARD_INPUT
    FORWARD_REST

    References
    ----------
    Elfwing, Uchibe, Doya: Sigmoid-weighted linear units for neural network function approximation in
    reinforcement learning, Neural Networks 107, 2018.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.silu([-1.0, 0.0, 1.0]).round(4)
    array([-0.2689,  0.    ,  0.7311])
    """
    return activate("silu", "silu", x, out, n_threads)


@public
@described
def silu_backward(grad_out, x, *, n_threads=None):
    """Gradient of `silu` from its input; times 0 at -inf and 1 at inf, the limits.

    Parameters
    ----------
    BACKWARD_INPUT
    x : array_like of the same shape
        The input.
    BACKWARD_REST

    Examples
    --------
    >>> import cyconv
    >>> cyconv.silu_backward([2.0, 2.0], [0.0, 100.0])
    array([1., 2.])
    """
    return activate_backward("silu_backward", "silu", grad_out, n_threads, x=x)


swish, swish_backward = silu, silu_backward


@public
@described
def sigmoid(x, *, out=None, n_threads=None):
    """Logistic function, ``1 / (1 + exp(-x))``, in [0, 1].

    Parameters
    ----------
    FORWARD_INPUT
    FORWARD_REST

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.sigmoid([-np.log(3), 0.0, 1000.0])
    array([0.25, 0.5 , 1.  ])
    """
    return activate("sigmoid", "sigmoid", x, out, n_threads)


@public
@described
def sigmoid_backward(grad_out, y, *, n_threads=None):
    """Gradient of `sigmoid` from its result: ``grad_out * y * (1 - y)``.

    Parameters
    ----------
    BACKWARD_INPUT
    y : array_like of the same shape
        The result, not the input.
    BACKWARD_REST

    Examples
    --------
    >>> import cyconv
    >>> cyconv.sigmoid_backward([1.0, 4.0], [0.25, 0.5])
    array([0.1875, 1.    ])
    """
    return activate_backward("sigmoid_backward", "sigmoid", grad_out, n_threads, y=y)


@public
@described
def tanh(x, *, out=None, n_threads=None):
    """Hyperbolic tangent, in [-1, 1].

    Parameters
    ----------
    FORWARD_INPUT
    FORWARD_REST

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.tanh([-np.log(2), 0.0, 1000.0])
    array([-0.6,  0. ,  1. ])
    """
    return activate("tanh", "tanh", x, out, n_threads)


@public
@described
def tanh_backward(grad_out, y, *, n_threads=None):
    """Gradient of `tanh` from its result: ``grad_out * (1 - y**2)``.

    Parameters
    ----------
    BACKWARD_INPUT
    y : array_like of the same shape
        The result, not the input.
    BACKWARD_REST

    Examples
    --------
    >>> import cyconv
    >>> cyconv.tanh_backward([4.0, 4.0], [0.0, 0.5])
    array([4., 3.])
    """
    return activate_backward("tanh_backward", "tanh", grad_out, n_threads, y=y)
