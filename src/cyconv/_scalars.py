"""What a number or a flag that the user gave may be, and the error for everything else.

A rule is a number's range in words and as a test. Sizes and steps of windows are checked in `_geometry`.
"""

from math import inf
from numbers import Integral, Real

import numpy as np

# Beyond these a number would become infinite or zero in float32 arithmetic.
LARGEST = float(np.finfo(np.float32).max)
SMALLEST = float(np.finfo(np.float32).smallest_subnormal)

FINITE = ("a finite number", lambda v: -LARGEST <= v <= LARGEST)
POSITIVE = ("a number > 0", lambda v: 0 < v <= LARGEST)
POSITIVE_OR_INFINITE = ("a number > 0 or infinity", lambda v: v > 0)
NOT_VANISHING = (f"a number >= {SMALLEST:.2g}", lambda v: SMALLEST <= v <= LARGEST)
NOT_NEGATIVE = ("a number >= 0", lambda v: 0 <= v <= LARGEST)
BELOW_ONE = ("a number in [0, 1)", lambda v: 0 <= v < 1)
UP_TO_ONE = ("a number in [0, 1]", lambda v: 0 <= v <= 1)
COUNT = ("an int >= 1", lambda v: isinstance(v, Integral) and v >= 1)
COUNT_FROM_ZERO = ("an int >= 0", lambda v: isinstance(v, Integral) and v >= 0)


def counted(number, noun):
    """A number of things in words."""
    return f"{number} {noun}{'s' * (number != 1)}"


def is_flag(value):
    return isinstance(value, (bool, np.bool_))


def is_number(value):
    return isinstance(value, Real) and not is_flag(value)


def checked_number(function, name, value, rule):
    """``value``, or an error when it breaks the rule."""
    words, holds = rule
    if type(value) is not float:
        if not is_number(value):
            raise TypeError(f"{function}: {name} must be {words}, got {value!r}")
        value = value.item() if isinstance(value, np.generic) else value
    if not holds(value):
        limit = f", at most {LARGEST:.2g} in size" if LARGEST < abs(value) < inf else ""
        raise ValueError(f"{function}: {name} must be {words}{limit}, got {value!r}")
    return value


def checked_flag(function, name, value):
    """``value`` as a bool."""
    if not is_flag(value):
        raise TypeError(f"{function}: {name} must be True or False, got {value!r}")
    return bool(value)
