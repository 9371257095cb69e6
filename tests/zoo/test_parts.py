"""The named parts of every specimen do what their names say, and when."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch

from tests.zoo import (
    N_NEW_TOKENS,
    ZOO,
    Specimen,
    available,
    block_modules,
    build,
    step_module,
    vision_module,
)
from tests.zoo.shrink import DEPTH


@contextmanager
def counted_calls(**modules: torch.nn.Module) -> Iterator[Counter[str]]:
    """Count how often each module is called, by the name it is given under."""
    calls: Counter[str] = Counter()
    handles = [
        module.register_forward_pre_hook(lambda *_, name=name: calls.update([name]))
        for name, module in modules.items()
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def is_made_of(pixels: torch.Tensor, value: object) -> bool:
    """Whether a tensor holds the same values, perhaps in another shape or several times."""
    if not isinstance(value, torch.Tensor) or value.numel() % pixels.numel():
        return False
    return bool((value.reshape(-1, pixels.numel()) == pixels.flatten()).all())


def is_inside(part: str, path: str) -> bool:
    return not path or part == path or part.startswith(f"{path}.")


def test_the_vision_tower_is_called_as_often_as_the_specimen_says(specimen: Specimen) -> None:
    with counted_calls(vision=vision_module(specimen)) as calls:
        specimen.generate(**specimen.inputs)

    assert calls == {"vision": specimen.n_vision_runs}


@pytest.mark.parametrize("name", [name for name in available() if ZOO[name].takes_text_alone])
def test_the_vision_tower_rests_without_an_image(name: str) -> None:
    specimen = build(name)
    assert specimen.text_inputs is not None

    with counted_calls(vision=vision_module(specimen)) as calls:
        specimen.generate(**specimen.text_inputs)

    assert calls == {}


def test_the_vision_tower_is_the_outermost_module_on_raw_pixels_and_nothing_else(
    specimen: Specimen,
) -> None:
    """Nothing around it is given the pixels but what runs the text, too."""
    on_pixels: list[str] = []

    def keep(
        path: str, _: torch.nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> None:
        if any(is_made_of(specimen.pixels, value) for value in (*args, *kwargs.values())):
            on_pixels.append(path)

    for path, module in specimen.model.named_modules():
        module.register_forward_pre_hook(partial(keep, path), with_kwargs=True)
    specimen.generate(**specimen.inputs, max_new_tokens=1)

    text = (specimen.block_path, specimen.text_encoder_path or specimen.block_path)
    alone = [path for path in on_pixels if not any(is_inside(part, path) for part in text)]
    assert alone[0] == specimen.vision_path


def test_the_step_module_returns_logits(specimen: Specimen) -> None:
    outputs: list[object] = []

    def keep(_: torch.nn.Module, args: object, output: object) -> None:
        outputs.append(output)

    handle = step_module(specimen).register_forward_hook(keep)
    specimen.generate(**specimen.inputs, max_new_tokens=1)
    handle.remove()

    assert [hasattr(output, "logits") for output in outputs] == [True]


def test_the_step_module_is_called_once_for_each_token(specimen: Specimen) -> None:
    with counted_calls(step=step_module(specimen)) as calls:
        specimen.generate(**specimen.inputs)

    assert calls == {"step": N_NEW_TOKENS}


def test_every_block_is_called_in_every_step(specimen: Specimen) -> None:
    blocks = {str(index): block for index, block in enumerate(block_modules(specimen))}

    with counted_calls(**blocks) as calls:
        specimen.generate(**specimen.inputs)

    assert calls == dict.fromkeys(blocks, N_NEW_TOKENS)


def test_there_are_as_many_blocks_as_configured(specimen: Specimen) -> None:
    assert len(block_modules(specimen)) == specimen.n_blocks == DEPTH


def test_vision_runs_where_the_specimen_says(specimen: Specimen) -> None:
    order: list[str] = []
    step = step_module(specimen).register_forward_pre_hook(lambda *_: order.append("step"))
    vision = vision_module(specimen).register_forward_hook(lambda *_: order.append("vision"))

    specimen.generate(**specimen.inputs, max_new_tokens=1)
    step.remove()
    vision.remove()

    expected = {"before": ["vision", "step"], "inside forward": ["step", "vision"]}
    assert order == expected[specimen.vision_runs]


@pytest.mark.parametrize("name", [name for name in available() if ZOO[name].paths.projector])
def test_the_projector_runs_after_the_tower_and_as_often(name: str) -> None:
    specimen = build(name)
    assert specimen.projector_path is not None
    projector = specimen.model.get_submodule(specimen.projector_path)
    order: list[str] = []
    vision_module(specimen).register_forward_hook(lambda *_: order.append("tower"))
    projector.register_forward_pre_hook(lambda *_: order.append("projector"))

    specimen.generate(**specimen.inputs)

    assert order == ["tower", "projector"] * specimen.n_vision_runs


@pytest.mark.parametrize("name", [name for name in available() if ZOO[name].paths.text_encoder])
def test_the_text_encoder_runs_once_between_vision_and_the_first_step(name: str) -> None:
    specimen = build(name)
    assert specimen.text_encoder_path is not None
    encoder = specimen.model.get_submodule(specimen.text_encoder_path)
    order: list[str] = []
    vision_module(specimen).register_forward_hook(lambda *_: order.append("tower"))
    encoder.register_forward_pre_hook(lambda *_: order.append("text encoder"))
    step_module(specimen).register_forward_pre_hook(lambda *_: order.append("step"))

    specimen.generate(**specimen.inputs)

    assert order == ["tower", "text encoder", *["step"] * N_NEW_TOKENS]
