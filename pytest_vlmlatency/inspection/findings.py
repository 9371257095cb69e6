"""The nouns of an inspection: what one call of a model showed, its times left out.

Owns the plain data, which is also the JSON form; `docs/inspecting.md` describes each key. A change
that a reader of the JSON could notice raises SCHEMA_VERSION.

Numbers as people write them. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pytest_vlmlatency.records import PhaseMap, Workload

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleRow:
    """One line of the tree: a module, or neighbours in a list that are alike, folded into one.

    `path` is the first one's and `last_path` the last one's of `n_modules`. `phases` are those in
    which it or a part of it ran, in the order of a call; none where it did not run. `roles` are
    what the phase map uses it for. A parameter that two rows share is counted in both.
    """

    path: str
    last_path: str
    name: str
    type: str
    depth: int
    n_modules: int
    n_parameters: int
    phases: tuple[str, ...]
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRow:
    """The calls in one generate() that are alike, in the order of the first of them.

    `what` is a module's path ("" is the model itself) or a method's. `n_calls` is None where the
    call comes once with each step. `within` is the call that it happened inside, None for those
    that generate() makes itself. `inside` are the outermost modules that a method ran.
    """

    what: str
    phase: str
    n_calls: int | None
    within: str | None = None
    inside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What the prompt and the output were, as the decoder sees them; totals over the batch.

    `n_block_positions` is what the first block was given for the prompt, padding in, and copies for
    beams and drafts left out; None where several forwards share it. `n_vision` and `n_text` are
    None where they do not add up to it. `n_images`, `per_image` and
    `n_padding` are None where they cannot be told, `n_output`, the longest row's, where no token
    ids came back. `accepted_lengths` are the tokens that each forward of assisted decoding gave.
    `placeholder_runs` are the lengths of the prompt's uninterrupted runs of image placeholders.
    """

    n_vision: int | None
    n_text: int | None
    n_padding: int | None
    n_images: int | None
    per_image: tuple[int, ...] | None
    placeholder_runs: tuple[int, ...]
    n_block_positions: int | None
    batch_size: int
    n_prompt_forwards: int
    n_decode_steps: int
    n_output: int | None
    accepted_lengths: tuple[int, ...] | None = None


class Verdict(StrEnum):
    """How what a model says of itself compares with what was seen."""

    AGREES = "agrees"
    DISAGREES = "disagrees"
    SILENT = "says nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What a look-up that runs nothing `said`, None where nothing, against what was `seen`."""

    what: str
    said: str | None
    seen: str
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What was found. `source` is what was asked for, `untold` what could not be told.

    `labels` are the short words for the mode that a measured case would have.
    """

    source: str
    description: str
    device: str
    mode: str
    is_encoder_decoder: bool
    labels: tuple[str, ...]
    workload: Workload
    phase_map: PhaseMap
    modules: tuple[ModuleRow, ...]
    calls: tuple[CallRow, ...]
    tokens: Tokens
    checks: tuple[Check, ...]
    untold: tuple[str, ...]
    versions: Mapping[str, str]
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why nothing was found: the error's kind and its message, as the fixture would raise it."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The JSON form where inspection was refused."""

    source: str
    error: Refusal
    schema_version: int = SCHEMA_VERSION


SCALES = ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "K"))


def number_of_parameters(n: int) -> str:
    """Return a count as three digits and a unit: 7.26 B, 12.3 M, 456 K, 32."""
    for scale, unit in SCALES:
        if n >= scale:
            value = n / scale
            digits = 2 if value < 10 else 1 if value < 100 else 0
            return f"{value:.{digits}f} {unit}"
    return str(n)


def times(n: int) -> str:
    """Return how often: never, once, 7 times."""
    return {0: "never", 1: "once"}.get(n, f"{n} times")
