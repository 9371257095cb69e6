"""What git knows of the commits that a verdict compares with, and of changes that no test reads.

A branch that this clone lacks, as a clone of a single commit does, is fetched. A shallow clone and
a folder without a repository are named in what is returned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import NotConfirmed
from pytest_vlmlatency.paired.changes import files_in_words, possibly_read
from pytest_vlmlatency.paired.git import (
    GitUnusable,
    asked,
    commit_of,
    local_commit,
    remote_of,
    root_around,
)
from pytest_vlmlatency.printing import short_commit, tell

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from pytest_vlmlatency.paired.changes import Changes, Read


FARTHEST = 2000  # commits: what lies farther back is no baseline of today's code
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


class NothingBefore(NoLineage):
    """HEAD is the beginning: there can be no baseline yet, and nothing went wrong."""


def has_none_of(root: Path, commit: str, files: Collection[str]) -> bool:
    """Whether a commit that is here has none of these files, given by their paths from the root."""
    known = local_commit(root, commit)
    if known is None:
        return False
    return asked(root, "ls-tree", "--name-only", "-z", known, "--", *files) is None


def commit_that_brought(root: Path, file: Path, text: str) -> str | None:
    """Return the commit before or at HEAD that wrote a text into a file.

    None where there is none, and in a shallow clone, whose oldest commit seems to bring everything.
    """
    if asked(root, "rev-parse", "--is-shallow-repository") != "false":
        return None
    return asked(root, "log", "-1", "--format=%H", f"-S{text}", "HEAD", "--", str(file))


def read_lineage(
    root: Path, ref: str | None, *, is_dirty: bool, say: Callable[[str], None] = tell
) -> Lineage:
    """Return the commits before the candidate's change, or raise NoLineage with the reason.

    `ref` names the branch that HEAD left, None the default branch. HEAD is no baseline of itself,
    but it is one of uncommitted changes. `say` hears what is fetched.
    """
    head = local_commit(root, "HEAD")
    if head is None:
        if root_around(root) is not None:
            raise NothingBefore(f"the repository at {root} has no commit yet")
        raise NoLineage(f"there is no commit in a git repository at {root}")
    name = ref or _default_branch(root)
    if name is None and not is_dirty and _first_parent(root, head) is None:
        raise NothingBefore(_told_first(head))
    if name is None:
        listed = ", ".join(DEFAULT_BRANCHES)
        raise NoLineage(f"there is no default branch here ({listed}); name one: --vlm-baseline REF")
    try:
        tip = commit_of(root, name, say=say)
    except GitUnusable:
        raise
    except NotConfirmed as problem:
        raise NoLineage(f"--vlm-baseline {name}: {problem}") from None
    start, described, remarks = _start(root, head, tip, name, is_dirty=is_dirty)
    is_shallow = asked(root, "rev-parse", "--is-shallow-repository") == "true"
    commits = _first_parents(root, start, is_shallow=is_shallow)
    if is_shallow:
        known = "1 commit" if len(commits) == 1 else f"{len(commits)} commits"
        verb = "is" if len(commits) == 1 else "are"
        remarks = (*remarks, f"The clone is shallow: {known} before HEAD {verb} known")
    return Lineage(commits=commits, described=described, remarks=remarks)


def _start(
    root: Path, head: str, tip: str, name: str, *, is_dirty: bool
) -> tuple[str, str, tuple[str, ...]]:
    """Return the newest commit that may be compared with, what it is, and remarks."""
    base = asked(root, "merge-base", head, tip)
    if base is None and tip in _parents(root, head):  # a merge whose parents a shallow clone lacks
        base = tip
    if base is None:
        return (
            tip,
            f"{name} ({short_commit(tip)})",
            (
                f"Where HEAD left {name} is not known here (a shallow clone, or another history), "
                f"so {name} itself is compared with",
            ),
        )
    if base != head:
        return base, f"{short_commit(base)}, where HEAD left {name}", ()
    if is_dirty:
        return head, f"HEAD ({short_commit(head)}), before the uncommitted changes", ()
    parent = _first_parent(root, head)
    if parent is None:
        raise NothingBefore(_told_first(head))
    return parent, f"{short_commit(parent)}, the commit before HEAD on {name}", ()


def _told_first(head: str) -> str:
    return f"HEAD ({short_commit(head)}) is the first commit: nothing was before it"


def _default_branch(root: Path) -> str | None:
    """Return the default branch by its name here, else as the remote names it; None if unknown."""
    upstream = asked(root, "symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD")
    if upstream and local_commit(root, upstream):
        return upstream
    here = next((name for name in DEFAULT_BRANCHES if local_commit(root, name)), None)
    return here or _default_of_remote(root)


def _default_of_remote(root: Path) -> str | None:
    """Ask the remote for its default branch, as a clone of one commit or branch does not know."""
    remote = remote_of(root)
    if remote is None:
        return None
    listed = asked(root, "ls-remote", "--symref", "--end-of-options", remote, "HEAD") or ""
    of_head = (line for line in listed.splitlines() if line.startswith("ref: refs/heads/"))
    branch = next((line.split()[1].removeprefix("refs/heads/") for line in of_head), None)
    return None if branch is None else f"{remote}/{branch}"


def _first_parents(root: Path, start: str, *, is_shallow: bool) -> tuple[str, ...]:
    """Return a commit and its first parents, newest first, as far as this clone knows them."""
    answer = asked(root, "rev-list", "--first-parent", f"--max-count={FARTHEST}", start)
    commits = tuple((answer or start).split())
    beyond = _first_parent(root, commits[-1]) if is_shallow else None
    return commits if beyond is None else (*commits, beyond)


def _first_parent(root: Path, commit: str) -> str | None:
    return next(iter(_parents(root, commit)), None)


def _parents(root: Path, commit: str) -> tuple[str, ...]:
    """Return a commit's parents by its own record, which names them in a shallow clone too."""
    headers = (asked(root, "cat-file", "-p", commit) or "").partition("\n\n")[0].splitlines()
    return tuple(line.removeprefix("parent ") for line in headers if line.startswith("parent "))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sameness:
    """Why both sides run the same code, "" where that is not certain, and what to report of it."""

    reason: str = ""
    remarks: tuple[str, ...] = ()


def sameness(
    root: Path, commit: str, changes: Changes, read: Read, *, is_skipping: bool
) -> Sameness:
    """Return whether a change is none, or, where such ones are skipped, none that tests read."""
    short = short_commit(commit)
    if changes.is_identical:
        reason = f"the same files as {short}, whose tree is identical: no pair can differ"
        return Sameness(reason=reason, remarks=(f"Same without fresh pairs: {reason}.",))
    if changes.hidden_from_git and not changes.paths:
        why = f"git ignores files that the tests import: {files_in_words(changes.hidden_from_git)}"
        return Sameness(remarks=(f"Measured, though the tree is that of {short}: {why}.",))
    may_be_read = possibly_read(root, changes, read)
    if may_be_read:
        files = f"the tests may read {files_in_words(may_be_read)}, changed since {short}"
        remark = f"Measured in spite of --vlm-skip-unchanged: {files}."
        return Sameness(remarks=(remark,) if is_skipping else ())
    what = f"since {short}, only files changed that the tests do not read: "
    what += files_in_words(changes.paths)
    if is_skipping:
        return Sameness(reason=what, remarks=(f"Same without fresh pairs: {what}.",))
    remark = f"{what[0].upper()}{what[1:]}. Such a change passes at once with --vlm-skip-unchanged."
    return Sameness(remarks=(remark,))
