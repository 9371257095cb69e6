"""Which stored runs a trend is made of, and in which order.

Clean runs that are no pull request's, of one machine. Along the first parents of HEAD where the
repository knows them, else in the order of time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.paired.git import GitUnusable, asked, local_commit

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from pytest_vlmlatency.history.names import RunName

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
