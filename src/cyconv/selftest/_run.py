"""Runs checks for a given time, prints their figures, failures and negative controls."""

import os
import subprocess
import sys
import traceback
from collections import defaultdict
from importlib import import_module
from itertools import count
from time import monotonic

from .. import _config
from .machine import Skipped

MAX_FAILURES = 5        # of one check, then it stops
CONTROL_CASES = 30      # at most, until a planted fault is caught
INTERRUPTED, PIPE_CLOSED = 128 + 2, 128 + 13    # exit status, as shells count signals


class Tally:
    """What a check counted. Its text is the figure of the check."""

    def __init__(self):
        self.counts = defaultdict(int)
        self.kinds = defaultdict(set)
        self.largest = {}
        self.notes = []
        self.memory = {}        # what a check remembers between its cases

    def count(self, what, number=1):
        self.counts[what] += number

    def distinct(self, what, key):
        """Count ``key``, of any type that can be hashed, once."""
        self.kinds[what].add(hash(key))

    def extreme(self, what, value):
        """Keep the largest value."""
        self.largest[what] = max(self.largest.get(what, value), value)

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)

    def __str__(self):
        parts = [f"{len(keys):,} {what}" for what, keys in self.kinds.items()]
        parts += [f"{number:,} {what}" for what, number in self.counts.items()]
        parts += [f"{what} {value:.3g}" for what, value in self.largest.items()]
        return ", ".join(parts + self.notes)


def main(names, seconds, seed):
    """Run the checks one after the other, sharing the seconds equally; 0 if all passed, else 1.

    Each has a process of its own: a crash is the failure of one check, and threads of teams larger than
    the machine, which OpenMP must be told before it is loaded, do not delay each other by spinning.
    """
    config = _config.show_config("dicts")
    print("cyconv {cyconv}, {runnable}, OpenMP {OpenMP}, {compiler}, Python {Python}, NumPy {NumPy}".format(**config))
    passed = 0
    for name in names:
        sys.stdout.flush()
        command = worker(name, seconds / len(names), seed)
        status = subprocess.run(command, env={"OMP_WAIT_POLICY": "passive", **os.environ}).returncode
        passed += status == 0
        if status in (INTERRUPTED, PIPE_CLOSED):
            return status
        if status not in (0, 1):
            print(f"{name:9} FAILED: the process ended with status {status}\n          reproduce: "
                  f"python -m cyconv selftest {name} --seed {seed} --seconds {seconds / len(names)}")
    print(f"{passed} of {len(names)} checks passed")
    return 0 if passed == len(names) else 1


def worker(name, seconds, seed):
    """The command of the process of one check."""
    return [sys.executable, "-X", "faulthandler", "-m", __name__, name, str(seconds), str(seed)]


def run_check(name, seconds, seed):
    check, tally, start = import_module(f"{__package__}.checks.{name}"), Tally(), monotonic()
    try:
        failures, next_seed = run_cases(check, tally, seed, seconds)
        missed = missed_faults(check, seed) if not failures else []
    except Skipped as reason:
        print(f"{name:9} skipped: {reason}", flush=True)
        return True
    passed = not failures and not missed
    print(f"{name:9} {'ok' if passed else 'FAILED'}: {tally}; seeds {seed} to {next_seed - 1}, "
          f"{monotonic() - start:.1f} s", flush=True)
    for number, error in failures:
        print(f"          seed {number}: {shown(error)}\n"
              f"          reproduce: python -m cyconv selftest {name} --seed {number} --seconds 0", flush=True)
    planted = len(check.faults())
    if not failures:
        print(f"          control: {planted - len(missed)} of {planted} planted faults caught"
              + "".join(f"; MISSED: {fault}" for fault in missed), flush=True)
    return passed


def run_cases(check, tally, seed, seconds):
    """At least one case, then more until the time is over; the failures, and the seed that comes next."""
    failures, end = [], monotonic() + seconds
    for number in count(seed):
        if failure := tried(lambda: check.case(number, tally)):     # noqa: B023
            failures.append((number, failure))
        if monotonic() >= end or len(failures) >= MAX_FAILURES:
            break
    if not failures and hasattr(check, "finish") and (failure := tried(lambda: check.finish(tally))):
        failures.append((seed, failure))
    return failures, number + 1


def tried(function):
    """The exception of a function that fails, None of one that does not."""
    try:
        function()
    except Skipped:
        raise
    except Exception as error:
        return error
    return None


def missed_faults(check, seed):
    """Names of the planted faults that no case notices. Only an AssertionError is a notice."""
    missed = []
    for name, fault in check.faults().items():
        with fault:
            if not any(isinstance(tried(lambda: check.case(number, Tally())), AssertionError)     # noqa: B023
                       for number in range(seed, seed + CONTROL_CASES)):
                missed.append(name)
    return missed


def shown(error):
    """An error in one line, with its place unless it is a plain failure of the check."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = "" if isinstance(error, AssertionError) else f" at {place.filename}:{place.lineno}"
    return " ".join(f"{type(error).__name__}: {error}{where}".split())


def status_of(work):
    """What ``work`` returns, or the status of a process that Ctrl-C or a closed pipe ends, without a traceback."""
    try:
        status = work()
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())     # for what is written at the exit
        return PIPE_CLOSED


if __name__ == "__main__":
    sys.exit(status_of(lambda: 0 if run_check(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])) else 1))
