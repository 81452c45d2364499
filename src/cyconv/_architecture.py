"""From the parameters of an estimator to the layers of its network, and to plain values and back."""

from . import layers
from .layers import ACTIVATIONS, AvgPool, BatchNorm, Conv, Dense, Dropout, MaxPool
from .network import named_layers

POOLS = {"max": MaxPool, "avg": AvgPool}


def conv_net(input_shape, n_outputs, *, conv_channels, kernel_size, stride, padding, dilation, pool, pool_size,
             activation, batch_norm, dropout, hidden_layer_sizes):
    """Layers of blocks of convolution, normalisation, activation and pooling, then of dense layers.

    ``input_shape`` is (C, *spatial). Pooling windows are cut to the size of the map, so that a map of
    one cell stays one; a convolution that does not fit is a ValueError.
    """
    per_block = zip(*(per_conv_layer(name, value, len(conv_channels)) for name, value in (
        ("kernel_size", kernel_size), ("stride", stride), ("padding", padding), ("dilation", dilation),
        ("pool", pool), ("pool_size", pool_size))))
    result, shape = [], input_shape
    for number, (channels, (kernel, step, pad, spread, kind, size)) in enumerate(zip(conv_channels, per_block), 1):
        conv = Conv(channels, kernel, step, pad, spread, bias=not batch_norm)
        result += [conv, *([BatchNorm()] if batch_norm else []), *activations(activation)]
        shape = shape_after(conv, shape, number)
        if kind is not None:
            pooling = POOLS[kind](cut(size, shape[1:]))
            shape = pooling.output_shape(shape)
            result.append(pooling)
    for units in hidden_layer_sizes:
        result += [*dropouts(dropout), Dense(units), *activations(activation)]
    return [*result, *dropouts(dropout), Dense(n_outputs)]


def shape_after(conv, shape, number):
    try:
        return conv.output_shape(shape)
    except ValueError as error:
        raise ValueError(f"conv layer {number}, {conv!r}, does not fit its input of shape {shape}: {error}") from error


def per_conv_layer(name, value, n_layers):
    """``value`` for each of the convolution layers: itself, or the elements of a sequence."""
    if not isinstance(value, (tuple, list)):
        return [value] * n_layers
    if len(value) != n_layers:
        raise ValueError(f"{name} must be one value or one for each of the {n_layers} conv layers, got {value!r}")
    return value


def activations(name):
    layer = ACTIVATIONS[name]
    return [] if layer is None else [layer()]


def dropouts(rate):
    return [Dropout(rate)] if rate else []


def cut(size, spatial):
    """A pooling window no larger than the map."""
    sizes = size if isinstance(size, (tuple, list)) else (size,) * len(spatial)
    return tuple(min(s, n) for s, n in zip(sizes, spatial))


def describe(network_layers):
    """Layers as [(name, class name, arguments)]: nothing but plain values."""
    return [(name, type(layer).__name__, layer.get_params()) for name, layer in zip(*named_layers(network_layers))]


def restore(description):
    """The [(name, layer)] that `describe` described."""
    return [(name, getattr(layers, kind)(**arguments)) for name, kind, arguments in description]
