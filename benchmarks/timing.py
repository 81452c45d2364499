"""Interleaved timing of contenders on a shared machine.

Every round gives each contender a short pause, in which the spinning threads of the others fall
asleep, one untimed call and a few timed ones. Medians over all rounds are compared.
"""

import os
import time
from statistics import median

# The threads of NumPy's OpenBLAS spin for 2**26 ticks after their work, on the core of the next contender.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "20")

import numpy  # noqa: E402, F401

# Without it the system now and then runs both threads of a team on one core for whole seconds. Read
# by every OpenMP runtime when it is loaded, so this module comes before cyconv and its rivals; and
# NumPy before it, whose threads would be bound too.
os.environ.setdefault("OMP_PROC_BIND", "true")


def interleaved(contenders, rounds=7, seconds=0.02):
    """Median seconds per call of each contender, a dict of name to function without arguments."""
    times = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            time.sleep(0.005)
            call()
            begin = now = time.perf_counter()
            while now - begin < seconds:
                start = now
                call()
                now = time.perf_counter()
                times[name].append(now - start)
    return {name: median(values) for name, values in times.items()}


def fma_peak(dtype, n_threads, rounds=9):
    """GFLOP/s of fused multiply-adds on data in registers, the best of several rounds."""
    from cyconv import _kernels

    work, best = _kernels.kernels[dtype].fma_work, 0.0
    for _ in range(rounds):
        begin = time.perf_counter()
        operations = work(1_000_000, n_threads)
        best = max(best, operations / (time.perf_counter() - begin) / 1e9)
    return best
