"""Where a history is when nobody names another place: `.vlm_latency` in the repository around.

Owns one question to the file system; git is not asked.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.history.store import open_store

if TYPE_CHECKING:
    from pytest_vlmlatency.history.store import Store

DEFAULT = ".vlm_latency"
WAITING = "waiting"


@cache
def repository_root(folder: Path) -> Path | None:
    """Return the nearest folder above that git keeps, None outside a repository."""
    return next((up for up in (folder, *folder.parents) if (up / ".git").exists()), None)


def named_or_default(url: str | None, *, is_readonly: bool) -> Store:
    """Return the history of a command: the one that is named, else that of the repository."""
    if url is not None:
        return open_store(url, is_readonly=is_readonly)
    root = repository_root(Path.cwd())
    if root is None:
        raise UsageProblem(
            f"there is no repository around {Path.cwd()}, so no {DEFAULT} in it; name a history "
            f"with --history: a folder, or a URL such as s3://bucket/path"
        )
    return open_store(root / DEFAULT, is_readonly=is_readonly)


def waiting_for(history: Store, folder: Path) -> Store | None:
    """Return where runs wait that could not be uploaded to a history; None if nowhere.

    That is beside the default history of the repository around `folder`. What lies on this machine
    needs no such place.
    """
    root = repository_root(folder)
    if root is None or history.place.file_system is None:
        return None
    digest = hashlib.sha256(history.url.encode()).hexdigest()[:12]
    return open_store(root / DEFAULT / WAITING / digest)


def shortened(url: str) -> str:
    """Return a folder below the working directory without the way to there."""
    path = Path(url)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else url
