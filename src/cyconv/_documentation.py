"""What the docstrings of the estimators have in common, and how their HTML representation refers to them."""

import inspect
from pathlib import Path

PARAMETERS = """\
    conv_channels : int or sequence of int, default (16, 32)
        Number of filters of each convolution layer; () for none.
    kernel_size : int or one for each layer, default 3
        Size of the windows of the convolutions, as for `cyconv.conv2d`: one value, or one for each layer (so that
        a window which is not square is written ``((3, 1), (3, 1))`` for two layers).
    stride : int or one for each layer, default 1
        Step of the windows.
    padding : int, str or one for each layer, default "same"
        Cells around the maps, or "same" or "valid" and so on, see `cyconv.conv2d`.
    dilation : int or one for each layer, default 1
        Distance of the cells of a window.
    pool : {"max", "avg", None} or one for each layer, default "max"
        Pooling after each convolution and activation.
    pool_size : int or one for each layer, default 2
        Size and stride of the pooling windows; cut to the size of the map.
    activation : str or one for each layer, default "relu"
        After each convolution and each hidden dense layer, in this order: "relu", "leaky_relu", "elu", "selu", "gelu",
        "silu" or "swish", "sigmoid" or "logistic", "tanh", or "identity" for none; each as the function of
        `cyconv` of that name with its default parameters.
    batch_norm : bool or one for each layer, default False
        Whether the channels of each convolution are normalised before the activation, see
        `cyconv.layers.BatchNorm`; the convolutions have no biases then.
    dropout : float in [0, 1) or one for each dense layer, default 0.0
        Share of the inputs of every dense layer, the last one too, that are set to zero in training.
    hidden_layer_sizes : int or sequence of int, default ()
        Units of each dense layer before the last.
    layers : list of (str, Layer) or None, default None
        The whole network by name, in place of all parameters above, see `cyconv.layers` and `cyconv.presets`.
        If the last one is no `cyconv.layers.Dense` with as many units as there are outputs, one of the name
        "output" is added, with a warning if the last one looks meant for outputs itself. Layers and their
        arguments are parameters too: ``set_params(conv1__kernel_size=5)``.
    input_shape : tuple of int or None, default None
        Shape of one sample, needed when the rows of X are flattened images: (H, W) or (C, H, W), (L,)
        for a signal, (C, D, H, W) for a volume. None takes the shape of an n-dimensional X; then rows of
        a 2-dimensional X are signals.
    spatial_dims : {1, 2, 3} or None, default None
        Number of axes that windows slide over. Needed for signals of several channels, (C, L), and
        for volumes of one, (D, H, W), whose shapes would pass for images; None decides as in input_shape.
    data_format : {"channels_first", "channels_last"}, default "channels_first"
        Where X and input_shape have their channels.
    solver : {"adam", "sgd", "adamw", "rmsprop"}, default "adam"
        See `cyconv.optimizers`.
    alpha : float >= 0, default 1e-4
        Strength of the L2 penalty on weights, which is divided by the weight of the batch; for "adamw" there is
        no penalty, and weights shrink by learning rate x alpha in every step.
    batch_size : int or "auto", default "auto"
        Samples per step; "auto" is 32, or all if there are fewer.
    learning_rate : str or dict, default "constant"
        How the step size goes on from learning_rate_init, one of `cyconv.schedules`: "constant"; "invscaling",
        divided by a power of the samples seen; "adaptive", divided by 5 when training would end, until
        it is below 1e-6; "step", times 0.1 every 10 epochs; "cosine" or "one_cycle", down to zero in max_iter epochs;
        "plateau", times 0.1 after more than 5 epochs without progress. A dict changes arguments, steps and
        warm-up being counted in epochs: ``{"schedule": "step", "step_size": 20, "factor": 0.5, "warm_up": 3}``.
    learning_rate_init : float > 0, default 0.003
        Step size.
    power_t : float >= 0, default 0.5
        Exponent for "invscaling".
    max_iter : int >= 1, default 200
        Largest number of epochs.
    shuffle : bool, default True
        Whether every epoch takes the samples in a new order.
    random_state : int, RandomState or None, default None
        Decides initial weights, order of samples, dropout and which samples validate.
    tol : float >= 0, default 1e-4
        Training ends when the loss (with early_stopping, what `scoring` names) has not got better by this
        much for n_iter_no_change epochs.
    verbose : bool or int, default False
        Whether to print a line per epoch, and per call of `partial_fit`; 2 prints a summary of the network first.
    warm_start : bool, default False
        Whether `fit` goes on from the last one: weights, optimizer, order of samples.
    momentum : float in [0, 1], default 0.9
        For solver="sgd".
    nesterovs_momentum : bool, default True
        For solver="sgd".
    early_stopping : bool, default False
        Whether samples that are not trained with decide when to stop: X_val of `fit`, or else some of X. The
        network is then that of the best epoch.
    validation_fraction : float in (0, 1), default 0.1
        Share of the samples, the same of each class, that early_stopping sets aside unless `fit` is given X_val.
    scoring : str, callable or None, default "loss"
        What early_stopping goes by: the loss of the validation data, a name or scorer of
        `sklearn.metrics.get_scorer`, a callable ``(estimator, X, y) -> float``, or None for what `score` returns.
        Larger is better; weights, of classes too, are passed as sample_weight to scorers that take it, others
        score without them, with a warning.
    n_iter_no_change : int >= 1 or numpy.inf, default 10
        See tol.
    beta_1 : float in [0, 1), default 0.9
        Decay rate of the mean gradient, for "adam" and "adamw".
    beta_2 : float in [0, 1), default 0.999
        Decay rate of the mean square, for "adam" and "adamw".
    epsilon : float > 0, default 1e-8
        For "adam", "adamw" and "rmsprop".
    augment : dict, str or None, default None
        How samples are changed at random while training, in units of X, see `cyconv.augmentation.augment`: such
        as ``{"shift": 1, "rotate": 10}``, or the name of a preset, "digits", "photos" or "signals".
    feature_layer : str or None, default None
        Name of the layer that `transform` shows; None is the last but one.
    n_jobs : int or None, default None
        Number of threads; negative numbers count back from all of them. None is all physical cores, or
        OMP_NUM_THREADS.
"""

ATTRIBUTES = """\
    n_outputs_ : int
        Outputs of the network.
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
        What a warm start goes on with; not in files, unless asked for.
    history_ : dict of str to list
        A value per epoch of each: epoch, loss, validation_loss, validation_score, learning_rate (of the last
        step) and seconds; NaN for validation where there was none.
    loss_curve_ : list of float
        Loss of every epoch: mean over the samples, penalty included.
    loss_ : float
        Loss of the last epoch.
    best_loss_ : float
        Smallest loss of an epoch.
    validation_scores_ : list of float or None
        Validation score of every epoch: what `scoring` names, or what `score` returns.
    best_validation_score_ : float or None
        Largest of them.
    n_iter_ : int
        Epochs of the last fit, or calls of `partial_fit`.
    t_ : int
        Training samples seen, in all fits of a warm start.
"""


class Documented:
    """Estimators in whose HTML representation every parameter is described, with a link to where.

    There is no documentation online yet: the links lead to the module, where it is installed.
    """

    _doc_link_module = "cyconv"
    _doc_link_template = "{source}"

    def _doc_link_url_param_generator(self):
        return {"source": Path(inspect.getfile(type(self))).as_uri()}


def documented(estimator):
    """Put the common texts into the docstring of a class, where it says ``{parameters}`` and ``{attributes}``."""
    for name, text in (("parameters", PARAMETERS), ("attributes", ATTRIBUTES)):
        estimator.__doc__ = estimator.__doc__.replace(f"    {{{name}}}\n", text)
    return estimator
