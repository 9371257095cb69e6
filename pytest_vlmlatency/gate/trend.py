"""From the runs of one machine to a Trend: a series for each phase of each case, and its steps.

Clean runs that are not a pull request's, along the first parents of HEAD where the repository
knows them, else by time. `stats` finds the steps.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.gate.comparability import work_differences
from pytest_vlmlatency.gate.comparisons import disturbances
from pytest_vlmlatency.paired.git import GitUnusable, asked, local_commit
from pytest_vlmlatency.records import TrendPoint, TrendSeries, TrendStep
from pytest_vlmlatency.stats import GateRule, RunValue, TrendRule, detect_change_points, value_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from pytest_vlmlatency.history.names import RunName
    from pytest_vlmlatency.records import Rounds, RunHeader, RunRounds
    from pytest_vlmlatency.stats import ChangePoint


BY_TIME = "The runs are in the order of time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The runs, oldest first, and what to tell of the choice."""

    names: tuple[RunName, ...]
    remarks: tuple[str, ...] = ()


def clean_runs(names: Sequence[RunName]) -> tuple[RunName, ...]:
    """Return the runs of commits as they are: no dirty trees and no pull requests."""
    return tuple(name for name in names if not name.is_dirty and not name.is_pull_request)


def machine_of(names: Sequence[RunName], *, named: str | None, here: Collection[str]) -> str:
    """Return the fingerprint to look at: the one that was named, else this machine's latest.

    `here` are the fingerprints that this machine has with each of its devices.
    """
    known = list(dict.fromkeys(name.fingerprint for name in names))
    if named is not None:
        found = [fingerprint for fingerprint in known if fingerprint.startswith(named)]
        if len(found) == 1:
            return found[0]
        raise UsageProblem(f"--machine {named}: {_machines(names)}; name one of them")
    latest = [name.fingerprint for name in names if name.fingerprint in here]
    if latest:
        return latest[-1]
    raise UsageProblem(
        f"the history has no clean run of this machine ({', '.join(sorted(here))}): "
        f"{_machines(names)}; name one with --machine. Another number of threads "
        f"(OMP_NUM_THREADS) is another machine, too"
    )


def in_order(names: Sequence[RunName], commits: tuple[str, ...] | str) -> Chosen:
    """Return runs in the order of their commits, oldest first; a str: why that is not known.

    Runs of other commits are left out; if that leaves none, the order is that of time.
    """
    if isinstance(commits, str):
        return Chosen(names=tuple(sorted(names)), remarks=(f"{BY_TIME}: {commits}.",))
    place = {commit: index for index, commit in enumerate(commits)}
    known = [name for name in names if name.commit in place]
    if not known:
        reason = "HEAD comes from none of their commits"
        return Chosen(names=tuple(sorted(names)), remarks=(f"{BY_TIME}: {reason}.",))
    n_others = len(names) - len(known)
    remarks = (f"{n_others} runs of other commits were left out.",) if n_others else ()
    ordered = sorted(known, key=lambda name: (place[str(name.commit)], name))
    return Chosen(names=tuple(ordered), remarks=remarks)


def commits_to_head(root: Path) -> tuple[str, ...] | str:
    """Return HEAD's first parents, oldest first; as a str, why they are not known.

    GitUnusable where git does not work.
    """
    is_shallow = asked(root, "rev-parse", "--is-shallow-repository")
    if is_shallow is None:
        return f"{root} is in no git repository"
    if is_shallow == "true":
        return "the clone is shallow"
    listed = asked(root, "rev-list", "--first-parent", "--reverse", "HEAD")
    return "the repository has no commit" if listed is None else tuple(listed.split())


def subjects_between(root: Path, last_good: str, first_bad: str) -> tuple[str, ...]:
    """Return the commits after one up to another, oldest first, id and subject; () if unknown."""
    try:
        ends = [local_commit(root, commit) for commit in (last_good, first_bad)]
        if None in ends:
            return ()
        shown = ("--first-parent", "--reverse", "--format=%h %s")
        log = asked(root, "log", *shown, f"{ends[0]}..{ends[1]}")
    except GitUnusable:
        return ()
    return tuple((log or "").splitlines())


def _machines(names: Sequence[RunName]) -> str:
    counts: dict[str, int] = {}
    for name in names:
        counts[name.fingerprint] = counts.get(name.fingerprint, 0) + 1
    told = ", ".join(f"{machine} ({number} runs)" for machine, number in counts.items())
    return f"it has runs of {told}" if told else "it has no runs of clean commits at all"


RULE = GateRule(n_warmup_rounds=0)
"""Stored rounds are those that were kept: warming up was over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which series were asked for: parts of the ids of cases, and names of phases; () is all."""

    cases: tuple[str, ...] = ()
    phases: tuple[str, ...] = ()

    def has_case(self, rounds: Rounds) -> bool:
        """Whether a case was asked for."""
        return not self.cases or any(text in rounds.case_id for text in self.cases)

    def has_phase(self, phase: str) -> bool:
        """Whether a phase was asked for."""
        return not self.phases or phase in self.phases


def series_of_runs(
    runs: Sequence[RunRounds],
    wanted: Wanted,
    commits_between: Callable[[str, str], tuple[str, ...]],
) -> tuple[TrendSeries, ...]:
    """Return a series for each phase that was asked for; `runs` are in their order, newest last.

    Each case is compared with itself as the latest run has it: runs that did other work are left
    out, runs in which something disturbed it, and runs that hold several cases under its id. Runs
    of earlier versions have it under its former id.
    """
    return tuple(
        _series(case_id, rounds, phase, commits_between)
        for case_id, rounds in _by_case(runs, wanted).items()
        for phase in rounds.latest.times_ms
        if wanted.has_phase(phase)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _CaseRuns:
    """The runs of a case that can be compared with its latest, and why the others cannot."""

    latest: Rounds
    runs: tuple[tuple[RunHeader, Rounds], ...]
    left_out_because: Counter[str]


def _by_case(runs: Sequence[RunRounds], wanted: Wanted) -> Mapping[str, _CaseRuns]:
    today = {rounds.former_id: rounds.case_id for run in runs for rounds in run.cases}
    cases: dict[str, list[tuple[RunHeader, Rounds]]] = {}
    for run in runs:
        for rounds in run.cases:
            case_id = today.get(rounds.case_id, rounds.case_id)
            cases.setdefault(case_id, []).append((run.header, rounds))
    usable = {case_id: _usable(found) for case_id, found in cases.items()}
    return {case_id: case for case_id, case in usable.items() if wanted.has_case(case.latest)}


def _usable(found: Sequence[tuple[RunHeader, Rounds]]) -> _CaseRuns:
    latest = found[-1][1]
    counted = Counter(header.id for header, _ in found)
    causes = [
        "with several cases under its id"
        if counted[header.id] > 1
        else _left_out_because(rounds, latest)
        for header, rounds in found
    ]
    usable = [one for one, cause in zip(found, causes, strict=True) if not cause]
    return _CaseRuns(
        latest=latest, runs=tuple(usable), left_out_because=Counter(filter(None, causes))
    )


def _left_out_because(rounds: Rounds, latest: Rounds) -> str:
    """Return in a few words why a run is no point of the series; "" if it is one."""
    if found := disturbances(rounds):
        return found[0].partition(":")[0]
    return "of other work than the latest" if work_differences(rounds, latest) else ""


def _series(
    case_id: str,
    case: _CaseRuns,
    phase: str,
    commits_between: Callable[[str, str], tuple[str, ...]],
) -> TrendSeries:
    points = tuple(_points(case.runs, phase))
    least = 2 * TrendRule().min_length
    is_short = len(points) < least
    causes = Counter(case.left_out_because)
    if len(points) < len(case.runs):
        causes["without a value of this phase"] = len(case.runs) - len(points)
    steps = () if is_short else detect_change_points([point.value_ms for point in points])
    return TrendSeries(
        case_id=case_id,
        case_name=case.latest.case_name,
        phase=phase,
        measure=case.latest.measure,
        points=points,
        steps=tuple(_steps(points, steps, commits_between)),
        n_left_out=causes.total(),
        left_out_because=causes,
        reason=f"{len(points)} of at least {least} runs for two levels" if is_short else "",
    )


def _points(runs: Sequence[tuple[RunHeader, Rounds]], phase: str) -> Iterator[TrendPoint]:
    for header, rounds in runs:
        value = value_of(rounds.times_ms.get(phase, ()), RULE)
        if isinstance(value, RunValue):
            yield TrendPoint(
                run=header.id,
                started_at=header.started_at,
                commit=header.commit.id if header.commit else None,
                value_ms=math.exp(value.log_ms),
            )


def _steps(
    points: Sequence[TrendPoint],
    found: Sequence[ChangePoint],
    commits_between: Callable[[str, str], tuple[str, ...]],
) -> Iterator[TrendStep]:
    values_ms = [point.value_ms for point in points]
    for step in found:
        last_good = points[max(step.first_index - 1, 0)].commit
        first_bad = points[step.last_index].commit
        has_ends = last_good is not None and first_bad is not None
        yield TrendStep(
            position=step.index,
            change_ratio=step.ratio,
            low_ratio=step.low_ratio,
            high_ratio=step.high_ratio,
            n_before=step.n_before,
            n_after=step.n_after,
            before_ms=median(values_ms[step.index - step.n_before : step.index]),
            after_ms=median(values_ms[step.index : step.index + step.n_after]),
            last_good=last_good,
            first_bad=first_bad,
            commits=commits_between(str(last_good), str(first_bad)) if has_ends else (),
        )
