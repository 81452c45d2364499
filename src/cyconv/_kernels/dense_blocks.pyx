# Dense layers on blocks of samples: y[k] = bias[k] + sum over f of w[k, f] * x[f], features in the order (C, cells).
#
# Lanes are samples in what goes forth and back, and the scalars of a tile are weights that lie in place: none are
# packed, and the map is read as the layer before left it. In the gradient of the weights lanes are features, for its
# sums run over samples: a panel of x is transposed, and each tile of sums goes to its place.
#
# Threads share out the units, the channels of dx and the panels of features. Sums are those of conv.pyx and, with the
# same slots, of conv_weight.pyx.

cdef enum:
    PASS_FEATURES = 512        # whose 16 samples stay in first-level cache from one tile of units to the next
    PANEL_FEATURES = 32        # whose weights are copied together: columns far apart would compete for places in the cache
    FEW_CELLS = 4              # of a channel, fewer than a tile should have

cdef struct Dense:
    Py_ssize_t blocks, units, channels, cells
    Py_ssize_t x_block, x_cell, y_block      # steps; channels and units are SAMPLES apart
    real *x
    const real *w
    const real *bias
    real *y
    real *dw
    real *db


cdef Dense describe_dense(cnp.ndarray x, cnp.ndarray weight, cnp.ndarray bias, cnp.ndarray y):
    cdef Dense d
    d.blocks, d.units = x.shape[0], weight.shape[0]
    d.x_block, d.y_block = x.strides[0] // <Py_ssize_t>sizeof(real), y.strides[0] // <Py_ssize_t>sizeof(real)
    d.x_cell = x.strides[x.ndim - 3] // <Py_ssize_t>sizeof(real)
    d.cells = d.x_block // (x.shape[x.ndim - 2] * SAMPLES)
    d.channels = weight.shape[1] // d.cells
    d.x, d.y, d.w = <real *>cnp.PyArray_DATA(x), <real *>cnp.PyArray_DATA(y), <const real *>cnp.PyArray_DATA(weight)
    d.bias = <const real *>cnp.PyArray_DATA(bias) if bias is not None else NULL
    return d


cdef void run_on_block(const Dense *d, Py_ssize_t block, int P, Tile *t, const real *a, const real *b, Py_ssize_t b_block,
                       real *out, Py_ssize_t out_block) noexcept nogil:
    """A tile whose lanes are the samples of a block, or of two."""
    cdef int V = 2 if LANES < SAMPLES or block + 1 < d.blocks else 1
    cdef Py_ssize_t v
    t.b_v, t.out_v = b_block if LANES == SAMPLES else LANES, out_block if LANES == SAMPLES else LANES
    for v in range(max(1, SAMPLES // (2 * LANES))):
        run_tiles(P, V, 1, t, a, b + block * b_block + v * 2 * LANES, out + block * out_block + v * 2 * LANES)


cdef inline Py_ssize_t steps_over_blocks(const Dense *d) noexcept nogil:
    return ceil_div(d.blocks, blocks_at_once())


cdef inline void sum_over(Tile *t, Py_ssize_t n, Py_ssize_t a, Py_ssize_t b, Py_ssize_t runs=1, Py_ssize_t run_a=0,
                          Py_ssize_t run_b=0) noexcept nogil:
    """Runs of n terms."""
    cdef int i
    for i in range(2):
        t.sum.n[i], t.sum.a[i], t.sum.b[i] = 1, 0, 0
    t.sum.n[2], t.sum.a[2], t.sum.b[2] = runs, run_a, run_b
    t.sum.n[3], t.sum.a[3], t.sum.b[3] = n, a, b
    list_runs(t)


# ---------------------------------------------------------------- forth

cdef void run_units(const Dense *d, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    cdef Py_ssize_t features = d.channels * d.cells, step = max(1, PASS_FEATURES // d.cells), turn, c, step_b, k, i, j, p
    cdef Split lots = split_evenly(last - first, max_p(2))
    cdef real start[MAX_P * LANES]
    cdef Tile t
    start_tile(&t, True, features)
    t.out_p, t.start, t.start_p = SAMPLES, start, LANES
    for turn in range(ceil_div(d.channels, step)):
        c = turn * step
        t.first = c == 0
        sum_over(&t, d.cells, 1, d.x_cell, min(step, d.channels - c), d.cells, SAMPLES)
        for step_b in range(steps_over_blocks(d)):
            k = first
            for i in range(2):
                for j in range(lots.count[i]):
                    for p in range(lots.P[i]):
                        store(start + p * LANES, splat(d.bias[k + p] if d.bias != NULL else 0))
                    run_on_block(d, step_b * blocks_at_once(), lots.P[i], &t, d.w + k * features + c * d.cells,
                                 d.x + c * SAMPLES, d.x_block, d.y + k * SAMPLES, d.y_block)
                    k += lots.P[i]


def dense_blocks(cnp.ndarray x, cnp.ndarray weight, cnp.ndarray bias, cnp.ndarray y, int n_threads):
    """Write the outputs of a dense layer into y, blocks of a map of one cell."""
    cdef Dense d = describe_dense(x, weight, bias, y)
    cdef int i
    for i in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1, nogil=True):
        if part(d.units, n_threads, i) < part(d.units, n_threads, i + 1):
            run_units(&d, part(d.units, n_threads, i), part(d.units, n_threads, i + 1))


# ---------------------------------------------------------------- back

cdef inline Py_ssize_t channels_of_panel(const Dense *d) noexcept nogil:
    return min(d.channels, max(1, PANEL_FEATURES // d.cells))


cdef void run_panel(const Dense *d, Py_ssize_t first, Py_ssize_t n, real *panel) noexcept nogil:
    """dx of n channels. The scalars of a tile are cells of a channel or, where those are few, channels of a cell."""
    cdef Py_ssize_t width = n * d.cells, k, step_b, i, j, outer, inner, at
    cdef bint few = d.cells < FEW_CELLS
    cdef Py_ssize_t a_step = d.cells if few else 1, out_step = SAMPLES if few else d.x_cell
    cdef Py_ssize_t a_outer = 1 if few else d.cells, out_outer = d.x_cell if few else SAMPLES
    cdef Split lots = split_evenly(n if few else d.cells, max_p(2))
    cdef Tile t
    for k in range(d.units):
        copy_cells(panel + k * width, d.w + (k * d.channels + first) * d.cells, width, 1)
    start_tile(&t, True, a_step)
    sum_over(&t, d.units, width, SAMPLES)
    t.out_p = out_step
    for step_b in range(steps_over_blocks(d)):
        for outer in range(d.cells if few else n):
            inner = 0
            for i in range(2):
                for j in range(lots.count[i]):
                    at = first * SAMPLES + outer * out_outer + inner * out_step
                    run_on_block(d, step_b * blocks_at_once(), lots.P[i], &t, panel + outer * a_outer + inner * a_step,
                                 d.y, d.y_block, d.x + at, d.x_block)
                    inner += lots.P[i]


def dense_blocks_adjoint(cnp.ndarray dy, cnp.ndarray weight, cnp.ndarray dx, int n_threads):
    """Write the input gradient into dx."""
    cdef Dense d = describe_dense(dx, weight, None, dy)
    cdef Py_ssize_t n = channels_of_panel(&d), panels = ceil_div(d.channels, n), j
    cdef Py_ssize_t size = (d.units * n * d.cells + 63) // 64 * 64
    cdef real *scratch = <real *>malloc((size * n_threads + 64) * sizeof(real))
    cdef int i
    if scratch == NULL:
        raise MemoryError("cyconv: no memory for the scratch of an input gradient")
    for i in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1, nogil=True):
        for j in range(part(panels, n_threads, i), part(panels, n_threads, i + 1)):
            run_panel(&d, j * n, min(n, d.channels - j * n), aligned(scratch) + i * size)
    free(scratch)


# ---------------------------------------------------------------- weights

cdef void pack_features(const Dense *d, Py_ssize_t first, real *panel) noexcept nogil:
    """panel[n, f] of two vectors of features, 0 beyond the last; behind them all is the 1 of the bias."""
    cdef Py_ssize_t features = d.channels * d.cells, block, v, lot, i
    cdef const real *x[LANES]
    cdef vec rows[LANES]
    for v in range(2):
        for i in range(LANES):
            x[i] = d.x + (first + i) // d.cells * SAMPLES + (first + i) % d.cells * d.x_cell
        for block in range(d.blocks):
            for lot in range(SAMPLES // LANES):
                for i in range(LANES):
                    rows[i] = splat(<real>(first + i == features))
                    if first + i < features:
                        rows[i] = load(x[i] + block * d.x_block + lot * LANES)
                transpose(rows)
                for i in range(LANES):
                    store(panel + ((block * SAMPLES + lot * LANES + i) * 2 + v) * LANES, rows[i])
        first += LANES


cdef void put_panel(const Dense *d, Py_ssize_t k, Py_ssize_t first, int P, const real *sums) noexcept nogil:
    cdef Py_ssize_t features = d.channels * d.cells, p, v, n
    for p in range(P):
        for v in range(2):
            n = clip(features - first - v * LANES, 0, LANES)
            store_part(d.dw + (k + p) * features + first + v * LANES, load(sums + (2 * p + v) * LANES), n)
        if d.db != NULL and 0 <= features - first < 2 * LANES:
            d.db[k + p] = sums[2 * p * LANES + features - first]


cdef void copy_dy_of_units(const Dense *d, real *out) noexcept nogil:
    """out[unit, sample]. Every thread makes its own: from another's cache it would come late."""
    cdef Py_ssize_t k, block
    for k in range(d.units):
        for block in range(d.blocks):
            copy_cells(out + (k * d.blocks + block) * SAMPLES, d.y + block * d.y_block + k * SAMPLES, SAMPLES, 1)


cdef void add_samples(const Dense *d, const Gradient *g, Py_ssize_t first, const real *dy, real *panel) noexcept nogil:
    """dw[k, f] of all units and of a panel of features, the sums of the slots added at last. One slot needs no scratch."""
    cdef Py_ssize_t width = 2 * LANES, slots = max(g.slots, g.block_slots), rows = d.blocks * SAMPLES, k = 0, i, j, slot, n
    cdef Split lots = split_evenly(d.units, max_p(2))
    cdef real sums[MAX_SLOTS * MAX_P * 2 * LANES]
    cdef bint in_place = slots == 1 and first + width <= d.channels * d.cells
    cdef Tile t
    pack_features(d, first, panel)
    start_tile(&t, True, rows)
    t.out_p = d.channels * d.cells if in_place else width
    for i in range(2):
        for j in range(lots.count[i]):
            for slot in range(slots):
                n = part(g.n_chunks, slots, slot) * g.chunk[0]
                sum_over(&t, min(part(g.n_chunks, slots, slot + 1) * g.chunk[0], g.batch) - n, 1, width)
                run_tiles(lots.P[i], 2, 1, &t, dy + k * rows + n, panel + n * width,
                          d.dw + k * t.out_p + first if in_place else sums + slot * lots.P[i] * width)
            if not in_place:
                sum_slots(slots, lots.P[i] * width, sums)
                put_panel(d, k, first, lots.P[i], sums)
            k += lots.P[i]


cdef int run_dense_gradient(const Dense *d, const Gradient *g, int n_threads) noexcept nogil:
    """-1 when there is no memory for scratch."""
    cdef Py_ssize_t rows = d.blocks * SAMPLES, size = (d.units + 2 * LANES) * rows, j
    cdef Py_ssize_t panels = ceil_div(d.channels * d.cells + (d.db != NULL), 2 * LANES)
    cdef real *memory = <real *>malloc((size * n_threads + 64) * sizeof(real))
    cdef int i
    if memory == NULL:
        return -1
    for i in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
        copy_dy_of_units(d, aligned(memory) + i * size)
        for j in range(part(panels, n_threads, i), part(panels, n_threads, i + 1)):
            add_samples(d, g, j * 2 * LANES, aligned(memory) + i * size, aligned(memory) + i * size + d.units * rows)
    free(memory)
    return 0


def dense_blocks_gradient(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray dw, cnp.ndarray db, Py_ssize_t n, int n_threads):
    """Write the gradients of n samples with respect to weight and, unless None, to bias into dw and db."""
    cdef Dense d = describe_dense(x, dw, None, dy)
    cdef Gradient g
    cdef int i, failed
    d.dw = <real *>cnp.PyArray_DATA(dw)
    d.db = <real *>cnp.PyArray_DATA(db) if db is not None else NULL
    for i in range(3):
        g.axis[i].n_out = g.axis[i].n_taps = 1
    g.batch, g.groups, g.n_c, g.n_k, g.in_blocks = n, 1, dw.shape[1], d.units, False
    with nogil:
        plan_gradient(&g, n_threads)
        failed = run_dense_gradient(&d, &g, n_threads)
    if failed:
        raise MemoryError("cyconv: no memory for the scratch of the weight gradient")
