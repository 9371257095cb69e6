"""From a candidate's run and its baselines to a GateReport. Pure but for measuring pairs.

`gate`, `ab` and `compare` make the Question; `answer` names every step to the report. Every
comparison is screened with the noise that all of them share; what the screen suspects is confirmed
together, with one launch a side and pair for all that is undecided. Where no pair can be measured,
the history alone decides and the report says so; a case without either is "not applied", and
fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pytest_vlmlatency.case_ids import told_apart
from pytest_vlmlatency.errors import NotConfirmed, UsageProblem
from pytest_vlmlatency.gate.comparability import work_differences
from pytest_vlmlatency.gate.comparisons import Comparison, comparisons_of
from pytest_vlmlatency.gate.confirming import PairSource, RunPair, confirm, pair_rounds
from pytest_vlmlatency.gate.verdicts import JudgedCase, judged, unjudged
from pytest_vlmlatency.paired.checkouts import Side
from pytest_vlmlatency.records import (
    TOTAL,
    CaseState,
    CaseVerdict,
    Confirmation,
    GateMode,
    GateReport,
    Judgement,
    Rounds,
    RunRounds,
    Verdict,
)
from pytest_vlmlatency.signals import interruption
from pytest_vlmlatency.stats import Suspicion, pool_noise, screen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from pytest_vlmlatency.gate.comparisons import CaseBaseline
    from pytest_vlmlatency.gate.confirming import Key
    from pytest_vlmlatency.paired.pairs import Failure
    from pytest_vlmlatency.records import BudgetVerdict, Confirmation, Rounds, RunHeader, RunRounds


class MeasuringPairs(PairSource, Protocol):
    """A source of pairs that says in the end what was measured, and where it came from."""

    @property
    def failures(self) -> Sequence[Failure]:
        """The tests that a side could not measure, and why."""

    @property
    def interrupted_by(self) -> str | None:
        """What ended the measuring from outside: Ctrl-C or SIGTERM; None where nothing did."""

    def look_for_missing_tests(self) -> None:
        """Find out which of them the baseline does not have; no pair is asked for after."""

    def confirmation(self) -> Confirmation:
        """Return how many pairs there are, how long they took and what cut them short."""


OpenPairs = Callable[[str], AbstractContextManager[MeasuringPairs]]
"""Opens a source of pairs against one commit; NotConfirmed where that can't be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be judged: a run, and what each of its cases is compared with.

    `baselines` has each case that has one; `new` are those that the baseline's runs don't have,
    `unmatched` says why stored rounds of a case are not comparable, `uncollected` are cases of the
    newest baseline run. `no_pairs_because` says why nothing can be measured now, where that is so;
    `no_baseline_because` why there can be no baseline yet, which fails nothing. `unchanged` says
    why a case's code is certainly the same on both sides: it is the same, without pairs.
    `is_fail_fast`: no more pairs are measured once it is certain that the gate fails.
    """

    candidate: RunRounds
    today: date
    baseline: str
    baselines: Mapping[str, CaseBaseline]
    runs: tuple[RunHeader, ...] = ()
    new: frozenset[str] = frozenset()
    unmatched: Mapping[str, str] = field(default_factory=dict)
    unchanged: Mapping[str, str] = field(default_factory=dict)
    uncollected: tuple[Rounds, ...] = ()
    budgets: Mapping[str, tuple[BudgetVerdict, ...]] = field(default_factory=dict)
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    not_applied_because: tuple[str, ...] = ()
    no_pairs_because: str = ""
    no_baseline_because: str = ""
    is_strict: bool = False
    is_fail_fast: bool = False


def answer(question: Question, open_pairs: OpenPairs | None) -> GateReport:
    """Judge every case of the candidate; `open_pairs` None: by the history alone."""
    flow = _Flow(question)
    flow.screen_all()
    flow.confirm_all(open_pairs)
    cases = flow.verdicts()
    nothing = _nothing_to_compare_with(question, cases)
    refused = nothing if question.is_strict else ()
    return GateReport(
        candidate=question.candidate.header,
        baseline=question.baseline,
        runs=question.runs,
        cases=cases,
        not_applied_because=(
            *question.not_applied_because,
            *_empty(question.candidate),
            *refused,
        ),
        remarks=(*(() if refused else nothing), *question.remarks, *flow.remarks),
        confirmations=tuple(flow.confirmations),
        is_strict=question.is_strict,
        interrupted_by=flow.interrupted_by,
    )


def _empty(candidate: RunRounds) -> tuple[str, ...]:
    return () if candidate.cases else ("the run has no case that was measured",)


def _nothing_to_compare_with(question: Question, cases: Sequence[CaseVerdict]) -> tuple[str, ...]:
    """Return the notice of a gate that has no baseline yet: it passes, but for a strict one."""
    because = question.no_baseline_because
    states = {case.state for case in cases if case.terms.mode is not GateMode.OFF}
    if not because and states == {CaseState.NEW}:
        because = "the baseline has none of these tests"
    if not because or CaseState.JUDGED in states:
        return ()
    is_of_a_commit = question.candidate.header.commit is not None
    later = " Later commits are compared with this one." if is_of_a_commit else ""
    return (f"Nothing to compare with yet: {because}.{later}",)


class _Flow:
    """One answer in the making: comparisons, what each came to, and the pairs by commit."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.remarks: list[str] = []
        self.confirmations: list[Confirmation] = []
        self.refused: dict[str, str] = {}
        self.comparisons: dict[Key, Comparison] = {}
        self.of_case: dict[str, tuple[Comparison, ...]] = {}
        self.suspicions: dict[Key, Suspicion] = {}
        self.judgements: dict[Key, Judgement] = {}
        self.confirmed: set[Key] = set()
        self.pairs: dict[str, tuple[RunPair, ...]] = {}
        self.no_pairs: dict[str, str] = {}
        self.failures: dict[str | None, Failure] = {}
        self.interrupted_by: str | None = None

    def screen_all(self) -> None:
        """Screen every phase of every case with the noise that their histories share.

        What is suspected is the same all the same where both sides run the same code.
        """
        for rounds in self.question.candidate.cases:
            self._add(rounds)
        noise = pool_noise([comparison.widest for comparison in self.comparisons.values()])
        for key, comparison in self.comparisons.items():
            seen = screen(
                comparison.history,
                comparison.candidate,
                noise=noise,
                rule=comparison.rule,
                is_disturbed=comparison.is_disturbed,
            )
            unchanged = self.question.unchanged.get(comparison.case_id)
            if isinstance(seen, Suspicion) and unchanged is not None:
                self.judgements[key] = Judgement(verdict=Verdict.SAME, reason=unchanged)
            elif isinstance(seen, Suspicion):
                self.suspicions[key] = seen
                self.judgements[key] = seen.unconfirmed
            else:
                self.judgements[key] = seen

    def confirm_all(self, open_pairs: OpenPairs | None) -> None:
        """Measure pairs for what is suspected, against each commit that is a baseline."""
        for commit, keys in self._by_commit().items():
            if commit is None or open_pairs is None:
                why = self.question.no_pairs_because or "the baseline is no commit to check out"
                self.no_pairs |= {key[0]: why for key in keys}
                continue
            if self.interrupted_by is not None or (why := self._fails_anyway(self._decided())):
                why = self.interrupted_by or why
                self.no_pairs |= {key[0]: why for key in keys}
                continue
            try:
                with open_pairs(commit) as source:
                    self._confirm(keys, commit, source)
            except NotConfirmed as problem:
                self.no_pairs |= {key[0]: str(problem) for key in keys}
            except KeyboardInterrupt as end:
                self.interrupted_by = interruption(end)
                left = keys if commit not in self.pairs else ()
                self.no_pairs |= {key[0]: self.interrupted_by for key in left}
        for why in dict.fromkeys(self.no_pairs.values()):
            self.remarks.append(f"Not confirmed by fresh pairs: {why}")

    def verdicts(self) -> tuple[CaseVerdict, ...]:
        """Return all cases: the candidate's in its order, then those that it does not have."""
        today = self.question.today
        uncollected = (
            unjudged(rounds, CaseState.NOT_JUDGED, "not measured in this run", today=today)
            for rounds in self.question.uncollected
        )
        return (*map(self._verdict, self.question.candidate.cases), *uncollected)

    def _add(self, rounds: Rounds) -> None:
        baseline = self.question.baselines.get(rounds.case_id)
        is_new = rounds.case_id in self.question.new
        if baseline is None or is_new or rounds.terms.mode is GateMode.OFF:
            return
        try:
            found = comparisons_of(rounds, baseline)
        except UsageProblem as problem:
            self.refused[rounds.case_id] = str(problem)
            return
        self.comparisons |= {(one.case_id, one.phase): one for one in found}
        self.of_case[rounds.case_id] = found

    def _by_commit(self) -> dict[str | None, list[Key]]:
        groups: dict[str | None, list[Key]] = {}
        for key in self.suspicions:
            groups.setdefault(self.comparisons[key].commit, []).append(key)
        return groups

    def _confirm(self, keys: Sequence[Key], commit: str, source: MeasuringPairs) -> None:
        suspicions = {key: self.suspicions[key] for key in keys}
        try:
            looked = confirm(
                suspicions,
                self.comparisons,
                source,
                stop_because=lambda decided: self._fails_anyway({**self._decided(), **decided}),
            )
            self.confirmed |= looked.judgements.keys()
            self.judgements |= looked.judgements
            self.pairs[commit] = looked.pairs
            if looked.broken_because:
                why = f"they broke off after {len(looked.pairs)}: {looked.broken_because}"
                left = [key for key in keys if key not in looked.judgements]
                self.no_pairs |= {key[0]: why for key in left}
                reason = f"the fresh pairs broke off after {len(looked.pairs)}"
                self.judgements |= {key: suspicions[key].without_pairs(reason) for key in left}
        except NotConfirmed as problem:
            self.no_pairs |= {key[0]: str(problem) for key in keys}
        self.interrupted_by = source.interrupted_by
        source.look_for_missing_tests()
        self.confirmations.append(source.confirmation())
        self.failures |= {failure.test: failure for failure in source.failures}
        missing = {test for test, failure in self.failures.items() if failure.is_missing}
        for key in keys:
            if self.comparisons[key].test in missing:
                self.no_pairs.pop(key[0], None)

    def _decided(self) -> dict[Key, Judgement]:
        """Return the judgements that no pair will change."""
        return {
            key: judgement
            for key, judgement in self.judgements.items()
            if key not in self.suspicions or key in self.confirmed
        }

    def _fails_anyway(self, decided: Mapping[Key, Judgement]) -> str:
        """Return why it is certain that the gate fails, "" where it is not, or is not asked."""
        question = self.question
        if not question.is_fail_fast:
            return ""
        cases = question.candidate.cases
        names = told_apart((case.case_id, case.case_name) for case in cases)
        failing = [
            (name, case.case_id)
            for name, case in zip(names, cases, strict=True)
            if case.terms.mode is GateMode.FAIL
        ]
        fails_by = {Verdict.SLOWER, *([Verdict.UNDECIDED] if question.is_strict else [])}
        found = (
            *question.not_applied_because,
            *(
                f"{name}: {budget.quantity} over its budget"
                for name, case_id in failing
                for budget in question.budgets.get(case_id, ())
                if budget.is_over
            ),
            *(
                f"{name}: {phase} {judgement.verdict}"
                for name, failing_id in failing
                for (case_id, phase), judgement in decided.items()
                if case_id == failing_id and judgement.verdict in fails_by
            ),
        )
        return f"fail-fast: the gate fails in any case ({found[0]})" if found else ""

    def _verdict(self, rounds: Rounds) -> CaseVerdict:
        question = self.question
        state, reason = self._unjudged_because(rounds)
        budgets = question.budgets.get(rounds.case_id, ())
        notes = question.notes.get(rounds.case_id, ())
        if state is not CaseState.JUDGED:
            is_off = rounds.terms.mode is GateMode.OFF
            return unjudged(
                rounds,
                state,
                reason,
                today=question.today,
                budgets=() if is_off else budgets,
                notes=notes,
            )
        baseline = question.baselines[rounds.case_id]
        case = JudgedCase(
            rounds=rounds,
            baseline=baseline,
            comparisons=self.of_case[rounds.case_id],
            judgements={
                one.phase: self.judgements[rounds.case_id, one.phase]
                for one in self.of_case[rounds.case_id]
                if (rounds.case_id, one.phase) in self.judgements
            },
            pairs=self._pairs_of(rounds),
            budgets=budgets,
            notes=notes,
        )
        return judged(case, today=question.today)

    def _unjudged_because(self, rounds: Rounds) -> tuple[CaseState, str]:
        """Return the state of a case, and why it is not judged; "" where it is."""
        case_id, question = rounds.case_id, self.question
        if rounds.terms.mode is GateMode.OFF:
            return CaseState.NOT_JUDGED, "gate='off'"
        if case_id in self.refused:
            return CaseState.NOT_APPLIED, self.refused[case_id]
        if case_id in question.new:
            return CaseState.NEW, "the baseline does not have this case"
        baseline = question.baselines.get(case_id)
        if question.no_baseline_because and (baseline is None or not baseline.rounds):
            return CaseState.NOT_JUDGED, "there is nothing to compare with yet"
        if baseline is None:
            return CaseState.NOT_APPLIED, question.unmatched.get(case_id, question.baseline)
        both = self._pairs_of(rounds)
        different = work_differences(*both[-1]) if both else ()
        if different:
            return CaseState.NOT_APPLIED, f"both commits do different work: {'; '.join(different)}"
        return (CaseState.JUDGED, "") if baseline.rounds else self._state_without_history(case_id)

    def _state_without_history(self, case_id: str) -> tuple[CaseState, str]:
        """Return the state of a case that only fresh pairs can judge."""
        failure = self.failures.get(self.comparisons[case_id, TOTAL].test)
        if failure is not None and failure.is_missing:
            return CaseState.NEW, "the baseline does not have this test"
        if failure is not None:
            side = "at the baseline" if failure.side is Side.BASELINE else "again"
            return CaseState.NOT_APPLIED, f"could not be measured {side}: {failure.reason}"
        if case_id in self.no_pairs:
            why = self.question.unmatched.get(case_id, "no run of the baseline on this machine")
            return CaseState.NOT_APPLIED, f"{why}; and no fresh pairs: {self.no_pairs[case_id]}"
        pairs = self.pairs.get(str(self.comparisons[case_id, TOTAL].commit), ())
        before, after = (_measured(pairs, case_id, side=side) for side in (0, 1))
        if case_id in before or case_id not in after:
            return CaseState.JUDGED, ""
        gone = sorted(before - after)
        if gone:
            return (
                CaseState.NOT_APPLIED,
                f"in its place, the baseline's code runs {', '.join(gone)}",
            )
        return CaseState.NEW, "the baseline's code does not run this case"

    def _pairs_of(self, rounds: Rounds) -> tuple[tuple[Rounds, Rounds], ...]:
        commit = self.comparisons[rounds.case_id, TOTAL].commit
        return pair_rounds(self.pairs.get(str(commit), ()), rounds.case_id)


def _measured(pairs: Sequence[RunPair], case_id: str, *, side: int) -> set[str]:
    """Return the ids of the cases of a case's test that a side measured."""
    both = [case for pair in pairs for run in pair for case in run.cases]
    tests = {case.test for case in both if case.id == case_id}
    return {case.id for pair in pairs for case in pair[side].cases if case.test in tests}
