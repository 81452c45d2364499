# Weight and bias gradients of the convolution.
#
#     dw[k, c, t, r, s] = sum over n, o of  dy[n, k, o] * x[n, c, cell(o, (t, r, s))]
#     db[k]             = sum over n, o of  dy[n, k, o]
#
# The same tile: its vectors are output channels (dy of a chunk of outputs, packed [o, k]), its
# scalars are (channel, tap) pairs, and the sum runs over the outputs of the chunk. With many
# channels a tile holds one tap of up to 14 channels, reads x in place and trims the padded outputs;
# with few channels it holds many taps and reads x from a zero-padded scratch.
#
# Order of a sum: all outputs of a slot in row-major order (n, o), then the slots in a balanced tree. Small
# gradients have up to 16 slots, shared out to the threads; of large ones the threads share out blocks of
# (output channels, channels), and each has 2 slots, for which rounding errors are half as large as with one.
# Slots depend on shapes alone.

cdef enum:
    CHUNK = 512                # outputs whose dy is packed at once,
    MIN_CHUNK = 256            # or down to this where they would make a single chunk
    MAX_SLOTS = 16
    BLOCK_SLOTS = 2
    SLOT_ELEMENTS = 1 << 14    # largest gradient, in elements, that is worth slots
    SUM_BYTES = 1 << 18        # sums of one block
    MANY_CHANNELS = 7          # from here a tile holds one tap

cdef struct Gradient:
    Axis axis[3]               # y: steps of dy, w: steps of dw
    Py_ssize_t batch, groups
    Py_ssize_t n_c, n_k        # input and output channels of a group
    Py_ssize_t n_taps
    Py_ssize_t x_n, x_c, dy_n, dy_c, dw_k, dw_c
    Py_ssize_t dw_tile[3]                # from the weights of one tile to the next
    const real *x
    const real *dy
    real *dw
    real *db
    Pooled pooled                        # of the outputs; blocks only
    bint in_blocks                       # a cell of x and dy is a block of samples, see blocks.pyx
    int V
    Py_ssize_t width, panels             # packed output channels; panels of a group
    Py_ssize_t slots, block_slots        # shared out to the threads, or of each block
    Py_ssize_t n_chunks
    Py_ssize_t chunk[4]                  # samples, D, H, W of a chunk
    Py_ssize_t blocks, block_channels    # channel blocks of a panel
    Py_ssize_t sums_size, dy_size, x_size


cdef void plan_gradient(Gradient *g, int n_threads) noexcept nogil:
    cdef Py_ssize_t extents[4]
    cdef Py_ssize_t elements, left, i
    cdef Box box
    g.n_taps = g.axis[0].n_taps * g.axis[1].n_taps * g.axis[2].n_taps
    g.V = 2 if g.n_k > LANES else 1
    g.width = g.V * LANES
    g.panels = ceil_div(g.n_k, g.width)
    if g.in_blocks:
        g.batch *= SAMPLES
    extents[0], extents[1], extents[2], extents[3] = g.batch, g.axis[0].n_out, g.axis[1].n_out, g.axis[2].n_out
    left = clip(extents[0] * extents[1] * extents[2] * extents[3] // BLOCK_SLOTS, MIN_CHUNK, CHUNK)
    if g.in_blocks:
        left //= SAMPLES
    g.n_chunks = 1
    for i in range(3, -1, -1):
        g.chunk[i] = SAMPLES if g.in_blocks and i == 0 else largest_part(extents[i], max(1, left))
        left = left // g.chunk[i] if g.chunk[i] == extents[i] else 1
        g.n_chunks *= ceil_div(g.batch if i == 0 else extents[i], g.chunk[i])
    elements = g.groups * ceil_div(g.n_k, 32) * 32 * g.n_c * g.n_taps
    g.slots = min(MAX_SLOTS, g.n_chunks) if elements <= SLOT_ELEMENTS else 1
    g.block_slots = min(BLOCK_SLOTS, g.n_chunks) if g.slots == 1 else 1
    g.blocks = 1
    if g.slots == 1 and not many_taps(g):
        g.blocks = clip(ceil_div(g.n_c * g.n_taps * g.width * <Py_ssize_t>sizeof(real), SUM_BYTES),
                        min(g.n_c, ceil_div(n_threads, g.groups * g.panels)), g.n_c)
    g.block_channels = ceil_div(g.n_c, g.blocks)
    g.blocks = ceil_div(g.n_c, g.block_channels)
    g.sums_size = (g.block_channels * g.n_taps + 1) * g.width
    if g.slots > 1:
        g.sums_size *= g.groups * g.panels
    g.dy_size = g.chunk[0] * g.chunk[1] * g.chunk[2] * g.chunk[3] * g.width
    g.x_size = 0
    if many_taps(g):
        gradient_box(g, 0, &box)
        g.x_size = g.chunk[0] * scratch_size(g.axis, &box, ANY_ORDER)


cdef inline Py_ssize_t sample_step(const Gradient *g) noexcept nogil:
    """From one sample of a chunk to the next in x."""
    return 1 if g.in_blocks else g.x_n


cdef inline bint many_taps(const Gradient *g) noexcept nogil:
    return g.n_c < MANY_CHANNELS and g.n_taps > 1


cdef inline void gradient_box(const Gradient *g, Py_ssize_t chunk, Box *box) noexcept nogil:
    """The outputs of a chunk, row-major over (n, o), with all taps."""
    cdef Py_ssize_t blocks, i
    for i in range(2, -1, -1):
        blocks = ceil_div(g.axis[i].n_out, g.chunk[i + 1])
        box.out[i] = chunk % blocks * g.chunk[i + 1]
        box.n_out[i] = min(g.chunk[i + 1], g.axis[i].n_out - box.out[i])
        box.tap[i], box.n_taps[i] = 0, g.axis[i].n_taps
        chunk //= blocks
    box.sample = chunk * g.chunk[0]
    box.n_samples = min(g.chunk[0], g.batch - box.sample)
    box.channel, box.n_channels = 0, g.n_c


# ---------------------------------------------------------------- packing

cdef bint pack_dy(const Gradient *g, const real *dy, Py_ssize_t n_k, const Box *box, real *packed, real *bias) noexcept nogil:
    """packed[n, o, k] = dy[n, k, o], zero for k beyond ``n_k``, and bias[k] += dy[n, k, o].

    False when not all are finite.
    """
    cdef Py_ssize_t n, d, h, rows = box.n_out[1], row = box.n_out[2]
    cdef bint finite = True
    if g.in_blocks:
        return pack_dy_of_block(g, dy + box.sample // SAMPLES * g.dy_n, n_k, box, packed, bias)
    if g.axis[1].y == row * g.axis[2].y or rows == 1:
        rows, row = 1, rows * row
    for n in range(box.n_samples):
        for d in range(box.n_out[0]):
            for h in range(rows):
                finite &= pack_dy_row(g, dy + (box.sample + n) * g.dy_n + (box.out[0] + d) * g.axis[0].y
                                      + (box.out[1] + h) * g.axis[1].y + box.out[2] * g.axis[2].y, n_k, row, packed, bias)
                packed += row * g.width
    return finite


cdef inline Py_ssize_t place_of_dy(const Gradient *g, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w, Py_ssize_t *name) noexcept nogil:
    """Where the gradient of an output on blocks is, or of the maximum that it may be, as tap ``name``."""
    if g.pooled.taps != NULL:
        return find(&g.pooled, d, h, w, name)
    return d * g.axis[0].y + h * g.axis[1].y + w * g.axis[2].y


cdef inline vec load_dy(const real *dy, const unsigned char *taps, Py_ssize_t at, Py_ssize_t name) noexcept nogil:
    return at_tap(dy + at, taps + at, name) if taps != NULL else load(dy + at)


cdef bint pack_dy_of_block(const Gradient *g, const real *dy, Py_ssize_t n_k, const Box *box, real *packed, real *bias) noexcept nogil:
    cdef Py_ssize_t cells = box.n_out[0] * box.n_out[1] * box.n_out[2], o = 0, d, h, w, v, i, k
    cdef const unsigned char *taps = g.pooled.taps + (dy - g.dy) if g.pooled.taps != NULL else NULL
    cdef Py_ssize_t at, name = 0
    cdef vec rows[LANES]
    cdef vec total
    cdef vec bad = splat(0)
    for d in range(box.n_out[0]):
        for h in range(box.n_out[1]):
            for w in range(box.n_out[2]):
                at = place_of_dy(g, box.out[0] + d, box.out[1] + h, box.out[2] + w, &name)
                for v in range(g.V):
                    total = load(bias + v * LANES)
                    for i in range(SAMPLES // LANES):
                        for k in range(LANES):
                            rows[k] = splat(0)
                            if v * LANES + k < n_k:
                                rows[k] = load_dy(dy, taps, at + (v * LANES + k) * g.dy_c + i * LANES, name)
                        transpose(rows)
                        for k in range(LANES):
                            total = total + rows[k]
                            store(packed + (((i * LANES + k) * cells + o) * g.V + v) * LANES, rows[k])
                    store(bias + v * LANES, total)
                o += 1
    for v in range(g.V):
        bad = bad + load(bias + v * LANES) * splat(0)
    return sum_of_lanes(bad) == 0


cdef bint pack_dy_row(const Gradient *g, const real *dy, Py_ssize_t n_k, Py_ssize_t row, real *packed, real *bias) noexcept nogil:
    cdef Py_ssize_t step = g.axis[2].y, q, k, v, i, n, whole
    cdef vec rows[LANES]
    cdef vec total
    cdef real cells[LANES]
    cdef bint finite = True
    for v in range(g.V):
        total = load(bias + v * LANES)
        n = min(n_k - v * LANES, LANES)
        whole = row // LANES if step == 1 and n == LANES else 0
        for q in range(whole):
            total = pack_square(dy + v * LANES * g.dy_c + q * LANES, g.dy_c, packed + q * LANES * g.width + v * LANES,
                                g.width, total)
        for q in range(whole, ceil_div(row, LANES)):
            take_dy(dy + v * LANES * g.dy_c + q * LANES * step, step, g.dy_c, min(LANES, row - q * LANES), n, rows)
            for i in range(min(LANES, row - q * LANES)):
                total = total + rows[i]
                store(packed + (q * LANES + i) * g.width + v * LANES, rows[i])
        store(bias + v * LANES, total)
        store(cells, total * splat(0))
        for k in range(LANES):
            finite &= cells[k] == 0
    return finite


cdef inline vec pack_square(const real *dy, Py_ssize_t dy_c, real *packed, Py_ssize_t width, vec total) noexcept nogil:
    """LANES channels of LANES outputs, which stay in registers; total plus their sum."""
    cdef vec rows[LANES]
    cdef Py_ssize_t i
    for i in range(LANES):
        rows[i] = load(dy + i * dy_c)
    transpose(rows)
    for i in range(LANES):
        total = total + rows[i]
        store(packed + i * width, rows[i])
    return total


cdef inline void take_dy(const real *dy, Py_ssize_t step, Py_ssize_t dy_c, Py_ssize_t n_outputs, Py_ssize_t n_k, vec *rows) noexcept nogil:
    """rows[q][k] = dy[k, q] for a block of up to LANES outputs and channels, zero beyond ``n_k``."""
    cdef vec zero = splat(0)
    cdef real *cells
    cdef Py_ssize_t q, k
    if dy_c == 1 and n_k == LANES:
        for q in range(n_outputs):
            rows[q] = load(dy + q * step)
    elif step == 1:
        for k in range(LANES):
            rows[k] = load_part(dy + k * dy_c, n_outputs) if k < n_k else zero
        transpose(rows)
    else:
        for q in range(n_outputs):
            rows[q] = zero
            cells = <real *>&rows[q]
            for k in range(n_k):
                cells[k] = dy[k * dy_c + q * step]


# ---------------------------------------------------------------- summing

cdef inline void dy_steps(const Gradient *g, const Box *box, Tile *t) noexcept nogil:
    t.sum.b[3] = g.width
    t.sum.b[2] = box.n_out[2] * t.sum.b[3]
    t.sum.b[1] = box.n_out[1] * t.sum.b[2]
    t.sum.b[0] = box.n_out[0] * t.sum.b[1]
    start_tile(t, False, g.x_c)


cdef void add_one_tap_tiles(const Gradient *g, const real *x, const Box *box, Py_ssize_t channels,
                            const real *packed, real *sums) noexcept nogil:
    """sums[c, tap, k] += the products of a chunk, tap by tap, up to 14 channels at once."""
    cdef Py_ssize_t tap[3]
    cdef Py_ssize_t first, start, i, index
    cdef Split tiles = split(channels, max_p(g.V) if g.x_c * sizeof(real) % 4096 else min(8, max_p(g.V)), g.V)
    cdef real *out
    cdef const real *b
    cdef const real *a
    cdef bint some
    cdef Tile t
    for index in range(g.n_taps):
        tap[2] = index % g.axis[2].n_taps
        tap[1] = index // g.axis[2].n_taps % g.axis[1].n_taps
        tap[0] = index // (g.axis[2].n_taps * g.axis[1].n_taps)
        dy_steps(g, box, &t)
        t.out_p = g.n_taps * g.width
        a, b, some = x, packed, True
        t.sum.n[0], t.sum.a[0] = box.n_samples, sample_step(g)
        for i in range(3):
            start = g.axis[i].start + box.out[i] * g.axis[i].stride + tap[i] * g.axis[i].step
            first = first_inside(start, g.axis[i].stride, 0, box.n_out[i])
            t.sum.n[i + 1] = first_inside(start, g.axis[i].stride, g.axis[i].n_in, box.n_out[i]) - first
            some = some and t.sum.n[i + 1] > 0
            t.sum.a[i + 1] = g.axis[i].stride * g.axis[i].x
            a += (start + first * g.axis[i].stride) * g.axis[i].x
            b += first * t.sum.b[i + 1]
        if not some:
            continue
        list_runs(&t)
        out = sums + index * g.width
        for i in range(2):
            t.next_a, t.next_out = tiles.P[i] * g.x_c, tiles.P[i] * t.out_p
            run_tiles(tiles.P[i], g.V, tiles.count[i], &t, a, b, out)
            a += tiles.count[i] * t.next_a
            out += tiles.count[i] * t.next_out


cdef void add_many_tap_tiles(const Gradient *g, const real *x, const Box *box, const real *packed,
                             real *scratch, real *sums) noexcept nogil:
    """The same with tiles of 14 (channel, tap) pairs, x zero-padded in scratch."""
    cdef Py_ssize_t size = scratch_size(g.axis, box, ANY_ORDER), pairs = g.n_c * g.n_taps
    cdef Py_ssize_t n, j, p, i, tap, tiles = ceil_div(pairs, max_p(g.V)), n_s = g.axis[2].n_taps, n_r = g.axis[1].n_taps
    cdef View view
    cdef Tile t
    for n in range(box.n_samples):
        view_in_scratch(g.axis, x + n * (sample_step(g)), g.x_c, box, ANY_ORDER, True, scratch + n * size, &view)
    dy_steps(g, box, &t)
    t.sum.n[0], t.sum.a[0] = box.n_samples, size
    for i in range(3):
        t.sum.n[i + 1], t.sum.a[i + 1] = box.n_out[i], view.out[i]
    list_runs(&t)
    t.out_p = g.width
    for i in range(tiles):
        j = part(pairs, tiles, i)
        for p in range(part(pairs, tiles, i + 1) - j):
            tap = (j + p) % g.n_taps
            t.off[p] = ((j + p) // g.n_taps * view.c + tap % n_s * view.tap[2] + tap // n_s % n_r * view.tap[1]
                        + tap // (n_s * n_r) * view.tap[0])
        run_tiles(part(pairs, tiles, i + 1) - j, g.V, 1, &t, scratch, packed, sums + j * g.width)


cdef void sum_chunks(const Gradient *g, Py_ssize_t unit, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last,
                     real *sums, real *scratch) noexcept nogil:
    """sums[c, tap, k] and, after them, sums[k] of the bias, over the chunks first .. last."""
    cdef Py_ssize_t group = unit // g.panels, k = unit % g.panels * g.width, c = block * g.block_channels, chunk
    cdef Py_ssize_t n_k = min(g.width, g.n_k - k), channels = min(g.block_channels, g.n_c - c)
    cdef const real *dy = g.dy + (group * g.n_k + k) * g.dy_c
    cdef const real *x
    cdef real *x_scratch = scratch + g.dy_size
    cdef bint finite
    cdef Box box
    memset(sums, 0, (channels * g.n_taps + 1) * g.width * sizeof(real))
    for chunk in range(first, last):
        gradient_box(g, chunk, &box)
        finite = pack_dy(g, dy, n_k, &box, scratch, sums + channels * g.n_taps * g.width)
        x = g.x + (box.sample // SAMPLES if g.in_blocks else box.sample) * g.x_n + (group * g.n_c + c) * g.x_c
        if many_taps(g) and finite:
            add_many_tap_tiles(g, x, &box, scratch, x_scratch, sums)
        else:
            add_one_tap_tiles(g, x, &box, channels, scratch, sums)


cdef inline void make_zeros_positive(real *cells, Py_ssize_t n) noexcept nogil:
    """However a zero came about: padded outputs may have been skipped, or added as zeros."""
    cdef Py_ssize_t i
    for i in range(n):
        cells[i] = cells[i] + <real>0


cdef void put_gradient(const Gradient *g, Py_ssize_t unit, Py_ssize_t block, real *sums) noexcept nogil:
    """dw[k, c, tap] = sums[c, tap, k]."""
    cdef Py_ssize_t group = unit // g.panels, k0 = unit % g.panels * g.width, c0 = block * g.block_channels
    cdef Py_ssize_t n_k = min(g.width, g.n_k - k0), channels = min(g.block_channels, g.n_c - c0), k, c, t, r, s
    cdef Py_ssize_t n_taps[3]
    cdef const real *row
    cdef real *dw = g.dw + (group * g.n_k + k0) * g.dw_k + c0 * g.dw_c
    cdef real *out
    for k in range(3):
        n_taps[k] = g.axis[k].n_taps
    make_zeros_positive(sums, (channels * g.n_taps + 1) * g.width)
    if g.db != NULL and block == 0:
        for k in range(n_k):
            g.db[group * g.n_k + k0 + k] = sums[channels * g.n_taps * g.width + k]
    if g.dw_c == g.n_taps and tap_step(g.axis, n_taps) == 1:
        copy_transposed(dw, g.dw_k, sums, g.width, channels * g.n_taps, n_k)
        return
    for k in range(n_k):
        row = sums + k
        for c in range(channels):
            for t in range(n_taps[0]):
                for r in range(n_taps[1]):
                    out = dw + k * g.dw_k + c * g.dw_c + t * g.axis[0].w + r * g.axis[1].w
                    for s in range(n_taps[2]):
                        out[s * g.axis[2].w] = row[0]
                        row += g.width


# ---------------------------------------------------------------- sharing out

cdef void slot_task(const Gradient *g, Py_ssize_t slot, real *sums, real *scratch) noexcept nogil:
    cdef Py_ssize_t unit, units = g.groups * g.panels
    for unit in range(units):
        sum_chunks(g, unit, 0, part(g.n_chunks, g.slots, slot), part(g.n_chunks, g.slots, slot + 1),
                   sums + slot * g.sums_size + unit * (g.sums_size // units), scratch)


cdef void sum_slots(Py_ssize_t slots, Py_ssize_t size, real *sums) noexcept nogil:
    """Into the first slot, as a balanced tree: neighbours, then pairs of neighbours, and so on."""
    cdef Py_ssize_t step = 1, slot, i
    while step < slots:
        for slot in range(ceil_div(slots, 2 * step)):
            if 2 * step * slot + step < slots:
                for i in range(size):
                    sums[2 * step * slot * size + i] += sums[(2 * slot + 1) * step * size + i]
        step *= 2


cdef void block_task(const Gradient *g, Py_ssize_t task, real *sums, real *scratch) noexcept nogil:
    cdef Py_ssize_t unit = task // g.blocks, block = task % g.blocks, slot
    cdef Py_ssize_t size = (min(g.block_channels, g.n_c - block * g.block_channels) * g.n_taps + 1) * g.width
    for slot in range(g.block_slots):
        sum_chunks(g, unit, block, part(g.n_chunks, g.block_slots, slot), part(g.n_chunks, g.block_slots, slot + 1),
                   sums + slot * size, scratch)
    sum_slots(g.block_slots, size, sums)
    put_gradient(g, unit, block, sums)


cdef int run_gradient(Gradient *g, int n_threads) noexcept nogil:
    """One phase on all threads; -1 when there is no memory for scratch."""
    cdef Py_ssize_t tasks, size, n_sums, i, task
    cdef real *memory
    cdef real *sums
    cdef real *scratch
    if is_depthwise_gradient(g):
        return run_depthwise_gradient(g, n_threads)
    plan_gradient(g, n_threads)
    tasks = g.slots if g.slots > 1 else g.groups * g.panels * g.blocks
    n_sums = g.slots if g.slots > 1 else n_threads * g.block_slots
    g.sums_size = (g.sums_size + LANES - 1) // LANES * LANES
    size = (g.dy_size + g.x_size + 2 * LANES + 63) // 64 * 64
    memory = <real *>malloc((n_sums * g.sums_size + n_threads * size + 128) * sizeof(real))
    if memory == NULL:
        return -1
    scratch = aligned(memory)
    sums = scratch + n_threads * size
    for i in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
        for task in range(part(tasks, n_threads, i), part(tasks, n_threads, i + 1)):
            if g.slots > 1:
                slot_task(g, task, sums, scratch + i * size)
            else:
                block_task(g, task, sums + i * g.block_slots * g.sums_size, scratch + i * size)
    if g.slots > 1:
        sum_slots(g.slots, g.sums_size, sums)
        for i in range(g.groups * g.panels):
            put_gradient(g, i, 0, sums + i * (g.sums_size // (g.groups * g.panels)))
    free(memory)
    return 0


cdef int run_gradient_phase(const Gradient *whole, const Py_ssize_t *table, Py_ssize_t index, int n_threads) noexcept nogil:
    cdef Gradient g = whole[0]
    cdef Axis *axis
    cdef int i
    phase_axes(table, index, g.axis)
    for i in range(3):
        axis = &g.axis[i]
        g.dy += axis.out_start * axis.y
        g.dw += axis.tap_start * axis.w + axis.tile * g.dw_tile[i]
        axis.y *= axis.out_step
        axis.w *= axis.tap_step
    if g.in_blocks and (g.n_k < SAMPLES or g.n_c < MANY_CHANNELS):
        return run_block_gradient(&g, n_threads)
    return run_gradient(&g, n_threads)


cdef int run_gradient_phases(const Gradient *whole, const Py_ssize_t *table, int n_threads) noexcept nogil:
    """Every phase has taps or tiles of its own, so many phases are shared out to the threads."""
    cdef Py_ssize_t n_phases = table[0] * table[1] * table[2], index
    cdef int failed[1]
    failed[0] = 0
    if n_threads > 1 and n_phases > FEW_PHASES:
        for index in prange(n_phases, num_threads=n_threads, schedule="static"):
            if run_gradient_phase(whole, table, index, 1):
                failed[0] = 1
    else:
        for index in range(n_phases):
            failed[0] = run_gradient_phase(whole, table, index, n_threads) or failed[0]
    return failed[0]


def conv_grad_weight(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray dw, cnp.ndarray db, cnp.ndarray table, Py_ssize_t groups,
                     bint channels_last, int n_threads, bint blocks=False, cnp.ndarray taps=None, tuple cells=None):
    """Write the gradient with respect to weight into dw and, unless None, to bias into db.

    ``table`` is `_geometry.table_of` the forward phases, one of them if there is db; taps that it does
    not list keep what dw holds. ``blocks``: dy and x are the first samples of blocks; with taps and cells, see `Pooled`, dy is the gradient of maxima.
    """
    cdef Gradient g
    cdef const Py_ssize_t *phases = <const Py_ssize_t *>cnp.PyArray_DATA(table)
    cdef Py_ssize_t real_size = sizeof(real)
    cdef int c_axis = x.ndim - 1 if channels_last else 1, k_axis, failed
    describe_spatial(g.axis, x, dy, channels_last)
    set_pooled(&g.pooled, taps, cells)
    k_axis = describe_weight(g.axis, dw, x.ndim - 2, g.dw_tile)
    g.batch, g.groups, g.in_blocks = x.shape[0], groups, blocks
    g.n_c, g.n_k = dw.shape[k_axis + 1], dw.shape[k_axis] // groups
    g.x_n, g.x_c = x.strides[0] // real_size, x.strides[c_axis] // real_size
    g.dy_n, g.dy_c = dy.strides[0] // real_size, dy.strides[c_axis] // real_size
    g.dw_k, g.dw_c = dw.strides[k_axis] // real_size, dw.strides[k_axis + 1] // real_size
    g.x, g.dy = <const real *>cnp.PyArray_DATA(x), <const real *>cnp.PyArray_DATA(dy)
    g.dw = <real *>cnp.PyArray_DATA(dw)
    g.db = <real *>cnp.PyArray_DATA(db) if db is not None else NULL
    with nogil:
        failed = run_gradient_phases(&g, phases, n_threads)
    if failed:
        raise MemoryError("cyconv: no memory for the scratch of the weight gradient")
