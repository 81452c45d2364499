"""Forked processes with a time limit."""

import faulthandler
import os
import pickle
import signal
from select import select


class Hang(AssertionError):
    """A child did not end in time."""


def in_child(function, seconds=60):
    """What ``function`` returns in a forked child. Its failures are raised here; `Hang` when it takes too long."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        faulthandler.disable()      # a crash is reported by the status, planted ones are many
        try:
            outcome = (function(), None)
        except BaseException as error:
            kind = AssertionError if isinstance(error, AssertionError) else RuntimeError
            outcome = (None, kind(f"in a forked child: {type(error).__name__}: {error}"))
        try:
            os.write(writer, pickle.dumps(outcome))
        finally:
            os._exit(0)
    os.close(writer)
    try:
        is_ready, _, _ = select([reader], [], [], seconds)
        data = os.read(reader, 1 << 16) if is_ready else b""
    finally:
        os.close(reader)
        if not is_ready:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if not is_ready:
        raise Hang(f"a forked child did not end within {seconds} s")
    if not data:
        raise AssertionError(f"a forked child ended with status {status}")
    value, error = pickle.loads(data)
    if error is not None:
        raise error
    return value

