"""How often gates call an unchanged run slower, and a slower one slower, on simulated runs.

This project's gate is `pytest_vlmlatency.stats` as installed. The scenes are in `_simulated_runs`,
the usual gates in `_gate_counts`. No constant of the gate was chosen with this seed.
"""

import sys
from dataclasses import dataclass
from statistics import median

from benchmarks.evidence._gate_counts import (
    N_OTAVA_BEFORE,
    N_OTAVA_LOOKS,
    OTAVA,
    OURS,
    USUAL_GATES,
    Count,
    Creep,
    count_creeps,
    count_scene,
)
from benchmarks.evidence._record import (
    Claim,
    Evidence,
    now,
    publish_figures,
    read_machine,
    say,
)
from benchmarks.evidence._simulated_runs import (
    CREEP_POWER,
    CREEP_RATIO,
    MOST_FALSE,
    N_COMMITS,
    N_COMPARISONS,
    N_CREEPS,
    N_HISTORY,
    N_ROUNDS,
    SCENES,
    SHORT,
    TARGETS,
    Scene,
)
from benchmarks.evidence._statistics import folded, rate_interval, table
from pytest_vlmlatency.machine.cpu import pinned_threads

NAME = "gate_power"
SEED = 20261121
GATES = (OURS, *USUAL_GATES, OTAVA)
ALL_SCENES = (*SCENES, *TARGETS, *SHORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All gates in all scenes, ours with other targets, and the creep."""

    counts: tuple[Count, ...]
    creeps: tuple[Creep, ...]


def main() -> int:
    """Simulate, judge, and publish."""
    started_at = now()
    with pinned_threads(1):
        machine = read_machine()
        figures = simulate(SEED)
    return publish_figures(
        NAME, figures, claims_of, describe, seed=SEED, started_at=started_at, environment=machine
    )


def simulate(seed: int) -> Figures:
    """Return what every gate said in every scene."""
    counts: list[Count] = []
    for scene in ALL_SCENES:
        for is_changed in (False, True):
            counts += count_scene(
                scene, seed, is_changed=is_changed, is_ours_alone=scene not in SCENES
            )
            say(f"{scene.name}, {'changed' if is_changed else 'unchanged'}: {_brief(counts)}")
    creeps: list[Creep] = []
    for creep_ratio in (0.0, CREEP_RATIO):
        creeps += count_creeps(creep_ratio, N_CREEPS, seed)
        say(f"{creep_ratio:+.1%} a commit: done")
    return Figures(counts=tuple(counts), creeps=tuple(creeps))


def _brief(counts: list[Count]) -> str:
    ours = next(count for count in reversed(counts) if count.gate == OURS)
    return f"{OURS} called {ours.n_slower} of {ours.n_comparisons:,} slower"


def claims_of(figures: Figures) -> tuple[Claim, ...]:
    """Return what is claimed of our gate in each scene, and of a creep, and whether it held."""
    of_scenes = [claim for scene in (*SCENES, *TARGETS) for claim in _claims_of(figures, scene)]
    of_short = [_claim_of_same(figures, scene) for scene in SHORT]
    none, slow = (_creep(figures, OURS, ratio) for ratio in (0.0, CREEP_RATIO))
    return (
        *of_scenes,
        *of_short,
        Claim(
            text=f"A creep of {CREEP_RATIO:.1%} a commit over {N_COMMITS} commits is caught "
            f"against a pinned baseline in at least {CREEP_POWER:.0%} of sequences.",
            holds=len(slow.caught_at) >= CREEP_POWER * slow.n_sequences,
            seen=f"{len(slow.caught_at)} of {slow.n_sequences}.",
        ),
        Claim(
            text="Without a creep no sequence is ever called slower.",
            holds=not none.caught_at,
            seen=f"{len(none.caught_at)} of {none.n_sequences}, in "
            f"{none.n_sequences * N_COMMITS:,} comparisons.",
        ),
    )


def _claims_of(figures: Figures, scene: Scene) -> list[Claim]:
    unchanged, changed = (
        _count(figures, OURS, scene, change) for change in (0.0, scene.change_ratio)
    )
    claims = [
        Claim(
            text=f"{scene.name}: at most 1 false verdict in 100 builds of 100 comparisons.",
            holds=unchanged.n_slower <= MOST_FALSE * unchanged.n_comparisons,
            seen=f"{unchanged.n_slower} in {unchanged.n_comparisons:,} comparisons, "
            f"{_false_alarms(unchanged)} in 100 builds.",
        )
    ]
    if scene.power_ratio is not None:
        found = Claim(
            text=f"{scene.name}: {scene.change_ratio:+.0%} is found in at least "
            f"{scene.power_ratio:.0%}.",
            holds=changed.n_slower >= scene.power_ratio * changed.n_comparisons,
            seen=f"{_power(changed)} of {changed.n_comparisons:,}.",
        )
        claims.append(found)
    return claims


def _claim_of_same(figures: Figures, scene: Scene) -> Claim:
    count = _count(figures, OURS, scene, scene.change_ratio)
    most = scene.most_same_ratio
    assert most is not None, "each scene of a short history limits what is called the same"
    return Claim(
        text=f"{scene.name}: {scene.change_ratio:+.0%} is called the same in at most {most:.0%}.",
        holds=count.n_same <= most * count.n_comparisons,
        seen=f"{_share(count.n_same, count.n_comparisons)} of {count.n_comparisons:,}.",
    )


def describe(evidence: Evidence[Figures]) -> str:
    """Return the table of all gates in all scenes, and of the creep."""
    figures = evidence.figures
    rows = [
        [
            f"{scene.name}, {scene.change_ratio:+.0%}",
            gate,
            _false_alarms(_count(figures, gate, scene, 0.0)),
            _power(_count(figures, gate, scene, scene.change_ratio)),
        ]
        for scene, gates in (
            *((scene, GATES) for scene in SCENES),
            *((scene, (OURS,)) for scene in TARGETS),
        )
        for gate in gates
    ]
    rows += [
        [
            f"creep, {CREEP_RATIO:+.1%} a commit",
            gate,
            *(_caught(_creep(figures, gate, ratio)) for ratio in (0.0, CREEP_RATIO)),
        ]
        for gate in GATES
    ]
    headers = ["noise, and change", "gate", "false in 100 builds", "found"]
    tables = (table(headers, rows, left=2), SHORT_INTRODUCTION, _short_histories(figures))
    return "\n\n".join((INTRODUCTION, *tables, _spent(figures)))


INTRODUCTION = f"""\
A build is {N_COMPARISONS} comparisons of {N_HISTORY} runs with a new one, {N_ROUNDS} rounds each. \
"False" are verdicts of slower where nothing changed, in 100 builds; in brackets, 95 % intervals \
(Clopper and Pearson). Noise is the standard deviation within a run, and between runs; rounds are \
autocorrelated (0.3), the first takes 20 % longer. Heavy tails: levels of runs follow a t of 5 \
degrees of freedom, a tenth of the rounds has a spike of 20 % on average. Throttling: 2 in 100 \
rounds begin ten, on average, that take 3 to 15 % longer, in fresh pairs, too; processes begin \
cool, or, "hot", a sixth of them throttled. The noise is made up, not fitted to a machine.

Otava's algorithm judges no single run: it gets {N_OTAVA_BEFORE} runs before, and up to \
{N_OTAVA_LOOKS} builds to find the change in. A creep is {N_COMMITS} commits, each held against \
pinned runs of the first; counted are sequences ever called slower, without a creep and with it."""


SHORT_INTRODUCTION = """\
Short histories on noisy machines, for the target of 3 %: 100 comparisons, whose noise is pooled, \
or a single one, alone. "Wrong" are verdicts of slower or faster where nothing changed, in 100 \
builds of 100 comparisons."""


def _short_histories(figures: Figures) -> str:
    """Return what our gate says where few runs are stored and runs differ much."""
    rows = []
    for scene in SHORT:
        none, changed = (
            _count(figures, OURS, scene, change) for change in (0.0, scene.change_ratio)
        )
        rows.append(
            [
                scene.name,
                _false_alarms(none, none.n_slower + none.n_faster),
                _share(changed.n_same, changed.n_comparisons),
                _power(changed),
                f"{changed.n_undecided / changed.n_comparisons:.1%}",
            ]
        )
    change = f"{SHORT[0].change_ratio:+.0%}"
    headers = ["noise, and stored runs", "wrong in 100 builds"]
    headers += [f"{change} is the same", "slower", "undecided"]
    return table(headers, rows)


def _spent(figures: Figures) -> str:
    """Return what our gate spends on comparisons, and how often its interval encloses."""
    headers = ["noise, and change", "confirmed", "pairs each", "undecided", "in the interval"]
    rows = []
    for scene in (*SCENES, *TARGETS):
        for change in (0.0, scene.change_ratio):
            count = _count(figures, OURS, scene, change)
            rows.append(
                [
                    f"{scene.name}, {f'{change:+.0%}' if change else 'none'}",
                    f"{count.n_confirmed / count.n_comparisons:.1%}",
                    f"{count.n_pairs / count.n_confirmed:.1f}" if count.n_confirmed else "",
                    f"{count.n_undecided / count.n_comparisons:.2%}",
                    f"{count.n_enclosing / count.n_intervals:.1%}",
                ]
            )
    slow = _creep(figures, OURS, CREEP_RATIO)
    when = f", after {median(slow.caught_at):.0f} commits (median)" if slow.caught_at else ""
    return folded(
        f"What {OURS} spends, and how often its intervals hold the true change",
        f"The share of comparisons that fresh pairs have to confirm, pairs for each of those, and "
        f"the share left undecided; and how often the true change lies in the interval shown, of "
        f"95 % in name.\n\n{table(headers, rows)}\n\nA creep is caught{when}.",
    )


def _false_alarms(count: Count, n_wrong: int | None = None) -> str:
    n_wrong = count.n_slower if n_wrong is None else n_wrong
    low, high = rate_interval(n_wrong, count.n_comparisons)
    rate = n_wrong / count.n_comparisons
    return f"{_short(rate / MOST_FALSE)} [{_short(low / MOST_FALSE)}, {_short(high / MOST_FALSE)}]"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _power(count: Count) -> str:
    return _share(count.n_slower, count.n_comparisons)


def _share(n: int, n_all: int) -> str:
    low, high = rate_interval(n, n_all)
    return f"{n / n_all:.1%} [{100 * low:.1f}, {100 * high:.1f}]"


def _caught(creep: Creep) -> str:
    return _share(len(creep.caught_at), creep.n_sequences)


def _count(figures: Figures, gate: str, scene: Scene, change_ratio: float) -> Count:
    return next(
        count
        for count in figures.counts
        if (count.gate, count.scene, count.change_ratio) == (gate, scene.name, change_ratio)
    )


def _creep(figures: Figures, gate: str, ratio: float) -> Creep:
    return next(
        creep for creep in figures.creeps if (creep.gate, creep.change_ratio) == (gate, ratio)
    )


if __name__ == "__main__":
    sys.exit(main())
