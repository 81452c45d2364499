# The compiled part of cyconv for one instruction set and one floating-point type, written once:
# simd.h takes both from the compiler's flags. Kernels get pointers, steps and integers, fill arrays
# that the caller allocated, and touch no Python object.

cimport numpy as cnp

include "tile.pyx"
include "slide.pyx"
include "slide_nine.pyx"
include "window.pyx"
include "pooled.pyx"
include "conv_plan.pyx"
include "conv_pack.pyx"
include "conv.pyx"
include "conv_phases.pyx"
include "conv_depthwise.pyx"
include "conv_joined.pyx"
include "conv_weight.pyx"
include "conv_weight_pack.pyx"
include "conv_depthwise_weight.pyx"
include "conv_depthwise_weight_nine.pyx"
include "conv_weight_blocks.pyx"
include "blocks.pyx"
include "dense_blocks.pyx"
include "elementary.pyx"
include "activation.pyx"
include "softmax.pyx"
include "channels.pyx"
include "pool_tap.pyx"
include "pool_lines.pyx"
include "pool.pyx"
include "pool_outputs.pyx"
include "pool_plan.pyx"
include "pool_reduced.pyx"
include "pool_halved.pyx"
include "pool_backward.pyx"
include "pool_index.pyx"
include "loss.pyx"
include "optimizer.pyx"
include "augment.pyx"
include "rows.pyx"

cnp.import_array()

lanes = LANES
sum_terms = SUM_BLOCK        # so many are summed without waiting in memory


def fma_work(Py_ssize_t steps, int n_threads):
    """Floating-point operations of as many tile steps on data in registers and first-level cache.

    Benchmarks time this to learn what the processor can do.
    """
    cdef Py_ssize_t i
    cdef Tile t
    cdef int P = max_p(2)
    start_tile(&t, True, 0)
    t.sum.n[0] = t.sum.n[1] = t.sum.n[2] = 1
    t.sum.n[3] = steps
    for i in range(4):
        t.sum.a[i] = t.sum.b[i] = 0
    t.out_p = t.out_v = t.b_v = 0
    list_runs(&t)
    with nogil:
        for i in prange(n_threads, num_threads=n_threads, schedule="static", chunksize=1):
            fma_thread(P, &t)
    return 2 * P * 2 * LANES * steps * n_threads


cdef void fma_thread(int P, const Tile *t) noexcept nogil:
    cdef real cells[LANES]
    run_tiles(P, 2, 1, t, &ZEROS[0], &ZEROS[0], cells)
