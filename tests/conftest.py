"""What all tests share: instruction sets, dtypes, layouts, tolerances, random numbers.

Long runs carry the marker ``campaign`` and are left out unless asked for: ``pytest -m campaign``.
"""

import os

import numpy as np
import pytest
from hypothesis import settings

# Teams are larger than the machine here; threads that spin while they wait would delay each other.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from cyconv import _kernels  # noqa: E402
from cyconv.functional import _ranked  # noqa: E402
from cyconv.selftest.arrays import LAYOUTS  # noqa: E402

# The same examples in every run, so a failure is reproduced by running the test again.
settings.register_profile("reproducible", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("reproducible")

# Relative to the largest result; for comparisons with others who add in another order.
TOLERANCES = {np.float32: 1e-5, np.float64: 1e-13}


def pytest_configure(config):
    config.addinivalue_line("markers", "campaign: long random runs, left out unless asked for with -m campaign")
    config.option.markexpr = config.option.markexpr or "not campaign"


@pytest.fixture(params=_kernels.available)
def isa(request):
    """Every instruction set that this processor runs, one after the other."""
    before = _kernels.isa
    _kernels.use(request.param)
    yield request.param
    _kernels.use(before)


@pytest.fixture
def every_isa():
    """For tests that change the instruction set themselves: all names; restores the one in use."""
    before = _kernels.isa
    yield _kernels.available
    _kernels.use(before)


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.fixture
def tolerance(dtype):
    return TOLERANCES[dtype]


@pytest.fixture(params=LAYOUTS)
def data_format(request):
    return request.param


@pytest.fixture
def rng():
    return np.random.default_rng(20240229)


@pytest.fixture
def threads_at_any_size(monkeypatch):
    """Small problems use as many threads as large ones."""
    monkeypatch.setattr(_ranked, "SERIAL_WORK", -1)


@pytest.fixture
def nan_in_new_arrays(monkeypatch):
    """Memory that a function allocates and forgets to write holds NaN."""
    def full_of_nan(shape, dtype=float, order="C"):
        return np.full(shape, np.nan if np.issubdtype(dtype, np.floating) else -77, dtype, order)

    monkeypatch.setattr(np, "empty", full_of_nan)


@pytest.fixture
def guarded_arrays(monkeypatch):
    """Makes a function that checks the memory around all new arrays: nothing was written there."""
    around, guard, made = 4096, 7, []

    def guarded(shape, dtype=float, order="C"):
        size = np.dtype(dtype).itemsize * int(np.prod(shape))
        memory = np.full(around + size + around, guard, np.uint8)
        made.append((memory, size))
        return memory[around:around + size].view(dtype).reshape(shape, order=order)

    def check():
        assert made
        for memory, size in made:
            assert (memory[:around] == guard).all() and (memory[around + size:] == guard).all()

    monkeypatch.setattr(np, "empty", guarded)
    return check
