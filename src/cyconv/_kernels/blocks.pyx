# Blocks of samples: memory (blocks, *spatial, C, SAMPLES) in place of (N, C, *spatial). The values of
# SAMPLES samples at one cell of one channel stand side by side, as one vector or several. Places of the
# last block that have no sample hold whatever the layers make of zeros. Here: the way in and out, and the
# row of a convolution; what shares rows out is that of all convolutions in conv.pyx, what follows one is in
# pooled.pyx, weight gradients are in conv_weight_blocks.pyx or, of many channels, in conv_weight.pyx.

cdef enum:
    SPREAD_BYTES = 1 << 18     # scratch of a thread for a spread gradient


cdef void copy_block(const real *x, Py_ssize_t x_n, Py_ssize_t n, real *block, Py_ssize_t channels, Py_ssize_t cells, Py_ssize_t pitch) noexcept nogil:
    """block[s, c, n] = x[n, c, s], 0 in places without a sample"""
    cdef Py_ssize_t c, s
    for c in range(channels):
        copy_transposed(block + c * SAMPLES, pitch, x + c * cells, x_n, n, cells)
        for s in range(cells if n < SAMPLES else 0):
            memset(block + s * pitch + c * SAMPLES + n, 0, (SAMPLES - n) * sizeof(real))


cdef void copy_from_block(const real *block, real *x, Py_ssize_t x_n, Py_ssize_t n, Py_ssize_t channels, Py_ssize_t cells, Py_ssize_t pitch) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(channels):
        copy_transposed(x + c * cells, x_n, block + c * SAMPLES, pitch, cells, n)


def to_blocks(cnp.ndarray x, cnp.ndarray blocks, int n_threads):
    """blocks[n // SAMPLES, s, c, n % SAMPLES] = x[n, c, s] for x of shape (N, C, cells), each sample contiguous.

    Places without a sample become 0. ``blocks`` may have more channels than x; they stay.
    """
    cdef Py_ssize_t n = x.shape[0], channels = x.shape[1], cells = x.shape[2], b
    cdef Py_ssize_t x_n = x.strides[0] // <Py_ssize_t>sizeof(real), pitch = blocks.shape[blocks.ndim - 2] * SAMPLES
    cdef const real *data = <const real *>cnp.PyArray_DATA(x)
    cdef real *out = <real *>cnp.PyArray_DATA(blocks)
    for b in prange(ceil_div(n, SAMPLES), num_threads=n_threads, schedule="static", nogil=True):
        copy_block(data + b * SAMPLES * x_n, x_n, min(<Py_ssize_t>SAMPLES, n - b * SAMPLES), out + b * cells * pitch, channels, cells, pitch)


def from_blocks(cnp.ndarray blocks, cnp.ndarray x, int n_threads):
    """x[n, c, s] = blocks[n // SAMPLES, s, c, n % SAMPLES], the inverse of `to_blocks`."""
    cdef Py_ssize_t n = x.shape[0], channels = x.shape[1], cells = x.shape[2], b
    cdef Py_ssize_t x_n = x.strides[0] // <Py_ssize_t>sizeof(real), pitch = blocks.shape[blocks.ndim - 2] * SAMPLES
    cdef real *out = <real *>cnp.PyArray_DATA(x)
    cdef const real *data = <const real *>cnp.PyArray_DATA(blocks)
    for b in prange(ceil_div(n, SAMPLES), num_threads=n_threads, schedule="static", nogil=True):
        copy_from_block(data + b * cells * pitch, out + b * SAMPLES * x_n, x_n, min(<Py_ssize_t>SAMPLES, n - b * SAMPLES), channels, cells, pitch)


# ---------------------------------------------------------------- convolution

cdef inline Py_ssize_t cell_size(const Box *box) noexcept nogil:
    """Reals of a cell of scratch; a multiple of 16 channels would compete for places in the caches."""
    return (box.n_channels + (box.n_channels % 16 == 0)) * SAMPLES


cdef inline Py_ssize_t cells_read(const Axis *axis, Py_ssize_t n_out, Py_ssize_t n_taps) noexcept nogil:
    return min(axis.n_in, (n_out - 1) * axis.stride + (n_taps - 1) * axis.step + 1)


cdef Py_ssize_t spread_size(const Conv *cv, const Plan *plan, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """Reals of scratch for what so many outputs read of a spread gradient."""
    cdef Box box
    box.n_channels = plan.channels
    return (cells_read(&cv.axis[0], 1, plan.taps[0]) * cells_read(&cv.axis[1], rows, plan.taps[1])
            * cells_read(&cv.axis[2], columns, plan.taps[2]) * cell_size(&box) * min(blocks_at_once(), cv.batch))


cdef void share_out_blocks(const Conv *cv, Plan *plan) noexcept nogil:
    """An item is a row of windows or, where x is spread into scratch, as many outputs as that has room for; part of
    a row where there are few."""
    cdef Py_ssize_t rows = 1, columns, room = SPREAD_BYTES // sizeof(real), depths
    cdef Py_ssize_t windows[3]
    cdef int i
    for i in range(3):
        windows[i] = cv.axis[i].n_out // cv.pooled.window[i]
    columns, depths = windows[2], ceil_div(cv.batch, blocks_at_once()) * windows[0]
    while columns > 8 and (depths * windows[1] * ceil_div(windows[2], columns) < plan.item_parts
                           or (cv.spread and spread_size(cv, plan, 1, columns) > room)):
        columns = ceil_div(columns, 2)
    if cv.spread:
        while (rows < windows[1] and spread_size(cv, plan, rows + 1, columns) <= room
               and depths * ceil_div(windows[1], rows + 1) >= 2 * plan.item_parts):
            rows += 1
        plan.input_size = spread_size(cv, plan, rows, columns)
    elif waits(&cv.pooled):
        plan.input_size = (cv.pooled.window[0] * cv.pooled.window[1] * min(columns_waiting(&cv.pooled), columns * cv.pooled.window[2])
                           * max_p(2) * lanes_at_once())
    plan.item_shape[0], plan.item_shape[1] = ceil_div(cv.batch, blocks_at_once()), windows[0]
    plan.item_shape[2], plan.item_shape[3] = ceil_div(windows[1], rows), ceil_div(windows[2], columns)
    plan.n_items = depths * plan.item_shape[2] * plan.item_shape[3]


cdef void spread_in_scratch(const Conv *cv, Py_ssize_t group, const Box *box, Py_ssize_t first_block, real *scratch, View *view,
                            Py_ssize_t *size) noexcept nogil:
    """What a box reads of a gradient of pooled outputs, as these; ``size``: reals of a block."""
    cdef const Axis *axis
    cdef const real *dy = cv.x
    cdef const unsigned char *taps = cv.pooled.taps
    cdef Py_ssize_t step = cell_size(box), channels = box.n_channels, dy_c = cv.x_c, begin, end, at, name = 0, b, d, h, w, c, v
    cdef Py_ssize_t first[3]
    cdef Py_ssize_t n[3]
    cdef real *out
    cdef int i
    view.data, view.c = scratch, SAMPLES
    for i in range(2, -1, -1):
        axis = &cv.axis[i]
        begin = axis.start + box.out[i] * axis.stride + box.tap[i] * axis.step
        end = begin + (box.n_out[i] - 1) * axis.stride + (box.n_taps[i] - 1) * axis.step + 1
        first[i] = clip(begin, 0, axis.n_in)
        n[i] = clip(end, first[i], axis.n_in) - first[i]
        view.data += (begin - first[i]) * step
        view.out[i], view.tap[i] = axis.stride * step, axis.step * step
        step *= n[i]
    size[0] = step
    for b in range(min(blocks_at_once(), cv.batch - first_block)):
        out = scratch + b * size[0]
        for d in range(first[0], first[0] + n[0]):
            for h in range(first[1], first[1] + n[1]):
                for w in range(first[2], first[2] + n[2]):
                    at = find(&cv.pooled, d * cv.axis[0].in_step, h * cv.axis[1].in_step, w * cv.axis[2].in_step, &name)
                    at += (first_block + b) * cv.x_n + (group * cv.n_sum + box.channel) * dy_c
                    for c in range(channels):
                        for v in range(SAMPLES // LANES):
                            store(out + c * SAMPLES + v * LANES, at_tap(dy + at + v * LANES, taps + at + v * LANES, name))
                        at += dy_c
                    out += cell_size(box)


cdef void run_blocks(const Job *job, Box *box, Py_ssize_t first_block) noexcept nogil:
    """A row of windows, or some rows of outputs, of as many blocks of samples as tiles take at once."""
    cdef const Conv *cv = job.cv
    cdef const Axis *axes = &cv.axis[0]
    cdef const Pooled *after = &cv.pooled
    cdef Py_ssize_t columns = columns_waiting(after) if waits(after) else box.n_out[2], rows = after.window[0] * after.window[1]
    cdef Py_ssize_t terms = sum_size(box), h, q, n, i, j, k, at, tiles, size = cv.x_n
    cdef Py_ssize_t out[3]
    cdef int V = 2 if LANES < SAMPLES or first_block + 1 < cv.batch else 1, P
    cdef View view
    cdef Tile t
    start_tile(&t, job.first, 1)
    t.start_p = LANES
    if cv.spread:
        spread_in_scratch(cv, job.group, box, first_block, job.scratch, &view, &size)
    else:
        view_in_place(axes, cv.x + first_block * cv.x_n + job.group * cv.n_sum * cv.x_c, cv.x_c, box, &view)
    t.b_v = size if LANES == SAMPLES else LANES
    t.next_b = view.out[2]
    tiles = ceil_div(job.n_out, max_p(2))
    for h in range(box.n_out[1] // after.window[1]):
        q = 0
        while q < box.n_out[2]:
            n = min(columns, box.n_out[2] - q)
            for i in range(tiles):
                k = part(job.n_out, tiles, i)
                P = <int>(part(job.n_out, tiles, i + 1) - k)
                t.start = job.spread_bias + k * LANES
                at = (first_block * cv.y_n + (job.channel + k) * cv.y_c + box.out[0] // after.window[0] * axes[0].y
                      + (box.out[1] // after.window[1] + h) * axes[1].y + (box.out[2] + q) // after.window[2] * axes[2].y)
                if not waits(after):
                    out[0], out[1], out[2] = 0, h, q
                    t.out_p, t.out_v, t.next_out = cv.y_c, cv.y_n if LANES == SAMPLES else LANES, axes[2].y
                    block_row(cv, box, out, n, &view, job.packed + k * terms, P, V, &t, cv.y + at)
                    continue
                t.out_p, t.out_v, t.next_out = lanes_at_once(), LANES, P * lanes_at_once()
                for j in range(rows):
                    out[0], out[1], out[2] = j // after.window[1], h * after.window[1] + j % after.window[1], q
                    block_row(cv, box, out, n, &view, job.packed + k * terms, P, V, &t, job.scratch + j * n * t.next_out)
                put_maxima(after, job.scratch, n, P, V if LANES == SAMPLES else SAMPLES // LANES, cv.y + at, axes[2].y, cv.y_c,
                           cv.y_n if LANES == SAMPLES else LANES, after.taps + at if after.taps != NULL else NULL)
            q += n


cdef void block_row(const Conv *cv, const Box *box, const Py_ssize_t *out, Py_ssize_t n, const View *view,
                    const real *w, int P, int V, Tile *t, real *y) noexcept nogil:
    """P channels of n outputs of a row, from ``out`` of a box on. Those that have all taps along the row are one run."""
    cdef const Axis *axis = &cv.axis[2]
    cdef Py_ssize_t start = axis.start + (box.out[2] + out[2]) * axis.stride + box.tap[2] * axis.step
    cdef Py_ssize_t inner = first_inside(start, axis.stride, 0, n), q = 0, run, v, first[3]
    cdef Py_ssize_t outer = max(inner, first_inside(start + (box.n_taps[2] - 1) * axis.step, axis.stride, axis.n_in, n))
    cdef Py_ssize_t count[3]
    cdef const real *x
    cdef const real *packed
    cdef int i
    for i in range(2):
        trim(&cv.axis[i], box.out[i] + out[i], box.tap[i], box.n_taps[i], &first[i], &count[i])
    while q < n:
        run = outer - inner if q == inner and outer > inner else 1
        trim(axis, box.out[2] + out[2] + q, box.tap[2], box.n_taps[2], &first[2], &count[2])
        x, packed = view.data + out[0] * view.out[0] + out[1] * view.out[1] + (out[2] + q) * view.out[2], w
        set_sums(t, box, view, P, first, count, True, &x, &packed)
        for v in range(max(1, SAMPLES // (2 * LANES))):
            if V == 1:
                run_pairs(t, P, run, packed, x, y)
            else:
                run_tiles(P, V, run, t, packed, x + v * 2 * LANES, y + v * 2 * LANES)
        y += run * t.next_out
        q += run


cdef void block_item(const Job *job, Box *box, const Py_ssize_t *index) noexcept nogil:
    cdef const Conv *cv = job.cv
    cdef Py_ssize_t window, windows
    cdef int i
    for i in range(3):
        window = cv.pooled.window[i]
        windows = cv.axis[i].n_out // window
        box.out[i] = part(windows, job.plan.item_shape[i + 1], index[i + 1]) * window
        box.n_out[i] = part(windows, job.plan.item_shape[i + 1], index[i + 1] + 1) * window - box.out[i]
    run_blocks(job, box, index[0] * blocks_at_once())


# x, y, dy, dx and taps are the first samples of blocks, as (blocks, C, *spatial).

def conv_blocks(cnp.ndarray x, cnp.ndarray weight, cnp.ndarray bias, cnp.ndarray y, cnp.ndarray table, Py_ssize_t groups,
                tuple window, bint rectify, cnp.ndarray taps, int n_threads):
    """Write the convolution of x into y, or its maxima of windows, rectified or not, and into taps which they are."""
    cdef Conv cv
    cdef int i
    describe(&cv, x, weight, bias, y, groups, False, False)
    set_pooled(&cv.pooled, taps, None)
    cv.blocks, cv.pooled.rectify = True, rectify
    for i in range(3):
        cv.pooled.window[i] = window[i]
    run_conv(&cv, table, n_threads)


def conv_blocks_adjoint(cnp.ndarray dy, cnp.ndarray weight, cnp.ndarray dx, cnp.ndarray table, Py_ssize_t groups,
                        cnp.ndarray taps, tuple cells, int n_threads):
    """Write the input gradient into dx. With taps and cells, see `Pooled`, dy is the gradient of maxima."""
    cdef Conv cv
    cdef int i
    describe(&cv, dy, weight, None, dx, groups, False, True)
    set_pooled(&cv.pooled, taps, cells)
    cv.blocks, cv.spread = True, taps is not None
    for i in range(3 if cv.spread else 0):
        cv.axis[i].n_in = len(cells[i])
    run_conv(&cv, table, n_threads)
