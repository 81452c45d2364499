"""Sizes, receptive fields and costs of convolutions and poolings, from integers alone."""

from math import prod

from . import _geometry

__all__ = ["conv_macs", "conv_parameters", "output_size", "receptive_field"]


def output_size(n, kernel_size, stride=1, padding=0, *, dilation=1, input_dilation=1, ceil_mode=False,
                transposed=False, output_padding=0):
    """Number of outputs of a convolution, a pooling or a transposed convolution.

    Parameters
    ----------
    n : int or tuple of int
        Input cells: of one axis, or of each of one to three axes.
    kernel_size : int or tuple of int
        Taps of the window, at least 1.
    stride : int or tuple of int, default 1
        Step of the window, at least 1. A pooling steps by its kernel_size unless told otherwise.
    padding : int, tuple, or str, default 0
        Cells around the input, in the forms of `conv2d`; for a transposed convolution cells cut off its
        result, as in `conv_transpose2d`.
    dilation : int or tuple of int, default 1
        Step between the taps, at least 1.
    input_dilation : int or tuple of int, default 1
        Step between the inputs, with zeros between them, at least 1. Convolution only.
    ceil_mode : bool, default False
        Round up instead of down, as a pooling may.
    transposed : bool, default False
        Count the outputs of the transposed convolution, which undoes the shape of the convolution.
    output_padding : int or tuple of int, default 0
        Cells added at the end of a transposed convolution, less than stride or less than dilation.

    Returns
    -------
    int, or tuple of int if n is a sequence
        With ``extent = (kernel_size - 1) * dilation + 1``, ``(n + low + high - extent) // stride + 1``, where
        input dilation makes n to ``(n - 1) * input_dilation + 1``. In ceil mode the division rounds up, but
        a last window must start inside the input or its low padding. Transposed
        ``(n - 1) * stride - low - high + extent + output_padding``.

    Raises
    ------
    ValueError
        If a value is out of range, or the window does not fit into the padded input.
    TypeError
        If a value is of another kind.

    References
    ----------
    The formulas are those of ``torch.nn.Conv2d``, ``MaxPool2d`` and ``ConvTranspose2d``.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.output_size((320, 280), (2, 1))
    (319, 280)
    >>> cyconv.output_size(7, 3, stride=2)
    3
    >>> cyconv.output_size(3, 3, stride=2, transposed=True)
    7
    """
    function = "output_size"
    sizes = checked_sizes(function, "n", n)
    rank = len(sizes)
    spread = _geometry.per_axis(function, "input_dilation", input_dilation, rank, 1)
    added = _geometry.per_axis(function, "output_padding", output_padding, rank, 0)
    if transposed and (ceil_mode or max(spread) > 1):
        raise ValueError(f"{function}: a transposed convolution has neither ceil_mode nor input_dilation")
    if ceil_mode and max(spread) > 1:
        raise ValueError(f"{function}: ceil_mode is for poolings, which have no input_dilation, got {input_dilation!r}")
    if not transposed and max(added):
        raise ValueError(f"{function}: output_padding is for transposed=True, got {output_padding!r}")
    if transposed:
        _, outputs = _geometry.transposed_windows(function, sizes, kernel_size, stride, padding, dilation, added)
    else:
        windows = _geometry.windows(function, sizes, kernel_size, stride, padding, dilation, spread)
        outputs = _geometry.output_sizes(function, sizes, windows, ceil_mode)
    return outputs[0] if _geometry.is_integer(n) else outputs


def checked_sizes(function, name, value):
    """One to three sizes >= 0 as a tuple."""
    values = (value,) if _geometry.is_integer(value) else _geometry.as_tuple(value)
    if values is None or not 1 <= len(values) <= 3 or not all(map(_geometry.is_integer, values)):
        kind = TypeError if values is None else ValueError
        raise kind(f"{function}: {name} must be an int or 1 to 3 ints, got {_geometry.shape_hint(value)}")
    return _geometry.per_axis(function, name, value, len(values), 0)


def receptive_field(layers, input_size=None):
    """Number of input cells, from the first to the last, that one output cell can depend on.

    Parameters
    ----------
    layers : iterable of (kernel_size, stride) or (kernel_size, stride, dilation)
        The windows of the layers from the input to the output. Each value is an int, or one int per axis.
    input_size : int or tuple of int, optional
        Cells of the input: no output depends on more.

    Returns
    -------
    int, or tuple of int if some value has several axes
        ``1 + sum_k (extent_k - 1) * prod_{i < k} stride_i`` with ``extent = (kernel_size - 1) * dilation + 1``,
        at most input_size.

    Raises
    ------
    ValueError, TypeError
        If a layer is not two or three values of at least 1, or the numbers of axes differ.

    References
    ----------
    Araujo, Norris, Sim: Computing receptive fields of convolutional neural networks, Distill 2019.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.receptive_field([(3, 1), (3, 1), (3, 1)])
    7
    >>> cyconv.receptive_field([(3, 2), (3, 1)])
    7
    >>> cyconv.receptive_field([((3, 1), 2), ((3, 5), 1)])
    (7, 9)
    """
    function = "receptive_field"
    layers = _geometry.entries(function, "layers", "(kernel_size, stride) or (kernel_size, stride, dilation)", layers)
    layers = [checked_layer(function, number, layer) for number, layer in enumerate(layers)]
    given = [value for layer in layers for value in layer] + ([] if input_size is None else [input_size])
    ranks = {len(value) for value in map(_geometry.as_tuple, given) if value is not None}
    if len(ranks) > 1:
        raise ValueError(f"{function}: layers and input_size must be of as many axes, got {sorted(ranks)}")
    rank = ranks.pop() if ranks else 1
    fields, jumps = [1] * rank, [1] * rank
    for number, layer in enumerate(layers):
        kernel, stride, dilation = (_geometry.per_axis(function, f"{name} of layers[{number}]", value, rank, 1)
                                    for name, value in zip(("kernel_size", "stride", "dilation"), layer))
        for axis in range(rank):
            fields[axis] += (kernel[axis] - 1) * dilation[axis] * jumps[axis]
            jumps[axis] *= stride[axis]
    if input_size is not None:
        fields = map(min, fields, _geometry.per_axis(function, "input_size", input_size, rank, 0))
    fields = tuple(fields)
    return fields if any(_geometry.as_tuple(value) is not None for value in given) else fields[0]


def checked_layer(function, number, layer):
    """(kernel_size, stride, dilation) of one layer."""
    values = _geometry.as_tuple(layer)
    if values is None or not 2 <= len(values) <= 3:
        kind = TypeError if values is None else ValueError
        raise kind(f"{function}: layers[{number}] must be (kernel_size, stride) or (kernel_size, stride, dilation), "
                   f"got {layer!r}")
    return (*values, 1)[:3]


def conv_parameters(in_channels, out_channels, kernel_size, *, bias=True, groups=1, ndim=None):
    """Number of parameters of a convolution.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the input and of the output, at least 0.
    kernel_size : int or tuple of int
        Taps of the kernel, at least 1.
    bias : bool, default True
        Whether every output channel has a bias.
    groups : int, default 1
        Groups of channels, which divides both.
    ndim : int, optional
        Number of axes, 1 to 3; None for as many as kernel_size has entries, 2 for a number.

    Returns
    -------
    int
        ``prod(kernel_size) * in_channels / groups * out_channels``, and ``out_channels`` for the bias.

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or of another kind.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.conv_parameters(3, 64, 3)
    1792
    >>> cyconv.conv_parameters(3, 4, 5, bias=False, ndim=1)
    60
    """
    function = "conv_parameters"
    kernel = _geometry.kernel_axes(function, "kernel_size", kernel_size, ndim)
    channels, out_channels, groups = checked_channels(function, in_channels, out_channels, groups)
    return prod(kernel) * (channels // groups) * out_channels + (out_channels if bias else 0)


def conv_macs(input_shape, out_channels, kernel_size, stride=1, padding=0, *, dilation=1, groups=1):
    """Multiplications by a weight that a convolution takes for one sample.

    Parameters
    ----------
    input_shape : tuple of int
        Channels and sizes (C, *spatial) of one sample, with one to three spatial axes.
    out_channels : int
        Kernels, at least 0.
    kernel_size, stride, padding, dilation, groups
        As for `conv2d`.

    Returns
    -------
    int
        ``prod(outputs) * out_channels * prod(kernel_size) * in_channels / groups``, those with padded zeros
        included. Each goes with one addition: a "multiply-accumulate", two floating-point operations.

    Raises
    ------
    ValueError, TypeError
        If a value is out of range or of another kind, or the window does not fit.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.conv_macs((3, 224, 224), 64, 3) == 64 * 3 * 3 * 3 * 222 * 222
    True
    """
    function = "conv_macs"
    shape = _geometry.as_tuple(input_shape)
    if shape is None or not 2 <= len(shape) <= 4 or not all(_geometry.is_integer(n) and n >= 0 for n in shape):
        raise ValueError(f"{function}: input_shape must be (C, *spatial) with 1 to 3 spatial sizes >= 0, "
                         f"got {_geometry.shape_hint(input_shape)}")
    channels, *sizes = map(int, shape)
    channels, out_channels, groups = checked_channels(function, channels, out_channels, groups)
    windows = _geometry.windows(function, sizes, kernel_size, stride, padding, dilation)
    outputs = _geometry.output_sizes(function, sizes, windows)
    return prod(outputs) * out_channels * prod(w.kernel for w in windows) * (channels // groups)


def checked_channels(function, in_channels, out_channels, groups):
    """Both numbers of channels and the groups, which must divide them."""
    (channels,), (out,), (groups,) = (
        _geometry.per_axis(function, name, value, 1, minimum)
        for name, value, minimum in (("in_channels", in_channels, 0), ("out_channels", out_channels, 0),
                                     ("groups", groups, 1)))
    if channels % groups or out % groups:
        raise ValueError(f"{function}: groups={groups} must divide in_channels={channels} and out_channels={out}")
    return channels, out, groups
