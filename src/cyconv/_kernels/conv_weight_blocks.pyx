# Weight and bias gradients from blocks of samples.
#
#     dw[k, c, t, r, s] = sum over n, o of  dy[n, k, o] * x[n, c, cell(o, (t, r, s))]
#
# Lanes are samples, so nothing is transposed: one tile multiplies up to 4 channels of dy by up to 6
# (channel, tap) pairs of x, both as vectors, over the outputs of a chunk. Both come to scratch, the outputs
# of a channel side by side: dy spread over them if it is the gradient of maxima, x with its border of zeros.
# Layers of many channels and filters are faster in conv_weight.pyx, whose sums are not 16 times as large.
#
# Loop nest of one thread: task = slot, output channels, channels; then block, chunk, lot of 4 output
# channels, lot of pairs, outputs, pair. Order of a sum: blocks and outputs of a slot in row-major order, for
# each of the SAMPLES places of a sample; then the places in a balanced tree, then the slots. It depends on
# shapes alone.

cdef enum:
    CHUNK_OUTPUTS = 64    # whose dy of 4 channels, and the x of one, stay in first-level cache
    SUM_BLOCKS = 4096     # sums of a task, 64 bytes each, that stay in second-level cache with
    CHUNK_CHANNELS = 16   # so many channels of x and twice as many of dy of a chunk
    SAMPLE_SLOTS = 16
    SHARED_SUMS = 1 << 16 # largest gradient that is worth slots
    MAX_LEFTS = 4         # channels of dy of a tile,
    MAX_RIGHTS = 6        # and pairs

cdef extern from "simd.h" nogil:
    enum: PRODUCTS
    void sum_rows(vec *rows)

cdef struct Products:
    Py_ssize_t n                    # outputs of the chunk, whose dy follow each other
    const Py_ssize_t *cells         # where x is for each
    Py_ssize_t dy_off[MAX_LEFTS]    # of the channels
    Py_ssize_t x_off[MAX_RIGHTS]    # of the pairs, whose sums follow each other
    Py_ssize_t sum_k                # between the sums of two channels of dy


cdef inline void products(const int A, const int B, const Products *t, const real *dy, const real *x, real *sums) noexcept nogil:
    """sums[a, b] += dy[a] * x[b], place by place of the block."""
    cdef vec acc[PRODUCTS]
    cdef vec held[MAX_RIGHTS]
    cdef vec other
    cdef Py_ssize_t v, i
    cdef const Py_ssize_t *cells = t.cells
    cdef const real *pdy
    cdef const real *px[MAX_RIGHTS]
    cdef int a, b
    for v in range(SAMPLES // LANES):
        for a in range(A):
            for b in range(B):
                acc[a * B + b] = load(sums + a * t.sum_k + b * SAMPLES)
        pdy = dy
        for b in range(B):
            px[b] = x + t.x_off[b]
        for i in range(t.n):
            if A < B:
                for a in range(A):
                    held[a] = load(pdy + t.dy_off[a])
                for b in range(B):
                    other = load(px[b] + cells[i])
                    for a in range(A):
                        acc[a * B + b] = acc[a * B + b] + held[a] * other
            else:
                for b in range(B):
                    held[b] = load(px[b] + cells[i])
                for a in range(A):
                    other = load(pdy + t.dy_off[a])
                    for b in range(B):
                        acc[a * B + b] = acc[a * B + b] + other * held[b]
            pdy += SAMPLES
        for a in range(A):
            for b in range(B):
                store(sums + a * t.sum_k + b * SAMPLES, acc[a * B + b] + splat(0))     # as in `tile`: no -0.0
        dy += LANES
        x += LANES
        sums += LANES


cdef inline void products_with(const int B, int A, const Products *t, const real *dy, const real *x, real *sums) noexcept nogil:
    # As in tile.pyx: one body per size, and none for those that do not fit.
    if A == 1: products(1, B, t, dy, x, sums)
    elif A == 2: products(2, B, t, dy, x, sums)
    elif A == 3 and 3 * B <= PRODUCTS: products(3, B, t, dy, x, sums)
    elif A == 4 and 4 * B <= PRODUCTS: products(4, B, t, dy, x, sums)


cdef void run_products(int A, int B, const Products *t, const real *dy, const real *x, real *sums) noexcept nogil:
    if B == 1: products_with(1, A, t, dy, x, sums)
    elif B == 2: products_with(2, A, t, dy, x, sums)
    elif B == 3: products_with(3, A, t, dy, x, sums)
    elif B == 4: products_with(4, A, t, dy, x, sums)
    elif B == 5: products_with(5, A, t, dy, x, sums)
    elif B == 6: products_with(6, A, t, dy, x, sums)


# ---------------------------------------------------------------- one chunk

cdef struct Slab:
    # The cells of x that the outputs of a chunk read, (channels, D, H, W, SAMPLES) with zeros where there are none.
    Py_ssize_t first[3]             # cell of each axis
    Py_ssize_t n[3]
    Py_ssize_t step[3]              # reals from one to the next
    Py_ssize_t block, channel

cdef struct Layout:
    # What chunks of the same shape share: of so many outputs of samples and axes.
    Py_ssize_t n[4]
    Slab slab
    Py_ssize_t cells[CHUNK_OUTPUTS]
    Py_ssize_t *pairs


cdef inline Py_ssize_t cells_of_chunk(const Axis *axis, Py_ssize_t n_out) noexcept nogil:
    return (n_out - 1) * axis.stride + (axis.n_taps - 1) * axis.step + 1


cdef void copy_x(const Gradient *g, const Box *box, Py_ssize_t channel, Py_ssize_t channels, Slab *slab, real *out) noexcept nogil:
    cdef const Axis *axes = &g.axis[0]
    cdef const real *x
    cdef Py_ssize_t c, d, h, w, i, left, right
    for i in range(3):
        slab.first[i] = axes[i].start + box.out[i] * axes[i].stride
    left = clip(-slab.first[2], 0, slab.n[2])
    right = clip(axes[2].n_in - slab.first[2], left, slab.n[2])
    for c in range(channels * box.n_samples):
        for d in range(slab.first[0], slab.first[0] + slab.n[0]):
            for h in range(slab.first[1], slab.first[1] + slab.n[1]):
                if not (0 <= d < axes[0].n_in and 0 <= h < axes[1].n_in):
                    memset(out, 0, slab.step[1] * sizeof(real))
                    out += slab.step[1]
                    continue
                x = (g.x + (box.sample + c % box.n_samples) * g.x_n + (channel + c // box.n_samples) * g.x_c + d * axes[0].x
                     + h * axes[1].x + (slab.first[2] + left) * axes[2].x)
                memset(out, 0, left * SAMPLES * sizeof(real))
                for w in range(left, right):
                    for i in range(SAMPLES // LANES):
                        store(out + w * SAMPLES + i * LANES, load(x + i * LANES))
                    x += axes[2].x
                memset(out + right * SAMPLES, 0, (slab.n[2] - right) * SAMPLES * sizeof(real))
                out += slab.step[1]


cdef void copy_dy(const Gradient *g, const Box *box, Py_ssize_t channel, Py_ssize_t channels, Py_ssize_t pitch, real *out) noexcept nogil:
    """out[channel, block, o]"""
    cdef const real *dy = g.dy
    cdef const unsigned char *taps = g.pooled.taps
    cdef Py_ssize_t dy_c = g.dy_c, n, d, h, w, c, v, at, name = 0
    for n in range(box.sample, box.sample + box.n_samples):
        for d in range(box.out[0], box.out[0] + box.n_out[0]):
            for h in range(box.out[1], box.out[1] + box.n_out[1]):
                for w in range(box.out[2], box.out[2] + box.n_out[2]):
                    at = place_of_dy(g, d, h, w, &name) + n * g.dy_n + channel * dy_c
                    for c in range(channels):
                        for v in range(SAMPLES // LANES):
                            store(out + c * pitch + v * LANES, load_dy(dy, taps, at + v * LANES, name))
                        at += dy_c
                    out += SAMPLES


cdef void place_outputs(const Gradient *g, const Box *box, const Slab *slab, Py_ssize_t *cells) noexcept nogil:
    """Where in a slab the first tap of each output of a chunk is."""
    cdef Py_ssize_t n, d, h, w
    for n in range(box.n_samples):
        for d in range(box.n_out[0]):
            for h in range(box.n_out[1]):
                for w in range(box.n_out[2]):
                    cells[0] = (n * slab.block + d * g.axis[0].stride * slab.step[0] + h * g.axis[1].stride * slab.step[1]
                                + w * g.axis[2].stride * slab.step[2])
                    cells += 1


cdef void place_pairs(const Gradient *g, const Slab *slab, Py_ssize_t channels, Py_ssize_t *pairs) noexcept nogil:
    """Where in a slab the first output of a chunk has each (channel, tap); behind them the ones."""
    cdef Py_ssize_t c, t, r, s
    for c in range(channels):
        for t in range(g.axis[0].n_taps):
            for r in range(g.axis[1].n_taps):
                for s in range(g.axis[2].n_taps):
                    pairs[0] = (c * slab.channel + t * g.axis[0].step * slab.step[0] + r * g.axis[1].step * slab.step[1]
                                + s * g.axis[2].step * slab.step[2])
                    pairs += 1
    pairs[0] = channels * slab.channel


cdef void lay_out(const Gradient *g, const Box *box, Py_ssize_t channels, real *x, Layout *of) noexcept nogil:
    """The layout of a chunk, unless it is the one before; and the ones, which lie behind its channels of x."""
    cdef Py_ssize_t step = SAMPLES, i
    cdef bint same = of.n[0] == box.n_samples
    for i in range(3):
        same = same and of.n[i + 1] == box.n_out[i]
    if same:
        return
    of.n[0] = box.n_samples
    for i in range(2, -1, -1):
        of.n[i + 1] = box.n_out[i]
        of.slab.n[i], of.slab.step[i] = cells_of_chunk(&g.axis[i], box.n_out[i]), step
        step *= of.slab.n[i]
    of.slab.block, of.slab.channel = step, step * box.n_samples
    place_outputs(g, box, &of.slab, of.cells)
    place_pairs(g, &of.slab, channels, of.pairs)
    fill_cells(x + channels * of.slab.channel, of.slab.channel, 1)


cdef void add_products(int A, Py_ssize_t n_pairs, const Py_ssize_t *pairs, Products *t, const real *dy, const real *x, real *sums) noexcept nogil:
    """All pairs of a chunk with A channels of dy."""
    cdef Split lots = split_evenly(n_pairs, min(<Py_ssize_t>MAX_RIGHTS, PRODUCTS // A))
    cdef Py_ssize_t pair = 0, i, j, b
    for i in range(2):
        for j in range(lots.count[i]):
            for b in range(lots.P[i]):
                t.x_off[b] = pairs[pair + b]
            run_products(A, lots.P[i], t, dy, x, sums + pair * SAMPLES)
            pair += lots.P[i]


cdef void add_inner_products(const Gradient *g, const Box *box, const Slab *slab, int A, Py_ssize_t n_pairs, const Py_ssize_t *pairs,
                             Products *t, const real *dy, const real *x, real *sums) noexcept nogil:
    """The same without the zeros of the border, which times infinity are no numbers: output by output."""
    cdef Products one = t[0]
    cdef Py_ssize_t pair, i, tap, o
    cdef bint inside
    cdef int axis
    one.n = 1
    for pair in range(n_pairs):
        one.x_off[0] = pairs[pair]
        for i in range(t.n):
            one.cells = t.cells + i
            tap, o, inside = pair % g.n_taps, i, True
            for axis in range(2, -1, -1):
                inside = inside and 0 <= (slab.first[axis] + o % box.n_out[axis] * g.axis[axis].stride
                                          + tap % g.axis[axis].n_taps * g.axis[axis].step) < g.axis[axis].n_in
                o, tap = o // box.n_out[axis], tap // g.axis[axis].n_taps
            if inside or pair == n_pairs - 1:
                run_products(A, 1, &one, dy + i * SAMPLES, x, sums + pair * SAMPLES)


# ---------------------------------------------------------------- sums of places, and sharing out

cdef inline vec sums_of_blocks(const real *sums, Py_ssize_t n) noexcept nogil:
    """The sums of n <= LANES blocks that follow each other, places that are half a block apart first."""
    cdef vec rows[LANES]
    cdef vec parts[SAMPLES]
    cdef Py_ssize_t i, v, half
    for i in range(LANES):
        rows[i] = splat(0)
        if i < n:
            for v in range(SAMPLES // LANES):
                parts[v] = load(sums + i * SAMPLES + v * LANES)
            half = SAMPLES // LANES // 2
            while half:
                for v in range(half):
                    parts[v] = parts[v] + parts[v + half]
                half //= 2
            rows[i] = parts[0]
    sum_rows(rows)
    return rows[0] + splat(0)        # a sum of zeros is +0


cdef struct Shares:
    # How the work is cut: slots of blocks, parts of the output channels and of the channels of a group.
    Py_ssize_t slots, k_parts, c_parts
    Py_ssize_t row                  # sums of an output channel in a slot: of its pairs, then of its bias
    Py_ssize_t sums_size, x_size, dy_size    # reals of scratch


cdef void add_chunk(const Gradient *g, const Box *box, Layout *layout, Py_ssize_t channel, Py_ssize_t n_c, Py_ssize_t k0, Py_ssize_t n_k,
                    bint careful, real *sums, real *x, real *dy) noexcept nogil:
    """sums[k, pair] of a chunk; the last pair is 1, for the bias."""
    cdef Split lots = split_evenly(n_k, MAX_LEFTS)
    cdef Py_ssize_t n_pairs = n_c * g.n_taps + 1, i, j
    cdef Products t
    t.sum_k, t.cells = n_pairs * SAMPLES, layout.cells
    t.n = box.n_samples * box.n_out[0] * box.n_out[1] * box.n_out[2]
    lay_out(g, box, n_c, x, layout)
    copy_x(g, box, channel, n_c, &layout.slab, x)
    copy_dy(g, box, k0, n_k, t.n * SAMPLES, dy)
    for i in range(MAX_LEFTS):
        t.dy_off[i] = i * t.n * SAMPLES
    for i in range(2):
        for j in range(lots.count[i]):
            if careful:
                add_inner_products(g, box, &layout.slab, lots.P[i], n_pairs, layout.pairs, &t, dy, x, sums)
            else:
                add_products(lots.P[i], n_pairs, layout.pairs, &t, dy, x, sums)
            dy += lots.P[i] * t.n * SAMPLES
            sums += lots.P[i] * t.sum_k


cdef void add_blocks(const Gradient *g, Py_ssize_t first, Py_ssize_t last, Py_ssize_t channel, Py_ssize_t n_c, Py_ssize_t k0,
                     Py_ssize_t n_k, bint careful, real *sums, real *x, real *dy) noexcept nogil:
    cdef Py_ssize_t block = first, chunk
    cdef Box box
    cdef Layout layout
    layout.n[0], layout.pairs = 0, <Py_ssize_t *>(dy + n_k * CHUNK_OUTPUTS * SAMPLES)
    memset(sums, 0, n_k * (n_c * g.n_taps + 1) * SAMPLES * sizeof(real))
    while block < last:
        for chunk in range(g.n_chunks):
            gradient_box(g, chunk, &box)
            box.sample, box.n_samples = block, min(g.chunk[0], last - block)
            add_chunk(g, &box, &layout, channel, n_c, k0, n_k, careful, sums, x, dy)
        block += box.n_samples


cdef void gradient_task(const Gradient *g, const Shares *shares, Py_ssize_t task, real *scratch, real *found) noexcept nogil:
    """The sums of one slot for some output and input channels of a group, into found[slot, k, pair]."""
    cdef Py_ssize_t c_part = task % shares.c_parts, k_part = task // shares.c_parts % shares.k_parts
    cdef Py_ssize_t unit = task // (shares.c_parts * shares.k_parts) % g.groups
    cdef Py_ssize_t slot = task // (shares.c_parts * shares.k_parts * g.groups)
    cdef Py_ssize_t first = part(g.batch, shares.slots, slot), last = part(g.batch, shares.slots, slot + 1)
    cdef Py_ssize_t c0 = part(g.n_c, shares.c_parts, c_part), n_c = part(g.n_c, shares.c_parts, c_part + 1) - c0
    cdef Py_ssize_t k0 = part(g.n_k, shares.k_parts, k_part), n_k = part(g.n_k, shares.k_parts, k_part + 1) - k0
    cdef Py_ssize_t n_pairs = n_c * g.n_taps + 1, k, i
    cdef real *x = scratch + shares.sums_size
    cdef real *row
    cdef real bad = 0
    k0 += unit * g.n_k
    add_blocks(g, first, last, unit * g.n_c + c0, n_c, k0, n_k, False, scratch, x, x + shares.x_size)
    for k in range(n_k):
        for i in range(SAMPLES):
            bad += scratch[((k + 1) * n_pairs - 1) * SAMPLES + i] * 0
    if bad != 0:    # some dy is not finite
        add_blocks(g, first, last, unit * g.n_c + c0, n_c, k0, n_k, True, scratch, x, x + shares.x_size)
    for k in range(n_k):
        row = found + (slot * g.groups * g.n_k + k0 + k) * shares.row
        put_sums(row + c0 * g.n_taps, scratch + k * n_pairs * SAMPLES, n_pairs - 1)
        if c_part == 0:
            put_sums(row + shares.row - 1, scratch + ((k + 1) * n_pairs - 1) * SAMPLES, 1)


cdef void put_sums(real *out, const real *sums, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(ceil_div(n, LANES)):
        store_part(out + i * LANES, sums_of_blocks(sums + i * LANES * SAMPLES, n - i * LANES), min(n - i * LANES, <Py_ssize_t>LANES))


cdef void put_slots(const Gradient *g, const Shares *shares, real *found) noexcept nogil:
    """dw[k, c, tap] and db[k], from the sums of all slots."""
    cdef Py_ssize_t channels = g.groups * g.n_k, size = channels * shares.row, k, slot, c, t, r, s, i
    cdef real *row
    cdef const real *sums
    for k in range(channels):
        row = found + k * shares.row
        for slot in range(1, shares.slots):
            for i in range(shares.row):
                row[i] += row[slot * size + i]
        sums = row
        for c in range(g.n_c):
            for t in range(g.axis[0].n_taps):
                for r in range(g.axis[1].n_taps):
                    for s in range(g.axis[2].n_taps):
                        g.dw[k * g.dw_k + c * g.dw_c + t * g.axis[0].w + r * g.axis[1].w + s * g.axis[2].w] = sums[0]
                        sums += 1
        if g.db != NULL:
            g.db[k] = sums[0]


cdef inline Split split_evenly(Py_ssize_t n, Py_ssize_t limit) noexcept nogil:
    cdef Split result
    cdef Py_ssize_t tiles = ceil_div(n, limit)
    result.P[0], result.count[0] = <int>(n // tiles + 1), n % tiles
    result.P[1], result.count[1] = <int>(n // tiles), tiles - n % tiles
    return result


cdef void cut_blocks(Gradient *g, int n_threads, Shares *shares) noexcept nogil:
    cdef Py_ssize_t left = 2 * CHUNK_OUTPUTS, n_c, n_k, parts
    cdef int i
    g.n_taps = g.axis[0].n_taps * g.axis[1].n_taps * g.axis[2].n_taps
    shares.row = g.n_c * g.n_taps + 1
    shares.slots = clip(g.batch // 2, 1, SAMPLE_SLOTS) if g.groups * g.n_k * shares.row <= SHARED_SUMS else 1
    shares.c_parts = ceil_div(g.n_c, CHUNK_CHANNELS)
    n_c = ceil_div(g.n_c, shares.c_parts)
    parts = max(ceil_div(g.n_k * (n_c * g.n_taps + 1), SUM_BLOCKS), ceil_div(g.n_k, 2 * CHUNK_CHANNELS))
    shares.k_parts = clip(max(parts, ceil_div(n_threads, shares.slots * g.groups * shares.c_parts)), 1, g.n_k)
    n_k = ceil_div(g.n_k, shares.k_parts)
    shares.sums_size = n_k * (n_c * g.n_taps + 1) * SAMPLES
    shares.x_size = (n_c + 1) * SAMPLES
    shares.dy_size = (n_k * CHUNK_OUTPUTS + ceil_div(8 * shares.row, 64)) * SAMPLES
    for i in range(3):
        left = left // g.axis[i].stride
    left = clip(left, 1, CHUNK_OUTPUTS)
    g.n_chunks = 1
    for i in range(2, -1, -1):
        g.chunk[i + 1] = largest_part(g.axis[i].n_out, max(1, left))
        left = left // g.chunk[i + 1] if g.chunk[i + 1] == g.axis[i].n_out else 1
        g.n_chunks *= ceil_div(g.axis[i].n_out, g.chunk[i + 1])
        shares.x_size *= cells_of_chunk(&g.axis[i], g.chunk[i + 1])
    g.chunk[0] = max(1, left)
    shares.x_size *= g.chunk[0]


cdef int run_block_gradient(Gradient *g, int n_threads) noexcept nogil:
    """One phase on all threads; -1 when there is no memory for scratch."""
    cdef Py_ssize_t tasks, size, task, n_found, channels = g.groups * g.n_k
    cdef Shares shares
    cdef real *scratch
    cdef real *found
    cdef int i
    cut_blocks(g, n_threads, &shares)
    tasks = shares.slots * g.groups * shares.k_parts * shares.c_parts
    size = shares.sums_size + shares.x_size + shares.dy_size
    n_found = ceil_div(shares.slots * channels * shares.row, SAMPLES) * SAMPLES
    found = <real *>malloc((n_found + size * n_threads + 64) * sizeof(real))
    if found == NULL:
        return -1
    scratch = aligned(found) + n_found
    for i in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
        for task in range(part(tasks, n_threads, i), part(tasks, n_threads, i + 1)):
            gradient_task(g, &shares, task, scratch + i * size, aligned(found))
    put_slots(g, &shares, aligned(found))
    free(found)
    return 0
