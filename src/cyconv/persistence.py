"""Models in files: `load`, and what stands behind the ``save`` of estimators and networks.

The container is in `_archive`, values as JSON in `_plain`. Each kind of model says what of it goes into the
file, and makes a model of that again after checking all of it: names, rules of parameters, layers, shapes and
dtypes. Nothing in a file is executed, and nothing is allocated that the file does not itself contain.
"""

import cyconv

from . import _archive
from ._plain import LAYERS, decode, encode

__all__ = ["SKOPS_TRUSTED", "load"]

# What to pass as ``trusted`` to `skops.io.load`: classes that hold values and check them.
SKOPS_TRUSTED = ["cyconv.classifier.ConvNetClassifier", "cyconv.preprocessing.ConvFeatures",
                 "cyconv.preprocessing.ImageFlattener", "cyconv.preprocessing.ImageScaler",
                 "cyconv.regressor.ConvNetRegressor", *(f"{kind.__module__}.{name}" for name, kind in LAYERS.items())]

FORMAT, VERSION = "cyconv model", 1
ENTRIES = {"format", "version", "written_by", "model", "content"}
MODELS = ("ConvNetClassifier", "ConvNetRegressor", "Sequential")


def load(path):
    """The model that ``save`` wrote to a file.

    Safe for files from anyone: nothing in them is executed, and memory stays in proportion to their size.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    ConvNetClassifier, ConvNetRegressor or Sequential
        With the same bits in all parameters and predictions.

    Raises
    ------
    ValueError
        If the file is damaged, was written in a format of a later cyconv, or is none of cyconv's.
    OSError
        If it cannot be read.

    See Also
    --------
    ConvNetClassifier.save, Sequential.save

    Examples
    --------
    >>> import os, tempfile
    >>> from cyconv import Sequential, load
    >>> from cyconv.layers import Conv, Dense
    >>> path = os.path.join(tempfile.mkdtemp(), "network.npz")
    >>> Sequential([Conv(4), Dense(10)], (1, 8, 8), random_state=0).save(path)
    >>> load(path)
    Sequential([('conv1', Conv(out_channels=4)), ('dense1', Dense(units=10))], input_shape=(1, 8, 8))
    """
    document, arrays = _archive.read(path)
    try:
        return model_of(document, arrays)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"load: {path!s} holds no model: {error}") from error


def save(model, content, path):
    """Write what ``model`` says is its content, after the checks that reading it will make."""
    name, arrays = type(model).__name__, {}
    if name not in MODELS or type(model) is not getattr(cyconv, name):
        raise TypeError(f"save: {type(model)!r} is no class of cyconv, and load would not know it; use pickle")
    document = {"format": FORMAT, "version": VERSION, "written_by": cyconv.__version__, "model": name,
                "content": encode(content, "", arrays)}
    try:
        model_of(document, dict(arrays))
    except (TypeError, ValueError) as error:
        raise ValueError(f"save: this model could not be loaded again: {error}") from error
    _archive.write(path, document, arrays)


def model_of(document, arrays):
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"it does not say that its format is {FORMAT!r}")
    if document.get("version") != VERSION:
        raise ValueError(f"it has version {document.get('version')!r} of the format, written by cyconv "
                         f"{document.get('written_by')!r}; this cyconv {cyconv.__version__} reads version {VERSION}")
    if document.keys() != ENTRIES or document["model"] not in MODELS:
        raise ValueError(f"expected {sorted(ENTRIES)} with a model among {MODELS}, got {document!r:.200}")
    content = decode(document["content"], arrays)
    if arrays:
        raise ValueError(f"nothing refers to the arrays {sorted(arrays)}")
    return getattr(cyconv, document["model"])._from_content(content)
