# Elementary functions of vectors: powers of e, the logistic function, the tail of the normal distribution.
#
# Arguments are reduced exactly and polynomials evaluated in the type of the vector. Every product that a
# sum may follow is a call of ``times``, which rounds it: an element has the same bits in any vector width,
# with and without fused multiply-add. Powers of two that lead below the normal numbers are multiplied in
# last, so results there keep the digits they have room for. Largest errors found by comparison with 50
# digits, in units of the last place: elu 1, sigmoid and silu 2, tanh 2.5, gelu 3.
#
# A chain of operations takes longer than its number suggests, for processors look a few dozen operations
# ahead only; hence polynomials in pairs, and two vectors at once in `run_activation`.

cdef extern from "simd.h" nogil:
    ctypedef int whole
    whole less(vec a, vec b)
    whole at_most(vec a, vec b)
    vec pick(whole test, vec yes, vec no)
    vec at_least(vec bound, vec v)
    vec no_more_than(vec bound, vec v)
    vec with_sign(vec size, vec sign)
    vec pow2(vec k)
    vec upper(vec v)
    vec times(vec a, vec b)
    const real ROUNDER
    enum: BIAS

cdef extern from *:
    """
    #define EXP_TERMS (int)(sizeof EXP_SERIES / sizeof *EXP_SERIES)
    #define TAIL_TERMS (int)(sizeof TAIL_SERIES / sizeof *TAIL_SERIES)
    #define PER_LOG2 1.4426950408889634
    #define TAIL_CENTRE 4
    #define TAIL_WEIGHT 0.8125
    #define NOTHING -0.0 /* the sum with it is omitted: it changes no number, 0.0 would change -0.0 */
    #define NORMAL_PEAK 0.3989422804014327 /* 1 / sqrt(2 pi) */
    #ifdef CYCONV_FLOAT64
    #define LOG2_TOP 6.93147180369123816490e-01 /* log(2), 32 bits: times 11 bits it is exact */
    #define LOG2_REST 1.90821492927058770002e-10
    static const real EXP_SERIES[] = {
        0.5000000000000012972, 0.1666666666666669364, 0.0416666666665134578, 0.008333333333310278071,
        0.001388888894753232474, 0.0001984126991139677695, 0.00002480148940734905293, 2.755722118354211571e-6,
        2.76314711962219405e-7, 2.51164321521162834e-8};
    #define TAIL_LIMIT 54 /* exp(-54**2 / 2) is 0 */
    static const real TAIL_SERIES[] = {
        0.4543512112657255051, -0.06475390453619041547, -0.009321475651686415646, 0.0420455029293763854,
        -0.03798498819802432677, 0.01952836538257297271, -0.005097546480029108541, -0.0004054006951959722188,
        0.000729994154122559627, -0.00008588871130705829084, -0.00009322474161265839561, 0.00002038163467813408986,
        0.00001443375736457882384, -3.276701361229158703e-6, -2.736861182594886788e-6, 3.659184618112467606e-7,
        5.695282617373700891e-7, 1.124469615194100896e-8, -1.126344180959212947e-7, -2.198788011089732843e-8,
        1.755334457624197905e-8, 6.5197909549683853e-9, -1.489985497389373709e-9, -7.957613683097196488e-10};
    #define CUBIC_LIMIT 27 /* exp(-2 u(27)) is 0 */
    static const real CUBIC[] = {1.5957691216057308115, -9.9693088091109203e-17, 0.071354815736413002014, 5.361872467621786e-10};
    #else
    #define LOG2_TOP 0.693145751953125f /* log(2), 15 bits: times 8 bits it is exact */
    #define LOG2_REST 1.42860682030941723e-6f
    static const real EXP_SERIES[] = {
        0.5000000096f, 0.166665183f, 0.04166620427f, 0.008368953888f, 0.001395059359f};
    #define TAIL_LIMIT 20
    static const real TAIL_SERIES[] = {
        0.4543512112f, -0.06475389354f, -0.009321479079f, 0.04204511096f, -0.03798491696f, 0.01953234912f,
        -0.005097173929f, -0.0004221715395f, 0.0007238509032f, -5.516444182e-5f, -7.52628892e-5f};
    #define CUBIC_LIMIT 14
    static const real CUBIC[] = {1.5957691669464111328f, -4.5340680421052716e-8f, 0.07135009765625f, 4.7186163502487763e-6f};
    #endif
    """
    const real LOG2_TOP
    const real LOG2_REST
    const real PER_LOG2
    const real NORMAL_PEAK
    const real NOTHING
    const real EXP_SERIES[]
    const real TAIL_SERIES[]
    const real TAIL_CENTRE
    const real TAIL_WEIGHT
    const real TAIL_LIMIT
    const real CUBIC[]
    const real CUBIC_LIMIT
    enum: EXP_TERMS
    enum: TAIL_TERMS

cdef enum:
    MAX_TERMS = 24

cdef struct Power:
    # exp(x) = (1 + p) scale s or (1 + p) scale / s: scale and s are powers of two, (1 + p) scale is a normal number.
    vec p
    vec scale
    vec s


cdef inline vec one() noexcept nogil:
    return splat(1)


cdef inline vec polynomial(const int terms, const real *table, vec x) noexcept nogil:
    """sum of table[i] x**i, neighbours added up in pairs: a short chain, so that elements overlap."""
    cdef vec part[MAX_TERMS]
    cdef int i, j, n = terms
    for i in range(terms):
        part[i] = splat(table[i])
    for i in range(5):                     # 2**5 >= MAX_TERMS
        for j in range(n // 2):
            part[j] = part[2 * j] + times(part[2 * j + 1], x)
        if n % 2:
            part[n // 2] = part[n - 1]
        n = (n + 1) // 2
        x = times(x, x)
    return part[0]


cdef inline vec reduced(vec x, vec *k) noexcept nogil:
    """x - k log(2) for the nearest k; k log(2) has two parts, and the first difference is exact."""
    k[0] = (times(x, splat(PER_LOG2)) + splat(ROUNDER)) - splat(ROUNDER)
    return (x - times(k[0], splat(LOG2_TOP))) - times(k[0], splat(LOG2_REST))


cdef inline vec expm1_of_small(vec f) noexcept nogil:
    """exp(f) - 1 for |f| <= log(2) / 2, by polynomials of least largest error, 2**-28.2 and 2**-58."""
    return f + times(times(f, f), polynomial(EXP_TERMS, EXP_SERIES, f))


cdef inline Power power_of(vec f, vec k, vec rest) noexcept nogil:
    """(1 + p) scale = 2**k exp(f), s = 2**rest."""
    cdef Power e
    e.p, e.scale, e.s = expm1_of_small(f), pow2(k), pow2(rest)
    return e


cdef inline vec scaled(Power e) noexcept nogil:
    """exp(x) without its factor s."""
    return times(one() + e.p, e.scale)


cdef inline Power exp_negative(vec x, vec rest) noexcept nogil:
    """exp(x + rest) for x <= 0, -inf and NaN and a rest that is small beside 1.

    The factor s is 1 unless the result is below the normal numbers.
    """
    cdef vec k, f = reduced(at_least(splat((1 - 2 * BIAS) * LOG2_TOP), x), &k), normal = at_least(splat(1 - BIAS), k)
    return power_of(f + rest, normal, k - normal)


cdef inline vec expm1_negative(vec x) noexcept nogil:
    """exp(x) - 1 for x <= 0, -inf and NaN."""
    cdef vec k, f = reduced(at_least(splat((1 - BIAS) * LOG2_TOP), x), &k), power = pow2(k)
    return times(expm1_of_small(f), power) + (power - one())


cdef inline Power exp_any(vec x, vec rest) noexcept nogil:
    """exp(x + rest) for any x and a rest that is small beside 1.

    The divisor s is 1 unless the result is above all numbers, and 0 where one over the result is.
    """
    cdef vec k, f, normal
    x = at_least(splat((1 - BIAS) * LOG2_TOP), no_more_than(splat((2 * BIAS - 1) * LOG2_TOP), x))
    f, normal = reduced(x, &k), no_more_than(splat(BIAS - 1), k)
    return power_of(f + rest, normal, normal - k)


cdef inline vec logistic_times(vec factor, Power e) noexcept nogil:
    """factor / (1 + e), e = scale + p scale; the first sum need not wait for p."""
    return times(factor / ((one() + e.scale) + times(e.p, e.scale)), e.s)


cdef inline vec logistic_gate_slope(vec change, Power e) noexcept nogil:
    """Derivative of x / (1 + e(x)) for e = exp(-v(x)), where change = x v'(x)."""
    cdef vec m = scaled(e), r = one() / (one() + m)
    return times(times(r, one() + times(change, times(m, r))), e.s)


cdef inline vec within(vec x, real limit) noexcept nogil:
    """The nearest number from -limit to limit, NaN for NaN."""
    return at_least(splat(-limit), no_more_than(splat(limit), x))


cdef inline Power gaussian(vec t) noexcept nogil:
    """exp(-t**2 / 2); t**2 = h**2 + (t - h) (t + h), and h**2 is exact."""
    cdef vec h = upper(t)
    return exp_negative(times(times(h, h), splat(<real>-0.5)), times(times(t - h, t + h), splat(<real>-0.5)))


cdef inline vec normal_tail(vec factor, vec t) noexcept nogil:
    """factor * P(X > t) / exp(-t**2 / 2) of a standard normal X, for 0 <= t.

    A polynomial in z = (t - 4) / (t + 4), over t + 0.8125, with which it is nearly constant and so hides
    the error of z: Chebyshev interpolation of degree 10 (error 2**-28.2 up to t = 14.5) or 23 (2**-56.7
    up to 39). Beyond, it stays finite.

    References
    ----------
    Shepherd, Laframboise: Chebyshev approximation of (1 + 2x) exp(x**2) erfc x, Math. Comp. 36, 1981.
    """
    cdef vec z = (t - splat(TAIL_CENTRE)) / (t + splat(TAIL_CENTRE))
    cdef vec p = splat(TAIL_SERIES[0]) + times(z, polynomial(TAIL_TERMS - 1, TAIL_SERIES + 1, z))
    return times(factor, p) / (t + splat(TAIL_WEIGHT))


cdef inline vec times_power(vec v, Power e) noexcept nogil:
    """v exp(x), rounded once less than the product with exp(x)."""
    v = times(v, e.scale)
    return times(v + times(v, e.p), e.s)


cdef inline Power exp_cubic(vec t) noexcept nogil:
    """exp(-2 u), u = sqrt(2 / pi) (t + 0.044715 t**3), for |t| <= CUBIC_LIMIT.

    2 u = t (c + d t**2) as the sum of two numbers, for the error of exp is that of its argument: each
    of the three products is that of upper halves, which is exact, and a rest.
    """
    cdef vec h = upper(t), square = times(h, h), rest = times(t - h, t + h), high = upper(square), c, line, s
    rest = (square - high) + rest
    c = splat(CUBIC[0])
    line = times(high, splat(CUBIC[2]))
    s = c + line
    rest = times(rest, splat(CUBIC[2])) + times(high + rest, splat(CUBIC[3])) + splat(CUBIC[1])
    rest = ((c - (s - (s - c))) + (line - (s - c))) + rest
    high = upper(s)
    rest = (s - high) + rest
    return exp_any(-times(h, high), -(times(t - h, high) + times(t, rest)))
