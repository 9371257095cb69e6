"""Records set apart: each held out once, configurations whole, top levels by input."""

import numpy as np

from pytest_vlmlatency.estimator.columns import table_of
from pytest_vlmlatency.estimator.law_fit import configuration_folds, random_folds, top_levels
from tests.estimator.machines import simulated
from tests.estimator.records import a_record


def test_each_record_is_held_out_exactly_once() -> None:
    held_out = np.sum(random_folds(103, 5), axis=0)

    assert held_out.tolist() == [1] * 103


def test_folds_are_the_same_each_time() -> None:
    assert all(
        np.array_equal(one, other)
        for one, other in zip(random_folds(50, 5), random_folds(50, 5), strict=True)
    )


def test_a_configuration_is_never_torn_apart() -> None:
    configuration = np.repeat(np.arange(7), 10)

    folds = configuration_folds(configuration, 4)

    assert np.sum(folds, axis=0).tolist() == [1] * 70
    assert all(fold.reshape(7, 10).all(axis=1).sum() * 10 == fold.sum() for fold in folds)


def test_one_configuration_cannot_be_left_out() -> None:
    assert configuration_folds(np.zeros(30, dtype=np.int64), 4) == []


def test_the_top_level_of_each_input_is_left_out() -> None:
    table = table_of(simulated(500))

    tops = dict(top_levels(table))

    assert set(tops) == {"vision_tokens", "text_tokens", "tier_idx", "top_k", "num_active_blocks"}
    assert set(table.columns["top_k"][tops["top_k"]]) == {12.0}
    assert 0.18 < tops["vision_tokens"].mean() < 0.22


def test_an_input_without_levels_has_no_top() -> None:
    records = [a_record(output_tokens=n) for n in range(2, 80)]

    assert not list(top_levels(table_of(records)))
