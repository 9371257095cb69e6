"""A configuration of a model's run-time knobs: applied, read back from the model, and undone.

`options.Configuration` is what a measurement asks of it; any model's knobs can implement that.
What `read_back` says comes from the parts that run, not from what was set, so that a knob that did
not take effect is seen as a difference; nothing here replaces a value that cannot be applied.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Protocol, cast

from pytest_vlmlatency.errors import KnobNotApplied, UsageProblem
from pytest_vlmlatency.models.shapes import TIERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

    from pytest_vlmlatency.models.molmoe import MolmoeForConditionalGeneration
    from pytest_vlmlatency.records import Scalar


class Router(Protocol):
    """The part of a block that sends each token to `top_k` experts."""

    top_k: int


TIER_NAMES = tuple(TIERS)
TOP_K = range(4, 13)
ACTIVE_BLOCKS = range(8, 17)


@dataclass(frozen=True, kw_only=True)
class MolmoeConfiguration:
    """The three knobs of a MolmoE-shaped model. A tier may be given by its index, 0 for low.

    Inputs belong to a tier: prepare them after the configuration was applied.
    """

    tier: str | int = "high"
    top_k: int = 8
    num_active_blocks: int = 16

    def __post_init__(self) -> None:
        """Refuse values that no MolmoE has, and turn a tier's index into its name."""
        object.__setattr__(self, "tier", _tier_name(self.tier))
        _check_count("top_k", self.top_k, TOP_K)
        _check_count("num_active_blocks", self.num_active_blocks, ACTIVE_BLOCKS)

    @property
    def name(self) -> str:
        """The knobs in one word, e.g. `low-k4-b12`."""
        return f"{self.tier}-k{self.top_k}-b{self.num_active_blocks}"

    def values(self) -> dict[str, Scalar]:
        """Return the value asked for of each knob."""
        return {
            "tier": self.tier,
            "top_k": self.top_k,
            "num_active_blocks": self.num_active_blocks,
        }

    @contextmanager
    def apply(self, model: object) -> Iterator[None]:
        """Apply the knobs inside the context; afterwards the model is as it was before.

        The router's `top_k` is set, since the configuration's is only copied when a model is
        built. The number of blocks is a setting that generate reads before it builds its cache.
        """
        molmoe = _molmoe(model)
        text, gates = molmoe.config.text_config, routers(molmoe)
        _check_fits(self, n_experts=text.num_experts, n_blocks=len(gates))
        tier, n_blocks = molmoe.config.tier, text.num_hidden_layers
        top_ks = [gate.top_k for gate in gates]
        try:
            molmoe.config.tier = str(self.tier)
            text.num_hidden_layers = self.num_active_blocks
            for gate in gates:
                gate.top_k = self.top_k
            yield
        finally:
            molmoe.config.tier = tier
            text.num_hidden_layers = n_blocks
            for gate, top_k in zip(gates, top_ks, strict=True):
                gate.top_k = top_k

    def read_back(self, model: object) -> dict[str, Scalar]:
        """Return the knobs of the parts that will run; differing routers are all named."""
        molmoe = _molmoe(model)
        decoder = molmoe.model.language_model
        n_blocks = len(decoder.layers[: decoder.config.num_hidden_layers])
        top_ks = sorted({gate.top_k for gate in routers(molmoe)[:n_blocks]})
        return {
            "tier": molmoe.model.config.tier,
            "top_k": top_ks[0] if len(top_ks) == 1 else " and ".join(map(str, top_ks)),
            "num_active_blocks": n_blocks,
        }


def molmoe_grid(
    tiers: Sequence[str | int] = TIER_NAMES,
    top_ks: Sequence[int] = (4, 8, 12),
    active_blocks: Sequence[int] = (8, 12, 16),
) -> tuple[MolmoeConfiguration, ...]:
    """Return every combination, 27 by default."""
    return tuple(
        MolmoeConfiguration(tier=tier, top_k=top_k, num_active_blocks=n_blocks)
        for tier, top_k, n_blocks in product(tiers, top_ks, active_blocks)
    )


def small_grid() -> tuple[MolmoeConfiguration, ...]:
    """Return the cheapest and the dearest configuration, and the dearest with one knob low."""
    return (
        MolmoeConfiguration(tier="low", top_k=4, num_active_blocks=8),
        MolmoeConfiguration(tier="low", top_k=12, num_active_blocks=16),
        MolmoeConfiguration(tier="high", top_k=4, num_active_blocks=16),
        MolmoeConfiguration(tier="high", top_k=12, num_active_blocks=8),
        MolmoeConfiguration(tier="high", top_k=12, num_active_blocks=16),
    )


def _tier_name(tier: object) -> str:
    if isinstance(tier, str) and tier in TIERS:
        return tier
    if isinstance(tier, int) and not isinstance(tier, bool) and 0 <= tier < len(TIER_NAMES):
        return TIER_NAMES[tier]
    raise UsageProblem(
        f"tier is {tier!r}; expected {', '.join(TIER_NAMES)}, or 0 to {len(TIER_NAMES) - 1}"
    )


def _check_count(name: str, value: object, accepted: range) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value not in accepted:
        raise UsageProblem(
            f"{name} is {value!r}; expected a whole number from {accepted[0]} to {accepted[-1]}"
        )


def _check_fits(asked: MolmoeConfiguration, *, n_experts: int, n_blocks: int) -> None:
    if asked.top_k > n_experts or asked.num_active_blocks > n_blocks:
        raise UsageProblem(
            f"{asked.name} needs {asked.top_k} experts and {asked.num_active_blocks} blocks; "
            f"this model has {n_experts} experts and {n_blocks} blocks"
        )


def _molmoe(model: object) -> MolmoeForConditionalGeneration:
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind != "molmoe":
        raise UsageProblem(
            f"a MolmoeConfiguration fits a MolmoE-shaped model (build_molmoe, dummy:molmoe-nano), "
            f"not {type(model).__name__}; implement Configuration for it"
        )
    return model  # type: ignore[return-value]  # only that class has this model_type


def routers(model: MolmoeForConditionalGeneration) -> list[Router]:
    """Return what chooses the experts in each block: the part of it that holds their number."""
    return [_router_of(block) for block in model.model.language_model.layers]


def _router_of(block: torch.nn.Module) -> Router:
    for part in block.modules():
        if isinstance(getattr(part, "top_k", None), int):
            return cast("Router", part)
    raise KnobNotApplied(
        f"no part of a {type(block).__name__} has a number `top_k` of experts for each token; "
        f"expected one in each block: this transformers keeps it elsewhere, see docs/coverage.md "
        f"for the tested versions"
    )
