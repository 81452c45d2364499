# The compiled part of cyconv for one instruction set and one floating-point type, written once:
# simd.h takes both from the compiler's flags. Kernels get pointers, steps and integers, fill arrays
# that the caller allocated, and touch no Python object.

cimport numpy as cnp

include "tile.pyx"
include "window.pyx"
include "conv.pyx"
include "conv_weight.pyx"
include "pointwise.pyx"
include "pool.pyx"

cnp.import_array()
