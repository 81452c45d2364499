"""How many threads a call may use: scikit-learn's rule, and one thread in a forked process.

``OMP_NUM_THREADS`` decides if it is set; otherwise the physical cores that the process may use, for a
second thread on a core has no multiplier of its own. OpenMP's own limit holds in both cases and is
asked at every call, so that threadpoolctl and joblib workers are obeyed.
"""

import os
import sys
from functools import cache
from operator import index

from ._kernels import cpu

# GNU OpenMP ends the process when the system refuses to start a thread.
MAX_THREADS = 1024

# OpenMP reads the variable once, when it is loaded, as here; asking at every call would cost 0.6 us.
_set_by_user = bool(os.environ.get("OMP_NUM_THREADS"))
_serial = not cpu.openmp


def effective(n_threads=None, function="cyconv"):
    """Number of threads for a call.

    Parameters
    ----------
    n_threads : int or None, default None
        None: as many as the rule above allows. Positive: that many, up to 1024. Negative: counted
        back from the rule's number, -1 is all of it, -2 all but one, and so on; at least 1.
    function : str
        What an error is named after.

    Returns
    -------
    int
        At least 1; always 1 in a forked process and in a build without OpenMP.

    Raises
    ------
    TypeError, ValueError
        If ``n_threads`` is not an integer, or is 0.
    """
    if n_threads is None:
        count = _limit()
    else:
        count = _requested(n_threads, function)
    return 1 if _serial else min(count, MAX_THREADS)


def _requested(n_threads, function):
    try:
        count = index(None if isinstance(n_threads, bool) else n_threads)
    except TypeError:
        raise TypeError(f"{function}: n_threads must be None or a non-zero int, got {n_threads!r}") from None
    if count == 0:
        raise ValueError(f"{function}: n_threads must be None or a non-zero int, got 0")
    return count if count > 0 else max(1, _limit() + 1 + count)


def _limit():
    openmp = cpu.max_threads()
    return openmp if _set_by_user or openmp == 1 else min(openmp, _cores())


@cache
def _cores():
    """Physical cores that this process may use: its affinity, and the quota of its control group.

    scikit-learn asks joblib, which counts threads instead of cores when the affinity is restricted.
    Reading Linux's own files needs no joblib, whose import would make the first call 70 ms longer.
    """
    if sys.platform != "linux":
        return _cores_by_joblib()
    siblings = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    cores = {_read(siblings.format(number)) or number for number in os.sched_getaffinity(0)}
    return max(1, min(len(cores), _quota()))


def _quota():
    """Processors' worth of time that the control group grants, rounded up."""
    version_2 = _read("/sys/fs/cgroup/cpu.max").split()
    version_1 = [_read(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us") for name in ("quota", "period")]
    quota, period = version_2 or version_1
    return -(-int(quota) // int(period)) if quota.isdigit() else MAX_THREADS


def _read(path):
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def _cores_by_joblib():
    try:
        from joblib import cpu_count
    except ImportError:
        return os.cpu_count() or 1
    return cpu_count(only_physical_cores=True)


def _run_serially():
    """GNU OpenMP hangs in a forked process whose parent has used it, in this library or another."""
    global _serial
    _serial = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_run_serially)
