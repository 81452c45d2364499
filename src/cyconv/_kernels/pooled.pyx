# Outputs of a convolution on blocks of samples that never come to memory: only the maxima of windows that tile
# the map do, rectified if a rectifier follows, and with each the number of the tap it is. What goes back to an
# output is the gradient of its maximum where it is that tap, else 0.

cdef enum:
    POOLED_CELLS = 64          # outputs of a channel that wait for their maxima: with those of a tile, in first-level cache

cdef struct Pooled:
    Py_ssize_t window[3]       # 1 1 1 without a pooling
    bint rectify
    unsigned char *taps        # beside the maxima; NO_TAP where nothing goes back. NULL: not wanted
    const Py_ssize_t *cells[3]     # [output, 2]: steps to its maximum, and what it adds to the number of its tap


cdef inline bint waits(const Pooled *after) noexcept nogil:
    """Whether something follows the convolution."""
    return after.rectify or after.window[0] * after.window[1] * after.window[2] > 1


cdef inline Py_ssize_t lanes_at_once() noexcept nogil:
    return max(<Py_ssize_t>SAMPLES, 2 * LANES)


cdef inline Py_ssize_t columns_waiting(const Pooled *after) noexcept nogil:
    return max(1, POOLED_CELLS // (after.window[0] * after.window[1] * after.window[2])) * after.window[2]


cdef inline void maximum(const bint wants_tap, const int n_taps, const real *x, const Py_ssize_t *off, bint rectify, real *y,
                         unsigned char *tap) noexcept nogil:
    """Of one window: the first of equals, the first NaN before numbers."""
    cdef vec best = load(x), cell
    cdef whole name = splat_whole(0)
    cdef test wins
    cdef int i
    for i in range(1, n_taps):
        cell = load(x + off[i])
        wins = is_over(cell, best) & ~has_nan(best, best)
        best = choose(wins, cell, best)
        if wants_tap:
            name = choose_whole(wins, splat_whole(i), name)
    if rectify:
        wins = is_over(best, splat(0))
        best = choose(wins, best, splat(0))
        name = choose_whole(wins, name, splat_whole(NO_TAP))
    store(y, best)
    if wants_tap:
        store_bytes(tap, name, LANES)


cdef inline void maxima(const bint wants_taps, const int n_taps, const Pooled *after, const real *cells, Py_ssize_t columns, int P,
                        int vectors, real *y, Py_ssize_t y_w, Py_ssize_t y_c, Py_ssize_t y_v, unsigned char *taps) noexcept nogil:
    cdef Py_ssize_t off[256]
    cdef Py_ssize_t step = P * lanes_at_once(), o, p, v, at
    cdef const real *x
    cdef int i
    for i in range(n_taps):
        off[i] = (i // after.window[2] * columns + i % after.window[2]) * step
    for o in range(columns // after.window[2]):
        for p in range(P):
            x = cells + o * after.window[2] * step + p * lanes_at_once()
            for v in range(vectors):
                at = o * y_w + p * y_c + v * y_v
                maximum(wants_taps, n_taps, x + v * LANES, off, after.rectify, y + at, taps + at if wants_taps else NULL)


cdef void put_maxima(const Pooled *after, const real *cells, Py_ssize_t columns, int P, int vectors, real *y, Py_ssize_t y_w,
                     Py_ssize_t y_c, Py_ssize_t y_v, unsigned char *taps) noexcept nogil:
    """y[w, p, v] and its taps, of the windows of cells[d, h, w, p, lanes_at_once()] for P channels."""
    cdef int n_taps = <int>(after.window[0] * after.window[1] * after.window[2])
    # As in tile.pyx: a body of its own for windows of 2 x 2.
    if taps == NULL: maxima(False, n_taps, after, cells, columns, P, vectors, y, y_w, y_c, y_v, taps)
    elif n_taps == 4: maxima(True, 4, after, cells, columns, P, vectors, y, y_w, y_c, y_v, taps)
    else: maxima(True, n_taps, after, cells, columns, P, vectors, y, y_w, y_c, y_v, taps)


cdef inline vec at_tap(const real *dy, const unsigned char *tap, Py_ssize_t name) noexcept nogil:
    """Gradient of the outputs of a vector that are tap ``name`` of their windows."""
    return choose(is_same(load_bytes(tap), splat_whole(<whole_element>name)), load(dy), splat(0))


cdef inline Py_ssize_t find(const Pooled *after, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w, Py_ssize_t *name) noexcept nogil:
    """Steps to the maximum of an output's window, and the number of its tap."""
    name[0] = after.cells[0][2 * d + 1] + after.cells[1][2 * h + 1] + after.cells[2][2 * w + 1]
    return after.cells[0][2 * d] + after.cells[1][2 * h] + after.cells[2][2 * w]


cdef void set_pooled(Pooled *after, cnp.ndarray taps, tuple cells):
    cdef int i
    after.rectify = False
    after.taps = <unsigned char *>cnp.PyArray_DATA(taps) if taps is not None else NULL
    for i in range(3):
        after.window[i] = 1
        if cells is not None:
            after.cells[i] = <const Py_ssize_t *>cnp.PyArray_DATA(<cnp.ndarray>cells[i])
