"""What turns a conversation and its images into a model's inputs, also without torchvision.

Several families' processors cannot be made without torchvision, for the sake of videos. Their
image half is real code all the same: the family's own class without its video processor, and for
SmolVLM, which also wants a package that spells numbers, Idefics3's, whose prompt layout it shares.

A real byte-level BPE tokenizer, trained at run time, for shapes that have random weights.

A dummy shape has no tokenizer of its own, and no hub may be reachable. Training on the few lines
below takes milliseconds and always gives the same vocabulary. Owns the tokenizer and the chat
template; which image markup a model family wants is said by `processors`.

The image processors that work with Pillow alone, under the names that they have had.

Where a family has one with torchvision as well, transformers 5 says "Pil" in this one's name;
before that, it was the family's plain name. Owns finding the class only.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, cast

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Idefics3Processor,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2VLProcessor,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from PIL import Image
    from transformers import BaseImageProcessor, PreTrainedConfig


# mypy: allow-untyped-calls
# (transformers annotates only a part of its functions.)


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


# mypy: allow-untyped-calls
# (transformers annotates only a part of its functions.)


VOCABULARY = 1024
END = "<|im_end|>"
PAD = "<|pad|>"
IMAGE = "<image>"
QWEN_IMAGE = "<|image_pad|>"
QWEN_VIDEO = "<|video_pad|>"
QWEN_VISION = ("<|vision_start|>", "<|vision_end|>")
MOLMOE_IMAGE = ("<im_start>", "<im_patch>", "<im_col>", "<im_end>")
SPECIAL_TOKENS = (
    PAD,
    "<|im_start|>",
    END,
    IMAGE,
    "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
    QWEN_IMAGE,
    QWEN_VIDEO,
    *QWEN_VISION,
    *MOLMOE_IMAGE,
)

CORPUS = """\
Describe this photograph in one sentence. What is in the picture, and what happens in it?
The photograph shows an astronaut in an orange suit who smiles at the camera, with a flag and a
model of a shuttle behind her. Her helmet lies on the table. How many people are there? One.
A cat with green eyes and a striped coat looks past the camera. What colour are its eyes? They are
green, and the whiskers are white. The animal is resting indoors, close to a window.
A cup of coffee stands on a wooden table, with a spoon on the saucer. Is the cup full or empty? It
is nearly full, and there is foam on top of it. The light comes from the left.
A rocket stands on its launch pad in the evening; smoke drifts away from the tower. Where was this
picture taken? Somewhere near the sea, on a clear day with few clouds in the sky.
Read the page and say what it is about. The text explains how an image is divided into regions,
and which threshold separates the dark letters from the bright paper. What is the first word?
Answer the question with a single word or a short phrase. Explain your reasoning step by step.
Which object is to the right of the other? Which is larger, nearer, older, brighter or heavier?
Is there a person in this image? Are there any animals, trees, buildings, cars, signs or letters?
Count the windows, then the doors: one, two, three, four, five, six, seven, eight, nine, ten.
The numbers on the sign are 0 1 2 3 4 5 6 7 8 9, and below them stands 1969, 2024 and 42 %.
The quick measurement of a slow model needs a quiet machine, a steady clock and a good deal of
patience; the slow measurement of a quick model needs the same, and more of it. A user asks, the
assistant looks at the image and answers. Each word becomes a few tokens, each token a step.
Please list everything that you can see, from left to right and from top to bottom, and give the
colour, the shape and the material of every object: red, orange, yellow, green, blue, black, white;
round, square, flat, long, thin; wood, metal, glass, paper, stone, water, cloth.
Compare the two images. What has changed between them, what has stayed the same, and why?
"""

_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE_MARKUP{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return a fresh tokenizer; its vocabulary is the same each time."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained()),
        pad_token=PAD,
        eos_token=END,
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],  # earlier transformers add token types
        model_max_length=32768,
    )


def token_id(token: str) -> int:
    """Return the id of one of our tokens."""
    return _ids()[token]


def chat_template(image_markup: str) -> str:
    """Return a chat template that writes `image_markup` where a message has an image."""
    return _TEMPLATE.replace("IMAGE_MARKUP", image_markup)


@cache
def _trained() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS.splitlines(), trainer)
    return tokenizer.to_str()


@cache
def _ids() -> dict[str, int]:
    return Tokenizer.from_str(_trained()).get_vocab()


def pillow_processor(family: str, name: str) -> Callable[..., BaseImageProcessor]:
    """Return a family's image processor; `name` is its class's without "Pil"."""
    folder = f"transformers.models.{family}"
    today = f"{folder}.image_processing_pil_{family}"
    if find_spec(today) is not None:
        found = getattr(import_module(today), f"{name}Pil")
    else:
        found = getattr(import_module(f"{folder}.image_processing_{family}"), name)
    return cast("Callable[..., BaseImageProcessor]", found)
