"""Which stored rounds are of a case: by its id, or by the one that earlier versions gave it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_vlmlatency.gate.comparability import matching, uncollected
from pytest_vlmlatency.records import Rounds, RunRounds, run_rounds_of
from tests.cases import a_case
from tests.runs import a_run

FORMER = "tests/test_x.py::test_caption[low]"
NOW = f"one/{FORMER}"


def a_stored_run(*case_ids: str) -> RunRounds:
    return run_rounds_of(a_run(cases=[a_case(id=case_id) for case_id in case_ids]))


def rounds(case_id: str = NOW, *, former_id: str | None = None) -> Rounds:
    return replace(a_stored_run(case_id).cases[0], former_id=former_id)


def test_a_run_of_an_earlier_version_has_a_case_under_its_former_id() -> None:
    stored = a_stored_run(FORMER)

    assert matching(rounds(former_id=FORMER), [stored]) == (stored.cases, "")
    assert uncollected(run_with(rounds(former_id=FORMER)), [stored]) == ()


def test_a_case_is_first_looked_for_under_its_own_id() -> None:
    stored = a_stored_run(FORMER, NOW)

    found, _why = matching(rounds(former_id=FORMER), [stored])

    assert [one.case_id for one in found] == [NOW]


@pytest.mark.parametrize("case_id", [FORMER, NOW])
def test_of_several_cases_under_one_id_none_is_compared_with_and_that_is_said(case_id: str) -> None:
    found, why = matching(rounds(case_id, former_id=FORMER), [a_stored_run(FORMER, FORMER)])

    assert found == ()
    assert f"2 cases under the id {FORMER}" in why


def test_a_run_with_several_cases_under_one_id_leaves_the_other_runs() -> None:
    clean = a_stored_run(FORMER)

    assert matching(rounds(FORMER), [a_stored_run(FORMER, FORMER), clean]) == (clean.cases, "")


def test_a_case_that_may_be_stored_under_an_id_of_several_is_not_taken_for_a_new_one() -> None:
    found, why = matching(rounds(NOW), [a_stored_run(FORMER)])

    assert found == ()
    assert FORMER in why


def test_a_new_case_beside_one_whose_id_ends_alike_is_new() -> None:
    assert matching(rounds(NOW), [a_stored_run(FORMER)], beside={FORMER}) == ((), "")
    assert matching(rounds(NOW), [a_stored_run("x.py::test_caption[low]")]) == ((), "")


def run_with(*cases: Rounds) -> RunRounds:
    return replace(a_stored_run(), cases=cases)
