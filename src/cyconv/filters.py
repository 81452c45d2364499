"""Well-known kernels: smoothing, sharpening, edges, textures.

Plain float64 arrays of shape (R, S), or of one or three axes. A size is an int, which counts for every axis, or one
int per axis; a size of one int is for images unless ``ndim`` says otherwise. Use a kernel with `cyconv.correlate`,
which does not flip it, or several as the `bank` of weights of `cyconv.conv2d`.

A value out of range raises ValueError, one of another kind TypeError.

Values are made of additions, multiplications and the library's own exponential function, so they have the same bits
on every processor with FMA.
"""

from math import comb, inf, log, pi, prod, sqrt

import numpy as np

from . import _arrays, _geometry
from ._scalars import checked_number
from .functional import softmax

__all__ = ["bank", "box", "edge", "gabor", "gabor_bank", "gaussian", "identity", "laplacian", "prewitt", "sharpen",
           "sobel"]

# Standard deviation times frequency at which a Gabor filter passes half of its amplitude at two frequencies one
# octave apart: (2 + 1) / (2 - 1) * sqrt(log(2) / 2) / pi.
ONE_OCTAVE = 3 * sqrt(log(2) / 2) / pi

MAX_CELLS = 2**24
SMALLEST = 1e-60     # squares of quotients of such numbers are finite
FINITE = ("a finite number", lambda v: -inf < v < inf)


# ---------------------------------------------------------------- smoothing


def identity(size=1, *, ndim=None):
    """One at the centre and zeros around it: returns what it is given.

    Parameters
    ----------
    size : int or tuple of int, default 1
        At least 1. Along an axis of even size the earlier cell in the middle is the centre.
    ndim : int, optional
        Number of axes, 1 to 3; None for as many as size has entries, 2 for a number.

    Returns
    -------
    ndarray of shape (R, S), float64

    Examples
    --------
    >>> from cyconv import filters
    >>> filters.identity(3)
    array([[0., 0., 0.],
           [0., 1., 0.],
           [0., 0., 0.]])
    """
    kernel = np.zeros(shape_of("identity", size, ndim))
    kernel[tuple((n - 1) // 2 for n in kernel.shape)] = 1
    return kernel


def box(size=3, *, ndim=None):
    """The mean: ``1 / prod(size)`` everywhere.

    Parameters
    ----------
    size : int or tuple of int, default 3
        At least 1.
    ndim : int, optional
        Number of axes, 1 to 3; None for as many as size has entries, 2 for a number.

    Returns
    -------
    ndarray of shape (R, S), float64

    Examples
    --------
    >>> from cyconv import filters
    >>> filters.box((2, 4))
    array([[0.125, 0.125, 0.125, 0.125],
           [0.125, 0.125, 0.125, 0.125]])
    """
    shape = shape_of("box", size, ndim)
    return np.full(shape, 1 / prod(shape))


def gaussian(size=3, sigma=None, *, ndim=None):
    """Blur with the weights of a bell curve, whose sum is 1.

    Parameters
    ----------
    size : int or tuple of int, default 3
        At least 1; about six times sigma holds the whole curve.
    sigma : float or tuple of float, optional
        Standard deviation in cells, per axis. None for the binomial coefficients ``comb(size - 1, i)``, the usual
        approximation in integers, of standard deviation ``sqrt(size - 1) / 2``.
    ndim : int, optional
        Number of axes, 1 to 3; None for as many as size has entries, 2 for a number.

    Returns
    -------
    ndarray of shape (R, S), float64
        Outer product over the axes of ``exp(-i**2 / (2 * sigma**2))``, divided by its sum, i cells from the middle.

    References
    ----------
    The weights of ``scipy.ndimage.gaussian_filter`` of ``radius=(size - 1) / 2``.

    Examples
    --------
    >>> from cyconv import filters
    >>> filters.gaussian() * 16
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    shape = shape_of("gaussian", size, ndim)
    if sigma is None:
        return outer([np.array([comb(n - 1, i) for i in range(n)]) / 2.0 ** (n - 1) for n in shape])
    sigmas = positive("gaussian", "sigma", sigma, len(shape))
    return outer([softmax(-(from_middle(n) / s) ** 2 / 2) for n, s in zip(shape, sigmas)])


# ---------------------------------------------------------------- second derivatives


def laplacian(ndim=2, *, diagonals=False):
    """Sum of the second derivatives along the axes: the neighbours minus as many times the centre.

    Parameters
    ----------
    ndim : int, default 2
        Number of axes, 1 to 3.
    diagonals : bool, default False
        Whether the cells at the corners are neighbours too.

    Returns
    -------
    ndarray of shape (3, 3), float64

    References
    ----------
    ``scipy.ndimage.laplace``.

    Examples
    --------
    >>> from cyconv import filters
    >>> filters.laplacian()
    array([[ 0.,  1.,  0.],
           [ 1., -4.,  1.],
           [ 0.,  1.,  0.]])
    """
    return neighbours("laplacian", ndim, diagonals)


def edge(ndim=2, *, diagonals=True):
    """The centre against its neighbours: 0 on even ground, large on edges, lines and points.

    Parameters
    ----------
    ndim : int, default 2
        Number of axes, 1 to 3.
    diagonals : bool, default True
        Whether the cells at the corners are neighbours too.

    Returns
    -------
    ndarray of shape (3, 3), float64
        The negative `laplacian`.

    Examples
    --------
    An edge is found where a dark half meets a bright one:

    >>> import numpy as np
    >>> import cyconv
    >>> from cyconv import filters
    >>> filters.edge()
    array([[-1., -1., -1.],
           [-1.,  8., -1.],
           [-1., -1., -1.]])
    >>> image = np.repeat([[0.0, 0, 0, 1, 1, 1]], 4, axis=0)
    >>> cyconv.correlate(image, filters.edge(), mode="same", boundary="edge")
    array([[ 0.,  0., -3.,  3.,  0.,  0.],
           [ 0.,  0., -3.,  3.,  0.,  0.],
           [ 0.,  0., -3.,  3.,  0.,  0.],
           [ 0.,  0., -3.,  3.,  0.,  0.]])
    """
    return 0 - neighbours("edge", ndim, diagonals)


def sharpen(ndim=2, *, diagonals=False):
    """The input plus what it differs from its neighbours: `identity` plus `edge`.

    Parameters
    ----------
    ndim : int, default 2
        Number of axes, 1 to 3.
    diagonals : bool, default False
        Whether the cells at the corners are neighbours too.

    Returns
    -------
    ndarray of shape (3, 3), float64
        Its sum is 1, so even ground keeps its value.

    Examples
    --------
    >>> from cyconv import filters
    >>> filters.sharpen()
    array([[ 0., -1.,  0.],
           [-1.,  5., -1.],
           [ 0., -1.,  0.]])
    """
    kernel = -neighbours("sharpen", ndim, diagonals)
    return kernel + identity(3, ndim=kernel.ndim)


def neighbours(function, ndim, diagonals):
    """1 at the neighbours of the centre, and minus their number there."""
    ndim = _geometry.checked_ndim(function, ndim)
    distance = sum(np.abs(np.indices((3,) * ndim) - 1))
    kernel = np.where((distance == 1) | (bool(diagonals) & (distance > 1)), 1.0, 0.0)
    kernel[(1,) * ndim] = -kernel.sum()
    return kernel


# ---------------------------------------------------------------- first derivatives


def sobel(axis=-1, *, ndim=2):
    """Slope along one axis, smoothed along the others by [1, 2, 1].

    Parameters
    ----------
    axis : int, default -1
        The axis of the slope. Positive where values grow along it, under correlation.
    ndim : int, default 2
        Number of axes, 1 to 3.

    Returns
    -------
    ndarray of shape (3, 3), float64
        Gives ``2 * 4**(ndim - 1)`` times the slope per cell.

    References
    ----------
    ``scipy.ndimage.sobel``.

    Examples
    --------
    >>> from cyconv import filters
    >>> filters.sobel(axis=0)
    array([[-1., -2., -1.],
           [ 0.,  0.,  0.],
           [ 1.,  2.,  1.]])
    """
    return slope("sobel", axis, ndim, [1.0, 2, 1])


def prewitt(axis=-1, *, ndim=2):
    """Slope along one axis, smoothed along the others by [1, 1, 1].

    Parameters
    ----------
    axis : int, default -1
        The axis of the slope. Positive where values grow along it, under correlation.
    ndim : int, default 2
        Number of axes, 1 to 3.

    Returns
    -------
    ndarray of shape (3, 3), float64
        Gives ``2 * 3**(ndim - 1)`` times the slope per cell.

    References
    ----------
    ``scipy.ndimage.prewitt``.

    Examples
    --------
    >>> from cyconv import filters
    >>> filters.prewitt(axis=1)
    array([[-1.,  0.,  1.],
           [-1.,  0.,  1.],
           [-1.,  0.,  1.]])
    """
    return slope("prewitt", axis, ndim, [1.0, 1, 1])


def slope(function, axis, ndim, smooth):
    ndim = _geometry.checked_ndim(function, ndim)
    if not _geometry.is_integer(axis) or not -ndim <= axis < ndim:
        raise ValueError(f"{function}: axis must be an int from {-ndim} to {ndim - 1}, got {axis!r}")
    profiles = [np.array(smooth)] * ndim
    profiles[axis] = np.array([-1.0, 0, 1])
    return outer(profiles)


# ---------------------------------------------------------------- textures


def gabor(size, frequency, theta=0.0, sigma=None, gamma=1.0, phase=0.0):
    """A wave under a bell curve: answers to stripes of one direction and width.

    Parameters
    ----------
    size : int or (int, int)
        Rows and columns, at least 1.
    frequency : float
        Waves per cell, above 0; the stripes are ``1 / (2 * frequency)`` wide.
    theta : float, default 0
        Direction in which the wave runs, in radians from the columns' axis (x, to the right) towards the rows' axis
        (y, down): 0 answers to vertical stripes, pi / 2 to horizontal ones.
    sigma : float, optional
        Standard deviation of the bell curve along the wave in cells, above 0; None for a bandwidth of one octave,
        ``0.562 / frequency``.
    gamma : float, default 1
        Ratio of the standard deviations along and across the wave, above 0.
    phase : float, default 0
        Of the wave at the centre, in radians: 0 answers to a bright line, -pi / 2 to an edge that becomes brighter
        in the direction theta.

    Returns
    -------
    ndarray of shape (R, S), float64
        ``gamma / (2 pi sigma**2) * exp(-(u**2 + gamma**2 v**2) / (2 sigma**2)) * cos(2 pi frequency u + phase)`` with
        ``u = x cos(theta) + y sin(theta)`` and ``v = y cos(theta) - x sin(theta)``, x and y from the middle.

    References
    ----------
    Daugman: Uncertainty relation for resolution in space, spatial frequency, and orientation optimized by
    two-dimensional visual cortical filters, J. Opt. Soc. Am. A, 1985. The real part of
    ``skimage.filters.gabor_kernel`` of ``sigma_x=sigma, sigma_y=sigma / gamma, offset=phase``.
    ``cv2.getGaborKernel`` leaves out the factor before the exponential.

    Examples
    --------
    >>> from cyconv import filters
    >>> filters.gabor((1, 5), 0.25, sigma=1.0).round(3)
    array([[-0.022,  0.   ,  0.159,  0.   , -0.022]])
    """
    function = "gabor"
    rows, columns = shape_of(function, size, 2)
    (frequency,) = positive(function, "frequency", frequency, 1)
    (sigma,) = positive(function, "sigma", ONE_OCTAVE / frequency if sigma is None else sigma, 1)
    (gamma,) = positive(function, "gamma", gamma, 1)
    turn, start = (number(function, name, value) / (2 * pi) for name, value in (("theta", theta), ("phase", phase)))
    cos_theta, sin_theta = cosine(np.array([turn, turn - 0.25]))
    y, x = from_middle(rows)[:, None], from_middle(columns)
    u, v = x * cos_theta + y * sin_theta, y * cos_theta - x * sin_theta
    bell = exponential(-(u ** 2 + (gamma * v) ** 2) / (2 * sigma ** 2))
    return gamma / (2 * pi * sigma ** 2) * bell * cosine(frequency * u + start)


def gabor_bank(n_orientations=4, frequencies=(0.1, 0.2, 0.4), *, size=None, sigma=None, gamma=1.0, phase=0.0,
               dtype=np.float64):
    """Weights of Gabor filters of several frequencies, each in several directions.

    Parameters
    ----------
    n_orientations : int, default 4
        Directions theta, ``i * pi / n_orientations`` for i from 0; at least 1.
    frequencies : sequence of float, default (0.1, 0.2, 0.4)
        Waves per cell.
    size : int or (int, int), optional
        Rows and columns; None for the odd size that holds three standard deviations of the widest filter.
    sigma, gamma, phase
        As in `gabor`.
    dtype : dtype, default float64
        float32 or float64.

    Returns
    -------
    ndarray of shape (len(frequencies) * n_orientations, 1, R, S)
        All directions of the first frequency, then of the next.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> weight = cyconv.filters.gabor_bank(4, [0.25], size=9)
    >>> stripes = np.tile([1.0, 1, 0, 0], (16, 4))
    >>> energy = np.square(cyconv.conv2d(stripes[None, None], weight)).mean(axis=(0, 2, 3))
    >>> energy.argmax()
    np.int64(0)
    """
    function = "gabor_bank"
    (n_orientations,) = _geometry.per_axis(function, "n_orientations", n_orientations, 1, 1)
    frequencies = positive(function, "frequencies", frequencies, None)
    if size is None:
        widest = ONE_OCTAVE / min(frequencies) if sigma is None else positive(function, "sigma", sigma, 1)[0]
        size = 2 * int(np.ceil(3 * widest / min(1.0, *positive(function, "gamma", gamma, 1)))) + 1
    cells = prod(shape_of(function, size, 2)) * len(frequencies) * n_orientations
    if cells > MAX_CELLS:
        raise ValueError(f"{function}: the filters must have at most {MAX_CELLS} cells together, these have {cells}")
    return bank([gabor(size, f, pi * i / n_orientations, sigma, gamma, phase)
                 for f in frequencies for i in range(n_orientations)], dtype=dtype)


# ---------------------------------------------------------------- several kernels


def bank(kernels, *, dtype=np.float64):
    """Weights of a convolution with one input channel: one output channel per kernel.

    Parameters
    ----------
    kernels : sequence of array_like
        At least one, all with the same number of axes, 1 to 3. Smaller ones get zeros around them, so that the
        centres of all, ``(size - 1) // 2`` as for the padding "same", lie on each other.
    dtype : dtype, default float64
        float32 or float64; convolutions compute in the wider one of this and the input's.

    Returns
    -------
    ndarray of shape (K, 1, R, S)
        For a map of C channels that each go through all kernels, ``np.tile(bank, (C, 1, 1, 1))`` and ``groups=C``.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> from cyconv import filters
    >>> weight = filters.bank([filters.identity(), filters.gaussian(5), filters.sobel(0), filters.sobel(1)])
    >>> weight.shape
    (4, 1, 5, 5)
    >>> cyconv.conv2d(np.ones((1, 1, 28, 28)), weight, padding="same").shape
    (1, 4, 28, 28)
    """
    function = "bank"
    dtype = np.dtype(dtype)
    if dtype not in (_arrays.FLOAT32, _arrays.FLOAT64):
        raise TypeError(f"{function}: dtype must be float32 or float64, got {dtype}")
    kernels = [_arrays.as_array(function, f"kernels[{number}]", kernel)
               for number, kernel in enumerate(_geometry.entries(function, "kernels", "arrays", kernels))]
    ndims = {kernel.ndim for kernel in kernels}
    if len(ndims) != 1 or not ndims <= {1, 2, 3} or not all(kernel.size for kernel in kernels):
        raise ValueError(f"{function}: kernels must be at least one array, none empty and all with the same 1 to 3 "
                         f"axes, got shapes {[kernel.shape for kernel in kernels]}")
    shape = tuple(map(max, zip(*(kernel.shape for kernel in kernels))))
    weight = np.zeros((len(kernels), 1, *shape), dtype)
    for target, kernel in zip(weight[:, 0], kernels):
        starts = [(n - 1) // 2 - (m - 1) // 2 for n, m in zip(shape, kernel.shape)]
        target[tuple(slice(start, start + m) for start, m in zip(starts, kernel.shape))] = kernel
    return weight


# ---------------------------------------------------------------- numbers


def shape_of(function, size, ndim):
    shape = _geometry.kernel_axes(function, "size", size, ndim)
    if prod(shape) > MAX_CELLS:
        raise ValueError(f"{function}: size must be at most {MAX_CELLS} cells, got {size!r}")
    return shape


def outer(profiles):
    """Product of one profile per axis."""
    kernel = np.ones(())
    for profile in profiles:
        kernel = kernel[..., None] * profile
    return kernel


def from_middle(n):
    """Positions of n cells, 0 in their middle."""
    return np.arange(n) - (n - 1) / 2


def exponential(x):
    """e**x for x <= 0 by the library's own function: the ratio of the two probabilities of logits x and 0."""
    odds = softmax(np.stack([x, np.zeros_like(x)]), axis=0)
    return odds[0] / odds[1]


def cosine(turns):
    """cos(2 pi turns) by its Taylor series: NumPy's may differ in the last bit between instruction sets."""
    square = (2 * pi * (turns - np.round(turns))) ** 2
    total = np.ones_like(square)
    for i in range(30, 0, -2):
        total = 1 - total * square / (i * (i - 1))
    return total


def number(function, name, value):
    return float(checked_number(function, name, value, FINITE))


def positive(function, name, value, count):
    """Finite numbers > 0: ``count`` of them, one for all or one each, or as many as there are for None."""
    values = _geometry.as_tuple(value)
    if values is None:
        values = (value,) * (count or 1)
    if count is not None and len(values) == 1:
        values *= count
    if len(values) != (count or len(values)) or not values:
        expected = f"a number or {count} numbers" if count else "at least one number"
        raise ValueError(f"{function}: {name} must be {expected}, got {value!r}")
    values = tuple(number(function, name, v) for v in values)
    if not (SMALLEST <= min(values) and max(values) <= 1 / SMALLEST):
        raise ValueError(f"{function}: {name} must be > 0, from {SMALLEST} to {1 / SMALLEST}, got {value!r}")
    return values
