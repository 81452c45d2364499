"""Augmentation: every change against SciPy or by hand, the literals, where randomness comes from."""

import numpy as np
import pytest
from scipy import ndimage, stats

from cyconv import _kernels
from cyconv.augmentation import PRESETS, augment, check_augment, cos_sin, draws, planned
from cyconv.network import random_stream
from cyconv.selftest.arrays import KINDS, assert_same_bits, channels_first, in_layout

SHAPES = [(5, 2, 37), (6, 3, 9, 21), (4, 2, 5, 6, 18)]
EVERYTHING = {"shift": 0.2, "flip": [0], "rotate": 40, "scale": 0.3, "noise": 0.5, "cutout": 3}


def how_for(shape, **changes):
    """Every change that samples of the shape can go through."""
    return {key: value for key, value in (EVERYTHING | changes).items() if key != "rotate" or len(shape) > 3}


def stream(step=0):
    return random_stream(7, 3, step)


# ---------------------------------------------------------------- what is computed


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shift", [0.2, 0.95])
def test_geometry_is_scipys_affine_transform(rng, isa, dtype, data_format, shape, shift):
    how = how_for(shape, shift=shift, noise=0, cutout=1)
    how.pop("cutout")
    x = rng.standard_normal(shape).astype(dtype)
    y = channels_first(augment(in_layout(x, data_format), how, stream(), data_format), data_format)
    assert y.dtype == dtype
    affine, _ = draws(planned(how, shape[2:]), shape[2:], len(x), stream())
    for sample, found, matrix in zip(x, y, affine):
        for channel, values in zip(sample, found):
            expected = ndimage.affine_transform(channel.astype(float), matrix[:, :-1], matrix[:, -1], order=1,
                                                mode="grid-constant")
            np.testing.assert_allclose(values, expected, atol=2e-5 if dtype is np.float32 else 1e-11)


def test_whole_shifts_are_exact_and_all_equally_likely(rng):
    x = rng.standard_normal((3000, 1, 5, 6), np.float32)
    y = augment(x, {"shift": (1, 2)}, stream())
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (2, 2)))
    moved = {(i, j): padded[:, :, 1 - i:6 - i, 2 - j:8 - j] for i in (-1, 0, 1) for j in range(-2, 3)}
    counts = [int((y == values).all(axis=(1, 2, 3)).sum()) for values in moved.values()]
    assert sum(counts) == len(x)
    assert stats.chisquare(counts).pvalue > 0.001


def test_shifts_by_a_share_of_an_axis_are_even_and_bounded():
    affine, _ = draws(planned({"shift": 0.25}, (8, 20)), (8, 20), 5000, stream())
    for axis, limit in enumerate((2, 5)):
        shifts = -affine[:, axis, -1]
        assert stats.kstest(shifts, stats.uniform(-limit, 2 * limit).cdf).pvalue > 0.001


@pytest.mark.parametrize("flip, axes", [("horizontal", (3,)), ("vertical", (2,)), (0, (2,)), (-1, (3,)),
                                        (["horizontal", 0], (2, 3))])
def test_flips_are_exact_and_happen_half_the_time(rng, flip, axes):
    x = rng.standard_normal((2000, 2, 4, 5))
    y = augment(x, {"flip": flip}, stream())
    outcomes = [x]
    for axis in axes:
        outcomes += [np.flip(values, axis) for values in outcomes]
    counts = [int((y == values).all(axis=(1, 2, 3)).sum()) for values in outcomes]
    assert sum(counts) == len(x)
    assert stats.chisquare(counts).pvalue > 0.001


def test_rotations_are_rotations_by_even_angles():
    affine, _ = draws(planned({"rotate": 60}, (9, 9)), (9, 9), 5000, stream())
    matrix = affine[:, :, :2]
    np.testing.assert_allclose(matrix @ matrix.transpose(0, 2, 1), np.broadcast_to(np.eye(2), matrix.shape), atol=1e-12)
    np.testing.assert_allclose(affine @ [4, 4, 1], np.full((5000, 2), 4.0))     # the centre stays
    angles = np.degrees(np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0]))
    assert stats.kstest(angles, stats.uniform(-60, 120).cdf).pvalue > 0.001


def test_a_quarter_turn_is_that_of_numpy(rng):
    x = rng.standard_normal((1, 2, 6, 6))
    cosine, sine = np.round(cos_sin(np.pi / 2), 9)
    matrix = np.array([[cosine, -sine], [sine, cosine]])
    affine = np.concatenate([matrix, (2.5 - matrix @ [2.5, 2.5])[:, None]], axis=1)[None]
    y = np.empty_like(x)
    _kernels.kernels[x.dtype].augment(x, y, affine, None, 0, 0, False, 1)
    np.testing.assert_array_equal(y, np.rot90(x, -1, (2, 3)))


def test_cosine_and_sine_are_within_1e_9():
    angles = np.linspace(-np.pi, np.pi, 10001)
    np.testing.assert_allclose(cos_sin(angles), (np.cos(angles), np.sin(angles)), atol=1e-9)


def test_volumes_turn_about_each_axis():
    affine, _ = draws(planned({"rotate": 30}, (5, 5, 5)), (5, 5, 5), 200, stream())
    matrix = affine[:, :, :3]
    np.testing.assert_allclose(matrix @ matrix.transpose(0, 2, 1), np.broadcast_to(np.eye(3), matrix.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(matrix), 1)
    assert (np.abs(matrix - np.eye(3)).std(axis=0) > 0.01).all()


def test_a_scale_of_two_doubles_the_middle():
    signal = np.array([[[0.0, 0, 1, 3, 0, 0]]])
    y = augment(signal, {"scale": (2, 2)}, stream())
    np.testing.assert_allclose(y[0, 0], [0.25, 0.75, 1.5, 2.5, 2.25, 0.75])     # from 1.25 to 3.75 by halves


def test_scales_are_even_and_bounded():
    affine, _ = draws(planned({"scale": 0.2}, (9, 9)), (9, 9), 5000, stream())
    np.testing.assert_array_equal(affine[:, 0, 0], affine[:, 1, 1])
    assert stats.kstest(1 / affine[:, 0, 0], stats.uniform(0.8, 0.4).cdf).pvalue > 0.001


# ---------------------------------------------------------------- noise and holes


def test_noise_is_bell_shaped_and_uncorrelated(dtype):
    x = np.zeros((200, 2, 16, 20), dtype)
    y = augment(x, {"noise": 2.0}, stream()).astype(float) / 2
    n = y.size
    assert abs(y.mean()) < 4 / n ** 0.5
    assert abs(y.var() - 1) < 4 * (1.7 / n) ** 0.5
    assert abs(stats.skew(y, axis=None)) < 0.02
    assert -0.35 < stats.kurtosis(y, axis=None) < -0.25      # of the sum of four even numbers: -0.3
    assert np.abs(y).max() < 3.46
    for axis, shift in ((0, 1), (1, 1), (2, 1), (3, 1), (3, 4), (3, 16)):
        assert abs((y * np.roll(y, shift, axis)).mean()) < 4 / n ** 0.5, (axis, shift)


def test_noise_of_two_steps_is_unrelated():
    a, b = (augment(np.zeros((50, 1, 20, 20)), {"noise": 1}, stream(step)) for step in (0, 1))
    assert np.mean(a == b) < 0.02
    assert all(abs(np.mean(a.ravel()[lag:] * b.ravel()[:a.size - lag])) < 0.03 for lag in range(200))


def test_noise_is_of_the_units_of_x_and_comes_after_the_geometry(rng):
    x = rng.standard_normal((3, 1, 6, 6))
    moved, noisy = (augment(x, how, stream()) for how in ({"shift": 2}, {"shift": 2, "noise": 0.25}))
    noise = augment(np.zeros_like(x), {"shift": 2, "noise": 0.25}, stream())
    np.testing.assert_allclose(noisy, moved + noise, atol=1e-14)


@pytest.mark.parametrize("cutout, sizes", [(3, (3, 3)), ((2, 5), (2, 5)), (0.5, (4, 6)), (1, (1, 1))])
def test_holes_are_boxes_around_any_cell(cutout, sizes):
    y = augment(np.ones((2000, 2, 8, 12)), {"cutout": cutout, "noise": 0.01}, stream())
    hole = y == 0
    assert (hole == hole[:, :1]).all()                      # the same in all channels
    rows, columns = hole[:, 0].any(axis=2), hole[:, 0].any(axis=1)
    np.testing.assert_array_equal(hole[:, 0], rows[:, :, None] & columns[:, None])
    for found, size, n in ((rows, sizes[0], 8), (columns, sizes[1], 12)):
        first = np.where(found[:, 0], found.sum(axis=1) - size, found.argmax(axis=1))
        assert set(first + size // 2) == set(range(n))
        assert stats.chisquare(np.bincount(first + size // 2)).pvalue > 0.001


def test_a_volume_loses_a_box():
    hole = augment(np.ones((100, 1, 6, 6, 6)), {"cutout": (1, 2, 3)}, stream()) == 0
    assert set(hole.sum(axis=(1, 2, 3, 4))) == {2, 3, 4, 6}      # whole, or cut by the border


# ---------------------------------------------------------------- the same bits


@pytest.mark.parametrize("shape", SHAPES)
def test_bits_depend_neither_on_threads_nor_on_the_instruction_set(
        rng, every_isa, dtype, shape, threads_at_any_size):
    x, how = rng.standard_normal(shape).astype(dtype), how_for(shape)
    first = augment(x, how, stream(), n_threads=1)
    for isa in every_isa:
        _kernels.use(isa)
        for n_threads in (1, 2, 3, 7):
            assert_same_bits(augment(x, how, stream(), n_threads=n_threads), first, isa, n_threads)


@pytest.mark.parametrize("shape", SHAPES)
def test_bits_do_not_depend_on_the_layout(rng, dtype, shape):
    x, how = rng.standard_normal(shape).astype(dtype), how_for(shape)
    last = augment(in_layout(x, "channels_last"), how, stream(), "channels_last")
    assert last.flags.c_contiguous
    assert_same_bits(np.moveaxis(last, -1, 1), augment(x, how, stream()))


@pytest.mark.parametrize("kind", KINDS)
def test_input_may_be_any_array_and_stays_as_it_is(rng, kind):
    x = rng.standard_normal(SHAPES[1])
    given = KINDS[kind](x)
    assert_same_bits(augment(given, EVERYTHING, stream()), augment(x, EVERYTHING, stream()))
    np.testing.assert_array_equal(given, x)


def test_the_generator_decides_alone(rng):
    x = rng.standard_normal((4, 1, 8, 8))
    first = augment(x, EVERYTHING, stream(1))
    rng.random(10)
    assert_same_bits(augment(x, EVERYTHING, stream(1)), first)
    assert not np.array_equal(augment(x, EVERYTHING, stream(2)), first)


def test_integers_become_float32_and_nothing_changes_without_a_change():
    x = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    for how in (None, {}, {"shift": 0, "rotate": 0, "scale": 0, "noise": 0}):
        y = augment(x, how, stream())
        assert y.dtype == np.float32
        np.testing.assert_array_equal(y, x)
    assert augment(np.empty((0, 3, 4, 4)), EVERYTHING, stream()).shape == (0, 3, 4, 4)


# ---------------------------------------------------------------- literals


def test_presets_suit_their_data():
    axes = {"digits": 2, "photos": 2, "signals": 1}
    assert {name: check_augment(name, n_axes) for name, n_axes in axes.items()} == PRESETS
    assert check_augment(None) == {}


@pytest.mark.parametrize("how, error, message", [
    ("digit", ValueError, "preset must be one of 'digits', 'photos', 'signals', got 'digit'"),
    (3, TypeError, "must be a dict, the name of a preset or None, got 3"),
    ({"shfit": 1}, ValueError, "keys must be among 'shift', .*, got 'shfit'"),
    ({"shift": -1}, ValueError, "'shift' must be an int >= 0 .*, got -1"),
    ({"shift": 1.5}, ValueError, "'shift' must be .* a float in \\[0, 1\\)"),
    ({"shift": True}, ValueError, "'shift' must be"),
    ({"shift": ()}, ValueError, "'shift' must be"),
    ({"shift": float("nan")}, ValueError, "'shift' must be"),
    ({"flip": "sideways"}, ValueError, "'flip' must be 'horizontal', .*, got 'sideways'"),
    ({"flip": True}, ValueError, "'flip' must be"),
    ({"rotate": 181}, ValueError, "'rotate' must be degrees from 0 to 180, got 181"),
    ({"rotate": "90"}, ValueError, "'rotate' must be"),
    ({"scale": 1}, ValueError, "'scale' must be a number in \\[0, 1\\) or a pair"),
    ({"scale": (2, 1)}, ValueError, "'scale' must be"),
    ({"scale": (0, 1)}, ValueError, "'scale' must be"),
    ({"noise": -0.1}, ValueError, "'noise' must be a standard deviation >= 0"),
    ({"cutout": 0}, ValueError, "'cutout' must be an int >= 1"),
    ({"cutout": 1.5}, ValueError, "'cutout' must be"),
])
def test_literals_that_break_a_rule(how, error, message):
    for call in (check_augment, lambda value: augment(np.zeros((1, 1, 4, 4)), value, stream())):
        with pytest.raises(error, match=f"^augment: .*{message}"):
            call(how)


@pytest.mark.parametrize("how, n_axes, message", [
    ({"rotate": 5}, 1, "signals have one axis and cannot rotate"),
    ("digits", 1, "cannot rotate"),
    ({"flip": "vertical"}, 1, "'flip' names axis 'vertical', samples have 1 spatial axis$"),
    ({"flip": [0, 2]}, 2, "'flip' names axis 2, samples have 2"),
    ({"shift": (1, 2)}, 3, "'shift' must be one value or 3, one for each spatial axis"),
    ({"cutout": (1, 2, 3)}, 2, "'cutout' must be one value or 2"),
])
def test_literals_that_do_not_suit_the_samples(how, n_axes, message):
    check_augment(how)
    for call in (lambda: check_augment(how, n_axes), lambda: augment(np.zeros((1, 1, *(4,) * n_axes)), how, stream())):
        with pytest.raises(ValueError, match=f"^augment: .*{message}"):
            call()


def test_arrays_that_are_no_batches():
    with pytest.raises(ValueError, match=r"augment: x must have one to three spatial axes .*, got \(3, 4\)"):
        augment(np.zeros((3, 4)), {}, stream())
    with pytest.raises(TypeError, match="augment: rng must be a numpy.random.Generator, got int"):
        augment(np.zeros((1, 1, 4)), {}, 0)
    with pytest.raises(ValueError, match="augment: data_format must be"):
        augment(np.zeros((1, 1, 4)), {}, stream(), "NCHW")
    with pytest.raises(ValueError, match="augment: axes must be below 4194304 cells"):
        augment(np.broadcast_to(np.float32(0), (1, 1, 2**22)), {}, stream())
