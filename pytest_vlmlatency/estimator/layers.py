"""The legacy network: five inputs, a shared trunk, a head for each of two times.

B requests. The trunk is Linear(5 -> H), LayerNorm, ReLU, then as many Linear(H -> H), LayerNorm,
ReLU as there are further layers. The legacy recipe feeds it raw inputs and ends each head with a
ReLU; the mended one standardises the inputs and lets the heads say logarithms, so that no head is
dead at the start and errors count in proportion. Owns no training and no file.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.inputs import INPUTS
from pytest_vlmlatency.estimator.recipes import Predicted, Recipe
from pytest_vlmlatency.estimator.tensors import amount_of

if TYPE_CHECKING:
    from collections.abc import Mapping

N_TARGETS = 2
SMALLEST_SD = 1e-6
"""Of an input that never varied: it is left as it is, not divided by nothing."""


class LatencyNetwork(nn.Module):
    """Predicts `T_prefill_total` and a decode time in ms, differentiably and on any device."""

    input_mean: Tensor
    input_sd: Tensor
    log_ms_mean: Tensor
    log_ms_sd: Tensor
    is_standardised: Tensor

    def __init__(self, hidden_dim: int = 256, num_layers: int = 2, *, recipe: str = "mended"):
        super().__init__()
        for name, value in (("hidden_dim", hidden_dim), ("num_layers", num_layers)):
            if type(value) is not int or value < 1:  # True is an int, too
                raise EstimatorProblem(f"{name} is {value!r}; expected a whole number from 1")
        self.hidden_dim, self.num_layers = hidden_dim, num_layers
        self.recipe = _recipe(recipe)
        widths = [len(INPUTS), *[hidden_dim] * num_layers]
        layers: list[nn.Module] = []
        for width, next_width in pairwise(widths):
            layers += [nn.Linear(width, next_width), nn.LayerNorm(next_width), nn.ReLU()]
        self.trunk = nn.Sequential(*layers)
        self.prefill_head = nn.Linear(hidden_dim, 1)
        self.decode_head = nn.Linear(hidden_dim, 1)
        self.register_buffer("input_mean", torch.zeros(len(INPUTS)))
        self.register_buffer("input_sd", torch.ones(len(INPUTS)))
        self.register_buffer("log_ms_mean", torch.zeros(N_TARGETS))
        self.register_buffer("log_ms_sd", torch.ones(N_TARGETS))
        self.register_buffer("is_standardised", torch.zeros((), dtype=torch.bool))

    def forward(
        self,
        vision_tokens: Tensor,
        text_tokens: Tensor,
        tier_idx: Tensor,
        top_k: Tensor,
        num_active_blocks: Tensor,
    ) -> Predicted[Tensor]:
        """Return both times in ms: five tensors (B,) -> two of (B,); scalars are broadcast.

        The names are `T_prefill_total` and, of the mended recipe, `T_decode_per_step`, of the
        legacy one, `T_decode_per_token`; the other one is an error that explains the difference.
        """
        given = (vision_tokens, text_tokens, tier_idx, top_k, num_active_blocks)
        prefill, decode = self._heads(_stacked(given, self.input_mean))  # (B, 5) -> 2 x (B,)
        if self.recipe is Recipe.ORIGIN:
            return Predicted(self.recipe, prefill_ms=prefill.relu(), decode_ms=decode.relu())
        return Predicted(self.recipe, prefill_ms=prefill.exp(), decode_ms=decode.exp())

    def log_ms(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logarithms of both times, of the mended recipe: (B, 5) -> 2 x (B,)."""
        return self._heads(inputs)

    def _heads(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        if self.recipe is Recipe.MENDED:
            inputs = (inputs - self.input_mean) / self.input_sd
        hidden = self.trunk(inputs)  # (B, 5) -> (B, H)
        heads = (self.prefill_head(hidden).squeeze(-1), self.decode_head(hidden).squeeze(-1))
        if self.recipe is Recipe.ORIGIN:
            return heads
        first, second = (
            head * sd + mean
            for head, sd, mean in zip(heads, self.log_ms_sd, self.log_ms_mean, strict=True)
        )
        return first, second

    def forget_calibration(self) -> None:
        """Forget what was known of this network's errors, as its weights change; here, nothing."""

    @torch.no_grad()
    def standardise_by(self, inputs: Tensor, times_ms: Tensor) -> None:
        """Take means and deviations from examples: inputs (B, 5), times (B, 2), NaN if unknown."""
        self.input_mean.copy_(inputs.mean(0))
        self.input_sd.copy_(_deviations(inputs, self.input_mean))
        logs = times_ms.log()
        known = torch.where(logs.isfinite(), logs, torch.nan)
        mean = known.nanmean(0)
        deviation = (known - mean).square().nanmean(0).sqrt()
        self.log_ms_mean.copy_(mean.nan_to_num(0.0))
        usable = torch.where(deviation > SMALLEST_SD, deviation, 1.0)
        self.log_ms_sd.copy_(usable.nan_to_num(1.0))
        self.is_standardised.fill_(value=True)


def inputs_of(columns: Mapping[str, object], like: Tensor) -> Tensor:
    """Return the five inputs as one tensor (B, 5), on the device and of the dtype of `like`."""
    missing = [name for name in INPUTS if name not in columns]
    if missing:
        raise EstimatorProblem(
            f"the network needs {', '.join(INPUTS)}; seen: {', '.join(columns) or 'nothing'}, "
            f"so {', '.join(missing)} is missing"
        )
    given = {name: columns[name] for name in INPUTS}
    return _stacked(
        [
            value if isinstance(value, Tensor) else amount_of(name, value)
            for name, value in given.items()
        ],
        like,
    )


def _stacked(given: tuple[Tensor, ...] | list[Tensor], like: Tensor) -> Tensor:
    """Return tensors (B,), (B, 1) or () as (B, 5)."""
    flat = [torch.as_tensor(one).to(like).reshape(-1) for one in given]
    lengths = {len(one) for one in flat} - {1}
    if len(lengths) > 1:
        seen = ", ".join(f"{name} {len(one)}" for name, one in zip(INPUTS, flat, strict=True))
        raise EstimatorProblem(f"the inputs have several lengths: {seen}; expected one, or 1")
    n_rows = max(lengths, default=1)
    return torch.stack([one.expand(n_rows) for one in flat], dim=-1)  # 5 x (B,) -> (B, 5)


def _deviations(inputs: Tensor, mean: Tensor) -> Tensor:
    deviation = (inputs - mean).square().mean(0).sqrt()
    return torch.where(deviation > SMALLEST_SD, deviation, 1.0)


def _recipe(name: str) -> Recipe:
    try:
        return Recipe(name)
    except ValueError:
        raise EstimatorProblem(
            f"there is no recipe {name!r}; expected {' or '.join(repr(str(one)) for one in Recipe)}"
        ) from None
