"""Layers: what each computes from which shapes, its parameters, its forward pass and its gradient.

A layer holds the literal arguments of its constructor and nothing else. Shapes here are those of one
sample, ``(C, *spatial)`` whatever the layout of the arrays, or ``(F,)`` once there is no map any more;
the number of spatial axes makes a layer 1-D, 2-D or 3-D. ``forward(x, params, mode)`` returns ``y`` and
a function ``backward(dy)`` that returns ``dx`` and the gradients of the parameters; it is a closure over
the arrays of that very call, so no layer stores an activation. How layers are joined is in `network`.
"""

from ._layer import Layer, Mode
from .activation import Dropout, ReLU
from .conv import Conv, ConvTranspose, DepthwiseConv, LocalConv, SeparableConv, TiledConv
from .dense import Dense, Flatten
from .pool import AvgPool, MaxPool

__all__ = [
    "AvgPool", "Conv", "ConvTranspose", "Dense", "DepthwiseConv", "Dropout", "Flatten", "Layer", "LocalConv", "MaxPool",
    "Mode", "ReLU", "SeparableConv", "TiledConv",
]
