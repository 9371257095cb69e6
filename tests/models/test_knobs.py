from __future__ import annotations

import hashlib
from contextlib import ExitStack, suppress
from dataclasses import FrozenInstanceError, replace
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.models.knobs import (
    MolmoeConfiguration,
    molmoe_grid,
    routers,
    small_grid,
)
from pytest_vlmlatency.models.molmoe import (
    MolmoeForConditionalGeneration,
    build_molmoe,
    molmoe_config,
)
from pytest_vlmlatency.models.random_weights import build_random
from pytest_vlmlatency.models.shapes import MOLMOE_SCALES

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from pytest_vlmlatency.models.load import LoadedModel
    from pytest_vlmlatency.options import Configuration

ASKED = MolmoeConfiguration()

configurations = st.builds(
    MolmoeConfiguration,
    tier=st.sampled_from(["low", "medium", "high"]),
    top_k=st.integers(4, 12),
    num_active_blocks=st.integers(8, 16),
)


def state_of(model: torch.nn.Module) -> dict[str, object]:
    """Return everything about a model that a knob could leave behind."""
    weights = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        weights.update(name.encode() + tensor.numpy().tobytes())
    return {
        "weights": weights.hexdigest(),
        "configs": [
            part.config.to_dict() for part in model.modules() if isinstance(part, PreTrainedModel)
        ],
        "attributes": [
            {key: value for key, value in vars(part).items() if not key.startswith("_")}
            for part in model.modules()
        ],
        "hooks": [len(part._forward_hooks) for part in model.modules()],
    }


def last_logits(loaded: LoadedModel, image: Image.Image) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = loaded.model(**loaded.prepare(image, "What?")).logits[0, -1]
    return logits


@settings(max_examples=12, deadline=None)
@given(configuration=configurations, is_raising=st.booleans())
def test_a_model_is_afterwards_as_it_was_before(
    *, configuration: MolmoeConfiguration, is_raising: bool, nano: LoadedModel, cat: Image.Image
) -> None:
    logits = last_logits(nano, cat)  # the first forward leaves hooks of transformers' own
    state = state_of(nano.model)

    with suppress(ZeroDivisionError), configuration.apply(nano.model):
        nano.model.generate(**nano.prepare(cat, "What?"), max_new_tokens=2)
        _ = 1 / (not is_raising)

    assert state_of(nano.model) == state
    assert torch.equal(last_logits(nano, cat), logits)


@settings(max_examples=30, deadline=None)
@given(configuration=configurations)
def test_what_was_applied_is_read_back(
    configuration: MolmoeConfiguration, nano: LoadedModel
) -> None:
    with configuration.apply(nano.model):
        assert configuration.read_back(nano.model) == configuration.values()


def test_a_failure_inside_is_not_swallowed(nano: LoadedModel) -> None:
    with pytest.raises(ZeroDivisionError), MolmoeConfiguration().apply(nano.model):
        _ = 1 / 0


def test_a_configuration_inside_another_gives_it_back(nano: LoadedModel) -> None:
    outer, inner = MolmoeConfiguration(tier="low", top_k=4), MolmoeConfiguration(tier="medium")

    with outer.apply(nano.model):
        with inner.apply(nano.model):
            pass
        assert outer.read_back(nano.model) == outer.values()


def test_each_knob_changes_the_answer(nano: LoadedModel, cat: Image.Image) -> None:
    start = MolmoeConfiguration(tier="high", top_k=12, num_active_blocks=16)
    others = [
        replace(start, tier="low"),
        replace(start, top_k=4),
        replace(start, num_active_blocks=8),
    ]
    answers = []
    for configuration in (start, *others):
        with configuration.apply(nano.model):
            answers.append(last_logits(nano, cat))

    differences = [float((one - other).abs().max()) for one, other in combinations(answers, 2)]
    assert min(differences) > 1e-3


def test_only_the_active_blocks_run(nano: LoadedModel, cat: Image.Image) -> None:
    ran: list[int] = []
    blocks = nano.model.model.language_model.layers
    handles = [
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
        for index, block in enumerate(blocks)
    ]

    with MolmoeConfiguration(num_active_blocks=10).apply(nano.model):
        nano.model.generate(**nano.prepare(cat, "What?"), max_new_tokens=2)

    [handle.remove() for handle in handles]
    assert ran == [*range(10)] * 2


def test_each_token_goes_to_top_k_experts(
    nano: LoadedModel, cat: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_chosen: list[int] = []
    topk = torch.topk

    def counting(scores: torch.Tensor, k: int, *, dim: int) -> object:
        n_chosen.append(k)
        return topk(scores, k, dim=dim)

    monkeypatch.setattr(torch, "topk", counting)

    with MolmoeConfiguration(top_k=5).apply(nano.model):
        nano.model.generate(**nano.prepare(cat, "What?"), max_new_tokens=2)

    assert n_chosen == [5] * 16 * 2  # blocks, forwards


def test_setting_the_configuration_alone_is_seen_to_have_no_effect() -> None:
    model = build_molmoe("nano")
    model.config.text_config.num_experts_per_tok = 4

    assert MolmoeConfiguration().read_back(model)["top_k"] == 8


def test_a_router_that_was_missed_is_seen() -> None:
    model = build_molmoe("nano")
    routers(model)[3].top_k = 4

    assert MolmoeConfiguration().read_back(model)["top_k"] == "4 and 8"


def test_a_router_that_never_runs_does_not_count() -> None:
    model = build_molmoe("nano")

    with MolmoeConfiguration(num_active_blocks=8).apply(model):
        routers(model)[8].top_k = 4
        assert MolmoeConfiguration().read_back(model)["top_k"] == 8


def test_blocks_that_are_not_there_are_not_read_back() -> None:
    model = build_molmoe("nano")
    del model.model.language_model.layers[9:]

    assert MolmoeConfiguration().read_back(model)["num_active_blocks"] == 9


def test_more_experts_than_the_model_has_are_refused() -> None:
    scale = replace(MOLMOE_SCALES["nano"], n_experts=8)
    model = build_random(
        MolmoeForConditionalGeneration,
        molmoe_config(scale),
        seed=0,
        dtype=torch.float32,
        device="meta",
        attn="sdpa",
    )

    with (
        pytest.raises(UsageProblem, match=r"needs 9 experts .* this model has 8"),
        MolmoeConfiguration(top_k=9).apply(model),
    ):
        pass


@pytest.mark.parametrize(
    "do", [lambda model: ExitStack().enter_context(ASKED.apply(model)), ASKED.read_back]
)
def test_another_model_is_refused(do: Callable[[object], object]) -> None:
    with pytest.raises(UsageProblem, match=r"fits a MolmoE-shaped model .* not Linear; implement"):
        do(torch.nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tier": "ultra"}, "tier is 'ultra'; expected low, medium, high, or 0 to 2"),
        ({"tier": 3}, "tier is 3; expected low, medium, high, or 0 to 2"),
        ({"tier": True}, "tier is True; expected low, medium, high, or 0 to 2"),
        ({"top_k": 3}, "top_k is 3; expected a whole number from 4 to 12"),
        ({"top_k": 8.0}, "top_k is 8.0; expected a whole number from 4 to 12"),
        (
            {"num_active_blocks": 17},
            "num_active_blocks is 17; expected a whole number from 8 to 16",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_the_accepted_ones(
    wrong: dict[str, int], message: str
) -> None:
    with pytest.raises(UsageProblem) as refusal:
        MolmoeConfiguration(**wrong)

    assert str(refusal.value) == message


def test_a_tier_has_an_index() -> None:
    names = [MolmoeConfiguration(tier=index).values()["tier"] for index in range(3)]

    assert names == ["low", "medium", "high"]
    assert MolmoeConfiguration(tier=0) == MolmoeConfiguration(tier="low")


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        MolmoeConfiguration().top_k = 4  # type: ignore[misc]  # what is tested


def test_the_grid_has_each_combination_once() -> None:
    grid = molmoe_grid()

    assert len({configuration.name for configuration in grid}) == len(grid) == 27
    assert grid[0].values() == {"tier": "low", "top_k": 4, "num_active_blocks": 8}
    assert grid[-1].name == "high-k12-b16"


def test_the_small_grid_holds_both_ends_of_the_grid() -> None:
    small = small_grid()

    assert set(small) < set(molmoe_grid())
    assert {molmoe_grid()[0], molmoe_grid()[-1]} < set(small)


def test_the_configuration_is_one_of_the_protocol() -> None:
    asked = MolmoeConfiguration(tier="low", top_k=4)
    configuration: Configuration = asked

    assert configuration.values() == {"tier": "low", "top_k": 4, "num_active_blocks": 16}
    assert asked.name == "low-k4-b16"
