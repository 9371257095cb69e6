"""The gate's section of a terminal, pinned whole: it is what most people read."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_vlmlatency.records import CaseState
from pytest_vlmlatency.report.gate_terminal import Line, Tone, coloured, gate_lines
from tests.gate_reports import (
    ALSO_SAME,
    OVER_BUDGET,
    PAST,
    SAME,
    SLOWER,
    UNAPPLIED,
    UNDECIDED,
    WHOLE,
    a_report,
    a_verdict,
)

GOLDEN = Path(__file__).parent / "golden"
WIDTHS = [60, 80, 100, 120, 160]


def golden(name: str) -> list[str]:
    """Return what a user sees, kept beside this module as it is."""
    return (GOLDEN / f"{name}.txt").read_text(encoding="utf-8").splitlines()


def texts(lines: tuple[Line, ...]) -> list[str]:
    return [line.text for line in lines]


def test_the_whole_section() -> None:
    assert texts(gate_lines(WHOLE, width=None)) == golden("gate_whole")


def test_a_narrow_terminal_keeps_the_intervals_longer_than_the_times() -> None:
    assert texts(gate_lines(WHOLE, width=80)) == golden("gate_narrow")


def test_a_very_narrow_terminal_keeps_the_effects() -> None:
    assert texts(gate_lines(WHOLE, width=60)) == golden("gate_very_narrow")


def test_with_v_every_phase_of_every_case_is_listed() -> None:
    assert texts(gate_lines(WHOLE, width=None, is_verbose=True)) == golden("gate_verbose")


def test_a_gate_that_passed_takes_three_lines() -> None:
    report = a_report([SAME, ALSO_SAME])

    assert texts(gate_lines(report, width=None)) == golden("gate_passed")


def test_a_gate_that_was_not_applied_says_so_first() -> None:
    report = a_report(
        [UNAPPLIED], not_applied_because=("no run of this machine, and no commit to measure",)
    )

    assert texts(gate_lines(report, width=None)) == golden("gate_not_applied")


def test_a_gate_without_cases_says_only_why() -> None:
    report = a_report(not_applied_because=("nothing was measured",), baseline="")

    assert texts(gate_lines(report, width=None)) == [
        "Not applied: nothing was measured",
        "The gate failed with exit status 12: it was asked for and could not be applied.",
    ]


def test_where_only_a_decision_passes_the_undecided_fail() -> None:
    lines = gate_lines(a_report([UNDECIDED], is_strict=True), width=None)

    assert lines[2] == Line("undecided: this fails the gate", Tone.BAD)
    assert lines[-1] == Line(
        "The gate failed with exit status 11: undecided, where only a decision passes (strict).",
        Tone.BAD,
    )


def test_cases_that_were_not_judged_are_told_by_their_reasons() -> None:
    reasons = ("it was not collected", "it was not collected", "its workload is another")
    gone = [
        a_verdict(f"test_{index}", state=CaseState.NOT_JUDGED, reason=reason)
        for index, reason in enumerate(reasons)
    ]

    assert texts(gate_lines(a_report(gone), width=None))[:2] == [
        "not judged, it was not collected: test_0, test_1",
        "not judged, its workload is another: test_2",
    ]


def test_colours_show_what_fails_and_leave_the_rest_alone() -> None:
    lines = {line.text.split("  ")[0]: line.tone for line in gate_lines(WHOLE, width=None)}

    assert lines["test_caption[512]"] is Tone.BAD
    assert lines["test_chat"] is Tone.WARNING
    assert lines["test_prompt"] is Tone.GOOD
    assert lines["same: 2 cases, 4 phases (-v lists them)"] is Tone.PLAIN


def test_a_past_quarantine_is_loud() -> None:
    (line,) = [one for one in gate_lines(a_report([PAST]), width=None) if "quarantine " in one.text]

    assert line.tone is Tone.BAD


def test_a_phase_that_is_the_same_is_not_coloured_within_a_case_that_fails() -> None:
    lines = gate_lines(a_report([OVER_BUDGET]), width=None)

    assert [line.tone for line in lines if "same" in line.text] == [Tone.PLAIN]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("is_verbose", [False, True])
def test_no_line_is_wider_than_the_terminal(width: int, *, is_verbose: bool) -> None:
    lines = gate_lines(WHOLE, width=width, is_verbose=is_verbose)

    assert max(len(line.text) for line in lines) <= width


def test_the_order_of_the_cases_changes_no_verdict() -> None:
    one, other = a_report([SLOWER, SAME]), a_report([SAME, SLOWER])

    assert gate_lines(one, width=None) == gate_lines(other, width=None)


def test_without_colours_the_text_is_the_lines() -> None:
    lines = (Line("fails", Tone.BAD), Line("same"))

    assert coloured(lines, has_colours=False) == "fails\nsame"
    assert coloured(lines, has_colours=True) == "\033[31mfails\033[0m\nsame"
