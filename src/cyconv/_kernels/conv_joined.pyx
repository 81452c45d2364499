# Depthwise convolution of rows with a zero between any two cells, along which the phases of an input gradient of
# stride 2 lie: every tap meets a cell in each second output only. Outputs 0, 2, 4 ... are summed in one vector,
# those between them in another, both over the cells as they lie in memory, and joined when they are stored. The
# additions of an output are those of the taps that it has, in the order of every other convolution.

cdef enum:
    JOINED_V = 4          # pairs of vectors side by side: all of a row of 128
    JOINED_RUNS = 256     # rows of taps of a sum

cdef struct Joined:
    Start run[JOINED_RUNS]            # where the first cell and weight of each row of taps are
    Py_ssize_t runs
    Py_ssize_t cell[MAX_EDGE_TAPS]    # of each tap of a row, from the first one's
    some_lanes lanes[MAX_EDGE_TAPS * JOINED_V]     # [tap, v]: cells inside
    bint odd[MAX_EDGE_TAPS]           # whether it meets the second outputs
    bint three                        # taps side by side, and all vectors but the first and the last one inside
    Py_ssize_t n_taps, w_step
    Py_ssize_t rows, x_row, y_row
    Py_ssize_t n_out                  # of a row


cdef inline bint is_joined(const Conv *cv) noexcept nogil:
    return (cv.apart == 2 and cv.n_sum == 1 and cv.axis[2].n_taps <= MAX_EDGE_TAPS
            and cv.axis[0].n_taps * cv.axis[1].n_taps <= JOINED_RUNS)


cdef inline void join_rows(const int V, const Joined *j, const real *x, const real *w, real *y) noexcept nogil:
    """Rows with the same taps; ``w`` begins with what sums start from."""
    cdef vec sums[2 * JOINED_V]
    cdef vec tap
    cdef Py_ssize_t i, r, s, kind
    cdef const real *px
    cdef const real *pw
    cdef int v
    for i in range(j.rows):
        for v in range(2 * V):
            sums[v] = load(w)
        for r in range(j.runs):
            px, pw = x + j.run[r].a, w + LANES + j.run[r].b
            for s in range(j.n_taps):
                tap = load(pw + s * j.w_step)
                kind = j.odd[s]
                for v in range(V):
                    sums[kind * V + v] = sums[kind * V + v] + load_some(px + j.cell[s] + v * LANES, j.lanes[s * JOINED_V + v]) * tap
        join_row(V, j.n_out, sums, y)
        x += j.x_row
        y += j.y_row


cdef inline void join_row(const int V, Py_ssize_t n_out, const vec *sums, real *y) noexcept nogil:
    cdef vec low
    cdef vec high
    cdef int v
    for v in range(V):
        join_pairs(sums[v] + splat(0), sums[V + v] + splat(0), &low, &high)     # no -0
        if v < V - 1 or n_out == 2 * V * LANES:
            store(y + 2 * v * LANES, low)
            store(y + (2 * v + 1) * LANES, high)
        else:
            store_part(y + 2 * v * LANES, low, clip(n_out - 2 * v * LANES, 0, LANES))
            store_part(y + (2 * v + 1) * LANES, high, clip(n_out - (2 * v + 1) * LANES, 0, LANES))


cdef inline void join_three(const bint odd, const int runs, const int V, const Joined *j, const real *x, const real *w, real *y) noexcept nogil:
    """As `join_rows` for a row or two of three taps side by side, which stay in registers; the first one and the
    last meet first outputs or, if ``odd``, second ones. Only the first and the last vector are not all inside."""
    cdef vec sums[2 * JOINED_V]
    cdef vec taps[2 * THREE]
    cdef vec cells[2]
    cdef vec start = load(w)
    cdef Py_ssize_t i
    cdef const real *px
    cdef int r, s, v
    for r in range(runs):
        for s in range(THREE):
            taps[r * THREE + s] = load(w + LANES + j.run[r].b + s * j.w_step)
    for i in range(j.rows):
        for v in range(V):
            prefetch(y + ROWS_AHEAD // 2 * j.y_row + 2 * v * LANES)
            prefetch(y + ROWS_AHEAD // 2 * j.y_row + (2 * v + 1) * LANES)
            sums[v] = sums[V + v] = start
            for r in range(runs):
                px = x + j.run[r].a + v * LANES
                cells[0] = cells_of(v == 0 or v == V - 1, px, j.lanes[v])
                cells[1] = cells_of(v == 0 or v == V - 1, px + 1, j.lanes[2 * JOINED_V + v])
                for s in range(THREE):
                    if (s == 1) != odd:
                        sums[V + v] = sums[V + v] + cells[(s + 1 - odd) // 2] * taps[r * THREE + s]
                    else:
                        sums[v] = sums[v] + cells[(s + 1 - odd) // 2] * taps[r * THREE + s]
        join_row(V, j.n_out, sums, y)
        x += j.x_row
        y += j.y_row


cdef inline void join_three_of(const bint odd, int V, const Joined *j, const real *x, const real *w, real *y) noexcept nogil:
    if V == 1 and j.runs == 1: join_three(odd, 1, 1, j, x, w, y)
    elif V == 2 and j.runs == 1: join_three(odd, 1, 2, j, x, w, y)
    elif V == 3 and j.runs == 1: join_three(odd, 1, 3, j, x, w, y)
    elif V == 4 and j.runs == 1: join_three(odd, 1, 4, j, x, w, y)
    elif V == 1: join_three(odd, 2, 1, j, x, w, y)
    elif V == 2: join_three(odd, 2, 2, j, x, w, y)
    elif V == 3: join_three(odd, 2, 3, j, x, w, y)
    elif V == 4: join_three(odd, 2, 4, j, x, w, y)


cdef void run_join(int V, const Joined *j, const real *x, const real *w, real *y) noexcept nogil:
    if j.three and 1 <= j.runs <= 2:
        if j.odd[0]:
            join_three_of(True, V, j, x, w, y)
        else:
            join_three_of(False, V, j, x, w, y)
    elif V == 1: join_rows(1, j, x, w, y)
    elif V == 2: join_rows(2, j, x, w, y)
    elif V == 3: join_rows(3, j, x, w, y)
    elif V == 4: join_rows(4, j, x, w, y)


cdef void run_joined(const Depthwise *d, const Box *box, const real *x, const real *packed, real *y) noexcept nogil:
    cdef const Axis *axis = &d.cv.axis[2]
    cdef Py_ssize_t pairs = ceil_div(box.n_out[2], 2 * LANES), parts = ceil_div(pairs, JOINED_V), n_in = (axis.n_in + 1) // 2
    cdef Py_ssize_t i, at, start, first, cell, s
    cdef Joined j
    cdef int V, v
    j.n_taps, j.w_step = axis.n_taps, d.step[2]
    for i in range(parts):
        at = part(pairs, parts, i) * 2 * LANES
        V, start = <int>(part(pairs, parts, i + 1) - part(pairs, parts, i)), axis.start + box.out[2] + at
        j.n_out, first = min(box.n_out[2] - at, 2 * V * LANES), ceil_div(start, 2)
        for s in range(axis.n_taps):
            cell = ceil_div(start + s * axis.step, 2)
            j.cell[s], j.odd[s] = cell - first, 2 * cell > start + s * axis.step
            for v in range(V):
                j.lanes[s * JOINED_V + v] = lanes_inside(cell + v * LANES, n_in)
        j.three = (axis.n_taps == THREE and axis.step == 1
                   and (V <= 2 or (first + LANES >= 0 and first + (V - 1) * LANES < n_in)))
        join_columns(d, box, &j, V, x + first, packed, y + at)


cdef void join_columns(const Depthwise *d, const Box *box, Joined *j, int V, const real *x, const real *w, real *y) noexcept nogil:
    """All rows of a box for V pairs of vectors."""
    cdef const Axis *axes = &d.cv.axis[0]
    cdef Py_ssize_t o, h, t, r
    cdef Py_ssize_t first[3]
    cdef Py_ssize_t n[3]
    j.x_row, j.y_row = axes[1].stride * axes[1].x, axes[1].y
    for o in range(box.n_out[0]):
        trim(&axes[0], box.out[0] + o, 0, axes[0].n_taps, &first[0], &n[0])
        h = 0
        while h < box.n_out[1]:
            j.rows, j.runs = alike(&axes[1], box.out[1] + h, box.n_out[1] - h, &first[1], &n[1]), 0
            for t in range(first[0], first[0] + n[0]):
                for r in range(first[1], first[1] + n[1]):
                    j.run[j.runs].a = ((axes[0].start + (box.out[0] + o) * axes[0].stride + t * axes[0].step) * axes[0].x
                                       + (axes[1].start + (box.out[1] + h) * axes[1].stride + r * axes[1].step) * axes[1].x)
                    j.run[j.runs].b = t * d.step[0] + r * d.step[1]
                    j.runs += 1
            run_join(V, j, x, w, y + o * axes[0].y + h * axes[1].y)
            h += j.rows
