# Depthwise convolution: each output is a sum over the taps of one channel, or of a few. Forward, input
# gradient, and the filtering of single images, with the order of additions of every other convolution.
#
# Lanes are channels where these follow each other in memory (channels_last); then taps in the border are
# left out, and x is read in place unless its rows would drive each other out of the cache. Else lanes are
# outputs of a row and each weight fills a vector; x is read in place, under a mask at the ends of rows (or all of
# it, where masks cost nothing), but with strides of 3 and more along W from a zero-padded copy. Rows with a zero between
# any two cells are in conv_joined.pyx. Loop nests of one thread:
#     item             outputs of one sample: a block of D, H and W; with lanes along rows, of one channel
#
#     W with the same taps, row     |    output of one of D and H, the one along which `slide` does not run
#     V vectors side by side        |    V vectors side by side
#     slide: blocks of LANES        |    slide: down D where the kernel is deep, else down H
#     channels

cdef enum:
    FEW_CHANNELS = 4           # summed, or made of one channel
    ITEM_BYTES = 1 << 18       # input of an item
    COPIED_BYTES = 1 << 20     # with more channels x is read in place
    CHANNEL_ROWS_AHEAD = 4     # to fetch into cache with lanes of channels: all rows of a usual kernel
    ROWS_AT_ONCE = 32          # outputs of a column that wait in a buffer
    MAX_MERGED = 4             # phases that take turns in every plane, as of stride 2 along D and H
    WAYS = 8                   # of the first-level cache: so many rows that lie a power of two apart

cdef struct Depthwise:
    const Conv *cv
    bint lanes_are_channels
    bint copy                          # x, with a border of zeros along W
    int slid, height                   # the axis that outputs slide down, and how many of its taps; 1: none slides
    bint three                         # taps along W, of one channel
    Py_ssize_t step[4]                 # in packed weights, from tap to tap of D, H, W and channel to channel
    Py_ssize_t block_size, n_blocks    # packed: bias and weights of LANES channels, or of one
    Py_ssize_t parts[3]                # of D, H, W
    Py_ssize_t packed_size, input_size
    const real *packed


cdef bint is_depthwise(const Conv *cv) noexcept nogil:
    cdef Py_ssize_t terms = cv.n_sum * cv.axis[0].n_taps * cv.axis[1].n_taps * cv.axis[2].n_taps
    return (min(cv.n_sum, cv.n_out) == 1 and max(cv.n_sum, cv.n_out) <= FEW_CHANNELS and not cv.add and not cv.blocks
            and terms <= MAX_RUNS and (channels_follow(cv) or zeros_add_nothing(cv)))


cdef inline bint channels_follow(const Conv *cv) noexcept nogil:
    return cv.x_c == 1 and cv.y_c == 1 and cv.n_sum == 1 and cv.n_out == 1 and cv.groups >= LANES


cdef inline bint rows_in_place(const Axis *axis) noexcept nogil:
    """Whether lanes along a row find their cells side by side, or every second one."""
    return (axis.stride <= 2 and axis.x == 1 and axis.y == 1 and axis.n_taps <= MAX_EDGE_TAPS
            and axis.n_in < (<Py_ssize_t>1 << 30))


cdef bint zeros_add_nothing(const Conv *cv) noexcept nogil:
    """Whether the border along W, and what is between cells, may be read as zeros: there is none, or all weights are finite."""
    cdef real bad = 0
    cdef Py_ssize_t g, k, c, t, r, s
    if not is_padded(&cv.axis[2]) and cv.apart == 1:
        return True
    for g in range(cv.groups):
        for k in range(cv.n_out):
            for c in range(cv.n_sum):
                for t in range(cv.axis[0].n_taps):
                    for r in range(cv.axis[1].n_taps):
                        for s in range(cv.axis[2].n_taps):
                            bad += cv.w[g * cv.w_group + k * cv.w_out + c * cv.w_sum
                                        + t * cv.axis[0].w + r * cv.axis[1].w + s * cv.axis[2].w] * 0
    return bad == 0


# ---------------------------------------------------------------- planning

cdef void plan_depthwise(const Conv *cv, int n_threads, Depthwise *d) noexcept nogil:
    cdef const Axis *axes = &cv.axis[0]
    cdef Py_ssize_t size = LANES
    cdef int i
    d.cv, d.lanes_are_channels = cv, channels_follow(cv)
    d.copy = (axes[0].n_taps * axes[1].n_taps > WAYS and zeros_add_nothing(cv) if d.lanes_are_channels
              else not is_joined(cv) and (cv.apart > 1 or not rows_in_place(&axes[2])))
    d.slid = 0 if axes[0].n_taps > 1 else 1
    # Over every second cell three rows slide; a copy of x may hold every second row for each tap, where strides and
    # dilations have that in common.
    d.height, d.three = 1, (axes[2].n_taps == THREE and cv.n_sum == 1
                            and (d.lanes_are_channels or d.copy or axes[2].stride == 1 or axes[2].step == 1))
    if not d.lanes_are_channels and not is_joined(cv) and axes[2].stride * axes[d.slid].stride == 1 and slides(&axes[d.slid]):
        d.height = <int>axes[d.slid].n_taps
    elif not d.lanes_are_channels and not d.copy and d.three and axes[2].stride == 2 and slides_two(&axes[d.slid]):
        d.height = THREE
    d.three = d.three and (d.height == 1 or d.height == THREE)
    size *= d.height
    d.step[3] = size
    size *= cv.n_sum
    for i in range(2, -1, -1):
        d.step[i] = size
        size *= 1 if i == d.slid and d.height > 1 else axes[i].n_taps
    d.block_size = size + LANES
    d.n_blocks = ceil_div(cv.groups, LANES) if d.lanes_are_channels else 1
    d.packed_size = d.n_blocks * d.block_size
    cut_items(d, n_threads)


cdef bint slides(const Axis *axis) noexcept nogil:
    """Whether the outputs read the same rows with other taps, and most products that a slide adds are of use."""
    cdef Py_ssize_t apart = axis.step // axis.stride, rows, passes
    if axis.step % axis.stride or not 1 < axis.n_taps <= MAX_H:
        return False
    rows = ceil_div(axis.n_out, apart)
    passes = rows + axis.n_taps - 1
    passes = first_inside(axis.start, axis.step, axis.n_in, passes) - first_inside(axis.start, axis.step, 0, passes)
    return 2 * passes <= 3 * rows


cdef inline bint slides_two(const Axis *axis) noexcept nogil:
    """The same for three rows, two to an output."""
    return axis.n_taps == THREE and axis.stride == 2 and axis.step == 1 and axis.n_out > 2


cdef void cut_items(Depthwise *d, int n_threads) noexcept nogil:
    """Halve axes, though no shorter than is worth a start, until the input of an item fits in cache and all
    threads have work."""
    cdef const Conv *cv = d.cv
    cdef Py_ssize_t per_part = cv.batch * (1 if d.lanes_are_channels else cv.groups * cv.n_out), cells, items, most
    cdef Py_ssize_t shortest[3]
    cdef Order order = CHANNELS_ADJACENT if d.lanes_are_channels else CELLS_ADJACENT
    cdef int i, longest
    cdef Box box
    shortest[1 - d.slid], shortest[d.slid], shortest[2] = 4, 16 * d.height, 64 if d.lanes_are_channels else 256 * LANES
    if d.copy:
        shortest[1 - d.slid], shortest[d.slid], shortest[2] = 2, 8 * d.height, 16 if d.lanes_are_channels else 32 * LANES
    for i in range(3):
        d.parts[i], box.n_taps[i] = 1, cv.axis[i].n_taps
    box.n_channels = cv.groups if d.lanes_are_channels else cv.n_sum
    while True:
        longest, most = -1, 1
        for i in range(3):
            box.n_out[i] = ceil_div(cv.axis[i].n_out, d.parts[i])
            if box.n_out[i] > most * shortest[i]:
                longest, most = i, box.n_out[i] // shortest[i]
        cells = scratch_size(cv.axis, &box, order)
        items = per_part * d.parts[0] * d.parts[1] * d.parts[2]
        if longest < 0 or (cells * <Py_ssize_t>sizeof(real) <= ITEM_BYTES and (n_threads == 1 or items >= 4 * n_threads)):
            break
        d.parts[longest] *= 2
    if d.lanes_are_channels and cells * <Py_ssize_t>sizeof(real) > COPIED_BYTES:
        d.copy = False
    d.input_size = cells + 2 * LANES if d.copy else 0


cdef void pack_depthwise(const Depthwise *d, Py_ssize_t block, real *packed) noexcept nogil:
    """The bias of LANES channels, or of one LANES times; then their weights as a slide reads them."""
    cdef const Conv *cv = d.cv
    cdef const Axis *axes = &cv.axis[0]
    cdef Py_ssize_t first = min(block * LANES, cv.groups - LANES) if d.lanes_are_channels else block, t, r, s, c
    cdef Py_ssize_t at[3]
    cdef const real *w = cv.w + (first * cv.w_group if d.lanes_are_channels else
                                 block // cv.n_out * cv.w_group + block % cv.n_out * cv.w_out)
    pack_lanes(d, cv.bias + first if cv.bias != NULL else &ZEROS[0], 1, packed)
    store(packed, load(packed) + splat(0))          # no -0
    for t in range(axes[0].n_taps):
        for r in range(axes[1].n_taps):
            at[0], at[1], at[2] = t, r, LANES
            if d.height > 1:                        # taps of the slid axis are innermost
                at[2] += at[d.slid] * LANES
                at[d.slid] = 0
            for s in range(axes[2].n_taps):
                for c in range(cv.n_sum):
                    pack_lanes(d, w + t * axes[0].w + r * axes[1].w + s * axes[2].w + c * cv.w_sum, cv.w_group,
                               packed + at[0] * d.step[0] + at[1] * d.step[1] + s * d.step[2] + c * d.step[3] + at[2])


cdef inline void pack_lanes(const Depthwise *d, const real *values, Py_ssize_t step, real *packed) noexcept nogil:
    """A value for every lane, or the same one for all."""
    cdef int lane
    if not d.lanes_are_channels:
        store(packed, splat(values[0]))
        return
    for lane in range(LANES):
        packed[lane] = values[lane * step]


# ---------------------------------------------------------------- running

cdef void run_column(const Depthwise *d, const Box *box, const View *view, const Py_ssize_t *y_step, int V, Slide *s,
                     const real *x, const real *w, real *y) noexcept nogil:
    """The outputs of a box along D and H for V vectors side by side."""
    cdef const Axis *axes = &d.cv.axis[0]
    cdef const Axis *down = &axes[d.slid]
    cdef int other = 1 - d.slid
    cdef Py_ssize_t o, h, start, apart = max(1, down.step // down.stride), rows
    cdef Py_ssize_t reach = (LANES - 1) * view.out[2] + (axes[2].n_taps - 1) * view.tap[2]
    cdef const real *at
    cdef const real *taps
    cdef Py_ssize_t first[3]
    cdef Py_ssize_t n[3]
    first[2], n[2] = 0, axes[2].n_taps
    s.t.start = w
    w += LANES
    for o in range(box.n_out[other]):
        trim(&axes[other], box.out[other] + o, 0, axes[other].n_taps, &first[other], &n[other])
        h = 0
        while h < (min(apart, box.n_out[d.slid]) if d.height > 1 else box.n_out[d.slid]):
            if d.height > 1:
                first[d.slid], n[d.slid] = 0, 1
                s.rows = ceil_div(box.n_out[d.slid] - h, apart)
                # At least as many rows of x as the passes read: one or two for an output.
                start, rows = down.start + (box.out[d.slid] + h) * down.stride, s.rows * down.stride + d.height
                s.first, s.last = first_inside(start, down.step, 0, rows), first_inside(start, down.step, down.n_in, rows)
                s.t.next_a, s.t.next_out = view.tap[d.slid], apart * y_step[d.slid]
            else:
                s.rows = alike(down, box.out[d.slid] + h, box.n_out[d.slid] - h, &first[d.slid], &n[d.slid])
                s.first, s.last = 0, s.rows
                s.t.next_a, s.t.next_out = view.out[d.slid], y_step[d.slid]
            s.x_ahead, s.out_ahead = ROWS_AHEAD * s.t.next_a + reach, ROWS_AHEAD * s.t.next_out + LANES - 1
            s.turn = max(s.rows + d.height - 1 - ROWS_AHEAD, 0)
            at, taps = x + o * view.out[other] + h * view.out[d.slid], w
            set_slide(d, view, s, first, n, &at, &taps)
            s.nine = s.three and d.height == THREE and s.t.sum.a[3] == 1 and (not s.edge or middle_inside(s, V))
            run_slide(d.height, V, s, at, taps, y + o * y_step[other] + h * y_step[d.slid])
            h += 1 if d.height > 1 else s.rows


cdef inline void set_slide(const Depthwise *d, const View *view, Slide *s, const Py_ssize_t *first, const Py_ssize_t *n,
                           const real *(*x), const real *(*w)) noexcept nogil:
    """Point a slide at the taps first .. first + n."""
    cdef int i
    for i in range(3):
        s.t.sum.n[i], s.t.sum.a[i], s.t.sum.b[i] = n[i], view.tap[i], d.step[i]
        x[0] += first[i] * view.tap[i]
        w[0] += first[i] * d.step[i]
    s.t.sum.n[3], s.t.sum.a[3], s.t.sum.b[3] = d.cv.n_sum, view.c, d.step[3]
    if d.three:
        s.t.sum.n[3], s.t.sum.a[3], s.t.sum.b[3], s.t.sum.n[2] = n[2], view.tap[2], d.step[2], 1
    s.three = d.three and n[2] == THREE
    list_runs(&s.t, not d.three and not s.edge)


cdef inline bint middle_inside(const Slide *s, int V) noexcept nogil:
    """Whether all vectors but the first and the last one read inside a row."""
    cdef Py_ssize_t stride = 2 if s.even else 1
    return V <= 2 or (s.at + s.x_v >= 0 and s.at + (V - 2) * s.x_v + (LANES - 1) * stride + THREE <= s.n_in)


cdef inline Py_ssize_t alike(const Axis *axis, Py_ssize_t out, Py_ssize_t left, Py_ssize_t *first, Py_ssize_t *n) noexcept nogil:
    """Trim the taps of an output; how many of the ``left`` outputs from it on have the same."""
    cdef Py_ssize_t next_first = 0, next_n = 0, same = 1
    trim(axis, out, 0, axis.n_taps, first, n)
    if n[0] == axis.n_taps:                 # all of them, until the last one is outside
        return first_inside(axis.start + out * axis.stride + (axis.n_taps - 1) * axis.step, axis.stride, axis.n_in, left)
    while same < left:
        trim(axis, out + same, 0, axis.n_taps, &next_first, &next_n)
        if next_first != first[0] or next_n != n[0]:
            break
        same += 1
    return same


cdef inline void side_by_side(Slide *s, int V, Py_ssize_t count, Py_ssize_t x_v, Py_ssize_t out_v) noexcept nogil:
    """``count`` tiles of V vectors that follow each other."""
    s.even = s.edge = s.strip = s.nine = False
    s.count, s.n_last = count, LANES
    s.x_v, s.t.out_v = x_v, out_v
    s.x_tile, s.w_tile, s.out_tile = V * x_v, 0, V * out_v


cdef void run_channel_lanes(const Depthwise *d, const Box *box, const real *x, real *y, real *scratch) noexcept nogil:
    cdef const Axis *axes = &d.cv.axis[0]
    cdef Py_ssize_t o = 0, same, od, oh, i, j
    cdef Py_ssize_t first[3]
    cdef Py_ssize_t n[3]
    cdef const real *w
    cdef real *to
    cdef Split tiles
    cdef View view
    cdef Slide s
    first[2], n[2], same = 0, axes[2].n_taps, box.n_out[2]
    if d.copy:
        view_in_scratch(axes, x, 1, box, CHANNELS_ADJACENT, False, scratch, &view)
    else:
        view_in_place(axes, x, 1, box, &view)
    side_by_side(&s, 1, 1, view.out[2], axes[2].y)
    s.x_tile, s.w_tile, s.out_tile = LANES, d.block_size, LANES
    s.rows, s.first, s.last, s.turn, s.t.next_a, s.t.next_out = 1, 0, 1, 1, 0, 0
    s.x_ahead, s.out_ahead = CHANNEL_ROWS_AHEAD * view.out[1], CHANNEL_ROWS_AHEAD * axes[1].y
    while o < box.n_out[2]:
        if not d.copy:
            same = alike(&axes[2], box.out[2] + o, box.n_out[2] - o, &first[2], &n[2])
        tiles = split(same, max_slide_v(1), 1)
        for od in range(box.n_out[0]):
            trim(&axes[0], box.out[0] + od, 0, axes[0].n_taps, &first[0], &n[0])
            for oh in range(box.n_out[1]):
                trim(&axes[1], box.out[1] + oh, 0, axes[1].n_taps, &first[1], &n[1])
                x, w = view.data + od * view.out[0] + oh * view.out[1] + o * view.out[2], d.packed
                to = y + od * axes[0].y + oh * axes[1].y + o * axes[2].y
                set_slide(d, &view, &s, first, n, &x, &w)
                s.strip = s.three and (s.x_v == view.tap[2] or s.x_v == 2 * view.tap[2])
                for i in range(2):
                    for j in range(tiles.count[i]):
                        all_channels(d, tiles.P[i], &s, x, w, to)
                        x += tiles.P[i] * view.out[2]
                        to += tiles.P[i] * axes[2].y
        o += same


cdef inline void all_channels(const Depthwise *d, int V, Slide *s, const real *x, const real *w, real *y) noexcept nogil:
    """The channels of V outputs of one row; a last block of LANES ends with the channels."""
    cdef Py_ssize_t whole = d.cv.groups // LANES, rest = d.cv.groups - LANES
    s.count, s.t.start = whole, d.packed
    run_slide(1, V, s, x, w + LANES, y)
    if whole < d.n_blocks:
        s.count, s.t.start = 1, d.packed + whole * d.block_size
        run_slide(1, V, s, x + rest, w + whole * d.block_size + LANES, y + rest)


cdef void run_row_lanes(const Depthwise *d, const Box *box, const real *x, const real *packed, real *y, real *scratch) noexcept nogil:
    cdef const Axis *axis = &d.cv.axis[2]
    cdef Py_ssize_t row = box.n_out[2], start = axis.start + box.out[2] * axis.stride, first, last
    cdef View view
    if d.copy:
        view_in_scratch(d.cv.axis, x, d.cv.x_c, box, CELLS_ADJACENT, False, scratch, &view, d.cv.apart)
        run_vectors(d, box, &view, 1, row, view.data, packed, y)
        return
    if d.cv.apart > 1:
        run_joined(d, box, x, packed, y)
        return
    view_in_place(d.cv.axis, x, d.cv.x_c, box, &view)
    if CHEAP_MASKS and d.three and (row <= 2 * MASKED_V * LANES or axis.stride == 2):     # every second cell: `load_three`
        run_masked(d, box, &view, packed, y)
        return
    first = ceil_div(first_inside(start, axis.stride, 0, row), LANES)      # vectors whose taps all lie inside
    last = max(first, first_inside(start + (axis.n_taps - 1) * axis.step, axis.stride, axis.n_in, row) // LANES)
    run_vectors(d, box, &view, axis.stride, (last - first) * LANES, view.data + first * LANES * axis.stride, packed,
                y + first * LANES)
    run_edges(d, box, &view, first, last, packed, y)


cdef void run_edges(const Depthwise *d, const Box *box, const View *view, Py_ssize_t first, Py_ssize_t last,
                    const real *packed, real *y) noexcept nogil:
    """The vectors of outputs before ``first`` and from ``last`` on, in pairs; the last one ends with the row."""
    cdef const Axis *axis = &d.cv.axis[2]
    cdef Py_ssize_t row = box.n_out[2], n = ceil_div(row, LANES), at, apart, i = 0 if first > 0 else last, second
    cdef Py_ssize_t y_step[3]
    cdef Slide s
    cdef int V, k
    for k in range(3):
        y_step[k] = d.cv.axis[k].y
    while i < n:
        at = clip(row - LANES, 0, i * LANES)
        second = i + 1 if i + 1 != first else last
        V = 2 if second < n and max_slide_v(d.height) > 1 else 1
        apart = clip(row - LANES, 0, second * LANES) - at
        side_by_side(&s, V, 1, apart * axis.stride, apart)
        s.even, s.edge, s.n_last = axis.stride == 2, True, min(row, <Py_ssize_t>LANES)
        s.at, s.at_tap, s.n_in = axis.start + (box.out[2] + at) * axis.stride, axis.step, axis.n_in
        run_column(d, box, view, y_step, V, &s, view.data + at * axis.stride, packed, y + at)
        i = second if V == 1 else second + 1 if second + 1 != first else last


cdef void run_masked(const Depthwise *d, const Box *box, const View *view, const real *packed, real *y) noexcept nogil:
    """All vectors of a row under masks, as many at a time as there are bodies for."""
    cdef const Axis *axis = &d.cv.axis[2]
    cdef Py_ssize_t row = box.n_out[2], n = ceil_div(row, LANES), groups = ceil_div(n, MASKED_V), g, at
    cdef Py_ssize_t y_step[3]
    cdef Slide s
    cdef int V, k
    for k in range(3):
        y_step[k] = d.cv.axis[k].y
    for g in range(groups):
        at, V = part(n, groups, g) * LANES, <int>(part(n, groups, g + 1) - part(n, groups, g))
        side_by_side(&s, V, 1, LANES * axis.stride, LANES)
        s.even, s.edge, s.n_last = axis.stride == 2, True, min(<Py_ssize_t>LANES, row - at - (V - 1) * LANES)
        s.at, s.at_tap, s.n_in = axis.start + (box.out[2] + at) * axis.stride, axis.step, axis.n_in
        run_column(d, box, view, y_step, V, &s, view.data + at * axis.stride, packed, y + at)


cdef void run_vectors(const Depthwise *d, const Box *box, const View *view, Py_ssize_t stride, Py_ssize_t n, const real *x,
                      const real *packed, real *y) noexcept nogil:
    """n outputs of every row of a box, LANES at a time, which read every or every second cell."""
    cdef Split tiles = split(ceil_div(n, LANES), max_slide_v(d.height), d.height)
    cdef Py_ssize_t o = 0, cells, i
    cdef Py_ssize_t y_step[3]
    cdef Slide s
    for i in range(3):
        y_step[i] = d.cv.axis[i].y
    for i in range(2):
        if tiles.count[i] == 0:
            continue
        side_by_side(&s, tiles.P[i], tiles.count[i], stride * LANES, LANES)
        s.even = stride == 2
        cells = min(s.count * tiles.P[i] * LANES, n - o)
        if y_step[2] == 1:
            s.n_last = cells - (s.count * tiles.P[i] - 1) * LANES
            run_column(d, box, view, y_step, tiles.P[i], &s, x + o * stride, packed, y + o)
        else:
            run_scattered(d, box, view, tiles.P[i], &s, cells, x + o, packed, y + o * y_step[2])
        o += cells


cdef void run_scattered(const Depthwise *d, const Box *box, const View *view, int V, Slide *s, Py_ssize_t n, const real *x,
                        const real *packed, real *y) noexcept nogil:
    """n outputs of every row that do not follow each other, by way of a buffer."""
    cdef real cells[ROWS_AT_ONCE * MAX_SLIDE_V * LANES]
    cdef const Axis *axes = &d.cv.axis[0]
    cdef int down = d.slid, other = 1 - down
    cdef Py_ssize_t y_step[3]
    cdef Py_ssize_t tiles = s.count, o, h, i, j, left
    cdef Box some = box[0]
    y_step[other], y_step[down] = 0, V * LANES
    s.n_last, s.count = LANES, 1
    some.n_out[other] = 1
    for o in range(box.n_out[other]):
        some.out[other] = box.out[other] + o
        for i in range(ceil_div(box.n_out[down], ROWS_AT_ONCE)):
            h = i * ROWS_AT_ONCE
            some.out[down] = box.out[down] + h
            some.n_out[down] = min(<Py_ssize_t>ROWS_AT_ONCE, box.n_out[down] - h)
            for j in range(tiles):
                left = n - j * V * LANES
                run_column(d, &some, view, y_step, V, s,
                           x + o * view.out[other] + h * view.out[down] + j * V * LANES, packed, cells)
                put_cells(cells, some.n_out[down], V * LANES, min(V * LANES, left),
                          y + o * axes[other].y + h * axes[down].y + j * V * LANES * axes[2].y, axes[down].y, axes[2].y)


cdef void depthwise_item(const Depthwise *d, Py_ssize_t item, real *scratch) noexcept nogil:
    cdef const Conv *cv = d.cv
    cdef Py_ssize_t channels = 1 if d.lanes_are_channels else cv.groups * cv.n_out, channel, index
    cdef const real *x
    cdef real *y
    cdef Box box
    cdef int i
    y = cv.y
    for i in range(2, -1, -1):
        box.tap[i], box.n_taps[i] = 0, cv.axis[i].n_taps
        box.out[i], box.n_out[i] = 0, cv.axis[i].n_out
        if d.parts[i] > 1:          # divisions take as long as rows
            index = item % d.parts[i]
            item //= d.parts[i]
            box.out[i] = part(cv.axis[i].n_out, d.parts[i], index)
            box.n_out[i] = part(cv.axis[i].n_out, d.parts[i], index + 1) - box.out[i]
        y += box.out[i] * cv.axis[i].y
        if box.n_out[i] == 0:
            return
    channel, box.sample = item % channels, item // channels
    box.channel, box.n_channels = 0, cv.groups if d.lanes_are_channels else cv.n_sum
    x = cv.x + box.sample * cv.x_n
    y += box.sample * cv.y_n + channel * cv.y_c
    if d.lanes_are_channels:
        run_channel_lanes(d, &box, x, y, scratch)
    else:
        pack_depthwise(d, channel, scratch)
        run_row_lanes(d, &box, x + channel // cv.n_out * cv.n_sum * cv.x_c, scratch, y, scratch + d.packed_size)


cdef void depthwise_unit(const Depthwise *d, int n_phases, Py_ssize_t unit, real *scratch) noexcept nogil:
    """An item or, of several phases, all items of a plane."""
    cdef Py_ssize_t items, i
    cdef int phase
    for phase in range(n_phases):
        items = d[phase].parts[0] * d[phase].parts[1] * d[phase].parts[2] if n_phases > 1 else 1
        for i in range(items):
            depthwise_item(&d[phase], unit * items + i, scratch)


cdef int run_depthwise(const Conv *phases, int n_phases, int n_threads) noexcept nogil:
    """Phases of the same planes, all of a plane while it is in cache, on all threads; -1 when there is no memory
    for scratch. Several phases have lanes along rows."""
    cdef Depthwise d[MAX_MERGED]
    cdef Py_ssize_t shared = 0, size = 0, n_units, block, unit
    cdef real *memory
    cdef real *scratch
    cdef int i
    for i in range(n_phases):
        plan_depthwise(&phases[i], n_threads, &d[i])
        size = max(size, d[i].input_size + (0 if d[i].lanes_are_channels else d[i].packed_size))
    n_units = phases.batch * (1 if d[0].lanes_are_channels else phases.groups * phases.n_out)
    if n_phases == 1:
        n_units *= d[0].parts[0] * d[0].parts[1] * d[0].parts[2]
    if d[0].lanes_are_channels:
        shared = (d[0].packed_size + 63) // 64 * 64
    size = (size + 63) // 64 * 64
    memory = <real *>malloc((shared + size * n_threads + 64) * sizeof(real))
    if memory == NULL:
        return -1
    d[0].packed = aligned(memory)
    for block in range(d[0].n_blocks if d[0].lanes_are_channels else 0):
        pack_depthwise(&d[0], block, aligned(memory) + block * d[0].block_size)
    scratch = aligned(memory) + shared
    if n_threads == 1:
        for unit in range(n_units):
            depthwise_unit(d, n_phases, unit, scratch)
    else:
        for i in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
            for unit in range(part(n_units, n_threads, i), part(n_units, n_threads, i + 1)):
                depthwise_unit(d, n_phases, unit, scratch + i * size)
    free(memory)
    return 0
