"""The two checkouts that are measured against each other, ready to be run.

The baseline is always a worktree in a temporary folder. The candidate is the working tree itself,
as it is, unless a commit is named: then it is a worktree too. Only worktrees are set up.

Worktrees in a temporary folder of ours, removed whatever happens, also from git's own list.

What a process that was killed left behind is removed by the next one, as `whole_files` does it.
Worktrees of other people are never looked into.

What a fresh worktree still lacks of its commit: submodules, and large files kept elsewhere.

Both are brought in as far as the working tree has them: what the user never fetched, his benchmarks
don't need. Submodules come from the user's own clone of them, so that neither a network nor a
password is needed for a commit that is there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import NotConfirmed, UsageProblem
from pytest_vlmlatency.paired.git import (
    GitFailed,
    asked,
    commit_of,
    git,
    local_commit,
    quiet_environment,
)
from pytest_vlmlatency.printing import short_commit, tell, without_private, without_secrets
from pytest_vlmlatency.signals import ending_signals_raise, uninterrupted
from pytest_vlmlatency.whole_files import remove_if_abandoned, scratch_folder

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
        commit = short_commit(self.commit)
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


GITLINK = "160000"
"""The mode of a submodule in a tree."""

POINTER = b"version https://git-lfs.github.com/spec/"


def complete(worktree: Path, *, like: Path) -> None:
    """Bring in the submodules and large files that the working tree `like` has, too."""
    _add_submodules(worktree, like, asked(like, "rev-parse", "--absolute-git-dir"))
    _add_large_files(worktree, like)


def _add_submodules(worktree: Path, like: Path, git_folder: str | None) -> None:
    """Bring in submodules and theirs; `git_folder` is where git keeps the clone at `like`."""
    for path, commit in _submodules(worktree).items():
        name = _name_of(worktree, path)
        source = _own_clone(like, path) or _kept_clone(like, path, git_folder, name)
        if source is not None:
            _check_out(source, commit, worktree / path)
            _add_submodules(worktree / path, like / path, str(source))
            _add_large_files(worktree / path, like / path)
        elif path not in _submodules(like):  # the candidate has it no more
            update = ("submodule", "--quiet", "update", "--init", "--recursive", "--", path)
            git(worktree, "-c", "protocol.ext.allow=never", *update)  # its URL is the commit's


def _submodules(root: Path) -> dict[str, str]:
    """Return the commits of the submodules of HEAD by their paths."""
    if not (root / ".gitmodules").is_file():
        return {}
    entries = (asked(root, "ls-tree", "-r", "-z", "HEAD") or "").split("\0")
    parted = (entry.partition("\t") for entry in entries if entry.startswith(GITLINK))
    return {path: facts.split()[2] for facts, _tab, path in parted}


def _own_clone(like: Path, path: str) -> Path | None:
    """Return the git folder of a submodule that the user has in place, None if it has none."""
    is_there = (like / path / ".git").exists()
    found = asked(like / path, "rev-parse", "--absolute-git-dir") if is_there else None
    return None if found is None else Path(found)


def _kept_clone(like: Path, path: str, git_folder: str | None, name: str | None) -> Path | None:
    """Return where git keeps a submodule that the user's commit has no more: by its name."""
    is_left_out = path in _submodules(like)
    if is_left_out or git_folder is None or name is None or ".." in PurePosixPath(name).parts:
        return None
    kept = Path(git_folder, "modules", name)
    return kept if (kept / "HEAD").is_file() else None


def _name_of(worktree: Path, path: str) -> str | None:
    """Return the name of a submodule, which is its path unless it was moved."""
    question = (
        "config",
        "--file",
        ".gitmodules",
        "--null",
        "--get-regexp",
        r"^submodule\..*\.path$",
    )
    entries = (entry.partition("\n") for entry in (asked(worktree, *question) or "").split("\0"))
    keys = (key for key, _newline, value in entries if value == path)
    return next((key.removeprefix("submodule.").removesuffix(".path") for key in keys), None)


def _check_out(source: Path, commit: str, folder: Path) -> None:
    """Check a submodule's commit out with the objects of the user's own clone, or fetch it.

    The clone shares its objects and is removed with the worktree around it.
    """
    quiet = ("--quiet", "--no-checkout", "--shared")
    git(source, "clone", *quiet, "--end-of-options", str(source), str(folder))
    if local_commit(folder, commit) is None:
        remote = asked(source, "config", "remote.origin.url") or "origin"
        try:
            git(folder, "fetch", "--quiet", "--no-tags", "--end-of-options", remote, commit)
        except GitFailed as problem:
            raise NotConfirmed(
                f"the submodule {folder.name} has no commit {commit} in {source}, and {remote} did "
                f"not give it: {problem}; fetch it there: git submodule foreach git fetch"
            ) from None
    git(folder, "checkout", "--quiet", "--detach", commit)


def _add_large_files(worktree: Path, like: Path) -> None:
    missing = _pointers(worktree, like)
    if not missing:
        return
    try:
        git(worktree, "lfs", "pull")
        problem = ""
    except GitFailed as failed:
        problem = f": {failed}"
    left = _pointers(worktree, like)
    if left:
        raise NotConfirmed(
            f"{len(left)} large files of the baseline, {left[0]} first, are only pointers there, "
            f"and git lfs pull did not bring them{problem}; install git-lfs, or fetch them with "
            f"--vlm-confirm-setup"
        )


def _pointers(worktree: Path, like: Path) -> list[str]:
    """Return large files that are pointers in a worktree, and more than that where it is alike."""
    answer = asked(worktree, "ls-files", "-z", "--", ":(attr:filter=lfs)") or ""
    paths = [path for path in answer.split("\0") if path]
    return [path for path in paths if _is_pointer(worktree / path) and _is_real(like / path)]


def _is_pointer(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(len(POINTER)) == POINTER


def _is_real(file: Path) -> bool:
    return not file.is_file() or not _is_pointer(file)
