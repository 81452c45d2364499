"""What a call costs beside its arithmetic, the import, memory over many shapes, what a second thread gives, and what
a second process takes.

    python benchmarks/overhead.py [--threads N] [--only NAME ...] [--quick] [--json FILE]

Each row says what it should be; calls are compared with PyTorch's.
"""

from timing import interleaved, status, unbound  # isort: skip: sets up the threads of all that follow

import os
import subprocess
import sys
import time
from functools import partial
from statistics import median

import numpy as np
import report
import rivals
from shapes import CONV

import cyconv

FIT = """
import time
from sklearn.datasets import load_digits
from cyconv import ConvNetClassifier
X, y = load_digits(return_X_y=True)
model = ConvNetClassifier(input_shape=(64,), max_iter=10, random_state=0)
model.fit(X[:64], y[:64])
begin = time.perf_counter()
model.fit(X, y)
print(time.perf_counter() - begin)
"""


def calls(options):
    """Microseconds of a call whose arithmetic takes next to nothing."""
    x, weight, dy = (np.ones((1, 1, n, n), np.float32) for n in (8, 3, 6))
    own = {
        "conv2d": lambda: cyconv.conv2d(x, weight),
        "conv2d_grad_input": lambda: cyconv.conv2d_grad_input(dy, weight, (1, 1, 8, 8)),
        "conv2d_backward": lambda: cyconv.conv2d_backward(dy, x, weight),
        "max_pool2d": lambda: cyconv.max_pool2d(x, 2),
        "avg_pool2d": lambda: cyconv.avg_pool2d(x, 2),
        "relu": lambda: cyconv.relu(x),
        "relu_backward": lambda: cyconv.relu_backward(x, x),
        "softmax": lambda: cyconv.softmax(x),
    }
    theirs = torch_calls(*map(rivals.torch.from_numpy, (x, weight, dy))) if rivals.torch else {}
    both = own | {f"torch {name}": call for name, call in theirs.items()}
    times = {name: 1e6 * time.seconds for name, time in interleaved(both, options.rounds).items()}
    for name in own:
        yield f"call {name}", times[name], "us", "<= 1.5", times.get(f"torch {name}")


def torch_calls(x, weight, dy):
    """The same in PyTorch, and those gradients that it has as functions."""
    functions, aten = rivals.torch.nn.functional, rivals.torch.ops.aten

    def backward(*mask):
        return aten.convolution_backward(dy, x, weight, [1], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, mask)

    return {
        "conv2d": lambda: functions.conv2d(x, weight),
        "conv2d_grad_input": lambda: backward(True, False, False),
        "conv2d_backward": lambda: backward(True, True, True),
        "max_pool2d": lambda: functions.max_pool2d(x, 2),
        "avg_pool2d": lambda: functions.avg_pool2d(x, 2),
        "relu": lambda: functions.relu(x),
        "relu_backward": lambda: aten.threshold_backward(x, x, 0),
        "softmax": lambda: functions.softmax(x, -1),
    }


def imports(options):
    """Milliseconds that a new interpreter needs for ``import cyconv`` beyond ``import numpy``."""
    seconds = {"pass": [], "import numpy": [], "import cyconv": []}
    for _ in range(3 * options.rounds):
        for code, found in seconds.items():
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            found.append(1e3 * (time.perf_counter() - begin))
    start, numpy, own = map(median, seconds.values())
    yield "import numpy", numpy - start, "ms", "", None
    yield "import cyconv after numpy", own - numpy, "ms", "<= 30", None


def shapes(options):
    """Growth of the process over 10,000 calls with 1,000 shapes, after each shape has been seen once."""
    rng = np.random.default_rng(0)
    data, weight = np.ones(4 * 40 * 65, np.float32), np.ones((8, 4, 3, 3), np.float32)
    sizes = [(height, width) for height in range(15, 40) for width in range(25, 65)]

    def call(height, width):
        x = data[:4 * height * width].reshape(1, 4, height, width)
        cyconv.max_pool2d(cyconv.conv2d(x, weight, padding=1, n_threads=options.threads), 2, n_threads=options.threads)

    for size in sizes:
        call(*size)
    before = status("VmRSS")
    for index in rng.integers(0, len(sizes), 10_000):
        call(*sizes[index])
    yield "growth over 10,000 calls", (status("VmRSS") - before) / 1e6, "MB", "<= 1", None


def scaling(options):
    """What all threads give over one where arithmetic is the bound."""
    for shape in report.chosen(CONV, ("mnist-[23]", "vgg-56", "vgg-224", "resnet-s2")):
        call = partial(cyconv.conv2d, np.ones(shape.x_shape, np.float32), np.ones(shape.weight_shape, np.float32),
                       **shape.options)
        times = interleaved({n: partial(call, n_threads=n) for n in (1, options.threads)}, options.rounds)
        yield (f"threads {shape.name}", times[1].seconds / times[options.threads].seconds, "x",
               f">= {0.95 * options.threads:.2f}", None)


def processes(options):
    """Seconds of a fit of digits, as signals, alone and in two processes at once, each with all threads."""
    as_usual = {key: value for key, value in os.environ.items() if key != "OMP_PROC_BIND"}

    def slowest(count):
        with unbound():
            running = [subprocess.Popen([sys.executable, "-W", "ignore", "-c", FIT], env=as_usual, text=True,
                                        stdout=subprocess.PIPE) for _ in range(count)]
        return max(float(process.communicate()[0]) for process in running)

    alone = slowest(1)
    yield "fit, one process", alone, "s", "", None
    yield "fit, two processes at once", slowest(2), "s", f"<= {10 * alone:.2f}", None


def main():
    options = report.parse(__doc__)
    rivals.use_threads(options.threads)
    parts = {function.__name__: function for function in (calls, imports, shapes, scaling, processes)}
    print(f"{'what':32} {'value':>8}    {'should be':10} {'torch':>8} {'x torch':>8}")
    for name in report.chosen(parts, options.only):
        for label, value, unit, target, rival in parts[name](options):
            print(f"{label:32} {value:8.2f} {unit:2} {target:10}"
                  + (f" {rival:8.2f} {rival / value:8.2f}" if rival else ""), flush=True)
            if options.json:
                report.save(options.json, [{"benchmark": "overhead", "name": label, "threads": options.threads,
                                            "value": value, "unit": unit, "target": target, "torch": rival}])


if __name__ == "__main__":
    main()
