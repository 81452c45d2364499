# The second micro-kernel, for sums over few channels: vectors times vectors, sliding down an axis.
#
#     out[o, v] = start + sum over i0, i1, i2, i3 and k < H of  x[o + k, v, i . a] * w[i . b, k]
#
# A pass reads one row of x and adds to the H rows of outputs that it serves, so a vector of x is
# loaded once for H products. The oldest row of sums is then complete and the others move up. The
# chain of additions of an output runs over k first, then i0 to i3: k must count its outermost taps.
# With H = 1 nothing moves, and all taps are among i0 to i3. At an edge i2 counts the taps along a row of x, and
# beyond its ends they read zeros. The cells of a vector of x may also be every second one; then, if sums slide
# at all, a pass reads two rows and ends with one of outputs.
#
# Most windows have three taps along a row: those are unrolled, as i3. `strip` is for them where nothing slides.

cdef extern from "simd.h" nogil:
    vec loaded(vec v)
    void prefetch_input(const real *p)
    enum: CHEAP_MASKS
    ctypedef struct some_lanes:
        pass
    some_lanes lanes_inside(long at, long n)
    vec load_some(const real *p, some_lanes lanes)
    vec evens(vec a, vec b)
    void split_pairs(vec a, vec b, vec *even, vec *odd)
    void join_pairs(vec even, vec odd, vec *a, vec *b)
    vec shifted(vec a, vec b)

cdef enum:
    MAX_H = 12
    MAX_SLIDE_V = 8
    MASKED_V = 7       # under masks, side by side
    THREE = 3          # taps along a row that are unrolled
    MAX_EDGE_TAPS = 64
    ROWS_AHEAD = 16    # rows lie on different pages, where the processor itself does not look ahead

cdef struct Slide:
    Tile t                      # n, a (steps of x), b (of w), out_v, next_a and next_out (rows), start
    Py_ssize_t x_v              # from one vector of x to the next; these and out_v follow each other where outputs slide, but at edges
    Py_ssize_t rows             # of outputs
    Py_ssize_t count            # tiles of V vectors,
    Py_ssize_t x_tile, w_tile, out_tile     # from one to the next
    bint even, edge             # as above
    bint nine                   # runs are three rows of three taps side by side, and all but the first and last vectors lie inside
    bint three                  # each run is the three taps of a row, side by side where cells are every second one
    bint strip                  # and vectors lie one or two of them apart
    Py_ssize_t at, at_tap       # where in its row of x the first element lies; from tap to tap
    Py_ssize_t n_in             # elements of a row of x
    Py_ssize_t first, last      # rows of x that are inside; others add nothing
    Py_ssize_t x_ahead, out_ahead           # to what is fetched into cache: where a vector, all taps read, ends,
    Py_ssize_t turn             # and the row from which on that is in the next tile
    Py_ssize_t n_last           # elements that are stored of the last vector of all


cdef inline int max_slide_v(int H) noexcept nogil:
    """As many vectors as leave registers for a weight, 0 and V vectors of x."""
    return min(MAX_SLIDE_V, ACCUMULATORS if H == 1 else (ACCUMULATORS + 2) // (H + 1))


cdef inline int most_slide_v(const bint edge, const bint three, const int H) noexcept nogil:
    """Of a body: at the edges of rows two are enough, but where masks cost nothing all vectors of a row have them."""
    return min(max_slide_v(H), (MASKED_V if three and CHEAP_MASKS else 2) if edge else MAX_SLIDE_V)


cdef inline vec load_cells(const bint even, const bint edge, const real *x, const some_lanes *lanes) noexcept nogil:
    if even and edge:
        return evens(load_some(x, lanes[0]), load_some(x + LANES - 1, lanes[1]))
    if edge:
        return load_some(x, lanes[0])
    return load_even(x, LANES) if even else load(x)


cdef inline void load_three(const bint edge, const int V, const real *x, Py_ssize_t x_v, const some_lanes *lanes, vec *cells) noexcept nogil:
    """Every second cell, cells[i3, v], of V vectors for three taps side by side; with ``edge`` they follow each other
    where masks are cheap."""
    cdef const real *p
    cdef int v
    for v in range(V):
        p = x + v * x_v
        if edge:
            split_pairs(load_some(p, lanes[2 * v]), load_some(p + LANES, lanes[2 * v + 1]), cells + v, cells + V + v)
        else:
            split_pairs(load(p), load(p + LANES), cells + v, cells + V + v)
    for v in range(V):
        if v < V - 1 and (CHEAP_MASKS or not edge):
            cells[2 * V + v] = shifted(cells[v], cells[v + 1])
        else:
            p = x + v * x_v + 2 * LANES
            cells[2 * V + v] = shifted(cells[v], load_some(p, lanes[2 * (2 * V + v)]) if edge else splat(p[0]))


cdef inline int rows_of_pass(const bint even, const int H) noexcept nogil:
    """Rows of x between two outputs of a slide."""
    return 2 if even and H > 1 else 1


cdef inline int rows_of_sums(const bint even, const int H) noexcept nogil:
    return (H + rows_of_pass(even, H) - 1) // rows_of_pass(even, H)


cdef inline void add_row(const bint even, const bint edge, const bint three, const int H, const int V, const int j, const Slide *s,
                         Py_ssize_t runs, const real *row, const real *w, const some_lanes *lanes, vec *acc) noexcept nogil:
    """The products of row j of a pass, which the taps j, j + J, ... of each vector of ``acc`` read."""
    cdef vec cells[MAX_SLIDE_V]
    cdef vec three_cells[THREE * MAX_SLIDE_V]
    cdef vec tap
    cdef Py_ssize_t i2 = 0, i3, r, n3 = s.t.sum.n[3], a3 = s.t.sum.a[3], b3 = s.t.sum.b[3]
    cdef Py_ssize_t x_v = step_of_vectors(even, edge, H, s.x_v)
    cdef const real *px
    cdef const real *pw
    cdef int k, v, J = rows_of_pass(even, H), K = rows_of_sums(even, H)
    for r in range(runs):
        px = row + s.t.run[r].a
        pw = w + s.t.run[r].b
        if even and three:
            load_three(edge, V, px, x_v, lanes, three_cells)
        for i3 in range(THREE if three else n3):
            for v in range(V):
                cells[v] = three_cells[i3 * V + v] if even and three else load_cells(even, edge, px + v * x_v, lanes + 2 * ((i3 if three else i2) * V + v))
                if K > 1 and not edge:      # else each product loads it again
                    cells[v] = loaded(cells[v])
            for k in range(K):
                if j + k * J < H:
                    tap = load(pw + (j + k * J) * LANES) if V == 1 else loaded(load(pw + (j + k * J) * LANES))
                    for v in range(V):
                        acc[k * V + v] = acc[k * V + v] + cells[v] * tap
            px += a3
            pw += b3
        i2 = i2 + 1 if edge and i2 + 1 < s.t.sum.n[2] else 0


cdef inline Py_ssize_t step_of_vectors(const bint even, const bint edge, const int H, Py_ssize_t step) noexcept nogil:
    """What the compiler does not know where vectors need not follow each other."""
    return step if edge or H == 1 else (2 * LANES if even else LANES)


cdef inline void set_lanes(const bint even, const bint edge, const bint three, const int V, const Slide *s, Py_ssize_t x_v, some_lanes *lanes) noexcept nogil:
    """Those of the two halves of each vector, for each tap; as `load_three` loads them with ``three`` and ``even``."""
    cdef Py_ssize_t i, at, half
    cdef int v
    for i in range((THREE if three else s.t.sum.n[2]) if edge else 0):
        at, half = s.at + i * s.at_tap, LANES - 1
        if even and three:
            at, half = s.at + (2 * LANES if i == 2 else i), LANES
        for v in range(V):
            lanes[2 * (i * V + v)] = lanes_inside(at + v * x_v, s.n_in)
            lanes[2 * (i * V + v) + 1] = lanes_inside(at + v * x_v + half, s.n_in)


cdef inline void fetch_ahead(const bint even, const bint edge, const int H, const int V, const Slide *s, const real *x, Py_ssize_t x_v,
                             const real *out, Py_ssize_t out_v) noexcept nogil:
    """The lines of a pass, each once where vectors follow each other."""
    cdef int j, v
    for v in range(V):
        if edge or H == 1 or (V - 1 - v) * LANES * <int>sizeof(real) % 64 == 0:    # else in the line of the next
            prefetch(out + v * out_v)
        for j in range(rows_of_pass(even, H)):
            if even or edge or H == 1 or (V - 1 - v) * LANES * <int>sizeof(real) % 64 == 0:
                prefetch_input(x + j * s.t.next_a + v * x_v)
            if even and LANES * sizeof(real) == 64:
                prefetch_input(x + j * s.t.next_a + v * x_v + LANES)


cdef inline void store_row(const int V, const vec *acc, real *to, Py_ssize_t out_v, Py_ssize_t n_last) noexcept nogil:
    """V vectors, of the last one n_last elements."""
    cdef int v
    for v in range(V - 1):
        store(to + v * out_v, acc[v] + splat(0))     # as in `tile`: no -0.0
    if n_last == LANES:
        store(to + (V - 1) * out_v, acc[V - 1] + splat(0))
    else:
        store_part(to + (V - 1) * out_v, acc[V - 1] + splat(0), n_last)


cdef inline void move_up(const int K, const int V, vec *acc, vec start) noexcept nogil:
    cdef int k, v
    for k in range(K - 1, 0, -1):
        for v in range(V):
            acc[k * V + v] = acc[(k - 1) * V + v]
    for v in range(V):
        acc[v] = start


cdef inline void slide(const bint even, const bint edge, const bint three, const int H, const int V, const Slide *s, const real *x, const real *w,
                       real *out) noexcept nogil:
    cdef vec acc[MAX_H * MAX_SLIDE_V]
    cdef vec start
    cdef Py_ssize_t i, m, x_ahead, out_ahead
    cdef Py_ssize_t x_v = step_of_vectors(even, edge, H, s.x_v), out_v = step_of_vectors(False, edge, H, s.t.out_v)
    cdef some_lanes lanes[2 * 2 * MAX_EDGE_TAPS]
    cdef const real *row
    cdef real *to
    cdef int k, J = rows_of_pass(even, H), K = rows_of_sums(even, H)
    set_lanes(even, edge, three, V, s, x_v, lanes)
    for m in range(s.count):       # without this loop GCC does not unroll those over k and v
        row, to, start = x, out, load(s.t.start + m * s.w_tile)
        x_ahead, out_ahead = s.x_ahead, s.out_ahead
        for k in range(K * V):
            acc[k] = start
        for i in range(s.rows + K - 1):
            if i == s.turn and m < s.count - 1:
                x_ahead += s.x_tile - (s.rows + K - 1) * J * s.t.next_a
                out_ahead += s.out_tile - s.rows * s.t.next_out
            fetch_ahead(even, edge, H, V, s, row + x_ahead, x_v, to + out_ahead, out_v)
            add_row(even, edge, three, H, V, 0, s, s.t.runs if s.first <= i * J < s.last else 0, row, w, lanes, acc)
            if J == 2:
                add_row(even, edge, three, H, V, 1, s, s.t.runs if s.first <= i * J + 1 < s.last else 0, row + s.t.next_a, w, lanes, acc)
            row += J * s.t.next_a
            store_row(V, acc + (K - 1) * V, to, out_v, LANES if m < s.count - 1 else s.n_last)
            to += s.t.next_out if i >= K - 1 else 0      # earlier rows lie before the first output
            # Where registers are scarce it would drive a sum into memory.
            move_up(K, V, acc, start if H == 1 or (H + 1) * V + 3 <= ACCUMULATORS + 4 else load(s.t.start + m * s.w_tile))
        x += s.x_tile
        w += s.w_tile
        out += s.out_tile


cdef inline void strip(const int R, const int V, const Slide *s, const real *x, const real *w, real *out) noexcept nogil:
    """As `slide` with H = 1 for three taps along the axis of the V vectors, which are R taps apart: each is loaded once."""
    cdef vec acc[MAX_SLIDE_V]
    cdef vec taps[THREE]
    cdef vec cells
    cdef Py_ssize_t j, r, x_v = s.x_v, out_v = s.t.out_v, a3 = s.t.sum.a[3], b3 = s.t.sum.b[3]
    cdef const real *px
    cdef const real *pw
    cdef int c, k, v
    for j in range(s.count):
        acc[0] = load(s.t.start + j * s.w_tile)
        for v in range(1, V):
            acc[v] = acc[0]
        for v in range(V):
            prefetch_input(x + s.x_ahead + v * x_v)
            prefetch(out + s.out_ahead + v * out_v)
        for r in range(s.t.runs):
            px = x + s.t.run[r].a
            pw = w + s.t.run[r].b
            for k in range(THREE):
                taps[k] = load(pw + k * b3)
            for c in range(R * (V - 1) + THREE):
                cells = loaded(load(px + c * a3))
                for k in range(THREE):
                    if (c - k) % R == 0 and 0 <= c - k <= R * (V - 1):
                        acc[(c - k) // R] = acc[(c - k) // R] + cells * taps[k]
        for v in range(V):
            store(out + v * out_v, acc[v] + splat(0))     # as in `tile`: no -0.0
        x += s.x_tile
        w += s.w_tile
        out += s.out_tile


cdef inline void strip_of(const int R, int V, const Slide *s, const real *x, const real *w, real *out) noexcept nogil:
    if V == 1: strip(R, 1, s, x, w, out)
    elif V == 2: strip(R, 2, s, x, w, out)
    elif V == 3: strip(R, 3, s, x, w, out)
    elif V == 4: strip(R, 4, s, x, w, out)
    elif V == 5: strip(R, 5, s, x, w, out)
    elif V == 6: strip(R, 6, s, x, w, out)
    elif V == 7: strip(R, 7, s, x, w, out)
    elif V == 8: strip(R, 8, s, x, w, out)


cdef inline void slide_of_height(const bint even, const bint edge, const bint three, const int H, int V, const Slide *s, const real *x,
                                 const real *w, real *out) noexcept nogil:
    # As in tile_of_width: one body per size.
    if V == 1: slide(even, edge, three, H, 1, s, x, w, out)
    elif V == 2 and V <= max_slide_v(H): slide(even, edge, three, H, 2, s, x, w, out)
    elif V == 3 and V <= most_slide_v(edge, three, H): slide(even, edge, three, H, 3, s, x, w, out)
    elif V == 4 and V <= most_slide_v(edge, three, H): slide(even, edge, three, H, 4, s, x, w, out)
    elif V == 5 and V <= most_slide_v(edge, three, H): slide(even, edge, three, H, 5, s, x, w, out)
    elif V == 6 and V <= most_slide_v(edge, three, H): slide(even, edge, three, H, 6, s, x, w, out)
    elif V == 7 and V <= most_slide_v(edge, three, H): slide(even, edge, three, H, 7, s, x, w, out)
    elif V == 8 and V <= most_slide_v(edge, three, H): slide(even, edge, three, H, 8, s, x, w, out)


cdef inline void slide_of_kind(const bint edge, int H, int V, const Slide *s, const real *x, const real *w, real *out) noexcept nogil:
    if H == 1: slide_of_height(False, edge, False, 1, V, s, x, w, out)
    elif H == 2: slide_of_height(False, edge, False, 2, V, s, x, w, out)
    elif H == 3: slide_of_height(False, edge, False, 3, V, s, x, w, out)
    elif H == 4: slide_of_height(False, edge, False, 4, V, s, x, w, out)
    elif H == 5: slide_of_height(False, edge, False, 5, V, s, x, w, out)
    elif H == 6: slide_of_height(False, edge, False, 6, V, s, x, w, out)
    elif H == 7: slide_of_height(False, edge, False, 7, V, s, x, w, out)
    elif H == 8: slide_of_height(False, edge, False, 8, V, s, x, w, out)
    elif H == 9: slide_of_height(False, edge, False, 9, V, s, x, w, out)
    elif H == 10: slide_of_height(False, edge, False, 10, V, s, x, w, out)
    elif H == 11: slide_of_height(False, edge, False, 11, V, s, x, w, out)
    elif H == 12: slide_of_height(False, edge, False, 12, V, s, x, w, out)


cdef void run_strip(int V, const Slide *s, const real *x, const real *w, real *out) noexcept nogil:
    if s.x_v == s.t.sum.a[3]:
        strip_of(1, V, s, x, w, out)
    else:
        strip_of(2, V, s, x, w, out)


cdef inline void slide_of_three(const bint even, const bint edge, int H, int V, const Slide *s, const real *x, const real *w, real *out) noexcept nogil:
    if H == THREE:
        slide_of_height(even, edge, True, THREE, V, s, x, w, out)
    else:
        slide_of_height(even, edge, True, 1, V, s, x, w, out)


cdef void run_three(int H, int V, const Slide *s, const real *x, const real *w, real *out) noexcept nogil:
    if s.even and s.edge:
        slide_of_three(True, True, H, V, s, x, w, out)
    elif s.even:
        slide_of_three(True, False, H, V, s, x, w, out)
    elif s.edge:
        slide_of_three(False, True, H, V, s, x, w, out)
    else:
        slide_of_three(False, False, H, V, s, x, w, out)


cdef void run_slide(int H, int V, const Slide *s, const real *x, const real *w, real *out) noexcept nogil:
    if s.strip:
        run_strip(V, s, x, w, out)
    elif s.nine and s.t.runs == 1:
        run_nine(V, s, x, w, out)
    elif s.nine and not s.even and CHEAP_MASKS:        # with 32 registers, too
        run_nines(V, s, x, w, out)
    elif s.three:
        run_three(H, V, s, x, w, out)
    elif s.even and s.edge:
        slide_of_height(True, True, False, 1, V, s, x, w, out)
    elif s.even:
        slide_of_height(True, False, False, 1, V, s, x, w, out)
    elif s.edge:
        slide_of_kind(True, H, V, s, x, w, out)
    else:
        slide_of_kind(False, H, V, s, x, w, out)
