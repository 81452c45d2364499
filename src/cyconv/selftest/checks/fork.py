"""Forked processes train and predict the same bits and never hang, however and whenever they were forked."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from threading import Event, Thread
from unittest import mock

from ... import _threads
from .. import machine, training
from ..processes import Hang, in_child

PATIENCE = 60.0     # seconds until a child counts as hanging
IN_PARENT = {"n_jobs": 2, "max_iter": 1}


@cache
def expected():
    """Trained here, by a team of threads: from then on a child could hang."""
    return training.trained_digest(**IN_PARENT)


def trained():
    if _threads.effective(2) != 1 and prevents_teams:
        raise AssertionError("a forked process would use a team of threads")
    return training.trained_digest(**IN_PARENT)


prevents_teams = True


def by_os_fork():
    return in_child(trained, PATIENCE)


def by_pool():
    with multiprocessing.get_context("fork").Pool(1) as pool, hangs_killed():
        return pool.apply_async(trained).get(PATIENCE)


def by_executor():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool, hangs_killed():
        return pool.submit(trained).result(PATIENCE)


@contextmanager
def hangs_killed():
    """Workers that do not answer in time are killed: who leaves their pool would wait for them."""
    try:
        yield
    except (TimeoutError, multiprocessing.TimeoutError) as error:
        for process in multiprocessing.active_children():
            process.kill()
        raise Hang(f"a forked worker did not end within {PATIENCE} s") from error


def in_a_thread():
    found = []
    worker = Thread(target=lambda: found.append(by_os_fork()))
    worker.start()
    worker.join()
    return found[0]


def while_a_kernel_runs():
    """Another thread computes all the time, with a team."""
    is_over, has_begun = Event(), Event()

    def compute():
        while not is_over.is_set():
            training.trained_digest(**IN_PARENT)
            has_begun.set()

    worker = Thread(target=compute)
    worker.start()
    has_begun.wait()
    try:
        return by_os_fork()
    finally:
        is_over.set()
        worker.join()


def fork_of_a_fork():
    return in_child(by_os_fork, PATIENCE)


PATTERNS = (by_os_fork, by_pool, by_executor, in_a_thread, while_a_kernel_runs, fork_of_a_fork)


def case(seed, tally):
    if not hasattr(os, "fork"):
        raise machine.Skipped("this system has no fork")
    pattern = PATTERNS[seed % len(PATTERNS)]
    want = expected()
    if (found := pattern()) != want:
        raise AssertionError(f"{pattern.__name__}: trained {found} instead of {want}")
    tally.count("forks" if pattern is not fork_of_a_fork else "forks of forks")
    tally.distinct("patterns", pattern.__name__)
    tally.note("no hang, the same bits in all")


@contextmanager
def as_openmp_is():
    """The child forgets that it was forked, so that it waits for threads that the fork left behind."""
    global prevents_teams, PATIENCE
    expected()
    before, prevents_teams, PATIENCE = PATIENCE, False, 3.0
    forgetful = mock.patch.object(_threads, "effective", lambda *_: 2)
    with forgetful:
        yield
    prevents_teams, PATIENCE = True, before


def faults():
    return {"a team of OpenMP in a forked process": as_openmp_is()} if _threads.effective(2) > 1 else {}
