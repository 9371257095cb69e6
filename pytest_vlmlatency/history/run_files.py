"""A stored run in full: a Run from its plain values, with the records' own checks.

A whole run as one JSON file: written whole, or not at all.

Runs as a user names them: a file, or a run of a history by its id, its name or its commit.
"""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import HistoryProblem, UsageProblem, reason_in_words
from pytest_vlmlatency.history.checked_runs import Unreadable, form_of_a_run, parse, rounds_of_run
from pytest_vlmlatency.history.names import name_of
from pytest_vlmlatency.plain import from_plain, run_pieces
from pytest_vlmlatency.records import Run
from pytest_vlmlatency.whole_files import write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vlmlatency.history.checked_runs import Plain
    from pytest_vlmlatency.history.names import RunName
    from pytest_vlmlatency.history.store import Store
    from pytest_vlmlatency.records import RunRounds


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


def write_run(run: Run, path: Path) -> None:
    """Write a run; a file of that name is replaced at once, and stays if anything goes wrong."""
    write_whole(path, chain(run_pieces(run, indent=1), ["\n"]))


SHOWN = 5
LEAST_DIGITS = 4


def run_at(text: str, store: Store) -> Run:
    """Return the run that a text names: a file that is there, else one run of the history."""
    if is_file(text):
        return run_in_file(Path(text))
    return store.read_whole(find(text, store.index().names))


def is_file(text: str | Path) -> bool:
    """Whether a word names a file; what no disk takes for a path names none, and may be a run."""
    return os.path.isfile(text)  # noqa: PTH113 - Path.is_file raises for such words


def run_in_file(path: Path) -> Run:
    """Return the run that --vlm-json wrote, of this schema or an older one."""
    try:
        return whole_run(parse(path.read_bytes()))
    except (OSError, Unreadable) as problem:
        raise HistoryProblem(f"{path} is no run that can be read: {problem}") from problem


def rounds_in_file(path: Path) -> RunRounds:
    """Return the run that --vlm-json wrote as it is judged, without its calls."""
    try:
        run = rounds_of_run(parse(path.read_bytes()))
        with form_of_a_run():
            name_of(run.header)
        return run
    except (OSError, Unreadable) as problem:
        raise HistoryProblem(f"{path} is no run that can be read: {problem}") from problem


def find(text: str, names: Sequence[RunName]) -> RunName:
    """Return the one run whose name is this, or whose id or commit begins so."""
    exact = [name for name in names if text in (name.text, name.id)]
    begun = [
        name
        for name in names
        if len(text) >= LEAST_DIGITS
        and (name.id.startswith(text) or (name.commit or "").startswith(text))
    ]
    found = exact or begun
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageProblem(
            f"no file and no run is called {text!r}; expected a file, or the beginning (at least "
            f"{LEAST_DIGITS} characters) of a run's id or commit: `vlmlatency history` lists them"
        )
    shown = ", ".join(name.id for name in found[-SHOWN:])
    raise UsageProblem(f"{text!r} is {len(found)} runs; name one by its id: {shown}")
