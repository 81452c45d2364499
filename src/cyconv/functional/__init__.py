"""The functions: arrays in, arrays out, and their gradients. Names without a digit take any rank."""

from . import (
    activation,
    adaptive_pooling,
    convolution,
    custom_pooling,
    depthwise,
    global_pooling,
    image,
    matrix,
    norm_pooling,
    normalization,
    pooling,
    probability,
    tiled,
    transposed,
    unpooling,
    views,
)
from .activation import *  # noqa: F403
from .adaptive_pooling import *  # noqa: F403
from .convolution import *  # noqa: F403
from .custom_pooling import *  # noqa: F403
from .depthwise import *  # noqa: F403
from .global_pooling import *  # noqa: F403
from .image import *  # noqa: F403
from .matrix import *  # noqa: F403
from .norm_pooling import *  # noqa: F403
from .normalization import *  # noqa: F403
from .pooling import *  # noqa: F403
from .probability import *  # noqa: F403
from .tiled import *  # noqa: F403
from .transposed import *  # noqa: F403
from .unpooling import *  # noqa: F403
from .views import *  # noqa: F403

__all__ = [
    *convolution.__all__, *transposed.__all__, *depthwise.__all__, *tiled.__all__,
    *pooling.__all__, *norm_pooling.__all__, *adaptive_pooling.__all__, *global_pooling.__all__,
    *custom_pooling.__all__, *unpooling.__all__,
    *activation.__all__, *normalization.__all__, *probability.__all__,
    *views.__all__, *matrix.__all__, *image.__all__,
]
