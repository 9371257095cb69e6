"""A stored run in full: a Run from its plain values, with the records' own checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vlmlatency.history.slim import Unreadable
from pytest_vlmlatency.plain import from_plain
from pytest_vlmlatency.records import Run

if TYPE_CHECKING:
    from pytest_vlmlatency.history.slim import Plain


def whole_run(plain: Plain) -> Run:
    """Return the Run, or raise Unreadable with what is wrong in it."""
    try:
        return from_plain(Run, plain)
    except ExceptionGroup as problems:
        raise Unreadable("; ".join(_said(problems))) from problems


def _said(problem: Exception) -> list[str]:
    """Return every single reason in a group of groups."""
    if isinstance(problem, ExceptionGroup):
        return [line for inner in problem.exceptions for line in _said(inner)]
    return [f"{type(problem).__name__}: {problem}"]
