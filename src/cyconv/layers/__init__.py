"""Layers: what each computes from which shapes, its parameters, its forward pass and its gradient.

A layer holds the literal arguments of its constructor and nothing else. Shapes here are those of one
sample, ``(C, *spatial)`` whatever the layout of the arrays, or ``(F,)`` once there is no map any more;
the number of spatial axes makes a layer 1-D, 2-D or 3-D. ``forward(x, params, mode)`` returns ``y`` and
a function ``backward(dy)`` that returns ``dx`` and the gradients of the parameters; it is a closure over
the arrays of that very call, so no layer stores an activation. What training changes in passing, without
a gradient (`Layer.state_shapes`), comes with the parameters, and forward updates it in place. How layers
are joined is in `network`.
"""

from ._layer import Layer, Mode
from .activation import ACTIVATIONS, ELU, GELU, SELU, Dropout, LeakyReLU, ReLU, Sigmoid, SiLU, Softmax, Tanh
from .conv import Conv, ConvTranspose, DepthwiseConv, LocalConv, SeparableConv, TiledConv
from .dense import Dense, Flatten
from .norm import BatchNorm
from .pool import AdaptivePool, AvgPool, GlobalPool, LpPool, Maxout, MaxPool, MinPool, SumPool

__all__ = [
    "ACTIVATIONS", "ELU", "GELU", "SELU", "AdaptivePool", "AvgPool", "BatchNorm", "Conv", "ConvTranspose", "Dense",
    "DepthwiseConv", "Dropout", "Flatten", "GlobalPool", "Layer", "LeakyReLU", "LocalConv", "LpPool", "MaxPool",
    "Maxout", "MinPool", "Mode", "ReLU", "SeparableConv", "SiLU", "Sigmoid", "Softmax", "SumPool", "Tanh", "TiledConv",
]
