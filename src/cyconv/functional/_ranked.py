"""One implementation per operation, public under a name for every rank (``conv2d``, ``conv``, ...)."""

from dataclasses import dataclass

from .. import _geometry, _threads
from .._scalars import checked_flag
from ._public import public

# Multiplications that take one thread about 80 us. A team of two starts and stops in 1 to 5 us when
# it is awake and alone on its cores, in 30 to 100 us when it sleeps, and waits for the scheduler when
# another process has one of the cores. It is awake between the layers of a network.
SERIAL_WORK = 8_000_000
AWAKE = 16   # so much less work pays then, and costs nothing when another process has one of the cores

LETTERS = {
    1: {"SPATIAL": "W", "KERNEL": "S", "OUTPUTS": "Q"},
    2: {"SPATIAL": "H, W", "KERNEL": "R, S", "OUTPUTS": "P, Q"},
    3: {"SPATIAL": "D, H, W", "KERNEL": "T, R, S", "OUTPUTS": "O, P, Q"},
    None: {"SPATIAL": "*spatial", "KERNEL": "*kernel", "OUTPUTS": "*outputs"},
}


def ranked(implementation, name, rank):
    """``implementation`` without its first two parameters, the public name and the rank.

    Rank None takes the rank from the arguments. SPATIAL, KERNEL and OUTPUTS in the docstring become
    the axis letters of the rank.
    """
    function = public(implementation, name, leading=(name, rank))
    for word, letters in LETTERS[rank].items():
        function.__doc__ = function.__doc__.replace(word, letters)
    return function


def every_rank(implementation, pattern):
    """`ranked` without a digit, for one, two and three axes; ``pattern`` has {} for the rank."""
    return tuple(ranked(implementation, name, rank) for name, rank in zip(names_of_ranks(pattern), (None, 1, 2, 3)))


def names_of_ranks(*patterns):
    """Public names: each pattern without a digit, for one, two and three axes."""
    return [pattern.format(digit) for pattern in patterns for digit in ("", "1d", "2d", "3d")]


def names_of(*spatial, channels_last):
    """Axis names of a batch, as an error shows them."""
    return ("N", *spatial, "C") if channels_last else ("N", "C", *spatial)


def batched(function, name, array, rank, channels_last):
    """``array`` with a batch axis, and whether that was added."""
    if array.ndim == rank + 2:
        return array, False
    if array.ndim == rank + 1:
        return array[None], True
    axes = names_of(*LETTERS[rank]["SPATIAL"].split(", "), channels_last=channels_last)
    raise ValueError(f"{function}: {name} must have {rank + 2} dimensions ({', '.join(axes)}) or {rank + 1} "
                     f"({', '.join(axes[1:])}), got shape {array.shape}")


def as_batch(array, ndim):
    """``array`` of ndim axes, of which the first may be missing."""
    return array if array.ndim == ndim else array[None]


def without_batch(run, is_single):
    """``run`` for what was given: if that is a single sample, arrays get the axis of a batch and results lose it."""
    if not is_single:
        return run

    def compute(*arrays):
        result = run(*(array[None] for array in arrays))
        return tuple(array[0] for array in result) if isinstance(result, tuple) else result[0]

    return compute


def checked_rank(function, rank):
    if not 1 <= rank <= 3:
        raise ValueError(f"{function}: arrays must have 1 to 3 spatial axes, got {rank}")
    return rank


def input_shape_of(function, input_shape, rank, is_single):
    """What the user gave as ``input_shape``, as the shape of a batch."""
    shape = _geometry.as_tuple(input_shape)
    wanted = rank + (1 if is_single else 2)
    if shape is None or len(shape) != wanted or not all(_geometry.is_integer(n) and n >= 0 for n in shape):
        raise ValueError(f"{function}: input_shape must be {wanted} sizes >= 0, "
                         f"got {_geometry.shape_hint(input_shape)}")
    _geometry.check_elements(function, shape)
    shape = tuple(int(n) for n in shape)
    return (1, *shape) if is_single else shape


def check_shape(function, name, array, shape):
    if array.shape != shape:
        raise ValueError(f"{function}: {name} must have shape {shape}, got {array.shape}")


def checked_axis(function, name, array, axis):
    """``axis`` of an array, counted from the first."""
    if array.ndim == 0:
        raise ValueError(f"{function}: {name} must have at least one axis, got a single number")
    if not _geometry.is_integer(axis) or not -array.ndim <= axis < array.ndim:
        raise ValueError(f"{function}: axis must be an int from {-array.ndim} to {array.ndim - 1} for {name} of shape "
                         f"{array.shape}, got {axis!r}")
    return int(axis) % array.ndim


def shape_of(n, channels, spatial, channels_last):
    return (n, *spatial, channels) if channels_last else (n, channels, *spatial)


def spatial_of(shape, channels_last):
    return shape[1:-1] if channels_last else shape[2:]


@dataclass(frozen=True)
class Refused:
    """A value of a kind that no parameter takes, for the error to show. Unlike 1.0 or True it never equals 1."""

    text: str

    def __repr__(self):
        return self.text


def frozen(value):
    """``value`` as a plan can be looked up by it: integers as int, sequences and arrays as tuples."""
    if type(value) is int or value is None or isinstance(value, str):
        return value
    if hasattr(value, "tolist") and getattr(value, "size", 1) <= _geometry.MAX_ENTRIES:
        value = value.tolist()
    if _geometry.is_integer(value):
        return int(value)
    entries = _geometry.as_tuple(value)
    return Refused(repr(value)) if entries is None else tuple(frozen(v) for v in entries)


def as_flag(function, name, value):
    """``value`` as a bool."""
    return value if value is False or value is True else checked_flag(function, name, value)


def team(function, n_threads, work, awake=False):
    """Threads for ``work`` multiplications or cells: all, or one when waking the others takes longer."""
    is_small = work <= (SERIAL_WORK // AWAKE if awake else SERIAL_WORK)
    if is_small and n_threads is None:
        return 1
    count = _threads.effective(n_threads, function)
    return 1 if is_small else count
