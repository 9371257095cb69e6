"""Models that do the same have equal fingerprints; whatever a test changes here makes another."""

from collections.abc import Callable
from enum import Enum
from operator import attrgetter
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pytest_vlmlatency.discovery.fingerprint import fingerprint
from tests.measure.custom_models import PROMPT, Captioner, Sharp
from tests.zoo import ZOO, Specimen, available, build

FAMILIES = [name for name in ZOO if name in available()][:12]


@pytest.mark.parametrize("name", FAMILIES)
def test_models_of_one_architecture_are_alike(name: str) -> None:
    one, other = build(name), build(name, seed=1)

    assert fingerprint(one.model) == fingerprint(other.model)
    assert hash(fingerprint(one.model)) == hash(fingerprint(other.model))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_that_has_generated_stays_as_it_is(name: str) -> None:
    specimen = build(name)
    specimen.generate(**specimen.inputs)
    before = fingerprint(specimen.model)

    specimen.generate(**specimen.inputs)

    assert fingerprint(specimen.model) == before


def test_models_of_two_architectures_differ() -> None:
    assert fingerprint(build("llava").model) != fingerprint(build("mllama").model)


class Colour(Enum):
    RED = 1
    BLUE = 2


def replace_forward(model: nn.Module) -> None:
    vars(model)["forward"] = lambda *args: None


def replace_part(model: Captioner) -> None:
    model.vision_2 = nn.Identity()  # type: ignore[assignment]  # another part is the point


def grow(model: Captioner) -> None:
    model.lm_head = nn.Linear(8, 8)


CHANGES: dict[str, Callable[[Sharp], object]] = {
    "attribute": lambda model: setattr(model, "is_sharp", True),
    "attribute of a part": lambda model: setattr(model.vision.layers[0], "name", "other"),
    "nested": lambda model: setattr(model, "modes", ["a", {"b": (1, 2)}]),
    "enum": lambda model: setattr(model, "colour", Colour.BLUE),
    "dtype": lambda model: setattr(model, "kind", torch.float16),
    "kind of an object": lambda model: setattr(model, "extra", SimpleNamespace()),
    "training": lambda model: model.vision.eval(),
    "block": lambda model: model.blocks.append(nn.Identity()),
    "hook": lambda model: model.proj.register_forward_hook(lambda *_: None),
    "hook before": lambda model: model.proj.register_forward_pre_hook(lambda *_: None),
    "buffer": lambda model: model.register_buffer("seen", torch.zeros(1)),
    "forward": replace_forward,
    "part": replace_part,
    "shape": grow,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_in_the_model_makes_another(change: Callable[[Sharp], object]) -> None:
    model = Sharp()
    before = fingerprint(model)

    change(model)

    assert fingerprint(model) != before


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        ("config.text_config", "num_hidden_layers", 1),
        ("config", "vision_feature_layer", -1),
        ("generation_config", "num_beams", 3),
    ],
)
def test_a_change_in_a_configuration_makes_another(
    owner: str, name: str, value: int, llava: Specimen
) -> None:
    before = fingerprint(llava.model)

    setattr(attrgetter(owner)(llava.model), name, value)

    assert fingerprint(llava.model) != before


def test_a_method_of_the_callers_in_its_place_makes_another() -> None:
    model = Captioner()
    vars(model)["encode"] = model.encode
    before = fingerprint(model)

    vars(model)["encode"] = lambda images: images

    assert fingerprint(model) != before


def test_a_configuration_that_holds_itself_has_an_end(llava: Specimen) -> None:
    llava.model.config.myself = llava.model.config  # type: ignore[union-attr]  # a configuration

    assert fingerprint(llava.model) == fingerprint(llava.model)


def test_what_generate_was_replaced_with_is_left_out() -> None:
    """A case replaces it while it looks."""
    model = Captioner()
    before = fingerprint(model)

    vars(model)["generate"] = lambda *_: PROMPT

    assert fingerprint(model) == before
