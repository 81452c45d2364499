"""Learned kernels."""

import numpy as np

from ..layers import ConvTranspose
from ..saliency import is_convolution
from ._drawing import colours, draw_bars, flat, network_of, panel_for, size_of, without_ticks

COLUMNS = 8


class FilterDisplay:
    """The kernels of a convolution layer, all on one colour scale with 0 in its middle.

    Of separable convolutions these are the depthwise kernels, of local and tiled ones those of all places or tiles.
    Kernels of one channel are a grid; those of three channels of colour images are drawn in these colours, with
    grey for 0; those of more channels are a table of filters by channels. Kernels of signals are bars or, with
    several channels, stripes of channels by taps; of volumes the middle slice is shown.

    Parameters
    ----------
    filters : ndarray of shape (K, C, *kernel)
    name : str, default "filters"
        For the title.
    in_colour : bool, default False
        Whether three channels are red, green and blue.

    Attributes
    ----------
    figure_ : matplotlib Figure
    bounding_ax_ : matplotlib Axes or None
        Those in whose place everything is drawn, if any.
    axes_ : ndarray of matplotlib Axes
        One for each filter, or the table.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.displays import FilterDisplay
    >>> FilterDisplay(np.random.default_rng(0).standard_normal((12, 1, 5, 5))).plot().axes_.shape
    (12,)
    """

    def __init__(self, filters, *, name="filters", in_colour=False):
        self.filters = filters
        self.name = name
        self.in_colour = in_colour

    @classmethod
    def from_estimator(cls, estimator, *, layer=None, max_filters=16, max_channels=16, ax=None):
        """Draw the kernels of a fitted estimator.

        Parameters
        ----------
        estimator : ConvNetClassifier, ConvNetRegressor, a pipeline or search that ends with one, or Sequential
        layer : str or None, default None
            Name of a convolution layer; None is the first.
        max_filters, max_channels : int, default 16
            How many of them to draw at most.
        ax : matplotlib Axes or None, default None
            As for `plot`.

        Returns
        -------
        FilterDisplay
        """
        network, _, _ = network_of(estimator)
        found = {name: number for number, name in enumerate(network.names)
                 if is_convolution(network.layers[number], network.shapes[number])}
        if not found or layer not in (None, *found):
            raise ValueError(f"layer must be a convolution of the network, {', '.join(found) or 'which has none'}; "
                             f"got {layer!r}")
        layer = next(iter(found)) if layer is None else layer
        kernels = kernels_of(network, found[layer])
        in_colour = found[layer] == 0 and kernels.ndim == 4 and kernels.shape[1] == 3
        return cls(kernels, name=f"{layer}: {network.layers[found[layer]]!r}", in_colour=in_colour).plot(
            max_filters=max_filters, max_channels=max_channels, ax=ax)

    def plot(self, *, max_filters=16, max_channels=16, ax=None):
        """Draw the first ``max_filters`` kernels, of their first ``max_channels`` channels.

        Parameters
        ----------
        max_filters, max_channels : int, default 16
        ax : matplotlib Axes or None, default None
            Axes in whose place the kernels are drawn; None makes a figure.

        Returns
        -------
        self : FilterDisplay
        """
        shown = np.asarray(self.filters)[:max_filters]
        shown = shown if self.in_colour else shown[:, :max_channels]
        scale = colours(shown, True)
        if shown.ndim > 3 and shown.shape[1] > 1 and not self.in_colour:
            panel, image = self._draw_table(ax, shown, scale)
        else:
            panel, image = self._draw_grid(ax, shown, scale)
        panel.suptitle(f"{self.name}\n{self._what(shown)}", fontsize="medium")
        if image is not None:
            panel.colorbar(image, ax=self.axes_.tolist(), label="weight", fraction=0.05)
        return self

    def _what(self, shown):
        def some(what, axis):
            n, total = shown.shape[axis], self.filters.shape[axis]
            return f"{n} {what}s" if n == total else f"{n} of {total} {what}s"

        parts = [some("filter", 0), f"{size_of(shown.shape[2:])} taps"]
        if self.in_colour:
            parts.append("grey is 0")
        elif shown.shape[1] > 1:
            parts.append(some("channel", 1))
        return ", ".join(parts + ["middle slices"] * (shown.ndim == 5))

    def _draw_grid(self, ax, shown, scale):
        """A small picture for each filter; the panel, and what has a colour bar or None."""
        columns = min(COLUMNS, len(shown))
        rows = -(-len(shown) // columns)
        size = 1.3 if shown.ndim == 3 else 1.0
        panel = panel_for(self, ax, (max(columns * size + 1, 4.5), rows * (size + 0.2) + 0.8))
        self.axes_ = np.array([panel.add_subplot(rows, columns, n + 1) for n in range(len(shown))])
        draw = self._draw_signal if shown.ndim == 3 else self._draw_image
        for number, (axes, kernel) in enumerate(zip(self.axes_, shown)):
            image = draw(axes, kernel, scale)
            axes.set_title(number, fontsize="x-small", pad=2)
        if shown.ndim == 3:
            self._label_signals(columns, "weight" if shown.shape[1] == 1 else "channel")
        return panel, image

    def _draw_image(self, ax, kernel, scale):
        without_ticks(ax)
        if self.in_colour:
            ax.imshow(np.moveaxis(0.5 + kernel / (2 * scale["vmax"]), 0, -1))
            return None
        return ax.imshow(flat(kernel[0]), **scale)

    def _draw_signal(self, ax, kernel, scale):
        if len(kernel) > 1:
            without_ticks(ax)
            return ax.imshow(kernel, aspect="auto", **scale)
        draw_bars(ax, kernel[0])
        ax.set(ylim=(1.05 * scale["vmin"], 1.05 * scale["vmax"]), xticks=[])
        ax.tick_params(labelsize="x-small", labelleft=ax.get_subplotspec().is_first_col())
        return None

    def _label_signals(self, columns, upwards):
        for ax in self.axes_[::columns]:
            ax.set_ylabel(upwards, fontsize="small")
        for ax in self.axes_[-columns:]:
            ax.set_xlabel("tap", fontsize="small")

    def _draw_table(self, ax, shown, scale):
        """One image with all kernels, a filter in each row and a channel in each column."""
        kernels = np.stack([[flat(kernel) for kernel in row] for row in shown])
        n, channels, height, width = kernels.shape
        table = np.full((n * (height + 1) - 1, channels * (width + 1) - 1), np.nan)
        for i, j in np.ndindex(n, channels):
            top, left = i * (height + 1), j * (width + 1)
            table[top:top + height, left:left + width] = kernels[i, j]
        panel = panel_for(self, ax, (0.4 * channels + 2.5, 0.4 * n + 1.5))
        ax = panel.add_subplot()
        self.axes_ = np.array([ax])
        image = ax.imshow(table, **scale)
        ax.set(xlabel="input channel", ylabel="filter",
               xticks=np.arange(channels) * (width + 1) + (width - 1) / 2, xticklabels=range(channels),
               yticks=np.arange(n) * (height + 1) + (height - 1) / 2, yticklabels=range(n))
        ax.tick_params(length=0, labelsize="x-small")
        ax.spines[:].set_visible(False)
        return panel, image


def kernels_of(network, number):
    """Weights of a convolution as (K, C, *kernel); those of all places or tiles one after the other."""
    name, rank, parameters = network.names[number], len(network.shapes[number]) - 1, network.parameters()
    weight = next(parameters[key] for key in (f"{name}.weight", f"{name}.depthwise_weight") if key in parameters)
    if isinstance(network.layers[number], ConvTranspose):
        weight = weight.swapaxes(0, 1)
    return weight.reshape(-1, *weight.shape[-rank - 1:])
