"""`with span("preprocess"):` a phase of the user's own, beside the model's phases.

Owns the way from the user's code to the call that is being recorded. Outside a measurement a span
does nothing, so it can stay in production code.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.measure.timeline import Boundary
from pytest_vlmlatency.records import VISION_OUTSIDE, Phase

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_vlmlatency.measure.recorder import Recorder

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
