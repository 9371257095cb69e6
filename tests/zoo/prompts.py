"""What the text side of an input looks like: kinds of prompts, shared by many architectures.

A prompt is made of ordinary words around the image's placeholders; which words doesn't matter,
so they are counted up, and no randomness is needed.
"""

from collections.abc import Callable

import torch
from transformers import PretrainedConfig as PreTrainedConfig

from tests.zoo.shrink import BOS, FIRST_WORD, VOCABULARY
from tests.zoo.specimen import Inputs

Prompt = Callable[[PreTrainedConfig, int], Inputs]

N_WORDS_BEFORE = 3
N_WORDS_AFTER = 5
# Where the configuration names no image token, an id that is no word.
UNNAMED_IMAGE_TOKEN = VOCABULARY - 1
# The prompt's own tokens: the beginning of sequence, and the words on both sides of the image.
N_TEXT_TOKENS = 1 + N_WORDS_BEFORE + N_WORDS_AFTER


def nothing(config: PreTrainedConfig, n_placeholders: int) -> Inputs:
    """Return no prompt at all: the image is everything that the model is given."""
    return {}


def words(config: PreTrainedConfig, n_placeholders: int) -> Inputs:
    """Return a prompt that doesn't mention its image."""
    return _around([])


def placeholders(config: PreTrainedConfig, n_placeholders: int) -> Inputs:
    """Return a prompt with one image token for each vision feature, as most families want it."""
    return _around([_image_token(config)] * n_placeholders)


def marker(config: PreTrainedConfig, n_placeholders: int) -> Inputs:
    """Return a prompt with a single image token, however many features the image has."""
    return _around([_image_token(config)] * min(n_placeholders, 1))


def bordered_placeholders(config: PreTrainedConfig, n_placeholders: int) -> Inputs:
    """Return `placeholders` between the tokens that say where an image starts and ends."""
    if not n_placeholders:
        return words(config, 0)
    image = [_image_token(config)] * n_placeholders
    return _around([config.vision_start_token_id, *image, config.vision_end_token_id])


def typed_placeholders(name: str, *, image: int = 1, text: int = 0) -> Prompt:
    """Return `placeholders` with an input that tells image positions from text positions.

    The last word before the image is the token that says where one starts, if there is such a
    token: earlier transformers count images by it, to give each beam its own.
    """

    def make(config: PreTrainedConfig, n_placeholders: int) -> Inputs:
        inputs = placeholders(config, n_placeholders)
        if n_placeholders and getattr(config, "vision_start_token_id", None) is not None:
            inputs["input_ids"][0, N_WORDS_BEFORE] = config.vision_start_token_id
        is_image = inputs["input_ids"] == _image_token(config)
        return inputs | {name: torch.where(is_image, image, text)}

    return make


def masked_placeholders(config: PreTrainedConfig, n_placeholders: int) -> Inputs:
    """Return a prompt whose image positions are told by a mask: any id may stand there."""
    inputs = _around([UNNAMED_IMAGE_TOKEN] * n_placeholders)
    return inputs | {"image_embeds_position_mask": inputs["input_ids"] == UNNAMED_IMAGE_TOKEN}


def indexed_placeholders(n_crops: int) -> Prompt:
    """Return a prompt whose image positions are listed, crop by crop: any id may stand there."""

    def make(config: PreTrainedConfig, n_placeholders: int) -> Inputs:
        ids = _around([UNNAMED_IMAGE_TOKEN] * n_placeholders)["input_ids"]
        if not n_placeholders:
            return {"input_ids": ids}
        places = (ids[0] == UNNAMED_IMAGE_TOKEN).nonzero()
        return {"input_ids": ids, "image_input_idx": places.reshape(1, n_crops, -1)}

    return make


def image_mask(config: PreTrainedConfig, n_placeholders: int) -> Inputs:
    """Return `words` and which of them attend to the only image: all."""
    inputs = words(config, 0)
    return inputs | {"image_attention_mask": inputs["attention_mask"].unsqueeze(-1)}


def boxed_words(config: PreTrainedConfig, n_placeholders: int) -> Inputs:
    """Return `words`, each with a box on a page where no two lie behind the same patch."""
    inputs = words(config, 0)
    n_columns = config.image_size // config.patch_size
    corners = [divmod(index, n_columns) for index in range(inputs["input_ids"].shape[1])]
    boxes = [[column, row, column + 1, row + 1] for row, column in corners]
    return inputs | {"bbox": torch.tensor([boxes]) / n_columns}


def queried_placeholders(config: PreTrainedConfig, n_placeholders: int) -> Inputs:
    """Return `placeholders` with the same words for the module that queries the image."""
    own = words(config, 0)
    return placeholders(config, n_placeholders) | {
        "qformer_input_ids": own["input_ids"],
        "qformer_attention_mask": own["attention_mask"],
    }


def _around(image: list[int]) -> Inputs:
    first_after = FIRST_WORD + N_WORDS_BEFORE
    before = [BOS, *range(FIRST_WORD, first_after)]
    after = [*range(first_after, first_after + N_WORDS_AFTER)]
    ids = torch.tensor([before + image + after])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _image_token(config: PreTrainedConfig) -> int:
    """Return the id that stands for a vision feature; families name it differently."""
    names = ("image_token_id", "image_token_index", "image_patch_id", "video_token_index")
    found = [getattr(config, name) for name in names if getattr(config, name, None) is not None]
    assert found, f"{type(config).__name__} has none of {names}: its recipe needs another prompt"
    return int(found[0])
