from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_vlmlatency.records import DeviceState, Place, Span
from pytest_vlmlatency.report.terminal import MARKS, summary_lines, title_of
from tests.cases import a_call, a_case

HOT = DeviceState(
    sm_clock_mhz=1200,
    memory_clock_mhz=2600,
    temperature_c=91,
    power_w=700.0,
    throttle_reasons=("sw_thermal_slowdown",),
)

LOW = a_case(
    [a_call(decode_ms=30 + step, vision_ms=10 + step / 10) for step in range(5)],
    name="test_caption[astronaut]",
    config={"tier": "low", "top_k": 4},
)
HIGH = a_case(
    [a_call(decode_ms=300 + step, vision_ms=101, prefill_ms=1234.5) for step in range(4)],
    name="test_caption[astronaut]",
    config={"tier": "high", "top_k": 12},
    discarded=(a_call(discarded_because="other took 9 ms"),),
)


def golden(name: str) -> list[str]:
    """Return what a user sees, kept beside this module as it is."""
    text = (Path(__file__).parent / "golden" / f"{name}.txt").read_text(encoding="utf-8")
    return text.splitlines()


def test_the_whole_table() -> None:
    assert summary_lines([LOW, HIGH], width=None) == golden("whole_table")


def test_on_an_accelerator_there_is_no_cpu_column() -> None:
    case = a_case([a_call(cpu_share=None), a_call(cpu_share=None)], device="cuda:0 (NVIDIA H200)")

    assert summary_lines([case], width=None) == golden("accelerator")


def test_marks_spans_and_notes_stand_where_a_reader_needs_them() -> None:
    spans = (
        Span(name="preprocess", start_ms=-3.0, measures={"wall_ms": 3.0}, place=Place.OUTSIDE),
        Span(name="crop", start_ms=1.0, measures={"wall_ms": 0.25}, place=Place.WITHIN),
        Span(name="text_encoder", start_ms=1.0, measures={"wall_ms": 2.0}),
    )
    text_only = a_call(vision_ms=0, n_vision_tokens=0, cpu_share=None, extra_spans=spans)
    busy = a_call(contended_ratio=0.2, n_output_tokens=1)
    cases = [
        a_case(
            [text_only],
            name="test_text",
            labels=("text-only", "per-token"),
            notes=("the output was not repeatable",),
            device_after=(HOT,),
            device="cuda:0",
        ),
        a_case([busy], name="test_busy", notes=("the output was not repeatable",)),
    ]

    assert summary_lines(cases, width=None) == golden("marks")


def of_other(**parts_ms: float) -> tuple[Span, ...]:
    return tuple(
        Span(name=f"other.{name}", start_ms=0.0, measures={"wall_ms": ms}, place=Place.WITHIN)
        for name, ms in parts_ms.items()
    )


def test_a_long_other_is_shown_with_its_large_parts() -> None:
    spans = of_other(stopping_criteria=140.0, cache=15.0, settings=0.2)
    case = a_case([a_call(other_ms=156.0, cpu_share=None, extra_spans=spans)])

    table = summary_lines([case], width=None)

    line = "  other: 156.0 (of it stopping_criteria 140.0; before the prompt, in no phase)"
    assert line in table
    assert not any("settings" in row or "cache" in row for row in table)


def test_a_long_other_without_a_known_part_is_shown_all_the_same() -> None:
    case = a_case([a_call(other_ms=156.0, cpu_share=None, extra_spans=of_other(settings=0.2))])

    table = summary_lines([case], width=None)

    assert any(row.startswith("  other: 156.0 (in no part of generate()") for row in table)


def test_a_narrow_terminal_loses_columns_before_spreads_and_says_so() -> None:
    table = summary_lines([LOW, HIGH], width=80)

    assert max(map(len, table)) <= 80
    assert table == golden("narrow")


def test_a_very_narrow_terminal_keeps_the_medians() -> None:
    table = summary_lines([LOW, HIGH], width=60)

    assert max(map(len, table)) <= 60
    assert table == golden("very_narrow")


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(len, summary_lines([LOW, HIGH], width=width))) <= width


def test_shortened_names_still_tell_their_cases_apart() -> None:
    table = summary_lines([LOW, HIGH], width=80)

    assert table[2].split()[0] != table[3].split()[0]


def test_a_small_median_beside_a_large_one_keeps_two_digits() -> None:
    cases = [a_case([a_call(decode_ms=0.032)]), a_case([a_call(decode_ms=1500.0)])]

    table = summary_lines(cases, width=None)

    assert " 0.032 " in table[2]
    assert " 1500.000 " in table[3]


def test_without_cases_there_is_nothing_to_say() -> None:
    assert summary_lines([], width=None) == []


def test_the_title_counts_the_cases_and_names_the_devices() -> None:
    assert title_of([LOW, HIGH]) == "vlm latency: 2 cases on cpu"
    assert title_of([LOW]) == "vlm latency: 1 case on cpu"
    assert title_of([]) == "vlm latency: nothing measured"


def test_a_device_that_others_use_too_is_marked() -> None:
    crowded = a_case(device_before=(replace(HOT, n_other_processes=2, throttle_reasons=()),))
    alone = a_case(device_before=(replace(HOT, n_other_processes=0, throttle_reasons=()),))

    table = summary_lines([crowded, alone], width=None)

    assert table[3] == "  shared"
    assert table[5].startswith("---")
    assert (
        "shared: processes of others had the device in use, too, before or after the case." in table
    )


def test_every_mark_has_its_line_in_the_legend() -> None:
    case = a_case([a_call(contended_ratio=0.2)], labels=tuple(MARKS), device_before=(HOT,))

    legend = "\n".join(summary_lines([case], width=None))

    assert all(f"\n{mark}: " in legend for mark in MARKS)
