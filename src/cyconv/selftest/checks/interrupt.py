"""Ctrl-C ends training within 250 ms at any moment, and training again gives what a fresh estimator gives."""

import os
import signal
import threading
from contextlib import contextmanager
from functools import cache
from random import Random
from time import perf_counter, sleep
from unittest import mock

from ... import network
from .. import machine, training

LIMIT = 0.25        # seconds
LONG = {"max_iter": 10**6, "tol": 0.0, "n_iter_no_change": 10**6, "n_jobs": 2}


@cache
def expected():
    return training.trained_digest()


def case(seed, tally):
    """One fit that would last for hours, interrupted within its first 0.3 s."""
    if threading.current_thread() is not threading.main_thread():
        raise machine.Skipped("signals reach the main thread only")
    estimator, sent = training.estimator(**LONG), []

    def interrupt():
        sleep(Random(seed).uniform(0.001, 0.3))
        sent.append(perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    worker = threading.Thread(target=interrupt)
    try:
        with machine.quietly():
            worker.start()
            training.fitted(estimator)
    except KeyboardInterrupt:
        pass
    finally:
        ended = perf_counter()
        worker.join()
        signal.signal(signal.SIGINT, before)
    delay = ended - sent[0]
    tally.count("interrupted fits")
    tally.extreme("longest milliseconds from the signal to the end of the fit", 1000 * delay)
    if delay > LIMIT:
        raise AssertionError(f"the fit ended {delay:.3f} s after the signal")
    if (found := training.digest(training.fitted(estimator.set_params(**short())))) != expected():
        raise AssertionError(f"training again gives {found} instead of {expected()}")


def short():
    fresh = training.estimator().get_params()
    return {name: fresh[name] for name in LONG}


@contextmanager
def deaf():
    """Steps that take 0.6 s without a look at signals, as one long compiled call would."""
    expected()
    step = network.Sequential.training_step

    def slow(self, *arguments, **options):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        sleep(0.6)
        result = step(self, *arguments, **options)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        return result

    with mock.patch.object(network.Sequential, "training_step", slow):
        yield


def faults():
    return {"a step of 0.6 s without a look at signals": deaf()}
