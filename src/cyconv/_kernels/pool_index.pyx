# Gradients that are written to the cells of windows without common cells, or to those that indices name.
#
# Extremes of a layer come with the numbers of their taps; any other indices are flat cells of a plane,
# all checked before any is written. `pool_backward` shares out the planes.

from libc.stdint cimport uint64_t


# ---------------------------------------------------------------- windows without common cells

cdef void locate_taps(const Pool *g, Py_ssize_t *cells) noexcept nogil:
    """Where each tap is in x, seen from tap 0."""
    cdef Py_ssize_t n1 = g.axis[1].n_taps, n2 = g.axis[2].n_taps, i
    for i in range(g.axis[0].n_taps * n1 * n2):
        cells[i] = (i // (n1 * n2) * g.axis[0].step * g.axis[0].x + i // n2 % n1 * g.axis[1].step * g.axis[1].x
                    + i % n2 * g.axis[2].step * g.axis[2].x)


cdef void add_at_taps(const Pool *g, const real *dy, const uint8_t *taps, real *dx, Py_ssize_t n) noexcept nogil:
    cdef const Py_ssize_t *cells = g.cells
    cdef Py_ssize_t x_c = g.x_c, y_c = g.y_c, y_w = g.axis[2].y, x_w = g.axis[2].stride * g.axis[2].x, d, h, w, i, at
    cdef real *row
    for d in range(g.n_out[0]):
        for h in range(g.n_out[1]):
            at = d * g.axis[0].y + h * g.axis[1].y
            row = dx + corner_of(g, d, h, 0)
            for w in range(g.n_out[2]):
                for i in range(n):
                    if taps[at + i * y_c] != NO_TAP:
                        row[cells[taps[at + i * y_c]] + i * x_c] += dy[at + i * y_c]
                at += y_w
                row += x_w


cdef inline whole load_taps(const Pool *g, const uint8_t *taps, Py_ssize_t n) noexcept nogil:
    """n of them, and any others."""
    cdef unsigned char part[LANES]
    if taps + LANES <= g.tap_end:
        return load_bytes(taps)
    memcpy(part, taps, n)
    return load_bytes(part)


cdef inline void put_windows(const bint has_taps, const bint in_pairs, const Pool *g, vec grad, whole taps, real *corner,
                             const Py_ssize_t **windows, Py_ssize_t n) noexcept nogil:
    """Into the cells of a window of each of n lanes, at most LANES: all of them, or 0 where they are not ``taps``."""
    cdef vec zero = splat(0), even, odd
    cdef Py_ssize_t t, r, s
    cdef whole_element name
    cdef real *row
    for t in range(windows[0][1], windows[0][1] + windows[0][2]):
        for r in range(windows[1][1], windows[1][1] + windows[1][2]):
            row = corner + t * g.axis[0].step * g.axis[0].x + r * g.axis[1].step * g.axis[1].x
            name = (t * g.axis[1].n_taps + r) * g.axis[2].n_taps
            if in_pairs:
                prefetch(row + BYTES_AHEAD // <int>sizeof(real))
                even = choose(is_same(taps, splat_whole(name)), grad, zero) if has_taps else grad
                odd = choose(is_same(taps, splat_whole(name + 1)), grad, zero) if has_taps else grad
                store_pairs(row, even, odd, n)
                continue
            for s in range(windows[2][1], windows[2][1] + windows[2][2]):
                even = choose(is_same(taps, splat_whole(name + s)), grad, zero) if has_taps else grad
                if n == LANES:
                    store(row + s * g.axis[2].step * g.axis[2].x, even)
                else:
                    store_part(row + s * g.axis[2].step * g.axis[2].x, even, n)


cdef inline void put_planes(const bint has_taps, const bint in_pairs, const Pool *g, const real *dy, const uint8_t *taps, real *dx,
                            Py_ssize_t channels) noexcept nogil:
    """All outputs of some channels, or in pairs those of one channel."""
    cdef Py_ssize_t lanes = g.n_out[2] if in_pairs else channels, d, h, w, block, i, n, at, corner
    cdef const Py_ssize_t *windows[3]
    cdef whole tap = splat_whole(0)
    cdef vec grad
    for d in range(g.n_out[0]):
        for h in range(g.n_out[1]):
            for w in range(1 if in_pairs else g.n_out[2]):
                at = d * g.axis[0].y + h * g.axis[1].y + w * g.axis[2].y
                corner = corner_of(g, d, h, w)
                windows[0], windows[1], windows[2] = g.windows[0] + 3 * d, g.windows[1] + 3 * h, g.windows[2] + 3 * w
                for block in range(ceil_div(lanes, LANES)):
                    # The last of several vectors overlaps the one before: parts of vectors are slow.
                    i, n = min(block * LANES, max(lanes - LANES, 0)), min(LANES, lanes)
                    grad = load(dy + at + i) if n == LANES else load_part(dy + at + i, n)
                    if has_taps:
                        tap = load_taps(g, taps + at + i, n)
                    else:
                        grad = grad / divisors(g, d, h, w + i if in_pairs else w, n, 1 if in_pairs else LANES)
                    # Added to 0: as in a sum, -0 becomes 0.
                    put_windows(has_taps, in_pairs, g, splat(0) + grad, tap, dx + corner + (2 * i if in_pairs else i), windows, n)


cdef bint is_put(int kind) noexcept nogil:
    return kind == PUT_CHANNELS or kind == PUT_PAIRS or kind == PUT_CHANNELS_AT_TAP or kind == PUT_PAIRS_AT_TAP


cdef int put_kind(const Pool *g) noexcept nogil:
    """How dx is written at the numbers of taps."""
    cdef const Axis *axis = &g.axis[2]
    if not are_apart(g):
        return ADD_AT_TAP
    if (axis.x == 1 and axis.stride == 2 and axis.n_taps == 2 and axis.step == 1 and not is_padded(axis)
            and 4 * axis.n_out >= LANES):
        return PUT_PAIRS_AT_TAP
    return PUT_CHANNELS_AT_TAP if g.x_c == 1 else ADD_AT_TAP


def extreme_pool_backward(cnp.ndarray dy, cnp.ndarray tap, cnp.ndarray dx, cnp.ndarray table, cnp.ndarray windows,
                          bint channels_last, int n_threads):
    """dy at the taps that `extreme_pool` numbered, added up into dx."""
    cdef Pool g
    cdef Py_ssize_t cells[NO_TAP]
    set_pool(&g, dx, dy, table, windows, channels_last)
    g.tap = <uint8_t *>cnp.PyArray_DATA(tap)
    locate_taps(&g, cells)
    g.cells = cells
    g.tap_end = g.tap + cnp.PyArray_SIZE(tap)
    with nogil:
        pool_backward(put_kind(&g), &g, NULL, NULL, channels_last, n_threads, NULL)


# ---------------------------------------------------------------- flat cells

cdef inline void move_planes(const int kind, const bint channels_last, const Pool *g, Py_ssize_t x_at, Py_ssize_t y_at,
                             Py_ssize_t n_channels) noexcept nogil:
    """A plane is one axis here, of n channels or one."""
    cdef Py_ssize_t n = n_channels if channels_last else 1, pitch = g.channels if channels_last else 1, o, i, at, cell
    cdef const int64_t *index = g.index + y_at
    cdef real *x = <real *>g.x + x_at
    cdef real *y = g.y + y_at
    for o in range(g.n_out[2]):
        for i in range(n):
            at = o * pitch + i
            cell = index[at] * pitch + i
            if index[at] < 0:
                if kind == GET_AT_INDEX:
                    y[at] = 0
            elif kind == ADD_AT_INDEX:
                x[cell] += y[at]
            elif kind == PUT_AT_INDEX:
                x[cell] = y[at]
            else:
                y[at] = x[cell]


cdef inline Py_ssize_t count_outside(const int64_t *index, Py_ssize_t n, Py_ssize_t plane) noexcept nogil:
    """How many are neither NO_CELL nor a cell of the plane."""
    cdef Py_ssize_t i, count = 0
    for i in range(n):
        count += <uint64_t>index[i] - <uint64_t>NO_CELL > <uint64_t>plane
    return count


cdef Py_ssize_t move_by_index(int kind, cnp.ndarray values, cnp.ndarray index, cnp.ndarray planes, bint channels_last,
                              int n_threads):
    """Between values and the cells of the planes that ``index`` names; -1 names none.

    Returns -1, or the flat position of the first index outside its plane; nothing is written then.
    """
    cdef Pool g
    cdef Py_ssize_t plane = 0, outputs = 0, outside = 0, i, size = cnp.PyArray_SIZE(index)
    g.batch, g.channels = planes.shape[0], planes.shape[planes.ndim - 1 if channels_last else 1]
    if g.batch * g.channels > 0:
        plane, outputs = cnp.PyArray_SIZE(planes) // (g.batch * g.channels), size // (g.batch * g.channels)
    g.axis[0].n_in, g.axis[1].n_in, g.axis[2].n_in, g.n_out[2] = 1, 1, plane, outputs
    g.x_n, g.y_n = plane * g.channels, outputs * g.channels
    g.x_c = 1 if channels_last else plane
    g.y_c = 1 if channels_last else outputs
    g.axis[2].x = g.axis[2].y = g.channels if channels_last else 1
    g.x, g.y = <const real *>cnp.PyArray_DATA(planes), <real *>cnp.PyArray_DATA(values)
    g.index = <int64_t *>cnp.PyArray_DATA(index)
    with nogil:
        for i in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
            outside += count_outside(g.index + part(size, n_threads, i), part(size, n_threads, i + 1) - part(size, n_threads, i), plane)
        if outside == 0:
            pool_backward(kind, &g, NULL, NULL, channels_last, n_threads, NULL)
            return -1
        for i in range(size):
            if count_outside(g.index + i, 1, plane) > 0:
                return i


def max_pool_backward(cnp.ndarray dy, cnp.ndarray index, cnp.ndarray dx, bint channels_last, int n_threads):
    """Add dy up in dx; returns as `move_by_index`."""
    return move_by_index(ADD_AT_INDEX, dy, index, dx, channels_last, n_threads)


def max_unpool(cnp.ndarray x, cnp.ndarray index, cnp.ndarray y, bint channels_last, int n_threads):
    """Put x into y, the last of equal indices, among zeros; returns as `move_by_index`."""
    return move_by_index(PUT_AT_INDEX, x, index, y, channels_last, n_threads)


def max_unpool_backward(cnp.ndarray dx, cnp.ndarray index, cnp.ndarray dy, bint channels_last, int n_threads):
    """Fetch dx from dy; returns as `move_by_index`."""
    return move_by_index(GET_AT_INDEX, dx, index, dy, channels_last, n_threads)
