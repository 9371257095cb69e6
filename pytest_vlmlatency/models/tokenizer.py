"""A real byte-level BPE tokenizer, trained at run time, for shapes that have random weights.

A dummy shape has no tokenizer of its own, and no hub may be reachable. Training on the few lines
below takes milliseconds and always gives the same vocabulary. Owns the tokenizer and the chat
template; which image markup a model family wants is said by `processors`.
"""

# mypy: allow-untyped-calls
# (transformers annotates only a part of its functions.)

from __future__ import annotations

from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

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
