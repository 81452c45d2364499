# Losses: one pass over the rows of a batch gives the loss of every row and the gradient of their mean.
#
#     for each row:  loss[row] = weight l(row);  d[row, column] = weight / total * dl / doutput      (serial)
#
# Everything is computed in double and rounded once. Sums run along a row in its order; the caller adds
# up the rows. A row of weight 0 counts as absent, whatever it holds. Every sum of products is written
# as fma, so that there is one way to round it; exp_ and log_ give the same bits wherever the processor
# has FMA. Each kernel returns the first place whose target is out of range, or -1.

from libc.math cimport INFINITY, fabs, fma, isfinite
from libc.stdint cimport int64_t

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


# ---------------------------------------------------------------- softmax cross-entropy


cdef inline double cross_entropy_row(const real *x, real *d, double *power, Py_ssize_t n, Py_ssize_t label,
                                     double smoothing, double factor) noexcept nogil:
    """-sum t[k] log p[k] and d = factor (p - t), with p = softmax(x), t = smoothing / n, and 1 - smoothing more for the label."""
    cdef double top = -INFINITY, total = 0, log_total, loss, others = 0
    cdef double share = smoothing / n
    cdef Py_ssize_t k
    for k in range(n):
        top = x[k] if x[k] > top or x[k] != x[k] else top
    for k in range(n):
        power[k] = exp_(x[k] - top)
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
    """``labels`` are int64; ``scratch`` holds a row of doubles."""
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


cdef inline double log1p_(double t) noexcept nogil:
    """log(1 + t) of t in [0, 1]: the rounding error of 1 + t is made good by the factor."""
    cdef double u = 1 + t
    return t if u == 1 else log_(u) * (t / (u - 1))


cdef inline double binary_row(const real *x, const real *y, real *d, Py_ssize_t n, double factor) noexcept nogil:
    """Sum of |x| wrong + log(1 + exp(-|x|)), wrong = 1 - y for x >= 0, else y: nothing cancels; d = factor (sigmoid(x) - y)."""
    cdef double total = 0, t, wrong
    cdef Py_ssize_t k
    for k in range(n):
        t = exp_(-fabs(x[k]))
        wrong = 1 - <double>y[k] if x[k] >= 0 else y[k]
        total += fma(fabs(x[k]), wrong, log1p_(t))
        wrong -= t / (1 + t)
        d[k] = <real>((wrong if x[k] >= 0 else -wrong) * factor)
    return total


def binary_cross_entropy(cnp.ndarray x, cnp.ndarray targets, cnp.ndarray d, cnp.ndarray loss, weight, double total):
    """``targets`` are like x."""
    cdef Batch b = batch_of(x, d, loss, weight, total)
    cdef const real *y = <const real *>cnp.PyArray_DATA(targets)
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
                    b.loss[i] = by * (binary_row(b.x + at, y + at, b.d + at, b.columns, by / b.total / b.columns) / b.columns)
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
