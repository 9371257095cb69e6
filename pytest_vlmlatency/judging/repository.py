"""What git says of the commits that a judgement may compare with. Asks git, and decides nothing.

A shallow clone and a folder without a repository are named in what is returned, never silent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vlmlatency.confirmation.git import asked

if TYPE_CHECKING:
    from pathlib import Path

FARTHEST = 2000  # commits: what lies farther back is no baseline of today's code
SHORT = 9  # characters of a commit that people read
DEFAULT_BRANCHES = ("origin/main", "origin/master", "main", "master")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """The commits that may be a baseline: where HEAD left a branch, and its first parents.

    `commits` are newest first; the first is what a confirmation measures. `described` says in
    words what that one is. `remarks` are what a reader should know, such as a shallow clone.
    """

    commits: tuple[str, ...]
    described: str
    remarks: tuple[str, ...] = ()


class NoLineage(Exception):
    """Why no commit can be named as a baseline."""


def find_root(folder: Path) -> Path | None:
    """Return the root of the repository around a folder, None outside of one."""
    answer = asked(folder, "rev-parse", "--show-toplevel")
    return None if answer is None else type(folder)(answer)


def commit_of(root: Path, ref: str) -> str | None:
    """Return the id of the commit that a ref means, None if it means none."""
    return asked(root, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")


def read_lineage(root: Path, ref: str | None, *, is_dirty: bool) -> Lineage:
    """Return the commits before the candidate's change, or raise NoLineage with the reason.

    `ref` names the branch that HEAD left, None the default branch. HEAD is no baseline of itself,
    but it is one of uncommitted changes.
    """
    head = commit_of(root, "HEAD")
    if head is None:
        raise NoLineage(f"there is no commit in a git repository at {root}")
    name = ref or _default_branch(root)
    if name is None:
        listed = ", ".join(DEFAULT_BRANCHES)
        raise NoLineage(f"there is no default branch here ({listed}); name one: --vlm-baseline REF")
    tip = commit_of(root, name)
    if tip is None:
        raise NoLineage(
            f"--vlm-baseline {name}: git knows no such commit; fetch it, or name another"
        )
    start, described, remarks = _start(root, head, tip, name, is_dirty=is_dirty)
    is_shallow = asked(root, "rev-parse", "--is-shallow-repository") == "true"
    commits = _first_parents(root, start, is_shallow=is_shallow)
    if is_shallow:
        known = "1 commit" if len(commits) == 1 else f"{len(commits)} commits"
        verb = "is" if len(commits) == 1 else "are"
        remarks = (*remarks, f"the clone is shallow: {known} before HEAD {verb} known")
    return Lineage(commits=commits, described=described, remarks=remarks)


def _start(
    root: Path, head: str, tip: str, name: str, *, is_dirty: bool
) -> tuple[str, str, tuple[str, ...]]:
    """Return the newest commit that may be compared with, what it is, and remarks."""
    base = asked(root, "merge-base", head, tip)
    if base is None:
        return (
            tip,
            f"{name} ({tip[:SHORT]})",
            (
                f"where HEAD left {name} is not known here (a shallow clone, or another history), "
                f"so {name} itself is compared with",
            ),
        )
    if base != head:
        return base, f"{base[:SHORT]}, where HEAD left {name}", ()
    if is_dirty:
        return head, f"HEAD ({head[:SHORT]}), before the uncommitted changes", ()
    parent = _first_parent(root, head)
    if parent is None:
        raise NoLineage(f"HEAD ({head[:SHORT]}) is the first commit: nothing was before it")
    return parent, f"{parent[:SHORT]}, the commit before HEAD on {name}", ()


def _default_branch(root: Path) -> str | None:
    upstream = asked(root, "symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD")
    if upstream and commit_of(root, upstream):
        return upstream
    return next((name for name in DEFAULT_BRANCHES if commit_of(root, name)), None)


def _first_parents(root: Path, start: str, *, is_shallow: bool) -> tuple[str, ...]:
    """Return a commit and its first parents, newest first, as far as this clone knows them."""
    answer = asked(root, "rev-list", "--first-parent", f"--max-count={FARTHEST}", start)
    commits = tuple((answer or start).split())
    beyond = _first_parent(root, commits[-1]) if is_shallow else None
    return commits if beyond is None else (*commits, beyond)


def _first_parent(root: Path, commit: str) -> str | None:
    """Return a commit's first parent by its own record, which names it in a shallow clone too."""
    record = asked(root, "cat-file", "-p", commit) or ""
    parents = (line for line in record.splitlines() if line.startswith("parent "))
    return next((line.removeprefix("parent ") for line in parents), None)
