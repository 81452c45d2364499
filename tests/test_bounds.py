"""No kernel reads or writes outside its arrays.

`python -m cyconv selftest guard` calls every function with arrays that end, or begin, at a page of memory that
may not be touched. Here are what it leaves out: weights that are views, augmentation and windows of great size.
The first access beyond an array ends the process, so this file is also the script of the tests' own processes.
"""

import mmap
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from test_conv import DEPTHWISE

import cyconv
from cyconv import _kernels
from cyconv.augmentation import augment
from cyconv.selftest import geometries, machine
from cyconv.selftest.arrays import LAYOUTS, in_layout
from cyconv.selftest.guarded import Guarded

pytestmark = pytest.mark.skipif(not hasattr(mmap, "PROT_READ"), reason="needs mprotect")


def compute(g, guarded, dtype, data_format):
    """Weights with negative strides, some infinite; samples turned and shifted."""
    x, weight, bias, dy = g.normals(dtype)
    for array in (weight, dy) if g.seed % 5 == 0 else ():
        array.flat[::97] = np.inf
    x, dy = (guarded.copy(in_layout(a, data_format)) for a in (x, dy))
    weight, bias = guarded.copy(weight)[:, :, ::-1], guarded.copy(bias)
    common = {"data_format": data_format, "n_threads": g.n_threads}
    with guarded.everywhere():
        cyconv.conv(x, weight, bias, **g.parameters, **common)
        cyconv.conv_backward(dy, x, weight, **g.parameters, **common)
        how = {"shift": 0.9, "scale": 0.9, "rotate": 180 if x.ndim > 3 else 0, "noise": 1, "cutout": 2}
        augment(x, how, np.random.default_rng(g.seed), data_format, n_threads=g.n_threads)


def compute_large(guarded):
    """Windows that come to the kernel in slabs."""
    with guarded.everywhere():
        for shape, kernel_size, stride in (((1, 70, 3000), 2500, 7), ((1, 66, 60, 70), (50, 20), 9),
                                           ((1, 33, 6, 23, 40), (5, 20, 40), 1)):
            x = guarded.copy(np.ones(shape, np.float32))
            cyconv.max_pool(x, kernel_size, stride, kernel_size, return_indices=True)
            cyconv.lp_pool(x, 3, kernel_size, stride)
            cyconv.adaptive_avg_pool(x, 2)


def main(isa, n_seeds):
    _kernels.use(isa)
    with machine.threads_at_any_size():
        for seed, at_end, dtype in product(range(int(n_seeds)), (False, True), (np.float32, np.float64)):
            print(seed, at_end, dtype.__name__, file=sys.stderr, flush=True)
            compute(geometries.convolution(seed), Guarded(at_end), dtype, LAYOUTS[seed % 2])
        for g, at_end, data_format in product(DEPTHWISE.values(), (False, True), LAYOUTS):
            print(g, at_end, data_format, file=sys.stderr, flush=True)
            compute(g, Guarded(at_end), np.float32, data_format)
        compute_large(Guarded(True))
        compute_large(Guarded(False))


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], cwd=Path(__file__).parent, timeout=600,
                          capture_output=True, text=True)


@pytest.mark.parametrize("isa", _kernels.available)
def test_nothing_beyond_an_array_is_touched(isa):
    result = run(__file__, isa, "100")
    assert result.returncode == 0, result.stderr[-500:]


def test_nothing_beyond_an_array_is_touched_by_any_function():
    """The check has planted faults, which it must notice."""
    result = run("-m", "cyconv", "selftest", "guard", "--seconds", "8")
    assert result.returncode == 0, result.stdout[-500:]


if __name__ == "__main__":
    main(*sys.argv[1:])
