"""What is seen of one call while it runs: marks, and a few counts. Judged later, elsewhere.

Owns the state that changes during a call, and nothing else. Everything here is on the measured
path, so it only appends and counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock, get_ident
from typing import TYPE_CHECKING

from pytest_vlmlatency.measure.timeline import Boundary, Mark

if TYPE_CHECKING:
    from pytest_vlmlatency.measure.attended import Attended
    from pytest_vlmlatency.measure.clock import Clock, Tick


@dataclass(frozen=True, slots=True)
class VisionCall:
    """One run of a vision entry: which module or method, before or after the prompt's logits."""

    path: str
    is_late: bool


@dataclass(slots=True)
class Recorder:
    """The marks and counts of one call.

    `prompt_length` and `prompt_rows` are what the first block saw, `attended` what it was given to
    attend to beside, `feature_rows` the vectors that each entry into vision gave, `pooled_rows`
    those that each pooled, `n_prompt_forwards` how many forwards made the prompt ready.
    `has_step` tells whether the step module has begun, `is_block_in_prompt` whether the first block
    ran before the prompt was ready, None if it was never seen, `is_step_compiled` whether
    generate() compiled decode by itself, `n_outside` how often vision ran around generate(),
    `names_parts` whether the known parts of `other` are timed. `step_starts` are kept where each
    decode step is timed. `widths` are those of the ids that each forward was prepared for, a draft
    included. In assisted decoding, `accepted` is how many tokens it gave, as numbers or as tensors
    that are read later.
    """

    clock: Clock
    marks: list[Mark] = field(default_factory=list)
    vision_calls: list[VisionCall] = field(default_factory=list)
    n_forwards: int = 0
    n_prompt_forwards: int = 0
    feature_rows: dict[str, int] = field(default_factory=dict)
    pooled_rows: dict[str, int] = field(default_factory=dict)
    prompt_length: int | None = None
    prompt_rows: int = 1
    attended: Attended | None = None
    has_step: bool = False
    has_prompt: bool = False
    is_block_in_prompt: bool | None = None
    is_step_compiled: bool = False
    names_parts: bool = False
    n_outside: int = 0
    step_starts: list[Tick] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    accepted: list[object] = field(default_factory=list)
    vision_depth: int = 0
    _turn: Lock = field(default_factory=Lock)

    def mark(self, boundary: Boundary, name: str = "", *, wait: bool = False) -> None:
        """Note a boundary now; with `wait`, once the devices are idle."""
        with self._turn:
            self.marks.append(Mark(boundary, name, self.clock.stamp(wait=wait), get_ident()))
