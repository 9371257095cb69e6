"""Worktrees in a temporary folder of ours, removed whatever happens, also from git's own list.

What a process that was killed left behind is removed by the next one, as `whole_files` does it.
Worktrees of other people are never looked into.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.paired.git import GitFailed, git
from pytest_vlmlatency.signals import ending_signals_raise, uninterrupted
from pytest_vlmlatency.whole_files import remove_if_abandoned, scratch_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "vlmlatency-pairs-"


@contextmanager
def worktree_folder(root: Path) -> Iterator[Path]:
    """Make a folder for worktrees, which are gone at its end, also from git's own list."""
    remove_leftovers(root)
    with ending_signals_raise(), scratch_folder(PREFIX) as folder:
        try:
            yield folder
        finally:
            with uninterrupted():
                for worktree in worktrees_in(root, folder):
                    _remove(root, worktree)
                shutil.rmtree(folder, ignore_errors=True)


def add_worktree(root: Path, path: Path, commit: str) -> None:
    """Check a commit out at `path`, beside the working tree."""
    quiet = ("-c", "advice.detachedHead=false")
    git(root, *quiet, "worktree", "add", "--quiet", "--detach", str(path), commit)


def remove_leftovers(root: Path) -> tuple[Path, ...]:
    """Remove worktrees of ours whose process is gone; return where they were."""
    folders = {path.parent for path in all_worktrees(root) if path.parent.name.startswith(PREFIX)}
    left = tuple(sorted(filter(remove_if_abandoned, folders)))
    if left:
        git(root, "worktree", "prune")
    return left


def worktrees_in(root: Path, folder: Path) -> tuple[Path, ...]:
    """Return the worktrees that git knows in a folder."""
    return tuple(path for path in all_worktrees(root) if path.parent == folder)


def all_worktrees(root: Path) -> tuple[Path, ...]:
    """Return all worktrees of a repository, the main one first."""
    listed = git(root, "worktree", "list", "--porcelain", "-z").split("\0")
    return tuple(
        Path(line.removeprefix("worktree ")) for line in listed if line.startswith("worktree ")
    )


def _remove(root: Path, worktree: Path) -> None:
    shutil.rmtree(worktree, ignore_errors=True)  # one with submodules would not be removed by git
    try:
        git(root, "worktree", "remove", "--force", "--force", str(worktree))
    except GitFailed:
        git(root, "worktree", "prune")
