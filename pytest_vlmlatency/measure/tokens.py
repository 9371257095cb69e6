"""How many vision and text tokens a prompt has, as the decoder sees them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import InvalidMeasurement
from pytest_vlmlatency.measure.hooks import FEATURE_METHODS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_vlmlatency.measure.recorder import Recorder
    from pytest_vlmlatency.measure.workload import Inputs
    from pytest_vlmlatency.records import PhaseMap


def count_prompt_tokens(
    inputs: Inputs, recorder: Recorder, phase_map: PhaseMap, *, n_drafted: int = 0
) -> tuple[int, int]:
    """Return the vision and the text tokens of the batch, padding left out.

    What a cache that was passed in stands for is left out too: only new tokens are worked on.
    Placeholders in the prompt stand for one vision token each, or a mask or a tensor of positions
    beside the prompt says where they go. A model that joins vision and text itself shows vision as
    the length that its first block saw beyond the prompt's, one with an encoder as what that gave
    beyond the prompt. One that attends across to vision shows more feature vectors than
    placeholders, which are text then. `n_drafted` tokens came with the prompt.
    """
    n_seen = max(0, (recorder.prompt_length or 0) - n_drafted)
    n_skipped = inputs.n_skipped_columns(n_seen)
    n_columns = inputs.n_read_columns(recorder.prompt_length)
    n_prompt = inputs.count_prompt_tokens(n_columns, start=n_skipped)
    n_features = _n_features(recorder.feature_rows)
    if phase_map.vision_runs == "inside":
        n_features //= max(1, recorder.prompt_rows // inputs.batch_size)  # beams see copies
    if not recorder.vision_calls:
        return 0, n_prompt
    n_placed = _n_placed(inputs, recorder, phase_map, n_features, n_skipped)
    if n_placed:
        return n_placed, n_prompt - n_placed
    if not inputs.is_prompt_known:
        return n_features, max(0, n_seen * recorder.prompt_rows - n_features)
    if inputs.is_encoder_decoder:
        return _n_encoded(inputs, recorder, n_prompt) or n_features, n_prompt
    n_joined = n_seen - (n_columns - n_skipped)
    if n_joined > 0:
        return n_joined * inputs.batch_size, n_prompt
    return n_features, n_prompt


def _n_placed(
    inputs: Inputs, recorder: Recorder, phase_map: PhaseMap, n_features: int, n_skipped: int
) -> int:
    """Return how many of the prompt's own positions are vision, 0 if none is said to be."""
    n_placeholders = inputs.count_placeholders(start=n_skipped)
    n_pooled = list(recorder.pooled_rows.values())[-1:]
    is_merged = phase_map.is_vision_named and n_pooled == [n_placeholders]
    is_merged |= n_features == inputs.n_prompt_columns * inputs.batch_size  # vision puts them in
    if n_placeholders and (is_merged or n_placeholders >= n_features):
        return n_placeholders
    if n_placeholders < n_features <= inputs.n_placeholders:
        raise InvalidMeasurement(
            f"vision gave {n_features} features for {inputs.n_placeholders} placeholders, but the "
            f"decoder worked on {n_placeholders} of them: the cache that was passed in stands for "
            f"{n_skipped} columns of the prompt and cuts through its image; expected it to hold "
            f"whole turns. Pass the whole conversation, with a mask as wide, or the new turn alone"
        )
    if n_features in inputs.n_marked:
        return n_features
    return inputs.n_indexed.get(n_features, 0)


def _n_encoded(inputs: Inputs, recorder: Recorder, n_prompt: int) -> int:
    """Return the states beside the text's that a decoder was given to attend to, 0 if unseen."""
    if recorder.attended is None:
        return 0
    n_copies = max(1, recorder.attended.n_rows // inputs.batch_size)  # a row for each beam
    return max(0, recorder.attended.n_tokens() // n_copies - n_prompt)


def _n_features(rows: Mapping[str, int]) -> int:
    """Return the vectors that vision gave: of each feature method, or of the last module."""
    by_method = [n for path, n in rows.items() if path.endswith(FEATURE_METHODS)]
    if by_method:
        return sum(by_method)
    return list(rows.values())[-1] if rows else 0
