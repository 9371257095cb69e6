"""What the words in the table's last column mean: for each mark of a case, a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vlmlatency.records import CONTENDED_ABOVE

if TYPE_CHECKING:
    from collections.abc import Mapping

MARKS: Mapping[str, str] = {
    "contended": f"waited for a core for more than {CONTENDED_ABOVE:.0%} of the time; its wall "
    f"times are too long, its CPU times hold.",
    "throttled": "the driver slowed the device down before or after the case.",
    "shared": "processes of others had the device in use, too, before or after the case.",
    "text-only": "no image was passed, so vision is 0.",
    "vision-outside": "the measured function ran vision around generate(): it is shown as "
    "vision_outside, and is in no total.",
    "per-token": "every decode step was timed too, which costs a little itself.",
    "sample": "tokens were drawn at random, from the same random state in each round.",
    "beam": "a decode step computes every beam.",
    "assisted": "a decode step checks several tokens, so there are fewer steps than tokens.",
    "custom": "generate() was given a decoding loop of its own.",
    "guided": "the model ran twice for each token, with and without the prompt.",
    "static-cache": "its cache has its full size from the beginning.",
    "no-cache": "every step computed the whole prompt again.",
    "quantized-cache": "its cache was packed, and unpacked in every step.",
    "continued": "a cache was passed in; what it holds is in no count of tokens.",
    "embeds": "embeddings were passed in place of token ids.",
    "video": "frames of a video are among the vision tokens.",
    "streamed": "each token was handed to a streamer.",
    "outputs": "scores, states or attentions were returned beside the tokens.",
    "compiled": "torch.compile had compiled a part of it.",
    "slower-than-predicted": "the measured median lies above the 95th percentile.",
    "faster-than-predicted": "the measured median lies below the 5th percentile.",
    "extrapolated": "predicted beyond what the estimator was trained on, so less surely.",
    "not-predicted": "the estimator cannot answer for it; a note says why.",
    "chunked": "the prompt took several forwards, all of them prefill.",
}
PARTS: Mapping[str, str] = {
    "offloaded-": "its cache lay on the host, and was fetched for every layer.",
    "autocast-": "it ran inside torch.autocast, with operations of that type.",
    "-sequences": "each row of the prompt gave so many.",
}
"""Meanings of marks that begin or end like this."""


def meaning_of(mark: str) -> str | None:
    """Return a sentence on a mark, None for one that speaks for itself."""
    by_part = (text for part, text in PARTS.items() if part in mark)
    return MARKS.get(mark) or next(by_part, None)
