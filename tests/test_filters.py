"""Well-known kernels: worked values, agreement with scipy.ndimage, formulas, what they find, errors."""

import inspect
import re

import numpy as np
import pytest
from scipy import ndimage

import cyconv
from cyconv import _kernels, filters
from cyconv.selftest.arrays import HOSTILE, assert_same_bits

PI = np.pi


def impulse_response(function, shape, **parameters):
    """The kernel that a filter of scipy.ndimage correlates with."""
    image = np.zeros(shape)
    image[tuple(n // 2 for n in shape)] = 1
    return function(image, **parameters)[(slice(None, None, -1),) * len(shape)]


# ---------------------------------------------------------------- worked by hand


@pytest.mark.parametrize("kernel, expected", [
    (filters.identity(), [[1]]),
    (filters.identity((1, 4)), [[0, 1, 0, 0]]),
    (filters.box(2), [[.25, .25], [.25, .25]]),
    (filters.gaussian() * 16, [[1, 2, 1], [2, 4, 2], [1, 2, 1]]),
    (filters.gaussian((5,)) * 16, [1, 4, 6, 4, 1]),
    (filters.gaussian((1, 2)), [[.5, .5]]),
    (filters.sharpen(), [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
    (filters.sharpen(diagonals=True), [[-1, -1, -1], [-1, 9, -1], [-1, -1, -1]]),
    (filters.edge(), [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]),
    (filters.edge(diagonals=False), [[0, -1, 0], [-1, 4, -1], [0, -1, 0]]),
    (filters.edge(1), [-1, 2, -1]),
    (filters.laplacian(), [[0, 1, 0], [1, -4, 1], [0, 1, 0]]),
    (filters.laplacian(diagonals=True), [[1, 1, 1], [1, -8, 1], [1, 1, 1]]),
    (filters.sobel(), [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
    (filters.sobel(0), [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]),
    (filters.prewitt(0), [[-1, -1, -1], [0, 0, 0], [1, 1, 1]]),
    (filters.sobel(0, ndim=1), [-1, 0, 1]),
])
def test_kernel_worked_by_hand(kernel, expected):
    np.testing.assert_array_equal(kernel, expected)
    assert kernel.dtype == np.float64
    assert not np.any(np.signbit(kernel) & (kernel == 0))


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_sums_of_weights(ndim):
    """Smoothing keeps even ground, derivatives make it 0, sharpening keeps it."""
    smoothing = [filters.identity(4, ndim=ndim), filters.gaussian(5, ndim=ndim), filters.sharpen(ndim),
                 filters.sharpen(ndim, diagonals=True)]
    derivatives = [filters.laplacian(ndim), filters.edge(ndim), filters.sobel(0, ndim=ndim),
                   filters.prewitt(0, ndim=ndim)]
    assert [kernel.sum() for kernel in smoothing] == [1] * 4
    assert [kernel.sum() for kernel in derivatives] == [0] * 4
    for kernel in (filters.box(3, ndim=ndim), filters.gaussian(7, 1.3, ndim=ndim)):
        assert kernel.sum() == pytest.approx(1, rel=1e-14)
    assert all(kernel.ndim == ndim for kernel in (*smoothing, *derivatives))


# ---------------------------------------------------------------- agreement with scipy.ndimage


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_derivatives_are_those_of_ndimage(ndim):
    shape = (3,) * ndim
    np.testing.assert_array_equal(filters.laplacian(ndim), impulse_response(ndimage.laplace, shape, mode="constant"))
    for axis in range(-ndim, ndim):
        for ours, theirs in ((filters.sobel, ndimage.sobel), (filters.prewitt, ndimage.prewitt)):
            expected = impulse_response(theirs, shape, axis=axis, mode="constant")
            np.testing.assert_array_equal(ours(axis, ndim=ndim), expected)


@pytest.mark.parametrize("ndim, sigma, radius", [(1, 0.7, 3), (2, 1.3, 4), (2, (0.5, 2.0), 5), (3, (1.0, 0.8, 3.0), 2)])
def test_gaussian_is_that_of_ndimage(ndim, sigma, radius):
    size = 2 * radius + 1
    expected = impulse_response(ndimage.gaussian_filter, (size,) * ndim, sigma=sigma, radius=radius, mode="constant")
    np.testing.assert_allclose(filters.gaussian(size, sigma, ndim=ndim), expected, rtol=1e-13)


def test_binomial_weights_approach_the_gaussian():
    for size in (9, 17, 33):
        sigma = np.sqrt(size - 1) / 2
        difference = np.abs(filters.gaussian((size,)) - filters.gaussian((size,), sigma)).max()
        assert difference < 0.1 / size


def test_filtering_with_a_kernel_is_the_filter_of_ndimage(rng):
    image = rng.standard_normal((20, 30))
    for kernel, expected in ((filters.sobel(0), ndimage.sobel(image, 0)),
                             (filters.gaussian(9, 1.0), ndimage.gaussian_filter(image, 1.0, radius=4)),
                             (filters.box(3), ndimage.uniform_filter(image, 3)),
                             (filters.laplacian(), ndimage.laplace(image))):
        y = cyconv.correlate(image, kernel, mode="same", boundary="symm")
        np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-13)


# ---------------------------------------------------------------- what they find


def test_edge_filters_find_the_sides_of_a_square():
    image = np.zeros((12, 12))
    image[4:8, 4:8] = 1
    across = cyconv.correlate(image, filters.sobel(1), mode="same")
    assert across[5, 4] > 0 > across[5, 7] and across[5, 5] == across[0, 0] == 0
    border = cyconv.correlate(image, filters.edge(), mode="same") > 0
    expected = image.astype(bool)
    expected[5:7, 5:7] = False
    np.testing.assert_array_equal(border, expected)


def test_slopes_have_the_size_stated():
    ramp = np.arange(7.0)
    for ndim in (1, 2, 3):
        volume = np.broadcast_to(ramp, (7,) * ndim)
        assert np.unique(cyconv.correlate(volume, filters.sobel(ndim=ndim), "valid")) == [2 * 4 ** (ndim - 1)]
        assert np.unique(cyconv.correlate(volume, filters.prewitt(ndim=ndim), "valid")) == [2 * 3 ** (ndim - 1)]


def test_sharpening_is_the_identity_plus_the_edges(rng):
    image = rng.integers(0, 256, (9, 9))
    sharp = cyconv.correlate(image, filters.sharpen(), mode="same")
    np.testing.assert_array_equal(sharp, image + cyconv.correlate(image, filters.edge(diagonals=False), mode="same"))


# ---------------------------------------------------------------- Gabor


@pytest.mark.parametrize("parameters", [
    {"size": 9, "frequency": 0.2}, {"size": (7, 12), "frequency": 0.31, "theta": 0.7},
    {"size": 15, "frequency": 0.1, "theta": -2.5, "sigma": 2.0, "gamma": 0.5, "phase": 1.1},
    {"size": 1, "frequency": 3}, {"size": 6, "frequency": 1e-3, "sigma": 0.05, "phase": 100.0}])
def test_gabor_follows_its_formula(parameters):
    p = {"theta": 0, "gamma": 1, "phase": 0, **parameters}
    kernel = filters.gabor(**parameters)
    rows, columns = kernel.shape
    assert kernel.shape == (p["size"] if isinstance(p["size"], tuple) else (p["size"],) * 2)
    sigma = p.get("sigma", 3 * np.sqrt(np.log(2) / 2) / PI / p["frequency"])
    y, x = np.mgrid[:rows, :columns] - np.array([(rows - 1) / 2, (columns - 1) / 2])[:, None, None]
    u = x * np.cos(p["theta"]) + y * np.sin(p["theta"])
    v = y * np.cos(p["theta"]) - x * np.sin(p["theta"])
    sigma_x, sigma_y = sigma, sigma / p["gamma"]
    bell = np.exp(-(u ** 2 / sigma_x ** 2 + v ** 2 / sigma_y ** 2) / 2) / (2 * PI * sigma_x * sigma_y)
    expected = bell * np.cos(2 * PI * p["frequency"] * u + p["phase"])
    np.testing.assert_allclose(kernel, expected, rtol=1e-12, atol=1e-14 * bell.max())


def test_gabor_filters_answer_to_their_own_direction_and_frequency():
    frequencies, n = (0.125, 0.25), 4
    weight = filters.gabor_bank(n, frequencies, size=17)
    assert weight.shape == (8, 1, 17, 17)
    y, x = np.mgrid[:48, :48]
    for number, (frequency, direction) in enumerate((f, PI * i / n) for f in frequencies for i in range(n)):
        wave = np.cos(2 * PI * frequency * (x * np.cos(direction) + y * np.sin(direction)))
        energy = np.square(cyconv.conv2d(wave[None, None], weight)).mean(axis=(0, 2, 3))
        assert energy.argmax() == number


def test_gabor_of_a_quarter_phase_is_odd_and_finds_an_edge_that_becomes_brighter():
    kernel = filters.gabor(9, 0.2, phase=-PI / 2)
    np.testing.assert_allclose(kernel, -kernel[:, ::-1], atol=1e-16)
    image = np.repeat([[0.0] * 10 + [1.0] * 10], 9, axis=0)
    answer = cyconv.correlate(image, kernel, mode="same", boundary="edge")[4]
    assert answer.argmax() in (9, 10)


def test_sizes_of_a_gabor_bank_hold_three_standard_deviations():
    assert filters.gabor_bank(2, [0.1, 0.3]).shape == (4, 1, 35, 35)       # 3 * 0.5622 / 0.1 = 16.9
    assert filters.gabor_bank(1, [0.1], sigma=2).shape == (1, 1, 13, 13)
    assert filters.gabor_bank(1, [0.1], sigma=2, gamma=0.5).shape == (1, 1, 25, 25)
    assert filters.gabor_bank(3, dtype=np.float32).dtype == np.float32


def test_extreme_widths_are_finite():
    for size in (3, 4):
        for sigma in (1e-60, 1e60):
            assert filters.gaussian(size, sigma).sum() == pytest.approx(1)
            assert np.isfinite(filters.gabor(size, 1e60, 1.0, sigma, 1e60)).all()
            assert np.isfinite(filters.gabor(size, 1e-60, 1.0, gamma=1e-60)).all()


@pytest.mark.skipif(not {"avx2", "avx512"} <= set(_kernels.available), reason="needs AVX2 and AVX-512")
def test_bits_do_not_depend_on_the_instruction_set(every_isa):
    made = []
    for isa in ("avx2", "avx512"):
        _kernels.use(isa)
        made.append((filters.gaussian(31, 4.3), filters.gabor_bank()))
    for a, b in zip(*made):
        assert_same_bits(a, b)


# ---------------------------------------------------------------- banks


def test_bank_puts_the_centres_on_each_other(dtype):
    kernels = [filters.identity(1), filters.identity((2, 5)), filters.identity((5, 4)), [[1]]]
    weight = filters.bank(kernels, dtype=dtype)
    assert weight.dtype == dtype
    np.testing.assert_array_equal(weight, np.broadcast_to(filters.identity(5), (4, 1, 5, 5)))


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_bank_is_the_weight_of_a_convolution(ndim, rng):
    kernels = [filters.identity(3, ndim=ndim), filters.gaussian(5, ndim=ndim), filters.edge(ndim)]
    x = rng.integers(0, 10, (1, 1, *[8] * ndim)).astype(float)
    y = cyconv.conv(x, filters.bank(kernels), padding="same")
    for channel, kernel in zip(y[0], kernels):
        np.testing.assert_allclose(channel, cyconv.correlate(x[0, 0], kernel, "same"), rtol=1e-14, atol=1e-12)


def test_bank_on_every_channel_of_a_map(rng):
    weight, x = filters.bank([filters.sobel(0), filters.sobel(1)]), rng.integers(0, 10, (2, 3, 6, 7))
    y = cyconv.conv2d(x, np.tile(weight, (3, 1, 1, 1)), groups=3)
    np.testing.assert_array_equal(y[1, 4], cyconv.correlate(x[1, 2], filters.sobel(0), "valid"))


def test_kernels_are_new_arrays_each_time():
    first = filters.gaussian()
    first[...] = 0
    assert filters.gaussian().sum() == 1


# ---------------------------------------------------------------- errors and documentation


@pytest.mark.parametrize("call, error, message", [
    (lambda: filters.box(0), ValueError, "box: size must be >= 1 on every axis, got 0"),
    (lambda: filters.box((3, 3, 3, 3)), ValueError, "box: size must be an int or 1 to 3 ints, got (3, 3, 3, 3)"),
    (lambda: filters.box((3, 3), ndim=3), ValueError, "box: size must be an int or 3 ints, got (3, 3)"),
    (lambda: filters.identity(3.0), TypeError, "identity: size must be an int or 2 ints, got 3.0"),
    (lambda: filters.gaussian(3, 0), ValueError, "gaussian: sigma must be > 0, from 1e-60 to 1e+60, got 0"),
    (lambda: filters.gaussian(3, (1, 2, 3)), ValueError, "gaussian: sigma must be a number or 2 numbers"),
    (lambda: filters.gaussian(3, "1"), TypeError, "gaussian: sigma must be a finite number, got '1'"),
    (lambda: filters.laplacian(4), ValueError, "laplacian: ndim must be 1, 2 or 3, got 4"),
    (lambda: filters.edge(0), ValueError, "edge: ndim must be 1, 2 or 3, got 0"),
    (lambda: filters.sharpen(True), ValueError, "sharpen: ndim must be 1, 2 or 3, got True"),
    (lambda: filters.sobel(2), ValueError, "sobel: axis must be an int from -2 to 1, got 2"),
    (lambda: filters.prewitt(-2, ndim=1), ValueError, "prewitt: axis must be an int from -1 to 0, got -2"),
    (lambda: filters.gabor(5, 0), ValueError, "gabor: frequency must be > 0, from 1e-60 to 1e+60, got 0"),
    (lambda: filters.gabor(5, 0.1, np.nan), ValueError, "gabor: theta must be a finite number, got nan"),
    (lambda: filters.gabor(5, 0.1, gamma=-1), ValueError, "gabor: gamma must be > 0, from 1e-60 to 1e+60, got -1"),
    (lambda: filters.gabor_bank(0), ValueError, "gabor_bank: n_orientations must be >= 1, got 0"),
    (lambda: filters.gabor_bank(2, []), ValueError, "gabor_bank: frequencies must be at least one number, got []"),
    (lambda: filters.bank([]), ValueError, "bank: kernels must be at least one array"),
    (lambda: filters.bank([np.ones(3), np.ones((3, 3))]), ValueError, "got shapes [(3,), (3, 3)]"),
    (lambda: filters.bank([np.ones((0, 3))]), ValueError, "got shapes [(0, 3)]"),
    (lambda: filters.bank([[[1j]]]), TypeError, "bank: unsupported dtype complex128 for kernels[0]"),
    (lambda: filters.bank([[[1]]], dtype=int), TypeError, "bank: dtype must be float32 or float64, got int64"),
    (lambda: filters.box(2**13), ValueError, "box: size must be at most 16777216 cells, got 8192"),
    (lambda: filters.bank(3), TypeError, "bank: kernels must be a sequence of arrays, got 3"),
])
def test_errors_name_the_function_and_the_value(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert message in str(raised.value)


def test_hostile_arguments_are_computed_or_refused_by_name():
    for value in HOSTILE:
        for name, call in (("identity", filters.identity), ("box", filters.box), ("gaussian", filters.gaussian),
                           ("gaussian", lambda v: filters.gaussian(3, v)), ("edge", filters.edge),
                           ("sobel", filters.sobel), ("gabor", lambda v: filters.gabor(3, v)),
                           ("gabor", lambda v: filters.gabor(v, 1, 1)), ("gabor", lambda v: filters.gabor(3, 1, v)),
                           ("gabor_bank", filters.gabor_bank), ("gabor_bank", lambda v: filters.gabor_bank(1, v)),
                           ("bank", filters.bank), ("bank", lambda v: filters.bank([v]))):
            try:
                assert isinstance(call(value), np.ndarray)
            except (ValueError, TypeError) as error:
                assert str(error).startswith(name + ": "), (name, value)


def test_docstrings_describe_every_parameter_and_the_result():
    for name in filters.__all__:
        function = getattr(filters, name)
        assert "    Examples\n    --------\n" in function.__doc__
        listed = re.search(r"Parameters\n    -+\n(.*?)\n\n    Returns\n    -+\n", function.__doc__, re.DOTALL)[1]
        entries = re.findall(r"^    (\w.*)$", listed, re.MULTILINE)
        described = [parameter for entry in entries for parameter in entry.split(" :")[0].split(", ")]
        assert described == list(inspect.signature(function).parameters), name
