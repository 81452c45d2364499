"""Networks as ONNX graphs, for runtimes without Python: `to_onnx`.

A layer becomes the nodes that a function of this module makes for it; all of them work on (N, C, *spatial), and
windows are those of `_geometry`, written out. The package ``onnx`` is imported when it is needed.
"""

from functools import partial, reduce
from importlib import import_module
from math import inf, prod

import numpy as np

import cyconv

from . import layers
from ._arrays import float_dtype
from ._scalars import checked_flag
from .classifier import ConvNetClassifier
from .functional._borders import cells, mode_named
from .functional._pooling import bin_sizes
from .layers._layer import layer_windows, window_output
from .network import Sequential
from .regressor import ConvNetRegressor

__all__ = ["to_onnx"]

OPSET, IR_VERSION = 20, 9      # of early 2024; the first with all operations used here


def to_onnx(model, *, flattened=False, dtype=np.float32):
    """The network of a fitted estimator, or a `Sequential`, as an ONNX model; needs ``pip install onnx``.

    The model has an input "X" and, for a classifier, the outputs "label" and "probabilities", as skl2onnx gives
    them with ``zipmap=False``; for a regressor "variable"; for a `Sequential` "Y". The number of samples is free.

    Parameters
    ----------
    model : ConvNetClassifier, ConvNetRegressor or Sequential
    flattened : bool, default False
        Whether X is of shape (N, n_features), as behind a `sklearn.preprocessing.StandardScaler`. False: of
        (N, *input_shape), in the layout of ``data_format``.
    dtype : dtype, default float32
        float32 or float64, of X, parameters and outputs. ONNX Runtime convolves float32 only.

    Returns
    -------
    onnx.ModelProto
        Of operator set 20. ``onnx.save(result, path)`` writes it, ``result.SerializeToString()`` is what
        runtimes take.

    Raises
    ------
    ImportError
        If the package onnx is missing.
    NotFittedError
        Before `fit`.
    TypeError, ValueError
        For other models, labels that are no numbers or strings, and layers of which ONNX has no operation:
        `LocalConv` and `TiledConv`.

    References
    ----------
    https://onnx.ai/onnx/operators

    Examples
    --------
    >>> from cyconv import Sequential, to_onnx
    >>> from cyconv.layers import Conv, Dense, ReLU
    >>> model = to_onnx(Sequential([Conv(4), ReLU(), Dense(10)], (1, 8, 8)))
    >>> [node.op_type for node in model.graph.node]
    ['Conv', 'Relu', 'Flatten', 'Gemm', 'Identity']
    """
    dtype, flattened = float_dtype("to_onnx", dtype), checked_flag("to_onnx", "flattened", flattened)
    if not isinstance(model, (ConvNetClassifier, ConvNetRegressor, Sequential)):
        raise TypeError("to_onnx: model must be a ConvNetClassifier, ConvNetRegressor or Sequential, got "
                        f"{type(model).__name__}; of a pipeline or search pass the estimator it ends with")
    network = model if isinstance(model, Sequential) else model.to_sequential()
    shape = (prod(network.input_shape),) if flattened else network.input_shape
    graph = Graph(dtype)
    y = network_nodes(graph, network, graph.input("X", shape), flattened)
    if isinstance(model, ConvNetClassifier):
        classifier_nodes(graph, model, y)
    else:
        y = restored(graph, network, y) if isinstance(model, Sequential) else y
        graph.output("Y" if isinstance(model, Sequential) else "variable", y, network._as_stored(network.shapes[-1]))
    return graph.model()


class Graph:
    """Nodes and constants in the order in which they were made."""

    def __init__(self, dtype):
        try:
            self.onnx = import_module("onnx")
        except ImportError as error:
            raise ImportError("to_onnx needs the package onnx; install it with: python -m pip install onnx") from error
        self.dtype, self.prefix = dtype, ""
        self.nodes, self.constants, self.inputs, self.outputs = [], [], [], []

    def node(self, operation, *inputs, name=None, **attributes):
        """Add a node; returns the name of its result. Arrays among the inputs become constants."""
        name = name or f"{self.prefix}/{operation}{len(self.nodes)}"
        inputs = [self.constant(value) if isinstance(value, np.ndarray) else value for value in inputs]
        self.nodes.append(self.onnx.helper.make_node(operation, inputs, [name], name, **attributes))
        return name

    def constant(self, value, name=None):
        value = value.astype(self.dtype) if value.dtype.kind == "f" else value
        name = name or f"{self.prefix}/constant{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(value, name))
        return name

    def input(self, name, shape):
        self.inputs.append(self._value(name, self.dtype, shape))
        return name

    def output(self, name, value, shape, dtype=None):
        self.node("Identity", value, name=name)
        self.outputs.append(self._value(name, dtype or self.dtype, shape))

    def _value(self, name, dtype, shape):
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.onnx.helper.make_tensor_value_info(name, kind, ["N", *shape])

    def model(self):
        helper = self.onnx.helper
        graph = helper.make_graph(self.nodes, "cyconv", self.inputs, self.outputs, self.constants)
        return helper.make_model(graph, producer_name="cyconv", producer_version=cyconv.__version__,
                                 ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])


# ---------------------------------------------------------------- networks and outputs


def network_nodes(graph, network, x, flattened):
    """Outputs of the last layer, in the order (N, C, *spatial)."""
    graph.prefix, parameters = "input", network.parameters()
    if flattened and len(network.input_shape) > 1:
        x = graph.node("Reshape", x, np.array([-1, *network.input_shape]))
    if network.data_format == "channels_last" and len(network.input_shape) > 1:
        rank = len(network.input_shape)
        x = graph.node("Transpose", x, perm=[0, rank, *range(1, rank)])
    for name, layer, shape in zip(network.names, network.layers, network.shapes):
        graph.prefix = name
        own = {key.rpartition(".")[2]: graph.constant(value, key) for key, value in parameters.items()
               if key.rpartition(".")[0] == name}
        make = MAKERS.get(type(layer))
        if make is None:
            raise ValueError(f"to_onnx: ONNX has no operation for layer {name!r}, {layer!r}")
        x = make(graph, layer, shape, x, own)
    graph.prefix = "output"
    return x


def restored(graph, network, y):
    """y with the channels where the network has them."""
    rank = len(network.shapes[-1])
    if network.data_format == "channels_first" or rank == 1:
        return y
    return graph.node("Transpose", y, perm=[0, *range(2, rank + 1), 1])


def classifier_nodes(graph, model, y):
    n_classes = len(model.classes_)
    if model.multilabel_:
        labels = graph.node("Cast", graph.node("Greater", y, np.array(0.0)), to=graph.onnx.TensorProto.INT64)
        graph.output("label", labels, (n_classes,), np.int64)
        graph.output("probabilities", graph.node("Sigmoid", y), (n_classes,))
        return
    classes = plain_labels(model.classes_)
    graph.output("label", graph.node("Gather", classes, graph.node("ArgMax", y, axis=1, keepdims=0)), (),
                 graph.dtype if classes.dtype.kind == "f" else classes.dtype)
    graph.output("probabilities", graph.node("Softmax", y, axis=1), (n_classes,))


def plain_labels(classes):
    """Labels as ONNX knows them: int64, booleans, floats or strings."""
    if all(isinstance(label, str) for label in classes):
        return classes.astype(object)
    if classes.dtype.kind in "iu":
        return classes.astype(np.int64)
    if classes.dtype.kind in "bf":
        return classes
    raise TypeError(f"to_onnx: labels must be numbers or strings, got {classes!r:.200}")


# ---------------------------------------------------------------- convolutions


def convolution(graph, layer, shape, x, own):
    return convolved(graph, layer, shape, x, shape[0] // layer.group_shape(shape)[1], own["weight"], own.get("bias"))


def separable(graph, layer, shape, x, own):
    x = convolved(graph, layer, shape, x, shape[0], own["depthwise_weight"])
    weight = graph.node("Unsqueeze", own["pointwise_weight"], np.arange(2, len(shape) + 1))
    return graph.node("Conv", x, weight, *optional(own.get("bias")))


def convolved(graph, layer, shape, x, groups, weight, bias=None):
    windows = layer_windows(layer.name, layer, shape)
    pads = [(w.low, w.high) for w in windows]
    mode = mode_named(layer.name, layer.padding_mode)
    if mode != "zeros":
        for axis, (n, (low, high)) in enumerate(zip(shape[1:], pads), 2):
            x = graph.node("Gather", x, cells(mode, range(-low, n + high), n), axis=axis)
        pads = [(0, 0)] * len(pads)
    return graph.node("Conv", x, weight, *optional(bias), group=groups, **steps(windows), pads=in_onnx_order(pads))


def transposed(graph, layer, shape, x, own):
    windows, outputs = layer.windows(shape)
    pads = [(w.low, max(w.high, 0)) for w in windows]
    extra = [o - ((n - 1) * w.stride - low - high + w.extent)
             for o, n, w, (low, high) in zip(outputs, shape[1:], windows, pads)]
    return graph.node("ConvTranspose", x, own["weight"], *optional(own.get("bias")), group=layer.groups,
                      **steps(windows), pads=in_onnx_order(pads), output_padding=extra)


def steps(windows):
    return {"kernel_shape": [w.kernel for w in windows], "strides": [w.stride for w in windows],
            "dilations": [w.dilation for w in windows]}


def in_onnx_order(pairs):
    """[low, high] per axis as all lows, then all highs."""
    lows, highs = zip(*pairs)
    return [*lows, *highs]


def optional(bias):
    return () if bias is None else (bias,)


def dense(graph, layer, shape, x, own):
    rows = graph.node("Flatten", x) if len(shape) > 1 else x
    return graph.node("Gemm", rows, own["weight"], *optional(own.get("bias")), transB=1)


# ---------------------------------------------------------------- pooling


def pooled(operation, border, graph, layer, shape, x):
    """Pool windows of x, whose borders are filled with a number: ONNX pads less and rounds otherwise."""
    windows = layer_windows(type(layer).__name__, layer, shape)
    outputs = window_output(type(layer).__name__, layer, shape)
    pads = [(w.low, max((o - 1) * w.stride + w.extent - n - w.low, 0))
            for w, n, o in zip(windows, shape[1:], outputs)]
    if any(map(any, pads)):
        x = graph.node("Pad", x, np.array(in_onnx_order([(0, 0), (0, 0), *pads])), np.array(border))
    return graph.node(operation, x, **steps(windows)), windows, outputs


def max_pool(graph, layer, shape, x, own=None):
    return pooled("MaxPool", -inf, graph, layer, shape, x)[0]


def min_pool(graph, layer, shape, x, own):
    return graph.node("Neg", max_pool(graph, layer, shape, graph.node("Neg", x)))


def avg_pool(graph, layer, shape, x, own):
    y, windows, outputs = pooled("AveragePool", 0.0, graph, layer, shape, x)
    include = layer.count_include_pad
    counts = [[count for _, count in w.taps_in(-w.low if include else 0, n + w.high if include else n, o)]
              for w, n, o in zip(windows, shape[1:], outputs)]
    return scaled(graph, y, prod(w.kernel for w in windows) / reduce(np.multiply.outer, map(np.array, counts)))


def sum_pool(graph, layer, shape, x, own=None):
    y, windows, _ = pooled("AveragePool", 0.0, graph, layer, shape, x)
    return scaled(graph, y, np.array(float(prod(w.kernel for w in windows))))


def scaled(graph, x, factor):
    return x if (factor == 1).all() else graph.node("Mul", x, factor)


def lp_pool(graph, layer, shape, x, own):
    return norm(graph, layer.p, x, *(partial(pool, graph, layer, shape) for pool in (max_pool, sum_pool)))


def norm(graph, p, x, largest, total):
    """(sum |x|**p) ** (1 / p), from functions that add nodes for the largest and the sum."""
    x = graph.node("Abs", x)
    if p == inf:
        return graph.node("Max", largest(x), np.array(0.0))
    return graph.node("Pow", total(graph.node("Pow", x, np.array(float(p)))), np.array(1.0 / p))


def global_pool(graph, layer, shape, x, own):
    axes = np.arange(2, len(shape) + 1)

    def reduction(operation):
        return lambda x: graph.node(operation, x, axes, keepdims=0)

    if layer.kind == "lp":
        return norm(graph, layer.p, x, reduction("ReduceMax"), reduction("ReduceSum"))
    return reduction({"avg": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin", "sum": "ReduceSum"}[layer.kind])(x)


def adaptive_pool(graph, layer, shape, x, own):
    """Equal bins are windows; others are cut out axis by axis, since all of them are boxes."""
    is_mean, sizes = layer.kind == "avg", bin_sizes("AdaptivePool", layer.output_size, shape[1:])
    if not any(n % o for n, o in zip(shape[1:], sizes)):
        kernel = [n // o for n, o in zip(shape[1:], sizes)]
        return graph.node("AveragePool" if is_mean else "MaxPool", x, kernel_shape=kernel, strides=kernel)
    for axis, (n, o) in enumerate(zip(shape[1:], sizes), 2):
        bins = [graph.node("Slice", x, *(np.array([value]) for value in (i * n // o, -(-(i + 1) * n // o), axis)))
                for i in range(o)]
        parts = [graph.node("ReduceMean" if is_mean else "ReduceMax", part, np.array([axis])) for part in bins]
        x = graph.node("Concat", *parts, axis=axis)
    return x


def maxout(graph, layer, shape, x, own):
    groups = graph.node("Reshape", x, np.array([0, shape[0] // layer.pieces, layer.pieces, *shape[1:]]))
    return graph.node("ReduceMax", groups, np.array([2]), keepdims=0)


# ---------------------------------------------------------------- value by value


def one_node(operation, *arguments, **constants):
    """For a layer that is one operation, some of whose attributes are arguments of the layer."""
    def make(graph, layer, shape, x, own):
        return graph.node(operation, x, **{new: getattr(layer, old) for new, old in arguments}, **constants)

    return make


def silu(graph, layer, shape, x, own):
    return graph.node("Mul", x, graph.node("Sigmoid", x))


def batch_norm(graph, layer, shape, x, own):
    weight, bias = own.get("weight", np.ones(shape[0])), own.get("bias", np.zeros(shape[0]))
    return graph.node("BatchNormalization", x, weight, bias, own["running_mean"], own["running_var"], epsilon=layer.eps)


def unchanged(graph, layer, shape, x, own):
    return x


MAKERS = {
    layers.Conv: convolution, layers.DepthwiseConv: convolution, layers.SeparableConv: separable,
    layers.ConvTranspose: transposed, layers.Dense: dense, layers.Flatten: one_node("Flatten"),
    layers.MaxPool: max_pool, layers.MinPool: min_pool, layers.AvgPool: avg_pool, layers.SumPool: sum_pool,
    layers.LpPool: lp_pool, layers.GlobalPool: global_pool, layers.AdaptivePool: adaptive_pool, layers.Maxout: maxout,
    layers.ReLU: one_node("Relu"), layers.LeakyReLU: one_node("LeakyRelu", ("alpha", "negative_slope")),
    layers.ELU: one_node("Elu", ("alpha", "alpha")), layers.SELU: one_node("Selu"),
    layers.GELU: one_node("Gelu", ("approximate", "approximate")), layers.SiLU: silu,
    layers.Sigmoid: one_node("Sigmoid"), layers.Tanh: one_node("Tanh"), layers.Softmax: one_node("Softmax", axis=1),
    layers.BatchNorm: batch_norm, layers.Dropout: unchanged,
}
