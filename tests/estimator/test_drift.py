"""What an estimator learns online: a shift of the hardware, and never an outlier."""

import math

import numpy as np
import pytest

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.columns import table_of
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL
from pytest_vlmlatency.estimator.roofline import RooflineEstimator
from pytest_vlmlatency.estimator.state import Drift, OtherMachine
from tests.estimator.machines import simulated
from tests.estimator.records import a_record
from tests.estimator.test_conformal import covered

SIGMA = 0.027


def drift_over(ratios: list[float]) -> Drift:
    drift = Drift()
    for ratio in ratios:
        drift = drift.after(math.log(ratio), SIGMA)
    return drift


def test_a_shift_of_15_percent_is_learnt_in_ten_records(updated: RooflineEstimator) -> None:
    shifted = simulated(1000, seed=5, factor=1.15)
    before = covered(updated, shifted, 0.95)

    for record in simulated(10, seed=6, factor=1.15):
        updated.update(record)

    after = covered(updated, shifted, 0.95)
    assert max(before) < 0.2
    assert min(after) > 0.9
    assert updated.state.drifts[PREFILL].ratio == pytest.approx(1.15, abs=0.02)


def test_most_of_a_shift_is_learnt_in_five_records(updated: RooflineEstimator) -> None:
    for record in simulated(5, seed=7, factor=1.15, noise=0.01):
        updated.update(record)

    assert updated.state.drifts[DECODE_STEP].ratio == pytest.approx(1.15, abs=0.02)


def test_a_shift_back_is_learnt_as_well() -> None:
    drift = drift_over([1.15] * 10 + [1.0] * 10)

    assert drift.ratio == pytest.approx(1.0, abs=0.01)


def test_one_outlier_moves_it_by_less_than_noise_does() -> None:
    assert drift_over([1.0] * 20 + [3.0]).ratio < 1 + SIGMA / 3


def test_two_outliers_in_a_row_are_no_shift() -> None:
    assert drift_over([1.0] * 20 + [3.0, 3.0] + [1.0] * 5).ratio < 1 + SIGMA


def test_far_off_on_both_sides_is_no_shift() -> None:
    assert drift_over([1.0] * 20 + [1.3, 0.7, 1.3]).ratio == pytest.approx(1, abs=SIGMA)


def test_noise_alone_hardly_moves_it() -> None:
    noise = np.exp(SIGMA * np.random.default_rng(0).standard_normal(500))

    assert drift_over([float(ratio) for ratio in noise]).ratio == pytest.approx(1, abs=SIGMA)


def test_a_slow_drift_is_followed() -> None:
    assert drift_over([1 + index / 1000 for index in range(100)]).ratio == pytest.approx(
        1.09, abs=0.01
    )


def test_a_record_of_one_token_says_nothing_about_decode(updated: RooflineEstimator) -> None:
    before = updated.state.drifts[DECODE_STEP]

    updated.update(a_record(output_tokens=1))

    assert updated.state.drifts[DECODE_STEP] == before
    assert updated.state.drifts[PREFILL] != before


def test_updates_change_predictions_and_quantiles_alike(updated: RooflineEstimator) -> None:
    table = table_of(simulated(20, seed=3))
    batch, high = (
        updated.predict_batch(table.columns)[PREFILL],
        updated.predict_quantile(table.columns, 0.9)[PREFILL],
    )

    updated.update(simulated(1, seed=4, factor=2.0)[0])

    ratio = updated.state.drifts[PREFILL].ratio
    assert ratio > 1
    assert updated.predict_batch(table.columns)[PREFILL] == pytest.approx(ratio * batch)
    assert updated.predict_quantile(table.columns, 0.9)[PREFILL] == pytest.approx(ratio * high)


def test_a_record_of_another_machine_warns(updated: RooflineEstimator) -> None:
    with pytest.warns(OtherMachine, match="measured on the machine aa, and is used for bb"):
        updated.update(a_record(machine="bb"))


def test_a_record_that_lacks_an_input_is_refused(updated: RooflineEstimator) -> None:
    with pytest.raises(EstimatorProblem, match="the inputs lack top_k"):
        updated.update(a_record(top_k=None))


def test_a_correction_that_cannot_be_is_refused() -> None:
    with pytest.raises(EstimatorProblem, match="an online correction is inf"):
        Drift(math.inf)
    with pytest.raises(EstimatorProblem, match="is of 0 records"):
        Drift(0.0, 0)
