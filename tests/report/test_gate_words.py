"""Single sentences of a gate's report, with their digits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_vlmlatency.records import (
    CPU,
    TOTAL,
    WALL,
    BudgetVerdict,
    CaseState,
    CaseVerdict,
    GateMode,
    GateStatus,
    GateTerms,
    Judgement,
    Verdict,
)
from pytest_vlmlatency.report.gate_ci import annotation_lines, junit_cases
from pytest_vlmlatency.report.gate_markdown import gate_markdown
from pytest_vlmlatency.report.gate_terminal import Line, Tone, gate_lines
from pytest_vlmlatency.report.gate_verdict import verdict_file
from pytest_vlmlatency.report.gate_words import (
    Standing,
    budget_text,
    change_text,
    confirmation_text,
    failing_phases,
    measures_text,
    probably_text,
    quarantine_text,
    remarks_on,
    shares_text,
    standing_of,
    standings,
    status_text,
    title_of,
)
from tests.gate_reports import (
    CONFIRMATION,
    EVERYTHING,
    NEW,
    OVER_BUDGET,
    QUARANTINED,
    SAME,
    SLOWER,
    UNAPPLIED,
    UNDECIDED,
    WHOLE,
    a_phase,
    a_report,
    a_verdict,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


QUARANTINE = GateTerms(mode=GateMode.REPORT, why="noise", until="2026-12-01")


def a_judgement(
    change: float | None, low: float | None = None, high: float | None = None, **fields: int
) -> Judgement:
    return Judgement(
        verdict=Verdict.SLOWER,
        reason="",
        change_ratio=change,
        low_ratio=low,
        high_ratio=high,
        **fields,
    )


@pytest.mark.parametrize(
    ("judgement", "text"),
    [
        (a_judgement(1.031, 1.02, 1.042, n_pairs=5, n_runs=10), "+3.1 % [2.0, 4.2], 5 pairs"),
        (a_judgement(1.031, 1.02, 1.042, n_pairs=1), "+3.1 % [2.0, 4.2], 1 pair"),
        (a_judgement(0.88, 0.87, 0.89, n_runs=10), "-12.0 % [-13.0, -11.0], 10 runs"),
        (a_judgement(0.9999, 0.99996, 1.00004), "+0.0 % [0.0, 0.0]"),
        (a_judgement(4.0, n_runs=1), "+300.0 %, 1 run"),
        (a_judgement(None, n_runs=2), "2 runs"),
        (a_judgement(None), ""),
    ],
)
def test_a_change_has_its_interval_and_what_it_rests_on(judgement: Judgement, text: str) -> None:
    assert change_text(judgement) == text


@pytest.mark.parametrize(
    ("shares_ms", "text"),
    [
        (
            {"vision": 39.2, "prefill": 1.1, "decode": 0.9, "other": 0.1},
            "total +41 ms: vision +39, prefill +1, decode +1",
        ),
        ({"vision": 0.0, "decode": 0.312}, "total +0.31 ms: decode +0.31"),
        ({"vision": -20.0, "decode": 21.5}, "total +2 ms: decode +22, vision -20"),
        ({"decode": -4.26}, "total -4.3 ms: decode -4.3"),
        ({"decode": 0.0}, "total +0 ms"),
        ({}, ""),
    ],
)
def test_shares_name_the_largest_first_and_leave_out_what_rounds_to_nothing(
    shares_ms: Mapping[str, float], text: str
) -> None:
    assert shares_text(replace(SLOWER, shares_ms=shares_ms)) == text


@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(-1e6, 1e6), min_size=1))
def test_shares_never_say_minus_zero(shares_ms: dict[str, float]) -> None:
    words = shares_text(replace(SLOWER, shares_ms=shares_ms)).replace(",", "").split()

    assert not [word for word in words if word.startswith("-") and float(word) == 0]


@pytest.mark.parametrize(
    ("measured_ms", "device", "text"),
    [
        (260.31, "*", "ttft 260.3 ms, over its budget of 250 ms"),
        (249.99, "*", "ttft 250.0 ms, within its budget of 250 ms"),
        (0.123, "NVIDIA H200", "ttft 0.12 ms, within its budget of 250 ms on NVIDIA H200"),
        (None, "*", "ttft is undefined here, so its budget of 250 ms is not kept"),
    ],
)
def test_a_budget_says_what_was_measured_against_it(
    measured_ms: float | None, device: str, text: str
) -> None:
    budget = BudgetVerdict(quantity="ttft", device=device, measured_ms=measured_ms, budget_ms=250.0)

    assert budget_text(budget) == text


@pytest.mark.parametrize(
    ("terms", "text"),
    [
        (GateTerms(), ""),
        (QUARANTINE, "Quarantined until 2026-12-01, so it does not fail: noise"),
    ],
)
def test_a_quarantine_says_its_end_and_its_reason(terms: GateTerms, text: str) -> None:
    assert quarantine_text(replace(SAME, terms=terms)) == text


def test_a_confirmation_says_what_it_took_and_what_cut_it_short() -> None:
    whole = replace(CONFIRMATION, cut_short_because=None, n_pairs=1, time_s=9.6)

    assert confirmation_text(whole) == (
        "Confirmed with 1 pair of fresh processes in 10 s: 8b7e6d5 against 3f2a1c9."
    )
    assert confirmation_text(replace(whole, n_pairs=0)) == (
        "Measured no pair of fresh processes in 10 s: 8b7e6d5 against 3f2a1c9."
    )
    assert confirmation_text(CONFIRMATION) == (
        "Confirmed with 27 pairs of fresh processes in 3 min 14 s: 8b7e6d5 against 3f2a1c9; "
        "cut short: the time limit of 180 s."
    )


def test_what_a_side_could_not_measure_is_said_below_the_verdicts() -> None:
    failure = "The baseline could not measure test_x.py::test_a: ImportError: no such model"
    report = replace(a_report([SAME]), confirmations=(replace(CONFIRMATION, failures=(failure,)),))

    assert failure in remarks_on(report, has_times=False)


@pytest.mark.parametrize(
    ("measures", "start"),
    [((CPU,), "CPU time"), ((WALL,), "Wall time"), ((CPU, WALL), "CPU or wall time"), ((), "")],
)
def test_the_times_are_called_what_they_are(measures: tuple[str, ...], start: str) -> None:
    cases = [replace(SAME, measure=measure) for measure in measures]

    assert measures_text(cases).partition(" in ms")[0] == start


def test_a_case_that_is_only_over_a_budget_is_not_called_slower() -> None:
    assert title_of(a_report([OVER_BUDGET])) == "vlm gate FAILED: 1 over budget"
    assert failing_phases(OVER_BUDGET) == ("ttft",)
    assert failing_phases(replace(SLOWER, budgets=OVER_BUDGET.budgets)) == (
        "vision",
        "total",
        "ttft",
    )


def test_the_title_counts_what_fails_first() -> None:
    assert title_of(WHOLE) == (
        "vlm gate FAILED: 1 slower, 1 over budget, 1 undecided, 2 quarantined, 1 faster, 1 new, "
        "1 not judged, 2 same"
    )
    assert title_of(a_report([SAME, NEW])) == "vlm gate passed: 1 new, 1 same"
    assert title_of(a_report()) == "vlm gate passed: nothing judged"


@pytest.mark.parametrize(
    ("case", "standing"),
    [
        (SLOWER, Standing.FAILS),
        (replace(SLOWER, terms=QUARANTINE), Standing.QUARANTINED),
        (replace(UNDECIDED, terms=QUARANTINE), Standing.QUARANTINED),
        (replace(SAME, terms=QUARANTINE), Standing.SAME),
        (replace(SAME, terms=QUARANTINE, is_quarantine_past=True), Standing.QUARANTINED),
        (replace(NEW, budgets=OVER_BUDGET.budgets), Standing.FAILS),
        (UNAPPLIED, Standing.NOT_APPLIED),
        (a_verdict(phases=[a_phase("vision", Verdict.FASTER), *UNDECIDED.phases]), "undecided"),
    ],
)
def test_a_case_stands_where_what_matters_most_puts_it(
    case: CaseVerdict, standing: Standing
) -> None:
    assert standing_of(case) == standing


def test_every_case_has_one_place() -> None:
    placed = [case for cases in standings(WHOLE).values() for case in cases]

    assert sorted(case.case_id for case in placed) == sorted(case.case_id for case in EVERYTHING)


@pytest.mark.parametrize(
    ("cases", "fields", "status", "text"),
    [
        ([SAME, UNDECIDED, QUARANTINED], {}, GateStatus.PASSED, "The gate passed."),
        (
            [SLOWER, UNAPPLIED],
            {},
            GateStatus.SLOWER,
            "The gate failed with exit status 10: slower, or over a budget.",
        ),
        (
            [UNDECIDED],
            {"is_strict": True},
            GateStatus.UNDECIDED,
            "The gate failed with exit status 11: undecided, where only a decision passes "
            "(strict).",
        ),
        (
            [UNAPPLIED],
            {},
            GateStatus.NOT_APPLIED,
            "The gate failed with exit status 12: it was asked for and could not be applied.",
        ),
    ],
)
def test_the_exit_status_is_said_with_what_it_means(
    cases: list[CaseVerdict], fields: dict[str, object], status: GateStatus, text: str
) -> None:
    report = a_report(cases, **fields)

    assert report.status is status
    assert status_text(report) == text


def test_a_case_that_fails_is_judged_or_has_a_budget() -> None:
    failing = [case for case in EVERYTHING if standing_of(case) is Standing.FAILS]

    assert all(case.state is CaseState.JUDGED or case.budgets for case in failing)


def a_doubling(verdict: Verdict = Verdict.UNDECIDED) -> CaseVerdict:
    """Return a case whose vision took 9.9 ms after 5.0 ms, in one run against one."""
    vision = a_phase("vision", verdict, percent=(98.0, -1.0, 1.0), baseline_ms=5.0, n_runs=1)
    unknown = replace(vision.judgement, low_ratio=None, high_ratio=None)
    return a_verdict("test_page", [replace(vision, judgement=unknown), a_phase(TOTAL)])


def test_a_doubling_that_is_undecided_is_probably_slower_in_every_form() -> None:
    told = "vision probably slower: 5.0 → 9.9 ms, 1 run"
    report = a_report([a_doubling()])
    strict = a_report([a_doubling()], is_strict=True)

    assert report.status is GateStatus.PASSED
    assert title_of(report) == "vlm gate passed: 1 undecided; 1 probably slower"
    assert Line(f"  {told}", Tone.BAD) in gate_lines(report, width=None)
    assert f"**{told}**" in gate_markdown(report)
    (annotation,) = annotation_lines(report, {})
    assert annotation.startswith("::warning")
    assert annotation.endswith(told)
    assert [case.reasons for case in verdict_file(report).probably_slower] == [(told,)]
    assert [told in case.text for case in junit_cases(strict)] == [True]


def test_what_is_decided_is_not_probable() -> None:
    decided = (Verdict.SLOWER, Verdict.SAME)

    assert [a_doubling(one).phases[0].probably for one in decided] == [None, None]


@given(
    change=st.floats(-50, 100),
    room=st.one_of(st.none(), st.floats(0.1, 60)),
    verdict=st.sampled_from(Verdict),
)
def test_a_phase_is_probably_slower_only_where_its_interval_excludes_no_change(
    change: float, room: float | None, verdict: Verdict
) -> None:
    phase = a_phase(verdict=verdict, percent=(change, change - (room or 0), change + (room or 0)))
    judgement = phase.judgement
    if room is None:
        judgement = replace(judgement, low_ratio=None, high_ratio=None)
    phase = replace(phase, judgement=judgement)

    is_above = change > 25 if room is None else change - room > 0
    is_below = change < -20 if room is None else change + room < 0
    assert (phase.probably is Verdict.SLOWER) <= (is_above and verdict is Verdict.UNDECIDED)
    assert (phase.probably is Verdict.FASTER) <= (is_below and verdict is Verdict.UNDECIDED)
    assert bool(probably_text(phase)) == (phase.probably is not None)
