from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_vlmlatency.gate.baseline import MOST_RUNS, pinned, rolling
from pytest_vlmlatency.gate.pins import Pin
from pytest_vlmlatency.gate.repository import Lineage
from pytest_vlmlatency.history.names import name_of
from pytest_vlmlatency.records import fingerprint_of
from tests.gate.runs import ENVIRONMENT, a_noisy_case, a_run, commit_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vlmlatency.gate.baseline import Choice
    from pytest_vlmlatency.history.names import RunName
    from pytest_vlmlatency.records import Run

HERE = fingerprint_of(ENVIRONMENT)
CANDIDATE = "f" * 16


def lineage(*newest_first: int) -> Lineage:
    return Lineage(commits=tuple(map(commit_id, newest_first)), described="the merge base")


def names(runs: Sequence[Run]) -> list[RunName]:
    return [name_of(run) for run in runs]


def a_plain_run(number: int, **fields: object) -> Run:
    return a_run(number, [a_noisy_case(number)], **fields)  # type: ignore[arg-type]  # by name


def chosen(runs: Sequence[Run], line: Lineage) -> Choice:
    choice = rolling(names(runs), line, fingerprint=HERE, but=CANDIDATE)
    assert choice is not None
    return choice


def ids(choice: Choice) -> list[int]:
    return [int(name.id, 16) for name in choice.names]


def test_the_baseline_is_runs_of_the_commits_before_the_change_newest_last() -> None:
    runs = [a_plain_run(number) for number in (1, 2, 3, 9)]

    assert ids(chosen(runs, lineage(3, 2, 1))) == [1, 2, 3]


def test_an_older_commit_comes_first_though_its_run_was_made_last() -> None:
    runs = [a_plain_run(1, commit=2), a_plain_run(2, commit=1)]

    assert ids(chosen(runs, lineage(2, 1))) == [2, 1]


def test_at_most_twenty_runs_are_compared_with_the_newest_ones() -> None:
    runs = [a_plain_run(number) for number in range(1, 31)]

    choice = chosen(runs, lineage(*range(30, 0, -1)))

    assert ids(choice) == list(range(31 - MOST_RUNS, 31))


def test_a_dirty_tree_never_becomes_a_baseline() -> None:
    assert ids(chosen([a_plain_run(1, is_dirty=True)], lineage(1))) == []


def test_a_pull_request_never_becomes_a_baseline() -> None:
    assert ids(chosen([a_plain_run(1, is_pull_request=True)], lineage(1))) == []


def test_a_run_of_another_machine_is_no_baseline() -> None:
    elsewhere = replace(ENVIRONMENT, machine={"cpu": "Another processor"})

    assert ids(chosen([a_plain_run(1, environment=elsewhere)], lineage(1))) == []


def test_the_candidate_is_no_baseline_of_itself() -> None:
    assert ids(chosen([a_plain_run(1, id=CANDIDATE)], lineage(1))) == []


def test_a_run_that_lost_cases_keeps_those_that_arrived() -> None:
    assert ids(chosen([a_plain_run(1, lost=("test_x.py::test_y",))], lineage(1))) == [1]


def test_without_a_commit_to_compare_with_there_is_no_choice() -> None:
    assert rolling(names([a_plain_run(1)]), None, fingerprint=HERE, but=CANDIDATE) is None


def test_the_commit_to_measure_is_the_newest_one_before_the_change_with_runs_or_without() -> None:
    assert chosen([], lineage(3, 2)).commit == commit_id(3)


def test_a_pin_ends_older_history_and_nothing_newer_moves_it() -> None:
    runs = [a_plain_run(number) for number in (1, 2, 3)]

    choice = pinned(names(runs), a_pin(2), fingerprint=HERE, but=CANDIDATE)

    assert (ids(choice), choice.commit) == ([2], commit_id(2))
    assert choice.described == "1 run of 0000000000, accepted on 2026-11-02: a larger model"


def test_other_clean_runs_of_the_accepted_commit_are_compared_with_too() -> None:
    runs = [a_plain_run(2), a_plain_run(5, commit=2), a_plain_run(6, commit=2, is_dirty=True)]

    assert ids(pinned(names(runs), a_pin(2), fingerprint=HERE, but=CANDIDATE)) == [2, 5]


def test_of_many_runs_of_the_accepted_commit_the_newest_are_compared_with() -> None:
    runs = [a_plain_run(number, commit=1) for number in range(1, 31)]

    choice = pinned(names(runs), a_pin(1), fingerprint=HERE, but=CANDIDATE)

    assert ids(choice) == list(range(31 - MOST_RUNS, 31))


def test_an_accepted_dirty_run_is_compared_with_but_its_commit_is_not_measured() -> None:
    runs = [a_plain_run(2, is_dirty=True)]

    choice = pinned(names(runs), a_pin(2), fingerprint=HERE, but=CANDIDATE)

    assert (ids(choice), choice.commit) == ([2], None)


def test_a_pin_whose_run_is_no_longer_stored_still_names_the_commit_to_measure() -> None:
    choice = pinned([], a_pin(2), fingerprint=HERE, but=CANDIDATE)

    assert (ids(choice), choice.commit) == ([], commit_id(2))


def a_pin(number: int) -> Pin:
    return Pin(
        run=f"{number:016x}",
        commit=commit_id(number),
        started_at="2026-11-01T02:00:00+00:00",
        accepted_on="2026-11-02",
        why="a larger model",
    )
