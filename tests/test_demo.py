"""The command line: the demonstration says and saves what it promises."""

import re
import subprocess
import sys

import pytest

from cyconv import __main__, _demo


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(_demo, "EPOCHS", 4)
    monkeypatch.setattr(_demo, "GRID", {"convnetclassifier__conv_channels": [(4,), (8, 16)],
                                        "convnetclassifier__learning_rate_init": [0.003, 0.01]})


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("arguments", ([], ["demo"]))
def test_demo_shows_every_step(arguments, capsys):
    __main__.main(arguments)
    shown = capsys.readouterr().out
    for part in ("receptive field", "4/4  ", "4 combinations x 3 folds", "learning_rate_init",
                 "held-out accuracy", "true \\ predicted", "images per second", "predictions per second"):
        assert part in shown
    assert float(re.search(r"held-out accuracy of the best (0\.\d+)", shown)[1]) > 0.85


@pytest.mark.usefixtures("small")
def test_plot_is_saved(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    file = tmp_path / "demo.png"
    __main__.main(["demo", "--plot", str(file)])
    assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert file.stat().st_size > 50_000
    assert f"picture saved to {file}" in capsys.readouterr().out


def test_plot_may_stand_before_the_command_or_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(_demo, "run", asked.append)
    for arguments in (["--plot", "a.png"], ["demo", "--plot", "b.png"], ["--plot", "c.png", "demo"], []):
        __main__.main(arguments)
    assert asked == ["a.png", "b.png", "c.png", None]


def test_info_prints_the_configuration():
    shown = subprocess.run([sys.executable, "-m", "cyconv", "info"], capture_output=True, text=True, check=True).stdout
    for name in ("cyconv", "instruction set", "threads", "OpenMP", "compiler", "NumPy", "scikit-learn"):
        assert re.search(rf"^{name} +\S", shown, re.MULTILINE)


def test_help_explains_the_commands(capsys):
    with pytest.raises(SystemExit):
        __main__.main(["--help"])
    shown = capsys.readouterr().out
    assert "demo" in shown and "info" in shown and "--plot FILE.png" in shown


def test_an_unknown_command_is_an_error(capsys):
    with pytest.raises(SystemExit):
        __main__.main(["dance"])
    assert "invalid choice: 'dance'" in capsys.readouterr().err
