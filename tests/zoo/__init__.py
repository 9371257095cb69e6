"""A zoo of tiny vision-language models with random weights, built from configurations alone.

`build(name)` returns a fresh Specimen, the same to the last bit for the same seed. No file and no
network is needed, and nothing here knows how phases are found or timed. `ZOO` has every recipe,
`available()` the names that the installed transformers can build.
"""

from collections.abc import Callable
from types import MappingProxyType
from typing import cast

import torch
from transformers import (
    AutoModelForImageTextToText,
    GenerationConfig,
    GenerationMixin,
    PreTrainedModel,
)
from transformers import PretrainedConfig as PreTrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as MAPPING,
)

from tests.zoo.earlier import ENCODES_EACH_STEP, NO_RECIPE, known_as, taken, where_vision_runs
from tests.zoo.encoders import ENCODERS
from tests.zoo.further import FURTHER
from tests.zoo.grids import GRIDS
from tests.zoo.newest import NEWEST
from tests.zoo.outside import OUTSIDE
from tests.zoo.readers import READERS
from tests.zoo.recipes import REQUIRED
from tests.zoo.shrink import BOS, PAD, build_tiny_config, count_decoder_blocks
from tests.zoo.specimen import (
    Inputs,
    Recipe,
    Specimen,
    block_modules,
    blocks_of_a_step,
    step_module,
    vision_module,
)
from tests.zoo.towers import TOWERS
from tests.zoo.weights import draw_weights, forbid_special_tokens

__all__ = [
    "ENCODES_EACH_STEP",
    "N_NEW_TOKENS",
    "ZOO",
    "Inputs",
    "Recipe",
    "Specimen",
    "available",
    "block_modules",
    "blocks_of_a_step",
    "build",
    "build_recipe",
    "step_module",
    "vision_module",
]

N_NEW_TOKENS = 8
ZOO = MappingProxyType(REQUIRED | FURTHER | GRIDS | TOWERS | ENCODERS | READERS | NEWEST | OUTSIDE)

# Named for its type: it is declared without one.
_from_config: Callable[[PreTrainedConfig], PreTrainedModel] = (
    AutoModelForImageTextToText.from_config
)


def available() -> tuple[str, ...]:
    """Return the names in the zoo that the installed transformers has, in order of the alphabet."""
    return tuple(sorted(name for name in ZOO if is_available(name)))


def is_available(name: str) -> bool:
    """Whether a member can be built: it is in the mapping, or none of transformers' own."""
    recipe = ZOO[name]
    architecture = recipe.architecture or name
    is_known = architecture in MAPPING and architecture not in NO_RECIPE
    return recipe.make_model is not None or is_known


def build(name: str, *, seed: int = 0) -> Specimen:
    """Build the tiny model of one architecture, with inputs of one image."""
    return build_recipe(name, ZOO[name], seed=seed)


def build_recipe(name: str, recipe: Recipe, *, seed: int = 0) -> Specimen:
    """Build what a recipe says, in the zoo or not."""
    generator = torch.Generator().manual_seed(seed)
    model = _build_model(name, recipe, generator)
    config = cast("PreTrainedConfig", model.config)
    n_vision_tokens = recipe.count_vision_tokens(config)
    prompt = recipe.make_prompt(config, n_vision_tokens)
    n_prompt_tokens = prompt["input_ids"].shape[1] if "input_ids" in prompt else 0
    n_prompt_tokens -= recipe.n_dropped_words
    n_placeholders = n_vision_tokens if recipe.is_placeholder else 0
    return Specimen(
        name=name,
        model=model,
        inputs=taken(model, prompt) | recipe.make_pixels(config, generator),
        text_inputs=_text_inputs(recipe, model),
        n_blocks=count_decoder_blocks(config),
        vision_path=known_as(model, recipe.paths.vision),
        projector_path=recipe.paths.projector,
        block_path=recipe.paths.blocks,
        step_path=recipe.paths.step,
        text_encoder_path=recipe.paths.text_encoder,
        n_vision_tokens=n_vision_tokens,
        n_text_tokens=n_prompt_tokens - n_placeholders,
        vision_runs=where_vision_runs(recipe, model),
        projects_in_forward=recipe.projects_in_forward,
        n_vision_runs=N_NEW_TOKENS if name in ENCODES_EACH_STEP else 1,
        n_prompt_columns=1 if config.is_encoder_decoder else n_prompt_tokens,
    )


def _text_inputs(recipe: Recipe, model: torch.nn.Module) -> Inputs | None:
    if not recipe.takes_text_alone:
        return None
    return taken(model, recipe.make_prompt(cast("PreTrainedConfig", model.config), 0))


def _build_model(name: str, recipe: Recipe, generator: torch.Generator) -> torch.nn.Module:
    """Return the model, in eval mode, leaving torch's own random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        model = recipe.make_model() if recipe.make_model else _from_mapping(name, recipe)
    draw_weights(model, generator, gain=recipe.weight_gain)
    forbid_special_tokens(model)
    _generate_greedily(model)
    model.train(mode=False)
    return model


def _from_mapping(name: str, recipe: Recipe) -> PreTrainedModel:
    parts = recipe.sections
    config = build_tiny_config(recipe.architecture or name, recipe.overrides, parts=parts)
    return _from_config(config)


def _generate_greedily(model: torch.nn.Module) -> None:
    """Make every generate() in the model yield exactly `N_NEW_TOKENS` tokens, without sampling."""
    generating = [
        module
        for module in model.modules()
        if isinstance(module, PreTrainedModel)
        and isinstance(module, GenerationMixin)
        and module.can_generate()
    ]
    for module in generating:
        module.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]  # it has none
            max_new_tokens=N_NEW_TOKENS,
            do_sample=False,
            bos_token_id=BOS,
            pad_token_id=PAD,
            decoder_start_token_id=BOS,
        )
