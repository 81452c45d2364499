# Steps of the optimizers: one pass over the vector of parameters and what is remembered of its gradients.
#
#     for each stretch of LANES entries:  load parameters, gradient, memory; compute; store   (threads share the entries)
#
# Entries are independent, and every operation rounds by itself: products that a sum follows go through
# ``times``, which keeps the compiler from fusing them. So the bits depend neither on the number of
# threads nor on the instruction set. The arithmetic, including its order, is that of the same formula
# in NumPy, one operation on whole arrays after the other.

from libc.math cimport fma

cdef extern from *:
    """
    #ifdef __SSE2__
    #include <immintrin.h>
    #endif
    #include <math.h>
    #ifdef CYCONV_FLOAT64
    #define ROOT_OF(width) _mm##width##_sqrt_pd
    #else
    #define ROOT_OF(width) _mm##width##_sqrt_ps
    #endif
    static inline vec square_root(vec v)
    {
    #if defined(__AVX512F__)
        return (vec)ROOT_OF(512)(v);
    #elif defined(__AVX__)
        return (vec)ROOT_OF(256)(v);
    #elif defined(__SSE2__)
        return (vec)ROOT_OF()(v);
    #else
        real *cell = (real *)&v;
        for (int i = 0; i < LANES; i++)
            cell[i] = (real)sqrt(cell[i]); /* the root of a float, rounded twice, is the root rounded once */
        return v;
    #endif
    }
    /* sum + x * x in doubles: the square of a float is exact, that of a double is fused everywhere */
    #ifdef CYCONV_FLOAT64
    #define ADD_SQUARE(sum, x) fma(x, x, sum)
    #else
    #define ADD_SQUARE(sum, x) ((sum) + (double)(x) * (x))
    #endif
    """
    vec square_root(vec v) noexcept nogil
    double ADD_SQUARE(double sum, real x) noexcept nogil

cdef enum:
    SGD
    ADAM
    RMSPROP
    NORM_BLOCK = 4096       # entries
    NORM_CHAINS = 16        # sums that run side by side: enough for two vectors of any instruction set

cdef struct Step:
    # What every entry has in common. ``a`` and ``b`` remember gradients, ``b`` may be missing.
    int kind
    real *w
    real *a
    real *b
    const real *g
    Py_ssize_t n
    Py_ssize_t n_weights   # these first entries have a penalty, and shrink
    real l2
    real shrink
    real rate
    real momentum          # SGD, RMSProp
    bint nesterov
    real decay_a           # Adam: of the mean and the mean square; RMSProp: a only
    real gain_a
    real decay_b
    real gain_b
    real unbias            # Adam: 1 / sqrt(1 - beta_2**t)
    real epsilon


cdef inline vec some(const real *p, Py_ssize_t n) noexcept nogil:
    return load(p) if n >= LANES else load_part(p, n)


cdef inline void put(real *p, vec v, Py_ssize_t n) noexcept nogil:
    if n >= LANES:
        store(p, v)
    else:
        store_part(p, v, n)


cdef inline vec sgd(const Step *s, Py_ssize_t i, Py_ssize_t n, vec w, vec g) noexcept nogil:
    """v = momentum v - rate g;  w + v, or w - rate g + momentum v."""
    cdef vec slope = times(g, splat(s.rate))
    cdef vec v = times(some(s.a + i, n), splat(s.momentum)) - slope
    put(s.a + i, v, n)
    return (w - slope) + times(v, splat(s.momentum)) if s.nesterov else w + v


cdef inline vec adam(const Step *s, Py_ssize_t i, Py_ssize_t n, vec w, vec g) noexcept nogil:
    """m = beta_1 m + (1 - beta_1) g;  q = beta_2 q + (1 - beta_2) g**2;  w - rate m / (unbias sqrt(q) + epsilon)."""
    cdef vec m = times(some(s.a + i, n), splat(s.decay_a)) + times(g, splat(s.gain_a))
    cdef vec q = times(some(s.b + i, n), splat(s.decay_b)) + times(times(g, g), splat(s.gain_b))
    put(s.a + i, m, n)
    put(s.b + i, q, n)
    return w - times(m / (times(square_root(q), splat(s.unbias)) + splat(s.epsilon)), splat(s.rate))


cdef inline vec rmsprop(const Step *s, Py_ssize_t i, Py_ssize_t n, vec w, vec g) noexcept nogil:
    """q = alpha q + (1 - alpha) g**2;  v = momentum v + g / (sqrt(q) + epsilon);  w - rate v."""
    cdef vec q = times(some(s.a + i, n), splat(s.decay_a)) + times(times(g, g), splat(s.gain_a))
    cdef vec v = g / (square_root(q) + splat(s.epsilon))
    put(s.a + i, q, n)
    if s.b != NULL:
        v = times(some(s.b + i, n), splat(s.momentum)) + v
        put(s.b + i, v, n)
    return w - times(v, splat(s.rate))


cdef inline void step_part(const int kind, const bint is_weight, const Step *s, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    cdef Py_ssize_t i, n
    cdef vec w, g
    i = first
    while i < last:
        n = last - i
        w = some(s.w + i, n)
        g = some(s.g + i, n)
        if is_weight:
            g = g + times(w, splat(s.l2))
            w = times(w, splat(s.shrink))
        if kind == SGD:
            w = sgd(s, i, n, w, g)
        elif kind == ADAM:
            w = adam(s, i, n, w, g)
        else:
            w = rmsprop(s, i, n, w, g)
        put(s.w + i, w, n)
        i += LANES


cdef void step_thread(const Step *s, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    cdef Py_ssize_t middle = min(max(first, s.n_weights), last)
    if s.l2 == 0 and s.shrink == 1:        # adding 0 w would change -0.0, and infinite entries
        middle = first
    if s.kind == SGD:
        step_part(SGD, True, s, first, middle)
        step_part(SGD, False, s, middle, last)
    elif s.kind == ADAM:
        step_part(ADAM, True, s, first, middle)
        step_part(ADAM, False, s, middle, last)
    else:
        step_part(RMSPROP, True, s, first, middle)
        step_part(RMSPROP, False, s, middle, last)


cdef void run_step(Step *s, cnp.ndarray w, cnp.ndarray a, cnp.ndarray g, Py_ssize_t n_weights, double l2, int n_threads):
    """All arrays are C-contiguous, of one size and dtype."""
    cdef Py_ssize_t j
    s.w = <real *>cnp.PyArray_DATA(w)
    s.a = <real *>cnp.PyArray_DATA(a)
    s.g = <const real *>cnp.PyArray_DATA(g)
    s.n, s.n_weights, s.l2 = cnp.PyArray_SIZE(w), n_weights, <real>l2
    with nogil:
        for j in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
            step_thread(s, part(s.n, n_threads, j), part(s.n, n_threads, j + 1))


def sgd_step(cnp.ndarray w, cnp.ndarray velocity, cnp.ndarray g, double rate, double momentum, bint nesterov,
             Py_ssize_t n_weights, double l2, int n_threads):
    """Change w and velocity by one step against g + l2 w, without the l2 after the first n_weights."""
    cdef Step s
    s.kind, s.b, s.shrink = SGD, NULL, 1
    s.rate, s.momentum, s.nesterov = <real>rate, <real>momentum, nesterov
    run_step(&s, w, velocity, g, n_weights, l2, n_threads)


def adam_step(cnp.ndarray w, cnp.ndarray mean, cnp.ndarray square, cnp.ndarray g, double rate, double beta_1,
              double beta_2, double unbias, double epsilon, double shrink, Py_ssize_t n_weights, double l2, int n_threads):
    """As `sgd_step`; the first n_weights are multiplied by ``shrink`` before."""
    cdef Step s
    s.kind, s.b, s.shrink = ADAM, <real *>cnp.PyArray_DATA(square), <real>shrink
    s.rate, s.unbias, s.epsilon = <real>rate, <real>unbias, <real>epsilon
    s.decay_a, s.gain_a = <real>beta_1, <real>(1 - beta_1)
    s.decay_b, s.gain_b = <real>beta_2, <real>(1 - beta_2)
    run_step(&s, w, mean, g, n_weights, l2, n_threads)


def rmsprop_step(cnp.ndarray w, cnp.ndarray square, velocity, cnp.ndarray g, double rate, double alpha, double epsilon,
                 double momentum, Py_ssize_t n_weights, double l2, int n_threads):
    """As `sgd_step`; velocity is None without momentum."""
    cdef Step s
    s.kind, s.shrink = RMSPROP, 1
    s.b = NULL if velocity is None else <real *>cnp.PyArray_DATA(<cnp.ndarray>velocity)
    s.rate, s.momentum, s.epsilon = <real>rate, <real>momentum, <real>epsilon
    s.decay_a, s.gain_a = <real>alpha, <real>(1 - alpha)
    run_step(&s, w, square, g, n_weights, l2, n_threads)


# ---------------------------------------------------------------- sum of squares


cdef double norm_block(const real *x, Py_ssize_t n) noexcept nogil:
    """Chains over every NORM_CHAINS-th entry, then the chains in halves."""
    cdef double chain[NORM_CHAINS]
    cdef Py_ssize_t i, j
    for j in range(NORM_CHAINS):
        chain[j] = 0
    for i in range(n // NORM_CHAINS):
        for j in range(NORM_CHAINS):
            chain[j] = ADD_SQUARE(chain[j], x[i * NORM_CHAINS + j])
    for j in range(n % NORM_CHAINS):
        chain[j] = ADD_SQUARE(chain[j], x[n - n % NORM_CHAINS + j])
    i = NORM_CHAINS // 2
    while i:
        for j in range(i):
            chain[j] += chain[j + i]
        i //= 2
    return chain[0]


def sum_of_squares(cnp.ndarray x):
    """Of a C-contiguous array, in double; blocks are added in their order."""
    cdef const real *a = <const real *>cnp.PyArray_DATA(x)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(x), i
    cdef double total = 0
    with nogil:
        for i in range(ceil_div(n, NORM_BLOCK)):
            total += norm_block(a + i * NORM_BLOCK, min(n - i * NORM_BLOCK, <Py_ssize_t>NORM_BLOCK))
    return total
