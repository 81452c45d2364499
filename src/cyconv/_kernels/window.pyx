# One spatial axis of a convolution, and how a stretch of the input comes to the tiles: read in place
# through its strides, or copied with its zero border into a small scratch of the thread.

from libc.string cimport memcpy, memset

cdef extern from "simd.h" nogil:
    vec load_even(const real *p, long n)

cdef enum Order:       # of a view
    ANY_ORDER          # in place, or what the tiles read fastest
    CELLS_ADJACENT     # the outputs of a row follow each other: (D, H, C, W) with stride 1
    CHANNELS_ADJACENT  # (D, H, W, C)

cdef enum:
    SHORT_ROW = 64     # cells; longer rows of channels far apart are slow to transpose,
    SHORT_COLUMN = 16  # unless the channels are few
    CELLS_AHEAD = 16   # that lie apart, to fetch into cache
    TABLE_ROW = 12     # integers of one phase in the table of _geometry.phase_table

cdef struct Axis:
    # Tap j of output o reads input cell start + o * stride + j * step, nothing outside 0 .. n_in - 1.
    Py_ssize_t n_in, n_out, n_taps
    Py_ssize_t start, stride, step
    Py_ssize_t out_start, out_step, tap_start, tap_step     # of the phase in the whole axis
    Py_ssize_t in_start, in_step, tile
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
    return clip(bound - start if step == 1 else ceil_div(bound - start, step), 0, n)     # a division takes 10 cycles


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
        axes[i].in_start, axes[i].in_step, axes[i].tile = row[9], row[10], row[11]


cdef inline Cover cover(const Axis *axis, Py_ssize_t n_out, Py_ssize_t n_taps, Order order) noexcept nogil:
    cdef Cover c
    c.length = (n_out - 1) * axis.stride + (n_taps - 1) * axis.step + 1
    if (order == CELLS_ADJACENT and axis.stride != 1) or c.length > n_out * n_taps:
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


cdef void view_in_scratch(const Axis *axes, const real *x, Py_ssize_t x_c, const Box *box, Order order,
                          bint zero_rows, real *scratch, View *view, Py_ssize_t apart=1) noexcept nogil:
    """Copy what ``box`` reads of the sample at ``x``, whose cells lie ``apart`` along W, into ``scratch``.

    The tiles read (D, H, W, C) fastest, but long rows of many channels are left as (D, H, C, W)
    rather than transposed. Rows outside the input are left unwritten unless ``zero_rows``: their
    taps are skipped.
    """
    cdef Cover cd = cover(&axes[0], box.n_out[0], box.n_taps[0], ANY_ORDER)
    cdef Cover ch = cover(&axes[1], box.n_out[1], box.n_taps[1], ANY_ORDER)
    cdef Cover cw = cover(&axes[2], box.n_out[2], box.n_taps[2], order)
    cdef Py_ssize_t nc = box.n_channels, row_size = cw.size * nc, d, h, i_d, i_h, run, begin, first, last
    cdef bint channels_last = order == CHANNELS_ADJACENT or (
        order == ANY_ORDER and (x_c == 1 or nc <= SHORT_COLUMN or cw.size <= SHORT_ROW))
    cdef real *row
    x += box.channel * x_c
    for run in range(cw.runs):
        begin = input_cell(&axes[2], &cw, box.out[2], box.tap[2], run * cw.length)
        first = first_inside(begin, cw.step, 0, cw.length)
        last = max(first_inside(begin, cw.step, axes[2].n_in, cw.length), first)
        row = scratch + run * cw.length * (nc if channels_last else 1)
        for d in range(cd.size):
            i_d = input_cell(&axes[0], &cd, box.out[0], box.tap[0], d)
            for h in range(ch.size):
                i_h = input_cell(&axes[1], &ch, box.out[1], box.tap[1], h)
                if 0 <= i_d < axes[0].n_in and 0 <= i_h < axes[1].n_in and apart > 1:
                    fill_apart(row, &cw, x + i_d * axes[0].x + i_h * axes[1].x, axes[2].x, begin, first, last, nc, x_c, apart)
                elif 0 <= i_d < axes[0].n_in and 0 <= i_h < axes[1].n_in:
                    fill_run(row, &cw, x + i_d * axes[0].x + i_h * axes[1].x + begin * axes[2].x, axes[2].x * cw.step,
                             first, last, nc, x_c, channels_last, axes[1].x)
                elif zero_rows and run == 0:
                    memset(row, 0, row_size * sizeof(real))
                row += row_size
    view.data = scratch
    view.c = 1 if channels_last else cw.size
    view.out[2] = cw.out * (nc if channels_last else 1)
    view.tap[2] = cw.tap * (nc if channels_last else 1)
    view.out[1], view.tap[1] = ch.out * row_size, ch.tap * row_size
    view.out[0], view.tap[0] = cd.out * ch.size * row_size, cd.tap * ch.size * row_size


cdef inline Py_ssize_t scratch_size(const Axis *axes, const Box *box, Order order) noexcept nogil:
    """Reals that `view_in_scratch` writes."""
    return (cover(&axes[0], box.n_out[0], box.n_taps[0], ANY_ORDER).size
            * cover(&axes[1], box.n_out[1], box.n_taps[1], ANY_ORDER).size
            * cover(&axes[2], box.n_out[2], box.n_taps[2], order).size * box.n_channels)


cdef extern from "simd.h" nogil:
    void transpose_block(real *out, Py_ssize_t out_step, const real *x, Py_ssize_t x_step)


cdef inline void prefetch_cells(const real *x, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, line = 64 // sizeof(real)
    for i in range(ceil_div(n, line)):
        prefetch_input(x + i * line)


cdef void copy_transposed(real *out, Py_ssize_t out_step, const real *x, Py_ssize_t x_step, Py_ssize_t n_rows, Py_ssize_t n_columns,
                          Py_ssize_t ahead=0) noexcept nogil:
    """out[j * out_step + i] = x[i * x_step + j], in registers by blocks of LANES x LANES; fetch x[.. + ahead] unless 0."""
    cdef vec cells[LANES]
    cdef vec zero = splat(0)
    cdef Py_ssize_t i_block, j_block, i, j, rows, columns, k
    for j_block in range(ceil_div(n_columns, LANES)):
        j = j_block * LANES
        columns = min(LANES, n_columns - j)
        for i_block in range(ceil_div(n_rows, LANES)):
            i = i_block * LANES
            rows = min(LANES, n_rows - i)
            for k in range(rows if ahead else 0):
                prefetch_input(x + (i + k) * x_step + j + ahead)
            if rows == LANES and columns == LANES:
                transpose_block(out + j * out_step + i, out_step, x + i * x_step + j, x_step)
                continue
            for k in range(LANES):
                cells[k] = load_part(x + (i + k) * x_step + j, columns) if k < rows else zero
            transpose(cells)
            for k in range(columns):
                store_part(out + (j + k) * out_step + i, cells[k], rows)


cdef inline void copy_cells(real *out, const real *x, Py_ssize_t n, Py_ssize_t step) noexcept nogil:
    cdef Py_ssize_t i
    if step == 1:
        for i in range(n // LANES):
            store(out + i * LANES, load(x + i * LANES))
        i = n // LANES * LANES
        store_part(out + i, load_part(x + i, n - i), n - i)
    elif step == 2:
        for i in range(n // LANES):
            store(out + i * LANES, load_even(x + 2 * i * LANES, LANES))
        i = n // LANES * LANES
        if i < n:
            store_part(out + i, load_even(x + 2 * i, n - i), n - i)
    else:
        for i in range(n):
            out[i] = x[i * step]


cdef void fill_run(real *cells, const Cover *c, const real *x, Py_ssize_t x_w, Py_ssize_t first, Py_ssize_t last,
                   Py_ssize_t nc, Py_ssize_t x_c, bint channels_last, Py_ssize_t x_h) noexcept nogil:
    """One run of a row of scratch: zeros, the cells first .. last of x, zeros. The row at x + x_h is fetched."""
    cdef Py_ssize_t i, n = last - first
    if channels_last:
        zero_cells(cells, first * nc)
        zero_cells(cells + last * nc, (c.length - last) * nc)
        cells += first * nc
    else:
        for i in range(nc):
            zero_cells(cells + i * c.size, first)
            zero_cells(cells + i * c.size + last, c.length - last)
        cells += first
    x += first * x_w
    if x_w == nc and (nc == 1 or (channels_last and x_c == 1)):
        copy_cells(cells, x, n * nc, 1)
    elif channels_last and x_w == 1:
        copy_transposed(cells, nc, x, x_c, nc, n, x_h)
    elif channels_last and x_c == 1 and nc == LANES:
        for i in range(n):
            prefetch_input(x + (i + CELLS_AHEAD) * x_w)
            store(cells + i * LANES, load(x + i * x_w))
    elif channels_last:
        for i in range(n):
            copy_cells(cells + i * nc, x + i * x_w, nc, x_c)
    elif x_c == 1:
        copy_transposed(cells, c.size, x, x_w, n, nc)
    else:
        for i in range(nc):
            if x_w == 1:
                prefetch_cells(x + i * x_c + x_h, n)
            copy_cells(cells + i * c.size, x + i * x_c, n, x_w)


cdef void fill_apart(real *cells, const Cover *c, const real *x, Py_ssize_t x_w, Py_ssize_t begin, Py_ssize_t first, Py_ssize_t last,
                     Py_ssize_t nc, Py_ssize_t x_c, Py_ssize_t apart) noexcept nogil:
    """A run from cell ``begin`` of a row that has a cell of x at every multiple of ``apart`` and zeros elsewhere; (C, W)."""
    cdef Py_ssize_t i, cell, at, n
    for i in range(nc):
        zero_cells(cells, c.length)
        cell = ceil_div(begin + first, apart)
        at = cell * apart - begin
        while apart == 2 and x_w == 1 and at < last:
            n = min(LANES, (last - at + 1) // 2)
            store_pairs(cells + at, load_part(x + cell, n), splat(0), n)     # a zero behind the last goes where the next row
            cell += n                                                        # is written, or into the spare of the scratch
            at += 2 * n
        while at < last:
            cells[at] = x[cell * x_w]
            cell += 1
            at += apart
        cells += c.size
        x += x_c


cdef inline void zero_cells(real *out, Py_ssize_t n) noexcept nogil:
    # Mostly one or two: a call of memset would take longer.
    while n >= LANES:
        store(out, splat(0))
        out += LANES
        n -= LANES
    store_part(out, splat(0), n)
