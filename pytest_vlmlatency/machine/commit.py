"""The commit that is measured, as git tells it. Owns one question to git, and why it fails."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
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
    status = _status(root)
    return None if status.answer is None else parse_status(status.answer)


def why_unknown(root: Path) -> str:
    """Return why git does not tell the commit of a repository that is there; "" where it does.

    It is not installed, say, or refuses a repository of another user; with git's own way out.
    """
    is_repository = any((up / ".git").exists() for up in (root, *root.parents))
    return _status(root).problem if is_repository else ""


@dataclass(frozen=True, slots=True)
class _Status:
    """What git answers, None where it fails, and the problem then."""

    answer: str | None
    problem: str = ""


def _status(root: Path) -> _Status:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *QUESTION],
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return _Status(None, f"git status was still busy after {TIMEOUT_S:.0f} s")
    except OSError as problem:
        return _Status(None, f"git could not be run ({problem.strerror}): install git")
    if done.returncode != 0:
        return _Status(None, f"git status: {done.stderr.strip() or done.returncode}")
    return _Status(done.stdout)


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
