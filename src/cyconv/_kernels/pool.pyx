# Pooling: the window of every output visited tap by tap, forward and backward.
#
# Lanes are channels. Where they do not follow each other in memory (channels first), a few rows of a
# block of channels are transposed into scratch, pooled there, and the results transposed back; when
# samples follow each other, their planes count as channels too.
#
# Loop nest of one thread (pool_item): sample, block of channels, depth, block of rows, then per row of
# outputs: output, tap, lane. Taps in the padding are skipped; which are not stands in a table.
# Threads share out the items. The backward pass adds up at each input cell in the order of the
# outputs, whatever the layout and the number of threads: a plane has one thread.

from libc.stdint cimport int64_t

cdef enum:
    BLOCK = 64                 # lanes of a block
    RUN = 16                   # outputs whose results are buffered
    POOL_BYTES = 1 << 17       # input scratch of a thread
    NO_CELL = -1               # index of a window without any input cell

cdef enum PoolKind:
    MAX_POOL
    AVG_POOL

cdef struct Pool:
    Axis axis[3]
    const Py_ssize_t *inside[3]    # [output, 2]: first tap and number of taps inside the input
    const Py_ssize_t *counts[3]    # [output]: cells that count in a mean
    const Py_ssize_t *cells        # [tap]: its cell in the plane, from the first tap on
    Py_ssize_t batch, channels, x_n, x_c, y_n, y_c
    bint in_place                  # channels follow each other in x
    real divisor                   # of a mean; 0: the number of cells that count
    const real *x
    real *y
    int64_t *index                 # flat index of the maximum in its plane, or NULL
    Py_ssize_t channel_blocks, row_blocks, n_items, scratch_size


cdef void set_pool(Pool *g, cnp.ndarray x, cnp.ndarray y, cnp.ndarray table, cnp.ndarray inside, bint channels_last) noexcept:
    cdef Py_ssize_t real_size = sizeof(real)
    cdef int c_axis = x.ndim - 1 if channels_last else 1, i
    describe_spatial(g.axis, x, y, channels_last)
    phase_axes(<const Py_ssize_t *>cnp.PyArray_DATA(table), 0, g.axis)
    g.batch, g.channels = x.shape[0], x.shape[c_axis]
    g.x_n, g.x_c = x.strides[0] // real_size, x.strides[c_axis] // real_size
    g.y_n, g.y_c = y.strides[0] // real_size, y.strides[c_axis] // real_size
    g.x, g.y, g.index = <const real *>cnp.PyArray_DATA(x), <real *>cnp.PyArray_DATA(y), NULL
    g.inside[0] = <const Py_ssize_t *>cnp.PyArray_DATA(inside)
    for i in range(2):
        g.inside[i + 1] = g.inside[i] + 2 * g.axis[i].n_out
    if not channels_last and g.x_n == g.channels * g.x_c and g.y_n == g.channels * g.y_c:
        g.channels *= g.batch
        g.batch = 1


cdef void set_counts(Pool *g, cnp.ndarray counts, double divisor) noexcept:
    cdef int i
    g.divisor = <real>divisor
    g.counts[0] = <const Py_ssize_t *>cnp.PyArray_DATA(counts)
    for i in range(2):
        g.counts[i + 1] = g.counts[i] + g.axis[i].n_out


cdef inline real divisor(const Pool *g, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w) noexcept nogil:
    return g.divisor if g.divisor != 0 else <real>(g.counts[0][d] * g.counts[1][h] * g.counts[2][w])


# ---------------------------------------------------------------- forward

cdef inline void take(const int kind, const real *x, Py_ssize_t n, real tap, real *cells, real *taps) noexcept nogil:
    """Let one tap take part in n lanes: a maximum keeps the first of equals and the first NaN."""
    cdef Py_ssize_t i
    cdef real value
    cdef bint wins
    for i in range(n):
        value = x[i]
        if kind == AVG_POOL:
            cells[i] = cells[i] + value
        else:
            wins = (value > cells[i]) | (taps[i] < 0) | ((value != value) & (cells[i] == cells[i]))
            cells[i] = value if wins else cells[i]
            taps[i] = tap if wins else taps[i]


cdef inline void pool_output(const int kind, const Pool *g, const View *view, const real *x, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w,
                             Py_ssize_t n, real *cells, real *taps) noexcept nogil:
    """n lanes of output (d, h, w), whose first tap is at x."""
    cdef Py_ssize_t t, r, s, i, tap
    cdef Py_ssize_t t0 = g.inside[0][2 * d], r0 = g.inside[1][2 * h], s0 = g.inside[2][2 * w]
    cdef Py_ssize_t nt = g.inside[0][2 * d + 1], nr = g.inside[1][2 * h + 1], ns = g.inside[2][2 * w + 1]
    for i in range(n):
        cells[i] = -HUGE_VAL if kind == MAX_POOL else 0
        if kind == MAX_POOL:
            taps[i] = NO_CELL
    for t in range(t0, t0 + nt):
        for r in range(r0, r0 + nr):
            for s in range(s0, s0 + ns):
                tap = (t * g.axis[1].n_taps + r) * g.axis[2].n_taps + s
                take(kind, x + t * view.tap[0] + r * view.tap[1] + s * view.tap[2], n, tap, cells, taps)
    if kind == AVG_POOL:
        for i in range(n):
            cells[i] = cells[i] / divisor(g, d, h, w)


cdef inline void put_index(const Pool *g, const real *taps, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w, Py_ssize_t n_outputs,
                           Py_ssize_t n, int64_t *index) noexcept nogil:
    """Taps [output, lane] of a run of a row as flat cells of the input plane."""
    cdef const Axis *axes = &g.axis[0]
    cdef Py_ssize_t o, i, corner = (((axes[0].start + d * axes[0].stride) * axes[1].n_in
                                     + axes[1].start + h * axes[1].stride) * axes[2].n_in
                                    + axes[2].start + w * axes[2].stride)
    for i in range(n):
        for o in range(n_outputs):
            index[i * g.y_c + o * axes[2].y] = (corner + o * axes[2].stride + g.cells[<int>taps[o * BLOCK + i]]
                                                if taps[o * BLOCK + i] >= 0 else NO_CELL)


cdef void pool_rows(const int kind, const Pool *g, const View *view, const Box *box) noexcept nogil:
    cdef real cells[RUN * BLOCK]
    cdef real taps[RUN * BLOCK]
    cdef Py_ssize_t h, w, o, run, n_outputs, at, d = box.out[0]
    cdef const real *x
    for h in range(box.out[1], box.out[1] + box.n_out[1]):
        for run in range(ceil_div(g.axis[2].n_out, RUN)):
            w = run * RUN
            n_outputs = min(RUN, g.axis[2].n_out - w)
            for o in range(n_outputs):
                x = view.data + (h - box.out[1]) * view.out[1] + (w + o) * view.out[2]
                pool_output(kind, g, view, x, d, h, w + o, box.n_channels, cells + o * BLOCK, taps + o * BLOCK)
            at = box.sample * g.y_n + box.channel * g.y_c + d * g.axis[0].y + h * g.axis[1].y + w * g.axis[2].y
            put_cells(cells, n_outputs, BLOCK, box.n_channels, g.y + at, g.axis[2].y, g.y_c)
            if kind == MAX_POOL and g.index != NULL:
                put_index(g, taps, d, h, w, n_outputs, box.n_channels, g.index + at)


cdef void pool_item(const int kind, const Pool *g, Py_ssize_t item, real *scratch) noexcept nogil:
    cdef Py_ssize_t block = item % g.row_blocks
    cdef const real *x
    cdef View view
    cdef Box box
    pool_box(g, &box)
    box.out[1] = part(g.axis[1].n_out, g.row_blocks, block)
    box.n_out[1] = part(g.axis[1].n_out, g.row_blocks, block + 1) - box.out[1]
    item //= g.row_blocks
    box.out[0] = item % g.axis[0].n_out
    item //= g.axis[0].n_out
    box.channel = part(g.channels, g.channel_blocks, item % g.channel_blocks)
    box.n_channels = part(g.channels, g.channel_blocks, item % g.channel_blocks + 1) - box.channel
    box.sample = item // g.channel_blocks
    x = g.x + box.sample * g.x_n
    if g.in_place:
        view_in_place(g.axis, x, g.x_c, &box, &view)
    else:
        view_in_scratch(g.axis, x, g.x_c, &box, CHANNELS_ADJACENT, False, scratch, &view)
    pool_rows(kind, g, &view, &box)


cdef inline void pool_box(const Pool *g, Box *box) noexcept nogil:
    """All taps of one row of outputs of the largest block of channels."""
    cdef int i
    for i in range(3):
        box.out[i], box.n_out[i], box.tap[i], box.n_taps[i] = 0, 1, 0, g.axis[i].n_taps
    box.n_out[2] = g.axis[2].n_out
    box.channel, box.n_channels = 0, ceil_div(g.channels, g.channel_blocks)


cdef void plan_pool(Pool *g) noexcept nogil:
    cdef Py_ssize_t rows = 1
    cdef Box box
    g.in_place = g.x_c == 1 or g.channels == 1
    g.channel_blocks = ceil_div(g.channels, BLOCK)
    g.scratch_size = 0
    pool_box(g, &box)
    if not g.in_place:
        while rows < g.axis[1].n_out:
            box.n_out[1] = rows + 1
            if scratch_size(g.axis, &box, CHANNELS_ADJACENT) * <Py_ssize_t>sizeof(real) > POOL_BYTES:
                break
            rows += 1
        box.n_out[1] = rows
        g.scratch_size = (scratch_size(g.axis, &box, CHANNELS_ADJACENT) + 63) // 64 * 64
    g.row_blocks = ceil_div(g.axis[1].n_out, rows)
    g.n_items = g.batch * g.channel_blocks * g.axis[0].n_out * g.row_blocks


cdef int pool_forward(const int kind, Pool *g, int n_threads) noexcept nogil:
    """-1 when there is no memory for scratch."""
    cdef Py_ssize_t i, item
    cdef real *scratch
    plan_pool(g)
    scratch = <real *>malloc((g.scratch_size * n_threads + 64) * sizeof(real))
    if scratch == NULL:
        return -1
    for i in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
        for item in range(part(g.n_items, n_threads, i), part(g.n_items, n_threads, i + 1)):
            pool_item(kind, g, item, aligned(scratch) + i * g.scratch_size)
    free(scratch)
    return 0


def max_pool(cnp.ndarray x, cnp.ndarray y, cnp.ndarray index, cnp.ndarray table, cnp.ndarray inside,
             cnp.ndarray cells, bint channels_last, int n_threads):
    """Maximum of every window into y and its flat index in the input plane into index (or None).

    y and index are C-contiguous.
    """
    cdef Pool g
    cdef int failed
    set_pool(&g, x, y, table, inside, channels_last)
    if index is not None:
        g.cells = <const Py_ssize_t *>cnp.PyArray_DATA(cells)
        g.index = <int64_t *>cnp.PyArray_DATA(index)
    with nogil:
        failed = pool_forward(MAX_POOL, &g, n_threads)
    if failed:
        raise MemoryError("cyconv: no memory for the scratch of the pooling")


def avg_pool(cnp.ndarray x, cnp.ndarray y, cnp.ndarray table, cnp.ndarray inside, cnp.ndarray counts, double divisor,
             bint channels_last, int n_threads):
    """Sum of every window over ``divisor``, or over the product of its ``counts`` when that is 0."""
    cdef Pool g
    cdef int failed
    set_pool(&g, x, y, table, inside, channels_last)
    set_counts(&g, counts, divisor)
    with nogil:
        failed = pool_forward(AVG_POOL, &g, n_threads)
    if failed:
        raise MemoryError("cyconv: no memory for the scratch of the pooling")


# ---------------------------------------------------------------- backward

cdef void avg_backward_planes(const Pool *g, Py_ssize_t n, Py_ssize_t c, Py_ssize_t channels) noexcept nogil:
    """Here y is dy and x, written, is dx: dx[cell(o, tap)] += dy[o] / divisor(o)."""
    cdef const Axis *axes = &g.axis[0]
    cdef real *dx = <real *>g.x + n * g.x_n + c * g.x_c
    cdef real *cell
    cdef const real *dy = g.y + n * g.y_n + c * g.y_c
    cdef const real *grad
    cdef Py_ssize_t d, h, w, t, r, s, i
    cdef real by
    for d in range(axes[0].n_out):
        for h in range(axes[1].n_out):
            for w in range(axes[2].n_out):
                by = divisor(g, d, h, w)
                grad = dy + d * axes[0].y + h * axes[1].y + w * axes[2].y
                for t in range(g.inside[0][2 * d], g.inside[0][2 * d] + g.inside[0][2 * d + 1]):
                    for r in range(g.inside[1][2 * h], g.inside[1][2 * h] + g.inside[1][2 * h + 1]):
                        for s in range(g.inside[2][2 * w], g.inside[2][2 * w] + g.inside[2][2 * w + 1]):
                            cell = (dx + (axes[0].start + d * axes[0].stride + t * axes[0].step) * axes[0].x
                                    + (axes[1].start + h * axes[1].stride + r * axes[1].step) * axes[1].x
                                    + (axes[2].start + w * axes[2].stride + s * axes[2].step) * axes[2].x)
                            for i in range(channels):
                                cell[i * g.x_c] += grad[i * g.y_c] / by


cdef void max_backward_planes(const Pool *g, Py_ssize_t n, Py_ssize_t c, Py_ssize_t channels) noexcept nogil:
    """dx[index[o]] += dy[o]; dy, index and dx are contiguous, so that a plane is one axis."""
    cdef real *dx = <real *>g.x + n * g.x_n + c * g.x_c
    cdef Py_ssize_t at = n * g.y_n + c * g.y_c, o, i, cell
    for o in range(g.axis[2].n_out):
        for i in range(channels):
            cell = g.index[at + o * g.axis[2].y + i * g.y_c]
            if cell >= 0:
                dx[cell * g.axis[2].x + i * g.x_c] += g.y[at + o * g.axis[2].y + i * g.y_c]


cdef void pool_backward(const int kind, const Pool *g, bint channels_last, int n_threads) noexcept nogil:
    """Single planes to threads, or blocks of channels where these are last."""
    cdef Py_ssize_t blocks = g.channels, tasks, task, i
    if channels_last:
        blocks = 1 if g.batch >= n_threads else min(g.channels, n_threads)
    tasks = g.batch * blocks
    for i in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
        for task in range(part(tasks, n_threads, i), part(tasks, n_threads, i + 1)):
            backward_task(kind, g, task // blocks, part(g.channels, blocks, task % blocks),
                          part(g.channels, blocks, task % blocks + 1))


cdef inline void backward_task(const int kind, const Pool *g, Py_ssize_t n, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    if kind == MAX_POOL:
        max_backward_planes(g, n, first, last - first)
    else:
        avg_backward_planes(g, n, first, last - first)


def max_pool_backward(cnp.ndarray dy, cnp.ndarray index, cnp.ndarray dx, bint channels_last, int n_threads):
    """Add dy to the cells of the zeroed dx that ``index`` names; -1 names none.

    All are C-contiguous. Returns the flat position of the first index outside its plane, with dx
    untouched, or -1.
    """
    cdef Pool g
    cdef Py_ssize_t plane, outputs, i, bad = -1, size = cnp.PyArray_SIZE(index)
    cdef const int64_t *indices = <const int64_t *>cnp.PyArray_DATA(index)
    cdef int c_axis = dx.ndim - 1 if channels_last else 1
    g.batch, g.channels = dx.shape[0], dx.shape[c_axis]
    if size == 0 or cnp.PyArray_SIZE(dx) == 0:
        plane = outputs = 0
    else:
        plane = cnp.PyArray_SIZE(dx) // (g.batch * g.channels)
        outputs = size // (g.batch * g.channels)
    g.axis[2].n_out = outputs
    g.x_n, g.y_n = plane * g.channels, outputs * g.channels
    g.x_c = 1 if channels_last else plane
    g.y_c = 1 if channels_last else outputs
    g.axis[2].x = g.axis[2].y = g.channels if channels_last else 1
    g.x, g.y, g.index = <const real *>cnp.PyArray_DATA(dx), <real *>cnp.PyArray_DATA(dy), <int64_t *>cnp.PyArray_DATA(index)
    with nogil:
        for i in range(size):
            if not NO_CELL <= indices[i] < plane:
                bad = i
                break
        if bad < 0:
            pool_backward(MAX_POOL, &g, channels_last, n_threads)
    return bad


def avg_pool_backward(cnp.ndarray dy, cnp.ndarray dx, cnp.ndarray table, cnp.ndarray inside, cnp.ndarray counts,
                      double divisor, bint channels_last, int n_threads):
    """Spread dy over the cells of each window into the zeroed dx."""
    cdef Pool g
    set_pool(&g, dx, dy, table, inside, channels_last)
    set_counts(&g, counts, divisor)
    with nogil:
        pool_backward(AVG_POOL, &g, channels_last, n_threads)
