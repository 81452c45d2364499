# What a pooling does with one tap of its window: the only place where the kinds of pooling differ.
#
# A kind is one or two passes over the taps of a window. Norms take the largest absolute value first,
# so that no power overflows or vanishes. They, and sums of many taps, are added up in double.

cdef extern from *:
    """
    /* Whether a maximum changes: value > best, or the first NaN. */
    static inline int is_above(real value, real best) { return !(value <= best) & (best == best); }
    static inline int is_below(real value, real best) { return !(value >= best) & (best == best); }
    /* wins ? a : b, which the compiler turns into a store under a branch that is hard to predict. */
    static inline real pick_one(int wins, real a, real b) {
    #if REAL_BYTES == 8
        uint64_t x, y, mask = -(uint64_t)wins;
    #else
        uint32_t x, y, mask = -(uint32_t)wins;
    #endif
        memcpy(&x, &a, REAL_BYTES);
        memcpy(&y, &b, REAL_BYTES);
        x = (x & mask) | (y & ~mask);
        memcpy(&a, &x, REAL_BYTES);
        return a;
    }
    """
    bint is_above(real value, real best) noexcept nogil
    bint is_below(real value, real best) noexcept nogil
    real pick_one(bint wins, real a, real b) noexcept nogil

cdef enum Pass:    # extremes come first
    MAX_PASS       # best: the first of equals, the first NaN before numbers
    MIN_PASS
    ARGMAX_PASS    # best and its tap
    ARGMIN_PASS
    SUM_PASS       # best
    LONG_SUM_PASS  # sum
    ABS_PASS       # sum of |x|
    TOP_PASS       # top: the largest |x|, or NaN
    SQUARE_PASS    # sum of (x scale)**2, with scale a power of 2 that depends on top
    WHOLE_POWER_PASS   # sum of (|x| / top)**p for an integer p from 3 to MAX_WHOLE
    POWER_PASS     # the same for any p

cdef enum:
    BLOCK = 64                 # lanes of a block
    RUN = 16                   # outputs whose results are buffered
    NO_CELL = -1               # index of a window without any input cell
    MAX_WHOLE = 16             # powers up to here are products

cdef struct Run:
    # Results of some outputs of a row: [output, lane]. Between passes and slabs also what they need.
    real best[RUN * BLOCK]
    real tap[RUN * BLOCK]
    double sum[RUN * BLOCK]
    double top[RUN * BLOCK]

cdef struct Lanes:
    # One output of a block of channels. A local one: nothing else can be at its address, so the
    # compiler makes vectors of the loops over lanes without checking (twice as fast as in a Run).
    real best[BLOCK]
    real tap[BLOCK]
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


cdef inline void take_whole_power(Py_ssize_t p, const real *x, Py_ssize_t n, Lanes *lanes) noexcept nogil:
    """sum += (|x| / top)**p by products, each in all lanes; no use is made of sums where top is 0 or infinite."""
    cdef double square[BLOCK]
    cdef double power[BLOCK]
    cdef Py_ssize_t i
    for i in range(n):
        square[i] = fabs(<double>x[i]) / lanes.top[i]
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


cdef inline void start_lanes(const int kind, bint first, Py_ssize_t n, const Run *run, Py_ssize_t at, Lanes *lanes) noexcept nogil:
    """Before the first slab of taps, or what the others left."""
    cdef real worst = -HUGE_VAL if kind == MAX_PASS or kind == ARGMAX_PASS else HUGE_VAL
    cdef Py_ssize_t i
    for i in range(n):
        if kind <= ARGMIN_PASS:
            lanes.best[i] = worst if first else run.best[at + i]
            lanes.tap[i] = NO_CELL if first else run.tap[at + i]
        elif kind == SUM_PASS:
            lanes.best[i] = 0 if first else run.best[at + i]
        elif kind == TOP_PASS:
            lanes.top[i] = 0 if first else run.top[at + i]
        else:
            lanes.sum[i] = 0 if first else run.sum[at + i]
            if kind != LONG_SUM_PASS and kind != ABS_PASS:
                lanes.top[i] = run.top[at + i]


cdef inline void take(const int kind, double p, const real *x, Py_ssize_t n, real tap, Lanes *lanes) noexcept nogil:
    """Let one tap take part in n lanes."""
    cdef real *best = lanes.best
    cdef real *taps = lanes.tap
    cdef double *sum = lanes.sum
    cdef double *top = lanes.top
    cdef Py_ssize_t i
    cdef real value
    cdef double size
    cdef bint wins
    if kind == WHOLE_POWER_PASS:
        take_whole_power(<Py_ssize_t>p, x, n, lanes)
        return
    for i in range(n):
        value = x[i]
        if kind == MAX_PASS:
            best[i] = pick_one(is_above(value, best[i]), value, best[i])
        elif kind == MIN_PASS:
            best[i] = pick_one(is_below(value, best[i]), value, best[i])
        elif kind <= ARGMIN_PASS:
            wins = (is_above(value, best[i]) if kind == ARGMAX_PASS else is_below(value, best[i])) | (taps[i] < 0)
            best[i] = pick_one(wins, value, best[i])
            taps[i] = pick_one(wins, tap, taps[i])
        elif kind == SUM_PASS:
            best[i] = best[i] + value
        elif kind == LONG_SUM_PASS:
            sum[i] = sum[i] + value
        else:
            size = fabs(<double>value)
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


cdef inline void finish_lanes(const int kind, bint last, double divisor, double p, Py_ssize_t n, const Lanes *lanes, Run *run,
                              Py_ssize_t at) noexcept nogil:
    """Into run: the results after the last slab, else what the next one needs."""
    cdef real by = <real>divisor
    cdef double scale, root
    cdef Py_ssize_t i
    for i in range(n):
        if kind == MAX_PASS or kind == MIN_PASS:
            run.best[at + i] = lanes.best[i]
        elif kind <= ARGMIN_PASS:
            run.best[at + i], run.tap[at + i] = lanes.best[i], lanes.tap[i]
        elif kind == SUM_PASS:
            run.best[at + i] = lanes.best[i] / by if last else lanes.best[i]
        elif kind == TOP_PASS:
            run.top[at + i], run.best[at + i] = lanes.top[i], <real>lanes.top[i]
        elif not last:
            run.sum[at + i] = lanes.sum[i]
        elif kind == LONG_SUM_PASS:
            run.best[at + i] = <real>(lanes.sum[i] / divisor)
        elif kind == ABS_PASS:
            run.best[at + i] = <real>lanes.sum[i]
        elif kind == SQUARE_PASS:
            scale = 1 if sizeof(real) == 4 else square_scale(lanes.top[i])
            run.best[at + i] = <real>(sqrt(lanes.sum[i]) / scale)
        else:
            # In two factors: the product may be in range where sum**(1/p) is not.
            root = exp_(log_(lanes.sum[i]) / p / 2) if 0 < lanes.top[i] < HUGE_VAL else 1
            run.best[at + i] = <real>(lanes.top[i] * root * root)


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
