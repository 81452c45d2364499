"""What each layer makes of one sample."""

import numpy as np

from ..layers import Dropout, Flatten
from ..saliency import channels_first
from ._drawing import colours, draw_bars, draw_sample, flat, network_of, panel_for, size_of, without_ticks

LETTERS = 14        # of labels in the width of a map


class FeatureMapDisplay:
    """One sample and what the layers make of it, a row for each layer with a colour scale of its own.

    Maps of images are shown channel by channel, of volumes the middle slice; maps of signals as one picture of
    channels by positions, vectors as bars.

    Parameters
    ----------
    sample : ndarray of shape (C, *spatial)
    maps : dict of str to ndarray of shape (C, *spatial) or (F,)
        Outputs of the layers by name.
    labels : sequence or None, default None
        What the values of the last layer are called if it puts out a vector.

    Attributes
    ----------
    figure_ : matplotlib Figure
    bounding_ax_ : matplotlib Axes or None
        Those in whose place everything is drawn, if any.
    axes_ : list of ndarray of matplotlib Axes
        One array for each row: of the sample, then of each layer.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from cyconv import ConvNetClassifier
    >>> from cyconv.displays import FeatureMapDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> model = ConvNetClassifier((8,), input_shape=(8, 8), n_iter_no_change=1, tol=0.1, random_state=0).fit(X, y)
    >>> display = FeatureMapDisplay.from_estimator(model, X[:1])
    >>> {name: values.shape for name, values in display.maps.items()}
    {'conv1': (8, 8, 8), 'relu1': (8, 8, 8), 'maxpool1': (8, 4, 4), 'dense1': (10,)}
    """

    def __init__(self, sample, maps, *, labels=None):
        self.sample = sample
        self.maps = maps
        self.labels = labels

    @classmethod
    def from_estimator(cls, estimator, X, *, layers=None, max_maps=8, ax=None):
        """Draw what the layers of a fitted estimator make of the first sample of X.

        Parameters
        ----------
        estimator : ConvNetClassifier, ConvNetRegressor, a pipeline or search that ends with one, or Sequential
        X : array_like
            As for the estimator; one sample is ``X[:1]``.
        layers : sequence of str or None, default None
            Names of layers; None is all that change something.
        max_maps : int, default 8
            How many channels of each layer to draw at most.
        ax : matplotlib Axes or None, default None
            As for `plot`.

        Returns
        -------
        FeatureMapDisplay
        """
        network, x, labels = network_of(estimator, X)
        unknown = set(layers or ()) - set(network.names)
        if unknown:
            raise ValueError(f"layers must be among {', '.join(network.names)}, got {', '.join(sorted(unknown))}")
        if layers is None:
            layers = [name for name, layer in zip(network.names, network.layers)
                      if not isinstance(layer, (Dropout, Flatten))]
        maps = {name: values[0] if values.ndim == 2 else channels_first(values, network)[0]
                for name, values in network.outputs(x[:1]) if name in layers}
        labels = labels if network.names[-1] in maps else None
        return cls(channels_first(x[:1], network)[0], maps, labels=labels).plot(max_maps=max_maps, ax=ax)

    def plot(self, *, max_maps=8, ax=None):
        """Draw the sample and the first ``max_maps`` channels of each layer.

        Parameters
        ----------
        max_maps : int, default 8
        ax : matplotlib Axes or None, default None
            Axes in whose place everything is drawn; None makes a figure.

        Returns
        -------
        self : FeatureMapDisplay
        """
        columns = max([1, *(min(len(values), max_maps) for values in self.maps.values() if values.ndim > 2)])
        panel = panel_for(self, ax, (max(1.05 * columns + 2.2, 6.5), 1.15 * (len(self.maps) + 1) + 0.4))
        panel.suptitle("What each layer makes of the sample" + ", middle slices" * (self.sample.ndim == 4),
                       fontsize="medium")
        grid = panel.add_gridspec(len(self.maps) + 1, columns + 1, width_ratios=[1] * columns + [0.12])
        first = panel.add_subplot(grid[0, :columns] if self.sample.ndim == 2 else grid[0, 0])
        draw_sample(first, self.sample)
        set_label(first, "sample", self.sample)
        self.axes_ = [np.array([first])]
        for row, (name, values) in enumerate(self.maps.items(), 1):
            places = range(min(len(values), max_maps)) if values.ndim > 2 else [slice(columns)]
            axes = [panel.add_subplot(grid[row, place]) for place in places]
            image = self._draw_layer(axes, values)
            set_label(axes[0], name, values, f"\n{len(axes)} shown" * (values.ndim > 2 and len(values) > len(axes)))
            self.axes_.append(np.array(axes))
            if image is not None:
                bar = panel.colorbar(image, cax=panel.add_subplot(grid[row, columns]))
                bar.ax.tick_params(labelsize="x-small")
        if self.labels is not None and values.ndim == 1:
            is_crowded = sum(len(str(label)) + 2 for label in self.labels) > LETTERS * columns
            axes[0].set_xticks(range(len(self.labels)), self.labels, rotation=90 if is_crowded else 0)
        return self

    def _draw_layer(self, axes, values):
        """Draw maps into as many axes, stripes or bars into the only one; what has a colour bar, or None."""
        axes[0].tick_params(labelsize="x-small")
        if values.ndim == 1:
            draw_bars(axes[0], values)
            axes[0].set_xlim(-0.6, len(values) - 0.4)
            axes[0].xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            return None
        if values.ndim == 2:
            axes[0].set_yticks([])
            return axes[0].imshow(values, aspect="auto", interpolation="nearest", **colours(values))
        scale = colours(values[:len(axes)])
        for ax, channel in zip(axes, values):
            image = ax.imshow(flat(channel), **scale)
            without_ticks(ax)
        return image


def set_label(ax, name, values, more=""):
    """Name and shape left of the axes."""
    ax.set_ylabel(f"{name}\n{size_of(values.shape)}{more}", rotation=0, ha="right", va="center", fontsize="small")
