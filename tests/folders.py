"""Folders that may not be read, whoever runs the tests: root may read all, whatever the mode."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def forbid_reading(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let listing a folder fail as it does where its mode forbids it."""
    scandir = os.scandir

    def forbidding(path: str) -> object:
        if os.fspath(path) == os.fspath(folder):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidding)
