"""The functions: arrays in, arrays out, and their gradients. Names without a digit take any rank."""

from .conv import ConvGrads, conv, conv2d, conv2d_backward, conv2d_grad_input, conv2d_grad_weight, conv_backward
from .pointwise import log_softmax, relu, relu_backward, softmax
from .pool import (
    avg_pool,
    avg_pool2d,
    avg_pool2d_backward,
    avg_pool_backward,
    max_pool,
    max_pool2d,
    max_pool2d_backward,
    max_pool_backward,
)

__all__ = [
    "ConvGrads",
    "avg_pool",
    "avg_pool2d",
    "avg_pool2d_backward",
    "avg_pool_backward",
    "conv",
    "conv2d",
    "conv2d_backward",
    "conv2d_grad_input",
    "conv2d_grad_weight",
    "conv_backward",
    "log_softmax",
    "max_pool",
    "max_pool2d",
    "max_pool2d_backward",
    "max_pool_backward",
    "relu",
    "relu_backward",
    "softmax",
]
