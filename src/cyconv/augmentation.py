"""Random variants of training samples: moved, mirrored, turned, scaled, with noise, with a hole.

What may happen is a literal, see `augment`. Here it is checked and turned into one affine map, hole and key for
each sample; a single compiled pass then computes the new batch. Everything is drawn from the generator that the
caller passes, in an order that only the literal decides, and sines are made of additions and products, so the
result has the same bits on every machine and for any number of threads.
"""

from collections.abc import Mapping
from itertools import combinations
from math import isfinite, pi, prod
from numbers import Integral, Real
from typing import NamedTuple

import numpy as np

from . import _arrays, _kernels
from .functional._ranked import team

__all__ = ["PRESETS", "augment", "check_augment"]

PRESETS = {
    "digits": {"shift": 0.1, "rotate": 10, "scale": 0.1},
    "photos": {"flip": "horizontal", "shift": 0.1, "rotate": 5, "scale": 0.1, "cutout": 0.25},
    "signals": {"shift": 0.1, "scale": 0.1},
}
FLIPS = {"horizontal": -1, "vertical": -2}
MAX_AXIS, MAX_VALUES = 2**22, 2**31     # positions are numbers of x's dtype, places in a sample 32-bit integers
SINE = -1 / 39916800, 1 / 362880, -1 / 5040, 1 / 120, -1 / 6, 1.0     # sin(q) / q by powers of q**2, the last first
WORK_PER_VALUE = 150                    # multiplications that take as long as one new value


class Plan(NamedTuple):
    """A literal, for samples of one shape; every entry per spatial axis but the last three."""

    shift: tuple        # (cells, whether whole ones), or None
    flip: tuple         # axes
    hole: tuple         # sizes in cells, or None
    angle: float        # radians
    scale: tuple        # smallest and largest factor
    noise: float


def augment(x, how, rng, data_format="channels_first", *, n_threads=None):
    """New batch of randomly changed samples, each changed in its own way.

    Geometry first: a sample is mirrored, turned and scaled about its centre, then shifted; between cells values
    are interpolated linearly, beyond the border they are 0. Then noise is added, and a hole is cut.

    Parameters
    ----------
    x : array_like of shape (N, C, *spatial), or (N, *spatial, C) for channels_last
        Signals, images or volumes, in dtype
        ``np.result_type(x, np.float32)``, float32 or float64.
    how : dict or str
        What may happen; what is left out does not. A string is one of `PRESETS`: "digits", "photos", "signals".

        - "shift": an int is the largest number of cells, and shifts are by whole cells; a float in [0, 1) is a
          share of the axis, and shifts are by any distance. One value, or one per spatial axis.
        - "flip": "horizontal" (the last axis), "vertical" (the one before), the number of a spatial axis, or a
          sequence of these; each is mirrored with probability 1/2.
        - "rotate": largest angle in degrees, 0 to 180, either way; in volumes about each of the three axes.
        - "scale": factors lie between 1 - scale and 1 + scale, or between the two numbers of a pair; one factor
          for all axes; above 1 things grow.
        - "noise": standard deviation, in the units of x, of bell-shaped noise up to 3.45 deviations.
        - "cutout": size of a box that becomes 0, an int in cells or a float in (0, 1] as a share of the axis;
          one value, or one per spatial axis. Its middle is any cell, so it may reach beyond the border.
    rng : numpy.random.Generator
        The only source of randomness.
    data_format : {"channels_first", "channels_last"}, default "channels_first"
    n_threads : int or None, default None
        As for the functions; the result does not depend on it.

    Returns
    -------
    ndarray of the shape of x and that dtype, C-contiguous

    Raises
    ------
    TypeError, ValueError
        If ``how`` breaks a rule, does not suit the number of spatial axes, or x has the wrong shape.

    References
    ----------
    Simard, Steinkraus, Platt: Best practices for convolutional neural networks, 2003 (affine maps). DeVries, Taylor:
    Improved regularization of convolutional neural networks with cutout, 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.augmentation import augment
    >>> signals = np.array([[[1.0, 2, 3, 4]]]).repeat(4, axis=0)
    >>> augment(signals, {"shift": 1, "flip": "horizontal"}, np.random.default_rng(0))[:, 0]
    array([[0., 1., 2., 3.],
           [0., 4., 3., 2.],
           [4., 3., 2., 1.],
           [0., 4., 3., 2.]])
    """
    x, = _arrays.as_reals("augment", x=x)
    is_last = _arrays.is_channels_last("augment", data_format)
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"augment: rng must be a numpy.random.Generator, got {type(rng).__name__}")
    if not 3 <= x.ndim <= 5:
        raise ValueError(f"augment: x must have one to three spatial axes besides samples and channels, got {x.shape}")
    spatial = x.shape[1:-1] if is_last else x.shape[2:]
    if max(spatial) >= MAX_AXIS or prod(x.shape[1:]) >= MAX_VALUES:
        raise ValueError(f"augment: axes must be below {MAX_AXIS} cells and samples below {MAX_VALUES} values, "
                         f"got x of shape {x.shape}")
    return Changes(how, spatial, len(x), rng, x.dtype).applied(np.ascontiguousarray(x), 0, is_last, n_threads)


class Changes:
    """What is to happen to each of n samples; training draws it for a whole epoch at once, which costs least.

    Parameters
    ----------
    how, rng
        As for `augment`.
    spatial : tuple of int
        Spatial axes of the samples.
    n : int
        How many samples.
    dtype : dtype
        That of the samples, float32 or float64.
    """

    def __init__(self, how, spatial, n, rng, dtype):
        plan = planned(check_augment(how), spatial)
        self._affine, self._hole = draws(plan, spatial, n, rng, dtype)
        self._noise, self._rng = plan.noise, rng

    def applied(self, x, start, is_last, n_threads):
        """New batch of the samples that have the numbers from ``start`` on, from a C-contiguous one."""
        result = np.empty(x.shape, x.dtype)
        numbers = slice(start, start + len(x))
        key = self._rng.bit_generator.random_raw() if self._noise else 0
        _kernels.kernels[x.dtype].augment(
            x, result, self._affine[numbers], None if self._hole is None else self._hole[numbers], self._noise, key,
            is_last, team("augment", n_threads, WORK_PER_VALUE * x.size))
        return result


# ---------------------------------------------------------------- the literal


def check_augment(how, n_axes=None):
    """The dict that ``how`` stands for, if it is one that `augment` takes.

    Parameters
    ----------
    how : dict, str or None
        As for `augment`; None is no change.
    n_axes : int or None, default None
        Number of spatial axes that it must suit; None for any.

    Returns
    -------
    dict

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> check_augment("digits", 2)
    {'shift': 0.1, 'rotate': 10, 'scale': 0.1}
    >>> check_augment({"rotate": 270})
    Traceback (most recent call last):
        ...
    ValueError: augment: 'rotate' must be degrees from 0 to 180, got 270
    """
    if how is None:
        return {}
    if isinstance(how, str):
        if how not in PRESETS:
            raise ValueError(f"augment: a preset must be one of {', '.join(map(repr, PRESETS))}, got {how!r}")
        how = PRESETS[how]
    if not isinstance(how, Mapping):
        raise TypeError(f"augment: must be a dict, the name of a preset or None, got {how!r}")
    for key, value in how.items():
        if key not in RULES:
            raise ValueError(f"augment: keys must be among {', '.join(map(repr, RULES))}, got {key!r}")
        words, test = RULES[key]
        if not test(value):
            raise ValueError(f"augment: {key!r} must be {words}, got {value!r}")
    if n_axes is not None:
        planned(how, (1,) * n_axes)
    return dict(how)


def is_number(value):
    return isinstance(value, Real) and not isinstance(value, (bool, np.bool_)) and isfinite(value)


def is_whole(value):
    return is_number(value) and isinstance(value, Integral)


def is_sequence_of(test):
    return lambda value: isinstance(value, (tuple, list)) and len(value) > 0 and all(map(test, value))


def is_shift(value):
    return is_number(value) and value >= 0 and (is_whole(value) or value < 1)


def is_hole(value):
    return is_number(value) and value > 0 and (is_whole(value) or value <= 1)


def is_axis(value):
    return isinstance(value, str) and value in FLIPS or is_whole(value)


def is_scale(value):
    if isinstance(value, (tuple, list)):
        return len(value) == 2 and all(map(is_number, value)) and 0 < value[0] <= value[1]
    return is_number(value) and 0 <= value < 1


RULES = {
    "shift": ("an int >= 0 (cells), a float in [0, 1) (share of the axis), or one for each spatial axis",
              lambda v: is_shift(v) or is_sequence_of(is_shift)(v)),
    "flip": ("'horizontal', 'vertical', the number of a spatial axis, or a sequence of them",
             lambda v: is_axis(v) or is_sequence_of(is_axis)(v)),
    "rotate": ("degrees from 0 to 180", lambda v: is_number(v) and 0 <= v <= 180),
    "scale": ("a number in [0, 1) or a pair 0 < low <= high", is_scale),
    "noise": ("a standard deviation >= 0", lambda v: is_number(v) and v >= 0),
    "cutout": ("an int >= 1 (cells), a float in (0, 1] (share of the axis), or one for each spatial axis",
               lambda v: is_hole(v) or is_sequence_of(is_hole)(v)),
}


def planned(how, spatial):
    """The `Plan` of a checked dict, for samples of a spatial shape."""
    rank, shifts = len(spatial), per_axis(how, "shift", len(spatial))
    if how.get("rotate") and rank == 1:
        raise ValueError("augment: signals have one axis and cannot rotate, leave 'rotate' out")
    scale = how.get("scale", 0)
    return Plan(
        shift=tuple((s, True) if is_whole(s) else (s * n, False) for s, n in zip(shifts, spatial)),
        flip=flipped_axes(how.get("flip", ()), rank),
        hole=tuple(int(s) if is_whole(s) else max(1, round(s * n))
                   for s, n in zip(per_axis(how, "cutout", rank), spatial)),
        angle=how.get("rotate", 0) * pi / 180,
        scale=scale if isinstance(scale, (tuple, list)) else (1 - scale, 1 + scale),
        noise=float(how.get("noise", 0)))


def per_axis(how, key, rank):
    """The value of each spatial axis; nothing if there is none."""
    value = how.get(key, ())
    if not isinstance(value, (tuple, list)):
        return (value,) * rank
    if len(value) not in (0, rank):
        raise ValueError(f"augment: {key!r} must be one value or {rank}, one for each spatial axis, got {value!r}")
    return value


def flipped_axes(axes, rank):
    """Numbers from 0 on of the spatial axes to mirror, each once."""
    axes = axes if isinstance(axes, (tuple, list)) else (axes,)
    numbers = [FLIPS.get(axis, axis) for axis in axes]
    for axis, number in zip(axes, numbers):
        if not -rank <= number < rank:
            raise ValueError(f"augment: 'flip' names axis {axis!r}, samples have {rank} spatial "
                             + ("axis" if rank == 1 else "axes"))
    return tuple(sorted({number % rank for number in numbers}))


# ---------------------------------------------------------------- the draws


def draws(plan, spatial, n, rng, dtype=np.float64):
    """Where the outputs of n samples read, an array (n, rank, rank + 1), and their holes, (n, rank, 2) or None.

    Output position o reads at  c + A (o - shift - c),  c the centre.
    """
    rank = len(spatial)
    uniform = iter(rng.random((n_draws(plan, rank), n)))      # the order of what follows decides who gets which
    factor = 1 / between(*plan.scale, next(uniform)) if plan.scale[0] < plan.scale[1] else 1 / plan.scale[0]
    signs = {axis: np.where(next(uniform) < 0.5, -factor, factor) for axis in plan.flip}
    matrix = [[signs.get(i, factor) if i == j else 0.0 for j in range(rank)] for i in range(rank)]
    if plan.angle:
        for i, j in combinations(range(rank), 2):
            rotate(matrix, i, j, between(-plan.angle, plan.angle, next(uniform)))
    shifts = [shift_of(*limit, next(uniform)) for limit in plan.shift] or [0.0] * rank
    affine = np.empty((n, rank, rank + 1), dtype)
    for i, row in enumerate(matrix):
        at = (spatial[i] - 1) / 2
        for j, coefficient in enumerate(row):
            affine[:, i, j] = coefficient
            at = at - coefficient * ((spatial[j] - 1) / 2 + shifts[j])
        affine[:, i, rank] = at
    if not plan.hole:
        return affine, None
    hole = np.empty((n, rank, 2), np.intp)
    for axis, size in enumerate(plan.hole):
        hole[:, axis, 0] = next(uniform) * spatial[axis] // 1 - size // 2
        hole[:, axis, 1] = hole[:, axis, 0] + size
    return affine, hole


def n_draws(plan, rank):
    """How many uniform numbers a sample needs."""
    planes = rank * (rank - 1) // 2 if plan.angle else 0
    return (plan.scale[0] < plan.scale[1]) + len(plan.flip) + planes + len(plan.shift) + len(plan.hole)


def between(low, high, uniform):
    return low + (high - low) * uniform


def shift_of(limit, is_whole, uniform):
    return uniform * (2 * limit + 1) // 1 - limit if is_whole else between(-limit, limit, uniform)


def rotate(matrix, i, j, angle):
    """Turn what the matrix is applied to by an angle in the plane of the axes i and j."""
    cosine, sine = cos_sin(angle)
    for row in matrix:
        row[i], row[j] = row[i] * cosine + row[j] * sine, row[j] * cosine - row[i] * sine


def cos_sin(angle):
    """Cosine and sine of angles up to pi, within 1e-9, of exactly rounded operations only."""
    quarter = angle / 4
    square = quarter * quarter
    sine = SINE[0]
    for coefficient in SINE[1:]:
        sine = sine * square + coefficient
    sine = sine * quarter
    cosine = np.sqrt(1 - sine * sine)
    for _ in range(2):
        cosine, sine = 1 - 2 * sine * sine, 2 * sine * cosine
    return cosine, sine
