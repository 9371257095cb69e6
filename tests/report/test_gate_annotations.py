"""The gate's report as GitHub's annotations: which lines, in which order, escaped how."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pytest_vlmlatency.report.gate_ci import SourceLine, annotation_lines
from tests.gate_reports import (
    FILE,
    OVER_BUDGET,
    PAST,
    SAME,
    SLOWER,
    UNAPPLIED,
    UNDECIDED,
    WHOLE,
    a_report,
)

SOURCES = {
    f"{FILE}::test_caption[512]": SourceLine(FILE, 12),
    f"{FILE}::test_page": SourceLine(FILE, None),
}


def test_each_test_that_fails_is_an_error_at_its_line_and_a_past_quarantine_a_warning() -> None:
    assert annotation_lines(WHOLE, SOURCES) == (
        "::error file=benchmarks/test_caption.py,line=12,title=test_caption[512] is slower%3A "
        "vision and total::vision is slower: +48.1 %25 [46.0, 50.2], 5 pairs%0A"
        "total is slower: +9.7 %25 [9.1, 10.3], 5 pairs%0A"
        "total +41 ms: vision +39, prefill +1, decode +1",
        "::error file=benchmarks/test_caption.py,title=test_page is over budget%3A ttft::"
        "ttft 260.3 ms, over its budget of 250 ms",
        "::warning title=test_forgotten%3A past its quarantine::Its quarantine ended on "
        "2026-11-01: a neighbour on this node. It still does not fail: let it fail again, or give "
        "it a new date",
    )


def test_what_is_not_applied_is_an_error() -> None:
    report = a_report([UNAPPLIED], not_applied_because=("no run of this machine",))

    assert annotation_lines(report, SOURCES) == (
        "::error title=test_lost%3A the gate was not applied::its worker died",
        "::error title=vlm gate%3A not applied::no run of this machine",
    )


def test_the_undecided_are_errors_only_where_they_fail() -> None:
    assert annotation_lines(a_report([UNDECIDED]), SOURCES) == ()
    assert annotation_lines(a_report([UNDECIDED], is_strict=True), SOURCES) == (
        "::error title=test_chat is undecided::decode: +2.6 %25 [-0.2, 5.4], 27 pairs",
    )


def test_a_gate_that_passed_annotates_nothing() -> None:
    assert annotation_lines(a_report([SAME]), SOURCES) == ()


def test_more_than_github_shows_are_counted_in_the_last_one() -> None:
    many = [replace(OVER_BUDGET, case_name=f"test_{n}") for n in range(11)]
    lines = annotation_lines(a_report([*many, PAST]), {})

    assert len(lines) == 11
    assert lines[9] == ("::error title=vlm gate::2 more; the log and the summary have all of them.")
    assert lines[10].startswith("::warning ")


@given(name=st.text(), reason=st.text(), file=st.text(min_size=1))
def test_no_name_can_end_its_command_or_begin_another(name: str, reason: str, file: str) -> None:
    case = replace(SLOWER, case_name=name, test="t")
    report = a_report([case], not_applied_because=(reason,))

    lines = annotation_lines(report, {"t": SourceLine(file, 3)})

    assert not [line for line in lines if "\n" in line or "\r" in line]
    properties = lines[0].removeprefix("::error ").split("::")[0].split(",")
    assert [one.partition("=")[0] for one in properties] == ["file", "line", "title"]
