# Samples moved, turned and scaled, with noise and a hole: one pass over the outputs.
#
#     for each sample n, each row (d, h):                (threads share the samples)
#         for each stretch of LANES cells w:             lanes = cells along the last axis
#             the 2**rank input cells around  affine[n] @ (d, h, w, 1),  and their weights: once for all channels
#             for each channel c:  y = sum of weight * cell  (+ noise, 0 in the hole)
#
# Cells outside the input are 0: their weight is 0 and the nearest cell inside is read in their place.
# Every output is computed from its own position and every operation rounds by itself, so the bits depend
# neither on the number of threads nor on the instruction set; layouts are numbers.

cdef extern from *:
    """
    #ifdef __GNUC__
    #ifdef CYCONV_FLOAT64
    typedef uint64_t natural __attribute__((vector_size(VECTOR_BYTES)));
    #else
    typedef uint32_t natural __attribute__((vector_size(VECTOR_BYTES)));
    #endif
    #else
    typedef uint64_t natural;
    #endif
    #define LOW_BITS 0xffffffffu

    static inline vec lane_numbers(void)
    {
        vec v;
        for (int i = 0; i < LANES; i++)
            ((real *)&v)[i] = (real)i;
        return v;
    }
    /* A whole number as an integer; it is below 2**22. */
    static inline whole as_whole(vec v) { return bits_of(v + splat((real)ROUNDER)) - bits_of(splat((real)ROUNDER)); }
    static inline whole steps(whole index, long step) { return index * (whole_element)step; }
    #if defined(__AVX512F__) && !defined(CYCONV_FLOAT64)
    static inline vec gather(const real *p, whole at) { return (vec)_mm512_i32gather_ps((__m512i)at, p, 4); }
    #elif defined(__AVX512F__)
    static inline vec gather(const real *p, whole at) { return (vec)_mm512_i64gather_pd((__m512i)at, p, 8); }
    #else
    static inline vec gather(const real *p, whole at)
    {
        vec v;
        for (int i = 0; i < LANES; i++)
            ((real *)&v)[i] = p[((whole_element *)&at)[i]];
        return v;
    }
    #endif
    /* About normal numbers of mean 0 and deviation 1, one for each cell number from ``first`` on: the sum of the
       four bytes of a mixed 32-bit number, which is -3.45 to 3.45. The multipliers are those of C. Wellons'
       "lowbias32"; the second half of the key enters between the rounds, or two keys would give one sequence from
       two starts. */
    static inline vec bell(uint32_t first, uint32_t step, uint64_t key)
    {
        natural h;
        for (int i = 0; i < (int)(sizeof h / sizeof(whole_element)); i++)
            ((whole_element *)&h)[i] = (whole_element)(uint32_t)(first + (uint32_t)key + i * step);
        h = ((h ^ h >> 16) * 0x7feb352du) & LOW_BITS;
        h = ((h ^ h >> 15 ^ (uint32_t)(key >> 32)) * 0x846ca68bu) & LOW_BITS;
        h ^= h >> 16;
        h = (h & 255) + (h >> 8 & 255) + (h >> 16 & 255) + (h >> 24);
        whole sum;
        memcpy(&sum, &h, sizeof sum);
        return times(of_bits(sum + bits_of(splat((real)ROUNDER))) - splat((real)ROUNDER + 510), splat((real)(1 / 147.80054)));
    }
    """
    vec lane_numbers() noexcept nogil
    whole as_whole(vec v) noexcept nogil
    whole steps(whole index, Py_ssize_t step) noexcept nogil
    vec gather(const real *p, whole at) noexcept nogil
    vec bell(unsigned int first, unsigned int step, unsigned long long key) noexcept nogil

cdef struct Warp:
    # Arrays of one shape and layout. Axes are (d, h, w), the last ``rank`` of them are used.
    const real *x
    real *y
    const real *affine         # (N, rank, rank + 1): input position = affine @ (output position, 1)
    const Py_ssize_t *hole     # (N, rank, 2): first cell and the one after the last, or NULL
    real noise                 # standard deviation
    unsigned long long key
    Py_ssize_t channels, cells
    Py_ssize_t n[3]
    Py_ssize_t step[3]         # reals from one cell to the next
    Py_ssize_t c               # from one channel to the next


cdef inline whole inside(vec index, Py_ssize_t n) noexcept nogil:
    return at_most(splat(0), index) & less(index, splat(<real>n))


cdef inline void neighbours(vec position, Py_ssize_t n, Py_ssize_t step, vec *weight, whole *at) noexcept nogil:
    """The two cells of one axis around a position: their weights, and how far from cell 0 they are."""
    cdef vec p, low, high, last = splat(<real>(n - 1))
    p = at_least(splat(-1), no_more_than(splat(<real>n), position))
    low = (p + splat(ROUNDER)) - splat(ROUNDER)
    low = low - pick(less(p, low), splat(1), splat(0))
    high = low + splat(1)
    weight[0] = pick(inside(low, n), high - p, splat(0))
    weight[1] = pick(inside(high, n), p - low, splat(0))
    at[0] = steps(as_whole(at_least(splat(0), no_more_than(last, low))), step)
    at[1] = steps(as_whole(at_least(splat(0), no_more_than(last, high))), step)


cdef inline void augment_row(const int rank, const Warp *s, Py_ssize_t sample, Py_ssize_t d, Py_ssize_t h) noexcept nogil:
    cdef const real *m
    cdef const real *x
    cdef real *y
    cdef vec base[3]
    cdef vec weight[8]
    cdef vec weights[6]
    cdef whole at[8]
    cdef whole ats[6]
    cdef whole hidden
    cdef vec w, total
    cdef real cells[LANES]
    cdef Py_ssize_t first, i, c, n, row = d * s.n[1] + h
    cdef int k, t
    for k in range(rank):
        m = s.affine + (sample * rank + k) * (rank + 1)
        base[k] = splat(m[rank])
        if rank == 3:
            base[k] = base[k] + times(splat(m[0]), splat(<real>d))
        if rank > 1:
            base[k] = base[k] + times(splat(m[rank - 2]), splat(<real>h))
    first = 0
    while first < s.n[2]:
        w = lane_numbers() + splat(<real>first)
        for k in range(rank):
            m = s.affine + (sample * rank + k) * (rank + 1)
            neighbours(base[k] + times(splat(m[rank - 1]), w), s.n[3 - rank + k], s.step[3 - rank + k], weights + 2 * k, ats + 2 * k)
        for t in range(1 << rank):
            weight[t], at[t] = weights[t & 1], ats[t & 1]
            for k in range(1, rank):
                weight[t] = times(weight[t], weights[2 * k + (t >> k & 1)])
                at[t] = at[t] + ats[2 * k + (t >> k & 1)]
        hidden = hole_cells(rank, s, sample, d, h, w)
        n = min(s.n[2] - first, <Py_ssize_t>LANES)
        for c in range(s.channels):
            x = s.x + sample * s.cells * s.channels + c * s.c
            y = s.y + (x - s.x) + d * s.step[0] + h * s.step[1] + first * s.step[2]
            total = times(weight[0], gather(x, at[0]))
            for t in range(1, 1 << rank):
                total = total + times(weight[t], gather(x, at[t]))
            if s.noise > 0:
                i = (sample * s.cells + row * s.n[2] + first) * s.channels + c
                total = total + times(splat(s.noise), bell(<unsigned int>i, <unsigned int>s.channels, s.key))
            total = pick(hidden, splat(0), total)
            if s.step[2] == 1:
                put(y, total, n)
            else:
                store(cells, total)
                for i in range(n):
                    y[i * s.step[2]] = cells[i]
        first += LANES


cdef inline whole hole_cells(const int rank, const Warp *s, Py_ssize_t sample, Py_ssize_t d, Py_ssize_t h, vec w) noexcept nogil:
    cdef whole nothing = less(w, splat(0))
    cdef const Py_ssize_t *hole = s.hole + sample * rank * 2
    if s.hole == NULL:
        return nothing
    if rank == 3 and not hole[0] <= d < hole[1]:
        return nothing
    if rank > 1 and not hole[2 * rank - 4] <= h < hole[2 * rank - 3]:
        return nothing
    return at_most(splat(<real>hole[2 * rank - 2]), w) & less(w, splat(<real>hole[2 * rank - 1]))


cdef inline void augment_rows(const int rank, const Warp *s, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    cdef Py_ssize_t row
    for row in range(start, stop):
        augment_row(rank, s, row // (s.n[0] * s.n[1]), row // s.n[1] % s.n[0], row % s.n[1])


cdef void augment_thread(int rank, const Warp *s, Py_ssize_t start, Py_ssize_t stop) noexcept nogil:
    if rank == 1:
        augment_rows(1, s, start, stop)
    elif rank == 2:
        augment_rows(2, s, start, stop)
    else:
        augment_rows(3, s, start, stop)


def augment(cnp.ndarray x, cnp.ndarray y, cnp.ndarray affine, hole, double noise, unsigned long long key, bint channels_last, int n_threads):
    """Fill y, like x C-contiguous of shape (N, C, *spatial) or (N, *spatial, C); axes are below 2**22 cells,
    samples below 2**31 values. ``hole`` is an array of Py_ssize_t or None."""
    cdef Warp s
    cdef int k, rank = cnp.PyArray_NDIM(x) - 2
    cdef Py_ssize_t j, rows, axis = 1 if channels_last else 2
    s.x, s.y = <const real *>cnp.PyArray_DATA(x), <real *>cnp.PyArray_DATA(y)
    s.affine = <const real *>cnp.PyArray_DATA(affine)
    s.hole = NULL if hole is None else <const Py_ssize_t *>cnp.PyArray_DATA(<cnp.ndarray>hole)
    s.noise, s.key, s.cells = <real>noise, key, 1
    s.channels = cnp.PyArray_DIM(x, rank + 1 if channels_last else 1)
    for k in range(2, -1, -1):
        s.n[k] = cnp.PyArray_DIM(x, axis + k - 3 + rank) if k >= 3 - rank else 1
        s.step[k] = s.cells * (s.channels if channels_last else 1)
        s.cells *= s.n[k]
    s.c = 1 if channels_last else s.cells
    rows = cnp.PyArray_DIM(x, 0) * s.n[0] * s.n[1]
    with nogil:
        for j in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
            augment_thread(rank, &s, part(rows, n_threads, j), part(rows, n_threads, j + 1))
