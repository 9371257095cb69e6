"""Scores are what they are called, splits hold out what they say, and nothing is dropped."""

import numpy as np
import pytest

from pytest_vlmlatency.estimator import RooflineEstimator
from pytest_vlmlatency.estimator.columns import Table, table_of
from pytest_vlmlatency.estimator.evaluation import (
    Split,
    held_out,
    judge,
    judge_split,
    meets_aim,
    score_of,
    scores_text,
)
from tests.generated_records import LAUNCH_BOUND, SILENT, generate_records


@pytest.fixture(scope="module")
def table() -> Table:
    """Return records of a machine without noise."""
    return table_of(generate_records(LAUNCH_BOUND, n_of_configuration=27, noise=SILENT))


def test_a_score_is_made_of_the_errors_it_names() -> None:
    score = score_of(np.array([10.0, 20.0]), np.array([11.0, 16.0]), np.array([10.0, 19.0]))

    assert score.mae_ms == pytest.approx(2.5)
    assert score.rmse_ms == pytest.approx(np.sqrt(8.5))
    assert score.relative_error == pytest.approx((0.1 + 0.2) / 2)
    assert score.r2 == pytest.approx(1 - 17 / 50)
    assert score.coverage == pytest.approx(0.5)


def test_a_target_that_never_varies_has_no_r2() -> None:
    assert score_of(np.full(3, 10.0), np.full(3, 9.0), None).r2 is None


def test_a_fifth_is_held_out_at_random(table: Table) -> None:
    (out,) = held_out(table, Split.RANDOM)

    assert out.mean() == pytest.approx(0.2, abs=0.01)


def test_each_configuration_is_held_out_whole_and_once(table: Table) -> None:
    masks = list(held_out(table, Split.CONFIGURATIONS))

    assert np.all(np.sum(masks, axis=0) == 1)
    assert all(not set(table.configuration[out]) & set(table.configuration[~out]) for out in masks)


def test_extrapolation_trains_below_the_top_level_alone(table: Table) -> None:
    knobs = ("tier_idx", "top_k", "num_active_blocks")
    tops = [
        {name for name in knobs if table.columns[name][out].min() > table.columns[name][~out].max()}
        for out in held_out(table, Split.EXTRAPOLATION)
    ]

    assert set().union(*tops) == set(knobs)


def test_a_machine_without_noise_is_predicted_on_every_split(table: Table) -> None:
    judged = [judge_split(RooflineEstimator, table, split) for split in Split]

    errors = [
        score.relative_error for one in judged if one is not None for score in one.scores().values()
    ]
    assert len(errors) == 6
    assert max(errors) < 0.01


def test_an_outlier_stays_in_the_scores(table: Table) -> None:
    estimator = RooflineEstimator().fit(table)
    usual = judge(estimator, table)
    slow = judge(estimator, table)
    slow.table.prefill_ms[0] *= 10

    far = slow.scores()["T_prefill_total"]
    slow.table.prefill_ms[0] /= 10

    near = usual.scores()["T_prefill_total"]
    assert far.n_records == near.n_records == len(table)
    assert far.rmse_ms > 10 * near.rmse_ms


def test_groups_hold_all_records_between_them(table: Table) -> None:
    judged = judge(RooflineEstimator().fit(table), table)

    by_configuration, by_length = judged.by_configuration(), judged.by_output_length()

    assert len(by_configuration) == 27
    assert set(by_length) <= {"1", "2", "3-5", "6-10", "11-20", "21+"}
    for groups in (by_configuration, by_length):
        counts = [scores["T_prefill_total"].n_records for scores in groups.values()]
        assert sum(counts) == len(table)


def test_scores_are_one_table() -> None:
    prefill = score_of(np.array([100.0, 200.0]), np.array([101.0, 196.0]), None)
    decode = score_of(np.array([10.0, 20.0]), np.array([11.0, 16.0]), np.array([10.0, 19.0]))

    text = scores_text({"random": {"T_prefill_total": prefill, "T_decode_per_step": decode}})

    assert text == (
        "        target   records  MAE ms  RMSE ms    MAPE     R2  P95 holds  origin's aim\n"
        "random  prefill        2    2.50     2.92   1.50%  0.997          -           met\n"
        "        decode         2    2.50     2.92  15.00%  0.660      50.0%        missed"
    )


def test_an_aim_is_met_under_both_of_its_bounds() -> None:
    quick = score_of(np.array([10.0]), np.array([9.2]), None)
    slow = score_of(np.array([100.0]), np.array([92.0]), None)

    assert meets_aim("T_decode_per_step", quick)
    assert not meets_aim("T_decode_per_step", slow)
