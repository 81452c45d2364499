# What a pooling does with one tap of its window: the only place where the kinds of pooling differ.
#
# A kind is one or two passes over the taps of a window. Extremes and short sums stay in registers. Norms
# take the largest absolute value first, so that no power overflows or vanishes; they, and sums of many
# taps, are added up in double, these in SUM_PARTS that are the same for every layout.

cdef extern from "simd.h" nogil:
    ctypedef int whole_element
    ctypedef int test
    test is_less(vec a, vec b)
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
    double sum[SUM_PARTS * RUN * BLOCK]
    double top[RUN * BLOCK]
    double divisor[RUN * BLOCK]    # of each output
    real by[RUN * BLOCK]           # the same

cdef struct Taps:
    # The taps of an output, or of the outputs of a row, that are inside the input and the slab.
    Py_ssize_t first[3]
    Py_ssize_t last[3]
    Py_ssize_t x[3]            # reals from one tap to the next
    Py_ssize_t name[3]         # what tells taps apart, from one to the next

cdef struct Lanes:
    # One output of a block of lanes. A local one: nothing else can be at its address, so the
    # compiler makes vectors of the loops over lanes without checking (twice as fast as in a Run).
    double sum[BLOCK]
    double top[BLOCK]


# ---------------------------------------------------------------- in registers

cdef inline vec load_lanes(const int step, const bint is_part, const real *x, Py_ssize_t n) noexcept nogil:
    if step == 2:
        return load_even(x, n if is_part else LANES)
    return load_part(x, n) if is_part else load(x)


cdef inline test take_vectors(const int kind, const int V, const vec *x, whole name, vec *best, whole *tap) noexcept nogil:
    """Let one tap take part in V vectors. Extremes keep the first of equals and leave NaN out, but tell of it."""
    cdef test wins
    cdef int v
    for v in range(V):
        if kind == SUM_PASS:
            best[v] = best[v] + x[v]
            continue
        if kind == ARGMAX_PASS or kind == ARGMIN_PASS:
            wins = is_less(best[v], x[v]) if kind == ARGMAX_PASS else is_less(x[v], best[v])
            tap[v] = choose_whole(wins, name, tap[v])
        best[v] = at_least(x[v], best[v]) if kind == MAX_PASS or kind == ARGMAX_PASS else no_more_than(x[v], best[v])
    return has_nan(x[0], x[V - 1])


cdef inline void take_nan(const int V, const vec *x, whole name, vec *best, whole *tap) noexcept nogil:
    """Let the first NaN win."""
    cdef test wins
    cdef int v
    for v in range(V):
        wins = has_nan(x[v], x[v]) & ~has_nan(best[v], best[v])
        best[v], tap[v] = choose(wins, x[v], best[v]), choose_whole(wins, name, tap[v])


cdef inline test visit_cells(const int kind, const bint only_nan, const int V, const vec *cells, whole_element name, vec *best,
                             whole *tap) noexcept nogil:
    """Let one tap take part. Whether any cell is NaN."""
    if only_nan:
        take_nan(V, cells, splat_whole(name), best, tap)
        return has_nan(splat(0), splat(0))
    return take_vectors(kind, V, cells, splat_whole(name), best, tap)


cdef inline test visit_taps(const int kind, const bint only_nan, const int step, const int width, const int V, const bint is_part,
                            const Taps *taps, const real *x, Py_ssize_t n, Py_ssize_t next, vec *best, whole *tap) noexcept nogil:
    """Whether any cell is NaN. ``width`` > 0: the taps of a row, which follow each other in memory; lanes are 2 apart."""
    cdef test nan = has_nan(splat(0), splat(0))
    cdef vec cells[GROUP]
    cdef vec odd[GROUP]
    cdef Py_ssize_t t, r, s
    cdef const real *row
    cdef whole_element name
    cdef int v, k
    for t in range(taps.first[0], taps.last[0]):
        for r in range(taps.first[1], taps.last[1]):
            row = x + t * taps.x[0] + r * taps.x[1]
            name = t * taps.name[0] + r * taps.name[1]
            for k in range(width // 2):
                for v in range(V):
                    load_pairs(row + 2 * k + v * 2 * next, n if is_part else LANES, &cells[v], &odd[v])
                nan = nan | visit_cells(kind, only_nan, V, cells, name + 2 * k * taps.name[2], best, tap)
                nan = nan | visit_cells(kind, only_nan, V, odd, name + (2 * k + 1) * taps.name[2], best, tap)
            if width > 0:
                if width % 2:
                    for v in range(V):
                        cells[v] = loaded(load_lanes(2, is_part, row + width - 1 + v * 2 * next, n))
                    nan = nan | visit_cells(kind, only_nan, V, cells, name + (width - 1) * taps.name[2], best, tap)
                continue
            for s in range(taps.first[2], taps.last[2]):
                for v in range(V):
                    cells[v] = loaded(load_lanes(step, is_part, row + s * taps.x[2] + v * step * next, n))
                nan = nan | visit_cells(kind, only_nan, V, cells, name + s * taps.name[2], best, tap)
    return nan


cdef inline void pool_vectors(const int kind, const int step, const int width, const int V, const bint is_part, const Taps *taps,
                              const real *x, Py_ssize_t n, Py_ssize_t next, bint first, bint last, const real *by, Py_ssize_t by_step,
                              real *best, whole_element *tap) noexcept nogil:
    """V vectors of lanes that are ``step`` cells apart, each ``next`` lanes behind the other, or the n lanes of a part of one."""
    cdef real start = 0 if kind == SUM_PASS else -HUGE_VAL if kind == MAX_PASS or kind == ARGMAX_PASS else HUGE_VAL
    cdef vec values[GROUP]
    cdef whole names[GROUP]
    cdef test nan
    cdef int v
    for v in range(V):
        if first:
            values[v], names[v] = splat(start), splat_whole(NO_CELL)
        else:
            values[v] = load_part(best, n) if is_part else load(best + v * next)
            names[v] = load_whole(tap + v * next)
    nan = visit_taps(kind, False, step, width, V, is_part, taps, x, n, next, values, names)
    if kind != SUM_PASS and any(nan):
        visit_taps(kind, True, step, 0, V, is_part, taps, x, n, next, values, names)
    for v in range(V):
        if kind == SUM_PASS and last:
            values[v] = values[v] / (splat(by[0]) if by_step == 0 else load(by + v * next))
        if is_part:
            store_part(best, values[v], n)
        else:
            store(best + v * next, values[v])
        if kind == ARGMAX_PASS or kind == ARGMIN_PASS:
            store_whole(tap + v * next, names[v])


cdef inline void pool_registers(const int kind, const int step, const int width, const Taps *taps, const real *x, Py_ssize_t n, bint first,
                                bint last, const real *by, Py_ssize_t by_step, real *best, whole_element *tap) noexcept nogil:
    """n lanes: two vectors at a time, of which the last two may overlap; the rest as one vector."""
    cdef Py_ssize_t i = 0, next
    while n - i > LANES:
        next = min(LANES, n - i - LANES)
        pool_vectors(kind, step, width, GROUP, False, taps, x + i * step, LANES, next, first, last, by + i * by_step, by_step, best + i, tap + i)
        i += LANES + next
    if n - i == LANES:
        pool_vectors(kind, step, width, 1, False, taps, x + i * step, LANES, 0, first, last, by + i * by_step, by_step, best + i, tap + i)
    elif i < n:
        pool_vectors(kind, step, width, 1, True, taps, x + i * step, n - i, 0, first, last, by + i * by_step, by_step, best + i, tap + i)


# ---------------------------------------------------------------- in double

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
    """At most BLOCK lanes; ``sum`` has room for all parts of them."""
    cdef double parts[SUM_PARTS * BLOCK]
    cdef double *part
    cdef const real *cells
    cdef Py_ssize_t t, r, s, i
    if first:
        memset(parts, 0, sizeof(parts))
    else:
        memcpy(parts, sum, sizeof(parts))
    for t in range(taps.first[0], taps.last[0]):
        for r in range(taps.first[1], taps.last[1]):
            for s in range(taps.first[2], taps.last[2]):
                cells = x + t * taps.x[0] + r * taps.x[1] + s * taps.x[2]
                part = parts + (t * taps.name[0] + r * taps.name[1] + s) % SUM_PARTS * BLOCK
                for i in range(n):
                    part[i] = part[i] + cells[i * step]
    if not last:
        memcpy(sum, parts, sizeof(parts))
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
    cdef Py_ssize_t t, r, s
    start_lanes(kind, first, n, sum, top, &lanes)
    for t in range(taps.first[0], taps.last[0]):
        for r in range(taps.first[1], taps.last[1]):
            for s in range(taps.first[2], taps.last[2]):
                take(kind, step, p, x + t * taps.x[0] + r * taps.x[1] + s * taps.x[2], n, &lanes)
    finish_lanes(kind, last, p, n, &lanes, best, sum, top)


cdef inline void pool_lanes(const int kind, const int step, const int width, double p, const Taps *taps, const real *x, bint first, bint last,
                            Run *run, Py_ssize_t line, Py_ssize_t by, Py_ssize_t by_step) noexcept nogil:
    """One slab of the taps of a line: the first slab, the last, or both. The divisors begin at ``by``."""
    cdef Py_ssize_t block, i, n, at = line * run.room
    cdef real *best = run.best + line * run.pitch
    if kind <= SUM_PASS:
        pool_registers(kind, step, width, taps, x, run.lanes, first, last, run.by + by, by_step, best, run.tap + at)
        return
    for block in range(ceil_div(run.lanes, BLOCK)):
        i = block * BLOCK
        n = min(BLOCK, run.lanes - i)
        if kind == LONG_SUM_PASS:
            pool_long_sums(step, taps, x + i * step, n, first, last, run.divisor + by + i * by_step, by_step, best + i,
                           run.sum + SUM_PARTS * (at + i))
        else:
            pool_doubles(kind, step, p, taps, x + i * step, n, first, last, best + i, run.sum + at + i, run.top + at + i)


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
