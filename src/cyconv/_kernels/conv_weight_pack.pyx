# The outputs' gradients as the weight gradient reads them: one row of channels for each output of a chunk.
# Their sums, the bias gradient, are taken on the way.

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
        if n == LANES and g.dy_c == 1:
            total = copy_channels(dy + v * LANES, step, row, packed + v * LANES, g.width, total)
        else:
            whole = row // LANES if n == LANES and step == 1 else 0
            for q in range(whole):
                total = pack_square(dy + v * LANES * g.dy_c + q * LANES, g.dy_c,
                                    packed + q * LANES * g.width + v * LANES, g.width, total)
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


cdef inline vec copy_channels(const real *dy, Py_ssize_t step, Py_ssize_t n, real *packed, Py_ssize_t width, vec total) noexcept nogil:
    """LANES channels of n outputs that follow each other in memory; total plus their sum."""
    cdef vec cells
    cdef Py_ssize_t i
    for i in range(n):
        prefetch_input(dy + (i + CELLS_AHEAD) * step)
        cells = load(dy + i * step)
        total = total + cells
        store(packed + i * width, cells)
    return total


cdef inline vec pack_square(const real *dy, Py_ssize_t dy_c, real *packed, Py_ssize_t width, vec total) noexcept nogil:
    """LANES channels of LANES outputs, which stay in registers; total plus their sum."""
    cdef vec rows[LANES]
    cdef Py_ssize_t i
    for i in range(LANES):
        prefetch_input(dy + i * dy_c + 8 * LANES)
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
    if step == 1:
        for k in range(LANES):
            rows[k] = load_part(dy + k * dy_c, n_outputs) if k < n_k else zero
        transpose(rows)
    else:
        for q in range(n_outputs):
            rows[q] = zero
            cells = <real *>&rows[q]
            for k in range(n_k):
                cells[k] = dy[k * dy_c + q * step]
