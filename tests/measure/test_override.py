"""Phases that the user names: by path, by module, by function or by method; wrong ones refused."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pytest_vlmlatency import InvalidMeasurement, measure_generate
from pytest_vlmlatency.discovery.override import Named, read_override
from pytest_vlmlatency.errors import PhasesNotFound, UsageProblem
from pytest_vlmlatency.options import PhaseOverride
from pytest_vlmlatency.plain import from_plain, to_plain
from pytest_vlmlatency.records import Case
from tests.builders import FakeClock, delayed
from tests.measure.custom_models import (
    ASKED,
    IMAGES,
    N_PATCHES,
    Captioner,
    Images,
    OneByOne,
    measure_custom,
)
from tests.measure.delays import check_delays, measure_delayed
from tests.zoo import Specimen, build

BLOCKS = ("blocks.0", "blocks.1", "blocks.2")


def listed(model: Captioner) -> list[nn.Module]:
    return [model.vision, model.proj]


@pytest.mark.parametrize(
    ("phases", "named"),
    [
        ({"vision": "vision"}, Named(vision=("vision",))),
        ({"vision": ["vision", "proj"]}, Named(vision=("vision", "proj"))),
        ({"vision": []}, Named(vision=())),
        ({"vision": lambda model: model.vision}, Named(vision=("vision",))),
        ({"vision": lambda model: [model.vision, "proj"]}, Named(vision=("vision", "proj"))),
        ({"vision": listed}, Named(vision=("vision", "proj"))),
        ({"vision": [lambda model: "vision", "proj"]}, Named(vision=("vision", "proj"))),
        ({"vision": partial(getattr, name="vision")}, None),
        ({"vision": "encode"}, Named(vision=(), vision_methods=("encode",))),
        ({"vision": lambda model: model.encode}, Named(vision=(), vision_methods=("encode",))),
        (
            {"vision": lambda model: [model.vision.forward, model.proj]},
            Named(vision=("proj",), vision_methods=("vision.forward",)),
        ),
        ({"blocks": "blocks"}, Named(blocks=BLOCKS)),
        ({"blocks": lambda model: model.blocks}, Named(blocks=BLOCKS)),
        ({"blocks": lambda model: list(model.blocks)}, Named(blocks=BLOCKS)),
        ({"blocks": ["blocks.1", "blocks.2"]}, Named(blocks=BLOCKS[1:])),
        ({"step": ""}, Named(step="")),
        ({"blocks": lambda model: model.embed}, Named(blocks=("embed",))),
        ({"blocks": "blocks.0"}, Named(blocks=("blocks.0",))),
        (
            {"blocks": "vision.forward"},
            Named(blocks=("vision.forward",), methods=("vision.forward",)),
        ),
        ({"step": lambda model: model}, Named(step="")),
        ({"step": "forward"}, Named(step="forward", methods=("forward",))),
        ({"step": lambda model: model.encode}, Named(step="encode", methods=("encode",))),
    ],
)
def test_a_part_is_a_path_a_module_a_method_or_a_function(
    phases: PhaseOverride, named: Named | None
) -> None:
    if named is None:
        with pytest.raises(TypeError):
            read_override(Captioner(), phases)
        return
    assert read_override(Captioner(), phases) == named


def test_a_module_itself_will_do() -> None:
    model = Captioner()

    named = read_override(model, {"vision": [model.vision, model.encode], "blocks": model.blocks})

    assert named == Named(vision=("vision",), vision_methods=("encode",), blocks=BLOCKS)


def test_a_tied_module_may_be_named_by_any_of_its_names() -> None:
    model = Captioner()
    model.vision_2 = model.vision

    assert read_override(model, {"vision": "vision_2"}).vision == ("vision",)


@pytest.mark.parametrize(
    ("phases", "problem"),
    [
        ({"vision": "visoin"}, r"names 'visoin' for vision, .*; near matches: 'vision'"),
        ({"blocks": "block"}, r"names 'block' for blocks, .*; near matches: 'blocks'"),
        ({"step": "qqqqqqq"}, r"names 'qqqqqqq' for step, which the model does not have$"),
        ({"vision": lambda model: "visoin"}, r"names 'visoin' for vision, .* 'vision'"),
        ({"vision": lambda model: nn.Linear(1, 1)}, r"a Linear for vision that is outside the mod"),
        ({"vision": nn.Linear(1, 1)}, r"a Linear for vision that is outside the model Captioner; "),
        ({"vision": Captioner().encode}, r"a Captioner for vision that is outside the model Capt"),
        ({"vision": lambda model: None}, r"names a function that returned None for vision; expect"),
        ({"vision": lambda model: 7}, r"names a function that returned 7 for vision; expected a p"),
        ({"vision": lambda model: len}, r"returned <built-in function len> for vision; expected"),
        ({"blocks": lambda model: []}, r"names 0 modules"),
        ({"step": lambda model: list(model.blocks)}, r"names 3 modules"),
    ],
)
def test_what_is_no_part_of_the_model_is_refused(phases: PhaseOverride, problem: str) -> None:
    with pytest.raises(UsageProblem, match=problem):
        read_override(Captioner(), phases)


class Flattens(Captioner):
    """Its pixels cannot be followed: they become a list of numbers before the tower sees them."""

    def encode(self, images: Images) -> torch.Tensor:
        assert isinstance(images, torch.Tensor)
        return super().encode(torch.tensor(images.tolist()).reshape(1, 3, 32, 32))


def test_a_method_is_vision_with_all_that_it_does(clock: FakeClock) -> None:
    model = Flattens(pool=lambda: clock.advance_ms(40))

    case = measure_custom(model, clock, phases={"vision": lambda model: model.encode})

    call = case.calls[0]
    assert (call.vision_ms, call.prefill_ms, call.decode_ms) == (60 + 40 + 11, 3, 21)
    assert (call.n_vision_calls, call.n_vision_tokens, call.n_text_tokens) == (1, N_PATCHES, 4)
    assert case.phase_map is not None
    assert case.phase_map.vision_methods == ("encode",)
    assert (case.phase_map.vision, case.phase_map.vision_runs) == ((), "inside")
    assert "encode" not in vars(model)


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "mllama", "florence2"])
def test_phases_named_by_functions_are_those_that_are_found(name: str) -> None:
    specimen = build(name)
    parts = [specimen.vision_path, *([specimen.projector_path] if specimen.projector_path else [])]

    case = measure_delayed(
        specimen,
        specimen.generate,
        phases={
            "vision": lambda model: [model.get_submodule(path) for path in parts],
            "blocks": lambda model: model.get_submodule(specimen.block_path),
            "step": lambda model: model,
        },
    )

    check_delays(case, specimen)


def test_a_method_of_transformers_may_be_named(llava: Specimen) -> None:
    inner = llava.model.get_submodule("model")
    named: PhaseOverride = {"vision": inner.get_image_features}  # type: ignore[dict-item]  # a method

    case = measure_delayed(llava, llava.generate, phases=named)

    check_delays(case, llava)


class PastItsName(Captioner):
    """Calls a method of its own, but not as an attribute of its own."""

    def look(self, images: Images) -> torch.Tensor:
        return super().encode(images)

    def encode(self, images: Images) -> torch.Tensor:
        return PastItsName.look(self, images)

    gaze = look


def test_a_method_that_is_called_through_its_class_is_refused(clock: FakeClock) -> None:
    with pytest.raises(InvalidMeasurement, match=r"never seen to run; expected a call of 'look'"):
        measure_custom(PastItsName(), clock, phases={"vision": "look"})


def test_a_method_under_another_name_than_its_own_is_refused() -> None:
    model = PastItsName()

    assert read_override(model, {"vision": model.gaze}).vision_methods == ("look",)
    del PastItsName.look
    with pytest.raises(UsageProblem, match=r"PastItsName has under another name than 'look', its"):
        read_override(model, {"vision": model.gaze})


def test_a_named_method_that_works_in_every_step_is_vision_before_the_logits_alone(
    clock: FakeClock,
) -> None:
    class Again(Captioner):
        def forward(self, input_ids, images=None):  # type: ignore[no-untyped-def]
            if images is None:
                self.encode(ASKED["images"])  # type: ignore[arg-type]  # a tensor
            return super().forward(input_ids, images)

    with pytest.raises(InvalidMeasurement, match=r"again in decode.*phases=\{'vision': \.\.\.\}"):
        measure_custom(Again(), clock)

    case = measure_custom(Again(), clock, phases={"vision": "encode"})

    call = case.calls[0]
    assert (call.vision_ms, call.prefill_ms, call.decode_ms) == (71, 3, 7 * (71 + 3))
    assert call.ttft_ms == 71 + 3
    assert case.labels == ("vision-in-decode",)
    assert len(case.notes) == 1


def test_an_exception_inside_a_named_method_leaves_the_model_as_it_was(clock: FakeClock) -> None:
    model = Captioner()

    def fail() -> None:
        raise ZeroDivisionError

    with delayed(model.proj, fail), pytest.raises(ZeroDivisionError):
        measure_custom(model, clock, delays_ms={}, phases={"vision": "encode"})

    assert "encode" not in vars(model)


def test_a_case_keeps_the_paths_as_plain_data(clock: FakeClock) -> None:
    named: PhaseOverride = {"vision": lambda model: model.encode, "blocks": listed_blocks}

    case = measure_custom(Captioner(), clock, phases=named)

    assert from_plain(Case, to_plain(case)) == case
    plain = to_plain(case)["phase_map"]
    assert isinstance(plain, dict)
    assert (list(plain["vision_methods"]), list(plain["blocks"])) == (["encode"], list(BLOCKS))


def listed_blocks(model: Captioner) -> nn.ModuleList:
    return model.blocks


class PoolsEach(OneByOne):
    """Its tower pools four patches into one, for each image by a call of its own.

    The features take the places of the placeholders.
    """

    config = SimpleNamespace(image_token_id=7)

    def __init__(self) -> None:
        super().__init__()
        self.pooling = Pooling(self.vision)

    def encode(self, images: Images) -> torch.Tensor:
        pooled = [self.pooling(image.reshape(1, 3, 32, 32)).pooler_output for image in images]
        features: torch.Tensor = self.proj(torch.cat(pooled, dim=1))
        return features

    def forward(self, input_ids: torch.Tensor, images: Images | None = None) -> SimpleNamespace:
        if images is not None:
            features = self.encode(images)
            input_ids = input_ids[input_ids != self.config.image_token_id][None]
            states = torch.cat([features, self.embed(input_ids)], dim=1)
            for block in self.blocks:
                states = block(states)
            return SimpleNamespace(logits=self.lm_head(states[:, -1:]))
        return super().forward(input_ids)


class Pooling(nn.Module):
    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, images: torch.Tensor) -> SimpleNamespace:
        states = self.tower(images)
        pooled = states.unflatten(1, (-1, 4)).mean(dim=2)
        return SimpleNamespace(last_hidden_state=states, pooler_output=pooled)


@pytest.mark.parametrize("named", [["pooling"], ["pooling", "proj"]])
def test_a_named_tower_that_pools_each_image_gives_as_many_tokens_as_it_pooled(
    named: list[str], clock: FakeClock
) -> None:
    n_pooled = 3 * N_PATCHES // 4
    prompt = torch.tensor([[1, *[7] * n_pooled, 2, 3]])

    case = measure_custom(
        PoolsEach(), clock, {"input_ids": prompt, "images": IMAGES}, phases={"vision": named}
    )

    call = case.calls[0]
    assert (call.n_vision_tokens, call.n_text_tokens, call.n_vision_calls) == (n_pooled, 3, 3)


def test_a_step_module_that_never_runs_is_refused_by_name(llava: Specimen) -> None:
    phases = {
        "vision": "model.vision_tower",
        "blocks": "model.language_model.layers",
        "step": "model.language_model.layers",
    }

    with pytest.raises(PhasesNotFound, match="named as the step module, but it did not run"):
        measure_generate(llava.generate, kwargs=llava.inputs, phases=phases, rounds=1)
