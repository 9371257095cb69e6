"""Errors of ours, shown at the line of the test that they are about.

What such an error has to say is in its message; how this package came to raise it helps nobody who
reads a test's report. `--full-trace` shows it all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import VlmLatencyError

if TYPE_CHECKING:
    from types import TracebackType

PACKAGE = "pytest_vlmlatency"


def end_at_the_caller(error: BaseException) -> None:
    """Cut the last frames off an error of ours, up to the one that called this package."""
    if not isinstance(error, VlmLatencyError):
        return
    last: TracebackType | None = None
    entry = error.__traceback__
    while entry is not None:
        if not _is_ours(entry):
            last = entry
        entry = entry.tb_next
    if last is not None:
        last.tb_next = None


def _is_ours(entry: TracebackType) -> bool:
    module = str(entry.tb_frame.f_globals.get("__name__"))
    return module.partition(".")[0] == PACKAGE
