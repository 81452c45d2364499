# The micro-kernel: a tile of P scalars x V vectors, accumulated in registers.
#
#     out[p, v] = sum over i0, i1, i2, i3 of  a[off[p] + i . a] * b[v * b_v + i . b]
#
# It walks the sum as a list of runs, each of terms with even steps: four nested loops around sums of 9 to 27 terms
# cost as much as the sums.
#
# Whoever calls it decides what the scalars, the vectors and the four summed axes are:
#   scalars = output positions, vectors = output channels   (convolution, channels packed)
#   scalars = output channels,  vectors = output positions  (few terms, channels_first)
#   scalars = (tap, channel),   vectors = output channels   (weight gradient)
# The sum is one chain per output in the order of the loops, so the tile size, the vector width and
# which of the three forms is used do not show in the bits.

cdef extern from "simd.h" nogil:
    ctypedef float real
    ctypedef float vec
    enum: LANES
    enum: ACCUMULATORS
    enum: SAMPLES
    vec load(const real *p)
    void store(real *p, vec v)
    vec splat(real x)
    void transpose(vec *rows)
    void prefetch(const real *p)
    void reread(const Tile **t)
    void forget(real **p)
    void forget_scalar "forget"(const real **p)
    vec load_part(const real *p, long n)
    void store_part(real *p, vec v, long n)

cdef enum:
    MAX_P = 14     # scalars of a tile; 14 x 2 accumulators fill the registers of AVX-512
    MAX_P_1 = 10   # of one vector: 8 products hide their latency, and offsets of more do not fit in registers
    MAX_V = 2      # wider tiles measured no faster on any instruction set
    MAX_RUNS = 4096    # of a sum: at least SUM_BLOCK, and the taps of one channel of a depthwise convolution

cdef real ZEROS[LANES]          # static, so it holds zeros

cdef struct Sum:
    Py_ssize_t n[4]             # extents of the summed axes, outermost first
    Py_ssize_t a[4]
    Py_ssize_t b[4]

cdef struct Start:
    Py_ssize_t a
    Py_ssize_t b

cdef struct Tile:
    Py_ssize_t off[MAX_P]       # offset of each scalar; of the first 0
    Sum sum
    Py_ssize_t runs             # of the innermost axis of the sum: how many, and where each begins
    Start run[MAX_RUNS]
    Py_ssize_t b_v              # from one vector to the next
    Py_ssize_t out_p
    Py_ssize_t out_v
    Py_ssize_t next_a           # from one tile to the next
    Py_ssize_t next_b
    Py_ssize_t next_out
    bint first                  # start from ``start``, not from what out holds
    const real *start           # bias or, with steps 0, ZEROS
    Py_ssize_t start_p
    Py_ssize_t start_v


cdef inline int max_p(int V) noexcept nogil:
    return min(MAX_P, ACCUMULATORS // V) if V > 1 else min(MAX_P_1, ACCUMULATORS // 2)


cdef inline int most_scalars(int V) noexcept nogil:
    """Of any tile there is: a last block of samples that has no second one takes the tiles of two vectors with one."""
    return max_p(2) if V > 1 else max(MAX_P_1, max_p(2))


cdef inline void tile(const int P, const int V, Py_ssize_t count, const Tile *t, const real *a, const real *b, real *out) noexcept nogil:
    # GCC unrolls the loops over P, and so keeps the accumulators in registers from their start to
    # their end, only inside another loop and without branches: hence count, ZEROS and the steps of 0.
    cdef vec acc[MAX_P * MAX_V]
    cdef vec w[MAX_V]
    cdef Py_ssize_t off[MAX_P]      # in bytes
    cdef Py_ssize_t i, r, left, step_a = t.sum.a[3], step_b = t.sum.b[3], b_v = t.b_v
    cdef Py_ssize_t out_p = t.out_p, out_v = t.out_v
    cdef Py_ssize_t init_p = t.start_p if t.first else out_p, init_v = t.start_v if t.first else out_v
    cdef const real *init
    cdef const real *pa
    cdef const real *pb
    cdef real x
    cdef int p, v
    for p in range(P):
        off[p] = t.off[p] * <Py_ssize_t>sizeof(real)
    for i in range(count):
        init = t.start if t.first else out
        for p in range(P):
            for v in range(V):
                acc[p * V + v] = load(init + p * init_p + v * init_v)
                if v == V - 1 or (v + 1) * LANES * <int>sizeof(real) % 64 == 0:     # each line once, and where it ends:
                    prefetch(out + p * out_p + v * out_v + LANES - 1)                # the tile before had its beginning
        for r in range(t.runs):
            pa = a + t.run[r].a
            pb = b + t.run[r].b
            left = t.sum.n[3]
            while left:                # an instruction less than counting up; one more is dear when a core is shared
                left -= 1
                for v in range(V):
                    w[v] = load(pb + v * b_v)
                for p in range(P):
                    x = (<const real *>(<const char *>pa + off[p]))[0] if p else pa[0]
                    for v in range(V):
                        acc[p * V + v] = acc[p * V + v] + x * w[v]
                pa += step_a
                forget_scalar(&pa)     # or there would be a second pointer beside it
                pb += step_b
        forget(&out)               # or all addresses of the prefetches wait in memory for the stores
        # A product too small for a number can make a sum -0.0. Padding that is read makes that 0.0, padding
        # that is trimmed does not; so does this, and which of them happened does not show in the bits.
        for p in range(P):
            for v in range(V):
                store(out + p * out_p + v * out_v, acc[p * V + v] + splat(0))
        a += t.next_a
        b += t.next_b
        out += t.next_out


cdef inline void tile_of_width(const int V, int P, Py_ssize_t count, const Tile *t, const real *a, const real *b, real *out) noexcept nogil:
    # The literals make the compiler write one body per tile size; those too large vanish.
    if P == 1: tile(1, V, count, t, a, b, out)
    elif P == 2: tile(2, V, count, t, a, b, out)
    elif P == 3: tile(3, V, count, t, a, b, out)
    elif P == 4: tile(4, V, count, t, a, b, out)
    elif P == 5: tile(5, V, count, t, a, b, out)
    elif P == 6: tile(6, V, count, t, a, b, out)
    elif P == 7 and P <= most_scalars(V): tile(7, V, count, t, a, b, out)
    elif P == 8 and P <= most_scalars(V): tile(8, V, count, t, a, b, out)
    elif P == 9 and P <= most_scalars(V): tile(9, V, count, t, a, b, out)
    elif P == 10 and P <= most_scalars(V): tile(10, V, count, t, a, b, out)
    elif P == 11 and P <= most_scalars(V): tile(11, V, count, t, a, b, out)
    elif P == 12 and P <= most_scalars(V): tile(12, V, count, t, a, b, out)
    elif P == 13 and P <= most_scalars(V): tile(13, V, count, t, a, b, out)
    elif P == 14 and P <= most_scalars(V): tile(14, V, count, t, a, b, out)


# In two functions: in one so large GCC kept offsets of tiles of one vector in vector registers.

cdef void run_tiles_of_one(int P, Py_ssize_t count, const Tile *t, const real *a, const real *b, real *out) noexcept nogil:
    tile_of_width(1, P, count, t, a, b, out)


cdef void run_tiles(int P, int V, Py_ssize_t count, const Tile *t, const real *a, const real *b, real *out) noexcept nogil:
    """``count`` tiles, one after the other."""
    if V == 1:
        run_tiles_of_one(P, count, t, a, b, out)
    else:
        tile_of_width(2, P, count, t, a, b, out)


cdef inline void start_tile(Tile *t, bint first, Py_ssize_t a_p) noexcept nogil:
    """Even scalars, vectors that follow each other, no bias, all tiles at the same place."""
    cdef Py_ssize_t p
    for p in range(MAX_P):
        t.off[p] = p * a_p
    t.first, t.b_v, t.out_v = first, LANES, LANES
    t.next_a = t.next_b = t.next_out = 0
    t.start, t.start_p, t.start_v = &ZEROS[0], 0, 0


cdef inline void merge_axes(Sum *s) noexcept nogil:
    # Fold axes of one cell and axes that follow each other in memory into the innermost one.
    cdef int i
    for i in range(2, -1, -1):
        if s.n[3] == 1:
            s.n[3], s.a[3], s.b[3] = s.n[i], s.a[i], s.b[i]
            s.n[i] = 1
        elif s.n[i] != 1 and s.a[i] == s.n[3] * s.a[3] and s.b[i] == s.n[3] * s.b[3]:
            s.n[3] *= s.n[i]
            s.n[i] = 1
        elif s.n[i] != 1:
            break


cdef inline void list_runs(Tile *t, bint merge=True) noexcept nogil:
    cdef Sum *s = &t.sum
    cdef Py_ssize_t i0, i1, i2
    if merge:
        merge_axes(s)
    t.runs = 0
    for i0 in range(s.n[0]):
        for i1 in range(s.n[1]):
            for i2 in range(s.n[2]):
                t.run[t.runs].a = i0 * s.a[0] + i1 * s.a[1] + i2 * s.a[2]
                t.run[t.runs].b = i0 * s.b[0] + i1 * s.b[1] + i2 * s.b[2]
                t.runs += 1


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    """ceil(a / b) for b > 0 and any a."""
    return a // b + (a % b > 0)


cdef inline Py_ssize_t blocks_at_once() noexcept nogil:
    """Blocks of samples that fill the two vectors of a tile."""
    return 2 if LANES == SAMPLES else 1


cdef struct Split:
    # A stretch of scalars as tiles: count[0] of size P[0], then count[1] of size P[1].
    int P[2]
    Py_ssize_t count[2]


cdef inline Split split(Py_ssize_t n, Py_ssize_t limit, Py_ssize_t V) noexcept nogil:
    """Full tiles and a rest whose products with V vectors keep both FMA units busy; else tiles of even size."""
    cdef Split result
    cdef Py_ssize_t tiles = ceil_div(n, limit)
    if n % limit == 0 or n % limit * V >= 8:
        result.P[0], result.count[0] = <int>limit, n // limit
        result.P[1], result.count[1] = <int>(n % limit), n % limit != 0
    else:
        result.P[0], result.count[0] = <int>(n // tiles + 1), n % tiles
        result.P[1], result.count[1] = <int>(n // tiles), tiles - n % tiles
    return result


cdef inline Py_ssize_t part(Py_ssize_t total, Py_ssize_t parts, Py_ssize_t i) noexcept nogil:
    """Where part ``i`` of an even split of ``total`` begins."""
    return total * i // parts
