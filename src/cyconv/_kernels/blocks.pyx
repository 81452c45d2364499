# Blocks of samples: memory (blocks, *spatial, C, SAMPLES) in place of (N, C, *spatial). The values of
# SAMPLES samples at one cell of one channel stand side by side, as one vector or several. Places of the
# last block that have no sample hold whatever the layers make of zeros. Here: the way in and out, and the
# row of a convolution; what shares rows out is that of all convolutions in conv.pyx, weight gradients are
# in conv_weight_blocks.pyx.

cdef void copy_block(const real *x, Py_ssize_t x_n, Py_ssize_t n, real *block, Py_ssize_t channels, Py_ssize_t cells, Py_ssize_t pitch) noexcept nogil:
    """block[s, c, n] = x[n, c, s]"""
    cdef Py_ssize_t c
    for c in range(channels):
        copy_transposed(block + c * SAMPLES, pitch, x + c * cells, x_n, n, cells)


cdef void copy_from_block(const real *block, real *x, Py_ssize_t x_n, Py_ssize_t n, Py_ssize_t channels, Py_ssize_t cells, Py_ssize_t pitch) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(channels):
        copy_transposed(x + c * cells, x_n, block + c * SAMPLES, pitch, cells, n)


def to_blocks(cnp.ndarray x, cnp.ndarray blocks, int n_threads):
    """blocks[n // SAMPLES, s, c, n % SAMPLES] = x[n, c, s] for x of shape (N, C, cells), each sample contiguous.

    ``blocks`` may have more channels than x; they and places without a sample stay.
    """
    cdef Py_ssize_t n = x.shape[0], channels = x.shape[1], cells = x.shape[2], b
    cdef Py_ssize_t x_n = x.strides[0] // <Py_ssize_t>sizeof(real), pitch = blocks.shape[blocks.ndim - 2] * SAMPLES
    cdef const real *data = <const real *>cnp.PyArray_DATA(x)
    cdef real *out = <real *>cnp.PyArray_DATA(blocks)
    for b in prange(ceil_div(n, SAMPLES), num_threads=n_threads, schedule="static", nogil=True):
        copy_block(data + b * SAMPLES * x_n, x_n, min(<Py_ssize_t>SAMPLES, n - b * SAMPLES), out + b * cells * pitch, channels, cells, pitch)


def from_blocks(cnp.ndarray blocks, cnp.ndarray x, int n_threads):
    """x[n, c, s] = blocks[n // SAMPLES, s, c, n % SAMPLES], the inverse of `to_blocks`."""
    cdef Py_ssize_t n = x.shape[0], channels = x.shape[1], cells = x.shape[2], b
    cdef Py_ssize_t x_n = x.strides[0] // <Py_ssize_t>sizeof(real), pitch = blocks.shape[blocks.ndim - 2] * SAMPLES
    cdef real *out = <real *>cnp.PyArray_DATA(x)
    cdef const real *data = <const real *>cnp.PyArray_DATA(blocks)
    for b in prange(ceil_div(n, SAMPLES), num_threads=n_threads, schedule="static", nogil=True):
        copy_from_block(data + b * cells * pitch, out + b * SAMPLES * x_n, x_n, min(<Py_ssize_t>SAMPLES, n - b * SAMPLES), channels, cells, pitch)


# ---------------------------------------------------------------- convolution

cdef void run_blocks(const Job *job, Box *box, Py_ssize_t first_block) noexcept nogil:
    """One row of outputs of as many blocks of samples as tiles take at once."""
    cdef const Conv *cv = job.cv
    cdef const Axis *axes = &cv.axis[0]
    cdef Py_ssize_t width = job.plan.width, n_out = job.n_out, row = box.n_out[2], tiles, q, i, k, first[3]
    cdef Py_ssize_t count[3]
    cdef const real *x = cv.x + first_block * cv.x_n + job.group * cv.n_sum * cv.x_c
    cdef const real *w
    cdef real *y
    cdef int V = 2 if LANES < SAMPLES or first_block + 1 < cv.batch else 1
    cdef Box cell = box[0]
    cdef View view
    cdef Tile t
    start_tile(&t, job.first, 1)
    t.out_p, t.start_p = cv.y_c, LANES
    if LANES == SAMPLES:
        t.b_v, t.out_v = cv.x_n, cv.y_n
    t.next_b = t.next_out = 2 * LANES
    tiles = ceil_div(n_out, max_p(V))
    for i in range(2):
        trim(&axes[i], box.out[i], box.tap[i], box.n_taps[i], &first[i], &count[i])
    cell.n_out[2] = 1
    for q in range(row):
        cell.out[2] = box.out[2] + q
        trim(&axes[2], cell.out[2], box.tap[2], box.n_taps[2], &first[2], &count[2])
        view_in_place(axes, x, cv.x_c, &cell, &view)
        w = job.packed
        set_sums(&t, box, &view, width, first, count, True, &view.data, &w)
        y = (cv.y + first_block * cv.y_n + job.channel * cv.y_c + cell.out[0] * axes[0].y + cell.out[1] * axes[1].y
             + cell.out[2] * axes[2].y)
        for i in range(tiles):
            k = part(n_out, tiles, i)
            t.start = job.spread_bias + k * LANES
            run_tiles(part(n_out, tiles, i + 1) - k, V, max(1, SAMPLES // (2 * LANES)), &t, w + k, view.data, y + k * cv.y_c)
