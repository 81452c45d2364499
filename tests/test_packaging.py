"""What the installed package contains and asks for."""

from importlib import metadata
from pathlib import PurePath


def test_no_sources_are_installed():
    suffixes = {PurePath(file).suffix for file in metadata.files("cyconv")}
    assert not suffixes & {".pyx", ".pxd", ".h", ".c"}


def test_only_numpy_and_scikit_learn_are_required():
    required = [line for line in metadata.requires("cyconv") if "extra ==" not in line]
    assert sorted(required) == ["numpy>=2.0", "scikit-learn>=1.9"]
