# The weights of a convolution as its tiles read them: output channels side by side, zeros beyond the
# last one, so that no tile needs to know where they end.

cdef inline int tap_step(const Axis *axes, const Py_ssize_t *n_taps) noexcept nogil:
    """1 or -1 when the taps follow each other in the weights, up or down, in row-major order; else 0."""
    cdef Py_ssize_t expected = 0, step = 1
    cdef int i
    for i in range(2, -1, -1):
        if n_taps[i] > 1:
            if expected == 0:
                step = expected = axes[i].w
            if axes[i].w != expected:
                return 0
            expected *= n_taps[i]
    return step if step == 1 or step == -1 else 0


cdef bint pack(const Conv *cv, const real *w, Py_ssize_t n_out, const Box *box, Py_ssize_t width, real *packed) noexcept nogil:
    """packed[t, r, s, c, k] = w[k, c, t, r, s], zero for k beyond ``n_out``. False when not all finite."""
    cdef const Axis *axes = &cv.axis[0]
    cdef Py_ssize_t n_taps = box.n_taps[0] * box.n_taps[1] * box.n_taps[2], nc = box.n_channels
    cdef Py_ssize_t step = tap_step(axes, box.n_taps), t, r, s, c, k
    cdef real bad = 0
    cdef const real *cells
    cdef real *to = packed
    for k in range(3):
        w += box.tap[k] * axes[k].w
    w += box.channel * cv.w_sum
    if cv.w_out == 1 and width % LANES == 0:
        return pack_rows(cv, w, n_out, box, width, packed) == 0
    if step != 0 and width % LANES == 0:
        if step < 0:
            w -= n_taps - 1
        if cv.w_sum == n_taps and step == 1:
            return pack_columns(cv, w, n_out, n_taps * nc, False, n_taps, nc, width, packed) == 0
        for c in range(nc):
            if c + 2 < nc:
                prefetch_cells(w + (c + 2) * cv.w_sum, n_out * cv.w_out)
            bad += pack_columns(cv, w + c * cv.w_sum, n_out, n_taps, step < 0, n_taps, nc, width, packed + c * width)
        return bad == 0
    for t in range(box.n_taps[0]):
        for r in range(box.n_taps[1]):
            for s in range(box.n_taps[2]):
                for c in range(nc):
                    cells = w + c * cv.w_sum + t * axes[0].w + r * axes[1].w + s * axes[2].w
                    for k in range(min(n_out, width)):
                        to[k] = cells[k * cv.w_out]
                    for k in range(n_out, width):
                        to[k] = 0
                    to += width
    return zeros_of(packed, to - packed) == 0


cdef real pack_rows(const Conv *cv, const real *w, Py_ssize_t n_out, const Box *box, Py_ssize_t width, real *packed) noexcept nogil:
    """Copy weights whose output channels follow each other; returns 0 or NaN."""
    cdef vec bad = splat(0)
    cdef vec cells
    cdef Py_ssize_t t, r, s, c, k
    for t in range(box.n_taps[0]):
        for r in range(box.n_taps[1]):
            for s in range(box.n_taps[2]):
                for c in range(box.n_channels):
                    for k in range(width // LANES):
                        cells = load_part(w + t * cv.axis[0].w + r * cv.axis[1].w + s * cv.axis[2].w + c * cv.w_sum + k * LANES,
                                          clip(n_out - k * LANES, 0, LANES))
                        bad = bad + cells * splat(0)
                        store(packed + k * LANES, cells)
                    packed += width
    return sum_of_lanes(bad)


cdef real zeros_of(const real *cells, Py_ssize_t n) noexcept nogil:
    """0, or NaN when not all are finite."""
    cdef vec bad = splat(0)
    cdef Py_ssize_t i
    for i in range(n // LANES):
        bad = bad + load(cells + i * LANES) * splat(0)
    return sum_of_lanes(bad + load_part(cells + n // LANES * LANES, n % LANES) * splat(0))


cdef inline real sum_of_lanes(vec v) noexcept nogil:
    cdef real cells[LANES]
    cdef real total = 0
    cdef int i
    store(cells, v)
    for i in range(LANES):
        total += cells[i]
    return total


cdef inline void load_rows(vec *rows, const real *w, Py_ssize_t step, Py_ssize_t n_rows, Py_ssize_t n) noexcept nogil:
    """n elements of each of LANES rows, zeros behind the last; whole blocks without a branch."""
    cdef vec zero = splat(0)
    cdef Py_ssize_t i
    if n == LANES and n_rows >= LANES:
        for i in range(LANES):
            rows[i] = load(w + i * step)
    else:
        for i in range(LANES):
            rows[i] = load_part(w + i * step, n) if i < n_rows else zero


cdef real pack_columns(const Conv *cv, const real *w, Py_ssize_t n_out, Py_ssize_t columns, bint reverse,
                       Py_ssize_t n_taps, Py_ssize_t nc, Py_ssize_t width, real *packed) noexcept nogil:
    """Transpose contiguous (c, tap) columns of the weights; returns 0 or NaN."""
    cdef vec rows[LANES]
    cdef vec zero = splat(0)
    cdef vec bad = zero, found
    cdef Py_ssize_t step = (-nc if reverse else nc) * width, block, column_block, i, n, left
    cdef real *to
    for block in range(width // LANES):
        to = packed + block * LANES - (min(step, 0) * (n_taps - 1))
        left = n_taps
        for column_block in range(ceil_div(columns, LANES)):
            n = min(LANES, columns - column_block * LANES)
            load_rows(rows, w + block * LANES * cv.w_out + column_block * LANES, cv.w_out, n_out - block * LANES, n)
            found = zero       # of this block: one sum over all would wait for every addition
            for i in range(LANES):
                found = found + rows[i] * zero
            bad = bad + found
            transpose(rows)
            for i in range(LANES):
                if i == n:
                    break
                store(to, rows[i])
                left -= 1
                to += step if left else width - (n_taps - 1) * step
                left = left if left else n_taps
    return sum_of_lanes(bad)


cdef void pack_tiles(const real *packed, Py_ssize_t terms, Py_ssize_t n_out, Py_ssize_t width, int limit, real *out) noexcept nogil:
    """Those of each tile of scalars side by side, so that they stay in first-level cache for a row of outputs."""
    cdef Py_ssize_t tiles = ceil_div(n_out, limit), i, j, k, v, P
    for i in range(tiles):
        k = part(n_out, tiles, i)
        P = part(n_out, tiles, i + 1) - k
        for j in range(terms):
            for v in range(ceil_div(P, LANES)):     # what is too much is overwritten
                store(out + v * LANES, load(packed + j * width + k + v * LANES))
            out += P


cdef void pack_bias(const real *bias, Py_ssize_t n_out, Py_ssize_t width, real *packed, real *spread) noexcept nogil:
    """Bias per packed channel and, unless NULL, repeated over the lanes. Adding +0 keeps zeros positive."""
    cdef Py_ssize_t k, i
    for k in range(width):
        packed[k] = (bias[k] if bias != NULL and k < n_out else 0) + <real>0
        for i in range(LANES if spread != NULL else 0):
            spread[k * LANES + i] = packed[k]
