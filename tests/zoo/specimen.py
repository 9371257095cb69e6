"""The nouns of the zoo: how an architecture is made (Recipe), and what came out (Specimen).

What a Recipe says of an architecture (paths, counts, where vision runs) is written down from its
configuration and its source, never found by running it: it is what discovery is tested against.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from transformers import PretrainedConfig as PreTrainedConfig

Inputs = dict[str, torch.Tensor]
PIXEL_NAMES = (
    "pixel_values",
    "pixel_values_images",
    "flattened_patches",
    "image_patches",
    "images",
)
VisionRuns = Literal["before", "inside forward"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where an architecture keeps its parts, as `named_modules` names them.

    `step` is called once for each forward of the loop, "" being the root. `projector` is None
    where it lies inside the tower or runs more than once, and `text_encoder`, which runs after
    vision and before the loop, where the text has none.
    """

    vision: str = "model.vision_tower"
    projector: str | None = "model.multi_modal_projector"
    blocks: str = "model.language_model.layers"
    step: str = ""
    text_encoder: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one architecture is shrunk and fed.

    `architecture` is the one that the configuration is of, where the name says more. `sections` are
    the architectures of parts that its default leaves open or has otherwise, `overrides` are dotted
    configuration keys. `make_model` returns a model that the mapping doesn't have.

    `count_vision_tokens` is the number of vision features that the decoder attends to.
    `make_pixels` returns what the image becomes, and `make_prompt` the rest: it is told how many
    placeholders the image needs (0 without an image). `projects_in_forward`: the projector runs
    inside the first forward, wherever the tower does. `n_dropped_words` is how many of the prompt's
    last tokens generate() itself leaves out. `weight_gain` scales the weights: normalising after
    each block wants smaller ones, or every position ends up the same.
    """

    make_pixels: Callable[[PreTrainedConfig, torch.Generator], Inputs]
    make_prompt: Callable[[PreTrainedConfig, int], Inputs]
    count_vision_tokens: Callable[[PreTrainedConfig], int]
    architecture: str | None = None
    make_model: Callable[[], torch.nn.Module] | None = None
    sections: Mapping[str, str] = field(default_factory=dict)
    is_placeholder: bool = True
    n_dropped_words: int = 0
    overrides: Mapping[str, object] = field(default_factory=dict)
    paths: Paths = Paths()
    vision_runs: VisionRuns = "before"
    projects_in_forward: bool = False
    takes_text_alone: bool = True
    weight_gain: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Specimen:
    """A tiny model in eval mode, with inputs of one image and everything known about both.

    `n_prompt_columns` is how many columns of its output repeat the prompt, or start the decoder.
    `generate(**inputs)` always yields `N_NEW_TOKENS` tokens, greedily. `text_inputs` is None
    where the family can't do without an image. `n_vision_runs` is how often that generate()
    encodes its image: once, unless an earlier transformers does so in every step.
    """

    name: str
    model: torch.nn.Module
    inputs: Inputs
    text_inputs: Inputs | None
    n_blocks: int
    vision_path: str
    projector_path: str | None
    block_path: str
    step_path: str
    text_encoder_path: str | None
    n_vision_tokens: int
    n_text_tokens: int
    n_prompt_columns: int
    vision_runs: VisionRuns
    n_vision_runs: int
    projects_in_forward: bool = False

    @property
    def all_vision_runs(self) -> Literal["before", "inside", "both"]:
        """Where tower and projector run, by the prompt's forward."""
        if self.vision_runs == "inside forward":
            return "inside"
        return "both" if self.projects_in_forward else "before"

    @property
    def config(self) -> PreTrainedConfig:
        """The model's configuration."""
        return cast("PreTrainedConfig", self.model.config)

    @property
    def pixels(self) -> torch.Tensor:
        """The image itself, whatever the family calls it."""
        return next(self.inputs[name] for name in PIXEL_NAMES if name in self.inputs)

    @property
    def generate(self) -> Callable[..., torch.Tensor]:
        """The model's own bound method, with a type: `Module` doesn't know that it has one."""
        return cast("Callable[..., torch.Tensor]", self.model.generate)


def vision_module(specimen: Specimen) -> torch.nn.Module:
    """Return the vision tower."""
    return specimen.model.get_submodule(specimen.vision_path)


def step_module(specimen: Specimen) -> torch.nn.Module:
    """Return the module that the loop calls once for each forward."""
    return specimen.model.get_submodule(specimen.step_path)


def block_modules(specimen: Specimen) -> tuple[torch.nn.Module, ...]:
    """Return the decoder blocks, first to last."""
    blocks = cast("torch.nn.ModuleList", specimen.model.get_submodule(specimen.block_path))
    return tuple(blocks)


def blocks_of_a_step(specimen: Specimen) -> tuple[str, ...]:
    """Return the paths of the blocks that a step runs, in order: some run a part of them again."""
    text = getattr(specimen.config, "text_config", None)
    order = [f"{specimen.block_path}.{index}" for index in range(specimen.n_blocks)]
    start, end = (getattr(text, f"loop_layer_index_{name}", 0) for name in ("start", "end"))
    again = order[start:end] * (getattr(text, "loop_num_passes", 1) - 1)
    return (*order[:end], *again, *order[end:])
