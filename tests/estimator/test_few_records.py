"""Few records are enough from a number on, and an error says that number and how many there are."""

import pytest

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator import (
    BoostedTreesEstimator,
    LookUpEstimator,
    RooflineEstimator,
    SeparateEstimator,
)
from pytest_vlmlatency.estimator.protocol import DECODE_STEP
from tests.estimator.records import a_record
from tests.estimator.test_roofline import MEASURED

ASKED = MEASURED | {"tier": "medium"}
NEED_EIGHT = pytest.mark.parametrize(
    "kind", [RooflineEstimator, BoostedTreesEstimator, SeparateEstimator]
)
Kind = type[RooflineEstimator | BoostedTreesEstimator | SeparateEstimator]


def records(n_decoded: int, n_others: int = 0) -> list[dict[str, object]]:
    return [
        a_record(output_tokens=1 + 3 * (index < n_decoded), T_LLM_prefill=50.0 + index / 100)
        for index in range(n_decoded + n_others)
    ]


@NEED_EIGHT
@pytest.mark.parametrize("n_records", [1, 7])
def test_too_few_records_are_refused_by_their_number(kind: Kind, n_records: int) -> None:
    with pytest.raises(
        EstimatorProblem, match=f"there are {n_records} records; expected at least 8"
    ):
        kind().fit(records(n_records))


@NEED_EIGHT
@pytest.mark.parametrize("n_records", [8, 9, 10])
def test_the_least_number_is_enough_for_folds_as_well(kind: Kind, n_records: int) -> None:
    estimator = kind().fit(records(n_records))

    assert estimator.predict_quantile(ASKED, 0.95)[DECODE_STEP] == pytest.approx(20)


@NEED_EIGHT
@pytest.mark.parametrize("n_decoded", [0, 7])
def test_too_few_with_a_decode_step_are_refused_by_their_number(kind: Kind, n_decoded: int) -> None:
    message = f"there are {n_decoded} records with a decode step; expected at least 8"
    with pytest.raises(EstimatorProblem, match=message):
        kind().fit(records(n_decoded, n_others=90))


@NEED_EIGHT
def test_eight_with_a_decode_step_among_many_are_enough(kind: Kind) -> None:
    estimator = kind().fit(records(8, n_others=90))

    assert estimator.predict_quantile(ASKED, 0.95)[DECODE_STEP] == pytest.approx(20)


def test_decode_steps_that_no_fold_can_leave_out_are_told() -> None:
    with pytest.raises(EstimatorProblem, match="there are 1 records with a decode step among 31"):
        LookUpEstimator().fit(records(1, n_others=30))


@NEED_EIGHT
def test_a_top_level_that_has_all_of_decode_is_not_left_out(kind: Kind) -> None:
    mixed = [
        record | {"top_k": 8 if index < 30 else 4} for index, record in enumerate(records(30, 30))
    ]

    estimator = kind().fit(mixed)

    assert estimator.predict_batch(ASKED)[DECODE_STEP] == pytest.approx(20)
