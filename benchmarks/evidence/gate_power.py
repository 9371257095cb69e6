"""How often gates call an unchanged run slower, and a slower one slower, on simulated runs.

Every gate sees the same runs: a history of ten, a candidate, and, where a gate asks for them, fresh
pairs of processes. Our gate is `pytest_vlmlatency.gate` as it is installed; the usual ones are
written here as they are published. Commits in a row are simulated for a slow creep.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from benchmarks.evidence._progress import counted
from benchmarks.evidence._record import (
    Claim,
    Evidence,
    command_of,
    now,
    publish,
    read_machine,
    say,
)
from benchmarks.evidence._simulated_runs import (
    Weather,
    noise_levels,
    simulate_pairs,
    simulate_runs,
)
from benchmarks.evidence._table import table
from benchmarks.evidence._usual_gates import asv_compare, mann_whitney, median_over, otava_steps
from pytest_vlmlatency.gate import GateRule, Verdict, judge, pool_noise
from pytest_vlmlatency.measure.pinning import pinned_threads

NAME = "gate_power"
SEED = 7
N_HISTORY, N_ROUNDS, N_PAIR_ROUNDS = 10, 20, 7
N_COMPARISONS = 100
"""In one CI run: their noise is pooled."""
N_UNCHANGED_RUNS, N_CHANGED_RUNS = 400, 30
"""CI runs. 40,000 unchanged comparisons without a false verdict bound them near 1 in 10,000."""
N_CREEPS, N_COMMITS, CREEP_RATIO = 100, 50, 0.001
OURS, OTAVA = "pytest-vlmlatency", "Otava's algorithm"
USUAL_GATES = {
    "pytest-benchmark median:5%": median_over,
    "Mann-Whitney p < 0.01": mann_whitney,
    "asv compare": asv_compare,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A weather, the change to be found in it, and what share of such changes has to be found."""

    weather: Weather
    change_ratio: float
    power_ratio: float


SCENES = (
    Scene(
        weather=Weather(name="1 %, between 1 %", within_ratio=0.01, between_ratio=0.01, spread=0),
        change_ratio=0.03,
        power_ratio=0.95,
    ),
    Scene(
        weather=Weather(name="2 %, between 2 %", within_ratio=0.02, between_ratio=0.02, spread=0),
        change_ratio=0.05,
        power_ratio=0.97,
    ),
    Scene(
        weather=Weather(
            name="heavy tails",
            within_ratio=0.01,
            between_ratio=0.01,
            level_df=5,
            spike_share=0.1,
            spike_ratio=0.2,
        ),
        change_ratio=0.03,
        power_ratio=0.95,
    ),
    Scene(
        weather=Weather(
            name="throttling", within_ratio=0.01, between_ratio=0.01, throttle_rate=0.02
        ),
        change_ratio=0.03,
        power_ratio=0.84,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """One gate on CI runs of one scene: how many it called slower, of how many.

    `n_pairs` and `n_undecided` are of our gate, 0 elsewhere.
    """

    gate: str
    scene: str
    change_ratio: float
    n_comparisons: int
    n_slower: int
    n_undecided: int = 0
    n_pairs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Creep:
    """Sequences of commits against a pinned baseline: how many were ever called slower."""

    change_ratio: float
    n_sequences: int
    n_caught: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All gates in all scenes, and the creep."""

    counts: tuple[Count, ...]
    creeps: tuple[Creep, ...]


def main() -> int:
    """Simulate, judge, and publish."""
    started_at = now()
    with pinned_threads(1):
        machine = read_machine()
        counts: list[Count] = []
        for number, scene in enumerate(SCENES):
            for change_ratio, n_runs in (
                (0.0, N_UNCHANGED_RUNS),
                (scene.change_ratio, N_CHANGED_RUNS),
            ):
                rng = np.random.default_rng([SEED, number, round(1000 * change_ratio)])
                counts += _scene(scene.weather, change_ratio, n_runs, rng)
            say(f"{scene.weather.name}: done")
        creeps = tuple(_creeps(change_ratio) for change_ratio in (0.0, CREEP_RATIO))
    figures = Figures(counts=tuple(counts), creeps=creeps)
    return publish(
        Evidence[Figures](
            name=NAME,
            command=command_of(NAME),
            seed=SEED,
            started_at=started_at,
            environment=machine,
            claims=claims_of(figures),
            figures=figures,
        ),
        describe,
    )


def _scene(
    weather: Weather, change_ratio: float, n_runs: int, rng: np.random.Generator
) -> list[Count]:
    """Return every gate's counts over CI runs of 100 comparisons that all changed alike."""
    verdicts: list[tuple[Verdict, int]] = []
    slower = dict.fromkeys((*USUAL_GATES, OTAVA), 0)
    for _ in counted(n_runs, f"{weather.name}, {change_ratio:+.0%}"):
        levels = noise_levels(weather, N_COMPARISONS, rng)
        history = simulate_runs(weather, levels, (N_HISTORY, N_ROUNDS), rng)
        candidate = simulate_runs(weather, levels, (1, N_ROUNDS), rng, change=change_ratio)
        shape = (GateRule().looks[-1], N_PAIR_ROUNDS)
        pairs = simulate_pairs(weather, levels, shape, rng, change=change_ratio)
        verdicts += _ours(history.tolist(), candidate[:, 0].tolist(), pairs.tolist())
        for name, gate in USUAL_GATES.items():
            slower[name] += int(gate(history[:, -1, 2:], candidate[:, 0, 2:]).sum())
        values = np.median(np.concatenate([history, candidate], axis=1)[..., 2:], axis=-1)
        slower[OTAVA] += sum(_ends_slower(series) for series in values)
    n_comparisons = n_runs * N_COMPARISONS
    ours = Count(
        gate=OURS,
        scene=weather.name,
        change_ratio=change_ratio,
        n_comparisons=n_comparisons,
        n_slower=sum(verdict is Verdict.SLOWER for verdict, _ in verdicts),
        n_undecided=sum(verdict is Verdict.UNDECIDED for verdict, _ in verdicts),
        n_pairs=sum(n_pairs for _, n_pairs in verdicts),
    )
    return [
        ours,
        *(
            Count(
                gate=name,
                scene=weather.name,
                change_ratio=change_ratio,
                n_comparisons=n_comparisons,
                n_slower=n_slower,
            )
            for name, n_slower in slower.items()
        ),
    ]


def _ours(
    histories: Sequence[Sequence[Sequence[float]]],
    candidates: Sequence[Sequence[float]],
    pairs: Sequence[Sequence[tuple[Sequence[float], Sequence[float]]]],
) -> list[tuple[Verdict, int]]:
    noise = pool_noise(histories)
    judged = (
        judge(history, candidate, pairs=lambda n, fresh=fresh: fresh[:n], noise=noise)  # type: ignore[misc]  # a default binds it
        for history, candidate, fresh in zip(histories, candidates, pairs, strict=True)
    )
    return [(judgement.verdict, judgement.n_pairs) for judgement in judged]


def _ends_slower(values: np.ndarray) -> bool:
    """Whether Otava's algorithm finds a step up in a history with the candidate at its end."""
    return any(ratio > 1 for ratio in otava_steps(values).values())


def _creeps(creep_ratio: float) -> Creep:
    """Return how many sequences of commits are called slower against the runs of the first."""
    weather = SCENES[0].weather
    rng = np.random.default_rng([SEED, len(SCENES), round(10_000 * creep_ratio)])
    n_caught = 0
    for _ in counted(N_CREEPS, f"50 commits, {creep_ratio:+.1%} each"):
        levels = noise_levels(weather, 1, rng)
        pinned = simulate_runs(weather, levels, (N_HISTORY, N_ROUNDS), rng)[0].tolist()
        noise = pool_noise([pinned])
        for n_commits in range(1, N_COMMITS + 1):
            change = (1 + creep_ratio) ** n_commits - 1
            run = simulate_runs(weather, levels, (1, N_ROUNDS), rng, change=change)[0, 0].tolist()
            shape = (GateRule().looks[-1], N_PAIR_ROUNDS)
            fresh = simulate_pairs(weather, levels, shape, rng, change=change)[0].tolist()
            judgement = judge(
                pinned,
                run,
                noise=noise,
                pairs=lambda n, fresh=fresh: fresh[:n],  # type: ignore[misc]  # as above
            )
            if judgement.verdict is Verdict.SLOWER:
                n_caught += 1
                break
    return Creep(change_ratio=creep_ratio, n_sequences=N_CREEPS, n_caught=n_caught)


def claims_of(figures: Figures) -> tuple[Claim, ...]:
    """Return what is claimed of our gate in each scene, and of a creep, and whether it held."""
    of_scenes = [claim for scene in SCENES for claim in _claims_of(figures, scene)]
    none, slow = figures.creeps
    return (
        *of_scenes,
        Claim(
            text=f"A creep of {CREEP_RATIO:.1%} a commit over {N_COMMITS} commits is caught against "
            f"a pin in 99 % of sequences.",
            holds=slow.n_caught >= 0.99 * slow.n_sequences,
            seen=f"{slow.n_caught} of {slow.n_sequences}.",
        ),
        Claim(
            text="Without a creep no sequence is called slower.",
            holds=none.n_caught == 0,
            seen=f"{none.n_caught} of {none.n_sequences}.",
        ),
    )


def _claims_of(figures: Figures, scene: Scene) -> tuple[Claim, Claim]:
    unchanged, changed = (
        _count(figures, OURS, scene, change) for change in (0.0, scene.change_ratio)
    )
    low, high = interval(unchanged.n_slower, unchanged.n_comparisons)
    return (
        Claim(
            text=f"{scene.weather.name}: at most 1 false verdict in 100 CI runs of 100 comparisons.",
            holds=1e4 * unchanged.n_slower <= unchanged.n_comparisons,
            seen=f"{unchanged.n_slower} in {unchanged.n_comparisons:,} comparisons, a rate of "
            f"{1e4 * low:.1f} to {1e4 * high:.1f} in 10,000 (95 %).",
        ),
        Claim(
            text=f"{scene.weather.name}: {scene.change_ratio:+.0%} is found in "
            f"{scene.power_ratio:.0%}.",
            holds=changed.n_slower >= scene.power_ratio * changed.n_comparisons,
            seen=f"{changed.n_slower / changed.n_comparisons:.1%} of {changed.n_comparisons:,}.",
        ),
    )


def interval(n_hits: int, n_all: int) -> tuple[float, float]:
    """Return the ends of Clopper and Pearson's 95 % interval of a rate."""
    low = float(beta.ppf(0.025, n_hits, n_all - n_hits + 1)) if n_hits else 0.0
    high = float(beta.ppf(0.975, n_hits + 1, n_all - n_hits)) if n_hits < n_all else 1.0
    return low, high


def describe(evidence: Evidence[Figures]) -> str:
    """Return the table of all gates in all scenes."""
    figures = evidence.figures
    rows = [
        [gate, *(_cell(figures, gate, scene) for scene in SCENES)]
        for gate in (OURS, *USUAL_GATES, OTAVA)
    ]
    headers = ["gate", *(f"{scene.weather.name}, {scene.change_ratio:+.0%}" for scene in SCENES)]
    spent = "; ".join(_spent(figures, scene) for scene in SCENES)
    return (
        f'False "slower" verdicts per 100 CI runs of 100 comparisons / share of slowdowns found. '
        f"Noise is within a run, and between runs; {N_HISTORY} runs of history, {N_ROUNDS} rounds a "
        f"run. The noise is made up, not fitted to a machine.\n\n"
        + table(headers, rows)
        + f"\n\nFresh pairs that our gate spends on an unchanged comparison, and what it leaves "
        f"undecided: {spent}."
    )


def _cell(figures: Figures, gate: str, scene: Scene) -> str:
    unchanged = _count(figures, gate, scene, 0.0)
    changed = _count(figures, gate, scene, scene.change_ratio)
    false_alarms = 1e4 * unchanged.n_slower / unchanged.n_comparisons
    return f"{false_alarms:,.4g} / {changed.n_slower / changed.n_comparisons:.0%}"


def _spent(figures: Figures, scene: Scene) -> str:
    count = _count(figures, OURS, scene, 0.0)
    return (
        f"{scene.weather.name}: {count.n_pairs / count.n_comparisons:.1f} pairs, "
        f"{count.n_undecided / count.n_comparisons:.1%} undecided"
    )


def _count(figures: Figures, gate: str, scene: Scene, change_ratio: float) -> Count:
    return next(
        count
        for count in figures.counts
        if (count.gate, count.scene, count.change_ratio) == (gate, scene.weather.name, change_ratio)
    )


if __name__ == "__main__":
    sys.exit(main())
