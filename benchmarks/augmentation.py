"""How long augmenting a batch takes, as a share of the training step that it is for.

    python benchmarks/augmentation.py [--threads N]

float32, the networks of training.py with Adam, interleaved. "geometry" is shift, flip, rotation (not of
signals) and scale; "everything" also noise and a hole.
"""

import argparse
import os

from timing import interleaved  # isort: skip: sets up the threads of all that follow

import numpy as np
from training import NETWORKS, Cyconv

from cyconv.augmentation import augment
from cyconv.network import random_stream

BATCHES = {"digits": (32, 200), "LeNet-5": (64,), "CIFAR": (64,), "signal": (64,), "volume": (32,)}


def measure(name, batch, n_threads):
    """Timings of a step, of the geometry and of everything."""
    layers, shape, _ = NETWORKS[name]
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((batch, *shape), np.float32), rng.integers(0, layers[-1].units, batch)
    geometry = {"shift": 0.1, "flip": "horizontal", "scale": 0.1} | ({"rotate": 10} if len(shape) > 2 else {})
    network, stream = Cyconv(layers, shape, n_threads, np.float32), random_stream(0, 0)
    return interleaved({
        "step": lambda: network.step(x, labels),
        "geometry": lambda: augment(x, geometry, stream, n_threads=n_threads),
        "everything": lambda: augment(x, geometry | {"noise": 0.1, "cutout": 0.25}, stream, n_threads=n_threads)})


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: all")
    n_threads = parser.parse_args().threads
    print(f"float32, {n_threads} threads, microseconds")
    print(f"{'network':8} {'batch':>5} {'step':>9} {'geometry':>9} {'share':>6} {'everything':>11} {'share':>6}")
    for name, batches in BATCHES.items():
        for batch in batches:
            step, geometry, everything = (1e6 * time.seconds for time in measure(name, batch, n_threads).values())
            print(f"{name:8} {batch:5} {step:9.0f} {geometry:9.0f} {geometry / step:6.0%} {everything:11.0f} "
                  f"{everything / step:6.0%}", flush=True)


if __name__ == "__main__":
    main()
