"""How long augmenting a batch takes, as a share of the training step that it is for.

    python benchmarks/augmentation.py [--threads N]

float32, the networks of training.py with Adam, interleaved. "geometry" is shift, flip, rotation (not of
signals) and scale; "everything" also noise and a hole. Both are an epoch of BATCHES batches, divided by them, for
training draws the changes of an epoch at once.
"""

import argparse
import os

from timing import interleaved  # isort: skip: sets up the threads of all that follow

import numpy as np
from training import NETWORKS, Cyconv

from cyconv.augmentation import Changes
from cyconv.network import random_stream

SIZES = {"digits": (32, 200), "LeNet-5": (64,), "CIFAR": (64,), "signal": (64,), "volume": (32,)}
BATCHES = 30


def measure(name, batch, n_threads):
    """Microseconds of a step, of the geometry and of everything."""
    layers, shape, _ = NETWORKS[name]
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((batch, *shape), np.float32), rng.integers(0, layers[-1].units, batch)
    geometry = {"shift": 0.1, "flip": "horizontal", "scale": 0.1} | ({"rotate": 10} if len(shape) > 2 else {})
    network = Cyconv(layers, shape, n_threads, np.float32)

    def epoch(how):
        changes = Changes(how, shape[1:], BATCHES * batch, random_stream(0, 0), x.dtype)
        for number in range(BATCHES):
            changes.applied(x, number * batch, False, n_threads)

    times = interleaved({"step": lambda: network.step(x, labels), "geometry": lambda: epoch(geometry),
                         "everything": lambda: epoch(geometry | {"noise": 0.1, "cutout": 0.25})})
    return [1e6 * time.seconds / (1 if name == "step" else BATCHES) for name, time in times.items()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: all")
    n_threads = parser.parse_args().threads
    print(f"float32, {n_threads} threads, microseconds")
    print(f"{'network':8} {'batch':>5} {'step':>9} {'geometry':>9} {'share':>6} {'everything':>11} {'share':>6}")
    for name, batches in SIZES.items():
        for batch in batches:
            step, geometry, everything = measure(name, batch, n_threads)
            print(f"{name:8} {batch:5} {step:9.0f} {geometry:9.0f} {geometry / step:6.0%} {everything:11.0f} "
                  f"{everything / step:6.0%}", flush=True)


if __name__ == "__main__":
    main()
