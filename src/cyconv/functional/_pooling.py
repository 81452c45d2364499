"""What all poolings share: the plan of their windows, and the way from arrays to one kernel call.

A plan knows ordinary windows (`prepare`) and the bins of adaptive and global pooling (`prepare_bins`);
the kernels see no difference.
"""

from functools import lru_cache
from math import inf, isfinite, prod
from numbers import Real
from typing import NamedTuple

import numpy as np

from .. import _arrays, _geometry, _kernels
from ._ranked import as_flag, check_shape, checked_rank, frozen, shape_of, spatial_of, team

# Of one window.
MAX_TAPS = 2**24

# The kernels count the cells of a vector of windows in integers as wide as its floats.
MAX_SPAN = {np.dtype(np.float32): 2**31 - 64, np.dtype(np.float64): 2**63 - 64}

# Bins of one axis: more than the cells of any array to pool.
MAX_BINS = 2**24

# Sums of more cells are added up in float64.
LONG_SUM = 64

# A cell takes about as long as so many multiplications of a convolution.
WORK_PER_CELL = 16
WORK_PER_POWER = 256


class Plan(NamedTuple):
    """What the shapes and parameters of a pooling determine."""

    function: str           # what an error is named after
    out_shape: tuple
    table: np.ndarray       # the windows as _geometry.phase_table, with places for outputs
    windows: np.ndarray     # per output of each axis in turn: its place, first tap and number of taps inside x
    counts: dict            # for count_include_pad False, True: cells that count, per axis and output
    cells: tuple            # of the input per axis, and the windows
    span: int               # cells of the input plane from the first tap of a window to its last
    n_taps: int             # of the largest window
    work: int               # cells visited


def prepare(function, x_shape, kernel_size, stride, padding, dilation, ceil_mode, channels_last):
    """`plan_windows`, from whatever the user wrote."""
    return plan_windows(function, x_shape, frozen(kernel_size), frozen(stride), frozen(padding), frozen(dilation),
                        as_flag(function, "ceil_mode", ceil_mode), channels_last)


@lru_cache(maxsize=256, typed=True)
def plan_windows(function, x_shape, kernel_size, stride, padding, dilation, ceil_mode, channels_last):
    """The `Plan` of ordinary windows; all checks of shapes and parameters."""
    sizes = spatial_of(x_shape, channels_last)
    stride = kernel_size if stride is None else stride
    windows = _geometry.windows(function, sizes, kernel_size, stride, padding, dilation)
    outputs = _geometry.output_sizes(function, sizes, windows, ceil_mode)
    if prod(w.kernel for w in windows) > MAX_TAPS:
        raise ValueError(f"{function}: kernel_size must have at most {MAX_TAPS} cells, got {kernel_size!r}")
    inside = [[(o, *span) for o, span in enumerate(w.taps_in(0, n, size))]
              for n, w, size in zip(sizes, windows, outputs)]
    padded = [[count for _, count in w.taps_in(-w.low, n + w.high, size)]
              for n, w, size in zip(sizes, windows, outputs)]
    return plan_of(function, x_shape, channels_last, windows, outputs, inside, padded)


def prepare_bins(function, x_shape, output_size, channels_last):
    """`plan_bins`, from whatever the user wrote."""
    return plan_bins(function, x_shape, frozen(output_size), channels_last)


@lru_cache(maxsize=256, typed=True)
def plan_bins(function, x_shape, output_size, channels_last):
    """The `Plan` of an adaptive pooling: bin i of o covers the cells floor(i n / o) to ceil((i + 1) n / o) - 1."""
    sizes = spatial_of(x_shape, channels_last)
    outputs = bin_sizes(function, output_size, sizes)
    _geometry.check_elements(function, outputs)
    bins = []
    for n, o in zip(sizes, outputs):
        i = np.arange(o, dtype=np.intp)
        first = i * n // max(o, 1)
        bins.append(np.stack([first, np.zeros_like(first), -(-(i + 1) * n // max(o, 1)) - first], axis=1))
    windows = [_geometry.Window(max(int(axis[:, 2].max(initial=1)), 1)) for axis in bins]
    places = [max(n, 1) for n in sizes]
    return plan_of(function, x_shape, channels_last, windows, places, bins, [axis[:, 2] for axis in bins])


def bin_sizes(function, output_size, sizes):
    """Outputs per axis; None in ``output_size`` keeps the size of an axis."""
    is_single = output_size is None or _geometry.is_integer(output_size)
    values = (output_size,) * len(sizes) if is_single else _geometry.as_tuple(output_size)
    if values is not None and len(values) == 1:
        values *= len(sizes)
    if values is None or len(values) != len(sizes) or not all(v is None or _geometry.is_integer(v) for v in values):
        raise (TypeError if values is None else ValueError)(
            f"{function}: output_size must be an int or None, or {len(sizes)} of them, got {output_size!r}")
    values = tuple(n if v is None else int(v) for v, n in zip(values, sizes))
    _geometry.check_range(function, "output_size", values, output_size, 0)
    if max(values) > MAX_BINS:
        raise ValueError(f"{function}: output_size must be <= {MAX_BINS}, got {output_size!r}")
    return values


def plan_of(function, x_shape, channels_last, windows, places, inside, padded):
    """The `Plan` of windows at so many places per axis, and of what each output has of them."""
    outputs = [len(axis) for axis in inside]
    out_shape = shape_of(x_shape[0], x_shape[-1 if channels_last else 1], outputs, channels_last)
    _geometry.check_elements(function, out_shape)
    missing, n_taps = 3 - len(windows), prod(w.kernel for w in windows)
    one = np.array([(0, 0, 1)] * missing, np.intp).reshape(missing, 3)
    rows = np.concatenate([one, *inside]).astype(np.intp)
    counts = {False: rows[:, 2].copy(), True: np.concatenate([one[:, 2], *padded]).astype(np.intp)}
    sizes = spatial_of(x_shape, channels_last)
    return Plan(
        function,
        out_shape,
        np.array(_geometry.phase_table(windows, places), np.intp),
        rows,
        counts,
        (sizes, tuple(windows)),
        sum((w.kernel - 1) * w.dilation * prod(sizes[i + 1:]) for i, w in enumerate(windows)),
        n_taps,
        prod(out_shape) * n_taps,
    )


def countable(function, plan):
    if plan.n_taps > MAX_TAPS:
        raise ValueError(f"{function}: maxima and minima are taken over at most {MAX_TAPS} cells, got {plan.n_taps}")
    return plan


def pool_rank(function, rank, kernel_size, ndim):
    """The rank of a pooling, from the name, the kernel size, or a batch of ``ndim`` axes."""
    if rank is not None:
        return rank
    sizes = _geometry.as_tuple(kernel_size)
    return checked_rank(function, ndim - 2 if sizes is None or len(sizes) == 1 else len(sizes))


# ---------------------------------------------------------------- dtypes and numbers


def as_comparable(function, x):
    """x as given, and in float32 or float64; integers that these cannot hold are refused."""
    given = _arrays.as_array(function, "x", x)
    if given.dtype.itemsize == 8 and given.dtype.kind in "iu" and given.size and (
            max(int(given.max()), -int(given.min())) > 2**53):
        raise TypeError(f"{function}: x has {given.dtype} values beyond 2**53, which are not compared exactly; "
                        "pass smaller integers or floats")
    return given, _arrays.as_reals(function, x=given)[0]


def in_dtype(y, dtype):
    """``y`` in the dtype of the input; an integer that stands for an infinity is the smallest or largest."""
    if y.dtype == dtype:
        return y
    dtype = dtype.newbyteorder("=")
    if dtype.kind == "f":
        return y.astype(dtype)
    smallest, largest = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.kind in "iu" else (False, True)
    result = np.where(np.isinf(y), 0, y).astype(dtype)
    result[np.isneginf(y)], result[np.isposinf(y)] = smallest, largest
    return result


def mean_divisor(function, divisor_override, dtype):
    """What the kernel divides by, 0.0 for the number of cells that count."""
    if divisor_override is None:
        return 0.0
    is_number = isinstance(divisor_override, Real)
    with np.errstate(over="ignore", under="ignore"):
        value = float(dtype.type(divisor_override)) if is_number else 0.0
    if value == 0 or not isfinite(value):
        kind = ValueError if is_number else TypeError
        raise kind(f"{function}: divisor_override must be a finite {dtype} other than 0, got {divisor_override!r}")
    return value


def norm_order(function, p):
    if not isinstance(p, Real) or isinstance(p, bool):
        raise TypeError(f"{function}: p must be a number > 0 or infinity, got {p!r}")
    try:
        value = float(p)
    except OverflowError:
        value = inf if p > 0 else -inf
    if not value > 0:
        raise ValueError(f"{function}: p must be > 0, got {p!r}")
    return value


# ---------------------------------------------------------------- kernel calls
#
# What a call runs again and again, made once: functions of arrays, which are batches.


def extremes(plan, dtype, given, smallest, return_indices, channels_last, n_threads):
    """``run(x)``: y, or y and indices; x has dtype, y the dtype ``given`` by the user."""
    return_indices = as_flag(plan.function, "return_indices", return_indices)
    is_wide = return_indices and plan.span > MAX_SPAN[dtype]
    dtype = np.dtype(np.float64) if is_wide else dtype
    function, shape, table, windows = plan.function, plan.out_shape, plan.table, plan.windows
    kernels, work, has_cells = _kernels.kernels[dtype], plan.work * WORK_PER_CELL, prod(plan.out_shape) > 0

    def run(x):
        y = np.empty(shape, dtype)
        indices = np.empty(shape, np.int64) if return_indices else None
        if has_cells:
            kernels.extreme_pool(x.astype(dtype) if is_wide else x, y, indices, table, windows, smallest, False,
                                 channels_last, team(function, n_threads, work))
        y = y if given == dtype else in_dtype(y, given)
        return (y, indices) if return_indices else y

    return run


def sums(plan, dtype, divisor, include_pad, channels_last, n_threads):
    """``run(x)``: sums over ``divisor``, or over the cells that count when that is 0."""
    kernels, work, has_cells = _kernels.kernels[dtype], plan.work * WORK_PER_CELL, prod(plan.out_shape) > 0
    counts, is_long = plan.counts[include_pad], plan.n_taps > LONG_SUM

    def run(x):
        y = np.empty(plan.out_shape, dtype)
        if has_cells:
            kernels.sum_pool(x, y, plan.table, plan.windows, counts, divisor, is_long, channels_last,
                             team(plan.function, n_threads, work))
        return y

    return run


def sums_backward(plan, dtype, shape, divisor, include_pad, channels_last, n_threads):
    """``run(grad_out, out=None)``: the gradient of `sums` of an x of ``shape``, new or, where it has cells, ``out``."""
    kernels, work, counts = _kernels.kernels[dtype], plan.work * WORK_PER_CELL, plan.counts[include_pad]
    has_outputs, has_cells = prod(plan.out_shape) > 0, prod(shape) > 0

    def run(grad_out, out=None):
        dx = (np.empty if has_outputs else np.zeros)(shape, dtype) if out is None else out
        if has_outputs and has_cells:
            kernels.sum_pool_backward(np.ascontiguousarray(grad_out), dx, plan.table, plan.windows, counts, divisor,
                                      channels_last, team(plan.function, n_threads, work))
        return dx

    return run


def norms(plan, dtype, p, channels_last, n_threads):
    """``run(x)``: the norms of order p."""
    kernels, work, has_cells = _kernels.kernels[dtype], plan.work * WORK_PER_POWER, prod(plan.out_shape) > 0

    def run(x):
        y = np.empty(plan.out_shape, dtype)
        if has_cells:
            kernels.lp_pool(x, y, plan.table, plan.windows, p, channels_last, team(plan.function, n_threads, work))
        return y

    return run


def norms_backward(plan, dtype, p, channels_last, n_threads):
    """``run(grad_out, x, out)``: the gradient of `norms`."""
    kernels, work, has_outputs = _kernels.kernels[dtype], plan.work * WORK_PER_POWER, prod(plan.out_shape) > 0

    def run(grad_out, x, out):
        dx = (np.empty if has_outputs else np.zeros)(x.shape, dtype)
        if has_outputs and dx.size:
            grad_out, x, out = map(np.ascontiguousarray, (grad_out, x, out))
            kernels.lp_pool_backward(grad_out, x, out, dx, plan.table, plan.windows, p, channels_last,
                                     team(plan.function, n_threads, work))
        return dx

    return run


def as_indices(function, indices, shape):
    """``indices`` as an array of integers of ``shape``."""
    indices = _arrays.as_array(function, "indices", indices)
    if indices.dtype.kind not in "iu":
        raise TypeError(f"{function}: indices must be integers, got dtype {indices.dtype}")
    check_shape(function, "indices", indices, shape)
    return indices


def move(function, kernel, values, indices, planes, channels_last, n_threads, which="input"):
    """Run ``kernel`` between values and the planes, or say which index is outside its plane.

    ``indices`` have the shape that the user gave; N and C of values and planes agree.
    """
    plane = prod(spatial_of(planes.shape, channels_last))
    bad = -1
    if indices.dtype == np.uint64 and (indices >= plane).any():  # before large ones become negative
        bad = int(np.argmax(indices >= plane))
    else:
        if indices.dtype != np.int64 or not indices.flags.carray:
            indices = np.require(indices, np.int64, "CA")
        bad = getattr(_kernels.kernels[planes.dtype], kernel)(
            values, indices, planes, channels_last, team(function, n_threads, values.size * WORK_PER_CELL))
    if bad >= 0:
        position = tuple(int(i) for i in np.unravel_index(bad, indices.shape))
        raise ValueError(f"{function}: index {indices[position]} at position {position} is outside the {which} plane "
                         f"of {plane} cells")


def check_channels(function, grad_out, shape, channels_last, name="input_shape"):
    axis = -1 if channels_last else 1
    if grad_out.shape[0] != shape[0] or grad_out.shape[axis] != shape[axis]:
        raise ValueError(f"{function}: grad_out of shape {grad_out.shape} and {name} {shape} differ in N or C")
