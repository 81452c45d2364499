# The phases of a convolution: outputs that share their taps, see _geometry. Each is a convolution of its own; those of
# a depthwise one whose outputs interleave along W are computed together.

cdef inline Conv one_phase(const Conv *whole, const Py_ssize_t *table, Py_ssize_t index) noexcept nogil:
    cdef Conv cv = whole[0]
    cdef Axis *axis
    cdef int i
    phase_axes(table, index, cv.axis)
    for i in range(3):
        axis = &cv.axis[i]
        if cv.spread:
            cv.pooled.cells[i] += 2 * axis.in_start
        else:
            cv.x += axis.in_start * axis.x
        cv.y += axis.out_start * axis.y
        cv.w += axis.tap_start * axis.w + axis.tile * cv.w_tile[i]
        axis.n_in = ceil_div(axis.n_in - axis.in_start, axis.in_step)
        axis.x *= axis.in_step
        axis.y *= axis.out_step
        axis.w *= axis.tap_step
    return cv


cdef bint whole_rows(const Conv *whole, const Py_ssize_t *table, Py_ssize_t index, Conv *cv) noexcept nogil:
    """Whether the phases along W that ``index`` begins are one depthwise convolution of x with zeros between its cells.

    Its rows are whole, where those of a phase have every second cell and are slow to store. Sums are the same,
    but for zeros, if the taps of all phases are those of one row.
    """
    cdef Py_ssize_t n = table[2], step = table[0] * table[1], taps = 0, outputs = 0, first = MAX_ROW_TAPS, p, t, tap
    cdef Py_ssize_t shift[MAX_ROW_TAPS]       # from an output to the cell that a tap reads
    cdef Axis *axis
    if n <= 1:
        return False
    cv[0] = one_phase(whole, table, index)
    axis = &cv.axis[2]
    if axis.out_step != n or axis.in_step != 1 or axis.stride != 1 or axis.x != 1 or axis.y != n:
        return False
    for t in range(MAX_ROW_TAPS):
        shift[t] = NO_SHIFT
    for p in range(n):
        phase_axes(table, index + p * step, cv.axis)
        for t in range(axis.n_taps):
            tap = axis.tap_start + t * axis.tap_step
            if not 0 <= tap < MAX_ROW_TAPS or axis.in_start != 0:
                return False
            shift[tap] = n * (axis.start + t * axis.step) - axis.out_start
            first = min(first, tap)
        taps, outputs = taps + axis.n_taps, outputs + axis.n_out
    cv[0] = one_phase(whole, table, index)
    cv.w -= axis.tap_start * whole.axis[2].w
    cv.y -= axis.out_start
    axis.n_taps, axis.n_out, axis.y, axis.step = taps, outputs, 1, 1
    if 1 < taps < MAX_ROW_TAPS - first:
        axis.step = shift[first + 1] - shift[first]
    for t in range(1, taps):
        if first + t >= MAX_ROW_TAPS or shift[first + t] == NO_SHIFT or shift[first + t] - shift[first + t - 1] != axis.step:
            return False
    tap, axis.w = first, whole.axis[2].w
    if axis.step < 0:
        tap, axis.step, axis.w = first + taps - 1, -axis.step, -axis.w
    cv.w += tap * whole.axis[2].w
    axis.start, axis.n_in, cv.apart = shift[tap], (axis.n_in - 1) * n + 1, n
    return taps > 0 and axis.step > 0 and is_depthwise(cv)


cdef int run_share(const Conv *whole, const Py_ssize_t *table, Py_ssize_t n_phases, int i, int n_threads) noexcept nogil:
    """The share of one thread when there are many phases: of the samples, or of the phases."""
    cdef Py_ssize_t first = 0, last = whole.batch, begin = 0, end = n_phases, index
    cdef int failed = 0
    cdef Conv cv
    if whole.add or whole.batch >= n_threads:
        first, last = part(whole.batch, n_threads, i), part(whole.batch, n_threads, i + 1)
    else:
        begin, end = part(n_phases, n_threads, i), part(n_phases, n_threads, i + 1)
    for index in range(begin, end if first < last else begin):
        cv = one_phase(whole, table, index)
        cv.x += first * cv.x_n
        cv.y += first * cv.y_n
        cv.batch = last - first
        failed = run_phase(&cv, 1) or failed
    return failed


cdef int run_phases(const Conv *whole, const Py_ssize_t *table, int n_threads) noexcept nogil:
    cdef Py_ssize_t rows = table[0] * table[1], n_phases = rows * table[2], index
    cdef int failed[1]
    cdef int i, merged = 0
    cdef Conv cv
    cdef Conv of_rows[MAX_MERGED]
    failed[0] = 0
    if n_threads > 1 and n_phases > FEW_PHASES:
        for i in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
            if run_share(whole, table, n_phases, i, n_threads):
                failed[0] = 1
        return failed[0]
    if 0 < rows <= MAX_MERGED and (n_threads == 1 or whole.batch * whole.groups >= 4 * n_threads):
        while merged < rows and whole_rows(whole, table, merged, &of_rows[merged]):
            merged += 1
    if merged == rows > 0:
        return run_depthwise(of_rows, merged, n_threads)
    for index in range(n_phases):        # in this order, for results of tiles are added up
        if whole_rows(whole, table, index % rows, &cv):
            if index >= rows:
                continue
        else:
            cv = one_phase(whole, table, index)
        failed[0] = run_phase(&cv, n_threads) or failed[0]
    return failed[0]
