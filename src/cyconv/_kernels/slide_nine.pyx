# Windows of three rows of three taps, the most usual ones: as `slide`, but the nine weights stay in registers and each
# cell of x is read once. Of windows with several such threes of rows, as those of volumes, only the latter holds.

cdef inline vec cells_of(const bint masked, const real *x, some_lanes lanes) noexcept nogil:
    return loaded(load_some(x, lanes) if masked else load(x))


cdef inline void add_three(const int K, const int J, const int j, const int V, const int v, const vec *cells, const vec *taps, vec *acc) noexcept nogil:
    """The products of three neighbouring cells with row j, j + J, ... of the window."""
    cdef int i, k
    for i in range(THREE):
        for k in range(K):
            if j + k * J < THREE:
                acc[k * V + v] = acc[k * V + v] + cells[i] * taps[(j + k * J) * THREE + i]


cdef inline void add_cells(const bint edge, const int V, const real *x, Py_ssize_t x_v, const some_lanes *lanes, const vec *taps, vec *acc) noexcept nogil:
    """A row of x; with ``edge`` only the first and the last vector are not all inside."""
    cdef vec cells[THREE]
    cdef int i, v
    for v in range(V):
        for i in range(THREE):
            cells[i] = cells_of(edge and (v == 0 or v == V - 1), x + v * x_v + i, lanes[2 * (i * V + v)])
        add_three(THREE, 1, 0, V, v, cells, taps, acc)


cdef inline void add_pairs(const bint edge, const int V, const int j, const real *x, Py_ssize_t x_v, const some_lanes *lanes, const vec *taps,
                           vec *acc) noexcept nogil:
    """The same of every second cell of row j of two; the vectors follow each other, unless masks are dear."""
    cdef vec cells[THREE]
    cdef vec even
    cdef vec odd
    cdef const real *p
    cdef int v
    for v in range(V):
        p = x + v * x_v
        if v == 0 or (edge and not CHEAP_MASKS):
            split_pairs(cells_of(edge, p, lanes[2 * v]), cells_of(edge, p + LANES, lanes[2 * v + 1]), cells, cells + 1)
        if v < V - 1 and not (edge and not CHEAP_MASKS):
            split_pairs(cells_of(edge and v == V - 2, p + x_v, lanes[2 * v + 2]), cells_of(edge and v == V - 2, p + x_v + LANES, lanes[2 * v + 3]), &even, &odd)
            cells[2] = shifted(cells[0], even)
        else:
            cells[2] = shifted(cells[0], load_some(p + 2 * LANES, lanes[2 * (2 * V + v)]) if edge else splat(p[2 * LANES]))
        add_three(2, 2, j, V, v, cells, taps, acc)
        cells[0], cells[1] = even, odd


cdef inline void load_nine(const real *w, Py_ssize_t step, vec *taps) noexcept nogil:
    cdef int k, i
    for k in range(THREE):
        for i in range(THREE):
            taps[k * THREE + i] = load(w + i * step + k * LANES)


cdef inline void nine(const bint one, const bint even, const bint edge, const int V, const Slide *s, const real *x, const real *w, real *out) noexcept nogil:
    cdef vec acc[THREE * MAX_SLIDE_V]
    cdef vec taps[THREE * THREE]
    cdef vec start
    cdef Py_ssize_t i, m, r, x_ahead, out_ahead
    cdef bint apart = edge and (V == 2 or not CHEAP_MASKS)      # else vectors follow each other
    cdef Py_ssize_t x_v = s.x_v if apart else (2 * LANES if even else LANES), out_v = s.t.out_v if apart else LANES
    cdef some_lanes lanes[2 * THREE * MAX_SLIDE_V]
    cdef const real *row
    cdef real *to
    cdef int k, J = rows_of_pass(even, THREE), K = rows_of_sums(even, THREE)
    set_lanes(even, edge, THREE, V, s, x_v, lanes)
    for m in range(s.count):
        row, to, start = x, out, load(s.t.start + m * s.w_tile)
        x_ahead, out_ahead = s.x_ahead, s.out_ahead
        if one:
            row += s.t.run[0].a
            x_ahead -= s.t.run[0].a
            load_nine(w + s.t.run[0].b, s.t.sum.b[3], taps)
        for k in range(K * V):
            acc[k] = start
        for i in range(s.rows + K - 1):
            if i == s.turn and m < s.count - 1:
                x_ahead += s.x_tile - (s.rows + K - 1) * J * s.t.next_a
                out_ahead += s.out_tile - s.rows * s.t.next_out
            fetch_ahead(even, edge, THREE, V, s, row + x_ahead, x_v, to + out_ahead, out_v)
            if even:
                if s.first <= 2 * i < s.last:
                    add_pairs(edge, V, 0, row, x_v, lanes, taps, acc)
                if s.first <= 2 * i + 1 < s.last:
                    add_pairs(edge, V, 1, row + s.t.next_a, x_v, lanes, taps, acc)
            elif one and s.first <= i < s.last:
                add_cells(edge, V, row, x_v, lanes, taps, acc)
            for r in range(s.t.runs if not one and s.first <= i < s.last else 0):
                load_nine(w + s.t.run[r].b, s.t.sum.b[3], taps)
                add_cells(edge, V, row + s.t.run[r].a, x_v, lanes, taps, acc)
            row += J * s.t.next_a
            store_row(V, acc + (K - 1) * V, to, out_v, LANES if m < s.count - 1 else s.n_last)
            to += s.t.next_out if i >= K - 1 else 0      # earlier rows lie before the first output
            move_up(K, V, acc, start)
        x += s.x_tile
        w += s.w_tile
        out += s.out_tile


cdef inline void nine_of_width(const bint one, const bint even, const bint edge, int V, const Slide *s, const real *x, const real *w, real *out) noexcept nogil:
    if V == 1: nine(one, even, edge, 1, s, x, w, out)
    elif V == 2: nine(one, even, edge, 2, s, x, w, out)
    elif V == 3 and V <= most_slide_v(edge, True, THREE): nine(one, even, edge, 3, s, x, w, out)
    elif V == 4 and V <= most_slide_v(edge, True, THREE): nine(one, even, edge, 4, s, x, w, out)
    elif V == 5 and V <= most_slide_v(edge, True, THREE): nine(one, even, edge, 5, s, x, w, out)
    elif V == 6 and V <= most_slide_v(edge, True, THREE): nine(one, even, edge, 6, s, x, w, out)
    elif V == 7 and V <= most_slide_v(edge, True, THREE): nine(one, even, edge, 7, s, x, w, out)


cdef void run_nine(int V, const Slide *s, const real *x, const real *w, real *out) noexcept nogil:
    if s.even and s.edge:
        nine_of_width(True, True, True, V, s, x, w, out)
    elif s.even:
        nine_of_width(True, True, False, V, s, x, w, out)
    elif s.edge:
        nine_of_width(True, False, True, V, s, x, w, out)
    else:
        nine_of_width(True, False, False, V, s, x, w, out)


cdef void run_nines(int V, const Slide *s, const real *x, const real *w, real *out) noexcept nogil:
    if s.edge:
        nine_of_width(False, False, True, V, s, x, w, out)
    else:
        nine_of_width(False, False, False, V, s, x, w, out)
