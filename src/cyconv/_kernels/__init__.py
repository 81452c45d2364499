"""The compiled kernels of the best instruction set that this processor runs.

The same sources are compiled once per instruction set and floating-point type. Importing this
package loads the two modules of one set; ``CYCONV_ISA`` forces which one, `use` changes it later.

Attributes
----------
available : tuple of str
    The instruction sets that this processor runs and this build contains, best last.
isa : str
    The one in use.
kernels : dict
    From dtype (float32, float64) to the compiled module in use. A dict, for every call looks here.
"""

import os
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec

import numpy as np

# Turns that a thread of GNU OpenMP waits for the others before it sleeps, 80 us on Zen 5: more than there is between
# two layers. By its own 300,000, processes that share the processors wait for threads that cannot run, milliseconds
# each time.
SPINS = "3000"


@contextmanager
def _short_waits():
    """What OpenMP reads when it is loaded, unless the user says how threads are to wait."""
    if {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = SPINS
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]


with _short_waits():
    from . import cpu, front


def use(name):
    """Compute with the instruction set ``name``, one of `available`, from the next call on."""
    global isa
    if name not in available:
        raise ValueError(f"use: name must be one of {', '.join(available)} on this processor, got {name!r}")
    modules = [import_module(f"{__name__}.{name}_{real}") for real in ("f32", "f64")]
    kernels.update(zip((np.dtype(np.float32), np.dtype(np.float64)), modules))
    isa = name
    front.forget()


def _first_choice():
    """The set that the environment asks for, else the best."""
    if not available:
        raise ImportError("cyconv: the compiled kernels need a processor with SSE4.2 (x86-64-v2)")
    name = os.environ.get("CYCONV_ISA") or available[-1]
    if name not in available:
        raise ImportError(f"cyconv: the environment variable CYCONV_ISA must be one of {', '.join(available)} "
                          f"(what this processor and this build have), got {name!r}; unset it to use the best")
    return name


available = tuple(name for name in cpu.instruction_sets() if find_spec(f"{__name__}.{name}_f32"))
isa = None
kernels = {}
use(_first_choice())
