# Windows that share cells, as products of an interval along W and the rest: each row of the input is reduced to
# the extreme or the sum of every interval, once for all windows that hold the row. What is left is a pooling of
# these rows with windows one wide, and the view of a box of it.
#
# Lanes are outputs of a row, whose cells outside the input change no result, or channels. Which windows are
# reduced depends on their shapes alone: sums are added up in the same order in every layout.

cdef extern from "simd.h" nogil:
    vec load_some_or(const real *p, some_lanes lanes, vec rest)

cdef enum:
    MAX_WIDTH = 64             # taps of an interval; windows of more are summed in double


cdef bint are_ordinary(const Pool *g, int axis) noexcept nogil:
    """Whether output o of an axis stands at place o."""
    cdef Py_ssize_t o
    if g.axis[axis].n_out != g.n_out[axis]:
        return False
    for o in range(g.n_out[axis]):
        if place(g, axis, o) != o:
            return False
    return True


cdef bint is_shared(const Pool *g) noexcept nogil:
    """Whether intervals take no more steps than windows visited tap by tap."""
    cdef Py_ssize_t height = g.axis[1].n_taps, width = g.axis[2].n_taps
    return (g.passes[0] in (MAX_PASS, MIN_PASS, SUM_PASS) and height > 1 and 1 < width <= MAX_WIDTH
            and g.axis[1].step == 1 and g.axis[2].step == 1
            and width * min(g.axis[1].stride, height) + height <= width * height
            and g.axis[0].n_taps * height * BLOCK <= POOL_BYTES // <Py_ssize_t>sizeof(real)
            and are_ordinary(g, 1) and are_ordinary(g, 2))


cdef void leave_rows(Pool *g, Py_ssize_t *windows) noexcept nogil:
    """Make it the pooling of reduced rows; ``windows`` has room for those along W."""
    cdef Axis *axis = &g.axis[2]
    cdef Py_ssize_t o
    g.interval, g.intervals = axis[0], g.windows[2]
    axis.n_in, axis.n_taps, axis.start, axis.stride, axis.step = g.n_out[2], 1, 0, 1, 1
    for o in range(g.n_out[2]):
        windows[3 * o], windows[3 * o + 1], windows[3 * o + 2] = o, 0, 1
    g.windows[2] = windows


cdef inline Py_ssize_t reduced_row(const Pool *g, Py_ssize_t columns, Py_ssize_t channels) noexcept nogil:
    """Reals from a row of reduced cells to the next."""
    return ceil_div(columns, LANES) * LANES if g.by_rows else columns * channels


# ---------------------------------------------------------------- lanes = outputs of a row

cdef inline test take_interval(const int kind, const bint only_nan, const bint is_edge, const int stride, const int width, const real *x,
                               Py_ssize_t n_taps, const some_lanes *inside, vec border, vec *best) noexcept nogil:
    """LANES outputs, their taps in order: ``width``, or if that is 0 n. Whether any cell is NaN."""
    cdef test nan = has_nan(splat(0), splat(0))
    cdef vec cells, odd
    cdef whole names = splat_whole(0)
    cdef Py_ssize_t s = 0
    while s < (width if width > 0 else n_taps):
        cells = load_some_or(x + s, inside[s], border) if is_edge else load(x + s)
        if stride == 2:
            odd = load_some_or(x + s + LANES, inside[s + LANES], border) if is_edge else load(x + s + LANES)
            if s % LANES == 0:
                nan = nan | has_nan(cells, odd)
            split_pairs(cells, odd, &cells, &odd)
        elif s % LANES == 0:
            nan = nan | has_nan(cells, cells)
        visit_cells(kind, only_nan, 1, &cells, 0, best, &names)
        if stride == 2 and s + 1 < (width if width > 0 else n_taps):
            visit_cells(kind, only_nan, 1, &odd, 0, best, &names)
        s += stride
    return nan | has_nan(cells, odd if stride == 2 else cells)


cdef inline void reduce_lanes(const int kind, const bint is_edge, const int stride, const int width, const Pool *g, const Box *box, const real *x,
                              const some_lanes *inside, Py_ssize_t fetched, Py_ssize_t row_size, real *rows) noexcept nogil:
    """LANES outputs of all rows and planes that a box reads; x is the first cell of the first output in row 0 of a plane.

    So many cells from there on are fetched into cache, some rows ahead.
    """
    cdef const Axis *axes = &g.axis[0]
    cdef Cover cd = cover(&axes[0], box.n_out[0], box.n_taps[0], ANY_ORDER)
    cdef Cover ch = cover(&axes[1], box.n_out[1], box.n_taps[1], ANY_ORDER)
    cdef vec border = splat(0 if kind == SUM_PASS else -HUGE_VAL if kind == MAX_PASS else HUGE_VAL), best
    cdef Py_ssize_t plane, d, h, i_d, i_h, first = input_cell(&axes[1], &ch, box.out[1], box.tap[1], 0)
    cdef const real *row
    for plane in range(box.n_channels):
        for d in range(cd.size):
            i_d = input_cell(&axes[0], &cd, box.out[0], box.tap[0], d)
            row = x + plane * g.x_c + i_d * axes[0].x
            for h in range(clip(-first, 0, ch.size), clip(axes[1].n_in - first, 0, ch.size) if 0 <= i_d < axes[0].n_in else 0):
                i_h = first + h
                best = border
                prefetch_cells(row + i_h * axes[1].x + BYTES_AHEAD // <int>sizeof(real), fetched)
                if any(take_interval(kind, False, is_edge, stride, width, row + i_h * axes[1].x, g.interval.n_taps, inside, border, &best)):
                    if kind != SUM_PASS:
                        take_interval(kind, True, is_edge, stride, width, row + i_h * axes[1].x, g.interval.n_taps, inside, border, &best)
                store(rows + ((plane * cd.size + d) * ch.size + h) * row_size, best)


cdef inline void reduce_rows(const int kind, const int stride, const int width, const Pool *g, const Box *box, const real *x, Py_ssize_t row_size,
                             real *rows) noexcept nogil:
    cdef const Axis *axis = &g.interval
    cdef some_lanes inside[MAX_WIDTH + LANES]
    cdef Py_ssize_t block, cell, s, reach = LANES * stride + axis.n_taps - 1, fetched
    for block in range(ceil_div(box.n_out[2], LANES)):
        cell = axis.start + (box.out[2] + block * LANES) * stride
        fetched = box.n_out[2] * stride if block == 0 else 0
        if cell >= 0 and cell + reach <= axis.n_in:
            reduce_lanes(kind, False, stride, width, g, box, x + cell, inside, fetched, row_size, rows + block * LANES)
            continue
        for s in range(axis.n_taps + (LANES if stride == 2 else 0)):
            inside[s] = lanes_inside(cell + s, axis.n_in)
        reduce_lanes(kind, True, stride, width, g, box, x + cell, inside, fetched, row_size, rows + block * LANES)


# ---------------------------------------------------------------- lanes = channels

cdef inline void reduce_channels(const int kind, const bint is_part, const int V, const View *source, const real *x, const Py_ssize_t *window,
                                 real *out, Py_ssize_t n) noexcept nogil:
    """V vectors of channels of one output, or the n channels of a part of one."""
    cdef real start = 0 if kind == SUM_PASS else -HUGE_VAL if kind == MAX_PASS else HUGE_VAL
    cdef test nan = has_nan(splat(0), splat(0))
    cdef vec best[GROUP]
    cdef vec cells[GROUP]
    cdef whole names[GROUP]
    cdef Py_ssize_t s
    cdef int v
    x += window[1] * source.tap[2]
    for v in range(V):
        best[v], names[v] = splat(start), splat_whole(0)
    for s in range(window[2]):
        for v in range(V):
            cells[v] = loaded(load_lanes(0, is_part, x + s * source.tap[2] + v * LANES, n))
        nan = nan | visit_cells(kind, False, V, cells, 0, best, names)
    if kind != SUM_PASS and any(nan):
        for s in range(window[2]):
            for v in range(V):
                cells[v] = load_lanes(0, is_part, x + s * source.tap[2] + v * LANES, n)
            visit_cells(kind, True, V, cells, 0, best, names)
    for v in range(V):
        if is_part:
            store_part(out, best[v], n)
        else:
            store(out + v * LANES, best[v])


cdef inline void reduce_cells(const int kind, const Pool *g, const Box *box, const View *source, real *row) noexcept nogil:
    """The outputs of one row and a block of channels."""
    cdef Py_ssize_t n = box.n_channels, w, i
    cdef const real *x = source.data
    for w in range(box.n_out[2]):
        i = 0
        while n - i >= GROUP * LANES:
            reduce_channels(kind, False, GROUP, source, x + i, g.intervals + 3 * (box.out[2] + w), row + i, n)
            i += GROUP * LANES
        while i < n:
            if n - i >= LANES:
                reduce_channels(kind, False, 1, source, x + i, g.intervals + 3 * (box.out[2] + w), row + i, n)
            else:
                reduce_channels(kind, True, 1, source, x + i, g.intervals + 3 * (box.out[2] + w), row + i, n - i)
            i += LANES
        x += source.out[2]
        row += n


cdef inline void reduce_block(const int kind, const Pool *g, const Box *box, const real *x, Py_ssize_t row_size, real *rows, real *cells) noexcept nogil:
    """All rows that a box reads, one by one; those of channels that are not adjacent are transposed into ``cells``."""
    cdef Cover cd = cover(&g.axis[0], box.n_out[0], box.n_taps[0], ANY_ORDER)
    cdef Cover ch = cover(&g.axis[1], box.n_out[1], box.n_taps[1], ANY_ORDER)
    cdef Axis axes[3]
    cdef Box one = box[0]
    cdef View source
    cdef Py_ssize_t d, h
    axes[0], axes[1], axes[2] = g.axis[0], g.axis[1], g.interval
    for d in range(3):
        one.tap[d], one.n_taps[d] = 0, axes[d].n_taps if d == 2 else 1
        if d < 2:
            one.out[d], one.n_out[d] = 0, 1
    for d in range(cd.size):
        axes[0].start = input_cell(&g.axis[0], &cd, box.out[0], box.tap[0], d)
        for h in range(ch.size):
            axes[1].start = input_cell(&g.axis[1], &ch, box.out[1], box.tap[1], h)
            if 0 <= axes[0].start < axes[0].n_in and 0 <= axes[1].start < axes[1].n_in:
                if g.in_place:
                    view_in_place(axes, x, g.x_c, &one, &source)
                else:
                    view_in_scratch(axes, x, g.x_c, &one, CHANNELS_ADJACENT, False, cells, &source)
                reduce_cells(kind, g, box, &source, rows + (d * ch.size + h) * row_size)


# ---------------------------------------------------------------- views

cdef inline void reduce(const int kind, const Pool *g, const Box *box, const real *x, Py_ssize_t row_size, real *rows) noexcept nogil:
    if not g.by_rows:
        reduce_block(kind, g, box, x, row_size, rows, rows + g.scratch_size - g.cells_size)
    elif g.interval.stride == 1:
        reduce_rows(kind, 1, 0, g, box, x + box.channel * g.x_c, row_size, rows)
    elif g.interval.n_taps == 3:
        reduce_rows(kind, 2, 3, g, box, x + box.channel * g.x_c, row_size, rows)
    else:
        reduce_rows(kind, 2, 0, g, box, x + box.channel * g.x_c, row_size, rows)


cdef void view_reduced(const Pool *g, const real *x, const Box *box, real *scratch, View *view) noexcept nogil:
    """What ``box`` reads of the sample at ``x``, its rows reduced."""
    cdef Cover cd = cover(&g.axis[0], box.n_out[0], box.n_taps[0], ANY_ORDER)
    cdef Cover ch = cover(&g.axis[1], box.n_out[1], box.n_taps[1], ANY_ORDER)
    cdef Py_ssize_t row_size = reduced_row(g, box.n_out[2], box.n_channels)
    if g.passes[0] == MAX_PASS: reduce(MAX_PASS, g, box, x, row_size, scratch)
    elif g.passes[0] == MIN_PASS: reduce(MIN_PASS, g, box, x, row_size, scratch)
    else: reduce(SUM_PASS, g, box, x, row_size, scratch)
    view.data, view.c = scratch, cd.size * ch.size * row_size if g.by_rows else 1
    view.out[2], view.tap[2] = 1 if g.by_rows else box.n_channels, 0
    view.out[1], view.tap[1] = ch.out * row_size, ch.tap * row_size
    view.out[0], view.tap[0] = cd.out * ch.size * row_size, cd.tap * ch.size * row_size
