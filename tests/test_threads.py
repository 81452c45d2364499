"""The number of threads of a call, and calls in forked processes."""

import os
import subprocess
import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from cyconv import _threads
from cyconv._kernels import cpu

needs_openmp = pytest.mark.skipif(not cpu.openmp, reason="built without OpenMP")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

PRINT_EFFECTIVE = "from cyconv import _threads; print(_threads.effective())"


def run(script, **environ):
    """What a new interpreter prints; a hang is an error."""
    without = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return subprocess.run([sys.executable, "-c", script], env=without | environ, timeout=60, check=True,
                          capture_output=True, text=True).stdout


@pytest.fixture
def system_files(monkeypatch):
    """The files that describe the machine, to be filled by a test."""
    files = {}
    monkeypatch.setattr(_threads, "_read", lambda path: files.get(path, ""))
    return files


# ---------------------------------------------------------------- the rule


def test_default_is_within_the_limit_of_openmp():
    assert 1 <= _threads.effective() <= cpu.max_threads()


@needs_openmp
@pytest.mark.parametrize("n_threads", [1, 2, 7, np.int64(3)])
def test_positive_number_is_taken_as_it_is(n_threads):
    assert _threads.effective(n_threads) == n_threads


@needs_openmp
def test_absurd_number_is_cut_before_the_system_refuses_threads():
    assert _threads.effective(10**30) == _threads.MAX_THREADS


def test_negative_number_counts_back_and_stops_at_one():
    assert _threads.effective(-1) == _threads.effective()
    assert _threads.effective(-2) == max(1, _threads.effective() - 1)
    assert _threads.effective(-(10**6)) == 1


@pytest.mark.parametrize("n_threads, error", [(0, ValueError), (1.5, TypeError), ("2", TypeError), ([2], TypeError)])
def test_other_values_are_refused(n_threads, error):
    with pytest.raises(error, match=r"n_threads must be None or a non-zero int, got "):
        _threads.effective(n_threads)


@needs_openmp
def test_environment_may_exceed_the_cores():
    assert int(run(PRINT_EFFECTIVE, OMP_NUM_THREADS="5")) == 5


@needs_openmp
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_affinity_is_respected():
    script = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); " + PRINT_EFFECTIVE
    assert int(run(script)) == 1


@needs_openmp
def test_limit_of_threadpoolctl_holds_while_it_lasts():
    before = _threads.effective()
    with threadpool_limits(1, user_api="openmp"):
        assert _threads.effective() == 1
    assert _threads.effective() == before


# ---------------------------------------------------------------- the cores


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's files")
def test_two_threads_of_a_core_count_once(system_files, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 4, 5})
    for number, siblings in enumerate(["0,4", "1,5", "2,6", "3,7"] * 2):
        system_files[f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list"] = siblings
    assert _threads._cores.__wrapped__() == 2


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's files")
def test_without_topology_every_processor_counts(system_files, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 4, 5})
    assert _threads._cores.__wrapped__() == 4


@pytest.mark.parametrize("quota, processors", [("150000 100000", 2), ("50000 100000", 1), ("max 100000", None)])
def test_quota_of_control_group_version_2_is_rounded_up(system_files, quota, processors):
    system_files["/sys/fs/cgroup/cpu.max"] = quota
    assert _threads._quota() == (processors or _threads.MAX_THREADS)


@pytest.mark.parametrize("quota, processors", [("300000", 3), ("-1", None)])
def test_quota_of_control_group_version_1_is_read(system_files, quota, processors):
    system_files["/sys/fs/cgroup/cpu/cpu.cfs_quota_us"] = quota
    system_files["/sys/fs/cgroup/cpu/cpu.cfs_period_us"] = "100000"
    assert _threads._quota() == (processors or _threads.MAX_THREADS)


# ---------------------------------------------------------------- forks

COMPUTE = """
import os, threading, time
import numpy as np
import cyconv
from cyconv import _threads

x = np.ones((64, 16, 32, 32), np.float32)
weight = np.ones((16, 16, 3, 3), np.float32)

def compute():
    return cyconv.conv2d(x, weight, n_threads=2)

def in_child(function):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0

def compare():
    assert _threads.effective(2) == 1
    assert np.array_equal(compute(), expected)

expected = compute()
"""

FORKS = {
    "fork": "in_child(compare)",
    "fork_of_a_fork": "in_child(lambda: in_child(compare))",
    "fork_in_a_thread": "t = threading.Thread(target=in_child, args=(compare,)); t.start(); t.join()",
    "fork_while_another_thread_computes": """
stop = False
def loop():
    while not stop:
        compute()
worker = threading.Thread(target=loop)
worker.start()
for _ in range(20):
    in_child(compare)
stop = True
worker.join()
""",
}


@needs_fork
@pytest.mark.parametrize("fork", FORKS)
def test_forked_process_computes_the_same_and_does_not_hang(fork):
    run(COMPUTE + FORKS[fork])


@needs_fork
def test_parent_keeps_its_threads_after_a_fork():
    script = "import os; from cyconv import _threads\nif os.fork(): os.wait(); print(_threads.effective(2))"
    assert int(run(script)) == (2 if cpu.openmp else 1)


@pytest.mark.skipif(sys.platform != "linux" or not cpu.openmp, reason="GNU OpenMP only")
@pytest.mark.parametrize("set_by_user, expected", [({}, "3000"), ({"GOMP_SPINCOUNT": "77"}, "77"),
                                                   ({"OMP_WAIT_POLICY": "passive"}, "0")])
def test_threads_wait_shortly_unless_the_user_says_how(set_by_user, expected):
    """Long waits are for threads that other processes keep from running."""
    others = {key: value for key, value in os.environ.items() if not key.startswith(("OMP", "GOMP"))}
    script = ("import os, cyconv\n"
              "print({k: v for k, v in os.environ.items() if k in ('GOMP_SPINCOUNT', 'OMP_WAIT_POLICY')})")
    done = subprocess.run([sys.executable, "-c", script], env=others | set_by_user | {"OMP_DISPLAY_ENV": "verbose"},
                          capture_output=True, text=True, check=True)
    assert f"GOMP_SPINCOUNT = '{expected}'" in done.stderr
    assert done.stdout == f"{set_by_user}\n"
