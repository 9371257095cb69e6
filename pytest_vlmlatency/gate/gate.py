"""One gate: from a run, the history and the repository to a GateReport.

Owns where the pieces come from: git, the pins beside the code, the stored runs. What they mean is
`baseline`'s and `flow`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from pytest_vlmlatency.errors import HistoryProblem, NotConfirmed
from pytest_vlmlatency.gate import repository
from pytest_vlmlatency.gate.baseline import Choice, pinned, rolling
from pytest_vlmlatency.gate.comparability import (
    matching,
    new_names,
    software_remarks,
    uncollected,
    under_new_names,
    version_differences,
)
from pytest_vlmlatency.gate.comparisons import CaseBaseline
from pytest_vlmlatency.gate.flow import OpenPairs, Question, answer
from pytest_vlmlatency.gate.pins import Pin, pin_file, pin_of, read_pins
from pytest_vlmlatency.gate.repository import sameness
from pytest_vlmlatency.gate.verdicts import budgets_for_others, budgets_of
from pytest_vlmlatency.history.store import Index, StoredRuns
from pytest_vlmlatency.paired.changes import changes_between, read_by
from pytest_vlmlatency.paired.git import commit_of, local_commit, root_around
from pytest_vlmlatency.paired.own_tests import renamed_files
from pytest_vlmlatency.printing import short_commit, tell
from pytest_vlmlatency.records import (
    GateReport,
    Run,
    RunRounds,
    fingerprint_of,
    machine_differences,
    run_rounds_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import date
    from pathlib import Path

    from pytest_vlmlatency.gate.repository import Lineage
    from pytest_vlmlatency.history.names import RunName
    from pytest_vlmlatency.records import Rounds


NOT_STORED = "no stored run of the baseline has this case"


class History(Protocol):
    """What is asked of a history."""

    @property
    def url(self) -> str:
        """Where it lies."""

    def index(self) -> Index:
        """Return what runs there are."""

    def read(self, names: Iterable[RunName]) -> StoredRuns:
        """Return runs as they are judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRequest:
    """How a gate was asked for. `ref` None: the default branch.

    `imported` are the files that the processes of the tests imported. `is_skipping_unchanged`: a
    change outside of what they read is the same without pairs. `no_pairs_because` says why nothing
    may be measured now, "" where it may. `say` prints what is fetched from a remote.
    """

    root: Path
    today: date
    ref: str | None = None
    is_strict: bool = False
    is_fail_fast: bool = False
    no_pairs_because: str = ""
    imported: tuple[str, ...] = ()
    is_skipping_unchanged: bool = False
    say: Callable[[str], None] = tell


def judge_run(
    run: Run, history: History, request: GateRequest, *, open_pairs: OpenPairs | None
) -> GateReport:
    """Judge every case of a run against its baseline."""
    candidate = run_rounds_of(run)
    found = _Baselines(candidate, history, request)
    lost = (f"lost with a worker: {', '.join(run.lost)}",) if run.lost else ()
    measured = [case for case in run.cases if case.is_measured and case.calls]
    question = replace(
        found.question(),
        budgets={case.id: budgets_of(case, run.environment) for case in measured},
        notes={case.id: budgets_for_others(case, run.environment) for case in measured},
        not_applied_because=lost,
        no_pairs_because=request.no_pairs_because,
        no_baseline_because=found.why_none(request),
        is_strict=request.is_strict,
        is_fail_fast=request.is_fail_fast,
    )
    return answer(question, open_pairs)


class NoHistory:
    """The history of a run that has none: --vlm-history none, or no repository."""

    url = "none"

    def index(self) -> Index:
        """Return that there are no runs."""
        return Index(names=())

    def read(self, names: Iterable[RunName]) -> StoredRuns:
        """Return no runs; none can have been asked for."""
        assert not tuple(names), "an empty index names no run"
        return StoredRuns(runs=())


def not_applied(because: str, *, is_strict: bool) -> GateReport:
    """Return the report of a gate that judged nothing."""
    return GateReport(
        candidate=None,
        baseline="nothing",
        not_applied_because=(because,),
        is_strict=is_strict,
    )


class _Baselines:
    """Finds what each case of a candidate is compared with, and keeps what was found on the way."""

    def __init__(self, candidate: RunRounds, history: History, request: GateRequest) -> None:
        self.candidate = candidate
        self.header = candidate.header
        self.history = history
        self.request = request
        self.today = request.today
        self.say = request.say
        self.fingerprint = fingerprint_of(candidate.header.environment)
        self.remarks: list[str] = []
        self.renames: dict[str, Mapping[str, str]] = {}
        self.followed: dict[Choice, list[RunRounds]] = {}
        self.nothing_before = ""
        self.lineage = self._lineage(request)
        self.names = self._names()
        self.root = root_around(request.root)
        pins = () if self.root is None else read_pins(self.root, self.fingerprint)
        self.pins = self._followed(pins)
        self.choices = self._choices()
        self.read = self._read()

    def question(self) -> Question:
        """Return what is to be judged, without what the run alone says (its budgets)."""
        by_case = {rounds.case_id: self._choice(rounds) for rounds in self.candidate.cases}
        main = next((choice for choice in by_case.values() if choice is not None), None)
        main_runs = [] if main is None else self._runs(main)
        baselines: dict[str, CaseBaseline] = {}
        unmatched: dict[str, str] = {}
        unchanged: dict[str, str] = {}
        reasons = {choice: self._sameness(choice) for choice in dict.fromkeys(by_case.values())}
        for rounds in self.candidate.cases:
            choice = by_case[rounds.case_id]
            runs = [] if choice is None else self._runs(choice)
            same, refused = matching(rounds, runs, beside=self.candidate.by_id)
            if runs and not same:
                unmatched[rounds.case_id] = refused or NOT_STORED
            if reasons[choice] and not refused:
                unchanged[rounds.case_id] = reasons[choice]
            if choice is not None:
                baselines[rounds.case_id] = CaseBaseline(
                    rounds=same,
                    commit=choice.commit,
                    widest=self._widest(rounds),
                    described="" if choice == main else choice.described_of(self.read),
                )
        return Question(
            candidate=self.candidate,
            today=self.today,
            baseline="nothing to compare with" if main is None else main.described_of(self.read),
            baselines=baselines,
            runs=tuple(run.header for run in main_runs),
            unmatched=unmatched,
            unchanged=unchanged,
            uncollected=uncollected(self.candidate, main_runs),
            remarks=(*self.remarks, *self._versions(main_runs), *self._machines(main_runs)),
        )

    def why_none(self, request: GateRequest) -> str:
        """Return why there can be no baseline yet, in a project that has just begun with a gate.

        "" where there is one, or where one that should be there could not be had.
        """
        if self.nothing_before or self.lineage is None or self.root is None:
            return self.nothing_before
        files = {str(rounds.test).partition("::")[0] for rounds in self.candidate.cases}
        is_alone = bool(request.no_pairs_because) and not self.names and not self.pins
        assert self.root is not None, "a lineage is of a repository"
        if is_alone and repository.has_none_of(self.root, self.lineage.commits[0], files):
            return f"there is no stored run, and none of these tests in {self.lineage.described}"
        return ""

    def _lineage(self, request: GateRequest) -> Lineage | None:
        commit = self.header.commit
        try:
            lineage = repository.read_lineage(
                request.root,
                request.ref,
                is_dirty=commit is not None and commit.is_dirty,
                say=request.say,
            )
        except repository.NothingBefore as problem:
            self.nothing_before = str(problem)
            return None
        except repository.NoLineage as problem:
            self.remarks.append(f"No commit to compare with: {problem}")
            return None
        self.remarks += lineage.remarks
        return lineage

    def _names(self) -> tuple[RunName, ...]:
        try:
            index = self.history.index()
        except HistoryProblem as problem:
            self.remarks.append(self._left_out(problem))
            return ()
        self.remarks += [f"Left out of the history: {problem}" for problem in index.problems]
        return index.names

    def _left_out(self, problem: HistoryProblem) -> str:
        return f"The history at {self.history.url} was left out: {problem}"

    def _choices(self) -> dict[Pin | None, Choice | None]:
        here, own = self.fingerprint, self.header.id
        last = rolling(self.names, self.lineage, fingerprint=here, but=own)
        choices: dict[Pin | None, Choice | None] = {None: last}
        for pin in self.pins:
            choice = pinned(self.names, pin, fingerprint=here, but=own)
            choices[pin] = replace(choice, commit=self._known(choice.commit, pin))
        return choices

    def _known(self, commit: str | None, pin: Pin) -> str | None:
        """Return the commit of a pin, or the one that brought the pin where no clone has it."""
        if self.root is None or commit is None or local_commit(self.root, commit) is not None:
            return commit
        try:
            return commit_of(self.root, commit, say=self.say)
        except NotConfirmed as problem:
            file = pin_file(self.root, self.fingerprint)
            brought = repository.commit_that_brought(self.root, file, pin.run)
            if brought is None:
                return commit
            remark = f"The accepted commit {short_commit(commit)} is gone ({problem})"
            self.remarks.append(
                f"{remark}; {short_commit(brought)}, which brought its pin, stands in its place."
            )
            return brought

    def _choice(self, rounds: Rounds) -> Choice | None:
        return self.choices[pin_of(self.pins, rounds.case_id, rounds.former_id)]

    def _read(self) -> dict[RunName, RunRounds]:
        """Return the chosen runs; a history that cannot be read is as good as none."""
        names = {name for choice in self.choices.values() if choice for name in choice.names}
        try:
            stored = self.history.read(sorted(names))
        except HistoryProblem as problem:
            self.remarks.append(self._left_out(problem))
            self.names = ()
            self.choices = self._choices()
            return {}
        self.remarks += [f"Left out of the history: {problem}" for problem in stored.problems]
        by_id = {name.id: name for name in names}
        return {by_id[run.header.id]: run for run in stored.runs}

    def _runs(self, choice: Choice) -> list[RunRounds]:
        """Return the runs of a choice, their cases by the names that their files have now."""
        if choice not in self.followed:
            runs = [self.read[name] for name in choice.names if name in self.read]
            renamed = self._renamed(choice.commit)
            self.followed[choice] = [under_new_names(run, renamed) for run in runs]
        return self.followed[choice]

    def _followed(self, pins: Sequence[Pin]) -> tuple[Pin, ...]:
        return tuple(
            pin
            if pin.cases is None
            else replace(pin, cases=new_names(pin.cases, self._renamed(pin.commit)))
            for pin in pins
        )

    def _renamed(self, commit: str | None) -> Mapping[str, str]:
        """Return the files that were renamed since a commit, with their former paths."""
        if commit is None or self.root is None:
            return {}
        if commit not in self.renames:
            self.renames[commit] = renamed_files(self.root, commit)
        return self.renames[commit]

    def _widest(self, rounds: Rounds) -> tuple[Rounds, ...]:
        choice = self.choices[None]
        return () if choice is None else matching(rounds, self._runs(choice))[0]

    def _sameness(self, choice: Choice | None) -> str:
        """Return why the code is the same as a choice's commit's, "" where that is not certain.

        Nor is it where its runs were measured with other software: that may be what is slower.
        """
        if choice is None or choice.commit is None or self.root is None:
            return ""
        read = read_by(
            [case.test for case in self.candidate.cases],
            self.request.imported,
            since_s=datetime.fromisoformat(self.header.started_at).timestamp(),
        )
        changes = changes_between(self.root, choice.commit, None, read)
        if changes is None:
            return ""
        why = sameness(
            self.root, choice.commit, changes, read, is_skipping=self.request.is_skipping_unchanged
        )
        self.remarks += why.remarks
        here = self.header.environment
        runs = self._runs(choice)
        is_other = any(version_differences(run.header.environment, here) for run in runs)
        return "" if is_other else why.reason

    def _versions(self, runs: Sequence[RunRounds]) -> list[str]:
        """Name the software that differs from the newest run of the baseline's."""
        if not runs:
            return []
        return software_remarks(runs[-1].header.environment, self.header.environment)

    def _machines(self, runs: Sequence[RunRounds]) -> list[str]:
        """Say what other machines there are runs of, where this one has none."""
        if runs or self.lineage is None:
            return []
        commits = set(self.lineage.commits)
        others = [name for name in self.names if name.commit in commits and not name.is_dirty]
        elsewhere = [name for name in others if name.fingerprint != self.fingerprint]
        try:
            stored = self.history.read(elsewhere[-1:]).runs
        except HistoryProblem as problem:
            return [self._left_out(problem)]
        here = self.header.environment
        return [
            f"{_of_others(len(elsewhere))} not compared with; the newest differs in "
            f"{'; '.join(differences)}"
            for run in stored
            if (differences := machine_differences(run.header.environment, here))
        ]


def _of_others(number: int) -> str:
    return "1 run of other machines is" if number == 1 else f"{number} runs of other machines are"
