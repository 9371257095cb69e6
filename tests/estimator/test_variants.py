"""Trees, look-up table and network: what each learns, that each answers alike, and its file."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator import (
    BoostedTreesEstimator,
    LatencyEstimator,
    LookUpEstimator,
    load_estimator,
)
from pytest_vlmlatency.estimator import network as network_module
from pytest_vlmlatency.estimator.calibrated import CalibratedEstimator
from pytest_vlmlatency.estimator.columns import Table, table_of
from pytest_vlmlatency.estimator.recipes import OtherDecodeTime
from pytest_vlmlatency.estimator.training import TrainingPlan
from tests.generated_records import LAUNCH_BOUND, Noise, generate_records, true_times_ms

QUIET = Noise(call_sd=0.01, job_sd=0, outlier_share=0)
A_REQUEST = {
    "vision_tokens": 450,
    "text_tokens": 30,
    "tier": "medium",
    "top_k": 8,
    "num_active_blocks": 12,
}
KINDS = ("trees", "look-up", "network")
QUICK = TrainingPlan(batch_size=256, num_epochs=1, fewest_steps=600)

Fitted = dict[str, CalibratedEstimator]  # type: ignore[type-arg]  # of any model
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def table() -> Table:
    """Return records of the launch-bound machine, 60 of each configuration."""
    return table_of(generate_records(LAUNCH_BOUND, n_of_configuration=60, noise=QUIET))


@pytest.fixture(scope="module")
def fitted(table: Table) -> Fitted:
    """Return one estimator of each kind; no test changes them."""
    return {
        "trees": BoostedTreesEstimator().fit(table),
        "look-up": LookUpEstimator().fit(table),
        "network": LatencyEstimator(32, plan=QUICK).fit(table),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_learns_the_machine(kind: str, fitted: Fitted) -> None:
    unseen = table_of(generate_records(LAUNCH_BOUND, n_of_configuration=20, seed=9, noise=QUIET))
    truth = true_times_ms(LAUNCH_BOUND, unseen.columns, unseen.decode_steps)

    predicted = fitted[kind].predict_batch(unseen.columns)

    errors = {name: np.mean(np.abs(predicted[name] / truth[name] - 1)) for name in truth}
    assert max(errors.values()) < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_a_scalar_request_is_answered_with_floats(kind: str, fitted: Fitted) -> None:
    one = fitted[kind].predict(A_REQUEST)
    many = fitted[kind].predict_batch({name: [value] * 3 for name, value in A_REQUEST.items()})

    assert {name: [pytest.approx(value)] * 3 for name, value in one.items()} == {
        name: values.tolist() for name, values in many.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_quantile_holds_its_share_of_unseen_records(kind: str, fitted: Fitted) -> None:
    unseen = table_of(generate_records(LAUNCH_BOUND, n_of_configuration=60, seed=8, noise=QUIET))

    bound = fitted[kind].predict_quantile(unseen.columns, 0.95)["T_prefill_total"]

    assert 0.92 < np.mean(unseen.prefill_ms <= bound) < 0.98


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_predicts_what_was_saved(kind: str, fitted: Fitted, tmp_path: Path) -> None:
    fitted[kind].save(tmp_path / "model.json")

    loaded = load_estimator(tmp_path / "model.json")

    assert type(loaded) is type(fitted[kind])
    assert loaded.predict(A_REQUEST) == fitted[kind].predict(A_REQUEST)
    assert loaded.machine == LAUNCH_BOUND.fingerprint


def test_trees_never_predict_less_for_more(fitted: Fitted) -> None:
    more = {name: np.full(300, value) for name, value in A_REQUEST.items() if name != "tier"}
    more |= {"vision_tokens": np.linspace(100, 1000, 300)}

    predicted = fitted["trees"].predict_batch(more)

    assert np.all(np.diff(predicted["T_prefill_total"]) >= 0)
    assert np.all(np.diff(predicted["T_decode_per_step"]) >= 0)


def test_trees_without_scikit_learn_say_what_to_install(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)

    with pytest.raises(EstimatorProblem, match=r"pip install 'pytest-vlmlatency\[trees\]'"):
        BoostedTreesEstimator().fit(table)


def test_a_file_of_trees_needs_no_scikit_learn(
    fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted["trees"].save(tmp_path / "model.json")
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)

    loaded = load_estimator(tmp_path / "model.json")

    assert loaded.predict(A_REQUEST) == fitted["trees"].predict(A_REQUEST)


def test_a_look_up_prefers_its_own_configuration_to_nearer_tokens(fitted: Fitted) -> None:
    few, many = (
        fitted["look-up"].predict({**A_REQUEST, "num_active_blocks": blocks})["T_decode_per_step"]
        for blocks in (8, 16)
    )

    assert isinstance(few, float)
    assert isinstance(many, float)
    assert many / few == pytest.approx(16 / 8, rel=0.05)


def test_the_networks_weights_lie_beside_its_file_as_safetensors(
    fitted: Fitted, tmp_path: Path
) -> None:
    fitted["network"].save(tmp_path / "model.json")

    said = json.loads((tmp_path / "model.json").read_text())["model"]
    (weights,) = tmp_path.glob("*.safetensors")
    assert said["weights"] == weights.name == f"model.json.{said['sha256'][:16]}.safetensors"


def test_an_estimator_is_whole_until_the_file_that_replaces_it_is(
    fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "model.json", tmp_path / "model.json.other.json.safetensors"
    other.write_bytes(b"of model.json.other.json")
    network = fitted["network"]
    assert isinstance(network, LatencyEstimator)
    network.save(path)
    former = set(tmp_path.glob("*.safetensors"))
    changed = copy.deepcopy(network)
    changed.input_mean += 1  # other weights
    with monkeypatch.context() as killed:
        killed.setattr(network_module, "write_file", _killed)
        with pytest.raises(KeyboardInterrupt):
            changed.save(path)
    before = load_estimator(path)

    changed.save(path)

    assert means(before).equal(network.input_mean)
    assert means(load_estimator(path)).equal(changed.input_mean)
    left = set(tmp_path.glob("*.safetensors"))
    assert (len(left), former & left) == (2, {other})


def test_another_kind_that_replaces_a_network_removes_its_weights(
    fitted: Fitted, tmp_path: Path
) -> None:
    path = tmp_path / "model.json"
    fitted["network"].save(path)

    fitted["look-up"].save(path)

    assert not list(tmp_path.glob("*.safetensors"))
    assert isinstance(load_estimator(path), LookUpEstimator)


def test_weights_that_a_copied_file_names_stay(fitted: Fitted, tmp_path: Path) -> None:
    path, copied = tmp_path / "model.json", tmp_path / "copied.json"
    network = fitted["network"]
    network.save(path)
    copied.write_bytes(path.read_bytes())
    changed = copy.deepcopy(network)
    means(changed).add_(1)

    changed.save(path)

    assert means(load_estimator(copied)).equal(means(network))
    assert means(load_estimator(path)).equal(means(changed))


def means(estimator: object) -> torch.Tensor:
    assert isinstance(estimator, LatencyEstimator)
    return estimator.input_mean


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_weights_that_were_changed_are_refused(fitted: Fitted, tmp_path: Path) -> None:
    fitted["network"].save(tmp_path / "model.json")
    (weights,) = tmp_path.glob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-100] ^= 0xFF
    weights.write_bytes(content)

    with pytest.raises(EstimatorProblem, match="are not those that were saved with it"):
        load_estimator(tmp_path / "model.json")


def test_a_pipe_in_place_of_weights_is_not_waited_for(fitted: Fitted, tmp_path: Path) -> None:
    fitted["network"].save(tmp_path / "model.json")
    (weights,) = tmp_path.glob("*.safetensors")
    weights.unlink()
    os.mkfifo(weights)

    with pytest.raises(EstimatorProblem, match="it is no regular file"):
        load_estimator(tmp_path / "model.json")


def test_weights_that_are_missing_are_said(fitted: Fitted, tmp_path: Path) -> None:
    fitted["network"].save(tmp_path / "model.json")
    next(tmp_path.glob("*.safetensors")).unlink()

    with pytest.raises(EstimatorProblem, match="its weights cannot be read"):
        load_estimator(tmp_path / "model.json")


def test_tensors_are_answered_with_tensors_that_have_a_gradient(fitted: Fitted) -> None:
    asked = {
        name: torch.tensor([float(value)])
        for name, value in ({**A_REQUEST, "tier": 1}).items()
        if isinstance(value, int)
    }
    asked["vision_tokens"].requires_grad_()

    said = fitted["network"].predict_batch(asked)
    prefill = said["T_prefill_total"]
    assert isinstance(prefill, torch.Tensor)
    prefill.sum().backward()

    assert prefill.item() == pytest.approx(
        fitted["network"].predict(A_REQUEST)["T_prefill_total"], rel=1e-5
    )
    assert asked["vision_tokens"].grad is not None


def test_one_seed_is_one_network(table: Table) -> None:
    plan = TrainingPlan(batch_size=256, num_epochs=1, seed=5)

    first, second = (LatencyEstimator(8, plan=plan).fit(table).predict(A_REQUEST) for _ in "ab")

    assert first == second


def test_a_fitted_network_explains_the_origins_decode_time(fitted: Fitted) -> None:
    with pytest.raises(OtherDecodeTime, match="depends on the number of output tokens N"):
        fitted["network"].predict(A_REQUEST)["T_decode_per_token"]


def test_the_network_takes_no_further_knobs() -> None:
    with pytest.raises(EstimatorProblem, match="takes no further knobs"):
        LatencyEstimator(knobs=["batch_size"])


def test_the_package_imports_torch_for_the_network_alone() -> None:
    code = (
        "import sys; import pytest_vlmlatency.estimator as e; first = 'torch' in sys.modules; "
        "e.RooflineEstimator, e.load_estimator, e.LookUpEstimator, e.BoostedTreesEstimator; "
        "second = 'torch' in sys.modules; e.LatencyEstimator; "
        "print(first, second, 'torch' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False False True\n"
