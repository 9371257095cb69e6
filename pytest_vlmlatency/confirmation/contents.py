"""What a fresh worktree still lacks of its commit: submodules, and large files kept elsewhere.

Both are brought in as far as the working tree has them: what the user never fetched, his benchmarks
don't need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vlmlatency.confirmation.git import GitFailed, asked, git
from pytest_vlmlatency.errors import NotConfirmed

if TYPE_CHECKING:
    from pathlib import Path

POINTER = b"version https://git-lfs.github.com/spec/"


def complete(worktree: Path, *, like: Path) -> None:
    """Bring in the submodules and large files that the working tree `like` has, too."""
    _add_submodules(worktree, like)
    _add_large_files(worktree, like)


def _add_submodules(worktree: Path, like: Path) -> None:
    if not (worktree / ".gitmodules").is_file():
        return
    left_out = {path for path, is_there in _submodules(like).items() if not is_there}
    wanted = [path for path in _submodules(worktree) if path not in left_out]
    if wanted:
        git(worktree, "submodule", "--quiet", "update", "--init", "--recursive", "--", *wanted)


def _submodules(root: Path) -> dict[str, bool]:
    """Return the paths of submodules, and whether each was fetched."""
    lines = (asked(root, "submodule", "status") or "").splitlines()
    # A line is a mark (none for the first line's blank, which was stripped), a commit and a path.
    return {_path_of(root, line): not line.startswith("-") for line in lines}


def _path_of(root: Path, line: str) -> str:
    path = line.lstrip("-+U ").split(" ", 1)[1]
    return path if (root / path).exists() else path.rsplit(" (", 1)[0]


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
