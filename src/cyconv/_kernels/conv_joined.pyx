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
    Py_ssize_t n_taps, w_step
    Py_ssize_t rows, x_row, y_row
    Py_ssize_t n_out                  # of a row


cdef inline bint is_joined(const Conv *cv) noexcept nogil:
    return (cv.apart == 2 and cv.n_sum == 1 and cv.axis[2].n_taps <= MAX_EDGE_TAPS
            and cv.axis[0].n_taps * cv.axis[1].n_taps <= JOINED_RUNS)


cdef inline void join_rows(const int three, const int V, const Joined *j, const real *x, const real *w, real *y) noexcept nogil:
    """Rows with the same taps; ``w`` begins with what sums start from. ``three``: taps that meet outputs of either kind
    in turn, 1: first the first ones, 2: the others; 0: any taps."""
    cdef vec sums[2 * JOINED_V]
    cdef vec tap
    cdef vec low
    cdef vec high
    cdef Py_ssize_t i, r, s
    cdef const real *px
    cdef const real *pw
    cdef int kind, v
    for i in range(j.rows):
        for v in range(2 * V):
            sums[v] = load(w)
        for r in range(j.runs):
            px, pw = x + j.run[r].a, w + LANES + j.run[r].b
            for s in range(THREE if three else j.n_taps):
                tap = load(pw + s * j.w_step)
                kind = (three + s + 1) % 2 if three else j.odd[s]
                for v in range(V):
                    sums[kind * V + v] = sums[kind * V + v] + load_some(px + j.cell[s] + v * LANES, j.lanes[s * JOINED_V + v]) * tap
        for v in range(V):
            join_pairs(sums[v] + splat(0), sums[V + v] + splat(0), &low, &high)     # no -0
            if v < V - 1 or j.n_out == 2 * V * LANES:
                store(y + 2 * v * LANES, low)
                store(y + (2 * v + 1) * LANES, high)
            else:
                store_part(y + 2 * v * LANES, low, clip(j.n_out - 2 * v * LANES, 0, LANES))
                store_part(y + (2 * v + 1) * LANES, high, clip(j.n_out - (2 * v + 1) * LANES, 0, LANES))
        x += j.x_row
        y += j.y_row


cdef inline void join_rows_of(const int three, int V, const Joined *j, const real *x, const real *w, real *y) noexcept nogil:
    if V == 1: join_rows(three, 1, j, x, w, y)
    elif V == 2: join_rows(three, 2, j, x, w, y)
    elif V == 3: join_rows(three, 3, j, x, w, y)
    elif V == 4: join_rows(three, 4, j, x, w, y)


cdef void run_join(int V, const Joined *j, const real *x, const real *w, real *y) noexcept nogil:
    if j.n_taps != THREE or j.odd[0] == j.odd[1] or j.odd[1] == j.odd[2]:
        join_rows_of(0, V, j, x, w, y)
    elif j.odd[0]:
        join_rows_of(2, V, j, x, w, y)
    else:
        join_rows_of(1, V, j, x, w, y)


cdef void run_joined(const Depthwise *d, const Box *box, const real *x, const real *packed, real *y) noexcept nogil:
    cdef const Axis *axis = &d.cv.axis[2]
    cdef Py_ssize_t pairs = ceil_div(box.n_out[2], 2 * LANES), parts = ceil_div(pairs, JOINED_V), i, at, start, first, cell, s
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
                j.lanes[s * JOINED_V + v] = lanes_inside(cell + v * LANES, (axis.n_in + 1) // 2)
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
