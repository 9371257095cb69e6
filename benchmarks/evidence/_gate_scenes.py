"""What gates are tried on: the noise of machines, the changes to be found, and how often each.

Owns the numbers and what is asked of our gate in each scene. Nothing is simulated here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.evidence._simulated_runs import Weather
from pytest_vlmlatency.records import TARGET_RATIO
from pytest_vlmlatency.stats import GateRule

N_HISTORY, N_ROUNDS, N_WARMUP, N_PAIR_ROUNDS = 10, 20, 2, 7
N_COMPARISONS = 100
"""In one CI run: their noise is pooled."""

MOST_FALSE = 1e-4
"""1 in 100 CI runs of 100 comparisons."""

N_CREEPS, N_COMMITS, CREEP_RATIO, CREEP_POWER = 200, 50, 0.001, 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A machine's noise, a change to be found in it, and what share of such changes has to be.

    Nothing is asked of the share where `power_ratio` is None. `target_ratio` is the gate's.
    `n_history` runs are stored. `most_same_ratio`: at most this share of the changes may be called
    the same, where that is asked. `n_unchanged_runs` and `n_changed_runs` count CI runs of
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
