"""Which stored rounds of a case are comparable with a candidate's, and what differs. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vlmlatency.judging.comparability import version_differences, work_differences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vlmlatency.records import Environment, Rounds, RunRounds


def software_remarks(before: Environment, after: Environment) -> list[str]:
    """Return a remark for each version that differs and is judged all the same."""
    return [f"Judged all the same: {what}" for what in version_differences(before, after)]


def matching(rounds: Rounds, runs: Sequence[RunRounds]) -> tuple[tuple[Rounds, ...], str]:
    """Return the rounds of a case in runs that did the same work, or why there are none."""
    found = [one for run in runs if (one := run.case(rounds.case_id)) is not None]
    same = tuple(one for one in found if not work_differences(one, rounds))
    if same or not found:
        return same, ""
    differences = "; ".join(work_differences(found[-1], rounds))
    return (), f"the stored runs of this case did other work ({differences})"


def uncollected(candidate: RunRounds, runs: Sequence[RunRounds]) -> tuple[Rounds, ...]:
    """Return the cases of the newest run of the baseline that the candidate doesn't have."""
    if not runs:
        return ()
    collected = {rounds.case_id for rounds in candidate.cases}
    return tuple(rounds for rounds in runs[-1].cases if rounds.case_id not in collected)
