"""Which runs a trend is made of, in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.gate.trend import (
    clean_runs,
    commits_to_head,
    in_order,
    machine_of,
    subjects_between,
)
from pytest_vlmlatency.history.names import RunName, name_of
from tests.runs import a_run, an_environment

if TYPE_CHECKING:
    from pathlib import Path

ONE, TWO, THREE = ("1" * 40, "2" * 40, "3" * 40)


def a_name(number: int, commit: str | None = ONE, **fields: object) -> RunName:
    return name_of(a_run(number, commit=commit, **fields))  # type: ignore[arg-type]  # as there


HERE = a_name(1).fingerprint
ELSEWHERE = a_name(2, environment=an_environment(cpu="Another")).fingerprint


def test_dirty_trees_and_pull_requests_are_no_commits_runs() -> None:
    names = [a_name(1), a_name(2, is_dirty=True), a_name(3, is_pull_request=True)]

    assert clean_runs(names) == (names[0],)


def test_runs_stand_in_the_order_of_their_commits_whenever_they_were_measured() -> None:
    late, early, again = a_name(1, TWO), a_name(2, ONE), a_name(3, TWO)

    assert in_order([late, early, again], (ONE, TWO)).names == (early, late, again)


def test_runs_of_other_commits_are_left_out_and_counted() -> None:
    chosen = in_order([a_name(1, ONE), a_name(2, THREE), a_name(3, None)], (ONE, TWO))

    assert chosen.names == (a_name(1, ONE),)
    assert chosen.remarks == ("2 runs of other commits were left out.",)


@pytest.mark.parametrize(
    ("commits", "remark"),
    [
        ("the clone is shallow", "The runs are in the order of time: the clone is shallow."),
        ((THREE,), "The runs are in the order of time: HEAD comes from none of their commits."),
    ],
)
def test_where_nobody_knows_the_order_of_commits_it_is_that_of_time(
    commits: tuple[str, ...] | str, remark: str
) -> None:
    chosen = in_order([a_name(2, TWO), a_name(1, ONE)], commits)

    assert chosen.names == (a_name(1, ONE), a_name(2, TWO))
    assert chosen.remarks == (remark,)


def test_the_machine_is_the_one_named_by_its_first_digits_else_the_latest_of_this_one() -> None:
    names = [a_name(1), a_name(2, environment=an_environment(cpu="Another"))]

    assert machine_of(names, named=ELSEWHERE[:6], here=()) == ELSEWHERE
    assert machine_of(names, named=None, here=(HERE, "f" * 12)) == HERE


def test_a_machine_without_runs_is_refused_with_those_that_have_some() -> None:
    names = [a_name(1), a_name(2)]

    with pytest.raises(UsageProblem, match=rf"of this machine \(ffff\): it has runs of {HERE} \(2"):
        machine_of(names, named=None, here=("ffff",))
    with pytest.raises(UsageProblem, match=r"--machine 9999: it has runs of .*; name one of them"):
        machine_of(names, named="9999", here=())
    with pytest.raises(UsageProblem, match="it has no runs of clean commits at all"):
        machine_of([], named=None, here=("ffff",))


def test_outside_of_a_repository_git_tells_nothing(tmp_path: Path) -> None:
    assert commits_to_head(tmp_path) == f"{tmp_path} is in no git repository"
    assert subjects_between(tmp_path, ONE, TWO) == ()
