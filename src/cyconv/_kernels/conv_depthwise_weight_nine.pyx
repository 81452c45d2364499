# The same gradient of windows of three by three taps. Three rows of x at a time lie in a ring, cells of channels side by
# side, so that all that a row of outputs needs stays in first-level cache. No border of zeros is written: a row adds to
# the rows of taps that lie inside, its first and its last output to those of their taps that do.

cdef enum:
    MOST_CELLS = 4             # of a row of x, for each output of a row: all are copied
    ROWS_TOGETHER = 2          # copied to the ring: two rows of 56 cells are whole blocks to transpose

cdef struct NineSums:
    Py_ssize_t middle                    # outputs of a row that meet all taps
    bint left, right                     # whether there is one before them that misses the first taps, and one behind
    Py_ssize_t x_out, x_tap, dy_out      # from output to output and from tap to tap

cdef struct Ring:
    real *cells
    Py_ssize_t row, rows                 # reals of a row, and how many rows there are
    Py_ssize_t first, next, last         # rows of x: in the first place, to be copied next, and behind the last that is needed


cdef inline void add_output(const int R, const int first, const int last, const NineSums *n, const real **x, Py_ssize_t at, vec e, vec *sums) noexcept nogil:
    cdef int r, s
    for r in range(R):
        for s in range(first, last):
            sums[r * THREE + s] = sums[r * THREE + s] + load(x[r] + at + s * n.x_tap) * e


cdef inline void nine_sums(const int R, const NineSums *n, const real **x, const real *dy, real *to, real *bias) noexcept nogil:
    """Add a row of outputs to R rows of three taps, each with its row of x, and to the bias; lanes are channels."""
    cdef vec sums[THREE * THREE]
    cdef vec total = load(bias)
    cdef vec e
    cdef Py_ssize_t o, at = 0
    cdef int k
    for k in range(R * THREE):
        sums[k] = load(to + k * LANES)
    if n.left:
        e = load(dy)
        total = total + e
        add_output(R, 1, THREE, n, x, at, e, sums)
        at += n.x_out
        dy += n.dy_out
    for o in range(n.middle):
        e = load(dy)
        total = total + e
        add_output(R, 0, THREE, n, x, at, e, sums)
        at += n.x_out
        dy += n.dy_out
    if n.right:
        e = load(dy)
        total = total + e
        add_output(R, 0, THREE - 1, n, x, at, e, sums)
    for k in range(R * THREE):
        store(to + k * LANES, sums[k] + splat(0))     # as in `tile`: no -0.0
    store(bias, total)


cdef void run_nine_sums(Py_ssize_t R, const NineSums *n, const real **x, const real *dy, real *to, real *bias) noexcept nogil:
    if R == 3: nine_sums(3, n, x, dy, to, bias)
    elif R == 2: nine_sums(2, n, x, dy, to, bias)
    elif R == 1: nine_sums(1, n, x, dy, to, bias)
    else: nine_sums(0, n, x, dy, to, bias)


cdef bint is_nine(const DepthGradient *d) noexcept nogil:
    """Whether every tile is nine taps, and whole rows miss no more of them than what `NineSums` can say."""
    cdef const Gradient *g = &d.g
    cdef const Axis *axis = &g.axis[2]
    cdef NineSums n
    return (g.axis[1].n_taps == THREE and axis.n_taps == THREE and g.groups >= LANES and g.chunk[3] == axis.n_out
            and (g.x_c == 1 or axis.x == 1) and (g.dy_c == 1 and d.kernels == 1 or axis.y == 1) and set_middle(axis, &n)
            and axis.n_in <= MOST_CELLS * axis.n_out
            and rows_of_ring(&g.axis[1]) * axis.n_in * LANES * <Py_ssize_t>sizeof(real) <= COPIED_BYTES)


cdef inline bint set_middle(const Axis *axis, NineSums *n) noexcept nogil:
    cdef Py_ssize_t last = axis.start + (axis.n_out - 1) * axis.stride, left, right
    left = first_inside(axis.start, axis.stride, 0, axis.n_out)
    right = axis.n_out - first_inside(axis.start + 2 * axis.step, axis.stride, axis.n_in, axis.n_out)
    n.left, n.right, n.middle = left > 0, right > 0, axis.n_out - left - right
    return (left <= 1 and right <= 1 and n.middle >= 0
            and (left == 0 or 0 <= axis.start + axis.step < axis.n_in - axis.step)
            and (right == 0 or 0 <= last < axis.n_in - axis.step))


cdef inline Py_ssize_t rows_of_ring(const Axis *axis) noexcept nogil:
    """All that an output reads and those copied with the last one, of those inside."""
    return ceil_div(min(2 * axis.step + ROWS_TOGETHER, axis.n_in), ROWS_TOGETHER) * ROWS_TOGETHER


cdef inline void start_ring(const Axis *axis, const Box *box, Ring *ring) noexcept nogil:
    cdef Py_ssize_t start = axis.start + box.out[1] * axis.stride
    ring.first = ring.next = max(start, 0)
    ring.last = min(axis.n_in, start + (box.n_out[1] - 1) * axis.stride + 2 * axis.step + 1)


cdef inline void rows_of_cells(const real *x, Py_ssize_t row, Py_ssize_t x_w, Py_ssize_t x_c, Py_ssize_t rows, Py_ssize_t n, real *to) noexcept nogil:
    """Copy rows of n cells of LANES channels, which follow each other or are transposed."""
    cdef Py_ssize_t i, j, ahead = rows * row
    if x_c != 1 and row == n:                  # the rows are one
        rows, n = 1, rows * n
    for i in range(rows):
        if x_c != 1:
            copy_transposed(to, LANES, x, x_c, LANES, n, ahead)
        for j in range(n if x_c == 1 else 0):
            prefetch_input(x + (j + CELLS_AHEAD) * x_w)
            store(to + j * LANES, load(x + j * x_w))
        x += row
        to += n * LANES


cdef inline void fill_ring(const Gradient *g, const real *x, Py_ssize_t first, Py_ssize_t last, Ring *ring) noexcept nogil:
    """Copy the rows first .. last of a plane of LANES channels that are inside and not there yet."""
    cdef const Axis *axes = &g.axis[0]
    cdef Py_ssize_t rows
    ring.next = max(ring.next, ring.first + (max(first, ring.first) - ring.first) // ROWS_TOGETHER * ROWS_TOGETHER)
    while ring.next < last:
        rows = min(ring.last - ring.next, <Py_ssize_t>ROWS_TOGETHER)
        rows_of_cells(x + ring.next * axes[1].x, axes[1].x, axes[2].x, g.x_c, rows, axes[2].n_in,
                      ring.cells + (ring.next - ring.first) % ring.rows * ring.row)
        ring.next += rows


cdef void add_nine_to_unit(const DepthGradient *d, Py_ssize_t unit, const Box *outputs, real *sums, real *scratch) noexcept nogil:
    """As `add_to_unit`."""
    cdef Gradient g = d.g
    cdef Py_ssize_t block = unit // d.tile_parts, c = first_channel(d, block), tile, i
    cdef const real *x = g.x + c * g.x_c
    cdef const real *dy = g.dy + (c * d.kernels + block % d.kernels) * g.dy_c
    cdef real other[LANES]
    cdef Box box = outputs[0]
    g.dy_c *= d.kernels
    memset(other, 0, sizeof(other))
    box.n_samples, box.n_out[0] = 1, 1
    for tile in range(first_tile(d, unit), last_tile(d, unit)):
        for i in range(outputs.n_samples * outputs.n_out[0]):
            box.sample, box.out[0] = outputs.sample + i // outputs.n_out[0], outputs.out[0] + i % outputs.n_out[0]
            add_nine_of_plane(&g, tile, &box, x + box.sample * g.x_n, dy, sums + tile * MAX_TAPS * LANES,
                              sums + g.n_taps * LANES if tile == d.tiles - 1 else other, scratch)


cdef void add_nine_of_plane(const Gradient *g, Py_ssize_t tile, const Box *outputs, const real *x, const real *dy, real *sums, real *bias,
                            real *scratch) noexcept nogil:
    """The outputs of one depth of a sample; what tile ``tile`` of the taps reads lies in one plane of x, if inside."""
    cdef const Axis *axes = &g.axis[0]
    cdef Py_ssize_t i_d = axes[0].start + outputs.out[0] * axes[0].stride + tile * axes[0].step, i, h, r, row, first = 0, n = 0
    cdef const real *x_rows[THREE]
    cdef const real *e
    cdef NineSums sizes
    cdef Ring ring
    cdef Box box = outputs[0]
    set_middle(&axes[2], &sizes)
    sizes.x_out, sizes.x_tap, sizes.dy_out = axes[2].stride * LANES, axes[2].step * LANES, axes[2].y if g.dy_c == 1 else LANES
    ring.cells, ring.row, ring.rows = scratch + g.dy_size, axes[2].n_in * LANES, rows_of_ring(&axes[1])
    start_ring(&axes[1], outputs, &ring)
    x += i_d * axes[0].x
    for i in range(ceil_div(outputs.n_out[1], ROWS_TOGETHER)):
        box.out[1] = outputs.out[1] + i * ROWS_TOGETHER
        box.n_out[1] = min(outputs.n_out[1] - i * ROWS_TOGETHER, <Py_ssize_t>ROWS_TOGETHER)
        e = dy + box.sample * g.dy_n + box.out[0] * axes[0].y + box.out[1] * axes[1].y
        if g.dy_c != 1:
            rows_of_cells(e, axes[1].y, axes[2].y, g.dy_c, box.n_out[1], box.n_out[2], scratch)
            e = scratch
        for h in range(box.n_out[1]):
            if not trim(&axes[1], box.out[1] + h, 0, THREE, &first, &n) or not 0 <= i_d < axes[0].n_in:
                n = 0
            row = axes[1].start + (box.out[1] + h) * axes[1].stride
            if n > 0:
                fill_ring(g, x, row, row + (first + n - 1) * axes[1].step + 1, &ring)
            for r in range(n):
                x_rows[r] = ring.cells + (row + (first + r) * axes[1].step - ring.first) % ring.rows * ring.row + axes[2].start * LANES
            run_nine_sums(n, &sizes, x_rows, e, sums + first * THREE * LANES, bias)
            e += axes[1].y if g.dy_c == 1 else box.n_out[2] * LANES
