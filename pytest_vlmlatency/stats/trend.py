"""The trend of a history: level steps in the values of many runs, one value a commit. Pure.

A commit judged alone is held against its baseline by `judge`; this looks at many at once, so it
finds steps that are too small for one commit, later and cheaper. What it finds should be confirmed
by fresh pairs before it fails anything: values of many days share no job.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_vlmlatency.stats.series import (
    ChangePoint,
    Series,
    TrendRule,
    change_point,
    gains_of,
    interval_of,
    series_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DECAY = math.sqrt(0.5)
"""From one layer of intervals to the next, their length: the value that Kovacs et al. advise."""


def detect_change_points(
    values_ms: Sequence[float], *, rule: TrendRule | None = None
) -> tuple[ChangePoint, ...]:
    """Return the level steps in values of runs (ms, oldest first), in order.

    Seeded binary segmentation, the narrowest interval first: Kovacs, Buhlmann, Li and Munk,
    "Seeded binary segmentation", Biometrika 110 (2023). A slow rise shows as several steps.
    Leave out throttled runs. Too few values for two levels have no step.
    """
    rule = rule or TrendRule()
    if len(values_ms) < 2 * rule.min_length:
        return ()
    series = series_of(values_ms, rule)
    bounds = [0, *_splits(series, rule), len(values_ms)]
    steps = [
        change_point(series, start, index, end, rule)
        for start, index, end in zip(bounds, bounds[1:], bounds[2:], strict=False)
    ]
    least = math.log1p(rule.min_effect_ratio)
    return tuple(step for step in steps if abs(math.log(step.ratio)) > least)


def detect_alarm(
    values_ms: Sequence[float], *, rule: TrendRule | None = None
) -> ChangePoint | None:
    """Return the step between the last values and those before; None where there is none.

    Ask after each commit. A creep that is slow enough never alarms here, since what it is held
    against creeps along: that is what `detect_creep` is for.
    """
    rule = rule or TrendRule()
    n_values = len(values_ms)
    if n_values < 2 * rule.min_length:
        return None
    series = series_of(values_ms, rule)
    starts = [n_values - window for window in rule.windows if n_values - window >= rule.min_length]
    found = _strongest(
        series, [_Stretches(max(0, start - rule.n_before), start, start) for start in starts], rule
    )
    if found is None:
        return None
    gains = gains_of(series.logs[found.start :], rule.min_length)
    index = found.start + int(np.argmax(gains))
    return change_point(series, found.start, index, n_values, rule)


def detect_creep(
    pinned_ms: Sequence[float], values_ms: Sequence[float], *, rule: TrendRule | None = None
) -> ChangePoint | None:
    """Return the step between a pinned baseline's values and the last ones; None if there is none.

    It may have been a step or a creep: `first_index` to `last_index` is all that came since the
    pin, counted in `values_ms`.
    """
    rule = rule or TrendRule()
    n_pinned, n_values = len(pinned_ms), len(values_ms)
    if n_pinned < rule.min_length:
        return None
    series = series_of([*pinned_ms, *values_ms], rule)
    windows = [window for window in rule.windows if window <= n_values]
    found = _strongest(
        series, [_Stretches(0, n_pinned, n_pinned + n_values - window) for window in windows], rule
    )
    if found is None:
        return None
    logs, index = series.logs, found.after - n_pinned
    change = float(logs[found.after :].mean() - logs[:n_pinned].mean())
    low, high = interval_of(series, change, n_pinned, n_values - index, rule)
    return ChangePoint(
        index=index,
        ratio=math.exp(change),
        low_ratio=low,
        high_ratio=high,
        first_index=0,
        last_index=index,
        n_before=n_pinned,
        n_after=n_values - index,
    )


@dataclass(frozen=True, slots=True)
class _Stretches:
    """Values from `start` up to `stop`, and those from `after` to the end."""

    start: int
    stop: int
    after: int


def _strongest(
    series: Series, stretches: Sequence[_Stretches], rule: TrendRule
) -> _Stretches | None:
    """Return the stretches that differ most surely, None where noise explains each of them."""
    surest: tuple[float, _Stretches] | None = None
    for stretch in stretches:
        before, after = series.logs[stretch.start : stretch.stop], series.logs[stretch.after :]
        change = abs(float(after.mean() - before.mean()))
        p = series.p_of(series.t_of(change, len(before), len(after)))
        is_sure = p < rule.alpha / len(rule.windows) / 2
        if is_sure and change > math.log1p(rule.min_effect_ratio):
            surest = min(surest or (p, stretch), (p, stretch), key=lambda found: found[0])
    return surest[1] if surest else None


def _splits(series: Series, rule: TrendRule) -> list[int]:
    """Return where levels begin, in order."""
    n_values = len(series.logs)
    intervals = list(_seeded_intervals(n_values, 2 * rule.min_length))
    n_tests = sum(end - start for start, end in intervals)
    candidates = sorted(
        (end - start, start, index, end)
        for start, end in intervals
        if (index := _significant_split(series, start, end, rule, n_tests)) is not None
    )
    splits: list[int] = []
    for _, start, index, end in candidates:
        if not any(start < split < end for split in splits):
            splits.append(index)
    return sorted(splits)


def _significant_split(
    series: Series, start: int, end: int, rule: TrendRule, n_tests: int
) -> int | None:
    """Return the best split of an interval, None where noise explains it.

    None, too, where it lies too near to an end for two levels: a large step there would show as a
    smaller one beside it. A longer interval has it inside.
    """
    gains = gains_of(series.logs[start:end], 1)
    best = int(np.argmax(gains))
    if not rule.min_length <= best <= end - start - rule.min_length:
        return None
    t = math.sqrt(max(0.0, float(gains[best])) / series.noise.variance)
    return start + best if series.p_of(t) < rule.alpha / 2 / n_tests else None


def _seeded_intervals(n_values: int, least: int) -> Iterator[tuple[int, int]]:
    """Return intervals of falling length, each layer covering the series twice over or more."""
    length = float(n_values)
    while length >= least:
        whole = math.ceil(length)
        n_intervals = 2 * math.ceil(n_values / length) - 1
        shift = (n_values - whole) / max(1, n_intervals - 1)
        for index in range(n_intervals):
            start = math.floor(index * shift)
            yield start, start + whole
        length *= DECAY
