"""Simulated runs with the noise of real ones, and the scenes that gates are tried on.

A run's rounds are one level, drawn for its process, times what changes from round to round:
autocorrelated noise, spikes, throttling that comes and goes, and a warm-up that fades. A changed
candidate differs in its level alone. tests/evidence draws many runs and checks the size of each
part. Random numbers come from the caller's generator alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pytest_vlmlatency.records import TARGET_RATIO
from pytest_vlmlatency.stats import GateRule

Times = NDArray[np.float64]
MS = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """The noise of a machine; shares of the latency, so 0.01 is 1 %.

    `within_ratio`: standard deviation of a round's log, of which `autocorrelation` is kept from
    round to round. `between_ratio`: of a process's level, the root mean square over comparisons;
    each comparison has a level of noise of its own, `spread` being the standard deviation of its
    log. `level_df`: Student's t instead of a normal process level, scaled to the same deviation.

    `spike_share` of the rounds take longer by an exponential share of mean `spike_ratio`.
    Throttling starts before a round with `throttle_rate` and ends with `recovery_rate`; a run's
    throttled rounds take longer by one share, drawn between the two `throttle_ratios`: level steps
    up and down. Runs begin cool, as after imports and a load, or, if `is_hot`, in the middle of it.
    The first round takes longer by `warmup_ratio`, each following one by `warmup_decay` of that of
    the one before it. `drift_ratio`: from one process of a job to the next, all rounds take this
    much longer.
    """

    name: str
    within_ratio: float
    between_ratio: float
    autocorrelation: float = 0.3
    spread: float = 0.3
    level_df: float | None = None
    spike_share: float = 0.01
    spike_ratio: float = 0.1
    throttle_rate: float = 0.0
    recovery_rate: float = 0.1
    throttle_ratios: tuple[float, float] = (0.03, 0.15)
    is_hot: bool = False
    warmup_ratio: float = 0.2
    warmup_decay: float = 0.2
    drift_ratio: float = 0.0005


def noise_levels(weather: Weather, n: int, rng: np.random.Generator) -> Times:
    """Return the between-run noise of `n` comparisons; its root mean square is the weather's."""
    factors = np.exp(weather.spread * rng.standard_normal(n) - weather.spread**2)
    return weather.between_ratio * factors


def simulate_runs(
    weather: Weather,
    levels: Times,
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    change: float = 0.0,
) -> Times:
    """Return rounds in ms: comparisons with these noise levels x runs x rounds."""
    n_runs, n_rounds = shape
    runs = (len(levels), n_runs)
    log = math.log(MS * (1 + change)) + levels[:, None] * _standard_levels(weather, runs, rng)
    rounds = _autocorrelated(weather, (*runs, n_rounds), rng)
    rounds += _spikes(weather, rounds.shape, rng)
    rounds += np.log1p(weather.warmup_ratio * weather.warmup_decay ** np.arange(n_rounds))
    if weather.throttle_rate:
        rounds += _throttling(weather, rounds.shape, rng)
    return np.exp(log[..., None] + rounds)


def simulate_pairs(
    weather: Weather,
    levels: Times,
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    change: float = 0.0,
) -> Times:
    """Return fresh pairs in ms: comparisons x pairs x (baseline, candidate) x rounds.

    They are launched in ABBA order under the weather's drift: baseline first, then candidate first.
    """
    n_pairs, _ = shape
    sides = [
        simulate_runs(weather, levels, shape, rng, change=side_change)
        for side_change in (0.0, change)
    ]
    launches = np.array([(0, 1) if pair % 2 == 0 else (1, 0) for pair in range(n_pairs)])
    launches += 2 * np.arange(n_pairs)[:, None]
    return np.stack(sides, axis=2) * (1 + weather.drift_ratio) ** launches[..., None]


def _standard_levels(weather: Weather, shape: tuple[int, int], rng: np.random.Generator) -> Times:
    """Return levels of variance 1."""
    if weather.level_df is None:
        return rng.standard_normal(shape)
    df = weather.level_df
    return rng.standard_t(df, shape) * math.sqrt((df - 2) / df)


def _autocorrelated(
    weather: Weather, shape: tuple[int, int, int], rng: np.random.Generator
) -> Times:
    """Return an AR(1) process along the last axis, stationary from its first round on."""
    keep = weather.autocorrelation
    rounds = weather.within_ratio * rng.standard_normal(shape)
    for index in range(1, shape[-1]):
        rounds[..., index] *= math.sqrt(1 - keep**2)
        rounds[..., index] += keep * rounds[..., index - 1]
    return rounds


def _spikes(weather: Weather, shape: tuple[int, ...], rng: np.random.Generator) -> Times:
    """Return what interrupts and neighbours add to a few rounds, in logs."""
    hit = rng.random(shape) < weather.spike_share
    spikes = np.zeros(shape)
    spikes[hit] = np.log1p(rng.exponential(weather.spike_ratio, int(hit.sum())))
    return spikes


def _throttling(weather: Weather, shape: tuple[int, int, int], rng: np.random.Generator) -> Times:
    """Return a Markov chain of two states along the last axis, in logs; stationary if it is hot."""
    start, end = weather.throttle_rate, weather.recovery_rate
    at_first = start / (start + end) if weather.is_hot else start
    chances = rng.random(shape)
    throttled = np.empty(shape, dtype=bool)
    throttled[..., 0] = chances[..., 0] < at_first
    for index in range(1, shape[-1]):
        stays = chances[..., index] >= end
        starts = chances[..., index] < start
        throttled[..., index] = np.where(throttled[..., index - 1], stays, starts)
    sizes = rng.uniform(*weather.throttle_ratios, shape[:-1])
    return throttled * np.log1p(sizes)[..., None]


N_HISTORY, N_ROUNDS, N_WARMUP, N_PAIR_ROUNDS = 10, 20, 2, 7
N_COMPARISONS = 100
"""In one CI run: their noise is pooled."""

MOST_FALSE = 1e-4
"""1 in 100 CI runs of 100 comparisons."""

N_CREEPS, N_COMMITS, CREEP_RATIO, CREEP_POWER = 200, 50, 0.001, 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A machine's noise, a change to be found in it, and what share of such changes has to be.

    The share has no bound where `power_ratio` is None. `target_ratio` is the gate's.
    `n_history` runs are stored. `most_same_ratio`: at most this share of the changes may be called
    the same, where that has a bound. `n_unchanged_runs` and `n_changed_runs` count CI runs of
    `n_comparisons`, whose noise is pooled.
    """

    weather: Weather
    change_ratio: float
    power_ratio: float | None
    target_ratio: float = TARGET_RATIO
    n_history: int = N_HISTORY
    most_same_ratio: float | None = None
    n_unchanged_runs: int = 1000
    n_changed_runs: int = 100
    n_comparisons: int = N_COMPARISONS

    @property
    def rule(self) -> GateRule:
        """The rule as a user gets it who asks for this target, or for none."""
        is_usual = self.target_ratio == TARGET_RATIO
        return GateRule() if is_usual else GateRule.for_target(self.target_ratio)

    @property
    def name(self) -> str:
        """The noise, and the target and the stored runs where they are not the usual ones."""
        target = "" if self.target_ratio == TARGET_RATIO else f", target {self.target_ratio:.0%}"
        stored = "" if self.n_history == N_HISTORY else f", {self.n_history} stored"
        alone = "" if self.n_comparisons == N_COMPARISONS else ", alone"
        return self.weather.name + target + stored + alone


QUIET = Weather(name="1 %, between 1 %", within_ratio=0.01, between_ratio=0.01, spread=0)
LOUD = Weather(name="2 %, between 2 %", within_ratio=0.02, between_ratio=0.02, spread=0)
TAILS = Weather(
    name="heavy tails",
    within_ratio=0.01,
    between_ratio=0.01,
    level_df=5,
    spike_share=0.1,
    spike_ratio=0.2,
)
THROTTLING = Weather(name="throttling", within_ratio=0.01, between_ratio=0.01, throttle_rate=0.02)
HOT = replace(THROTTLING, name="throttling, hot", is_hot=True)

SCENES = (
    Scene(weather=QUIET, change_ratio=0.03, power_ratio=0.95),
    Scene(weather=LOUD, change_ratio=0.05, power_ratio=0.97),
    Scene(weather=TAILS, change_ratio=0.03, power_ratio=0.95),
    Scene(weather=THROTTLING, change_ratio=0.03, power_ratio=0.84),
    Scene(weather=HOT, change_ratio=0.03, power_ratio=None),
)
"""In which all gates are tried. The powers are what the gate was built to reach."""

TARGETS = (
    Scene(
        weather=QUIET,
        change_ratio=0.02,
        power_ratio=0.95,
        target_ratio=0.02,
        n_unchanged_runs=200,
        n_changed_runs=30,
    ),
    Scene(
        weather=LOUD,
        change_ratio=0.05,
        power_ratio=0.95,
        target_ratio=0.05,
        n_unchanged_runs=200,
        n_changed_runs=30,
    ),
)
"""Other targets, our gate alone."""

MOST_SAME = 0.01
SHORT = tuple(
    Scene(
        weather=Weather(
            name=f"2 %, between {between:.0%}", within_ratio=0.02, between_ratio=between
        ),
        change_ratio=0.05,
        power_ratio=None,
        n_history=n_history,
        most_same_ratio=MOST_SAME,
        n_unchanged_runs=3000 // n_comparisons,
        n_changed_runs=3000 // n_comparisons,
        n_comparisons=n_comparisons,
    )
    for between in (0.05, 0.08)
    for n_comparisons in (N_COMPARISONS, 1)
    for n_history in (1, 2, 3, 5)
)
"""Short histories on noisy machines, our gate alone: of a hundred comparisons, and of a single one,
which has no others to learn its noise from."""
