"""A stored run in full: a Run from its plain values, with the records' own checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import reason_in_words
from pytest_vlmlatency.history.names import name_of
from pytest_vlmlatency.history.slim import Unreadable, form_of_a_run, rounds_of_run
from pytest_vlmlatency.plain import from_plain
from pytest_vlmlatency.records import Run

if TYPE_CHECKING:
    from pytest_vlmlatency.history.slim import Plain


def whole_run(plain: Plain) -> Run:
    """Return the Run, or raise Unreadable with what is wrong in it."""
    try:
        run = from_plain(Run, plain)
    except ExceptionGroup as problems:
        raise Unreadable(reason_in_words(problems)) from problems
    with form_of_a_run():
        name_of(run)  # a file of another name is never made of it
    rounds_of_run(plain)  # what cannot be judged is no run, either
    return run
