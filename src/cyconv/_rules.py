"""What the parameters of an estimator may be, in words and as a test."""

from collections.abc import Mapping
from math import inf, isfinite
from numbers import Integral, Real

import numpy as np

from . import layers
from ._rates import SCHEDULES, is_learning_rate
from .layers import ACTIVATIONS


def flag(value):
    return isinstance(value, (bool, np.bool_))


def whole(low):
    return lambda value: isinstance(value, Integral) and not flag(value) and value >= low


def real(test):
    return lambda value: isinstance(value, Real) and not flag(value) and isfinite(value) and test(value)


def sequence_of(test):
    return lambda value: isinstance(value, (tuple, list)) and all(map(test, value))


def one_of(*options):
    return lambda value: (value is None or isinstance(value, str)) and value in options


def any_of(*tests):
    return lambda value: any(test(value) for test in tests)


COUNT = ("an int >= 1", whole(1))
SIZES = ("an int >= 1 or a sequence of them", any_of(whole(1), sequence_of(whole(1))))
WINDOW = ("an int >= 1, or a sequence with one for each conv layer",
          any_of(whole(1), sequence_of(any_of(whole(1), sequence_of(whole(1))))))
FLAG = ("True or False", flag)
POSITIVE = ("a number > 0", real(lambda v: v > 0))
NOT_NEGATIVE = ("a number >= 0", real(lambda v: v >= 0))
BELOW_ONE = ("a number in [0, 1)", real(lambda v: 0 <= v < 1))

RULES = {
    "conv_channels": SIZES,
    "kernel_size": WINDOW,
    "stride": WINDOW,
    "dilation": WINDOW,
    "pool_size": WINDOW,
    "pool": ("'max', 'avg', None or a sequence of them",
             any_of(one_of("max", "avg", None), sequence_of(one_of("max", "avg", None)))),
    "activation": (f"one of {', '.join(map(repr, ACTIVATIONS))}, or a sequence of them",
                   any_of(one_of(*ACTIVATIONS), sequence_of(one_of(*ACTIVATIONS)))),
    "batch_norm": ("True, False or a sequence of them", any_of(flag, sequence_of(flag))),
    "dropout": ("a number in [0, 1) or a sequence of them", any_of(BELOW_ONE[1], sequence_of(BELOW_ONE[1]))),
    "hidden_layer_sizes": SIZES,
    "layers": ("None or a list of (name, Layer), such as cyconv.presets.lenet5()",
               any_of(one_of(None), lambda v: isinstance(v, (tuple, list)))),
    "input_shape": ("None or a tuple of one to four ints >= 1", any_of(
        one_of(None), lambda v: sequence_of(whole(1))(v) and 1 <= len(v) <= 4)),
    "spatial_dims": ("None, 1, 2 or 3", any_of(one_of(None), lambda v: whole(1)(v) and v <= 3)),
    "data_format": ("'channels_first' or 'channels_last'", one_of("channels_first", "channels_last")),
    "solver": ("one of 'adam', 'sgd', 'adamw', 'rmsprop'", one_of("adam", "sgd", "adamw", "rmsprop")),
    "alpha": NOT_NEGATIVE,
    "batch_size": ("'auto' or an int >= 1", any_of(one_of("auto"), whole(1))),
    "learning_rate": (f"one of {', '.join(map(repr, SCHEDULES))}, or a dict with one of them as 'schedule'",
                      is_learning_rate),
    "learning_rate_init": POSITIVE,
    "power_t": NOT_NEGATIVE,
    "max_iter": COUNT,
    "shuffle": FLAG,
    "tol": NOT_NEGATIVE,
    "verbose": ("a bool or an int >= 0", any_of(flag, whole(0))),
    "warm_start": FLAG,
    "momentum": ("a number in [0, 1]", real(lambda v: 0 <= v <= 1)),
    "nesterovs_momentum": FLAG,
    "early_stopping": FLAG,
    "validation_fraction": ("a number between 0 and 1", real(lambda v: 0 < v < 1)),
    "scoring": ("'loss', None, the name of a scorer or a callable",
                lambda v: v is None or isinstance(v, str) or callable(v)),
    "n_iter_no_change": ("an int >= 1 or numpy.inf", any_of(whole(1), lambda v: isinstance(v, Real) and v == inf)),
    "beta_1": BELOW_ONE,
    "beta_2": BELOW_ONE,
    "epsilon": POSITIVE,
    "class_weight": ("None, 'balanced' or a dict with numbers >= 0", any_of(
        one_of(None, "balanced"), lambda v: isinstance(v, Mapping) and all(map(NOT_NEGATIVE[1], v.values())))),
    "feature_layer": ("None or a str", lambda v: v is None or isinstance(v, str)),
    "loss": ("'squared_error' or 'huber'", one_of("squared_error", "huber")),
    "huber_delta": POSITIVE,
    "augment": ("None, the name of a preset or a dict", lambda v: v is None or isinstance(v, (str, Mapping))),
    "n_jobs": ("None or an int other than 0", any_of(one_of(None), lambda v: whole(-inf)(v) and v != 0)),
}


def check_parameters(estimator):
    """ValueError for the first parameter that breaks its rule; padding is checked where it is used."""
    for name, value in estimator.get_params(deep=False).items():
        words, test = RULES.get(name, (None, None))
        if test is not None and not test(value):
            raise ValueError(f"The {name!r} parameter of {type(estimator).__name__} must be {words}. "
                             f"Got {value!r} instead.")
    if estimator.layers:
        check_layers(estimator)


def check_layers(estimator):
    """ValueError for a layer that is none, or if `set_params` could not tell it or its arguments by its name."""
    for number, entry in enumerate(estimator.layers):
        problem = problem_of_entry(entry)
        if problem:
            raise ValueError(f"The 'layers' parameter of {type(estimator).__name__} must be a list of (name, Layer); "
                             f"entry {number}, {entry!r:.100}, {problem}.")
    names, parameters = [name for name, _ in estimator.layers], estimator.get_params(deep=False)
    for name in names:
        problem = ("is empty" if not name else "stands twice" if names.count(name) > 1 else
                   f"is that of a parameter; call the layer {f'{name}1'!r} or otherwise" if name in parameters else
                   "contains '__', which parts a layer from its argument in set_params" if "__" in name else None)
        if problem:
            raise ValueError(f"The 'layers' parameter of {type(estimator).__name__}: the name {name!r} {problem}.")


def problem_of_entry(entry):
    """What is wrong with an entry of `layers` and the way out, or None."""
    if not (isinstance(entry, (tuple, list)) and len(entry) == 2 and isinstance(entry[0], str)):
        return "is no pair of a str and a Layer"
    _, layer = entry
    kind = layer if isinstance(layer, type) else type(layer)
    if layer is None or isinstance(layer, str):
        return "holds no layer; leave it out, or write Dropout(0) for a layer that does nothing"
    if getattr(layers, kind.__name__, None) is not kind or not issubclass(kind, layers.Layer):
        return "holds no layer of cyconv.layers"
    return f"holds a class; write {kind.__name__}(...)" if kind is layer else None
