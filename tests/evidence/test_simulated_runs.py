"""Simulated runs have the noise that they are said to have, part by part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.evidence._simulated_runs import (
    MS,
    Times,
    Weather,
    noise_levels,
    simulate_pairs,
    simulate_runs,
)

STILL = Weather(
    name="still",
    within_ratio=0.0,
    between_ratio=0.0,
    autocorrelation=0.0,
    spread=0.0,
    spike_share=0.0,
    warmup_ratio=0.0,
    drift_ratio=0.0,
)


def logs(weather: Weather, shape: tuple[int, int], *, n: int = 1, change: float = 0.0) -> Times:
    """Return simulated rounds as logs of their ratio to those of a still machine, to 12 digits."""
    rng = np.random.default_rng(3)
    levels = noise_levels(weather, n, rng)
    return np.log(simulate_runs(weather, levels, shape, rng, change=change) / MS).round(12)


def test_on_a_still_machine_every_round_takes_the_same() -> None:
    assert np.ptp(logs(STILL, (5, 20))) == 0


def test_a_change_makes_every_round_of_the_same_draw_longer_by_it() -> None:
    weather = replace(STILL, within_ratio=0.02, between_ratio=0.02, throttle_rate=0.1)

    ratio = np.exp(logs(weather, (5, 20), change=0.03) - logs(weather, (5, 20)))

    assert ratio == pytest.approx(1.03)


def test_the_same_seed_draws_the_same_rounds_and_another_does_not() -> None:
    weather = replace(STILL, within_ratio=0.02, between_ratio=0.02)
    levels = np.array([0.02])
    first, again, other = (
        simulate_pairs(weather, levels, (3, 7), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )

    assert (first == again).all()
    assert (first != other).all()


def test_rounds_spread_within_a_run_as_asked_and_runs_do_not() -> None:
    rounds = logs(replace(STILL, within_ratio=0.02), (400, 100))[0]

    assert rounds.std() == pytest.approx(0.02, rel=0.02)
    assert rounds.mean(axis=-1).std() == pytest.approx(0.002, rel=0.1)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.8])
def test_a_round_resembles_the_one_before_it_as_asked(keep: float) -> None:
    rounds = logs(replace(STILL, within_ratio=0.01, autocorrelation=keep), (2000, 30))[0]
    before, after = rounds[:, :-1], rounds[:, 1:]

    assert (before * after).mean() / rounds.var() == pytest.approx(keep, abs=0.02)
    assert rounds[:, 0].std() == pytest.approx(0.01, rel=0.05)
    assert rounds[:, -1].std() == pytest.approx(0.01, rel=0.05)


def test_runs_differ_as_asked_and_the_rounds_of_each_do_not() -> None:
    rounds = logs(replace(STILL, between_ratio=0.02), (5000, 3))[0]

    assert rounds[:, 0].std() == pytest.approx(0.02, rel=0.03)
    assert np.ptp(rounds, axis=-1) == pytest.approx(0, abs=1e-12)


def test_comparisons_differ_in_their_noise_and_its_mean_square_is_as_asked() -> None:
    levels = noise_levels(
        replace(STILL, between_ratio=0.01, spread=0.3), 20_000, np.random.default_rng(0)
    )

    assert np.sqrt((levels**2).mean()) == pytest.approx(0.01, rel=0.02)
    assert np.log(levels).std() == pytest.approx(0.3, rel=0.02)


def test_heavy_tailed_levels_have_the_same_deviation_and_more_far_out() -> None:
    normal = logs(replace(STILL, between_ratio=0.01), (40_000, 1))
    heavy = logs(replace(STILL, between_ratio=0.01, level_df=5), (40_000, 1))

    assert heavy.std() == pytest.approx(0.01, rel=0.03)
    # Beyond four deviations: 6 in 100,000 of a normal one, 0.35 % of such a t of 5.
    assert (np.abs(normal) > 0.04).mean() < 0.0003
    assert (np.abs(heavy) > 0.04).mean() == pytest.approx(0.0035, abs=0.001)


def test_spikes_hit_the_share_of_rounds_and_add_what_is_asked() -> None:
    rounds = logs(replace(STILL, spike_share=0.1, spike_ratio=0.2), (2000, 20))
    spikes = np.expm1(rounds[rounds > 0])

    assert (rounds > 0).mean() == pytest.approx(0.1, rel=0.05)
    assert (rounds < 0).sum() == 0
    assert spikes.mean() == pytest.approx(0.2, rel=0.05)
    assert spikes.std() == pytest.approx(0.2, rel=0.05)


def test_throttled_rounds_of_a_run_are_longer_by_one_share_between_the_two() -> None:
    rounds = logs(replace(STILL, throttle_rate=0.2), (500, 40))[0]
    lengths = [np.unique(run[run > 0]) for run in rounds]

    assert {len(of_run) for of_run in lengths} <= {0, 1}
    found = np.expm1(np.concatenate(lengths))
    assert found.min() == pytest.approx(0.03, abs=0.003)
    assert found.max() == pytest.approx(0.15, abs=0.003)


def test_throttling_starts_and_ends_at_its_rates() -> None:
    is_slow = logs(replace(STILL, throttle_rate=0.02, recovery_rate=0.1), (5000, 60))[0] > 0
    before, after = is_slow[:, :-1], is_slow[:, 1:]

    assert after[~before].mean() == pytest.approx(0.02, rel=0.05)
    assert (~after)[before].mean() == pytest.approx(0.1, rel=0.05)
    assert is_slow[:, 0].mean() == pytest.approx(0.02, abs=0.005)


def test_on_a_hot_machine_as_many_first_rounds_are_throttled_as_last_ones() -> None:
    weather = replace(STILL, throttle_rate=0.02, recovery_rate=0.1, is_hot=True)
    is_slow = logs(weather, (10_000, 20))[0] > 0

    assert is_slow[:, 0].mean() == pytest.approx(1 / 6, abs=0.01)
    assert is_slow[:, -1].mean() == pytest.approx(1 / 6, abs=0.01)


def test_warm_up_fades_from_round_to_round() -> None:
    rounds = logs(replace(STILL, warmup_ratio=0.2, warmup_decay=0.5), (1, 4))[0, 0]

    assert np.expm1(rounds).tolist() == pytest.approx([0.2, 0.1, 0.05, 0.025])


def test_pairs_are_launched_baseline_first_then_candidate_first_under_a_drift() -> None:
    weather = replace(STILL, drift_ratio=0.01)

    pairs = simulate_pairs(weather, np.zeros(1), (3, 2), np.random.default_rng(0))

    launches = np.log(pairs[0, :, :, 0] / MS) / np.log(1.01)
    assert launches.round(6).tolist() == [[0, 1], [3, 2], [4, 5]]
    assert (pairs[..., 0] == pairs[..., 1]).all()


def test_only_the_candidates_of_pairs_change() -> None:
    pairs = simulate_pairs(STILL, np.zeros(2), (3, 4), np.random.default_rng(0), change=0.05)

    assert pairs.shape == (2, 3, 2, 4)
    assert pairs[:, :, 0] == pytest.approx(MS)
    assert pairs[:, :, 1] == pytest.approx(1.05 * MS)
