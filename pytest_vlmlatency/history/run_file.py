"""A whole run as one JSON file: written whole, or not at all."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from pytest_vlmlatency.plain import run_pieces
from pytest_vlmlatency.whole_files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_vlmlatency.records import Run


def write_run(run: Run, path: Path) -> None:
    """Write a run; a file of that name is replaced at once, and stays if anything goes wrong."""
    write_whole(path, chain(run_pieces(run, indent=1), ["\n"]))
