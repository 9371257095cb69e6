"""Build what `dummy:NAME` names: a real shape with random weights, and a real processor for it.

Owns the step from a shape's plain data to transformers' objects. The tokenizer is ours for every
shape, so its ids replace the published ones; the vocabulary's size stays as published.
"""

# mypy: allow-untyped-calls
# (transformers annotates only a part of its functions.)

from __future__ import annotations

from copy import deepcopy
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, cast

from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoConfig

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.models.crops import MolmoeProcessor
from pytest_vlmlatency.models.molmoe import build_molmoe
from pytest_vlmlatency.models.processors import (
    END,
    IMAGE,
    PAD,
    QWEN_IMAGE,
    QWEN_VIDEO,
    QWEN_VISION,
    build_tokenizer,
    idefics3_processor,
    llava_processor,
    qwen2_vl_processor,
    token_id,
)
from pytest_vlmlatency.models.random_weights import build_random
from pytest_vlmlatency.models.shapes import DUMMY_SHAPES, PREFIX, DummyShape

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

    from pytest_vlmlatency.models.processors import Processor

SEED = 0
PROCESSORS = {
    "llava": llava_processor,
    "idefics3": idefics3_processor,
    "qwen2_vl": qwen2_vl_processor,
}
IMAGE_TOKENS = {
    "llava": {"image_token_index": IMAGE},
    "idefics3": {"image_token_id": IMAGE},
    "qwen2_vl": {
        "image_token_id": QWEN_IMAGE,
        "video_token_id": QWEN_VIDEO,
        "vision_start_token_id": QWEN_VISION[0],
        "vision_end_token_id": QWEN_VISION[1],
    },
}


def find_shape(name: str) -> DummyShape:
    """Return the shape behind a name such as `dummy:llava-tiny`, or the name without the prefix."""
    bare = name.removeprefix(PREFIX)
    if bare not in DUMMY_SHAPES:
        near = get_close_matches(bare, DUMMY_SHAPES, n=1)
        hint = f"; did you mean {PREFIX}{near[0]}?" if near else "."
        raise UsageProblem(
            f"there is no shape {PREFIX}{bare}{hint} There are {', '.join(DUMMY_SHAPES)}."
        )
    return DUMMY_SHAPES[bare]


def build_dummy(
    name: str, *, dtype: torch.dtype, device: str | torch.device, attn: str
) -> tuple[PreTrainedModel, Processor]:
    """Return the model and the processor of a shape; the same weights each time."""
    shape = find_shape(name)
    if shape.family == "molmoe":
        scale = str(shape.config["scale"])
        molmoe = build_molmoe(scale, seed=SEED, dtype=dtype, device=device, attn=attn)
        return molmoe, cast("Processor", MolmoeProcessor(molmoe.config))
    config = build_config(shape)
    model_class = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)]
    model = build_random(
        cast("type[PreTrainedModel]", model_class),
        config,
        seed=SEED,
        dtype=dtype,
        device=device,
        attn=attn,
    )
    return model, PROCESSORS[shape.family](config, shape.image_processor)


def build_config(shape: DummyShape) -> PreTrainedConfig:
    """Return a shape's configuration with the token ids of our own tokenizer."""
    fields = deepcopy(dict(shape.config))
    text = fields["text_config"]
    text["vocab_size"] = text["vocab_size"] or len(build_tokenizer())
    if "tie_word_embeddings" in fields:  # earlier transformers read the text part's own
        text["tie_word_embeddings"] = fields["tie_word_embeddings"]
    _spell_rope(text, AutoConfig.for_model(shape.family).get_text_config())
    text |= {"pad_token_id": token_id(PAD), "eos_token_id": token_id(END), "bos_token_id": None}
    fields |= {key: token_id(token) for key, token in IMAGE_TOKENS[shape.family].items()}
    return AutoConfig.for_model(shape.family, **fields)


def _spell_rope(text: dict[str, Any], default: PreTrainedConfig) -> None:
    """Spread `rope_parameters` over the two values that they were before they were one mapping."""
    if "rope_parameters" in text and not hasattr(default, "rope_parameters"):
        rope = dict(text.pop("rope_parameters"))
        text["rope_theta"] = rope.pop("rope_theta")
        text["rope_scaling"] = rope
