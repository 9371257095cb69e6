"""Laws of attributing time: every moment is counted once, whatever happened in whatever order."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_vlmlatency import InvalidMeasurement
from pytest_vlmlatency.calls.clock import Stamp
from pytest_vlmlatency.calls.timeline import Boundary, Mark, Timeline, read_timeline
from pytest_vlmlatency.records import WALL, Phase, Place
from tests.builders import FakeClock

STEPS_MS = st.integers(0, 1000)
Event = tuple[Boundary, str]

BEFORE: list[Event] = [
    (Boundary.CALL_START, ""),
    (Boundary.GENERATE_CALLED, ""),
    (Boundary.GENERATE_START, ""),
]
AFTER: list[Event] = [
    (Boundary.GENERATE_END, ""),
    (Boundary.GENERATE_RETURNED, ""),
    (Boundary.CALL_END, ""),
]
VISION: list[Event] = [(Boundary.ENTER, Phase.VISION), (Boundary.EXIT, Phase.VISION)]
PREFILL_START: Event = (Boundary.ENTER, Phase.PREFILL)
PROMPT_READY: Event = (Boundary.PROMPT_READY, Phase.PREFILL)


def marks_of(events: Sequence[Event], steps_ms: Sequence[int]) -> list[Mark]:
    """Return marks, the n-th of them `steps_ms[n]` after the one before."""
    marks, now_ns = [], 0
    for (boundary, name), step_ms in zip(events, steps_ms, strict=True):
        now_ns += step_ms * 1_000_000
        marks.append(Mark(boundary, str(name), Stamp(now_ns, now_ns)))
    return marks


def timeline_of(events: Sequence[Event], steps_ms: Sequence[int]) -> Timeline:
    return read_timeline(marks_of(events, steps_ms), FakeClock())


def time_of(timeline: Timeline, name: str, place: Place = Place.PART) -> float:
    return sum(
        span.measures[WALL] for span in timeline.spans if span.name == name and span.place is place
    )


def user_span(events: Sequence[Event]) -> list[Event]:
    return [(Boundary.SPAN_ENTER, "mine"), *events, (Boundary.SPAN_EXIT, "mine")]


vision_first = st.just([*VISION, PREFILL_START, PROMPT_READY])
vision_inside = st.just([PREFILL_START, *VISION, PROMPT_READY])
vision_both = st.just([*VISION, PREFILL_START, *VISION, PROMPT_READY])
text_only = st.just([PREFILL_START, PROMPT_READY])
flows = st.one_of(vision_first, vision_inside, vision_both, text_only)


@st.composite
def calls(draw: st.DrawFn) -> tuple[list[Event], list[int]]:
    """Any flow, with a user's span put anywhere that it nests."""
    events = [*BEFORE, *draw(flows), *AFTER]
    if draw(st.booleans()):
        at = draw(st.integers(1, len(events) - 1))
        events = [*events[:at], *user_span([]), *events[at:]]
    return events, draw(st.lists(STEPS_MS, min_size=len(events), max_size=len(events)))


@given(calls())
def test_the_parts_add_up_to_the_total(call: tuple[list[Event], list[int]]) -> None:
    timeline = timeline_of(*call)

    parts = [span.measures[WALL] for span in timeline.spans if span.place is Place.PART]
    assert math.isclose(math.fsum(parts), timeline.total[WALL], abs_tol=1e-9)


@given(calls())
def test_no_span_lasts_less_than_nothing(call: tuple[list[Event], list[int]]) -> None:
    assert all(span.measures[WALL] >= 0 for span in timeline_of(*call).spans)


@given(calls(), st.integers(2, 9))
def test_a_slower_clock_stretches_every_span_alike(
    call: tuple[list[Event], list[int]], factor: int
) -> None:
    events, steps_ms = call

    slower = timeline_of(events, [factor * step_ms for step_ms in steps_ms])

    for span, stretched in zip(timeline_of(events, steps_ms).spans, slower.spans, strict=True):
        assert stretched.name == span.name
        assert math.isclose(stretched.measures[WALL], factor * span.measures[WALL], abs_tol=1e-6)


def test_vision_inside_the_prompts_forward_takes_its_time_from_prefill() -> None:
    events = [*BEFORE, PREFILL_START, *VISION, PROMPT_READY, *AFTER]

    timeline = timeline_of(events, [0, 1, 1, 5, 10, 60, 20, 40, 1, 1])

    assert time_of(timeline, Phase.OTHER) == 5
    assert time_of(timeline, Phase.PREFILL) == 10 + 20
    assert time_of(timeline, Phase.VISION) == 60
    assert time_of(timeline, Phase.DECODE) == 40
    assert timeline.total[WALL] == 135


def test_a_users_span_before_generate_is_outside() -> None:
    call_start, *rest = BEFORE
    events = [call_start, *user_span([]), *rest, PREFILL_START, PROMPT_READY, *AFTER]

    timeline = timeline_of(events, [0, 2, 7, 1, 1, 1, 9, 9, 1, 1])

    assert time_of(timeline, "mine", Place.OUTSIDE) == 7
    assert timeline.spans[0].name == "mine"
    assert timeline.spans[0].start_ms == -9
    assert timeline.outside[WALL] == 2 + 7 + 1 + 1


def test_a_users_span_in_the_preamble_is_a_part_and_not_other() -> None:
    events = [*BEFORE, *user_span([]), PREFILL_START, PROMPT_READY, *AFTER]

    timeline = timeline_of(events, [0, 0, 0, 2, 7, 1, 9, 9, 0, 0])

    assert time_of(timeline, "mine") == 7
    assert time_of(timeline, Phase.OTHER) == 3


def test_a_users_span_inside_a_phase_takes_nothing_from_it() -> None:
    events = [*BEFORE, PREFILL_START, PROMPT_READY, *user_span([]), *AFTER]

    timeline = timeline_of(events, [0, 0, 0, 1, 9, 2, 7, 3, 0, 0])

    assert time_of(timeline, Phase.DECODE) == 2 + 7 + 3
    assert time_of(timeline, "mine", Place.WITHIN) == 7
    assert time_of(timeline, "mine") == 0


def test_a_users_span_around_everything_is_told_by_place() -> None:
    start, *rest = BEFORE
    *before_end, end = AFTER
    inside = [*rest, PREFILL_START, PROMPT_READY, *before_end]

    timeline = timeline_of([start, *user_span(inside), end], [0, 1, 4, 0, 2, 9, 8, 0, 3, 5])

    assert time_of(timeline, "mine", Place.OUTSIDE) == 4 + 3
    assert time_of(timeline, "mine") == 2
    assert time_of(timeline, "mine", Place.WITHIN) == 9 + 8


@pytest.mark.parametrize("missing", [Boundary.GENERATE_START, Boundary.GENERATE_END])
def test_a_call_without_its_ends_is_refused(missing: Boundary) -> None:
    events = [*BEFORE, PREFILL_START, PROMPT_READY, *AFTER]
    marks = [mark for mark in marks_of(events, range(8)) if mark.boundary is not missing]

    with pytest.raises(InvalidMeasurement, match=r"0 times in a call; expected once"):
        read_timeline(marks, FakeClock())


def test_a_phase_left_while_another_is_at_work_is_refused() -> None:
    events = [*BEFORE, PREFILL_START, (Boundary.ENTER, Phase.VISION), PROMPT_READY, *AFTER]

    with pytest.raises(InvalidMeasurement, match=r"prefill was left while vision was at work"):
        timeline_of(events, range(9))
