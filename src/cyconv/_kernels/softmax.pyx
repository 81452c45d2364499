# The softmax along contiguous rows.
#
# exp and log are our own: those of C and NumPy differ in the last bit between instruction sets.
# Both reduce the argument exactly and evaluate a polynomial by Horner's rule, in double for double
# and float alike, so every step has one possible contraction and the bits are the same wherever the
# processor has FMA.

from libc.math cimport HUGE_VAL, fma
from libc.stdint cimport int64_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #define LOG2_HIGH 6.93147180369123816490e-01 /* 32 bits, so that k * LOG2_HIGH is exact */
    #define LOG2_LOW 1.90821492927058770002e-10
    /* x * 2**k for a normal result */
    static inline double scale2(double x, int64_t k) {
        int64_t bits = (k + 1023) << 52; double two_k;
        memcpy(&two_k, &bits, 8);
        return x * two_k;
    }
    /* mantissa in [sqrt(1/2), sqrt(2)) and exponent of a normal x > 0 */
    static inline double split2(double x, int64_t *k) {
        int64_t bits; memcpy(&bits, &x, 8);
        int64_t offset = bits - 0x3fe6a09e667f3bcd;
        *k = offset >> 52;
        bits -= *k * ((int64_t)1 << 52);
        memcpy(&x, &bits, 8);
        return x;
    }
    """
    const double LOG2_HIGH
    const double LOG2_LOW
    double scale2(double x, int64_t k) noexcept nogil
    double split2(double x, int64_t *k) noexcept nogil


cdef inline double exp_(double x) noexcept nogil:
    """exp(x): x = k log 2 + f with |f| <= log(2) / 2, Taylor to degree 13 (error below 1 ulp)."""
    cdef int64_t k
    cdef double f, p
    if x != x or x > 709.79 or x < -745.2:
        return x if x != x else (HUGE_VAL if x > 0 else 0)
    k = <int64_t>(x * 1.4426950408889634 + (0.5 if x >= 0 else -0.5))
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
    return scale2(scale2(p, k // 2), k - k // 2)


cdef inline double log_(double x) noexcept nogil:
    """log(x) of a normal x > 0: x = 2**k m, log m = 2 atanh(z), z = (m - 1) / (m + 1), as a series in z**2."""
    cdef int64_t k
    cdef double m, z, z2, p
    if x != x or x == HUGE_VAL:
        return x
    m = split2(x, &k)
    z = (m - 1) / (m + 1)
    z2 = z * z
    p = 2 / 23.0
    p = p * z2 + 2 / 21.0
    p = p * z2 + 2 / 19.0
    p = p * z2 + 2 / 17.0
    p = p * z2 + 2 / 15.0
    p = p * z2 + 2 / 13.0
    p = p * z2 + 2 / 11.0
    p = p * z2 + 2 / 9.0
    p = p * z2 + 2 / 7.0
    p = p * z2 + 2 / 5.0
    p = p * z2 + 2 / 3.0
    p = p * z2 + 2
    return fma(<double>k, LOG2_HIGH, fma(p, z, k * LOG2_LOW))


cdef void softmax_row(const real *x, real *y, Py_ssize_t n, bint log) noexcept nogil:
    cdef double top = -HUGE_VAL, total = 0, lost = 0, term, before
    cdef Py_ssize_t i
    for i in range(n):
        top = x[i] if x[i] > top or x[i] != x[i] else top
    for i in range(n):      # what each addition loses, and a long row would feel, is added to the next term
        term, before = exp_(x[i] - top) + lost, total
        total = before + term
        lost = term - (total - before)
    if log:
        total = log_(total)
        for i in range(n):
            y[i] = <real>(x[i] - top - total)
    else:
        for i in range(n):
            y[i] = <real>(exp_(x[i] - top) / total)


def softmax(cnp.ndarray x, cnp.ndarray y, Py_ssize_t n, bint log):
    """(log-)softmax of contiguous rows of n, summed in row order in double."""
    cdef const real *a = <const real *>cnp.PyArray_DATA(x)
    cdef real *b = <real *>cnp.PyArray_DATA(y)
    cdef Py_ssize_t i
    with nogil:
        for i in range(cnp.PyArray_SIZE(x) // n):
            softmax_row(a + i * n, b + i * n, n, log)


cdef void softmax_row_backward(const real *dy, const real *y, real *dx, Py_ssize_t n, bint log) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t i
    if log:
        for i in range(n):
            total += dy[i]
        for i in range(n):
            dx[i] = <real>fma(-exp_(y[i]), total, <double>dy[i])
    else:
        for i in range(n):
            total = fma(<double>dy[i], <double>y[i], total)
        for i in range(n):
            dx[i] = <real>(y[i] * (dy[i] - total))


def softmax_backward(cnp.ndarray dy, cnp.ndarray y, cnp.ndarray dx, Py_ssize_t n, bint log):
    """dx = y (dy - sum dy y), or of the log-softmax dx = dy - exp(y) sum dy, of contiguous rows of n."""
    cdef const real *a = <const real *>cnp.PyArray_DATA(dy)
    cdef const real *b = <const real *>cnp.PyArray_DATA(y)
    cdef real *c = <real *>cnp.PyArray_DATA(dx)
    cdef Py_ssize_t i
    with nogil:
        for i in range(cnp.PyArray_SIZE(y) // n):
            softmax_row_backward(a + i * n, b + i * n, c + i * n, n, log)
