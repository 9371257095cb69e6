"""A GateReport: all verdicts of one gate, what they rest on, and how the run has to end.

Made by `judging`, shown by `report` in each of its forms (terminal, Markdown, annotations, JUnit,
JSON): nothing that is printed is computed anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from pytest_vlmlatency.records.call import WALL
from pytest_vlmlatency.records.gate_terms import GateMode, GateTerms
from pytest_vlmlatency.records.judgement import Judgement, Verdict
from pytest_vlmlatency.records.rounds import TOTAL, RunHeader

UNKNOWN_NOISE_RATIO = 1.25
"""What an interval allows for where runs are too few to have one: two runs of processes that differ
by 8 %, more than hosts without load were found to, are farther apart in 1 of 40 cases."""


class GateStatus(IntEnum):
    """The exit statuses of a gate, clear of pytest's own (0 to 5)."""

    PASSED = 0
    SLOWER = 10
    UNDECIDED = 11
    NOT_APPLIED = 12
    INTERRUPTED = 130  # as a shell reports Ctrl-C


class CaseState(StrEnum):
    """What became of a case: judged, or why not."""

    JUDGED = "judged"
    NEW = "new"
    NOT_JUDGED = "not judged"
    NOT_APPLIED = "not applied"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseVerdict:
    """One phase of one case. Both times are values of runs as the gate's rule makes them.

    Fresh pairs' change leaves out what is extreme, so it is near the ratio of the times, not it.
    """

    phase: str
    judgement: Judgement
    baseline_ms: float | None
    candidate_ms: float
    target_ratio: float

    @property
    def probably(self) -> Verdict | None:
        """What an undecided phase probably is, slower or faster; None if the numbers don't tell.

        Its interval excludes no change and reaches the target.
        """
        change = self.judgement.change_ratio
        if self.judgement.verdict is not Verdict.UNDECIDED or change is None:
            return None
        low = self.judgement.low_ratio or change / UNKNOWN_NOISE_RATIO
        high = self.judgement.high_ratio or change * UNKNOWN_NOISE_RATIO
        target = 1 + self.target_ratio
        if low > 1 and high >= target:
            return Verdict.SLOWER
        return Verdict.FASTER if high < 1 and low <= 1 / target else None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetVerdict:
    """One bound in absolute terms: the median of a quantity such as "ttft", in wall time."""

    quantity: str
    device: str
    measured_ms: float | None
    budget_ms: float

    @property
    def is_over(self) -> bool:
        """Whether the bound is exceeded; a quantity that is undefined does not keep it."""
        return self.measured_ms is None or self.measured_ms > self.budget_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseVerdict:
    """One case: its phases, the total last, its budgets, and what a reader should know of it.

    `measure` is that of the times of its phases: CPU time where the host computes, else wall time.
    `reason` says why a case is in another state than judged. `shares_ms` is the change of each
    part of the total in ms, `other` included. `notes` name what differs and was judged all the
    same (torch 2.12.0, then 2.13.0), and what widened or voided a verdict (contention, throttling).
    """

    case_id: str
    case_name: str
    test: str | None
    device: str
    state: CaseState
    measure: str = WALL
    reason: str = ""
    phases: tuple[PhaseVerdict, ...] = ()
    budgets: tuple[BudgetVerdict, ...] = ()
    shares_ms: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    terms: GateTerms = field(default_factory=GateTerms)
    is_quarantine_past: bool = False

    def phases_that_are(self, verdict: Verdict) -> tuple[PhaseVerdict, ...]:
        """Return the phases with this verdict, in order."""
        return tuple(phase for phase in self.phases if phase.judgement.verdict is verdict)

    def phases_that_are_probably(self, verdict: Verdict) -> tuple[PhaseVerdict, ...]:
        """Return the undecided phases that probably are this, in order."""
        return tuple(phase for phase in self.phases if phase.probably is verdict)

    @property
    def total(self) -> PhaseVerdict | None:
        """The verdict on the total, None where it was not judged."""
        return next((phase for phase in self.phases if phase.phase == TOTAL), None)

    @property
    def is_slower(self) -> bool:
        """Whether a phase is slower or a budget exceeded, failing or not."""
        is_over = any(budget.is_over for budget in self.budgets)
        return is_over or bool(self.phases_that_are(Verdict.SLOWER))

    @property
    def fails(self) -> bool:
        """Whether the case fails the gate: a quarantined one is only shown."""
        return self.is_slower and self.terms.mode is GateMode.FAIL


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """The fresh pairs that were measured: how many, how long it took, what it was cut short by.

    `imported` says by side where its code was imported from, as each process saw it. `failures` say
    which tests a side could not measure, and why: no pair has them. `interrupted_by` names what
    ended it from outside: Ctrl-C, or SIGTERM.
    """

    n_pairs: int
    time_s: float
    baseline: str
    candidate: str
    imported: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cut_short_because: str | None = None
    failures: tuple[str, ...] = ()
    interrupted_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """The whole gate. `baseline` says in words what was compared with, and `runs` which runs.

    `not_applied_because` names what kept the gate from being applied where that was asked for;
    each of them fails the run. `remarks` are what else a reader should know. Cases whose baselines
    are different commits (one is pinned, say) have a confirmation for each. `stopped_because` is
    why the run ended before its last test, such as --maxfail: then pytest's own status stays.
    `interrupted_by` names what ended the confirmation from outside (Ctrl-C, SIGTERM): the pairs
    measured by then are judged, and the run does not pass.
    `accept_as` is how `vlmlatency accept` names the run: its id, or the verdict file; "" unknown.
    """

    candidate: RunHeader | None
    baseline: str
    runs: tuple[RunHeader, ...] = ()
    cases: tuple[CaseVerdict, ...] = ()
    not_applied_because: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    confirmations: tuple[Confirmation, ...] = ()
    is_strict: bool = False
    stopped_because: str | None = None
    interrupted_by: str | None = None
    accept_as: str = ""

    @property
    def status(self) -> GateStatus:
        """How the run ends: slower, interrupted, not applied, undecided (under strict)."""
        if any(case.fails for case in self.cases):
            return GateStatus.SLOWER
        if self.interrupted_by is not None:
            return GateStatus.INTERRUPTED
        is_unjudged = any(
            case.state is CaseState.NOT_APPLIED and case.terms.mode is GateMode.FAIL
            for case in self.cases
        )
        if self.not_applied_because or is_unjudged:
            return GateStatus.NOT_APPLIED
        undecided = any(
            case.phases_that_are(Verdict.UNDECIDED) and case.terms.mode is GateMode.FAIL
            for case in self.cases
        )
        return GateStatus.UNDECIDED if self.is_strict and undecided else GateStatus.PASSED
