"""A trend for a terminal: where a series changed its level, between which commits, and its strip.

Pure: a Trend in, lines with a tone out.

A series as one line of text, so that people can look at it. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from shlex import quote
from statistics import median
from typing import TYPE_CHECKING

from pytest_vlmlatency.case_ids import told_apart
from pytest_vlmlatency.printing import plural, short_commit
from pytest_vlmlatency.records import GateStatus
from pytest_vlmlatency.report.gate_terminal import Line, Tone
from pytest_vlmlatency.report.gate_words import interval_text
from pytest_vlmlatency.report.terminal import wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_vlmlatency.records import Trend, TrendSeries, TrendStep


MOST_COMMITS = 10
DEFAULT_WIDTH = 80
INDENT = "  "


def trend_lines(trend: Trend, *, width: int | None, has_all: bool = False) -> tuple[Line, ...]:
    """Return the whole page; `has_all` shows the series without a step, too."""
    told = f"vlm trend: {_counts(trend)} in {plural(trend.n_runs, 'run')} of {_commits(trend)}"
    lines = [Line(text) for text in wrapped([f"{told}, {trend.described}"], width)]
    names = told_apart((series.case_id, series.case_name) for series in trend.series)
    named = zip(names, trend.series, strict=True)
    shown = [(name, series) for name, series in named if series.steps or has_all]
    for name, series in shown:
        lines += [Line(""), *_series(series, name, width)]
    if shown:
        lines.append(Line(""))
    remarks = [*_hidden(trend, len(shown)), *trend.remarks]
    lines += [Line(text) for text in wrapped(remarks, width)]
    return (*lines, *(Line(text, _tone_of(trend)) for text in wrapped([_status(trend)], width)))


def _counts(trend: Trend) -> str:
    n_slower = sum(series.is_slower for series in trend.series)
    return f"{n_slower} of {len(trend.series)} series became slower"


def _commits(trend: Trend) -> str:
    return plural(trend.n_commits, "commit")


def _series(series: TrendSeries, name: str, width: int | None) -> Iterator[Line]:
    tone = Tone.BAD if series.is_slower else Tone.GOOD if series.steps else Tone.PLAIN
    values = [point.value_ms for point in series.points]
    outcome = series.reason or ("; ".join(map(_step_text, series.steps)) or "no step")
    head = f"{name} {series.phase}: {outcome}"
    yield from (Line(text, tone) for text in wrapped([head], width))
    if values:
        room = (width or DEFAULT_WIDTH) - len(INDENT)
        strip = strip_of(values, breaks=[step.position for step in series.steps], width=room)
        yield Line(INDENT + strip.text, tone)
        left_out = f", {_left_out(series)}" if series.n_left_out else ""
        span = f"the strip spans {strip.bottom:.2f} to {strip.top:.2f} ms"
        yield from (
            Line(INDENT + text)
            for text in wrapped([f"{plural(len(values), 'run')}{left_out}; {span}"], room)
        )
    elif series.n_left_out:
        yield Line(INDENT + _left_out(series))
    file = series.case_id.partition("::")[0]
    for step in series.steps:
        for text in wrapped(_between(step, file), None if width is None else width - len(INDENT)):
            yield Line(INDENT + text)


def _left_out(series: TrendSeries) -> str:
    """Return how many runs are no point of a series, and why: `3 left out (3 contended)`."""
    causes = ", ".join(f"{number} {cause}" for cause, number in series.left_out_because.items())
    return f"{series.n_left_out} left out" + (f" ({causes})" if causes else "")


def _step_text(step: TrendStep) -> str:
    effect = interval_text(step.change_ratio, step.low_ratio, step.high_ratio)
    return f"{effect}, {step.before_ms:.2f} → {step.after_ms:.2f} ms"


def _between(step: TrendStep, file: str) -> list[str]:
    """Return between which commits a step lies, what they did, and how to measure them anew."""
    if step.last_good is None or step.first_bad is None:
        return ["The runs around it know no commit."]
    good, bad = short_commit(step.last_good), short_commit(step.first_bad)
    if step.last_good == step.first_bad:
        return [f"At one commit, {bad}: not the code, but what it ran on."]
    hidden = len(step.commits) - MOST_COMMITS
    more = [f"{INDENT}and {hidden} more"] if hidden > 0 else []
    return [
        f"Between commits: last before it {good}, first with it {bad}.",
        *(f"{INDENT}{commit}" for commit in step.commits[:MOST_COMMITS]),
        *more,
        f"To be sure: vlmlatency ab {good} {bad} -- {quote(file)}",
    ]


def _hidden(trend: Trend, n_shown: int) -> list[str]:
    n_hidden = len(trend.series) - n_shown
    if not n_hidden:
        return []
    hidden = [series for series in trend.series if not series.steps]
    most = max(hidden, key=lambda series: series.n_left_out)
    left_out = f"; in {most.case_name} {most.phase} {_left_out(most)}" if most.n_left_out else ""
    return [f"{n_hidden} series without a step (--all lists them){left_out}."]


def _tone_of(trend: Trend) -> Tone:
    return Tone.GOOD if trend.status is GateStatus.PASSED else Tone.BAD


def _status(trend: Trend) -> str:
    if trend.status is GateStatus.SLOWER:
        return f"Exit status {trend.status.value}: the latest step of a series is one to slower."
    if trend.status is GateStatus.NOT_APPLIED:
        return f"Exit status {trend.status.value}: no series was long enough to be looked at."
    n_short = sum(bool(series.reason) for series in trend.series)
    if n_short:
        n_looked = len(trend.series) - n_short
        return (
            f"No series ends slower than it was, of the {n_looked} with enough runs; {n_short} "
            f"had too few to be looked at."
        )
    return "No series ends slower than it was."


HEIGHTS = "▁▂▃▄▅▆▇█"
BREAK = "│"
LEAST_RANGE_RATIO = 0.04
"""A strip spans at least 4 % of its middle, so that noise of 1 % does not look like mountains."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """A line of blocks, and the values at its bottom and top."""

    text: str
    bottom: float
    top: float


def strip_of(values: Sequence[float], *, breaks: Sequence[int] = (), width: int) -> Strip:
    """Return a strip of at most `width` characters, a bar before each position in `breaks`.

    Where there are more values than room, each block is the median of its neighbours; no block
    reaches over a break.
    """
    assert values, "nothing to draw"
    n_blocks = max(width - len(breaks), len(breaks) + 1)
    blocks = [_shrunk(part, _share(part, values, n_blocks)) for part in _parts(values, breaks)]
    shown = [value for block in blocks for value in block]
    bottom, top = _range(shown)
    text = BREAK.join("".join(_height(value, bottom, top) for value in block) for block in blocks)
    return Strip(text=text, bottom=bottom, top=top)


def _parts(values: Sequence[float], breaks: Sequence[int]) -> list[Sequence[float]]:
    ends = [0, *sorted(breaks), len(values)]
    parts = [values[start:end] for start, end in pairwise(ends)]
    return [part for part in parts if part]


def _share(part: Sequence[float], values: Sequence[float], n_blocks: int) -> int:
    """Return how many blocks a part may have of all."""
    if len(values) <= n_blocks:
        return len(part)
    return max(1, len(part) * n_blocks // len(values))


def _shrunk(values: Sequence[float], n_blocks: int) -> list[float]:
    edges = [len(values) * index // n_blocks for index in range(n_blocks + 1)]
    return [median(values[start:end]) for start, end in pairwise(edges)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    bottom, top = min(values), max(values)
    missing = LEAST_RANGE_RATIO * (bottom + top) / 2 - (top - bottom)
    return (bottom - missing / 2, top + missing / 2) if missing > 0 else (bottom, top)


def _height(value: float, bottom: float, top: float) -> str:
    share = (value - bottom) / (top - bottom) if top > bottom else 0.5
    return HEIGHTS[min(int(share * len(HEIGHTS)), len(HEIGHTS) - 1)]
