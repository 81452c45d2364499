"""Networks on blocks of samples: the bits of the layers one by one, on every instruction set, and exact gradients."""

import weakref

import numpy as np
import pytest

from cyconv import Sequential, _kernels
from cyconv._blocks import n_leading
from cyconv.layers import (
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Flatten,
    GlobalPool,
    MaxPool,
    MinPool,
    ReLU,
    SumPool,
    Tanh,
)
from cyconv.losses import softmax_cross_entropy
from cyconv.selftest.arrays import assert_same_bits, in_layout
from cyconv.selftest.geometries import convolution

BATCHES = 14, 32, 45, 64
SHAPES = {"1D": (3, 21), "2D": (2, 11, 9), "3D": (1, 7, 6, 8)}
GEOMETRIES = 400
BLOCK = 20


def networks():
    """(name, layers) of which all layers before Flatten run on blocks."""
    yield "max", [Conv(5, 3, padding="same"), ReLU(), MaxPool(2), Conv(17, 2, dilation=1), Tanh(), Flatten(), Dense(3)]
    yield "mean", [Conv(16, 2, stride=2), ReLU(), AvgPool(2, stride=1, padding=1), GlobalPool("avg"), Dense(3)]
    yield "groups", [Conv(6, 1), MinPool(2), Conv(4, 2, groups=2, bias=False), ReLU(), SumPool(2, stride=1), Dense(3)]
    yield "maxima", [Conv(5, 2, padding=1), ReLU(), MaxPool(3), Conv(20, 2, padding=1, dilation=2), MaxPool(2), ReLU(),
                     Conv(7, 1, bias=False), ReLU(), Dense(3)]
    yield "sums", [Conv(600, 1), ReLU(), MaxPool(2), Conv(4, 2), ReLU(), MaxPool(2, stride=1), Conv(2, 1), Dense(3)]
    yield "filters", [Conv(40, 3, padding=1), ReLU(), Conv(33, 3, padding="same"), ReLU(), GlobalPool("max"), Dense(3)]


def samples(shape, n, dtype, data_format="channels_first"):
    rng = np.random.default_rng(n)
    return in_layout(rng.standard_normal((n, *shape)).astype(dtype), data_format), rng.integers(0, 3, n)


def network_of(layers, x, data_format="channels_first"):
    return Sequential(layers, x.shape[1:], dtype=x.dtype, data_format=data_format, random_state=0)


@pytest.mark.parametrize("layers", [pytest.param(layers, id=name) for name, layers in networks()])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("n", BATCHES)
def test_outputs_and_losses_are_the_bits_of_the_layers_one_by_one(layers, shape, n, isa, dtype, data_format):
    x, labels = samples(shape, n, dtype, data_format)
    network = network_of(layers, x, data_format)
    y, backward = network.forward(x, training=True)
    loss, dy = softmax_cross_entropy(y, labels)
    expected = backward(dy)[1]
    found, gradient = network.training_step(x, labels, n_threads=3)
    assert_same_bits(network.forward(x)[0], y)
    assert_same_bits(np.concatenate([network.forward(x[:1])[0], network.forward(x[1:])[0]]), y)
    assert found == loss
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=200 * np.finfo(dtype).eps * np.abs(expected).max())


@pytest.mark.parametrize("layers", [pytest.param(layers, id=name) for name, layers in networks()])
@pytest.mark.parametrize("rank, n", [("2D", 60), ("1D", 15)])
def test_gradients_have_the_same_bits_for_all_threads_and_instruction_sets_with_fma(layers, rank, n, every_isa, dtype,
                                                                                    threads_at_any_size):
    x, labels = samples(SHAPES[rank], n, dtype)
    network = network_of(layers, x)
    found = {}
    for name in every_isa:
        _kernels.use(name)
        found |= {(name, n): network.loss_and_gradient(x, labels, n_threads=n)[1] for n in (1, 2, 3, 5)}
    for (name, n), gradient in found.items():
        first = "baseline" if name == "baseline" else every_isa[-1]
        assert_same_bits(gradient, found[first, 1], name, n)


def exact(network, x, dy):
    """Gradient of a training step and of the layers one by one, for the gradient dy of the outputs."""
    expected = network.forward(x, training=True)[1](dy)[1]
    return network.training_step(x, None, loss=lambda y, targets, weight: (0.0, dy))[1], expected


@pytest.mark.parametrize("block", range(GEOMETRIES // BLOCK))
def test_gradients_are_exact_on_integers(block, every_isa, threads_at_any_size):
    """Of two convolutions of random geometries, the first of 1x1 windows: weights, biases and what lies between."""
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        geometry = convolution(seed)
        if geometry.batch == 0 or any(window.input_dilation > 1 for window in geometry.windows):
            continue
        n = 40 + seed % 25 if seed % 3 else 13 + seed % 4
        rng = np.random.default_rng(seed)
        parameters = {key: geometry.parameters[key] for key in ("stride", "dilation", "padding", "groups")}
        for name, dtype in ((name, dtype) for name in every_isa for dtype in (np.float32, np.float64)):
            _kernels.use(name)
            layers = [Conv(geometry.x_shape[1], 1), Conv(geometry.y_shape[1], geometry.weight_shape[2:], **parameters)]
            x = rng.integers(-2, 3, (n, 1 + seed % 3, *geometry.sizes)).astype(dtype)
            if not x.size or x[0].size * geometry.x_shape[1] > 20_000:
                break
            network = network_of(layers, x)
            network.vector[:] = rng.integers(-2, 3, network.vector.size)
            dy = rng.integers(-2, 3, (n, *network.shapes[-1])).astype(dtype)
            found, expected = exact(network, x, dy)
            assert np.array_equal(found, expected), (seed, name, dtype, geometry)


@pytest.mark.parametrize("shape, filters", [((2, 11, 9), 5), ((1, 40), 200), ((2, 3, 4, 5), 3), ((1, 2, 2), 33)])
@pytest.mark.parametrize("n", [45, 64, 300, 1100])
def test_dense_layers_have_the_bits_of_the_layers_one_by_one(shape, filters, n, isa, dtype, data_format,
                                                             threads_at_any_size):
    """Their gradients too: on blocks or not, samples are summed in the same slots."""
    x, labels = samples(shape, n, dtype, data_format)
    network = network_of([Conv(filters, 1), ReLU(), Dense(13), Tanh(), Dense(130, bias=False), ReLU(), Dense(3)], x,
                         data_format)
    y, backward = network.forward(x, training=True)
    expected = backward(softmax_cross_entropy(y, labels)[1])[1]
    for n_threads in (1, 2, 5):
        found = network.training_step(x, labels, n_threads=n_threads)[1]
        for name, places in zip(network.names, network._slices):
            for place in places.values() if name.startswith("dense") else ():
                assert_same_bits(found[place], expected[place], name, n_threads)


@pytest.mark.parametrize("filters", [3, 40])
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_infinite_gradients_never_meet_the_border(filters, value, isa, dtype):
    """An infinity times a zero of the border would be no number."""
    x, _ = samples(SHAPES["2D"], 64, dtype)
    network = network_of([Conv(filters, 3, padding="same"), Flatten()], x)
    dy = np.zeros((64, filters, *x.shape[2:]), dtype)
    dy[33, 1, 0, 0] = dy[5, 2, -1, 3] = value
    with np.errstate(invalid="ignore"):
        found, expected = exact(network, x, dy.reshape(64, -1))
    assert np.array_equal(found, expected, equal_nan=True)


def test_networks_of_convolutions_run_on_blocks_that_are_filled():
    shapes = [(1, 8, 8), (16, 8, 8), (16, 8, 8), (16, 4, 4)]
    layers = [Conv(16, 3, padding="same"), ReLU(), MaxPool(2), Dense(10)]
    for dtype, samples_of_block in (("float32", 16), ("float64", 8)):
        pays = [n for n in range(3 * samples_of_block) if n_leading(layers, shapes, n, np.dtype(dtype)) == 4]
        assert pays == [n for blocks in range(1, 4) for n in range(
            int(0.8 * blocks * samples_of_block) + 1, min(blocks * samples_of_block + 1, 3 * samples_of_block))]


@pytest.mark.parametrize("layer", [BatchNorm(), Conv(16, 3, padding="same", padding_mode="reflect")], ids=repr)
def test_other_layers_before_a_convolution_keep_the_network_in_its_own_layout(layer):
    layers = [Conv(16, 3, padding="same"), layer, Conv(4, 3)]
    assert n_leading(layers, [(1, 8, 8), (16, 8, 8), (16, 8, 8)], 64, np.dtype("f4")) == 0


def test_places_without_a_sample_change_nothing_whatever_they_held(dtype):
    """A last block of few samples after full ones, with values that overflow when multiplied by weights."""
    x, labels = samples(SHAPES["2D"], 64, dtype)
    network = network_of(dict(networks())["max"], x)
    expected = network.loss_and_gradient(x[:60], labels[:60])
    huge = np.full_like(x, np.finfo(dtype).max)
    with np.errstate(all="ignore"):
        network.forward(huge)
        network.loss_and_gradient(huge, labels)
        network.loss_and_gradient(huge[:60], labels[:60])
    loss, gradient = network.loss_and_gradient(x[:60], labels[:60])
    assert loss == expected[0]
    assert_same_bits(gradient, expected[1])


@pytest.mark.parametrize("layers", [pytest.param(layers, id=name) for name, layers in networks()])
def test_no_batch_outlives_its_call(layers, data_format):
    """A plan that kept it would keep the user's whole array, of which a batch is a view."""
    for call in ("forward", "training_step"):
        x, labels = samples(SHAPES["2D"], 64, np.float32, data_format)
        network, kept = network_of(layers, x, data_format), weakref.ref(x)
        getattr(network, call)(*[x] if call == "forward" else [x, labels])
        del x
        assert kept() is None, call
