"""Maximum and mean pooling and their gradients against PyTorch, ONNX Runtime and OpenVINO.

    python benchmarks/pool.py [--threads N] [--only NAME ...] [--quick] [--json FILE]

"max indices" returns the place of each maximum too, as training needs it. README.md explains the
columns of the table.
"""

from contest import Contest  # isort: skip: sets up the threads of all that follow

import numpy as np
import rivals
from shapes import POOL

import cyconv


def ours(shape, kind, x, grad, layout, n_threads):
    """A call for each pass."""
    if layout == "channels_last":
        x, grad = (np.ascontiguousarray(np.moveaxis(array, 1, -1)) for array in (x, grad))
    how, keywords = (shape.kernel, shape.stride, shape.padding), {"data_format": layout, "n_threads": n_threads}
    if kind == "avg":
        return {"avg": lambda: cyconv.avg_pool2d(x, *how, **keywords),
                "avg back": lambda: cyconv.avg_pool2d_backward(grad, x.shape, *how, **keywords)}
    _, where = cyconv.max_pool2d(x, *how, return_indices=True, **keywords)
    return {"max": lambda: cyconv.max_pool2d(x, *how, **keywords),
            "max indices": lambda: cyconv.max_pool2d(x, *how, return_indices=True, **keywords),
            "max back": lambda: cyconv.max_pool2d_backward(grad, where, x.shape, **keywords)}


def main():
    contest = Contest("pool", __doc__)
    for shape, dtype in contest.chosen(POOL):
        rng = np.random.default_rng(0)
        x, grad = (rng.standard_normal(size).astype(dtype) for size in (shape.x_shape, shape.y_shape))
        for kind in ("max", "avg"):
            found = {layout: ours(shape, kind, x, grad, layout, contest.threads)
                     for layout in ("channels_first", "channels_last")}
            found |= rivals.torch_pool(shape, kind, x, grad) | rivals.prepared_pool(shape, kind, x, contest.threads)
            for which in found["channels_first"]:
                calls = {name: passes[which] for name, passes in found.items() if which in passes}
                contest.add(shape, which, dtype, calls)
    contest.finish()


if __name__ == "__main__":
    main()
