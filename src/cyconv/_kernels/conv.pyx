# Convolution: forward, input gradient and transposed convolution (the same sum on the adjoint window).
#
#     y[n, k, o] = bias[k] + sum over c, t, r, s of  w[k, c, t, r, s] * x[n, c, cell(o, (t, r, s))]
#
# Loop nest of one thread, outermost first (work):
#     phase          outputs that share their taps, see _geometry
#     group, panels  output channels whose packed weights fit in cache
#     sum block      channels, then taps: partial sums wait in y
#     item           rows of one sample, or (SAMPLE_TILES) one depth of many samples
#     panel, tile    14 outputs x 2 vectors in registers
# Threads share out the items, or the panels when there are few outputs per weight. Every output has
# one chain of additions: the bias, then blocks of channels, taps in row-major order, channels of the
# block. Nothing else depends on how the work is cut, so neither do the bits.
#
# Padded cells are trimmed, or read as zeros from scratch. A zero times a finite weight adds nothing;
# when a weight is not finite the outputs are computed one by one with trimmed taps (run_samples).

from cython.parallel cimport prange
from libc.stdlib cimport malloc, free

cdef extern from "simd.h" nogil:
    void store_even(real *p, vec v, long n)

# ---------------------------------------------------------------- storing

cdef void put_cells(const real *cells, Py_ssize_t P, Py_ssize_t pitch, Py_ssize_t n, real *y, Py_ssize_t y_p, Py_ssize_t y_k) noexcept nogil:
    """y[p * y_p + k * y_k] = cells[p * pitch + k] for p < P and k < n."""
    cdef Py_ssize_t p, k
    if y_p == 1 and y_k != 1:
        copy_transposed(y, y_k, cells, pitch, P, n)
    elif y_k == 1:
        for p in range(P):
            copy_cells(y + p * y_p, cells + p * pitch, n, 1)
    elif y_p == 2:
        put_every_second(cells, P, pitch, n, y, y_k)
    else:
        for p in range(P):
            for k in range(n):
                y[p * y_p + k * y_k] = cells[p * pitch + k]


cdef void put_every_second(const real *cells, Py_ssize_t P, Py_ssize_t pitch, Py_ssize_t n, real *y, Py_ssize_t y_k) noexcept nogil:
    """The same for outputs of one of two phases."""
    cdef vec rows[LANES]
    cdef Py_ssize_t p, k, i, p_block, k_block
    for p_block in range(ceil_div(P, LANES)):
        p = p_block * LANES
        for k_block in range(ceil_div(n, LANES)):
            k = k_block * LANES
            load_rows(rows, cells + p * pitch + k, pitch, P - p, min(<Py_ssize_t>LANES, n - k))
            transpose(rows)
            for i in range(min(<Py_ssize_t>LANES, n - k)):
                store_even(y + 2 * p + (k + i) * y_k, rows[i], min(<Py_ssize_t>LANES, P - p))


cdef void get_cells(real *cells, Py_ssize_t P, Py_ssize_t pitch, Py_ssize_t n, const real *y, Py_ssize_t y_p, Py_ssize_t y_k) noexcept nogil:
    """The inverse of put_cells: fetch partial sums."""
    cdef Py_ssize_t p
    if y_p == 1 and y_k != 1:
        copy_transposed(cells, pitch, y, y_k, n, P)
    else:
        for p in range(P):
            copy_cells(cells + p * pitch, y + p * y_p, n, y_k)


cdef inline void run_columns(Tile *t, Py_ssize_t n_outputs, Py_ssize_t rows, int V, const real *a, Py_ssize_t a_p, Py_ssize_t a_row,
                             const real *b, real *out, Py_ssize_t out_p, Py_ssize_t out_row) noexcept nogil:
    """Tiles for rows x n_outputs x V vectors; those below each other in one call."""
    cdef Split tiles = split(n_outputs, max_p(V), V)
    cdef Py_ssize_t j
    cdef int i
    t.out_p, t.out_v, t.next_a, t.next_out = out_p, LANES, a_row, out_row
    for i in range(2):
        for j in range(tiles.count[i]):
            run_tiles(tiles.P[i], V, rows, t, a, b, out)
            a += tiles.P[i] * a_p
            out += tiles.P[i] * out_p


cdef void rows_to_y(Tile *t, Py_ssize_t n_outputs, Py_ssize_t rows, int V, Py_ssize_t n, const real *a, Py_ssize_t a_p, Py_ssize_t a_row,
                    const real *b, real *y, Py_ssize_t y_p, Py_ssize_t y_row, Py_ssize_t y_k) noexcept nogil:
    """Compute rows x n_outputs x n channels whose sums live at y, by way of a buffer if the channels
    are scattered there or not whole vectors."""
    cdef real cells[ROW_CELLS * MAX_V * LANES]
    cdef Py_ssize_t parts = ceil_div(n_outputs, ROW_CELLS), at_once = max(1, ROW_CELLS // n_outputs)
    cdef Py_ssize_t pitch = V * LANES, block, i, o, P, r, R, j, runs
    cdef real *to
    if y_k == 1 and n == pitch:
        run_columns(t, n_outputs, rows, V, a, a_p, a_row, b, y, y_p, y_row)
        return
    for block in range(ceil_div(rows, at_once)):
        r = block * at_once
        R = min(at_once, rows - r)
        for i in range(parts):
            o = part(n_outputs, parts, i)
            P = part(n_outputs, parts, i + 1) - o
            to = y + r * y_row + o * y_p
            runs = 1 if y_row == P * y_p else R          # rows that follow each other are one
            for j in range(0 if t.first else runs):
                get_cells(cells + j * P * pitch, P * R // runs, pitch, n, to + j * y_row, y_p, y_k)
            run_columns(t, P, R, V, a + r * a_row + o * a_p, a_p, a_row, b, cells, pitch, P * pitch)
            for j in range(runs):
                put_cells(cells + j * P * pitch, P * R // runs, pitch, n, to + j * y_row, y_p, y_k)


# ---------------------------------------------------------------- running

cdef struct Job:
    # What run_* needs besides the box: one packed block of weights and where its sums go.
    const Conv *cv
    const Plan *plan
    Py_ssize_t group, channel, n_out   # first output channel of the block, over all groups; how many
    const real *x                      # the sample's channels of the group
    const real *packed
    const real *bias
    real *spread_bias                  # each repeated over the lanes, where scalars are channels
    real *scratch
    bint first


cdef inline bint trim(const Axis *axis, Py_ssize_t out, Py_ssize_t tap, Py_ssize_t n_taps, Py_ssize_t *first, Py_ssize_t *n) noexcept nogil:
    """Taps of a block that read inside the input, as first and number from ``tap`` on."""
    cdef Py_ssize_t start = axis.start + out * axis.stride + tap * axis.step
    first[0] = first_inside(start, axis.step, 0, n_taps)
    n[0] = max(first_inside(start, axis.step, axis.n_in, n_taps) - first[0], 0)
    return n[0] > 0


cdef inline Py_ssize_t trim_rows(const Axis *axis, const Box *box, Py_ssize_t h, Py_ssize_t *first, Py_ssize_t *n) noexcept nogil:
    """Trim the taps of row ``h`` of a box; how many rows from it on have the same."""
    cdef Py_ssize_t next_first = 0, next_n = 0, rows = 1
    trim(axis, box.out[1] + h, box.tap[1], box.n_taps[1], first, n)
    while h + rows < box.n_out[1]:
        trim(axis, box.out[1] + h + rows, box.tap[1], box.n_taps[1], &next_first, &next_n)
        if next_first != first[0] or next_n != n[0]:
            break
        rows += 1
    return rows


cdef inline void set_sums(Tile *t, const Box *box, const View *view, Py_ssize_t width,
                          const Py_ssize_t *first, const Py_ssize_t *n, bint vectors_are_outputs,
                          const real *(*x), const real *(*w)) noexcept nogil:
    """Point a tile at the taps first .. first + n of a box and its packed weights."""
    cdef Py_ssize_t steps[4]
    cdef int i
    steps[3] = width
    steps[2] = box.n_channels * width
    steps[1] = box.n_taps[2] * steps[2]
    steps[0] = box.n_taps[1] * steps[1]
    for i in range(3):
        t.sum.n[i] = n[i]
        t.sum.a[i] = steps[i] if vectors_are_outputs else view.tap[i]
        t.sum.b[i] = view.tap[i] if vectors_are_outputs else steps[i]
        x[0] += first[i] * view.tap[i]
        w[0] += first[i] * steps[i]
    t.sum.n[3] = box.n_channels
    t.sum.a[3] = width if vectors_are_outputs else view.c
    t.sum.b[3] = view.c if vectors_are_outputs else width
    list_runs(t)


cdef void run_rows(const Job *job, const Box *box, const View *view) noexcept nogil:
    cdef const Conv *cv = job.cv
    cdef const Axis *axes = &cv.axis[0]
    cdef Py_ssize_t width = job.plan.width, size = sum_size(box) * width
    cdef Py_ssize_t panel, k, n, h, rows, first[3]
    cdef Py_ssize_t count[3]
    cdef const real *x
    cdef const real *w
    cdef real *y
    cdef int V
    cdef Tile t
    start_tile(&t, job.first, view.out[2])
    first[1], count[1], first[2], count[2] = 0, box.n_taps[1], 0, box.n_taps[2]
    trim(&axes[0], box.out[0], box.tap[0], box.n_taps[0], &first[0], &count[0])
    for panel in range(job.plan.panels):
        k = panel * width
        n = min(width, job.n_out - k)
        if n <= 0:
            break
        V = 2 if n > LANES else 1
        t.start, t.start_v = job.bias + k, LANES
        h = 0
        while h < box.n_out[1]:
            rows = box.n_out[1]
            if not job.plan.zero_rows:
                rows = trim_rows(&axes[1], box, h, &first[1], &count[1])
            x, w = view.data + h * view.out[1], job.packed + panel * size
            set_sums(&t, box, view, width, first, count, False, &x, &w)
            y = (cv.y + box.sample * cv.y_n + (job.channel + k) * cv.y_c + box.out[0] * axes[0].y
                 + (box.out[1] + h) * axes[1].y + box.out[2] * axes[2].y)
            rows_to_y(&t, box.n_out[2], rows, V, n, x, view.out[2], view.out[1], w, y, axes[2].y, axes[1].y, cv.y_c)
            h += rows


cdef inline bint rows_in_pairs(const Conv *cv, const Plan *plan) noexcept nogil:
    """Whether rows fill a vector: then two are a tile, and all have the same taps, with rows of zeros around."""
    return plan.mode == ROW_VECTORS and cv.axis[2].n_out == LANES and cv.axis[2].y == 1


cdef void run_lanes(const Job *job, const Box *box, const View *view) noexcept nogil:
    cdef const Conv *cv = job.cv
    cdef const Axis *axes = &cv.axis[0]
    cdef Py_ssize_t width = job.plan.width, row = box.n_out[2], n_out = job.n_out, reach
    cdef Py_ssize_t h = 0, rows, o, k, i, j, tiles, P, first[3]
    cdef Py_ssize_t count[3]
    cdef const real *x
    cdef const real *w
    cdef real *y
    cdef bint in_pairs = rows_in_pairs(cv, job.plan)
    cdef int V = 2 if row > LANES or in_pairs else 1
    cdef Tile t
    start_tile(&t, job.first, 1)
    t.b_v = t.out_v = min(LANES, row - LANES) if row > LANES else LANES
    t.out_p, t.start_p = cv.y_c, LANES
    t.next_b, t.next_out = view.out[1], axes[1].y
    reach = LANES + t.b_v if row > LANES else LANES
    tiles = ceil_div(n_out, max_p(V))
    first[2], count[2] = 0, box.n_taps[2]
    trim(&axes[0], box.out[0], box.tap[0], box.n_taps[0], &first[0], &count[0])
    while h < box.n_out[1]:
        if in_pairs:
            first[1], count[1], rows = 0, box.n_taps[1], box.n_out[1]
        else:
            rows = trim_rows(&axes[1], box, h, &first[1], &count[1])
        x, w = view.data + h * view.out[1], job.packed
        set_sums(&t, box, view, width, first, count, True, &x, &w)
        y = (cv.y + box.sample * cv.y_n + job.channel * cv.y_c + box.out[0] * axes[0].y
             + (box.out[1] + h) * axes[1].y + box.out[2] * axes[2].y)
        for i in range(tiles):
            k = part(n_out, tiles, i)
            P = part(n_out, tiles, i + 1) - k
            t.start = job.spread_bias + k * LANES
            if in_pairs:
                run_pairs(&t, P, rows, w + k, x, y + k * cv.y_c)
                continue
            o = 0
            while axes[2].y == 1 and (o + reach <= row or job.first and reach <= row and o < row):
                # A last tile ends with the row: some outputs are computed twice.
                o = min(o, row - reach)
                run_tiles(P, V, rows, &t, w + k, x + o, y + k * cv.y_c + o)
                o += reach
            while o < row:
                for j in range(rows):
                    run_few_lanes(&t, P, min(2 * LANES, row - o), w + k, x + j * view.out[1] + o,
                                  y + k * cv.y_c + j * axes[1].y + o * axes[2].y, axes[2].y)
                o += 2 * LANES
        h += rows


cdef inline void run_pairs(Tile *t, Py_ssize_t P, Py_ssize_t rows, const real *w, const real *x, real *y) noexcept nogil:
    """Rows, or outputs, of one vector, two to a tile."""
    cdef Py_ssize_t b_v = t.b_v, out_v = t.out_v, next_b = t.next_b, next_out = t.next_out
    t.b_v, t.out_v, t.next_b, t.next_out = next_b, next_out, 2 * next_b, 2 * next_out
    run_tiles(P, 2, rows // 2, t, w, x, y)
    t.b_v, t.out_v, t.next_b, t.next_out = b_v, out_v, next_b, next_out
    if rows % 2:
        run_tiles(P, 1, 1, t, w, x + (rows - 1) * next_b, y + (rows - 1) * next_out)


cdef void run_few_lanes(Tile *t, Py_ssize_t P, Py_ssize_t n, const real *w, const real *x, real *y, Py_ssize_t y_w) noexcept nogil:
    """A tile by way of a buffer: fewer outputs than its vectors hold, partial sums that must not be
    added to twice, or outputs that do not follow each other."""
    cdef real cells[MAX_P * 2 * LANES]
    cdef Py_ssize_t out_p = t.out_p, out_v = t.out_v, b_v = t.b_v
    cdef int V = 2 if n > LANES else 1
    t.out_p, t.out_v, t.b_v = V * LANES, LANES, LANES
    if not t.first:
        get_cells(cells, P, V * LANES, n, y, out_p, y_w)
    run_tiles(P, V, 1, t, w, x, cells)
    put_cells(cells, P, V * LANES, n, y, out_p, y_w)
    t.out_p, t.out_v, t.b_v = out_p, out_v, b_v


cdef void run_samples(const Job *job, Box *box, Py_ssize_t n_samples) noexcept nogil:
    """All outputs of one depth of ``n_samples`` samples; with one sample, any block of outputs."""
    cdef const Conv *cv = job.cv
    cdef const Axis *axes = &cv.axis[0]
    cdef Py_ssize_t width = job.plan.width, size = sum_size(box) * width, panel, left, k, n, h, q, i
    cdef Py_ssize_t first[3]
    cdef Py_ssize_t count[3]
    cdef Box cell = box[0]
    cdef View view
    cdef const real *x
    cdef const real *w
    cdef real *y
    cdef Tile t
    start_tile(&t, job.first, cv.x_n)
    trim(&axes[0], box.out[0], box.tap[0], box.n_taps[0], &first[0], &count[0])
    for panel in range(job.plan.panels):
        left = min(width, job.n_out - panel * width)
        for i in range(max(0, ceil_div(left, 2 * LANES))):
            k = panel * width + i * 2 * LANES
            n = min(2 * LANES, left - i * 2 * LANES)
            t.start, t.start_v = job.bias + k, LANES
            for h in range(box.n_out[1]):
                cell.out[1] = box.out[1] + h
                trim(&axes[1], cell.out[1], box.tap[1], box.n_taps[1], &first[1], &count[1])
                for q in range(box.n_out[2]):
                    cell.out[2] = box.out[2] + q
                    trim(&axes[2], cell.out[2], box.tap[2], box.n_taps[2], &first[2], &count[2])
                    view_in_place(axes, job.x, cv.x_c, &cell, &view)
                    x, w = view.data, job.packed + panel * size + k - panel * width
                    set_sums(&t, box, &view, width, first, count, False, &x, &w)
                    y = (cv.y + box.sample * cv.y_n + (job.channel + k) * cv.y_c + cell.out[0] * axes[0].y
                         + cell.out[1] * axes[1].y + cell.out[2] * axes[2].y)
                    rows_to_y(&t, n_samples, 1, 2 if n > LANES else 1, n, x, cv.x_n, 0, w, y, cv.y_n, 0, cv.y_c)


cdef inline Py_ssize_t sum_size(const Box *box) noexcept nogil:
    """Terms of the block of the sum in ``box``."""
    return box.n_taps[0] * box.n_taps[1] * box.n_taps[2] * box.n_channels


cdef void run_item(Job *job, Box *box, Py_ssize_t item, bint finite) noexcept nogil:
    cdef const Conv *cv = job.cv
    cdef const Plan *plan = job.plan
    cdef Py_ssize_t index[4]
    cdef Py_ssize_t begin, n_samples = 1
    cdef View view
    cdef int i
    for i in range(3, -1, -1):
        index[i] = item % plan.item_shape[i]
        item //= plan.item_shape[i]
    if plan.mode == BLOCK_VECTORS:
        block_item(job, box, index)
        return
    for i in range(3):
        box.out[i] = part(cv.axis[i].n_out, plan.item_shape[i + 1], index[i + 1])
        box.n_out[i] = part(cv.axis[i].n_out, plan.item_shape[i + 1], index[i + 1] + 1) - box.out[i]
    box.sample = part(cv.batch, plan.item_shape[0], index[0])
    job.x = cv.x + box.sample * cv.x_n + job.group * cv.n_sum * cv.x_c
    if plan.mode == SAMPLE_TILES:
        n_samples = part(cv.batch, plan.item_shape[0], index[0] + 1) - box.sample
    if plan.mode == SAMPLE_TILES or not finite:
        run_samples(job, box, n_samples)
        return
    if plan.copy:
        view_in_scratch(cv.axis, job.x, cv.x_c, box, plan.order, plan.zero_rows, job.scratch, &view)
    else:
        view_in_place(cv.axis, job.x, cv.x_c, box, &view)
    if plan.mode == ROW_VECTORS:
        run_lanes(job, box, &view)
    else:
        run_rows(job, box, &view)


cdef void run_unit(const Conv *cv, const Plan *plan, Py_ssize_t unit, Py_ssize_t first_item, Py_ssize_t last_item,
                   real *scratch) noexcept nogil:
    """All sums of one block of panels of one group, for some items."""
    cdef Py_ssize_t block, item, panel, n, group = unit // plan.panel_blocks
    cdef Py_ssize_t k = unit % plan.panel_blocks * plan.panels * plan.width
    cdef const real *w = cv.w + group * cv.w_group + k * cv.w_out
    cdef real *bias = scratch + plan.packed_size
    cdef real *packed
    cdef bint finite
    cdef Box box
    cdef Job job
    job.cv, job.plan, job.packed, job.bias, job.scratch = cv, plan, scratch, bias, bias + plan.bias_size
    packed = job.scratch if plan.mode == BLOCK_VECTORS else scratch
    job.group, job.n_out = group, min(plan.panels * plan.width, cv.n_out - k)
    job.channel = group * cv.n_out + k
    job.spread_bias = bias + plan.panels * plan.width if scalars_are_channels(plan) else NULL
    pack_bias(cv.bias + job.channel if cv.bias != NULL else NULL, job.n_out, plan.panels * plan.width, bias, job.spread_bias)
    for block in range(plan.n_blocks):
        set_sum_block(cv, plan, block, &box)
        job.first = block == 0 and not cv.add
        finite = True
        for panel in range(plan.panels):
            n = min(plan.width, job.n_out - panel * plan.width)
            if n > 0:
                finite &= pack(cv, w + panel * plan.width * cv.w_out, n, &box, plan.width,
                               packed + panel * sum_size(&box) * plan.width)
        if plan.mode == BLOCK_VECTORS:
            pack_tiles(packed, sum_size(&box), job.n_out, plan.width, max_p(2), scratch)
        for item in range(first_item, last_item):
            run_item(&job, &box, item, finite)


cdef void work(const Conv *cv, const Plan *plan, int i, real *scratch) noexcept nogil:
    """The share of thread ``i``."""
    cdef Py_ssize_t units = cv.groups * plan.panel_blocks, unit
    cdef Py_ssize_t u = i % plan.unit_parts, part_of_items = i // plan.unit_parts
    cdef Py_ssize_t first_item = part(plan.n_items, plan.item_parts, part_of_items)
    cdef Py_ssize_t last_item = part(plan.n_items, plan.item_parts, part_of_items + 1)
    if part_of_items >= plan.item_parts or first_item == last_item:
        return
    for unit in range(part(units, plan.unit_parts, u), part(units, plan.unit_parts, u + 1)):
        run_unit(cv, plan, unit, first_item, last_item, scratch)


cdef int run_phase(const Conv *cv, int n_threads) noexcept nogil:
    """One phase on all threads; -1 when there is no memory for scratch."""
    cdef Plan plan
    cdef Py_ssize_t size
    cdef real *scratch
    cdef int i
    if is_depthwise(cv):
        return run_depthwise(cv, 1, n_threads)
    plan_phase(cv, n_threads, &plan)
    size = (plan.packed_size + plan.bias_size + plan.input_size + 63) // 64 * 64
    scratch = <real *>malloc((size * n_threads + 64) * sizeof(real))
    if scratch == NULL:
        return -1
    if n_threads == 1:
        work(cv, &plan, 0, aligned(scratch))
    else:
        for i in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
            work(cv, &plan, i, aligned(scratch) + i * size)
    free(scratch)
    return 0


cdef inline real *aligned(real *p) noexcept nogil:
    """The next cache line."""
    return <real *>((<size_t>p + 63) // 64 * 64)


# ---------------------------------------------------------------- called from Python

cdef void describe_spatial(Axis *axes, cnp.ndarray x, cnp.ndarray y, bint channels_last) noexcept:
    """Input and output steps of the last axes; axes that the arrays do not have keep one cell."""
    cdef int rank = x.ndim - 2, i, at
    for i in range(3):
        axes[i].n_in, axes[i].x, axes[i].y, axes[i].w = 1, 0, 0, 0
        if i >= 3 - rank:
            at = i - (3 - rank) + (1 if channels_last else 2)
            axes[i].n_in = x.shape[at]
            axes[i].x = x.strides[at] // <Py_ssize_t>sizeof(real)
            axes[i].y = y.strides[at] // <Py_ssize_t>sizeof(real)


cdef int describe_weight(Axis *axes, cnp.ndarray weight, int rank, Py_ssize_t *tile) noexcept:
    """Steps from tap to tap and from tile to tile; returns the axis of output channels, behind the tiles."""
    cdef int first = weight.ndim - rank - 2, i
    for i in range(3):
        tile[i] = 0
        if i >= 3 - rank:
            axes[i].w = weight.strides[weight.ndim - 3 + i] // <Py_ssize_t>sizeof(real)
            if first > 0:
                tile[i] = weight.strides[i - (3 - rank)] // <Py_ssize_t>sizeof(real)
    return first


cdef inline Py_ssize_t channel_step(cnp.ndarray array, int axis) noexcept:
    """In reals. That of a single channel may be anything, and would hide that cells follow each other."""
    return 1 if array.shape[axis] == 1 and axis == array.ndim - 1 else array.strides[axis] // <Py_ssize_t>sizeof(real)


cdef void describe(Conv *cv, cnp.ndarray x, cnp.ndarray weight, cnp.ndarray bias, cnp.ndarray y, Py_ssize_t groups,
                   bint channels_last, bint adjoint) noexcept:
    cdef Py_ssize_t real_size = sizeof(real)
    cdef int c_axis = x.ndim - 1 if channels_last else 1, k_axis
    describe_spatial(cv.axis, x, y, channels_last)
    k_axis = describe_weight(cv.axis, weight, x.ndim - 2, cv.w_tile)
    cv.batch, cv.groups, cv.add, cv.blocks, cv.spread = x.shape[0], groups, False, False, False
    cv.apart, cv.x_n, cv.x_c = 1, x.strides[0] // real_size, channel_step(x, c_axis)
    cv.y_n, cv.y_c = y.strides[0] // real_size, channel_step(y, c_axis)
    cv.n_out, cv.n_sum = weight.shape[k_axis] // groups, weight.shape[k_axis + 1]
    cv.w_out, cv.w_sum = weight.strides[k_axis] // real_size, weight.strides[k_axis + 1] // real_size
    cv.w_group = cv.n_out * cv.w_out
    if adjoint:
        cv.w_out, cv.w_sum = cv.w_sum, cv.w_out
        cv.n_out, cv.n_sum = cv.n_sum, cv.n_out
    cv.x, cv.y = <const real *>cnp.PyArray_DATA(x), <real *>cnp.PyArray_DATA(y)
    cv.w = <const real *>cnp.PyArray_DATA(weight)
    cv.bias = <const real *>cnp.PyArray_DATA(bias) if bias is not None else NULL


cdef int run_conv(const Conv *cv, cnp.ndarray table, int n_threads) except -1:
    cdef int failed
    with nogil:
        failed = run_phases(cv, <const Py_ssize_t *>cnp.PyArray_DATA(table), n_threads)
    if failed:
        raise MemoryError("cyconv: no memory for the scratch of the convolution")
    return 0


def conv(cnp.ndarray x, cnp.ndarray weight, cnp.ndarray bias, cnp.ndarray y, cnp.ndarray table, Py_ssize_t groups,
         bint channels_last, bint adjoint, bint add, int n_threads):
    """Write the convolution of x with weight into y, or ``add`` it to y.

    ``adjoint`` exchanges the roles of the input and output channels of ``weight``, which may have a
    tile axis before these for every spatial axis. ``table`` is `_geometry.table_of` phases; outputs
    that it does not list keep what y holds.
    """
    cdef Conv cv
    describe(&cv, x, weight, bias, y, groups, channels_last, adjoint)
    cv.add = add
    run_conv(&cv, table, n_threads)
