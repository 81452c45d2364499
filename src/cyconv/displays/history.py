"""The course of training."""

import numpy as np

from ._drawing import check_axes, fitted_estimator, pyplot

PANEL = 4.6, 3.6        # inches


class HistoryDisplay:
    """Loss, validation score and learning rate of every epoch.

    The learning rate is drawn if it changed, the score if there were validation data.

    Parameters
    ----------
    history : dict of str to list
        Columns of one length: epoch and loss; validation_loss, validation_score, learning_rate and seconds if known,
        with NaN or None where there is no value.
    name : str or None, default None
        For title and legend.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
        Of the losses.
    axes_ : ndarray of matplotlib Axes
        Of loss, score and learning rate, as far as they are drawn.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from cyconv import ConvNetClassifier
    >>> from cyconv.displays import HistoryDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> model = ConvNetClassifier(input_shape=(8, 8), n_iter_no_change=1, tol=0.1, random_state=0).fit(X, y)
    >>> display = HistoryDisplay.from_estimator(model)
    >>> display.axes_[0].get_ylabel()
    'loss'
    """

    def __init__(self, history, *, name=None):
        self.history = history
        self.name = name

    @classmethod
    def from_estimator(cls, estimator, *, ax=None, name=None):
        """Draw the history of a fitted estimator.

        Parameters
        ----------
        estimator : ConvNetClassifier, ConvNetRegressor, or a pipeline or search that ends with one
        ax : matplotlib Axes or None, default None
            As for `plot`.
        name : str or None, default None
            For title and legend; None is the name of the class.

        Returns
        -------
        HistoryDisplay
        """
        estimator, _ = fitted_estimator(estimator)
        return cls(estimator.history_, name=name or type(estimator).__name__).plot(ax=ax)

    def plot(self, ax=None):
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes or None, default None
            Where to draw the losses, and only them, so that several histories can share axes; None makes a figure of
            all that is known.

        Returns
        -------
        self : HistoryDisplay
        """
        plt = pyplot(self)
        if ax is not None:
            check_axes(ax)
            self.figure_, self.ax_, self.axes_ = ax.figure, ax, np.array([ax])
            self._draw_loss(ax, f"{self.name}: " if self.name else "")
            return self
        rate = self._column("learning_rate")
        panels = [self._draw_loss]
        panels += [self._draw_score] if np.isfinite(self._column("validation_score")).any() else []
        panels += [self._draw_rate] if len(set(rate[np.isfinite(rate)])) > 1 else []
        self.figure_, axes = plt.subplots(1, len(panels), squeeze=False, layout="constrained",
                                          figsize=(PANEL[0] * len(panels), PANEL[1]))
        self.figure_.suptitle(self._title(), fontsize="medium")
        self.axes_ = axes[0]
        self.ax_ = axes[0, 0]
        for draw, axes in zip(panels, self.axes_):
            draw(axes)
        return self

    def _column(self, name):
        """A column as floats, NaN where nothing is known."""
        column = self.history.get(name, [None] * len(self.history["epoch"]))
        return np.array([np.nan if value is None else value for value in column], float)

    def _title(self):
        n_epochs, seconds = len(self.history["epoch"]), self._column("seconds")
        text = f"{n_epochs} epoch{'s' * (n_epochs != 1)}"
        if np.isfinite(seconds).all():
            text += f", {seconds.sum():.3g} s"
        return f"{self.name}: {text}" if self.name else text

    def _line(self, ax, values, **how):
        """A curve over the epochs, a point if there is but one; its colour."""
        epochs = self.history["epoch"]
        line, = ax.plot(epochs, values, marker="o" if len(epochs) == 1 else None, **how)
        ax.set_xlabel("epoch")
        ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        ax.grid(alpha=0.3)
        return line.get_color()

    def _draw_loss(self, ax, prefix=""):
        training, validation = self._column("loss"), self._column("validation_loss")
        self._line(ax, training, label=f"{prefix}training")
        if np.isfinite(validation).any():
            colour = self._line(ax, validation, label=f"{prefix}validation")
            self._mark(ax, validation, np.nanargmin(validation), "lowest", colour)
        values = np.concatenate([training, validation])
        if np.nanmin(values) > 0 and np.nanmax(values) > 10 * np.nanmin(values):
            logarithmic(ax, np.nanmax(values) / np.nanmin(values))
        ax.set_ylabel("loss")
        ax.legend()

    def _draw_score(self, ax):
        values = self._column("validation_score")
        colour = self._line(ax, values, color="tab:green")
        self._mark(ax, values, np.nanargmax(values), "best", colour)
        ax.set_ylabel("validation score")
        ax.legend(loc="lower right")

    def _draw_rate(self, ax):
        self._line(ax, self._column("learning_rate"), color="tab:gray")
        ax.set_ylabel("learning rate")
        ax.set_ylim(bottom=0)

    def _mark(self, ax, values, row, what, colour):
        epoch = self.history["epoch"][row]
        ax.plot(epoch, values[row], "o", color=colour, label=f"{what}: {values[row]:.3g} in epoch {epoch}")


def logarithmic(ax, ratio):
    """Logarithms upwards, with plain numbers at powers of ten and, if there are few of them, 2 and 5 times these."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    ax.set_yscale("log")
    ax.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5) if ratio < 1000 else (1,)), minor_locator=NullLocator(),
                 major_formatter=StrMethodFormatter("{x:g}"))
