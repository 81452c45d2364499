"""Window arithmetic: sizes, padding, taps, adjoints. Python integers only, imports nothing of cyconv.

Axis letters, used everywhere: N batch, C in_channels, D x H x W input, K out_channels,
T x R x S kernel, P x Q (or O) output; loop indices are the same letters in lower case.

Everything rests on one relation per spatial axis. Tap j of output o reads input i exactly when

    i * input_dilation = o * stride + j * dilation - low          and 0 <= i < n.

Convolution, pooling, their gradients, layer shapes and tests all ask a `Window` about it.
"""

from math import gcd, prod
from typing import NamedTuple

# Extents, steps and paddings stay below this, so that products of two of them and a stride in
# bytes fit in the 64-bit integers of the kernels.
MAX_EXTENT = 2**31 - 1
MAX_ELEMENTS = 2**44
MAX_ENTRIES = 1000      # of a tuple that a user passes; more would be memory spent on an error

PADDING_NAMES = ("valid", "same", "same_upper", "same_lower", "full")


class Phase(NamedTuple):
    """Outputs of one axis that share their taps, as one plain strided window.

    Output number ``q`` of the phase is output ``out_start + q * out_step`` of the axis; its tap
    number ``j`` is tap ``tap_start + j * tap_step`` of the kernel and reads the input at
    ``start + q * stride + j * step`` (nothing when that lies outside the input). Where weights are
    tiled, input number ``i`` of the phase is ``in_start + i * in_step``, and ``tile`` the weights' number.
    """

    n_out: int
    out_start: int
    out_step: int
    n_taps: int
    tap_start: int
    tap_step: int
    start: int
    stride: int
    step: int
    in_start: int = 0
    in_step: int = 1
    tile: int = 0


class Window(NamedTuple):
    """The window of an operation along one axis; see the relation at the head of this module."""

    kernel: int
    stride: int = 1
    dilation: int = 1
    input_dilation: int = 1
    low: int = 0
    high: int = 0
    flip: bool = False

    @property
    def extent(self):
        """Cells from the first to the last tap."""
        return (self.kernel - 1) * self.dilation + 1

    def padded(self, n):
        """Cells of the dilated and padded input."""
        return (max(n - 1, 0) * self.input_dilation + min(n, 1)) + self.low + self.high

    def output_size(self, n, ceil_mode=False):
        """Number of outputs for ``n`` inputs; below 1 when the window does not fit."""
        room = self.padded(n) - self.extent
        if not ceil_mode:
            return room // self.stride + 1
        size = -(-room // self.stride) + 1
        starts_beyond_input = (size - 1) * self.stride >= n + self.low
        return size - 1 if starts_beyond_input else size

    def taps_in(self, begin, end, n_out):
        """For each output the first tap and the number of taps on the cells ``begin`` to ``end - 1``.

        Cells count from the first of an undilated input; those of the low padding are negative.
        """
        def taps_from(start):
            first = min(max(-(-(begin - start) // self.dilation), 0), self.kernel)
            return first, min(max(-(-(end - start) // self.dilation), first), self.kernel) - first

        starts = range(-self.low, n_out * self.stride - self.low, self.stride)
        before = min(max(-(-(begin + self.low) // self.stride), 0), n_out)     # outputs that start before begin
        whole = min(max((end - self.extent + self.low) // self.stride + 1, before), n_out)
        return ([taps_from(start) for start in starts[:before]] + [(0, self.kernel)] * (whole - before)
                + [taps_from(start) for start in starts[whole:]])

    def adjoint(self):
        """The window that carries a gradient from the outputs back to the inputs."""
        return Window(
            kernel=self.kernel,
            stride=self.input_dilation,
            dilation=self.dilation,
            input_dilation=self.stride,
            low=self.extent - 1 - self.low,
            high=0,
            flip=not self.flip,
        )

    def phases(self, n_out):
        """Split the outputs that have taps into `Phase` parts, without multiplying inserted zeros.

        Taps that differ by a multiple of ``tap_step`` serve the same outputs, which differ by a
        multiple of ``out_step``; so there are at most ``kernel`` phases, whatever the strides.
        """
        u, common = self.input_dilation, gcd(self.stride, self.input_dilation)
        out_step = u // common
        tap_step = u // gcd(self.dilation, u)
        result = []
        for tap in range(min(tap_step, self.kernel)):
            reach = self.low - tap * self.dilation
            if reach % common:
                continue
            out_start = reach // common * pow(self.stride // common, -1, out_step) % out_step
            if out_start >= n_out:
                continue
            result.append(Phase(
                n_out=-(-(n_out - out_start) // out_step),
                out_start=out_start,
                out_step=out_step,
                n_taps=-(-(self.kernel - tap) // tap_step),
                tap_start=self.kernel - 1 - tap if self.flip else tap,
                tap_step=-tap_step if self.flip else tap_step,
                start=(out_start * self.stride - reach) // u,
                stride=self.stride // common,
                step=tap_step * self.dilation // u,
            ))
        return result

    def reads(self, n, n_out):
        """What the taps read: for each that reads at all, its number, the outputs and their cells as slices."""
        result = []
        for phase in self.phases(n_out):
            for j in range(phase.n_taps):
                cell = phase.start + j * phase.step
                first = max(-(cell // phase.stride), 0)
                count = min((n - 1 - cell) // phase.stride + 1, phase.n_out) - first
                if count > 0:
                    outputs = progression(phase.out_start + first * phase.out_step, phase.out_step, count)
                    cells = progression(cell + first * phase.stride, phase.stride, count)
                    result.append((phase.tap_start + j * phase.tap_step, outputs, cells))
        return result


def progression(first, step, count):
    """Slice of ``count`` >= 1 positions."""
    return slice(first, first + (count - 1) * step + 1, step)


def per_axis(function, name, value, rank, minimum):
    """``value`` as ``rank`` integers of at least ``minimum``, or an error that names the argument."""
    values = (value,) * rank if is_integer(value) else as_tuple(value)
    if values is not None and len(values) == 1:
        values *= rank
    if values is None or len(values) != rank or not all(is_integer(v) for v in values):
        kind = TypeError if values is None else ValueError
        raise kind(f"{function}: {name} must be an int{f' or {rank} ints' * (rank > 1)}, got {shape_hint(value)}")
    check_range(function, name, values, value, minimum)
    return tuple(int(v) for v in values)


def kernel_axes(function, name, value, ndim=None):
    """``value`` as one int >= 1 per axis; as many axes as it has entries, two for a number, unless told."""
    if ndim is None:
        entries = as_tuple(value)
        rank = 2 if entries is None else len(entries)
        if not 1 <= rank <= 3:
            raise ValueError(f"{function}: {name} must be an int or 1 to 3 ints, got {value!r}")
    else:
        rank = checked_ndim(function, ndim)
    return per_axis(function, name, value, rank, 1)


def checked_ndim(function, ndim):
    if not is_integer(ndim) or not 1 <= ndim <= 3:
        raise ValueError(f"{function}: ndim must be 1, 2 or 3, got {ndim!r}")
    return int(ndim)


def is_integer(value):
    """Whether ``value`` is an int or a NumPy integer; True and False are not sizes."""
    return hasattr(value, "__index__") and not isinstance(value, bool) and not hasattr(value, "__len__")


def as_tuple(value):
    """``value`` as a tuple when it is a sequence of arguments, else None: no parameter has thousands of entries."""
    if isinstance(value, (str, bytes, dict, set)) or not hasattr(value, "__len__") or getattr(value, "ndim", 1) == 0:
        return None
    return tuple(value) if len(value) <= MAX_ENTRIES else None


def entries(function, name, what, value):
    """What an iterable argument yields, or an error that says what it must be."""
    if hasattr(value, "__len__") and getattr(value, "ndim", 1) > 0 and len(value) > 100 * MAX_ENTRIES:
        raise ValueError(f"{function}: {name} must have at most {100 * MAX_ENTRIES} entries, got {len(value)}")
    try:
        return list(value)
    except TypeError:
        raise TypeError(f"{function}: {name} must be a sequence of {what}, got {value!r}") from None


def shape_hint(value):
    """A way out for who passes an array where its shape is wanted."""
    return f"an array of shape {value.shape}; pass its shape" if hasattr(value, "shape") else repr(value)


def check_range(function, name, values, shown, minimum):
    if any(v < minimum for v in values):
        where = " on every axis" if len(values) > 1 else ""
        raise ValueError(f"{function}: {name} must be >= {minimum}{where}, got {shown!r}")
    if any(v > MAX_EXTENT for v in values):
        raise ValueError(f"{function}: {name} must be <= {MAX_EXTENT}, got {shown!r}")


def padding_pairs(function, padding, sizes, windows):
    """``padding`` in any accepted form as one (low, high) pair per axis.

    ``sizes`` are the input extents and ``windows`` the unpadded windows; both matter for the names.
    """
    rank = len(sizes)
    if isinstance(padding, str):
        name = padding.lower()
        if name not in PADDING_NAMES:
            raise ValueError(f"{function}: unknown padding {padding!r}; expected one of "
                             + ", ".join(map(repr, PADDING_NAMES)))
        return tuple(named_padding(name, n, window) for n, window in zip(sizes, windows))
    if is_integer(padding):
        pairs = ((padding, padding),) * rank
    else:
        entries = as_tuple(padding)
        if entries is not None and len(entries) == 1:
            entries *= rank
        if entries is None or len(entries) != rank:
            raise padding_error(function, padding, rank)
        pairs = tuple((e, e) if is_integer(e) else as_tuple(e) for e in entries)
        if any(p is None or len(p) != 2 or not all(is_integer(v) for v in p) for p in pairs):
            raise padding_error(function, padding, rank)
    check_range(function, "padding", [v for pair in pairs for v in pair], padding, 0)
    return tuple((int(low), int(high)) for low, high in pairs)


def padding_error(function, padding, rank):
    message = (f"{function}: padding must be an int, {rank} ints, {rank} (low, high) pairs or a "
               f"string, got {padding!r}")
    entries = as_tuple(padding)
    if entries is not None and len(entries) == 2 * rank and all(is_integer(e) for e in entries):
        pairs = tuple(zip(map(int, entries[::2]), map(int, entries[1::2])))
        message += f"; for per-side padding write {pairs}"
    return ValueError(message) if entries is not None else TypeError(message)


def named_padding(name, n, window):
    """(low, high) of a padding name; "same" gives ceil(n / stride) outputs, odd cell at the end."""
    if name == "valid":
        return 0, 0
    if name == "full":
        return window.extent - 1, window.extent - 1
    size = window.padded(n)
    outputs = -(-size // window.stride)
    total = max((outputs - 1) * window.stride + window.extent - size, 0)
    small, large = total // 2, total - total // 2
    return (large, small) if name == "same_lower" else (small, large)


def windows(function, sizes, kernel_size, stride=1, padding=0, dilation=1, input_dilation=1,
            flip=False):
    """One padded `Window` per axis from what the user wrote.

    Raises ValueError or TypeError, named after ``function``, for everything but a window that does
    not fit; see `output_sizes`.
    """
    rank = len(sizes)
    kernel = per_axis(function, "kernel_size", kernel_size, rank, 1)
    strides = per_axis(function, "stride", stride, rank, 1)
    dilations = per_axis(function, "dilation", dilation, rank, 1)
    input_dilations = per_axis(function, "input_dilation", input_dilation, rank, 1)
    bare = [Window(k, s, d, u, flip=bool(flip))
            for k, s, d, u in zip(kernel, strides, dilations, input_dilations)]
    pairs = padding_pairs(function, padding, sizes, bare)
    result = tuple(w._replace(low=low, high=high) for w, (low, high) in zip(bare, pairs))
    for n, window in zip(sizes, result):
        if max(window.padded(n), window.extent) > MAX_EXTENT:
            raise ValueError(f"{function}: the padded input ({window.padded(n)} cells) and the dilated "
                             f"kernel ({window.extent} cells) must span at most {MAX_EXTENT} cells per axis")
    return result


def transposed_windows(function, sizes, kernel_size, stride=1, padding=0, dilation=1, output_padding=0,
                       output_size=None, flip=False):
    """The windows of the convolutions whose adjoints have inputs of ``sizes``, and the sizes of their outputs.

    ``(n - 1) * stride - low - high + extent + output_padding`` outputs per axis; "same" gives n * stride.
    """
    rank = len(sizes)
    bare = windows(function, (1,) * rank, kernel_size, stride, 0, dilation, flip=flip)
    if isinstance(padding, str) and padding.lower().startswith("same") and padding.lower() in PADDING_NAMES:
        pairs = [same_transposed(padding.lower(), w) for w in bare]
    else:
        pairs = padding_pairs(function, padding, sizes, bare)
    extra = per_axis(function, "output_padding", output_padding, rank, 0)
    limits = tuple(max(w.stride, w.dilation) for w in bare)
    if any(e >= limit for e, limit in zip(extra, limits)):
        raise ValueError(f"{function}: output_padding={extra} must be smaller than max(stride, dilation)={limits}")
    smallest = tuple((n - 1) * w.stride - low - high + w.extent for n, w, (low, high) in zip(sizes, bare, pairs))
    if output_size is None:
        outputs = tuple(o + e for o, e in zip(smallest, extra))
    else:
        outputs = per_axis(function, "output_size", output_size, rank, 0)
        largest = tuple(o + limit - 1 for o, limit in zip(smallest, limits))
        if any(not least <= o <= most for least, o, most in zip(smallest, outputs, largest)):
            raise ValueError(f"{function}: output_size={outputs} not reachable; valid range is {smallest} to {largest}")
    if any(o < 1 for o in outputs):
        raise ValueError(f"{function}: padding {tuple(pairs)} leaves outputs of size {outputs} of an input of size "
                         f"{tuple(sizes)}; every axis needs at least one")
    return tuple(w._replace(low=low, high=high) for w, (low, high) in zip(bare, pairs)), outputs


def same_transposed(name, window):
    """(low, high) that leave n * stride of the outputs of an adjoint; a negative high appends zeros."""
    total = window.extent - window.stride
    if total < 0:
        return 0, total
    small, large = total // 2, total - total // 2
    return (large, small) if name == "same_lower" else (small, large)


def output_sizes(function, sizes, windows, ceil_mode=False):
    """Output extents; ValueError when a window is larger than its padded input."""
    outputs = tuple(w.output_size(n, ceil_mode) for n, w in zip(sizes, windows))
    if any(o < 1 for o in outputs):
        raise ValueError(
            f"{function}: effective kernel {tuple(w.extent for w in windows)} is larger than the "
            f"padded input {tuple(w.padded(n) for n, w in zip(sizes, windows))}")
    return outputs


def check_elements(function, shape):
    """Refuse an array that no machine holds before anything is computed with its size."""
    if prod(shape) > MAX_ELEMENTS:
        raise ValueError(f"{function}: an array of shape {tuple(shape)} would have {prod(shape)} elements, "
                         f"at most {MAX_ELEMENTS} are allowed")


def tiled_phases(window, n_out, tiles):
    """The phases of an axis on which weights number ``o % tiles`` compute output ``o``."""
    tiles = min(tiles, n_out)
    return [
        phase._replace(out_start=tile + phase.out_start * tiles, out_step=phase.out_step * tiles, tile=tile)
        for tile in range(tiles)
        for phase in one_tile(window, tiles, tile).phases(-(-(n_out - tile) // tiles))]


def tiled_adjoint_phases(window, n_in, n_out, tiles):
    """The phases that carry a gradient from the outputs of `tiled_phases` back; those of different tiles add."""
    tiles = min(tiles, n_out)
    return [
        phase._replace(in_start=tile, in_step=tiles, tile=tile)
        for tile in range(tiles)
        for phase in one_tile(window, tiles, tile).adjoint().phases(n_in)]


def one_tile(window, tiles, tile):
    """The window of outputs ``tile, tile + tiles, ...``."""
    return window._replace(stride=window.stride * tiles, low=window.low - tile * window.stride)


def phase_table(windows, outputs):
    """`table_of` the phases of windows and their numbers of outputs."""
    return table_of([w.phases(o) for w, o in zip(windows, outputs)])


def table_of(phases):
    """The phases of one to three axes as integers for the kernels.

    Missing leading axes become axes of one cell. Returns three row counts, then the rows.
    """
    phases = [Window(1).phases(1)] * (3 - len(phases)) + list(phases)
    return [len(p) for p in phases] + [value for axis in phases for phase in axis for value in phase]
