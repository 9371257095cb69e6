"""What one generate() gave back: how many tokens, and a digest to compare outputs by."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vlmlatency.measure.workload import Inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The tokens that generate() returned, without the prompt; None where it returned no ids."""

    n_longest: int | None
    n_generated: int | None
    digest: str


def new_rows(output: object, inputs: Inputs) -> list[list[int]]:
    """Return the rows of token ids in a result, without the prompt; none where there are none."""
    sequences = getattr(output, "sequences", output)
    if not isinstance(sequences, torch.Tensor) or sequences.dim() != 2 or not len(sequences):
        return []
    rows: list[list[int]] = sequences[:, _n_prompt_columns_in(sequences, inputs, None) :].tolist()
    return rows


def read_output(
    output: object, inputs: Inputs, *, n_seen: int | None = None, n_start_tokens: int = 0
) -> Output:
    """Return how many tokens a result holds, through each row's end token, and its digest.

    `n_seen` is how many positions the first block saw of the prompt, where that is known;
    `n_start_tokens` at the beginning are none of the loop's.
    """
    sequences = getattr(output, "sequences", output)
    if not isinstance(sequences, torch.Tensor) or sequences.dim() != 2:
        return Output(n_longest=None, n_generated=None, digest=_digest(repr(output)))
    if not inputs.is_prompt_known:
        return Output(
            n_longest=None, n_generated=None, digest=_digest(json.dumps(sequences.tolist()))
        )
    rows: list[list[int]] = sequences.tolist()
    skipped = _n_prompt_columns_in(sequences, inputs, n_seen) + n_start_tokens
    lengths = [_length_to_end(row[skipped:], inputs.eos_ids) for row in rows]
    return Output(
        n_longest=max(lengths, default=0),
        n_generated=sum(lengths),
        digest=_digest(json.dumps(rows)),
    )


def _n_prompt_columns_in(sequences: torch.Tensor, inputs: Inputs, n_seen: int | None) -> int:
    """Return how many leading columns of the result repeat the prompt, or start the decoder."""
    if inputs.is_encoder_decoder:
        return inputs.n_start_columns
    if inputs.input_ids is None:
        return 0
    ids = inputs.input_ids[:, : inputs.n_read_columns(n_seen)]
    if sequences.shape[1] < ids.shape[1]:
        return 0
    repeated = ids.to(sequences.device).repeat_interleave(sequences.shape[0] // ids.shape[0], dim=0)
    is_repeated = repeated.shape[0] == sequences.shape[0] and torch.equal(
        sequences[:, : ids.shape[1]], repeated
    )
    return ids.shape[1] if is_repeated else 0


def _length_to_end(row: Sequence[int], eos_ids: frozenset[int]) -> int:
    return next((index + 1 for index, token in enumerate(row) if token in eos_ids), len(row))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
