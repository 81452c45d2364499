"""Rounding errors stay within 4 times eps times the sum of absolute terms, in sums of up to 4,608 of them."""

from itertools import product
from random import Random

import numpy as np

from ..._geometry import Window
from ...functional import conv, conv_backward
from .. import geometries, machine, reference
from ..arrays import LAYOUTS, channels_first, in_layout
from ..cases import SMOOTH
from ..cases._case import prepared, results
from ..cases.smooth import Bounded

LIMIT = 4


def case(seed, tally):
    """Convolutions with long sums, random ones in both dtypes, and all functions that are not exact."""
    convolutions(long_sums(seed), np.float32, np.float64, tally)
    for dtype in machine.FLOATS:
        convolutions(geometries.convolution(seed), dtype, np.longdouble, tally)
    for call in (call for family in SMOOTH for call in family(seed)):
        expected = call.expected()
        for _ in machine.instruction_sets():
            for dtype, layout in product(machine.FLOATS, LAYOUTS):
                actual = results(call, prepared(call, dtype, layout))
                for got, want in zip(actual, expected, strict=True):
                    # A loss is a Python float, as precise as the outputs it was computed from.
                    measure(got, want, np.finfo(dtype if got.ndim == 0 else got.dtype).eps, call.function, tally)


def long_sums(seed):
    """Three by three taps on up to 512 channels."""
    rng = Random(seed)
    n, channels, size = rng.choice(((2, 512, 14), (1, 512, 15), (3, 256, 13), (2, 500, 7)))
    return geometries.Geometry(seed, n, 1, channels, rng.choice((32, 33, 64)), (size, size),
                               (Window(3, low=1, high=1),) * 2, (size, size), 1 + seed % 2)


def convolutions(g, dtype, wide, tally):
    """y, dx, dweight and dbias of normal numbers, against the definitions in a wider dtype."""
    arrays = g.normals(dtype)
    expected = [Bounded(*pair) for pair in zip(defined(g, *(a.astype(wide) for a in arrays)),
                                              defined(g, *(abs(a).astype(wide) for a in arrays)))]
    for isa in machine.instruction_sets():
        layout = LAYOUTS[(g.seed + len(isa)) % 2]
        x, dy = (in_layout(a, layout) for a in (arrays[0], arrays[3]))
        how = {**g.parameters, "data_format": layout, "n_threads": g.n_threads}
        y, grads = conv(x, *arrays[1:3], **how), conv_backward(dy, x, arrays[1], **how)
        actual = channels_first(y, layout), channels_first(grads.x, layout), grads.weight, grads.bias
        for got, want, name in zip(actual, expected, ("y", "dx", "dweight", "dbias")):
            measure(got, want, np.finfo(dtype).eps, f"{name} of a convolution", tally)
    tally.extreme("largest number of terms", np.prod(g.weight_shape[1:]))


def defined(g, x, weight, bias, dy):
    return (reference.conv(x, weight, bias, g.windows, g.outputs, g.groups),
            reference.conv_grad_input(dy, weight, g.sizes, g.windows, g.groups),
            reference.conv_grad_weight(dy, x, g.windows, g.groups), reference.conv_grad_bias(dy))


def measure(got, want, eps, name, tally):
    """Compare errors with the unit; where no term is other than 0 there must be none."""
    if got.shape != np.shape(want.value):
        raise AssertionError(f"{name} has shape {got.shape} instead of {np.shape(want.value)}")
    error = abs(got - want.value)
    ratio = np.divide(error, eps * want.terms, out=np.where(error == 0, 0, np.inf).astype(error.dtype),
                      where=np.asarray(want.terms) > 0)
    tally.count("outputs", got.size)
    tally.extreme(f"largest error over eps times the sum of absolute terms (at most {LIMIT})",
                  float(ratio.max(initial=0)))
    if not (ratio <= LIMIT).all():
        raise AssertionError(f"{name}: error of {float(ratio.max()):.3g} times eps times the sum of absolute terms")


def faults():
    """A part of one result in ten thousand is lost."""
    def lose(*arguments):
        y = arguments[3]
        if y.size:
            y[(-1,) * y.ndim] *= y.dtype.type(1 - 1e-4)

    return {f"0.01 % of one output of {name}": machine.spoiled(module, "conv", lose)
            for name, module in machine.kernel_modules().items()}
