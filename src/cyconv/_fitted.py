"""What a fitted estimator holds, as rules: checked before it becomes a file, and after a file or a pickle was read.

Parameters have their rules in `_rules`; here are the attributes that `fit` sets, how they must agree, and the
methods that estimators get from that.
"""

from math import prod
from numbers import Real

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._rules import COUNT, FLAG, POSITIVE, any_of, check_parameters, flag, one_of, sequence_of, whole
from .persistence import save

FOR_TRAINING = "optimizer_state_"


def is_number(value):
    return isinstance(value, Real) and not flag(value)


def is_array(kinds, ndim=None):
    return lambda value: isinstance(value, np.ndarray) and value.dtype.kind in kinds and ndim in (None, value.ndim)


def are_strings(value):
    return is_array("OUT", 1)(value) and all(isinstance(item, str) for item in value)


def is_dict_of(test):
    return lambda value: isinstance(value, dict) and all(isinstance(k, str) and test(v) for k, v in value.items())


def is_list_of(test):
    return lambda value: isinstance(value, list) and all(map(test, value))


def is_layer(value):
    return isinstance(value, tuple) and [type(item) for item in value] == [str, str, dict]


def is_state(value):
    return value is None or isinstance(value, (str, Real)) or is_array("f", 1)(value) or is_dict_of(is_state)(value)


NUMBER = ("a number", is_number)
NUMBERS = ("a list of numbers", is_list_of(is_number))
COUNTED = ("an int >= 0", whole(0))
FITTED = {
    "classes_": ("a vector of at least 2 labels", lambda value: isinstance(value, np.ndarray) and value.ndim == 1
                 and len(value) >= 2),
    "multilabel_": FLAG,
    "n_outputs_": COUNT,
    "output_scale_": ("a number > 0 or a vector of them", lambda value: POSITIVE[1](value) or (
        is_array("f", 1)(value) and all(map(POSITIVE[1], value.tolist())))),
    "n_features_in_": COUNT,
    "feature_names_in_": ("a vector of str", are_strings),
    "input_shape_": ("a tuple of two to four ints >= 1", lambda value: isinstance(value, tuple)
                     and sequence_of(whole(1))(value) and 2 <= len(value) <= 4),
    "data_format_": ("'channels_first' or 'channels_last'", one_of("channels_first", "channels_last")),
    "input_scale_": POSITIVE,
    "architecture_": ("a list of (str, str, dict)", is_list_of(is_layer)),
    "parameters_": ("a dict of str to arrays of floats", is_dict_of(is_array("f"))),
    FOR_TRAINING: ("a dict of vectors and numbers", is_dict_of(is_state)),
    "loss_": NUMBER,
    "best_loss_": NUMBER,
    "loss_curve_": NUMBERS,
    "history_": ("a dict of lists of numbers", is_dict_of(is_list_of(is_number))),
    "validation_scores_": ("None or a list of numbers", any_of(one_of(None), is_list_of(is_number))),
    "best_validation_score_": ("None or a number", any_of(one_of(None), is_number)),
    "n_iter_": COUNTED,
    "t_": COUNTED,
}
NEEDED = {"n_features_in_", "n_outputs_", "input_shape_", "data_format_", "input_scale_", "architecture_",
          "parameters_", "history_", "loss_", "best_loss_", "loss_curve_", "n_iter_", "t_"}
NEEDED_TOO = {"ConvNetClassifier": {"classes_", "multilabel_"}, "ConvNetRegressor": {"output_scale_"}}


class Saved:
    """An estimator that can be saved, and whose damaged pickles are refused."""

    def save(self, path, *, for_training=False):
        """Write the fitted estimator to a file that `cyconv.load` reads.

        The file is an npz archive of arrays and JSON: it holds no code, and reading it executes none.
        A file that is there already is replaced when the new one is whole.

        Parameters
        ----------
        path : str or path-like
        for_training : bool, default False
            Whether to keep `optimizer_state_`, two or three times as much as the rest. With it, training goes
            on with the same bits as without the file; without it, a warm start begins with a new optimizer.

        Raises
        ------
        NotFittedError
            Before `fit`.
        TypeError, ValueError
            If a parameter or label is no plain value, such as a RandomState; nothing is written then.
        OSError
            If the file cannot be written.
        """
        check_is_fitted(self, "parameters_")
        fitted = {name: value for name, value in vars(self).items() if is_fitted_name(name)
                  and (for_training or name != FOR_TRAINING)}
        save(self, {"parameters": self.get_params(deep=False), "fitted": fitted}, path)

    @classmethod
    def _from_content(cls, content):
        """The estimator that `save` described; ValueError when anything is not as `fit` would have left it."""
        if not isinstance(content, dict) or content.keys() != {"parameters", "fitted"}:
            raise ValueError("an estimator has parameters and fitted attributes")
        parameters, fitted = content["parameters"], content["fitted"]
        for what, found, known in (("parameters", parameters, cls._get_param_names()), ("attributes", fitted, FITTED)):
            if not isinstance(found, dict) or not set(found) <= set(known):
                raise ValueError(f"unknown {what}: {sorted(map(str, set(found) - set(known)))}")
        estimator = cls(**parameters)
        check_parameters(estimator)
        vars(estimator).update(fitted)
        estimator._check_fitted()
        return estimator

    def __setstate__(self, state):
        super().__setstate__(state)
        if "parameters_" in vars(self):
            self._check_fitted()

    def _check_fitted(self):
        """ValueError unless the attributes have the kinds, shapes and dtypes that `fit` gives them."""
        found = vars(self)
        needed = NEEDED.union(*(NEEDED_TOO.get(kind.__name__, ()) for kind in type(self).__mro__))
        if not needed <= found.keys():
            raise ValueError(f"{type(self).__name__}: the attributes {sorted(needed - found.keys())} are missing")
        for name in found.keys() & FITTED.keys():
            words, test = FITTED[name]
            if not test(found[name]):
                raise ValueError(f"{type(self).__name__}: {name} must be {words}, got {found[name]!r:.200}")
        names = found.get("feature_names_in_")
        if prod(self.input_shape_) != self.n_features_in_ or names is not None and len(names) != self.n_features_in_:
            raise ValueError(f"{type(self).__name__}: input_shape_={self.input_shape_}, n_features_in_="
                             f"{self.n_features_in_} and feature_names_in_ do not agree")
        if len({values.dtype for values in self.parameters_.values()}) != 1:
            raise ValueError(f"{type(self).__name__}: parameters_ must have one dtype")
        if np.shape(found.get("output_scale_", 1.0)) not in ((), (self.n_outputs_,)):
            raise ValueError(f"{type(self).__name__}: output_scale_={found['output_scale_']} does not belong to "
                             f"n_outputs_={self.n_outputs_}")
        network = self.to_sequential()
        n_classes = len(found["classes_"]) if "classes_" in found else self.n_outputs_
        if network.shapes[-1] != (self.n_outputs_,) or n_classes != self.n_outputs_:
            raise ValueError(f"{type(self).__name__}: a network with outputs of shape {network.shapes[-1]} does not "
                             f"belong to n_outputs_={self.n_outputs_} and its classes")
        check_vectors(found.get(FOR_TRAINING, {}), network.vector)


def is_fitted_name(name):
    return name.endswith("_") and not name.startswith("_")


def check_vectors(state, vector):
    """The arrays of an optimizer's state belong to that vector of parameters."""
    for name, value in state.items():
        if isinstance(value, dict):
            check_vectors(value, vector)
        elif isinstance(value, np.ndarray) and (value.shape != vector.shape or value.dtype != vector.dtype):
            raise ValueError(f"{FOR_TRAINING}: {name} must have shape {vector.shape} and dtype {vector.dtype}, "
                             f"got {value.shape} and {value.dtype}")
