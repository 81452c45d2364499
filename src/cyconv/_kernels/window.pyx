# One spatial axis of a convolution, and how a stretch of the input comes to the tiles: read in place
# through its strides, or copied with its zero border into a small scratch of the thread.

from libc.string cimport memcpy, memset

cdef enum:
    TABLE_ROW = 9      # integers of one phase in the table of _geometry.phase_table

cdef struct Axis:
    # Tap j of output o reads input cell start + o * stride + j * step, nothing outside 0 .. n_in - 1.
    Py_ssize_t n_in, n_out, n_taps
    Py_ssize_t start, stride, step
    Py_ssize_t out_start, out_step, tap_start, tap_step     # of the phase in the whole axis
    Py_ssize_t x, y, w         # reals from one input cell, output and tap of the phase to the next

cdef struct Box:
    # Some outputs of some samples, and the block of taps and channels summed into them.
    Py_ssize_t sample, n_samples, channel, n_channels
    Py_ssize_t out[3]
    Py_ssize_t n_out[3]
    Py_ssize_t tap[3]
    Py_ssize_t n_taps[3]

cdef struct View:
    # The input of a box: from its first output, tap and channel by these steps to the others.
    const real *data
    Py_ssize_t c
    Py_ssize_t out[3]
    Py_ssize_t tap[3]

cdef struct Cover:
    # The cells of one axis that a box reads, as runs in scratch: one run shared by all taps, or,
    # when that would hold mostly unused cells, one run of outputs for each tap.
    Py_ssize_t runs, length, size
    Py_ssize_t step            # input cells between two cells of a run
    Py_ssize_t out, tap        # scratch cells from one output and tap to the next


cdef inline Py_ssize_t clip(Py_ssize_t value, Py_ssize_t low, Py_ssize_t high) noexcept nogil:
    return min(max(value, low), high)


cdef inline Py_ssize_t first_inside(Py_ssize_t start, Py_ssize_t step, Py_ssize_t bound, Py_ssize_t n) noexcept nogil:
    """Smallest i in 0 .. n with start + i * step >= bound (n when there is none)."""
    return clip(ceil_div(bound - start, step), 0, n)


cdef inline bint is_padded(const Axis *axis) noexcept nogil:
    return axis.start < 0 or (axis.start + (axis.n_out - 1) * axis.stride
                              + (axis.n_taps - 1) * axis.step) >= axis.n_in


cdef void phase_axes(const Py_ssize_t *table, Py_ssize_t index, Axis *axes) noexcept nogil:
    """The axes of phase number ``index``, from a _geometry.phase_table."""
    cdef const Py_ssize_t *rows = table + 3
    cdef const Py_ssize_t *row
    cdef int i
    for i in range(3):
        row = rows + index % table[i] * TABLE_ROW
        index //= table[i]
        rows += table[i] * TABLE_ROW
        axes[i].n_out, axes[i].out_start, axes[i].out_step = row[0], row[1], row[2]
        axes[i].n_taps, axes[i].tap_start, axes[i].tap_step = row[3], row[4], row[5]
        axes[i].start, axes[i].stride, axes[i].step = row[6], row[7], row[8]


cdef inline Cover cover(const Axis *axis, Py_ssize_t n_out, Py_ssize_t n_taps, bint unit_stride) noexcept nogil:
    cdef Cover c
    c.length = (n_out - 1) * axis.stride + (n_taps - 1) * axis.step + 1
    if (unit_stride and axis.stride != 1) or c.length > n_out * n_taps:
        c.runs, c.length, c.step, c.out, c.tap = n_taps, n_out, axis.stride, 1, n_out
    else:
        c.runs, c.step, c.out, c.tap = 1, 1, axis.stride, axis.step
    c.size = c.runs * c.length
    return c


cdef inline Py_ssize_t input_cell(const Axis *axis, const Cover *c, Py_ssize_t out, Py_ssize_t tap, Py_ssize_t i) noexcept nogil:
    """The input cell that cell ``i`` of a cover holds."""
    return axis.start + out * axis.stride + (tap + i // c.length) * axis.step + i % c.length * c.step


cdef inline void view_in_place(const Axis *axes, const real *x, Py_ssize_t x_c, const Box *box, View *view) noexcept nogil:
    cdef int i
    view.data = x + box.channel * x_c
    view.c = x_c
    for i in range(3):
        view.data += (axes[i].start + box.out[i] * axes[i].stride + box.tap[i] * axes[i].step) * axes[i].x
        view.out[i] = axes[i].stride * axes[i].x
        view.tap[i] = axes[i].step * axes[i].x


cdef void view_in_scratch(const Axis *axes, const real *x, Py_ssize_t x_c, const Box *box, bint unit_stride,
                          bint zero_rows, real *scratch, View *view) noexcept nogil:
    """Copy what ``box`` reads of the sample at ``x`` into ``scratch``.

    Scratch is (D, H, W, C) when the channels of x are contiguous, else (D, H, C, W). Rows outside
    the input are left unwritten unless ``zero_rows``: their taps are skipped.
    """
    cdef Cover cd = cover(&axes[0], box.n_out[0], box.n_taps[0], False)
    cdef Cover ch = cover(&axes[1], box.n_out[1], box.n_taps[1], False)
    cdef Cover cw = cover(&axes[2], box.n_out[2], box.n_taps[2], unit_stride)
    cdef Py_ssize_t nc = box.n_channels, row_size = cw.size * nc, d, h, i_d, i_h
    cdef bint channels_last = x_c == 1 and not unit_stride
    cdef real *row = scratch
    x += box.channel * x_c
    for d in range(cd.size):
        i_d = input_cell(&axes[0], &cd, box.out[0], box.tap[0], d)
        for h in range(ch.size):
            i_h = input_cell(&axes[1], &ch, box.out[1], box.tap[1], h)
            if 0 <= i_d < axes[0].n_in and 0 <= i_h < axes[1].n_in:
                fill_row(&axes[2], &cw, x + i_d * axes[0].x + i_h * axes[1].x, x_c, nc, channels_last,
                         box.out[2], box.tap[2], row)
            elif zero_rows:
                memset(row, 0, row_size * sizeof(real))
            row += row_size
    view.data = scratch
    view.c = 1 if channels_last else cw.size
    view.out[2] = cw.out * (nc if channels_last else 1)
    view.tap[2] = cw.tap * (nc if channels_last else 1)
    view.out[1], view.tap[1] = ch.out * row_size, ch.tap * row_size
    view.out[0], view.tap[0] = cd.out * ch.size * row_size, cd.tap * ch.size * row_size


cdef inline Py_ssize_t scratch_size(const Axis *axes, const Box *box, bint unit_stride) noexcept nogil:
    """Reals that `view_in_scratch` writes."""
    return (cover(&axes[0], box.n_out[0], box.n_taps[0], False).size
            * cover(&axes[1], box.n_out[1], box.n_taps[1], False).size
            * cover(&axes[2], box.n_out[2], box.n_taps[2], unit_stride).size * box.n_channels)


cdef inline void prefetch_cells(const real *x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, line = 64 // sizeof(real)
    for i in range(n // line):
        prefetch(x + i * line)


cdef inline void copy_cells(real *out, const real *x, Py_ssize_t n, Py_ssize_t step) noexcept nogil:
    cdef Py_ssize_t i
    if step == 1:
        for i in range(n // LANES):
            store(out + i * LANES, load(x + i * LANES))
        i = n // LANES * LANES
        store_part(out + i, load_part(x + i, n - i), n - i)
    else:
        for i in range(n):
            out[i] = x[i * step]


cdef inline void fill_row(const Axis *axis, const Cover *c, const real *x, Py_ssize_t x_c, Py_ssize_t nc,
                          bint channels_last, Py_ssize_t out, Py_ssize_t tap, real *row) noexcept nogil:
    cdef Py_ssize_t run, i, first, last, k, begin, x_w = axis.x * c.step
    cdef const real *source
    cdef real *cells
    for run in range(c.runs):
        begin = input_cell(axis, c, out, tap, run * c.length)
        first = first_inside(begin, c.step, 0, c.length)
        last = max(first_inside(begin, c.step, axis.n_in, c.length), first)
        source = x + (begin + first * c.step) * axis.x
        cells = row + run * c.length * (nc if channels_last else 1)
        if channels_last:
            memset(cells, 0, first * nc * sizeof(real))
            if x_w == nc:
                memcpy(cells + first * nc, source, (last - first) * nc * sizeof(real))
            else:
                for i in range(last - first):
                    memcpy(cells + (first + i) * nc, source + i * x_w, nc * sizeof(real))
            memset(cells + last * nc, 0, (c.length - last) * nc * sizeof(real))
            continue
        for k in range(nc):
            for i in range(first):
                cells[i] = 0
            copy_cells(cells + first, source, last - first, x_w)
            for i in range(last, c.length):
                cells[i] = 0
            cells += c.size
            source += x_c
