"""What one generate() gave back: how many tokens, and a digest to compare outputs by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vlmlatency.calls.loop import RowEnds
    from pytest_vlmlatency.calls.workload import Inputs

NO_PADDING_ID = -1
"""What transformers fills a beam's row with where it knows neither padding nor an end token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The tokens that generate() returned, without the prompt; None where it returned no ids.

    `n_generated` leaves padding out. It is None, too, where padding cannot be told from tokens.
    """

    n_longest: int | None
    n_generated: int | None
    digest: str


def new_rows(output: object, inputs: Inputs) -> list[list[int]]:
    """Return the rows of token ids in a result, without the prompt; none where there are none."""
    sequences = _sequences_in(output)
    if sequences is None or not len(sequences):
        return []
    rows: list[list[int]] = sequences[:, _n_prompt_columns_in(sequences, inputs, None) :].tolist()
    return rows


def read_output(
    output: object,
    inputs: Inputs,
    *,
    n_seen: int | None = None,
    n_start_tokens: int = 0,
    ends: RowEnds | None = None,
) -> Output:
    """Return how many tokens a result holds, and its digest.

    `n_seen` is how many positions the first block saw of the prompt, `ends` what the criteria of
    the loop answered, where these are known. `n_start_tokens` at the beginning of the output were
    given by no forward.
    """
    sequences = _sequences_in(output)
    if sequences is None:
        n_generated = _n_unreturned(inputs, ends)
        return Output(n_longest=None, n_generated=n_generated, digest=_digest(repr(output)))
    rows: list[list[int]] = sequences.tolist()
    digest = _digest(json.dumps(rows))
    if not inputs.is_prompt_known:
        return Output(n_longest=None, n_generated=_n_unreturned(inputs, ends), digest=digest)
    skipped = _n_prompt_columns_in(sequences, inputs, n_seen) + n_start_tokens
    n_columns = sequences.shape[1] - skipped
    lengths: Sequence[int | None] | None = None
    if ends is not None:
        lengths = ends.lengths(len(rows), n_columns)
    if lengths is None:
        lengths = _lengths_by_tokens([row[skipped:] for row in rows], inputs, ends)
    known = [n for n in lengths if n is not None]
    is_known = len(known) == len(lengths)
    return Output(
        n_longest=max(known, default=0) if is_known else n_columns,
        n_generated=sum(known) if is_known else None,
        digest=digest,
    )


def _sequences_in(output: object) -> torch.Tensor | None:
    """Return the token ids of a result, alone or among others, None without any."""
    found = output.get("sequences") if isinstance(output, Mapping) else output
    found = getattr(found, "sequences", found)
    if not isinstance(found, torch.Tensor) or found.dim() != 2 or found.is_floating_point():
        return None
    return found


def _n_unreturned(inputs: Inputs, ends: RowEnds | None) -> int | None:
    """Return how many tokens a loop gave whose ids did not come back, None where it is unknown.

    In a beam search, the criteria judge beams, and the best may end before the loop does.
    """
    if ends is None or inputs.has_beams:
        return None
    n_rows = torch.as_tensor(ends.answers[-1]).numel()
    lengths = ends.lengths(n_rows, ends.n_steps)
    return None if lengths is None else sum(lengths)


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


def _lengths_by_tokens(
    rows: Sequence[Sequence[int]], inputs: Inputs, ends: RowEnds | None
) -> list[int | None]:
    """Return each row's tokens, its end token in; None where its padding may be tokens, too.

    A row alone has no padding. One that something else ended than its end token is padded from
    there on, which shows only if no end token is what it is padded with.
    """
    lengths: list[int | None] = []
    for row in rows:
        end = next((index for index, token in enumerate(row) if token in inputs.eos_ids), None)
        lengths.append(len(row) if end is None else end + 1)
        if len(rows) == 1 or not row or (ends is not None and not ends.has_others):
            continue
        is_end_padding = end is not None and ends is not None and _may_pad(row[end:], inputs)
        if is_end_padding or (end is None and row[-1] in (inputs.padding_id, NO_PADDING_ID)):
            lengths[-1] = None
    return lengths


def _may_pad(tail: Sequence[int], inputs: Inputs) -> bool:
    """Whether end tokens alone are left, and transformers pads with them: it does for id 0."""
    return set(tail) == {tail[0]} and (not inputs.padding_id or inputs.padding_id == tail[0])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
