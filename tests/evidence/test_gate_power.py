"""The claims about the gate's error rates can fail, and what they rest on is counted rightly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.evidence import gate_power as power
from benchmarks.evidence._gate_counts import OTAVA, OURS, Count, Creep, count_creeps, count_scene
from benchmarks.evidence._gate_counts import newly_found_at as found_at
from benchmarks.evidence._simulated_runs import CREEP_RATIO, QUIET, SCENES, SHORT, TARGETS, Scene
from pytest_vlmlatency.stats import GateRule

SCENE = SCENES[0]
STILL = Scene(
    weather=replace(QUIET, within_ratio=1e-3, between_ratio=1e-3),
    change_ratio=0.1,
    power_ratio=0.95,
    n_unchanged_runs=1,
    n_changed_runs=1,
)


def figures(
    *, false: int = 0, found: int = 10_000, crept: int = 200, never: int = 0, same: int = 0
) -> object:
    """Return figures by which everything holds, or not: those of our gate in the first scene."""
    counts = [
        Count(
            gate=gate,
            scene=scene.name,
            change_ratio=change,
            n_comparisons=10_000,
            n_slower=(found if change else false) if scene == SCENE else (10_000 if change else 0),
            n_same=same if change and scene == SHORT[0] else 0,
            n_intervals=10_000,
        )
        for scene in power.ALL_SCENES
        for change in (0.0, scene.change_ratio)
        for gate in power.GATES
    ]
    creeps = [
        Creep(gate=gate, change_ratio=ratio, n_sequences=200, caught_at=tuple(range(n_caught)))
        for gate in power.GATES
        for ratio, n_caught in ((0.0, never), (CREEP_RATIO, crept))
    ]
    return power.Figures(counts=tuple(counts), creeps=tuple(creeps))


def failed(seen: object) -> list[str]:
    assert isinstance(seen, power.Figures)
    return [claim.text for claim in power.claims_of(seen) if not claim.holds]


def test_what_is_claimed_of_the_gate_can_hold() -> None:
    assert failed(figures(false=1, found=9500, crept=198, same=100)) == []


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        (figures(false=2), "1 %, between 1 %: at most 1 false verdict in 100 builds"),
        (figures(found=9499), "1 %, between 1 %: +3% is found in at least 95%"),
        (figures(crept=197), "A creep of 0.1% a commit over 50 commits is caught"),
        (figures(same=101), "2 %, between 5%, 1 stored: +5% is called the same in at most 1%"),
        (figures(never=1), "Without a creep no sequence is ever called slower"),
    ],
)
def test_each_claim_fails_by_what_it_is_about_and_no_other(seen: object, text: str) -> None:
    (only,) = failed(seen)

    assert text in only


def test_nothing_is_claimed_of_what_is_found_on_a_hot_machine_but_that_nothing_is_false() -> None:
    seen = figures()
    assert isinstance(seen, power.Figures)

    hot = [claim.text for claim in power.claims_of(seen) if claim.text.startswith("throttling, h")]

    assert hot == ["throttling, hot: at most 1 false verdict in 100 builds of 100 comparisons."]


def test_on_a_still_machine_every_gate_finds_ten_percent_and_ours_calls_nothing_else_slower() -> (
    None
):
    unchanged, changed = (
        {
            count.gate: count
            for count in count_scene(STILL, 1, is_changed=is_changed, is_ours_alone=False)
        }
        for is_changed in (False, True)
    )

    assert unchanged[OURS].n_slower == 0
    assert {gate: count.n_slower for gate, count in changed.items() if gate != "asv compare"} == {
        gate: 100 for gate in power.GATES if gate != "asv compare"
    }
    assert changed[OURS].n_confirmed == 100
    assert 300 <= changed[OURS].n_pairs <= 500  # decided by the second look at the latest
    assert {count.n_comparisons for count in changed.values()} == {100}


def test_the_same_seed_counts_the_same_and_another_other_runs() -> None:
    scene = replace(STILL, weather=QUIET, change_ratio=0.02)
    first, again, other = (
        count_scene(scene, seed, is_changed=True, is_ours_alone=True) for seed in (1, 1, 2)
    )

    assert first == again
    assert first != other


def test_another_target_is_judged_by_the_rule_for_it() -> None:
    assert [scene.rule for scene in TARGETS] == [
        GateRule.for_target(0.02),
        GateRule.for_target(0.05),
    ]
    assert {scene.rule for scene in SCENES} == {GateRule()}


def test_a_creep_of_a_hundredth_a_commit_is_caught_by_every_gate_within_its_reach() -> None:
    caught = {creep.gate: creep for creep in count_creeps(0.01, 4, seed=1)}

    assert {gate: len(creep.caught_at) for gate, creep in caught.items()} == dict.fromkeys(
        power.GATES, 4
    )
    assert max(caught[OURS].caught_at) < min(caught["asv compare"].caught_at)


def test_otavas_step_is_new_where_none_was_reported_near_it() -> None:
    noise = np.exp(0.001 * np.random.default_rng(0).standard_normal(50))
    late = np.concatenate([np.full(40, 100.0), np.full(10, 110.0)]) * noise
    early = np.concatenate([np.full(20, 100.0), np.full(30, 110.0)]) * noise

    assert found_at(late, 40) in range(1, 4)
    assert found_at(early[:43], 40) is None
    assert found_at(1 / late, 40) is None
    assert OTAVA in power.GATES
