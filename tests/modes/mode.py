"""The nouns of the table of modes: a way to call generate(), and one call of it on one specimen.

Nothing here measures. What a mode expects is written down from what was asked for, never found by
measuring: it is what measuring is held against.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tests.zoo import N_NEW_TOKENS, Specimen

ALL = "all"
Arguments = Mapping[str, object]
Call = Callable[..., object]


class Outcome(StrEnum):
    """What became of it."""

    RIGHT = "right"
    WRONG = "wrong"
    REFUSED = "refused"
    FAILING = "transformers itself refuses"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call of a mode on a specimen, to be made again and again.

    `fresh` makes the arguments of one call, and `call` is what is called with them: the model's
    generate() itself if None. `n_text_tokens` and `n_vision_tokens` are over the batch, padding
    and whatever a cache already holds left out. `n_generated_tokens` is None where each row gives
    as many as the longest, `n_prompt_forwards` are the prompt's chunks.
    """

    specimen: Specimen
    call: Call | None
    fresh: Callable[[], Arguments]
    n_rows: int
    n_vision_tokens: int
    n_text_tokens: int
    n_generated_tokens: int | None
    n_prompt_forwards: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """A way to call generate(): how it is asked for, and what must come of it.

    `labels` are those of the case, in a family of `labels_of` these instead; `n_tokens` come out of
    the longest row. Where a family is in `refused`, measuring must raise an error with these words,
    and where it is in `failing`, generate() itself does so, measured or not; ALL is any family.
    """

    name: str
    ask: Callable[[Specimen], Asked]
    labels: tuple[str, ...] = ()
    labels_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    n_tokens: int = N_NEW_TOKENS
    refused: Mapping[str, str] = field(default_factory=dict)
    failing: Mapping[str, str] = field(default_factory=dict)

    def expects(self, family: str) -> tuple[Outcome, str]:
        """Return what must become of this mode in a family, and words of the reason."""
        for key in (family, ALL):
            if key in self.failing:
                return Outcome.FAILING, self.failing[key]
            if key in self.refused:
                return Outcome.REFUSED, self.refused[key]
        return Outcome.RIGHT, ""


def asked(
    specimen: Specimen,
    inputs: Arguments | None = None,
    *,
    call: Call | None = None,
    fresh: Callable[[], Arguments] | None = None,
    n_rows: int = 1,
    n_images: int = 1,
    n_text_tokens: int | None = None,
    n_generated_tokens: int | None = None,
    n_prompt_forwards: int = 1,
    settings: Arguments | None = None,
) -> Asked:
    """Return a call with a specimen's own inputs, or others, and further settings."""
    fixed = {**(specimen.inputs if inputs is None else inputs), **(settings or {})}
    n_text = specimen.n_text_tokens * n_rows if n_text_tokens is None else n_text_tokens
    return Asked(
        specimen=specimen,
        call=call,
        fresh=fresh or (lambda: fixed),
        n_rows=n_rows,
        n_vision_tokens=specimen.n_vision_tokens * n_images,
        n_text_tokens=n_text,
        n_generated_tokens=n_generated_tokens,
        n_prompt_forwards=n_prompt_forwards,
    )
