"""The selftest: every check passes and catches its planted faults, failures are reported, the oracle covers all."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

import cyconv
from cyconv import __main__, selftest
from cyconv.selftest import _run, cases
from cyconv.selftest.checks import exact


@pytest.mark.parametrize("name", selftest.CHECKS)
def test_one_case_passes_and_the_planted_faults_are_caught(name):
    process = subprocess.run([sys.executable, "-m", "cyconv", "selftest", name, "--seconds", "0"],
                             capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stdout + process.stderr
    assert re.search(rf"^{name} +(ok: .*seeds 0 to 0|skipped: )", process.stdout, re.MULTILINE), process.stdout
    assert "1 of 1 checks passed" in process.stdout


def test_the_readme_shows_every_check():
    rows = re.findall(r"\| `selftest ([a-z ]+)` \|", (Path(__file__).parent.parent / "README.md").read_text("utf-8"))
    assert sorted(" ".join(rows).split()) == sorted(selftest.CHECKS)


def test_every_public_function_has_cases():
    """And so is compared with a definition."""
    found = {case.function for family in (*cases.EXACT, *cases.SMOOTH) for case in family(1)}
    without_rank = {re.sub("[123]d", "", name) for name in found}
    functions = {re.sub("[123]d", "", name) for name in cyconv.functional.__all__ if name[0].islower()}
    losses = {f"losses.{name}" for name in cyconv.losses.__all__}
    assert functions | losses == without_rank


def test_a_failure_is_printed_with_the_command_that_reproduces_it(capsys):
    with mock.patch.object(exact, "compare", side_effect=AssertionError("planted")):
        assert not _run.run_check("exact", 0, 17)
    shown = capsys.readouterr().out
    assert re.search("exact +FAILED", shown)
    assert "seed 17: AssertionError: planted" in shown
    assert "reproduce: python -m cyconv selftest exact --seed 17 --seconds 0" in shown


def test_an_unexpected_exception_is_a_failure_with_its_place(capsys):
    with mock.patch.object(exact, "plain", side_effect=KeyError("oops")):
        assert not _run.run_check("exact", 0, 3)
    assert re.search(r"seed 3: KeyError: 'oops' at .*mock\.py:\d+", capsys.readouterr().out)


def test_a_planted_fault_that_is_not_caught_is_a_failure(capsys):
    with mock.patch.object(exact, "faults", lambda: {"nothing at all": mock.MagicMock()}):
        assert not _run.run_check("exact", 0, 0)
    shown = capsys.readouterr().out
    assert re.search("exact +FAILED", shown) and "0 of 1 planted faults caught; MISSED: nothing at all" in shown


def test_the_command_fails_when_a_check_fails_or_crashes(capfd):
    for process in ("raise SystemExit(1)", "import os; os.abort()"):
        with mock.patch.object(_run, "worker", lambda *_: [sys.executable, "-c", process]):      # noqa: B023
            assert _run.main(["exact", "grad"], 0, 0) == 1
    shown = capfd.readouterr().out
    assert "0 of 2 checks passed" in shown
    assert re.search("exact +FAILED: the process ended with status -6", shown)


@pytest.mark.skipif(os.name != "posix", reason="signals and pipes of POSIX")
@pytest.mark.parametrize(("how", "seconds"), [("ctrl-c", "40"), ("closed pipe", "0")])
def test_ends_without_a_traceback(how, seconds):
    command = [sys.executable, "-u", "-m", "cyconv", "selftest", "indices", "nan", "--seconds", seconds]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
                          preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler)) as process:
        assert process.stdout.readline().startswith("cyconv")
        if how == "closed pipe":
            process.stdout.close()
        else:
            time.sleep(8)       # now the check runs
            os.killpg(process.pid, signal.SIGINT)
        assert process.wait(90) == (_run.INTERRUPTED if how == "ctrl-c" else _run.PIPE_CLOSED)
        assert process.stderr.read() == ""


def test_seconds_are_shared_and_unknown_names_refused(capsys):
    with mock.patch.object(_run, "main", return_value=0) as main, pytest.raises(SystemExit) as status:
        __main__.main(["selftest", "--seed", "5"])
    assert status.value.code == 0 and main.call_args.args == (selftest.CHECKS, 60.0, 5)
    with pytest.raises(SystemExit) as status:
        __main__.main(["selftest", "dance"])
    assert status.value.code == 2 and "no check 'dance'; there are exact" in capsys.readouterr().err
    for option, value in (("--seconds", "nan"), ("--seconds", "-5"), ("--seed", "-1")):
        with pytest.raises(SystemExit):
            __main__.main(["selftest", "exact", option, value])
        assert f"{option}: must be a number of at least 0, got {value}" in capsys.readouterr().err
