"""What subnormal numbers cost: training steps whose weights or inputs lie in that range, against ordinary ones.

    python benchmarks/denormals.py [--threads N] [--only NAME ...] [--quick]

The networks of training.py with Adam. Each step starts from the same parameters, multiplied by a number so
small that they, the inputs or both are subnormal; the first step of Adam then moves them back into range.
"""

from timing import interleaved  # isort: skip: sets up the threads of all that follow

import numpy as np
import report
from training import NETWORKS, RATE

from cyconv import Sequential
from cyconv.optimizers import Adam

FACTORS = {np.float32: 1e-40, np.float64: 1e-310}
WHAT = {"ordinary": (False, False), "weights": (True, False), "inputs": (False, True), "both": (True, True)}


def step_of(layers, shape, batch, dtype, tiny_weights, tiny_inputs, n_threads):
    """A training step from the same state every time."""
    rng = np.random.default_rng(0)
    network = Sequential(layers, shape, dtype=dtype, random_state=0)
    x, labels = rng.standard_normal((batch, *shape)).astype(dtype), rng.integers(0, network.shapes[-1][0], batch)
    network.vector[...] *= FACTORS[dtype] if tiny_weights else 1
    x *= FACTORS[dtype] if tiny_inputs else 1
    start = network.vector.copy()

    def step():
        network.vector[...] = start
        gradient = network.training_step(x, labels, n_threads=n_threads)[1]
        Adam(network.vector, RATE).step(gradient, n_threads=n_threads)

    return step


def main():
    options = report.parse(__doc__)
    print(f"{options.threads} threads; times of a training step over that with ordinary numbers")
    print(f"{'network':12} {'dtype':8} {'ms':>9}" + "".join(f"{name:>10}" for name in list(WHAT)[1:]))
    for name in report.chosen(NETWORKS, options.only):
        for dtype in FACTORS:
            steps = {what: step_of(*NETWORKS[name], dtype, *tiny, options.threads) for what, tiny in WHAT.items()}
            times = interleaved(steps, options.rounds)
            usual = times.pop("ordinary").seconds
            print(f"{name:12} {np.dtype(dtype).name:8} {usual * 1e3:9.3f}"
                  + "".join(f"{time.seconds / usual:10.2f}" for time in times.values()), flush=True)


if __name__ == "__main__":
    main()
