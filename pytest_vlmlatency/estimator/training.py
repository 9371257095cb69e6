"""Trains the network by either recipe: one step on a batch, and whole trainings on a table.

A batch has B examples.

Legacy recipe: raw inputs, times in ms, batches of 64, 50 epochs, a constant rate. Corrected
recipe: standardised inputs, logarithms, at least 600 steps, a rate that falls to 0. Both use Adam
and count an error of prefill twice, since budgets rely on prefill most. A batch with an impossible
value is refused before a weight changes.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.inputs import INPUTS
from pytest_vlmlatency.estimator.layers import LatencyNetwork, inputs_of
from pytest_vlmlatency.estimator.recipes import PER_STEP, PER_TOKEN, PREFILL, Recipe, explained

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_vlmlatency.estimator.columns import Table


def examples_of(batch: Mapping[str, Tensor], recipe: Recipe, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return inputs (B, 5) and times (B, 2), each name there and all of one length."""
    key = recipe.decode_key
    other = PER_STEP if key == PER_TOKEN else PER_TOKEN
    if key not in batch and other in batch:
        raise explained(recipe, other)
    for name in (PREFILL, key):
        if name not in batch:
            raise EstimatorProblem(
                f"a batch lacks {name!r}; expected {', '.join(INPUTS)}, "
                f"{PREFILL} and {key}, seen: {', '.join(batch)}"
            )
    inputs = inputs_of(batch, like)
    if not len(inputs):
        raise EstimatorProblem("the batch is empty; expected at least one example: leave it out")
    return inputs, torch.stack([_times(batch, name, inputs) for name in (PREFILL, key)], dim=-1)


def check_examples(inputs: Tensor, times_ms: Tensor, recipe: Recipe, *, is_first: Tensor) -> bool:
    """Refuse values that mean nothing; return `is_first`, of which all is known in one wait.

    Every example has a prefill time above 0 ms. A decode step that is NaN is one that there was not
    (N = 1); decode / N is always there. The first batch sets the scale of both times, so it needs
    one of each.
    """
    is_input = (inputs >= 0) & inputs.isfinite()
    is_time = (times_ms > 0) & times_ms.isfinite()
    is_right = is_time.clone()
    if recipe is Recipe.MENDED:
        is_right[:, 1] |= times_ms[:, 1].isnan()
    facts = [is_input.all(), is_right.all(), is_time[:, 1].any(), is_first]
    inputs_are, times_are, has_decode, first = torch.stack(facts).tolist()
    if not inputs_are:
        raise _told(INPUTS, inputs, is_input, "finite amounts that are not below 0")
    if not times_are:
        mask = " (NaN where there was no decode step)" if recipe is Recipe.MENDED else ""
        names = (PREFILL, recipe.decode_key)
        raise _told(names, times_ms, is_right, f"finite times above 0 ms{mask}")
    if first and not has_decode:
        raise EstimatorProblem(
            f"{recipe.decode_key} is NaN in all {len(inputs)} examples of the first batch, which "
            f"sets the scale of both times; expected at least one: begin with another batch. No "
            f"weight was changed"
        )
    return bool(first)


def _times(batch: Mapping[str, Tensor], name: str, inputs: Tensor) -> Tensor:
    try:
        times = torch.as_tensor(batch[name]).to(inputs).reshape(-1)
    except (TypeError, ValueError, RuntimeError) as error:
        raise EstimatorProblem(
            f"{name} is no tensor of numbers ({error}); expected times in ms"
        ) from error
    if len(times) != len(inputs):
        raise EstimatorProblem(
            f"{name} has {len(times)} values for {len(inputs)} examples; expected one for each: "
            f"the inputs and both times are all (B,)"
        )
    return times


def _told(
    names: tuple[str, ...], values: Tensor, is_right: Tensor, expected: str
) -> EstimatorProblem:
    """Return the error for the first name that has wrong values."""
    index = int((~is_right).any(0).nonzero()[0])
    wrong = values[~is_right[:, index], index]
    return EstimatorProblem(
        f"{names[index]} has {len(wrong)} of {len(values)} values that mean nothing, the first "
        f"being {float(wrong[0]):g}; expected {expected}. No weight was changed"
    )


PREFILL_WEIGHT = 2.0
WEIGHT_DECAY = 1e-5
MOST_SEEDS = 100
FEWEST_STEPS = 600
"""Of the mended recipe: with less, a few records are not enough to move the network at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """How long and in what portions to train."""

    batch_size: int
    num_epochs: int
    lr: float = 1e-3
    seed: int = 3407
    fewest_steps: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_epochs"):
            if getattr(self, name) < 1:
                raise EstimatorProblem(f"{name} is {getattr(self, name)}; expected 1 or more")
        if not 0 < self.lr < math.inf:
            raise EstimatorProblem(f"the learning rate is {self.lr}; expected more than 0")


PLANS = {
    Recipe.ORIGIN: TrainingPlan(batch_size=64, num_epochs=50),
    Recipe.MENDED: TrainingPlan(batch_size=256, num_epochs=10, fewest_steps=FEWEST_STEPS),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a training is, and the mean loss of the epoch that ended."""

    epoch: int
    n_epochs: int
    loss: float


class LatencyEstimatorTrainer:
    """Trains a `LatencyEstimator` batch by batch."""

    def __init__(
        self, model: LatencyNetwork, device: str | torch.device = "cpu", lr: float = 1e-3
    ) -> None:
        self.model = model.to(device)
        self.device = torch.device(device)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=WEIGHT_DECAY)

    def train_step(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        """Take one step on a batch; return "loss", "loss_prefill" and "loss_decode".

        The batch has the five inputs, `T_prefill_total` and the recipe's decode time, all (B,). A
        decode step that is NaN (a single output token has none) counts nothing. A mended network
        that has not been standardised takes that from the first batch. A batch that means nothing
        is refused before a weight changes. Quantiles of an earlier `fit` are forgotten.
        """
        network = self.model
        inputs, times_ms = examples_of(batch, network.recipe, network.input_mean)
        is_raw = ~network.is_standardised & (network.recipe is Recipe.MENDED)
        is_first = check_examples(inputs, times_ms, network.recipe, is_first=is_raw)
        if is_first:
            network.standardise_by(inputs, times_ms)
        network.train()
        losses = self._losses(inputs, times_ms)
        said = torch.stack([*losses.values(), network.input_sd.sum()]).tolist()
        if not all(math.isfinite(value) for value in said):
            if is_first:
                network.is_standardised.fill_(value=False)
            raise EstimatorProblem(
                f"the loss of this batch is {said[0]}: its values are too large for the network's "
                f"{network.input_mean.dtype}, or a weight is not finite; expected times in ms. No "
                f"weight was changed"
            )
        network.forget_calibration()
        self._descend(losses["loss"])
        return dict(zip(losses, said, strict=False))

    def set_lr(self, lr: float) -> None:
        """Take further steps at this learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def _step(self, inputs: Tensor, times_ms: Tensor) -> Tensor:
        """Take one step on examples that are known to be good; return the loss, unread."""
        self.model.train()
        loss = self._losses(inputs, times_ms)["loss"]
        self._descend(loss)
        return loss.detach()

    def _descend(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own has no types
        self.optimizer.step()

    def _losses(self, inputs: Tensor, times_ms: Tensor) -> dict[str, Tensor]:
        """Return the errors' mean squares, of ms or of logarithms of ms."""
        if self.model.recipe is Recipe.ORIGIN:
            predicted: tuple[Tensor, ...] = tuple(self.model(*inputs.unbind(-1)).values())
            wanted = times_ms
        else:
            predicted, wanted = self.model.log_ms(inputs), times_ms.log()
        prefill, decode = (
            _mean_square(one, wanted[:, index]) for index, one in enumerate(predicted)
        )
        loss = PREFILL_WEIGHT * prefill + decode
        return {"loss": loss, "loss_prefill": prefill, "loss_decode": decode}


def begun(
    table: Table, plan: TrainingPlan, sizes: tuple[int, int], recipe: Recipe
) -> LatencyNetwork:
    """Return a new network by the plan's seed.

    Many seeds leave a head of the legacy recipe dead: 0 ms, and no gradient. It begins with the
    first seed, from the plan's on, that says more than 0 ms for every record.
    """
    for seed in range(plan.seed, plan.seed + MOST_SEEDS):
        with torch.random.fork_rng(devices=()), torch.no_grad():
            torch.manual_seed(seed)
            network = LatencyNetwork(*sizes, recipe=recipe)
            if recipe is Recipe.MENDED:
                return network
            inputs, _ = _examples(network, table, torch.device("cpu"))
            if all(bool(ms.all()) for ms in network(*inputs.unbind(-1)).values()):
                return network
    raise EstimatorProblem(
        f"a head of the origin's network says 0 ms for some record with each of {MOST_SEEDS} seeds "
        f"from {plan.seed} on; expected one that does not: take the mended recipe"
    )


def train(
    model: LatencyNetwork,
    table: Table,
    plan: TrainingPlan,
    *,
    device: str = "cpu",
    on_epoch: Callable[[Progress], None] | None = None,
) -> None:
    """Train a network on a whole table, in batches drawn by the plan's seed.

    On one CPU thread: several only wait for each other in a network this small, up to 25 times
    longer a step on a busy machine.
    """
    with _one_thread():
        _train(model, table, plan, device=device, on_epoch=on_epoch)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train(
    model: LatencyNetwork,
    table: Table,
    plan: TrainingPlan,
    *,
    device: str,
    on_epoch: Callable[[Progress], None] | None,
) -> None:
    trainer = LatencyEstimatorTrainer(model, device=device, lr=plan.lr)
    inputs, times_ms = _examples(model, table, trainer.device)
    if model.recipe is Recipe.MENDED:
        model.standardise_by(inputs, times_ms)
    plan = _long_enough(plan, len(inputs))
    n_steps = plan.num_epochs * math.ceil(len(inputs) / plan.batch_size)
    generator = torch.Generator().manual_seed(plan.seed)
    step = 0
    for epoch in range(plan.num_epochs):
        total = torch.zeros((), device=trainer.device)
        for rows in _batches(len(inputs), plan.batch_size, generator):
            if model.recipe is Recipe.MENDED:
                trainer.set_lr(plan.lr * (1 + math.cos(math.pi * step / n_steps)) / 2)
            total += trainer._step(inputs[rows], times_ms[rows]) * len(rows) / len(inputs)
            step += 1
        if on_epoch is not None:
            on_epoch(Progress(epoch=epoch + 1, n_epochs=plan.num_epochs, loss=float(total)))
    model.eval()


def _long_enough(plan: TrainingPlan, n_examples: int) -> TrainingPlan:
    n_steps = math.ceil(n_examples / plan.batch_size)
    return replace(plan, num_epochs=max(plan.num_epochs, math.ceil(plan.fewest_steps / n_steps)))


def _examples(model: LatencyNetwork, table: Table, device: torch.device) -> tuple[Tensor, Tensor]:
    is_origin = model.recipe is Recipe.ORIGIN
    decode_ms = table.decode_ms / table.output_tokens if is_origin else table.decode_per_step_ms
    columns = {name: torch.as_tensor(values.copy()) for name, values in table.columns.items()}
    like = torch.zeros((), dtype=model.input_mean.dtype, device=device)
    inputs = inputs_of(columns, like)
    times = [torch.as_tensor(values).to(like) for values in (table.prefill_ms, decode_ms)]
    return inputs, torch.stack(times, dim=-1)


def _batches(n_rows: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    order = torch.randperm(n_rows, generator=generator)
    yield from (order[start : start + size] for start in range(0, n_rows, size))


def _mean_square(predicted: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean over the rows whose time is known; 0 if none is. Waits for no device."""
    is_known = wanted.isfinite()
    off = torch.where(is_known, predicted - wanted, 0.0)
    return off.square().sum() / is_known.sum().clamp(min=1)
