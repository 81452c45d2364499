# Samples of a batch, fetched from wherever they lie among all.

cdef enum:
    ROW_BYTES_AHEAD = 4096      # bytes of the next row that are on their way while one is copied


cdef void fetch_rows(const real *x, Py_ssize_t size, const Py_ssize_t *rows, Py_ssize_t n, real factor, real *out) noexcept nogil:
    cdef Py_ssize_t i, j, line = 64 // sizeof(real), ahead = min(size, ROW_BYTES_AHEAD // <Py_ssize_t>sizeof(real))
    cdef const real *row
    cdef const real *following
    for i in range(n):
        row = x + rows[i] * size
        following = x + rows[min(i + 1, n - 1)] * size
        for j in range(ceil_div(ahead, line)):
            prefetch_input(following + j * line)
        for j in range(size):
            out[j] = factor * row[j]
        out += size


def take_rows(cnp.ndarray x, cnp.ndarray rows, double factor, cnp.ndarray out, int n_threads):
    """out[i] = factor * x[rows[i]] for C-contiguous x and out whose rows have one size; rows are Py_ssize_t, none is checked."""
    cdef Py_ssize_t n = cnp.PyArray_SIZE(rows), size = cnp.PyArray_SIZE(out) // n
    cdef const real *data = <const real *>cnp.PyArray_DATA(x)
    cdef const Py_ssize_t *row = <const Py_ssize_t *>cnp.PyArray_DATA(rows)
    cdef real *y = <real *>cnp.PyArray_DATA(out)
    cdef Py_ssize_t j
    with nogil:
        for j in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
            fetch_rows(data, size, row + part(n, n_threads, j), part(n, n_threads, j + 1) - part(n, n_threads, j), <real>factor,
                 y + part(n, n_threads, j) * size)
