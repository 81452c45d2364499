"""The user guide: every snippet runs and prints what the page shows, and every picture and page it links is there."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
FENCES = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", re.MULTILINE | re.DOTALL)
OPTIONAL = ("matplotlib", "onnx", "safetensors", "skops", "torch")
LARGEST_PICTURE = 60_000      # bytes


@pytest.fixture
def no_windows():
    matplotlib = pytest.importorskip("matplotlib")
    before = matplotlib.get_backend()
    matplotlib.use("Agg")
    with matplotlib.rc_context():
        yield
    matplotlib.pyplot.close("all")
    matplotlib.use(before)


@pytest.mark.usefixtures("no_windows")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_snippets_run_and_print_what_is_shown(page, tmp_path, monkeypatch):
    text = page.read_text(encoding="utf-8")
    for module in OPTIONAL:
        if re.search(rf"^(import|from) {module}\b", text, re.MULTILINE):
            pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for code, shown in FENCES.findall(text):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(page), "exec"), namespace)
        assert printed.getvalue() == shown
    drawn = sorted(path.name for path in tmp_path.glob("*.png"))
    assert drawn == sorted(path.name for path in (ROOT / "docs" / "pictures").glob("*.png") if page.stem == "pictures")


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    for link in links:
        assert link.startswith("https://") or (page.parent / link).exists(), link


def test_every_page_is_in_the_table_of_contents():
    contents = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    assert all(f"({page.name})" in contents for page in PAGES if page.stem != "guide")


def test_pictures_are_small():
    for picture in (ROOT / "docs" / "pictures").glob("*.png"):
        assert picture.stat().st_size < LARGEST_PICTURE, picture.name
