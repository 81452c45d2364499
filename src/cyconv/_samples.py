"""What an estimator is given -> rows of features, and the shape of the sample that a row holds."""

import warnings
from math import isqrt, prod

import numpy as np

LIKELY_CHANNELS = 1, 3, 4     # grey, colour, colour and opacity
LIKELY_LENGTH = 20            # of a signal
MANY_MACS = 10**6             # per sample, of LeNet-5 on colour images: training takes minutes
SPATIAL_DIMS = {1: 1, 2: 2, 3: 2, 4: 3}     # by the length of a shape, unless the user says otherwise


def as_rows(X):
    """X as rows, and the shape of one sample if X has more than two dimensions, else None."""
    if not hasattr(X, "shape"):
        try:
            X = np.asarray(X)
        except ValueError as error:
            raise ValueError(f"X is no array, since its samples differ in shape: {error}") from None
    if isinstance(X, np.ndarray) and not X.dtype.isnative:
        X = X.astype(X.dtype.newbyteorder("="))
    shape = getattr(X, "shape", ())
    if len(shape) <= 2:
        return X, None
    return np.asarray(X).reshape(shape[0], prod(shape[1:])), tuple(shape[1:])


def with_channels(shape, spatial_dims, data_format):
    """``shape`` with its channel axis; a shape of spatial axes only has one channel."""
    dims = spatial_dims or SPATIAL_DIMS.get(len(shape))
    if dims is None or len(shape) not in (dims, dims + 1):
        raise ValueError(f"a sample of shape {shape} does not have " + (
            "one to four axes" if dims is None else f"spatial_dims={dims} axes, nor one more for channels"))
    if len(shape) == dims + 1:
        return shape
    return (1, *shape) if data_format == "channels_first" else (*shape, 1)


def fitted_shape(found, n_features, input_shape, spatial_dims, data_format):
    """Shape of a sample with its channel axis, as the arrays hold it.

    ``found`` is the shape that n-dimensional data have, ``input_shape`` what the user says.
    """
    if found is None and input_shape is None:
        return with_channels((n_features,), spatial_dims, data_format)
    shapes = [with_channels(tuple(shape), spatial_dims, data_format) for shape in (found, input_shape)
              if shape is not None]
    if shapes[0] != shapes[-1]:
        raise ValueError(f"samples of X have shape {found}, which is not input_shape={input_shape}")
    if prod(shapes[0]) != n_features:
        raise ValueError(f"input_shape={input_shape} holds {prod(shapes[0])} values, X has {n_features} features"
                         + hint(n_features, data_format))
    warn_of_other_layout(shapes[0], data_format)
    if spatial_dims is None:
        warn_of_signals(found or input_shape, data_format)
    return shapes[0]


def warn_of_other_layout(shape, data_format):
    """UserWarning if the channels seem to be at the other end than data_format says."""
    is_first = data_format == "channels_first"
    here, *others, there = shape if is_first else shape[::-1]
    if there in LIKELY_CHANNELS and min([here, *others]) > max(LIKELY_CHANNELS):
        other = "channels_last" if is_first else "channels_first"
        warnings.warn(f"samples of shape {shape} have {here} channels by data_format={data_format!r}; if they have "
                      f"{there}, pass data_format={other!r}", UserWarning, stacklevel=6)


def warn_of_signals(shape, data_format):
    """UserWarning if what is taken for an image without channels seems to be a signal of several."""
    if len(shape) != 2:
        return
    channels, length = shape if data_format == "channels_first" else shape[::-1]
    if channels <= max(LIKELY_CHANNELS) and length >= LIKELY_LENGTH:
        warnings.warn(f"samples of shape {tuple(shape)} are taken for images; if they are signals of {channels} "
                      "channels, pass spatial_dims=1", UserWarning, stacklevel=6)


def warn_of_float64(network):
    """UserWarning if a large network computes in float64."""
    n_macs = sum(layer.n_macs(shape) for layer, shape in zip(network.layers, network.shapes))
    if network.dtype == np.float64 and n_macs >= MANY_MACS:
        warnings.warn(f"X is float64, in which training this network of {n_macs:,} multiplications per sample takes "
                      "about twice as long as in float32; pass X.astype(numpy.float32)", UserWarning, stacklevel=5)


def check_single(X, expected):
    """Refuse a single sample of two axes, which would be taken for rows."""
    shape = getattr(X, "shape", ())
    if len(shape) == 2 and shape in (expected, expected[1:], expected[:-1]) and shape[1] != prod(expected):
        raise ValueError(f"X has shape {shape}, which is that of one sample; pass X[None]")


def check_shape(found, expected, data_format):
    """Refuse n-dimensional data whose samples have another shape than those of `fit`."""
    if found is not None and with_channels(found, len(expected) - 1, data_format) != expected:
        raise ValueError(f"samples of X have shape {found}, expected {expected} as in fit"
                         + ("; for a single sample pass X[None]" if found == expected[1:] else ""))


def image_shape(n_features, data_format):
    """The square image, grey or of three channels, that so many features may be; else None."""
    for channels in (1, 3):
        side = isqrt(n_features // channels)
        if n_features % channels == 0 and side * side * channels == n_features and side >= 7:
            if channels == 1:
                return side, side
            return (channels, side, side) if data_format == "channels_first" else (side, side, channels)
    return None


def hint(n_features, data_format):
    shape = image_shape(n_features, data_format)
    return f"; input_shape={shape} would fit" if shape else ""
