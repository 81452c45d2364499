"""Interleaved timing of contenders on a shared machine, and what the machine itself can do.

Every round gives each contender a short pause, in which the spinning threads of the others fall
asleep, one untimed call and a few timed ones. Medians over all rounds are compared.
"""

import ctypes
import gc
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

PROCESSORS = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()

# The threads of NumPy's OpenBLAS spin for 2**26 ticks after their work, on the core of the next contender.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "20")

import numpy as np  # noqa: E402

# Without it the system now and then runs both threads of a team on one core for whole seconds. Read
# by every OpenMP runtime when it is loaded, so this module comes before cyconv and its rivals; and
# NumPy before it, whose threads would be bound too.
os.environ.setdefault("OMP_PROC_BIND", "true")


class Timing(NamedTuple):
    seconds: float    # median of the calls
    spread: float     # distance of the quartiles over the median


@contextmanager
def unbound():
    """Lets threads that start inside run on every processor: they inherit the bond of the first OpenMP thread."""
    if not PROCESSORS:
        yield
        return
    bound = os.sched_getaffinity(0)
    os.sched_setaffinity(0, PROCESSORS)
    try:
        yield
    finally:
        os.sched_setaffinity(0, bound)


def interleaved(contenders, rounds=7, seconds=0.02):
    """Timing of each contender, a dict of name to function without arguments."""
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
    quartiles = {name: np.quantile(values, (0.25, 0.5, 0.75)).tolist() for name, values in times.items()}
    return {name: Timing(middle, (high - low) / middle) for name, (low, middle, high) in quartiles.items()}


def fma_peak(dtype, n_threads, rounds=9):
    """GFLOP/s of fused multiply-adds on data in registers, the best of several rounds."""
    from cyconv import _kernels

    work, best = _kernels.kernels[np.dtype(dtype)].fma_work, 0.0
    for _ in range(rounds):
        begin = time.perf_counter()
        operations = work(1_000_000, n_threads)
        best = max(best, operations / (time.perf_counter() - begin) / 1e9)
    return best


def copy_bandwidth(n_bytes, n_threads, seconds=0.01, rounds=3):
    """GB/s, read and written together, of copies that move ``n_bytes``, the best of several rounds.

    Every thread copies its share again and again: what fits into a cache is copied there, as it would be
    by the contenders.
    """
    share = max(n_bytes // (2 * n_threads), 4096)

    def copies(source, target):
        end, count = time.perf_counter() + seconds, 0
        while time.perf_counter() < end:
            np.copyto(target, source)
            count += 1
        return count

    arrays = [(np.ones(share, np.uint8), np.zeros(share, np.uint8)) for _ in range(n_threads)]
    best = 0.0
    with unbound(), ThreadPoolExecutor(n_threads) as threads:
        for _ in range(rounds):
            begin = time.perf_counter()
            count = sum(threads.map(copies, *zip(*arrays)))
            best = max(best, 2 * share * count / (time.perf_counter() - begin) / 1e9)
    return best


def peak_memory(call, warm=None):
    """Bytes by which one call makes this process grow at its highest, its result included; None where not known.

    It comes after ``warm``, by default another call of its kind, and after all free memory has gone back
    to the system.
    """
    try:
        (warm or call)()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")    # the high-water mark falls to what is used now
        before = status("VmRSS")
        call()
        return status("VmHWM") - before
    except (OSError, AttributeError):
        return None


def status(field):
    """Bytes that the kernel states of this process."""
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(field))


class OtherWork:
    """Share of the machine's processors that other processes use within a ``with`` block, as `share`."""

    def __enter__(self):
        self.begin = self.now()
        return self

    def __exit__(self, *_):
        elapsed, busy, own = (after - before for after, before in zip(self.now(), self.begin))
        self.share = max(0.0, busy - own) / (elapsed * os.cpu_count())

    @staticmethod
    def now():
        busy = 0.0
        if os.path.exists("/proc/stat"):
            with open("/proc/stat") as file:
                ticks = [int(value) for value in file.readline().split()[1:9]]
            busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")    # neither idle nor waiting
        return time.perf_counter(), busy, time.process_time()
