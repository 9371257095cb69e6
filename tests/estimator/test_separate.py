"""Configurations with enough records have a model of their own; others share one."""

from pathlib import Path

import numpy as np
import pytest

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator import RooflineEstimator, SeparateEstimator, load_estimator
from tests.generated_records import CONFIGURATIONS, LAUNCH_BOUND, Noise, generate_records

QUIET = Noise(call_sd=0.01, job_sd=0, outlier_share=0)
Record = dict[str, object]
ODD = ("medium", 8, 12)
REQUEST = {"vision_tokens": 450, "text_tokens": 30}
ODD_REQUEST = {**REQUEST, "tier": "medium", "top_k": 8, "num_active_blocks": 12}
FEW_REQUEST = {**REQUEST, "tier": "low", "top_k": 4, "num_active_blocks": 8}


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """Return records where one configuration takes 1.3 times as long as its knobs say."""
    own = (ODD, ("high", 12, 16), ("low", 4, 16))
    many = generate_records(LAUNCH_BOUND, n_of_configuration=270, noise=QUIET, configurations=own)
    others = [configuration for configuration in CONFIGURATIONS if configuration not in own]
    few = generate_records(LAUNCH_BOUND, n_of_configuration=45, noise=QUIET, configurations=others)
    return [_slowed(record) for record in many + few]


@pytest.fixture(scope="module")
def fitted(records: list[Record]) -> SeparateEstimator:
    """Return an estimator of them; no test changes it."""
    return SeparateEstimator().fit(records)


def _slowed(record: Record) -> Record:
    """Return a record, all of its times 1.3 times as long in the odd configuration."""
    if (record["tier"], record["top_k"], record["num_active_blocks"]) != ODD:
        return record
    return {
        name: 1.3 * value if name.startswith("T_") and isinstance(value, float) else value
        for name, value in record.items()
    }


def test_configurations_with_enough_records_have_their_own_model(
    fitted: SeparateEstimator,
) -> None:
    assert set(fitted.model.levels) == {(1.0, 8.0, 12.0), (2.0, 12.0, 16.0), (0.0, 4.0, 16.0)}


def test_an_odd_configuration_is_predicted_as_it_is(
    fitted: SeparateEstimator, records: list[Record]
) -> None:
    knobs = {"top_k": 8, "num_active_blocks": 12}
    truth = {name: np.array([float(value)]) for name, value in (REQUEST | knobs).items()}
    odd_ms = 1.3 * LAUNCH_BOUND.prefill_total_ms(truth)[0]

    own = fitted.predict(ODD_REQUEST)["T_prefill_total"]
    shared = RooflineEstimator().fit(records).predict(ODD_REQUEST)["T_prefill_total"]

    assert own == pytest.approx(odd_ms, rel=0.01)
    assert shared != pytest.approx(odd_ms, rel=0.05)


def test_a_configuration_with_few_records_is_predicted_by_the_shared_model(
    fitted: SeparateEstimator,
) -> None:
    columns = {name: np.array([float(value)]) for name, value in REQUEST.items()}
    columns |= {"top_k": np.array([4.0]), "num_active_blocks": np.array([8.0])}

    shared = fitted.model.shared.predict(columns)

    assert fitted.predict(FEW_REQUEST) == {
        target: pytest.approx(ms[0]) for target, ms in shared.items()
    }


def test_its_file_predicts_the_same(fitted: SeparateEstimator, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model.json")

    loaded = load_estimator(tmp_path / "model.json")

    assert loaded.predict(ODD_REQUEST) == fitted.predict(ODD_REQUEST)


def test_further_knobs_are_refused(records: list[Record]) -> None:
    with pytest.raises(EstimatorProblem, match="no further knob such as batch_size"):
        SeparateEstimator(knobs=["batch_size"]).fit(records)
