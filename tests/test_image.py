"""Plain arrays with plain kernels: exact against SciPy and NumPy, boundaries, differences, errors."""

from itertools import product

import numpy as np
import pytest
from scipy import ndimage, signal

import cyconv
from cyconv.selftest.arrays import HOSTILE, KINDS, assert_same_bits, integers

MODES = ("full", "same", "valid")
FUNCTIONS = ("correlate", "convolve")
A, K = np.arange(1.0, 6), np.array([1.0, 10])

# Our names of boundaries, and those of scipy.signal.convolve2d, numpy.pad and scipy.ndimage.
WRAP, SYMMETRIC, REFLECT, EDGE = ("wrap", "circular"), ("symm", "symmetric"), ("reflect",), ("edge", "replicate")


def pairs(rng, rank, count, largest=9):
    """Arrays and kernels of integers, of any sizes: also kernels larger than the array along some axes."""
    for _ in range(count):
        a, k = (integers(rng, tuple(rng.integers(1, largest + 1, rank))) for _ in "ak")
        yield a, k


def contains(a, k):
    """Whether one of both contains the other, as "valid" needs."""
    return all(n >= m for n, m in zip(a.shape, k.shape)) or all(n <= m for n, m in zip(a.shape, k.shape))


# ---------------------------------------------------------------- values worked by hand


@pytest.mark.parametrize("function, mode, expected", [
    ("correlate", "full", [10, 21, 32, 43, 54, 5]),
    ("correlate", "same", [10, 21, 32, 43, 54]),
    ("correlate", "valid", [21, 32, 43, 54]),
    ("convolve", "full", [1, 12, 23, 34, 45, 50]),
    ("convolve", "same", [1, 12, 23, 34, 45]),
    ("convolve", "valid", [12, 23, 34, 45]),
])
def test_modes_worked_by_hand(function, mode, expected, isa):
    np.testing.assert_array_equal(getattr(cyconv, function)(A, K, mode), expected)


@pytest.mark.parametrize("boundary, expected", [
    ("fill", [210, 321, 432, 43]), ("wrap", [214, 321, 432, 143]), ("symm", [211, 321, 432, 443]),
    ("reflect", [212, 321, 432, 343]), ("edge", [211, 321, 432, 443]),
])
def test_boundaries_worked_by_hand(boundary, expected, isa):
    np.testing.assert_array_equal(cyconv.correlate([1, 2, 3, 4], [1, 10, 100], "same", boundary), expected)


def test_fillvalue_lies_beyond_the_array():
    np.testing.assert_array_equal(cyconv.correlate([1, 2, 3], [1, 10, 100], "same", fillvalue=7), [217, 321, 732])
    y = cyconv.correlate([1.0, 2, 3], [1, 10, 100], "same", fillvalue=np.nan)
    np.testing.assert_array_equal(y, [np.nan, 321, np.nan])


# ---------------------------------------------------------------- exact against SciPy and NumPy


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_zeros_beyond_the_array_agree_with_scipy_signal(rank, isa, dtype, rng):
    for a, k in pairs(rng, rank, 150, largest=(30, 12, 6)[rank - 1]):
        a, k = a.astype(dtype), k.astype(dtype)
        for function in FUNCTIONS:
            for mode in MODES if contains(a, k) else MODES[:2]:
                expected = getattr(signal, function)(a, k, mode, method="direct")
                y = getattr(cyconv, function)(a, k, mode)
                assert y.dtype == dtype and y.flags.c_contiguous
                assert np.array_equal(y, expected), (function, mode, a.shape, k.shape)


@pytest.mark.parametrize("boundary", ["fill", "wrap", "symm"])
def test_boundaries_agree_with_scipy_signal(boundary, isa, rng):
    """In "same" mode correlate2d lies one cell further for an even number of taps; convolve2d agrees."""
    for a, k in pairs(rng, 2, 250):
        fillvalue = int(rng.integers(-3, 4))
        for mode in MODES if contains(a, k) else MODES[:2]:
            y = cyconv.convolve(a, k, mode, boundary, fillvalue)
            assert np.array_equal(y, signal.convolve2d(a, k, mode, boundary, fillvalue)), (mode, a.shape, k.shape)
            y = cyconv.correlate(a, k, mode, boundary, fillvalue)
            if mode == "valid" or mode == "full":
                expected = signal.correlate2d(a, k, mode, boundary, fillvalue)
            else:
                expected = signal.convolve2d(a, k[::-1, ::-1], mode, boundary, fillvalue)
            assert np.array_equal(y, expected), (mode, a.shape, k.shape)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("names, pad, nd", [
    (WRAP, "wrap", "wrap"), (SYMMETRIC, "symmetric", "reflect"), (REFLECT, "reflect", "mirror"),
    (EDGE, "edge", "nearest")])
def test_boundaries_are_those_of_numpy_pad_and_ndimage(names, pad, nd, rank, rng):
    for a, k in pairs(rng, rank, 40, largest=7):
        a = a.astype(float)
        padded = np.pad(a, [(m - 1, m - 1) for m in k.shape], pad)
        for name in names:
            assert np.array_equal(cyconv.correlate(a, k, "full", name),
                                  signal.correlate(padded, k, "valid", method="direct"))
            assert np.array_equal(cyconv.correlate(a, k, "same", name), ndimage.correlate(a, k, mode=nd))


def test_one_axis_agrees_with_numpy(rng):
    for a, k in pairs(rng, 1, 100, largest=20):
        for mode in ("full", "valid"):
            assert np.array_equal(cyconv.convolve(a, k, mode), np.convolve(a, k, mode))
            assert np.array_equal(cyconv.correlate(a, k, mode), np.correlate(a, k, mode))
        if len(k) <= len(a):
            assert np.array_equal(cyconv.convolve(a, k, "same"), np.convolve(a, k, "same"))
            assert np.array_equal(cyconv.correlate(a, k, "same"), np.correlate(a, k, "same"))


# ---------------------------------------------------------------- identities


def test_convolution_commutes_and_is_the_correlation_with_the_flipped_kernel(rng):
    for a, k in pairs(rng, 2, 60):
        assert np.array_equal(cyconv.convolve(a, k), cyconv.convolve(k, a))
        assert np.array_equal(cyconv.convolve(a, k), cyconv.correlate(a, k[::-1, ::-1]))
        if contains(a, k):
            assert np.array_equal(cyconv.convolve(a, k, "valid"), cyconv.convolve(k, a, "valid"))
            assert np.array_equal(cyconv.correlate(a, k, "valid"), cyconv.correlate(k, a, "valid")[::-1, ::-1])


def test_is_the_convolution_of_one_sample_with_one_channel(rng, dtype):
    a, k = rng.standard_normal((31, 40)).astype(dtype), rng.standard_normal((5, 4)).astype(dtype)
    for mode, padding in (("full", "full"), ("same", "same_lower"), ("valid", "valid")):
        for flip, function in ((False, cyconv.correlate), (True, cyconv.convolve)):
            assert_same_bits(function(a, k, mode),
                             cyconv.conv2d(a[None, None], k[None, None], padding=padding, flip=flip)[0, 0])


def test_even_ground_stays_even_with_every_boundary_but_fill(rng):
    for boundary in (*WRAP, *SYMMETRIC, *REFLECT, *EDGE):
        y = cyconv.correlate(np.full((4, 5), 3.0), np.ones((7, 4)), boundary=boundary)
        np.testing.assert_array_equal(y, np.full((10, 8), 84.0))


def test_bits_do_not_depend_on_threads(rng, threads_at_any_size):
    a, k = rng.standard_normal((50, 60)), rng.standard_normal((5, 7))
    for n_threads in (2, 3):
        assert_same_bits(cyconv.correlate(a, k, "same", "symm", n_threads=n_threads),
                         cyconv.correlate(a, k, "same", "symm", n_threads=1))


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_array_is_read_and_none_is_written(kind, rng):
    a, k = rng.standard_normal((9, 8)), rng.standard_normal((3, 3))
    before = a.copy(), k.copy()
    for boundary in ("fill", "wrap"):
        assert_same_bits(cyconv.correlate(KINDS[kind](a), KINDS[kind](k), "same", boundary),
                         cyconv.correlate(a, k, "same", boundary))
    assert_same_bits(a, before[0])
    assert_same_bits(k, before[1])


def test_computation_dtype_is_that_of_a_convolution():
    for a, k, expected in ((np.uint8, np.float32, np.float32), (np.uint8, np.int16, np.float32),
                           (np.int64, np.int64, np.float64), (np.float32, np.float64, np.float64)):
        assert cyconv.correlate(np.ones((3, 3), a), np.ones((2, 2), k)).dtype == expected


# ---------------------------------------------------------------- documented differences


def test_same_of_correlate2d_is_one_cell_later_for_even_kernels(rng):
    a, k = integers(rng, (6, 7)), integers(rng, (4, 2))
    full = cyconv.correlate(a, k)
    np.testing.assert_array_equal(signal.correlate2d(a, k, "same"), full[2:8, 1:8])
    np.testing.assert_array_equal(signal.correlate(a, k, "same", method="direct"), full[1:7, 0:7])
    np.testing.assert_array_equal(cyconv.correlate(a, k, "same"), full[1:7, 0:7])


def test_small_integers_do_not_overflow_as_in_scipy():
    a, k = np.full((2, 2), 200, np.uint8), np.ones((2, 1), np.uint8)
    assert signal.correlate2d(a, k, "valid")[0, 0] == 144
    assert cyconv.correlate(a, k, "valid")[0, 0] == 400


def test_infinite_tap_beyond_the_array_is_nan_there_and_nothing_here():
    a, k = np.ones(3), np.array([np.inf, 1, 1])
    assert np.isnan(signal.correlate2d(a[None], k[None], "same")[0, 0])
    assert cyconv.correlate(a, k, "same")[0] == 2


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("args, error, message", [
    ((A, K, "sam"), ValueError, "mode must be one of 'full', 'same', 'valid', got 'sam'"),
    ((A, K, 2), ValueError, "mode must be one of 'full', 'same', 'valid', got 2"),
    ((A, K, "same", "mirror"), ValueError, "boundary must be one of 'fill', 'wrap', 'symm'"),
    ((A, K, "same", "fill", [1, 2]), ValueError, r"fillvalue must be one number, got an array of shape \(2,\)"),
    ((A, K, "same", "fill", 1j), TypeError, "unsupported dtype complex128 for fillvalue"),
    ((A + 1j, K), TypeError, "unsupported dtype complex128 for a"),
    ((A, K + 1j), TypeError, "unsupported dtype complex128 for k"),
    ((A, K[None]), ValueError, r"a and k must have the same number of axes, 1 to 3, got shapes \(5,\) and \(1, 2\)"),
    ((np.ones((1,) * 4),) * 2, ValueError, "for batches and channels see conv2d"),
    ((1.0, 2.0), ValueError, "a and k must have the same number of axes, 1 to 3"),
    ((A, []), ValueError, r"k must not be empty, got shape \(0,\)"),
    ((np.ones((0, 3)), np.ones((1, 1))), ValueError, r"a must not be empty, got shape \(0, 3\)"),
    ((np.ones((2, 3)), np.ones((3, 2)), "valid"), ValueError, "one array must be at least as large as the other"),
    ((np.ma.array(A), K), TypeError, "a is a masked array"),
])
def test_errors_name_the_function_and_the_value(function, args, error, message):
    with pytest.raises(error, match=f"^{function}: .*{message}"):
        getattr(cyconv, function)(*args)


def test_hostile_arguments_are_computed_or_refused_by_name():
    for first, second in product(HOSTILE, HOSTILE):
        for call in (lambda a, b: cyconv.correlate(a, b), lambda a, b: cyconv.convolve(A, K, a, b),
                     lambda a, b: cyconv.correlate(A, K, "same", a, b),
                     lambda a, b: cyconv.correlate(A, K, "full", "fill", a)):
            try:
                call(first, second)
            except (ValueError, TypeError) as error:
                assert str(error).startswith(("correlate: ", "convolve: ")), (first, second)
