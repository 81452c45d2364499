"""What displays share: the fitted network behind an estimator, axes, colours, samples as pictures."""

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import check_is_fitted

from ..network import Sequential

SIGNED, UNSIGNED = "RdBu_r", "Reds"     # white is 0 in both


def fitted_estimator(estimator, X=None):
    """The network estimator at the end of searches and pipelines, and X as it comes there."""
    while True:
        check_is_fitted(estimator)
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline):
            X = X if X is None else estimator[:-1].transform(X)
            estimator = estimator[-1]
        else:
            break
    if not hasattr(estimator, "to_sequential"):
        raise TypeError("estimator must be a ConvNetClassifier, a ConvNetRegressor, or a pipeline or search that ends "
                        f"with one, got {type(estimator).__name__}")
    return estimator, X


def network_of(estimator, X=None):
    """The network of an estimator or a `Sequential` itself, X as a batch for it, and the labels of its outputs."""
    if isinstance(estimator, Sequential):
        return estimator, X if X is None else np.asarray(X, estimator.dtype), None
    estimator, X = fitted_estimator(estimator, X)
    network = estimator.to_sequential()
    x = X if X is None else estimator._rows(X).reshape(-1, *network.input_shape)
    return network, x, getattr(estimator, "classes_", None)


def pyplot(display):
    """matplotlib.pyplot, or an ImportError that names the display."""
    check_matplotlib_support(f"{type(display).__name__}.plot")
    from matplotlib import pyplot

    return pyplot


def check_axes(ax):
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be matplotlib Axes or None, got {ax!r:.100}")


def panel_for(display, ax, size):
    """A new figure of so many inches, or a subfigure in the place of ``ax``; the display remembers both."""
    plt = pyplot(display)
    display.bounding_ax_ = ax
    if ax is None:
        display.figure_ = plt.figure(figsize=size, layout="constrained")
        return display.figure_
    check_axes(ax)
    if ax.get_subplotspec() is None:
        raise ValueError("ax must be of a grid, as plt.subplots makes them, got axes placed by hand")
    ax.set_axis_off()
    display.figure_ = ax.figure
    return ax.figure.add_subfigure(ax.get_subplotspec())


def colours(values, is_signed=None):
    """Colour map and limits: 0 in the middle for signed values, at the end for others."""
    largest = float(np.abs(values).max(initial=0)) or 1.0
    if np.min(values, initial=0) < 0 if is_signed is None else is_signed:
        return {"cmap": SIGNED, "vmin": -largest, "vmax": largest}
    return {"cmap": UNSIGNED, "vmin": 0, "vmax": largest}


def flat(values):
    """The middle slice of a volume; other maps as they are."""
    return values[len(values) // 2] if values.ndim == 3 else values


def without_ticks(ax):
    ax.set(xticks=[], yticks=[])


def draw_bars(ax, values, width=0.8):
    """Red upwards, blue downwards."""
    ax.bar(np.arange(len(values)), values, width, color=np.where(np.asarray(values) < 0, "tab:blue", "tab:red"))
    ax.axhline(0, color="black", linewidth=0.5)


def draw_sample(ax, sample):
    """A sample of shape (C, *spatial): lines of a signal, a grey or colour image, the middle slice of a volume."""
    if sample.ndim == 2:
        for channel in sample:
            ax.plot(channel, linewidth=1)
        ax.set_xlim(-0.5, sample.shape[1] - 0.5)
        ax.tick_params(labelsize="x-small")
        return
    picture = np.stack([flat(channel) for channel in sample])
    low, high = float(picture.min()), float(picture.max())
    if len(picture) == 3:
        ax.imshow(np.moveaxis((picture - low) / ((high - low) or 1), 0, -1))
    else:
        ax.imshow(picture.mean(axis=0), cmap="gray")
    without_ticks(ax)


def size_of(shape):
    """Sizes as "16 x 8 x 8"."""
    return " x ".join(map(str, shape))
