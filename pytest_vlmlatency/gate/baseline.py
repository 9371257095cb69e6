"""Which stored runs a judgement compares with. Pure: it sees the names of runs and the commits.

A run that was accepted for this machine is what later ones are compared with, it and other clean
runs of its commit: what came before it was measured of another level, and what came after it may
have crept away from it. Without one, clean runs of the commits before the change, on this machine,
at most 20. Runs of dirty trees and of pull requests become a baseline only by being accepted. A
run that lost cases with a worker keeps those that arrived: they were measured whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vlmlatency.printing import plural, short_commit

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from pytest_vlmlatency.gate.pins import Pin
    from pytest_vlmlatency.gate.repository import Lineage
    from pytest_vlmlatency.history.names import RunName

MOST_RUNS = 20
"""More runs of the past say little more of the noise, and lie farther from today's machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Runs to compare with, newest last, and the commit that a confirmation measures.

    `commit` is None where no commit can be measured: nothing before HEAD, or a dirty tree's run.
    `where` says which runs they are, without their number.
    """

    names: tuple[RunName, ...]
    commit: str | None
    where: str
    is_accepted: bool = False

    @property
    def described(self) -> str:
        """The choice in words."""
        return self.described_of(self.names)

    def described_of(self, read: Container[RunName]) -> str:
        """Return in words what is compared with: the runs of the choice that could be read."""
        found = [name for name in self.names if name in read]
        unread = len(self.names) - len(found)
        without = f" ({unread} more could not be read)" if unread else ""
        if self.is_accepted:
            return f"{plural(len(found), 'run')}{without} of {self.where}"
        if not found:
            return f"no stored run{without}; {self.where}"
        n_commits = len({name.commit for name in found})
        of = "1 commit" if n_commits == 1 else f"{n_commits} commits"
        return f"{plural(len(found), 'run')}{without} of {of} up to {self.where}"


def rolling(
    names: Sequence[RunName], lineage: Lineage | None, *, fingerprint: str, but: str
) -> Choice | None:
    """Return clean runs of the lineage's commits on a machine, but the run of this id."""
    if lineage is None:
        return None
    age = {commit: index for index, commit in enumerate(lineage.commits)}
    eligible = [
        name for name in _clean_ones(names, fingerprint) if name.commit in age and name.id != but
    ]
    eligible.sort(key=lambda name: (-age[str(name.commit)], name))
    chosen = tuple(eligible[-MOST_RUNS:])
    return Choice(names=chosen, commit=lineage.commits[0], where=lineage.described)


def pinned(names: Sequence[RunName], pin: Pin, *, fingerprint: str, but: str) -> Choice:
    """Return an accepted run with other clean runs of its commit on a machine."""
    accepted = [name for name in names if name.id == pin.run]
    clean = _clean_ones(names, fingerprint)
    others = [name for name in clean if name.commit == pin.commit and pin.commit is not None]
    chosen = sorted({name for name in (*accepted, *others) if name.id != but})[-MOST_RUNS:]
    is_of_commit = not any(name.is_dirty for name in accepted)
    return Choice(
        names=tuple(chosen),
        commit=pin.commit if is_of_commit else None,
        where=f"{_commit(pin.commit)}, accepted on {pin.accepted_on}: {pin.why}",
        is_accepted=True,
    )


def _clean_ones(names: Sequence[RunName], fingerprint: str) -> list[RunName]:
    return [
        name
        for name in names
        if name.fingerprint == fingerprint and not name.is_dirty and not name.is_pull_request
    ]


def _commit(commit: str | None) -> str:
    return "no commit" if commit is None else short_commit(commit)
