"""How far a profile is, and how long it will still take, by a clock that the test moves."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pytest_vlmlatency.profiling.sweep import Progress, duration


@dataclass
class _Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_time_left_counts_what_was_measured_now_alone() -> None:
    clock = _Clock()
    progress = Progress(100, 40, now_s=clock)
    assert progress.line("x") == "40 of 100 (40 %), time left not known yet: x"

    clock.now_s = 20.0
    progress.done()
    progress.done()

    assert progress.line("low-k4-b8") == "42 of 100 (42 %), 10 min left: low-k4-b8"


def test_a_log_gets_a_line_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    clock = _Clock()
    progress = Progress(3, 0, now_s=clock)
    for now_s in (0.0, 30.0, 61.0):
        clock.now_s = now_s
        progress.show(f"at {now_s:.0f}")
        progress.done()

    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition(": ")[2] for line in lines] == ["at 0", "at 61"]


@pytest.mark.parametrize(
    ("time_s", "words"),
    [(3.4, "3 s"), (90.0, "2 min"), (3599.0, "1 h 00 min"), (5430, "1 h 30 min")],
)
def test_times_are_in_words(time_s: float, words: str) -> None:
    assert duration(time_s) == words
