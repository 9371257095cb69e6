"""Questions and orders to git, as one user's command would give them; nothing of it is parsed here.

Never asks for a password, never writes the index while it looks, runs no hook, and obeys no
variable that a hook of git's own left in the environment. What git gets as a commit is an id that
`commits.local_commit` returned: a text of a user, a file or a remote could be an option.

The commit that a ref means, fetched where a clone lacks it.

A shallow clone is given that one commit and no more history. A full clone is never made shallow.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import NotConfirmed
from pytest_vlmlatency.records import GateStatus

if TYPE_CHECKING:
    from collections.abc import Callable


TIMEOUT_S = 600.0  # a checkout of a large repository, with its large files fetched

OF_ANOTHER_USER = "detected dubious ownership"
"""What git says, in English, of a repository whose files belong to another user, as in a container;
what follows is its own way out: `git config --global --add safe.directory ...`."""

OF_A_HOOK = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_PREFIX",
    "GIT_NAMESPACE",
)
"""What git sets for its hooks, which would name the user's repository in every worktree."""


NO_HOOKS = ("-c", "core.hooksPath=/dev/null")
"""A relative `core.hooksPath` lies in the checkout: git would run hooks of the commit there."""


class GitFailed(NotConfirmed):
    """An order that git did not carry out."""


class GitUnusable(GitFailed):
    """Git that answers nothing here: it is not installed, or refuses a repository of another user.

    No answer of such a git means "no", so that it is never taken for one.
    """

    exit_status = GateStatus.NOT_APPLIED.value


def git(root: Path, *args: str, index: Path | None = None) -> str:
    """Return what git prints for a command run at `root`; GitFailed says what it said instead.

    `index` is used in the place of the repository's own.
    """
    command = ("git", "-C", str(root), *NO_HOOKS, *args)
    of_index = {} if index is None else {"GIT_INDEX_FILE": str(index)}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
            encoding="utf-8",
            errors="replace",
            env=quiet_environment() | of_index,
            stdin=subprocess.DEVNULL,
        )
    except OSError as problem:
        raise GitUnusable(
            f"git could not be run ({problem.strerror}): install git, or put it on the PATH"
        ) from None
    except subprocess.TimeoutExpired:
        raise GitFailed(f"{_told(args)} was still busy after {TIMEOUT_S:.0f} s") from None
    if done.returncode != 0:
        said = " ".join((done.stderr.strip() or done.stdout).split())
        kind = GitUnusable if OF_ANOTHER_USER in said else GitFailed
        raise kind(f"{_told(args)}: {said or f'status {done.returncode}'}")
    return done.stdout


def asked(root: Path, *args: str) -> str | None:
    """Return the stripped answer of a question to git, None where it has none.

    GitUnusable where git answers nothing at all.
    """
    try:
        return git(root, *args).strip() or None
    except GitUnusable:
        raise
    except GitFailed:
        return None


def repository_around(folder: Path, root: Path) -> Path:
    """Return the innermost repository that a folder of a checkout is in: a submodule, or `root`."""
    above = (up for up in (folder, *folder.parents) if up == root or (up / ".git").exists())
    return next(above, root)


def quiet_environment() -> dict[str, str]:
    """Return this process's variables, without a hook's, and with nobody to answer questions."""
    kept = {name: value for name, value in os.environ.items() if name not in OF_A_HOOK}
    return kept | {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}


def _told(args: tuple[str, ...]) -> str:
    return f"git {' '.join(args)}"


def root_around(folder: Path) -> Path | None:
    """Return the root of the working tree around a folder, as git has it; None outside of any."""
    root = asked(folder, "rev-parse", "--show-toplevel")
    return None if root is None else Path(root)


def repository_of(folder: Path) -> Path:
    """Return the root of the working tree around a folder; NotConfirmed outside of any."""
    root = root_around(folder)
    if root is None:
        raise NotConfirmed(
            f"{folder} is in no git repository, so no other commit can be checked out beside it"
        )
    return root


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
