"""Builders of gate reports with boring values, so that a test says only what it is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vlmlatency.records import (
    TOTAL,
    BudgetVerdict,
    CaseState,
    CaseVerdict,
    Commit,
    Confirmation,
    Environment,
    GateMode,
    GateReport,
    GateTerms,
    Judgement,
    PhaseVerdict,
    RunHeader,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

FILE = "benchmarks/test_caption.py"


def a_phase(
    name: str = "decode",
    verdict: Verdict = Verdict.SAME,
    *,
    percent: tuple[float, float, float] | None = (0.1, -0.4, 0.6),
    baseline_ms: float | None = 312.4,
    n_pairs: int = 0,
    n_runs: int = 10,
    reason: str = "",
) -> PhaseVerdict:
    """Return a phase whose change is given as estimate, low and high, in percent."""
    change, low, high = (1 + value / 100 for value in percent) if percent else (None, None, None)
    return PhaseVerdict(
        phase=name,
        judgement=Judgement(
            verdict=verdict,
            reason=reason,
            change_ratio=change,
            low_ratio=low,
            high_ratio=high,
            n_pairs=n_pairs,
            n_runs=n_runs,
        ),
        baseline_ms=baseline_ms,
        candidate_ms=(baseline_ms or 300.0) * (change or 1.0),
        target_ratio=0.03,
    )


def a_verdict(
    name: str = "test_caption[512]",
    phases: Sequence[PhaseVerdict] = (),
    *,
    state: CaseState = CaseState.JUDGED,
    **fields: object,
) -> CaseVerdict:
    given: dict[str, object] = {
        "case_id": f"{FILE}::{name}",
        "case_name": name,
        "test": f"{FILE}::{name}",
        "device": "cuda:0 (NVIDIA H200)",
        "state": state,
        "phases": tuple(phases),
    }
    return CaseVerdict(**{**given, **fields})  # type: ignore[arg-type]  # its fields, by name


def a_report(cases: Sequence[CaseVerdict] = (), **fields: object) -> GateReport:
    given: dict[str, object] = {
        "candidate": a_header("3f2a1c9"),
        "baseline": "10 runs of main up to 8b7e6d5, 2026-11-01 to 2026-11-20, on this machine",
        "cases": tuple(cases),
    }
    return GateReport(**{**given, **fields})  # type: ignore[arg-type]  # its fields, by name


def a_header(commit: str) -> RunHeader:
    return RunHeader(
        id=f"run-of-{commit}",
        started_at="2026-11-21T04:20:00+00:00",
        environment=Environment(
            machine={"cpu": "Xeon"}, versions={"torch": "2.13.0"}, settings={}, devices=()
        ),
        commit=Commit(id=commit, branch="main", is_dirty=False),
    )


SLOWER = a_verdict(
    "test_caption[512]",
    [
        a_phase("vision", Verdict.SLOWER, percent=(48.1, 46.0, 50.2), baseline_ms=81.0, n_pairs=5),
        a_phase("prefill", baseline_ms=40.2),
        a_phase("decode", baseline_ms=300.0),
        a_phase(TOTAL, Verdict.SLOWER, percent=(9.7, 9.1, 10.3), baseline_ms=423.1, n_pairs=5),
    ],
    shares_ms={"vision": 39.0, "prefill": 1.0, "decode": 1.0, "other": 0.04},
    notes=("torch 2.12.0, then 2.13.0",),
)
OVER_BUDGET = a_verdict(
    "test_page",
    [a_phase("decode", baseline_ms=26.5), a_phase(TOTAL, baseline_ms=57.9)],
    budgets=(
        BudgetVerdict(quantity="ttft", device="*", measured_ms=260.31, budget_ms=250.0),
        BudgetVerdict(quantity="total", device="NVIDIA H200", measured_ms=57.9, budget_ms=80.0),
    ),
)
UNDECIDED = a_verdict(
    "test_chat",
    [
        a_phase(
            "decode",
            Verdict.UNDECIDED,
            percent=(2.6, -0.2, 5.4),
            n_pairs=27,
            reason="27 pairs did not decide whether it is above 3 %",
        ),
        a_phase(TOTAL, percent=(1.1, -0.9, 3.0)),
    ],
    notes=("torch 2.12.0, then 2.13.0", "throttled by: power cap"),
)
QUARANTINED = a_verdict(
    "test_noisy",
    [a_phase("decode", Verdict.SLOWER, percent=(4.0, 2.2, 5.8)), a_phase(TOTAL)],
    terms=GateTerms(mode=GateMode.REPORT, why="a neighbour on this node", until="2026-12-01"),
)
PAST = a_verdict(
    "test_forgotten",
    [a_phase("decode"), a_phase(TOTAL)],
    terms=GateTerms(mode=GateMode.REPORT, why="a neighbour on this node", until="2026-11-01"),
    is_quarantine_past=True,
)
FASTER = a_verdict(
    "test_prompt",
    [a_phase("prefill", Verdict.FASTER, percent=(-12.0, -13.1, -10.9)), a_phase(TOTAL)],
)
NEW = a_verdict("test_new", state=CaseState.NEW, reason="no run of the baseline has it")
GONE = a_verdict("test_gone", state=CaseState.NOT_JUDGED, reason="it was not collected")
UNAPPLIED = a_verdict("test_lost", state=CaseState.NOT_APPLIED, reason="its worker died")
SAME = a_verdict("test_same[512]", [a_phase("decode"), a_phase(TOTAL)])
ALSO_SAME = a_verdict("test_same[1024]", [a_phase("decode"), a_phase(TOTAL)])
EVERYTHING = (
    SAME,
    NEW,
    FASTER,
    GONE,
    QUARANTINED,
    PAST,
    UNDECIDED,
    SLOWER,
    OVER_BUDGET,
    ALSO_SAME,
)
CONFIRMATION = Confirmation(
    n_pairs=27,
    time_s=194.2,
    baseline="8b7e6d5",
    candidate="3f2a1c9",
    imported={"baseline": ("/tmp/pairs/8b7e6d5/src/model",), "candidate": ("/repo/src/model",)},
    cut_short_because="the time limit of 180 s",
)
WHOLE = a_report(
    EVERYTHING,
    confirmations=(CONFIRMATION,),
    remarks=("The baseline was pinned on 2026-10-01: release 1.4.",),
)
