"""What the user gave -> arrays the kernels accept, or an error that names the argument.

Kernels read any strides, so an input is copied only to change its dtype, byte order or alignment.
Inputs are never written. Arrays of our own start at a cache line.
"""

from contextlib import suppress
from math import prod

import numpy as np

from ._geometry import MAX_ELEMENTS
from ._kernels import front

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
LAYOUTS = ("channels_first", "channels_last")
CACHE_LINE = 64


def as_array(function, name, value):
    """``value`` as an ndarray of numbers. Masked arrays are refused: their mask would be lost."""
    if type(value) is np.ndarray:
        array = value
    elif isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{function}: {name} is a masked array, whose mask would be ignored; "
                        f"pass {name}.filled(value)")
    else:
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise ValueError(f"{function}: {name} is no array of numbers: {error}") from None
    if value is None:
        raise TypeError(f"{function}: {name} must be an array, got None")
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{function}: unsupported dtype {array.dtype} for {name}; expected real numbers")
    if array.size > MAX_ELEMENTS:       # NumPy makes them, by strides of 0; a sum over one would take days
        raise ValueError(f"{function}: {name} must have at most {MAX_ELEMENTS} elements, got shape {array.shape}")
    return array


def as_reals(function, **values):
    """All values in their common computation dtype, float32 or float64.

    The dtype is ``np.result_type`` of all of them and float32.
    """
    arrays = [as_array(function, name, value) for name, value in values.items()]
    dtypes = {a.dtype for a in arrays}
    dtype = dtypes.pop() if len(dtypes) == 1 else np.result_type(*dtypes)
    if dtype != FLOAT32 and dtype != FLOAT64:
        dtype = np.result_type(dtype, FLOAT32)
        if dtype != FLOAT32 and dtype != FLOAT64:
            names = ", ".join(values)
            raise TypeError(f"{function}: {names} compute in dtype {dtype}; only float32 and float64 are supported")
    return [a if a.dtype == dtype and a.flags.aligned else np.array(a, dtype) for a in arrays]


def contiguous(array, dtype):
    """``array`` itself if it has the dtype and is C-contiguous and aligned, else a copy that is."""
    flags = array.flags
    is_ready = array.dtype == dtype and flags.c_contiguous and flags.aligned
    return array if is_ready else np.array(array, dtype, order="C")


def float_dtype(function, dtype):
    """What the user wrote as the dtype FLOAT32 or FLOAT64."""
    with suppress(TypeError):
        if np.dtype(dtype) in (FLOAT32, FLOAT64):
            return np.dtype(dtype)
    raise TypeError(f"{function}: dtype must be float32 or float64, got {getattr(dtype, '__name__', repr(dtype))}")


def is_channels_last(function, data_format):
    if not isinstance(data_format, str) or data_format not in LAYOUTS:
        raise ValueError(f"{function}: data_format must be one of {LAYOUTS}, got {data_format!r}")
    return data_format == "channels_last"


def output_for(function, out, shape, dtype, inputs):
    """The array to compute into, and whether the result must then be copied to ``out``."""
    if out is None:
        return np.empty(shape, dtype), False
    check_out(function, out, shape, dtype)
    return apart_from(out, inputs)


def check_out(function, out, shape, dtype):
    """Refuse an ``out`` that kernels cannot write to; all that is asked is part of the text of a call."""
    if not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != dtype:
        found = f"{out.dtype} array of shape {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise ValueError(f"{function}: out must be a {dtype} array of shape {shape}, got {found}")
    if not (out.flags.c_contiguous and out.flags.writeable and out.flags.aligned):
        raise ValueError(f"{function}: out must be C-contiguous, aligned and writeable")


def apart_from(out, inputs):
    """``out``, or in place of it an array that shares no memory with the inputs, and whether it is in place of it."""
    overlaps = front.overlap(out, inputs)
    return (np.empty(out.shape, out.dtype) if overlaps else out), overlaps


def aligned_zeros(shape, dtype):
    """Zeros from the beginning of a cache line on, so that no vector lies in two of them."""
    n_bytes = prod(shape) * dtype.itemsize
    memory = np.zeros(n_bytes + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start:start + n_bytes].view(dtype).reshape(shape)
