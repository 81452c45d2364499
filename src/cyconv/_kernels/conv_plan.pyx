# What a convolution computes, and how its work is cut: blocks of the sum, panels of packed output
# channels, items of outputs, shares of the threads. Only the blocks of the sum show in the bits.

cdef enum:
    SUM_BLOCK = 1152           # terms packed at once: 144 KiB for two AVX-512 vectors of float32
    PACKED_BYTES = 1 << 19     # packed weights of a thread
    INPUT_BYTES = 1 << 19      # input scratch of a thread
    ROW_CELLS = 16 * MAX_P     # outputs of the buffer between tiles and y
    FAR_CHANNELS = 32          # from so many that lie apart a tile would read lines that the cache drops before its next
    MAX_ROW_TAPS = 64          # of phases that are computed as whole rows
    NO_SHIFT = 1 << 30         # of a tap that no phase has
    CACHE_WAY = 1 << 12        # bytes of first-level cache; samples that lie a multiple of it apart compete for its places,
    TILE_BYTES = 12 << 12      # and more than so many of a tile of one vector do not stay in it
    BORDER_PRODUCTS = 512      # of vectors, that take as long as to start other tiles at the first and last row
    FEW_PHASES = 9             # phases that all threads run together, as of strides up to 3

cdef enum Mode:
    ROW_TILES       # scalars are outputs of one row, vectors are output channels
    ROW_VECTORS     # scalars are output channels, vectors are outputs of one row
    SAMPLE_TILES    # scalars are samples at one output position, vectors are output channels
    BLOCK_VECTORS   # scalars are output channels, vectors are samples of a block, at one output position

cdef struct Conv:
    Axis axis[3]
    Pooled pooled                        # of the outputs or, in the adjoint, of what is summed; blocks only
    Py_ssize_t batch, groups
    Py_ssize_t n_sum, n_out              # channels summed and produced, per group
    Py_ssize_t x_n, x_c, y_n, y_c, w_group, w_out, w_sum
    Py_ssize_t w_tile[3]                 # from the weights of one tile to the next
    Py_ssize_t apart                     # cells of x along W, with zeros between; 1 but for depthwise convolutions
    bint add                             # to what y holds
    bint blocks                          # a cell of x and y is a block of samples, see blocks.pyx,
    bint spread                          # and x the gradient of pooled outputs
    const real *x
    const real *w
    const real *bias
    real *y

cdef struct Plan:
    Mode mode
    int V
    bint copy                            # input rows go through scratch,
    Order order                          # in this order,
    bint zero_rows                       # with rows of zeros around, so that all rows have the same taps
    Py_ssize_t width                     # packed output channels of a panel
    Py_ssize_t panels, panel_blocks      # panels packed at once; blocks of them in a group
    Py_ssize_t n_blocks                  # of the sum, each of so many channels and taps
    Py_ssize_t channels
    Py_ssize_t taps[3]
    Py_ssize_t n_items, item_shape[4]    # samples, D, H, W blocks
    Py_ssize_t packed_size, bias_size, input_size   # reals
    Py_ssize_t unit_parts, item_parts    # how the threads share out units and items


cdef void plan_phase(const Conv *cv, int n_threads, Plan *plan) noexcept nogil:
    cdef const Axis *axes = &cv.axis[0]
    cdef Py_ssize_t terms = cv.n_sum * axes[0].n_taps * axes[1].n_taps * axes[2].n_taps
    cdef Py_ssize_t row = axes[2].n_out, n_panels, per_panel
    cdef bint padded = is_padded(&axes[2])
    plan.V = 2 if cv.n_out > LANES else 1
    plan.mode = ROW_TILES
    if cv.blocks:
        plan.mode = BLOCK_VECTORS
    elif 2 * row >= LANES and (2 * cv.n_out <= LANES or (axes[2].y == 1 and terms <= 64 and 2 * row > LANES)):
        plan.mode = ROW_VECTORS
        plan.V = 2 if row > LANES else 1
    elif samples_fill_tiles_better(cv, plan.V):
        plan.mode = SAMPLE_TILES
    plan.copy = plan.mode == ROW_VECTORS or (plan.mode == ROW_TILES and (padded or (cv.x_c != 1 and cv.n_sum >= FAR_CHANNELS)))
    plan.order = CELLS_ADJACENT if plan.mode == ROW_VECTORS else ANY_ORDER
    plan.zero_rows = plan.copy and (rows_in_pairs(cv, plan) or (plan.mode == ROW_TILES and few_zeros(cv)))
    block_sum(cv, plan)
    plan.width = cv.n_out if scalars_are_channels(plan) else plan.V * LANES
    per_panel = plan.channels * plan.taps[0] * plan.taps[1] * plan.taps[2] * plan.width
    if scalars_are_channels(plan):
        plan.width = min(plan.width, max(MAX_P, plan.width * (PACKED_BYTES // <Py_ssize_t>sizeof(real)) // per_panel))
        per_panel = per_panel // cv.n_out
        if plan.mode == BLOCK_VECTORS:
            plan.width = ceil_div(plan.width, LANES) * LANES     # whole vectors are packed faster
        per_panel *= plan.width
    n_panels = ceil_div(cv.n_out, plan.width)
    plan.panels = clip(PACKED_BYTES // <Py_ssize_t>sizeof(real) // per_panel, 1, n_panels)
    share_out(cv, n_threads, n_panels, plan)
    plan.panel_blocks = ceil_div(n_panels, plan.panels)
    plan.packed_size = plan.panels * per_panel + LANES
    if plan.mode == BLOCK_VECTORS:      # packed twice, first where inputs are to come
        plan.input_size = max(plan.input_size, plan.packed_size)
        plan.packed_size += MAX_P
    plan.bias_size = plan.panels * plan.width * (LANES + 1 if scalars_are_channels(plan) else 1) + 2 * LANES


cdef inline bint few_zeros(const Conv *cv) noexcept nogil:
    """Whether products with rows of zeros take less time than to start tiles for other taps at the borders."""
    cdef const Axis *axis = &cv.axis[1]
    cdef Py_ssize_t outside = max(-axis.start, 0) + max(axis.start + (axis.n_out - 1) * axis.stride + (axis.n_taps - 1) * axis.step
                                                        - axis.n_in + 1, 0)
    return outside * cv.n_sum * cv.axis[2].n_taps * cv.axis[2].n_out * ceil_div(cv.n_out, LANES) <= BORDER_PRODUCTS


cdef inline bint scalars_are_channels(const Plan *plan) noexcept nogil:
    return plan.mode == ROW_VECTORS or plan.mode == BLOCK_VECTORS


cdef void block_sum(const Conv *cv, Plan *plan) noexcept nogil:
    """Cut the sum into blocks of about SUM_BLOCK terms. Depends on C and the kernel alone."""
    cdef Py_ssize_t taps = cv.axis[0].n_taps * cv.axis[1].n_taps * cv.axis[2].n_taps, left
    cdef int i
    plan.channels = min(cv.n_sum, max(16, SUM_BLOCK // taps))
    left = max(1, SUM_BLOCK // plan.channels)
    plan.n_blocks = ceil_div(cv.n_sum, plan.channels)
    for i in range(2, -1, -1):
        plan.taps[i] = min(cv.axis[i].n_taps, left)
        left //= plan.taps[i]
        plan.n_blocks *= ceil_div(cv.axis[i].n_taps, plan.taps[i])


cdef void set_sum_block(const Conv *cv, const Plan *plan, Py_ssize_t block, Box *box) noexcept nogil:
    """Channels outermost, then D, H, W taps: the canonical order."""
    cdef Py_ssize_t blocks
    cdef int i
    for i in range(2, -1, -1):
        blocks = ceil_div(cv.axis[i].n_taps, plan.taps[i])
        box.tap[i] = block % blocks * plan.taps[i]
        box.n_taps[i] = min(plan.taps[i], cv.axis[i].n_taps - box.tap[i])
        block //= blocks
    box.channel = block * plan.channels
    box.n_channels = min(plan.channels, cv.n_sum - box.channel)


cdef bint samples_fill_tiles_better(const Conv *cv, int V) noexcept nogil:
    """Compare how much of the time the tiles work, and how many taps are not padding."""
    cdef const Axis *axis = &cv.axis[2]
    cdef Py_ssize_t valid = 0, o, first, row = axis.n_out
    cdef double by_rows, by_samples
    cdef Py_ssize_t size = cv.x_n * sizeof(real)
    cdef bint crowded = (size > CACHE_WAY and size % CACHE_WAY == 0) or (V == 1 and max_p(V) * size > TILE_BYTES)
    if row > 2 * MAX_P or cv.batch == 1 or (cv.x_c != 1 and (cv.n_sum >= FAR_CHANNELS or crowded)):
        return False
    for o in range(row):
        first = axis.start + o * axis.stride
        valid += first_inside(first, axis.step, axis.n_in, axis.n_taps) - first_inside(first, axis.step, 0, axis.n_taps)
    by_rows = share_filled(row, V) * valid / (row * axis.n_taps)
    by_samples = share_filled(cv.batch, V)
    return by_samples > 1.15 * by_rows


cdef inline double share_filled(Py_ssize_t n, int V) noexcept nogil:
    """Of the time that tiles of n scalars take; those of less than 8 products wait for them."""
    cdef Split tiles = split(n, max_p(V), V)
    return n * V / <double>(tiles.count[0] * max(8, tiles.P[0] * V) + tiles.count[1] * max(8, tiles.P[1] * V))


cdef inline Py_ssize_t largest_part(Py_ssize_t total, Py_ssize_t limit) noexcept nogil:
    """Size of the parts when ``total`` is split evenly into as few as fit in ``limit``."""
    cdef Py_ssize_t parts = ceil_div(total, limit)
    return ceil_div(total, parts)


cdef void share_out(const Conv *cv, int n_threads, Py_ssize_t n_panels, Plan *plan) noexcept nogil:
    """Choose the outputs of an item and how many threads divide the items and the panels."""
    cdef Py_ssize_t positions = cv.batch * cv.axis[0].n_out * cv.axis[1].n_out * cv.axis[2].n_out
    cdef Py_ssize_t units = cv.groups * n_panels, rows, best = 1, parts, depth
    cdef int i
    cdef double cost, lowest = 0
    cdef Box box
    plan.unit_parts = 1
    if units >= n_threads and positions < 512 * n_threads:
        plan.unit_parts = n_threads
        plan.panels = min(plan.panels, max(1, n_panels // max(1, n_threads // cv.groups)))
    plan.item_parts = n_threads // plan.unit_parts
    plan.input_size = 0
    if plan.mode == BLOCK_VECTORS:
        share_out_blocks(cv, plan)
        return
    if plan.mode == SAMPLE_TILES:
        parts = ceil_div(cv.batch, max_p(plan.V))
        if cv.batch >= 2 * plan.item_parts:
            parts = ceil_div(parts, plan.item_parts) * plan.item_parts
        plan.item_shape[0], plan.item_shape[1], plan.item_shape[2], plan.item_shape[3] = parts, cv.axis[0].n_out, 1, 1
        plan.n_items = parts * cv.axis[0].n_out
        return
    box.n_channels = plan.channels
    for i in range(3):
        box.n_taps[i] = plan.taps[i]
    box.n_out[0], box.n_out[1], box.n_out[2] = 1, 1, cv.axis[2].n_out
    while plan.copy and box.n_out[2] > 4 * LANES and scratch_size(cv.axis, &box, plan.order) * <Py_ssize_t>sizeof(real) > INPUT_BYTES:
        box.n_out[2] = (box.n_out[2] + 1) // 2
    plan.item_shape[3] = ceil_div(cv.axis[2].n_out, box.n_out[2])
    depth = cv.batch * cv.axis[0].n_out * plan.item_shape[3]
    for rows in range(1, min(cv.axis[1].n_out, 64) + 1):
        box.n_out[1] = rows
        if rows > 1 and plan.copy and scratch_size(cv.axis, &box, plan.order) * <Py_ssize_t>sizeof(real) > INPUT_BYTES:
            break
        parts = depth * (ceil_div(cv.axis[1].n_out, rows))
        cost = ceil_div(parts, plan.item_parts) * (rows + 0.25)
        if rows == 1 or cost <= lowest:
            lowest, best = cost, rows
    box.n_out[1] = best
    plan.item_shape[0], plan.item_shape[1] = cv.batch, cv.axis[0].n_out
    plan.item_shape[2] = ceil_div(cv.axis[1].n_out, best)
    plan.n_items = depth * plan.item_shape[2]
    if plan.copy:
        plan.input_size = scratch_size(cv.axis, &box, plan.order) + 2 * LANES
