"""What a fresh worktree still lacks of its commit: submodules, and large files kept elsewhere.

Both are brought in as far as the working tree has them: what the user never fetched, his benchmarks
don't need. Submodules come from the user's own clone of them, so that neither a network nor a
password is needed for a commit that is there.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from pytest_vlmlatency.paired.commits import local_commit
from pytest_vlmlatency.paired.git import GitFailed, asked, git
from pytest_vlmlatency.errors import NotConfirmed

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
