"""Stored runs compared with each other: what a gate does, without measuring anything.

Owns how named runs become a question to `flow`. Another machine is refused unless it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.gate.baseline import pinned
from pytest_vlmlatency.gate.comparability import (
    matching,
    software_remarks,
    uncollected,
    under_new_names,
)
from pytest_vlmlatency.gate.comparisons import CaseBaseline
from pytest_vlmlatency.gate.flow import Question, answer
from pytest_vlmlatency.gate.named_runs import ACCEPTED, names_of
from pytest_vlmlatency.gate.pins import pin_of, read_pins
from pytest_vlmlatency.gate.verdicts import budgets_for_others, budgets_of
from pytest_vlmlatency.history.run_files import is_file, rounds_in_file, run_in_file
from pytest_vlmlatency.paired.git import GitUnusable, root_around
from pytest_vlmlatency.paired.own_tests import renamed_files
from pytest_vlmlatency.printing import plural, short_commit
from pytest_vlmlatency.records import (
    GateReport,
    fingerprint_of,
    machine_differences,
    run_rounds_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from pytest_vlmlatency.gate.pins import Pin
    from pytest_vlmlatency.history.names import RunName
    from pytest_vlmlatency.history.store import Store
    from pytest_vlmlatency.records import Run, RunRounds

NOTHING_MEASURED = "compare measures nothing; `vlmlatency ab` measures two commits now"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareRequest:
    """What is to be compared: `before` and `after` as a user names them."""

    before: str
    after: str
    today: date
    is_across_machines: bool = False
    is_strict: bool = False


def compare_runs(store: Store, request: CompareRequest) -> GateReport:
    """Judge one stored run against others."""
    index = store.index()
    run = _candidate(request.after, store, index.names)
    candidate = run_rounds_of(run)
    if request.before == ACCEPTED:
        by_case, remarks = _accepted(candidate, store, index.names)
        runs = tuple({run.header.id: run for runs in by_case.values() for run in runs}.values())
    else:
        runs, problems = _runs(request.before, store, index.names, but=run.id)
        by_case = {rounds.case_id: runs for rounds in candidate.cases}
        remarks = [f"Left out of the history: {problem}" for problem in problems]
    renamed = _Renamed(candidate)
    runs = renamed.followed(runs)
    by_case = {case_id: renamed.followed(found) for case_id, found in by_case.items()}
    elsewhere = _other_machines(candidate, runs)
    if elsewhere and not request.is_across_machines:
        return _refused(candidate, request, runs, elsewhere)
    remarks += [f"Compared across machines, as was asked for: {what}" for what in elsewhere]
    if runs:
        remarks += software_remarks(runs[-1].header.environment, candidate.header.environment)
    asked = replace(
        _question(run, request, by_case, runs),
        uncollected=uncollected(candidate, runs),
        remarks=tuple(remarks),
        not_applied_because=tuple(f"lost with a worker: {test}" for test in run.lost),
        is_strict=request.is_strict,
    )
    return answer(asked, None)


class _Renamed:
    """Follows files that were renamed up to the candidate's commit, where git is there to say."""

    def __init__(self, candidate: RunRounds) -> None:
        self._after = candidate.header.commit
        self._files: dict[str, Mapping[str, str]] = {}

    def followed(self, runs: Sequence[RunRounds]) -> tuple[RunRounds, ...]:
        """Return runs with their cases by the names that their files have in the candidate."""
        return tuple(under_new_names(run, self._since(run)) for run in runs)

    def _since(self, run: RunRounds) -> Mapping[str, str]:
        before, after = run.header.commit, self._after
        if before is None or after is None or before.id == after.id:
            return {}
        if before.id not in self._files:
            try:
                self._files[before.id] = renamed_files(Path.cwd(), before.id, after.id)
            except GitUnusable:
                self._files[before.id] = {}
        return self._files[before.id]


def _question(
    run: Run,
    request: CompareRequest,
    by_case: Mapping[str, Sequence[RunRounds]],
    runs: Sequence[RunRounds],
) -> Question:
    """Return what is to be judged of each case, against the runs that it is compared with."""
    candidate = run_rounds_of(run)
    matched = {
        rounds.case_id: matching(rounds, by_case[rounds.case_id], beside=candidate.by_id)
        for rounds in candidate.cases
    }
    measured = [case for case in run.cases if case.is_measured and case.calls]
    return Question(
        candidate=candidate,
        today=request.today,
        baseline=_told(request.before, runs),
        runs=tuple(run.header for run in runs),
        baselines={case_id: CaseBaseline(rounds=same) for case_id, (same, _why) in matched.items()},
        new=frozenset(
            case_id
            for case_id, (same, why) in matched.items()
            if by_case[case_id] and not same and not why
        ),
        unmatched={case_id: why for case_id, (_same, why) in matched.items() if why},
        budgets={case.id: budgets_of(case, run.environment) for case in measured},
        notes={case.id: budgets_for_others(case, run.environment) for case in measured},
        no_pairs_because=NOTHING_MEASURED,
    )


def _candidate(text: str, store: Store, names: Sequence[RunName]) -> Run:
    path = Path(text)
    if is_file(path):
        return run_in_file(path)
    return store.read_whole(names_of(text, names)[-1])


def _runs(
    text: str, store: Store, names: Sequence[RunName], *, but: str
) -> tuple[tuple[RunRounds, ...], tuple[str, ...]]:
    """Return the runs of the baseline, newest last, and what could not be read of them."""
    path = Path(text)
    if is_file(path):
        return (rounds_in_file(path),), ()
    named = [name for name in names_of(text, names) if name.id != but]
    if not named:
        raise UsageProblem(f"{text} is the run itself; expected another one to compare it with")
    stored = store.read(named)
    return stored.runs, stored.problems


def _accepted(
    candidate: RunRounds, store: Store, names: Sequence[RunName]
) -> tuple[dict[str, tuple[RunRounds, ...]], list[str]]:
    """Return by case the runs that were accepted for the candidate's machine."""
    root = root_around(Path.cwd())
    fingerprint = fingerprint_of(candidate.header.environment)
    pins = () if root is None else read_pins(root, fingerprint)
    if not pins:
        raise UsageProblem(
            f"no run was accepted for this machine ({fingerprint}); accept one: "
            f"vlmlatency accept REF --why TEXT"
        )
    own = candidate.header.id
    read = {
        pin: store.read(pinned(names, pin, fingerprint=fingerprint, but=own).names) for pin in pins
    }
    found: dict[str, tuple[RunRounds, ...]] = {}
    for rounds in candidate.cases:
        pin = pin_of(pins, rounds.case_id, rounds.former_id)
        found[rounds.case_id] = () if pin is None else read[pin].runs
    gone = [pin for pin in pins if pin.run not in {name.id for name in names}]
    if gone and not any(found.values()):
        raise UsageProblem(_told_gone(gone[-1], store))
    unread = dict.fromkeys(problem for stored in read.values() for problem in stored.problems)
    return found, [
        *(f"The accepted run {pin.run} is not in this history" for pin in gone),
        *(f"Left out of the history: {problem}" for problem in unread),
    ]


def _told_gone(pin: Pin, store: Store) -> str:
    commit = None if pin.commit is None else short_commit(pin.commit)
    told = f"the accepted run {pin.run} of {pin.started_at[:10]}"
    if commit is None:
        return (
            f"{told} is not in the history at {store.url}, and a pin holds no times: name the "
            f"history that has it (--history URL), or accept another run"
        )
    return (
        f"{told} is not in the history at {store.url}, nor is a clean run of its commit {commit} "
        f"on this machine, and a pin holds no times: name the history that has them "
        f"(--history URL), measure both commits now (vlmlatency ab {commit} HEAD), or accept "
        f"another run"
    )


def _other_machines(candidate: RunRounds, runs: Sequence[RunRounds]) -> list[str]:
    """Return in words how the machines of these runs differ from the candidate's."""
    here = candidate.header.environment
    found = (machine_differences(run.header.environment, here) for run in runs)
    return list(dict.fromkeys("; ".join(differences) for differences in found if differences))


def _refused(
    candidate: RunRounds,
    request: CompareRequest,
    runs: Sequence[RunRounds],
    elsewhere: Sequence[str],
) -> GateReport:
    return GateReport(
        candidate=candidate.header,
        baseline=_told(request.before, runs),
        runs=tuple(run.header for run in runs),
        not_applied_because=tuple(
            f"another machine: {what}; --across-machines compares all the same"
            for what in elsewhere
        ),
        is_strict=request.is_strict,
    )


def _told(text: str, runs: Sequence[RunRounds]) -> str:
    return f"{text}: {plural(len(runs), 'run')}"
