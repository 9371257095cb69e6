"""Models of nobody's library: phases found from what runs, or refused with what to do."""

from collections.abc import Callable
from itertools import cycle

import pytest
import torch
from PIL import Image

from pytest_vlmlatency import InvalidMeasurement, measure_generate, span
from pytest_vlmlatency.errors import PhasesNotFound
from pytest_vlmlatency.records import WALL
from tests.builders import FakeClock, delayed
from tests.measure.custom_models import (
    ASKED,
    IMAGE,
    IMAGES,
    N_PATCHES,
    PROMPT,
    WIDTH,
    Block,
    Captioner,
    FromBytes,
    FromPicture,
    HeadAtRoot,
    Images,
    KeepsPixels,
    OddlyNamed,
    OneByOne,
    Tower,
    measure_custom,
)

PICTURE = {"prompt": "What is it?", "image": Image.new("RGB", (32, 32))}


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        pytest.param(Captioner(), ASKED, id="a tensor"),
        pytest.param(Captioner(), {"input_ids": PROMPT, "images": IMAGES}, id="a batch of crops"),
        pytest.param(OneByOne(), {"input_ids": PROMPT, "images": [IMAGE[0]]}, id="a list"),
        pytest.param(
            FromBytes(),
            {"input_ids": PROMPT, "images": (255 * IMAGE.abs()).to(torch.uint8)},
            id="bytes",
        ),
        pytest.param(OddlyNamed(), {"idx": PROMPT, "x": IMAGE}, id="under another name"),
    ],
)
def test_images_are_vision_in_whatever_form_they_are_given(
    clock: FakeClock, model: Captioner, inputs: dict[str, object]
) -> None:
    call = measure_custom(model, clock, inputs).calls[0]

    assert (call.vision_ms, call.prefill_ms, call.decode_ms) == (60 + 11, 3, 7 * 3)
    assert call.n_vision_calls == 1


@pytest.mark.parametrize("images", [IMAGES, list(IMAGES)], ids=["a tensor", "a list"])
def test_a_tower_that_is_called_for_each_image_is_measured_and_counted(
    clock: FakeClock, images: object
) -> None:
    call = measure_custom(OneByOne(), clock, {"input_ids": PROMPT, "images": images}).calls[0]

    assert call.vision_ms == 3 * 60 + 11
    assert call.n_vision_calls == 3
    assert call.n_vision_tokens == 3 * N_PATCHES


def test_tokens_are_counted_whatever_the_prompt_is_called(clock: FakeClock) -> None:
    call = measure_custom(OddlyNamed(), clock, {"idx": PROMPT, "x": IMAGE}).calls[0]

    assert (call.n_vision_tokens, call.n_text_tokens) == (N_PATCHES, 4)
    assert (call.n_output_tokens, call.n_decode_steps) == (8, 7)


def test_pictures_that_cannot_be_followed_are_refused_with_how_to_name_vision(
    clock: FakeClock,
) -> None:
    class FromPatches(FromPicture):
        def __init__(self) -> None:
            super().__init__()
            self.patches = torch.nn.Linear(3 * 8 * 8, WIDTH)

        def encode(self, images: Images) -> torch.Tensor:
            assert isinstance(images, torch.Tensor)
            features: torch.Tensor = self.proj(self.patches(images.reshape(1, N_PATCHES, -1)))
            return features

    with pytest.raises(PhasesNotFound, match=r"pixels were passed.*phases=\{\"vision\": \["):
        measure_custom(FromPatches(), clock, PICTURE)


def test_pictures_are_measured_where_vision_is_named(clock: FakeClock) -> None:
    case = measure_custom(FromPicture(), clock, PICTURE, phases={"vision": ["vision", "proj"]})

    call = case.calls[0]
    assert (call.vision_ms, call.prefill_ms, call.decode_ms) == (71, 3, 21)
    assert (call.n_vision_tokens, call.n_output_tokens) == (N_PATCHES, 8)
    assert "text-only" not in case.labels


def test_work_between_tower_and_projector_is_vision(clock: FakeClock) -> None:
    model = Captioner(pool=lambda: clock.advance_ms(40))

    call = measure_custom(model, clock).calls[0]

    assert (call.vision_ms, call.prefill_ms) == (60 + 40 + 11, 3)


def test_a_head_outside_the_step_is_prefill_for_the_prompt_and_decode_afterwards(
    clock: FakeClock,
) -> None:
    model = HeadAtRoot()
    head_ms = cycle([50, *[1] * 7])
    delays_ms = {"vision": 60, "proj": 11, "text.blocks.0": 3}

    with delayed(model.lm_head, lambda: clock.advance_ms(next(head_ms))):
        case = measure_custom(model, clock, delays_ms=delays_ms)

    call = case.calls[0]
    assert (call.vision_ms, call.prefill_ms, call.decode_ms) == (71, 3 + 50, 7 * (3 + 1))
    assert call.ttft_ms == 71 + 53


def test_a_second_tower_on_the_kept_pixels_in_every_step_is_refused_by_name(
    clock: FakeClock,
) -> None:
    model = KeepsPixels(lambda model, pixels: model.vision_2(pixels))

    with pytest.raises(InvalidMeasurement, match=r"^vision_2 worked on the pixels again in decode"):
        measure_custom(model, clock)


def test_a_towers_forward_on_the_kept_pixels_in_every_step_is_refused_by_name(
    clock: FakeClock,
) -> None:
    model = KeepsPixels(lambda model, pixels: model.vision.forward(pixels))

    with pytest.raises(InvalidMeasurement, match=r"vision.patch worked on the pixels again in"):
        measure_custom(model, clock)


def test_work_without_weights_before_the_first_phase_is_other(clock: FakeClock) -> None:
    model = Captioner(preprocess=lambda: clock.advance_ms(80))

    assert measure_custom(model, clock).calls[0].other_ms == 80


class Adapts(Captioner):
    """Runs a part of its own before each forward, the prompt's and the steps'."""

    def __init__(self) -> None:
        super().__init__(preprocess=lambda: None)
        self.adapter = Block()

    def prepare(self) -> None:
        self.adapter(torch.zeros(1, 1, WIDTH))

    def generate(self, input_ids: torch.Tensor, **kwargs: object) -> torch.Tensor:  # type: ignore[override]  # fewer names
        self.prepare()
        handle = self.register_forward_hook(lambda *_: self.prepare())
        try:
            return super().generate(input_ids, **kwargs)  # type: ignore[arg-type]  # as they came
        finally:
            handle.remove()


class AdaptsInSpan(Adapts):
    def prepare(self) -> None:
        with span("adapt"):
            super().prepare()


def a_model_of_its_own() -> Captioner:
    """Return a model that asks another one, which is no part of it."""
    reader = Tower()
    return Captioner(preprocess=lambda: reader(IMAGE))


@pytest.mark.parametrize(("make_model", "name"), [(Adapts, "adapter"), (a_model_of_its_own, "Tow")])
def test_weights_that_work_outside_of_every_phase_are_refused_by_name(
    make_model: Callable[[], Captioner], name: str
) -> None:
    with pytest.raises(PhasesNotFound, match=rf"^{name}.* outside of every phase"):
        measure_generate(make_model().generate, kwargs=ASKED, rounds=1)


def test_weights_that_work_in_a_span_are_measured_there(clock: FakeClock) -> None:
    model = AdaptsInSpan()

    call = measure_custom(model, clock, delays_ms={"blocks.0": 3, "adapter": 9}).calls[0]

    assert call.phase_time("adapt", WALL) == 9 * (1 + call.n_decode_steps + 1)
    assert call.other_ms == 0


def test_weights_outside_of_every_phase_are_measured_where_vision_is_named(
    clock: FakeClock,
) -> None:
    delays_ms = {"blocks.0": 3, "adapter": 9}

    case = measure_custom(Adapts(), clock, delays_ms=delays_ms, phases={"vision": "vision"})

    assert case.calls[0].other_ms == 9


def test_work_before_the_first_phase_is_measured_in_a_span(clock: FakeClock) -> None:
    def preprocess() -> None:
        with span("preprocess"):
            clock.advance_ms(8)

    model = Captioner(preprocess=preprocess)

    call = measure_custom(model, clock).calls[0]

    assert call.phase_time("preprocess", WALL) == 8
    assert call.other_ms == 0


def test_too_short_a_call_is_refused_with_how_many_tokens_it_needs(clock: FakeClock) -> None:
    """Its generate() has no known way to ask for more, as a transformers model's has."""
    with pytest.raises(PhasesNotFound, match=r"the prompt's alone; .* generate two tokens more"):
        measure_custom(Captioner(), clock, {**ASKED, "max_new_tokens": 1})
