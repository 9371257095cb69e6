"""What is found in simulated series of commits: of a step, of a creep, and where there is neither.

Series are values of simulated runs, a run a commit. What is asked: `detect_change_points`, which
`vlmlatency trend` shows, beside Otava's algorithm; and `detect_alarm` after each commit.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.evidence._gate_counts import run_values
from benchmarks.evidence._gate_scenes import CREEP_RATIO, N_ROUNDS, N_WARMUP
from benchmarks.evidence._progress import counted
from benchmarks.evidence._simulated_runs import Times, Weather, noise_levels, simulate_runs
from benchmarks.evidence._usual_gates import otava_steps
from pytest_vlmlatency.stats import GateRule, TrendRule, detect_alarm, detect_change_points

N_BEFORE, N_AFTER, STEP_RATIO = 60, 40, 0.03
FIRST_LOOK = 2 * TrendRule().min_length
N_EARLY_LOOKS = N_BEFORE + 1 - FIRST_LOOK
WITHIN = 10
"""Commits within which an alarm is to come."""
N_PER_DRAW = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """Series of one noise: in how many without a step one is found, and what is found of a step.

    `n_one`: series with a step of which just one is found. Of those, `n_located` have it within the
    commits that are named, and `n_enclosed` its size within the interval shown. `delays`: of each
    series that alarms once the step came, the number of commits with it by then. `n_early`: looks
    before the step that alarm. `n_crept`: series with a creep in place of the step where one is
    found.
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
    n_early: int
    n_crept: int
    delays: tuple[int, ...]

    @property
    def n_soon(self) -> int:
        """Series that alarm within ten commits with the step."""
        return sum(delay <= WITHIN for delay in self.delays)


def trend_of(weather: Weather, n_unchanged: int, n_steps: int, *, seed: int) -> Trend:
    """Return what is found in series without a step, and in others with one after 60 commits."""
    rng = np.random.default_rng(seed)
    seen = Counter[str]()
    for values, medians in _series(weather, n_unchanged, 0.0, rng):
        seen["false"] += bool(detect_change_points(values.tolist()))
        seen["false_otava"] += bool(otava_steps(medians))
    delays: list[int] = []
    for values, medians in _series(weather, n_steps, STEP_RATIO, rng):
        seen += Counter(_seen(values))
        seen["found_otava"] += any(ratio > 1 for ratio in otava_steps(medians).values())
        alarms = alarms_of(values)
        seen["early"] += sum(n_commits <= 0 for n_commits in alarms)
        delays += [n_commits for n_commits in alarms if n_commits > 0][:1]
    creep = (1 + CREEP_RATIO) ** np.maximum(0, np.arange(1 - N_BEFORE, N_AFTER + 1))
    for values, _ in _series(weather, n_steps, 0.0, rng):
        seen["crept"] += any(
            found.ratio > 1 for found in detect_change_points((values * creep).tolist())
        )
    return Trend(
        weather=weather.name,
        n_unchanged=n_unchanged,
        n_steps=n_steps,
        delays=tuple(sorted(delays)),
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
    "early",
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


def alarms_of(values: Times) -> list[int]:
    """Return after how many commits with the step a look alarms, none or fewer being before it.

    Looks after the first alarm that could be right are not taken.
    """
    alarms = []
    for n_values in range(FIRST_LOOK, len(values) + 1):
        if detect_alarm(values[:n_values].tolist()) is not None:
            alarms.append(n_values - N_BEFORE)
            if n_values > N_BEFORE:
                break
    return alarms
