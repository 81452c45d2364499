"""Numerical gradients: what every backward function is compared with."""

import numpy as np


def central_differences(function, array, step=1e-5):
    """Gradient of a number-valued function of nothing with respect to ``array``, changed in place."""
    gradient = np.empty_like(array)
    for index in np.ndindex(array.shape):
        value = array[index]
        array[index] = value + step
        above = function()
        array[index] = value - step
        below = function()
        array[index] = value
        gradient[index] = (above - below) / (2 * step)
    return gradient


def assert_same_gradient(actual, expected, rtol=1e-6):
    """Largest difference against the largest gradient: tiny entries hold only rounding noise."""
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * np.abs(expected).max(initial=0))
