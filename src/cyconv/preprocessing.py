"""Transformers for images, signals and volumes: scaled by channel, flattened, and seen through filters.

All take n-dimensional arrays as well as rows, as the estimators do (`_samples`), and keep float32. What is
learned are plain arrays and tuples.
"""

from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from . import _arrays, functional
from ._documentation import Documented
from ._samples import as_rows, check_shape, fitted_shape, with_channels
from ._training import outputs_of
from .layers import ACTIVATIONS, AdaptivePool, Conv
from .layers._layer import flatten
from .network import INITIAL, Sequential, random_stream

__all__ = ["ConvFeatures", "ImageFlattener", "ImageScaler"]

FLOATS = (np.float32, np.float64)     # others become the first
SHAPE_RULES = {
    "input_shape": [tuple, list, None],
    "spatial_dims": [Interval(Integral, 1, 3, closed="both"), None],
    "data_format": [StrOptions(set(_arrays.LAYOUTS))],
}
AXES = {1: "l", 2: "hw", 3: "dhw"}


class ShapedTransformer(Documented, TransformerMixin, BaseEstimator):
    """What transformers share that know the shape of a sample: X as rows, and as a batch for `cyconv`."""

    def _learn_shape(self, X, reset):
        """X as a batch; sets or compares input_shape_."""
        self._validate_params()
        rows, found = as_rows(X)
        rows = validate_data(self, rows, dtype=FLOATS, order="C", reset=reset)
        if reset:
            self.input_shape_ = fitted_shape(found, rows.shape[1], self.input_shape, self.spatial_dims,
                                             self.data_format)
        else:
            check_shape(found, self.input_shape_, self.data_format)
        return rows.reshape(-1, *self.input_shape_)

    def _batch(self, X):
        """X as a batch, and its own shape."""
        check_is_fitted(self)
        rows, found = as_rows(X)
        check_shape(found, self.input_shape_, self.data_format)
        rows = validate_data(self, rows, dtype=FLOATS, order="C", reset=False)
        return rows.reshape(-1, *self.input_shape_), (len(rows), *found) if found else rows.shape

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class ImageScaler(OneToOneFeatureMixin, ShapedTransformer):
    """Bring every channel to mean 0 and standard deviation 1, over all samples and positions.

    `sklearn.preprocessing.StandardScaler` does so for every pixel by itself, which takes away what images have
    in common and blows up pixels that hardly ever change.

    Parameters
    ----------
    with_mean : bool, default True
        Whether means become 0.
    with_std : bool, default True
        Whether deviations become 1. Channels without deviation are not divided.
    input_shape : tuple of int or None, default None
        Shape of one sample, (C, H, W) or (H, W), when the rows of X are flattened images; as for
        `cyconv.ConvNetClassifier`. Rows without it have one channel.
    spatial_dims : {1, 2, 3} or None, default None
        Number of axes besides the channels; None decides as in `cyconv.ConvNetClassifier`.
    data_format : {"channels_first", "channels_last"}, default "channels_first"
        Where X and input_shape have their channels.
    n_jobs : int or None, default None
        Number of threads, on which no result depends.

    Attributes
    ----------
    mean_ : ndarray of shape (C,), float64
        Mean of each channel.
    var_ : ndarray of shape (C,), float64
        Variance of each channel.
    scale_ : ndarray of shape (C,), float64
        What is divided by: the root of the variance, or 1 where there is none.
    n_samples_seen_ : int
        Samples that means and variances are of.
    input_shape_ : tuple of int
        Shape of one sample with its channel axis.
    n_features_in_ : int
        Values per sample.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features, if X has names that are all strings.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import ImageScaler
    >>> X = np.random.default_rng(0).uniform(0, 255, (10, 3, 8, 8)).astype(np.float32)
    >>> scaled = ImageScaler().fit_transform(X)
    >>> scaled.shape, scaled.dtype
    ((10, 3, 8, 8), dtype('float32'))
    >>> bool(np.allclose(scaled.mean(axis=(0, 2, 3)), 0, atol=1e-6))
    True
    """

    _parameter_constraints = SHAPE_RULES | {"with_mean": ["boolean"], "with_std": ["boolean"],
                                            "n_jobs": [Integral, None]}

    def __init__(self, *, with_mean=True, with_std=True, input_shape=None, spatial_dims=None,
                 data_format="channels_first", n_jobs=None):
        self.with_mean = with_mean
        self.with_std = with_std
        self.input_shape = input_shape
        self.spatial_dims = spatial_dims
        self.data_format = data_format
        self.n_jobs = n_jobs

    def fit(self, X, y=None):
        """Learn means and deviations.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features) or (n_samples, *input_shape)
        y : None
            Ignored.

        Returns
        -------
        self : ImageScaler
        """
        return self._see(X, True)

    def partial_fit(self, X, y=None):
        """Learn from more samples; parameters as for `fit`.

        Returns
        -------
        self : ImageScaler
            As if `fit` had seen all samples, up to rounding.
        """
        return self._see(X, not hasattr(self, "n_samples_seen_"))

    def _see(self, X, is_first):
        batch = self._learn_shape(X, is_first)
        mean, var = functional.moments(batch, data_format=self.data_format, n_threads=self.n_jobs)
        before = 0 if is_first else self.n_samples_seen_
        self.n_samples_seen_ = before + len(batch)
        if before:
            share, apart = len(batch) / self.n_samples_seen_, mean - self.mean_
            var = (1 - share) * self.var_ + share * var + share * (1 - share) * apart * apart
            mean = self.mean_ + share * apart
        self.mean_, self.var_ = mean, var
        count = self.n_samples_seen_ * (batch[0].size // len(mean))
        is_constant = var <= (count * np.finfo(np.float64).eps * mean) ** 2       # what rounding makes of 0
        self.scale_ = np.where(is_constant, 1.0, np.sqrt(var))
        return self

    def transform(self, X):
        """Scaled samples, ndarray of the shape of X; X as for `fit`."""
        batch, shape = self._batch(X)
        mean, scale = self._used()
        return self._mapped(batch, mean, scale * scale, None, None).reshape(shape)

    def inverse_transform(self, X):
        """Samples that `transform` made the given ones of, ndarray of the shape of X."""
        check_is_fitted(self)
        rows, found = as_rows(X)
        check_shape(found, self.input_shape_, self.data_format)
        rows = check_array(rows, dtype=FLOATS, order="C")
        mean, scale = self._used()
        y = self._mapped(rows.reshape(-1, *self.input_shape_), 0 * mean, 1 + 0 * mean, scale, mean)
        return y.reshape((len(rows), *found) if found else rows.shape)

    def _used(self):
        return self.mean_ if self.with_mean else 0 * self.mean_, self.scale_ if self.with_std else 1 + 0 * self.scale_

    def _mapped(self, batch, mean, var, weight, bias):
        return functional.batch_norm(batch, mean, var, weight, bias, 0, data_format=self.data_format,
                                     n_threads=self.n_jobs)


class ImageFlattener(Documented, TransformerMixin, BaseEstimator):
    """Images, signals or volumes as rows, for estimators that take nothing else; and back again.

    Rows stay as they are.

    Parameters
    ----------
    spatial_dims : {1, 2, 3} or None, default None
        Number of axes besides the channels, for the names of the features; None decides as in
        `cyconv.ConvNetClassifier`.
    data_format : {"channels_first", "channels_last"}, default "channels_first"
        For the names of the features.

    Attributes
    ----------
    shape_ : tuple of int
        Shape of one sample.
    n_features_in_ : int
        Values per sample.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features, if X has names that are all strings.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv import ImageFlattener
    >>> images = np.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    >>> flattener = ImageFlattener().fit(images)
    >>> rows = flattener.transform(images)
    >>> rows.shape
    (2, 48)
    >>> flattener.get_feature_names_out()[:2]
    array(['c0_h0_w0', 'c0_h0_w1'], dtype=object)
    >>> flattener.inverse_transform(rows).shape
    (2, 3, 4, 4)
    """

    _parameter_constraints = {name: SHAPE_RULES[name] for name in ("spatial_dims", "data_format")}

    def __init__(self, *, spatial_dims=None, data_format="channels_first"):
        self.spatial_dims = spatial_dims
        self.data_format = data_format

    def fit(self, X, y=None):
        """Learn the shape of a sample.

        Parameters
        ----------
        X : array_like of shape (n_samples, *shape)
        y : None
            Ignored.

        Returns
        -------
        self : ImageFlattener
        """
        self._validate_params()
        rows, found = as_rows(X)
        rows = validate_data(self, rows)
        self.shape_ = found or rows.shape[1:]
        return self

    def transform(self, X):
        """Rows, ndarray of shape (n_samples, n_features); X like that of `fit`, or rows already."""
        check_is_fitted(self)
        rows, found = as_rows(X)
        if found not in (None, self.shape_):
            raise ValueError(f"samples of X have shape {found}, expected {self.shape_} as in fit")
        return validate_data(self, rows, reset=False)

    def inverse_transform(self, X):
        """Samples of the shape that `fit` saw, ndarray of shape (n_samples, *shape), from rows."""
        check_is_fitted(self)
        rows = check_array(X)
        if rows.shape[1] != self.n_features_in_:
            raise ValueError(f"X has {rows.shape[1]} features, samples of shape {self.shape_} have "
                             f"{self.n_features_in_}")
        return rows.reshape(-1, *self.shape_)

    def get_feature_names_out(self, input_features=None):
        """Names of the columns: of channel and position, or those of the input if it was rows.

        Parameters
        ----------
        input_features : array_like of str or None, default None
            Names of the columns of rows.

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        if len(self.shape_) == 1:
            return _check_feature_names_in(self, input_features)
        dims = len(with_channels(self.shape_, self.spatial_dims, self.data_format)) - 1
        letters = AXES[dims]
        if len(self.shape_) > dims:
            letters = "c" + letters if self.data_format == "channels_first" else letters + "c"
        return names_of_cells(letters, self.shape_)


class ConvFeatures(ShapedTransformer):
    """Features of filters that need no training: convolution, activation, pooling into a few bins.

    Puts local patterns in front of any estimator that knows rows only. Random filters do well;
    known ones, such as `cyconv.filters.gabor_bank`, say what they respond to.

    Parameters
    ----------
    filters : "random" or array_like of shape (K, *kernel) or (K, C, *kernel), default "random"
        Weights of the convolution. Without a channel axis every channel goes through each of them by itself.
        "random" are of mean 0 and of length 1 each.
    n_filters : int, default 32
        How many random ones.
    kernel_size : int or tuple of int, default 5
        Size of random ones.
    activation : str, default "relu"
        As for `cyconv.ConvNetClassifier`.
    pool : {"avg", "max"}, default "avg"
        Mean or maximum of each bin.
    n_bins : int, default 3
        Bins per axis, each about as large as the others; at most one for each cell.
    input_shape : tuple of int or None, default None
        Shape of one sample when the rows of X are flattened images, as for `ImageScaler`.
    spatial_dims : {1, 2, 3} or None, default None
        Number of axes besides the channels; None decides as in `cyconv.ConvNetClassifier`.
    data_format : {"channels_first", "channels_last"}, default "channels_first"
        Where X and input_shape have their channels.
    random_state : int, RandomState or None, default None
        Decides random filters.
    n_jobs : int or None, default None
        Number of threads, on which no result depends.

    Attributes
    ----------
    filters_ : ndarray of shape (n_maps, channels of each, *kernel)
        Weights used.
    input_shape_ : tuple of int
        Shape of one sample with its channel axis.
    n_features_in_ : int
        Values per sample.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features, if X has names that are all strings.

    References
    ----------
    Saxe, Koh, Chen, Bhand, Suresh, Ng: On random weights and unsupervised feature learning, ICML 2011.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import RidgeClassifier
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.pipeline import make_pipeline
    >>> from cyconv import ConvFeatures
    >>> X, y = load_digits(return_X_y=True)
    >>> features = ConvFeatures(n_filters=64, input_shape=(8, 8), random_state=0)
    >>> features.fit_transform(X).shape
    (1797, 576)
    >>> plain, convolved = (cross_val_score(model, X, y).mean()
    ...                     for model in (RidgeClassifier(), make_pipeline(features, RidgeClassifier())))
    >>> bool(convolved > plain + 0.03)
    True
    """

    _parameter_constraints = SHAPE_RULES | {
        "filters": [StrOptions({"random"}), "array-like"],
        "n_filters": [Interval(Integral, 1, None, closed="left")],
        "kernel_size": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "pool": [StrOptions({"avg", "max"})],
        "n_bins": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
    }

    def __init__(self, filters="random", *, n_filters=32, kernel_size=5, activation="relu", pool="avg", n_bins=3,
                 input_shape=None, spatial_dims=None, data_format="channels_first", random_state=None, n_jobs=None):
        self.filters = filters
        self.n_filters = n_filters
        self.kernel_size = kernel_size
        self.activation = activation
        self.pool = pool
        self.n_bins = n_bins
        self.input_shape = input_shape
        self.spatial_dims = spatial_dims
        self.data_format = data_format
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X, y=None):
        """Learn the shape of a sample, and draw random filters.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features) or (n_samples, *input_shape)
        y : None
            Ignored.

        Returns
        -------
        self : ConvFeatures
        """
        batch = self._learn_shape(X, True)
        is_last = self.data_format == "channels_last"
        channels, dims = batch.shape[-1 if is_last else 1], batch.ndim - 2
        self.filters_ = (self._random_filters(channels, dims) if isinstance(self.filters, str)
                         else self._known_filters(channels, dims)).astype(batch.dtype)
        return self

    def _random_filters(self, channels, dims):
        sizes = self.kernel_size if isinstance(self.kernel_size, (tuple, list)) else (self.kernel_size,) * dims
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        weights = 2 * random_stream(seed, INITIAL).random((self.n_filters, channels, *sizes)) - 1
        axes = tuple(range(1, weights.ndim))
        if weights[0].size > 1:
            weights -= weights.mean(axis=axes, keepdims=True)
        return weights / np.sqrt(np.square(weights).sum(axis=axes, keepdims=True))

    def _known_filters(self, channels, dims):
        weights = _arrays.as_array("ConvFeatures", "filters", self.filters)
        if not np.isfinite(weights).all():
            raise ValueError("ConvFeatures: filters must be finite, got NaN or infinity")
        if weights.ndim == dims + 1:
            return np.tile(weights[:, None], (channels, *(1,) * (dims + 1)))
        if weights.ndim != dims + 2 or weights.shape[1] != channels:
            raise ValueError(f"ConvFeatures: filters must have shape (K, *kernel) or (K, {channels}, *kernel) with "
                             f"{dims} axes of the kernel for samples of shape {self.input_shape_}, got {weights.shape}")
        return weights

    def _network(self, dtype):
        is_last = self.data_format == "channels_last"
        channels, spatial = self.input_shape_[-1 if is_last else 0], self.input_shape_[:-1] if is_last \
            else self.input_shape_[1:]
        activation = ACTIVATIONS[self.activation]
        conv = Conv(len(self.filters_), self.filters_.shape[2:], padding="same", bias=False,
                    groups=channels // self.filters_.shape[1])
        pool = AdaptivePool(tuple(min(self.n_bins, n) for n in spatial), self.pool)
        return Sequential([("conv", conv), *([("activation", activation())] if activation else []), ("pool", pool)],
                          self.input_shape_, dtype=dtype, data_format=self.data_format,
                          parameters={"conv.weight": self.filters_})

    def transform(self, X):
        """Features, ndarray of shape (n_samples, n_maps * bins); X as for `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            The bins of the first filter first.
        """
        batch, _ = self._batch(X)
        rows, _ = flatten(outputs_of(self._network(batch.dtype), batch, 1, self.n_jobs), self.data_format)
        return rows

    def get_feature_names_out(self, input_features=None):
        """Names of the columns: of filter and bin, as "filter3_h0_w1".

        Parameters
        ----------
        input_features : array_like of str or None, default None
            Checked against the names that X had in `fit`, and not used.

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features)
        maps, *bins = self._network(self.filters_.dtype).shapes[-1]
        return names_of_cells(("filter", *AXES[len(bins)]), (maps, *bins))


def names_of_cells(letters, shape):
    """"c0_h3_w5" and so on, for every cell of a shape in row-major order."""
    return np.array(["_".join(f"{letter}{i}" for letter, i in zip(letters, index)) for index in np.ndindex(*shape)],
                    dtype=object)
