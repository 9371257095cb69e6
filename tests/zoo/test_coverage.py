"""Which of the mapping's architectures the zoo has, and whether the reasons for the others hold."""

import inspect

import pytest
import transformers
from packaging.version import Version
from transformers import AutoConfig, GenerationMixin, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES as ENCODERS

from pytest_vlmlatency import InvalidMeasurement, measure_generate
from tests.zoo import ZOO, available, build_recipe
from tests.zoo.earlier import BROKEN
from tests.zoo.newest import DIFFUSION_GEMMA
from tests.zoo.outside import OUTSIDE
from tests.zoo.uncovered import (
    DECODES_NO_STEPS,
    GENERATES_NO_TEXT,
    REASONS,
    TAKES_NO_PIXELS,
    UNCOVERED,
    WANTS_ANOTHER_PACKAGE,
    uncovered_for,
)

MAPPING = frozenset(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
IN_MAPPING = frozenset(ZOO.keys() - OUTSIDE.keys())
WRITTEN_FOR = Version("5.24")
"""The transformers whose mapping the recipes and reasons were written for."""


def listed(kind: str) -> list[str]:
    """Return the names with a kind of reason that the installed transformers has."""
    return [name for name in uncovered_for(kind) if name in MAPPING]


def class_of(name: str) -> type[PreTrainedModel]:
    found: type[PreTrainedModel] = getattr(
        transformers, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES[name]
    )
    return found


@pytest.mark.skipif(
    Version(transformers.__version__).major < WRITTEN_FOR.major,
    reason="the zoo follows the newest mapping; what has left it since 4.57 is not looked for",
)
def test_every_architecture_of_the_mapping_is_in_the_zoo_or_there_is_a_reason() -> None:
    assert sorted(MAPPING - IN_MAPPING - UNCOVERED.keys()) == []


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_said_to_be_broken_cannot_generate(name: str) -> None:
    specimen = build_recipe(name, ZOO[name])

    with pytest.raises(AttributeError, match="has no attribute 'image_outputs'"):
        specimen.generate(**specimen.inputs)


def test_nothing_is_both_in_the_zoo_and_left_out() -> None:
    assert sorted(ZOO.keys() & UNCOVERED.keys()) == []


@pytest.mark.skipif(
    Version(transformers.__version__) < WRITTEN_FOR, reason="earlier transformers have fewer"
)
def test_no_name_is_of_an_architecture_that_there_is_not() -> None:
    assert sorted((IN_MAPPING | UNCOVERED.keys()) - MAPPING) == []


@pytest.mark.skipif(
    Version(transformers.__version__).major < WRITTEN_FOR.major,
    reason="earlier transformers have fewer",
)
def test_the_zoo_has_what_was_promised() -> None:
    assert len(set(available()) & MAPPING) >= 60
    assert {"llava+olmoe", "molmo"} <= set(available())


def test_every_reason_is_one_that_is_checked() -> None:
    checked = {TAKES_NO_PIXELS, GENERATES_NO_TEXT, DECODES_NO_STEPS, WANTS_ANOTHER_PACKAGE}

    assert {kind for kind, _ in REASONS.values()} == checked


@pytest.mark.parametrize("name", listed(TAKES_NO_PIXELS))
def test_what_is_said_to_take_no_pixels_has_no_argument_for_them(name: str) -> None:
    arguments = inspect.signature(class_of(name).forward).parameters

    assert not [name for name in arguments if "pixel" in name or "image" in name]


@pytest.mark.parametrize("name", listed(GENERATES_NO_TEXT))
def test_what_is_said_to_generate_no_text_has_no_generate(name: str) -> None:
    assert not class_of(name).can_generate()
    assert not hasattr(class_of(name), "generate")


@pytest.mark.parametrize("name", listed(DECODES_NO_STEPS))
def test_what_is_said_to_decode_no_steps_has_blocks_and_a_generate_of_its_own(name: str) -> None:
    assert not issubclass(class_of(name), GenerationMixin)
    assert AutoConfig.for_model(name).canvas_length > 1


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # its generate() loads them
@pytest.mark.parametrize("name", listed(DECODES_NO_STEPS))
def test_what_is_said_to_decode_no_steps_is_refused(name: str) -> None:
    specimen = build_recipe(name, DIFFUSION_GEMMA)
    settings = {"max_new_tokens": 8, "disable_compile": True}

    with pytest.raises(InvalidMeasurement, match="step forwards after the prompt's for"):
        measure_generate(specimen.generate, kwargs={**specimen.inputs, **settings}, rounds=1)


@pytest.mark.parametrize("name", listed(WANTS_ANOTHER_PACKAGE))
def test_what_is_said_to_want_another_package_has_no_tower_but_its_own(name: str) -> None:
    """Whatever tower is asked for, its configuration makes it timm's."""
    asked_for = AutoConfig.for_model("clip_vision_model").to_dict()

    config = AutoConfig.for_model(name, vision_config=asked_for)

    assert ENCODERS[type(config.vision_config).model_type] == "TimmWrapperModel"
