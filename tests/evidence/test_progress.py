"""The line of progress: written over in a terminal, and nowhere else."""

import io
import sys

import pytest

from benchmarks.evidence._record import say
from benchmarks.evidence._statistics import one_by_one, show_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal_of(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Let standard error be a terminal of 20 columns; pytest puts its own back between phases."""
    written = Terminal()
    monkeypatch.setattr(sys, "stderr", written)
    monkeypatch.setenv("COLUMNS", "20")
    return written


def test_each_name_writes_over_the_last_one_and_the_end_clears_the_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = terminal_of(monkeypatch)

    names = list(one_by_one(["llava", "git"]))

    assert names == ["llava", "git"]
    assert terminal.getvalue() == "\r\x1b[K1 of 2: llava\r\x1b[K2 of 2: git\r\x1b[K"


def test_a_line_never_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)

    show_progress("1 of 2: a name that is far too long")

    assert terminal.getvalue() == "\r\x1b[K1 of 2: a name that"


def test_a_report_takes_the_line_of_the_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)

    show_progress("1 of 2: llava")
    say("llava: pass")

    assert terminal.getvalue() == "\r\x1b[K1 of 2: llava\r\x1b[Kllava: pass\n"


def test_a_file_gets_the_reports_alone(capsys: pytest.CaptureFixture[str]) -> None:
    for name in one_by_one(["llava"]):
        say(f"{name}: pass")

    assert capsys.readouterr().err == "llava: pass\n"
