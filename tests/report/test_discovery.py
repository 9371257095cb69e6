from __future__ import annotations

from pytest_vlmlatency.records import Discovery
from pytest_vlmlatency.report.terminal import discovery_lines
from tests.cases import a_case


def a_discovery(*, is_remembered: bool = False, not_kept_because: str = "") -> Discovery:
    return Discovery(
        model="TinyForConditionalGeneration",
        inputs="pixel_values float32[1, 3, 32, 32], greedy",
        time_ms=12.345,
        is_remembered=is_remembered,
        not_kept_because=not_kept_because,
    )


def test_each_case_has_a_line_that_says_how_its_phases_were_found() -> None:
    cases = [
        a_case(name="test_a", discovery=a_discovery()),
        a_case(name="test_b", discovery=a_discovery(is_remembered=True)),
        a_case(name="test_c", discovery=a_discovery(not_kept_because="streamer holds a Streamer")),
    ]

    kind = "TinyForConditionalGeneration, pixel_values float32[1, 3, 32, 32], greedy"
    assert discovery_lines(cases) == [
        f"Phases of test_a: {kind}: watched in 12.3 ms.",
        f"Phases of test_b: {kind}: remembered from a case before it, in 12.3 ms.",
        f"Phases of test_c: {kind}: watched in 12.3 ms, and not remembered: "
        f"streamer holds a Streamer.",
    ]


def test_a_case_that_was_not_searched_has_no_line() -> None:
    assert discovery_lines([a_case()]) == []
