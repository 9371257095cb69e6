"""What an inspection could not tell, in sentences. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_vlmlatency.inspection.findings import Tokens
    from pytest_vlmlatency.measure.single import Single


def untold(single: Single, tokens: Tokens) -> tuple[str, ...]:
    """Return what could not be told, and why; nothing where all of it could."""
    seen = single.observation
    has_vision = bool(seen.recorder.vision_calls)
    told_by_ids = seen.output.n_longest is not None
    problems = {
        "the vision tokens of each image: inputs of your own do not say how many images they are": (
            has_vision and tokens.n_images is None
        ),
        f"the vision tokens of each of {tokens.n_images} images: the prompt does not keep one "
        f"image's placeholders apart from another's": (
            has_vision and (tokens.n_images or 0) > 1 and tokens.per_image is None
        ),
        "which of the prompt's positions are padding: it came as embeddings, or under a name that "
        "is not known": tokens.n_padding is None and not seen.inputs.is_encoder_decoder,
        "how many tokens came out: generate() returned no ids, so its forwards were counted": (
            not told_by_ids
        ),
        "what the first block was given: the prompt took several forwards": (
            tokens.n_prompt_forwards > 1
        ),
        "what the first block was given: its states do not have the length of the prompt, nor that "
        "of its text": tokens.n_prompt_forwards == 1 and tokens.n_block_positions is None,
        "whether watching changes what the model returns: unmeasured calls differed among "
        "themselves": not single.is_repeatable,
        f"an undisturbed call: {single.disturbed_because}": single.disturbed_because is not None,
    }
    return tuple(text for text, holds in problems.items() if holds)
