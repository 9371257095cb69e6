"""One line of a terminal that says how far a script is; nothing where nobody looks on."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from transformers.utils import logging

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ERASED = "\r\x1b[K"
"""Back to the start of the line, and clear it."""


def quiet_transformers() -> None:
    """Let transformers warn of nothing: which packages are missing is no progress."""
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # it has no types


def show_progress(text: str) -> None:
    """Write over the last line of progress, if standard error is a terminal."""
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        sys.stderr.write(f"{ERASED}{text[: width - 1]}")
        sys.stderr.flush()


def erase_progress() -> None:
    """Leave an empty line where the progress was, if standard error is a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(ERASED)
        sys.stderr.flush()


def one_by_one(names: Sequence[str]) -> Iterator[str]:
    """Yield each name while the line says which it is, of how many."""
    for index, name in enumerate(names, start=1):
        show_progress(f"{index} of {len(names)}: {name}")
        yield name
    erase_progress()


def counted(n: int, what: str) -> Iterator[int]:
    """Yield the numbers below n while the line says how far it is with what."""
    for index in range(n):
        show_progress(f"{what}: {index + 1} of {n}")
        yield index
    erase_progress()
