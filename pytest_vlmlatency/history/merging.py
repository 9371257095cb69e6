"""The runs of a sharded job as one: the same commit on the same machine, each case once."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import HistoryProblem
from pytest_vlmlatency.printing import short_commit
from pytest_vlmlatency.records import machine_differences, with_devices_of_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vlmlatency.records import Commit, Run

SHOWN = 5


def merged(runs: Sequence[Run]) -> Run:
    """Return one run with all cases, or raise HistoryProblem with what differs.

    It begins when the first began. Its environment is the first's, with the devices of all: what
    identifies a machine is the same in each. Its id follows from theirs: the same shards are the
    same run.
    """
    first, *others = sorted(runs, key=lambda run: (run.started_at, run.id))
    problems = [problem for other in others for problem in _differences(first, other)]
    counted = Counter(case.id for run in runs for case in run.cases)
    twice = [case_id for case_id, number in counted.items() if number > 1]
    if twice:
        shown = ", ".join(twice[:SHOWN]) + (", ..." if len(twice) > SHOWN else "")
        problems.append(f"{len(twice)} cases were measured by more than one: {shown}")
    if problems:
        raise HistoryProblem(
            f"these {len(runs)} runs are not the shards of one job: {'; '.join(problems)}"
        )
    ids = tuple(run.id for run in (first, *others))
    return replace(
        first,
        environment=with_devices_of_all([run.environment for run in (first, *others)]),
        id=hashlib.sha256(" ".join(ids).encode()).hexdigest()[:16],
        cases=tuple(case for run in runs for case in run.cases),
        lost=tuple(dict.fromkeys(test for run in runs for test in run.lost)),
        merged_from=ids,
    )


def _differences(one: Run, other: Run) -> list[str]:
    problems = []
    if _measured(one.commit) != _measured(other.commit):
        problems.append(f"commit: {_in_words(one.commit)}, then {_in_words(other.commit)}")
    if one.is_pull_request != other.is_pull_request:
        problems.append("one is of a pull request, the other is not")
    problems += machine_differences(one.environment, other.environment)
    before, after = one.environment.versions, other.environment.versions
    problems += [
        f"{name}: {before.get(name)}, then {after.get(name)}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    return problems


def _measured(commit: Commit | None) -> tuple[str, bool] | None:
    """Return what of a commit must match: a branch is only a name for it."""
    return None if commit is None else (commit.id, commit.is_dirty)


def _in_words(commit: Commit | None) -> str:
    if commit is None:
        return "none"
    return f"{short_commit(commit.id)}{', with changes' if commit.is_dirty else ''}"
