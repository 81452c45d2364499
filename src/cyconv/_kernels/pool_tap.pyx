# What a pooling does with the taps of its windows: here and in pool_lines.pyx alone the kinds of pooling differ.
#
# A kind is one or two passes over the taps of a window. Extremes and short sums stay in registers. Norms
# take the largest absolute value first, so that no power overflows or vanishes; they, and sums of many
# taps, are added up in double, these in SUM_PARTS that are the same for every layout.

from libc.stdint cimport int64_t, uint8_t

cdef extern from "simd.h" nogil:
    ctypedef int whole_element
    ctypedef int test
    test is_less(vec a, vec b)
    test is_over(vec a, vec b)
    test has_nan(vec a, vec b)
    bint any(test t)
    vec choose(test t, vec yes, vec no)
    whole choose_whole(test t, whole yes, whole no)
    test is_same(whole a, whole b)
    whole splat_whole(whole_element k)
    whole load_whole(const whole_element *p)
    void store_whole(whole_element *p, whole v)
    whole load_bytes(const unsigned char *p)
    void load_pairs(const real *p, long n, vec *even, vec *odd)
    void store_pairs(real *p, vec a, vec b, long n)
    void store_bytes(unsigned char *p, whole v, long n)
    void store_longs(int64_t *p, whole v, int64_t base, long n)
    vec loaded(vec v)

cdef enum Pass:    # extremes come first
    MAX_PASS       # best: the first of equals, the first NaN before numbers
    MIN_PASS
    ARGMAX_PASS    # best and its tap
    ARGMIN_PASS
    SUM_PASS       # best
    LONG_SUM_PASS  # sums of every SUM_PARTS-th tap
    ABS_PASS       # sum of |x|
    TOP_PASS       # top: the largest |x|, or NaN
    SQUARE_PASS    # sum of (x scale)**2, with scale a power of 2 that depends on top
    WHOLE_POWER_PASS   # sum of (|x| / top)**p for an integer p from 3 to MAX_WHOLE
    POWER_PASS     # the same for any p

cdef enum:
    BLOCK = 64                 # lanes of a block
    RUN = 4                    # blocks whose results are buffered
    GROUP = 2                  # vectors in registers
    LISTED = 512               # taps of a list
    NO_CELL = -1               # index of a window without any input cell
    MAX_WHOLE = 16             # powers up to here are products
    SUM_PARTS = 16                 # a multiple of WIDE_LANES

cdef struct Run:
    # Results [line, lane] of some outputs; between passes and slabs also what they need. A line is a row,
    # with its outputs as lanes, or an output, with its channels.
    Py_ssize_t lines, lanes
    Py_ssize_t room            # lanes from a line to the next, lines * room <= RUN * BLOCK
    real *best                 # in y or in cells
    Py_ssize_t pitch           # from a line to the next in best
    real cells[RUN * BLOCK]
    whole_element tap[RUN * BLOCK]
    whole_element first[RUN * BLOCK + LANES]   # of each output, as all that follows: its first tap, or NO_CELL
    double sum[SUM_PARTS * RUN * BLOCK]
    double top[RUN * BLOCK]
    double divisor[RUN * BLOCK + LANES]
    real by[RUN * BLOCK + LANES]               # the same

cdef struct Taps:
    Py_ssize_t n
    Py_ssize_t x[LISTED]               # where each is, seen from its output
    whole_element name[LISTED]         # what tells it from the others

cdef struct Lines:
    # Outputs with the same taps. A line is a row with its outputs as lanes, or an output with its channels.
    Py_ssize_t planes, n, lanes
    const real *x
    Py_ssize_t x_plane, x_line
    Py_ssize_t ahead                   # to what is fetched into cache
    real *best                         # in y or in cells of a Run
    Py_ssize_t best_plane, best_line
    Py_ssize_t own, own_line           # what each starts from, and its divisor: in the arrays of a Run
    whole_element *tap                 # where the extremes are, while taps are left or results are transposed
    Py_ssize_t tap_line
    uint8_t *bytes                     # where they go else, arranged as best: numbers of taps,
    int64_t *cells                     # or flat cells of a plane; NULL if not
    int64_t corner, corner_line, corner_step    # what a cell is counted from, and to the next line and lane
    whole_element corner_lane[LANES]
    bint first, last                   # taps of these outputs
    real least                         # of their maxima

cdef struct Lanes:
    # One output of a block of lanes. A local one: nothing else can be at its address, so the
    # compiler makes vectors of the loops over lanes without checking (twice as fast as in a Run).
    double sum[BLOCK]
    double top[BLOCK]


cdef inline double log_ratio(double a, double b) noexcept nogil:
    """log(a / b) for 0 < a and 0 < b, also where the quotient is too small for a double."""
    if a / b >= 2.2250738585072014e-308:
        return log_(a / b)
    return log_((a * 4.149515568880993e180) / (b * 2.409919865102884e-181)) - 1200 * 0.6931471805599453


cdef inline double square_scale(double top) noexcept nogil:
    """1, or 2**600 or 2**-600 when squares would vanish or overflow."""
    if top < 1e-120:
        return 4.149515568880993e180
    return 2.409919865102884e-181 if top > 1e120 else 1


cdef inline void take_whole_power(Py_ssize_t p, const int step, const real *x, Py_ssize_t n, Lanes *lanes) noexcept nogil:
    """sum += (|x| / top)**p by products, each in all lanes; no use is made of sums where top is 0 or infinite."""
    cdef double square[BLOCK]
    cdef double power[BLOCK]
    cdef Py_ssize_t i
    for i in range(n):
        square[i] = fabs(<double>x[i * step]) / lanes.top[i]
        power[i] = 1
    while p > 1:
        if p % 2:
            for i in range(n):
                power[i] = power[i] * square[i]
        for i in range(n):
            square[i] = square[i] * square[i]
        p //= 2
    for i in range(n):
        lanes.sum[i] = fma(power[i], square[i], lanes.sum[i])


cdef inline void start_lanes(const int kind, bint first, Py_ssize_t n, const double *sum, const double *top, Lanes *lanes) noexcept nogil:
    """Before the first slab of taps, or what the others left."""
    cdef Py_ssize_t i
    for i in range(n):
        if kind == TOP_PASS:
            lanes.top[i] = 0 if first else top[i]
        else:
            lanes.sum[i] = 0 if first else sum[i]
            if kind != ABS_PASS:
                lanes.top[i] = top[i]


cdef inline void take(const int kind, const int step, double p, const real *x, Py_ssize_t n, Lanes *lanes) noexcept nogil:
    """Let one tap take part in n lanes."""
    cdef double *sum = lanes.sum
    cdef double *top = lanes.top
    cdef Py_ssize_t i
    cdef double size
    if kind == WHOLE_POWER_PASS:
        take_whole_power(<Py_ssize_t>p, step, x, n, lanes)
        return
    for i in range(n):
        size = fabs(<double>x[i * step])
        if kind == ABS_PASS:
            sum[i] = sum[i] + size
        elif kind == TOP_PASS:
            top[i] = size if (size > top[i]) | (size != size) else top[i]
        elif kind == SQUARE_PASS:
            sum[i] = add_square(size if sizeof(real) == 4 else size * square_scale(top[i]), sum[i])
        elif size == top[i]:
            sum[i] = sum[i] + (size != 0)
        elif size != 0:
            sum[i] = sum[i] + exp_(p * log_ratio(size, top[i]))


cdef inline double add_square(double x, double to) noexcept nogil:
    # Exact for a float. Of a double, the rounding must not depend on whether the processor has FMA.
    return to + x * x if sizeof(real) == 4 else fma(x, x, to)


cdef inline void finish_lanes(const int kind, bint last, double p, Py_ssize_t n, const Lanes *lanes, real *best, double *sum,
                              double *top) noexcept nogil:
    """The results after the last slab, else what the next one needs."""
    cdef double scale, root
    cdef Py_ssize_t i
    for i in range(n):
        if kind == TOP_PASS:
            top[i], best[i] = lanes.top[i], <real>lanes.top[i]
        elif not last:
            sum[i] = lanes.sum[i]
        elif kind == ABS_PASS:
            best[i] = <real>lanes.sum[i]
        elif kind == SQUARE_PASS:
            scale = 1 if sizeof(real) == 4 else square_scale(lanes.top[i])
            best[i] = <real>(sqrt(lanes.sum[i]) / scale)
        else:
            # In two factors: the product may be in range where sum**(1/p) is not.
            root = exp_(log_(lanes.sum[i]) / p / 2) if 0 < lanes.top[i] < HUGE_VAL else 1
            best[i] = <real>(lanes.top[i] * root * root)


cdef inline void fold_parts(double *parts, Py_ssize_t step, Py_ssize_t n) noexcept nogil:
    """The sum of all parts into the first, for n lanes."""
    cdef Py_ssize_t half = SUM_PARTS // 2, k, i
    while half > 0:
        for k in range(half):
            for i in range(n):
                parts[k * step + i] = parts[k * step + i] + parts[(k + half) * step + i]
        half //= 2


cdef inline void pool_long_sums(const int step, const Taps *taps, const real *x, Py_ssize_t n, bint first, bint last, const double *by,
                                Py_ssize_t by_step, real *best, double *sum) noexcept nogil:
    """At most BLOCK lanes; ``sum`` has room for all parts of them, and not for more."""
    cdef double parts[SUM_PARTS * BLOCK]
    cdef double *part
    cdef const real *cells
    cdef Py_ssize_t k, i
    if first:
        memset(parts, 0, sizeof(parts))
    else:
        for k in range(SUM_PARTS):
            memcpy(parts + k * BLOCK, sum + k * n, n * sizeof(double))
    for k in range(taps.n):
        cells, part = x + taps.x[k], parts + taps.name[k] % SUM_PARTS * BLOCK
        for i in range(n):
            part[i] = part[i] + cells[i * step]
    if not last:
        for k in range(SUM_PARTS):
            memcpy(sum + k * n, parts + k * BLOCK, n * sizeof(double))
        return
    fold_parts(parts, BLOCK, n)
    for i in range(n):
        best[i] = <real>(parts[i] / by[i * by_step])


cdef double sum_of_run(const real *x, Py_ssize_t n) noexcept nogil:
    """The same sum of n taps that follow each other."""
    cdef wide sums[SUM_PARTS]
    cdef double parts[SUM_PARTS]
    cdef Py_ssize_t i = 0
    cdef int v
    for v in range(SUM_PARTS // WIDE_LANES):
        sums[v] = splat_double(0)
    while i < n:
        for v in range(SUM_PARTS // WIDE_LANES):
            if i < n:
                sums[v] = sums[v] + load_wide(x + i, n - i)
            i += WIDE_LANES
    for v in range(SUM_PARTS // WIDE_LANES):
        store_doubles(parts + v * WIDE_LANES, sums[v], WIDE_LANES)
    fold_parts(parts, 1, 1)
    return parts[0]


cdef inline void pool_doubles(const int kind, const int step, double p, const Taps *taps, const real *x, Py_ssize_t n, bint first,
                              bint last, real *best, double *sum, double *top) noexcept nogil:
    """At most BLOCK lanes."""
    cdef Lanes lanes
    cdef Py_ssize_t k
    start_lanes(kind, first, n, sum, top, &lanes)
    for k in range(taps.n):
        take(kind, step, p, x + taps.x[k], n, &lanes)
    finish_lanes(kind, last, p, n, &lanes, best, sum, top)


cdef inline void pool_in_doubles(const int kind, const int step, double p, const Taps *taps, const Lines *lines, Run *run,
                                 Py_ssize_t at) noexcept nogil:
    """Lines of one plane, of which the first is the one at ``at`` in the arrays of ``run``."""
    cdef Py_ssize_t line, block, i, n, own
    cdef const real *x
    cdef real *best
    for line in range(lines.n):
        for block in range(ceil_div(lines.lanes, BLOCK)):
            i = block * BLOCK
            n = min(BLOCK, lines.lanes - i)
            x, best = lines.x + line * lines.x_line + i * max(step, 1), lines.best + line * lines.best_line + i
            if kind == LONG_SUM_PASS:
                own = lines.own + line * lines.own_line + i * (step > 0)
                pool_long_sums(max(step, 1), taps, x, n, lines.first, lines.last, run.divisor + own, step > 0, best, run.sum + SUM_PARTS * (at + i))
            else:
                pool_doubles(kind, max(step, 1), p, taps, x, n, lines.first, lines.last, best, run.sum + at + i, run.top + at + i)
        at += run.room


cdef inline double lp_slope(double p, double x, double y) noexcept nogil:
    """Derivative of the norm y by its term x: sign(x) (|x| / y)**(p - 1); 0 where x or y is 0."""
    cdef double slope
    if x == 0 or y == 0:
        return 0
    if p == 1:
        slope = 1 if x == x else x
    elif p == 2:
        slope = fabs(x) / y
    else:
        slope = exp_((p - 1) * log_ratio(fabs(x), y))
    return -slope if x < 0 else slope
