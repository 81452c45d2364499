# Extremes and short sums, whose results stay in registers while a pooling goes through their taps.
#
# A line is a row with its outputs as lanes, or an output with its channels. Lines that have the same
# taps are pooled together, from one list of these.

cdef inline vec load_lanes(const int step, const bint is_part, const real *x, Py_ssize_t n) noexcept nogil:
    if step == 2:
        return load_even(x, n if is_part else LANES)
    return load_part(x, n) if is_part else load(x)


cdef inline test take_vectors(const int kind, const int V, const vec *x, whole name, vec *best, whole *tap) noexcept nogil:
    """Let one tap take part in V vectors. Extremes keep the first of equals and leave NaN out, but tell of it."""
    cdef test wins
    cdef int v
    for v in range(V):
        if kind == SUM_PASS:
            best[v] = best[v] + x[v]
            continue
        if kind == ARGMAX_PASS or kind == ARGMIN_PASS:
            wins = is_less(best[v], x[v]) if kind == ARGMAX_PASS else is_less(x[v], best[v])
            tap[v] = choose_whole(wins, name, tap[v])
        best[v] = at_least(x[v], best[v]) if kind == MAX_PASS or kind == ARGMAX_PASS else no_more_than(x[v], best[v])
    return has_nan(x[0], x[V - 1])


cdef inline void take_nan(const int V, const vec *x, whole name, vec *best, whole *tap) noexcept nogil:
    """Let the first NaN win."""
    cdef test wins
    cdef int v
    for v in range(V):
        wins = has_nan(x[v], x[v]) & ~has_nan(best[v], best[v])
        best[v], tap[v] = choose(wins, x[v], best[v]), choose_whole(wins, name, tap[v])


cdef inline test visit_cells(const int kind, const bint only_nan, const int V, const vec *cells, whole_element name, vec *best,
                             whole *tap) noexcept nogil:
    """Let one tap take part. Whether any cell is NaN."""
    if only_nan:
        take_nan(V, cells, splat_whole(name), best, tap)
        return has_nan(splat(0), splat(0))
    return take_vectors(kind, V, cells, splat_whole(name), best, tap)


cdef inline test visit_taps(const int kind, const bint only_nan, const int step, const int width, const int V, const bint is_part,
                            const Taps *taps, whole_element next_name, const real *x, Py_ssize_t n, Py_ssize_t next, vec *best,
                            whole *tap) noexcept nogil:
    """Whether any cell is NaN. ``width`` > 0: so many taps follow each listed one in memory; lanes are 2 apart."""
    cdef test nan = has_nan(splat(0), splat(0))
    cdef vec cells[GROUP]
    cdef vec odd[GROUP]
    cdef Py_ssize_t i
    cdef const real *cell
    cdef whole_element name
    cdef int v, k
    for i in range(taps.n):
        cell, name = x + taps.x[i], taps.name[i]
        for k in range(width // 2):
            for v in range(V):
                load_pairs(cell + 2 * k + v * 2 * next, n if is_part else LANES, &cells[v], &odd[v])
            nan = nan | visit_cells(kind, only_nan, V, cells, name + 2 * k * next_name, best, tap)
            nan = nan | visit_cells(kind, only_nan, V, odd, name + (2 * k + 1) * next_name, best, tap)
        if width % 2 or width == 0:
            for v in range(V):
                cells[v] = loaded(load_lanes(step, is_part, cell + max(width - 1, 0) + v * max(step, 1) * next, n))
            nan = nan | visit_cells(kind, only_nan, V, cells, name + max(width - 1, 0) * next_name, best, tap)
    return nan


cdef inline void pool_vectors(const int kind, const int step, const int width, const int V, const bint is_part, const Taps *taps,
                              whole_element next_name, const Lines *lines, const Run *run, const real *x, Py_ssize_t at, Py_ssize_t own,
                              whole_element *tap, int64_t corner, Py_ssize_t n, Py_ssize_t next) noexcept nogil:
    """V vectors of lanes that are ``step`` cells apart, each ``next`` lanes behind the other, or the n lanes of a part of one."""
    cdef real start = 0 if kind == SUM_PASS else lines.least if kind == MAX_PASS else -HUGE_VAL if kind == ARGMAX_PASS else HUGE_VAL
    cdef bint has_names = kind == ARGMAX_PASS or kind == ARGMIN_PASS
    cdef vec values[GROUP]
    cdef whole names[GROUP]
    cdef test nan
    cdef Py_ssize_t m = n if is_part else LANES, k
    cdef int v
    for v in range(V):
        names[v] = splat_whole(0)
        if lines.first:
            values[v] = splat(start)
            if has_names:
                names[v] = load_whole(run.first + own + v * next) if step > 0 else splat_whole(run.first[own])
        else:
            values[v] = load_part(lines.best + at + v * next, m) if is_part else load(lines.best + at + v * next)
            if has_names:
                names[v] = load_whole(tap + v * next)
    for k in range(max(taps.n - (2 if step > 0 else 4), 0), taps.n):      # the last taps lead; processors follow them badly
        for v in range(V * max(step, 1)):
            prefetch_input(x + taps.x[k] + lines.ahead + v * next)
    nan = visit_taps(kind, False, step, width, V, is_part, taps, next_name, x, n, next, values, names)
    if kind != SUM_PASS and any(nan):
        visit_taps(kind, True, step, width, V, is_part, taps, next_name, x, n, next, values, names)
    for v in range(V):
        if kind == SUM_PASS and lines.last:
            values[v] = values[v] / (load(run.by + own + v * next) if step > 0 else splat(run.by[own]))
        if is_part:
            store_part(lines.best + at, values[v], n)
        else:
            store(lines.best + at + v * next, values[v])
        if has_names and lines.last and lines.bytes != NULL:
            store_bytes(lines.bytes + at + v * next, names[v], m)
        elif has_names and lines.last and lines.cells != NULL:
            store_longs(lines.cells + at + v * next, names[v] + load_whole(lines.corner_lane), corner + v * next * lines.corner_step, m)
        elif has_names:
            store_whole(tap + v * next, names[v])


cdef inline void pool_registers(const int kind, const int step, const int width, const Taps *taps, whole_element next_name, const Lines *lines,
                                const Run *run) noexcept nogil:
    """All planes and lines: two vectors of lanes at a time, of which the last two may overlap; the rest as one vector."""
    cdef Py_ssize_t plane, line, i, n = lines.lanes, next, at, own
    cdef const real *x
    cdef whole_element *tap
    cdef int64_t corner
    for plane in range(lines.planes):
        for line in range(lines.n):
            x = lines.x + plane * lines.x_plane + line * lines.x_line
            at = plane * lines.best_plane + line * lines.best_line
            own, tap, corner, i = lines.own + line * lines.own_line, lines.tap + line * lines.tap_line, lines.corner + line * lines.corner_line, 0
            while n - i > LANES:
                next = min(LANES, n - i - LANES)
                pool_vectors(kind, step, width, GROUP, False, taps, next_name, lines, run, x + i * max(step, 1), at + i, own + i * (step > 0), tap + i,
                             corner + i * lines.corner_step, LANES, next)
                i += LANES + next
            if n - i == LANES:
                pool_vectors(kind, step, width, 1, False, taps, next_name, lines, run, x + i * max(step, 1), at + i, own + i * (step > 0), tap + i,
                             corner + i * lines.corner_step, LANES, 0)
            elif i < n:
                pool_vectors(kind, step, width, 1, True, taps, next_name, lines, run, x + i * max(step, 1), at + i, own + i * (step > 0), tap + i,
                             corner + i * lines.corner_step, n - i, 0)
