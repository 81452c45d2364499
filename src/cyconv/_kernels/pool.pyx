# Pooling forward: the window of every output visited tap by tap. What a tap does stands in pool_tap.pyx.
#
# Lanes are the outputs of a row where these read neighbours, or every second cell, in memory (channels
# first, stride 1 or 2). Rows that windows leave are copied with a border that changes no result.
#
# Else lanes are channels. Where they do not follow each other in memory (channels first, short rows or
# long strides), a few rows of a block of channels are transposed into scratch, pooled there, and the
# results transposed back. When samples follow each other, their planes count as channels too.
#
# Loop nest of one thread (pool_item): sample, block of channels, depth, block of rows, block of columns,
# then per run of outputs of a row: pass, slab of taps, output, tap, lane. There is one slab unless a
# window is larger than the scratch. Other taps in the padding are skipped; which are not stands in a
# table. Threads share out the items.
#
# A table gives for every output its place: output o of an ordinary window stands at place o, where the
# axis has its stride; the bins of an adaptive pooling are windows of stride 1 at some places only.

from libc.math cimport fabs, sqrt
from libc.stdint cimport int64_t, uint8_t

cdef enum:
    POOL_BYTES = 1 << 17       # input scratch of a thread; one row of outputs may take ROW_BYTES
    ROW_BYTES = 1 << 19
    ITEM_OUTPUTS = 1 << 13        # outputs of an item that are pooled by rows, in place
    NO_TAP = 255               # as a byte

cdef struct Pool:
    Axis axis[3]                   # its outputs are places
    Py_ssize_t n_out[3]
    const Py_ssize_t *windows[3]   # [output, 3]: place, first tap and number of taps inside the input
    const Py_ssize_t *counts[3]    # [output]: cells that count in a mean
    int passes[2]
    int n_passes
    double p                       # of a norm
    double divisor                 # of a mean; 0: the number of cells that count
    Py_ssize_t batch, channels, x_n, x_c, y_n, y_c
    bint in_place                  # channels, or the outputs of a row, follow each other in x
    bint by_rows                   # lanes are outputs of a row
    const real *x
    real *y
    int64_t *index                 # flat index of the extreme in its plane, or NULL
    uint8_t *tap                   # number of its tap, or NULL
    const uint8_t *tap_end
    const Py_ssize_t *cells        # [tap]: where it is in x
    Py_ssize_t name[3]             # what tells taps apart in one or the other, from one to the next
    Py_ssize_t channel_blocks, row_blocks, column_blocks, n_items, scratch_size
    Py_ssize_t slab[3]             # taps that are in scratch at once
    Py_ssize_t n_slabs[3]


cdef void set_pool(Pool *g, cnp.ndarray x, cnp.ndarray y, cnp.ndarray table, cnp.ndarray windows, bint channels_last) noexcept:
    cdef Py_ssize_t real_size = sizeof(real)
    cdef int c_axis = x.ndim - 1 if channels_last else 1, rank = x.ndim - 2, i
    describe_spatial(g.axis, x, y, channels_last)
    phase_axes(<const Py_ssize_t *>cnp.PyArray_DATA(table), 0, g.axis)
    g.windows[0] = <const Py_ssize_t *>cnp.PyArray_DATA(windows)
    for i in range(3):
        g.n_out[i] = y.shape[i - (3 - rank) + (1 if channels_last else 2)] if i >= 3 - rank else 1
        if i < 2:
            g.windows[i + 1] = g.windows[i] + 3 * g.n_out[i]
    g.batch, g.channels = x.shape[0], x.shape[c_axis]
    g.x_n, g.x_c = x.strides[0] // real_size, x.strides[c_axis] // real_size
    g.y_n, g.y_c = y.strides[0] // real_size, y.strides[c_axis] // real_size
    g.x, g.y, g.index, g.tap = <const real *>cnp.PyArray_DATA(x), <real *>cnp.PyArray_DATA(y), NULL, NULL
    g.n_passes, g.divisor, g.p = 1, 1, 1
    if not channels_last and g.x_n == g.channels * g.x_c and g.y_n == g.channels * g.y_c:
        g.channels *= g.batch
        g.batch = 1


cdef void set_counts(Pool *g, cnp.ndarray counts, double divisor) noexcept:
    cdef Py_ssize_t o
    cdef bint is_constant = True
    cdef int i
    g.divisor = divisor
    g.counts[0] = <const Py_ssize_t *>cnp.PyArray_DATA(counts)
    for i in range(3):
        if i < 2:
            g.counts[i + 1] = g.counts[i] + g.n_out[i]
        for o in range(1, g.n_out[i]):
            is_constant = is_constant and g.counts[i][o] == g.counts[i][0]
    if divisor == 0 and is_constant:
        g.divisor = <double>(g.counts[0][0] * g.counts[1][0] * g.counts[2][0])


cdef inline double divisor(const Pool *g, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w) noexcept nogil:
    return g.divisor if g.divisor != 0 else <double>(g.counts[0][d] * g.counts[1][h] * g.counts[2][w])


cdef inline Py_ssize_t place(const Pool *g, int axis, Py_ssize_t o) noexcept nogil:
    return g.windows[axis][3 * o]


cdef inline Py_ssize_t first_tap(const Pool *g, int axis, Py_ssize_t o, const Box *box) noexcept nogil:
    """First tap of output o inside the input and the slab of ``box``."""
    return max(g.windows[axis][3 * o + 1], box.tap[axis])


cdef inline Py_ssize_t last_tap(const Pool *g, int axis, Py_ssize_t o, const Box *box) noexcept nogil:
    """One after the last of them."""
    return min(g.windows[axis][3 * o + 1] + g.windows[axis][3 * o + 2], box.tap[axis] + box.n_taps[axis])


# ---------------------------------------------------------------- runs of outputs

cdef struct Stretch:
    # Outputs (d, h, w) to (d, h + n_rows - 1, w + n_columns - 1); one row unless lanes are its outputs.
    Py_ssize_t d, h, w, n_rows, n_columns


cdef void put_divisors(const Pool *g, const Stretch *out, Py_ssize_t row, Run *run) noexcept nogil:
    """Of the outputs of one row, and ones for the other lanes of their last vector."""
    cdef Py_ssize_t o
    for o in range(ceil_div(out.n_columns, LANES) * LANES):
        run.divisor[o] = divisor(g, out.d, out.h + row, out.w + o) if o < out.n_columns else 1
        run.by[o] = <real>run.divisor[o]


cdef inline void pool_outputs(const int kind, const int step, const int width, const Pool *g, const View *view, const Box *box, const Stretch *out,
                              bint first, bint last, Run *run) noexcept nogil:
    """One slab of the taps of some outputs: the first, the last, or both. ``step`` 0: lanes are channels.

    A row has ``width`` taps that follow each other, or 0.
    """
    cdef const real *x = view.data + (place(g, 0, out.d) - box.out[0]) * view.out[0]
    cdef const real *row
    cdef Py_ssize_t o, h
    cdef Taps taps
    cdef int i
    for i in range(3):
        x -= box.tap[i] * view.tap[i]
        taps.x[i], taps.name[i] = view.tap[i], g.name[i]
    taps.first[0], taps.last[0] = first_tap(g, 0, out.d, box), last_tap(g, 0, out.d, box)
    taps.first[2], taps.last[2] = 0, g.axis[2].n_taps
    for h in range(out.h, out.h + out.n_rows):
        taps.first[1], taps.last[1] = first_tap(g, 1, h, box), last_tap(g, 1, h, box)
        row = x + (place(g, 1, h) - box.out[1]) * view.out[1]
        if (kind == SUM_PASS or kind == LONG_SUM_PASS) and (h == out.h or g.counts[1][h] != g.counts[1][h - 1]):
            put_divisors(g, out, h - out.h, run)
        if step > 0:
            pool_lanes(kind, step, width, g.p, &taps, row + (out.w - box.out[2]) * view.out[2], True, True, run, h - out.h, 0, 1)
            continue
        for o in range(out.n_columns):
            taps.first[2], taps.last[2] = first_tap(g, 2, out.w + o, box), last_tap(g, 2, out.w + o, box)
            pool_lanes(kind, 1, 0, g.p, &taps, row + (place(g, 2, out.w + o) - box.out[2]) * view.out[2], first, last, run, o, o, 0)


cdef inline void run_pass(const int kind, const Pool *g, View *view, Box *box, const Stretch *out, real *scratch, Run *run) noexcept nogil:
    cdef Py_ssize_t n_slabs = g.n_slabs[0] * g.n_slabs[1] * g.n_slabs[2], slab
    for slab in range(n_slabs):
        if n_slabs > 1:
            view_slab(g, slab, box, scratch, view)
        if not g.by_rows:
            pool_outputs(kind, 0, 0, g, view, box, out, slab == 0, slab == n_slabs - 1, run)
        elif g.axis[2].stride == 1:
            pool_outputs(kind, 1, 0, g, view, box, out, True, True, run)
        elif kind <= SUM_PASS and g.axis[2].n_taps == 2 and g.axis[2].step == 1:
            pool_outputs(kind, 2, 2, g, view, box, out, True, True, run)
        elif kind <= SUM_PASS and g.axis[2].n_taps == 3 and g.axis[2].step == 1:
            pool_outputs(kind, 2, 3, g, view, box, out, True, True, run)
        else:
            pool_outputs(kind, 2, 0, g, view, box, out, True, True, run)


cdef void run_passes(const Pool *g, View *view, Box *box, const Stretch *out, real *scratch, Run *run) noexcept nogil:
    # The literals make the compiler write one body per pass.
    cdef int i
    for i in range(g.n_passes):
        if g.passes[i] == MAX_PASS: run_pass(MAX_PASS, g, view, box, out, scratch, run)
        elif g.passes[i] == MIN_PASS: run_pass(MIN_PASS, g, view, box, out, scratch, run)
        elif g.passes[i] == ARGMAX_PASS: run_pass(ARGMAX_PASS, g, view, box, out, scratch, run)
        elif g.passes[i] == ARGMIN_PASS: run_pass(ARGMIN_PASS, g, view, box, out, scratch, run)
        elif g.passes[i] == SUM_PASS: run_pass(SUM_PASS, g, view, box, out, scratch, run)
        elif g.passes[i] == LONG_SUM_PASS: run_pass(LONG_SUM_PASS, g, view, box, out, scratch, run)
        elif g.passes[i] == ABS_PASS: run_pass(ABS_PASS, g, view, box, out, scratch, run)
        elif g.passes[i] == TOP_PASS: run_pass(TOP_PASS, g, view, box, out, scratch, run)
        elif g.passes[i] == SQUARE_PASS: run_pass(SQUARE_PASS, g, view, box, out, scratch, run)
        elif g.passes[i] == WHOLE_POWER_PASS: run_pass(WHOLE_POWER_PASS, g, view, box, out, scratch, run)
        elif g.passes[i] == POWER_PASS: run_pass(POWER_PASS, g, view, box, out, scratch, run)


cdef inline Py_ssize_t name_of_first(const Pool *g, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w) noexcept nogil:
    """Of the first tap of an output inside the input; NO_CELL if there is none."""
    cdef Py_ssize_t *o = [d, h, w]
    cdef Py_ssize_t name = 0
    cdef int i
    for i in range(3):
        if g.windows[i][3 * o[i] + 2] == 0:
            return NO_CELL
        name += g.windows[i][3 * o[i] + 1] * g.name[i]
    return name


cdef inline bint any_negative(const whole_element *taps, Py_ssize_t n) noexcept nogil:
    cdef whole_element bits = 0
    cdef Py_ssize_t i
    for i in range(n):
        bits = bits | taps[i]
    return bits < 0


cdef inline void put_bytes(uint8_t *out, Py_ssize_t step, const whole_element *taps, Py_ssize_t n, Py_ssize_t vectors) noexcept nogil:
    """n numbers of taps, the first as whole vectors where they follow each other."""
    cdef Py_ssize_t block, i
    for block in range(vectors if step == 1 else 0):
        for i in range(LANES):
            out[i] = <uint8_t>taps[i]
        out += LANES
        taps += LANES
        n -= LANES
    for i in range(n):
        out[i * step] = <uint8_t>taps[i]


cdef inline void put_cells_of_plane(int64_t *out, Py_ssize_t step, const whole_element *taps, Py_ssize_t n, Py_ssize_t vectors,
                                    int64_t corner, Py_ssize_t corner_step) noexcept nogil:
    """The same for flat cells; from lane to lane windows begin ``corner_step`` cells later."""
    cdef Py_ssize_t block, i
    for block in range(vectors if step == 1 else 0):
        for i in range(LANES):
            out[i] = corner + i * corner_step + taps[i]
        corner += LANES * corner_step
        out += LANES
        taps += LANES
        n -= LANES
    for i in range(n):
        out[i * step] = corner + i * corner_step + taps[i]


cdef void put_index(const Pool *g, const Stretch *out, Run *run, Py_ssize_t at) noexcept nogil:
    """Where the extremes are. No tap has won where all are infinite: it is the first."""
    cdef const Axis *axes = &g.axis[0]
    cdef Py_ssize_t step = axes[2].y if g.by_rows else g.y_c, corner_step = axes[2].stride if g.by_rows else 0
    cdef int64_t corner
    cdef whole_element *taps
    cdef Py_ssize_t line, i, h, w, to, vectors
    cdef bint has_infinite = any_negative(run.tap, run.lines * run.room)
    for line in range(run.lines):
        h, w = out.h + (line if g.by_rows else 0), out.w + (0 if g.by_rows else line)
        to = at + line * (axes[1].y if g.by_rows else axes[2].y)
        taps = run.tap + line * run.room
        if has_infinite:
            for i in range(run.lanes):
                if taps[i] < 0:
                    taps[i] = <whole_element>name_of_first(g, out.d, h, w + i if g.by_rows else w)
        # The last vector of a row may reach into rows that follow in memory and are written next.
        vectors = run.lanes // LANES
        if g.by_rows and axes[1].y == run.lanes and run.room <= (run.lines - line) * run.lanes:
            vectors = run.room // LANES
        if g.tap != NULL:
            put_bytes(g.tap + to, step, taps, run.lanes, vectors)
            continue
        corner = (((axes[0].start + place(g, 0, out.d) * axes[0].stride) * axes[1].n_in
                   + axes[1].start + place(g, 1, h) * axes[1].stride) * axes[2].n_in
                  + axes[2].start + place(g, 2, w) * axes[2].stride)
        put_cells_of_plane(g.index + to, step, taps, run.lanes, vectors, corner, corner_step)
        if name_of_first(g, out.d, h, w) == NO_CELL:
            for i in range(run.lanes):
                g.index[to + i * step] = NO_CELL


# ---------------------------------------------------------------- items

cdef void pool_item(const Pool *g, Py_ssize_t item, real *scratch) noexcept nogil:
    cdef Py_ssize_t h1, w0, w1, rows, columns, room
    cdef Stretch out
    cdef View view
    cdef Box box
    cdef Run run
    w0 = part(g.n_out[2], g.column_blocks, item % g.column_blocks)
    w1 = part(g.n_out[2], g.column_blocks, item % g.column_blocks + 1)
    item //= g.column_blocks
    out.h = part(g.n_out[1], g.row_blocks, item % g.row_blocks)
    h1 = part(g.n_out[1], g.row_blocks, item % g.row_blocks + 1)
    item //= g.row_blocks
    out.d = item % g.n_out[0]
    item //= g.n_out[0]
    box.channel = part(g.channels, g.channel_blocks, item % g.channel_blocks)
    box.n_channels = part(g.channels, g.channel_blocks, item % g.channel_blocks + 1) - box.channel
    box.sample = item // g.channel_blocks
    set_places(&box, g, 0, out.d, out.d + 1)
    set_places(&box, g, 1, out.h, h1)
    set_places(&box, g, 2, w0, w1)
    view_slab(g, 0, &box, scratch, &view)
    columns = w1 - w0 if g.by_rows else RUN
    room = ceil_div(columns, LANES) * LANES if g.by_rows else BLOCK
    rows = RUN * BLOCK // room if g.by_rows else 1
    while out.h < h1:
        out.n_rows = min(rows, h1 - out.h)
        out.w = w0
        while out.w < w1:
            out.n_columns = min(columns, w1 - out.w)
            run.room = room
            pool_stretch(g, &view, &box, &out, scratch, &run)
            out.w += out.n_columns
        out.h += out.n_rows


cdef inline void pool_stretch(const Pool *g, View *view, Box *box, const Stretch *out, real *scratch, Run *run) noexcept nogil:
    cdef const Axis *axes = &g.axis[0]
    cdef Py_ssize_t at = box.sample * g.y_n + box.channel * g.y_c + out.d * axes[0].y + out.h * axes[1].y + out.w * axes[2].y
    cdef bint is_direct = g.by_rows or g.y_c == 1
    run.lines, run.lanes = out.n_columns, box.n_channels
    run.best, run.pitch = g.y + at, axes[2].y
    if g.by_rows:
        run.lines, run.lanes, run.pitch = out.n_rows, out.n_columns, axes[1].y
    elif not is_direct:
        run.best, run.pitch = run.cells, BLOCK
    run_passes(g, view, box, out, scratch, run)
    if not is_direct:
        put_cells(run.cells, out.n_columns, BLOCK, box.n_channels, g.y + at, axes[2].y, g.y_c)
    if g.index != NULL or g.tap != NULL:
        put_index(g, out, run, at)


cdef inline void set_places(Box *box, const Pool *g, int axis, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Cover the places of outputs first .. last - 1."""
    box.out[axis] = place(g, axis, first)
    box.n_out[axis] = place(g, axis, last - 1) - box.out[axis] + 1


cdef void view_slab(const Pool *g, Py_ssize_t slab, Box *box, real *scratch, View *view) noexcept nogil:
    """The input of a box's places and of one slab of their taps."""
    cdef const real *x = g.x + box.sample * g.x_n
    cdef int i
    for i in range(2, -1, -1):
        box.tap[i] = slab % g.n_slabs[i] * g.slab[i]
        box.n_taps[i] = min(g.slab[i], g.axis[i].n_taps - box.tap[i])
        slab //= g.n_slabs[i]
    if g.in_place:
        view_in_place(g.axis, x, g.x_c, box, view)
    elif g.by_rows:
        view_rows(g, x + box.channel * g.x_c, box, scratch, view)
    else:
        view_in_scratch(g.axis, x, g.x_c, box, CHANNELS_ADJACENT, False, scratch, view)


cdef inline Py_ssize_t cells_of_row(const Axis *axis, Py_ssize_t n_out) noexcept nogil:
    return (n_out - 1) * axis.stride + (axis.n_taps - 1) * axis.step + 1


cdef inline void fill_cells(real *cells, Py_ssize_t n, real value) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        cells[i] = value


cdef void view_rows(const Pool *g, const real *x, const Box *box, real *scratch, View *view) noexcept nogil:
    """Copy the rows that ``box`` reads of a plane, with cells that change no result where the input has none."""
    cdef const Axis *axes = &g.axis[0]
    cdef Cover cd = cover(&axes[0], box.n_out[0], box.n_taps[0], ANY_ORDER)
    cdef Cover ch = cover(&axes[1], box.n_out[1], box.n_taps[1], ANY_ORDER)
    cdef Py_ssize_t length = cells_of_row(&axes[2], box.n_out[2]), begin = axes[2].start + box.out[2] * axes[2].stride
    cdef Py_ssize_t first = clip(-begin, 0, length), last = clip(axes[2].n_in - begin, first, length), d, h, i_d, i_h
    cdef bint is_least = g.passes[0] == MIN_PASS or g.passes[0] == ARGMIN_PASS
    cdef real border = HUGE_VAL if is_least else -HUGE_VAL if g.passes[0] <= ARGMIN_PASS else 0
    cdef real *row = scratch
    for d in range(cd.size):
        i_d = input_cell(&axes[0], &cd, box.out[0], box.tap[0], d)
        for h in range(ch.size):
            i_h = input_cell(&axes[1], &ch, box.out[1], box.tap[1], h)
            if 0 <= i_d < axes[0].n_in and 0 <= i_h < axes[1].n_in:
                fill_cells(row, first, border)
                copy_cells(row + first, x + i_d * axes[0].x + i_h * axes[1].x + begin + first, last - first, 1)
                fill_cells(row + last, length - last, border)
            row += length
    view.data = scratch
    view.out[2], view.tap[2] = axes[2].stride, axes[2].step
    view.out[1], view.tap[1] = ch.out * length, ch.tap * length
    view.out[0], view.tap[0] = cd.out * ch.size * length, cd.tap * ch.size * length


cdef Py_ssize_t largest_scratch(const Pool *g, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """Reals of scratch for a slab of so many outputs, wherever they are."""
    cdef Py_ssize_t size
    cdef Box box
    cdef int i
    for i in range(3):
        box.n_taps[i] = g.slab[i]
    box.n_out[0] = 1
    # Places of outputs are spread evenly: between output o and o + k are at most ceil(k * places / outputs).
    box.n_out[1] = ceil_div((rows - 1) * g.axis[1].n_out, g.n_out[1]) + 1
    box.n_out[2] = ceil_div((columns - 1) * g.axis[2].n_out, g.n_out[2]) + 1
    box.n_channels = ceil_div(g.channels, g.channel_blocks)
    if g.by_rows:
        size = (cover(&g.axis[0], 1, box.n_taps[0], ANY_ORDER).size
                * cover(&g.axis[1], box.n_out[1], box.n_taps[1], ANY_ORDER).size
                * cells_of_row(&g.axis[2], box.n_out[2]))
    else:
        size = scratch_size(g.axis, &box, CHANNELS_ADJACENT)
    return (size + 63) // 64 * 64


cdef bint reads_rows(const Pool *g) noexcept nogil:
    """Whether the outputs of a row read cells of memory that are 1 or 2 apart, and fill half a vector."""
    cdef const Axis *axis = &g.axis[2]
    cdef Py_ssize_t o
    if axis.x != 1 or axis.y != 1 or axis.stride > 2 or axis.n_out != g.n_out[2] or 2 * g.n_out[2] < LANES:
        return False
    for o in range(g.n_out[2]):
        if place(g, 2, o) != o or g.windows[2][3 * o + 2] == 0:
            return False
    return True


cdef void plan_pool(Pool *g) noexcept nogil:
    """Whole rows, as many as fit; else a part of one; else a run of outputs and slabs of its taps."""
    cdef Py_ssize_t rows = 1, columns = g.n_out[2], n_reals = POOL_BYTES // sizeof(real)
    cdef int i
    for i in range(3):
        g.slab[i] = g.axis[i].n_taps
    g.scratch_size, g.channel_blocks = 0, g.channels
    g.by_rows = reads_rows(g)
    if g.by_rows:
        columns = min(columns, RUN * BLOCK)
        while columns > 4 * LANES and largest_scratch(g, 1, columns) > n_reals:
            columns = ceil_div(columns, 2)
        g.in_place = not is_padded(&g.axis[2])
        g.by_rows = g.in_place or largest_scratch(g, 1, columns) <= n_reals
    if g.by_rows and g.in_place:
        rows = min(max(ITEM_OUTPUTS // columns, 1), g.n_out[1])
    elif g.by_rows:
        while rows < g.n_out[1] and largest_scratch(g, rows + 1, columns) <= n_reals:
            rows += 1
        g.scratch_size = largest_scratch(g, rows, columns)
    else:
        plan_blocks(g, &rows, &columns)
    for i in range(3):
        g.n_slabs[i] = ceil_div(g.axis[i].n_taps, g.slab[i])
    g.row_blocks, g.column_blocks = ceil_div(g.n_out[1], rows), ceil_div(g.n_out[2], columns)
    g.n_items = g.batch * g.channel_blocks * g.n_out[0] * g.row_blocks * g.column_blocks


cdef void plan_blocks(Pool *g, Py_ssize_t *rows, Py_ssize_t *columns) noexcept nogil:
    """With lanes = channels."""
    cdef Py_ssize_t n_reals = POOL_BYTES // sizeof(real)
    cdef int i = 0
    g.in_place = g.x_c == 1 or g.channels == 1
    g.channel_blocks = ceil_div(g.channels, BLOCK)
    rows[0], columns[0] = 1, g.n_out[2]
    if g.in_place:
        return
    if largest_scratch(g, 1, columns[0]) * <Py_ssize_t>sizeof(real) > ROW_BYTES:
        while columns[0] > RUN and largest_scratch(g, 1, columns[0]) > n_reals:
            columns[0] = max(RUN, columns[0] // 2)
        while i < 3 and largest_scratch(g, 1, columns[0]) > n_reals:
            if g.slab[i] > 1:
                g.slab[i] = ceil_div(g.slab[i], 2)
            else:
                i += 1
    else:
        while rows[0] < g.n_out[1] and largest_scratch(g, rows[0] + 1, columns[0]) <= n_reals:
            rows[0] += 1
    g.scratch_size = largest_scratch(g, rows[0], columns[0])


cdef void pool_share(const Pool *g, Py_ssize_t i, int n_threads, real *scratch) noexcept nogil:
    """The items of thread ``i``."""
    cdef Py_ssize_t item
    for item in range(part(g.n_items, n_threads, i), part(g.n_items, n_threads, i + 1)):
        pool_item(g, item, scratch + i * g.scratch_size)


cdef void pool_forward(Pool *g, int n_threads):
    cdef Py_ssize_t i
    cdef real *scratch
    with nogil:
        plan_pool(g)
        scratch = <real *>malloc((g.scratch_size * n_threads + 64) * sizeof(real))
        if n_threads == 1 and scratch != NULL:
            pool_share(g, 0, 1, aligned(scratch))
        elif scratch != NULL:
            for i in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
                pool_share(g, i, n_threads, aligned(scratch))
        free(scratch)
    if scratch == NULL:
        raise MemoryError("cyconv: no memory for the scratch of the pooling")


# y and index are C-contiguous in all of the following.

def extreme_pool(cnp.ndarray x, cnp.ndarray y, cnp.ndarray index, cnp.ndarray table, cnp.ndarray windows,
                 bint smallest, bint channels_last, int n_threads):
    """Maximum or minimum of every window into y, and where it is into index (or None).

    As int64 index holds flat cells of the input plane; as uint8 numbers of taps, of which there are at most 255.
    """
    cdef Pool g
    set_pool(&g, x, y, table, windows, channels_last)
    g.passes[0] = MIN_PASS if smallest else MAX_PASS
    if index is not None:
        g.passes[0] = ARGMIN_PASS if smallest else ARGMAX_PASS
        name_taps(&g, index)
    pool_forward(&g, n_threads)


cdef void name_taps(Pool *g, cnp.ndarray index) noexcept:
    cdef const Axis *axes = &g.axis[0]
    if cnp.PyArray_ITEMSIZE(index) == 1:
        g.tap = <uint8_t *>cnp.PyArray_DATA(index)
        g.name[0], g.name[1], g.name[2] = axes[1].n_taps * axes[2].n_taps, axes[2].n_taps, 1
    else:
        g.index = <int64_t *>cnp.PyArray_DATA(index)
        g.name[2], g.name[1] = axes[2].step, axes[1].step * axes[2].n_in
        g.name[0] = axes[0].step * axes[1].n_in * axes[2].n_in


def sum_pool(cnp.ndarray x, cnp.ndarray y, cnp.ndarray table, cnp.ndarray windows, cnp.ndarray counts, double divisor,
             bint in_double, bint channels_last, int n_threads):
    """Sum of every window over ``divisor``, or over the product of its ``counts`` when that is 0."""
    cdef Pool g
    set_pool(&g, x, y, table, windows, channels_last)
    set_counts(&g, counts, divisor)
    if in_double and is_one_run(&g):
        with nogil:
            sum_planes(&g, n_threads)
        return
    g.passes[0] = LONG_SUM_PASS if in_double else SUM_PASS
    g.name[0], g.name[1], g.name[2] = g.axis[1].n_taps * g.axis[2].n_taps, g.axis[2].n_taps, 1
    pool_forward(&g, n_threads)


cdef bint is_one_run(const Pool *g) noexcept nogil:
    """Whether the only window is the plane, whose cells follow each other in memory."""
    cdef Py_ssize_t size = 1
    cdef int i
    for i in range(2, -1, -1):
        if g.n_out[i] != 1 or place(g, i, 0) != 0 or g.windows[i][1] != 0 or g.windows[i][2] != g.axis[i].n_in:
            return False
        if g.axis[i].start != 0 or g.axis[i].n_in > 1 and (g.axis[i].x != size or g.axis[i].step != 1):
            return False
        size *= g.axis[i].n_in
    return True


cdef void sum_planes(const Pool *g, int n_threads) noexcept nogil:
    cdef Py_ssize_t size = g.axis[0].n_in * g.axis[1].n_in * g.axis[2].n_in, planes = g.batch * g.channels, i, plane
    cdef double by = divisor(g, 0, 0, 0)
    for i in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
        for plane in range(part(planes, n_threads, i), part(planes, n_threads, i + 1)):
            g.y[plane // g.channels * g.y_n + plane % g.channels * g.y_c] = <real>(
                sum_of_run(g.x + plane // g.channels * g.x_n + plane % g.channels * g.x_c, size) / by)


def lp_pool(cnp.ndarray x, cnp.ndarray y, cnp.ndarray table, cnp.ndarray windows, double p, bint channels_last, int n_threads):
    """(sum |x|**p)**(1/p) of every window; p > 0, infinity for the largest |x|."""
    cdef Pool g
    set_pool(&g, x, y, table, windows, channels_last)
    g.p = p
    g.passes[0] = ABS_PASS if p == 1 else TOP_PASS
    if p == 2 and sizeof(real) == 4:
        g.passes[0] = SQUARE_PASS
    elif p != 1 and p != HUGE_VAL:
        g.n_passes = 2
        g.passes[1] = SQUARE_PASS if p == 2 else WHOLE_POWER_PASS if p in range(3, MAX_WHOLE + 1) else POWER_PASS
    pool_forward(&g, n_threads)
