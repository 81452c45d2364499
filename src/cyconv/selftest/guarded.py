"""Arrays whose last, or first, element lies beside a page of memory that may not be touched."""

import ctypes
import mmap
import sys
from collections import defaultdict, deque
from contextlib import contextmanager
from math import prod
from unittest import mock

import numpy as np

from .machine import Skipped


def references(memories):
    """To the first of them."""
    return sys.getrefcount(memories[0])


UNUSED = references(deque([object()]))


class Guarded:
    """Allocates such arrays; the first access beyond one ends the process."""

    def __init__(self, at_end):
        if not hasattr(mmap, "PROT_READ"):
            raise Skipped("this system has no mprotect")
        self.at_end = at_end
        self.mprotect = ctypes.CDLL(None).mprotect
        self.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
        self.memories = defaultdict(deque)      # by size

    def empty(self, shape, dtype=float, order="C"):
        shape = tuple(shape) if np.iterable(shape) else (shape,)
        n_bytes = prod(shape) * np.dtype(dtype).itemsize
        size = -(-max(n_bytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
        offset = mmap.PAGESIZE + (size - n_bytes if self.at_end else 0)
        return np.ndarray(shape, dtype, self.memory(size), offset, order=order)

    def memory(self, size):
        """Between protected pages. What no array uses any more is taken again: system calls are slow."""
        known = self.memories[size]
        if known and references(known) == UNUSED:
            known.rotate(-1)
            return known[-1]
        memory = mmap.mmap(-1, size + 2 * mmap.PAGESIZE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for page in (start, start + mmap.PAGESIZE + size):
            if self.mprotect(page, mmap.PAGESIZE, 0):
                raise Skipped("this system protects no pages")
        known.append(memory)
        return memory

    def zeros(self, shape, dtype=float, order="C"):
        result = self.empty(shape, dtype, order)
        result[...] = 0
        return result

    def copy(self, array):
        result = self.empty(array.shape, array.dtype)
        result[...] = array
        return result

    @contextmanager
    def everywhere(self):
        """All arrays that cyconv makes are such arrays."""
        with mock.patch.multiple(np, empty=self.empty, zeros=self.zeros,
                                 empty_like=lambda a: self.empty(a.shape, a.dtype),
                                 zeros_like=lambda a: self.zeros(a.shape, a.dtype)):
            yield
