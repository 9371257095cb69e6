"""Outliers are found by their residual, told, and left where they are."""

import pytest

from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL
from pytest_vlmlatency.estimator.roofline import RooflineEstimator
from tests.estimator.machines import simulated


def test_a_slow_record_is_found_with_its_numbers() -> None:
    records = simulated(300, seed=1)
    slow = dict(records[7], source="jobs/7.json")
    slow["T_LLM_prefill"] = 3 * float(str(slow["T_LLM_prefill"]))
    records[7] = slow

    (outlier,) = RooflineEstimator().fit(records).outliers

    assert (outlier.record, outlier.target, outlier.source) == (7, PREFILL, "jobs/7.json")
    assert outlier.measured_ms / outlier.expected_ms == pytest.approx(0.25 + 0.75 * 3, rel=0.1)


def test_all_that_took_half_as_long_again_are_found_and_no_other() -> None:
    records = simulated(2000, seed=2, outliers=0.05)
    slow = {index for index, record in enumerate(records) if record["source"] == "slow"}

    found = {outlier.record for outlier in RooflineEstimator().fit(records).outliers}

    assert found == slow


def test_outliers_stay_in_the_records_that_coverage_counts() -> None:
    clean = RooflineEstimator().fit(simulated(1000, seed=3))
    dirty = RooflineEstimator().fit(simulated(1000, seed=3, outliers=0.08))

    assert dirty.state.n_records == 1000
    assert dirty.state.spreads[DECODE_STEP].factor(0.97) > 1.3
    assert clean.state.spreads[DECODE_STEP].factor(0.97) < 1.1
