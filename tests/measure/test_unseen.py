"""Vision and compiling that hooks do not see at first: refused by name, or seen after all."""

import pytest
import torch
from torch import nn

from pytest_vlmlatency import InvalidMeasurement, measure_generate
from pytest_vlmlatency.calls.compilation import n_compilations
from pytest_vlmlatency.errors import PhasesNotFound
from tests.builders import FakeClock
from tests.compiled import Backend
from tests.measure.custom_models import (
    ASKED,
    IMAGE,
    PROMPT,
    WIDTH,
    Block,
    Captioner,
    Images,
    KeepsPixels,
    Tower,
    measure_custom,
)


class FlatTower(nn.Module):
    """Cuts patches by itself, so that no module inside sees pixels as they were given."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Linear(3 * 8 * 8, WIDTH)
        self.layers = nn.ModuleList([Block(), Block()])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.patch((2 * images).reshape(len(images), 16, 3 * 8 * 8))
        for layer in self.layers:
            states = layer(states)
        return states


class KeepsPixelsFlat(KeepsPixels):
    def __init__(self) -> None:
        super().__init__(lambda model, pixels: model.vision.forward(pixels))
        self.vision = FlatTower()  # type: ignore[assignment]  # another tower is the point


class EncodesTwice(Captioner):
    def __init__(self) -> None:
        super().__init__()
        self.vision = FlatTower()  # type: ignore[assignment]  # another tower is the point

    def encode(self, images: Images) -> torch.Tensor:
        assert isinstance(images, torch.Tensor)
        self.vision.forward(images)
        return super().encode(images)


def test_a_flat_towers_forward_in_every_step_is_refused(clock: FakeClock) -> None:
    with pytest.raises(InvalidMeasurement, match=r"vision.patch worked on the pixels again in"):
        measure_custom(KeepsPixelsFlat(), clock)


def test_a_towers_forward_before_its_call_is_refused(clock: FakeClock) -> None:
    with pytest.raises(InvalidMeasurement, match=r"vision.patch worked on the same pixels more"):
        measure_custom(EncodesTwice(), clock)


def test_vision_parts_that_are_compiled_as_a_whole_are_measured(clock: FakeClock) -> None:
    model = Captioner()
    model.vision.compile(backend=Backend(on_run=lambda: clock.advance_ms(60)))
    model.proj.compile(backend="eager")

    case = measure_custom(model, clock, delays_ms={"blocks.0": 3})

    assert case.calls[0].vision_ms == 60
    assert case.labels == ("compiled",)


def test_a_forward_compiled_by_its_class_is_refused_by_name(clock: FakeClock) -> None:
    class Compiled(Captioner):
        forward = torch.compile(Captioner.forward, backend="eager")

    with pytest.raises(InvalidMeasurement, match=r"^'vision' runs inside 'the model', which"):
        measure_custom(Compiled(), clock)


def test_a_compiled_tower_class_is_compiled_without_our_hooks() -> None:
    class Compiled(Tower):
        forward = torch.compile(Tower.forward, backend="eager")

    def frames_of(warm: int) -> int:
        torch.compiler.reset()
        model = Captioner()
        model.vision = Compiled()
        n_before = n_compilations()
        if warm:
            model.generate(PROMPT, IMAGE)
        else:
            measure_generate(model.generate, kwargs=ASKED, rounds=1)
        return n_compilations() - n_before

    assert frames_of(0) == frames_of(1)


class Reads(Captioner):
    def generate(self, prompt: str, image: str) -> torch.Tensor:  # type: ignore[override]  # the point
        return super().generate(PROMPT, IMAGE)


class Blank(Captioner):
    """Encodes a blank image where none is given."""

    def forward(self, input_ids, images=None):  # type: ignore[no-untyped-def]
        is_prompt = input_ids.shape[1] > 1
        return super().forward(input_ids, 0 * IMAGE if is_prompt and images is None else images)


@pytest.mark.parametrize(
    ("model", "inputs"),
    [(Reads(), {"prompt": "hi", "image": "cat.jpg"}), (Blank(), {"input_ids": PROMPT})],
    ids=["a path", "no image"],
)
def test_vision_on_images_that_were_not_seen_is_refused(
    clock: FakeClock, model: Captioner, inputs: dict[str, object]
) -> None:
    with pytest.raises(PhasesNotFound, match=r"no pixels were seen .* but vision, proj ran for"):
        measure_custom(model, clock, inputs)


def test_a_module_that_runs_for_the_prompt_alone_may_be_named_no_vision(clock: FakeClock) -> None:
    named = {"vision": [], "blocks": "blocks", "step": ""}

    case = measure_custom(Blank(), clock, {"input_ids": PROMPT}, phases=named)

    assert case.labels == ("text-only",)
