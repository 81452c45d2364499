"""Output sizes, receptive fields and costs: worked values, agreement with what is computed, errors."""

from itertools import product

import numpy as np
import pytest

import cyconv
from cyconv._geometry import Window
from cyconv.layers import Conv
from cyconv.selftest import geometries
from cyconv.selftest.arrays import HOSTILE

# ---------------------------------------------------------------- output sizes


def test_output_size_is_the_size_of_a_convolution():
    for seed in range(300):
        g = geometries.convolution(seed)
        how = {name: g.parameters[name] for name in ("stride", "padding", "dilation", "input_dilation")}
        kernel = tuple(w.kernel for w in g.windows)
        assert cyconv.output_size(g.sizes, kernel, **how) == g.outputs, g
        first = {name: value[:1] for name, value in how.items()}
        assert cyconv.output_size(g.sizes[0], kernel[0], **first) == g.outputs[0], g


def test_output_size_is_the_size_of_a_pooling():
    for seed in range(300):
        g = geometries.pooling(seed)
        assert cyconv.output_size(g.sizes, **g.parameters) == g.outputs, g


def test_output_size_of_named_paddings():
    assert [cyconv.output_size(10, 4, 3, name) for name in ("valid", "same", "same_lower", "full")] == [3, 4, 4, 5]


def test_transposed_output_size_is_the_only_input_that_gives_the_outputs_back():
    """conv(output_size(n, transposed)) = n, for every output_padding below the stride and no other."""
    for kernel in (1, 2, 3, 5):
        for stride in (1, 2, 3):
            for dilation in (1, 2):
                for padding in (0, (((kernel - 1) * dilation, 0),)):
                    for n in (1, 2, 5):
                        how = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}
                        found = [cyconv.output_size(n, **how, transposed=True, output_padding=extra)
                                 for extra in range(stride)]
                        sizes = [m for m in range(1, 40) if Window(kernel, stride, dilation).padded(m) + np.sum(padding)
                                 >= (kernel - 1) * dilation + 1 and cyconv.output_size(m, **how) == n]
                        assert found == sizes, (n, how)


def test_transposed_output_size_is_the_size_of_a_transposed_convolution(rng):
    for padding in ("valid", "same", "same_lower", "full", 1, ((0, 2), (1, 0))):
        for kernel, stride, dilation in (((3, 4), (2, 1), (1, 2)), ((5, 3), (1, 2), 1), ((2, 2), (3, 3), 2)):
            how = {"padding": padding, "dilation": dilation, "output_padding": (0, 1)}
            y = cyconv.conv_transpose2d(np.ones((1, 1, 7, 8)), np.ones((1, 1, *kernel)), stride=stride, **how)
            assert cyconv.output_size((7, 8), kernel, stride, **how, transposed=True) == y.shape[2:]


def test_transposed_output_size_of_named_paddings():
    assert cyconv.output_size((3, 4), (3, 2), (2, 3), "same", transposed=True) == (6, 12)
    assert cyconv.output_size((3, 4), (3, 2), (2, 3), "valid", transposed=True) == (7, 11)


def test_transposed_output_size_agrees_with_pytorch(rng):
    torch = pytest.importorskip("torch")
    for _ in range(100):
        n, kernel, stride, dilation = (int(rng.integers(1, high)) for high in (9, 5, 4, 4))
        padding = int(rng.integers(0, (kernel - 1) * dilation + 1))
        extra = int(rng.integers(0, max(stride, dilation)))
        layer = torch.nn.ConvTranspose1d(1, 1, kernel, stride, padding, extra, dilation=dilation)
        how = {"dilation": dilation, "transposed": True, "output_padding": extra}
        if (n - 1) * stride - 2 * padding + (kernel - 1) * dilation + 1 + extra >= 1:
            assert cyconv.output_size(n, kernel, stride, padding, **how) == layer(torch.ones(1, 1, n)).shape[-1]


@pytest.mark.parametrize("args, kwargs, error, message", [
    ((5, 6), {}, ValueError, r"effective kernel \(6,\) is larger than the padded input \(5,\)"),
    ((-1, 1), {}, ValueError, "n must be >= 0, got "),
    ((1.5, 1), {}, TypeError, "n must be an int or 1 to 3 ints, got 1.5"),
    (((1, 2, 3, 4), 1), {}, ValueError, "n must be an int or 1 to 3 ints"),
    ((np.ones((2, 2)), 1), {}, ValueError, "pass its shape"),
    ((5, 3, 0), {}, ValueError, "stride must be >= 1, got 0"),
    ((5, 3), {"output_padding": 1}, ValueError, "output_padding is for transposed=True, got 1"),
    ((5, 3), {"input_dilation": 2, "ceil_mode": True}, ValueError, "ceil_mode is for poolings"),
    ((5, 3), {"ceil_mode": True, "transposed": True}, ValueError, "has neither ceil_mode nor input_dilation"),
    ((5, 3), {"input_dilation": 2, "transposed": True}, ValueError, "has neither ceil_mode nor input_dilation"),
    ((5, 3, 2), {"output_padding": 2, "transposed": True}, ValueError,
     r"output_padding=\(2,\) must be smaller than max\(stride, dilation\)=\(2,\)"),
    ((2, 1, 1, 1), {"transposed": True}, ValueError, r"padding .* leaves outputs of size \(0,\) of an input of size"),
    ((5, 3), {"padding": "some"}, ValueError, "unknown padding 'some'"),
])
def test_errors_of_output_size(args, kwargs, error, message):
    with pytest.raises(error, match=f"^output_size: .*{message}"):
        cyconv.output_size(*args, **kwargs)


# ---------------------------------------------------------------- receptive fields


@pytest.mark.parametrize("layers", [[(3, 1, 2), (3, 2), (2, 2)], [(1, 3), (5, 1, 3)], [(4, 2), (4, 2), (4, 2)]])
def test_receptive_field_is_the_size_that_gives_one_output(layers):
    field = cyconv.receptive_field(layers)
    for n, outputs in ((field, 1), (field - 1, 0)):
        for kernel, stride, dilation in ((*layer, 1)[:3] for layer in layers):
            n = Window(kernel, stride, dilation).output_size(n)
        assert n == outputs


@pytest.mark.parametrize("layers", [[(3, 1), (3, 2), (2, 1)], [(3, 1, 2), (5, 1)], [(2, 3), (2, 1, 2)], [(3, 1)] * 9])
def test_receptive_field_spans_the_cells_that_reach_an_output(layers):
    """Those with a gradient, from the first to the last; at most the whole input when it is padded."""
    n, shapes = 17, [(1, 1, 17)]
    how = [{"stride": stride, "dilation": dilation, "padding": "same"}
           for _, stride, dilation in ((*layer, 1)[:3] for layer in layers)]
    weights = [np.ones((1, 1, layer[0])) for layer in layers]
    for weight, parameters in zip(weights, how):
        shapes.append(cyconv.conv(np.ones(shapes[-1]), weight, **parameters).shape)
    widest = 0
    for output in range(shapes[-1][-1]):
        dy = np.zeros(shapes[-1])
        dy[..., output] = 1
        for weight, parameters, shape in zip(weights[::-1], how[::-1], shapes[-2::-1]):
            dy = cyconv.conv_grad_input(dy, weight, shape, **parameters)
        seen = np.flatnonzero(dy)
        widest = max(widest, seen[-1] - seen[0] + 1)
    assert widest == cyconv.receptive_field(layers, n) == min(cyconv.receptive_field(layers), n)


def test_receptive_field_per_axis():
    assert cyconv.receptive_field([((3, 1), 2), ((3, 5), 1)]) == (7, 9)
    assert cyconv.receptive_field([(3, 2), (3, 1)], (5, 20)) == (5, 7)
    assert cyconv.receptive_field(iter([(np.int64(3), 1)])) == 3
    assert cyconv.receptive_field([]) == 1
    assert cyconv.receptive_field([], (4, 4)) == (1, 1)


@pytest.mark.parametrize("layers, error, message", [
    ([3], TypeError, r"layers\[0\] must be \(kernel_size, stride\) or \(kernel_size, stride, dilation\), got 3"),
    ([(3, 1), (3,)], ValueError, r"layers\[1\] must be \(kernel_size, stride\) or .*, got \(3,\)"),
    ([(3, 1, 1, 1)], ValueError, r"layers\[0\] must be"),
    ([(3, 0)], ValueError, r"stride of layers\[0\] must be >= 1, got 0"),
    ([(3, 1), (0, 1)], ValueError, r"kernel_size of layers\[1\] must be >= 1, got 0"),
    ([(3, 1, 1.0)], TypeError, r"dilation of layers\[0\] must be an int"),
    ([((3, 3), 1), ((3, 3, 3), 1)], ValueError, r"must be of as many axes, got \[2, 3\]"),
    (3, TypeError, "layers must be a sequence of"),
])
def test_errors_of_receptive_field(layers, error, message):
    with pytest.raises(error, match=f"^receptive_field: .*{message}"):
        cyconv.receptive_field(layers)


# ---------------------------------------------------------------- costs


@pytest.mark.parametrize("layer, shape", [
    (Conv(12, 5), (4, 30)), (Conv(8, (3, 2), 2, padding=1, groups=4, bias=False), (4, 9, 8)),
    (Conv(6, 3, padding="same", dilation=2), (2, 5, 6, 7))])
def test_costs_are_those_of_the_layer(layer, shape):
    kernel, ndim = layer.kernel_size, len(shape) - 1
    assert cyconv.conv_parameters(shape[0], layer.out_channels, kernel, bias=layer.bias, groups=layer.groups,
                                  ndim=ndim) == layer.n_params(shape)
    assert cyconv.conv_macs(shape, layer.out_channels, kernel, layer.stride, layer.padding, dilation=layer.dilation,
                            groups=layer.groups) == layer.n_macs(shape)


def test_parameters_of_a_kernel_given_by_its_axes():
    assert cyconv.conv_parameters(3, 4, (5,), bias=False) == 60
    assert cyconv.conv_parameters(3, 4, (5, 2)) == 124
    assert cyconv.conv_parameters(3, 4, 2, ndim=3) == 100


@pytest.mark.parametrize("call, error, message", [
    (lambda: cyconv.conv_parameters(3, 4, 3, groups=2), ValueError,
     "conv_parameters: groups=2 must divide in_channels=3 and out_channels=4"),
    (lambda: cyconv.conv_parameters(3, -4, 3), ValueError, "conv_parameters: out_channels must be >= 0, got -4"),
    (lambda: cyconv.conv_parameters(3, 4, 0), ValueError, "conv_parameters: kernel_size must be >= 1"),
    (lambda: cyconv.conv_parameters(3, 4, (1, 1, 1, 1)), ValueError, "conv_parameters: kernel_size must be an int or"),
    (lambda: cyconv.conv_parameters(3, 4, 3, ndim=4), ValueError, "conv_parameters: ndim must be 1, 2 or 3, got 4"),
    (lambda: cyconv.conv_macs((224, 224), 4, (3, 3)), ValueError, "conv_macs: kernel_size must be an int, got"),
    (lambda: cyconv.conv_macs(3, 4, 3), ValueError, "conv_macs: input_shape must be (C, *spatial)"),
    (lambda: cyconv.conv_macs((3, 2, 2), 4, 3), ValueError, "conv_macs: effective kernel (3, 3) is larger"),
])
def test_errors_of_costs(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert message in str(raised.value)


def test_hostile_arguments_are_computed_or_refused_by_name():
    for first, second in product(HOSTILE, HOSTILE):
        for call in (lambda a, b: cyconv.output_size(a, b), lambda a, b: cyconv.output_size(5, 3, a, b),
                     lambda a, b: cyconv.output_size((5, 6), 3, 2, a, dilation=b, transposed=True),
                     lambda a, b: cyconv.output_size(5, 3, 3, dilation=a, output_padding=b, transposed=True),
                     lambda a, b: cyconv.output_size((5, 6), 3, dilation=a, input_dilation=b),
                     lambda a, b: cyconv.receptive_field([(a, b)]), lambda a, b: cyconv.receptive_field([(3, 1, a)], b),
                     lambda a, b: cyconv.receptive_field([a, b]), lambda a, b: cyconv.receptive_field(a),
                     lambda a, b: cyconv.conv_parameters(a, b, 3), lambda a, b: cyconv.conv_parameters(2, 2, a, ndim=b),
                     lambda a, b: cyconv.conv_parameters(2, 2, 3, groups=a, ndim=b),
                     lambda a, b: cyconv.conv_macs(a, 2, b), lambda a, b: cyconv.conv_macs((2, 5), a, 2, b)):
            try:
                result = call(first, second)
            except (ValueError, TypeError) as error:
                assert str(error).startswith(("output_size: ", "receptive_field: ", "conv_parameters: ", "conv_macs: "))
            else:
                assert all(type(n) is int and n >= 0 for n in (result if type(result) is tuple else (result,)))
