"""The order, the cost and the end of pairs, with launches that take no time of their own."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.errors import NotConfirmed
from pytest_vlmlatency.paired import pairs
from pytest_vlmlatency.paired.arguments import Invocation
from pytest_vlmlatency.paired.checkouts import Checkout, Checkouts, Side
from pytest_vlmlatency.paired.launch import Launch, Launched, MeasuredNothing, OutOfTime
from pytest_vlmlatency.paired.observer import NOT_COLLECTED
from pytest_vlmlatency.paired.pairs import OTHER_ID, Failure, FreshPairs
from pytest_vlmlatency.records import Environment, Run
from pytest_vlmlatency.signals import Terminated
from tests.cases import a_case
from tests.repositories import repository

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_vlmlatency.paired.pairs import Bar

TESTS = ["benchmarks/test_x.py::test_a", "benchmarks/test_x.py::test_b"]
NOWHERE = Environment(machine={}, versions={}, settings={}, devices=())


class Launches:
    """Stands in for processes: each takes some seconds of a clock that only it moves."""

    def __init__(self, *, takes_s: float = 10.0) -> None:
        self.now_s = 0.0
        self.takes_s = takes_s
        self.failed: Mapping[Side, Mapping[str, str]] = {}
        self.launched: list[tuple[Side, tuple[str, ...]]] = []
        self.interrupted_at: tuple[int, type[KeyboardInterrupt]] | None = None

    def run(self, launch: Launch, *, timeout_s: float) -> Launched:
        side = launch.checkout.side
        self.launched.append((side, launch.tests))
        if self.interrupted_at is not None and self.interrupted_at[0] == len(self.launched):
            raise self.interrupted_at[1]
        self.now_s += min(self.takes_s, timeout_s)
        if timeout_s < self.takes_s:
            raise OutOfTime
        failed = self.failed.get(side, {})
        measured = [test for test in launch.tests if test not in failed]
        if not measured:
            raise MeasuredNothing(f"the {side} measured nothing", failed)
        cases = tuple(replace(a_case(), id=test, test=test) for test in measured)
        run = Run(started_at=str(self.now_s), environment=NOWHERE, commit=None, cases=cases)
        return Launched(run=run, failed=failed, imported=(f"{side}'s code",))


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Launches:
    made = Launches()
    monkeypatch.setattr(
        Launch, "run", lambda launch, timeout_s: made.run(launch, timeout_s=timeout_s)
    )
    monkeypatch.setattr(time, "monotonic", lambda: made.now_s)
    return made


@pytest.fixture
def checkouts(tmp_path: Path) -> Checkouts:
    made = {}
    for side in Side:
        root = tmp_path / side
        commit = repository(root, {"src/a.py": "", "benchmarks/test_x.py": ""})
        is_worktree = side is Side.BASELINE
        made[side] = Checkout(
            side=side, root=root, commit=commit, paths=(root / "src",), is_worktree=is_worktree
        )
    return Checkouts(
        baseline=made[Side.BASELINE],
        candidate=made[Side.CANDIDATE],
        working_tree=tmp_path / "candidate",
        scratch=tmp_path,
    )


def fresh_pairs(
    checkouts: Checkouts,
    said: list[str] | None = None,
    *,
    time_limit_s: float = 600.0,
    bar: Bar | None = None,
    limit_option: str = "--vlm-confirm-time",
) -> FreshPairs:
    root = checkouts.working_tree
    invocation = Invocation(options=(), folder=root, rootdir=root, inifile=None)
    say = (said if said is not None else []).append
    return FreshPairs(
        checkouts,
        invocation,
        time_limit_s=time_limit_s,
        say=say,
        bar=bar,
        limit_option=limit_option,
    )


def test_sides_take_turns_in_being_first(checkouts: Checkouts, launches: Launches) -> None:
    fresh_pairs(checkouts).extend_to(3, TESTS)

    order = "".join("A" if side is Side.BASELINE else "B" for side, _tests in launches.launched)
    assert order == "ABBAAB"


def test_more_pairs_extend_those_that_are_there(checkouts: Checkouts, launches: Launches) -> None:
    source = fresh_pairs(checkouts)

    three = source.extend_to(3, TESTS)
    five = source.extend_to(5, TESTS[:1])

    assert five[:3] == three
    assert (len(five), len(launches.launched)) == (5, 10)
    assert source.extend_to(3, TESTS) == three
    assert [tests for _side, tests in launches.launched] == [tuple(TESTS)] * 6 + [
        tuple(TESTS[:1])
    ] * 4


def test_the_runs_of_a_pair_are_each_of_their_side(
    checkouts: Checkouts, launches: Launches
) -> None:
    pairs = fresh_pairs(checkouts).extend_to(2, TESTS)

    ends = [(pair.baseline.started_at, pair.candidate.started_at) for pair in pairs]
    assert ends == [("10.0", "20.0"), ("40.0", "30.0")]


def test_a_log_has_the_worst_case_once_and_then_how_far_it_is_after_each_pair(
    checkouts: Checkouts, launches: Launches
) -> None:
    said: list[str] = []
    source = fresh_pairs(checkouts, said, time_limit_s=300.0)

    source.extend_to(2, TESTS, most_pairs=27)
    source.extend_to(3, TESTS[:1], most_pairs=12)

    assert said == [
        "Confirming 2 tests with fresh pairs of processes: at most 27 pairs or 5 min "
        "(--vlm-confirm-time).",
        "[#...................] 1 fresh pair of at most 27 in 20 s, at most 5 min left",
        "[##..................] 2 fresh pairs of at most 27 in 40 s, at most 4 min left",
        "[#####...............] 3 fresh pairs of at most 12 in 60 s, at most 3 min left",
    ]


class WrittenOver:
    """A line of a terminal, and what it showed."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def show(self, text: str) -> None:
        self.shown.append(text)

    def clear(self) -> None:
        self.shown.append("")


def test_a_terminal_has_one_bar_after_each_launch_and_no_lines_that_stay(
    checkouts: Checkouts, launches: Launches
) -> None:
    said: list[str] = []
    bar = WrittenOver()

    fresh_pairs(checkouts, said, bar=bar).extend_to(1, TESTS, most_pairs=3)

    assert len(said) == 1
    assert bar.shown == [
        "[###.................] 0 fresh pairs of at most 3 in 10 s, at most 50 s left",
        "[######..............] 0 fresh pairs of at most 3 in 20 s, at most 40 s left",
        "",
    ]


@pytest.mark.parametrize(("end", "name"), [(KeyboardInterrupt, "Ctrl-C"), (Terminated, "SIGTERM")])
def test_an_interruption_keeps_the_whole_pairs_and_begins_no_other(
    checkouts: Checkouts, launches: Launches, end: type[KeyboardInterrupt], name: str
) -> None:
    launches.interrupted_at = (6, end)
    launches.failed = {Side.BASELINE: {TESTS[1]: "ImportError: no such model"}}
    source = fresh_pairs(checkouts)

    pairs = source.extend_to(3, TESTS)

    assert len(pairs) == 2
    assert source.extend_to(5, TESTS) == pairs
    source.look_for_missing_tests()
    assert len(launches.launched) == 6
    confirmation = source.confirmation()
    assert confirmation.interrupted_by == name
    assert confirmation.cut_short_because == f"{name} in pair 3"


def test_no_pair_begins_that_would_not_end_in_time(
    checkouts: Checkouts, launches: Launches
) -> None:
    source = fresh_pairs(checkouts, time_limit_s=50.0)

    pairs = source.extend_to(3, TESTS)

    assert len(pairs) == 2
    assert launches.now_s == 40.0
    assert source.cut_short_because == (
        "the time limit of 50 s (--vlm-confirm-time) leaves 10 s, and a pair takes about 20 s"
    )
    assert source.extend_to(5, TESTS) == pairs
    assert source.confirmation().cut_short_because == source.cut_short_because


def test_the_time_limit_is_named_by_the_option_that_sets_it(
    checkouts: Checkouts, launches: Launches
) -> None:
    said: list[str] = []

    fresh_pairs(checkouts, said, time_limit_s=15.0, limit_option="--confirm-time").extend_to(
        3, TESTS
    )

    assert all("(--confirm-time)" in line for line in said)


def test_a_pair_that_the_time_ends_is_dropped_whole(
    checkouts: Checkouts, launches: Launches
) -> None:
    source = fresh_pairs(checkouts, time_limit_s=15.0)

    pairs = source.extend_to(3, TESTS)

    assert pairs == ()
    assert launches.now_s == 15.0
    assert source.cut_short_because == (
        "the time limit of 15 s (--vlm-confirm-time) was over in pair 1"
    )


def test_a_test_that_one_side_cannot_measure_is_named_and_left_out(
    checkouts: Checkouts, launches: Launches
) -> None:
    launches.failed = {Side.BASELINE: {TESTS[1]: "ImportError: no such model"}}
    source = fresh_pairs(checkouts)

    source.extend_to(2, TESTS)

    reason = "ImportError: no such model"
    assert source.failures == (Failure(test=TESTS[1], side=Side.BASELINE, reason=reason),)
    assert [len(tests) for _side, tests in launches.launched] == [2, 2, 1, 1]
    assert source.confirmation().failures == (
        f"The baseline could not measure {TESTS[1]}: {reason}",
    )


def test_what_was_imported_and_how_long_it_took_is_reported(
    checkouts: Checkouts, launches: Launches
) -> None:
    source = fresh_pairs(checkouts)

    source.extend_to(2, TESTS)

    confirmation = source.confirmation()
    assert (confirmation.n_pairs, confirmation.time_s) == (2, 40.0)
    assert confirmation.imported == {
        "baseline": ("baseline's code",),
        "candidate": ("candidate's code",),
    }
    assert confirmation.baseline == checkouts.baseline.commit[:10]
    assert confirmation.candidate == f"the working tree at {checkouts.candidate.commit[:10]}"


def test_a_test_outside_of_the_repository_is_refused(
    checkouts: Checkouts, launches: Launches
) -> None:
    with pytest.raises(NotConfirmed, match=r"elsewhere/test_y.py is not in the candidate's"):
        fresh_pairs(checkouts).extend_to(1, ["elsewhere/test_y.py::test_z"])


def missing(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Let the baseline's own files lack every test that they are searched for; return which."""
    searched: list[tuple[str, ...]] = []

    def lacks_all(launch: Launch) -> frozenset[str]:
        searched.append(launch.tests)
        return frozenset(launch.tests)

    monkeypatch.setattr(pairs, "tests_missing_in", lacks_all)
    return searched


def test_a_test_that_the_baseline_lacks_is_missing_once_the_candidate_measured_it(
    checkouts: Checkouts, launches: Launches, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing(monkeypatch)
    launches.failed = {Side.BASELINE: dict.fromkeys(TESTS, "AttributeError: no such model")}
    source = fresh_pairs(checkouts)

    with pytest.raises(NotConfirmed, match="the baseline measured nothing"):
        source.extend_to(1, TESTS)
    source.look_for_missing_tests()

    assert [side for side, _tests in launches.launched] == [Side.BASELINE, Side.CANDIDATE]
    assert [failure.is_missing for failure in source.failures] == [True, True]


def test_a_test_that_the_candidate_does_not_collect_again_is_not_missing(
    checkouts: Checkouts, launches: Launches, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = missing(monkeypatch)
    launches.failed = {side: dict.fromkeys(TESTS, NOT_COLLECTED) for side in Side}
    source = fresh_pairs(checkouts)

    with pytest.raises(NotConfirmed):
        source.extend_to(1, TESTS)
    source.look_for_missing_tests()

    assert searched == []
    assert source.failures == tuple(
        Failure(test=test, side=Side.CANDIDATE, reason=OTHER_ID) for test in TESTS
    )


def test_a_test_of_a_renamed_file_is_searched_for_under_its_former_name(
    checkouts: Checkouts, launches: Launches, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = missing(monkeypatch)
    monkeypatch.setattr(
        pairs,
        "renamed_files",
        lambda *_args: {"benchmarks/test_x.py": "benchmarks/test_former.py"},
    )
    launches.failed = {Side.BASELINE: {TESTS[1]: "AttributeError: no such model"}}
    source = fresh_pairs(checkouts)

    source.extend_to(1, TESTS)
    source.look_for_missing_tests()

    assert searched == [("benchmarks/test_former.py::test_b",)]
