# Gradients of pooling, and moving values by the indices of maxima.
#
# What an input cell receives is added up in the order of the outputs, whatever the layout and the
# number of threads: a plane has one thread. In a Pool, x is here what has the shape of the input and
# y what has the shape of the outputs, whichever of them is written; all arrays are C-contiguous.

cdef enum Backward:
    SUM_BACKWARD
    LP_BACKWARD
    ADD_AT_INDEX       # x[index[o]] += y[o]
    PUT_AT_INDEX       # x[index[o]] = y[o]
    GET_AT_INDEX       # y[o] = x[index[o]]

cdef struct Gradients:
    # One output of some channels.
    real grad[BLOCK]
    real norm[BLOCK]
    bint found[BLOCK]  # the largest |x|, which alone receives the gradient of p = infinity


cdef inline void spread(const int kind, double p, const real *x, real *dx, Py_ssize_t n, Py_ssize_t step, Gradients *y) noexcept nogil:
    """What one tap of an output receives, in n lanes."""
    cdef Py_ssize_t i
    cdef double value
    for i in range(n):
        if kind == SUM_BACKWARD:
            dx[i * step] += y.grad[i]
        elif p != HUGE_VAL:
            # fma: the rounding must not depend on whether the processor has it.
            dx[i * step] = <real>fma(<double>y.grad[i], lp_slope(p, x[i * step], y.norm[i]), <double>dx[i * step])
        else:
            value = x[i * step]
            if not y.found[i] and (fabs(value) == y.norm[i] or value != value) and y.norm[i] != 0:
                y.found[i] = True
                dx[i * step] += -y.grad[i] if value < 0 else y.grad[i]


cdef inline void spread_planes(const int kind, const Pool *g, const real *x, const real *norm, const real *dy, real *dx,
                               Py_ssize_t n) noexcept nogil:
    """All outputs of n channels; x is None and norm is None for sums."""
    cdef const Axis *axes = &g.axis[0]
    cdef Gradients lanes
    cdef Py_ssize_t d, h, w, t, r, s, i, at, corner, cell
    cdef real by
    for d in range(g.n_out[0]):
        for h in range(g.n_out[1]):
            for w in range(g.n_out[2]):
                by = <real>divisor(g, d, h, w)
                at = d * axes[0].y + h * axes[1].y + w * axes[2].y
                for i in range(n):
                    lanes.grad[i] = dy[at + i * g.y_c] / by if kind == SUM_BACKWARD else dy[at + i * g.y_c]
                    if kind == LP_BACKWARD:
                        lanes.norm[i], lanes.found[i] = norm[at + i * g.y_c], False
                corner = ((axes[0].start + place(g, 0, d) * axes[0].stride) * axes[0].x
                          + (axes[1].start + place(g, 1, h) * axes[1].stride) * axes[1].x
                          + (axes[2].start + place(g, 2, w) * axes[2].stride) * axes[2].x)
                for t in range(g.windows[0][3 * d + 1], g.windows[0][3 * d + 1] + g.windows[0][3 * d + 2]):
                    for r in range(g.windows[1][3 * h + 1], g.windows[1][3 * h + 1] + g.windows[1][3 * h + 2]):
                        for s in range(g.windows[2][3 * w + 1], g.windows[2][3 * w + 1] + g.windows[2][3 * w + 2]):
                            cell = corner + t * axes[0].step * axes[0].x + r * axes[1].step * axes[1].x + s * axes[2].step * axes[2].x
                            spread(kind, g.p, x + cell, dx + cell, n, g.x_c, &lanes)


cdef void move_planes(const int kind, const Pool *g, Py_ssize_t x_at, Py_ssize_t y_at, Py_ssize_t n) noexcept nogil:
    """A plane is one axis here."""
    cdef real *x = <real *>g.x + x_at
    cdef Py_ssize_t o, i, at, cell
    for o in range(g.n_out[2]):
        for i in range(n):
            at = y_at + o * g.axis[2].y + i * g.y_c
            cell = g.index[at] * g.axis[2].x + i * g.x_c
            if g.index[at] < 0:
                if kind == GET_AT_INDEX:
                    g.y[at] = 0
            elif kind == ADD_AT_INDEX:
                x[cell] += g.y[at]
            elif kind == PUT_AT_INDEX:
                x[cell] = g.y[at]
            else:
                g.y[at] = x[cell]


cdef inline void backward_block(int kind, const Pool *g, const real *x, const real *norm, Py_ssize_t sample, Py_ssize_t channel,
                                Py_ssize_t n) noexcept nogil:
    """At most BLOCK channels of a sample. The literals make the compiler write one body per kind."""
    cdef Py_ssize_t x_at = sample * g.x_n + channel * g.x_c, y_at = sample * g.y_n + channel * g.y_c
    cdef real *dx = <real *>g.x + x_at
    if kind == SUM_BACKWARD and n == 1:
        spread_planes(SUM_BACKWARD, g, dx, dx, g.y + y_at, dx, 1)
    elif kind == SUM_BACKWARD:
        spread_planes(SUM_BACKWARD, g, dx, dx, g.y + y_at, dx, n)
    elif kind == LP_BACKWARD:
        spread_planes(LP_BACKWARD, g, x + x_at, norm + y_at, g.y + y_at, dx, n)
    elif kind == ADD_AT_INDEX:
        move_planes(ADD_AT_INDEX, g, x_at, y_at, n)
    elif kind == PUT_AT_INDEX:
        move_planes(PUT_AT_INDEX, g, x_at, y_at, n)
    else:
        move_planes(GET_AT_INDEX, g, x_at, y_at, n)


cdef void backward_task(int kind, const Pool *g, const real *x, const real *norm, Py_ssize_t sample, Py_ssize_t first,
                        Py_ssize_t last) noexcept nogil:
    cdef Py_ssize_t block
    for block in range(ceil_div(last - first, BLOCK)):
        backward_block(kind, g, x, norm, sample, first + block * BLOCK, min(BLOCK, last - first - block * BLOCK))


cdef void pool_backward(int kind, const Pool *g, const real *x, const real *norm, bint channels_last, int n_threads) noexcept nogil:
    """Single planes to threads, or blocks of channels where these are last."""
    cdef Py_ssize_t blocks = g.channels, tasks, task, i
    if channels_last:
        blocks = 1 if g.batch >= n_threads else min(g.channels, n_threads)
    tasks = g.batch * blocks
    for i in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
        for task in range(part(tasks, n_threads, i), part(tasks, n_threads, i + 1)):
            backward_task(kind, g, x, norm, task // blocks, part(g.channels, blocks, task % blocks),
                          part(g.channels, blocks, task % blocks + 1))


def sum_pool_backward(cnp.ndarray dy, cnp.ndarray dx, cnp.ndarray table, cnp.ndarray windows, cnp.ndarray counts,
                      double divisor, bint channels_last, int n_threads):
    """Spread dy over ``divisor``, or over ``counts``, into the cells of each window of the zeroed dx."""
    cdef Pool g
    set_pool(&g, dx, dy, table, windows, channels_last)
    set_counts(&g, counts, divisor)
    with nogil:
        pool_backward(SUM_BACKWARD, &g, NULL, NULL, channels_last, n_threads)


def lp_pool_backward(cnp.ndarray dy, cnp.ndarray x, cnp.ndarray norm, cnp.ndarray dx, cnp.ndarray table, cnp.ndarray windows,
                     double p, bint channels_last, int n_threads):
    """Spread dy by the slopes of the norm at x into the zeroed dx."""
    cdef Pool g
    set_pool(&g, dx, dy, table, windows, channels_last)
    g.p = p
    with nogil:
        pool_backward(LP_BACKWARD, &g, <const real *>cnp.PyArray_DATA(x), <const real *>cnp.PyArray_DATA(norm), channels_last,
                      n_threads)


cdef Py_ssize_t move_by_index(int kind, cnp.ndarray values, cnp.ndarray index, cnp.ndarray planes, bint channels_last,
                              int n_threads):
    """Between values and the cells of the planes that ``index`` names; -1 names none.

    Returns the flat position of the first index outside its plane, with nothing written, or -1.
    """
    cdef Pool g
    cdef Py_ssize_t plane, outputs, i, bad = -1, size = cnp.PyArray_SIZE(index)
    cdef const int64_t *indices = <const int64_t *>cnp.PyArray_DATA(index)
    cdef int c_axis = planes.ndim - 1 if channels_last else 1
    g.batch, g.channels = planes.shape[0], planes.shape[c_axis]
    if size == 0 or cnp.PyArray_SIZE(planes) == 0:
        plane = outputs = 0
    else:
        plane = cnp.PyArray_SIZE(planes) // (g.batch * g.channels)
        outputs = size // (g.batch * g.channels)
    g.n_out[2] = outputs
    g.x_n, g.y_n = plane * g.channels, outputs * g.channels
    g.x_c = 1 if channels_last else plane
    g.y_c = 1 if channels_last else outputs
    g.axis[2].x = g.axis[2].y = g.channels if channels_last else 1
    g.x, g.y = <const real *>cnp.PyArray_DATA(planes), <real *>cnp.PyArray_DATA(values)
    g.index = <int64_t *>cnp.PyArray_DATA(index)
    with nogil:
        for i in range(size):
            if not NO_CELL <= indices[i] < plane:
                bad = i
                break
        if bad < 0:
            pool_backward(kind, &g, NULL, NULL, channels_last, n_threads)
    return bad


def max_pool_backward(cnp.ndarray dy, cnp.ndarray index, cnp.ndarray dx, bint channels_last, int n_threads):
    """Add dy to the zeroed dx; returns as `move_by_index`."""
    return move_by_index(ADD_AT_INDEX, dy, index, dx, channels_last, n_threads)


def max_unpool(cnp.ndarray x, cnp.ndarray index, cnp.ndarray y, bint channels_last, int n_threads):
    """Put x into the zeroed y, the last of equal indices; returns as `move_by_index`."""
    return move_by_index(PUT_AT_INDEX, x, index, y, channels_last, n_threads)


def max_unpool_backward(cnp.ndarray dx, cnp.ndarray index, cnp.ndarray dy, bint channels_last, int n_threads):
    """Fetch dx from dy; returns as `move_by_index`."""
    return move_by_index(GET_AT_INDEX, dx, index, dy, channels_last, n_threads)
