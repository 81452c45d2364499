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
# Slots depend on shapes alone. Loop nest of one block:
#     chunk, step                    outputs, whose dy is packed
#         tap
#             panel                  V vectors of output channels
#                 tile

cdef enum:
    CHUNK = 512                # outputs whose dy is packed at once,
    MIN_CHUNK = 256            # or down to this where they would make a single chunk
    MAX_SLOTS = 16
    BLOCK_SLOTS = 2
    SLOT_ELEMENTS = 1 << 14    # largest gradient, in elements, that is worth slots
    SUM_BYTES = 1 << 18        # sums of one block and its dy
    MANY_CHANNELS = 7          # from here a tile holds one tap
    X_BYTES = 1 << 17          # of channels that follow each other, for the outputs that are summed at once

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
    Py_ssize_t blocks[2]                 # of panels and of channels: how many,
    Py_ssize_t block_panels, block_channels      # and of how many each
    Py_ssize_t step_axis, step           # of a chunk that is summed at once: part of this axis, all of the others
    Py_ssize_t sums_size, dy_size, x_size

cdef struct WeightBlock:
    # Of one group: panels of output channels times channels, whose weights are summed at once.
    Py_ssize_t group, panel, n_panels, channel, n_channels
    Py_ssize_t size                      # of one panel: sums[c, tap, k] and, after them, sums[k] of the bias


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
    g.dy_size = g.chunk[0] * g.chunk[1] * g.chunk[2] * g.chunk[3] * g.width
    cut_weights(g, n_threads)
    if g.slots > 1:
        g.sums_size = g.groups * g.panels * (g.n_c * g.n_taps + g.blocks[1]) * g.width
    else:
        g.sums_size = g.block_panels * (g.block_channels * g.n_taps + 1) * g.width
    g.x_size = 0
    if many_taps(g):
        gradient_box(g, 0, &box)
        g.x_size = g.chunk[0] * scratch_size(g.axis, &box, ANY_ORDER)
    set_steps(g, g.block_channels if g.x_c == 1 and not g.in_blocks and not many_taps(g) else 0)


cdef void set_steps(Gradient *g, Py_ssize_t channels) noexcept nogil:
    """Cut the outermost axis of a chunk where ``channels`` follow each other: few of them are read at a time, and
    all should stay in cache until the last ones have been."""
    cdef Py_ssize_t size = channels * <Py_ssize_t>sizeof(real), i
    g.step_axis = 0
    while g.step_axis < 3 and g.chunk[g.step_axis] == 1:
        g.step_axis += 1
    g.step = g.chunk[g.step_axis]
    for i in range(4):
        size *= (1 if i == g.step_axis else g.chunk[i]) * (1 if i == 0 else min(g.axis[i - 1].stride, g.axis[i - 1].n_in))
    if size > 0:
        g.step = clip(X_BYTES // size, 1, g.step)


cdef inline Py_ssize_t n_steps(const Gradient *g, const Box *box) noexcept nogil:
    return ceil_div(box.n_samples if g.step_axis == 0 else box.n_out[g.step_axis - 1], g.step)


cdef inline Box step_of(const Gradient *g, const Box *box, Py_ssize_t index) noexcept nogil:
    """Part of the outputs of a chunk."""
    cdef Box some = box[0]
    cdef Py_ssize_t skip = index * g.step
    if g.step_axis == 0:
        some.sample += skip
        some.n_samples = min(g.step, box.n_samples - skip)
    else:
        some.out[g.step_axis - 1] += skip
        some.n_out[g.step_axis - 1] = min(g.step, box.n_out[g.step_axis - 1] - skip)
    return some


cdef void cut_weights(Gradient *g, int n_threads) noexcept nogil:
    """Halve the longer side of a block until its sums and dy fit in cache and all threads have one.

    A block packs its dy and copies its x, so both are read as often as there are blocks along the other side.
    """
    cdef Py_ssize_t most = SUM_BYTES // <Py_ssize_t>sizeof(real)
    cdef bint fits
    g.block_panels, g.block_channels = g.panels, g.n_c
    while True:
        g.blocks[0], g.blocks[1] = ceil_div(g.panels, g.block_panels), ceil_div(g.n_c, g.block_channels)
        fits = g.block_panels * (g.block_channels * g.n_taps * g.width + g.dy_size) <= most
        if fits and (g.slots > 1 or n_blocks(g) >= n_threads):
            break
        if g.block_panels > 1 and (g.block_panels * g.width >= g.block_channels or many_taps(g)):
            g.block_panels = ceil_div(g.block_panels, 2)
        elif g.block_channels > 1 and not many_taps(g):
            g.block_channels = ceil_div(g.block_channels, 2)
        else:
            break


cdef inline Py_ssize_t n_blocks(const Gradient *g) noexcept nogil:
    return g.groups * g.blocks[0] * g.blocks[1]


cdef inline void locate_block(const Gradient *g, Py_ssize_t index, WeightBlock *b) noexcept nogil:
    b.channel = index % g.blocks[1] * g.block_channels
    b.panel = index // g.blocks[1] % g.blocks[0] * g.block_panels
    b.group = index // g.blocks[1] // g.blocks[0]
    b.n_channels = min(g.block_channels, g.n_c - b.channel)
    b.n_panels = min(g.block_panels, g.panels - b.panel)
    b.size = (b.n_channels * g.n_taps + 1) * g.width


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


# ---------------------------------------------------------------- summing

cdef inline Py_ssize_t tap_offset(const Gradient *g, const View *view, Py_ssize_t index, Py_ssize_t *tap) noexcept nogil:
    """Where a tap of the first output is, and its place along each axis."""
    cdef Py_ssize_t offset = 0
    cdef int i
    for i in range(2, -1, -1):
        tap[i] = index % g.axis[i].n_taps
        index //= g.axis[i].n_taps
        offset += tap[i] * view.tap[i]
    return offset


cdef inline void dy_steps(const Gradient *g, const Box *box, Tile *t) noexcept nogil:
    t.sum.b[3] = g.width
    t.sum.b[2] = box.n_out[2] * t.sum.b[3]
    t.sum.b[1] = box.n_out[1] * t.sum.b[2]
    t.sum.b[0] = box.n_out[0] * t.sum.b[1]
    start_tile(t, False, g.x_c)


cdef void add_one_tap_tiles(const Gradient *g, const WeightBlock *b, const real *x, const Box *box,
                            const real *packed, real *sums) noexcept nogil:
    """sums[c, tap, k] += the products of some outputs, tap by tap, up to 14 channels at once."""
    cdef Py_ssize_t tap[3]
    cdef Py_ssize_t first, start, i, j, index
    cdef int widest = max_p(g.V) if g.V > 1 else MAX_P_1       # 8 channels in one tile are faster than in two of 4
    cdef Split tiles = split(b.n_channels, widest if g.x_c * sizeof(real) % 4096 else min(8, widest), g.V)
    cdef real *out
    cdef const real *dy
    cdef const real *at
    cdef bint some
    cdef View view
    cdef Tile t
    view_in_place(g.axis, x, g.x_c, box, &view)
    for index in range(g.n_taps):
        dy_steps(g, box, &t)
        t.out_p = g.n_taps * g.width
        x, dy, some = view.data + tap_offset(g, &view, index, tap), packed, True
        t.sum.n[0], t.sum.a[0] = box.n_samples, sample_step(g)
        for i in range(3):
            start = g.axis[i].start + box.out[i] * g.axis[i].stride + tap[i] * g.axis[i].step
            first = first_inside(start, g.axis[i].stride, 0, box.n_out[i])
            t.sum.n[i + 1] = first_inside(start, g.axis[i].stride, g.axis[i].n_in, box.n_out[i]) - first
            some = some and t.sum.n[i + 1] > 0
            t.sum.a[i + 1] = view.out[i]
            x += first * view.out[i]
            dy += first * t.sum.b[i + 1]
        if not some:
            continue
        list_runs(&t)
        for j in range(b.n_panels):
            at, out = x, sums + j * b.size + index * g.width
            for i in range(2):
                t.next_a, t.next_out = tiles.P[i] * g.x_c, tiles.P[i] * t.out_p
                run_tiles(tiles.P[i], g.V, tiles.count[i], &t, at, dy + j * g.dy_size, out)
                at += tiles.count[i] * t.next_a
                out += tiles.count[i] * t.next_out


cdef void add_many_tap_tiles(const Gradient *g, const WeightBlock *b, const real *x, const Box *box, const real *packed,
                             real *scratch, real *sums) noexcept nogil:
    """The same with tiles of 14 (channel, tap) pairs, x zero-padded in scratch."""
    cdef Py_ssize_t size = scratch_size(g.axis, box, ANY_ORDER), pairs = g.n_c * g.n_taps
    cdef Py_ssize_t n, j, p, i, first, tiles = ceil_div(pairs, max_p(g.V))
    cdef Py_ssize_t at[3]
    cdef View view
    cdef Tile t
    for n in range(box.n_samples):
        view_in_scratch(g.axis, x + n * sample_step(g), g.x_c, box, ANY_ORDER, True, scratch + n * size, &view)
    dy_steps(g, box, &t)
    t.sum.n[0], t.sum.a[0] = box.n_samples, size
    for i in range(3):
        t.sum.n[i + 1], t.sum.a[i + 1] = box.n_out[i], view.out[i]
    list_runs(&t)
    t.out_p, t.next_b, t.next_out = g.width, g.dy_size, b.size
    for i in range(tiles):
        j = part(pairs, tiles, i)
        first = j // g.n_taps * view.c + tap_offset(g, &view, j % g.n_taps, at)
        for p in range(part(pairs, tiles, i + 1) - j):
            t.off[p] = (j + p) // g.n_taps * view.c + tap_offset(g, &view, (j + p) % g.n_taps, at) - first
        run_tiles(part(pairs, tiles, i + 1) - j, g.V, b.n_panels, &t, scratch + first, packed, sums + j * g.width)


cdef void add_outputs(const Gradient *g, const WeightBlock *b, const Box *box, real *sums, real *scratch) noexcept nogil:
    """Add the products of some outputs to the sums of every panel of a block."""
    cdef const real *dy = g.dy + (b.group * g.n_k + b.panel * g.width) * g.dy_c
    cdef const real *x = g.x + (b.group * g.n_c + b.channel) * g.x_c
    cdef bint finite = True
    cdef Py_ssize_t i
    for i in range(b.n_panels):
        finite &= pack_dy(g, dy + i * g.width * g.dy_c, min(g.width, g.n_k - (b.panel + i) * g.width), box,
                          scratch + i * g.dy_size, sums + (i + 1) * b.size - g.width)
    x += (box.sample // SAMPLES if g.in_blocks else box.sample) * g.x_n
    if many_taps(g) and finite:
        add_many_tap_tiles(g, b, x, box, scratch, scratch + g.block_panels * g.dy_size, sums)
    else:
        add_one_tap_tiles(g, b, x, box, scratch, sums)


cdef void sum_chunks(const Gradient *g, const WeightBlock *b, Py_ssize_t first, Py_ssize_t last, real *sums,
                     real *scratch) noexcept nogil:
    """The sums of a block over the chunks first .. last."""
    cdef Py_ssize_t chunk, i
    cdef Box box, some
    memset(sums, 0, b.n_panels * b.size * sizeof(real))
    for chunk in range(first, last):
        gradient_box(g, chunk, &box)
        for i in range(n_steps(g, &box)):
            some = step_of(g, &box, i)
            add_outputs(g, b, &some, sums, scratch)


cdef inline void make_zeros_positive(real *cells, Py_ssize_t n) noexcept nogil:
    """However a zero came about: padded outputs may have been skipped, or added as zeros."""
    cdef Py_ssize_t i
    for i in range(n):
        cells[i] = cells[i] + <real>0


cdef void put_weights(const Gradient *g, const WeightBlock *b, Py_ssize_t panel, real *sums) noexcept nogil:
    """dw[k, c, tap] = sums[c, tap, k]."""
    cdef Py_ssize_t k0 = b.group * g.n_k + panel * g.width, n_k = min(g.width, g.n_k - panel * g.width)
    cdef Py_ssize_t n_sums = b.n_channels * g.n_taps, k, c, t, r, s
    cdef Py_ssize_t n_taps[3]
    cdef const real *row
    cdef real *dw = g.dw + k0 * g.dw_k + b.channel * g.dw_c
    cdef real *out
    for k in range(3):
        n_taps[k] = g.axis[k].n_taps
    make_zeros_positive(sums, b.size)
    if g.db != NULL and b.channel == 0:
        memcpy(g.db + k0, sums + n_sums * g.width, n_k * sizeof(real))
    if g.dw_c == g.n_taps and tap_step(g.axis, n_taps) == 1:
        copy_transposed(dw, g.dw_k, sums, g.width, n_sums, n_k)
        return
    for k in range(n_k):
        row = sums + k
        for c in range(b.n_channels):
            for t in range(n_taps[0]):
                for r in range(n_taps[1]):
                    out = dw + k * g.dw_k + c * g.dw_c + t * g.axis[0].w + r * g.axis[1].w
                    for s in range(n_taps[2]):
                        out[s * g.axis[2].w] = row[0]
                        row += g.width


cdef void put_gradient(const Gradient *g, const WeightBlock *b, real *sums) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(b.n_panels):
        put_weights(g, b, b.panel + i, sums + i * b.size)


# ---------------------------------------------------------------- sharing out

cdef void slot_task(const Gradient *g, Py_ssize_t slot, real *sums, real *scratch) noexcept nogil:
    cdef Py_ssize_t index
    cdef WeightBlock b
    sums += slot * g.sums_size
    for index in range(n_blocks(g)):
        locate_block(g, index, &b)
        sum_chunks(g, &b, part(g.n_chunks, g.slots, slot), part(g.n_chunks, g.slots, slot + 1), sums, scratch)
        sums += b.n_panels * b.size


cdef void sum_slots(Py_ssize_t slots, Py_ssize_t size, real *sums) noexcept nogil:
    """Into the first slot, as a balanced tree: neighbours, then pairs of neighbours, and so on."""
    cdef Py_ssize_t step = 1, slot, i
    while step < slots:
        for slot in range(ceil_div(slots, 2 * step)):
            if 2 * step * slot + step < slots:
                for i in range(size):
                    sums[2 * step * slot * size + i] += sums[(2 * slot + 1) * step * size + i]
        step *= 2


cdef void block_task(const Gradient *g, Py_ssize_t index, real *sums, real *scratch) noexcept nogil:
    cdef Py_ssize_t size, slot
    cdef WeightBlock b
    locate_block(g, index, &b)
    size = b.n_panels * b.size
    for slot in range(g.block_slots):
        sum_chunks(g, &b, part(g.n_chunks, g.block_slots, slot), part(g.n_chunks, g.block_slots, slot + 1),
                   sums + slot * size, scratch)
    sum_slots(g.block_slots, size, sums)
    put_gradient(g, &b, sums)


cdef int run_gradient(Gradient *g, int n_threads) noexcept nogil:
    """One phase on all threads; -1 when there is no memory for scratch."""
    cdef Py_ssize_t tasks, size, n_sums, i, task
    cdef real *memory
    cdef real *sums
    cdef real *scratch
    cdef WeightBlock block
    if is_depthwise_gradient(g):
        return run_depthwise_gradient(g, n_threads)
    plan_gradient(g, n_threads)
    tasks = g.slots if g.slots > 1 else n_blocks(g)
    n_sums = g.slots if g.slots > 1 else n_threads * g.block_slots
    g.sums_size = (g.sums_size + LANES - 1) // LANES * LANES
    size = (g.block_panels * g.dy_size + g.x_size + 2 * LANES + 63) // 64 * 64
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
        for i in range(n_blocks(g)):
            locate_block(g, i, &block)
            put_gradient(g, &block, sums)
            sums += block.n_panels * block.size
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
    g.x_n, g.x_c = x.strides[0] // real_size, channel_step(x, c_axis)
    g.dy_n, g.dy_c = dy.strides[0] // real_size, channel_step(dy, c_axis)
    g.dw_k, g.dw_c = dw.strides[k_axis] // real_size, dw.strides[k_axis + 1] // real_size
    g.x, g.dy = <const real *>cnp.PyArray_DATA(x), <const real *>cnp.PyArray_DATA(dy)
    g.dw = <real *>cnp.PyArray_DATA(dw)
    g.db = <real *>cnp.PyArray_DATA(db) if db is not None else NULL
    with nogil:
        failed = run_gradient_phases(&g, phases, n_threads)
    if failed:
        raise MemoryError("cyconv: no memory for the scratch of the weight gradient")
