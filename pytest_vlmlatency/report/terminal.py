"""The table at the end of a run: a row for each case, and what a reader must know to believe it.

Pure: records in, lines of text out. Whoever prints them knows the terminal.
"""

from __future__ import annotations

from statistics import median
from textwrap import wrap
from typing import TYPE_CHECKING

from pytest_vlmlatency.records import WALL, Phase, Place
from pytest_vlmlatency.report.columns import (
    Column,
    aligned,
    columns_of,
    figure_of,
    marks_of,
    named_apart,
)
from pytest_vlmlatency.report.marks import meaning_of
from pytest_vlmlatency.report.predicted import HEADER, LEGEND, about_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence, Set

    from pytest_vlmlatency.records import Case

GAP = 2  # spaces between columns
SPREADS = "the spreads"
SHORTEST_NAME = 24  # a shorter name tells its case no more apart: columns give way first
_HEADERS = {
    "TTFT": "time to the first token, until the prompt's logits were ready.",
    "CPU total": "CPU time of the total, by which runs on a CPU are compared.",
    HEADER: LEGEND,
    "tokens": "vision+text→output, the longest row's.",
}
_WHERE = {
    Place.PART: "(counted by itself)",
    Place.WITHIN: "(within a phase, and counted there)",
    Place.OUTSIDE: "(around generate(), not in its total)",
}
_OF_OTHER = f"{Phase.OTHER}."
_LARGE = 0.1  # of `other`: a smaller part explains nothing
_SHOWN = frozenset({Phase.VISION, Phase.PREFILL, Phase.DECODE, Phase.OTHER})


def title_of(cases: Sequence[Case]) -> str:
    """Return the section's title: how many cases, and where they were measured."""
    devices = ", ".join(dict.fromkeys(case.device for case in cases))
    number = f"{len(cases)} case{'' if len(cases) == 1 else 's'}"
    return f"vlm latency: {number} on {devices}" if cases else "vlm latency: nothing measured"


def summary_lines(cases: Sequence[Case], *, width: int | None) -> list[str]:
    """Return the table of the cases with its legend; nothing if there are none.

    `width` is the terminal's: columns are left out and names shortened until a row fits. None is
    for output that nobody wraps, such as a log.
    """
    if not cases:
        return []
    cases = named_apart(cases)
    columns, left_out = fitted(columns_of(cases), width)
    rows = [row_text(columns, index) for index in range(-1, len(cases))]
    rule = "-" * max(map(len, rows))
    lines = [rows[0], rule]
    for row, case in zip(rows[1:], cases, strict=True):
        lines += [row, *_details(case)]
    headers = {column.header for column in columns}
    notes = notes_about((case.name, case.notes) for case in cases)
    told = notes_about(about_lines(cases))
    prose = (*_legend(cases, headers, left_out), *notes, *told)
    return [*lines, rule, *wrapped(prose, width)]


def wrapped(lines: Iterable[str], width: int | None) -> list[str]:
    """Return sentences broken at words to fit a width, the rest of each set in."""
    if width is None:
        return list(lines)
    return [part for line in lines for part in wrap(line, width, subsequent_indent="  ")]


def fitted(
    columns: Sequence[Column], width: int | None
) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    """Return the columns as they fit into a width, and what was left out for it."""
    names, *figures = columns
    left_out: list[str] = []
    if width is None:
        return tuple(columns), ()
    for column in sorted(figures, key=lambda column: -column.drop):
        if column.drop and _room_for_names(figures, width) < min(names.width, SHORTEST_NAME):
            figures.remove(column)
            left_out.append(column.header)
    if _room_for_names(figures, width) < min(names.width, SHORTEST_NAME):
        figures = [column.without_spread() for column in figures]
        left_out.append(SPREADS)
    return (_shortened(names, _room_for_names(figures, width)), *figures), tuple(left_out)


def row_text(columns: Sequence[Column], index: int) -> str:
    """Return a row of a table; -1 is the header's."""
    cells = (
        text.ljust(column.width) if column.is_left else text.rjust(column.width)
        for column in columns
        for text in [column.header if index < 0 else column.cells[index]]
    )
    return (" " * GAP).join(cells).rstrip()


def notes_about(cases: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    """Return each note once, with the names of the cases that it is about."""
    about: dict[str, list[str]] = {}
    for name, notes in cases:
        for note in notes:
            about.setdefault(note, []).append(name)
    return [f"Note on {some(names)}: {note}" for note, names in about.items()]


def some(names: Sequence[str]) -> str:
    """Return the first two of many names, and how many there are beside them."""
    shown = ", ".join(names[:2])
    return shown if len(names) <= 2 else f"{shown} and {len(names) - 2} more"


def _room_for_names(figures: Sequence[Column], width: int) -> int:
    return width - sum(GAP + column.width for column in figures)


def _shortened(names: Column, width: int) -> Column:
    width = max(width, len(names.header))
    cells = tuple(_middle_out(name, width) for name in names.cells)
    if len(set(cells)) < len(set(names.cells)):  # two names look alike: wrapped lines are better
        return _shortened(names, width + 1)
    return Column(header=names.header, cells=cells, is_left=True)


def _middle_out(name: str, width: int) -> str:
    """Return a name's start, and as much as fits of its end, where its parameters are."""
    if len(name) <= width:
        return name
    n_head = (width - 1) // 3
    return f"{name[:n_head]}…{name[n_head + 1 - width :]}"


def _details(case: Case) -> list[str]:
    """Return the lines below a row: its marks, and each span that has no column."""
    marks = marks_of(case)
    places = {span.name: span.place for call in case.calls for span in call.spans}
    of_other = [name for name in places if name.startswith(_OF_OTHER)]
    spans = [
        f"  {name}: {_figure_text(case, name)} {_WHERE[place]}"
        for name, place in places.items()
        if name not in _SHOWN and name not in of_other
    ]
    spans += _other_lines(case, of_other) if of_other else []
    return [f"  {', '.join(marks)}", *spans] if marks else spans


def _other_lines(case: Case, parts: Sequence[str]) -> list[str]:
    """Return a line on what `other` is, where it is long enough to be timed by its parts."""
    whole_ms = _median_ms(case, Phase.OTHER)
    shares = {name: _median_ms(case, name) / whole_ms for name in parts if whole_ms}
    large = sorted((name for name in shares if shares[name] >= _LARGE), key=lambda n: -shares[n])
    known = (f"{name.removeprefix(_OF_OTHER)} {_figure_text(case, name).strip()}" for name in large)
    what = f"of it {', '.join(known)}" if large else "in no part of generate() that has a name"
    figure = _figure_text(case, Phase.OTHER)
    return [f"  {Phase.OTHER}: {figure} ({what}; before the prompt, in no phase)"]


def _median_ms(case: Case, name: str) -> float:
    return median(call.phase_time(name, WALL) for call in case.calls)


def _figure_text(case: Case, name: str) -> str:
    return aligned([figure_of([call.phase_time(name, WALL) for call in case.calls])])[0]


def _legend(cases: Sequence[Case], headers: Set[str], left_out: Sequence[str]) -> list[str]:
    spread = "" if SPREADS in left_out else " ±half the interquartile range"
    lines = [f"Wall time in ms: median{spread} over the rounds."]
    lines += [f"{header}: {text}" for header, text in _HEADERS.items() if header in headers]
    if "rounds" in headers and any(case.discarded for case in cases):
        lines.append("rounds: kept +discarded; the times of these did not agree among themselves.")
    used = dict.fromkeys(mark for case in cases for mark in marks_of(case))
    lines += [f"{mark}: {meaning}" for mark in used if (meaning := meaning_of(mark))]
    if reasons := sorted({reason for case in cases for reason in case.throttle_reasons}):
        lines.append(f"throttled by: {', '.join(reasons)}.")
    if left_out:
        lines.append(f"Columns hidden (terminal too narrow): {', '.join(left_out)}.")
    return lines
