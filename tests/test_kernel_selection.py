"""Which compiled kernels are in use: the best, the one that CYCONV_ISA names, the one that `use` names."""

import os
import subprocess
import sys

import numpy as np
import pytest

from cyconv import _kernels


def start(script, **environ):
    """A new interpreter's result."""
    without = {name: value for name, value in os.environ.items() if name != "CYCONV_ISA"}
    return subprocess.run([sys.executable, "-c", script], env=without | environ, timeout=60,
                          capture_output=True, text=True)


@pytest.fixture
def restored():
    """Leave the instruction set as it was."""
    before = _kernels.isa
    yield
    _kernels.use(before)


@pytest.mark.parametrize("name", _kernels.available)
def test_every_available_set_can_be_used(name, restored):
    _kernels.use(name)
    assert _kernels.isa == name
    assert _kernels.kernels[np.dtype(np.float32)].__name__ == f"cyconv._kernels.{name}_f32"
    assert _kernels.kernels[np.dtype(np.float64)].__name__ == f"cyconv._kernels.{name}_f64"


def test_build_contains_all_that_the_processor_runs():
    """Only GCC and Clang on x86-64 make more than the baseline; with them nothing may be missing."""
    assert _kernels.available == _kernels.cpu.instruction_sets()


def test_unknown_set_is_refused_and_nothing_changes(restored):
    before = _kernels.isa, dict(_kernels.kernels)
    with pytest.raises(ValueError, match=r"use: name must be one of baseline.*, got 'sse9'"):
        _kernels.use("sse9")
    assert (_kernels.isa, _kernels.kernels) == before


@pytest.mark.parametrize("environ", [{}, {"CYCONV_ISA": ""}])
def test_best_set_is_the_default(environ):
    result = start("from cyconv import _kernels; print(_kernels.isa)", **environ)
    assert result.stdout.split() == [_kernels.available[-1]]


@pytest.mark.parametrize("name", _kernels.available)
def test_environment_forces_a_set_and_only_its_modules_are_loaded(name):
    script = "import sys; from cyconv import _kernels; print(_kernels.isa, *sorted(sys.modules))"
    isa, *modules = start(script, CYCONV_ISA=name).stdout.split()
    assert isa == name
    compiled = [module for module in modules if module.startswith("cyconv._kernels.")]
    wanted = ("cpu", "front", f"{name}_f32", f"{name}_f64")
    assert compiled == sorted(f"cyconv._kernels.{module}" for module in wanted)


def test_error_for_an_unknown_environment_names_variable_value_and_choices():
    result = start("import cyconv._kernels", CYCONV_ISA="sse9")
    assert result.returncode == 1
    assert "ImportError" in result.stderr
    for part in ("CYCONV_ISA", "'sse9'", *_kernels.available):
        assert part in result.stderr


def test_importing_kernels_imports_nothing_but_numpy():
    script = "import sys; import cyconv._kernels; print(*sys.modules)"
    modules = start(script).stdout.split()
    assert not {"sklearn", "scipy", "joblib"} & set(modules)


STATE_STAYS = """
import ctypes
import numpy as np

def state():
    libm = ctypes.CDLL(None)
    mode = libm.fegetround() if hasattr(libm, "fegetround") else None
    return mode, [float(np.finfo(dtype).tiny / dtype(2)) for dtype in (np.float32, np.float64)]

before = state()
import cyconv
assert state() == before, "after the import"
x = np.ones((8, 16, 32, 32), np.float32)
cyconv.conv2d_backward(cyconv.conv2d(x, x[:, :, :3, :3], n_threads=2), x, x[:, :, :3, :3], n_threads=2)
cyconv.gelu(cyconv.lp_pool2d(x, 3, 2, n_threads=2))
assert state() == before, "after calls"
"""


@pytest.mark.parametrize("name", _kernels.available)
def test_rounding_and_subnormal_numbers_of_the_process_stay_as_they_are(name):
    result = start(STATE_STAYS, CYCONV_ISA=name)
    assert result.returncode == 0, result.stderr
