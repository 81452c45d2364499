# How a pooling is shared out: into items of so many rows and columns of outputs, channels and taps that
# what they read fits into the scratch of a thread.

cdef inline Py_ssize_t cells_of_row(const Axis *axis, Py_ssize_t n_out) noexcept nogil:
    return (n_out - 1) * axis.stride + (axis.n_taps - 1) * axis.step + 1


cdef Py_ssize_t largest_scratch(const Pool *g, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """Reals of scratch for a slab of so many outputs, wherever they are."""
    cdef Py_ssize_t size
    cdef Box box
    cdef int i
    for i in range(3):
        box.n_taps[i] = g.slab[i]
    box.n_out[0] = 1
    # Places of outputs are spread evenly: between output o and o + k are at most ceil(k * places / outputs).
    box.n_out[1] = ceil_div((rows - 1) * g.axis[1].n_out, g.n_out[1]) + 1
    box.n_out[2] = ceil_div((columns - 1) * g.axis[2].n_out, g.n_out[2]) + 1
    box.n_channels = ceil_div(g.channels, g.channel_blocks)
    if g.by_rows:
        size = (cover(&g.axis[0], 1, box.n_taps[0], ANY_ORDER).size
                * cover(&g.axis[1], box.n_out[1], box.n_taps[1], ANY_ORDER).size
                * (reduced_row(g, columns, 1) if g.is_reduced else cells_of_row(&g.axis[2], box.n_out[2])))
    else:
        size = scratch_size(g.axis, &box, CHANNELS_ADJACENT)
    return (size + 63) // 64 * 64


cdef bint reads_rows(const Pool *g) noexcept nogil:
    """Whether the outputs of a row read cells of memory that are 1 or 2 apart, and fill half a vector."""
    cdef const Axis *axis = &g.axis[2]
    cdef Py_ssize_t o
    if axis.x != 1 or axis.y != 1 or axis.stride > 2 or axis.n_out != g.n_out[2] or 2 * g.n_out[2] < LANES:
        return False
    for o in range(g.n_out[2]):
        if place(g, 2, o) != o or g.windows[2][3 * o + 2] == 0:
            return False
    return True


cdef void plan_pool(Pool *g, Py_ssize_t *windows, int n_threads) noexcept nogil:
    """Whole rows, as many as fit, and all of several small planes; else a part of one; else a run of outputs and slabs of its taps.

    ``windows``: room for those of reduced rows, or NULL.
    """
    cdef Py_ssize_t rows = 1, columns = g.n_out[2], n_reals = POOL_BYTES // sizeof(real)
    cdef int i
    for i in range(3):
        g.slab[i] = g.axis[i].n_taps
    g.scratch_size, g.sample_blocks, g.channel_blocks = 0, g.batch, g.channels
    g.by_rows = reads_rows(g)
    g.is_reduced = windows != NULL
    if g.is_reduced:
        leave_rows(g, windows)
    elif g.by_rows:
        columns = min(columns, RUN * BLOCK)
        while columns > 4 * LANES and largest_scratch(g, 1, columns) > n_reals:
            columns = ceil_div(columns, 2)
        g.in_place = not is_padded(&g.axis[2])
        g.by_rows = g.in_place or largest_scratch(g, 1, columns) <= n_reals
    g.at_once = g.passes[0] <= SUM_PASS and g.axis[0].n_taps * g.axis[1].n_taps * g.axis[2].n_taps <= LISTED
    if g.is_reduced:
        plan_reduced(g, n_threads, &rows, &columns)
    elif g.by_rows and g.in_place:
        rows = min(max(ITEM_OUTPUTS // columns, 1), g.n_out[1])
        if g.at_once:
            g.channel_blocks = max(ceil_div(g.channels, max(ITEM_OUTPUTS // (columns * rows), 1)), min(g.channels, n_threads))
    elif g.by_rows:
        while rows < g.n_out[1] and largest_scratch(g, rows + 1, columns) <= n_reals:
            rows += 1
        g.scratch_size = largest_scratch(g, rows, columns)
        share_scratch(g, n_threads, rows, columns)
    else:
        plan_blocks(g, n_threads, &rows, &columns)
    for i in range(3):
        g.n_slabs[i] = ceil_div(g.axis[i].n_taps, g.slab[i])
    g.row_blocks, g.column_blocks = ceil_div(g.n_out[1], rows), ceil_div(g.n_out[2], columns)
    g.n_items = g.sample_blocks * g.channel_blocks * g.n_out[0] * g.row_blocks * g.column_blocks


cdef void plan_blocks(Pool *g, int n_threads, Py_ssize_t *rows, Py_ssize_t *columns) noexcept nogil:
    """With lanes = channels."""
    cdef Py_ssize_t n_reals = POOL_BYTES // sizeof(real), lanes
    cdef int i = 0
    g.in_place = g.x_c == 1 or g.channels == 1
    g.channel_blocks = ceil_div(g.channels, BLOCK)
    rows[0], columns[0] = 1, g.n_out[2]
    if g.in_place:
        if g.at_once and g.y_c == 1:
            lanes = min(columns[0], RUN * BLOCK) * ceil_div(g.channels, g.channel_blocks)
            g.sample_blocks = max(ceil_div(g.batch, max(ITEM_OUTPUTS // lanes, 1)), min(g.batch, n_threads))
        return
    if largest_scratch(g, 1, columns[0]) * <Py_ssize_t>sizeof(real) > ROW_BYTES:
        while columns[0] > RUN and largest_scratch(g, 1, columns[0]) > n_reals:
            columns[0] = max(RUN, columns[0] // 2)
        while i < 3 and largest_scratch(g, 1, columns[0]) > n_reals:
            if g.slab[i] > 1:
                g.slab[i] = ceil_div(g.slab[i], 2)
            else:
                i += 1
    else:
        while rows[0] < g.n_out[1] and largest_scratch(g, rows[0] + 1, columns[0]) <= n_reals:
            rows[0] += 1
    g.scratch_size = largest_scratch(g, rows[0], columns[0])


cdef void plan_reduced(Pool *g, int n_threads, Py_ssize_t *rows, Py_ssize_t *columns) noexcept nogil:
    cdef Py_ssize_t n_reals = POOL_BYTES // sizeof(real)
    cdef Py_ssize_t many = min(g.n_out[1], 4 * g.axis[1].n_taps)      # rows of outputs that share most of their reduced rows
    g.in_place = g.x_c == 1 or g.channels == 1
    columns[0] = min(g.n_out[2], RUN * BLOCK)
    if not g.by_rows:
        g.channel_blocks = ceil_div(g.channels, BLOCK)
    while (columns[0] > (4 * LANES if g.by_rows else 4) and largest_reduced(g, many, columns[0]) > n_reals
           or columns[0] > (LANES if g.by_rows else 1) and largest_reduced(g, 1, columns[0]) > n_reals):
        columns[0] = ceil_div(columns[0], 2)
    while rows[0] < g.n_out[1] and largest_reduced(g, rows[0] + 1, columns[0]) <= n_reals:
        rows[0] += 1
    g.scratch_size = largest_reduced(g, rows[0], columns[0])
    if g.by_rows:
        share_scratch(g, n_threads, rows[0], columns[0])


cdef void share_scratch(Pool *g, int n_threads, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """Make small planes that fit into it together one item."""
    cdef Py_ssize_t n_reals = POOL_BYTES // sizeof(real), planes
    if rows == g.n_out[1] and columns == g.n_out[2] and g.at_once:
        planes = max(min(n_reals // g.scratch_size, ITEM_OUTPUTS // (rows * columns)), 1)
        g.channel_blocks = max(ceil_div(g.channels, planes), min(g.channels, n_threads))
        g.scratch_size *= ceil_div(g.channels, g.channel_blocks)


cdef Py_ssize_t largest_reduced(Pool *g, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """Reals of scratch for reduced rows, and for the cells that one of them is made of."""
    g.cells_size = 0
    if not g.by_rows and not g.in_place:
        g.cells_size = cover(&g.interval, columns, g.interval.n_taps, ANY_ORDER).size * min(g.channels, BLOCK)
    return largest_scratch(g, rows, columns) + (g.cells_size + 63) // 64 * 64
