"""Documentation that runs: docstrings of the public functions, and the README."""

import doctest
import inspect
import pickle
import re
from pathlib import Path

import pytest

import cyconv
from cyconv.functional import _ranked

README = Path(__file__).parent.parent / "README.md"
FUNCTIONS = [name for name in (*cyconv.functional.__all__, *cyconv.arithmetic.__all__)
             if inspect.isfunction(getattr(cyconv, name))]


@pytest.fixture(params=FUNCTIONS)
def function(request):
    return getattr(cyconv, request.param)


def test_examples_run(function):
    tests = doctest.DocTestFinder(recurse=False).find(function, function.__name__, globs={})
    results = [doctest.DocTestRunner().run(test) for test in tests]
    assert sum(r.attempted for r in results) > 0 and sum(r.failed for r in results) == 0


def test_docstring_has_its_sections_and_no_placeholders(function):
    for section in ("Parameters", "Returns", "Raises", "Examples"):
        assert f"    {section}\n    {'-' * len(section)}\n" in function.__doc__
    assert not any(word in function.__doc__ for word in _ranked.LETTERS[None])


def test_docstring_describes_every_parameter_and_no_other(function):
    listed = re.search(r"Parameters\n    -+\n(.*?)\n\n    Returns", function.__doc__, re.DOTALL)[1]
    entries = re.findall(r"^    (\w.*)$", listed, re.MULTILINE)
    described = [name for entry in entries for name in entry.split(" :")[0].split(", ")]
    assert sorted(described) == sorted(inspect.signature(function).parameters)


def test_function_is_known_by_its_public_name(function):
    assert getattr(cyconv, function.__name__) is function
    assert pickle.loads(pickle.dumps(function)) is function


def test_docstring_names_the_axes_of_the_rank(function):
    """Those of another rank are not there."""
    found = re.search("[123]d", function.__name__)
    rank = int(found[0][0]) if found else None
    own = set(_ranked.LETTERS[rank].values())
    others = {axes for other, letters in _ranked.LETTERS.items() for axes in letters.values()} - own
    shapes = re.findall(r"\((?:N, |K, |C, |C \* M, |[CK] / groups, )+([^()]*?)(?:, C)?\)", function.__doc__)
    assert not others.intersection(shapes)
    assert rank is None or own.intersection(shapes)


def test_keyword_only_arguments_start_where_peers_disagree():
    """After padding in a convolution and a pooling, see `torch.nn.functional`."""
    for function, positional in ((cyconv.conv2d, "x weight bias stride padding"),
                                 (cyconv.max_pool2d, "x kernel_size stride padding"),
                                 (cyconv.avg_pool2d, "x kernel_size stride padding"),
                                 (cyconv.min_pool2d, "x kernel_size stride padding"),
                                 (cyconv.sum_pool2d, "x kernel_size stride padding"),
                                 (cyconv.lp_pool2d, "x p kernel_size stride padding"),
                                 (cyconv.pool2d, "x func kernel_size stride padding"),
                                 (cyconv.max_unpool2d, "x indices kernel_size stride padding"),
                                 (cyconv.adaptive_avg_pool2d, "x output_size"),
                                 (cyconv.conv2d_backward, "grad_out x weight")):
        parameters = inspect.signature(function).parameters.values()
        assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == positional.split()


def test_readme_python_blocks_run(tmp_path, monkeypatch):
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks, "README.md shows no Python"
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block, str(README), "exec"), {"__name__": "__main__"})
