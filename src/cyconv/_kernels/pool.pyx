# Pooling forward: the window of every output visited tap by tap. What a tap does stands in pool_tap.pyx.
#
# Lanes are the outputs of a row where these read neighbours, or every second cell, in memory (channels
# first, stride 1 or 2). Rows that windows leave are copied with a border that changes no result.
#
# Else lanes are channels. Where they do not follow each other in memory (channels first, short rows or
# long strides), a few rows of a block of channels are transposed into scratch, pooled there, and the
# results transposed back. When samples follow each other, their planes count as channels too.
# Windows that share cells go through pool_reduced.pyx first.
#
# Loop nest of one thread (pool_item): sample, block of channels, depth, block of rows, block of columns,
# then per run of outputs: pass, slab of taps, outputs with the same taps, tap, lane. There is one slab
# unless a window is larger than the scratch. Other taps in the padding are skipped; which are not stands
# in a table. Threads share out the items. Small planes and samples that are read in place share an item.
#
# A table gives for every output its place: output o of an ordinary window stands at place o, where the
# axis has its stride; the bins of an adaptive pooling are windows of stride 1 at some places only.

from libc.math cimport fabs, sqrt

cdef enum:
    POOL_BYTES = 1 << 17       # input scratch of a thread; one row of outputs may take ROW_BYTES
    ROW_BYTES = 1 << 19
    BYTES_AHEAD = 4096         # what is read or written in place is fetched into cache so far ahead
    ITEM_OUTPUTS = 1 << 11     # outputs of an item that are pooled by rows, in place
    NO_TAP = 255               # as a byte

cdef struct Pool:
    Axis axis[3]                   # its outputs are places
    Py_ssize_t n_out[3]
    const Py_ssize_t *windows[3]   # [output, 3]: place, first tap and number of taps inside the input
    const Py_ssize_t *counts[3]    # [output]: cells that count in a mean
    int passes[2]
    int n_passes
    double p                       # of a norm
    real least                     # of maxima: -infinity, or 0 if a rectifier follows
    double divisor                 # of a mean; 0: the number of cells that count
    Py_ssize_t batch, channels, x_n, x_c, y_n, y_c
    bint in_place                  # channels, or the outputs of a row, follow each other in x
    bint by_rows                   # lanes are outputs of a row
    bint at_once                   # nothing is left for another pass or list of taps
    bint is_reduced                # to a pooling of reduced rows:
    Axis interval                  # the axis along W of the windows
    const Py_ssize_t *intervals    # and these
    Py_ssize_t cells_size          # scratch for the cells of one row, at its end
    bint widened                   # gradients of means: rows of outputs, before rows of cells are made of them
    const real *x
    real *y
    int64_t *index                 # flat index of the extreme in its plane, or NULL
    uint8_t *tap                   # number of its tap, or NULL
    const uint8_t *tap_end
    const Py_ssize_t *cells        # [tap]: where it is in x
    Py_ssize_t name[3]             # what tells taps apart in one or the other, from one to the next
    Py_ssize_t sample_blocks, channel_blocks, row_blocks, column_blocks, n_items, scratch_size
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
    g.x_n, g.x_c = x.strides[0] // real_size, channel_step(x, c_axis)
    g.y_n, g.y_c = y.strides[0] // real_size, channel_step(y, c_axis)
    g.x, g.y, g.index, g.tap = <const real *>cnp.PyArray_DATA(x), <real *>cnp.PyArray_DATA(y), NULL, NULL
    g.n_passes, g.divisor, g.p = 1, 1, 1
    g.name[0] = g.name[1] = g.name[2] = 0
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


cdef inline int64_t flat_corner(const Pool *g, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w) noexcept nogil:
    """The flat cell of a plane where tap 0 of an output would be."""
    return (((g.axis[0].start + place(g, 0, d) * g.axis[0].stride) * g.axis[1].n_in
             + g.axis[1].start + place(g, 1, h) * g.axis[1].stride) * g.axis[2].n_in
            + g.axis[2].start + place(g, 2, w) * g.axis[2].stride)


cdef inline Py_ssize_t first_tap(const Pool *g, int axis, Py_ssize_t o, const Box *box) noexcept nogil:
    """First tap of output o inside the input and the slab of ``box``."""
    return max(g.windows[axis][3 * o + 1], box.tap[axis])


cdef inline Py_ssize_t last_tap(const Pool *g, int axis, Py_ssize_t o, const Box *box) noexcept nogil:
    """One after the last of them."""
    return min(g.windows[axis][3 * o + 1] + g.windows[axis][3 * o + 2], box.tap[axis] + box.n_taps[axis])


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
    item //= g.channel_blocks
    box.sample = part(g.batch, g.sample_blocks, item)
    box.n_samples = part(g.batch, g.sample_blocks, item + 1) - box.sample
    set_places(&box, g, 0, out.d, out.d + 1)
    set_places(&box, g, 1, out.h, h1)
    set_places(&box, g, 2, w0, w1)
    view_slab(g, 0, &box, scratch, &view)
    columns = w1 - w0 if g.by_rows else RUN * BLOCK if g.at_once and g.y_c == 1 else RUN
    room = ceil_div(columns, LANES) * LANES if g.by_rows else BLOCK
    rows = (h1 - out.h if g.at_once else RUN * BLOCK // room) if g.by_rows else 1
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
    if g.is_reduced:
        view_reduced(g, x, box, scratch, view)
    elif g.in_place:
        view_in_place(g.axis, x, g.x_c, box, view)
    elif g.by_rows:
        view_rows(g, x + box.channel * g.x_c, box, scratch, view)
    else:
        view_in_scratch(g.axis, x, g.x_c, box, CHANNELS_ADJACENT, False, scratch, view)


cdef inline void fill_cells(real *cells, Py_ssize_t n, real value) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        cells[i] = value


cdef void view_rows(const Pool *g, const real *x, const Box *box, real *scratch, View *view) noexcept nogil:
    """Copy the rows that ``box`` reads of some planes, with cells that change no result where the input has none."""
    cdef const Axis *axes = &g.axis[0]
    cdef Cover cd = cover(&axes[0], box.n_out[0], box.n_taps[0], ANY_ORDER)
    cdef Cover ch = cover(&axes[1], box.n_out[1], box.n_taps[1], ANY_ORDER)
    cdef Py_ssize_t length = cells_of_row(&axes[2], box.n_out[2]), begin = axes[2].start + box.out[2] * axes[2].stride
    cdef Py_ssize_t first = clip(-begin, 0, length), last = clip(axes[2].n_in - begin, first, length), c, d, h, i_d, i_h
    cdef bint is_least = g.passes[0] == MIN_PASS or g.passes[0] == ARGMIN_PASS
    cdef real border = HUGE_VAL if is_least else -HUGE_VAL if g.passes[0] <= ARGMIN_PASS else 0
    cdef real *row = scratch
    for c in range(box.n_channels):
        for d in range(cd.size):
            i_d = input_cell(&axes[0], &cd, box.out[0], box.tap[0], d)
            for h in range(ch.size):
                i_h = input_cell(&axes[1], &ch, box.out[1], box.tap[1], h)
                if 0 <= i_d < axes[0].n_in and 0 <= i_h < axes[1].n_in:
                    fill_cells(row, first, border)
                    copy_cells(row + first, x + i_d * axes[0].x + i_h * axes[1].x + begin + first, last - first, 1)
                    fill_cells(row + last, length - last, border)
                row += length
        x += g.x_c
    view.data, view.c = scratch, cd.size * ch.size * length
    view.out[2], view.tap[2] = axes[2].stride, axes[2].step
    view.out[1], view.tap[1] = ch.out * length, ch.tap * length
    view.out[0], view.tap[0] = cd.out * ch.size * length, cd.tap * ch.size * length


cdef void pool_share(const Pool *g, Py_ssize_t i, int n_threads, real *scratch) noexcept nogil:
    """The items of thread ``i``."""
    cdef Py_ssize_t item
    for item in range(part(g.n_items, n_threads, i), part(g.n_items, n_threads, i + 1)):
        pool_item(g, item, scratch + i * g.scratch_size)


cdef void pool_forward(Pool *g, int n_threads):
    cdef Py_ssize_t i
    cdef real *scratch = NULL
    cdef Py_ssize_t *windows = NULL
    cdef bint shared = is_shared(g)
    with nogil:
        if shared:
            windows = <Py_ssize_t *>malloc((3 * g.n_out[2] + 1) * sizeof(Py_ssize_t))
        if windows != NULL or not shared:
            plan_pool(g, windows, n_threads)
            scratch = <real *>malloc((g.scratch_size * n_threads + 64) * sizeof(real))
        if n_threads == 1 and scratch != NULL:
            pool_share(g, 0, 1, aligned(scratch))
        elif scratch != NULL:
            for i in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
                pool_share(g, i, n_threads, aligned(scratch))
        free(scratch)
        free(windows)
    if scratch == NULL:
        raise MemoryError("cyconv: no memory for the scratch of the pooling")


# y and index are C-contiguous in all of the following.

def extreme_pool(cnp.ndarray x, cnp.ndarray y, cnp.ndarray index, cnp.ndarray table, cnp.ndarray windows,
                 bint smallest, bint rectify, bint channels_last, int n_threads):
    """Maximum or minimum of every window into y, and where it is into index (or None).

    As int64 index holds flat cells of the input plane; as uint8 numbers of taps, of which there are at most 255.
    ``rectify``: maxima of the windows and 0, without an index.
    """
    cdef Pool g
    set_pool(&g, x, y, table, windows, channels_last)
    g.passes[0], g.least = MIN_PASS if smallest else MAX_PASS, 0 if rectify else -HUGE_VAL
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
    if in_double and step_in_plane(&g) == 1:
        with nogil:
            sum_planes(&g, n_threads)
        return
    g.passes[0] = LONG_SUM_PASS if in_double else SUM_PASS
    g.name[0], g.name[1], g.name[2] = g.axis[1].n_taps * g.axis[2].n_taps, g.axis[2].n_taps, 1
    pool_forward(&g, n_threads)


cdef Py_ssize_t step_in_plane(const Pool *g) noexcept nogil:
    """Reals from cell to cell of a plane that is the only window; 0 when it is not, or they are not evenly spaced."""
    cdef Py_ssize_t size = 1, step = 1
    cdef const Axis *axis
    cdef int i
    for i in range(2, -1, -1):
        axis = &g.axis[i]
        if g.n_out[i] != 1 or place(g, i, 0) != 0 or g.windows[i][1] != 0 or g.windows[i][2] != axis.n_in or axis.start != 0:
            return 0
        if axis.n_in > 1:
            step = axis.x if size == 1 else step
            if axis.x != size * step or axis.step != 1:
                return 0
        size *= axis.n_in
    return step


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
