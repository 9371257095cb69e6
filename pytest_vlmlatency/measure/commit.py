"""The commit that is measured, as git tells it. Owns one question to git; without git, None."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from pytest_vlmlatency.records import Commit

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT_S = 10.0  # a large repository on a slow disk; without an answer the commit is unknown

# `--no-optional-locks`: a status that writes the index could get into a user's own git's way.
QUESTION = ("--no-optional-locks", "status", "--porcelain=v2", "--branch", "--untracked-files=no")


def read_commit(root: Path) -> Commit | None:
    """Return the commit checked out at `root`; None outside a repository, or before its first.

    `is_dirty` looks at tracked files, staged or not; untracked files don't count.
    """
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), *QUESTION],
            capture_output=True,
            timeout=TIMEOUT_S,
            check=True,
            encoding="utf-8",
            errors="replace",
        ).stdout
    except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    return parse_status(answer)


def parse_status(answer: str) -> Commit | None:
    """Return the commit from `git status --porcelain=v2 --branch`, None before the first commit."""
    lines = answer.splitlines()
    headers = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# "))
    if headers["branch.oid"] == "(initial)":
        return None
    branch = headers["branch.head"]
    return Commit(
        id=headers["branch.oid"],
        branch=None if branch == "(detached)" else branch,
        is_dirty=any(not line.startswith("#") for line in lines),
    )
