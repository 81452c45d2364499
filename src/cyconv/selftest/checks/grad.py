"""Gradients are adjoint to their functions without a tolerance, and those of whole networks agree with differences."""

from random import Random

import numpy as np

from ... import layers
from ...losses import squared_error
from ...network import Sequential
from .. import machine
from ..cases import bordered, depthwise, local, plain, tiled, transposed
from ..cases._case import prepared, results

LINEAR = (plain, bordered, transposed, tiled, local, depthwise)
STEPS = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
RTOL = 1e-6


def case(seed, tally):
    for _ in machine.instruction_sets():
        adjoint(LINEAR[seed % len(LINEAR)], seed, tally)
        differences(seed, tally)


def adjoint(family, seed, tally):
    """<conv(x, w), dy> = <x, dx> = <w, dw> in integers, which no rounding disturbs."""
    forward, _, grad_input, grad_weight = family(seed)
    x, weight, dy = (forward.arguments["x"], forward.arguments["weight"], grad_input.arguments["grad_out"])
    without_bias = forward._replace(arguments=forward.arguments | {"bias": None})
    for dtype in machine.FLOATS:
        y, dx, dweight = (results(call, prepared(call, dtype, "channels_first"))[0].astype(np.int64)
                          for call in (without_bias, grad_input, grad_weight))
        products = [int((a * b).sum()) for a, b in ((y, dy), (x, dx), (weight, dweight))]
        if len(set(products)) > 1:
            raise AssertionError(f"products {products} of {forward.function} differ, {forward.geometry}")
    tally.distinct("geometries of adjoint convolutions", (family.__name__, forward.geometry))


def differences(seed, tally):
    """The derivative of a network's loss along a random direction, by central differences in float64.

    A step that carries an activation over its kink says nothing, so one of several steps must agree.
    """
    network, x, targets = random_network(seed)
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal(network.vector.size)
    _, gradient = network.loss_and_gradient(x, targets, loss=squared_error)
    expected, start, closest = gradient @ direction, network.vector.copy(), np.inf
    scale = np.linalg.norm(gradient) * np.linalg.norm(direction) / np.sqrt(direction.size)
    state = network.state.copy()
    for step in STEPS:
        values = []
        for sign in (1, -1):
            network.vector[:], network.state[:] = start + sign * step * direction, state
            values.append(network.loss_and_gradient(x, targets, loss=squared_error)[0])
        closest = min(closest, abs((values[0] - values[1]) / (2 * step) - expected) / scale)
    tally.count("networks")
    tally.extreme("largest relative difference from a numerical gradient", closest)
    if not closest <= RTOL:
        raise AssertionError(f"gradient of {network.layers} is off by {closest:.3g}")


def random_network(seed):
    """Layers, of every kind over many seeds, in float64, with a batch and targets."""
    rng = Random(seed)
    rank = rng.choice((1, 2, 2, 3))
    shape = (rng.randint(1, 3), *(rng.randint(5, 9 if rank < 3 else 6) for _ in range(rank)))
    padding = rng.choice(("same", 1))
    mode = rng.choice(("zeros", "reflect", "wrap"))
    convolutions = [
        layers.Conv(4, padding=padding, padding_mode=mode), layers.DepthwiseConv(2, padding=padding),
        layers.SeparableConv(3, padding=padding), layers.TiledConv(3, padding=padding),
        layers.LocalConv(2, padding=padding), layers.ConvTranspose(3, stride=2),
        layers.Conv(4, kernel_size=2, dilation=2)]
    pools = [layers.MaxPool(), layers.MinPool(), layers.AvgPool(), layers.SumPool(), layers.LpPool(p=3),
             layers.AdaptivePool(2), layers.AdaptivePool(2, "max"), layers.GlobalPool("avg"), layers.GlobalPool("max")]
    activations = [layers.ReLU(), layers.LeakyReLU(0.1), layers.ELU(), layers.SELU(), layers.GELU(), layers.SiLU(),
                   layers.Sigmoid(), layers.Tanh()]
    first, second, third = (rng.choice(activations) for _ in range(3))
    chosen = [rng.choice(convolutions), layers.BatchNorm(), first, rng.choice(convolutions[:5]), second,
              rng.choice(pools), layers.Dropout(0.25), layers.Dense(5), third, layers.Dense(3)]
    network = Sequential(chosen, shape, dtype=np.float64, random_state=seed)
    numbers = np.random.default_rng(seed)
    network.vector += 0.1 * numbers.standard_normal(network.vector.size)     # where all is dropped, no bias of 0
    return network, numbers.standard_normal((4, *shape)), numbers.standard_normal((4, 3))


def faults():
    """The last bit of one gradient of one compiled module."""
    return {f"last bit of the weight gradient of {name}":
            machine.spoiled(module, "conv_grad_weight", machine.add_one(2))
            for name, module in machine.kernel_modules().items()}
