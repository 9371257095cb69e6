"""The claims about change points can fail, and what they rest on is counted rightly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.evidence import trend_power as power
from benchmarks.evidence._simulated_runs import QUIET, simulate_runs
from benchmarks.evidence.trend_power import Trend, gate_values, trend_of
from pytest_vlmlatency.stats import GateRule, RunValue, value_of

STILL = replace(QUIET, within_ratio=1e-3, between_ratio=1e-3)
LOUD = replace(QUIET, between_ratio=0.02)
HOLDS = Trend(
    weather="noise",
    n_unchanged=20_000,
    n_false=2,
    n_false_otava=900,
    n_steps=2000,
    n_found=2000,
    n_found_otava=2000,
    n_one=1000,
    n_located=950,
    n_enclosed=940,
    n_crept=2000,
)


def failed(trend: Trend) -> list[str]:
    claims = power.claims_of(power.Figures(trends=(trend,)))
    return [claim.text for claim in claims if not claim.holds]


def test_what_is_claimed_of_a_trend_can_hold() -> None:
    assert failed(HOLDS) == []


@pytest.mark.parametrize(
    ("trend", "text"),
    [
        (replace(HOLDS, n_false=3), "at most 1 in 10,000 series without a step has one"),
        (replace(HOLDS, n_located=949), "it lies between the commits that are named"),
    ],
)
def test_each_claim_fails_by_what_it_is_about_and_no_other(trend: Trend, text: str) -> None:
    (only,) = failed(trend)

    assert text in only


def test_a_step_that_is_clear_is_found_everywhere_and_in_its_place() -> None:
    trend = trend_of(STILL, 5, 5, seed=1)

    assert trend.n_false == 0
    assert (trend.n_found, trend.n_one, trend.n_located, trend.n_found_otava) == (5, 5, 5, 5)


def test_a_creep_is_found_in_place_of_a_step() -> None:
    assert trend_of(QUIET, 0, 5, seed=1).n_crept == 5


def test_the_same_seed_finds_the_same_and_another_other_series() -> None:
    first, again, other = (trend_of(LOUD, 0, 30, seed=seed) for seed in (1, 1, 3))

    assert first == again
    assert first != other


def test_the_values_of_series_are_those_of_the_gate() -> None:
    runs = simulate_runs(QUIET, np.full(2, 0.01), (3, 19), np.random.default_rng(0))
    values = [[value_of(rounds, GateRule()) for rounds in series] for series in runs.tolist()]

    assert [
        [np.exp(value.log_ms) for value in series if isinstance(value, RunValue)]
        for series in values
    ] == [pytest.approx(series) for series in gate_values(runs).tolist()]
