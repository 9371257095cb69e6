"""What turns a conversation and its images into a model's inputs, also without torchvision.

Several families' processors cannot be made without torchvision, for the sake of videos. Their
image half is real code all the same: the family's own class without its video processor, and for
SmolVLM, which also wants a package that spells numbers, Idefics3's, whose prompt layout it shares.
"""

# mypy: allow-untyped-calls
# (transformers annotates only a part of its functions.)

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from transformers import Idefics3Processor, LlavaProcessor, ProcessorMixin, Qwen2VLProcessor

from pytest_vlmlatency.models.image_processors import pillow_processor
from pytest_vlmlatency.models.tokenizer import (
    IMAGE,
    QWEN_IMAGE,
    QWEN_VISION,
    build_tokenizer,
    chat_template,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL import Image
    from transformers import PreTrainedConfig


class Processor(Protocol):
    """The part of a transformers processor that is used here."""

    def apply_chat_template(
        self, conversation: Sequence[Mapping[str, object]], *, add_generation_prompt: bool
    ) -> str:
        """Return the conversation as text, with a mark for each image."""

    def __call__(
        self, *, images: Sequence[Image.Image] | None, text: Sequence[str], return_tensors: str
    ) -> Mapping[str, object]:
        """Return the model's inputs for this text and the images that it marks."""


def without_video(processor_class: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """Return a processor class that neither takes nor loads a video processor."""
    if processor_class.__name__ == "SmolVLMProcessor":
        return Idefics3Processor
    parts = [name for name in parts_of(processor_class) if name != "video_processor"]
    # Under the same name, since save_pretrained writes it down.
    return type(
        processor_class.__name__,
        (processor_class,),
        {"attributes": parts, "get_attributes": classmethod(lambda _cls: list(parts))},
    )


def parts_of(processor_class: type[ProcessorMixin]) -> list[str]:
    """Return the names of a processor's parts, which are listed or asked for by version."""
    ask = getattr(processor_class, "get_attributes", None)
    return list(ask() if ask is not None else vars(processor_class)["attributes"])


def prompt_text(processor: Processor, prompt: str, *, n_images: int) -> str:
    """Return a user's turn with its images first.

    A processor without a chat template gets its image token once for each image, then the prompt.
    """
    tokenizer = getattr(processor, "tokenizer", None)
    templates = [getattr(owner, "chat_template", None) for owner in (processor, tokenizer)]
    if not any(templates):
        return getattr(processor, "image_token", "") * n_images + prompt
    parts: list[dict[str, str]] = [{"type": "image"} for _ in range(n_images)]
    parts.append({"type": "text", "text": prompt})
    return processor.apply_chat_template(
        [{"role": "user", "content": parts}], add_generation_prompt=True
    )


def llava_processor(config: PreTrainedConfig, image_processor: Mapping[str, Any]) -> Processor:
    """Return LLaVA's own processor around our tokenizer."""
    processor = LlavaProcessor(
        pillow_processor("clip", "CLIPImageProcessor")(**image_processor),
        build_tokenizer(),
        patch_size=config.vision_config.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=1,  # CLIP's class token, which "default" leaves out again
        chat_template=chat_template(IMAGE),
    )
    return cast("Processor", processor)


def idefics3_processor(config: PreTrainedConfig, image_processor: Mapping[str, Any]) -> Processor:
    """Return Idefics3's own processor, which is SmolVLM's, around our tokenizer."""
    vision = config.vision_config
    patches = (vision.image_size // vision.patch_size) ** 2
    processor = Idefics3Processor(
        pillow_processor("idefics3", "Idefics3ImageProcessor")(**image_processor),
        build_tokenizer(),
        image_seq_len=patches // config.scale_factor**2,
        chat_template=chat_template(IMAGE),
    )
    return cast("Processor", processor)


def qwen2_vl_processor(
    config: PreTrainedConfig,
    image_processor: Mapping[str, Any],
) -> Processor:
    """Return Qwen2-VL's own processor without its video half, around our tokenizer."""
    start, end = QWEN_VISION
    without = without_video(Qwen2VLProcessor)
    if hasattr(without, "tokenizer_class"):  # what earlier transformers hold a tokenizer to
        without.tokenizer_class = "PreTrainedTokenizerFast"
    processor = without(
        pillow_processor("qwen2_vl", "Qwen2VLImageProcessor")(**image_processor),
        build_tokenizer(),
        chat_template=chat_template(start + QWEN_IMAGE + end),
    )
    return cast("Processor", processor)
