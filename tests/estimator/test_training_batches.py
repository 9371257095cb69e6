"""A batch that means nothing is refused, with the key and the number, before a weight changes."""

from collections.abc import Callable, Iterator, Mapping
from typing import cast

import pytest
import torch
from torch import Tensor

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.layers import LatencyNetwork
from pytest_vlmlatency.estimator.recipes import PER_STEP, PER_TOKEN, PREFILL, Recipe
from pytest_vlmlatency.estimator.training import LatencyEstimatorTrainer
from tests.threads import torch_threads

NAN, INF = float("nan"), float("inf")
LOOKS = ("tolist", "item", "__bool__", "__float__", "__int__", "nonzero", "cpu", "numpy")
Batch = dict[str, Tensor]


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Let each network begin with the same weights, on one thread."""
    torch.manual_seed(1)
    with torch_threads(1):
        yield


def a_batch(recipe: Recipe, changed: Mapping[str, object] | None = None, *, n: int = 6) -> Batch:
    """Return a batch of `n` examples, some of it changed."""
    batch = {
        "vision_tokens": torch.linspace(200, 900, n),
        "text_tokens": torch.linspace(20, 90, n),
        "tier_idx": torch.arange(n) % 3,
        "top_k": torch.full((n,), 8),
        "num_active_blocks": torch.full((n,), 12),
        PREFILL: torch.linspace(40, 90, n),
        recipe.decode_key: torch.linspace(10, 20, n),
    }
    return cast("Batch", {**batch, **(changed or {})})  # what is wrong may be no tensor


def of_key(name: str, recipe: Recipe) -> str:
    return recipe.decode_key if name == "decode" else name


def first_is(value: float, recipe: Recipe, name: str) -> Tensor:
    """Return a column of the batch whose first value is another."""
    column = a_batch(recipe)[name].double()
    column[0] = value
    return column


def weights_of(network: LatencyNetwork) -> Batch:
    return {name: value.clone() for name, value in network.state_dict().items()}


def refused(recipe: Recipe, batch: Batch, match: str, *, n_steps: int) -> None:
    """Check that a batch is refused and that nothing of the network has changed."""
    network = LatencyNetwork(8, recipe=recipe)
    trainer = LatencyEstimatorTrainer(network)
    for _ in range(n_steps):
        trainer.train_step(a_batch(recipe))
    before = weights_of(network)

    with pytest.raises(EstimatorProblem, match=match):
        trainer.train_step(batch)

    after = weights_of(network)
    assert {name for name in before if not torch.equal(before[name], after[name])} == set()


def looked_at(looks: list[str], name: str, seen: Callable[..., object]) -> Callable[..., object]:
    """Return a method that notes each use."""

    def look(*given: object, **named: object) -> object:
        looks.append(name)
        return seen(*given, **named)

    return look


@pytest.mark.parametrize("n_steps", [0, 2])
@pytest.mark.parametrize("recipe", Recipe)
@pytest.mark.parametrize("value", [NAN, INF, -1.0, 1e39])
@pytest.mark.parametrize("name", ["vision_tokens", "top_k"])
def test_one_input_that_means_nothing_changes_no_weight(
    recipe: Recipe, name: str, value: float, n_steps: int
) -> None:
    batch = a_batch(recipe, {name: first_is(value, recipe, name)})

    refused(recipe, batch, rf"{name} has 1 of 6 values that mean nothing", n_steps=n_steps)


@pytest.mark.parametrize("n_steps", [0, 2])
@pytest.mark.parametrize("recipe", Recipe)
@pytest.mark.parametrize("value", [INF, -1.0, 0.0])
@pytest.mark.parametrize("name", [PREFILL, "decode"])
def test_one_time_that_means_nothing_changes_no_weight(
    recipe: Recipe, name: str, value: float, n_steps: int
) -> None:
    key = of_key(name, recipe)
    batch = a_batch(recipe, {key: first_is(value, recipe, key)})

    refused(
        recipe,
        batch,
        rf"{key} has 1 of 6 values that mean nothing, the first being {value:g}; expected finite "
        rf"times above 0 ms",
        n_steps=n_steps,
    )


@pytest.mark.parametrize("recipe", Recipe)
@pytest.mark.parametrize("n", [1, 6])
def test_a_prefill_that_is_unknown_changes_no_weight(recipe: Recipe, n: int) -> None:
    times = torch.cat([torch.full((n,), NAN), torch.full((6 - n,), 50.0)])

    refused(
        recipe,
        a_batch(recipe, {PREFILL: times}),
        rf"{PREFILL} has {n} of 6 values that mean nothing, the first being nan",
        n_steps=1,
    )


def test_decode_over_n_is_always_there_so_nan_is_refused() -> None:
    batch = a_batch(Recipe.ORIGIN, {PER_TOKEN: first_is(NAN, Recipe.ORIGIN, PER_TOKEN)})

    refused(Recipe.ORIGIN, batch, f"{PER_TOKEN} has 1 of 6 values", n_steps=1)


def test_a_decode_step_that_there_was_not_counts_nothing_beside_others() -> None:
    batch = a_batch(Recipe.MENDED)
    masked = {**batch, PER_STEP: first_is(NAN, Recipe.MENDED, PER_STEP)}
    rest = {name: values[1:] for name, values in batch.items()}

    losses = []
    for one in (masked, rest):
        torch.manual_seed(1)
        trainer = LatencyEstimatorTrainer(LatencyNetwork(8))
        trainer.train_step(batch)
        losses.append(trainer.train_step(one)["loss_decode"])

    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_first_batch_needs_a_decode_time_to_set_its_scale() -> None:
    batch = a_batch(Recipe.MENDED, {PER_STEP: torch.full((6,), NAN)})

    refused(
        Recipe.MENDED,
        batch,
        f"{PER_STEP} is NaN in all 6 examples of the first batch, which sets the scale",
        n_steps=0,
    )


@pytest.mark.parametrize("n_steps", [0, 2])
@pytest.mark.parametrize("recipe", Recipe)
def test_an_empty_batch_changes_no_weight(recipe: Recipe, n_steps: int) -> None:
    refused(recipe, a_batch(recipe, n=0), "the batch is empty", n_steps=n_steps)


@pytest.mark.parametrize("recipe", Recipe)
@pytest.mark.parametrize("n", [1, 5, 7])
@pytest.mark.parametrize("name", [PREFILL, "decode"])
def test_times_of_another_length_than_the_inputs_are_told(
    recipe: Recipe, name: str, n: int
) -> None:
    key = of_key(name, recipe)

    refused(
        recipe,
        a_batch(recipe, {key: torch.ones(n)}),
        rf"{key} has {n} values for 6 examples; expected one for each",
        n_steps=1,
    )


def test_times_that_are_no_numbers_are_told() -> None:
    batch = a_batch(Recipe.MENDED, {PREFILL: ["fast"] * 6})

    refused(Recipe.MENDED, batch, f"{PREFILL} is no tensor of numbers", n_steps=1)


@pytest.mark.parametrize("n_steps", [0, 2])
def test_times_too_large_for_the_network_change_no_weight(n_steps: int) -> None:
    batch = a_batch(Recipe.ORIGIN, {PREFILL: torch.full((6,), 1e30)})

    refused(Recipe.ORIGIN, batch, "the loss of this batch is inf: its", n_steps=n_steps)


def test_inputs_too_large_for_a_scale_leave_the_next_batch_the_first() -> None:
    network = LatencyNetwork(8)
    trainer = LatencyEstimatorTrainer(network)
    with pytest.raises(EstimatorProblem, match=r"too large for the network's torch\.float32"):
        trainer.train_step(a_batch(Recipe.MENDED, {"vision_tokens": torch.linspace(1, 1e38, 6)}))

    losses = [trainer.train_step(a_batch(Recipe.MENDED))["loss"] for _ in range(60)]

    assert losses[-1] < losses[0]
    assert network.input_mean[0] == pytest.approx(550)


def test_a_batch_may_name_its_tiers() -> None:
    named = a_batch(Recipe.MENDED, {"tier_idx": ["low", "medium", "high"] * 2})

    losses = []
    for batch in (named, a_batch(Recipe.MENDED)):
        torch.manual_seed(1)
        losses.append(LatencyEstimatorTrainer(LatencyNetwork(8)).train_step(batch))

    assert losses[0] == losses[1]


def test_a_step_looks_at_its_values_twice_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each look waits for an accelerator: one to check the batch, one to say the losses."""
    looks: list[str] = []
    trainer = LatencyEstimatorTrainer(LatencyNetwork(8))
    batch = a_batch(Recipe.MENDED)
    trainer.train_step(batch)
    monkeypatch.setattr(trainer.optimizer, "step", lambda: None)  # Adam counts steps on the CPU
    for name in LOOKS:
        monkeypatch.setattr(Tensor, name, looked_at(looks, name, getattr(Tensor, name)))

    trainer.train_step(batch)

    assert looks == ["tolist", "tolist"]
