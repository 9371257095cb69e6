"""Each refusal to find the phases has a way out: naming them, by the key that its error says."""

from collections.abc import Mapping
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pytest_vlmlatency import measure_generate
from pytest_vlmlatency.errors import InvalidMeasurement, PhasesNotFound
from pytest_vlmlatency.options import PhaseOverride
from tests.builders import FakeClock
from tests.measure.custom_models import ASKED, IMAGE, PROMPT, Captioner, Images, measure_custom
from tests.measure.test_odd_decoders import Swapped
from tests.measure.test_odd_flows import GreyFirst, Hears, Midway, Mixes, PastHooks
from tests.measure.test_unseen import Blank, EncodesTwice, KeepsPixelsFlat
from tests.zoo import Specimen

DELAYS_MS = {"vision": 60, "proj": 11, "blocks.0": 3}
REFUSED = (PhasesNotFound, InvalidMeasurement)


class Functional(Captioner):
    """Encodes by functions, in no module and no method."""

    def encode(self, images: Images) -> torch.Tensor:
        raise AssertionError(images)

    def forward(self, input_ids: torch.Tensor, images: Images | None = None) -> SimpleNamespace:
        if images is None:
            return super().forward(input_ids)
        assert isinstance(images, torch.Tensor)
        patches = nn.functional.conv2d(images, self.vision.patch.weight, stride=8)
        states = torch.cat([patches.flatten(2).transpose(1, 2), self.embed(input_ids)], dim=1)
        for block in self.blocks:
            states = block(states)
        return SimpleNamespace(logits=self.lm_head(states[:, -1:]))


class Recurrent(Captioner):
    """Has one layer, in no list."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(16, 16, batch_first=True)

    def forward(self, input_ids: torch.Tensor, images: Images | None = None) -> SimpleNamespace:
        states: torch.Tensor = self.embed(input_ids)
        if images is not None:
            states = torch.cat([self.encode(images), states], dim=1)
        return SimpleNamespace(logits=self.lm_head(self.layer(states)[0][:, -1:]))


class AllByMethods(Captioner):
    """Calls nothing but methods: one that embeds and decodes, and the blocks' own."""

    def step(self, input_ids: torch.Tensor, images: Images | None = None) -> torch.Tensor:
        states = nn.functional.embedding(input_ids, self.embed.weight)
        if images is not None:
            states = torch.cat([self.encode(images), states], dim=1)
        for block in self.blocks:
            states = block.forward(states)
        return nn.functional.linear(states[:, -1], self.lm_head.weight).argmax(-1, keepdim=True)

    @torch.no_grad()
    def generate(
        self, input_ids: torch.Tensor, images: Images | None = None, max_new_tokens: int = 8
    ) -> torch.Tensor:
        tokens = [self.step(input_ids, images)]
        while len(tokens) < max_new_tokens:
            tokens.append(self.step(tokens[-1]))
        return torch.cat([input_ids, *tokens], dim=1)


BY_METHODS = tuple(f"blocks.{index}.forward" for index in range(3))
VISION: PhaseOverride = {"vision": ["vision", "proj"]}
HEARD = {**ASKED, "audio_values": torch.ones(1, 5, 8)}
WAYS: Mapping[str, tuple[Captioner, Mapping[str, object], str, PhaseOverride]] = {
    "no vision seen": (Functional(), ASKED, "vision", {"vision": []}),
    "before vision": (GreyFirst(), ASKED, "vision", VISION),
    "the whole prompt": (Mixes(), ASKED, "vision", VISION),
    "between blocks": (Midway(), ASKED, "vision", {"vision": ["vision", "proj", "vision_2"]}),
    "twice": (EncodesTwice(), ASKED, "vision", VISION),
    "in every step": (KeepsPixelsFlat(), ASKED, "vision", {"vision": "vision"}),
    "without pixels": (Blank(), {"input_ids": PROMPT}, "vision", VISION),
    "sound": (Hears(), HEARD, "vision", VISION),
    "blocks out of order": (Swapped(), ASKED, "blocks", {"blocks": ["blocks.1"]}),
    "blocks in no list": (Recurrent(), ASKED, "blocks", {"blocks": "layer"}),
    "a forward by itself": (PastHooks(), ASKED, "step", {"step": "forward"}),
    "methods alone": (
        AllByMethods(),
        ASKED,
        "step",
        {"step": lambda model: model.step, "blocks": BY_METHODS},
    ),
}


@pytest.mark.parametrize(("model", "inputs", "key", "phases"), [*WAYS.values()], ids=[*WAYS.keys()])
def test_a_refusal_names_the_key_that_gets_past_it(
    clock: FakeClock,
    model: Captioner,
    inputs: Mapping[str, object],
    key: str,
    phases: PhaseOverride,
) -> None:
    delays_ms = {**DELAYS_MS, "layer": 3} if hasattr(model, "layer") else DELAYS_MS

    with pytest.raises(REFUSED, match=rf"phases=\{{.*['\"]{key}['\"]"):
        measure_custom(model, clock, inputs, delays_ms=delays_ms)
    case = measure_custom(model, clock, inputs, delays_ms=delays_ms, phases=phases)

    call = case.calls[0]
    assert call.n_decode_steps == 7
    assert call.prefill_ms > 0
    assert call.other_ms == 0
    assert "text-only" not in case.labels
    assert vars(model).keys().isdisjoint({"forward", "step", "encode"})


def test_a_step_and_blocks_that_are_methods_are_timed_and_counted(clock: FakeClock) -> None:
    phases: PhaseOverride = {"step": "step", "blocks": BY_METHODS}

    case = measure_custom(AllByMethods(), clock, delays_ms=DELAYS_MS, phases=phases)

    call, phase_map = case.calls[0], case.phase_map
    assert (call.vision_ms, call.prefill_ms, call.decode_ms, call.other_ms) == (71, 3, 21, 0)
    assert (call.n_vision_tokens, call.n_text_tokens, call.n_output_tokens) == (16, 4, 8)
    assert phase_map is not None
    assert (phase_map.step, phase_map.blocks[0]) == ("step", "blocks.0.forward")


def test_each_token_of_a_step_that_is_a_method_can_be_timed(clock: FakeClock) -> None:
    model = AllByMethods()

    def step(*args: torch.Tensor) -> torch.Tensor:
        clock.advance_ms(2)
        return AllByMethods.step(model, *args)

    vars(model)["step"] = step
    case = measure_generate(
        model.generate,
        kwargs=ASKED,
        rounds=1,
        per_token=True,
        phases={"step": "step", "blocks": BY_METHODS},
        clock=clock,
    )

    assert case.calls[0].decode_step_times_ms == (2,) * 7
    assert "step" in vars(model)


def test_images_without_a_vision_phase_are_no_text_only_call(clock: FakeClock) -> None:
    case = measure_custom(Functional(), clock, delays_ms=DELAYS_MS, phases={"vision": []})

    call = case.calls[0]
    assert (call.vision_ms, call.n_vision_tokens, call.n_text_tokens) == (0, 16, 4)
    assert case.labels == ("no-vision-phase",)
    assert len(case.notes) == 1


def test_a_tower_between_blocks_is_taken_out_of_prefill_once_it_is_named(clock: FakeClock) -> None:
    phases: PhaseOverride = {"vision": ["vision", "proj", "vision_2"]}

    call = measure_custom(
        Midway(), clock, delays_ms={**DELAYS_MS, "vision_2": 100}, phases=phases
    ).calls[0]

    assert (call.vision_ms, call.prefill_ms, call.other_ms) == (171, 3, 0)


def test_vision_that_is_compiled_into_the_forward_is_measured_without_its_phase(
    clock: FakeClock,
) -> None:
    class Compiled(Captioner):
        forward = torch.compile(Captioner.forward, backend="eager")

    with pytest.raises(InvalidMeasurement, match=r"is compiled as a whole.*phases=\{'vision'"):
        measure_custom(Compiled(), clock)

    model = Compiled()
    timed = measure_custom(model, clock, delays_ms={"lm_head": 1}, phases={"vision": []})

    assert timed.labels == ("no-vision-phase", "compiled")


def test_a_prompt_of_one_token_is_measured_where_all_phases_are_named(llava: Specimen) -> None:
    phases: PhaseOverride = {
        "vision": "model.get_image_features",
        "blocks": "model.language_model.layers",
        "step": "",
    }

    case = measure_generate(
        llava.generate, kwargs={**llava.inputs, "max_new_tokens": 1}, rounds=1, phases=phases
    )

    assert (case.calls[0].n_decode_steps, case.calls[0].n_output_tokens) == (0, 1)
    assert IMAGE.shape == llava.inputs["pixel_values"].shape
