"""A trend's page, pinned whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_vlmlatency.records import Trend, TrendPoint, TrendSeries, TrendStep
from pytest_vlmlatency.report.gate_terminal import Tone
from pytest_vlmlatency.report.trend_text import trend_lines

GOLDEN = Path(__file__).parent / "golden"

STEP = TrendStep(
    position=12,
    change_ratio=1.062,
    low_ratio=1.055,
    high_ratio=1.069,
    n_before=12,
    n_after=8,
    before_ms=312.4,
    after_ms=331.8,
    last_good="8b7e6d5" * 5,
    first_bad="3f2a1c9" * 5,
    commits=("5e1a9d0 Use a loop for the projector", "3f2a1c9 Resize on the host"),
)
BACK = replace(
    STEP,
    position=16,
    change_ratio=0.94,
    low_ratio=0.933,
    high_ratio=0.947,
    n_before=4,
    n_after=4,
    before_ms=331.8,
    after_ms=312.1,
    last_good=None,
    first_bad=None,
    commits=(),
)


def a_series(name: str, phase: str, levels: dict[float, int], **fields: object) -> TrendSeries:
    """Return a series with so many runs at each level."""
    values = [level for level, number in levels.items() for _ in range(number)]
    points = tuple(
        TrendPoint(run=f"{n:016x}", started_at="2026-11-20", commit=f"{n:040x}", value_ms=value)
        for n, value in enumerate(values)
    )
    given: dict[str, object] = {
        "case_id": f"t.py::{name}",
        "case_name": name,
        "phase": phase,
        "measure": "cpu_ms",
        "points": points,
    }
    return TrendSeries(**{**given, **fields})  # type: ignore[arg-type]  # its fields, by name


SLOWER = a_series("test_caption[512]", "decode", {312.4: 12, 331.8: 8}, steps=(STEP,))
ANSWERED = a_series(
    "test_page", "vision", {312.4: 12, 331.8: 4, 312.1: 4}, steps=(STEP, BACK), n_left_out=3
)
FLAT = a_series("test_page", "total", {400.0: 20})
SHORT = a_series("test_new", "total", {40.0: 4}, reason="4 of at least 10 runs for two levels")
TREND = Trend(
    history="/repo/.vlm_latency",
    machine="3fa9c2d1e0b7",
    described="on 3fa9c2d1e0b7 (Xeon, NVIDIA H200), 2026-10-01 to 2026-11-20",
    n_runs=20,
    n_commits=20,
    series=(SLOWER, ANSWERED, FLAT, SHORT),
    remarks=("2 runs of other commits were left out.",),
)


def golden(name: str) -> list[str]:
    """Return what a user sees, kept beside this module as it is."""
    return (GOLDEN / f"{name}.txt").read_text(encoding="utf-8").splitlines()


def test_the_whole_page() -> None:
    assert [line.text for line in trend_lines(TREND, width=None)] == golden("trend_whole")


def test_all_series_where_they_are_asked_for() -> None:
    lines = trend_lines(TREND, width=60, has_all=True)

    assert [line.text for line in lines] == golden("trend_all")
    assert max(len(line.text) for line in lines) <= 60


def test_a_step_that_was_answered_since_is_no_alarm() -> None:
    assert not ANSWERED.is_slower
    lines = trend_lines(replace(TREND, series=(ANSWERED, FLAT)), width=None)

    assert lines[-1].text == "No series ends slower than it was."
    assert lines[-1].tone is Tone.GOOD


def test_a_step_between_runs_of_one_commit_is_not_the_codes() -> None:
    same = replace(STEP, last_good=STEP.first_bad)
    lines = trend_lines(replace(TREND, series=(replace(SLOWER, steps=(same,)),)), width=None)

    assert "  At one commit, 3f2a1c93f2: not the code, but what it ran on." in [
        line.text for line in lines
    ]


def test_many_commits_are_counted() -> None:
    many = replace(STEP, commits=tuple(f"{n:07x} Change {n}" for n in range(14)))
    lines = trend_lines(replace(TREND, series=(replace(SLOWER, steps=(many,)),)), width=None)

    assert "    and 4 more" in [line.text for line in lines]


@pytest.mark.parametrize("series", [(), (SHORT,)])
def test_nothing_to_look_at_fails(series: tuple[TrendSeries, ...]) -> None:
    trend = replace(TREND, series=series)

    assert trend.status == 12
    assert trend_lines(trend, width=None)[-1].text == (
        "Exit status 12: no series was long enough to be looked at."
    )


def test_a_trend_names_why_runs_were_left_out_of_shown_and_of_hidden_series() -> None:
    because = {"contended": 5, "of other work than the latest": 1}
    flat = replace(FLAT, n_left_out=6, left_out_because=because)
    told = "6 left out (5 contended, 1 of other work than the latest)"

    shown, hidden = (
        [
            line.text
            for line in trend_lines(replace(TREND, series=(flat,)), width=None, has_all=has_all)
        ]
        for has_all in (True, False)
    )

    assert any(f"20 runs, {told}; the strip" in text for text in shown)
    assert any(told in text for text in hidden)


def test_a_trend_does_not_vouch_for_series_that_were_too_short() -> None:
    lines = trend_lines(replace(TREND, series=(FLAT, SHORT)), width=None)

    assert lines[-1].text == (
        "No series ends slower than it was, of the 1 with enough runs; 1 had too few to be looked "
        "at."
    )
