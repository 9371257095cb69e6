"""The tokens of the call that was looked at, by phase and by image. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vlmlatency.inspection.findings import Tokens

if TYPE_CHECKING:
    import torch

    from pytest_vlmlatency.measure.invariants import Observation


def count_tokens(
    seen: Observation, *, n_images: int | None, placeholders: frozenset[int]
) -> Tokens:
    """Return the counts of one call; `placeholders` are the token ids that stand for an image."""
    inputs, call = seen.inputs, seen.call
    n_drafted = call.drafted_lengths[0] if call.drafted_lengths else 0
    n_seen = max(0, (seen.recorder.prompt_length or 0) - n_drafted)
    runs = placeholder_runs(inputs.input_ids, placeholders)
    n_padding = _n_padding(seen, n_seen)
    return Tokens(
        n_vision=call.n_vision_tokens,
        n_text=call.n_text_tokens,
        n_padding=n_padding,
        n_images=n_images,
        per_image=_per_image(call.n_vision_tokens, n_images, runs),
        placeholder_runs=runs,
        n_block_positions=_n_block_positions(seen, n_seen, n_padding or 0),
        batch_size=inputs.batch_size,
        n_prompt_forwards=inputs.n_prompt_forwards,
        n_decode_steps=call.n_decode_steps,
        n_output=seen.output.n_longest,
        accepted_lengths=call.accepted_lengths,
    )


def _n_block_positions(seen: Observation, n_seen: int, n_padding: int) -> int | None:
    """Return what the first block was given, None where that is no length of this prompt.

    Several forwards may share a prompt. Text alone is a length only where vision has no positions
    in the prompt.
    """
    n_vision, n_text = seen.call.n_vision_tokens, seen.call.n_text_tokens
    if n_vision is None or n_text is None:
        return None
    n_written = n_text + n_padding
    n_possible = {n_vision + n_written}
    if seen.inputs.n_placeholders != n_vision:
        n_possible.add(n_written)
    if seen.inputs.is_encoder_decoder:
        n_possible = {seen.inputs.n_start_columns * seen.inputs.batch_size}
    n_positions = n_seen * seen.inputs.batch_size
    is_told = n_positions in n_possible and seen.inputs.n_prompt_forwards == 1
    return n_positions if is_told else None


def _n_padding(seen: Observation, n_seen: int) -> int | None:
    """Return the padding in the columns that the decoder read, None where the prompt is unknown."""
    inputs = seen.inputs
    if not inputs.n_prompt_columns:
        return None
    start, end = inputs.n_skipped_columns(n_seen), inputs.n_read_columns(n_seen)
    return (end - start) * inputs.batch_size - inputs.count_prompt_tokens(end, start=start)


def _per_image(
    n_vision: int | None, n_images: int | None, runs: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Return each image's vision tokens: all of one image's, else the runs of placeholders."""
    if n_images is None or not n_vision:
        return None
    if n_images == 1:
        return (n_vision,)
    is_told = len(runs) == n_images and sum(runs) == n_vision
    return runs if is_told else None


def placeholder_runs(
    input_ids: torch.Tensor | None, placeholders: frozenset[int]
) -> tuple[int, ...]:
    """Return the lengths of the uninterrupted runs of placeholders, row by row."""
    runs: list[int] = []
    for row in [] if input_ids is None else input_ids.tolist():
        length = 0
        for token in (*row, None):
            if token in placeholders:
                length += 1
            elif length:
                runs.append(length)
                length = 0
    return tuple(runs)
