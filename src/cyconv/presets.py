"""Networks for `layers=` of the estimators: lists of (name, layer), without the layer of outputs.

The estimator adds that one, since it knows the number of outputs. Every list is new, its layers are parameters
of the estimator by name: ``ConvNetClassifier(layers=lenet5()).set_params(conv1__out_channels=8)``.
"""

from .layers import BatchNorm, Conv, Dense, Dropout, GlobalPool, MaxPool, ReLU

__all__ = ["lenet5", "signal_net", "vgg_small"]


def lenet5():
    """The network of LeCun's digits, with rectifiers and maxima; 61,706 parameters for 10 classes.

    Returns
    -------
    list of (str, Layer)
        For images of 28 x 28, or at least 12 x 12, pixels.

    References
    ----------
    LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, 1998, figure 2,
    which has tanh, means and sparse connections instead.

    Examples
    --------
    >>> from cyconv import Sequential
    >>> Sequential(lenet5(), (1, 28, 28)).shapes[-1]
    (84,)
    """
    return [("conv1", Conv(6, 5, padding=2)), ("relu1", ReLU()), ("pool1", MaxPool()),
            ("conv2", Conv(16, 5)), ("relu2", ReLU()), ("pool2", MaxPool()),
            ("dense1", Dense(120)), ("relu3", ReLU()), ("dense2", Dense(84)), ("relu4", ReLU())]


def vgg_small():
    """Two blocks of two convolutions of 3 x 3 and a pooling, then 256 units; for small colour images.

    Returns
    -------
    list of (str, Layer)
        For images of at least 4 x 4 pixels.

    References
    ----------
    Simonyan, Zisserman: Very deep convolutional networks for large-scale image recognition, 2015, whose
    networks have five such blocks; Srivastava et al.: Dropout, 2014.

    Examples
    --------
    >>> from cyconv import Sequential
    >>> Sequential(vgg_small(), (3, 32, 32)).shapes[-4:]
    ((64, 8, 8), (256,), (256,), (256,))
    """
    network = []
    for block, channels in enumerate((32, 64)):
        for number in (2 * block + 1, 2 * block + 2):
            network += [(f"conv{number}", Conv(channels, 3, padding="same")), (f"relu{number}", ReLU())]
        network.append((f"pool{block + 1}", MaxPool()))
    return [*network, ("dense1", Dense(256)), ("relu5", ReLU()), ("dropout1", Dropout(0.5))]


def signal_net():
    """Three normalised convolutions of widths 8, 5 and 3 and the mean over all time, for signals of any length.

    Returns
    -------
    list of (str, Layer)
        For signals; of images and volumes too, with square windows.

    References
    ----------
    Wang, Yan, Oates: Time series classification from scratch with deep neural networks, 2017, with a quarter
    of its channels.

    Examples
    --------
    >>> from cyconv import Sequential
    >>> Sequential(signal_net(), (2, 500)).shapes[-1]
    (32,)
    """
    network = []
    for number, (channels, width) in enumerate(((32, 8), (64, 5), (32, 3)), 1):
        network += [(f"conv{number}", Conv(channels, width, padding="same", bias=False)),
                    (f"norm{number}", BatchNorm()), (f"relu{number}", ReLU())]
    return [*network, ("mean", GlobalPool("avg"))]
