"""How often each gate calls simulated runs slower: CI runs of a scene, and commits that creep.

All gates get the same runs: a history of ten, a candidate, and fresh pairs of processes where a
gate uses them. The usual gates are implemented here as their tools document them. Otava's
algorithm judges whole histories, and gets histories of its own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from benchmarks.evidence._simulated_runs import (
    N_COMMITS,
    N_COMPARISONS,
    N_HISTORY,
    N_PAIR_ROUNDS,
    N_ROUNDS,
    N_WARMUP,
    QUIET,
    Scene,
    Times,
    Weather,
    noise_levels,
    simulate_pairs,
    simulate_runs,
)
from benchmarks.evidence._statistics import counted
from pytest_vlmlatency.stats import GateRule, Judgement, Verdict, judge, pool_noise

if TYPE_CHECKING:
    from collections.abc import Callable


Flags = NDArray[np.bool_]

FAIL_RATIO = 1.05
"""`--benchmark-compare-fail=median:5%` of pytest-benchmark."""

MANN_WHITNEY_P = 0.01

ASV_FACTOR = 1.1
ASV_P = 0.002
"""`asv compare`, 0.6: worse by this factor, and Mann and Whitney's two-sided p below this."""

OTAVA_P = 0.001
OTAVA_WEAK = 10
OTAVA_WINDOW = 50
"""Fleming et al., "Hunter: using change point detection to hunt for performance regressions", ICPE
2023, which Apache Otava grew from, with the defaults of Otava 0.8."""


def median_over(last_ms: Times, candidate_ms: Times) -> Flags:
    """Whether the candidate's median is more than 5 % above the last run's."""
    return np.asarray(np.median(candidate_ms, axis=-1) > FAIL_RATIO * np.median(last_ms, axis=-1))


def mann_whitney(last_ms: Times, candidate_ms: Times) -> Flags:
    """Whether the candidate's rounds are slower by Mann and Whitney's one-sided test."""
    test = stats.mannwhitneyu(candidate_ms, last_ms, alternative="greater", axis=-1)
    return np.asarray(test.pvalue < MANN_WHITNEY_P)


def asv_compare(last_ms: Times, candidate_ms: Times) -> Flags:
    """Whether the candidate's median is over 1.1 times the last one's, and the rounds differ."""
    is_worse = np.median(candidate_ms, axis=-1) > ASV_FACTOR * np.median(last_ms, axis=-1)
    test = stats.mannwhitneyu(candidate_ms, last_ms, axis=-1, method="exact")
    return np.asarray(is_worse & (test.pvalue < ASV_P))


def otava_steps(values: Times) -> dict[int, float]:
    """Return where levels begin, with the ratio of the level's mean to that before it.

    In windows of 50 values that overlap by half, E-divisive finds splits, each tested with
    Student's t instead of permutations, at ten times the level. Then the weakest is taken out until
    all that are left differ from their neighbours at the level itself.
    """
    weak: set[int] = set()
    start = 0
    while start < len(values):
        found = [start + split for split in _divided(values[start : start + OTAVA_WINDOW])]
        weak.update(found)
        start = max([start + OTAVA_WINDOW // 2, *found])
    splits = sorted(weak)
    while splits:
        levels = np.split(values, splits)
        chances = [t_test(*both) for both in pairwise(levels)]
        weakest = int(np.argmax(chances))
        if chances[weakest] < OTAVA_P:
            ratios = [after.mean() / before.mean() for before, after in pairwise(levels)]
            return dict(zip(splits, map(float, ratios), strict=True))
        del splits[weakest]
    return {}


def _divided(values: Times) -> list[int]:
    """Return the splits of E-divisive: the likeliest of all segments, while it is significant."""
    splits: list[int] = []
    while True:
        bounds = [0, *splits, len(values)]
        found = [
            (*likeliest_split(values[start:end]), start, end)
            for start, end in pairwise(bounds)
            if end - start > 1
        ]
        if not found:
            return splits
        _, split, start, end = max(found)
        if not t_test(values[start : start + split], values[start + split : end]) < (
            OTAVA_WEAK * OTAVA_P
        ):
            return splits
        splits = sorted([*splits, start + split])


def likeliest_split(values: Times) -> tuple[float, int]:
    """Return the largest scaled energy distance of values[:t] and values[t:k], and its t.

    With sides of n and m values, of all t and all k, it is m n / (m + n) times twice the mean
    distance between the sides less the mean distance within each: Matteson and James, "A
    nonparametric approach for multiple change point analysis of multivariate data", Journal of the
    American Statistical Association 109 (2014), (5) to (7) with alpha = 1.
    """
    distances = np.abs(values[:, None] - values)
    sums = np.pad(distances.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    n_values = len(values)
    n = np.arange(1, n_values)[:, None]
    ends = np.arange(2, n_values + 1)
    m = np.maximum(ends - n, 1)
    left = np.diag(sums)[1:-1, None]
    across = sums[1:-1, 2:] - left
    right = np.diag(sums)[2:] - left - 2 * across
    within = left / np.maximum(n * (n - 1), 1) + right / np.maximum(m * (m - 1), 1)
    energies = np.where(ends > n, m * n / (m + n) * (2 * across / (m * n) - within), -np.inf)
    best = int(np.argmax(energies))
    return float(energies.flat[best]), best // energies.shape[1] + 1


def t_test(left: Times, right: Times) -> float:
    """Return Student's two-sided p of two means, variances taken as equal; 1 for two values."""
    df = len(left) + len(right) - 2
    if df == 0:
        return 1.0
    variance = (len(left) * left.var() + len(right) * right.var()) / df
    error = np.sqrt(variance * (1 / len(left) + 1 / len(right)))
    difference = abs(float(left.mean() - right.mean()))
    if error == 0:
        return 0.0 if difference else 1.0
    return float(2 * special.stdtr(df, -difference / error))


OURS, OTAVA = "pytest-vlmlatency", "Otava's algorithm"
USUAL_GATES: dict[str, Callable[[Times, Times], Flags]] = {
    "pytest-benchmark median:5%": median_over,
    "Mann-Whitney p < 0.01": mann_whitney,
    "asv compare": asv_compare,
}
N_OTAVA_BEFORE, N_OTAVA_LOOKS, MOST_OTAVA_RUNS = 40, 10, 100
SAME_STEP = 5
"""A step this near to one that was reported before is the same, found a little elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """One gate on CI runs of one scene: how many comparisons it called slower, of how many.

    The others are of our gate, 0 elsewhere: of `n_intervals` shown with a change, `n_enclosing`
    hold the true one.
    """

    gate: str
    scene: str
    change_ratio: float
    n_comparisons: int
    n_slower: int
    n_faster: int = 0
    n_same: int = 0
    n_undecided: int = 0
    n_confirmed: int = 0
    n_pairs: int = 0
    n_intervals: int = 0
    n_enclosing: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Creep:
    """Sequences of commits against a pinned baseline: how many a gate ever called slower.

    `caught_at`: after how many commits, for each that was caught.
    """

    gate: str
    change_ratio: float
    n_sequences: int
    caught_at: tuple[int, ...]


def count_scene(scene: Scene, seed: int, *, is_changed: bool, is_ours_alone: bool) -> list[Count]:
    """Return every gate's count over CI runs of comparisons that all changed alike."""
    change = scene.change_ratio if is_changed else 0.0
    n_runs = scene.n_changed_runs if is_changed else scene.n_unchanged_runs
    rng = np.random.default_rng([seed, *map(ord, scene.name), round(1000 * change)])
    seen = Counter[str]()
    slower = Counter[str]()
    shape = (scene.rule.looks[-1], N_PAIR_ROUNDS)
    for _ in counted(n_runs, f"{scene.name}, {change:+.0%}"):
        levels = noise_levels(scene.weather, scene.n_comparisons, rng)
        history = simulate_runs(scene.weather, levels, (scene.n_history, N_ROUNDS), rng)
        candidate = simulate_runs(scene.weather, levels, (1, N_ROUNDS), rng, change=change)[:, 0]
        pairs = simulate_pairs(scene.weather, levels, shape, rng, change=change)
        for judgement in judged(history, candidate, pairs, scene.rule):
            seen += Counter(_seen(judgement, 1 + change))
        if not is_ours_alone:
            slower += _usual_verdicts(history, candidate)
    n_all = n_runs * scene.n_comparisons

    def of(gate: str, n_comparisons: int, **counts: int) -> Count:
        return Count(
            gate=gate,
            scene=scene.name,
            change_ratio=change,
            n_comparisons=n_comparisons,
            **counts,
        )

    ours = of(OURS, n_all, **{f"n_{what}": seen[what] for what in SEEN})
    if is_ours_alone:
        return [ours]
    n_found, n_series = _otava_found(scene.weather, min(n_runs, MOST_OTAVA_RUNS), change, rng)
    usual = [of(gate, n_all, n_slower=slower[gate]) for gate in USUAL_GATES]
    return [ours, *usual, of(OTAVA, n_series, n_slower=n_found)]


SEEN = ("slower", "faster", "same", "undecided", "confirmed", "pairs", "intervals", "enclosing")


def _seen(judgement: Judgement, true_ratio: float) -> dict[str, int]:
    low, high = judgement.low_ratio, judgement.high_ratio
    return {
        "slower": judgement.verdict is Verdict.SLOWER,
        "faster": judgement.verdict is Verdict.FASTER,
        "same": judgement.verdict is Verdict.SAME,
        "undecided": judgement.verdict is Verdict.UNDECIDED,
        "confirmed": judgement.n_pairs > 0,
        "pairs": judgement.n_pairs,
        "intervals": low is not None,
        "enclosing": low is not None and high is not None and low <= true_ratio <= high,
    }


def judged(history: Times, candidate: Times, pairs: Times, rule: GateRule) -> list[Judgement]:
    """Return our gate's judgements of the comparisons of one CI run."""
    histories = history.tolist()
    noise = pool_noise(histories, rule=rule)
    return [
        judge(
            histories[index],
            candidate[index].tolist(),
            pairs=lambda n, fresh=fresh: fresh[:n].tolist(),  # type: ignore[misc]  # bound here
            noise=noise,
            rule=rule,
        )
        for index, fresh in enumerate(pairs)
    ]


def _usual_verdicts(history: Times, candidate: Times) -> Counter[str]:
    last, now = history[:, -1, N_WARMUP:], candidate[:, N_WARMUP:]
    return Counter({name: int(gate(last, now).sum()) for name, gate in USUAL_GATES.items()})


def run_values(runs: Times) -> Times:
    """Return the median of each run's rounds after warm-up: what Otava's users give it."""
    return np.median(runs[..., N_WARMUP:], axis=-1)


def _otava_found(
    weather: Weather, n_runs: int, change: float, rng: np.random.Generator
) -> tuple[int, int]:
    """Return in how many series a step up is newly reported, and the number of series.

    Forty runs without a change, then runs of the candidate: ten with a change, one without.
    """
    n_looks = N_OTAVA_LOOKS if change else 1
    n_found = 0
    for _ in counted(n_runs, f"{OTAVA}: {weather.name}, {change:+.0%}"):
        levels = noise_levels(weather, N_COMPARISONS, rng)
        before = simulate_runs(weather, levels, (N_OTAVA_BEFORE, N_ROUNDS), rng)
        after = simulate_runs(weather, levels, (n_looks, N_ROUNDS), rng, change=change)
        series = run_values(np.concatenate([before, after], axis=1))
        n_found += sum(newly_found_at(values, N_OTAVA_BEFORE) is not None for values in series)
    return n_found, n_runs * N_COMPARISONS


def newly_found_at(values: Times, n_before: int) -> int | None:
    """Return after how many more values a step up is first reported; None: after none of them."""
    known = _steps_up(values[:n_before])
    for n_more in range(1, len(values) - n_before + 1):
        for step in _steps_up(values[: n_before + n_more]):
            if all(abs(step - old) > SAME_STEP for old in known):
                return n_more
    return None


def _steps_up(values: Times) -> list[int]:
    return [index for index, ratio in otava_steps(values).items() if ratio > 1]


def count_creeps(creep_ratio: float, n_sequences: int, seed: int) -> list[Creep]:
    """Return of each gate when it caught sequences of commits that each add a little.

    Each commit is judged against the pinned runs of the first; the usual gates against the last of
    those. The sequences are the comparisons of one CI run.
    """
    rng = np.random.default_rng([seed, N_COMMITS, round(10_000 * creep_ratio)])
    levels = noise_levels(QUIET, n_sequences, rng)
    pinned = simulate_runs(QUIET, levels, (N_HISTORY, N_ROUNDS), rng)
    rule = GateRule()
    first: dict[str, dict[int, int]] = {gate: {} for gate in (OURS, *USUAL_GATES, OTAVA)}
    values = [run_values(pinned)]
    for commit in counted(N_COMMITS, f"{N_COMMITS} commits, {creep_ratio:+.1%} each"):
        change = (1 + creep_ratio) ** (commit + 1) - 1
        run = simulate_runs(QUIET, levels, (1, N_ROUNDS), rng, change=change)
        pairs = simulate_pairs(QUIET, levels, (rule.looks[-1], N_PAIR_ROUNDS), rng, change=change)
        verdicts = [judgement.verdict for judgement in judged(pinned, run[:, 0], pairs, rule)]
        flags = {OURS: np.array([verdict is Verdict.SLOWER for verdict in verdicts])}
        for name, gate in USUAL_GATES.items():
            flags[name] = gate(pinned[:, -1, N_WARMUP:], run[:, 0, N_WARMUP:])
        for name, slower in flags.items():
            for index in np.flatnonzero(slower).tolist():
                first[name].setdefault(index, commit + 1)
        values.append(run_values(run))
    for index, series in enumerate(np.concatenate(values, axis=1)):
        found = newly_found_at(series, N_HISTORY)
        if found is not None:
            first[OTAVA][index] = found
    return [
        Creep(
            gate=gate,
            change_ratio=creep_ratio,
            n_sequences=n_sequences,
            caught_at=tuple(sorted(commits.values())),
        )
        for gate, commits in first.items()
    ]
