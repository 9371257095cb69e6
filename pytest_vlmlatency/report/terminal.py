"""The table at the end of a run: a row for each case, and what a reader must know to believe it.

Pure: records in, lines of text out. Whoever prints them knows the terminal.

What the table says of a case, column by column, as text.

Owns the choice of figures and their digits. A figure is a median and half the interquartile range
over the kept rounds: half of the rounds lie within about that distance of the median.

What the words in the table's last column mean: for each mark of a case, a sentence.

How the phases of each case were found, for `-v`. Pure: records in, lines of text out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median, quantiles
from textwrap import wrap
from typing import TYPE_CHECKING

from pytest_vlmlatency.case_ids import told_apart
from pytest_vlmlatency.printing import plural, printable
from pytest_vlmlatency.records import CONTENDED_ABOVE, WALL, Phase, Place
from pytest_vlmlatency.report.predicted import (
    HEADER,
    LEGEND,
    about_lines,
    predicted_figures,
    predicted_marks,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence, Set

    from pytest_vlmlatency.records import Case, Discovery


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
    number = plural(len(cases), "case")
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


MANY_MS = 100  # from here on, a hundredth of a millisecond is noise to a reader
MOST_DECIMALS = 4

# header, Call property, drop: of two columns the higher number goes first when room is short
_TIMES = (
    ("vision", "vision_ms", 0),
    ("prefill", "prefill_ms", 0),
    ("decode", "decode_ms", 0),
    ("per step", "tpot_ms", 3),
    ("TTFT", "ttft_ms", 4),
    ("total", "total_ms", 0),
    ("CPU total", "total_cpu_ms", 5),
)


@dataclass(frozen=True, kw_only=True)
class Column:
    """A header and a cell for each case. Columns with `drop` 0 stay however narrow the terminal."""

    header: str
    cells: tuple[str, ...]
    medians: tuple[str, ...] | None = None
    drop: int = 0
    is_left: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "cells", tuple(map(printable, self.cells)))

    @cached_property
    def width(self) -> int:
        """The room that the widest of header and cells needs."""
        return max(len(text) for text in (self.header, *self.cells))

    def without_spread(self) -> Column:
        """Return the column with its medians only; one of other figures as it is."""
        return self if self.medians is None else replace(self, cells=self.medians)


def named_apart(cases: Sequence[Case]) -> list[Case]:
    """Return the cases with names that tell them apart, for one table or one list of notes."""
    names = told_apart((case.id, case.name) for case in cases)
    return [replace(case, name=name) for case, name in zip(cases, names, strict=True)]


def columns_of(cases: Sequence[Case]) -> tuple[Column, ...]:
    """Return the columns of the table, the case's name first; one that says nothing is left out."""
    names = Column(header="name", cells=tuple(case.name for case in cases), is_left=True)
    times = (time_column(header, cases, name, drop) for header, name, drop in _TIMES)
    tokens = Column(header="tokens", cells=tuple(map(_tokens, cases)), drop=2)
    rounds = Column(header="rounds", cells=tuple(map(_rounds, cases)), drop=1)
    told = [column for column in times if any(map(_says, column.cells))]
    if any(case.prediction is not None for case in cases):
        told.append(predicted_column(cases))
    if len({case.device for case in cases}) > 1:
        devices = tuple(case.device for case in cases)
        told.append(Column(header="device", cells=devices, drop=6, is_left=True))
    return (names, *told, tokens, rounds)


def time_column(header: str, cases: Sequence[Case], name: str, drop: int) -> Column:
    """Return a column of medians and spreads, with digits that suit its smallest median."""
    figures = [figure_of(values_of(case, name)) for case in cases]
    medians = aligned([figure and (figure[0], None) for figure in figures])
    return Column(header=header, cells=aligned(figures), medians=medians, drop=drop)


def predicted_column(cases: Sequence[Case]) -> Column:
    """Return the column of predictions, whose second figure is the 95th percentile."""
    figures = predicted_figures(cases)
    n_decimals = _decimals(figure[0] for figure in figures if figure is not None)
    medians = aligned([figure and (figure[0], None) for figure in figures])
    uppers = ["" if one is None else f"≤{one[1]:.{n_decimals}f}" for one in figures]
    width = max(map(len, uppers))
    cells = (f"{text} {upper:>{width}}" for text, upper in zip(medians, uppers, strict=True))
    return Column(header=HEADER, cells=tuple(cells), medians=medians)


def values_of(case: Case, name: str) -> list[float]:
    """Return the values of a Call property over the kept rounds, undefined ones left out."""
    values = [getattr(call, name) for call in case.calls]
    return [value for value in values if value is not None]


def figure_of(values: Sequence[float]) -> tuple[float, float | None] | None:
    """Return the median and half the interquartile range; a single value has no spread."""
    if not values:
        return None
    if len(values) == 1:
        return values[0], None
    lower, _, upper = quantiles(values, n=4, method="inclusive")
    return median(values), (upper - lower) / 2


def aligned(figures: Sequence[tuple[float, float | None] | None]) -> tuple[str, ...]:
    """Return figures as text, medians and spreads below each other; `-` for what is undefined."""
    n_decimals = _decimals(figure[0] for figure in figures if figure is not None)
    medians = ["-" if one is None else _number(one[0], n_decimals) for one in figures]
    spreads = [
        "" if one is None or one[1] is None or not one[0] else f" ±{one[1]:.{n_decimals}f}"
        for one in figures
    ]
    median_width = max(map(len, medians), default=0)
    spread_width = max(map(len, spreads), default=0)
    return tuple(
        f"{middle:>{median_width}}{spread:<{spread_width}}"
        for middle, spread in zip(medians, spreads, strict=True)
    )


def marks_of(case: Case) -> tuple[str, ...]:
    """Return the words that warn a reader of this row; the legend explains each."""
    marks = [str(label) for label in case.labels]
    if (case.contended_ratio or 0) > CONTENDED_ABOVE:
        marks.append("contended")
    if case.throttle_reasons:
        marks.append("throttled")
    if case.n_other_processes:
        marks.append("shared")
    return (*marks, *predicted_marks(case))


def _decimals(medians: Iterable[float]) -> int:
    """Return the fewest decimals that show two digits of the smallest median, and a tenth."""
    values = [value for value in medians if value]
    n_decimals = 1 if max(values, default=0.0) >= MANY_MS else 2
    while n_decimals < MOST_DECIMALS and min(values, default=1.0) * 10**n_decimals < 10:
        n_decimals += 1
    return n_decimals


def _number(value: float, n_decimals: int) -> str:
    return f"{value:.{n_decimals}f}" if value else "0"


def _says(cell: str) -> bool:
    return cell.strip() not in ("", "-")


def _tokens(case: Case) -> str:
    """Return vision and text tokens, and those of the output; "?" for what is unknown."""
    call = case.calls[0]
    known = [call.n_vision_tokens, call.n_text_tokens]
    n_vision, n_text = ("?" if n is None else str(n) for n in known)
    return f"{n_vision}+{n_text}→{call.n_output_tokens}"


def _rounds(case: Case) -> str:
    discarded = f" +{len(case.discarded)}" if case.discarded else ""
    return f"{len(case.calls)}{discarded}"


MARKS: Mapping[str, str] = {
    "contended": f"waited for a core for more than {CONTENDED_ABOVE:.0%} of the time; its wall "
    f"times are too long, its CPU times hold.",
    "throttled": "the driver slowed the device down before or after the case.",
    "shared": "processes of others had the device in use, too, before or after the case.",
    "text-only": "no image was passed, so vision is 0.",
    "vision-outside": "the measured function ran vision around generate(): it is shown as "
    "vision_outside, and is in no total.",
    "per-token": "every decode step was timed too, which costs a little itself.",
    "sample": "tokens were drawn at random, from the same random state in each round.",
    "beam": "a decode step computes every beam.",
    "assisted": "a decode step checks several tokens, so there are fewer steps than tokens.",
    "custom": "generate() was given a decoding loop of its own.",
    "guided": "the model ran twice for each token, with and without the prompt.",
    "static-cache": "its cache has its full size from the beginning.",
    "no-cache": "every step computed the whole prompt again.",
    "quantized-cache": "its cache was packed, and unpacked in every step.",
    "continued": "a cache was passed in; what it holds is in no count of tokens.",
    "embeds": "embeddings were passed in place of token ids.",
    "video": "frames of a video are among the vision tokens.",
    "streamed": "each token was handed to a streamer.",
    "outputs": "scores, states or attentions were returned beside the tokens.",
    "compiled": "torch.compile had compiled a part of it.",
    "slower-than-predicted": "the measured median lies above the 95th percentile.",
    "faster-than-predicted": "the measured median lies below the 5th percentile.",
    "extrapolated": "predicted beyond what the estimator was trained on, so less surely.",
    "not-predicted": "the estimator cannot answer for it; a note says why.",
    "chunked": "the prompt took several forwards, all of them prefill.",
}
PARTS: Mapping[str, str] = {
    "offloaded-": "its cache lay on the host, and was fetched for every layer.",
    "autocast-": "it ran inside torch.autocast, with operations of that type.",
    "-sequences": "each row of the prompt gave so many.",
}
"""Meanings of marks that begin or end like this."""


def meaning_of(mark: str) -> str | None:
    """Return a sentence on a mark, None for one that speaks for itself."""
    by_part = (text for part, text in PARTS.items() if part in mark)
    return MARKS.get(mark) or next(by_part, None)


def discovery_lines(cases: Iterable[Case]) -> list[str]:
    """Return a line for each case whose phases were found: for which model and call, in what time.

    The time is in no phase and no total.
    """
    return [
        f"Phases of {case.name}: {case.discovery.model}, {case.discovery.inputs}: "
        f"{_how(case.discovery)}."
        for case in cases
        if case.discovery is not None
    ]


def _how(discovery: Discovery) -> str:
    if discovery.is_remembered:
        return f"remembered from a case before it, in {discovery.time_ms:.1f} ms"
    watched = f"watched in {discovery.time_ms:.1f} ms"
    if discovery.not_kept_because:
        return f"{watched}, and not remembered: {discovery.not_kept_because}"
    return watched
