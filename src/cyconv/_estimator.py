"""What ConvNetClassifier and ConvNetRegressor share: scikit-learn's contract around one network.

Checks, restarts, prediction and inner features are here. The parameters' rules are in `_rules`, shapes of
samples in `_samples`, the layers in `_architecture`, validation data in `_held_out`, the course of a fit in
`_fitting`, prediction in `_inference`. A subclass knows its targets: it describes and encodes them, and names
loss and score.
"""

import warnings
from contextlib import contextmanager
from copy import deepcopy

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import (
    _check_feature_names_in,
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

from . import _held_out
from ._architecture import architecture_of, describe, first_difference, input_weights, output_parameters, restore
from ._documentation import Documented
from ._fitted import Saved
from ._fitting import NOTHING_LEARNED, Fitting, Problem
from ._inference import feature_names, features, layer_number, predicting_network
from ._rates import Rate
from ._rules import check_parameters
from ._samples import as_rows, check_shape, check_single, fitted_shape, image_shape, warn_of_float64
from ._training import Samples, outputs_of, scale_of
from .augmentation import check_augment
from .network import Sequential
from .optimizers import SGD, Adam, AdamW, RMSprop

FLOATS = (np.float32, np.float64)     # others become the first
AUTO_BATCH_SIZE = 32
FIRST_WEIGHTS = 0.4     # of He's: sqrt(2 / fan-in) becomes the sqrt(1 / (3 fan-in)) of PyTorch's layers, nearly


def keep(arguments):
    """Store the arguments of `__init__`, given as its ``locals()``, and do nothing else."""
    estimator = arguments.pop("self")
    vars(estimator).update(arguments)


class ConvNet(Saved, Documented, CallbackSupportMixin, TransformerMixin, _BaseComposition):
    """Base of the estimators."""

    _y_is_numeric = False

    # ------------------------------------------------------------ what a subclass says

    def _describe_targets(self, y, classes):
        """Fitted attributes that say what the targets are, as a dict with n_outputs_."""
        raise NotImplementedError

    def _encode(self, y, dtype):
        """Targets as the loss takes them."""
        raise NotImplementedError

    def _decode(self, targets):
        """What `_encode` encoded."""
        raise NotImplementedError

    def _loss(self):
        """``loss(outputs, targets, weight) -> (value, gradient)``, and the unit of the value."""
        raise NotImplementedError

    def _score(self, outputs, targets, weight):
        """What `score` says of such outputs."""
        raise NotImplementedError

    def _class_factors(self, y, weight):
        """Factors of the weights by target, or None."""
        return None

    def _strata(self, targets):
        """Groups that a validation set represents in proportion, or None."""
        return None

    def _measure(self, y, weight):
        """Note of the targets what is needed to encode them."""

    def _output_factor(self):
        """Outputs of the trained network over those in training: one number, or one for each output."""
        return 1.0

    def _center_outputs(self, network, samples):
        """Change a new network so that its outputs are near the targets."""

    # ------------------------------------------------------------ parameters

    def get_params(self, deep=True):
        """Parameters by name; with ``deep=True`` also the layers by their names, and ``<name>__<parameter>``."""
        return self._get_params("layers", deep=deep)

    def set_params(self, **params):
        """Change parameters; ``<name>=`` replaces a layer of `layers`, ``<name>__<parameter>=`` changes one."""
        self._set_params("layers", **params)
        return self

    # ------------------------------------------------------------ training

    @with_callbacks
    def fit(self, X, y, sample_weight=None, *, X_val=None, y_val=None, sample_weight_val=None):
        """Train the network.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features) or (n_samples, *input_shape)
            float32 and float64 are computed as they are, everything else as float32.
        y : array_like of shape (n_samples,) or (n_samples, n_outputs)
            Labels of any type, or 0 and 1 for each of several labels; numbers in regression.
        sample_weight : array_like of shape (n_samples,) or None, default None
            Weights of the samples in the loss, at least 0 and not all 0. Their mean should be near 1: the penalty
            alpha is divided by the weight of the batch, so that small weights make it strong.
        X_val, y_val : array_like or None, default None
            Samples like X and y to look at after every epoch. early_stopping decides by them and sets none
            of X aside.
        sample_weight_val : array_like of shape (n_validation_samples,) or None, default None
            Weights of the samples of X_val.

        Returns
        -------
        self : object
            Untouched if training fails.

        Raises
        ------
        ValueError
            When a parameter breaks its rule, shapes do not match, there is one class only, or training
            diverges.
        """
        check_parameters(self)
        context = self._init_callback_context(max_subtasks=self.max_iter)
        given = {"X": X, "y": y, "metadata": None if sample_weight is None else {"sample_weight": sample_weight}}
        context.call_on_fit_task_begin(estimator=self, **given)
        with self._all_or_nothing():
            goes_on = self.warm_start and hasattr(self, "parameters_")
            X, y = self._prepare(X, y, None, goes_on)
            samples, factors = self._samples(X, y, sample_weight, goes_on)
            validation = _held_out.given(self, X_val, y_val, sample_weight_val, y.shape[1:])
            seed = self._seed()
            if validation is not None:
                validation = self._weighted(*validation, factors).with_weight()
            elif self.early_stopping:
                samples, validation = _held_out.set_aside(samples, self.validation_fraction,
                                                          self._strata(samples.targets), seed)
            self.n_iter_ = 0
            fitting = self._start(samples, validation, seed, goes_on)
            if self.verbose > 1:
                print(fitting.network.summary())
            fitting.run(self.max_iter, context, given)
            vars(self).update(fitting.export())
            context.call_on_fit_task_end(estimator=self, **given, reconstruction_attributes={})
        return self

    def _partial_fit(self, X, y, sample_weight, classes=None):
        """Train once with some samples."""
        check_parameters(self)
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True; give fit validation data instead")
        with self._all_or_nothing():
            goes_on = hasattr(self, "parameters_")
            X, y = self._prepare(X, y, classes, goes_on)
            samples, _ = self._samples(X, y, sample_weight, goes_on)
            fitting = self._start(samples, None, self._seed(), goes_on)
            schedule = self._training_state(goes_on).get("schedule", {})
            if schedule.keys() == fitting.rate.schedule.state().keys():
                fitting.rate.schedule.load_state(schedule)
            fitting.epoch()
            vars(self).update(fitting.export())
        if self.verbose:
            print(f"call {self.n_iter_} of partial_fit: loss {self.loss_:.6f}", flush=True)
        return self

    @contextmanager
    def _all_or_nothing(self):
        """Whatever ends training early leaves what the last one learned."""
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _prepare(self, X, y, classes, goes_on):
        """X as rows and y as scikit-learn checks them; sets the attributes that describe the problem."""
        rows, found = as_rows(X)
        X, y = self._checked(rows, y, is_first=not goes_on)
        shape = fitted_shape(found, X.shape[1], self.input_shape, self.spatial_dims, self.data_format)
        if found is None and self.input_shape is None:
            self._warn_of_flat_images()
        self._check_augment(len(shape) - 1)
        described = self._describe_targets(y, classes) | {"input_shape_": shape, "data_format_": self.data_format}
        described["architecture_"] = describe(architecture_of(self, shape, described["n_outputs_"]))
        layer_number([name for name, _, _ in described["architecture_"]], self.feature_layer)
        for name, value in described.items():
            before = getattr(self, name) if goes_on else value
            if not (np.array_equal(value, before) if isinstance(value, np.ndarray) else value == before):
                before, value = first_difference(before, value) if name == "architecture_" else (before, value)
                raise ValueError(f"training goes on only with the {name} of the last fit, {before}, got {value}; for "
                                 "another network set warm_start=False and call fit")
        vars(self).update(described)
        return X, y

    def _checked(self, rows, y, is_first):
        X, y = validate_data(self, rows, y, dtype=FLOATS, order="C", reset=is_first, multi_output=True)
        return X, _held_out.checked_targets(self, y)

    def _check_augment(self, n_axes):
        try:
            check_augment(self.augment, n_axes)
        except (TypeError, ValueError) as error:
            raise ValueError(f"The 'augment' parameter of {type(self).__name__}: {error}") from error

    def _warn_of_flat_images(self):
        shape = image_shape(self.n_features_in_, self.data_format)
        if shape is not None:
            warnings.warn(f"X is taken for signals of {self.n_features_in_} values; if they are images, pass "
                          f"input_shape={shape}", UserWarning, stacklevel=5)

    def _samples(self, X, y, sample_weight, goes_on):
        """Training data without samples of weight zero, and the factors that classes put on weights."""
        weight = None if sample_weight is None else _check_sample_weight(
            sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if not goes_on:
            self._measure(y, weight)
        factors = self._class_factors(y, weight)
        samples = self._weighted(X, y, weight, factors)
        if samples.weight is not None and not samples.weight.any():
            raise ValueError("class_weight times sample_weight must leave a weight above zero, got zero for all")
        return samples.with_weight(), factors

    def _weighted(self, X, y, weight, factors):
        targets = self._encode(y, X.dtype)
        if factors is not None:
            weight = factors[targets] if weight is None else weight * factors[targets]
        return Samples(np.require(X, requirements="CA"), targets, weight)

    def _seed(self):
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _start(self, samples, validation, seed, goes_on):
        """A fit that is about to begin, with a new network or with that of the last one."""
        if not goes_on:
            vars(self).update(deepcopy(NOTHING_LEARNED))
            vars(self).pop("parameters_", None)       # those of another network would not suit what is set now
        network = Sequential(restore(self.architecture_), self.input_shape_, dtype=samples.X.dtype,
                             data_format=self.data_format_, random_state=seed)
        warn_of_float64(network)
        if goes_on:
            network.load_parameters(self._rescaled(network, self.parameters_, -1))
        else:
            network.weights[:] *= FIRST_WEIGHTS
            self.input_scale_ = scale_of(samples) if input_weights(network) else 1.0
            self._center_outputs(network, samples)
        optimizer = self._optimizer(network)
        if self._training_state(goes_on).get("solver") == self.solver:
            optimizer.load_state(self.optimizer_state_)
        n_samples = len(samples.X)
        batch_size = min(AUTO_BATCH_SIZE if self.batch_size == "auto" else self.batch_size, n_samples)
        loss, unit = self._loss()
        score = _held_out.scorer_of(self, validation)
        rate = Rate(self, n_samples, -(-n_samples // batch_size), unit)
        return Fitting(self, network, optimizer, rate, Problem(samples, validation, loss, unit, score), batch_size,
                       lambda: self._learned(network, optimizer, rate))

    def _learned(self, network, optimizer, rate):
        """What training has made so far, as attributes with arrays of their own."""
        return {"parameters_": self._rescaled(network, network.parameters(), 1),
                "optimizer_state_": {"solver": self.solver, "schedule": rate.schedule.state(), **optimizer.state()}}

    def _training_state(self, goes_on):
        """What the last fit left to go on with; a model file may not hold it."""
        return getattr(self, "optimizer_state_", {}) if goes_on else {}

    def _rescaled(self, network, parameters, sign):
        """Parameters for data as they are from those for scaled data (sign 1), or the other way round (sign -1)."""
        parameters = dict(parameters)
        for names, factor in ((input_weights(network), self.input_scale_),
                              (output_parameters(network), self._output_factor())):
            for name in names if np.any(factor != 1) else ():
                value = parameters[name]
                by_output = np.reshape(factor**sign, (-1,) + (1,) * (value.ndim - 1))     # or one for all
                parameters[name] = value * by_output.astype(value.dtype)
        return parameters

    def _optimizer(self, network):
        vector, rate, n_weights = network.vector, self.learning_rate_init, network.weights.size
        betas = self.beta_1, self.beta_2, self.epsilon
        if self.solver == "sgd":
            return SGD(vector, rate, self.momentum, self.nesterovs_momentum, n_weights=n_weights)
        if self.solver == "adam":
            return Adam(vector, rate, *betas, n_weights=n_weights)
        if self.solver == "adamw":
            return AdamW(vector, rate, *betas, self.alpha, n_weights=n_weights)
        return RMSprop(vector, rate, epsilon=self.epsilon, n_weights=n_weights)

    # ------------------------------------------------------------ prediction

    def to_sequential(self):
        """The trained network as a `cyconv.Sequential` of its own: outputs from arrays of samples."""
        check_is_fitted(self, "parameters_")
        return Sequential(restore(self.architecture_), self.input_shape_, dtype=self._dtype,
                          data_format=self.data_format_, random_state=0, parameters=self.parameters_)

    @property
    def _dtype(self):
        return next(iter(self.parameters_.values())).dtype

    def summary(self):
        """Table of the layers, their output shapes, parameters, multiplications and receptive fields, a str."""
        return self.to_sequential().summary()

    def _outputs(self, X):
        """Outputs of the network for X as in `fit`."""
        check_is_fitted(self, "parameters_")
        X = self._rows(X)
        return outputs_of(predicting_network(self, len(X)), X, 1, self.n_jobs)

    def _rows(self, X):
        rows, found = as_rows(X)
        check_shape(found, self.input_shape_, self.data_format_)
        check_single(rows, self.input_shape_)
        return validate_data(self, rows, dtype=FLOATS, reset=False)

    # ------------------------------------------------------------ inner features

    def transform(self, X):
        """What the layer `feature_layer` makes of X.

        Parameters
        ----------
        X : array_like
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_samples, n_values)
            Outputs of the layer, in the order (C, *spatial).
        """
        check_is_fitted(self, "parameters_")
        return features(self.to_sequential(), self.feature_layer, self._rows(X), self.n_jobs)

    def get_feature_names_out(self, input_features=None):
        """Names of the columns of `transform`: of the layer, the channel and the place, as "maxpool2_c0_h1_w1".

        Parameters
        ----------
        input_features : array_like of str or None, default None
            Checked against the names that X had in `fit`, and not used.

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self, "parameters_")
        _check_feature_names_in(self, input_features)
        return feature_names(self.to_sequential(), self.feature_layer)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
