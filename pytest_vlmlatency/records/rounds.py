"""Rounds: what judging needs of one case of one run, and nothing more of it.

A stored run holds every call with every span; a judgement reads the round times of its phases.
`rounds_of` makes them from a Run, and the history reads them from its files without the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from pytest_vlmlatency.records.call import VISION_OUTSIDE, Call, Phase, Place
from pytest_vlmlatency.records.case import Case, Scalar, Workload
from pytest_vlmlatency.records.gate_terms import GateTerms
from pytest_vlmlatency.records.run import Commit, Environment, Run

TOTAL = "total"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHeader:
    """A run without its cases: which run, of which commit, where."""

    id: str
    started_at: str
    environment: Environment
    commit: Commit | None
    is_pull_request: bool = False
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """The round times of one case in its gating measure, in order, by phase and for the total.

    `times_ms` has the same number of rounds under each name: the phases, vision around generate(),
    the user's spans that are parts of the call, and "total". A phase that did not occur in any
    round is left out.
    """

    case_id: str
    case_name: str
    test: str | None
    device: str
    workload: Workload | None
    config: Mapping[str, Scalar] | None
    n_threads: int | None
    measure: str
    times_ms: Mapping[str, tuple[float, ...]]
    contended_ratio: float | None = None
    throttle_reasons: tuple[str, ...] = ()
    n_other_processes: int | None = None
    terms: GateTerms = field(default_factory=GateTerms)
    former_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunRounds:
    """One run as it is judged: its header, and the rounds of its cases."""

    header: RunHeader
    cases: tuple[Rounds, ...]

    def named(self, *case_ids: str | None) -> tuple[Rounds, ...]:
        """Return the cases under the first of these ids that this run has; more than one is rare.

        Versions up to 0.1 kept several tests, or several attempts at a test, under one id.
        """
        of_ids = (self.by_id.get(case_id, ()) for case_id in case_ids if case_id is not None)
        return next(filter(None, of_ids), ())

    @cached_property
    def by_id(self) -> Mapping[str, tuple[Rounds, ...]]:
        """Return the cases by their ids."""
        found: dict[str, tuple[Rounds, ...]] = {}
        for rounds in self.cases:
            found[rounds.case_id] = (*found.get(rounds.case_id, ()), rounds)
        return found


def run_rounds_of(run: Run) -> RunRounds:
    """Return a whole run as it is judged; cases that were not measured are left out."""
    header = RunHeader(
        id=run.id,
        started_at=run.started_at,
        environment=run.environment,
        commit=run.commit,
        is_pull_request=run.is_pull_request,
        lost=run.lost,
    )
    measured = (case for case in run.cases if case.is_measured and case.calls)
    return RunRounds(header=header, cases=tuple(rounds_of(case) for case in measured))


def rounds_of(case: Case) -> Rounds:
    """Return the round times of a measured case, in the measure that it is judged by."""
    measure = case.gating_measure
    return Rounds(
        case_id=case.id,
        case_name=case.name,
        test=case.test,
        device=case.device,
        workload=case.workload,
        config=case.config,
        n_threads=case.n_threads,
        measure=measure,
        times_ms=_times_ms(case.calls, measure),
        contended_ratio=case.contended_ratio,
        throttle_reasons=case.throttle_reasons,
        n_other_processes=case.n_other_processes,
        terms=case.terms,
        former_id=case.former_id,
    )


def _times_ms(calls: tuple[Call, ...], measure: str) -> dict[str, tuple[float, ...]]:
    parts = (
        span.name
        for call in calls
        for span in call.spans
        if span.place is Place.PART or span.name == VISION_OUTSIDE
    )
    names = dict.fromkeys([*Phase, *parts])
    times = {str(name): tuple(call.phase_time(name, measure) for call in calls) for name in names}
    occurred = {name: values for name, values in times.items() if any(values)}
    return occurred | {TOTAL: tuple(call.total[measure] for call in calls)}
