"""No kernel reads or writes outside its arrays.

Every array ends, or begins, at a page of memory that may not be touched, so that the first access
beyond it ends the process: this file is also the script that the tests run in processes of their own.
"""

import ctypes
import mmap
import signal
import subprocess
import sys
from itertools import product
from math import prod
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import cyconv
from cyconv import _kernels, losses, optimizers
from cyconv.augmentation import augment
from cyconv.functional import _ranked
from cyconv.selftest import geometries
from cyconv.selftest.arrays import LAYOUTS, in_layout


class Guarded:
    """Allocates arrays whose last, or first, element lies beside a forbidden page."""

    def __init__(self, at_end):
        self.at_end = at_end
        self.mprotect = ctypes.CDLL(None).mprotect
        self.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int

    def empty(self, shape, dtype=float):
        shape = (shape,) if isinstance(shape, int) else shape
        n_bytes = prod(shape) * np.dtype(dtype).itemsize
        size = -(-max(n_bytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
        memory = mmap.mmap(-1, size + 2 * mmap.PAGESIZE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for page in (start, start + mmap.PAGESIZE + size):
            assert self.mprotect(page, mmap.PAGESIZE, 0) == 0
        return np.ndarray(shape, dtype, memory, mmap.PAGESIZE + (size - n_bytes if self.at_end else 0))

    def zeros(self, shape, dtype=float):
        result = self.empty(shape, dtype)
        result[...] = 0
        return result

    def copy(self, array):
        result = self.empty(array.shape, array.dtype)
        result[...] = array
        return result


def compute(seed, guarded, dtype, data_format):
    """All functions on the geometries of a seed; some weights are views, some values infinite."""
    g, p = geometries.convolution(seed), geometries.pooling(seed)
    x, weight, bias, dy = g.normals(dtype)
    for array in (weight, dy) if seed % 5 == 0 else ():
        array.flat[::97] = np.inf
    x, dy, plane, dplane = (guarded.copy(in_layout(a, data_format)) for a in (
        x, dy, np.ones(p.x_shape, dtype), np.ones(p.y_shape, dtype)))
    weight, bias = guarded.copy(weight), guarded.copy(bias)
    weight = weight[:, :, ::-1] if seed % 3 == 0 else weight
    common = {"data_format": data_format, "n_threads": g.n_threads}
    with mock.patch.multiple(np, empty=guarded.empty, zeros=guarded.zeros):
        cyconv.conv(x, weight, bias, **g.parameters, **common)
        cyconv.conv_backward(dy, x, weight, **g.parameters, **common)
        _, indices = cyconv.max_pool(plane, **p.parameters, return_indices=True, **common)
        cyconv.max_pool_backward(dplane, indices, plane.shape, **common)
        cyconv.avg_pool(plane, **p.parameters, **common)
        cyconv.avg_pool_backward(dplane, plane.shape, **p.parameters, **common)
        other_pools(p, plane, dplane, indices, common)
        how = {"shift": 0.9, "scale": 0.9, "rotate": 180 if x.ndim > 3 else 0, "noise": 1, "cutout": 2}
        augment(x, how, np.random.default_rng(seed), data_format, n_threads=g.n_threads)
        cyconv.gelu_backward(x, cyconv.gelu(x))
        cyconv.softmax_backward(x, cyconv.softmax(x))
        if x.size:
            mean, var = cyconv.moments(x, **common)
            finite = np.nan_to_num(var, posinf=1)
            cyconv.batch_norm(x, mean, finite, **common)
            cyconv.batch_norm_backward(x, x, mean, finite, **common)


def other_pools(p, plane, dplane, indices, common):
    """The kinds of pooling that differ from maximum and mean, some with windows too large for the scratch."""
    window = {**p.parameters, **common}
    cyconv.min_pool(plane, **window, return_indices=True)
    cyconv.sum_pool_backward(cyconv.sum_pool(plane, **window), plane.shape, **window)
    for order in (1, 2, 3, 2.5, np.inf):
        norm = cyconv.lp_pool(plane, order, **window)
        cyconv.lp_pool_backward(dplane, plane, norm, order, **window)
    del window["ceil_mode"]
    cyconv.max_unpool(dplane, indices, **window, output_size=p.sizes)
    cyconv.max_unpool_backward(plane, indices, **common)
    bins = cyconv.adaptive_avg_pool(plane, 1 + p.seed % 4, **common)
    cyconv.adaptive_avg_pool_backward(bins, plane.shape, **common)
    cyconv.adaptive_max_pool(plane, 1 + p.seed % 4, return_indices=True, **common)
    _, where = cyconv.global_max_pool(plane, return_indices=True, **common)
    cyconv.global_max_pool_backward(where, where, plane.shape, **common)
    cyconv.maxout(plane, 1, return_indices=True)


def compute_large(guarded):
    """Windows that come to the kernel in slabs."""
    with mock.patch.multiple(np, empty=guarded.empty, zeros=guarded.zeros):
        for shape, kernel_size, stride in (((1, 70, 3000), 2500, 7), ((1, 66, 60, 70), (50, 20), 9),
                                           ((1, 33, 6, 23, 40), (5, 20, 40), 1)):
            x = guarded.copy(np.ones(shape, np.float32))
            cyconv.max_pool(x, kernel_size, stride, kernel_size, return_indices=True)
            cyconv.lp_pool(x, 3, kernel_size, stride)
            cyconv.adaptive_avg_pool(x, 2)


def train(seed, guarded, dtype):
    """All losses and optimizers, on small batches and short vectors of every length."""
    rng = np.random.default_rng(seed)
    n, n_outputs = rng.integers(1, 12, 2)
    outputs, targets, labels, weight = map(guarded.copy, (
        rng.standard_normal((n, n_outputs)).astype(dtype), rng.random((n, n_outputs)).astype(dtype),
        rng.integers(0, n_outputs, n), rng.integers(0, 3, n) + 0.5))
    with mock.patch.multiple(np, empty=guarded.empty, empty_like=lambda a: guarded.empty(a.shape, a.dtype),
                             zeros_like=lambda a: guarded.zeros(a.shape, a.dtype)):
        losses.softmax_cross_entropy(outputs, labels, weight, label_smoothing=0.1)
        for loss in (losses.binary_cross_entropy, losses.squared_error, losses.huber):
            loss(outputs, targets, weight)
        vector, gradient = map(guarded.copy, rng.standard_normal((2, seed % 70)).astype(dtype))
        for kind in (optimizers.SGD, optimizers.Adam, optimizers.AdamW, optimizers.RMSprop):
            momentum = {"momentum": 0.5} if kind is optimizers.RMSprop else {}
            kind(vector, n_weights=vector.size // 2, **momentum).step(gradient, l2=0.1, n_threads=1 + seed % 3)
        optimizers.clip_by_norm(gradient, 0.1)


def main(isa, first, last):
    _kernels.use(isa)
    _ranked.SERIAL_WORK = -1
    for seed, at_end, dtype in product(range(int(first), int(last)), (False, True), (np.float32, np.float64)):
        print(seed, at_end, dtype.__name__, file=sys.stderr, flush=True)
        compute(seed, Guarded(at_end), dtype, LAYOUTS[seed % 2])
        train(seed, Guarded(at_end), dtype)
    compute_large(Guarded(True))
    compute_large(Guarded(False))


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], cwd=Path(__file__).parent, timeout=600,
                          capture_output=True, text=True)


pytestmark = pytest.mark.skipif(not hasattr(mmap, "PROT_READ"), reason="needs mprotect")


@pytest.mark.parametrize("isa", _kernels.available)
def test_nothing_beyond_an_array_is_touched(isa):
    result = run(__file__, isa, "0", "150")
    assert result.returncode == 0, result.stderr[-500:]


@pytest.mark.campaign
@pytest.mark.parametrize("isa", _kernels.available)
@pytest.mark.parametrize("first", range(150, 20_000, 1000))
def test_nothing_beyond_an_array_is_touched_in_a_long_run(isa, first):
    result = run(__file__, isa, str(first), str(first + 1000))
    assert result.returncode == 0, result.stderr[-500:]


@pytest.mark.parametrize("at_end, beyond", [(True, 10), (False, -1)])
def test_touching_one_element_beyond_ends_the_process(at_end, beyond):
    """That is, the tests above would notice."""
    script = f"""
import ctypes
from test_bounds import Guarded
array = Guarded({at_end}).zeros((10,))
assert array[0] == array[9] == 0
print("inside", flush=True)
ctypes.c_double.from_address(array.ctypes.data + {beyond} * 8).value
"""
    result = run("-c", script)
    assert result.stdout == "inside\n" and result.returncode == -signal.SIGSEGV


if __name__ == "__main__":
    main(*sys.argv[1:])
