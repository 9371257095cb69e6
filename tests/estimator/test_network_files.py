"""A network's file: it names the recipe, and what is read predicts the same to the last bit."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator import (
    LatencyEstimator,
    LatencyEstimatorTrainer,
    RooflineEstimator,
    load_estimator,
)
from pytest_vlmlatency.estimator.columns import Table
from pytest_vlmlatency.estimator.recipes import PER_TOKEN, PREFILL, OtherDecodeTime, Recipe
from pytest_vlmlatency.estimator.state import OtherMachine
from pytest_vlmlatency.estimator.training import TrainingPlan
from tests.estimator.test_files import sealed
from tests.estimator.test_network_recipes import (
    A_REQUEST,
    PLAN,
    a_batch,
    by_hand,
    some_requests,
    table,
)
from tests.generated_records import LAUNCH_BOUND

__all__ = ["table"]  # a fixture

Make = Callable[[Table], LatencyEstimator]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def origins(table: Table) -> LatencyEstimator:
    """Return a fitted network of the origin's recipe; no test changes it."""
    return LatencyEstimator(32, recipe="origin", plan=PLAN).fit(table)


def in_float64(table: Table) -> LatencyEstimator:
    """Return a network that its user trained in float64."""
    torch.manual_seed(1)
    network = LatencyEstimator(16).double()
    LatencyEstimatorTrainer(network).train_step(a_batch(table, Recipe.MENDED))
    return network


def loaded(network: LatencyEstimator, folder: Path) -> LatencyEstimator:
    network.save(folder / "model.json")
    read = load_estimator(folder / "model.json")
    assert isinstance(read, LatencyEstimator)
    return read


@pytest.mark.parametrize(
    ("make", "recipe"),
    [
        (lambda table: by_hand(table, Recipe.MENDED), Recipe.MENDED),
        (lambda table: by_hand(table, Recipe.ORIGIN), Recipe.ORIGIN),
        (in_float64, Recipe.MENDED),
        (
            lambda table: LatencyEstimator(8, plan=TrainingPlan(batch_size=512, num_epochs=1)).fit(
                table
            ),
            Recipe.MENDED,
        ),
    ],
    ids=["mended by hand", "origin by hand", "in float64", "mended, fitted"],
)
def test_a_file_gives_back_the_same_network_to_the_last_bit(
    table: Table, tmp_path: Path, make: Make, recipe: Recipe
) -> None:
    network, asked = make(table), some_requests(table)

    read = loaded(network, tmp_path)

    before, after = network.predict_batch(asked), read.predict_batch(asked)
    assert (read.recipe, tuple(after)) == (recipe, (PREFILL, recipe.decode_key))
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert read.predict(A_REQUEST) == network.predict(A_REQUEST)
    assert json.loads((tmp_path / "model.json").read_text())["model"]["recipe"] == recipe


def test_a_fitted_network_of_the_origins_recipe_is_read_with_all_that_it_knows(
    origins: LatencyEstimator, table: Table, tmp_path: Path
) -> None:
    asked = some_requests(table)

    read = loaded(origins, tmp_path)

    for q in (0.05, 0.5, 0.95):
        before, after = origins.predict_quantile(asked, q), read.predict_quantile(asked, q)
        assert all(np.array_equal(before[name], after[name]) for name in (PREFILL, PER_TOKEN))
    assert read.state == origins.state
    assert read.max_output_tokens(A_REQUEST, 900) == origins.max_output_tokens(A_REQUEST, 900)
    with pytest.raises(OtherDecodeTime, match="short outputs look faster than they are"):
        read.predict(A_REQUEST)["T_decode_per_step"]


@pytest.mark.parametrize("recipe", Recipe)
def test_what_was_not_calibrated_is_read_as_such(
    table: Table, tmp_path: Path, recipe: Recipe
) -> None:
    read = loaded(by_hand(table, recipe), tmp_path)

    with pytest.raises(EstimatorProblem, match=r"was not calibrated .* call fit\(records\), which"):
        read.predict_quantile(A_REQUEST, 0.95)
    assert json.loads((tmp_path / "model.json").read_text())["state"] is None


def test_a_network_that_was_read_can_be_trained_further(table: Table, tmp_path: Path) -> None:
    read = loaded(by_hand(table, Recipe.ORIGIN), tmp_path)
    trainer = LatencyEstimatorTrainer(read, lr=1e-2)

    losses = [trainer.train_step(a_batch(table, Recipe.ORIGIN))["loss"] for _ in range(20)]

    assert losses[-1] < losses[0]


def test_another_machine_warns_where_the_file_knows_its_own(
    origins: LatencyEstimator, table: Table, tmp_path: Path
) -> None:
    origins.save(tmp_path / "fitted.json")
    by_hand(table, Recipe.ORIGIN).save(tmp_path / "by_hand.json")

    with pytest.warns(OtherMachine, match=f"measured on the machine {LAUNCH_BOUND.fingerprint}"):
        load_estimator(tmp_path / "fitted.json", machine="bb")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_estimator(tmp_path / "by_hand.json", machine="bb")


def test_a_file_of_before_recipes_were_named_is_of_the_mended_one(
    table: Table, tmp_path: Path
) -> None:
    network = by_hand(table, Recipe.MENDED)
    network.save(tmp_path / "model.json")
    document = json.loads((tmp_path / "model.json").read_text())
    del document["model"]["recipe"]
    (tmp_path / "model.json").write_text(sealed(document))

    assert load_estimator(tmp_path / "model.json").predict(A_REQUEST) == network.predict(A_REQUEST)


@pytest.mark.parametrize("recipe", ["mended", "other", None, 1])
def test_a_recipe_that_is_not_the_files_own_is_refused(
    origins: LatencyEstimator, tmp_path: Path, recipe: object
) -> None:
    origins.save(tmp_path / "model.json")
    document = json.loads((tmp_path / "model.json").read_text())
    document["model"]["recipe"] = recipe
    (tmp_path / "model.json").write_text(sealed(document))

    with pytest.raises(EstimatorProblem, match="is no estimator that can be trusted"):
        load_estimator(tmp_path / "model.json")


def test_other_kinds_have_a_state_and_steps(
    fitted: RooflineEstimator, origins: LatencyEstimator, tmp_path: Path
) -> None:
    origins.save(tmp_path / "origins.json")
    fitted.save(tmp_path / "model.json")
    document = json.loads((tmp_path / "model.json").read_text())
    of_tokens = json.loads((tmp_path / "origins.json").read_text())["state"]

    (tmp_path / "none.json").write_text(sealed({**document, "state": None}))
    (tmp_path / "tokens.json").write_text(sealed({**document, "state": of_tokens}))

    with pytest.raises(EstimatorProblem, match="its state or model is no object"):
        load_estimator(tmp_path / "none.json")
    with pytest.raises(EstimatorProblem, match="T_decode_per_token, as no roofline has it"):
        load_estimator(tmp_path / "tokens.json")


def test_a_network_with_a_weight_that_is_not_finite_is_not_saved(
    table: Table, tmp_path: Path
) -> None:
    network = by_hand(table, Recipe.MENDED)
    with torch.no_grad():
        network.prefill_head.bias.fill_(float("nan"))

    with pytest.raises(EstimatorProblem, match="this network holds a weight that is not finite"):
        network.save(tmp_path / "model.json")
    assert list(tmp_path.iterdir()) == []
