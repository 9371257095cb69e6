"""A whole run as one JSON file: written whole, or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.plain import to_json

if TYPE_CHECKING:
    from pytest_vlmlatency.records import Run


def write_run(run: Run, path: Path) -> None:
    """Write a run; a file of that name is replaced at once, and stays if anything goes wrong."""
    write_whole(path, f"{to_json(run)}\n")


def write_whole(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then rename it: nobody reads a part of it."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        draft.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
