"""The named parts of every specimen do what their names say, and when."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pytest
import torch

from tests.zoo import (
    N_NEW_TOKENS,
    ZOO,
    Inputs,
    Specimen,
    available,
    block_modules,
    blocks_of_a_step,
)
from tests.zoo.shrink import DEPTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A module was entered or left; whether raw pixels came in, whether logits came out."""

    path: str
    is_entered: bool
    is_on_pixels: bool = False
    has_logits: bool = False


def has_part(name: str, part: str) -> bool:
    return getattr(ZOO[name].paths, part) is not None


def is_made_of(pixels: torch.Tensor, value: object) -> bool:
    """Whether a tensor holds the same values, perhaps in another shape or several times."""
    if not isinstance(value, torch.Tensor) or value.numel() % pixels.numel():
        return False
    return bool((value.reshape(-1, pixels.numel()) == pixels.flatten()).all())


def is_inside(part: str, path: str) -> bool:
    return not path or part == path or part.startswith(f"{path}.")


@contextmanager
def noted_events(specimen: Specimen) -> Iterator[list[Event]]:
    """Note every call of every module, in order."""
    events: list[Event] = []

    def enter(
        path: str, _: torch.nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> None:
        is_on_pixels = any(
            is_made_of(specimen.pixels, value) for value in (*args, *kwargs.values())
        )
        events.append(Event(path=path, is_entered=True, is_on_pixels=is_on_pixels))

    def leave(path: str, _module: torch.nn.Module, _args: object, output: object) -> None:
        events.append(Event(path=path, is_entered=False, has_logits=hasattr(output, "logits")))

    handles = []
    for path, module in specimen.model.named_modules():
        handles.append(module.register_forward_pre_hook(partial(enter, path), with_kwargs=True))
        handles.append(module.register_forward_hook(partial(leave, path)))
    try:
        yield events
    finally:
        for handle in handles:
            handle.remove()


def events_of(specimen: Specimen, inputs: Inputs) -> list[Event]:
    with noted_events(specimen) as events:
        specimen.generate(**inputs)
    return events


@pytest.fixture(scope="session")
def events(specimen: Specimen) -> list[Event]:
    """The calls of one generate() from an image."""
    return events_of(specimen, specimen.inputs)


def entered(events: list[Event], *paths: str) -> list[str]:
    """Return which of some modules were entered, in order."""
    return [event.path for event in events if event.is_entered and event.path in paths]


def test_the_vision_tower_is_called_as_often_as_the_specimen_says(
    specimen: Specimen, events: list[Event]
) -> None:
    tower = specimen.vision_path

    assert entered(events, tower) == [tower] * specimen.n_vision_runs


@pytest.mark.parametrize(
    "specimen", [name for name in available() if ZOO[name].takes_text_alone], indirect=True
)
def test_the_vision_tower_rests_without_an_image(specimen: Specimen) -> None:
    assert specimen.text_inputs is not None

    assert entered(events_of(specimen, specimen.text_inputs), specimen.vision_path) == []


def test_the_vision_tower_is_the_outermost_module_on_raw_pixels_and_nothing_else(
    specimen: Specimen, events: list[Event]
) -> None:
    """Nothing around it is given the pixels but what runs the text, too."""
    text = (specimen.block_path, specimen.text_encoder_path or specimen.block_path)

    alone = [
        event.path
        for event in events
        if event.is_on_pixels and not any(is_inside(part, event.path) for part in text)
    ]

    assert alone[0] == specimen.vision_path


def test_the_step_module_returns_logits_once_for_each_token(
    specimen: Specimen, events: list[Event]
) -> None:
    left = [event for event in events if event.path == specimen.step_path and not event.is_entered]

    assert [event.has_logits for event in left] == [True] * N_NEW_TOKENS


def test_every_block_is_called_in_every_step(specimen: Specimen, events: list[Event]) -> None:
    blocks = [f"{specimen.block_path}.{index}" for index in range(specimen.n_blocks)]

    n_calls = Counter(blocks_of_a_step(specimen))
    assert Counter(entered(events, *blocks)) == {
        block: n * N_NEW_TOKENS for block, n in n_calls.items()
    }


def test_there_are_as_many_blocks_as_configured(specimen: Specimen) -> None:
    assert len(block_modules(specimen)) == specimen.n_blocks == DEPTH


def test_vision_runs_where_the_specimen_says(specimen: Specimen, events: list[Event]) -> None:
    tower, step = specimen.vision_path, specimen.step_path

    order = entered(events, tower, step)[:2]

    assert order == {"before": [tower, step], "inside forward": [step, tower]}[specimen.vision_runs]


@pytest.mark.parametrize(
    "specimen", [name for name in available() if has_part(name, "projector")], indirect=True
)
def test_the_projector_runs_after_the_tower_and_as_often(
    specimen: Specimen, events: list[Event]
) -> None:
    tower, projector = specimen.vision_path, str(specimen.projector_path)
    marks = ((tower, False), (projector, True))

    order = [event.path for event in events if (event.path, event.is_entered) in marks]

    assert order == [tower, projector] * specimen.n_vision_runs


@pytest.mark.parametrize(
    "specimen",
    [name for name in available() if has_part(name, "text_encoder")],
    indirect=True,
)
def test_the_text_encoder_runs_once_between_vision_and_the_first_step(
    specimen: Specimen, events: list[Event]
) -> None:
    tower, encoder, step = specimen.vision_path, str(specimen.text_encoder_path), specimen.step_path

    assert entered(events, tower, encoder, step) == [tower, encoder, *[step] * N_NEW_TOKENS]
