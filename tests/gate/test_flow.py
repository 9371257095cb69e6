"""Verdicts on runs whose noise is drawn from a seed."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.errors import HistoryProblem, NotConfirmed
from pytest_vlmlatency.gate import gate, repository
from pytest_vlmlatency.gate.gate import GateRequest, NoHistory, judge_run
from pytest_vlmlatency.gate.pins import Pin, add_pin
from pytest_vlmlatency.gate.repository import Lineage, NoLineage
from pytest_vlmlatency.history.store import StoredRuns
from pytest_vlmlatency.paired.changes import Changes
from pytest_vlmlatency.records import (
    CaseState,
    CaseVerdict,
    Confirmation,
    GateReport,
    GateStatus,
    Run,
    Verdict,
    fingerprint_of,
)
from pytest_vlmlatency.terms import gate_terms
from tests.gate.runs import (
    ENVIRONMENT,
    RunsInMemory,
    a_history,
    a_noisy_case,
    a_run,
    commit_id,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_vlmlatency.gate.confirming import RunPair
    from pytest_vlmlatency.history.names import RunName
    from pytest_vlmlatency.paired.pairs import Failure
    from pytest_vlmlatency.records import Case

N_RUNS = 10
TODAY = date(2026, 11, 21)
CASE = "tests/test_x.py::test_caption[low]"


@pytest.fixture(autouse=True)
def _linear_history(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commits 1 to 60 lie behind each other; the root of the repository is a test's folder."""
    line = Lineage(commits=tuple(map(commit_id, range(60, 0, -1))), described="the merge base")
    monkeypatch.setattr(repository, "read_lineage", lambda *_args, **_kwargs: line)
    monkeypatch.setattr("pytest_vlmlatency.gate.gate.root_around", lambda _folder: tmp_path)


class SimulatedPairs:
    """Pairs of processes of both commits, the candidate's phases slower by these shares."""

    def __init__(self, *, slower: Mapping[str, float] | None = None, most: int = 99) -> None:
        self.slower = slower or {}
        self.most = most
        self.interrupted_by: str | None = None
        self.stopped: list[str] = []
        self.asked: list[tuple[int, tuple[str, ...]]] = []
        self.opened: list[str] = []
        self.pairs: list[RunPair] = []
        self.baseline_cases: Sequence[Case] | None = None
        self.failures: tuple[Failure, ...] = ()

    def extend_to(
        self, n_pairs: int, tests: Sequence[str], *, most_pairs: int | None = None
    ) -> Sequence[RunPair]:
        assert most_pairs is None or n_pairs <= most_pairs
        self.asked.append((n_pairs, tuple(tests)))
        for index in range(len(self.pairs), min(n_pairs, self.most)):
            self.pairs.append((self._baseline(5000 + index), self._candidate(7000 + index)))
        return self.pairs[:n_pairs]

    def stop(self, because: str) -> None:
        self.stopped.append(because)

    def look_for_missing_tests(self) -> None:
        """The failures say it from the start."""

    def confirmation(self) -> Confirmation:
        return Confirmation(
            n_pairs=len(self.pairs), time_s=1.0, baseline=self.opened[-1], candidate="HEAD"
        )

    @contextmanager
    def open(self, commit: str) -> Iterator[SimulatedPairs]:
        self.opened.append(commit)
        yield self

    def _baseline(self, seed: int) -> Run:
        if self.baseline_cases is not None:
            return a_run(seed, self.baseline_cases)
        return a_run(seed, [a_noisy_case(seed, n_rounds=5)])

    def _candidate(self, seed: int) -> Run:
        return a_run(seed, [a_noisy_case(seed, n_rounds=5, slower=self.slower)])


def judged(
    run: Run,
    history: Sequence[Run] | None = None,
    *,
    pairs: SimulatedPairs | None = None,
    **request: object,
) -> GateReport:
    """Judge a run, by default against ten of another level of noise only."""
    stored = RunsInMemory(a_history(N_RUNS) if history is None else history)
    asked = {"root": None, "today": TODAY, "no_pairs_because": "there is one machine", **request}
    opened = None if pairs is None else pairs.open
    return judge_run(run, stored, GateRequest(**asked), open_pairs=opened)  # type: ignore[arg-type]  # by name


def candidate(seed: int = 99, *, slower: Mapping[str, float] | None = None, **case: object) -> Run:
    return a_run(61, [a_noisy_case(seed, slower=slower, **case)])  # type: ignore[arg-type]  # by name


def only(report: GateReport) -> CaseVerdict:
    (case,) = report.cases
    return case


def verdicts(case: CaseVerdict) -> dict[str, str]:
    return {phase.phase: str(phase.judgement.verdict) for phase in case.phases}


def test_an_unchanged_run_is_the_same_in_every_phase_and_passes() -> None:
    report = judged(candidate())

    assert verdicts(only(report)) == dict.fromkeys(("vision", "prefill", "decode", "total"), "same")
    assert (report.status, report.not_applied_because) == (GateStatus.PASSED, ())
    assert report.baseline == "10 runs of 10 commits up to the merge base"
    assert len(report.runs) == N_RUNS


def test_what_the_screen_suspects_is_confirmed_by_fresh_pairs_in_that_phase_alone() -> None:
    slower = {"vision_ms": 0.05}
    pairs = SimulatedPairs(slower=slower)

    report = judged(candidate(slower=slower), pairs=pairs)

    case = only(report)
    assert [phase.phase for phase in case.phases_that_are(Verdict.SLOWER)] == ["vision"]
    assert report.status is GateStatus.SLOWER
    vision = case.phases[0]
    assert vision.judgement.change_ratio == pytest.approx(1.05, abs=0.01)
    assert vision.judgement.n_pairs >= 3
    low, high = vision.judgement.low_ratio, vision.judgement.high_ratio
    assert (low or 0) < vision.candidate_ms / (vision.baseline_ms or 0) < (high or 0)
    assert pairs.opened == [commit_id(60)]
    assert report.confirmations[0].n_pairs == len(pairs.pairs)


def test_shares_of_a_change_add_up_to_that_of_the_total() -> None:
    slower = {"vision_ms": 0.1}
    case = only(judged(candidate(slower=slower), pairs=SimulatedPairs(slower=slower)))

    total = case.total
    assert total is not None
    assert total.baseline_ms is not None
    assert sum(case.shares_ms.values()) == pytest.approx(
        total.candidate_ms - total.baseline_ms, abs=0.1
    )
    assert case.shares_ms["vision"] == pytest.approx(4.0, abs=0.3)
    assert abs(case.shares_ms["other"]) < 0.05


def test_other_is_shown_in_the_shares_and_not_judged_by_itself() -> None:
    case = only(judged(candidate(slower={"other_ms": 0.5})))

    assert "other" not in verdicts(case)
    assert "other" in case.shares_ms


def test_without_a_way_to_measure_pairs_a_suspicion_stays_undecided_and_says_why() -> None:
    report = judged(candidate(slower={"vision_ms": 0.03}), a_history(2))

    vision = only(report).phases[0].judgement
    assert vision.verdict is Verdict.UNDECIDED
    assert "no fresh pairs were measured" in vision.reason
    assert report.remarks == ("Not confirmed by fresh pairs: there is one machine",)
    assert report.status is GateStatus.PASSED


def test_an_undecided_phase_fails_under_strict() -> None:
    report = judged(candidate(slower={"vision_ms": 0.03}), a_history(2), is_strict=True)

    assert report.status is GateStatus.UNDECIDED


def test_a_large_change_is_slower_by_the_history_alone() -> None:
    report = judged(candidate(slower={"vision_ms": 0.2}))

    assert only(report).phases[0].judgement.verdict is Verdict.SLOWER


def test_a_time_limit_keeps_what_was_decided_and_leaves_the_rest_undecided() -> None:
    slower = {"vision_ms": 0.03}
    pairs = SimulatedPairs(slower=slower, most=2)

    report = judged(candidate(slower=slower), a_history(2), pairs=pairs)

    assert only(report).phases[0].judgement.verdict is Verdict.UNDECIDED
    assert [n_pairs for n_pairs, _tests in pairs.asked] == [3]


def test_a_case_leaves_the_confirmation_once_it_is_decided() -> None:
    pairs = SimulatedPairs()
    pairs.baseline_cases = [a_noisy_case(1), a_noisy_case(2, name="test_gone")]
    gone = a_noisy_case(3, name="test_gone", slower={"vision_ms": 0.04})
    run = a_run(61, [a_noisy_case(98), gone])
    history = [
        replace(run, cases=(*run.cases, a_noisy_case(int(run.id, 16) + 500, name="test_gone")))
        for run in a_history()
    ]

    judged(run, history, pairs=pairs)

    assert {tests for _n, tests in pairs.asked} == {("tests/test_x.py::test_gone",)}


def test_without_comparable_history_both_commits_are_measured_now() -> None:
    slower = {"decode_ms": 0.08}
    report = judged(candidate(slower=slower), [], pairs=SimulatedPairs(slower=slower))

    assert verdicts(only(report))["decode"] == "slower"
    assert verdicts(only(report))["vision"] == "same"
    assert report.baseline == "no stored run; the merge base"


def test_without_history_and_without_pairs_the_gate_is_not_applied() -> None:
    report = judged(candidate(), [])

    assert only(report).state is CaseState.NOT_APPLIED
    assert only(report).reason == (
        "no run of the baseline on this machine; and no fresh pairs: there is one machine"
    )
    assert report.status is GateStatus.NOT_APPLIED


def test_pairs_that_cannot_be_measured_are_named_and_the_history_speaks() -> None:
    @contextmanager
    def refuse(_commit: str) -> Iterator[SimulatedPairs]:
        raise NotConfirmed("the baseline imports the candidate's code")
        yield SimulatedPairs()

    stored = RunsInMemory(a_history())
    request = GateRequest(root=None, today=TODAY)  # type: ignore[arg-type]  # not asked for here
    report = judge_run(candidate(slower={"vision_ms": 0.03}), stored, request, open_pairs=refuse)

    assert only(report).state is CaseState.JUDGED
    assert report.remarks == (
        "Not confirmed by fresh pairs: the baseline imports the candidate's code",
    )


class PairsThatBreakOff(SimulatedPairs):
    """Vision is slower, decode in every other pair only, and after three pairs nothing runs."""

    def extend_to(
        self, n_pairs: int, tests: Sequence[str], *, most_pairs: int | None = None
    ) -> Sequence[RunPair]:
        if n_pairs > 3:
            raise NotConfirmed("the candidate's process ended with status -9")
        return super().extend_to(n_pairs, tests, most_pairs=most_pairs)

    def _candidate(self, seed: int) -> Run:
        slower = {"vision_ms": 0.8, "decode_ms": 0.06 * (seed % 2)}
        return a_run(seed, [a_noisy_case(seed, n_rounds=5, slower=slower)])


def test_what_was_decided_before_pairs_broke_off_stays_decided() -> None:
    slower = {"vision_ms": 0.8, "decode_ms": 0.03}

    report = judged(candidate(slower=slower), a_history(2), pairs=PairsThatBreakOff())

    assert verdicts(only(report))["vision"] == "slower"
    assert only(report).phases[0].judgement.n_pairs == 3
    assert verdicts(only(report))["decode"] == "undecided"
    decode = next(phase for phase in only(report).phases if phase.phase == "decode")
    assert decode.judgement.reason.endswith("and the fresh pairs broke off after 3")
    assert report.remarks == (
        "Not confirmed by fresh pairs: they broke off after 3: "
        "the candidate's process ended with status -9",
    )


def test_without_history_a_case_whose_pairs_broke_off_is_not_applied() -> None:
    report = judged(candidate(), [], pairs=PairsThatBreakOff())

    assert report.status is GateStatus.NOT_APPLIED
    assert only(report).reason.endswith("the candidate's process ended with status -9")


def test_without_a_commit_to_compare_with_the_gate_is_not_applied_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_args: object, **_kwargs: object) -> Lineage:
        raise NoLineage("HEAD is the first commit")

    monkeypatch.setattr(repository, "read_lineage", refuse)

    report = judged(candidate())

    assert report.status is GateStatus.NOT_APPLIED
    assert report.remarks[0] == "No commit to compare with: HEAD is the first commit"


def test_another_machine_is_not_compared_with_and_what_differs_is_named() -> None:
    elsewhere = replace(ENVIRONMENT, settings={"n_allowed_cores": 2, "n_threads": 4})
    history = [replace(run, environment=elsewhere) for run in a_history()]

    report = judged(candidate(), history)

    assert only(report).state is CaseState.NOT_APPLIED
    assert report.remarks[0] == (
        "10 runs of other machines are not compared with; the newest differs in threads: 4, then 1"
    )


def test_another_torch_is_judged_and_named() -> None:
    newer = replace(ENVIRONMENT, versions={**ENVIRONMENT.versions, "torch": "2.14.0"})

    report = judged(replace(candidate(), environment=newer))

    assert only(report).state is CaseState.JUDGED
    assert report.remarks == ("Judged all the same: torch: 2.13.0, then 2.14.0",)


def test_another_dtype_is_judged_and_noted_on_its_case() -> None:
    run = candidate()
    (case,) = run.cases
    assert case.workload is not None
    other = replace(case, workload=replace(case.workload, dtype="bfloat16"))

    report = judged(replace(run, cases=(other,)))

    assert only(report).notes == ("dtype: float32, then bfloat16",)


def test_other_work_is_measured_now_and_without_a_way_to_do_so_not_applied() -> None:
    run = candidate()
    (case,) = run.cases
    assert case.workload is not None
    other = replace(case, workload=replace(case.workload, n_text_tokens=9))

    report = judged(replace(run, cases=(other,)))

    assert only(report).state is CaseState.NOT_APPLIED
    assert only(report).reason.startswith(
        "the stored runs of this case did other work (text tokens: 8, then 9); and no fresh pairs"
    )


def history_of_another_name() -> list[Run]:
    """Return ten runs of the case before its test was renamed."""
    return [
        a_run(number, [a_noisy_case(number, name="test_former")]) for number in range(1, N_RUNS + 1)
    ]


def test_a_case_that_no_stored_run_has_is_measured_on_both_commits() -> None:
    slower = {"decode_ms": 0.5}

    report = judged(
        candidate(slower=slower), history_of_another_name(), pairs=SimulatedPairs(slower=slower)
    )

    assert verdicts(report.cases[0])["decode"] == "slower"
    assert report.status is GateStatus.SLOWER


def test_a_case_that_no_stored_run_has_is_not_new_where_nothing_can_be_measured() -> None:
    report = judged(candidate(), history_of_another_name())

    assert report.cases[0].state is CaseState.NOT_APPLIED
    assert report.cases[0].reason == (
        "no stored run of the baseline has this case; and no fresh pairs: there is one machine"
    )
    assert report.status is GateStatus.NOT_APPLIED


def test_a_renamed_file_is_followed_in_the_stored_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    renamed = {"tests/test_x.py": "tests/test_former.py"}
    monkeypatch.setattr(gate, "renamed_files", lambda _root, _commit: renamed)
    former = "tests/test_former.py::test_caption[low]"
    history = [
        replace(run, cases=tuple(replace(case, id=former) for case in run.cases))
        for run in a_history()
    ]

    report = judged(candidate(slower={"vision_ms": 0.2}), history)

    assert only(report).phases[0].judgement.verdict is Verdict.SLOWER
    assert only(report).phases[0].judgement.n_runs == N_RUNS


def test_a_pin_of_a_case_follows_its_renamed_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    renamed = {"tests/test_x.py": "tests/test_former.py"}
    monkeypatch.setattr(gate, "renamed_files", lambda _root, _commit: renamed)
    history = a_history()
    pin = Pin(
        run=history[0].id,
        commit=commit_id(1),
        started_at=history[0].started_at,
        accepted_on="2026-11-02",
        why="the release",
        cases=("tests/test_former.py::test_caption[low]",),
    )
    add_pin(tmp_path, fingerprint_of(ENVIRONMENT), pin, machine=[])

    report = judged(candidate(), history)

    assert report.baseline == "1 run of 0000000000, accepted on 2026-11-02: the release"


def test_a_case_that_the_baselines_code_does_not_run_is_new() -> None:
    pairs = SimulatedPairs()
    pairs.baseline_cases = []

    report = judged(candidate(), [], pairs=pairs)
    strict = judged(candidate(), [], pairs=pairs, is_strict=True)

    assert only(report).state is CaseState.NEW
    assert [n_pairs for n_pairs, _tests in pairs.asked] == [3, 3]
    assert report.remarks[0] == (
        "Nothing to compare with yet: the baseline has none of these tests. Later commits are "
        "compared with this one."
    )
    assert (report.status, strict.status) == (GateStatus.PASSED, GateStatus.NOT_APPLIED)


def test_a_case_in_whose_place_the_baselines_code_runs_another_is_not_applied() -> None:
    pairs = SimulatedPairs()
    pairs.baseline_cases = [replace(a_noisy_case(1), id="tests/test_x.py::test_caption[low]{a=1}")]

    report = judged(candidate(), [], pairs=pairs)

    assert only(report).state is CaseState.NOT_APPLIED
    assert only(report).reason.endswith("tests/test_x.py::test_caption[low]{a=1}")


def test_a_case_that_was_not_measured_is_listed_and_does_not_fail() -> None:
    history = [
        replace(run, cases=(*run.cases, a_noisy_case(7, name="test_gone"))) for run in a_history()
    ]

    report = judged(candidate(), history)

    assert [case.state for case in report.cases] == [CaseState.JUDGED, CaseState.NOT_JUDGED]
    assert (report.cases[1].case_name, report.cases[1].reason) == (
        "test_gone",
        "not measured in this run",
    )
    assert report.status is GateStatus.PASSED


def test_a_case_whose_gate_is_off_is_listed_and_not_judged() -> None:
    report = judged(candidate(slower={"vision_ms": 0.5}, terms=gate_terms(gate="off")))

    assert (only(report).state, only(report).reason) == (CaseState.NOT_JUDGED, "gate='off'")
    assert report.status is GateStatus.PASSED


def test_a_quarantined_case_is_judged_and_does_not_fail_and_says_when_its_day_is_past() -> None:
    terms = gate_terms(gate="report", why="noisy", until="2026-11-20")

    report = judged(candidate(slower={"vision_ms": 0.5}, terms=terms))

    assert (only(report).is_slower, only(report).is_quarantine_past) == (True, True)
    assert report.status is GateStatus.PASSED


def test_a_quarantined_case_that_cannot_be_judged_does_not_fail_either() -> None:
    terms = gate_terms(gate="report", why="noisy", until="2026-12-31")

    report = judged(candidate(terms=terms), [])

    assert only(report).state is CaseState.NOT_APPLIED
    assert report.status is GateStatus.PASSED


def test_cases_lost_with_a_worker_keep_the_gate_from_being_applied() -> None:
    report = judged(replace(candidate(), lost=("tests/test_x.py::test_dies",)))

    assert report.not_applied_because == ("lost with a worker: tests/test_x.py::test_dies",)
    assert report.status is GateStatus.NOT_APPLIED


def test_too_few_rounds_are_not_applied_and_not_passed() -> None:
    report = judged(candidate(n_rounds=2))

    assert only(report).state is CaseState.NOT_APPLIED
    assert "at least 3 are needed" in only(report).reason
    assert report.status is GateStatus.NOT_APPLIED


def test_a_budget_is_over_by_a_median_in_wall_time_and_fails() -> None:
    report = judged(candidate(terms=gate_terms(budget_ms={"ttft": 60, "decode": 200})))

    over = {budget.quantity: budget.is_over for budget in only(report).budgets}
    assert over == {"ttft": True, "decode": False}
    assert report.status is GateStatus.SLOWER


def test_a_budget_of_another_device_is_noted_and_not_applied() -> None:
    terms = gate_terms(budget_ms={"ttft": {"NVIDIA H200": 6}, "decode": {"A processor": 9}})

    case = only(judged(candidate(terms=terms)))

    assert [(budget.quantity, budget.device) for budget in case.budgets] == [
        ("decode", "A processor")
    ]
    assert case.notes == ("budget_ms of ttft is for NVIDIA H200, and says nothing of A processor",)


def test_a_new_case_can_be_over_its_budget() -> None:
    over = candidate(terms=gate_terms(budget_ms={"total": 1}))
    pairs = SimulatedPairs()
    pairs.baseline_cases = []

    report = judged(over, [], pairs=pairs)

    assert only(report).state is CaseState.NEW

    assert report.status is GateStatus.SLOWER


def test_a_target_of_one_phase_is_that_phases_rule() -> None:
    case = only(judged(candidate(terms=gate_terms(target={"decode": 0.1}))))

    assert {phase.phase: phase.target_ratio for phase in case.phases} == {
        "vision": 0.03,
        "prefill": 0.03,
        "decode": 0.1,
        "total": 0.03,
    }


def test_terms_that_no_rule_can_honour_are_not_applied_and_say_why() -> None:
    case = only(judged(candidate(terms=gate_terms(min_effect=0.5))))

    assert case.state is CaseState.NOT_APPLIED
    assert "min_effect_ratio is 0.5" in case.reason


def test_contention_voids_what_one_run_shows_and_is_noted() -> None:
    (case,) = candidate(slower={"vision_ms": 0.5}).cases
    calls = tuple(replace(call, contended_ratio=0.4) for call in case.calls)

    judged_case = only(judged(a_run(61, [replace(case, calls=calls)])))

    assert judged_case.phases[0].judgement.verdict is Verdict.UNDECIDED
    assert judged_case.notes == (
        "contended: 40% of the time waiting for a core, more than 5%: what this run alone shows "
        "decides nothing",
    )


def test_disturbed_runs_of_the_baseline_are_left_out_while_there_are_others() -> None:
    history = a_history()
    (case,) = history[0].cases
    calls = tuple(replace(call, contended_ratio=0.4) for call in case.calls)
    history[0] = replace(history[0], cases=(replace(case, calls=calls),))

    judged_case = only(judged(candidate(), history))

    assert judged_case.notes == ("1 of 10 baseline runs disturbed: left out",)
    assert judged_case.phases[0].judgement.n_runs == N_RUNS - 1


def test_runs_that_cannot_be_read_are_named_and_judging_goes_on() -> None:
    stored = RunsInMemory(a_history(), problems=["runs/x.json: no run"])
    request = GateRequest(root=None, today=TODAY)  # type: ignore[arg-type]  # not asked for here

    report = judge_run(candidate(), stored, request, open_pairs=None)

    assert report.remarks == ("Left out of the history: runs/x.json: no run",)


class Vanishing(RunsInMemory):
    """A history that can be listed, and not read any more."""

    def read(self, names: Iterable[RunName]) -> StoredRuns:
        if asked := list(names):
            raise HistoryProblem(f"asked for {len(asked)}, and the share is gone")
        return StoredRuns(runs=())


def test_a_history_that_cannot_be_read_while_judging_is_named_and_both_commits_are_measured() -> (
    None
):
    pairs = SimulatedPairs(slower={"vision_ms": 0.05})
    request = GateRequest(root=None, today=TODAY)  # type: ignore[arg-type]  # not asked for here

    report = judge_run(candidate(), Vanishing(a_history(10)), request, open_pairs=pairs.open)

    assert report.remarks == (
        "The history at memory was left out: asked for 10, and the share is gone",
    )
    assert report.baseline == "no stored run; the merge base"
    assert [phase.phase for phase in only(report).phases_that_are(Verdict.SLOWER)] == ["vision"]


def test_a_history_of_another_machine_that_cannot_be_read_is_named() -> None:
    elsewhere = replace(ENVIRONMENT, machine={"cpu": "Another processor"})
    history = [replace(run, environment=elsewhere) for run in a_history(2)]
    request = GateRequest(root=None, today=TODAY, no_pairs_because="alone")  # type: ignore[arg-type]  # as above

    report = judge_run(candidate(), Vanishing(history), request, open_pairs=None)

    assert report.status is GateStatus.NOT_APPLIED
    assert (
        "The history at memory was left out: asked for 1, and the share is gone" in report.remarks
    )


def test_no_history_at_all_is_not_applied() -> None:
    request = GateRequest(root=None, today=TODAY)  # type: ignore[arg-type]  # not asked for here

    report = judge_run(candidate(), NoHistory(), request, open_pairs=None)

    assert report.status is GateStatus.NOT_APPLIED


def creeping_run(number: int) -> Run:
    crept = {"vision_ms": 0.001 * number}
    return a_run(number, [a_noisy_case(number + 300, slower=crept)])


def test_a_pin_stops_a_creep_that_walks_past_a_rolling_baseline(tmp_path: Path) -> None:
    history = [creeping_run(number) for number in range(1, 60)]
    crept = {"vision_ms": 0.06}
    run = a_run(60, [a_noisy_case(900, slower=crept)])
    rolling = only(judged(run, history, pairs=SimulatedPairs(slower={"vision_ms": 0.001})))
    pin = Pin(
        run=history[0].id,
        commit=commit_id(1),
        started_at=history[0].started_at,
        accepted_on="2026-11-02",
        why="the release",
    )
    add_pin(tmp_path, fingerprint_of(ENVIRONMENT), pin, machine=[])
    pairs = SimulatedPairs(slower=crept)

    pinned = judged(run, history, pairs=pairs)

    assert verdicts(rolling)["vision"] == "same"
    assert verdicts(only(pinned))["vision"] == "slower"
    assert pairs.opened == [commit_id(1)]
    assert pinned.baseline == "1 run of 0000000000, accepted on 2026-11-02: the release"


def test_the_commit_that_brought_a_pin_stands_for_an_accepted_one_that_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A pull request that was squashed: its verdict was accepted, and no clone has its commit."""
    monkeypatch.setattr(repository, "commit_that_brought", lambda *_args: commit_id(7))
    pin = Pin(
        run="0123456789abcdef",
        commit=commit_id(99),
        started_at="2026-11-01T00:00:00+00:00",
        accepted_on="2026-11-02",
        why="a larger tower",
    )
    add_pin(tmp_path, fingerprint_of(ENVIRONMENT), pin, machine=[])
    pairs = SimulatedPairs()

    report = judged(candidate(), pairs=pairs)

    assert pairs.opened == [commit_id(7)]
    assert verdicts(only(report))["total"] == "same"
    assert "which brought its pin, stands in its place." in report.remarks[0]


def test_a_pin_of_one_case_leaves_the_others_their_own_baseline(tmp_path: Path) -> None:
    history = [
        replace(run, cases=(*run.cases, a_noisy_case(int(run.id, 16) + 500, name="test_other")))
        for run in a_history()
    ]
    pin = Pin(
        run=history[2].id,
        commit=commit_id(3),
        started_at=history[2].started_at,
        accepted_on="2026-11-02",
        why="the release",
        cases=("tests/test_x.py::test_other",),
    )
    add_pin(tmp_path, fingerprint_of(ENVIRONMENT), pin, machine=[])
    run = a_run(61, [a_noisy_case(99), a_noisy_case(98, name="test_other")])

    first, other = judged(run, history).cases

    assert (first.phases[0].judgement.n_runs, other.phases[0].judgement.n_runs) == (N_RUNS, 1)
    assert other.notes == (
        "compared with 1 run of 0000000000, accepted on 2026-11-02: the release",
    )


@pytest.mark.parametrize("first_seed", range(1000, 1010))
def test_unchanged_runs_raise_nothing(first_seed: int) -> None:
    pairs = SimulatedPairs()

    report = judged(candidate(first_seed), pairs=pairs)

    assert report.status is GateStatus.PASSED
    assert not only(report).is_slower


class PairsThatVary(SimulatedPairs):
    """Decode is slower in every other pair only, so that it stays undecided."""

    def _candidate(self, seed: int) -> Run:
        slower = {**self.slower, "decode_ms": 0.06 * (seed % 2)}
        return a_run(seed, [a_noisy_case(seed, n_rounds=5, slower=slower)])


@pytest.mark.parametrize(
    ("vision", "n_pairs", "verdict", "status"),
    [
        (0.3, 6, "slower", GateStatus.SLOWER),
        (0.0, 4, "same", GateStatus.INTERRUPTED),
        (0.0, 0, "undecided", GateStatus.INTERRUPTED),
    ],
)
def test_pairs_that_were_interrupted_are_judged_and_the_run_does_not_pass(
    vision: float, n_pairs: int, verdict: str, status: GateStatus
) -> None:
    pairs = PairsThatVary(slower={"vision_ms": vision}, most=n_pairs)
    pairs.interrupted_by = "SIGTERM"
    run = candidate(slower={"vision_ms": 0.03, "decode_ms": 0.03})

    report = judged(run, a_history(2), pairs=pairs)

    assert verdicts(only(report))["vision"] == verdict
    assert verdicts(only(report))["decode"] == "undecided"
    assert (only(report).phases[0].judgement.n_pairs > 0) == (n_pairs > 0)
    assert report.interrupted_by == "SIGTERM"
    assert report.status is status


def test_an_interruption_before_the_first_pair_leaves_the_history_to_speak() -> None:
    @contextmanager
    def interrupted(_commit: str) -> Iterator[SimulatedPairs]:
        raise KeyboardInterrupt
        yield SimulatedPairs()

    stored = RunsInMemory(a_history(2))
    request = GateRequest(root=None, today=TODAY)  # type: ignore[arg-type]  # not asked for here
    run = candidate(slower={"vision_ms": 0.03})
    report = judge_run(run, stored, request, open_pairs=interrupted)

    assert only(report).phases[0].judgement.n_runs == 2
    assert (report.interrupted_by, report.status) == ("Ctrl-C", GateStatus.INTERRUPTED)


@pytest.mark.parametrize(("is_fail_fast", "decode"), [(True, "undecided"), (False, "slower")])
def test_fail_fast_measures_no_pair_beyond_the_look_that_finds_a_slower_phase(
    *, is_fail_fast: bool, decode: str
) -> None:
    pairs = PairsThatVary(slower={"vision_ms": 0.3})
    run = candidate(slower={"vision_ms": 0.3, "decode_ms": 0.03})

    report = judged(run, a_history(2), pairs=pairs, is_fail_fast=is_fail_fast)

    assert verdicts(only(report))["vision"] == "slower"
    assert verdicts(only(report))["decode"] == decode
    assert bool(pairs.stopped) == is_fail_fast
    assert report.status is GateStatus.SLOWER


def test_fail_fast_measures_no_pair_where_a_budget_is_exceeded() -> None:
    terms = gate_terms(budget_ms={"total": 1.0})
    pairs = SimulatedPairs(slower={"vision_ms": 0.05})
    run = candidate(slower={"vision_ms": 0.05}, terms=terms)

    report = judged(run, a_history(2), pairs=pairs, is_fail_fast=True)

    assert pairs.opened == []
    assert report.status is GateStatus.SLOWER
    assert verdicts(only(report))["vision"] == "undecided"


def test_fail_fast_names_a_case_as_the_tables_tell_it_apart() -> None:
    case = a_noisy_case(99, slower={"vision_ms": 0.05}, terms=gate_terms(budget_ms={"total": 1.0}))
    run = a_run(61, [case, replace(case, id=case.id.replace("test_x", "test_y"))])

    report = judged(run, a_history(2), pairs=SimulatedPairs(), is_fail_fast=True)

    expected = f"(test_x.py::{case.name}: total over its budget)"
    assert any(expected in remark for remark in report.remarks)


IDENTICAL = Changes(paths=())
DOCUMENTED = Changes(paths=(Path("docs/model.md"),))


@pytest.fixture
def changes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Changes | None]:
    """What differs from each commit; every change is outside of what the tests read."""
    known: dict[str, Changes | None] = {}
    monkeypatch.setattr(gate, "changes_between", lambda _root, before, *_: known.get(before))
    monkeypatch.setattr(repository, "possibly_read", lambda *_: ())
    return known


@pytest.mark.parametrize("n_runs", [0, 2], ids=["no history", "history"])
def test_an_identical_tree_is_the_same_at_once_whatever_this_run_looks_like(
    changes: dict[str, Changes | None], n_runs: int
) -> None:
    changes[commit_id(60)] = IDENTICAL
    pairs = SimulatedPairs()

    report = judged(candidate(slower={"vision_ms": 0.3}), a_history(n_runs), pairs=pairs)

    assert set(verdicts(only(report)).values()) == {"same"}
    assert only(report).phases[0].judgement.change_ratio is None
    assert only(report).shares_ms == {}
    assert (report.status, pairs.opened) == (GateStatus.PASSED, [])
    assert any("identical" in remark for remark in report.remarks)


def test_a_change_that_is_measured_although_it_may_be_skipped_names_what_the_tests_may_read(
    changes: dict[str, Changes | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes[commit_id(60)] = Changes(paths=(Path("tests/data.json"),))
    monkeypatch.setattr(repository, "possibly_read", lambda _root, changes, _read: changes.paths)
    run = candidate(slower={"vision_ms": 0.05})

    skipping, reporting = (
        judged(run, pairs=SimulatedPairs(), is_skipping_unchanged=is_skipping).remarks
        for is_skipping in (True, False)
    )

    measured = "Measured in spite of --vlm-skip-unchanged: the tests may read tests/data.json"
    assert any(remark.startswith(measured) for remark in skipping)
    assert not any("data.json" in remark for remark in reporting)


def test_an_identical_tree_is_measured_where_the_history_had_other_software(
    changes: dict[str, Changes | None],
) -> None:
    changes[commit_id(60)] = IDENTICAL
    newer = replace(ENVIRONMENT, versions={**ENVIRONMENT.versions, "torch": "2.14.1"})
    pairs = SimulatedPairs()
    run = replace(candidate(slower={"vision_ms": 0.05}), environment=newer)

    report = judged(run, pairs=pairs)

    assert pairs.opened == [commit_id(60)]
    assert only(report).phases[0].judgement.n_pairs > 0


def test_an_identical_tree_over_its_budget_fails(changes: dict[str, Changes | None]) -> None:
    changes[commit_id(60)] = IDENTICAL
    run = candidate(terms=gate_terms(budget_ms={"total": 1.0}))

    assert judged(run, [], pairs=SimulatedPairs()).status is GateStatus.SLOWER


@pytest.mark.parametrize("is_skipping", [True, False])
def test_a_change_that_the_tests_do_not_read_is_reported_and_skipped_if_that_is_asked_for(
    changes: dict[str, Changes | None], *, is_skipping: bool
) -> None:
    changes[commit_id(60)] = DOCUMENTED
    pairs = SimulatedPairs()
    run = candidate(slower={"vision_ms": 0.05})

    report = judged(run, [], pairs=pairs, is_skipping_unchanged=is_skipping)

    assert set(verdicts(only(report)).values()) == {"same"}
    assert bool(pairs.opened) != is_skipping
    assert any("docs/model.md" in remark for remark in report.remarks)


class HalfReadable(RunsInMemory):
    """A history that lists all of its runs and can read those with an even number."""

    def read(self, names: Iterable[RunName]) -> StoredRuns:
        whole = super().read(names)
        odd = [run for run in whole.runs if int(run.header.id, 16) % 2]
        return StoredRuns(
            runs=tuple(run for run in whole.runs if run not in odd),
            problems=tuple(f"{run.header.id}: not a run" for run in odd),
        )


def test_the_baseline_counts_the_runs_that_could_be_read() -> None:
    request = GateRequest(root=Path(), today=TODAY, no_pairs_because="there is one machine")

    report = judge_run(candidate(), HalfReadable(a_history(9)), request, open_pairs=None)

    assert len(report.runs) == 4
    assert report.baseline.startswith("4 runs (5 more could not be read) of 4 commits up to")
    assert {phase.judgement.n_runs for phase in only(report).phases} == {4}
