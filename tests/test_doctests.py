"""Every example in a docstring runs and prints what it shows."""

import doctest
from importlib import import_module
from pkgutil import walk_packages

import pytest

import cyconv

MODULES = ["cyconv", *(m.name for m in walk_packages(cyconv.__path__, "cyconv.") if "._kernels." not in m.name)]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_examples_in_docstrings(name):
    failed, _ = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert failed == 0
