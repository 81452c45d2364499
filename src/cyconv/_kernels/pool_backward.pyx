# Gradients of pooling: what a cell of the input receives from the windows that hold it.
#
# It is added up in the order of the outputs, those of a row first where they are `widened`, whatever the layout and the
# number of threads: a plane has one thread. In a Pool, x is here what has the shape of the input and y what has the shape of the
# outputs, whichever of them is written; all arrays are C-contiguous, and cells that receive nothing are 0.
#
# Gradients of sums go by rows: those of a row of outputs, over their divisors and with zeros between
# them, stand in scratch so that every cell of a row of the input finds those that it receives at the
# same few steps. Lanes are the cells of the row, each with all its channels where these are last.
# Windows without common cells are written once, by pool_index.pyx; bins of an adaptive pooling have no
# common steps and are filled one by one.

cdef enum:
    SPACED_BYTES = 1 << 17     # scratch for rows of outputs
    MAX_ROWS = 256
    WIDEST = 32                # lanes of the longest GROUP of vectors

cdef enum Backward:
    PUT_ROWS           # x[any cell of o] += y[o] / divisor
    ADD_BINS
    PUT_CHANNELS       # x[any cell of o] = y[o] / divisor: lanes are channels
    PUT_PAIRS          # the same with the outputs of a row as lanes, which have 2 taps along it
    LP_BACKWARD
    ADD_AT_TAP         # x[cell of tap[o]] += y[o]
    PUT_CHANNELS_AT_TAP    # x[any cell of o] = y[o] if tap[o] is this one, else 0: lanes are channels
    PUT_PAIRS_AT_TAP       # or outputs of a row
    ADD_AT_INDEX       # x[index[o]] += y[o]
    PUT_AT_INDEX       # x[index[o]] = y[o]
    GET_AT_INDEX       # y[o] = x[index[o]]


cdef inline Py_ssize_t corner_of(const Pool *g, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w) noexcept nogil:
    """Where tap 0 of an output would be in x."""
    return ((g.axis[0].start + place(g, 0, d) * g.axis[0].stride) * g.axis[0].x
            + (g.axis[1].start + place(g, 1, h) * g.axis[1].stride) * g.axis[1].x
            + (g.axis[2].start + place(g, 2, w) * g.axis[2].stride) * g.axis[2].x)


cdef void clear_cells(const Pool *g, real *dx, Py_ssize_t n) noexcept nogil:
    """n channels of all cells."""
    cdef Py_ssize_t i, size = g.axis[0].n_in * g.axis[1].n_in * g.axis[2].n_in
    if n == g.channels or g.x_c != 1:
        memset(dx, 0, size * n * sizeof(real))
    else:
        for i in range(size if n > 0 else 0):
            memset(dx + i * g.axis[2].x, 0, n * sizeof(real))


cdef bint are_apart(const Pool *g) noexcept nogil:
    """Whether no cell is in two windows."""
    cdef int i
    for i in range(3):
        if g.axis[i].n_out > 1 and g.axis[i].stride <= (g.axis[i].n_taps - 1) * g.axis[i].step:
            return False
    return True


cdef bint tile_plane(const Pool *g) noexcept nogil:
    """Whether each cell is in one window."""
    cdef const Axis *axis
    cdef int i
    for i in range(3):
        axis = &g.axis[i]
        if (axis.start != 0 or axis.stride != axis.n_taps or axis.n_in != axis.n_out * axis.stride
                or (axis.step != 1 and axis.n_taps > 1)):
            return False
    return True


# ---------------------------------------------------------------- sums

cdef inline vec divisors(const Pool *g, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w, Py_ssize_t n, Py_ssize_t channels) noexcept nogil:
    """Of n lanes, at most LANES, that begin at output w of a row with so many channels side by side."""
    cdef real by[LANES]
    cdef Py_ssize_t i
    if g.divisor != 0:
        return splat(<real>g.divisor)
    for i in range(LANES):
        by[i] = <real>divisor(g, d, h, w + i // channels) if i < n else 1
    return load(by)


cdef inline void space_out(const Pool *g, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w0, Py_ssize_t w1, const real *dy, Py_ssize_t n,
                           real *cells) noexcept nogil:
    """Of outputs w0 to w1 - 1 of a row and n channels: over their divisors, each a stride behind the other."""
    cdef Py_ssize_t stride = g.axis[2].stride, block, w, i, m
    cdef real part[LANES]
    cdef vec grad
    if g.axis[2].y != 1:
        for w in range(w0, w1):
            for block in range(ceil_div(n, LANES)):
                i, m = block * LANES, min(LANES, n - block * LANES)
                grad = load_part(dy + w * g.axis[2].y + i, m) / divisors(g, d, h, w, m, n)
                store_part(cells + (w - w0) * stride * n + i, grad, m)
        return
    for block in range(ceil_div(w1 - w0, LANES)):
        w = w0 + block * LANES
        m = min(LANES, w1 - w)
        grad = load_part(dy + w, m) / divisors(g, d, h, w, m, 1)
        if stride == 1:
            store_part(cells, grad, m)
        elif stride == 2:
            store_pairs(cells, grad, splat(0), m)
        else:
            store(part, grad)
            for i in range(m):
                cells[i * stride] = part[i]
        cells += m * stride


cdef inline void add_spaced(const int V, const real **rows, Py_ssize_t n_rows, Py_ssize_t n_taps, Py_ssize_t step, Py_ssize_t from_row,
                            real *dx, Py_ssize_t n) noexcept nogil:
    """n lanes of dx, at most V vectors: what the taps of some rows of outputs give them, the last tap first."""
    cdef vec sum[GROUP]
    cdef const real *cells
    cdef Py_ssize_t row, k
    cdef int v
    for v in range(V):
        sum[v] = splat(0)
    for row in range(n_rows):
        cells = rows[row] + from_row
        for k in range(n_taps):
            for v in range(V):
                sum[v] = sum[v] + load(cells + k * step + v * LANES)
    for v in range(V - 1):
        store(dx + v * LANES, sum[v])
    if n == V * LANES:
        store(dx + (V - 1) * LANES, sum[V - 1])
    else:
        store_part(dx + (V - 1) * LANES, sum[V - 1], n - (V - 1) * LANES)


cdef inline void put_run(const real **rows, Py_ssize_t n_rows, Py_ssize_t n_taps, Py_ssize_t step, Py_ssize_t from_row, real *dx,
                         Py_ssize_t n) noexcept nogil:
    """The same for any number of lanes."""
    cdef Py_ssize_t i = 0
    while n - i > LANES:
        add_spaced(GROUP, rows, n_rows, n_taps, step, from_row + i, dx + i, min(GROUP * LANES, n - i))
        i += GROUP * LANES
    if i < n:
        add_spaced(1, rows, n_rows, n_taps, step, from_row + i, dx + i, n - i)


cdef inline void widen_row(const Pool *g, const real **rows, Py_ssize_t n_rows, real *row, Py_ssize_t columns, Py_ssize_t n) noexcept nogil:
    """What the taps along W of some rows of outputs give to a row of cells of n channels, in scratch: in whole vectors."""
    cdef Py_ssize_t n_taps = g.axis[2].n_taps, step = g.axis[2].step * n, lanes = ceil_div(columns * n, LANES) * LANES
    if n_taps == 3 and n == 1:
        put_run(rows, n_rows, 3, step, 0, row, lanes)
    else:
        put_run(rows, n_rows, n_taps, step, 0, row, lanes)


cdef inline void put_row(const Pool *g, const real **rows, Py_ssize_t n_rows, real *row, Py_ssize_t columns, Py_ssize_t n) noexcept nogil:
    """A row of cells of n channels: as one run of lanes where these are all channels."""
    cdef Py_ssize_t n_taps = 1 if g.widened else g.axis[2].n_taps, w
    if n != g.axis[2].x:
        for w in range(columns):
            put_run(rows, n_rows, n_taps, g.axis[2].step * n, w * n, row + w * g.axis[2].x, n)
    elif n_taps == 1:
        put_run(rows, n_rows, 1, 0, 0, row, columns * n)
    else:
        put_run(rows, n_rows, n_taps, g.axis[2].step * n, 0, row, columns * n)


cdef inline Py_ssize_t reach_of(const Axis *axis) noexcept nogil:
    return (axis.n_taps - 1) * axis.step


cdef inline Py_ssize_t first_over(const Axis *axis, Py_ssize_t cell) noexcept nogil:
    """The first output whose window begins so late that it may hold a cell."""
    return clip(ceil_div(cell - axis.start - reach_of(axis), axis.stride), 0, axis.n_out)


cdef inline Py_ssize_t last_over(const Axis *axis, Py_ssize_t cell) noexcept nogil:
    """One after the last output whose window begins early enough."""
    return clip(ceil_div(cell - axis.start + 1, axis.stride), 0, axis.n_out)


cdef inline bint holds(const Axis *axis, Py_ssize_t o, Py_ssize_t cell) noexcept nogil:
    return axis.step == 1 or (cell - axis.start - o * axis.stride) % axis.step == 0


cdef inline Py_ssize_t spaced_rows(const Axis *axis) noexcept nogil:
    """Outputs that may hold a cell, and the next one, which is spaced out before it is needed."""
    return min(reach_of(axis) // axis.stride + 2, axis.n_out)


cdef bint is_widened(const Pool *g) noexcept nogil:
    """Whether the taps along W of a row of outputs are added up once for all rows of cells that they reach.

    It decides the order of the sum, and so must not depend on the layout or the instruction set: only where the rows
    of BLOCK channels fit into the scratch, whatever the vectors.
    """
    cdef Py_ssize_t rows = spaced_rows(&g.axis[0]) * (spaced_rows(&g.axis[1]) + 2)
    return (g.axis[0].n_taps * g.axis[1].n_taps * g.axis[2].n_taps <= MAX_WIDTH
            and (SPACED_BYTES // <Py_ssize_t>sizeof(real) // rows - WIDEST) // BLOCK > 2 * reach_of(&g.axis[2]))


cdef inline Py_ssize_t row_length(const Pool *g, Py_ssize_t columns, Py_ssize_t n) noexcept nogil:
    """Reals of scratch that some columns of n channels read of a row of outputs."""
    return (reach_of(&g.axis[2]) + columns) * n + GROUP * LANES


cdef inline Py_ssize_t next_slot(Py_ssize_t slot, Py_ssize_t height) noexcept nogil:
    return slot + 1 if slot + 1 < height else 0


cdef inline Py_ssize_t spare_rows(const Pool *g) noexcept nogil:
    """Rows at the beginning of scratch where outputs are spaced out before they are widened: two of each depth in turn."""
    return 2 * spaced_rows(&g.axis[0]) if g.widened else 0


cdef void put_columns(const Pool *g, const real *dy, real *dx, Py_ssize_t i_d, Py_ssize_t first, Py_ssize_t columns, Py_ssize_t n,
                      real *scratch) noexcept nogil:
    """All that some columns of n channels receive at one depth. Row h of outputs stands in slot h % height of scratch.

    The row behind the last that is needed is spaced out too: what was just written is slow to read at other steps.
    """
    cdef const Axis *axes = &g.axis[0]
    cdef Py_ssize_t height = spaced_rows(&axes[1]), length = row_length(g, columns, n), depth = spaced_rows(&axes[0])
    cdef Py_ssize_t w0 = first_over(&axes[2], first), w1 = max(last_over(&axes[2], first + columns - 1), w0)
    cdef Py_ssize_t d0 = first_over(&axes[0], i_d), d1 = last_over(&axes[0], i_d), h0 = 0, h1 = 0, slot0 = 0
    cdef Py_ssize_t spaced = 0, ready = 0, ready_slot = 0, n_rows, i_h, d, h, slot
    cdef Py_ssize_t from_row = (w0 * axes[2].stride - first + axes[2].start + reach_of(&axes[2])) * n
    cdef real *slots = scratch + spare_rows(g) * length
    cdef const real *rows[MAX_ROWS]
    for i_h in range(axes[1].n_in):
        while h1 < g.n_out[1] and axes[1].start + h1 * axes[1].stride <= i_h:
            h1 += 1
        while h0 < h1 and axes[1].start + h0 * axes[1].stride + reach_of(&axes[1]) < i_h:
            h0, slot0 = h0 + 1, next_slot(slot0, height)
        while ready < h1:
            while spaced < min(ready + 2, g.n_out[1]):
                for d in range(d0, d1):
                    slot = spaced % 2 * depth if g.widened else next_slot(ready_slot, height) if spaced > ready else ready_slot
                    space_out(g, d, spaced, w0, w1, dy + d * axes[0].y + spaced * axes[1].y, n,
                              (scratch + (slot + d - d0) * length if g.widened else slots + ((d - d0) * height + slot) * length) + from_row)
                spaced += 1
            for d in range(d0, d1 if g.widened else d0):
                rows[0] = scratch + (ready % 2 * depth + d - d0) * length
                widen_row(g, rows, 1, slots + ((d - d0) * height + ready_slot) * length, columns, n)
            ready, ready_slot = ready + 1, next_slot(ready_slot, height)
        n_rows = 0
        for d in range(d0, d1):
            slot = slot0
            for h in range(h0, h1):
                if holds(&axes[0], d, i_d) and holds(&axes[1], h, i_h):
                    rows[n_rows] = slots + ((d - d0) * height + slot) * length
                    n_rows += 1
                slot = next_slot(slot, height)
        put_row(g, rows, n_rows, dx + i_d * axes[0].x + i_h * axes[1].x + first * axes[2].x, columns, n)


cdef Py_ssize_t columns_at_once(const Pool *g, Py_ssize_t n) noexcept nogil:
    """Of n channels: those whose rows fit into scratch."""
    cdef Py_ssize_t rows = spaced_rows(&g.axis[0]) * spaced_rows(&g.axis[1]) + spare_rows(g)
    return (SPACED_BYTES // <Py_ssize_t>sizeof(real) // rows - GROUP * LANES) // n - reach_of(&g.axis[2])


cdef void put_rows(const Pool *g, const real *dy, real *dx, Py_ssize_t n, real *scratch) noexcept nogil:
    """All that n channels receive."""
    cdef Py_ssize_t n_in = g.axis[2].n_in, blocks = ceil_div(n_in, columns_at_once(g, n)), block, first, columns, d
    for block in range(blocks):
        first = part(n_in, blocks, block)
        columns = part(n_in, blocks, block + 1) - first
        fill_cells(scratch, (spaced_rows(&g.axis[0]) * spaced_rows(&g.axis[1]) + spare_rows(g)) * row_length(g, columns, n), 0)
        for d in range(g.axis[0].n_in):
            put_columns(g, dy, dx, d, first, columns, n, scratch)


cdef inline void add_to_run(real *dx, real grad, Py_ssize_t n, Py_ssize_t step) noexcept nogil:
    cdef Py_ssize_t i
    if step == 1:
        for i in range(n):
            dx[i] += grad
    else:
        for i in range(n):
            dx[i * step] += grad


cdef inline void put_in_all(const Pool *g, const real *grad, real *dx, Py_ssize_t n, Py_ssize_t step) noexcept nogil:
    """The same n channels in every cell of a plane."""
    cdef Py_ssize_t cells = g.axis[0].n_in * g.axis[1].n_in * g.axis[2].n_in, cell, i
    if n == 1 and step == 1:
        fill_cells(dx, cells, grad[0])
        return
    for cell in range(cells):
        for i in range(n):
            dx[i] = grad[i]
        dx += step


cdef void add_bins(const Pool *g, const real *dy, real *dx, Py_ssize_t n) noexcept nogil:
    """All outputs of n channels, cell by cell; added to 0, as -0 becomes 0 in a sum."""
    cdef const Axis *axes = &g.axis[0]
    cdef Py_ssize_t d, h, w, t, r, s, i, at, cell
    cdef const Py_ssize_t *span
    cdef real by
    cdef real grad[BLOCK]
    cdef Py_ssize_t step = step_in_plane(g)
    if step == 0:
        clear_cells(g, dx, n)
    for d in range(g.n_out[0]):
        for h in range(g.n_out[1]):
            for w in range(g.n_out[2]):
                at, by = d * axes[0].y + h * axes[1].y + w * axes[2].y, <real>divisor(g, d, h, w)
                for i in range(n):
                    grad[i] = 0 + dy[at + i] / by
                if step != 0:
                    put_in_all(g, grad, dx, n, step)
                    return
                span = g.windows[2] + 3 * w
                for t in range(g.windows[0][3 * d + 1], g.windows[0][3 * d + 1] + g.windows[0][3 * d + 2]):
                    for r in range(g.windows[1][3 * h + 1], g.windows[1][3 * h + 1] + g.windows[1][3 * h + 2]):
                        cell = corner_of(g, d, h, w) + t * axes[0].step * axes[0].x + r * axes[1].step * axes[1].x
                        if n == 1:
                            add_to_run(dx + cell + span[1] * axes[2].step * axes[2].x, grad[0], span[2], axes[2].step * axes[2].x)
                            continue
                        for s in range(span[1], span[1] + span[2]):
                            for i in range(n):
                                dx[cell + s * axes[2].step * axes[2].x + i] += grad[i]


cdef bint goes_by_rows(const Pool *g) noexcept nogil:
    """Whether windows are ordinary ones, output o at place o, and not too large for the scratch."""
    cdef Py_ssize_t n = min(g.channels, BLOCK) if g.x_c == 1 else 1
    return (columns_at_once(g, n) >= min(reach_of(&g.axis[2]) + 1, g.axis[2].n_in)
            and spaced_rows(&g.axis[0]) * spaced_rows(&g.axis[1]) <= MAX_ROWS
            and are_ordinary(g, 0) and are_ordinary(g, 1) and are_ordinary(g, 2))


# ---------------------------------------------------------------- norms

cdef struct Gradients:
    # One output of some channels.
    real grad[BLOCK]
    real norm[BLOCK]
    bint found[BLOCK]  # the largest |x|, which alone receives the gradient of p = infinity


cdef inline void spread(double p, const real *x, real *dx, Py_ssize_t n, Py_ssize_t step, Gradients *y) noexcept nogil:
    """What one tap of an output receives, in n lanes."""
    cdef Py_ssize_t i
    cdef double value
    for i in range(n):
        if p != HUGE_VAL:
            # fma: the rounding must not depend on whether the processor has it.
            dx[i * step] = <real>fma(<double>y.grad[i], lp_slope(p, x[i * step], y.norm[i]), <double>dx[i * step])
        else:
            value = x[i * step]
            if not y.found[i] and (fabs(value) == y.norm[i] or value != value) and y.norm[i] != 0:
                y.found[i] = True
                dx[i * step] += -y.grad[i] if value < 0 else y.grad[i]


cdef void spread_planes(const Pool *g, const real *x, const real *norm, const real *dy, real *dx, Py_ssize_t n) noexcept nogil:
    """All outputs of n channels."""
    cdef const Axis *axes = &g.axis[0]
    cdef Gradients lanes
    cdef Py_ssize_t d, h, w, t, r, s, i, at, cell
    for d in range(g.n_out[0]):
        for h in range(g.n_out[1]):
            for w in range(g.n_out[2]):
                at = d * axes[0].y + h * axes[1].y + w * axes[2].y
                for i in range(n):
                    lanes.grad[i], lanes.norm[i], lanes.found[i] = dy[at + i * g.y_c], norm[at + i * g.y_c], False
                for t in range(g.windows[0][3 * d + 1], g.windows[0][3 * d + 1] + g.windows[0][3 * d + 2]):
                    for r in range(g.windows[1][3 * h + 1], g.windows[1][3 * h + 1] + g.windows[1][3 * h + 2]):
                        for s in range(g.windows[2][3 * w + 1], g.windows[2][3 * w + 1] + g.windows[2][3 * w + 2]):
                            cell = corner_of(g, d, h, w) + t * axes[0].step * axes[0].x + r * axes[1].step * axes[1].x + s * axes[2].step * axes[2].x
                            spread(g.p, x + cell, dx + cell, n, g.x_c, &lanes)


# ---------------------------------------------------------------- planes

cdef void backward_block(int kind, const Pool *g, const real *x, const real *norm, Py_ssize_t sample, Py_ssize_t channel,
                         Py_ssize_t n, real *scratch) noexcept nogil:
    """At most BLOCK channels of a sample. The literals make the compiler write one body per kind."""
    cdef Py_ssize_t x_at = sample * g.x_n + channel * g.x_c, y_at = sample * g.y_n + channel * g.y_c
    cdef const real *dy = g.y + y_at
    cdef real *dx = <real *>g.x + x_at
    if kind != GET_AT_INDEX and kind > ADD_BINS and not (is_put(kind) and tile_plane(g)):
        clear_cells(g, dx, n)
    if kind == PUT_ROWS and n == 1 and is_halved(g): put_halved(g, dy, dx)
    elif kind == PUT_ROWS: put_rows(g, dy, dx, n, scratch)
    elif kind == ADD_BINS: add_bins(g, dy, dx, n)
    elif kind == PUT_CHANNELS: put_planes(False, False, g, dy, NULL, dx, n)
    elif kind == PUT_PAIRS: put_planes(False, True, g, dy, NULL, dx, n)
    elif kind == LP_BACKWARD: spread_planes(g, x + x_at, norm + y_at, dy, dx, n)
    elif kind == ADD_AT_TAP: add_at_taps(g, dy, g.tap + y_at, dx, n)
    elif kind == PUT_CHANNELS_AT_TAP: put_planes(True, False, g, dy, g.tap + y_at, dx, n)
    elif kind == PUT_PAIRS_AT_TAP: put_planes(True, True, g, dy, g.tap + y_at, dx, n)
    elif kind == ADD_AT_INDEX and g.axis[2].x > 1: move_planes(ADD_AT_INDEX, True, g, x_at, y_at, n)
    elif kind == ADD_AT_INDEX: move_planes(ADD_AT_INDEX, False, g, x_at, y_at, n)
    elif kind == PUT_AT_INDEX: move_planes(PUT_AT_INDEX, g.axis[2].x > 1, g, x_at, y_at, n)
    elif kind == GET_AT_INDEX: move_planes(GET_AT_INDEX, g.axis[2].x > 1, g, x_at, y_at, n)


cdef void backward_task(int kind, const Pool *g, const real *x, const real *norm, Py_ssize_t sample, Py_ssize_t first,
                              Py_ssize_t last, real *scratch) noexcept nogil:
    cdef Py_ssize_t block
    for block in range(ceil_div(last - first, BLOCK)):
        backward_block(kind, g, x, norm, sample, first + block * BLOCK, min(BLOCK, last - first - block * BLOCK), scratch)


cdef void backward_share(int kind, const Pool *g, const real *x, const real *norm, Py_ssize_t blocks, Py_ssize_t i,
                         int n_threads, real *scratch) noexcept nogil:
    """The tasks of thread ``i``."""
    cdef Py_ssize_t tasks = g.batch * blocks, task
    for task in range(part(tasks, n_threads, i), part(tasks, n_threads, i + 1)):
        backward_task(kind, g, x, norm, task // blocks, part(g.channels, blocks, task % blocks),
                      part(g.channels, blocks, task % blocks + 1), scratch + i * (SPACED_BYTES // sizeof(real)))


cdef void pool_backward(int kind, const Pool *g, const real *x, const real *norm, bint channels_last, int n_threads, real *scratch) noexcept nogil:
    """Single planes to threads, or blocks of channels where these are last.

    Each thread has SPACED_BYTES of scratch if the kind is PUT_ROWS.
    """
    cdef Py_ssize_t blocks = g.channels, i
    if channels_last:
        blocks = 1 if g.batch >= n_threads else min(g.channels, n_threads)
    if n_threads == 1:
        backward_share(kind, g, x, norm, blocks, 0, 1, scratch)
    else:
        for i in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
            backward_share(kind, g, x, norm, blocks, i, n_threads, scratch)


def sum_pool_backward(cnp.ndarray dy, cnp.ndarray dx, cnp.ndarray table, cnp.ndarray windows, cnp.ndarray counts,
                      double divisor, bint channels_last, int n_threads):
    """dy over ``divisor``, or over ``counts``, added up in the cells of each window."""
    cdef Pool g
    cdef int kind = ADD_BINS
    set_pool(&g, dx, dy, table, windows, channels_last)
    set_counts(&g, counts, divisor)
    g.widened = is_widened(&g)
    cdef real *scratch = NULL
    if goes_by_rows(&g):
        kind = put_kind(&g)
        kind = PUT_ROWS if kind == ADD_AT_TAP else PUT_PAIRS if kind == PUT_PAIRS_AT_TAP else PUT_CHANNELS
    if kind == PUT_ROWS:
        scratch = <real *>malloc(SPACED_BYTES * n_threads)
        if scratch == NULL:
            raise MemoryError("cyconv: no memory for the scratch of the pooling")
    with nogil:
        pool_backward(kind, &g, NULL, NULL, channels_last, n_threads, scratch)
        free(scratch)


def lp_pool_backward(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray norm, cnp.ndarray dx, cnp.ndarray table, cnp.ndarray windows,
                     double p, bint channels_last, int n_threads):
    """dy times the slopes of the norm at x, added up in the cells of each window."""
    cdef Pool g
    set_pool(&g, dx, dy, table, windows, channels_last)
    g.p = p
    with nogil:
        pool_backward(LP_BACKWARD, &g, <const real *>cnp.PyArray_DATA(x), <const real *>cnp.PyArray_DATA(norm), channels_last,
                      n_threads, NULL)
