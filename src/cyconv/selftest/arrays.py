"""Test data: integers, bits, memory layouts, and the kinds of arrays that users pass."""

import numpy as np

LAYOUTS = ("channels_first", "channels_last")


def integers(rng, shape):
    """Integers in [-8, 8]: sums of their products are exact in float32 below 2**24."""
    return rng.integers(-8, 9, shape)


def in_layout(array, data_format):
    """A channels_first array as a C-contiguous array of ``data_format``."""
    return np.ascontiguousarray(np.moveaxis(array, 1, -1) if data_format == "channels_last" else array)


def channels_first(array, data_format):
    """A view of an array of ``data_format`` with the channels first."""
    return np.moveaxis(array, -1, 1) if data_format == "channels_last" else array


def bits(array):
    """The bit patterns of a floating-point array: tell -0.0 from 0.0 and compare NaN."""
    return np.ascontiguousarray(array).view(f"i{array.itemsize}")


def assert_same_bits(actual, expected, *where):
    """Equal shapes, dtypes and bits; ``where`` names the case."""
    if actual.dtype != expected.dtype or not np.array_equal(bits(actual), bits(expected)):
        raise AssertionError(f"bits differ: {where}")


# ---------------------------------------------------------------- kinds of arrays with the same values


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def strided(array):
    """Every second element along every axis of something larger."""
    larger = np.full([2 * n for n in array.shape], -99, array.dtype)
    larger[tuple(slice(0, None, 2) for _ in array.shape)] = array
    return larger[tuple(slice(0, None, 2) for _ in array.shape)]


def reversed_axes(array):
    """Negative strides along every axis."""
    back = (slice(None, None, -1),) * array.ndim
    return array[back].copy()[back]


def swapped_axes(array):
    """The last two axes exchanged in memory."""
    if array.ndim < 2:
        return array
    return np.ascontiguousarray(np.swapaxes(array, -1, -2)).swapaxes(-1, -2)


def unaligned(array):
    memory = np.zeros(array.nbytes + 1, np.uint8)
    result = memory[1:].view(array.dtype).reshape(array.shape)
    result[...] = array
    return result


def odd_strides(array):
    """Axes of length 1 whose strides mean nothing, as NumPy allows."""
    strides = [s if n > 1 else 7 * array.itemsize for n, s in zip(array.shape, array.strides)]
    return np.lib.stride_tricks.as_strided(array, array.shape, strides)


KINDS = {
    "read_only": read_only,
    "strided": strided,
    "reversed": reversed_axes,
    "swapped": swapped_axes,
    "fortran": np.asfortranarray,
    "big_endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "unaligned": unaligned,
    "odd_strides": odd_strides,
}


# What a parameter may be given: good values, and others of every size, kind and length.
HOSTILE = (
    0, -1, 1, 2, 2**31 - 1, 2**31, 2**32 + 3, 2**62, 2**63 - 1, -(2**63), 2**64, 10**30,
    True, 1.5, np.nan, np.inf, np.int8(1), np.float64(1), np.array(1), "x", "", b"same", None, object(),
    (), (1,), (1, 1), (1, 1, 1), (2**62, 1), [2**31 - 1, 1], (None, None), ("x", "y"), range(2), np.array([1, 1]),
    [[]], ((1,), (1,)), ((1, 1), (1, 1)), np.array([[1, 1], [1, 1]]), {}, {1}, {"a": 1},
)
