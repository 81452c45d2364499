"""The layers of a network."""

from math import log2, prod

from .. import layers
from ..saliency import is_convolution
from ._drawing import network_of, pyplot, size_of

COLOURS = {"input": "#bab0ac", "convolution": "#8cb4dc", "pooling": "#8cc98a", "dense": "#f5ab60",
           "normalisation": "#cfa5c8", "activation": "#edc948", "other": "#d7d2cf"}
ROW = 0.34          # inches


class ArchitectureDisplay:
    """The layers from top to bottom: a bar as long as the logarithm of how many values a layer puts out.

    Beside it stand the layer, its output shape, parameters, multiplications per sample and how many cells of the
    input one output sees.

    Parameters
    ----------
    network : cyconv.Sequential
    title : str or None, default None

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
    text_ : list of list of str
        What stands in each row.

    Examples
    --------
    >>> from cyconv import Sequential
    >>> from cyconv.displays import ArchitectureDisplay
    >>> from cyconv.layers import Conv, Dense, MaxPool, ReLU
    >>> network = Sequential([Conv(4, padding="same"), ReLU(), MaxPool(), Dense(10)], (1, 8, 8))
    >>> ArchitectureDisplay(network).plot().text_[1]
    ["conv1  Conv(out_channels=4, padding='same')", '4 x 8 x 8', '40', '2,304', '3 x 3']
    """

    def __init__(self, network, *, title=None):
        self.network = network
        self.title = title

    @classmethod
    def from_estimator(cls, estimator, *, ax=None, title=None):
        """Draw the network of a fitted estimator.

        Parameters
        ----------
        estimator : ConvNetClassifier, ConvNetRegressor, a pipeline or search that ends with one, or Sequential
        ax : matplotlib Axes or None, default None
        title : str or None, default None

        Returns
        -------
        ArchitectureDisplay
        """
        return cls(network_of(estimator)[0], title=title).plot(ax=ax)

    def plot(self, ax=None):
        """Draw the rows.

        Parameters
        ----------
        ax : matplotlib Axes or None, default None
            Where to draw; None makes a figure.

        Returns
        -------
        self : ArchitectureDisplay
        """
        plt = pyplot(self)
        self.text_ = self._text()
        kinds = ["input", *map(kind_of, self.network.layers, self.network.shapes)]
        longest = max(len(row[0]) for row in self.text_)
        if ax is None:
            _, ax = plt.subplots(figsize=(8 + 0.07 * longest, ROW * (len(kinds) + 3)), layout="constrained")
        self.figure_, self.ax_ = ax.figure, ax
        lengths = [log2(prod(shape)) + 1 for shape in self.network.shapes]
        bars = ax.barh(range(len(kinds)), lengths, color=[COLOURS[kind] for kind in kinds], height=0.7, zorder=2)
        for row in range(0, len(kinds), 2):
            ax.axhspan(row - 0.5, row + 0.5, color="0.96", zorder=0)
        ax.set(xlim=(0, 2.1 * max(lengths)), ylim=(len(kinds) - 0.4, -1.4), xticks=[])
        ax.set_yticks(range(len(kinds)), [row[0] for row in self.text_], fontsize="small")
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        self._draw_columns(ax, max(lengths))
        handles = dict(zip(kinds, bars))
        ax.legend(handles.values(), handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=len(handles),
                  fontsize="small", frameon=False)
        total = sum(layer.n_params(shape) for layer, shape in zip(self.network.layers, self.network.shapes))
        ax.set_title(f"{self.title or 'Network'}: {total:,} parameters")
        return self

    def _draw_columns(self, ax, longest):
        """Shapes in the bars, numbers in columns right of them."""
        columns = [("output values", 0.01, "left"), ("parameters", 1.33, "right"), ("multiplications", 1.68, "right"),
                   ("sees of the input", 2.09, "right")]
        for (heading, place, side), cells in zip(columns, zip(*(row[1:] for row in self.text_))):
            for row, text in enumerate((heading, *cells), -1):
                ax.text(place * longest, row, text, fontsize="small", va="center", ha=side,
                        weight="bold" if row < 0 else "normal")

    def _text(self):
        network = self.network
        rows = [["input", size_of(network.shapes[0]), "", "", ""]]
        for name, layer, before, after, seen in zip(network.names, network.layers, network.shapes, network.shapes[1:],
                                                    network.receptive_fields()):
            params, macs = layer.n_params(before), layer.n_macs(before)
            rows.append([f"{name}  {layer!r}", size_of(after), f"{params:,}" if params else "",
                         f"{macs:,}" if macs else "", size_of(seen)])
        return rows


def kind_of(layer, input_shape):
    """One of the kinds that have a colour."""
    if is_convolution(layer, input_shape):
        return "convolution"
    if isinstance(layer, layers.Dense):
        return "dense"
    if isinstance(layer, layers.BatchNorm):
        return "normalisation"
    if "Pool" in type(layer).__name__:
        return "pooling"
    return "activation" if isinstance(layer, tuple(filter(None, layers.ACTIVATIONS.values()))) else "other"
