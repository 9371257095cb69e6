"""What the table says of a case, column by column, as text.

Owns the choice of figures and their digits. A figure is a median and half the interquartile range
over the kept rounds: half of the rounds lie within about that distance of the median.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median, quantiles
from typing import TYPE_CHECKING

from pytest_vlmlatency.case_ids import told_apart
from pytest_vlmlatency.printing import printable
from pytest_vlmlatency.records import CONTENDED_ABOVE
from pytest_vlmlatency.report.predicted import HEADER, predicted_figures, predicted_marks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_vlmlatency.records import Case

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
