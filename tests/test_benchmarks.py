"""The shapes that the benchmarks time, and the files they write; the scripts compare all results themselves."""

import sys
from pathlib import Path

import pytest

import cyconv

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="an installed package has no benchmarks")


@pytest.fixture
def scripts(monkeypatch):
    """The two modules that load no rival and set no environment."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield __import__("shapes"), __import__("report")
    for name in ("shapes", "report"):
        del sys.modules[name]


def test_operations_of_a_shape_are_those_of_conv_macs(scripts):
    for shape in scripts[0].CONV:
        if not shape.transposed:
            macs = cyconv.conv_macs((shape.c, *shape.size), shape.k, shape.kernel, **shape.options)
            assert shape.flops == 2 * shape.n * macs, shape.name


def test_transposed_shape_counts_what_its_adjoint_computes(scripts):
    shape = next(shape for shape in scripts[0].CONV if shape.transposed)
    macs = cyconv.conv_macs(shape.y_shape[1:], shape.c, shape.kernel, **shape.options)
    assert shape.flops == 2 * shape.n * macs


def test_names_are_unique_and_a_third_is_float64(scripts):
    for shapes in (scripts[0].CONV, scripts[0].POOL, scripts[0].FILTERS):
        assert len({shape.name for shape in shapes}) == len(shapes)
        assert sum(shape.float64 for shape in shapes) >= len(shapes) // 3 - 1


def test_rows_measured_anew_replace_the_old_ones(scripts, tmp_path):
    save, load = scripts[1].save, scripts[1].load
    old, other = {"name": "a", "threads": 1, "seconds": 2.0}, {"name": "a", "threads": 2, "seconds": 1.0}
    save(tmp_path / "rows.json", [old, other])
    save(tmp_path / "rows.json", [old | {"seconds": 3.0}])
    assert sorted((row["threads"], row["seconds"]) for row in load(tmp_path / "rows.json")) == [(1, 3.0), (2, 1.0)]


def test_unknown_name_shows_the_names(scripts):
    shapes, report = scripts
    found = report.chosen(shapes.CONV, ["vgg-*", "odd"])
    assert [shape.name for shape in found] == ["vgg-224", "vgg-56", "vgg-14", "odd"]
    with pytest.raises(SystemExit, match="no name is like vgg; there are digits, .*vgg-14"):
        report.chosen(shapes.CONV, ["vgg"])


def test_each_question_has_a_chart(scripts, tmp_path, monkeypatch):
    """Of rows as the other scripts write them; files small enough for a repository."""
    pytest.importorskip("matplotlib")
    common = {"threads": 1, "dtype": "float32", "isa": "avx2", "best": "torch first", "seconds": 1e-3,
              "rivals": {"torch first": {"seconds": 2e-3}}, "fma_share": 0.5, "memory": 4e6, "memory_plain": 9e6,
              "rate": 100.0}
    rows = [common | {"benchmark": benchmark, "name": name, "shape": f"shape of {name}", "pass": which,
                      "layout": layout, "ratio": ratio, "batch": batch}
            for benchmark, passes in (("conv", ("forward", "grad input")), ("pool", ("max", "avg back")),
                                      ("image", ("filter",)), ("training", ("step", "predict")))
            for which in passes for name in ("vgg-56", "odd") for batch in (1, 64)
            for layout, ratio in (("channels_first", 0.7), ("channels_last", 3.0))]
    scripts[1].save(tmp_path / "rows.json", rows)
    arguments = [str(tmp_path / "rows.json"), "--threads", "1", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["plot.py", *arguments])
    __import__("plot").main()
    del sys.modules["plot"]
    sizes = {file.name: file.stat().st_size for file in tmp_path.glob("*.png")}
    assert sizes.keys() == {"ratio.png", "ratio_pool.png", "ratio_image.png", "peak.png", "memory.png", "training.png"}
    assert max(sizes.values()) < 80_000
