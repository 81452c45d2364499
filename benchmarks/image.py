"""One filter on one grey image, against OpenCV, PyTorch, ONNX Runtime, OpenVINO and SciPy.

    python benchmarks/image.py [--threads N] [--only NAME ...] [--quick] [--json FILE]

README.md explains the columns of the table.
"""

from contest import Contest  # isort: skip: sets up the threads of all that follow

import numpy as np
import rivals
from shapes import FILTERS, Conv

import cyconv


def main():
    contest = Contest("image", __doc__)
    for shape, dtype in contest.chosen(FILTERS):
        rng = np.random.default_rng(0)
        image, kernel = (rng.standard_normal(size).astype(dtype) for size in (shape.size, (shape.kernel,) * 2))
        conv = Conv(shape.name, 1, 1, shape.size, 1, kernel.shape, shape.reason, padding=shape.kernel // 2)
        arrays = image[None, None], kernel[None, None], np.zeros(1, dtype), image[None, None]
        calls = {"plane": lambda image=image, kernel=kernel: cyconv.correlate(
            image, kernel, "same", n_threads=contest.threads)}
        found = rivals.torch_conv(conv, *arrays) | rivals.prepared_conv(conv, *arrays[:3], contest.threads)
        calls |= {name: passes[0] for name, passes in found.items()}
        contest.add(shape, "filter", dtype, calls | rivals.filters(image, kernel))
    contest.finish()


if __name__ == "__main__":
    main()
