# Pooling: the window of every output visited tap by tap, forward and backward.
#
# Lanes are the contiguous axis: channels when they are last, else the outputs of a row. A block of
# lanes of one output row is kept in cells while the taps (t, r, s) pass over it in row-major order;
# taps in the padding are skipped. Threads share out (sample, channel) planes or samples and rows.
#
# The backward pass visits rows, taps, lanes in the same order for both layouts, so that the sums of
# overlapping windows have the same bits.

cdef enum:
    BLOCK = 128                # lanes of a block
    NO_CELL = -1               # index of a window without any input cell

cdef enum PoolKind:
    MAX_POOL
    AVG_POOL

cdef struct Pool:
    Axis axis[3]
    const Py_ssize_t *spans    # [s, 2]: first output and end of those that tap s of the last axis serves
    const Py_ssize_t *cells    # [tap]: its cell in the plane, from the first tap on
    const Py_ssize_t *counts   # of the cells that count in a mean, per output of each axis in turn
    Py_ssize_t batch, channels, x_n, x_c, y_n, y_c
    bint channels_last
    real divisor               # of a mean; 0: the number of cells that count
    const real *x
    real *y
    int64_t *index             # flat index of the maximum in its plane, or NULL


cdef inline void set_pool(Pool *g, cnp.ndarray x, cnp.ndarray y, cnp.ndarray table, cnp.ndarray spans, bint channels_last) noexcept:
    cdef Py_ssize_t no_weight[3]
    cdef int c_axis = x.ndim - 1 if channels_last else 1
    no_weight[0] = no_weight[1] = no_weight[2] = 0
    describe_spatial(g.axis, x, y, channels_last, no_weight)
    phase_axes(<const Py_ssize_t *>cnp.PyArray_DATA(table), 0, g.axis)
    g.batch, g.channels, g.channels_last = x.shape[0], x.shape[c_axis], channels_last
    g.x_n, g.x_c = x.strides[0] // <Py_ssize_t>sizeof(real), x.strides[c_axis] // <Py_ssize_t>sizeof(real)
    g.y_n, g.y_c = y.strides[0] // <Py_ssize_t>sizeof(real), y.strides[c_axis] // <Py_ssize_t>sizeof(real)
    g.x, g.y, g.index = <const real *>cnp.PyArray_DATA(x), <real *>cnp.PyArray_DATA(y), NULL
    g.spans = <const Py_ssize_t *>cnp.PyArray_DATA(spans)


# ---------------------------------------------------------------- forward

cdef inline void take(const int kind, const Py_ssize_t step, const real *x, Py_ssize_t n, real tap, real *cells, real *taps) noexcept nogil:
    """Let one tap take part in n lanes: a maximum keeps the first of equals and the first NaN."""
    cdef Py_ssize_t i
    cdef real value
    cdef bint wins
    for i in range(n):
        value = x[i * step]
        if kind == AVG_POOL:
            cells[i] = cells[i] + value
        else:
            wins = (value > cells[i]) | (taps[i] < 0) | ((value != value) & (cells[i] == cells[i]))
            cells[i] = value if wins else cells[i]
            taps[i] = tap if wins else taps[i]


cdef inline void take_lanes(const int kind, Py_ssize_t step, const real *x, Py_ssize_t n, real tap, real *cells, real *taps) noexcept nogil:
    if step == 1:
        take(kind, 1, x, n, tap, cells, taps)
    elif step == 2:
        take(kind, 2, x, n, tap, cells, taps)
    else:
        take(kind, step, x, n, tap, cells, taps)


cdef inline void pool_block(const int kind, const Pool *g, Py_ssize_t n, Py_ssize_t d, Py_ssize_t h, Py_ssize_t outer,
                            Py_ssize_t first, Py_ssize_t lanes, real *cells, real *taps) noexcept nogil:
    """Lanes first .. first + lanes of one output row; outer is the output or the channel."""
    cdef const Axis *axes = &g.axis[0]
    cdef const real *x = g.x + n * g.x_n
    cdef const real *source
    cdef Py_ssize_t t, r, s, t0, nt, r0, nr, low, high, i, step
    for i in range(lanes):
        cells[i] = -HUGE_VAL if kind == MAX_POOL else 0
        taps[i] = NO_CELL
    trim(&axes[0], d, 0, axes[0].n_taps, &t0, &nt)
    trim(&axes[1], h, 0, axes[1].n_taps, &r0, &nr)
    step = 1 if g.channels_last else axes[2].stride * axes[2].x
    for t in range(t0, t0 + nt):
        for r in range(r0, r0 + nr):
            for s in range(axes[2].n_taps):
                source = (x + (axes[0].start + d * axes[0].stride + t * axes[0].step) * axes[0].x
                          + (axes[1].start + h * axes[1].stride + r * axes[1].step) * axes[1].x
                          + (axes[2].start + s * axes[2].step) * axes[2].x)
                low, high = g.spans[2 * s], g.spans[2 * s + 1]
                if g.channels_last:
                    if not low <= outer < high:
                        continue
                    source += outer * axes[2].stride * axes[2].x + first
                    low, high = 0, lanes
                else:
                    low, high = max(low - first, 0), min(high - first, lanes)
                    source += outer * g.x_c + (first + low) * step
                take_lanes(kind, step, source, high - low, (t * axes[1].n_taps + r) * axes[2].n_taps + s,
                           cells + low, taps + low)


cdef inline Py_ssize_t first_cell(const Pool *g, Py_ssize_t d, Py_ssize_t h) noexcept nogil:
    """Cell in the input plane, of any sign, of the first tap of output (d, h, 0)."""
    cdef const Axis *axes = &g.axis[0]
    return (((axes[0].start + d * axes[0].stride) * axes[1].n_in + axes[1].start + h * axes[1].stride) * axes[2].n_in
            + axes[2].start)


cdef inline real divisor(const Pool *g, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w) noexcept nogil:
    if g.divisor != 0:
        return g.divisor
    return <real>(g.counts[d] * g.counts[g.axis[0].n_out + h] * g.counts[g.axis[0].n_out + g.axis[1].n_out + w])


cdef void pool_row(const int kind, const Pool *g, Py_ssize_t n, Py_ssize_t d, Py_ssize_t h, Py_ssize_t outer) noexcept nogil:
    cdef real cells[BLOCK]
    cdef real taps[BLOCK]
    cdef Py_ssize_t total = g.channels if g.channels_last else g.axis[2].n_out, lanes, first, block, i, w, corner
    cdef Py_ssize_t at = n * g.y_n + d * g.axis[0].y + h * g.axis[1].y + outer * (g.axis[2].y if g.channels_last else g.y_c)
    cdef Py_ssize_t step = g.y_c if g.channels_last else g.axis[2].y
    for block in range(ceil_div(total, BLOCK)):
        first = block * BLOCK
        lanes = min(BLOCK, total - first)
        pool_block(kind, g, n, d, h, outer, first, lanes, cells, taps)
        if kind == AVG_POOL:
            for i in range(lanes):
                g.y[at + (first + i) * step] = cells[i] / divisor(g, d, h, outer if g.channels_last else first + i)
            continue
        for i in range(lanes):
            g.y[at + (first + i) * step] = cells[i]
        if g.index != NULL:
            corner = first_cell(g, d, h)
            for i in range(lanes):
                w = outer if g.channels_last else first + i
                g.index[at + (first + i) * step] = (corner + w * g.axis[2].stride + g.cells[<int>taps[i]] if taps[i] >= 0
                                                    else NO_CELL)


cdef void pool_forward(const int kind, const Pool *g, int n_threads) noexcept nogil:
    cdef Py_ssize_t outers = g.axis[2].n_out if g.channels_last else g.channels
    cdef Py_ssize_t rows = g.batch * outers * g.axis[0].n_out * g.axis[1].n_out, row, part_index
    cdef Py_ssize_t heights = g.axis[1].n_out, depths = g.axis[0].n_out
    for part_index in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
        for row in range(part(rows, n_threads, part_index), part(rows, n_threads, part_index + 1)):
            if g.channels_last:
                pool_row(kind, g, row // (outers * heights * depths), row // (outers * heights) % depths,
                         row // outers % heights, row % outers)
            else:
                pool_row(kind, g, row // (heights * depths * outers), row // heights % depths, row % heights,
                         row // (heights * depths) % outers)


def max_pool(cnp.ndarray x, cnp.ndarray y, cnp.ndarray index, cnp.ndarray table, cnp.ndarray spans,
             cnp.ndarray cells, bint channels_last, int n_threads):
    """Maximum of every window into y and its flat index in the input plane into index (or None).

    y and index are C-contiguous.
    """
    cdef Pool g
    set_pool(&g, x, y, table, spans, channels_last)
    g.cells = <const Py_ssize_t *>cnp.PyArray_DATA(cells)
    if index is not None:
        g.index = <int64_t *>cnp.PyArray_DATA(index)
    with nogil:
        pool_forward(MAX_POOL, &g, n_threads)


def avg_pool(cnp.ndarray x, cnp.ndarray y, cnp.ndarray table, cnp.ndarray spans, cnp.ndarray counts, double divisor,
             bint channels_last, int n_threads):
    """Sum of every window over ``divisor``, or over the product of its ``counts`` when that is 0."""
    cdef Pool g
    set_pool(&g, x, y, table, spans, channels_last)
    g.counts, g.divisor = <const Py_ssize_t *>cnp.PyArray_DATA(counts), <real>divisor
    with nogil:
        pool_forward(AVG_POOL, &g, n_threads)


# ---------------------------------------------------------------- backward

cdef void avg_backward_plane(const Pool *g, Py_ssize_t n, Py_ssize_t c, Py_ssize_t channels) noexcept nogil:
    """Here y is dy and x, written, is dx: dx[cell(o, tap)] += dy[o] / divisor(o), taps outside outputs."""
    cdef const Axis *axes = &g.axis[0]
    cdef real *dx = <real *>g.x + n * g.x_n + c * g.x_c
    cdef const real *dy = g.y + n * g.y_n + c * g.y_c
    cdef real *cell
    cdef const real *grad
    cdef Py_ssize_t d, h, w, t, r, s, t0, nt, r0, nr, i
    cdef real by
    for d in range(axes[0].n_out):
        trim(&axes[0], d, 0, axes[0].n_taps, &t0, &nt)
        for h in range(axes[1].n_out):
            trim(&axes[1], h, 0, axes[1].n_taps, &r0, &nr)
            for t in range(t0, t0 + nt):
                for r in range(r0, r0 + nr):
                    for s in range(axes[2].n_taps):
                        for w in range(g.spans[2 * s], g.spans[2 * s + 1]):
                            by = divisor(g, d, h, w)
                            cell = (dx + (axes[0].start + d * axes[0].stride + t * axes[0].step) * axes[0].x
                                    + (axes[1].start + h * axes[1].stride + r * axes[1].step) * axes[1].x
                                    + (axes[2].start + w * axes[2].stride + s * axes[2].step) * axes[2].x)
                            grad = dy + d * axes[0].y + h * axes[1].y + w * axes[2].y
                            for i in range(channels):
                                cell[i * g.x_c] += grad[i * g.y_c] / by


cdef void max_backward_plane(const Pool *g, Py_ssize_t n, Py_ssize_t c, Py_ssize_t channels) noexcept nogil:
    """dx[index[o]] += dy[o], outputs in row-major order."""
    cdef const Axis *axes = &g.axis[0]
    cdef real *dx = <real *>g.x + n * g.x_n + c * g.x_c
    cdef Py_ssize_t d, h, w, i, at, cell
    for d in range(axes[0].n_out):
        for h in range(axes[1].n_out):
            for w in range(axes[2].n_out):
                at = n * g.y_n + c * g.y_c + d * axes[0].y + h * axes[1].y + w * axes[2].y
                for i in range(channels):
                    cell = g.index[at + i * g.y_c]
                    if cell >= 0:
                        dx[i * g.x_c + cell % axes[2].n_in * axes[2].x + cell // axes[2].n_in % axes[1].n_in * axes[1].x
                           + cell // (axes[2].n_in * axes[1].n_in) * axes[0].x] += g.y[at + i * g.y_c]


cdef void pool_backward(const int kind, const Pool *g, int n_threads) noexcept nogil:
    """Planes to threads: whole samples when channels are last and samples are enough."""
    cdef Py_ssize_t blocks = g.channels, tasks, task, part_index
    if g.channels_last:
        blocks = 1 if g.batch >= n_threads else min(g.channels, n_threads)
    tasks = g.batch * blocks
    for part_index in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
        for task in range(part(tasks, n_threads, part_index), part(tasks, n_threads, part_index + 1)):
            backward_task(kind, g, task // blocks, part(g.channels, blocks, task % blocks),
                          part(g.channels, blocks, task % blocks + 1))


cdef inline void backward_task(const int kind, const Pool *g, Py_ssize_t n, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    if kind == MAX_POOL:
        max_backward_plane(g, n, first, last - first)
    else:
        avg_backward_plane(g, n, first, last - first)


def max_pool_backward(cnp.ndarray dy, cnp.ndarray index, cnp.ndarray dx, bint channels_last, int n_threads):
    """Add dy to the cells of the zeroed dx that ``index`` names; -1 names none.

    dy and index are C-contiguous. Returns the flat position of the first index outside its plane,
    with dx untouched, or -1.
    """
    cdef Pool g
    cdef Py_ssize_t no_weight[3]
    cdef Py_ssize_t plane, i, bad = -1, size = cnp.PyArray_SIZE(index)
    cdef int c_axis = dx.ndim - 1 if channels_last else 1
    no_weight[0] = no_weight[1] = no_weight[2] = 0
    describe_spatial(g.axis, dx, dy, channels_last, no_weight)
    for i in range(3):
        g.axis[i].n_out = dy.shape[i + dy.ndim - 3 - (1 if channels_last else 0)] if i >= 5 - dy.ndim else 1
    g.batch, g.channels, g.channels_last = dx.shape[0], dx.shape[c_axis], channels_last
    g.x_n, g.x_c = dx.strides[0] // <Py_ssize_t>sizeof(real), dx.strides[c_axis] // <Py_ssize_t>sizeof(real)
    g.y_n, g.y_c = dy.strides[0] // <Py_ssize_t>sizeof(real), dy.strides[c_axis] // <Py_ssize_t>sizeof(real)
    g.x, g.y, g.index = <const real *>cnp.PyArray_DATA(dx), <real *>cnp.PyArray_DATA(dy), <int64_t *>cnp.PyArray_DATA(index)
    plane = g.axis[0].n_in * g.axis[1].n_in * g.axis[2].n_in
    with nogil:
        for i in range(size):
            if not NO_CELL <= g.index[i] < plane:
                bad = i
                break
        if bad < 0:
            pool_backward(MAX_POOL, &g, n_threads)
    return bad


def avg_pool_backward(cnp.ndarray dy, cnp.ndarray dx, cnp.ndarray table, cnp.ndarray spans, cnp.ndarray counts,
                      double divisor, bint channels_last, int n_threads):
    """Spread dy over the cells of each window into the zeroed dx."""
    cdef Pool g
    set_pool(&g, dx, dy, table, spans, channels_last)
    g.counts, g.divisor = <const Py_ssize_t *>cnp.PyArray_DATA(counts), <real>divisor
    with nogil:
        pool_backward(AVG_POOL, &g, n_threads)
