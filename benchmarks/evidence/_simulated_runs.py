"""Simulated runs: round times with the noise that real ones have, each part of it set by hand.

A run's rounds are one level, drawn for its process, times what happens round by round:
autocorrelated noise, spikes, throttling that comes and goes, and a warm-up that fades. A changed
candidate differs by its level alone. The parts are calibrated: tests/evidence draw many runs and
find each part as large as it is said to be. Random numbers come from the caller's generator alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
