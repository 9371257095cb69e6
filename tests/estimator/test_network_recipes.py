"""A network of either recipe, fitted or trained by hand: what it answers, and what it refuses."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator import LatencyEstimator, LatencyEstimatorTrainer, config_grid
from pytest_vlmlatency.estimator.columns import Table, table_of
from pytest_vlmlatency.estimator.inputs import INPUTS
from pytest_vlmlatency.estimator.layers import LatencyNetwork
from pytest_vlmlatency.estimator.network import NetworkModel
from pytest_vlmlatency.estimator.recipes import (
    PER_STEP,
    PER_TOKEN,
    PREFILL,
    OtherDecodeTime,
    Recipe,
)
from pytest_vlmlatency.estimator.training import TrainingPlan, begun
from tests.generated_records import LAUNCH_BOUND, Noise, generate_records

QUIET = Noise(call_sd=0.01, job_sd=0, outlier_share=0)
A_REQUEST: dict[str, object] = {
    "vision_tokens": 450,
    "text_tokens": 30,
    "tier": "medium",
    "top_k": 8,
    "num_active_blocks": 12,
}
REQUEST: dict[str, object] = {name: A_REQUEST[name] for name in ("vision_tokens", "text_tokens")}
GRID = config_grid(tier=["low", "high"], top_k=[4, 12], num_active_blocks=[8, 16])
RECOMPUTED = (PER_TOKEN, PER_STEP, "T_total", "T_other", "decode_steps")
PLAN = TrainingPlan(batch_size=64, num_epochs=25, lr=1e-2, seed=1)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def table() -> Table:
    """Return records of the launch-bound machine, 40 of each configuration."""
    return table_of(generate_records(LAUNCH_BOUND, n_of_configuration=40, noise=QUIET))


@pytest.fixture(scope="module")
def origins(table: Table) -> LatencyEstimator:
    """Return a fitted network of the origin's recipe; no test changes it."""
    return LatencyEstimator(32, recipe="origin", plan=PLAN).fit(table)


def a_batch(table: Table, recipe: Recipe) -> dict[str, torch.Tensor]:
    """Return all records as a user's own loop has them."""
    per_token = table.decode_ms / table.output_tokens
    decode_ms = per_token if recipe is Recipe.ORIGIN else table.decode_per_step_ms
    columns = {name: table.columns[name] for name in INPUTS}
    times = {PREFILL: table.prefill_ms, recipe.decode_key: decode_ms}
    return {name: torch.tensor(values) for name, values in {**columns, **times}.items()}


def by_hand(table: Table, recipe: Recipe) -> LatencyEstimator:
    """Return a network that a few steps were taken with."""
    torch.manual_seed(1)
    network = LatencyEstimator(16, recipe=recipe)
    trainer = LatencyEstimatorTrainer(network, lr=1e-2)
    for _ in range(30):
        trainer.train_step(a_batch(table, recipe))
    return network


def times(network: LatencyEstimator, asked: Mapping[str, object]) -> tuple[Any, Any]:
    """Return prefill and decode / N."""
    said = network.predict_batch(asked)
    return said[PREFILL], said[PER_TOKEN]


def some_requests(table: Table, n: int = 200) -> dict[str, np.ndarray]:
    return {name: table.columns[name][:n] for name in INPUTS}


def test_a_fitted_network_of_the_origins_recipe_answers_under_its_own_name(
    origins: LatencyEstimator,
) -> None:
    assert set(origins.predict(A_REQUEST)) == {PREFILL, PER_TOKEN}
    assert set(origins.predict_quantile(A_REQUEST, 0.95)) == {PREFILL, PER_TOKEN}
    with pytest.raises(OtherDecodeTime, match="short outputs look faster than they are"):
        origins.predict(A_REQUEST)[PER_STEP]
    with pytest.raises(OtherDecodeTime, match="short outputs look faster than they are"):
        origins.predict_quantile(A_REQUEST, 0.95)[PER_STEP]


def test_its_quantiles_hold_for_its_own_decode_time(origins: LatencyEstimator) -> None:
    unseen = table_of(generate_records(LAUNCH_BOUND, n_of_configuration=40, seed=8, noise=QUIET))
    per_token = unseen.decode_ms / unseen.output_tokens

    low, high = (origins.predict_quantile(unseen.columns, q)[PER_TOKEN] for q in (0.1, 0.9))

    assert 0.03 < np.mean(per_token < low) < 0.2
    assert 0.03 < np.mean(per_token > high) < 0.2


def test_its_outliers_are_of_its_own_decode_time(table: Table) -> None:
    slow = table.rows(np.arange(len(table)))
    slow.decode_ms[7] *= 30

    network = LatencyEstimator(32, recipe="origin", plan=PLAN).fit(slow)

    found = {outlier.record: outlier for outlier in network.outliers}
    assert found[7].target == PER_TOKEN
    assert found[7].measured_ms == slow.decode_ms[7] / slow.output_tokens[7]


def test_an_update_follows_its_own_decode_time(table: Table) -> None:
    network = LatencyEstimator(32, recipe="origin", plan=PLAN).fit(table)
    before = network.predict_quantile(A_REQUEST, 0.5)[PER_TOKEN][0]
    records = generate_records(LAUNCH_BOUND, n_of_configuration=2, seed=4, noise=QUIET)

    for record in list(records)[:20]:
        decode_ms, total_ms = (cast("float", record[name]) for name in ("T_LLM_decode", "T_total"))
        slower = {"T_LLM_decode": 2 * decode_ms, "T_total": total_ms + decode_ms}
        kept = {name: record[name] for name in record if name not in RECOMPUTED}
        network.update({**kept, **slower})

    assert network.predict_quantile(A_REQUEST, 0.5)[PER_TOKEN][0] / before > 1.4


def test_a_budget_of_n_tokens_is_prefill_and_n_times_decode_over_n(
    origins: LatencyEstimator, table: Table
) -> None:
    asked = some_requests(table)
    prefill_ms, per_token_ms = times(origins, asked)
    n_tokens = np.arange(1, len(prefill_ms) + 1)
    budget_ms = prefill_ms + n_tokens * per_token_ms

    assert np.all(origins.check_budget_feasibility(asked, budget_ms, n_tokens))
    assert not np.any(origins.check_budget_feasibility(asked, budget_ms * (1 - 1e-9), n_tokens))
    assert np.array_equal(origins.max_output_tokens(asked, budget_ms), n_tokens)


def test_a_budget_of_n_tokens_is_the_same_for_tensors(
    origins: LatencyEstimator, table: Table
) -> None:
    asked = {name: torch.tensor(values).float() for name, values in some_requests(table).items()}
    prefill_ms, per_token_ms = (ms.detach() for ms in times(origins, asked))
    n_tokens = torch.arange(1, len(prefill_ms) + 1)
    budget_ms = prefill_ms + n_tokens * per_token_ms

    assert torch.equal(cast("torch.Tensor", origins.max_output_tokens(asked, budget_ms)), n_tokens)
    for n, fits in ((n_tokens, True), (n_tokens + 1, False)):
        inside = origins.check_budget_feasibility(asked, budget_ms, n)
        assert cast("torch.Tensor", inside).tolist() == [fits] * len(n)


@pytest.mark.parametrize("recipe", Recipe)
def test_in_float64_a_networks_budgets_are_those_of_arrays(table: Table, recipe: Recipe) -> None:
    network, asked = by_hand(table, recipe), some_requests(table)
    prefill_ms, decode_ms = network.predict_batch(asked).values()
    budget_ms = prefill_ms + np.arange(len(prefill_ms)) * decode_ms
    tensors = {name: torch.tensor(values) for name, values in asked.items()}

    of_tensors = network.max_output_tokens(tensors, torch.from_numpy(budget_ms))

    of_arrays = np.asarray(network.max_output_tokens(asked, budget_ms))
    assert cast("torch.Tensor", of_tensors).tolist() == of_arrays.tolist()


def test_a_budget_of_less_than_prefill_leaves_no_token(origins: LatencyEstimator) -> None:
    prefill_ms, per_token_ms = (float(ms[0]) for ms in times(origins, A_REQUEST))

    assert origins.max_output_tokens(A_REQUEST, prefill_ms / 2) == 0
    assert origins.max_output_tokens(A_REQUEST, prefill_ms) == 0
    assert origins.max_output_tokens(A_REQUEST, prefill_ms + 1.5 * per_token_ms) == 1
    assert isinstance(origins.max_output_tokens(A_REQUEST, 500), int)


def test_a_safety_quantile_a_share_and_a_percentile_count(origins: LatencyEstimator) -> None:
    prefill_ms, per_token_ms = (float(ms[0]) for ms in times(origins, A_REQUEST))
    high_ms, high_token_ms = (
        float(ms[0]) for ms in origins.predict_quantile(A_REQUEST, 0.95).values()
    )
    n_tokens = origins.state.output_tokens[90]
    exact_ms, high = prefill_ms + 4 * per_token_ms, high_ms + 4 * high_token_ms
    of_percentile = prefill_ms + n_tokens * per_token_ms

    def fits(*asked: float, **named: float) -> object:
        return origins.check_budget_feasibility(A_REQUEST, *asked, **named)

    assert [fits(high * by, 4, quantile=0.95) for by in (0.999, 1.001)] == [False, True]
    assert [fits(exact_ms, 4, prefill_share=share) for share in (0.01, 1.0)] == [False, True]
    assert [fits(of_percentile * by, percentile=90) for by in (0.999, 1.001)] == [False, True]


def test_a_search_follows_the_same_sum(origins: LatencyEstimator) -> None:
    totals = [
        float((prefill_ms + 6 * per_token_ms)[0])
        for prefill_ms, per_token_ms in (times(origins, {**config, **REQUEST}) for config in GRID)
    ]
    budget_ms = float(np.median(totals))

    found = origins.feasible_configs(GRID, budget_ms, 6, request=REQUEST)
    pairs = origins.feasible_pairs(GRID, REQUEST, [budget_ms], [6])
    best = origins.best_config(
        GRID, budget_ms, 6, accuracy=[float(n) for n in range(len(GRID))], request=REQUEST
    )

    assert found == [config for config, ms in zip(GRID, totals, strict=True) if ms <= budget_ms]
    assert 0 < len(found) < len(GRID)
    assert pairs.tolist() == [[ms <= budget_ms for ms in totals]]
    assert best == found[-1]


@pytest.mark.parametrize("recipe", Recipe)
@pytest.mark.parametrize("budget_ms", [-500, 0, float("nan"), float("inf")])
def test_a_budget_that_is_no_time_is_refused(
    table: Table, recipe: Recipe, budget_ms: float
) -> None:
    network = by_hand(table, recipe)

    with pytest.raises(EstimatorProblem, match=r"a budget is .* ms; expected a finite time above"):
        network.check_budget_feasibility(A_REQUEST, budget_ms, 4)
    with pytest.raises(EstimatorProblem, match=r"a budget is .* ms; expected a finite time above"):
        network.max_output_tokens(A_REQUEST, budget_ms)
    with pytest.raises(EstimatorProblem, match=r"a budget is .* ms; expected a finite time above"):
        network.feasible_configs(GRID, budget_ms, 4, request=REQUEST)


@pytest.mark.parametrize("recipe", Recipe)
@pytest.mark.parametrize("n_tokens", [0, -1, float("nan")])
def test_a_length_that_is_none_is_refused(table: Table, recipe: Recipe, n_tokens: float) -> None:
    network = by_hand(table, recipe)
    asked = {**A_REQUEST, "top_k": torch.tensor([8.0])}

    with pytest.raises(EstimatorProblem, match=r"expected_output_tokens is .* at least 1 token"):
        network.check_budget_feasibility(A_REQUEST, 500, n_tokens)
    with pytest.raises(EstimatorProblem, match=r"expected_output_tokens has values .* 1 token"):
        network.check_budget_feasibility(asked, 500, torch.tensor([n_tokens]))


@pytest.mark.parametrize("recipe", Recipe)
def test_a_network_trained_by_hand_plans_with_the_lengths_it_is_told(
    table: Table, recipe: Recipe
) -> None:
    network = by_hand(table, recipe)
    longest = network.max_output_tokens(A_REQUEST, 5000)

    assert network.check_budget_feasibility(A_REQUEST, 5000, longest) is True
    assert network.check_budget_feasibility(A_REQUEST, 5000, int(longest) + 1) is False
    assert network.machine is None


@pytest.mark.parametrize("recipe", Recipe)
@pytest.mark.parametrize(
    "asks",
    [
        lambda network: network.predict_quantile(A_REQUEST, 0.95),
        lambda network: network.check_budget_feasibility(A_REQUEST, 500, 4, quantile=0.95),
        lambda network: network.check_budget_feasibility(A_REQUEST, 500, percentile=90),
        lambda network: network.is_extrapolated(A_REQUEST),
        lambda network: network.update({}),
    ],
    ids=["quantile", "budget", "percentile", "range", "update"],
)
def test_a_network_trained_by_hand_says_that_it_was_not_calibrated(
    table: Table, recipe: Recipe, asks: Any
) -> None:
    with pytest.raises(EstimatorProblem, match=r"was not calibrated .* call fit\(records\), which"):
        asks(by_hand(table, recipe))


def test_a_step_after_fit_forgets_the_quantiles_of_other_weights(table: Table) -> None:
    quick = TrainingPlan(batch_size=512, num_epochs=1)
    network = LatencyEstimator(8, plan=quick).fit(table)

    LatencyEstimatorTrainer(network).train_step(a_batch(table, Recipe.MENDED))

    with pytest.raises(EstimatorProblem, match="was not calibrated since its weights last changed"):
        network.predict_quantile(A_REQUEST, 0.95)
    assert set(network.predict(A_REQUEST)) == {PREFILL, PER_STEP}


def is_alive(network: LatencyNetwork, table: Table) -> bool:
    said = NetworkModel(network=network).predict(table.columns)
    return all(bool(np.all(ms > 0)) for ms in said.values())


def test_the_origins_recipe_begins_with_a_seed_that_leaves_its_heads_alive(table: Table) -> None:
    torch.manual_seed(3407)
    as_it_was = LatencyNetwork(recipe="origin")
    plan = TrainingPlan(batch_size=64, num_epochs=1, seed=3407)

    begins = begun(table, plan, (256, 2), Recipe.ORIGIN)

    assert (is_alive(as_it_was, table), is_alive(begins, table)) == (False, True)


def test_a_network_of_the_origins_recipe_that_died_is_refused_by_its_budgets(
    table: Table,
) -> None:
    network = by_hand(table, Recipe.ORIGIN)
    with torch.no_grad():
        network.decode_head.bias.fill_(-1e6)

    with pytest.raises(EstimatorProblem, match=r"predicts 0 ms: a head that ends in a ReLU says"):
        network.max_output_tokens(A_REQUEST, 500)
    with pytest.raises(EstimatorProblem, match=r"expected times above 0 ms: train it from another"):
        network.check_budget_feasibility(A_REQUEST, 500, 4)


def test_a_record_held_out_that_is_predicted_0_ms_is_refused_and_not_left_out(
    origins: LatencyEstimator, table: Table
) -> None:
    held_out = LatencyEstimator(32, recipe="origin", plan=PLAN)._train(table, origins.model)
    none = {name: np.zeros_like(values) for name, values in table.columns.items()}
    dead = copy.deepcopy(origins)
    with torch.no_grad():
        dead.prefill_head.bias.fill_(-1e6)

    assert set(held_out.predict(none)) == {PREFILL, PER_TOKEN}
    with pytest.raises(EstimatorProblem, match=r"the origin's network predicts 0 ms"):
        replace(held_out, network=dead).predict(none)


def test_a_training_that_ends_with_a_dead_head_is_refused(table: Table) -> None:
    too_fast = TrainingPlan(batch_size=64, num_epochs=3, lr=10.0)

    with pytest.raises(EstimatorProblem, match=r"the origin's network predicts 0 ms"):
        LatencyEstimator(8, recipe="origin", plan=too_fast).fit(table)
