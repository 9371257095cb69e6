"""Which stored rounds of a case are comparable with a candidate's, and what differs. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_vlmlatency.gate.comparability import version_differences, work_differences

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from pytest_vlmlatency.records import Environment, Rounds, RunRounds


def software_remarks(before: Environment, after: Environment) -> list[str]:
    """Return a remark for each version that differs and is judged all the same."""
    return [f"Judged all the same: {what}" for what in version_differences(before, after)]


def matching(
    rounds: Rounds, runs: Sequence[RunRounds], *, beside: Container[str] = ()
) -> tuple[tuple[Rounds, ...], str]:
    """Return the rounds of a case in runs that did the same work, or why there are none.

    `beside` are the ids of the other cases of its run. Runs of earlier versions have the case under
    its former id. Runs in which several cases have its id are left out: which of them it is, is not
    known.
    """
    named = [run.named(rounds.case_id, rounds.former_id) for run in runs]
    found = [of_run[0] for of_run in named if len(of_run) == 1]
    same = tuple(one for one in found if not work_differences(one, rounds))
    if same:
        return same, ""
    if found:
        differences = "; ".join(work_differences(found[-1], rounds))
        return (), f"the stored runs of this case did other work ({differences})"
    return (), _doubt(rounds, named, runs, beside)


def new_names(case_ids: Iterable[str], renamed: Mapping[str, str]) -> tuple[str, ...]:
    """Return ids of cases by the paths of their files now; `renamed` are those with former ones."""
    now = {before: after for after, before in renamed.items()}
    parted = (case_id.partition("::") for case_id in case_ids)
    return tuple(f"{now.get(file, file)}{separator}{rest}" for file, separator, rest in parted)


def under_new_names(run: RunRounds, renamed: Mapping[str, str]) -> RunRounds:
    """Return a stored run whose cases have the ids that the renamed files give them now."""
    if not renamed:
        return run
    ids = new_names([rounds.case_id for rounds in run.cases], renamed)
    cases = zip(run.cases, ids, strict=True)
    return replace(run, cases=tuple(replace(rounds, case_id=now) for rounds, now in cases))


def uncollected(candidate: RunRounds, runs: Sequence[RunRounds]) -> tuple[Rounds, ...]:
    """Return the cases of the newest run of the baseline that the candidate doesn't have."""
    if not runs:
        return ()
    collected = {name for rounds in candidate.cases for name in (rounds.case_id, rounds.former_id)}
    return tuple(rounds for rounds in runs[-1].cases if rounds.case_id not in collected)


def _doubt(
    rounds: Rounds,
    named: Sequence[Sequence[Rounds]],
    runs: Sequence[RunRounds],
    beside: Container[str],
) -> str:
    """Return why stored cases may be of this test and are not compared with; "" if none may be."""
    several = max(named, key=len, default=())
    if several:
        return (
            f"the stored runs have {len(several)} cases under the id {several[0].case_id}: an "
            f"earlier version kept tests of several folders, or attempts at one, under one id"
        )
    folders = rounds.case_id.partition("::")[0].count("/")
    shorter = [rounds.case_id.split("/", n)[n] for n in range(1, folders + 1)]
    former = next(
        (
            name
            for run in reversed(runs)
            for name in shorter
            if name in run.by_id and name not in beside
        ),
        None,
    )
    if former is None:
        return ""
    return (
        f"the stored runs have {former}, which may be this test: an earlier version named tests "
        f"of submodules from their own root, and several may have had this id"
    )
