"""A row computed alone has the bits of the same row in a batch, in every function and in predictions."""

from functools import cache

import numpy as np

from .. import machine, training
from ..arrays import LAYOUTS, bits
from ..cases import EXACT, SMOOTH
from ..cases._case import LAID_OUT, prepared, results

# Results that are about the whole batch, and functions of two images that have none.
WHOLE = ("grad_weight", "matrix", "moments", "batch_norm_backward", "correlate", "convolve")
ROWS = 6            # of a batch, at most
PREDICTED = 100     # rows, in a case


def case(seed, tally):
    families = (*EXACT, *SMOOTH[:3])
    for family in (families[0], families[seed % len(families)]):
        for call in family(seed):
            if "data_format" in call.takes and not call.function.endswith(WHOLE):
                rows(with_normals(call, seed), seed, tally)
    predictions(seed, tally)
    tally.note("0 differing bits")


def with_normals(call, seed):
    """The call on normal numbers in place of integers, now and then so small that most products of two of them vanish.

    What says where maxima stood is kept.
    """
    rng, unit = np.random.default_rng(seed), 1e-23 if seed % 4 == 0 else 1.0
    drawn = {name: unit * rng.standard_normal(value.shape) for name, value in call.arguments.items()
             if isinstance(value, np.ndarray) and name not in ("indices", "var", "out")}
    return call._replace(arguments=call.arguments | drawn)


def rows(call, seed, tally):
    n = max(len(value) for name, value in call.arguments.items() if name in LAID_OUT)
    for _ in machine.instruction_sets():
        dtype, layout = machine.FLOATS[seed % 2], LAYOUTS[seed // 2 % 2]
        whole = results(call, prepared(call, dtype, layout))
        for row in {*range(min(n, ROWS - 1)), max(n - 1, 0)} if n else ():
            alone = results(one_row(call, row), prepared(one_row(call, row), dtype, layout))
            for got, want in zip(alone[:of_rows(call)], whole):
                if not np.array_equal(bits(got[0]), bits(want[row])):
                    raise AssertionError(f"row {row} of {call.function} alone has other bits, {call.geometry}")
            tally.count("rows of functions")


def of_rows(call):
    """How many results have a row for each of the batch: of a backward function only the first."""
    return 1 if call.function.endswith("backward") else None


def one_row(call, row):
    changed = {name: value[row:row + 1] for name, value in call.arguments.items() if name in LAID_OUT}
    if "input_shape" in call.arguments:
        changed["input_shape"] = (1, *call.arguments["input_shape"][1:])
    return call._replace(arguments=call.arguments | changed)


@cache
def fitted():
    return training.fitted()


def predictions(seed, tally):
    X = np.random.default_rng(seed).standard_normal((PREDICTED, 1, 12, 12), np.float32)
    for _ in machine.instruction_sets():
        together = fitted().predict_proba(X)
        alone = np.concatenate([fitted().predict_proba(X[i:i + 1]) for i in range(PREDICTED)])
        if not np.array_equal(bits(together), bits(alone)):
            raise AssertionError("predictions of single rows have other bits than those of a batch")
        tally.count("rows of predictions", PREDICTED)


def faults():
    """The last bit of the last sample, in batches only."""
    def in_batches(*arguments):
        if arguments[3].shape[0] > 1:
            machine.last_bit(3)(*arguments)

    return {f"last bit of the last row of batches of {name}": machine.spoiled(module, "conv", in_batches)
            for name, module in machine.kernel_modules().items()}
