# Losses: one pass over the rows of a batch gives the loss of every row and the gradient of their mean.
#
#     for each row:  loss[row] = weight l(row);  d[row, column] = weight / total * dl / doutput      (serial)
#
# Everything is computed in double and rounded once. Sums run along a row in its order; the caller adds
# up the rows. A row of weight 0 counts as absent, whatever it holds. A sum has one product, or says by
# fma which one is not rounded: so there is one way to fuse it, and the bits are the same wherever the
# processor has FMA. Loops with exp or log in them keep their results in ``scratch``, a row of doubles,
# and another loop adds them up: the compiler then makes vectors of the first (4 times as fast). log_
# and the parts of log(2) are those of the softmax. Each kernel returns the first place whose target is
# out of range, or -1.

from libc.math cimport INFINITY, fabs, fma, isfinite
from libc.stdint cimport int64_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #define SHIFTER 6755399441055744.0 /* 1.5 * 2**52: a sum with it is rounded to an integer, held by its low bits */
    /* 2**k for whole k from -1022 to 1023 */
    static inline double two_to(double k)
    {
        int64_t bits;
        k += SHIFTER + 1023;
        memcpy(&bits, &k, 8);
        bits = (int64_t)((uint64_t)bits << 52);
        memcpy(&k, &bits, 8);
        return k;
    }
    /* The larger, or NaN; without a branch, of which the compiler would make no vectors. */
    static inline double not_below(double bound, double x)
    {
        int64_t low, bits, below = -(int64_t)(x < bound);
        memcpy(&low, &bound, 8);
        memcpy(&bits, &x, 8);
        bits = (low & below) | (bits & ~below);
        memcpy(&x, &bits, 8);
        return x;
    }
    """
    const double SHIFTER
    double two_to(double k) noexcept nogil
    double not_below(double bound, double x) noexcept nogil

cdef struct Batch:
    const real *x          # outputs of the network, (rows, columns)
    real *d                # gradient, likewise
    double *loss           # (rows,)
    const double *weight   # (rows,), or NULL for 1
    double total           # of the weights
    Py_ssize_t rows
    Py_ssize_t columns


cdef Batch batch_of(cnp.ndarray x, cnp.ndarray d, cnp.ndarray loss, weight, double total):
    """x and d (rows, ...), loss (rows,) and weight (rows,) or None are C-contiguous; loss and weight are double."""
    cdef Batch b
    b.x, b.d = <const real *>cnp.PyArray_DATA(x), <real *>cnp.PyArray_DATA(d)
    b.loss = <double *>cnp.PyArray_DATA(loss)
    b.weight = NULL
    if weight is not None:
        b.weight = <const double *>cnp.PyArray_DATA(<cnp.ndarray>weight)
    b.total = total
    b.rows = cnp.PyArray_SIZE(loss)
    b.columns = cnp.PyArray_SIZE(x) // b.rows
    return b


cdef inline double weight_of(const Batch *b, Py_ssize_t row) noexcept nogil:
    """Of a row; where it is 0, loss and gradient are set to 0."""
    cdef double weight = 1 if b.weight == NULL else b.weight[row]
    cdef Py_ssize_t k
    if weight == 0:
        b.loss[row] = 0
        for k in range(b.columns):
            b.d[row * b.columns + k] = 0
    return weight


# ---------------------------------------------------------------- exp and log without branches


cdef inline double exp_of_negative(double x) noexcept nogil:
    """exp(x) of x <= 0: x = k log 2 + f with |f| <= log(2) / 2, Taylor to degree 13 (error below 1 ulp)."""
    cdef double k, f, p, half
    x = not_below(-746, x)                  # whose exp is 0
    k = (x * 1.4426950408889634 + SHIFTER) - SHIFTER
    f = x - k * LOG2_HIGH
    f = f - k * LOG2_LOW
    p = 1 / 6227020800.0
    p = p * f + 1 / 479001600.0
    p = p * f + 1 / 39916800.0
    p = p * f + 1 / 3628800.0
    p = p * f + 1 / 362880.0
    p = p * f + 1 / 40320.0
    p = p * f + 1 / 5040.0
    p = p * f + 1 / 720.0
    p = p * f + 1 / 120.0
    p = p * f + 1 / 24.0
    p = p * f + 1 / 6.0
    p = p * f + 0.5
    p = p * f + 1
    p = p * f + 1
    half = (k * 0.5 + SHIFTER) - SHIFTER   # 2**k may be no normal number
    return p * two_to(half) * two_to(k - half)


cdef inline double log1p_of_part(double t) noexcept nogil:
    """log(1 + t) = 2 atanh(z) of 0 <= t <= 1: z = t / (t + 2) is at most 1/3, and a series in z**2 needs 17 terms."""
    cdef double z = t / (t + 2), twice = (t + t) / (t + 2)
    cdef double z2 = z * z, p
    p = 1 / 33.0
    p = p * z2 + 1 / 31.0
    p = p * z2 + 1 / 29.0
    p = p * z2 + 1 / 27.0
    p = p * z2 + 1 / 25.0
    p = p * z2 + 1 / 23.0
    p = p * z2 + 1 / 21.0
    p = p * z2 + 1 / 19.0
    p = p * z2 + 1 / 17.0
    p = p * z2 + 1 / 15.0
    p = p * z2 + 1 / 13.0
    p = p * z2 + 1 / 11.0
    p = p * z2 + 1 / 9.0
    p = p * z2 + 1 / 7.0
    p = p * z2 + 1 / 5.0
    p = p * z2 + 1 / 3.0
    return (twice * z2) * p + twice


# ---------------------------------------------------------------- softmax cross-entropy


cdef inline double cross_entropy_row(const real *x, real *d, double *power, Py_ssize_t n, Py_ssize_t label,
                                     double smoothing, double factor) noexcept nogil:
    """-sum t[k] log p[k] and d = factor (p - t), with p = softmax(x), t = smoothing / n, and 1 - smoothing more for the label."""
    cdef double top = -INFINITY, total = 0, log_total, loss, others = 0
    cdef double share = smoothing / n
    cdef Py_ssize_t k
    for k in range(n):
        top = x[k] if x[k] > top else top  # NaN comes in by its power
    for k in range(n):
        power[k] = exp_of_negative(x[k] - top)
    for k in range(n):
        total += power[k]
    log_total = log_(total)
    for k in range(n):
        d[k] = <real>((power[k] / total - share) * factor)
    d[label] = <real>((power[label] / total - (1 - smoothing + share)) * factor)
    loss = log_total - (x[label] - top)
    if smoothing == 0:                     # an infinite loss of another class does not count
        return loss
    for k in range(n):
        others += log_total - (x[k] - top)
    return fma(1 - smoothing, loss, share * others)


def softmax_cross_entropy(cnp.ndarray x, cnp.ndarray labels, cnp.ndarray d, cnp.ndarray loss, weight, double total,
                          double smoothing, cnp.ndarray scratch):
    """``labels`` are int64."""
    cdef Batch b = batch_of(x, d, loss, weight, total)
    cdef const int64_t *label = <const int64_t *>cnp.PyArray_DATA(labels)
    cdef double *power = <double *>cnp.PyArray_DATA(scratch)
    cdef Py_ssize_t i, at, bad = -1
    cdef double by
    with nogil:
        for i in range(b.rows):
            if not 0 <= label[i] < b.columns:
                bad = i
                break
            by = weight_of(&b, i)
            if by != 0:
                at = i * b.columns
                b.loss[i] = by * cross_entropy_row(b.x + at, b.d + at, power, b.columns, label[i], smoothing, by / b.total)
    return bad


# ---------------------------------------------------------------- binary cross-entropy


cdef inline double binary_row(const real *x, const real *y, real *d, double *part, Py_ssize_t n, double factor) noexcept nogil:
    """Sum of |x| wrong + log(1 + exp(-|x|)), wrong = 1 - y for x >= 0, else y: nothing cancels; d = factor (sigmoid(x) - y)."""
    cdef double total = 0, t, up, wrong
    cdef Py_ssize_t k
    for k in range(n):
        up = <double>(x[k] >= 0)
        t = exp_of_negative(-fabs(x[k]))
        wrong = fabs(up - y[k])
        part[k] = fabs(x[k]) * wrong + log1p_of_part(t)
        d[k] = <real>((wrong - t / (1 + t)) * (up + up - 1) * factor)
    for k in range(n):
        total += part[k]
    return total


def binary_cross_entropy(cnp.ndarray x, cnp.ndarray targets, cnp.ndarray d, cnp.ndarray loss, weight, double total,
                         cnp.ndarray scratch):
    """``targets`` are like x."""
    cdef Batch b = batch_of(x, d, loss, weight, total)
    cdef const real *y = <const real *>cnp.PyArray_DATA(targets)
    cdef double *part = <double *>cnp.PyArray_DATA(scratch)
    cdef Py_ssize_t i, at, bad = -1
    cdef double by
    with nogil:
        for i in range(b.rows * b.columns):
            if not 0 <= y[i] <= 1:
                bad = i
                break
        if bad < 0:
            for i in range(b.rows):
                by = weight_of(&b, i)
                if by != 0:
                    at = i * b.columns
                    b.loss[i] = by * (binary_row(b.x + at, y + at, b.d + at, part, b.columns, by / b.total / b.columns) / b.columns)
    return bad


# ---------------------------------------------------------------- distances


cdef inline double huber_row(const real *x, const real *y, real *d, Py_ssize_t n, double delta, double factor) noexcept nogil:
    """Sum of e**2 / 2 for e = x - y up to delta, beyond it of delta (|e| - delta / 2); d = factor e, e cut to +-delta."""
    cdef double total = 0, e
    cdef Py_ssize_t k
    for k in range(n):
        e = <double>x[k] - y[k]
        if fabs(e) > delta:
            total = fma(delta, fabs(e) - 0.5 * delta, total)
            e = delta if e > 0 else -delta
        else:
            total = fma(0.5 * e, e, total)
        d[k] = <real>(e * factor)
    return total


def huber(cnp.ndarray x, cnp.ndarray targets, cnp.ndarray d, cnp.ndarray loss, weight, double total, double delta):
    """``targets`` are like x; with an infinite delta, half the squared error."""
    cdef Batch b = batch_of(x, d, loss, weight, total)
    cdef const real *y = <const real *>cnp.PyArray_DATA(targets)
    cdef Py_ssize_t i, at, bad = -1
    cdef double by
    with nogil:
        for i in range(b.rows * b.columns):
            if not isfinite(<double>y[i]):
                bad = i
                break
        if bad < 0:
            for i in range(b.rows):
                by = weight_of(&b, i)
                if by != 0:
                    at = i * b.columns
                    b.loss[i] = by * (huber_row(b.x + at, y + at, b.d + at, b.columns, delta, by / b.total / b.columns) / b.columns)
    return bad
