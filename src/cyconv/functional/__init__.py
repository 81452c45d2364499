"""The functions: arrays in, arrays out, and their gradients. Names without a digit take any rank."""

from . import activation, convolution, pooling
from .activation import *  # noqa: F403
from .convolution import *  # noqa: F403
from .pooling import *  # noqa: F403

__all__ = [*convolution.__all__, *pooling.__all__, *activation.__all__]
