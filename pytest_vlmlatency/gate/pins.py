"""Pins: the runs that were accepted as what later ones are compared with, one file a machine.

`.vlm_accepted/<fingerprint>.json` lies in the repository beside the code and is meant to be
committed: accepting a level is a decision of the people who review the commit, and it comes with
the code that it was made for. That is why it is not in the history's folder, which git ignores.
One file for each machine, so that two machines' pins never meet in a merge.
"""

from __future__ import annotations

import json
import os
import re
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import UsageProblem, reason_in_words
from pytest_vlmlatency.whole_files import locked, make_folder, write_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDER = ".vlm_accepted"
SCHEMA = 1
_COMMIT = re.compile(r"[0-9a-f]{7,64}")  # git takes another text for a branch, or for an option
_KEYS = {"run", "commit", "started_at", "accepted_on", "why", "cases"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One accepted run. `cases` are the ids that it was accepted for, None for all cases."""

    run: str
    commit: str | None
    started_at: str
    accepted_on: str
    why: str
    cases: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.commit is not None and not _COMMIT.fullmatch(self.commit):
            raise UsageProblem(
                f"a run is accepted by the id of its commit, 7 to 64 hexadecimal digits, and not "
                f"by {self.commit!r}"
            )

    def is_of(self, case_id: str) -> bool:
        """Whether the run was accepted for this case."""
        return self.cases is None or case_id in self.cases


def pin_of(pins: Sequence[Pin], case_id: str, former_id: str | None = None) -> Pin | None:
    """Return the pin that was set last for a case, under its id or under its former one."""
    ids = (case_id,) if former_id is None else (case_id, former_id)
    return next((pin for pin in reversed(pins) if any(map(pin.is_of, ids))), None)


def read_pins(root: Path, fingerprint: str) -> tuple[Pin, ...]:
    """Return the pins of a machine, the last one last; () if there are none.

    A file that cannot be read raises UsageProblem: a pin that was dropped silently would let a
    slow creep pass.
    """
    path = pin_file(root, fingerprint)
    if not os.path.lexists(path):
        return ()
    try:
        if not path.is_file():  # such as a link to a device, which would never end
            raise ValueError("it is no regular file")
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain["schema"] != SCHEMA:
            raise ValueError(f"its schema is {plain['schema']!r}; this version reads {SCHEMA}")
        return tuple(_pin(entry) for entry in plain["accepted"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, UsageProblem) as problem:
        raise UsageProblem(
            f"{path} is not a file of accepted runs: {reason_in_words(problem)}. "
            f"Restore it from git, or accept again"
        ) from problem


def add_pin(root: Path, fingerprint: str, pin: Pin, *, machine: Sequence[str]) -> Path:
    """Write a pin into its machine's file and return the path; pins that it covers are dropped.

    Others that accept meanwhile wait: each keeps what the one before wrote.
    """
    path = pin_file(root, fingerprint)
    make_folder(path.parent)
    with locked(path.parent):
        kept = [old for old in read_pins(root, fingerprint) if not _is_covered(old, pin)]
        plain = {
            "schema": SCHEMA,
            "machine": list(machine),
            "accepted": [_plain(entry) for entry in (*kept, pin)],
        }
        write_whole(path, json.dumps(plain, indent=1) + "\n")
    return path


def pin_file(root: Path, fingerprint: str) -> Path:
    """Return where the pins of a machine are."""
    return Path(root) / FOLDER / f"{fingerprint}.json"


def _is_covered(old: Pin, new: Pin) -> bool:
    if new.cases is None:
        return True
    return old.cases is not None and set(old.cases) <= set(new.cases)


def _pin(entry: dict[str, object]) -> Pin:
    if set(entry) != _KEYS:
        raise ValueError(f"an entry has {sorted(entry)}; expected {sorted(_KEYS)}")
    cases, commit = entry["cases"], entry["commit"]
    if cases is not None and not isinstance(cases, list):
        raise ValueError(f"cases is {cases!r}; expected a list of ids, or null for all")
    return Pin(
        run=_text(entry["run"]),
        commit=None if commit is None else _text(commit),
        started_at=_text(entry["started_at"]),
        accepted_on=_text(entry["accepted_on"]),
        why=_text(entry["why"]),
        cases=None if cases is None else tuple(map(_text, cases)),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{reprlib.repr(value)} stands where a text is expected")
    value.encode()  # half a character can neither be printed nor written
    return value


def _plain(pin: Pin) -> dict[str, object]:
    cases = None if pin.cases is None else list(pin.cases)
    return {
        "run": pin.run,
        "commit": pin.commit,
        "started_at": pin.started_at,
        "accepted_on": pin.accepted_on,
        "why": pin.why,
        "cases": cases,
    }
