"""Which parts of a sample a prediction depends on."""

from inspect import signature

import numpy as np

from .. import saliency
from ..saliency import channels_first
from ._drawing import colours, draw_sample, flat, network_of, panel_for, without_ticks

METHODS = {"gradient": saliency.input_gradient, "grad_cam": saliency.grad_cam, "occlusion": saliency.occlusion}
NAMES = {"gradient": "size of the gradient", "grad_cam": "Grad-CAM"}


class SaliencyDisplay:
    """Samples, and under each how much its cells matter for one output of the network.

    Gradients and Grad-CAM are drawn as shares of their maximum in each sample, falls of the output as they are.

    Parameters
    ----------
    samples : ndarray of shape (N, C, *spatial)
    maps : ndarray of shape (N, *spatial)
        What `cyconv.saliency` found.
    titles : sequence of str
        What the outputs are, one for each sample.
    method : {"gradient", "grad_cam", "occlusion"}, default "gradient"
        What the maps are.

    Attributes
    ----------
    figure_ : matplotlib Figure
    bounding_ax_ : matplotlib Axes or None
        Those in whose place everything is drawn, if any.
    axes_ : ndarray of matplotlib Axes, shape (2, N)
        Samples above, maps below.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from cyconv import ConvNetClassifier
    >>> from cyconv.displays import SaliencyDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> model = ConvNetClassifier((8,), input_shape=(8, 8), n_iter_no_change=1, tol=0.1, random_state=0).fit(X, y)
    >>> display = SaliencyDisplay.from_estimator(model, X[:4], method="occlusion")
    >>> display.maps.shape, display.titles
    ((4, 8, 8), ['0', '1', '2', '3'])
    """

    def __init__(self, samples, maps, titles, *, method="gradient"):
        self.samples = samples
        self.maps = maps
        self.titles = titles
        self.method = method

    @classmethod
    def from_estimator(cls, estimator, X, *, method="gradient", target=None, ax=None, **options):
        """Draw what the predictions of a fitted estimator depend on.

        Parameters
        ----------
        estimator : ConvNetClassifier, ConvNetRegressor, a pipeline or search that ends with one, or Sequential
        X : array_like
            A few samples, as for the estimator.
        method : {"gradient", "grad_cam", "occlusion"}, default "gradient"
            See the functions of `cyconv.saliency`.
        target : label, int or None, default None
            The class, or the number of the output for a regressor or Sequential, that is to be explained; None is the
            largest output of each sample.
        ax : matplotlib Axes or None, default None
            As for `plot`.
        **options
            For "grad_cam" ``layer``, for "occlusion" ``size`` and ``fill``.

        Returns
        -------
        SaliencyDisplay
        """
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(map(repr, METHODS))}, got {method!r}")
        known = list(signature(METHODS[method]).parameters)[3:]
        if not options.keys() <= set(known):
            raise TypeError(f"method={method!r} takes the options {known}, got {list(options)}")
        network, x, labels = network_of(estimator, X)
        outputs = network.forward(x)[0].reshape(len(x), -1)
        targets = numbers_of(target, labels, outputs)
        titles = [f"output {number}: {values[number]:.3g}" if labels is None else str(labels[number])
                  for number, values in zip(targets, outputs)]
        maps = METHODS[method](network, x, targets, **options)
        return cls(channels_first(x, network), maps, titles, method=method).plot(ax=ax)

    def plot(self, ax=None):
        """Draw the samples, and under each its map.

        Parameters
        ----------
        ax : matplotlib Axes or None, default None
            Axes in whose place everything is drawn; None makes a figure.

        Returns
        -------
        self : SaliencyDisplay
        """
        n, is_signal = len(self.samples), self.samples.ndim == 3
        panel = panel_for(self, ax, (max((3.2 if is_signal else 1.7) * n + 0.9, 4.5), 4))
        panel.suptitle("What the output depends on" + ", middle slices" * (self.samples.ndim == 5), fontsize="medium")
        self.axes_ = panel.subplots(2, n, squeeze=False)
        maps, meaning = self._scaled()
        scale = colours(maps, self.method == "occlusion")
        for sample, values, title, (top, below) in zip(self.samples, maps, self.titles, self.axes_.T):
            draw_sample(top, sample)
            top.set_title(title, fontsize="medium")
            if is_signal:
                image = draw_over_signal(below, sample, values, scale)
            else:
                image = below.imshow(flat(values), **scale)
                without_ticks(below)
        panel.colorbar(image, ax=self.axes_.ravel().tolist(), label=meaning, fraction=0.05, aspect=30)
        return self

    def _scaled(self):
        """Maps as they are drawn, and what their colours mean; sizes of gradients differ much among samples."""
        if self.method == "occlusion":
            return self.maps, "fall of the output when covered"
        largest = self.maps.reshape(len(self.maps), -1).max(axis=1)
        shares = self.maps / np.where(largest > 0, largest, 1).reshape(-1, *(1,) * (self.maps.ndim - 1))
        return shares, f"{NAMES[self.method]}, share of its maximum"


def draw_over_signal(ax, sample, values, scale):
    """The signal over a stripe of its map."""
    low, high = float(sample.min()), float(sample.max())
    margin = 0.05 * ((high - low) or 1)
    extent = -0.5, len(values) - 0.5, low - margin, high + margin
    image = ax.imshow(values[None], aspect="auto", extent=extent, interpolation="nearest", **scale)
    for channel in sample:
        ax.plot(channel, color="black", linewidth=0.7)
    ax.tick_params(labelsize="x-small")
    ax.set_xlabel("position", fontsize="small")
    return image


def numbers_of(target, labels, outputs):
    """Number of the output to explain, for each sample."""
    if target is None:
        return outputs.argmax(axis=1)
    known = list(range(outputs.shape[1])) if labels is None else labels.tolist()
    if target not in known:
        raise ValueError(f"target must be one of {', '.join(map(repr, known))}, got {target!r}")
    return np.full(len(outputs), known.index(target))
