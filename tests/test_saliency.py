"""Which cells of its input an output depends on."""

from itertools import product

import numpy as np
import pytest
from scipy.ndimage import zoom

from cyconv import Sequential, layers, saliency

SHAPES = {1: (2, 9), 2: (2, 7, 6), 3: (2, 5, 4, 4)}


def make(rank, data_format="channels_first", dtype=np.float64):
    """A network of every kind of layer that saliency treats in its own way, and with all running averages set."""
    network = Sequential([
        layers.Conv(4, 3, padding="same", bias=False), layers.BatchNorm(), layers.SiLU(), layers.AvgPool(2),
        layers.Conv(5, 3, padding="same"), layers.Tanh(), layers.Dropout(0.5), layers.Flatten(), layers.Dense(3)],
        stored(SHAPES[rank], data_format), data_format=data_format, dtype=dtype, random_state=0)
    rng = np.random.default_rng(1)
    network.load_parameters({name: rng.uniform(0.5, 2, value.shape) if "running" in name or "norm" in name else value
                             for name, value in network.parameters().items()})
    return network


def stored(shape, data_format):
    return (*shape[1:], shape[0]) if data_format == "channels_last" else shape


def output(network, x, targets):
    return network.forward(x)[0][np.arange(len(x)), targets]


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_input_gradient_is_the_finite_difference(rank, data_format, rng):
    network, targets = make(rank, data_format), np.array([2, 0])
    x, h = rng.standard_normal((2, *network.input_shape)), 1e-6
    slopes = np.empty_like(x)
    for cell in np.ndindex(network.input_shape):
        step = np.zeros_like(x)
        step[(slice(None), *cell)] = h
        slopes[(slice(None), *cell)] = (output(network, x + step, targets) - output(network, x - step, targets)) / 2 / h
    channel = 1 if data_format == "channels_first" else -1
    found = saliency.input_gradient(network, x, targets)
    assert found.shape == (2, *SHAPES[rank][1:])
    np.testing.assert_allclose(found, np.abs(slopes).max(axis=channel), rtol=1e-7, atol=1e-9)


def test_outputs_are_those_of_prediction(rng):
    network = make(2)
    x = rng.standard_normal((3, *network.input_shape))
    found, _ = saliency.gradients(network, x, np.zeros(3, int))
    for y, (_, expected) in zip(found[1:], network.outputs(x)):
        np.testing.assert_array_equal(y, expected)


def test_nothing_of_the_network_changes(rng):
    network = make(2)
    before = network.parameters()
    saliency.grad_cam(network, rng.standard_normal((3, *network.input_shape)), np.zeros(3, int))
    assert all(np.array_equal(value, before[name]) for name, value in network.parameters().items())


def test_gradient_of_a_vector_is_a_signal_of_one_channel():
    network = Sequential([layers.Dense(2)], (3,), parameters={"dense1.weight": [[1, -2, 3], [4, 5, -6]],
                                                              "dense1.bias": [0, 0]})
    np.testing.assert_array_equal(saliency.input_gradient(network, np.ones((2, 3)), [0, 1]), [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(saliency.occlusion(network, np.ones((1, 3)), [1], size=1), [[4, 5, -6]])


def test_grad_cam_by_hand():
    """Two 1 x 1 filters, x and -2x, the mean of each rectified map, and output 3 * mean1 - mean2.

    The gradient of a map is that of its mean, 3 / 4 and -1 / 4 in each of four cells: so Grad-CAM is
    max(0, 3 / 4 relu(x) - 1 / 4 relu(-2x)).
    """
    network = Sequential([layers.Conv(2, 1), layers.ReLU(), layers.GlobalPool("avg"), layers.Dense(2)], (1, 2, 2),
                         parameters={"conv1.weight": [[[[1]]], [[[-2]]]], "conv1.bias": [0, 0],
                                     "dense1.weight": [[3, -1], [0, 5]], "dense1.bias": [7, 8]})
    x = np.array([[[[1.0, 2.0], [-4.0, 0.0]]]])
    np.testing.assert_allclose(saliency.grad_cam(network, x, [0]), [[[0.75, 1.5], [0, 0]]])
    np.testing.assert_allclose(saliency.grad_cam(network, x, [1]), [[[0, 0], [5 / 4 * 8, 0]]])
    # Before the rectifier slopes are 3 / 4 in two of four cells and -1 / 4 in one: 3 / 8 x + 1 / 8 x.
    np.testing.assert_allclose(saliency.grad_cam(network, x, [0], layer="conv1"), [[[0.5, 1], [0, 0]]])


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_grad_cam_is_its_definition(rank, data_format, rng):
    network, targets = make(rank, data_format), np.array([1, 2])
    x = rng.standard_normal((2, *network.input_shape))
    outputs, slopes = saliency.gradients(network, x, targets)
    maps, slope = (values[6] if data_format == "channels_first" else np.moveaxis(values[6], -1, 1)
                   for values in (outputs, slopes))         # of tanh1, which follows the last convolution
    space = tuple(range(2, maps.ndim))
    small = np.maximum((slope.mean(axis=space, keepdims=True) * maps).sum(axis=1), 0)
    factors = np.array(SHAPES[rank][1:]) / small.shape[1:]
    expected = [zoom(values, factors, order=1, mode="nearest", grid_mode=True) for values in small]
    found = saliency.grad_cam(network, x, targets)
    assert found.shape == (2, *SHAPES[rank][1:]) and found.max() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_grad_cam_refuses_what_has_no_maps():
    with pytest.raises(ValueError, match="layer must be one of conv1, .*, dense1, got 'conv9'"):
        saliency.grad_cam(make(2), np.zeros((1, 2, 7, 6)), [0], layer="conv9")
    with pytest.raises(ValueError, match=r"layer must put out maps, 'dense1' puts out vectors of shape \(3,\)"):
        saliency.grad_cam(make(2), np.zeros((1, 2, 7, 6)), [0], layer="dense1")
    with pytest.raises(ValueError, match="the network has no convolution"):
        saliency.grad_cam(Sequential([layers.Dense(3)], (4,)), np.zeros((1, 4)), [0])


@pytest.mark.parametrize(("size", "tops", "lefts"), [(2, range(6), range(5)), (3, (0, 2, 4), (0, 2, 4)), (9, [0], [0])])
def test_occlusion_is_what_predictions_lose(size, tops, lefts, data_format, rng):
    """Boxes of 7 x 6 cells half their size apart; each cell has the mean over its boxes."""
    network, targets = make(2, data_format), np.array([0, 2, 1])
    x = rng.standard_normal((3, *network.input_shape))
    drops, counts = np.zeros((3, 7, 6)), np.zeros((7, 6))
    for top, left in product(tops, lefts):
        box = slice(top, top + size), slice(left, left + size)
        hidden = x.copy()
        hidden[(slice(None), *stored((slice(None), *box), data_format))] = 0.25
        drop = output(network, x, targets) - output(network, hidden, targets)
        drops[(slice(None), *box)] += drop[:, None, None]
        counts[box] += 1
    found = saliency.occlusion(network, x, targets, size=size, fill=0.25)
    np.testing.assert_allclose(found, drops / counts, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 5, 10, 64])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 70])
def test_occlusion_covers_every_cell(n, size):
    """Of a sum, each cell is worth itself; boxes lose their sum."""
    network = Sequential([layers.Dense(1)], (n,), dtype=np.float64,
                         parameters={"dense1.weight": np.ones((1, n)), "dense1.bias": [0]})
    found = saliency.occlusion(network, np.ones((1, n)), [0], size=size)
    assert np.isfinite(found).all() and (found >= 1).all() and (found <= min(size, n)).all()


def test_occlusion_refuses_sizes_below_one():
    with pytest.raises(ValueError, match="occlusion: size must be an int of at least 1, got 0"):
        saliency.occlusion(make(2), np.zeros((1, 2, 7, 6)), [0], size=0)


@pytest.mark.parametrize("find", [saliency.input_gradient, saliency.grad_cam, saliency.occlusion])
@pytest.mark.parametrize(("targets", "error"), [([3], "below 3"), ([-1], "below 3"), ([0, 1], "one for each of the 1"),
                                                ([0.5], "int")])
def test_targets_are_checked(find, targets, error):
    with pytest.raises((TypeError, ValueError), match=error):
        find(make(2), np.zeros((1, 2, 7, 6)), np.array(targets))
