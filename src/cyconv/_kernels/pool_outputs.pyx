# Runs of outputs of a pooling: which have the same taps, where these are, and where the results go.
# Included by pool.pyx, which draws the loop nest.

cdef struct Stretch:
    # Outputs (d, h, w) to (d, h + n_rows - 1, w + n_columns - 1); one row unless lanes are its outputs.
    Py_ssize_t d, h, w, n_rows, n_columns


cdef inline Py_ssize_t name_of_first(const Pool *g, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w) noexcept nogil:
    """Of the first tap of an output inside the input; NO_CELL if there is none."""
    cdef Py_ssize_t *o = [d, h, w]
    cdef Py_ssize_t name = 0
    cdef int i
    for i in range(3):
        if g.windows[i][3 * o[i] + 2] == 0:
            return NO_CELL
        name += g.windows[i][3 * o[i] + 1] * g.name[i]
    return name


cdef inline bint is_sum(const int kind) noexcept nogil:
    return kind == SUM_PASS or kind == LONG_SUM_PASS


cdef void start_row(const int kind, const Pool *g, const Stretch *out, Py_ssize_t h, Run *run) noexcept nogil:
    """What is known of the outputs of one row, in whole vectors."""
    cdef Py_ssize_t i, last = out.w + out.n_columns - 1, o
    for i in range(ceil_div(out.n_columns, LANES) * LANES):
        o = min(out.w + i, last)
        if is_sum(kind):
            run.divisor[i] = divisor(g, out.d, h, o)
            run.by[i] = <real>run.divisor[i]
        elif kind == ARGMAX_PASS or kind == ARGMIN_PASS:
            run.first[i] = <whole_element>name_of_first(g, out.d, h, o)


cdef Py_ssize_t n_alike(const int kind, const Pool *g, int axis, Py_ssize_t o, Py_ssize_t last) noexcept nogil:
    """Outputs from o on, before ``last``, that have the same taps along an axis, and places as far apart."""
    cdef const Py_ssize_t *w = g.windows[axis] + 3 * o
    cdef Py_ssize_t n = 1
    while (o + n < last and w[3 * n + 1] == w[1] and w[3 * n + 2] == w[2] and w[3 * n] - w[3 * n - 3] == w[3] - w[0]
           and not (is_sum(kind) and g.counts[axis][o + n] != g.counts[axis][o])):
        n += 1
    return n


cdef void list_taps(const Pool *g, const View *view, const Py_ssize_t *first, const Py_ssize_t *n, Py_ssize_t k, Taps *taps) noexcept nogil:
    """At most LISTED of n[0] x n[1] x n[2] taps, from number k on."""
    cdef Py_ssize_t t = first[0], r = first[1], s = first[2], i
    taps.n, taps.x[0] = min(n[0] * n[1] * n[2] - k, LISTED), 0
    if k > 0:
        t, r, s = t + k // (n[1] * n[2]), r + k // n[2] % n[1], s + k % n[2]
    for i in range(taps.n):
        taps.x[i] = t * view.tap[0] + r * view.tap[1] + s * view.tap[2]
        taps.name[i] = <whole_element>(t * g.name[0] + r * g.name[1] + s * g.name[2])
        s += 1
        if s == first[2] + n[2]:
            s, r = first[2], r + 1
            if r == first[1] + n[1]:
                r, t = first[1], t + 1


cdef inline void locate_lines(const int step, const Pool *g, const View *view, const Box *box, const Stretch *out, Py_ssize_t o,
                              Run *run, Lines *lines) noexcept nogil:
    """The lines from number o of a stretch on."""
    cdef int axis = 1 if step > 0 else 2, i
    cdef Py_ssize_t *at = [out.d, out.h + (o if step > 0 else 0), out.w + (0 if step > 0 else o)]
    cdef Py_ssize_t places = place(g, axis, at[axis] + 1) - place(g, axis, at[axis]) if lines.n > 1 else 0
    lines.x, lines.corner = view.data, flat_corner(g, at[0], at[1], at[2])
    for i in range(3):
        lines.x += (place(g, i, at[i]) - box.out[i]) * view.out[i] - box.tap[i] * view.tap[i]
    lines.planes, lines.lanes = box.n_channels if step > 0 else box.n_samples, run.lanes
    lines.x_plane, lines.best_plane = view.c if step > 0 else g.x_n, g.y_c if step > 0 else g.y_n
    lines.ahead = BYTES_AHEAD // <int>sizeof(real) if g.in_place and not g.is_reduced else 0
    lines.x_line, lines.corner_line = places * view.out[axis], places * g.axis[axis].stride * (g.axis[2].n_in if step > 0 else 1)
    lines.best, lines.best_line = run.best + o * run.pitch, run.pitch
    lines.own, lines.own_line = 0 if step > 0 else o, 0 if step > 0 else 1
    lines.tap, lines.tap_line = run.tap + o * run.room, run.room
    lines.bytes = g.tap + (lines.best - g.y) if g.tap != NULL and run.best != run.cells else NULL
    lines.cells = g.index + (lines.best - g.y) if g.index != NULL and run.best != run.cells else NULL
    lines.corner_step, lines.least = g.axis[2].stride if step > 0 else 0, g.least
    if name_of_first(g, at[0], at[1], at[2]) == NO_CELL:
        lines.corner, lines.corner_line, lines.corner_step = 0, 0, 0
    for i in range(LANES):
        lines.corner_lane[i] = <whole_element>(i * lines.corner_step)


cdef inline void pool_outputs(const int kind, const int step, const int width, const Pool *g, const View *view, const Box *box, const Stretch *out,
                              bint first, bint last, Run *run) noexcept nogil:
    """One slab of the taps of some outputs: the first, the last, or both. ``step`` 0: lanes are channels.

    A row has ``width`` taps that follow each other, or 0.
    """
    cdef int axis = 1 if step > 0 else 2, i
    cdef Py_ssize_t begin = out.h if step > 0 else out.w, end = begin + run.lines, o = 0, size, k
    cdef Py_ssize_t first_taps[3]
    cdef Py_ssize_t n_taps[3]
    cdef Taps taps
    cdef Lines lines
    if step == 0:
        start_row(kind, g, out, out.h, run)
    while o < run.lines:
        lines.n = n_alike(kind, g, axis, begin + o, end)
        if step > 0:
            start_row(kind, g, out, out.h + o, run)
        locate_lines(step, g, view, box, out, o, run, &lines)
        size = 1
        for i in range(3):
            k = out.d if i == 0 else begin + o if i == axis else out.h
            first_taps[i] = first_tap(g, i, k, box)
            n_taps[i] = max(last_tap(g, i, k, box) - first_taps[i], 0)
            if i == 2 and step > 0:
                first_taps[i], n_taps[i] = 0, 1 if width > 0 else g.axis[2].n_taps
            size *= n_taps[i]
        for k in range(max(ceil_div(size, LISTED), 1)):
            list_taps(g, view, first_taps, n_taps, k * LISTED, &taps)
            lines.first, lines.last = first and k == 0, last and (k + 1) * LISTED >= size
            if kind <= SUM_PASS:
                pool_registers(kind, step, width, &taps, <whole_element>g.name[2], &lines, run)
            else:
                pool_in_doubles(kind, step, g.p, &taps, &lines, run, o * run.room)
        o += lines.n


cdef inline void run_pass(const int kind, const Pool *g, View *view, Box *box, const Stretch *out, real *scratch, Run *run) noexcept nogil:
    cdef Py_ssize_t n_slabs = g.n_slabs[0] * g.n_slabs[1] * g.n_slabs[2], slab
    for slab in range(n_slabs):
        if n_slabs > 1:
            view_slab(g, slab, box, scratch, view)
        if not g.by_rows:
            pool_outputs(kind, 0, 0, g, view, box, out, slab == 0, slab == n_slabs - 1, run)
        elif g.axis[2].stride == 1:
            pool_outputs(kind, 1, 0, g, view, box, out, True, True, run)
        elif kind <= SUM_PASS and g.axis[2].n_taps == 2 and g.axis[2].step == 1:
            pool_outputs(kind, 2, 2, g, view, box, out, True, True, run)
        elif kind <= SUM_PASS and g.axis[2].n_taps == 3 and g.axis[2].step == 1:
            pool_outputs(kind, 2, 3, g, view, box, out, True, True, run)
        else:
            pool_outputs(kind, 2, 0, g, view, box, out, True, True, run)


cdef void run_passes(const Pool *g, View *view, Box *box, const Stretch *out, real *scratch, Run *run) noexcept nogil:
    # The literals make the compiler write one body per pass.
    cdef int i
    for i in range(g.n_passes):
        if g.passes[i] == MAX_PASS: run_pass(MAX_PASS, g, view, box, out, scratch, run)
        elif g.passes[i] == MIN_PASS: run_pass(MIN_PASS, g, view, box, out, scratch, run)
        elif g.passes[i] == ARGMAX_PASS: run_pass(ARGMAX_PASS, g, view, box, out, scratch, run)
        elif g.passes[i] == ARGMIN_PASS: run_pass(ARGMIN_PASS, g, view, box, out, scratch, run)
        elif g.passes[i] == SUM_PASS: run_pass(SUM_PASS, g, view, box, out, scratch, run)
        elif g.passes[i] == LONG_SUM_PASS: run_pass(LONG_SUM_PASS, g, view, box, out, scratch, run)
        elif g.passes[i] == ABS_PASS: run_pass(ABS_PASS, g, view, box, out, scratch, run)
        elif g.passes[i] == TOP_PASS: run_pass(TOP_PASS, g, view, box, out, scratch, run)
        elif g.passes[i] == SQUARE_PASS: run_pass(SQUARE_PASS, g, view, box, out, scratch, run)
        elif g.passes[i] == WHOLE_POWER_PASS: run_pass(WHOLE_POWER_PASS, g, view, box, out, scratch, run)
        elif g.passes[i] == POWER_PASS: run_pass(POWER_PASS, g, view, box, out, scratch, run)


cdef void put_index(const Pool *g, const Stretch *out, Run *run, Py_ssize_t at) noexcept nogil:
    """Where the extremes are, from the buffer that they were transposed in."""
    cdef whole_element *taps
    cdef int64_t corner
    cdef Py_ssize_t o, i, to
    for o in range(run.lines):
        to, taps = at + o * g.axis[2].y, run.tap + o * run.room
        corner = flat_corner(g, out.d, out.h, out.w + o)
        for i in range(run.lanes):
            if g.tap != NULL:
                g.tap[to + i * g.y_c] = <uint8_t>taps[i]
            else:
                g.index[to + i * g.y_c] = corner + taps[i] if taps[i] != NO_CELL else NO_CELL
