"""From the marks of one call to the own time of each phase.

Pure. Between two neighbouring marks exactly one owner is at work, so every moment is counted once:
vision nested in the prompt's forward takes its time from prefill, and the parts add up to the
total by construction. What is left to no phase is `other`, which the invariants bound.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from pytest_vlmlatency.calls.clock import NS_PER_MS, Clock, Stamp, Tick
from pytest_vlmlatency.errors import InvalidMeasurement
from pytest_vlmlatency.records import DEVICE, VISION_OUTSIDE, WALL, Phase, Place, Span

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class Boundary(StrEnum):
    """What happened at a mark."""

    CALL_START = "the call started"
    GENERATE_CALLED = "generate was called"
    GENERATE_START = "generate started"
    ENTER = "entered"
    EXIT = "left"
    BLOCKS_START = "the first block began"
    PROMPT_READY = "the prompt's logits were ready"
    GENERATE_END = "generate ended"
    GENERATE_RETURNED = "generate returned"
    CALL_END = "the call ended"
    PART_ENTER = "a part of generate()'s own work was entered"
    PART_EXIT = "a part of generate()'s own work was left"
    SPAN_ENTER = "a user's span was entered"
    SPAN_EXIT = "a user's span was left"


class Mark(NamedTuple):
    """One boundary of one call; `name` is the phase or the user's span, `thread` who passed it."""

    boundary: Boundary
    name: str
    stamp: Stamp
    thread: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The times of one call, in every measure of its clock."""

    total: Mapping[str, float]
    outside: Mapping[str, float]
    spans: tuple[Span, ...]


class Stretch(NamedTuple):
    """The time between two neighbouring marks, and to whom it belongs: no one, or its owners."""

    start: Stamp
    end: Stamp
    owners: tuple[tuple[str, Place], ...]


def read_timeline(marks: Sequence[Mark], clock: Clock) -> Timeline:
    """Return the total, the time outside generate() and every span of one call, in ms."""
    start, end = generate_bounds(marks)
    return Timeline(
        total=clock.measures(start, end),
        outside=_outside(marks, clock),
        spans=_spans(marks, clock, origin=start),
    )


def generate_bounds(marks: Sequence[Mark]) -> tuple[Stamp, Stamp]:
    """Return when generate() started and ended."""
    return (
        _only(marks, Boundary.GENERATE_START).stamp,
        _only(marks, Boundary.GENERATE_END).stamp,
    )


def stretches(marks: Sequence[Mark]) -> Iterator[Stretch]:
    """Yield the time between neighbouring marks, in order, with its owners."""
    state = _State()
    for mark, following in pairwise(_joined_vision(marks)):
        state.pass_mark(mark)
        _check_order(mark, following)
        yield Stretch(mark.stamp, following.stamp, tuple(state.owners()))


_STAGES = {
    Boundary.CALL_START: Place.OUTSIDE,
    Boundary.GENERATE_CALLED: None,
    Boundary.GENERATE_START: Place.PART,
    Boundary.GENERATE_END: None,
    Boundary.GENERATE_RETURNED: Place.OUTSIDE,
}
"""Where time lies after a boundary; None while our own reading goes on, which is no one's time."""


@dataclass(slots=True)
class _State:
    """What is at work after a mark: whether generate() runs, which phases, which user's spans."""

    stage: Place | None = None
    phases: list[str] = field(default_factory=lambda: [str(Phase.OTHER)])
    parts: list[str] = field(default_factory=list)
    user_spans: list[tuple[str, int]] = field(default_factory=list)
    thread: int = 0

    def pass_mark(self, mark: Mark) -> None:
        self.stage = _STAGES.get(mark.boundary, self.stage)
        match mark.boundary:
            case Boundary.GENERATE_START:
                self.thread = mark.thread
            case Boundary.ENTER:
                self.phases.append(mark.name)
            case Boundary.PART_ENTER:
                self.parts.append(mark.name)
            case Boundary.EXIT | Boundary.PART_EXIT:
                _pop(self.phases if mark.boundary is Boundary.EXIT else self.parts, mark)
            case Boundary.PROMPT_READY:
                _pop(self.phases, mark)
                self.phases[0] = str(Phase.DECODE)
            case Boundary.SPAN_ENTER:
                self.user_spans.append((mark.name, mark.thread))
            case Boundary.SPAN_EXIT:
                self.user_spans.remove((mark.name, mark.thread))
            case _:
                pass

    def owners(self) -> Iterator[tuple[str, Place]]:
        """Yield who owns the time from here on: one part of the total, and a detail of it.

        While generate() runs, a user's span on another thread is beside it and owns nothing.
        """
        is_generating = self.stage is Place.PART
        own = [
            name for name, thread in self.user_spans if not is_generating or thread == self.thread
        ]
        user_span = own[-1] if own else None
        if self.stage is Place.PART and user_span and self.phases[-1] == Phase.OTHER:
            yield user_span, Place.PART
        elif self.stage is Place.PART:
            yield self.phases[-1], Place.PART
            if user_span:
                yield user_span, Place.WITHIN
            elif self.parts and self.phases[-1] == Phase.OTHER:
                yield self.parts[-1], Place.WITHIN
        elif self.stage is Place.OUTSIDE:
            yield from self._outside(user_span)

    def _outside(self, user_span: str | None) -> Iterator[tuple[str, Place]]:
        """Yield who owns time around generate(): vision there, with the user's span around it."""
        has_vision = self.phases[-1] == VISION_OUTSIDE
        if has_vision:
            yield VISION_OUTSIDE, Place.OUTSIDE
        if user_span:
            yield user_span, Place.WITHIN if has_vision else Place.OUTSIDE


def _spans(marks: Sequence[Mark], clock: Clock, *, origin: Stamp) -> tuple[Span, ...]:
    """Attribute each stretch between neighbouring marks to its owners, in start order."""
    starts_ms: dict[tuple[str, Place], float] = {}
    times: dict[tuple[str, Place], dict[str, float]] = {}
    for start, end, owners in stretches(marks):
        for owner in owners:
            starts_ms.setdefault(owner, (start.wall_ns - origin.wall_ns) / NS_PER_MS)
            tally = times.setdefault(owner, {})
            for measure, value in clock.measures(start, end).items():
                tally[measure] = tally.get(measure, 0.0) + value
    return tuple(
        Span(name=str(owner[0]), place=owner[1], start_ms=starts_ms[owner], measures=times[owner])
        for owner in sorted(starts_ms, key=lambda owner: starts_ms[owner])
    )


def _joined_vision(marks: Sequence[Mark]) -> list[Mark]:
    """Leave out a pause of vision in which no boundary fired: its glue between two modules.

    Vision runs from its first work until its features are ready, whatever lies between. Once the
    blocks have begun, what lies between is theirs.
    """
    vision = str(Phase.VISION)
    fired = [mark.boundary for mark in marks]
    end = fired.index(Boundary.BLOCKS_START) if Boundary.BLOCKS_START in fired else len(fired)
    left_out = {
        index
        for index, (mark, following) in enumerate(pairwise(marks[:end]))
        if (mark.boundary, mark.name) == (Boundary.EXIT, vision)
        and (following.boundary, following.name) == (Boundary.ENTER, vision)
    }
    return [
        mark
        for index, mark in enumerate(marks)
        if index not in left_out and index - 1 not in left_out
    ]


def _check_order(mark: Mark, following: Mark) -> None:
    backwards_ns = mark.stamp.wall_ns - following.stamp.wall_ns
    if backwards_ns > 0:
        raise InvalidMeasurement(
            f"the clock ran backwards by {backwards_ns} ns between '{mark.boundary} {mark.name}' "
            f"and '{following.boundary} {following.name}'; expected a monotonic clock"
        )


def _pop(names: list[str], mark: Mark) -> None:
    if not names or names[-1] != mark.name:
        raise InvalidMeasurement(
            f"{mark.name} was left while {names[-1] if names else 'nothing'} was at work; expected "
            f"{mark.name} to be the innermost: boundaries fired out of order, as when an exception "
            f"was caught inside generate() or phases run on several threads"
        )
    names.pop()


def _outside(marks: Sequence[Mark], clock: Clock) -> dict[str, float]:
    """Return the time before and after generate() in the called function, our reading left out."""
    before = clock.measures(
        _only(marks, Boundary.CALL_START).stamp, _only(marks, Boundary.GENERATE_CALLED).stamp
    )
    after = clock.measures(
        _only(marks, Boundary.GENERATE_RETURNED).stamp, _only(marks, Boundary.CALL_END).stamp
    )
    return {name: before[name] + after[name] for name in before}


def step_times_ms(ticks: Sequence[Tick], marks: Sequence[Mark], clock: Clock) -> tuple[float, ...]:
    """Return the time from each decode step's start to the next one's, or to the end.

    By the device where it can tell; nothing where no starts were kept.
    """
    starts = [Stamp(tick) if isinstance(tick, int) else tick for tick in ticks]
    ends = [*starts[1:], _only(marks, Boundary.GENERATE_END).stamp]
    spans = [clock.measures(start, end) for start, end in zip(starts, ends, strict=False)]
    return tuple(span.get(DEVICE, span[WALL]) for span in spans)


def _only(marks: Sequence[Mark], boundary: Boundary) -> Mark:
    found = [mark for mark in marks if mark.boundary is boundary]
    if len(found) != 1:
        raise InvalidMeasurement(f"{boundary} {len(found)} times in a call; expected once")
    return found[0]
