"""ConvNetClassifier: a small convolutional network behind scikit-learn's interface.

Here is the contract with scikit-learn: parameters, validation, labels, fitted attributes. The network is
in `network`, an epoch of training in `_training`, the shapes of samples in `_samples`.
"""

import warnings
from math import prod
from time import perf_counter

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from . import functional
from ._architecture import conv_net, describe, restore
from ._rules import check_parameters
from ._samples import as_rows, check_shape, fitted_shape, image_shape
from ._training import Samples, scale_of, train_epoch
from .network import Sequential
from .optimizers import SGD, Adam

__all__ = ["ConvNetClassifier"]

FLOATS = (np.float32, np.float64)     # others become the first
AUTO_BATCH_SIZE = 32
VALUES_AT_ONCE = 2**21                # of the largest activation while predicting


class ConvNetClassifier(ClassifierMixin, BaseEstimator):
    """Convolutional network for classification of images, signals and volumes.

    Blocks of convolution, activation and pooling, then dense layers; softmax cross-entropy with an L2
    penalty is minimised by Adam or stochastic gradient descent. Parameters that
    `sklearn.neural_network.MLPClassifier` has too have its names and meaning. A given random_state
    gives the same network for any number of threads.

    X need not be scaled: training multiplies it by the power of two that brings its root mean square
    nearest to 1, and the weights of the trained network include that factor. Data far from zero are
    better centred first.

    Parameters
    ----------
    conv_channels : int or sequence of int, default (16, 32)
        Number of filters of each convolution layer; () for none.
    kernel_size, stride, padding, dilation : default 3, 1, "same", 1
        Of the convolutions, as for `cyconv.conv2d`: one value, or one for each layer (so that a window
        which is not square is written ``((3, 1), (3, 1))`` for two layers).
    pool : {"max", "avg", None} or one for each layer, default "max"
        Pooling after each convolution and activation.
    pool_size : int or one for each layer, default 2
        Size and stride of the pooling windows; cut to the size of the map.
    activation : str, default "relu"
        After each convolution and each hidden dense layer: "relu", "leaky_relu", "elu", "selu", "gelu",
        "silu" or "swish", "sigmoid" or "logistic", "tanh", or "identity" for none; each as the function of
        `cyconv` of that name with its default parameters.
    batch_norm : bool, default False
        Whether the channels of each convolution are normalised before the activation, see
        `cyconv.layers.BatchNorm`; the convolutions have no biases then.
    dropout : float in [0, 1), default 0.0
        Share of the inputs of every dense layer that are set to zero in training.
    hidden_layer_sizes : int or sequence of int, default ()
        Units of each dense layer before the last.
    input_shape : tuple of int or None, default None
        Shape of one sample, needed when the rows of X are flattened images: (H, W) or (C, H, W), (L,)
        for a signal, (C, D, H, W) for a volume. None takes the shape of an n-dimensional X; then rows of
        a 2-dimensional X are signals.
    spatial_dims : {1, 2, 3} or None, default None
        Number of axes that windows slide over. Needed for signals of several channels, (C, L), and
        for volumes of one, (D, H, W), whose shapes would pass for images; None decides as in input_shape.
    data_format : {"channels_first", "channels_last"}, default "channels_first"
        Where X and input_shape have their channels.
    solver : {"adam", "sgd"}, default "adam"
    alpha : float >= 0, default 1e-4
        Strength of the L2 penalty on weights, which is divided by the weight of the batch.
    batch_size : int or "auto", default "auto"
        Samples per step; "auto" is 32, or all if there are fewer.
    learning_rate_init : float > 0, default 0.001
        Step size.
    max_iter : int >= 1, default 200
        Largest number of epochs.
    shuffle : bool, default True
        Whether every epoch takes the samples in a new order.
    random_state : int, RandomState or None, default None
        Decides initial weights, order of samples and dropout.
    tol : float >= 0, default 1e-4
        Training ends when the loss has not gone down by this much for n_iter_no_change epochs.
    verbose : bool or int, default False
        Whether to print a line per epoch; 2 prints a summary of the network first.
    warm_start : bool, default False
        Whether `fit` goes on from the last one: weights, optimizer, order of samples.
    momentum : float in [0, 1], default 0.9
        For solver="sgd".
    nesterovs_momentum : bool, default True
        For solver="sgd".
    n_iter_no_change : int >= 1 or numpy.inf, default 10
        See tol.
    beta_1, beta_2 : float in [0, 1), default 0.9 and 0.999
        Decay rates, for solver="adam".
    epsilon : float > 0, default 1e-8
        For solver="adam".
    class_weight : dict of label to float, "balanced" or None, default None
        Factors >= 0 for sample weights; "balanced" gives all classes the same total.
    n_jobs : int or None, default None
        Number of threads; negative numbers count back from all of them. None is all physical cores, or
        OMP_NUM_THREADS.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels.
    n_features_in_ : int
        Values per sample.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features, if X has names that are all strings.
    input_shape_ : tuple of int
        Shape of one sample with its channel axis.
    data_format_ : str
        Where the samples have their channels.
    input_scale_ : float
        The power of two that X was multiplied by in training.
    architecture_ : list of (str, str, dict)
        Name, class and arguments of each layer.
    parameters_ : dict of str to ndarray
        Weights, biases and running averages by name, see `cyconv.Sequential.parameters`.
    optimizer_state_ : dict
        What a warm start goes on with.
    loss_ : float
        Loss of the last epoch: mean over the samples, penalty included.
    best_loss_ : float
        Smallest loss of an epoch.
    loss_curve_ : list of float
        Loss of every epoch.
    n_iter_ : int
        Epochs of the last fit.
    t_ : int
        Training samples seen, in all fits of a warm start.

    See Also
    --------
    sklearn.neural_network.MLPClassifier : The same without convolution.
    cyconv.Sequential : The network itself.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from cyconv import ConvNetClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> classifier = ConvNetClassifier(input_shape=(8, 8), random_state=0).fit(X_train, y_train)
    >>> classifier.score(X_test, y_test) > 0.97
    True
    """

    def __init__(self, conv_channels=(16, 32), *, kernel_size=3, stride=1, padding="same", dilation=1, pool="max",
                 pool_size=2, activation="relu", batch_norm=False, dropout=0.0, hidden_layer_sizes=(),
                 input_shape=None, spatial_dims=None, data_format="channels_first", solver="adam", alpha=1e-4,
                 batch_size="auto", learning_rate_init=1e-3, max_iter=200, shuffle=True, random_state=None, tol=1e-4,
                 verbose=False, warm_start=False, momentum=0.9, nesterovs_momentum=True, n_iter_no_change=10,
                 beta_1=0.9, beta_2=0.999, epsilon=1e-8, class_weight=None, n_jobs=None):
        self.conv_channels = conv_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.pool = pool
        self.pool_size = pool_size
        self.activation = activation
        self.batch_norm = batch_norm
        self.dropout = dropout
        self.hidden_layer_sizes = hidden_layer_sizes
        self.input_shape = input_shape
        self.spatial_dims = spatial_dims
        self.data_format = data_format
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.n_iter_no_change = n_iter_no_change
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.class_weight = class_weight
        self.n_jobs = n_jobs

    # ------------------------------------------------------------ training

    def fit(self, X, y, sample_weight=None):
        """Train the network.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_features) or (n_samples, *input_shape)
            float32 and float64 are computed as they are, everything else as float32.
        y : array_like of shape (n_samples,)
            Labels of any type.
        sample_weight : array_like of shape (n_samples,) or None, default None
            Weights of the samples in the loss, at least 0 and not all 0.

        Returns
        -------
        self : ConvNetClassifier

        Raises
        ------
        ValueError
            When a parameter breaks its rule, shapes do not match, there is one class only, or training
            diverges.
        """
        check_parameters(self)
        goes_on = self.warm_start and hasattr(self, "parameters_")
        rows, found = as_rows(X)
        X, y = validate_data(self, rows, y, dtype=FLOATS, order="C", reset=not goes_on)
        shape = fitted_shape(found, X.shape[1], self.input_shape, self.spatial_dims, self.data_format)
        if found is None and self.input_shape is None:
            self._warn_of_flat_images()
        samples, classes = self._samples(X, y, sample_weight)
        before = dict(vars(self))
        try:
            network, optimizer = self._start(shape, classes, samples, goes_on)
            if self.verbose > 1:
                print(network.summary())
            self._train(network, optimizer, samples)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)     # a fit that failed leaves what the last one learned
            raise
        network.scale_input(self.input_scale_)
        self.parameters_ = network.parameters()
        self.optimizer_state_ = {"solver": self.solver, **optimizer.state()}
        return self

    def to_sequential(self):
        """The trained network as a `cyconv.Sequential` of its own: logits from arrays of samples."""
        check_is_fitted(self, "parameters_")
        dtype = next(iter(self.parameters_.values())).dtype
        return self._network(dtype, 0, self.parameters_)

    def _warn_of_flat_images(self):
        shape = image_shape(self.n_features_in_, self.data_format)
        if shape is not None:
            warnings.warn(f"X is taken for signals of {self.n_features_in_} values; if they are images, pass "
                          f"input_shape={shape}", UserWarning, stacklevel=3)

    def _samples(self, X, y, sample_weight):
        """Training data without samples of weight zero, and the classes of y."""
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"{type(self).__name__} needs at least 2 classes in y, got 1 class: {classes[0]}")
        if sample_weight is None and self.class_weight is None:
            return Samples(X, labels, None), classes
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if self.class_weight is not None:
            weight = weight * compute_class_weight(
                self.class_weight, classes=classes, y=y, sample_weight=weight)[labels]
            if not weight.any():
                raise ValueError("class_weight times sample_weight must leave a weight above zero, got zero for all")
        kept = weight > 0
        if not kept.all():
            X, labels, weight = X[kept], labels[kept], weight[kept]
        return Samples(X, labels, weight), classes

    def _start(self, shape, classes, samples, goes_on):
        """Network and optimizer, new or as the last fit left them; sets the attributes that describe them."""
        channels_first = shape if self.data_format == "channels_first" else (shape[-1], *shape[:-1])
        names = ("kernel_size", "stride", "padding", "dilation", "pool", "pool_size", "activation", "batch_norm",
                 "dropout")
        architecture = describe(conv_net(
            channels_first, len(classes), conv_channels=as_tuple(self.conv_channels),
            hidden_layer_sizes=as_tuple(self.hidden_layer_sizes), **{name: getattr(self, name) for name in names}))
        if goes_on:
            self._check_unchanged(architecture, shape, classes)
        else:
            self.classes_, self.input_shape_, self.architecture_ = classes, shape, architecture
            self.data_format_ = self.data_format
            self.loss_curve_, self.loss_, self.best_loss_, self.t_ = [], np.inf, np.inf, 0
            self.input_scale_ = scale_of(samples)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        network = self._network(samples.X.dtype, seed, self.parameters_ if goes_on else None)
        if goes_on:
            network.scale_input(1 / self.input_scale_)
        optimizer = self._optimizer(network)
        if goes_on and self.optimizer_state_["solver"] == self.solver:
            optimizer.load_state(self.optimizer_state_)
        return network, optimizer

    def _check_unchanged(self, architecture, shape, classes):
        for name, now, before in (("the shape of a sample", shape, self.input_shape_),
                                  ("data_format", self.data_format, self.data_format_),
                                  ("the set of classes", classes.tolist(), self.classes_.tolist()),
                                  ("the architecture", architecture, self.architecture_)):
            if now != before:
                raise ValueError(f"warm_start=True needs {name} of the last fit, {before}, got {now}")

    def _network(self, dtype, seed, parameters):
        return Sequential(restore(self.architecture_), self.input_shape_, dtype=dtype, data_format=self.data_format_,
                          random_state=seed, parameters=parameters)

    def _optimizer(self, network):
        vector, n_weights = network.vector, network.weights.size
        if self.solver == "sgd":
            return SGD(vector, self.learning_rate_init, self.momentum, self.nesterovs_momentum, n_weights=n_weights)
        return Adam(vector, self.learning_rate_init, self.beta_1, self.beta_2, self.epsilon, n_weights=n_weights)

    def _train(self, network, optimizer, samples):
        """Epochs until the loss stops going down; an interrupted one is undone."""
        n_samples = len(samples.X)
        batch_size = min(AUTO_BATCH_SIZE if self.batch_size == "auto" else self.batch_size, n_samples)
        how = {"scale": self.input_scale_, "batch_size": batch_size, "shuffle": self.shuffle, "alpha": self.alpha,
               "n_threads": self.n_jobs}
        self.n_iter_, without_progress = 0, 0
        done = self._snapshot(network, optimizer)
        try:
            while self.n_iter_ < self.max_iter and without_progress <= self.n_iter_no_change:
                start = perf_counter()
                loss = train_epoch(network, optimizer, samples, epoch=len(self.loss_curve_), **how)
                if not np.isfinite(loss):
                    raise ValueError(f"the loss is {loss} after {self.n_iter_ + 1} epochs: "
                                     f"lower learning_rate_init={self.learning_rate_init}, or scale and centre X")
                without_progress = without_progress + 1 if loss > self.best_loss_ - self.tol else 0
                self._note_epoch(loss, n_samples, perf_counter() - start)
                done = self._snapshot(network, optimizer)
        except KeyboardInterrupt:
            vector, kept, state, noted = done
            if noted["n_iter_"] == 0:
                raise
            network.vector[:], network.state[:] = vector, kept
            optimizer.load_state(state)
            vars(self).update(noted)
            warnings.warn(f"Training was interrupted; the network is that of epoch {self.n_iter_}.", stacklevel=3)
            return
        if without_progress <= self.n_iter_no_change:
            warnings.warn(f"{type(self).__name__} stopped at max_iter={self.max_iter} before the loss settled; "
                          "raise max_iter or tol.", ConvergenceWarning, stacklevel=3)

    def _snapshot(self, network, optimizer):
        """Everything that an epoch changes."""
        noted = {name: getattr(self, name) for name in ("n_iter_", "loss_", "best_loss_", "t_")}
        noted["loss_curve_"] = list(self.loss_curve_)
        return network.vector.copy(), network.state.copy(), optimizer.state(), noted

    def _note_epoch(self, loss, n_samples, seconds):
        self.loss_ = loss
        self.best_loss_ = min(self.best_loss_, loss)
        self.loss_curve_.append(loss)
        self.n_iter_ += 1
        self.t_ += n_samples
        if self.verbose:
            print(f"epoch {self.n_iter_:3d}/{self.max_iter}  loss {loss:.6f}  {n_samples / seconds:9,.0f} samples/s")

    # ------------------------------------------------------------ prediction

    def predict(self, X):
        """Label of each sample, ndarray of shape (n_samples,); X as in `fit`."""
        number = self._logits(X).argmax(axis=1)
        return self.classes_[number]

    def predict_proba(self, X):
        """Probability of each class, ndarray of shape (n_samples, n_classes); X as in `fit`."""
        return functional.softmax(self._logits(X))

    def predict_log_proba(self, X):
        """Logarithm of the probabilities, ndarray of shape (n_samples, n_classes), exact far below 1e-300."""
        return functional.log_softmax(self._logits(X))

    def decision_function(self, X):
        """Outputs before softmax, ndarray of shape (n_samples, n_classes); X as in `fit`.

        With two classes it has shape (n_samples,): the logarithm of the odds of the second.
        """
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def _logits(self, X):
        network = self.to_sequential()
        rows, found = as_rows(X)
        check_shape(found, self.input_shape_, self.data_format_)
        X = validate_data(self, rows, dtype=FLOATS, reset=False)
        step = max(1, VALUES_AT_ONCE // max(map(prod, network.shapes)))
        logits = np.empty((len(X), len(self.classes_)), network.dtype)
        for start in range(0, len(X), step):
            batch = X[start:start + step].reshape(-1, *self.input_shape_)
            logits[start:start + step] = network.forward(batch, n_threads=self.n_jobs)[0]
        return logits

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def as_tuple(sizes):
    return tuple(sizes) if isinstance(sizes, (tuple, list)) else (sizes,)
