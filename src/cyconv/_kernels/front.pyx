"""The front of every function: a call like one that came before goes straight to its computation.

What a call depends on, but for the values of its arrays, makes its *text*: the name of the function, of every
array type, shape and the flags that decide how it is read, and every other argument bit by bit. Equal texts
pass the same checks, so the first call of a text is checked in Python and the computation that it leads to is
kept; it takes the arrays in the order of the call. Only what programs usually write has a text: ndarrays in the
byte order of the machine, None, True, False, int, float, ASCII str, and tuples or lists of these. Everything
else, such as a subclass or a number of NumPy's, is checked in every call. Compiled for any processor.
"""

cimport numpy as cnp
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.string cimport memcpy

cdef extern from "Python.h":
    bint PyLong_CheckExact(object value)
    bint PyFloat_CheckExact(object value)
    bint PyList_CheckExact(object value)
    bint PyTuple_CheckExact(object value)
    bint PyUnicode_CheckExact(object value)
    bint PyUnicode_IS_COMPACT_ASCII(object value)
    const void *PyUnicode_DATA(object value)
    Py_ssize_t PyUnicode_GET_LENGTH(object value)
    long long PyLong_AsLongLongAndOverflow(object value, int *overflow) except? -1
    object PyObject_Vectorcall(object function, PyObject **args, size_t n, PyObject *names)

from numpy import may_share_memory

cnp.import_array()

cdef enum:
    LENGTH = 512       # of the longest text
    AXES = 8           # of an array in a text
    ARRAYS = 6         # of a call
    KEPT = 1024        # computations; when there are as many, all are forgotten
    FLAGS = cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_WRITEABLE

cdef dict computations = {}

cdef struct Text:
    char letters[LENGTH]
    Py_ssize_t length
    PyObject *arrays[ARRAYS]     # borrowed from the arguments
    size_t n_arrays


cdef bint put(Text *text, char kind, const void *what, Py_ssize_t size) noexcept:
    """Append one argument. Every kind has one size or states it, so no two lists of arguments give one text."""
    if text.length + 1 + size > LENGTH:
        return False
    text.letters[text.length] = kind
    if size > 0:
        memcpy(&text.letters[text.length + 1], what, size)
    text.length += 1 + size
    return True


cdef bint put_text(Text *text, char kind, str value) noexcept:
    cdef Py_ssize_t length = PyUnicode_GET_LENGTH(value)
    return (PyUnicode_IS_COMPACT_ASCII(value) and put(text, kind, &length, sizeof(length))
            and put(text, kind, PyUnicode_DATA(value), length))


cdef bint put_array(Text *text, cnp.ndarray array) noexcept:
    cdef cnp.npy_intp about[3 + AXES]
    cdef int axis
    if array.ndim > AXES or text.n_arrays == ARRAYS or not cnp.PyArray_ISBEHAVED_RO(array):
        return False
    about[0], about[1], about[2] = cnp.PyArray_TYPE(array), cnp.PyArray_FLAGS(array) & FLAGS, array.ndim
    for axis in range(array.ndim):
        about[3 + axis] = array.shape[axis]
    text.arrays[text.n_arrays] = <PyObject *>array
    text.n_arrays += 1
    return put(text, b"a", about, (3 + array.ndim) * sizeof(cnp.npy_intp))


cdef bint put_value(Text *text, object value, bint is_inner) except -1:
    """Append an argument, or an entry of one; False when it is not usual."""
    cdef long long number
    cdef double real
    cdef int overflow = 0
    if type(value) is cnp.ndarray:
        return not is_inner and put_array(text, value)
    if value is None:
        return put(text, b"n", NULL, 0)
    if PyLong_CheckExact(value):
        number = PyLong_AsLongLongAndOverflow(value, &overflow)
        return not overflow and put(text, b"i", &number, sizeof(number))
    if PyUnicode_CheckExact(value):
        return put_text(text, b"s", value)
    if value is True or value is False:
        return put(text, b"t" if value is True else b"f", NULL, 0)
    if PyTuple_CheckExact(value) or PyList_CheckExact(value):
        if not put(text, b"(", NULL, 0):
            return False
        for entry in value:
            if not put_value(text, entry, True):
                return False
        return put(text, b")", NULL, 0)
    if PyFloat_CheckExact(value):
        real = value
        return put(text, b"r", &real, sizeof(real))
    return False


cdef bint put_call(Text *text, str name, tuple args, dict kwargs) except -1:
    text.length = text.n_arrays = 0
    if not put_text(text, b"k", name):
        return False
    for value in args:
        if not put_value(text, value, False):
            return False
    for keyword, value in kwargs.items():
        if not put_text(text, b"k", keyword) or not put_value(text, value, False):
            return False
    return True


def call(str name, first, tuple args, dict kwargs):
    """The result of a call: by the computation kept for its text, or ``first(text or None, args, kwargs)``."""
    cdef Text text
    if not put_call(&text, name, args, kwargs):
        return first(None, args, kwargs)
    letters = PyBytes_FromStringAndSize(text.letters, text.length)
    compute = computations.get(letters)
    if compute is None:
        return first(letters, args, kwargs)
    return PyObject_Vectorcall(compute, text.arrays, text.n_arrays, NULL)


def keep(bytes text, compute):
    """Have later calls of this text computed by ``compute``, a function of their arrays."""
    if len(computations) >= KEPT:
        computations.clear()
    computations[text] = compute


def forget():
    """Check every call again."""
    computations.clear()


def overlap(cnp.ndarray out, tuple arrays):
    """Whether the memory of a C-contiguous array may be that of one of the arrays, of which some may be None."""
    cdef const char *start = cnp.PyArray_BYTES(out)
    cdef const char *at
    for array in arrays:
        if array is None:
            continue
        if not cnp.PyArray_IS_C_CONTIGUOUS(array):
            if may_share_memory(array, out):
                return True
            continue
        at = cnp.PyArray_BYTES(array)
        if at < start + cnp.PyArray_NBYTES(out) and start < at + cnp.PyArray_NBYTES(array):
            return True
    return False
