"""The tree of modules as lines of text. Pure."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from pytest_vlmlatency.inspection.wording import number_of_parameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vlmlatency.inspection.findings import ModuleRow

HEADER = ("module", "parameters", "runs in [role]")
LAST, MORE, OPEN, EMPTY = "└─ ", "├─ ", "│  ", "   "
GAP = "  "
LEAST_NOTE = 22
"""Columns kept for where a module runs, however long its name: a feature method has room."""


def tree_lines(rows: Sequence[ModuleRow], *, width: int) -> list[str]:
    """Return the table: a row's branch and name, its parameters, its phases and roles.

    A row with rows below it shows no phases: they are below. Shared parameters count in each row.
    """
    names = [_branch(rows, index) + _name(row) for index, row in enumerate(rows)]
    counts = [number_of_parameters(row.n_parameters) for row in rows]
    count_width = max(len(HEADER[1]), *map(len, counts))
    room = width - count_width - 2 * len(GAP)
    name_width = min(max(map(len, names)), room - LEAST_NOTE)
    lines = [_line(HEADER[0], HEADER[1], HEADER[2], name_width, count_width)]
    for index in range(len(rows)):
        notes = wrap(_note(rows, index), room - name_width, break_long_words=False) or [""]
        name = _shortened(names[index], name_width)
        lines.append(_line(name, counts[index], notes[0], name_width, count_width))
        below = _below(rows, index)
        lines += [_line(below, "", note, name_width, count_width) for note in notes[1:]]
    return lines


def _line(name: str, count: str, note: str, name_width: int, count_width: int) -> str:
    return f"{name:<{name_width}}{GAP}{count:>{count_width}}{GAP}{note}".rstrip()


def _name(row: ModuleRow) -> str:
    if row.n_modules == 1:
        return row.name
    noun = "blocks" if "blocks" in row.roles else "alike"
    return f"{row.name} ({row.n_modules} {noun})"


def _note(rows: Sequence[ModuleRow], index: int) -> str:
    row = rows[index]
    is_opened = index + 1 < len(rows) and rows[index + 1].depth > row.depth
    phases = "" if is_opened else ", ".join(row.phases) or "not run"
    roles = f"[{', '.join(row.roles)}]" if row.roles else ""
    return f"{phases} {roles}".strip()


def _branch(rows: Sequence[ModuleRow], index: int) -> str:
    """Return the lines that lead from the root to a row."""
    depth = rows[index].depth
    if not depth:
        return ""
    stems = [OPEN if _goes_on(rows, index, level) else EMPTY for level in range(1, depth)]
    return "".join(stems) + (MORE if _goes_on(rows, index, depth) else LAST)


def _below(rows: Sequence[ModuleRow], index: int) -> str:
    """Return the lines that pass beside a row's further notes."""
    depth = rows[index].depth
    stems = [OPEN if _goes_on(rows, index, level) else EMPTY for level in range(1, depth + 1)]
    has_rows = index + 1 < len(rows) and rows[index + 1].depth > depth
    return "".join(stems) + (OPEN if has_rows else "")


def _goes_on(rows: Sequence[ModuleRow], index: int, level: int) -> bool:
    """Whether a later row is at `level`, before one that is further out."""
    for row in rows[index + 1 :]:
        if row.depth <= level:
            return row.depth == level
    return False


def _shortened(name: str, width: int) -> str:
    return name if len(name) <= width else f"{name[: width - 1]}…"
