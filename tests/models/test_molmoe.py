from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from pytest_vlmlatency.errors import KnobNotApplied, UsageProblem
from pytest_vlmlatency.models.knobs import MolmoeConfiguration
from pytest_vlmlatency.models.molmoe import build_molmoe
from pytest_vlmlatency.models.random_weights import n_parameters

if TYPE_CHECKING:
    from PIL import Image

    from pytest_vlmlatency.models.load import LoadedModel


def test_the_full_scale_has_the_published_size() -> None:
    model = build_molmoe("full", device="meta", dtype=torch.bfloat16)

    # "7.2B total parameters" (model card of allenai/MolmoE-1B-0924)
    assert n_parameters(model) == 7_222_135_808
    decoder = model.model.language_model
    assert (len(decoder.layers), decoder.config.num_experts) == (16, 64)
    assert n_parameters(decoder.layers[0].mlp.experts) == 64 * 3 * 2048 * 1024


@pytest.mark.parametrize("scale", ["nano", "tiny", "small", "full"])
def test_every_scale_has_room_for_every_knob(scale: str) -> None:
    model = build_molmoe(scale, device="meta")

    decoder = model.model.language_model
    assert len(decoder.layers) == 16
    assert decoder.layers[0].mlp.gate.weight.shape[0] >= 12  # a row for each expert


def test_an_unknown_scale_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageProblem, match=r"'huge'; there are nano, tiny, small, full"):
        build_molmoe("huge")


def test_the_seed_decides_the_weights() -> None:
    first, again, other = (build_molmoe("nano", seed=seed) for seed in (1, 1, 2))

    weights = [model.lm_head.weight for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_building_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()

    build_molmoe("nano")

    assert torch.equal(torch.get_rng_state(), before)


def test_the_model_is_built_as_asked() -> None:
    model = build_molmoe("nano", dtype=torch.bfloat16, attn="eager")

    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert not model.training
    parts = (model, model.model.language_model, model.model.vision_tower)
    assert {part.config._attn_implementation for part in parts} == {"eager"}


@pytest.mark.parametrize("tier", ["low", "medium", "high"])
def test_generation_is_as_long_as_asked(tier: str, nano: LoadedModel, cat: Image.Image) -> None:
    with MolmoeConfiguration(tier=tier).apply(nano.model):
        inputs = nano.prepare(cat, "What is this?")
        output = nano.model.generate(**inputs, max_new_tokens=12)

    assert output.shape == (1, inputs["input_ids"].shape[1] + 12)


def test_generation_with_a_cache_says_what_plain_forwards_say(
    nano: LoadedModel, cat: Image.Image
) -> None:
    inputs = nano.prepare(cat, "What is this?")

    output = nano.model.generate(**inputs, max_new_tokens=4)

    n_given = inputs["input_ids"].shape[1]
    whole = {"pixel_values": inputs["pixel_values"], "crop_grids": inputs["crop_grids"]}
    with torch.no_grad():
        logits = nano.model(input_ids=output[:, :-1], **whole).logits
    assert logits[0, n_given - 1 :].argmax(-1).tolist() == output[0, n_given:].tolist()


def test_vision_runs_once_before_the_first_block(nano: LoadedModel, cat: Image.Image) -> None:
    order: list[str] = []
    inner = nano.model.model
    parts = {"vision": inner.vision_tower, "block": inner.language_model.layers[0]}
    handles = [
        part.register_forward_pre_hook(lambda *_, name=name: order.append(name))
        for name, part in parts.items()
    ]

    nano.model.generate(**nano.prepare(cat, "What is this?"), max_new_tokens=3)

    [handle.remove() for handle in handles]
    assert order == ["vision", "block", "block", "block"]


def test_another_picture_gives_other_logits(nano: LoadedModel, cat: Image.Image) -> None:
    inputs = nano.prepare(cat, "What is this?")
    turned = nano.prepare(cat.rotate(180), "What is this?")

    with torch.no_grad():
        assert not torch.equal(nano.model(**inputs).logits, nano.model(**turned).logits)


def test_image_tokens_take_the_places_of_their_marks(nano: LoadedModel, cat: Image.Image) -> None:
    inputs = nano.prepare(cat, "What is this?")
    seen: list[torch.Tensor] = []
    handle = nano.model.model.language_model.register_forward_pre_hook(
        lambda _part, _args, kwargs: seen.append(kwargs["inputs_embeds"]), with_kwargs=True
    )

    with torch.no_grad():
        nano.model(**inputs)
        features = nano.model.model.get_image_features(inputs["pixel_values"], inputs["crop_grids"])

    handle.remove()
    marks = inputs["input_ids"] == nano.model.config.image_token_id
    torch.testing.assert_close(seen[0][marks], torch.cat(features.pooler_output))


def test_a_text_alone_needs_no_vision(nano: LoadedModel) -> None:
    output = nano.model.generate(**nano.prepare(None, "Count to three."), max_new_tokens=3)

    assert output.shape[1] == nano.prepare(None, "Count to three.")["input_ids"].shape[1] + 3


def test_crops_of_another_tier_are_refused(nano: LoadedModel, cat: Image.Image) -> None:
    with MolmoeConfiguration(tier="medium").apply(nano.model):
        inputs = nano.prepare(cat, "What is this?")

    with (
        MolmoeConfiguration(tier="low").apply(nano.model),
        pytest.raises(KnobNotApplied) as refusal,
    ):
        nano.model.generate(**inputs, max_new_tokens=1)

    assert str(refusal.value) == (
        "the inputs hold 6 crops and an overview of each image, in grids of [(2, 3)]; the model's "
        "tier is 'low', which has 2 crops: prepare the inputs again after the configuration was "
        "applied"
    )


def test_a_grid_that_does_not_hold_its_crops_is_refused(
    nano: LoadedModel, cat: Image.Image
) -> None:
    inputs = nano.prepare(cat, "What is this?") | {"crop_grids": torch.tensor([[2, 3]])}

    with pytest.raises(KnobNotApplied, match=r"12 crops .* in grids of \[\(2, 3\)\]"):
        nano.model.generate(**inputs, max_new_tokens=1)


def test_pixels_without_their_grids_are_refused(nano: LoadedModel, cat: Image.Image) -> None:
    inputs = nano.prepare(cat, "What is this?")
    del inputs["crop_grids"]

    with pytest.raises(UsageProblem, match=r"crop_grids is None; expected \(images, crops,"):
        nano.model.generate(**inputs, max_new_tokens=1)


def test_beams_and_batches_expand_the_images(nano: LoadedModel, cat: Image.Image) -> None:
    inputs = nano.prepare(cat, "What is this?")
    twice = {key: torch.cat([value, value]) for key, value in inputs.items()}

    alone = nano.model.generate(**inputs, max_new_tokens=3)
    together = nano.model.generate(**twice, max_new_tokens=3)
    beams = nano.model.generate(**inputs, max_new_tokens=3, num_beams=2)

    assert together.tolist() == alone.tolist() * 2
    assert beams.shape == alone.shape
