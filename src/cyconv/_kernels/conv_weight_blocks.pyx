# Weight and bias gradients from blocks of samples.
#
#     dw[k, c, t, r, s] = sum over n, o of  dy[n, k, o] * x[n, c, cell(o, (t, r, s))]
#
# Lanes are samples, so nothing is transposed or padded: one tile multiplies up to 4 channels of dy
# by 6 of x, both as vectors, at one tap, over the outputs of a chunk for which it is inside.
# The sums of the samples of a block stay apart until the end, then add up in a balanced tree.
#
# Order of a sum: blocks, chunks, outputs in row-major order, for each of the SAMPLES places of a sample;
# then the tree. It depends on shapes alone. Threads share out blocks of channels.

cdef enum:
    NEAR_BLOCKS = 360     # of samples, 64 bytes each, that stay in first-level cache
    MAX_LEFTS = 12        # channels of dy of a tile,
    MAX_RIGHTS = 6        # and of x

cdef extern from "simd.h" nogil:
    enum: PRODUCTS
    void reread_products "reread"(const Products **t)
    void sum_rows(vec *rows)

cdef struct Products:
    Py_ssize_t n[3]                 # outputs per axis: samples or D, H, W
    Py_ssize_t dy[3]                # from one to the next
    Py_ssize_t x[3]
    Py_ssize_t dy_off[MAX_LEFTS]    # of the channels
    Py_ssize_t x_off[MAX_RIGHTS]
    Py_ssize_t sum_k, sum_c         # between the sums of two channels of dy, of x


cdef inline void products(const int A, const int B, const Products *t, const real *dy, const real *x, real *sums) noexcept nogil:
    """sums[a, b] += dy[a] * x[b], place by place of the block."""
    cdef vec acc[PRODUCTS]
    cdef vec held[MAX_RIGHTS]
    cdef vec other
    cdef Py_ssize_t v, i0, i1, n2 = t.n[2], dy2 = t.dy[2], x2 = t.x[2]
    cdef const real *pdy
    cdef const real *px
    cdef int a, b
    for v in range(SAMPLES // LANES):
        for a in range(A):
            for b in range(B):
                acc[a * B + b] = load(sums + a * t.sum_k + b * t.sum_c)
        for i0 in range(t.n[0]):
            for i1 in range(t.n[1]):
                pdy = dy + i0 * t.dy[0] + i1 * t.dy[1]
                px = x + i0 * t.x[0] + i1 * t.x[1]
                for _ in range(n2):
                    reread_products(&t)
                    if A < B:
                        for a in range(A):
                            held[a] = load(pdy + t.dy_off[a])
                        for b in range(B):
                            other = load(px + t.x_off[b])
                            for a in range(A):
                                acc[a * B + b] = acc[a * B + b] + held[a] * other
                    else:
                        for b in range(B):
                            held[b] = load(px + t.x_off[b])
                        for a in range(A):
                            other = load(pdy + t.dy_off[a])
                            for b in range(B):
                                acc[a * B + b] = acc[a * B + b] + other * held[b]
                    pdy += dy2
                    px += x2
        for a in range(A):
            for b in range(B):
                store(sums + a * t.sum_k + b * t.sum_c, acc[a * B + b] + splat(0))     # as in `tile`: no -0.0
        dy += LANES
        x += LANES
        sums += LANES


cdef inline void products_with(const int B, int A, const Products *t, const real *dy, const real *x, real *sums) noexcept nogil:
    # As in tile.pyx: one body per size, and none for those that do not fit.
    if A == 1: products(1, B, t, dy, x, sums)
    elif A == 2: products(2, B, t, dy, x, sums)
    elif A == 3 and 3 * B <= PRODUCTS: products(3, B, t, dy, x, sums)
    elif A == 4 and 4 * B <= PRODUCTS: products(4, B, t, dy, x, sums)
    elif A == 5 and 5 * B <= PRODUCTS: products(5, B, t, dy, x, sums)
    elif A == 6 and 6 * B <= PRODUCTS: products(6, B, t, dy, x, sums)
    elif A == 7 and 7 * B <= PRODUCTS: products(7, B, t, dy, x, sums)
    elif A == 8 and 8 * B <= PRODUCTS: products(8, B, t, dy, x, sums)
    elif A == 9 and 9 * B <= PRODUCTS: products(9, B, t, dy, x, sums)
    elif A == 10 and 10 * B <= PRODUCTS: products(10, B, t, dy, x, sums)
    elif A == 11 and 11 * B <= PRODUCTS: products(11, B, t, dy, x, sums)
    elif A == 12 and 12 * B <= PRODUCTS: products(12, B, t, dy, x, sums)


cdef void run_products(int A, int B, const Products *t, const real *dy, const real *x, real *sums) noexcept nogil:
    if B == 1: products_with(1, A, t, dy, x, sums)
    elif B == 2: products_with(2, A, t, dy, x, sums)
    elif B == 3: products_with(3, A, t, dy, x, sums)
    elif B == 4: products_with(4, A, t, dy, x, sums)
    elif B == 5: products_with(5, A, t, dy, x, sums)
    elif B == 6: products_with(6, A, t, dy, x, sums)


# ---------------------------------------------------------------- one chunk

cdef struct Slab:
    # The part of an array that a chunk needs, cell by cell as in scratch: (channels, samples, D, H, W, SAMPLES).
    Py_ssize_t first[3]             # cell of each axis
    Py_ssize_t n[3]
    Py_ssize_t cells                # of a channel


cdef void copy_slab(const Slab *slab, const real *x, Py_ssize_t x_c, Py_ssize_t x_n, const Py_ssize_t *steps,
                    Py_ssize_t channels, Py_ssize_t n_samples, real *out) noexcept nogil:
    """Cells far apart cost the tiles a page each; copied they follow each other."""
    cdef Py_ssize_t c, n, d, h, w, v
    cdef const real *row
    x += slab.first[0] * steps[0] + slab.first[1] * steps[1] + slab.first[2] * steps[2]
    for c in range(channels):
        for n in range(n_samples):
            for d in range(slab.n[0]):
                for h in range(slab.n[1]):
                    row = x + c * x_c + n * x_n + d * steps[0] + h * steps[1]
                    for w in range(slab.n[2]):
                        for v in range(SAMPLES // LANES):
                            store(out + v * LANES, load(row + v * LANES))
                        row += steps[2]
                        out += SAMPLES


cdef void copy_dy(const Gradient *g, const Box *box, Py_ssize_t k, int channels, real *out) noexcept nogil:
    """The same of dy, spread over the outputs if it is that of maxima."""
    cdef Py_ssize_t n, d, h, w, at, name = 0
    cdef const real *dy
    cdef int c, v
    for c in range(channels):
        for n in range(box.n_samples):
            dy = g.dy + (k + c) * g.dy_c + (box.sample + n) * g.dy_n
            for d in range(box.out[0], box.out[0] + box.n_out[0]):
                for h in range(box.out[1], box.out[1] + box.n_out[1]):
                    for w in range(box.out[2], box.out[2] + box.n_out[2]):
                        at = place_of_dy(g, d, h, w, &name)
                        for v in range(SAMPLES // LANES):
                            store(out + v * LANES, load_dy(g, dy + at + v * LANES, name))
                        out += SAMPLES


cdef void slabs_of(const Gradient *g, const Box *box, Slab *dy, Slab *x) noexcept nogil:
    """What a chunk needs of dy, and of x for all taps."""
    cdef const Axis *axis
    cdef Py_ssize_t first, last
    cdef int i
    dy.cells = x.cells = box.n_samples
    for i in range(3):
        axis = &g.axis[i]
        first = axis.start + box.out[i] * axis.stride
        last = first + (box.n_out[i] - 1) * axis.stride + (axis.n_taps - 1) * axis.step + 1
        dy.first[i], dy.n[i] = box.out[i], box.n_out[i]
        x.first[i] = clip(first, 0, axis.n_in)
        x.n[i] = clip(last, x.first[i], axis.n_in) - x.first[i]
        dy.cells *= dy.n[i]
        x.cells *= x.n[i]


cdef bint set_products(const Gradient *g, const Box *box, const Slab *slab, Py_ssize_t tap, Products *t, const real **dy, const real **x) noexcept nogil:
    """Point a tile at the outputs of a chunk for which ``tap`` is inside; False when there are none."""
    cdef const Axis *axis
    cdef Py_ssize_t start, first, last, dy_step = SAMPLES, x_step = SAMPLES
    cdef int i
    for i in range(2, -1, -1):
        axis = &g.axis[i]
        start = axis.start + box.out[i] * axis.stride + tap % axis.n_taps * axis.step
        tap //= axis.n_taps
        first = first_inside(start, axis.stride, 0, box.n_out[i])
        last = first_inside(start, axis.stride, axis.n_in, box.n_out[i])
        if first >= last:
            return False
        t.n[i], t.dy[i], t.x[i] = last - first, dy_step, axis.stride * x_step
        dy[0] += first * dy_step
        x[0] += (start + first * axis.stride - slab.first[i]) * x_step
        dy_step *= box.n_out[i]
        x_step *= slab.n[i]
    if box.n_samples > 1:       # of one depth each
        t.n[0], t.dy[0], t.x[0] = box.n_samples, dy_step, x_step
    return True


cdef void add_to_bias(const real *dy, Py_ssize_t cells, int A, real *sums) noexcept nogil:
    """sums[a] += dy[a] over the cells of a slab."""
    cdef vec total
    cdef Py_ssize_t i
    cdef int a, v
    for a in range(A):
        for v in range(SAMPLES // LANES):
            total = load(sums + a * SAMPLES + v * LANES)
            for i in range(cells):
                total = total + load(dy + (a * cells + i) * SAMPLES + v * LANES)
            store(sums + a * SAMPLES + v * LANES, total)


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


cdef void put_block_gradient(const Gradient *g, real *dw, Py_ssize_t n, const real *sums) noexcept nogil:
    """dw[c, tap] = sums[c, tap] of one output channel, n in all."""
    cdef Py_ssize_t i, j, tap, row, n_s = g.axis[2].n_taps, n_r = g.axis[1].n_taps
    cdef Py_ssize_t n_taps[3]
    cdef real cells[LANES]
    cdef bint adjacent
    for i in range(3):
        n_taps[i] = g.axis[i].n_taps
    adjacent = g.dw_c == g.n_taps and tap_step(g.axis, n_taps) == 1
    for row in range(ceil_div(n, LANES)):
        i = row * LANES
        if adjacent:
            store_part(dw + i, sums_of_blocks(sums + i * SAMPLES, n - i), min(n - i, <Py_ssize_t>LANES))
            continue
        store(cells, sums_of_blocks(sums + i * SAMPLES, n - i))
        for j in range(i, min(n, i + LANES)):
            tap = j % g.n_taps
            dw[j // g.n_taps * g.dw_c + tap // (n_s * n_r) * g.axis[0].w + tap // n_s % n_r * g.axis[1].w
               + tap % n_s * g.axis[2].w] = cells[j - i]


cdef void block_gradient_task(const Gradient *g, Py_ssize_t unit, Py_ssize_t c0, Py_ssize_t n_c, Py_ssize_t k0, int A, real *scratch) noexcept nogil:
    """The gradients of A output and n_c input channels of a group, from k0 and c0 on."""
    cdef Split lots = split_evenly(n_c, max_rights())
    cdef Py_ssize_t chunk, tap, c, k = unit * g.n_k + k0, i, j
    cdef Py_ssize_t x_steps[3]
    cdef real *sums = scratch
    cdef real *bias = sums + n_c * g.n_taps * A * SAMPLES
    cdef real *dy_slab = bias + A * SAMPLES
    cdef real *x_slab = dy_slab + g.dy_size
    cdef const real *dy
    cdef const real *x
    cdef bint with_bias = g.db != NULL and c0 == 0
    cdef int a, B
    cdef Slab dy_part, x_part
    cdef Products t
    cdef Box box
    memset(sums, 0, (n_c * g.n_taps + 1) * A * SAMPLES * sizeof(real))
    for i in range(3):
        x_steps[i] = g.axis[i].x
    t.sum_k, t.sum_c = n_c * g.n_taps * SAMPLES, g.n_taps * SAMPLES
    for chunk in range(g.n_chunks):
        gradient_box(g, chunk, &box)
        slabs_of(g, &box, &dy_part, &x_part)
        copy_dy(g, &box, k, A, dy_slab)
        copy_slab(&x_part, g.x + box.sample * g.x_n + (unit * g.n_c + c0) * g.x_c, g.x_c, g.x_n, x_steps, n_c,
                  box.n_samples, x_slab)
        for a in range(A):
            t.dy_off[a] = a * dy_part.cells * SAMPLES
        for a in range(MAX_RIGHTS):
            t.x_off[a] = a * x_part.cells * SAMPLES
        if with_bias:
            add_to_bias(dy_slab, dy_part.cells, A, bias)
        c = 0
        for i in range(2):
            B = lots.P[i]
            for j in range(lots.count[i]):
                for tap in range(g.n_taps):
                    dy, x = dy_slab, x_slab + c * x_part.cells * SAMPLES
                    if set_products(g, &box, &x_part, tap, &t, &dy, &x):
                        run_products(A, B, &t, dy, x, sums + (c * g.n_taps + tap) * SAMPLES)
                c += B
    for a in range(A):
        put_block_gradient(g, g.dw + (k + a) * g.dw_k + c0 * g.dw_c, n_c * g.n_taps, sums + a * t.sum_k)
    if with_bias:
        for c in range(ceil_div(A, LANES)):
            store_part(g.db + k + c * LANES, sums_of_blocks(bias + c * LANES * SAMPLES, A - c * LANES),
                       min(A - c * LANES, <Py_ssize_t>LANES))


cdef inline int max_rights() noexcept nogil:
    return min(MAX_RIGHTS, PRODUCTS // 3)


cdef inline Split split_evenly(Py_ssize_t n, Py_ssize_t limit) noexcept nogil:
    cdef Split result
    cdef Py_ssize_t tiles = ceil_div(n, limit)
    result.P[0], result.count[0] = <int>(n // tiles + 1), n % tiles
    result.P[1], result.count[1] = <int>(n // tiles), tiles - n % tiles
    return result


cdef int run_block_gradient(Gradient *g, int n_threads) noexcept nogil:
    """One phase on all threads; -1 when there is no memory for scratch."""
    cdef Py_ssize_t lots, parts, tasks, size, left, rights, task, lot, c, k
    cdef real *scratch
    cdef int i
    g.n_taps = g.axis[0].n_taps * g.axis[1].n_taps * g.axis[2].n_taps
    rights = largest_part(g.n_c, max_rights())
    lots = ceil_div(g.n_k, min(MAX_LEFTS, PRODUCTS // rights))
    parts = clip(n_threads // (g.groups * lots), 1, g.n_c)
    lots = clip(ceil_div(n_threads, g.groups * parts), lots, g.n_k)
    left = NEAR_BLOCKS // (rights + ceil_div(g.n_k, lots))
    g.n_chunks = 1
    for i in range(2, -1, -1):
        g.chunk[i + 1] = largest_part(g.axis[i].n_out, max(1, left))
        left = left // g.chunk[i + 1] if g.chunk[i + 1] == g.axis[i].n_out else 1
        g.n_chunks *= ceil_div(g.axis[i].n_out, g.chunk[i + 1])
    g.chunk[0] = largest_part(g.batch, max(1, left)) if g.axis[0].n_out == 1 else 1
    g.n_chunks *= ceil_div(g.batch, g.chunk[0])
    g.dy_size, g.x_size = MAX_LEFTS * SAMPLES * g.chunk[0], ceil_div(g.n_c, parts) * SAMPLES * g.chunk[0]
    for i in range(3):
        g.dy_size *= g.chunk[i + 1]
        g.x_size *= min(g.axis[i].n_in, (g.chunk[i + 1] - 1) * g.axis[i].stride + (g.axis[i].n_taps - 1) * g.axis[i].step + 1)
    tasks = g.groups * lots * parts
    size = (ceil_div(g.n_c, parts) * g.n_taps + 1) * MAX_LEFTS * SAMPLES + g.dy_size + g.x_size
    scratch = <real *>malloc((size * n_threads + 64) * sizeof(real))
    if scratch == NULL:
        return -1
    for i in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
        for task in range(part(tasks, n_threads, i), part(tasks, n_threads, i + 1)):
            c = part(g.n_c, parts, task % parts)
            lot = task // parts % lots
            k = part(g.n_k, lots, lot)
            block_gradient_task(g, task // parts // lots, c, part(g.n_c, parts, task % parts + 1) - c, k,
                                <int>(part(g.n_k, lots, lot + 1) - k), aligned(scratch) + i * size)
    free(scratch)
    return 0
