"""What makes an implementation a public function: checks for every kind of call, once.

An implementation checks what the user gave and returns `Checked`: the arrays and what is left to do with them.
`_kernels.front` keeps that for later calls of the same text, which then run it on their arrays at once.
"""

import inspect
from functools import cache

import numpy as np

from .._kernels import front


class Checked:
    """A call whose arguments fit: ``compute(*arrays)`` is its result.

    ``compute`` knows everything about the arrays but their values and addresses. The arrays are those of the
    call, in the order of its parameters and None for what was not given; or what they were converted to.
    """

    __slots__ = "compute", "arrays"

    def __init__(self, compute, *arrays):
        self.compute, self.arrays = compute, arrays

    def result(self):
        return self.compute(*self.arrays)

    def takes(self, given):
        """Whether the arrays are the given ones, none of them converted, in the same order."""
        own = [array for array in self.arrays if array is not None]
        return len(own) == len(given) and all(a is b for a, b in zip(own, given))

    def of_given(self):
        """``compute`` as a function of the given arrays alone."""
        compute, is_given = self.compute, [array is not None for array in self.arrays]
        if is_given == sorted(is_given, reverse=True):      # nothing is missing, or only at the end
            return compute

        def spread(*arrays):
            rest = iter(arrays)
            return compute(*(next(rest) if there else None for there in is_given))

        return spread


def public(implementation, name=None, leading=()):
    """``implementation``, which returns a result or `Checked`, without its ``leading`` arguments."""
    name = name or implementation.__name__

    def function(*args, **kwargs):
        return front.call(name, first, args, kwargs)

    def first(text, args, kwargs):
        """A call of a text that is not known, or None."""
        try:
            checked = implementation(*leading, *args, **kwargs)
        except TypeError:
            check_arguments(name, function.__signature__, args, kwargs)
            raise
        if not isinstance(checked, Checked):
            return checked
        result = checked.result()
        if text is not None and checked.takes([a for a in (*args, *kwargs.values()) if isinstance(a, np.ndarray)]):
            front.keep(text, checked.of_given())
        return result

    function.__signature__ = signature_of(implementation, len(leading))
    function.__name__ = function.__qualname__ = name
    function.__module__, function.__doc__ = implementation.__module__, implementation.__doc__
    return function


@cache
def signature_of(implementation, n_leading):
    """Its signature from parameter ``n_leading`` on; one object for all ranks, for it takes 30 us to make."""
    signature = inspect.signature(implementation)
    return signature.replace(parameters=list(signature.parameters.values())[n_leading:])


def check_arguments(name, signature, args, kwargs):
    """Say in terms of the public name which argument is missing, unknown or too many."""
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        keywords = ", ".join(p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY)
        raise TypeError(f"{name}: {error}" + (f"; {keywords} are keyword-only" if keywords else "")) from None
