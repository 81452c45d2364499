"""The same operations in other libraries: whatever is installed of them.

PyTorch takes contiguous arrays ("torch first") and channels-last ones ("torch last"). ONNX Runtime and
OpenVINO run a prepared model of one operation: their weights are packed beforehand and their results go
to an array that exists already. So do cyconv's where it is compared with them, if the operation has out=.
NumPy stands for what is written by hand: im2col, one matrix product of BLAS, and loops over the taps for
the way back.
"""

from importlib import import_module
from importlib.util import find_spec
from itertools import product, starmap
from math import prod

from timing import unbound  # isort: skip: sets up the threads of all that follow

import numpy as np
from shapes import per_axis


def installed(name):
    return import_module(name) if find_spec(name) else None


torch = installed("torch")
with unbound():
    onnx, onnxruntime, openvino, cv2 = map(installed, ("onnx", "onnxruntime", "openvino", "cv2"))
scipy = installed("scipy.signal") and installed("scipy")

NAMES = [name for name, module in (("torch first", torch), ("torch last", torch), ("onnxruntime", onnxruntime),
                                   ("openvino", openvino), ("opencv", cv2)) if module] + ["numpy", "scipy"]


IN_PLACE = ("onnxruntime", "openvino")      # those whose result is an array that exists


def use_threads(n_threads):
    """Threads of what has a setting of its own; PyTorch from now on without its gradients."""
    if torch:
        torch.set_num_threads(n_threads)
        torch.inference_mode(True).__enter__()
    if cv2:
        cv2.setNumThreads(n_threads)


def in_layouts(array):
    """Tensors with the values of an array of channels first, in both memory layouts."""
    last = np.ascontiguousarray(np.moveaxis(array, 1, -1))
    return torch.from_numpy(array), torch.from_numpy(last).movedim(-1, 1)


def torch_conv(shape, x, weight, bias, grad):
    """For each layout the calls of the three passes."""
    if not torch:
        return {}
    forward = getattr(torch.nn.functional, f"conv{'_transpose' if shape.transposed else ''}{shape.rank}d")
    lists = [per_axis(value, shape.rank) for value in (shape.stride, shape.padding, shape.dilation)]
    bias = torch.from_numpy(bias)

    def calls(x, weight, grad):
        def backward(*mask):
            return torch.ops.aten.convolution_backward(grad, x, weight, [shape.k], *lists, shape.transposed,
                                                       [0] * shape.rank, shape.groups, mask)

        return (lambda: forward(x, weight, bias, **shape.options), lambda: backward(True, False, False)[0],
                lambda: backward(False, True, True)[1:])

    return dict(zip(("torch first", "torch last"), starmap(calls, zip(*map(in_layouts, (x, weight, grad))))))


def prepared(operation, x, constants, attributes, y_shape, n_threads):
    """One operation of ONNX as a call of each runtime that is installed; they have it in float32 only."""
    if not onnx or x.dtype != np.float32:
        return {}
    make = onnx.helper
    node = make.make_node(operation, ["x", *constants], ["y"], **attributes)
    graph = make.make_graph(
        [node], operation, *([make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)]
                             for name, shape in (("x", x.shape), ("y", y_shape))),
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9).SerializeToString()
    with unbound():
        return {name: run(model, x, y_shape, n_threads) for name, runtime, run in (
            ("onnxruntime", onnxruntime, run_by_onnxruntime), ("openvino", openvino, run_by_openvino)) if runtime}


def run_by_onnxruntime(model, x, y_shape, n_threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.add_session_config_entry("session.force_spinning_stop", "1")    # after a run, not within it
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding, y = session.io_binding(), onnxruntime.OrtValue.ortvalue_from_numpy(np.empty(y_shape, x.dtype))
    binding.bind_cpu_input("x", x)
    binding.bind_ortvalue_output("y", y)

    def run():
        session.run_with_iobinding(binding)
        return y

    run()
    return run


def run_by_openvino(model, x, y_shape, n_threads):
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model, b""), "CPU", {
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": n_threads, "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "f32"})    # otherwise bfloat16 where the processor has it
    request, y = compiled.create_infer_request(), np.empty(y_shape, x.dtype)
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
    request.set_output_tensor(openvino.Tensor(y, shared_memory=True))

    def run():
        request.infer()
        return y

    run()
    return run


def prepared_conv(shape, x, weight, bias, n_threads):
    strides, dilations, pads = (per_axis(value, shape.rank) for value in (shape.stride, shape.dilation, shape.padding))
    attributes = {"strides": strides, "dilations": dilations, "pads": 2 * pads, "group": shape.groups}
    found = prepared("ConvTranspose" if shape.transposed else "Conv", x, {"w": weight, "b": bias}, attributes,
                     shape.y_shape, n_threads)
    return {name: [call] for name, call in found.items()}


def torch_pool(shape, kind, x, grad):
    """For each layout the calls of the passes that `pool.py` names."""
    if not torch:
        return {}
    how = (shape.kernel, shape.stride, shape.padding)

    def calls(x, grad):
        if kind == "avg":
            return {"avg": lambda: torch.nn.functional.avg_pool2d(x, *how),
                    "avg back": lambda: torch.ops.aten.avg_pool2d_backward(
                        grad, x, *([value] * 2 for value in how), False, True, None)}
        _, where = torch.nn.functional.max_pool2d(x, *how, return_indices=True)
        return {"max": lambda: torch.nn.functional.max_pool2d(x, *how),
                "max indices": lambda: torch.nn.functional.max_pool2d(x, *how, return_indices=True),
                "max back": lambda: torch.ops.aten.max_pool2d_with_indices_backward(
                    grad, x, *([value] * 2 for value in how), [1, 1], False, where)}

    return dict(zip(("torch first", "torch last"), starmap(calls, zip(*map(in_layouts, (x, grad))))))


def prepared_pool(shape, kind, x, n_threads):
    attributes = {"kernel_shape": [shape.kernel] * 2, "strides": [shape.stride] * 2, "pads": [shape.padding] * 4}
    operation = "AveragePool" if kind == "avg" else "MaxPool"
    attributes |= {"count_include_pad": 1} if kind == "avg" else {}
    found = prepared(operation, x, {}, attributes, shape.y_shape, n_threads)
    return {name: {kind: call} for name, call in found.items()}


class Im2col:
    """Convolution by one matrix product of the weights with the columns of all windows."""

    def __init__(self, shape):
        self.shape = shape
        self.pads = [(pad, pad) for pad in per_axis(shape.padding, shape.rank)]

    def calls(self, x, weight, bias, grad):
        """Forward, gradient of x, gradients of the parameters; a transposed convolution is an adjoint."""
        bias, others = bias.reshape(-1, *[1] * self.shape.rank), (0, *range(2, 2 + self.shape.rank))
        if self.shape.transposed:
            return (lambda: self.adjoint(x, weight, grad.shape) + bias, lambda: self.product(grad, weight),
                    lambda: (self.grad_weight(x, grad, weight.shape), grad.sum(axis=others)))
        return (lambda: self.product(x, weight) + bias, lambda: self.adjoint(grad, weight, x.shape),
                lambda: (self.grad_weight(grad, x, weight.shape), grad.sum(axis=others)))

    def columns(self, x):
        """All windows as an array (N, groups, C / groups * taps, outputs), and the outputs per axis."""
        shape, spatial = self.shape, range(2, 2 + self.shape.rank)
        extents = [(size - 1) * shape.dilation + 1 for size in shape.kernel]
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, [(0, 0), (0, 0), *self.pads]), extents, spatial)
        steps = [slice(None, None, step) for step in (shape.stride, shape.dilation) for _ in spatial]
        windows = windows[(slice(None), slice(None), *steps)]
        outputs, taps = windows.shape[2:2 + shape.rank], range(2 + shape.rank, windows.ndim)
        return windows.transpose(0, 1, *taps, *spatial).reshape(len(x), shape.groups, -1, prod(outputs)), outputs

    def matrix(self, weight):
        return weight.reshape(self.shape.groups, len(weight) // self.shape.groups, -1)

    def product(self, x, weight):
        columns, outputs = self.columns(x)
        return (self.matrix(weight) @ columns).reshape(len(x), len(weight), *outputs)

    def grad_weight(self, grad, x, weight_shape):
        columns, outputs = self.columns(x)
        rows = grad.reshape(len(x), self.shape.groups, -1, prod(outputs))
        return (rows @ columns.swapaxes(-1, -2)).sum(axis=0).reshape(weight_shape)

    def adjoint(self, grad, weight, x_shape):
        """Add the column of each tap to the cells that the tap meets."""
        outputs = grad.shape[2:]
        rows = grad.reshape(len(grad), self.shape.groups, -1, prod(outputs))
        columns = (self.matrix(weight).swapaxes(-1, -2) @ rows).reshape(*x_shape[:2], -1, *outputs)
        sizes = [size + 2 * pad for size, (pad, _) in zip(x_shape[2:], self.pads)]
        padded = np.zeros((*x_shape[:2], *sizes), grad.dtype)
        for index, tap in enumerate(product(*map(range, self.shape.kernel))):
            starts = [position * self.shape.dilation for position in tap]
            padded[(..., *[slice(start, start + count * self.shape.stride, self.shape.stride)
                           for start, count in zip(starts, outputs)])] += columns[:, :, index]
        return padded[(..., *[slice(pad, pad + size) for size, (pad, _) in zip(x_shape[2:], self.pads)])]


def filters(image, kernel):
    """What filters one plain image, with zeros around it."""
    found = {"opencv": lambda: cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_CONSTANT)} if cv2 else {}
    if scipy:
        found["scipy"] = lambda: scipy.signal.correlate2d(image, kernel, "same")
    return found
