"""Runs and commands that a signal ends: what was measured is kept, as after Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency import cli
from pytest_vlmlatency.gate import compare_command
from pytest_vlmlatency.signals import Terminated, ending_signals_raise
from tests.projects import FAKE_ENGINE, MEASURED, MODEL, in_subprocess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOT_IGNORED = """
import signal

for number in (signal.SIGTERM, signal.SIGHUP):  # as nohup leaves the second one to what it runs
    signal.signal(number, signal.SIG_DFL)
"""
ENDED = """

def test_ended(vlm_latency):
    import os, signal, time

    os.kill({pid}, signal.{name})
    time.sleep(20)
    assert False, "the signal did not end the run"


def test_after(vlm_latency):
    vlm_latency(model.generate)
"""


@pytest.fixture(autouse=True)
def _default_handlers() -> Iterator[None]:
    """Let each test begin as a process does, whatever runs it handles."""
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = [(number, signal.getsignal(number)) for number in numbers]
    for number in numbers:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_run_that_a_signal_ends_keeps_what_it_measured(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pytester.makeconftest(FAKE_ENGINE + NOT_IGNORED)
    ended = ENDED.format(pid="os.getpid()", name=name)
    pytester.makepyfile(test_x=MODEL + MEASURED + ended)

    result = in_subprocess(pytester, monkeypatch, "--vlm-json=run.json", "--vlm-history=kept")

    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([f"!*{name}*!"])
    run = json.loads((pytester.path / "run.json").read_text())
    assert [case["name"] for case in run["cases"]] == ["test_caption"]
    assert len(list((pytester.path / "kept" / "runs").glob("*.json"))) == 1


def test_the_controller_of_workers_keeps_what_they_measured(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeconftest(FAKE_ENGINE + NOT_IGNORED)
    pytester.makepyfile(test_x=MODEL + MEASURED + ENDED.format(pid="os.getppid()", name="SIGTERM"))

    result = in_subprocess(pytester, monkeypatch, "-n1", "--vlm-json=run.json", is_new=True)

    assert result.ret == pytest.ExitCode.INTERRUPTED
    run = json.loads((pytester.path / "run.json").read_text())
    assert [case["name"] for case in run["cases"]] == ["test_caption"]


@pytest.mark.parametrize(
    ("number", "status", "name"),
    [
        (signal.SIGTERM, 143, "SIGTERM"),
        (signal.SIGHUP, 129, "SIGHUP"),
        (signal.SIGINT, 130, "Ctrl-C"),
    ],
)
def test_a_command_ends_as_a_shell_reports_its_signal(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
    status: int,
    name: str,
) -> None:
    monkeypatch.setattr(compare_command, "run", lambda _given: signal.raise_signal(number))

    assert cli.main(["compare", "a", "b"]) == status
    assert capsys.readouterr().err == f"vlmlatency: interrupted by {name}\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(
    ("number", "status", "name"),
    [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "Ctrl-C")],
)
def test_a_query_that_a_signal_cancels_ends_as_a_shell_reports_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    number: int,
    status: int,
    name: str,
) -> None:
    def cancelled(_found: object) -> None:
        """Do as DuckDB does with the exception of a handler."""
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise RuntimeError("Query interrupted") from None

    monkeypatch.setattr("pytest_vlmlatency.history.queries._as_python_has_it", cancelled)

    ended = cli.main(["history", "--history", str(tmp_path), "--sql", "SELECT 1"])

    assert ended == status
    assert capsys.readouterr().err == f"vlmlatency: interrupted by {name}\n"


def test_the_second_signal_ends_the_process_at_once() -> None:
    program = (
        "import signal\n"
        "from pytest_vlmlatency.signals import ending_signals_raise\n"
        "with ending_signals_raise():\n"
        "    try:\n"
        "        signal.raise_signal(signal.SIGTERM)\n"
        "    finally:\n"
        "        signal.raise_signal(signal.SIGTERM)\n"
    )

    done = subprocess.run([sys.executable, "-c", program], check=False)

    assert done.returncode == -signal.SIGTERM


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None], ids=["ignored", "own"])
def test_a_signal_that_somebody_else_handles_is_left_alone(handler: signal.Handlers) -> None:
    signal.signal(signal.SIGHUP, handler)

    with ending_signals_raise():
        os.kill(os.getpid(), signal.SIGHUP)
        during = signal.getsignal(signal.SIGHUP)
        with pytest.raises(Terminated, match="SIGTERM"):
            signal.raise_signal(signal.SIGTERM)

    assert during is handler
    assert signal.getsignal(signal.SIGHUP) is handler
