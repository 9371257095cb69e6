"""The commit that a ref means, fetched where a clone lacks it.

A shallow clone is given that one commit and no more history. A full clone is never made shallow.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.paired.git import GitFailed, asked, git
from pytest_vlmlatency.errors import NotConfirmed

if TYPE_CHECKING:
    from collections.abc import Callable

SHORT = 10  # digits of a commit that people can still tell apart


def repository_of(folder: Path) -> Path:
    """Return the root of the working tree around a folder; NotConfirmed outside of any."""
    root = asked(folder, "rev-parse", "--show-toplevel")
    if root is None:
        raise NotConfirmed(
            f"{folder} is in no git repository, so no other commit can be checked out beside it"
        )
    return Path(root)


def commit_of(root: Path, ref: str, *, say: Callable[[str], None]) -> str:
    """Return the id of the commit that a ref means; a commit that is not here is fetched."""
    _refuse_option(ref, ref)
    here = local_commit(root, ref)
    if here is not None:
        return here
    remote = remote_of(root)
    if remote is None:
        raise NotConfirmed(
            f"there is no commit {ref!r} in {root}, and no remote to fetch it from; "
            f"expected a branch, a tag or a commit that git rev-parse knows"
        )
    return _fetched(root, remote, ref, say=say)


def remote_of(root: Path) -> str | None:
    """Return the remote of the current branch, else origin, else None."""
    branch = asked(root, "symbolic-ref", "--quiet", "--short", "HEAD")
    own = None if branch is None else asked(root, "config", f"branch.{branch}.remote")
    remotes = (asked(root, "remote") or "").split()
    return next((name for name in (own, "origin") if name in remotes), None)


def local_commit(root: Path, ref: str) -> str | None:
    """Return the id of the commit that a ref means here, None if it means none.

    A text that git could take for an option means none. What other commands of git get is this id.
    """
    if ref.startswith("-"):
        return None
    return asked(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")


def _fetched(root: Path, remote: str, ref: str, *, say: Callable[[str], None]) -> str:
    is_shallow = asked(root, "rev-parse", "--is-shallow-repository") == "true"
    depth = ("--depth=1",) if is_shallow else ()
    name = ref.removeprefix(f"{remote}/")
    _refuse_option(ref, name)
    if ":" in name or name.startswith(("+", "^")):  # an order about refs of this clone
        raise NotConfirmed(
            f"{ref!r} is no name of a branch, a tag or a commit, here or of {remote}"
        )
    say(f"Fetching {name} from {remote}{', with depth 1' if is_shallow else ''}.")
    try:
        quiet = ("--quiet", "--no-tags", "--no-recurse-submodules")
        git(root, "fetch", *quiet, *depth, "--end-of-options", remote, name)
    except GitFailed as problem:
        here = "in this shallow clone" if is_shallow else "here"
        raise NotConfirmed(
            f"there is no commit {ref!r} {here}, and {remote} did not give it: {problem}; "
            f"fetch more history (actions/checkout: fetch-depth: 0), or name a full commit id or "
            f"a branch of {remote}"
        ) from None
    fetched = local_commit(root, "FETCH_HEAD")
    assert fetched is not None, "git fetched it a moment ago"
    return fetched


def _refuse_option(ref: str, name: str) -> None:
    """Raise NotConfirmed where git could take a name for an option: one of them runs a command."""
    if name.startswith("-"):
        raise NotConfirmed(
            f"{ref!r} is no ref: {name!r} begins with '-', as an option of git does; expected a "
            f"branch, a tag or a commit"
        )
