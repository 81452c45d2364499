"""From the parameters of an estimator to the layers of its network, and to plain values and back."""

import warnings
from itertools import zip_longest

from ._plain import arguments, layer_of
from .layers import (
    ACTIVATIONS,
    AdaptivePool,
    AvgPool,
    BatchNorm,
    Conv,
    ConvTranspose,
    Dense,
    DepthwiseConv,
    Dropout,
    Flatten,
    GlobalPool,
    LeakyReLU,
    LocalConv,
    LpPool,
    Maxout,
    MaxPool,
    MinPool,
    ReLU,
    SeparableConv,
    Softmax,
    SumPool,
    TiledConv,
)
from .network import named_layers

POOLS = {"max": MaxPool, "avg": AvgPool}
PARAMETERS = ("kernel_size", "stride", "padding", "dilation", "pool", "pool_size", "activation", "batch_norm",
              "dropout")
HOMOGENEOUS = (AdaptivePool, AvgPool, Dropout, Flatten, GlobalPool, LeakyReLU, LpPool, MaxPool, Maxout, MinPool, ReLU,
               SumPool)                                   # f(a x) = a f(x) for a > 0
LINEAR = {Conv: "weight", ConvTranspose: "weight", Dense: "weight", DepthwiseConv: "weight", LocalConv: "weight",
          SeparableConv: "depthwise_weight", TiledConv: "weight"}     # in all of which x is multiplied by the weight


def architecture_of(estimator, shape, n_outputs):
    """Layers that an estimator's parameters describe, for samples of ``shape`` as the arrays hold them."""
    if estimator.layers is not None:
        name, last = estimator.layers[-1] if estimator.layers else (None, None)
        if isinstance(last, Dense) and last.units == n_outputs:
            return estimator.layers
        what = f"The 'layers' parameter of {type(estimator).__name__}"
        if isinstance(last, Softmax):
            raise ValueError(f"{what}: leave out the last layer, {name!r}, Softmax: the estimator adds the layer of "
                             "outputs behind it, and where probabilities are due, the loss and predict_proba make them")
        if "output" in dict(estimator.layers):
            raise ValueError(f"{what}: 'output' is the name of the layer Dense({n_outputs}) that is added; call yours "
                             f"otherwise, or end with a Dense({n_outputs}) of your own")
        if looks_like_output([layer for _, layer in estimator.layers], n_outputs):
            warnings.warn(f"{what}: a layer Dense({n_outputs}) is added behind the last one, {name!r}, {last!r}; for "
                          f"outputs of your own end with Dense({n_outputs})", UserWarning, stacklevel=5)
        return [*estimator.layers, ("output", Dense(n_outputs))]
    channels_first = shape if estimator.data_format == "channels_first" else (shape[-1], *shape[:-1])
    return conv_net(channels_first, n_outputs, conv_channels=as_tuple(estimator.conv_channels),
                    hidden_layer_sizes=as_tuple(estimator.hidden_layer_sizes),
                    **{name: getattr(estimator, name) for name in PARAMETERS})


def looks_like_output(layers, n_outputs):
    """Whether the last of some layers was meant for outputs: a Dense, or a function of one unit or one for each."""
    before, last = [None, None, *layers][-2:]
    is_function = last is not None and type(last) in ACTIVATIONS.values()
    return isinstance(last, Dense) or is_function and isinstance(before, Dense) and before.units in (1, n_outputs)


def as_tuple(sizes):
    return tuple(sizes) if isinstance(sizes, (tuple, list)) else (sizes,)


def conv_net(input_shape, n_outputs, *, conv_channels, kernel_size, stride, padding, dilation, pool, pool_size,
             activation, batch_norm, dropout, hidden_layer_sizes):
    """Layers of blocks of convolution, normalisation, activation and pooling, then of dense layers.

    ``input_shape`` is (C, *spatial). Pooling windows are cut to the size of the map, so that a map of
    one cell stays one; a convolution that does not fit is a ValueError.
    """
    n_blocks, n_hidden = len(conv_channels), len(hidden_layer_sizes)
    per_block = zip(*(per_layer(name, value, n_blocks, "conv") for name, value in (
        ("kernel_size", kernel_size), ("stride", stride), ("padding", padding), ("dilation", dilation),
        ("pool", pool), ("pool_size", pool_size), ("batch_norm", batch_norm))))
    functions = per_layer("activation", activation, n_blocks + n_hidden, "conv and hidden")
    rates = per_layer("dropout", dropout, n_hidden + 1, "dense")
    result, shape = [], input_shape
    for number, (channels, function, of_block) in enumerate(zip(conv_channels, functions, per_block), 1):
        kernel, step, pad, spread, kind, size, is_normed = of_block
        conv = Conv(channels, kernel, step, pad, spread, bias=not is_normed)
        result += [conv, *([BatchNorm()] if is_normed else []), *activations(function)]
        shape = shape_after(conv, shape, number)
        if kind is not None:
            pooling = POOLS[kind](cut(size, shape[1:]))
            shape = pooling.output_shape(shape)
            result.append(pooling)
    for units, function, rate in zip(hidden_layer_sizes, functions[n_blocks:], rates):
        result += [*dropouts(rate), Dense(units), *activations(function)]
    return [*result, *dropouts(rates[-1]), Dense(n_outputs)]


def shape_after(conv, shape, number):
    try:
        return conv.output_shape(shape)
    except ValueError as error:
        raise ValueError(f"conv layer {number}, {conv!r}, does not fit its input of shape {shape}: {error}") from error


def per_layer(name, value, n_layers, which):
    """``value`` for each of the layers: itself, or the elements of a sequence."""
    if not isinstance(value, (tuple, list)):
        return [value] * n_layers
    if len(value) != n_layers:
        raise ValueError(f"{name} must be one value or one for each of the {n_layers} {which} layers, got {value!r}")
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
    return [(name, type(layer).__name__, arguments(layer)) for name, layer in zip(*named_layers(network_layers))]


def restore(description):
    """The [(name, layer)] that `describe` described; ValueError for what it does not write."""
    return [(name, layer_of(kind, values)) for name, kind, values in description]


def first_difference(one, other):
    """The first layers in which two descriptions differ, None where one has ended."""
    return next((a, b) for a, b in zip_longest(one, other) if a != b)


def input_weights(network):
    """Names of the weights that a multiple of the input could be a multiple of instead: one, or none."""
    for name, layer in zip(network.names, network.layers):
        if type(layer) in LINEAR:
            return [f"{name}.{LINEAR[type(layer)]}"]
        if type(layer) not in HOMOGENEOUS:
            break
    return []


def output_parameters(network):
    """Names of the parameters of the last layer, whose rows an output is a multiple of."""
    return [f"{network.names[-1]}.{name}" for name in ("weight", "bias") if name == "weight" or network.layers[-1].bias]
