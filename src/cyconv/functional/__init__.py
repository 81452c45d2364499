"""The functions: arrays in, arrays out, and their gradients. Names without a digit take any rank."""

from . import (
    activation,
    convolution,
    depthwise,
    image,
    matrix,
    normalization,
    pooling,
    probability,
    tiled,
    transposed,
    views,
)
from .activation import *  # noqa: F403
from .convolution import *  # noqa: F403
from .depthwise import *  # noqa: F403
from .image import *  # noqa: F403
from .matrix import *  # noqa: F403
from .normalization import *  # noqa: F403
from .pooling import *  # noqa: F403
from .probability import *  # noqa: F403
from .tiled import *  # noqa: F403
from .transposed import *  # noqa: F403
from .views import *  # noqa: F403

__all__ = [
    *convolution.__all__, *transposed.__all__, *depthwise.__all__, *tiled.__all__,
    *pooling.__all__, *activation.__all__, *normalization.__all__, *probability.__all__,
    *views.__all__, *matrix.__all__, *image.__all__,
]
