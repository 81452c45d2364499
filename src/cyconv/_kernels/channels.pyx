# Sums over all values of a channel, and an affine map of its own for each channel: batch normalisation.
#
# Arrays are contiguous, (N, C, P) with lanes = positions or (N, P, C) with lanes = channels, and are
# converted to double on the way. Position p adds to part p % PARTS of the sums of its channel, sample
# by sample, and at the end the parts are added up in order: one order of summation for both layouts, all
# vector widths and any number of threads, which share out the channels. Products are rounded before they
# are added, for the same reason.

cdef extern from "simd.h" nogil:
    ctypedef double wide
    enum: WIDE_LANES
    wide load_wide(const real *p, long n)
    void store_thin(real *p, wide w, long n)
    wide load_doubles(const double *p, long n)
    void store_doubles(double *p, wide v, long n)
    wide splat_double(double x)
    wide wide_times(wide a, wide b)

cdef enum:
    PARTS = 16

cdef struct Channels:
    Py_ssize_t batch, channels, positions
    bint channels_last
    const real *x
    const real *u              # NULL if there is none


cdef inline Channels channels_of(cnp.ndarray x, object u, bint channels_last) noexcept:
    """x, and u if not None, of shape (N, C, P) or (N, P, C)."""
    cdef Channels a
    a.batch, a.channels_last = cnp.PyArray_DIM(x, 0), channels_last
    a.channels, a.positions = cnp.PyArray_DIM(x, 2 if channels_last else 1), cnp.PyArray_DIM(x, 1 if channels_last else 2)
    a.x = <const real *>cnp.PyArray_DATA(x)
    a.u = NULL if u is None else <const real *>cnp.PyArray_DATA(<cnp.ndarray>u)
    return a


cdef inline wide coefficient(const double *p, Py_ssize_t i, long n, const bint per_lane) noexcept nogil:
    return load_doubles(p + i, n) if per_lane else splat_double(p[0])


cdef inline void add_run(const bint per_lane, const real *x, const real *u, const double *mean, double *first, double *second, Py_ssize_t length) noexcept nogil:
    # first[i] += u[i], second[i] += u[i] (x[i] - mean); without u it is x[i] - mean
    cdef Py_ssize_t i
    cdef long n
    cdef wide d, v
    for i in range((length + WIDE_LANES - 1) // WIDE_LANES):
        i = i * WIDE_LANES
        n = length - i
        d = load_wide(x + i, n) - coefficient(mean, i, n, per_lane)
        v = d if u == NULL else load_wide(u + i, n)
        store_doubles(first + i, load_doubles(first + i, n) + v, n)
        store_doubles(second + i, load_doubles(second + i, n) + wide_times(v, d), n)


cdef void sum_channels(const Channels *a, const double *mean, double *parts, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    # parts: [channel, sum, part] in channels_first, [sum, part, channel] in channels_last
    cdef Py_ssize_t n, c, p, at
    cdef double *first
    if a.channels_last:
        for n in range(a.batch):
            for p in range(a.positions):
                at = (n * a.positions + p) * a.channels + start
                first = parts + p % PARTS * a.channels + start
                add_run(True, a.x + at, NULL if a.u == NULL else a.u + at, mean + start, first,
                        first + PARTS * a.channels, stop - start)
        return
    for c in range(start, stop):
        first = parts + c * 2 * PARTS
        for n in range(a.batch):
            for p in range((a.positions + PARTS - 1) // PARTS):
                at = (n * a.channels + c) * a.positions + p * PARTS
                add_run(False, a.x + at, NULL if a.u == NULL else a.u + at, mean + c, first, first + PARTS,
                        min(PARTS, a.positions - p * PARTS))


def channel_sums(cnp.ndarray x, u, cnp.ndarray mean, cnp.ndarray parts, cnp.ndarray sums, bint channels_last, int n_threads):
    """sums[0, c] = sum of u, sums[1, c] = sum of u (x - mean[c]), where u None stands for x - mean[c].

    ``parts`` is scratch for 2 * 16 doubles per channel, filled with zeros.
    """
    cdef Channels a = channels_of(x, u, channels_last)
    cdef const double *m = <const double *>cnp.PyArray_DATA(mean)
    cdef double *scratch = <double *>cnp.PyArray_DATA(parts)
    cdef double *out = <double *>cnp.PyArray_DATA(sums)
    cdef Py_ssize_t j, c, k, by_channel = 1 if channels_last else 2 * PARTS, by_part = a.channels if channels_last else 1
    with nogil:
        for j in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
            sum_channels(&a, m, scratch, part(a.channels, n_threads, j), part(a.channels, n_threads, j + 1))
        for c in range(a.channels):
            out[c] = out[a.channels + c] = 0
            for k in range(PARTS):
                out[c] += scratch[c * by_channel + k * by_part]
                out[a.channels + c] += scratch[c * by_channel + (PARTS + k) * by_part]


cdef inline void map_run(const bint per_lane, const real *x, const real *u, const double *table, Py_ssize_t step, real *y, Py_ssize_t length) noexcept nogil:
    # y = u a + (x - m) b + c, table = m, a, b, c at a distance of step
    cdef Py_ssize_t i
    cdef long n
    cdef wide v
    for i in range((length + WIDE_LANES - 1) // WIDE_LANES):
        i = i * WIDE_LANES
        n = length - i
        v = wide_times(load_wide(x + i, n) - coefficient(table, i, n, per_lane), coefficient(table + 2 * step, i, n, per_lane))
        if u != NULL:
            v = v + wide_times(load_wide(u + i, n), coefficient(table + step, i, n, per_lane))
        store_thin(y + i, v + coefficient(table + 3 * step, i, n, per_lane), n)


cdef void map_rows(const Channels *a, const double *table, real *y, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef Py_ssize_t row, at
    for row in range(start, stop):
        if a.channels_last:
            at = row * a.channels
            map_run(True, a.x + at, NULL if a.u == NULL else a.u + at, table, a.channels, y + at, a.channels)
        else:
            at = row * a.positions
            map_run(False, a.x + at, NULL if a.u == NULL else a.u + at, table + row % a.channels, a.channels, y + at, a.positions)


def channel_map(cnp.ndarray x, u, cnp.ndarray table, cnp.ndarray y, bint channels_last, int n_threads):
    """y = u a[c] + (x - m[c]) b[c] + d[c], table = (m, a, b, d) of shape (4, C); without the first term if u is None."""
    cdef Channels a = channels_of(x, u, channels_last)
    cdef const double *t = <const double *>cnp.PyArray_DATA(table)
    cdef real *out = <real *>cnp.PyArray_DATA(y)
    cdef Py_ssize_t j, rows = a.batch * (a.positions if channels_last else a.channels)
    with nogil:
        for j in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
            map_rows(&a, t, out, part(rows, n_threads, j), part(rows, n_threads, j + 1))
