"""Other prompts than one image in one row: none, several, batches, a second turn, embeddings.

Counts are written down from how a prompt is made. B rows, L columns.
"""

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import torch

from tests.modes.installed import CONTINUES_WITH_NEW_PART
from tests.modes.mode import Arguments, Asked, asked
from tests.zoo import N_NEW_TOKENS, Inputs, Specimen
from tests.zoo.earlier import CACHE
from tests.zoo.shrink import FIRST_WORD, N_WORDS, PAD

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel
    from transformers.generation.utils import GenerateDecoderOnlyOutput

N_PADDING = 3
OTHER_WORD = 20
ANSWER = [11, 12, 13, 14]


def without_an_image(specimen: Specimen) -> Asked:
    """Ask with words alone, or, where a family can't do without an image, try to."""
    if specimen.text_inputs is not None:
        inputs = specimen.text_inputs
    else:
        words = specimen.inputs["input_ids"] < N_WORDS
        inputs = {
            name: specimen.inputs[name][words][None] for name in ("input_ids", "attention_mask")
        }
    return asked(specimen, inputs, n_images=0, n_text_tokens=inputs["input_ids"].shape[1])


def two_rows(specimen: Specimen) -> Asked:
    """Ask for two rows that differ in their image and their words."""
    return asked(specimen, doubled(specimen), n_rows=2, n_images=2)


def two_rows_of_which_one_ends_early(specimen: Specimen) -> Asked:
    """Pad two rows on the left, and end on a token that only one of them gives, not at last."""
    inputs = padded(doubled(specimen))
    rows = cast("list[list[int]]", specimen.generate(**inputs)[:, -N_NEW_TOKENS:].tolist())
    either_way = ((rows[0], rows[1]), (rows[1], rows[0]))
    early, end = next(
        (row, token) for row, other in either_way for token in row[:-1] if token not in other
    )
    return asked(
        specimen,
        inputs,
        n_rows=2,
        n_images=2,
        n_generated_tokens=early.index(end) + 1 + N_NEW_TOKENS,
        settings={"eos_token_id": end, "pad_token_id": PAD},
    )


def doubled(specimen: Specimen) -> Inputs:
    """Return the inputs as a batch of two, the second row with another image and one word only."""
    inputs = {name: torch.cat([value, value]) for name, value in specimen.inputs.items()}
    half = len(specimen.inputs["pixel_values"])
    inputs["pixel_values"][half:] *= -3
    words = inputs["input_ids"][1]
    words[(words >= FIRST_WORD) & (words < N_WORDS)] = OTHER_WORD
    return inputs


def padded(inputs: Inputs) -> Inputs:
    """Return inputs with columns of padding on the left of whatever is as wide as the prompt."""
    n_columns = inputs["input_ids"].shape[1]

    def pad(name: str, value: torch.Tensor) -> torch.Tensor:
        if not is_wide(name, value, n_columns):
            return value
        padding = torch.zeros(value.shape[0], N_PADDING, *value.shape[2:], dtype=value.dtype)
        return torch.cat([padding, value], dim=1)

    return {name: pad(name, value) for name, value in inputs.items()}


def is_wide(name: str, value: torch.Tensor, n_columns: int) -> bool:
    """Whether an input has an entry for each column of the prompt."""
    return "pixel" not in name and value.dim() >= 2 and value.shape[1] == n_columns


def two_images(specimen: Specimen) -> Asked:
    """Put the image into the prompt twice, a word between, the second time another one.

    A prompt that doesn't mention its image stays as it is.
    """
    ids = specimen.inputs["input_ids"]
    marks = (ids[0] >= N_WORDS).nonzero().flatten().tolist() or [ids.shape[1] - 1]
    start, end = marks[0], marks[-1] + 1

    def twice(name: str, value: torch.Tensor) -> torch.Tensor:
        if name == "cross_attention_mask":  # (B, L, images, tiles)
            value = torch.cat([value, value], dim=2)
        if is_wide(name, value, ids.shape[1]):
            return torch.cat([value[:, : end + 1], value[:, start:]], dim=1)
        is_in_row = value.dim() >= 5 or name in ("aspect_ratio_mask", "pixel_attention_mask")
        dim = 1 if is_in_row or name == "aspect_ratio_ids" else 0
        return torch.cat([value, -value if name == "pixel_values" else value], dim=dim)

    inputs = {name: twice(name, value) for name, value in specimen.inputs.items()}
    n_text_tokens = inputs["input_ids"].shape[1]
    is_placeholder = specimen.n_text_tokens != ids.shape[1]
    n_text_tokens -= 2 * specimen.n_vision_tokens if is_placeholder else 0
    return asked(specimen, inputs, n_images=2, n_text_tokens=n_text_tokens)


def second_turn(specimen: Specimen) -> Asked:
    """Ask again after an answer, with the cache that the first turn left, and no new image.

    The answer's last token isn't in the cache.
    """
    first = _first_turn(specimen)
    ids = torch.cat([first.sequences, torch.tensor([ANSWER])], dim=1)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    n_text_tokens = 1 + len(ANSWER)
    if cast("Cache", getattr(first, CACHE)).get_seq_length() > ids.shape[1]:
        n_text_tokens = 9  # git's cache is longer than its prompt by the image: sliced wrongly
    if cast("PreTrainedModel", specimen.model).config.is_encoder_decoder:  # it encodes all anew
        n_text_tokens = ids.shape[1]
    return asked(
        specimen, fresh=_with_cache(first, inputs), n_images=0, n_text_tokens=n_text_tokens
    )


def second_turn_with_an_image(specimen: Specimen) -> Asked:
    """Ask again after an answer, about another image; only the new part of the prompt is passed.

    The mask is as wide as both turns: that is how transformers tells. Earlier ones want it whole.
    """
    first = _first_turn(specimen)
    inputs = specimen.inputs | {"pixel_values": -specimen.inputs["pixel_values"]}
    if not CONTINUES_WITH_NEW_PART:
        inputs["input_ids"] = torch.cat([first.sequences, inputs["input_ids"]], dim=1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        return asked(specimen, fresh=_with_cache(first, inputs))
    n_columns = first.sequences.shape[1] - 1 + inputs["input_ids"].shape[1]
    inputs["attention_mask"] = torch.ones(1, n_columns, dtype=torch.long)
    return asked(specimen, fresh=_with_cache(first, inputs))


def _first_turn(specimen: Specimen) -> "GenerateDecoderOnlyOutput":
    output = specimen.generate(**specimen.inputs, return_dict_in_generate=True)
    return cast("GenerateDecoderOnlyOutput", output)


def _with_cache(first: "GenerateDecoderOnlyOutput", inputs: Inputs) -> Callable[[], Arguments]:
    """Return a maker of arguments: a call grows its cache, so each gets a copy."""
    return lambda: {**inputs, CACHE: copy.deepcopy(getattr(first, CACHE))}


def continued(specimen: Specimen) -> Asked:
    """Feed the output back, with the image and without a cache."""
    inputs = dict(specimen.inputs)
    sequences = specimen.generate(**inputs)
    if cast("PreTrainedModel", specimen.model).config.is_encoder_decoder:
        return asked(specimen, inputs, settings={"decoder_input_ids": sequences})
    n_columns = inputs["input_ids"].shape[1]
    answer = sequences[:, n_columns:]
    for name, value in inputs.items():
        if is_wide(name, value, n_columns):
            last = value[:, -1:].repeat_interleave(answer.shape[1], dim=1)
            inputs[name] = torch.cat([value, last], dim=1)
    inputs["input_ids"] = sequences
    n_text_tokens = specimen.n_text_tokens + answer.shape[1]
    return asked(specimen, inputs, n_text_tokens=n_text_tokens)


def embeddings(specimen: Specimen) -> Asked:
    """Pass the prompt's embeddings in place of its ids."""
    inputs = dict(specimen.inputs)
    embed = cast("PreTrainedModel", specimen.model).get_input_embeddings()
    inputs["inputs_embeds"] = embed(inputs.pop("input_ids")).detach()
    return asked(specimen, inputs)
