"""What is seen of one call while it runs: marks, and a few counts. Judged later, elsewhere.

Owns the state that changes during a call, and nothing else. Everything here is on the measured
path, so it only appends and counts.

`with span("preprocess"):` a phase of the user's own, beside the model's phases.

Owns the way from the user's code to the call that is being recorded. Outside a measurement a span
does nothing, so it can stay in production code.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Lock, get_ident
from typing import TYPE_CHECKING

from pytest_vlmlatency.calls.timeline import Boundary, Mark
from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.records import VISION_OUTSIDE, Phase

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_vlmlatency.calls.clock import Clock, Tick
    from pytest_vlmlatency.calls.hooks import Attended


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


RESERVED = frozenset(Phase) | {VISION_OUTSIDE, "total", "outside", "ttft", "tpot"}

_recording: ContextVar[Recorder | None] = ContextVar("vlm_latency_recording", default=None)
_is_open: ContextVar[bool] = ContextVar("vlm_latency_span_is_open", default=False)


@contextmanager
def span(name: str) -> Iterator[None]:
    """Time the block as a span of the call that is being measured; do nothing otherwise.

    Works inside and around generate(). Names of the model's own phases are refused.
    """
    if name in RESERVED or not name:
        raise UsageProblem(
            f"span({name!r}): that name is taken by the measurement itself; expected a name of "
            f"your own, such as 'preprocess'"
        )
    recorder = _recording.get()
    token = _is_open.set(True)
    if recorder is not None:
        recorder.mark(Boundary.SPAN_ENTER, name, wait=True)
    try:
        yield
    finally:
        if recorder is not None:
            recorder.mark(Boundary.SPAN_EXIT, name, wait=True)
        _is_open.reset(token)


def is_in_span() -> bool:
    """Whether a span of the user's own is around what runs now, recorded or not."""
    return _is_open.get()


@contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """Send the user's spans to `recorder` while the block runs."""
    token = _recording.set(recorder)
    try:
        yield
    finally:
        _recording.reset(token)
