"""ConvNetRegressor: a small convolutional network for numbers, behind scikit-learn's interface.

Here are the scale of targets and the losses. What it shares with `classifier` is in `_estimator`.
"""

from functools import partial

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score

from ._architecture import output_parameters
from ._documentation import documented
from ._estimator import ConvNet, keep
from ._training import nearest_power
from .losses import huber, squared_error

__all__ = ["ConvNetRegressor"]

ROUNDING = 1e-12     # a deviation of less than this part of the mean is that of a constant


@documented
class ConvNetRegressor(RegressorMixin, ConvNet):
    """Convolutional network for regression on images, signals and volumes, with one output or several.

    As `ConvNetClassifier`, with the squared error or Huber's loss. Neither X nor y need be scaled: training
    starts from the mean of y and divides it by the power of two nearest to its standard deviation, each output
    by its own, and the weights of the trained network include that. Losses are those of y as it is given; with
    several outputs, whose units may differ, they are those of y / output_scale_.

    Parameters
    ----------
    {parameters}
    loss : {"squared_error", "huber"}, default "squared_error"
        The mean over samples and outputs of half the square of the error, or of `cyconv.losses.huber`, which is
        linear for large errors.
    huber_delta : float > 0, default 1.0
        Error from which on loss="huber" is linear, in units of y; with several outputs, of y / output_scale_.

    Attributes
    ----------
    output_scale_ : float, or ndarray of shape (n_outputs_,) with several outputs
        The powers of two that y was divided by in training.
    {attributes}

    See Also
    --------
    sklearn.neural_network.MLPRegressor : The same without convolution.
    ConvNetClassifier : The same for labels.
    cyconv.Sequential : The network itself.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import ConvNetRegressor
    >>> X = np.random.default_rng(0).normal(size=(600, 32)).astype(np.float32)      # 600 signals
    >>> y = np.abs(np.diff(X)).max(axis=1)                                          # their largest jump
    >>> regressor = ConvNetRegressor(conv_channels=16, pool_size=32, learning_rate_init=0.01, learning_rate="cosine",
    ...                              max_iter=50, n_iter_no_change=np.inf, random_state=0)
    >>> regressor.fit(X[:500], y[:500]).score(X[500:], y[500:]) > 0.7
    True
    """

    _y_is_numeric = True

    def __init__(self, conv_channels=(16, 32), *, kernel_size=3, stride=1, padding="same", dilation=1, pool="max",
                 pool_size=2, activation="relu", batch_norm=False, dropout=0.0, hidden_layer_sizes=(), layers=None,
                 input_shape=None, spatial_dims=None, data_format="channels_first", solver="adam", alpha=1e-4,
                 batch_size="auto", learning_rate="constant", learning_rate_init=3e-3, power_t=0.5, max_iter=200,
                 shuffle=True, random_state=None, tol=1e-4, verbose=False, warm_start=False, momentum=0.9,
                 nesterovs_momentum=True, early_stopping=False, validation_fraction=0.1, scoring="loss",
                 n_iter_no_change=10, beta_1=0.9, beta_2=0.999, epsilon=1e-8, augment=None, feature_layer=None,
                 n_jobs=None, loss="squared_error", huber_delta=1.0):
        keep(locals())

    # ------------------------------------------------------------ targets

    def partial_fit(self, X, y, sample_weight=None):
        """Train once with some samples, starting from the network as it is.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`.

        Returns
        -------
        self : ConvNetRegressor
        """
        return self._partial_fit(X, y, sample_weight)

    def _describe_targets(self, y, classes):
        return {"n_outputs_": 1 if y.ndim == 1 else y.shape[1]}

    def _measure(self, y, weight):
        y = y.reshape(len(y), -1).astype(np.float64)
        mean = np.average(y, axis=0, weights=weight)
        deviation = np.sqrt(np.average((y - mean)**2, axis=0, weights=weight))
        scales = [nearest_power(d) if d > ROUNDING * abs(m) else 1.0 for d, m in zip(deviation, mean)]
        self.output_scale_ = np.array(scales) if len(scales) > 1 else scales[0]

    def _encode(self, y, dtype):
        return (y.reshape(len(y), -1) / self.output_scale_).astype(dtype)

    def _decode(self, targets):
        y = targets * self.output_scale_
        return y if self.n_outputs_ > 1 else y[:, 0]

    def _output_factor(self):
        return self.output_scale_

    def _center_outputs(self, network, samples):
        *_, last = output_parameters(network)
        if last.endswith(".bias"):
            mean = np.average(samples.targets, axis=0, weights=samples.weight)
            network.load_parameters(network.parameters() | {last: mean})

    def _loss(self):
        unit = 1.0 if np.ndim(self.output_scale_) else self.output_scale_     # several outputs may differ in theirs
        return partial(huber, delta=self.huber_delta / unit) if self.loss == "huber" else squared_error, unit**2

    def _score(self, outputs, targets, weight):
        return r2_score(targets, outputs, sample_weight=weight) if len(targets) > 1 else np.nan

    # ------------------------------------------------------------ prediction

    def predict(self, X):
        """Predicted numbers, ndarray of shape (n_samples,) or (n_samples, n_outputs); X as in `fit`."""
        outputs = self._outputs(X)
        return outputs if self.n_outputs_ > 1 else outputs[:, 0]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
