# Gradients of sums over windows of three with stride 2, padded or not, as those that halve a map: along an axis every
# second cell is in two windows and the others are in one. All that a pair of rows of cells receives from a row of outputs
# and the next is added up in registers, in the order of pool_backward.pyx where outputs are `widened`. Lanes are outputs.

cdef struct Halves:
    vec even           # what cells 0, 2, 4 ... of a row receive
    vec odd


cdef bint is_halved(const Pool *g) noexcept nogil:
    return (g.widened and g.divisor != 0 and g.axis[2].x == 1 and g.axis[2].y == 1 and g.axis[0].n_taps == 1 and g.axis[0].stride == 1
            and g.axis[0].start == 0 and g.axis[0].n_in == g.axis[0].n_out and has_pairs(&g.axis[1]) and has_pairs(&g.axis[2]))


cdef inline bint has_pairs(const Axis *axis) noexcept nogil:
    return axis.n_taps == 3 and axis.stride == 2 and axis.step == 1 and -1 <= axis.start <= 0


cdef inline Halves halves_of(const Pool *g, const real *dy, some_lanes own, some_lanes other, bint padded) noexcept nogil:
    """What LANES outputs of a row give to pairs of cells. Padded, the second cell is in the next window too, else the first
    one is in that before."""
    cdef Halves row
    cdef vec by = splat(<real>g.divisor)
    cdef vec grad = load_some(dy, own) / by + splat(0)
    cdef vec next = load_some(dy + 1 if padded else dy - 1, other) / by + splat(0)
    row.even, row.odd = grad, grad
    if padded:
        row.odd = grad + next
    else:
        row.even = next + grad
    return row


cdef inline void put_halves(Halves a, Halves b, real *dx, Py_ssize_t n) noexcept nogil:
    """n cells of a row that is in two windows."""
    cdef vec low
    cdef vec high
    join_pairs(a.even + b.even, a.odd + b.odd, &low, &high)
    if n == 2 * LANES:
        store(dx, low)
        store(dx + LANES, high)
        return
    store_part(dx, low, min(n, <Py_ssize_t>LANES))
    if n > LANES:
        store_part(dx + LANES, high, n - LANES)


cdef inline void put_column(const bint padded, const bint high, const Pool *g, const real *dy, real *dx, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    """n columns of a plane, from the outputs ``first`` on; ``padded`` along W and ``high`` along H."""
    cdef const Axis *axis = &g.axis[1]
    cdef some_lanes own = lanes_inside(first, g.axis[2].n_out)
    cdef some_lanes other = lanes_inside(first + 1 if padded else first - 1, g.axis[2].n_out)
    cdef Halves none
    cdef Halves before
    cdef Halves row
    cdef Py_ssize_t h
    none.even = none.odd = splat(0)
    before = halves_of(g, dy, own, other, padded) if high else none
    for h in range(ceil_div(axis.n_in, 2)):
        row = none
        if h + high < axis.n_out:
            row = halves_of(g, dy + (h + high) * axis.y, own, other, padded)
        put_halves(before, none if high else row, dx, n)
        if 2 * h + 1 < axis.n_in:
            put_halves(before if high else none, row, dx + axis.x, n)
        before = row
        dx += 2 * axis.x


cdef void put_halved(const Pool *g, const real *dy, real *dx) noexcept nogil:
    """All that one channel of a sample receives."""
    cdef Py_ssize_t d, i, n
    for d in range(g.axis[0].n_in):
        for i in range(ceil_div(g.axis[2].n_in, 2 * LANES)):
            n = min(<Py_ssize_t>(2 * LANES), g.axis[2].n_in - i * 2 * LANES)
            put_halved_column(g, dy + d * g.axis[0].y + i * LANES, dx + d * g.axis[0].x + i * 2 * LANES, i * LANES, n)


cdef inline void put_halved_column(const Pool *g, const real *dy, real *dx, Py_ssize_t first, Py_ssize_t n) noexcept nogil:
    if g.axis[2].start < 0 and g.axis[1].start < 0:
        put_column(True, True, g, dy, dx, first, n)
    elif g.axis[2].start < 0:
        put_column(True, False, g, dy, dx, first, n)
    elif g.axis[1].start < 0:
        put_column(False, True, g, dy, dx, first, n)
    else:
        put_column(False, False, g, dy, dx, first, n)
