"""How often change points are found where there are none, and where there is one, and where.

Series are values of simulated runs, one run a commit. `detect_change_points`, which `vlmlatency
trend` shows, is compared with Otava's algorithm. No constant was chosen with this seed.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.evidence._gate_counts import otava_steps, run_values
from benchmarks.evidence._record import Claim, Evidence, now, publish_figures, read_machine, say
from benchmarks.evidence._simulated_runs import (
    CREEP_RATIO,
    N_ROUNDS,
    N_WARMUP,
    QUIET,
    TAILS,
    Times,
    Weather,
    noise_levels,
    simulate_runs,
)
from benchmarks.evidence._statistics import counted, rate_interval, table
from pytest_vlmlatency.machine.cpu import pinned_threads
from pytest_vlmlatency.stats import GateRule, TrendRule, detect_change_points

N_BEFORE, N_AFTER, STEP_RATIO = 60, 40, 0.03
N_PER_DRAW = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """Series of one noise: in how many without a step one is found, and what is found of a step.

    `n_one`: series with a step of which just one is found. Of those, `n_located` have it within the
    commits that are named, and `n_enclosed` its size within the interval shown. `n_crept`: series
    with a creep in place of the step where one is found.
    """

    weather: str
    n_unchanged: int
    n_false: int
    n_false_otava: int
    n_steps: int
    n_found: int
    n_found_otava: int
    n_one: int
    n_located: int
    n_enclosed: int
    n_crept: int


def trend_of(weather: Weather, n_unchanged: int, n_steps: int, *, seed: int) -> Trend:
    """Return what is found in series without a step, and in others with one after 60 commits."""
    rng = np.random.default_rng(seed)
    seen = Counter[str]()
    for values, medians in _series(weather, n_unchanged, 0.0, rng):
        seen["false"] += bool(detect_change_points(values.tolist()))
        seen["false_otava"] += bool(otava_steps(medians))
    for values, medians in _series(weather, n_steps, STEP_RATIO, rng):
        seen += Counter(_seen(values))
        seen["found_otava"] += any(ratio > 1 for ratio in otava_steps(medians).values())
    creep = (1 + CREEP_RATIO) ** np.maximum(0, np.arange(1 - N_BEFORE, N_AFTER + 1))
    for values, _ in _series(weather, n_steps, 0.0, rng):
        seen["crept"] += any(
            found.ratio > 1 for found in detect_change_points((values * creep).tolist())
        )
    return Trend(
        weather=weather.name,
        n_unchanged=n_unchanged,
        n_steps=n_steps,
        **{f"n_{what}": seen[what] for what in SEEN},
    )


SEEN = (
    "false",
    "false_otava",
    "found",
    "found_otava",
    "one",
    "located",
    "enclosed",
    "crept",
)


def _series(
    weather: Weather, n_series: int, step: float, rng: np.random.Generator
) -> Iterator[tuple[Times, Times]]:
    """Yield series of runs' values, by our gate and their medians; larger from commit 60 on."""
    for index in counted(n_series, f"{weather.name}, {step:+.0%}"):
        at = index % N_PER_DRAW
        if at == 0:
            levels = noise_levels(weather, N_PER_DRAW, rng)
            before = simulate_runs(weather, levels, (N_BEFORE, N_ROUNDS), rng)
            after = simulate_runs(weather, levels, (N_AFTER, N_ROUNDS), rng, change=step)
            runs = np.concatenate([before, after], axis=1)
            values, medians = gate_values(runs), run_values(runs)
        yield values[at], medians[at]


def gate_values(runs: Times) -> Times:
    """Return the values that our gate gives runs, in ms: many at once."""
    kept = np.sort(np.log(runs[..., N_WARMUP:]), axis=-1)
    n_fastest = int(np.ceil(kept.shape[-1] * GateRule().fastest_share))
    return np.asarray(np.exp(kept[..., :n_fastest].mean(axis=-1)))


def _seen(values: Times) -> dict[str, int]:
    steps = detect_change_points(values.tolist())
    is_one = len(steps) == 1
    return {
        "found": any(step.ratio > 1 for step in steps),
        "one": is_one,
        "located": is_one and steps[0].first_index <= N_BEFORE <= steps[0].last_index,
        "enclosed": is_one and steps[0].low_ratio <= 1 + STEP_RATIO <= steps[0].high_ratio,
    }


NAME = "trend_power"
SEED = 20261122
CALM = Weather(name="0.3 %, between 0.3 %", within_ratio=0.003, between_ratio=0.003, spread=0)
WEATHERS = (CALM, QUIET, TAILS)
N_UNCHANGED, N_STEPS = 20_000, 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All of it."""

    trends: tuple[Trend, ...]


def main() -> int:
    """Simulate, detect, and publish."""
    started_at = now()
    with pinned_threads(1):
        machine = read_machine()
        trends = []
        for number, weather in enumerate(WEATHERS):
            trends.append(trend_of(weather, N_UNCHANGED, N_STEPS, seed=SEED + number))
            say(f"{weather.name}: done")
    figures = Figures(trends=tuple(trends))
    return publish_figures(
        NAME, figures, claims_of, describe, seed=SEED, started_at=started_at, environment=machine
    )


def claims_of(figures: Figures) -> tuple[Claim, ...]:
    """Return what is claimed of a trend in each noise, and whether it held."""
    return tuple(claim for trend in figures.trends for claim in _claims_of(trend))


def _claims_of(trend: Trend) -> tuple[Claim, ...]:
    alpha = TrendRule().alpha
    return (
        Claim(
            text=f"{trend.weather}: at most 1 in {1 / alpha:,.0f} series without a step has one.",
            holds=trend.n_false <= alpha * trend.n_unchanged,
            seen=f"{trend.n_false} of {trend.n_unchanged:,}.",
        ),
        Claim(
            text=f"{trend.weather}: it lies between the commits that are named in at least 95% of "
            f"series where it alone is found.",
            holds=trend.n_located >= 0.95 * trend.n_one,
            seen=f"{_share(trend.n_located, trend.n_one)}.",
        ),
    )


def describe(evidence: Evidence[Figures]) -> str:
    """Return the table of what is found, a column for each noise."""
    trends = evidence.figures.trends
    rows = [[text, *(share(trend) for trend in trends)] for text, share in ROWS]
    headers = ["", *(trend.weather for trend in trends)]
    return f"{INTRODUCTION}\n\n{table(headers, rows)}"


INTRODUCTION = f"""\
Series of {N_BEFORE + N_AFTER} commits, a run of {N_ROUNDS} rounds each, with a step of \
{STEP_RATIO:+.0%} after {N_BEFORE}, with a creep of {CREEP_RATIO:+.1%} a commit instead, or level; \
noise as above. The last two rows are of series where just one step is found. The interval of its \
size is of 95 % in name: that the place was chosen by the largest difference is not allowed for."""

ROWS: tuple[tuple[str, Callable[[Trend], str]], ...] = (
    ("a step is found where none is", lambda trend: _share(trend.n_false, trend.n_unchanged, 2)),
    (
        "the same, Otava's algorithm",
        lambda trend: _share(trend.n_false_otava, trend.n_unchanged, 2),
    ),
    ("the step is found", lambda trend: _share(trend.n_found, trend.n_steps)),
    ("the same, Otava's algorithm", lambda trend: _share(trend.n_found_otava, trend.n_steps)),
    ("it is found, and nothing else", lambda trend: _share(trend.n_one, trend.n_steps)),
    ("a creep is found", lambda trend: _share(trend.n_crept, trend.n_steps)),
    ("it lies between the commits named", lambda trend: _share(trend.n_located, trend.n_one)),
    ("its size lies in the interval", lambda trend: _share(trend.n_enclosed, trend.n_one)),
)


def _share(n: int, n_all: int, digits: int = 1) -> str:
    low, high = rate_interval(n, n_all)
    return f"{n / n_all:.{digits}%} [{100 * low:.{digits}f}, {100 * high:.{digits}f}]"


if __name__ == "__main__":
    sys.exit(main())
