"""What earlier transformers (from 4.57) want otherwise than the recipes say.

The recipes speak of the newest transformers. Each difference is told by what the installed one
has, never by its number, so that versions between both ends get what they want, too.
"""

import inspect
from collections.abc import Mapping
from typing import cast

import torch
import transformers
from transformers import AutoConfig, GenerationMixin, Llama4ForConditionalGeneration
from transformers import PretrainedConfig as PreTrainedConfig
from transformers.modeling_outputs import MoeCausalLMOutputWithPast
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as MAPPING,
)

from tests.zoo.specimen import Inputs, Recipe, VisionRuns

ENCODES_FIRST = hasattr(GenerationMixin, "_supports_mm_encoder_outputs")
"""Whether generate() encodes images before its loop, where the model's forward used to."""
_PREPARES = inspect.signature(GenerationMixin.prepare_inputs_for_generation).parameters
CACHE = next(name for name in ("cache", "past_key_values") if name in _PREPARES)
"""What generate() and its outputs call the cache."""
ENCODES_EACH_STEP = frozenset() if ENCODES_FIRST else frozenset({"git"})
"""What was given its pixels in every step, and encoded them in every one."""

_UNLIKE_EARLIER = {
    "emu3": "its forward leaves the pixels out, so no image is seen: a measurement is refused",
}
BROKEN = (
    {"llama4": "its forward reads `image_outputs` of its text model, whose output has none"}
    if "image_outputs" in inspect.unwrap(Llama4ForConditionalGeneration.forward).__code__.co_names
    and not hasattr(MoeCausalLMOutputWithPast, "image_outputs")
    else {}
)
"""What the installed transformers itself cannot run, whatever it is given (5.24.0)."""
NO_RECIPE = BROKEN if ENCODES_FIRST else _UNLIKE_EARLIER
"""What the installed transformers has, but so unlike the newest that its recipe fits it not."""

_FORMER_NAMES = {"vision_feature_layer": "vision_feature_layers"}
_NEWER_INPUTS = ("mm_token_type_ids",)


def default_config(model_type: str) -> PreTrainedConfig:
    """Return an architecture's default configuration, of ViT and BERT where it has none."""
    try:
        return AutoConfig.for_model(model_type)
    except ValueError:
        encoder = AutoConfig.for_model("vit").to_dict()
        decoder = AutoConfig.for_model("bert", is_decoder=True, add_cross_attention=True).to_dict()
        return AutoConfig.for_model(model_type, encoder=encoder, decoder=decoder)


def with_parts(
    config: PreTrainedConfig, sections: Mapping[str, object], parts: Mapping[str, str]
) -> PreTrainedConfig:
    """Return a configuration with parts of the architectures that were asked for.

    It used to make its own kind of part of whatever it was given.
    """
    for name, architecture in parts.items():
        kind = type(default_config(architecture))
        if not isinstance(getattr(config, name), kind):
            section = sections[name]
            assert isinstance(section, dict), f"{name} is a section of its own"
            setattr(config, name, kind.from_dict(section))
    return config


def override(section: dict[str, object], key: str, value: object) -> None:
    """Replace one value of a section, under the name that it has there."""
    former = _FORMER_NAMES.get(key, key)
    if key == "rope_parameters" and key not in section:
        _set_rope(section, value)
    else:
        section[former if former in section else key] = value


def taken(model: torch.nn.Module, inputs: Inputs) -> Inputs:
    """Return the inputs without those that the model's forward does not know yet."""
    known = inspect.signature(model.forward).parameters
    return {key: value for key, value in inputs.items() if key not in _NEWER_INPUTS or key in known}


def first_taken(architecture: str, *names: str) -> str:
    """Return the first of an input's names that the architecture's forward knows."""
    model_class = getattr(transformers, MAPPING[architecture])
    known = inspect.signature(model_class.forward).parameters
    return next(name for name in names if name in known)


def known_as(model: torch.nn.Module, path: str) -> str:
    """Return the first name of a module: udop's tower used to be shared, and had two."""
    module = model.get_submodule(path)
    return next(str(name) for name, other in model.named_modules() if other is module)


def where_vision_runs(recipe: Recipe, model: torch.nn.Module) -> VisionRuns:
    """Return what the recipe says, unless it speaks of a generate() that encodes first."""
    has_own_way = (
        bool(recipe.paths.step) or cast("PreTrainedConfig", model.config).is_encoder_decoder
    )
    return recipe.vision_runs if ENCODES_FIRST or has_own_way else "inside forward"


def _set_rope(section: dict[str, object], parameters: object) -> None:
    """Spread rotary parameters over the values that they were before they were one mapping."""
    assert isinstance(parameters, Mapping), "rope_parameters are a mapping"
    flat = ("rope_theta", "partial_rotary_factor")
    section.update({key: parameters[key] for key in flat if key in parameters})
    section["rope_scaling"] = {key: parameters[key] for key in parameters if key not in flat}
