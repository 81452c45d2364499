"""Which cells of its input a network's output depends on: input gradient, Grad-CAM, occlusion.

The network runs as in prediction: nothing is dropped, and normalisation is by running averages. Every function
takes a batch and one output number per sample, and returns a map of the spatial axes for each sample; a vector
is a signal of one channel. `cyconv.displays.SaliencyDisplay` draws them.
"""

from itertools import product
from math import prod

import numpy as np
from scipy import ndimage

from ._geometry import is_integer
from .layers import ACTIVATIONS, BatchNorm, Dropout, Mode

__all__ = ["grad_cam", "gradients", "input_gradient", "occlusion"]


def gradients(network, x, targets):
    """Outputs of all layers, and the gradients of one output per sample with respect to them.

    Parameters
    ----------
    network : cyconv.Sequential
    x : ndarray of shape (N, *input_shape)
    targets : ndarray of shape (N,), int
        Number of the output of each sample.

    Returns
    -------
    outputs, gradients : list of ndarray
        Of the input, then of each layer; arrays of one place have the same shape.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import Sequential
    >>> from cyconv.layers import Dense
    >>> weights = {"dense1.weight": [[1, 2, 3], [4, 5, 6]], "dense1.bias": [0, 0]}
    >>> network = Sequential([Dense(2)], (3,), parameters=weights)
    >>> outputs, slopes = gradients(network, np.ones((1, 3)), [1])
    >>> outputs[-1], slopes[0]
    (array([[ 6., 15.]], dtype=float32), array([[4., 5., 6.]], dtype=float32))
    """
    x, targets = checked(network, x, targets)
    outputs, backwards = [x], []
    for layer, params in zip(network.layers, network._params):
        y, backward = forward(layer, outputs[-1], params, network.data_format)
        outputs.append(y)
        backwards.append(backward)
    slope = np.zeros_like(outputs[-1])
    slope.reshape(len(x), -1)[np.arange(len(x)), targets] = 1
    found = [slope]
    for backward in reversed(backwards):
        found.append(backward(found[-1]))
    return outputs, found[::-1]


def checked(network, x, targets):
    """x as a batch of the network, and targets as numbers of its outputs."""
    x, targets, n_outputs = network._batch(x), np.asarray(targets), prod(network.shapes[-1])
    if targets.dtype.kind not in "iu":
        raise TypeError(f"saliency: targets must be ints, numbers of outputs, got {targets.dtype}")
    if targets.shape != (len(x),) or not ((targets >= 0) & (targets < n_outputs)).all():
        raise ValueError(f"saliency: targets must be one for each of the {len(x)} samples, at least 0 and below "
                         f"{n_outputs}, got {targets}")
    return x, targets


def forward(layer, x, params, data_format):
    """Output of a layer as in prediction, and the function that carries a gradient back to x."""
    if isinstance(layer, Dropout):
        return x, lambda dy: dy
    if isinstance(layer, BatchNorm):
        y, _ = layer.forward(x, params, Mode(False, data_format))
        factor = params.get("weight", 1) / np.sqrt(params["running_var"] + layer.eps)
        if data_format == "channels_first" or x.ndim == 2:
            factor = factor.reshape(-1, *(1,) * (x.ndim - 2))
        return y, lambda dy: dy * factor.astype(dy.dtype)
    y, backward = layer.forward(x, params, Mode(True, data_format))
    return y, lambda dy: backward(dy)[0]


def input_gradient(network, x, targets):
    """Largest size, over the channels, of the gradient of an output with respect to each cell.

    Parameters
    ----------
    network, x, targets
        As for `gradients`.

    Returns
    -------
    ndarray of shape (N, *spatial)

    References
    ----------
    Simonyan, Vedaldi, Zisserman: Deep inside convolutional networks, 2014, section 3.
    """
    return np.abs(channels_first(gradients(network, x, targets)[1][0], network)).max(axis=1)


def grad_cam(network, x, targets, layer=None):
    """Where the maps of a layer speak for an output: their sum, weighted by the mean gradient of each.

    Parameters
    ----------
    network, x, targets
        As for `gradients`.
    layer : str or None, default None
        Name of a layer whose outputs are maps; None is the last convolution, with its activation.

    Returns
    -------
    ndarray of shape (N, *spatial)
        At least 0, interpolated linearly to the size of x.

    References
    ----------
    Selvaraju et al.: Grad-CAM: visual explanations from deep networks via gradient-based localization, 2017.
    """
    number = network.names.index(layer) + 1 if layer in network.names else map_number(network, layer)
    if len(network.shapes[number]) == 1:
        raise ValueError(f"grad_cam: layer must put out maps, {layer!r} puts out vectors of shape "
                         f"{network.shapes[number]}; choose one before it")
    outputs, slopes = gradients(network, x, targets)
    maps, slope = (channels_first(values[number], network).astype(np.float64) for values in (outputs, slopes))
    weight = slope.mean(axis=tuple(range(2, slope.ndim)), keepdims=True)
    found = np.maximum((weight * maps).sum(axis=1), 0)
    factors = [n / m for n, m in zip(network.shapes[0][1:], found.shape[1:])]
    return np.stack([ndimage.zoom(values, factors, order=1, mode="nearest", grid_mode=True) for values in found])


def map_number(network, layer):
    """Number in `gradients` of the last convolution with what follows it cell by cell."""
    if layer is not None:
        raise ValueError(f"grad_cam: layer must be one of {', '.join(network.names)}, got {layer!r}")
    found = [i for i, kept in enumerate(network.layers) if is_convolution(kept, network.shapes[i])]
    if not found:
        raise ValueError("grad_cam: the network has no convolution; use the input gradient or occlusion")
    number, cell_by_cell = found[-1] + 1, (BatchNorm, *filter(None, ACTIVATIONS.values()))
    while number < len(network.layers) and isinstance(network.layers[number], cell_by_cell):
        number += 1
    return number


def is_convolution(layer, input_shape):
    """Whether the layer has weights that are windows."""
    return len(input_shape) > 1 and any(len(shape) > 2 for shape in layer.parameter_shapes(input_shape).values())


def occlusion(network, x, targets, size=None, fill=0.0):
    """How much an output falls when a box around a cell is filled in.

    Parameters
    ----------
    network, x, targets
        As for `gradients`.
    size : int or None, default None
        Cells of the box per axis; None is the root of the longest axis.
    fill : float, default 0.0
        What the cells of the box become.

    Returns
    -------
    ndarray of shape (N, *spatial)
        Mean over all boxes that cover the cell, which are half their size apart; below 0 where the output grows.

    References
    ----------
    Zeiler, Fergus: Visualizing and understanding convolutional networks, 2014, section 4.2.
    """
    x, targets = checked(network, x, targets)
    spatial = channels_first(x, network).shape[2:]
    size = round(max(spatial) ** 0.5) if size is None else size
    if not is_integer(size) or size < 1:
        raise ValueError(f"occlusion: size must be an int of at least 1, got {size!r}")
    boxes = [tuple(slice(start, start + size) for start in starts) for starts in product(*(
        range(0, max(n - size, 0) + (size + 1) // 2, (size + 1) // 2) for n in spatial))]
    drops, counts = np.zeros((len(x), *spatial)), np.zeros(spatial)
    rows = np.arange(len(x))
    before = network.forward(x)[0].reshape(len(x), -1)[rows, targets]
    for box in boxes:
        hidden = x.copy()
        channels_first(hidden, network)[(slice(None), slice(None), *box)] = fill
        drop = before - network.forward(hidden)[0].reshape(len(x), -1)[rows, targets]
        drops[(slice(None), *box)] += drop.reshape(-1, *(1,) * len(spatial))
        counts[box] += 1
    return drops / counts


def channels_first(x, network):
    """A view of a batch of shape (N, C, *spatial); vectors are signals of one channel."""
    if x.ndim == 2:
        return x[:, None]
    return np.moveaxis(x, -1, 1) if network.data_format == "channels_last" else x
