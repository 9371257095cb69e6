"""Quantiles hold their coverage, in order, and widen where nothing was measured."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.calibration import Spread, spread_of
from pytest_vlmlatency.estimator.columns import table_of
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL
from pytest_vlmlatency.estimator.roofline import RooflineEstimator
from tests.estimator.machines import simulated
from tests.estimator.test_roofline import A_CONFIG

RATIOS = st.lists(st.floats(0.01, 100), min_size=1, max_size=60).map(np.array)
SHARES = st.floats(0.001, 0.999)
N_PROBES = 100_000


def covered(
    estimator: RooflineEstimator, records: list[dict[str, object]], q: float
) -> list[float]:
    """Return the shares of prefills and of decode steps below their quantile."""
    table = table_of(records)
    below = estimator.predict_quantile(table.columns, q)
    steps = table.decode_per_step_ms <= below[DECODE_STEP]
    return [
        float(np.mean(table.prefill_ms <= below[PREFILL])),
        float(np.mean(steps[table.has_decode])),
    ]


@pytest.mark.parametrize(("q", "doubt"), [(0.5, 0.03), (0.9, 0.02), (0.95, 0.015)])
def test_a_quantile_covers_its_share_of_new_records(q: float, doubt: float) -> None:
    """The doubt is three standard errors: a single fit's coverage has its own, of 2 % at P50."""
    shares = np.mean(
        [
            covered(
                RooflineEstimator().fit(simulated(1500, seed=seed, outliers=0.02)),
                simulated(1500, seed=100 + seed, outliers=0.02),
                q,
            )
            for seed in range(4)
        ],
        axis=0,
    )

    assert shares == pytest.approx([q, q], abs=doubt)


def test_beyond_what_was_measured_the_quantile_still_covers() -> None:
    records = simulated(3000, seed=3)
    below = [record for record in records if record["num_active_blocks"] != 16]
    top = [record for record in records if record["num_active_blocks"] == 16]

    shares = covered(RooflineEstimator().fit(below), top, 0.95)

    assert min(shares) > 0.92


def test_extrapolation_is_flagged_by_row(fitted: RooflineEstimator) -> None:
    asked = {**A_CONFIG, "num_active_blocks": [8, 16, 17], "top_k": [4, 8, 8]}

    assert fitted.is_extrapolated(asked).tolist() == [False, False, True]


def test_too_many_tokens_together_are_an_extrapolation(fitted: RooflineEstimator) -> None:
    low, high = fitted.state.ranges["vision_tokens"], fitted.state.ranges["text_tokens"]
    asked = {**A_CONFIG, "vision_tokens": low[1], "text_tokens": high[1]}

    assert fitted.is_extrapolated(asked).tolist() == [
        low[1] + high[1] > fitted.state.ranges["tokens"][1]
    ]


def test_a_quantile_is_wider_beyond_what_was_measured(fitted: RooflineEstimator) -> None:
    asked = {**A_CONFIG, "num_active_blocks": [16, 17]}
    ratios = fitted.predict_quantile(asked, 0.95)[PREFILL] / fitted.predict_batch(asked)[PREFILL]

    assert ratios[1] >= ratios[0]


def probes(
    estimator: RooflineEstimator, *, beyond: float
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return requests within the ranges, or up to `beyond` times their ends, and larger ones."""
    random = np.random.default_rng(0)
    less, more = {}, {}
    for name in estimator.inputs:
        low, high = estimator.state.ranges[name]
        ends = random.uniform(low / beyond, high * beyond, (2, N_PROBES))
        less[name], more[name] = ends.min(axis=0), ends.max(axis=0)
    return less, more


@pytest.mark.parametrize("q", [0.05, 0.5, 0.9, 0.95, 0.99])
def test_within_what_was_measured_quantiles_never_fall(fitted: RooflineEstimator, q: float) -> None:
    less, more = probes(fitted, beyond=1.0)
    inside = ~(fitted.is_extrapolated(less) | fitted.is_extrapolated(more))

    before, after = fitted.predict_quantile(less, q), fitted.predict_quantile(more, q)

    assert inside.sum() > N_PROBES / 2
    assert not np.any(after[PREFILL][inside] < before[PREFILL][inside])
    assert not np.any(after[DECODE_STEP][inside] < before[DECODE_STEP][inside])


def test_an_upper_quantile_never_falls_but_on_the_way_in(fitted: RooflineEstimator) -> None:
    less, more = probes(fitted, beyond=4.0)
    goes_in = fitted.is_extrapolated(less) & ~fitted.is_extrapolated(more)

    before, after = fitted.predict_quantile(less, 0.95), fitted.predict_quantile(more, 0.95)

    assert not np.any((after[PREFILL] < before[PREFILL]) & ~goes_in)
    assert not np.any((after[DECODE_STEP] < before[DECODE_STEP]) & ~goes_in)


@pytest.mark.parametrize("q", [0.01, 0.05, 0.25, 0.75, 0.95, 0.99])
def test_beyond_the_range_a_quantile_is_never_nearer_to_the_point(
    fitted: RooflineEstimator, q: float
) -> None:
    asked, _ = probes(fitted, beyond=4.0)
    outside = fitted.is_extrapolated(asked)
    points, quantiles = fitted.predict_batch(asked), fitted.predict_quantile(asked, q)

    assert 0.01 < outside.mean() < 0.999
    for target in (PREFILL, DECODE_STEP):
        ratios = quantiles[target] / points[target]
        away = ratios if q > 0.5 else 1 / ratios
        assert away[outside].min() >= away[~outside].max() * (1 - 1e-12)


@given(inside=RATIOS, beyond=RATIOS, one=SHARES, other=SHARES)
def test_quantiles_are_in_order(
    inside: np.ndarray, beyond: np.ndarray, one: float, other: float
) -> None:
    spread = spread_of(inside, beyond)
    low, high = sorted((one, other))

    assert spread.factor(low) <= spread.factor(high)
    assert spread.wide_factor(low) <= spread.wide_factor(high)
    assert spread.wide_factor(high) >= spread.factor(high) or high <= 0.5


@given(ratios=RATIOS)
def test_the_ends_are_the_least_and_the_greatest(ratios: np.ndarray) -> None:
    spread = spread_of(ratios, np.empty(0))

    assert (spread.factor(0.0001), spread.factor(0.9999)) == (ratios.min(), ratios.max())


def test_the_rank_has_the_one_more_that_a_finite_number_needs() -> None:
    spread = spread_of(np.arange(1.0, 20.0), np.empty(0))

    assert spread.factor(0.95) == 19.0
    assert spread.factor(0.9) == 18.0
    assert spread_of(np.arange(1.0, 21.0), np.empty(0)).factor(0.95) == 20.0  # not ceil(20 x 0.95)


def test_many_ratios_keep_their_quantiles() -> None:
    ratios = np.exp(np.random.default_rng(0).normal(size=50_000))

    spread = spread_of(ratios, np.empty(0))

    assert len(spread.inside) == 999
    assert [spread.factor(q) for q in (0.5, 0.9, 0.95)] == pytest.approx(
        np.quantile(ratios, [0.5, 0.9, 0.95]), rel=1e-3
    )


def test_with_nothing_left_out_the_width_doubles() -> None:
    spread = spread_of(np.array([0.9, 1.0, 1.1]), np.empty(0))

    assert spread.wide_factor(0.99) == pytest.approx(1.21)
    assert spread.wide_factor(0.01) == pytest.approx(0.81)


@pytest.mark.parametrize("q", [0.0, 1.0, 95.0, float("nan"), "0.95", None, [0.9]])
def test_a_quantile_is_a_share(fitted: RooflineEstimator, q: float) -> None:
    with pytest.raises(EstimatorProblem, match=r"a share between 0 and 1, such as 0\.95; seen"):
        fitted.predict_quantile(A_CONFIG, q)


def test_ratios_that_cannot_be_are_refused() -> None:
    with pytest.raises(EstimatorProblem, match="finite and above 0"):
        Spread((0.0,), (1.0,))


def test_all_quantiles_of_an_estimator_are_in_order(fitted: RooflineEstimator) -> None:
    asked = {**A_CONFIG, "num_active_blocks": [12, 40]}
    prefills = [fitted.predict_quantile(asked, q)[PREFILL] for q in np.linspace(0.01, 0.99, 99)]

    assert all(np.all(low <= high) for low, high in pairwise(prefills))
