"""The trend of a history: level steps in the values of many runs, one value per commit. Pure.

Many commits at once show steps that are too small to find in one. Fresh pairs should confirm a
step before it fails anything: values of many days share no job. All calculations are on
logarithms, as the values of runs are. Noise comes from first differences, which a level step or a
slow rise hardly touches: von Neumann, "Distribution of the ratio of the mean square successive
difference to the variance", Annals of Mathematical Statistics 12 (1941).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_vlmlatency.errors import InvalidMeasurement, UsageProblem
from pytest_vlmlatency.stats.noise import Noise, p_above, t_quantile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


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


MAD_TO_SIGMA = 1.4826
"""From the median absolute deviation to the standard deviation of a normal distribution."""

MEDIAN_REACH = 5
"""Values on each side that a running median looks at: it follows a step that lasts six values."""

CLIP_SIGMAS = 3.0
"""Values farther from the running median count as if they lay there."""

DIFFERENCES_EFFICIENCY = 2 / 3
"""Degrees of freedom that n first differences of normal values are worth, over n."""

LOCATION_DROP = 7.35
"""Twice the log likelihood that splits within a 95 % range of the best may lack.

-2 log(1 - sqrt(0.95)): Hansen, "Sample splitting and threshold estimation", Econometrica 68 (2000).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrendRule:
    """How a history's trend is judged. A change is a ratio less one: 0.01 is 1 %.

    `alpha`: the chance that change points are found anywhere in an unchanged series.
    `min_length`: values that a level has at least: fewer are an excursion. `min_effect_ratio`:
    smaller steps are not named. `confidence` is that of intervals.
    """

    alpha: float = 1e-4
    min_length: int = 5
    min_effect_ratio: float = 0.01
    min_noise_ratio: float = 1e-4
    confidence: float = 0.95

    def __post_init__(self) -> None:
        bounds = {"alpha": 0.5, "min_effect_ratio": 1, "min_noise_ratio": 1, "confidence": 1}
        for name, upper in bounds.items():
            value = getattr(self, name)
            if not 0 < value < upper:
                raise UsageProblem(
                    f"{name} of a trend's rule is {value!r}; expected more than 0 and less "
                    f"than {upper}"
                )
        if self.min_length < 2:
            raise UsageProblem(
                f"min_length of a trend's rule is {self.min_length}; expected 2 or more"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePoint:
    """A level step: the value at `index` is the first of the new level.

    `ratio` is the new level over the old one, with its interval; it does not allow for the place
    having been chosen by the largest difference. With 95 % confidence the step lies between
    `first_index` and `last_index`: the commits to look at. `n_before` and `n_after` count the
    values that the two levels rest on. How often both hold is simulated: docs/gate.md.
    """

    index: int
    ratio: float
    low_ratio: float
    high_ratio: float
    first_index: int
    last_index: int
    n_before: int
    n_after: int


@dataclass(frozen=True, slots=True)
class Series:
    """Logs of the values, excursions clipped, and the noise of one value."""

    logs: NDArray[np.float64]
    noise: Noise

    def t_of(self, change: float, n_before: int, n_after: int) -> float:
        """Return a difference of means over its standard error."""
        return change / math.sqrt(self.noise.variance * (1 / n_before + 1 / n_after))

    def p_of(self, t: float) -> float:
        """Return the chance of such a difference, or larger in its direction, by noise alone."""
        return p_above(abs(t), self.noise.df)


def series_of(values_ms: Sequence[float], rule: TrendRule) -> Series:
    """Return a series of at least two values of runs, in ms, oldest first."""
    for index, value_ms in enumerate(values_ms):
        if not 0 < value_ms < math.inf:
            raise InvalidMeasurement(
                f"value {index} of {len(values_ms)} is {value_ms} ms; expected a finite time, more "
                f"than 0. Leave out runs without a value"
            )
    logs = np.log(np.asarray(values_ms, dtype=float))
    noise = _noise_of(logs, rule)
    reach = CLIP_SIGMAS * noise.ratio
    middle = _running_median(logs)
    return Series(np.clip(logs, middle - reach, middle + reach), noise)


def gains_of(logs: NDArray[np.float64], least: int) -> NDArray[np.float64]:
    """Return by how much each split lessens the sum of squares; -inf within `least` of the ends.

    It is (difference of means)^2 n_before n_after / n, so the best split is the likeliest one.
    """
    n = len(logs)
    n_before = np.arange(1, n)
    sums = np.cumsum(logs - logs.mean())[:-1]
    gains = np.full(n, -np.inf)
    gains[1:] = sums**2 * n / (n_before * (n - n_before))
    gains[:least] = gains[n - least + 1 :] = -np.inf
    return gains


def change_point(series: Series, start: int, index: int, end: int, rule: TrendRule) -> ChangePoint:
    """Return the step at `index` between the levels from `start` and up to `end`."""
    logs = series.logs[start:end]
    gains = gains_of(logs, 1)
    drop = LOCATION_DROP * series.noise.variance
    likely = np.flatnonzero(gains >= gains[index - start] - drop) + start
    change = float(series.logs[index:end].mean() - series.logs[start:index].mean())
    n_before, n_after = index - start, end - index
    low_ratio, high_ratio = interval_of(series, change, n_before, n_after, rule)
    return ChangePoint(
        index=index,
        ratio=math.exp(change),
        low_ratio=low_ratio,
        high_ratio=high_ratio,
        first_index=int(likely.min()),
        last_index=int(likely.max()),
        n_before=n_before,
        n_after=n_after,
    )


def interval_of(
    series: Series, change: float, n_before: int, n_after: int, rule: TrendRule
) -> tuple[float, float]:
    """Return the ends of the interval of a difference of means, as ratios."""
    error = math.sqrt(series.noise.variance * (1 / n_before + 1 / n_after))
    room = t_quantile(series.noise.df, (1 - rule.confidence) / 2) * error
    return math.exp(change - room), math.exp(change + room)


def _noise_of(logs: NDArray[np.float64], rule: TrendRule) -> Noise:
    """Return half the mean square of first differences, the largest of them clipped."""
    steps = np.diff(logs)
    reach = CLIP_SIGMAS * MAD_TO_SIGMA * float(np.median(np.abs(steps)))
    clipped = np.clip(steps, -reach, reach)
    variance = max(float(np.mean(clipped**2)) / 2, rule.min_noise_ratio**2)
    return Noise(variance=variance, df=max(1.0, DIFFERENCES_EFFICIENCY * len(steps)))


def _running_median(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median around each value; at the ends, of the values that there are."""
    width = 2 * MEDIAN_REACH + 1
    if len(logs) < width:
        return np.full(len(logs), np.median(logs))
    inner = np.median(np.lib.stride_tricks.sliding_window_view(logs, width), axis=1)
    return np.concatenate(
        (np.full(MEDIAN_REACH, inner[0]), inner, np.full(MEDIAN_REACH, inner[-1]))
    )
