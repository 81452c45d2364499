"""Convolution, pooling and small convolutional networks for NumPy arrays on a CPU."""

from importlib import import_module

from . import arithmetic, functional
from ._config import show_config
from .arithmetic import *  # noqa: F403
from .functional import *  # noqa: F403

__version__ = "0.1.0"

# What needs scikit-learn, or more than the functions, is imported when it is first used.
_LATER = {
    "ConvFeatures": "preprocessing",
    "ConvNetClassifier": "classifier",
    "ConvNetRegressor": "regressor",
    "ImageFlattener": "preprocessing",
    "ImageScaler": "preprocessing",
    "SKOPS_TRUSTED": "persistence",
    "Sequential": "network",
    "augment": "augmentation",
    "load": "persistence",
    "to_onnx": "onnx",
}
_MODULES = ("augmentation", "callbacks", "classifier", "displays", "filters", "layers", "losses", "network",
            "onnx", "optimizers", "preprocessing", "presets", "regressor", "saliency", "schedules")

__all__ = ["arithmetic", "functional", "show_config", *arithmetic.__all__, *functional.__all__, *_LATER, *_MODULES]


def __getattr__(name):
    if name in _LATER:
        return getattr(import_module(f".{_LATER[name]}", __name__), name)
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_LATER, *_MODULES])
