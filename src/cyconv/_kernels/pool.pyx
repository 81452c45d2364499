# Pooling forward: the window of every output visited tap by tap. What a tap does stands in pool_tap.pyx.
#
# Lanes are channels. Where they do not follow each other in memory (channels first), a few rows of a
# block of channels are transposed into scratch, pooled there, and the results transposed back; when
# samples follow each other, their planes count as channels too.
#
# Loop nest of one thread (pool_item): sample, block of channels, depth, block of rows, block of columns,
# then per run of outputs of a row: pass, slab of taps, output, tap, lane. There is one slab unless a
# window is larger than the scratch. Taps in the padding are skipped; which are not stands in a table.
# Threads share out the items.
#
# A table gives for every output its place: output o of an ordinary window stands at place o, where the
# axis has its stride; the bins of an adaptive pooling are windows of stride 1 at some places only.

from libc.math cimport fabs, sqrt
from libc.stdint cimport int64_t

cdef enum:
    POOL_BYTES = 1 << 17       # input scratch of a thread; one row of outputs may take ROW_BYTES
    ROW_BYTES = 1 << 19

cdef struct Pool:
    Axis axis[3]                   # its outputs are places
    Py_ssize_t n_out[3]
    const Py_ssize_t *windows[3]   # [output, 3]: place, first tap and number of taps inside the input
    const Py_ssize_t *counts[3]    # [output]: cells that count in a mean
    const Py_ssize_t *cells        # [tap]: its cell in the plane, from tap 0 on; NULL to compute it
    int passes[2]
    int n_passes
    double p                       # of a norm
    double divisor                 # of a mean; 0: the number of cells that count
    Py_ssize_t batch, channels, x_n, x_c, y_n, y_c
    bint in_place                  # channels follow each other in x
    const real *x
    real *y
    int64_t *index                 # flat index of the extreme in its plane, or NULL
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
    g.x, g.y, g.index, g.cells = <const real *>cnp.PyArray_DATA(x), <real *>cnp.PyArray_DATA(y), NULL, NULL
    g.n_passes, g.divisor, g.p = 1, 1, 1
    if not channels_last and g.x_n == g.channels * g.x_c and g.y_n == g.channels * g.y_c:
        g.channels *= g.batch
        g.batch = 1


cdef void set_counts(Pool *g, cnp.ndarray counts, double divisor) noexcept:
    cdef int i
    g.divisor = divisor
    g.counts[0] = <const Py_ssize_t *>cnp.PyArray_DATA(counts)
    for i in range(2):
        g.counts[i + 1] = g.counts[i] + g.n_out[i]


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


# ---------------------------------------------------------------- outputs of a row

cdef inline void pool_outputs(const int kind, const Pool *g, const View *view, const Box *box, Py_ssize_t d, Py_ssize_t h,
                              Py_ssize_t w, Py_ssize_t n_outputs, bint first, bint last, Run *run) noexcept nogil:
    """One slab of the taps of outputs (d, h, w), (d, h, w + 1), ...: the first, the last, or both."""
    cdef Py_ssize_t t0 = first_tap(g, 0, d, box), t1 = last_tap(g, 0, d, box)
    cdef Py_ssize_t r0 = first_tap(g, 1, h, box), r1 = last_tap(g, 1, h, box)
    cdef Py_ssize_t s0, s1, t, r, s, o, n = box.n_channels
    cdef const real *corner = (view.data + (place(g, 0, d) - box.out[0]) * view.out[0] - box.tap[0] * view.tap[0]
                               + (place(g, 1, h) - box.out[1]) * view.out[1] - box.tap[1] * view.tap[1]
                               - box.out[2] * view.out[2] - box.tap[2] * view.tap[2])
    cdef const real *x
    cdef Lanes lanes
    for o in range(n_outputs):
        x = corner + place(g, 2, w + o) * view.out[2]
        s0, s1 = first_tap(g, 2, w + o, box), last_tap(g, 2, w + o, box)
        start_lanes(kind, first, n, run, o * BLOCK, &lanes)
        for t in range(t0, t1):
            for r in range(r0, r1):
                for s in range(s0, s1):
                    take(kind, g.p, x + t * view.tap[0] + r * view.tap[1] + s * view.tap[2], n,
                         (t * g.axis[1].n_taps + r) * g.axis[2].n_taps + s, &lanes)
        finish_lanes(kind, last, divisor(g, d, h, w + o), g.p, n, &lanes, run, o * BLOCK)


cdef inline void run_pass(const int kind, const Pool *g, View *view, Box *box, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w,
                          Py_ssize_t n_outputs, real *scratch, Run *run) noexcept nogil:
    cdef Py_ssize_t n_slabs = g.n_slabs[0] * g.n_slabs[1] * g.n_slabs[2], slab
    for slab in range(n_slabs):
        if n_slabs > 1:
            view_slab(g, slab, box, scratch, view)
        pool_outputs(kind, g, view, box, d, h, w, n_outputs, slab == 0, slab == n_slabs - 1, run)


cdef void run_passes(const Pool *g, View *view, Box *box, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w, Py_ssize_t n_outputs,
                     real *scratch, Run *run) noexcept nogil:
    # The literals make the compiler write one body per pass.
    cdef int i
    for i in range(g.n_passes):
        if g.passes[i] == MAX_PASS: run_pass(MAX_PASS, g, view, box, d, h, w, n_outputs, scratch, run)
        elif g.passes[i] == MIN_PASS: run_pass(MIN_PASS, g, view, box, d, h, w, n_outputs, scratch, run)
        elif g.passes[i] == ARGMAX_PASS: run_pass(ARGMAX_PASS, g, view, box, d, h, w, n_outputs, scratch, run)
        elif g.passes[i] == ARGMIN_PASS: run_pass(ARGMIN_PASS, g, view, box, d, h, w, n_outputs, scratch, run)
        elif g.passes[i] == SUM_PASS: run_pass(SUM_PASS, g, view, box, d, h, w, n_outputs, scratch, run)
        elif g.passes[i] == LONG_SUM_PASS: run_pass(LONG_SUM_PASS, g, view, box, d, h, w, n_outputs, scratch, run)
        elif g.passes[i] == ABS_PASS: run_pass(ABS_PASS, g, view, box, d, h, w, n_outputs, scratch, run)
        elif g.passes[i] == TOP_PASS: run_pass(TOP_PASS, g, view, box, d, h, w, n_outputs, scratch, run)
        elif g.passes[i] == SQUARE_PASS: run_pass(SQUARE_PASS, g, view, box, d, h, w, n_outputs, scratch, run)
        elif g.passes[i] == WHOLE_POWER_PASS: run_pass(WHOLE_POWER_PASS, g, view, box, d, h, w, n_outputs, scratch, run)
        elif g.passes[i] == POWER_PASS: run_pass(POWER_PASS, g, view, box, d, h, w, n_outputs, scratch, run)


cdef inline int64_t cell_of(const Pool *g, int64_t corner, Py_ssize_t tap) noexcept nogil:
    """Flat cell of a tap in the input plane, where ``corner`` is that of tap 0."""
    cdef Py_ssize_t n1 = g.axis[1].n_taps, n2 = g.axis[2].n_taps
    if tap < 0:
        return NO_CELL
    return corner + ((tap // (n1 * n2) * g.axis[0].step * g.axis[1].n_in + tap // n2 % n1 * g.axis[1].step)
                     * g.axis[2].n_in + tap % n2 * g.axis[2].step)


cdef void put_index(const Pool *g, const real *taps, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w, Py_ssize_t n_outputs,
                    Py_ssize_t n, int64_t *index) noexcept nogil:
    """Taps [output, lane] of a run of a row as flat cells of the input plane."""
    cdef const Axis *axes = &g.axis[0]
    cdef const Py_ssize_t *cells = g.cells
    cdef int64_t corners[RUN]
    cdef Py_ssize_t o, i, y_c = g.y_c, y_w = axes[2].y
    cdef int tap
    for o in range(n_outputs):
        corners[o] = (((axes[0].start + place(g, 0, d) * axes[0].stride) * axes[1].n_in
                       + axes[1].start + place(g, 1, h) * axes[1].stride) * axes[2].n_in
                      + axes[2].start + place(g, 2, w + o) * axes[2].stride)
    if cells == NULL:
        for o in range(n_outputs):
            for i in range(n):
                index[i * y_c + o * y_w] = cell_of(g, corners[o], <Py_ssize_t>taps[o * BLOCK + i])
    elif y_c == 1:
        for o in range(n_outputs):
            for i in range(n):
                tap = <int>taps[o * BLOCK + i]
                index[o * y_w + i] = corners[o] + cells[tap] if tap >= 0 else NO_CELL
    else:
        for i in range(n):
            for o in range(n_outputs):
                tap = <int>taps[o * BLOCK + i]
                index[i * y_c + o * y_w] = corners[o] + cells[tap] if tap >= 0 else NO_CELL


# ---------------------------------------------------------------- items

cdef void pool_item(const Pool *g, Py_ssize_t item, real *scratch) noexcept nogil:
    cdef Py_ssize_t d, h, w, h0, h1, w0, w1, block, n_outputs, at
    cdef View view
    cdef Box box
    cdef Run run
    w0 = part(g.n_out[2], g.column_blocks, item % g.column_blocks)
    w1 = part(g.n_out[2], g.column_blocks, item % g.column_blocks + 1)
    item //= g.column_blocks
    h0 = part(g.n_out[1], g.row_blocks, item % g.row_blocks)
    h1 = part(g.n_out[1], g.row_blocks, item % g.row_blocks + 1)
    item //= g.row_blocks
    d = item % g.n_out[0]
    item //= g.n_out[0]
    box.channel = part(g.channels, g.channel_blocks, item % g.channel_blocks)
    box.n_channels = part(g.channels, g.channel_blocks, item % g.channel_blocks + 1) - box.channel
    box.sample = item // g.channel_blocks
    set_places(&box, g, 0, d, d + 1)
    set_places(&box, g, 1, h0, h1)
    set_places(&box, g, 2, w0, w1)
    view_slab(g, 0, &box, scratch, &view)
    for h in range(h0, h1):
        for block in range(ceil_div(w1 - w0, RUN)):
            w = w0 + block * RUN
            n_outputs = min(RUN, w1 - w)
            run_passes(g, &view, &box, d, h, w, n_outputs, scratch, &run)
            at = box.sample * g.y_n + box.channel * g.y_c + d * g.axis[0].y + h * g.axis[1].y + w * g.axis[2].y
            put_cells(run.best, n_outputs, BLOCK, box.n_channels, g.y + at, g.axis[2].y, g.y_c)
            if g.index != NULL:
                put_index(g, run.tap, d, h, w, n_outputs, box.n_channels, g.index + at)


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
    else:
        view_in_scratch(g.axis, x, g.x_c, box, CHANNELS_ADJACENT, False, scratch, view)


cdef Py_ssize_t largest_scratch(const Pool *g, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """Reals of scratch for a slab of so many outputs, wherever they are."""
    cdef Box box
    cdef int i
    for i in range(3):
        box.n_taps[i] = g.slab[i]
    box.n_out[0] = 1
    # Places of outputs are spread evenly: between output o and o + k are at most ceil(k * places / outputs).
    box.n_out[1] = ceil_div((rows - 1) * g.axis[1].n_out, g.n_out[1]) + 1
    box.n_out[2] = ceil_div((columns - 1) * g.axis[2].n_out, g.n_out[2]) + 1
    box.n_channels = ceil_div(g.channels, g.channel_blocks)
    return (scratch_size(g.axis, &box, CHANNELS_ADJACENT) + 63) // 64 * 64


cdef void plan_pool(Pool *g) noexcept nogil:
    """Whole rows, as many as fit; else a part of one; else a run of outputs and slabs of its taps."""
    cdef Py_ssize_t rows = 1, columns = g.n_out[2], n_reals = POOL_BYTES // sizeof(real)
    cdef int i
    g.in_place = g.x_c == 1 or g.channels == 1
    g.channel_blocks = ceil_div(g.channels, BLOCK)
    g.scratch_size = 0
    for i in range(3):
        g.slab[i] = g.axis[i].n_taps
    if not g.in_place:
        if largest_scratch(g, rows, columns) * <Py_ssize_t>sizeof(real) > ROW_BYTES:
            while columns > RUN and largest_scratch(g, rows, columns) > n_reals:
                columns = max(RUN, columns // 2)
            i = 0
            while i < 3 and largest_scratch(g, rows, columns) > n_reals:
                if g.slab[i] > 1:
                    g.slab[i] = ceil_div(g.slab[i], 2)
                else:
                    i += 1
        else:
            while rows < g.n_out[1] and largest_scratch(g, rows + 1, columns) <= n_reals:
                rows += 1
        g.scratch_size = largest_scratch(g, rows, columns)
    for i in range(3):
        g.n_slabs[i] = ceil_div(g.axis[i].n_taps, g.slab[i])
    g.row_blocks, g.column_blocks = ceil_div(g.n_out[1], rows), ceil_div(g.n_out[2], columns)
    g.n_items = g.batch * g.channel_blocks * g.n_out[0] * g.row_blocks * g.column_blocks


cdef void pool_forward(Pool *g, int n_threads):
    cdef Py_ssize_t i, item
    cdef real *scratch
    with nogil:
        plan_pool(g)
        scratch = <real *>malloc((g.scratch_size * n_threads + 64) * sizeof(real))
        if scratch != NULL:
            for i in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
                for item in range(part(g.n_items, n_threads, i), part(g.n_items, n_threads, i + 1)):
                    pool_item(g, item, aligned(scratch) + i * g.scratch_size)
            free(scratch)
    if scratch == NULL:
        raise MemoryError("cyconv: no memory for the scratch of the pooling")


# y and index are C-contiguous in all of the following.

def extreme_pool(cnp.ndarray x, cnp.ndarray y, cnp.ndarray index, cnp.ndarray table, cnp.ndarray windows,
                 cnp.ndarray cells, bint smallest, bint channels_last, int n_threads):
    """Maximum or minimum of every window into y and its flat index in the input plane into index (or None)."""
    cdef Pool g
    set_pool(&g, x, y, table, windows, channels_last)
    g.passes[0] = MIN_PASS if smallest else MAX_PASS
    if index is not None:
        g.passes[0] = ARGMIN_PASS if smallest else ARGMAX_PASS
        g.index = <int64_t *>cnp.PyArray_DATA(index)
        g.cells = <const Py_ssize_t *>cnp.PyArray_DATA(cells) if cells is not None else NULL
    pool_forward(&g, n_threads)


def sum_pool(cnp.ndarray x, cnp.ndarray y, cnp.ndarray table, cnp.ndarray windows, cnp.ndarray counts, double divisor,
             bint in_double, bint channels_last, int n_threads):
    """Sum of every window over ``divisor``, or over the product of its ``counts`` when that is 0."""
    cdef Pool g
    set_pool(&g, x, y, table, windows, channels_last)
    set_counts(&g, counts, divisor)
    g.passes[0] = LONG_SUM_PASS if in_double else SUM_PASS
    pool_forward(&g, n_threads)


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
