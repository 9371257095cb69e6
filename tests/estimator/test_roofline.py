"""The default estimator finds the law of a machine, and only what is monotone."""

import tracemalloc

import numpy as np
import pytest

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.columns import Knob, Table, table_of
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL
from pytest_vlmlatency.estimator.roofline import RooflineEstimator
from tests.estimator.machines import prefill_ms, simulated, step_ms
from tests.estimator.records import a_record

A_CONFIG = {"vision_tokens": 400, "text_tokens": 40, "tier": "low", "top_k": 8} | {
    "num_active_blocks": 12
}
MEASURED = {"vision_tokens": 576, "text_tokens": 32, "top_k": 8, "num_active_blocks": 16}
PROBES = 100_000


def mean_errors(estimator: RooflineEstimator, table: Table) -> tuple[float, float]:
    """Return the mean absolute relative errors of prefill and decode step."""
    predicted = estimator.predict_batch(table.columns)
    prefill = np.abs(predicted[PREFILL] / table.prefill_ms - 1)
    step = np.abs(predicted[DECODE_STEP] / table.decode_per_step_ms - 1)
    return float(prefill.mean()), float(np.nanmean(step))


def test_a_fit_takes_less_than_200_bytes_a_record() -> None:
    n_records = 100_000
    table = table_of(simulated(300)).rows(np.arange(n_records) % 300)
    tracemalloc.start()
    try:
        RooflineEstimator().fit(table)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak_bytes / n_records < 200


@pytest.mark.parametrize("cliff", [0.0, 0.5])
def test_without_noise_the_law_is_found(cliff: float) -> None:
    estimator = RooflineEstimator().fit(simulated(600, noise=0, cliff=cliff))

    predicted = estimator.predict_from_config(A_CONFIG)

    assert predicted[PREFILL] == pytest.approx(prefill_ms(440, 400, 8, 12, cliff), rel=2e-3)
    assert predicted[DECODE_STEP] == pytest.approx(step_ms(440, 8, 12, cliff), rel=2e-3)


@pytest.mark.parametrize(("n_records", "times"), [(2000, 1.05), (50, 1.4)])
def test_the_error_is_near_that_of_the_noise_alone(n_records: int, times: float) -> None:
    estimator = RooflineEstimator().fit(simulated(n_records, seed=3))

    errors = mean_errors(estimator, table_of(simulated(2000, seed=4)))

    noise_alone = 0.027 * np.sqrt(2 / np.pi)  # the mean of |normal|
    assert max(errors) < times * noise_alone


def test_configurations_that_were_never_seen_are_predicted_as_well() -> None:
    records = simulated(3000, seed=5)
    seen = [record for record in records if record["top_k"] != 8]
    unseen = [record for record in records if record["top_k"] == 8]

    errors = mean_errors(RooflineEstimator().fit(seen), table_of(unseen))

    assert max(errors) < 1.1 * 0.027 * np.sqrt(2 / np.pi)


def test_the_top_level_left_out_is_predicted_from_below() -> None:
    records = simulated(3000, seed=6)
    below = [record for record in records if record["num_active_blocks"] != 16]
    top = [record for record in records if record["num_active_blocks"] == 16]

    errors = mean_errors(RooflineEstimator().fit(below), table_of(top))

    assert max(errors) < 1.3 * 0.027 * np.sqrt(2 / np.pi)


def test_outliers_do_not_move_the_law() -> None:
    clean = table_of(simulated(2000, seed=8))

    errors = mean_errors(RooflineEstimator().fit(simulated(1000, seed=7, outliers=0.1)), clean)

    assert max(errors) < 1.1 * 0.027 * np.sqrt(2 / np.pi)


def test_a_cliff_asks_for_steps_and_a_smooth_machine_does_not() -> None:
    smooth = RooflineEstimator().fit(simulated(800, seed=2))
    cliff = RooflineEstimator().fit(simulated(800, seed=2, cliff=1.0))

    assert smooth.model.families == {PREFILL: (), DECODE_STEP: ()}
    assert "steps in top_k" in cliff.model.families[PREFILL]
    assert "steps in top_k" in cliff.model.families[DECODE_STEP]


def test_what_a_decode_costs_once_is_kept_out_of_the_step() -> None:
    records = simulated(800, noise=0)
    with_offset = [
        record | {"T_LLM_decode": float(str(record["T_LLM_decode"])) + 7.0}
        for record in records
        if record["output_tokens"] != 1
    ]

    estimator = RooflineEstimator().fit(with_offset)

    assert estimator.model.decode_offset_ms == pytest.approx(7, rel=0.05)
    assert estimator.predict_from_config(A_CONFIG)[DECODE_STEP] == pytest.approx(
        step_ms(440, 8, 12), rel=5e-3
    )


@pytest.mark.parametrize("cliff", [0.0, 0.5])
@pytest.mark.parametrize("n_records", [50, 1500])
def test_more_work_is_never_predicted_to_take_less_time(cliff: float, n_records: int) -> None:
    estimator = RooflineEstimator().fit(simulated(n_records, seed=9, cliff=cliff, outliers=0.03))
    random = np.random.default_rng(0)
    less = {
        "vision_tokens": random.integers(0, 4000, PROBES),
        "text_tokens": random.integers(0, 2000, PROBES),
        "tier_idx": random.integers(0, 3, PROBES),
        "top_k": random.integers(1, 65, PROBES),
        "num_active_blocks": random.integers(1, 65, PROBES),
    }
    grown = random.choice([name for name in less if name != "tier_idx"], PROBES)
    more = {
        name: values + random.integers(1, 20, PROBES) * (grown == name)
        for name, values in less.items()
    }

    before, after = estimator.predict_batch(less), estimator.predict_batch(more)

    assert not np.any(after[PREFILL] < before[PREFILL])
    assert not np.any(after[DECODE_STEP] < before[DECODE_STEP])


def test_one_request_and_a_column_of_one_give_the_same_number(fitted: RooflineEstimator) -> None:
    one = fitted.predict_from_config(A_CONFIG)
    column = fitted.predict_batch({**A_CONFIG, "tier": ["low"]})

    assert one == {target: ms[0] for target, ms in column.items()}


def test_predict_is_the_short_name(fitted: RooflineEstimator) -> None:
    assert fitted.predict(A_CONFIG) == fitted.predict_from_config(A_CONFIG)


def test_lists_are_answered_with_arrays(fitted: RooflineEstimator) -> None:
    predicted = fitted.predict({**A_CONFIG, "top_k": [4, 8, 12]})

    assert np.shape(predicted[PREFILL]) == (3,)  # type: ignore[call-overload]  # an array


def test_a_declared_amount_joins_the_law() -> None:
    random = np.random.default_rng(0)
    batches = random.integers(1, 5, 600)
    records = [
        record
        | {
            "batch_size": int(batch),
            "T_LLM_prefill": float(str(record["T_LLM_prefill"])) * batch,
            "T_vision_total": float(str(record["T_vision_total"])) * batch,
        }
        for record, batch in zip(simulated(600, noise=0), batches, strict=True)
    ]

    estimator = RooflineEstimator(knobs=["batch_size"]).fit(records)

    for batch in (1, 4):
        predicted = estimator.predict({**A_CONFIG, "batch_size": batch})
        assert predicted[PREFILL] == pytest.approx(batch * prefill_ms(440, 400, 8, 12), rel=0.01)


def test_a_declared_category_has_a_law_for_each_level() -> None:
    records = [
        record | {"configuration": {"dtype": dtype}}
        for dtype, factor in (("float16", 1.0), ("float32", 2.0))
        for record in simulated(400, noise=0, factor=factor)
    ]

    estimator = RooflineEstimator(knobs=[Knob("dtype", is_category=True)]).fit(records)

    half = estimator.predict({**A_CONFIG, "dtype": "float16"})[PREFILL]
    full = estimator.predict({**A_CONFIG, "dtype": "float32"})[PREFILL]
    assert half == pytest.approx(prefill_ms(440, 400, 8, 12), rel=0.01)
    assert full == pytest.approx(2 * prefill_ms(440, 400, 8, 12), rel=0.01)
    with pytest.raises(EstimatorProblem, match="dtype is 'int8', which was never measured"):
        estimator.predict({**A_CONFIG, "dtype": "int8"})


def test_a_dense_model_needs_no_experts() -> None:
    records = [
        {name: value for name, value in record.items() if name != "top_k"}
        for record in simulated(300, seed=3)
    ]

    estimator = RooflineEstimator().fit(records)

    assert estimator.inputs == ("vision_tokens", "text_tokens", "num_active_blocks")
    assert estimator.predict({"vision_tokens": 9, "text_tokens": 9, "num_active_blocks": 8})


def test_scaled_times_scale_the_predictions() -> None:
    plain = RooflineEstimator().fit(simulated(500, seed=3))
    scaled = RooflineEstimator().fit(simulated(500, seed=3, factor=1000.0))

    assert scaled.predict(A_CONFIG)[PREFILL] == pytest.approx(
        1000 * float(str(plain.predict(A_CONFIG)[PREFILL])), rel=1e-6
    )


def test_an_estimator_that_was_not_fitted_says_so() -> None:
    with pytest.raises(EstimatorProblem, match=r"knows nothing yet; call fit\(records\) first"):
        RooflineEstimator().predict(A_CONFIG)


def test_one_configuration_measured_again_and_again_is_predicted() -> None:
    estimator = RooflineEstimator().fit([a_record(output_tokens=n) for n in range(2, 30)])

    predicted = estimator.predict(MEASURED)

    assert predicted[PREFILL] == pytest.approx(60)
    assert predicted[DECODE_STEP] == pytest.approx(20)
