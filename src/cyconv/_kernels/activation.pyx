# Activations and their gradients: one loop over contiguous elements, compiled for each kind of function.
#
# A function has up to two parameters, a and b. Gradients are dy times the derivative at x, which for
# the logistic function and tanh is written in terms of the result and takes that for x.

cdef enum Activation:
    RELU
    LEAKY_RELU           # a: slope below zero
    ELU                  # a, b: factors below and above zero
    GELU
    GELU_TANH
    SILU
    SIGMOID
    TANH
    RELU_BACKWARD
    LEAKY_RELU_BACKWARD
    ELU_BACKWARD
    GELU_BACKWARD
    GELU_TANH_BACKWARD
    SILU_BACKWARD
    SIGMOID_BACKWARD
    TANH_BACKWARD

FORWARD = {"relu": RELU, "leaky_relu": LEAKY_RELU, "elu": ELU, "gelu": GELU, "gelu_tanh": GELU_TANH,
           "silu": SILU, "sigmoid": SIGMOID, "tanh": TANH}
BACKWARD = {"relu": RELU_BACKWARD, "leaky_relu": LEAKY_RELU_BACKWARD, "elu": ELU_BACKWARD, "gelu": GELU_BACKWARD,
            "gelu_tanh": GELU_TANH_BACKWARD, "silu": SILU_BACKWARD, "sigmoid": SIGMOID_BACKWARD,
            "tanh": TANH_BACKWARD}


cdef inline vec activated(const int kind, vec x, real a, real b) noexcept nogil:
    cdef vec zero = splat(0), nothing = splat(NOTHING), t, w
    if kind == RELU:
        return pick(at_most(x, zero), zero, x)
    if kind == LEAKY_RELU:
        return pick(less(zero, x), x, times(x, splat(a)))
    if kind == ELU:
        t = with_sign(expm1_negative(with_sign(x, splat(-1))), x)
        return pick(less(zero, x), times(x, splat(b)), times(t, splat(a)))
    if kind == GELU:
        t = with_sign(within(x, TAIL_LIMIT), zero)
        w = with_sign(no_more_than(splat(TAIL_LIMIT), x), zero)          # infinite for -inf only
        return with_sign(at_least(zero, x) - times_power(normal_tail(w, t), gaussian(t)), x)
    if kind == GELU_TANH:
        return logistic_times(x, exp_cubic(within(x, CUBIC_LIMIT)))
    if kind == SILU:
        return logistic_times(x, exp_any(-x, nothing))
    if kind == SIGMOID:
        return logistic_times(one(), exp_any(-x, nothing))
    t = expm1_negative(times(with_sign(x, splat(-1)), splat(2)))     # TANH
    return with_sign(t / (t + splat(2)), x)


cdef inline vec activation_slope(const int kind, vec x, vec dy, real a, real b) noexcept nogil:
    cdef vec zero = splat(0), nothing = splat(NOTHING), t, w
    if kind == RELU_BACKWARD:
        return pick(at_most(x, zero), zero, dy)
    if kind == LEAKY_RELU_BACKWARD:
        return pick(less(zero, x), dy, times(dy, splat(a)))
    if kind == ELU_BACKWARD:
        t = times_power(times(dy, splat(a)), exp_negative(with_sign(x, splat(-1)), nothing))
        return pick(less(zero, x), times(dy, splat(b)), t)
    if kind == GELU_BACKWARD:
        t = with_sign(within(x, TAIL_LIMIT), zero)
        w = times_power(normal_tail(one(), t) - times(t, splat(NORMAL_PEAK)), gaussian(t))
        return times(dy, pick(less(x, zero), w, one() - w))
    if kind == GELU_TANH_BACKWARD:
        t = within(x, CUBIC_LIMIT)
        w = times(t, splat(CUBIC[0]) + times(times(t, t), splat(3 * (CUBIC[2] + CUBIC[3]))))
        return times(dy, logistic_gate_slope(w, exp_cubic(t)))
    if kind == SILU_BACKWARD:
        t = within(x, 2 * BIAS)
        return times(dy, logistic_gate_slope(t, exp_any(zero - t, nothing)))
    if kind == SIGMOID_BACKWARD:
        return times(dy, times(one() - x, x))
    return times(dy, times(one() - x, one() + x))                    # TANH_BACKWARD


cdef inline vec activation_at(const int kind, const real *x, const real *dy, long n, real a, real b) noexcept nogil:
    # n elements, LANES of them through plain loads
    cdef vec at_x = load(x) if n == LANES else load_part(x, n)
    if kind < RELU_BACKWARD:
        return activated(kind, at_x, a, b)
    return activation_slope(kind, at_x, load(dy) if n == LANES else load_part(dy, n), a, b)


cdef inline void run_activation(const int kind, const real *x, const real *dy, real *y, Py_ssize_t n, real a, real b) noexcept nogil:
    cdef Py_ssize_t i
    cdef vec first, second
    for i in range(n // (2 * LANES)):
        first = activation_at(kind, x, dy, LANES, a, b)
        second = activation_at(kind, x + LANES, dy + LANES, LANES, a, b)
        store(y, first)
        store(y + LANES, second)
        x, dy, y = x + 2 * LANES, dy + 2 * LANES, y + 2 * LANES
    n = n % (2 * LANES)
    if n >= LANES:
        store(y, activation_at(kind, x, dy, LANES, a, b))
    i = n - n % LANES
    if i < n:
        store_part(y + i, activation_at(kind, x + i, dy + i, n - i, a, b), n - i)


cdef void run_kind(int kind, const real *x, const real *dy, real *y, Py_ssize_t n, real a, real b) noexcept nogil:
    # The literals make the compiler write one loop per kind.
    if kind == RELU: run_activation(RELU, x, dy, y, n, a, b)
    elif kind == LEAKY_RELU: run_activation(LEAKY_RELU, x, dy, y, n, a, b)
    elif kind == ELU: run_activation(ELU, x, dy, y, n, a, b)
    elif kind == GELU: run_activation(GELU, x, dy, y, n, a, b)
    elif kind == GELU_TANH: run_activation(GELU_TANH, x, dy, y, n, a, b)
    elif kind == SILU: run_activation(SILU, x, dy, y, n, a, b)
    elif kind == SIGMOID: run_activation(SIGMOID, x, dy, y, n, a, b)
    elif kind == TANH: run_activation(TANH, x, dy, y, n, a, b)
    elif kind == RELU_BACKWARD: run_activation(RELU_BACKWARD, x, dy, y, n, a, b)
    elif kind == LEAKY_RELU_BACKWARD: run_activation(LEAKY_RELU_BACKWARD, x, dy, y, n, a, b)
    elif kind == ELU_BACKWARD: run_activation(ELU_BACKWARD, x, dy, y, n, a, b)
    elif kind == GELU_BACKWARD: run_activation(GELU_BACKWARD, x, dy, y, n, a, b)
    elif kind == GELU_TANH_BACKWARD: run_activation(GELU_TANH_BACKWARD, x, dy, y, n, a, b)
    elif kind == SILU_BACKWARD: run_activation(SILU_BACKWARD, x, dy, y, n, a, b)
    elif kind == SIGMOID_BACKWARD: run_activation(SIGMOID_BACKWARD, x, dy, y, n, a, b)
    else: run_activation(TANH_BACKWARD, x, dy, y, n, a, b)


cdef void share_elements(int kind, const real *x, const real *dy, real *y, Py_ssize_t n, real a, real b, int n_threads) noexcept nogil:
    cdef Py_ssize_t j, start
    if n_threads == 1:     # even a team of one takes 0.4 us
        run_kind(kind, x, dy, y, n, a, b)
        return
    for j in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
        start = part(n, n_threads, j)
        run_kind(kind, x + start, dy + start, y + start, part(n, n_threads, j + 1) - start, a, b)


def activate(str kind, cnp.ndarray x, cnp.ndarray y, double a, double b, int n_threads):
    """y = function(x); both C-contiguous, and y may be x."""
    cdef int number = FORWARD[kind]
    cdef const real *given = <const real *>cnp.PyArray_DATA(x)
    with nogil:
        share_elements(number, given, given, <real *>cnp.PyArray_DATA(y), cnp.PyArray_SIZE(x), <real>a, <real>b, n_threads)


def activate_backward(str kind, cnp.ndarray dy, cnp.ndarray x, cnp.ndarray dx, double a, double b, int n_threads):
    """dx = dy * function'(x), x or the result as the function wants; all C-contiguous."""
    cdef int number = BACKWARD[kind]
    with nogil:
        share_elements(number, <const real *>cnp.PyArray_DATA(x), <const real *>cnp.PyArray_DATA(dy),
                       <real *>cnp.PyArray_DATA(dx), cnp.PyArray_SIZE(x), <real>a, <real>b, n_threads)
