"""What a test is called in every run: its file from the repository's root, then pytest's own name.

Owns the id that histories, gates and fresh processes know a test by. Paths are all relative to one
folder, so that two tests of a run never share an id, whatever packages or submodules hold them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def id_of(item: pytest.Item, root: Path) -> str:
    """Return the id of a test: `tests/test_x.py::TestCaption::test_page[512]`."""
    rest = item.nodeid.partition("::")[2]
    path = _relative(item.path, root)
    return f"{path}::{rest}" if rest else path


def _relative(path: Path, root: Path) -> str:
    """Return a path from a folder, by way of `..` where it lies outside.

    Links are followed only where one of the two was reached through a link: two linked folders
    of tests stay two.
    """
    for file, folder in ((path, root), (path.resolve(), root.resolve())):
        if file.is_relative_to(folder):
            return file.relative_to(folder).as_posix()
    try:
        return Path(os.path.relpath(path, root)).as_posix()
    except ValueError:  # another drive
        return path.as_posix()
