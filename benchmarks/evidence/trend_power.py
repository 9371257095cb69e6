"""How often change points are found where there are none, how soon where there is one, and where.

What is simulated and counted is in `_trend_counts`. No constant of a trend was chosen by this seed.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from benchmarks.evidence._gate_scenes import CREEP_RATIO, N_ROUNDS, QUIET, TAILS
from benchmarks.evidence._record import Claim, Evidence, now, publish_figures, read_machine, say
from benchmarks.evidence._simulated_runs import Weather
from benchmarks.evidence._statistics import rate_interval
from benchmarks.evidence._table import table
from benchmarks.evidence._trend_counts import (
    N_AFTER,
    N_BEFORE,
    N_EARLY_LOOKS,
    STEP_RATIO,
    WITHIN,
    Trend,
    trend_of,
)
from pytest_vlmlatency.machine.cpu import pinned_threads
from pytest_vlmlatency.stats import TrendRule

NAME = "trend_power"
SEED = 20261122
CALM = Weather(name="0.3 %, between 0.3 %", within_ratio=0.003, between_ratio=0.003, spread=0)
WEATHERS = (CALM, QUIET, TAILS)
N_UNCHANGED, N_STEPS = 20_000, 2000
FOUND_RATIO = 0.95


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
    n_looks = trend.n_steps * N_EARLY_LOOKS
    return (
        Claim(
            text=f"{trend.weather}: at most 1 in {1 / alpha:,.0f} series without a step has one.",
            holds=trend.n_false <= alpha * trend.n_unchanged,
            seen=f"{trend.n_false} of {trend.n_unchanged:,}.",
        ),
        Claim(
            text=f"{trend.weather}: at most 1 in {1 / alpha:,.0f} looks before a step alarms.",
            holds=trend.n_early <= alpha * n_looks,
            seen=f"{trend.n_early} of {n_looks:,}.",
        ),
        Claim(
            text=f"{trend.weather}: {STEP_RATIO:+.0%} alarms within {WITHIN} commits in at least "
            f"{FOUND_RATIO:.0%} of series.",
            holds=trend.n_soon >= FOUND_RATIO * trend.n_steps,
            seen=f"{_share(trend.n_soon, trend.n_steps)}.",
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
    (f"an alarm within {WITHIN} commits", lambda trend: _share(trend.n_soon, trend.n_steps)),
    ("commits until the alarm, median", lambda trend: f"{median(trend.delays or (0,)):.0f}"),
    ("a creep is found", lambda trend: _share(trend.n_crept, trend.n_steps)),
    ("it lies between the commits named", lambda trend: _share(trend.n_located, trend.n_one)),
    ("its size lies in the interval", lambda trend: _share(trend.n_enclosed, trend.n_one)),
)


def _share(n: int, n_all: int, digits: int = 1) -> str:
    low, high = rate_interval(n, n_all)
    return f"{n / n_all:.{digits}%} [{100 * low:.{digits}f}, {100 * high:.{digits}f}]"


if __name__ == "__main__":
    sys.exit(main())
