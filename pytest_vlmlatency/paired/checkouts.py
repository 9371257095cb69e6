"""The two checkouts that are measured against each other, ready to be run.

The baseline is always a worktree in a temporary folder. The candidate is the working tree itself,
as it is, unless a commit is named: then it is a worktree too. Only worktrees are set up.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.paired.commits import SHORT, commit_of
from pytest_vlmlatency.paired.contents import complete
from pytest_vlmlatency.paired.git import git, quiet_environment
from pytest_vlmlatency.paired.worktrees import add_worktree, worktree_folder
from pytest_vlmlatency.errors import NotConfirmed, UsageProblem
from pytest_vlmlatency.printing import tell, without_private, without_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

WORKING_TREE = "VLMLATENCY_WORKING_TREE"
"""The variable that tells a set-up command where the user's own working tree is."""

N_TOLD_LINES = 20


class Side(StrEnum):
    """The two sides of a pair."""

    BASELINE = "baseline"
    CANDIDATE = "candidate"

    @property
    def other(self) -> Side:
        """The side that it is measured against."""
        return Side.CANDIDATE if self is Side.BASELINE else Side.BASELINE


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """One side: where it is, which commit, and the folders that its code is imported from."""

    side: Side
    root: Path
    commit: str
    paths: tuple[Path, ...]
    is_worktree: bool

    @property
    def described(self) -> str:
        """The commit, short enough to be read; the working tree is named as such."""
        commit = self.commit[:SHORT]
        return commit if self.is_worktree else f"the working tree at {commit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkouts:
    """Both sides, the user's own working tree, and a folder for what launches leave behind."""

    baseline: Checkout
    candidate: Checkout
    working_tree: Path
    scratch: Path

    def on(self, side: Side) -> Checkout:
        """Return the checkout of a side."""
        return self.baseline if side is Side.BASELINE else self.candidate


@contextmanager
def open_checkouts(
    root: Path,
    *,
    baseline: str,
    candidate: str | None = None,
    setup: str | None = None,
    paths: Sequence[str] = (),
    say: Callable[[str], None] = tell,
) -> Iterator[Checkouts]:
    """Check `baseline` out beside the working tree at `root`, and `candidate` where one is named.

    `paths` are the folders, relative to the root, that code is imported from; by default the root
    and src. `setup` is a shell command that is run in each worktree.
    """
    root = root.resolve()
    _check_paths(root, paths)
    commits = {Side.BASELINE: commit_of(root, baseline, say=say)}
    if candidate is not None:
        commits[Side.CANDIDATE] = commit_of(root, candidate, say=say)
    with worktree_folder(root) as folder:
        made = {}
        for side, commit in commits.items():
            add_worktree(root, folder / side, commit)
            complete(folder / side, like=root)
            if setup is not None:
                run_setup(setup, folder / side, working_tree=root, say=say)
            made[side] = _checkout(side, folder / side, commit, paths, is_worktree=True)
        if candidate is None:
            head = git(root, "rev-parse", "HEAD").strip()
            own = _checkout(Side.CANDIDATE, root, head, paths, is_worktree=False)
            made[Side.CANDIDATE] = own
        scratch = folder / "scratch"
        scratch.mkdir()
        yield Checkouts(
            baseline=made[Side.BASELINE],
            candidate=made[Side.CANDIDATE],
            working_tree=root,
            scratch=scratch,
        )


def run_setup(
    command: str, folder: Path, *, working_tree: Path, say: Callable[[str], None]
) -> None:
    """Run the user's set-up command in a worktree; NotConfirmed shows what it printed."""
    say(f"Setting up {folder.name}: {without_secrets(command)}")
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env={**quiet_environment(), WORKING_TREE: str(working_tree)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode != 0:
        told = "\n".join(without_private(done.stdout).splitlines()[-N_TOLD_LINES:])
        raise NotConfirmed(
            f"--vlm-confirm-setup {command!r} ended with status {done.returncode} in the "
            f"{folder.name}'s checkout; it said:\n{told}"
        )


def default_paths(root: Path, project: Path) -> tuple[str, ...]:
    """Return where code usually is, relative to a repository's root: there, and below a project."""
    homes = [] if project == root or root not in project.parents else [project.relative_to(root)]
    folders = [home / place for home in (*homes, Path()) for place in ("", "src")]
    return tuple(folder.as_posix() for folder in folders if (root / folder).is_dir())


def _check_paths(root: Path, paths: Sequence[str]) -> None:
    for path in paths:
        if not (root / path).is_dir():
            raise UsageProblem(
                f"--vlm-confirm-path {path}: there is no such folder in {root}; expected the "
                f"folder that the project's packages are in, relative to the repository's root"
            )
        if not (root / path).resolve().is_relative_to(root):
            raise UsageProblem(f"--vlm-confirm-path {path} is outside of the repository {root}")


def _checkout(
    side: Side, root: Path, commit: str, paths: Sequence[str], *, is_worktree: bool
) -> Checkout:
    folders = [root / path for path in paths or default_paths(root, root)]
    return Checkout(
        side=side,
        root=root,
        commit=commit,
        paths=tuple(Path(os.path.normpath(folder)) for folder in folders if folder.is_dir()),
        is_worktree=is_worktree,
    )
