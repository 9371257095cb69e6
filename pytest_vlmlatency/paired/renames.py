"""Which files were renamed since a commit, as git finds it. The working tree is only read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.paired.commits import local_commit
from pytest_vlmlatency.paired.git import GitFailed, git
from pytest_vlmlatency.whole_files import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

DIFF = (
    *("-c", "diff.relative=false", "diff", "--no-ext-diff", "--find-renames"),
    *("--diff-filter=R", "--name-status", "-z"),
)
PYTHON = "*.py"


def renamed_files(root: Path, before: str, after: str | None = None) -> dict[str, str]:
    """Return the former path of each renamed file by its path now, both relative to the root.

    `after` None: the working tree, with Python files that were not added yet. Nothing is known of
    a commit that this clone lacks.
    """
    commit = local_commit(root, before)
    now = None if after is None else local_commit(root, after)
    if commit is None or (after is not None and now is None):
        return {}
    try:
        if now is not None:
            return _parsed(git(root, *DIFF, commit, now, "--"))
        return _to_working_tree(root, commit)
    except GitFailed:
        return {}


def former_name(test: str, renamed: Mapping[str, str]) -> str:
    """Return what a test, or a case of it, was called before its file was renamed."""
    file, separator, rest = test.partition("::")
    return f"{renamed.get(file, file)}{separator}{rest}"


def _to_working_tree(root: Path, commit: str) -> dict[str, str]:
    """Compare with the working tree by way of a copy of the index, in which new files are added."""
    index = root / git(root, "rev-parse", "--git-path", "index").strip()
    new = git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", PYTHON)
    if not new or not index.is_file():
        return _parsed(git(root, *DIFF, commit, "--"))
    with scratch_folder() as folder:
        copy = Path(shutil.copy2(index, folder / "index"))
        git(root, "add", "--intent-to-add", "--", PYTHON, index=copy)
        return _parsed(git(root, *DIFF, commit, "--", index=copy))


def _parsed(answer: str) -> dict[str, str]:
    """Return new paths with their old ones from `R100`, the old path, the new path, and so on."""
    fields = answer.split("\0")[:-1]
    return {now: before for before, now in zip(fields[1::3], fields[2::3], strict=True)}
