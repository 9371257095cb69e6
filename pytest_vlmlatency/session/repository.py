"""The repository around a folder. Owns one question to the file system; git is not asked."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@cache
def repository_root(folder: Path) -> Path | None:
    """Return the nearest folder above that git keeps, None outside a repository."""
    return next((up for up in (folder, *folder.parents) if (up / ".git").exists()), None)
