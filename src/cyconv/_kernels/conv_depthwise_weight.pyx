# Weight gradient of the depthwise convolution: lanes are channels, scalars of the other gradient
# become vectors.
#
#     dw[c, tap] = sum over n, o of  dy[n, c, o] * x[n, c, cell(o, tap)]
#
# LANES channels of a chunk of outputs are packed as [n, o, c], those of x with their zero border; a tile
# then adds to up to 9 taps at once. The order of a sum is that of conv_weight.pyx: all outputs of a slot,
# then the slots in a tree. Threads share out slots and units, which are blocks of channels or, where these
# are few, some tiles of a block. A thread goes through its units step by step of the outputs, as their
# channels may share lines of cache.

cdef enum:
    MAX_TAPS = 9               # of a tile: 9 chains of additions keep the FMA units busy

cdef struct DepthGradient:
    Gradient g                           # as of LANES groups with dy and dw of one of their kernels
    Py_ssize_t kernels, blocks           # kernels of a channel, blocks of channels
    Py_ssize_t tiles, tile_parts         # of the taps; units that share them
    Py_ssize_t unit_parts                # tasks that share the units of a slot
    Py_ssize_t block_sums                # reals of one block in one slot
    bint nine                            # see conv_depthwise_weight_nine.pyx


cdef inline bint is_depthwise_gradient(const Gradient *g) noexcept nogil:
    return g.n_c == 1 and g.groups > g.n_k and not g.in_blocks


cdef inline void tap_tile(const int P, const Tile *t, const real *x, const real *dy, real *sums) noexcept nogil:
    """sums[p] += sum over i0, i1, i2, i3 of  x[off[p] + i . a] * dy[i . b], vectors all of them."""
    cdef vec acc[MAX_TAPS]
    cdef vec e
    cdef Py_ssize_t i0, i1, i2, n3 = t.sum.n[3], a3 = t.sum.a[3], b3 = t.sum.b[3]
    cdef const real *px
    cdef const real *pe
    cdef int p
    for p in range(P):
        acc[p] = load(sums + p * LANES)
    for i0 in range(t.sum.n[0]):
        for i1 in range(t.sum.n[1]):
            for i2 in range(t.sum.n[2]):
                px = x + i0 * t.sum.a[0] + i1 * t.sum.a[1] + i2 * t.sum.a[2]
                pe = dy + i0 * t.sum.b[0] + i1 * t.sum.b[1] + i2 * t.sum.b[2]
                for _ in range(n3):
                    e = load(pe)
                    reread(&t)
                    for p in range(P):
                        acc[p] = acc[p] + load(px + t.off[p]) * e
                    px += a3
                    pe += b3
    for p in range(P):
        store(sums + p * LANES, acc[p] + splat(0))     # as in `tile`: no -0.0


cdef void run_tap_tile(int P, const Tile *t, const real *x, const real *dy, real *sums) noexcept nogil:
    if P == 1: tap_tile(1, t, x, dy, sums)
    elif P == 2: tap_tile(2, t, x, dy, sums)
    elif P == 3: tap_tile(3, t, x, dy, sums)
    elif P == 4: tap_tile(4, t, x, dy, sums)
    elif P == 5: tap_tile(5, t, x, dy, sums)
    elif P == 6: tap_tile(6, t, x, dy, sums)
    elif P == 7: tap_tile(7, t, x, dy, sums)
    elif P == 8: tap_tile(8, t, x, dy, sums)
    elif P == 9: tap_tile(9, t, x, dy, sums)


cdef void add_tap_tiles(const DepthGradient *d, Py_ssize_t first, Py_ssize_t last, const Box *box, const View *view,
                        Py_ssize_t x_size, const real *dy, bint finite, real *sums) noexcept nogil:
    """Add the products of a chunk to the tiles first .. last."""
    cdef const Gradient *g = &d.g
    cdef Py_ssize_t tile, tap, n, p, start, skip
    cdef Py_ssize_t at[3]
    cdef const real *x
    cdef const real *e
    cdef Tile t
    cdef Sum whole
    cdef int i
    whole.n[0], whole.a[0] = box.n_samples, x_size
    whole.b[3] = LANES
    for i in range(2, -1, -1):
        whole.n[i + 1], whole.a[i + 1], whole.b[i] = box.n_out[i], view.out[i], whole.b[i + 1] * box.n_out[i]
    for tile in range(first, last):
        tap = part(g.n_taps, d.tiles, tile)
        n = part(g.n_taps, d.tiles, tile + 1) - tap
        t.sum = whole
        if finite:
            merge_axes(&t.sum)
            for p in range(n):
                t.off[p] = tap_offset(g, view, tap + p, at)
            run_tap_tile(<int>n, &t, view.data, dy, sums + tap * LANES)
            continue
        for p in range(tap, tap + n):        # a border of zeros times infinity would be NaN: leave it out
            x, e, t.sum = view.data + tap_offset(g, view, p, at), dy, whole
            t.off[0] = 0
            for i in range(3):
                start = g.axis[i].start + box.out[i] * g.axis[i].stride + at[i] * g.axis[i].step
                skip = first_inside(start, g.axis[i].stride, 0, box.n_out[i])
                t.sum.n[i + 1] = max(0, first_inside(start, g.axis[i].stride, g.axis[i].n_in, box.n_out[i]) - skip)
                x += skip * t.sum.a[i + 1]
                e += skip * t.sum.b[i + 1]
            run_tap_tile(1, &t, x, e, sums + p * LANES)


cdef void add_to_unit(const DepthGradient *d, Py_ssize_t unit, const Box *outputs, real *sums, real *scratch) noexcept nogil:
    """Add the products of some outputs to sums[tap, c] of a unit and, after all taps, to sums[c] of the bias."""
    cdef Gradient g = d.g
    cdef Py_ssize_t block = unit // d.tile_parts, c = first_channel(d, block), n = min(g.groups, <Py_ssize_t>LANES)
    cdef Py_ssize_t last = last_tile(d, unit), x_size, i
    cdef const real *x = g.x + c * g.x_c
    cdef const real *dy = g.dy + (c * d.kernels + block % d.kernels) * d.g.dy_c
    cdef real other[LANES]
    cdef real *cells = scratch + g.dy_size
    cdef bint finite
    cdef View view
    cdef Box box = outputs[0]
    g.dy_c *= d.kernels
    memset(other, 0, sizeof(other))
    finite = pack_dy(&g, dy, n, &box, scratch, sums + g.n_taps * LANES if last == d.tiles else other)
    box.n_channels = n
    x_size = scratch_size(g.axis, &box, CHANNELS_ADJACENT)
    for i in range(box.n_samples):
        view_in_scratch(g.axis, x + (box.sample + i) * g.x_n, g.x_c, &box, CHANNELS_ADJACENT, True, cells + i * x_size, &view)
    view.data = cells
    add_tap_tiles(d, first_tile(d, unit), last, &box, &view, x_size, scratch, finite, sums)


cdef inline Py_ssize_t first_tile(const DepthGradient *d, Py_ssize_t unit) noexcept nogil:
    return part(d.tiles, d.tile_parts, unit % d.tile_parts)


cdef inline Py_ssize_t last_tile(const DepthGradient *d, Py_ssize_t unit) noexcept nogil:
    return part(d.tiles, d.tile_parts, unit % d.tile_parts + 1)


cdef inline Py_ssize_t first_channel(const DepthGradient *d, Py_ssize_t block) noexcept nogil:
    """A last block ends with the channels."""
    return max(0, min(block // d.kernels * LANES, d.g.groups - LANES))


cdef void put_block(const DepthGradient *d, Py_ssize_t block, real *sums) noexcept nogil:
    """dw[k, tap] = sums[tap, c], and db."""
    cdef const Gradient *g = &d.g
    cdef Py_ssize_t c = first_channel(d, block)
    cdef Py_ssize_t c_end = min(g.groups, (block // d.kernels + 1) * LANES), k, tap, s, r, lane
    make_zeros_positive(sums, d.block_sums)
    for lane in range(block // d.kernels * LANES - c, c_end - c):
        k = (c + lane) * d.kernels + block % d.kernels
        for tap in range(g.n_taps):
            s, r = tap % g.axis[2].n_taps, tap // g.axis[2].n_taps
            g.dw[k * g.dw_k + r // g.axis[1].n_taps * g.axis[0].w + r % g.axis[1].n_taps * g.axis[1].w + s * g.axis[2].w] = (
                sums[tap * LANES + lane])
        if g.db != NULL:
            g.db[k] = sums[g.n_taps * LANES + lane]


cdef void plan_depthwise_gradient(const Gradient *g, int n_threads, DepthGradient *d) noexcept nogil:
    cdef Box box
    d.g = g[0]
    plan_gradient(&d.g, n_threads)
    d.g.V, d.g.width = 1, LANES
    d.kernels = g.n_k
    d.blocks = ceil_div(g.groups, LANES) * d.kernels
    d.tiles = ceil_div(d.g.n_taps, MAX_TAPS)
    d.tile_parts = clip(ceil_div(n_threads, d.blocks * d.g.slots), 1, d.tiles)
    d.unit_parts = clip(ceil_div(n_threads, d.g.slots), 1, d.blocks * d.tile_parts)
    set_steps(&d.g, g.groups if g.x_c == 1 else 0)
    d.block_sums = (d.g.n_taps + 1) * LANES
    d.g.sums_size = d.blocks * d.block_sums
    gradient_box(&d.g, 0, &box)
    box.n_channels = LANES
    d.g.dy_size = d.g.chunk[0] * d.g.chunk[1] * d.g.chunk[2] * d.g.chunk[3] * LANES
    d.g.x_size = d.g.chunk[0] * scratch_size(d.g.axis, &box, CHANNELS_ADJACENT)
    d.nine = is_nine(d)
    if d.nine:
        if d.g.step_axis == 3:           # rows are not cut
            d.g.step = d.g.chunk[3]
        d.g.dy_size = ROWS_TOGETHER * d.g.axis[2].n_out * LANES
        d.g.x_size = rows_of_ring(&d.g.axis[1]) * d.g.axis[2].n_in * LANES


cdef void depthwise_gradient_task(const DepthGradient *d, Py_ssize_t task, real *sums, real *scratch) noexcept nogil:
    """The sums of some units in one slot."""
    cdef const Gradient *g = &d.g
    cdef Py_ssize_t slot = task // d.unit_parts, units = d.blocks * d.tile_parts, chunk, unit, i
    cdef Py_ssize_t first = part(units, d.unit_parts, task % d.unit_parts)
    cdef Py_ssize_t last = part(units, d.unit_parts, task % d.unit_parts + 1)
    cdef Box box, some
    sums += slot * g.sums_size
    for chunk in range(part(g.n_chunks, g.slots, slot), part(g.n_chunks, g.slots, slot + 1)):
        gradient_box(g, chunk, &box)
        for i in range(n_steps(g, &box)):
            some = step_of(g, &box, i)
            for unit in range(first, last):
                if d.nine:
                    add_nine_to_unit(d, unit, &some, sums + unit // d.tile_parts * d.block_sums, scratch)
                else:
                    add_to_unit(d, unit, &some, sums + unit // d.tile_parts * d.block_sums, scratch)


cdef int run_depthwise_gradient(const Gradient *g, int n_threads) noexcept nogil:
    """One phase on all threads; -1 when there is no memory for scratch."""
    cdef DepthGradient d
    cdef Py_ssize_t tasks, size, i, task
    cdef real *memory
    cdef real *scratch
    cdef real *sums
    plan_depthwise_gradient(g, n_threads, &d)
    tasks = d.g.slots * d.unit_parts
    size = (d.g.dy_size + d.g.x_size + 2 * LANES + 63) // 64 * 64
    memory = <real *>malloc((d.g.slots * d.g.sums_size + n_threads * size + 128) * sizeof(real))
    if memory == NULL:
        return -1
    scratch = aligned(memory)
    sums = scratch + n_threads * size
    memset(sums, 0, d.g.slots * d.g.sums_size * sizeof(real))
    for i in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
        for task in range(part(tasks, n_threads, i), part(tasks, n_threads, i + 1)):
            depthwise_gradient_task(&d, task, sums, scratch + i * size)
    sum_slots(d.g.slots, d.g.sums_size, sums)
    for i in range(d.blocks):
        put_block(&d, i, sums + i * d.block_sums)
    free(memory)
    return 0
