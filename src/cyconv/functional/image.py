"""One plain array filtered with one plain kernel, called as in scipy.signal and computed by `conv`."""

import numpy as np

from .. import _arrays
from .convolution import conv

__all__ = ["convolve", "correlate"]

MODES = ("full", "same", "valid")

# The names of scipy.signal.convolve2d and of `conv`, as the padding_mode of `conv`.
BOUNDARIES = {"fill": "zeros", "wrap": "wrap", "symm": "symmetric", "constant": "zeros", "circular": "wrap",
              "symmetric": "symmetric", "reflect": "reflect", "edge": "edge", "replicate": "edge"}


def correlate(a, k, mode="full", boundary="fill", fillvalue=0, *, n_threads=None):
    """Cross-correlate an array with a kernel: ``y[o] = sum over taps j of k[j] * a[o + j - low]``.

    Parameters
    ----------
    a : array_like of one to three axes
        Signal, image or volume. With the kernel, converted to the computation dtype
        ``np.result_type(a, k, np.float32)``, which must be float32 or float64.
    k : array_like of as many axes
        Kernel, of any size.
    mode : {"full", "same", "valid"}, default "full"
        "full" gives every overlap, ``n + m - 1`` outputs per axis for n cells and m taps, "same" the n in their
        middle, "valid" only the ``n - m + 1`` that need no boundary. For "valid" one array must be at least as
        large as the other along all axes; a kernel that contains the array changes roles with it.
    boundary : str, default "fill"
        What lies beyond the array: "fill" (or "constant") fillvalue; "wrap" (or "circular") the array again;
        "symm" (or "symmetric") its mirror image with the edge repeated; "reflect" with the edge not repeated;
        "edge" (or "replicate") its outermost cells. "valid" needs none.
    fillvalue : float, default 0
        Value for "fill".
    n_threads : int, optional
        As in `conv2d`.

    Returns
    -------
    ndarray of the computation dtype
        Of "same", low is ``m // 2``: the middle tap, or the later one of two, lies on the cell.

    Raises
    ------
    ValueError
        If shapes, names or values do not fit together, or an array is empty.
    TypeError
        If an array is complex or otherwise not of real numbers.

    See Also
    --------
    convolve : The same with the kernel flipped.
    conv2d : Batches, channels, strides, dilation.

    References
    ----------
    ``scipy.signal.correlate`` for one to three axes, with the boundaries of ``scipy.signal.correlate2d`` and those
    of `numpy.pad`. Results are floats, where SciPy's integers may overflow. The "same" of ``correlate2d`` is one
    cell later for an even number of taps. ``scipy.ndimage`` calls "symmetric" reflect and "reflect" mirror.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.correlate([1, 2, 3, 4], [1, 10, 100])
    array([100., 210., 321., 432.,  43.,   4.])
    >>> cyconv.correlate([1.0, 2, 3, 4], [1, 10, 100], "same", "wrap")
    array([214., 321., 432., 143.])
    """
    return filtered("correlate", a, k, mode, boundary, fillvalue, False, n_threads)


def convolve(a, k, mode="full", boundary="fill", fillvalue=0, *, n_threads=None):
    """Convolve an array with a kernel: ``y[o] = sum over taps j of k[j] * a[o - j + shift]``.

    The convolution of mathematics, which flips the kernel along all axes.

    Parameters
    ----------
    a, k, mode, boundary, fillvalue, n_threads
        As in `correlate`.

    Returns
    -------
    ndarray of the computation dtype
        The shift is 0 for "full" and ``(m - 1) // 2`` for "same": the middle tap, or the earlier one of two, lies on
        the cell.

    Raises
    ------
    ValueError
        If shapes, names or values do not fit together, or an array is empty.
    TypeError
        If an array is complex or otherwise not of real numbers.

    See Also
    --------
    correlate : The same without flipping the kernel.

    References
    ----------
    ``scipy.signal.convolve`` for one to three axes, with the boundaries of ``scipy.signal.convolve2d``, whose "same"
    agrees, and those of `numpy.pad`. Results are floats, where SciPy's integers may overflow. ``scipy.ndimage`` calls
    "symmetric" reflect and "reflect" mirror.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.convolve([1.0, 2, 3], [1, 10])
    array([ 1., 12., 23., 30.])
    >>> cyconv.convolve([[1.0, 2], [3, 4]], [[0, 0, 0], [0, 1, 0], [0, 0, 1]], "same", "symm")
    array([[2., 3.],
           [4., 5.]])
    """
    return filtered("convolve", a, k, mode, boundary, fillvalue, True, n_threads)


def filtered(function, a, k, mode, boundary, fillvalue, flip, n_threads):
    a, k = _arrays.as_reals(function, a=a, k=k)
    check_arrays(function, a, k)
    check_name(function, "mode", mode, MODES)
    check_name(function, "boundary", boundary, BOUNDARIES)
    if mode == "valid":
        a, k, swapped = larger_first(function, a, k)
        y = conv(a[None, None], k[None, None], flip=flip, n_threads=n_threads)[0, 0]
        # The correlation of b with a is that of a with b seen from the other end.
        return y[(slice(None, None, -1),) * y.ndim].copy() if swapped and not flip else y
    pads = [(m - 1, m - 1) if mode == "full" else (m // 2, (m - 1) // 2) for m in k.shape]
    return conv_beyond(function, a, k, pads, BOUNDARIES[boundary], fillvalue, flip, n_threads)


def conv_beyond(function, a, k, pads, mode, fillvalue, flip, n_threads):
    """Convolution of one array that goes on beyond its border: by a padding_mode, or with fillvalue for zeros."""
    fill = fill_of(function, fillvalue, a.dtype) if mode == "zeros" else 0
    if fill != 0:
        a, pads = np.pad(a, pads, constant_values=fill), 0
    return conv(a[None, None], k[None, None], padding=pads, padding_mode=mode, flip=flip, n_threads=n_threads)[0, 0]


def fill_of(function, fillvalue, dtype):
    value = _arrays.as_array(function, "fillvalue", fillvalue)
    if value.ndim:
        raise ValueError(f"{function}: fillvalue must be one number, got an array of shape {value.shape}")
    return value.astype(dtype)


def check_arrays(function, a, k):
    if not 1 <= a.ndim <= 3 or k.ndim != a.ndim:
        raise ValueError(f"{function}: a and k must have the same number of axes, 1 to 3, got shapes {a.shape} and "
                         f"{k.shape}; for batches and channels see conv2d")
    for name, array in (("a", a), ("k", k)):
        if not array.size:
            raise ValueError(f"{function}: {name} must not be empty, got shape {array.shape}")


def check_name(function, argument, name, names):
    if not isinstance(name, str) or name not in names:
        raise ValueError(f"{function}: {argument} must be one of {', '.join(map(repr, names))}, got {name!r}")


def larger_first(function, a, k):
    """The array that contains the other, that other, and whether they changed places."""
    if all(n >= m for n, m in zip(a.shape, k.shape)):
        return a, k, False
    if all(n <= m for n, m in zip(a.shape, k.shape)):
        return k, a, True
    raise ValueError(f"{function}: for mode 'valid' one array must be at least as large as the other along all axes, "
                     f"got shapes {a.shape} and {k.shape}")
