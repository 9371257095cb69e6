"""Runs as a user names them to compare or to accept them: a file, a run, a ref, "last".

Owns what each word means. A ref means all clean runs of its commit, since one run says little of
the noise between runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.history.run_files import find
from pytest_vlmlatency.paired.git import local_commit, root_around
from pytest_vlmlatency.printing import short_commit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vlmlatency.history.names import RunName


LAST = "last"
ACCEPTED = "accepted"


def names_of(text: str, names: Sequence[RunName]) -> tuple[RunName, ...]:
    """Return the stored runs that a text names, oldest first; UsageProblem if there are none.

    "last", a run's id or name, a ref of git with its clean runs, or the beginning of an id.
    """
    if text == LAST:
        if not names:
            raise UsageProblem("the history holds no run, so there is no last one")
        return (max(names),)
    exact = tuple(name for name in names if text in (name.id, name.text))
    if exact:
        return exact
    commit = commit_named(text)
    if commit is None:
        return (find(text, names),)
    of_commit = [name for name in sorted(names) if name.commit == commit]
    clean = tuple(name for name in of_commit if not (name.is_dirty or name.is_pull_request))
    if not clean:
        others = f", only {len(of_commit)} of uncommitted changes or pull requests: name one by "
        raise UsageProblem(
            f"{text} is commit {short_commit(commit)}, of which the history holds no clean "
            f"run{f'{others}its id' if of_commit else '; `vlmlatency history` lists what it holds'}"
        )
    return clean


def commit_named(text: str) -> str | None:
    """Return the commit that a text names in the repository around the working directory."""
    root = root_around(Path.cwd())
    return None if root is None else local_commit(root, text)
