# The second micro-kernel, for sums over few channels: vectors times vectors, sliding down an axis.
#
#     out[o, v] = start + sum over i0, i1, i2, i3 and k < H of  x[o + k, v, i . a] * w[i . b, k]
#
# A pass reads one row of x and adds to the H rows of outputs that it serves, so a vector of x is
# loaded once for H products. The oldest row of sums is then complete and the others move up. The
# chain of additions of an output runs over k first, then i0 to i3: k must count its outermost taps.
# With H = 1 nothing moves, and all taps are among i0 to i3.

cdef extern from "simd.h" nogil:
    vec loaded(vec v)
    void prefetch_input(const real *p)

cdef enum:
    MAX_H = 12
    MAX_SLIDE_V = 8
    ROWS_AHEAD = 4     # rows lie on different pages, where the processor itself does not look ahead

cdef struct Slide:
    Tile t                      # n, a (steps of x), b (of w), out_v, next_a and next_out (rows), start
    Py_ssize_t x_v              # from one vector of x to the next
    Py_ssize_t rows             # of outputs
    Py_ssize_t count            # tiles of V vectors side by side
    Py_ssize_t first, last      # rows of x that are inside; others add nothing
    Py_ssize_t n_last           # elements that are stored of the last vector of all


cdef inline int max_slide_v(int H) noexcept nogil:
    """As many vectors as leave registers for a weight, a product and V vectors of x."""
    return min(MAX_SLIDE_V, (ACCUMULATORS + 2) // (H + 1))


cdef inline void slide(const int H, const int V, const Slide *s, const real *x, const real *w, real *out) noexcept nogil:
    cdef vec acc[MAX_H * MAX_SLIDE_V]
    cdef vec cells[MAX_SLIDE_V]
    cdef vec start = load(s.t.start)
    cdef vec tap
    cdef Py_ssize_t i, j, i0, i1, i2, n0, n3 = s.t.n[3], a3 = s.t.a[3], b3 = s.t.b[3], x_v = s.x_v, out_v = s.t.out_v
    cdef const real *row
    cdef const real *px
    cdef const real *pw
    cdef real *to
    cdef int k, v
    for j in range(s.count):       # without this loop GCC does not unroll those over k and v
        row, to = x + j * V * x_v, out + j * V * out_v
        for k in range(H * V):
            acc[k] = start
        for i in range(s.rows + H - 1):
            for v in range(V):
                prefetch_input(row + ROWS_AHEAD * s.t.next_a + v * x_v)
                prefetch(to + ROWS_AHEAD * s.t.next_out + v * out_v)
            n0 = s.t.n[0] if s.first <= i < s.last else 0
            for i0 in range(n0):
                for i1 in range(s.t.n[1]):
                    for i2 in range(s.t.n[2]):
                        px = row + i0 * s.t.a[0] + i1 * s.t.a[1] + i2 * s.t.a[2]
                        pw = w + i0 * s.t.b[0] + i1 * s.t.b[1] + i2 * s.t.b[2]
                        for _ in range(n3):
                            for v in range(V):
                                cells[v] = load(px + v * x_v)
                            for k in range(H):
                                tap = loaded(load(pw + k * LANES))
                                for v in range(V):
                                    acc[k * V + v] = acc[k * V + v] + cells[v] * tap
                            px += a3
                            pw += b3
            for v in range(V - 1):
                store(to + v * out_v, acc[(H - 1) * V + v] + splat(0))     # as in `tile`: no -0.0
            if s.n_last == LANES or j < s.count - 1:
                store(to + (V - 1) * out_v, acc[H * V - 1] + splat(0))
            else:
                store_part(to + (V - 1) * out_v, acc[H * V - 1] + splat(0), s.n_last)
            to += s.t.next_out if i >= H - 1 else 0      # earlier rows lie before the first output
            for k in range(H - 1, 0, -1):
                for v in range(V):
                    acc[k * V + v] = acc[(k - 1) * V + v]
            for v in range(V):
                acc[v] = start
            row += s.t.next_a


cdef inline void slide_of_height(const int H, int V, const Slide *s, const real *x, const real *w, real *out) noexcept nogil:
    # As in tile_of_width: one body per size.
    if V == 1: slide(H, 1, s, x, w, out)
    elif V == 2 and 2 * (H + 1) <= ACCUMULATORS + 2: slide(H, 2, s, x, w, out)
    elif V == 3 and 3 * (H + 1) <= ACCUMULATORS + 2: slide(H, 3, s, x, w, out)
    elif V == 4 and 4 * (H + 1) <= ACCUMULATORS + 2: slide(H, 4, s, x, w, out)
    elif V == 5 and 5 * (H + 1) <= ACCUMULATORS + 2: slide(H, 5, s, x, w, out)
    elif V == 6 and 6 * (H + 1) <= ACCUMULATORS + 2: slide(H, 6, s, x, w, out)
    elif V == 7 and 7 * (H + 1) <= ACCUMULATORS + 2: slide(H, 7, s, x, w, out)
    elif V == 8 and 8 * (H + 1) <= ACCUMULATORS + 2: slide(H, 8, s, x, w, out)


cdef void run_slide(int H, int V, const Slide *s, const real *x, const real *w, real *out) noexcept nogil:
    if H == 1: slide_of_height(1, V, s, x, w, out)
    elif H == 2: slide_of_height(2, V, s, x, w, out)
    elif H == 3: slide_of_height(3, V, s, x, w, out)
    elif H == 4: slide_of_height(4, V, s, x, w, out)
    elif H == 5: slide_of_height(5, V, s, x, w, out)
    elif H == 6: slide_of_height(6, V, s, x, w, out)
    elif H == 7: slide_of_height(7, V, s, x, w, out)
    elif H == 8: slide_of_height(8, V, s, x, w, out)
    elif H == 9: slide_of_height(9, V, s, x, w, out)
    elif H == 10: slide_of_height(10, V, s, x, w, out)
    elif H == 11: slide_of_height(11, V, s, x, w, out)
    elif H == 12: slide_of_height(12, V, s, x, w, out)
