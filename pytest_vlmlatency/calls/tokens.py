"""How many vision and text tokens a prompt has, as the decoder sees them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vlmlatency.calls.hooks import FEATURE_METHODS
from pytest_vlmlatency.calls.image_tokens import count_alike, has_repeated
from pytest_vlmlatency.errors import InvalidMeasurement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_vlmlatency.calls.recorder import Recorder
    from pytest_vlmlatency.calls.workload import Inputs
    from pytest_vlmlatency.records import PhaseMap


Counts = tuple[int | None, int | None]
UNKNOWN: Counts = None, None


def count_prompt_tokens(
    inputs: Inputs, recorder: Recorder, phase_map: PhaseMap, *, n_drafted: int = 0
) -> Counts:
    """Return the vision and the text tokens of the batch, padding left out; None if unknown.

    What a cache that was passed in stands for is left out too: only new tokens are worked on.
    Placeholders in the prompt stand for one vision token each, or a mask or a tensor of positions
    beside the prompt says where they go. A model that joins vision and text itself shows vision as
    the length that its first block saw beyond the prompt's, one with an encoder as what that gave
    beyond the prompt. One that attends across to vision shows its feature vectors beside the
    prompt. `n_drafted` tokens came with the prompt. What does not add up to the positions that the
    first block saw is unknown.
    """
    seen = _Positions(inputs, recorder, n_drafted)
    if not (recorder.vision_calls or inputs.n_feature_rows or inputs.has_pixels):
        return UNKNOWN if inputs.is_in_embeds else seen.believed(0, seen.n_prompt)
    n_features = inputs.n_feature_rows or _n_features(recorder.feature_rows)
    if phase_map.vision_runs == "inside":
        n_features //= seen.n_copies  # beams see copies
    n_placed = _n_placed(inputs, recorder, phase_map, n_features, seen.n_skipped)
    if n_placed:
        # Further positions, as of a prompt that was learnt, leave counts that agree as they are.
        counts = n_placed, seen.n_prompt - n_placed
        return counts if n_placed == n_features else seen.believed(*counts)
    if inputs.is_encoder_decoder:
        return _count_encoded(inputs, recorder, seen.n_prompt, n_features)
    if phase_map.attends_across:
        return seen.believed(n_features, seen.n_prompt, n_among=0)
    return _count_among(inputs, seen, n_features)


def _count_among(inputs: Inputs, seen: _Positions, n_features: int) -> Counts:
    """Return the counts where the model does not say which positions are vision.

    Where vision makes rows longer, it may replace placeholders: one for each image.
    """
    if not inputs.is_prompt_known:
        return seen.believed(n_features, seen.n_prompt - n_features)
    if seen.n_joined > 0:
        return _count_joined(inputs, seen, n_features)
    if inputs.input_ids is None or not seen.is_whole:
        return UNKNOWN
    n_alike = count_alike(inputs.input_ids, inputs.prompt_mask, n_features)
    if n_alike:
        return seen.believed(n_alike, seen.n_prompt - n_alike)
    if n_features > seen.n_prompt and not has_repeated(inputs.input_ids):
        return seen.believed(n_features, seen.n_prompt, n_among=0)
    return UNKNOWN


def _count_joined(inputs: Inputs, seen: _Positions, n_features: int) -> Counts:
    n_joined = seen.n_joined * inputs.batch_size
    n_replaced = n_features - n_joined
    if n_replaced in (0, inputs.n_placeholders, inputs.n_outside_vocabulary):
        return seen.believed(n_features, seen.n_prompt - n_replaced)
    n_images = sum(len(image) for image in inputs.pixels) or inputs.batch_size
    if n_replaced == n_images:  # a placeholder each, or a vector each that the model leaves out
        return UNKNOWN
    return seen.believed(n_joined, seen.n_prompt)


class _Positions:
    """The positions of a prompt: those that the first block saw, and those that are tokens."""

    def __init__(self, inputs: Inputs, recorder: Recorder, n_drafted: int) -> None:
        self._inputs = inputs
        self._recorder = recorder
        self._n_seen = max(0, (recorder.prompt_length or 0) - n_drafted)
        self.n_skipped = inputs.n_skipped_columns(self._n_seen)
        self._n_columns = inputs.n_read_columns(recorder.prompt_length)
        n_rows = inputs.inner.n_rows if inputs.inner else inputs.batch_size
        self.n_copies = max(1, recorder.prompt_rows // n_rows)  # a row for each beam
        self._n_all = self._n_seen * recorder.prompt_rows // self.n_copies

    @property
    def n_prompt(self) -> int:
        """The prompt's tokens; where it is unknown, the tokens that the decoder was given."""
        inputs = self._inputs
        if inputs.is_prompt_known:
            return inputs.count_prompt_tokens(self._n_columns, start=self.n_skipped)
        return self._n_all - (inputs.inner.n_padding if inputs.inner else 0)

    @property
    def n_joined(self) -> int:
        """How many positions the first block saw of a row beyond the prompt's."""
        return self._n_seen - (self._n_columns - self.n_skipped)

    @property
    def is_whole(self) -> bool:
        """Whether the first block saw all of the prompt and no more, at once or in chunks."""
        is_all = self.n_joined == 0 or self._inputs.n_prompt_forwards > 1
        return is_all and not self._inputs.n_cached

    def believed(self, n_vision: int, n_text: int, *, n_among: int | None = None) -> Counts:
        """Return the counts, None where they are no counts of the positions that were seen.

        `n_among` is how many vision tokens are among the positions, if not all.
        """
        n_tokens = n_text + (n_vision if n_among is None else n_among)
        if n_text < 0 or not self._is_seen(n_tokens):
            return UNKNOWN
        return n_vision, n_text

    def _is_seen(self, n_tokens: int) -> bool:
        """Whether so many tokens, with the prompt's padding or without, are what a block saw."""
        inputs = self._inputs
        is_in_parts = inputs.n_prompt_forwards > 1 or inputs.is_encoder_decoder
        if self._recorder.prompt_length is None or is_in_parts:
            return True
        if not inputs.is_prompt_known:
            return n_tokens == self.n_prompt
        n_columns = self._n_columns - self.n_skipped
        n_padding = n_columns * inputs.batch_size - self.n_prompt
        return self._n_all in (n_tokens, n_tokens + n_padding)


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


def _count_encoded(inputs: Inputs, recorder: Recorder, n_prompt: int, n_features: int) -> Counts:
    """Return the counts of what an encoder gave: vision is what goes beyond the prompt.

    Without a prompt, what an encoder gave before the call is of images alone where these are the
    model's main input.
    """
    if inputs.n_feature_rows and not (inputs.n_prompt_columns or inputs.is_made_for_images):
        return UNKNOWN
    if recorder.attended is None:
        return n_features, n_prompt
    n_copies = max(1, recorder.attended.n_rows // inputs.batch_size)  # a row for each beam
    n_states = recorder.attended.n_tokens() // n_copies
    if n_states == n_prompt and inputs.n_placeholders:
        return inputs.n_placeholders, n_prompt - inputs.n_placeholders
    return max(0, n_states - n_prompt) or n_features, n_prompt


def _n_features(rows: Mapping[str, int]) -> int:
    """Return the vectors that vision gave: of each feature method, or of the last module."""
    by_method = [n for path, n in rows.items() if path.endswith(FEATURE_METHODS)]
    if by_method:
        return sum(by_method)
    return list(rows.values())[-1] if rows else 0
