"""The trace of one call: valid for Perfetto, exact, and honest about what it cost."""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_vlmlatency import span
from pytest_vlmlatency.calls.clock import Stamp
from pytest_vlmlatency.calls.interception import find_target
from pytest_vlmlatency.calls.recorder import Recorder
from pytest_vlmlatency.calls.timeline import Boundary
from pytest_vlmlatency.inspection.output import chrome_trace, microseconds
from pytest_vlmlatency.measure.single import Single, observe
from pytest_vlmlatency.options import Options
from pytest_vlmlatency.records import DEVICE, WALL, Phase
from tests.builders import FakeClock, delayed
from tests.inspection.conftest import Inspect
from tests.measure.custom_models import ASKED, DELAYS_MS, Captioner
from tests.zoo.once import encoding_once

ZooModel = Callable[[str], str]
Event = dict[str, Any]

FAMILIES = ("llava", "mllama", "git", "florence2", "blip-2", "qwen2_vl")
N_NEW_TOKENS = 4


def bars(trace: Mapping[str, Any], row: str) -> list[tuple[str, int, int]]:
    """Return name, start and end in ns of each bar in a row, in order of start."""
    found = [
        (event["name"], round(event["ts"] * 1000), round((event["ts"] + event["dur"]) * 1000))
        for event in trace["traceEvents"]
        if event.get("cat") == row
    ]
    return sorted(found, key=lambda bar: bar[1])


def ms(bar: tuple[str, int, int]) -> tuple[str, float, float]:
    name, start_ns, end_ns = bar
    return name, start_ns / 1e6, end_ns / 1e6


def is_inside(bar: tuple[str, int, int], others: list[tuple[str, int, int]]) -> bool:
    return sum(start <= bar[1] and bar[2] <= end for _, start, end in others) == 1


def observed(
    model: Captioner,
    clock: FakeClock,
    *,
    delays_ms: Mapping[str, float] = DELAYS_MS,
    has_blocks: bool = True,
) -> Single:
    """Observe one call in which named modules take so many ms."""
    with ExitStack() as delays:
        for path, delay_ms in delays_ms.items():
            delay = partial(clock.advance_ms, delay_ms)
            delays.enter_context(delayed(model.get_submodule(path), delay))
        return observe(
            find_target(model.generate, (), {**ASKED, "max_new_tokens": N_NEW_TOKENS}, None),
            Options(threads=0, per_token=True),
            has_blocks=has_blocks,
            clock=clock,
            report=lambda _line: None,
        )


def traced(single: Single) -> dict[str, Any]:
    """Return the trace as it reads after a trip through a file."""
    trace = chrome_trace(
        single.observation.recorder, single.block_runs, title="a call", metadata={"notes": []}
    )
    read: dict[str, Any] = json.loads(json.dumps(trace))
    return read


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.mark.parametrize("name", encoding_once(*FAMILIES))
def test_a_trace_is_exact_in_every_family(
    inspect: Inspect, zoo_model: ZooModel, tmp_path: Path, name: str
) -> None:
    run = inspect(zoo_model(name), "--trace", "t.json", "--trace-blocks", "--trace-tokens")

    trace = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    assert (run.status, run.err) == (0, "")
    assert run.out.endswith("t.json: one call; open it at https://ui.perfetto.dev\n")
    (_, start, end), *_ = whole = bars(trace, "generate()")
    phases, steps = bars(trace, "phases"), bars(trace, "decode steps")
    blocks = bars(trace, "decoder blocks")
    assert (len(whole), start) == (1, 0)
    assert sum(stop - begin for _, begin, stop in phases) == end
    assert [one[2] for one in phases[:-1]] == [two[1] for two in phases[1:]]
    assert [block for block in blocks if not is_inside(block, phases)] == []
    assert len(blocks) == len(trace["otherData"]["phase_map"]["blocks"]) * (1 + len(steps))
    assert [step for step in steps if not is_inside(step, [phases[-1]])] == []
    assert all(one[2] == two[1] for one, two in pairwise(steps))
    assert steps[-1][2] == end


@pytest.mark.parametrize("name", encoding_once(*FAMILIES))
def test_every_event_of_a_trace_has_what_the_format_asks_for(
    inspect: Inspect, zoo_model: ZooModel, tmp_path: Path, name: str
) -> None:
    inspect(zoo_model(name), "--trace", "t.json", "--trace-blocks", "--trace-tokens")

    trace = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    complete = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    names = [event for event in trace["traceEvents"] if event["ph"] == "M"]
    assert set(trace) == {"traceEvents", "displayTimeUnit", "otherData"}
    assert len(complete) + len(names) == len(trace["traceEvents"])
    assert all(
        set(event) == {"ph", "pid", "tid", "name", "cat", "ts", "dur", "args"}
        and isinstance(event["name"], str)
        and isinstance(event["args"], dict)
        and event["ts"] >= 0
        and event["dur"] >= 0
        for event in complete
    )
    named = {event["tid"] for event in names if event["name"] == "thread_name"}
    assert {event["tid"] for event in complete} == named


@given(st.integers(0, 10**15))
def test_a_reader_that_cuts_off_gets_every_nanosecond(ns: int) -> None:
    assert int(microseconds(ns) * 1000) == ns


def test_perfetto_drops_no_bar(inspect: Inspect, zoo_model: ZooModel, tmp_path: Path) -> None:
    """It cuts off to whole nanoseconds, and drops what overlaps a bar of its row in part."""
    inspect(zoo_model("mllama"), "--trace", "t.json", "--trace-blocks", "--trace-tokens")

    trace = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    read = sorted(
        (event["tid"], int(event["ts"] * 1000), int(event["dur"] * 1000))
        for event in trace["traceEvents"]
        if event["ph"] == "X"
    )
    assert [
        (one, two) for one, two in pairwise(read) if one[0] == two[0] and one[1] + one[2] > two[1]
    ] == []


def test_known_delays_are_where_they_were_put(clock: FakeClock) -> None:
    trace = traced(observed(Captioner(), clock))

    assert [ms(bar) for bar in bars(trace, "phases") if bar[1] < bar[2]] == [
        ("vision", 0, 71),
        ("prefill", 71, 74),
        ("decode", 74, 83),
    ]
    assert [ms(bar) for bar in bars(trace, "decode steps")] == [
        ("step 1", 74, 77),
        ("step 2", 77, 80),
        ("step 3", 80, 83),
    ]
    assert [ms(bar) for bar in bars(trace, "decoder blocks") if bar[0] == "blocks.0"] == [
        ("blocks.0", 71, 74),
        ("blocks.0", 74, 77),
        ("blocks.0", 77, 80),
        ("blocks.0", 80, 83),
    ]


def test_a_block_counts_its_forwards(clock: FakeClock) -> None:
    trace = traced(observed(Captioner(), clock))

    second = [
        event["args"]["forward"]
        for event in trace["traceEvents"]
        if event.get("args", {}).get("path") == "blocks.1"
    ]
    assert second == [1, 2, 3, 4]


def test_a_span_of_the_users_own_has_its_row(clock: FakeClock) -> None:
    def pool() -> None:
        with span("pooling"):
            clock.advance_ms(5)

    trace = traced(observed(Captioner(pool=pool), clock))

    assert [ms(bar) for bar in bars(trace, "your spans")] == [("pooling", 60, 65)]
    assert [ms(bar) for bar in bars(trace, "phases") if bar[1] < bar[2]][:3] == [
        ("vision", 0, 60),
        ("prefill", 60, 65),
        ("vision", 65, 76),
    ]


def test_without_details_there_are_two_rows(
    inspect: Inspect, zoo_model: ZooModel, tmp_path: Path
) -> None:
    inspect(zoo_model("llava"), "--trace", "t.json")

    trace = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    rows = [
        event["args"]["name"]
        for event in trace["traceEvents"]
        if event["name"] in ("process_name", "thread_name")
    ]
    assert rows == ["generate() of models.py:build_it", "generate()", "phases"]
    assert trace["otherData"]["notes"] == [
        "one call, after a warm-up: no measurement, and no basis for a comparison"
    ]


def test_what_a_trace_cost_is_written_into_it(
    inspect: Inspect, zoo_model: ZooModel, tmp_path: Path
) -> None:
    run = inspect(zoo_model("llava"), "--trace", "t.json", "--trace-blocks", "--json")

    about = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))["otherData"]
    assert about["notes"][1:] == [
        "every decoder block was hooked, which slows the call: its phases are too long"
    ]
    assert about["model"] == "LlavaForConditionalGeneration"
    assert about["clock"] == "the host's wall clock, of a model on cpu"
    assert run.json["phase_map"] == about["phase_map"]
    assert run.err == "t.json: one call; open it at https://ui.perfetto.dev\n"


def test_hooks_around_blocks_come_off(clock: FakeClock) -> None:
    model = Captioner()

    observed(model, clock)

    assert [name for name, part in model.named_modules() if part._forward_pre_hooks] == []
    assert [name for name, part in model.named_modules() if part._forward_hooks] == []


class DeviceTime(FakeClock):
    """A clock whose device runs half as fast as the host's."""

    def stamp(self, *, wait: bool) -> Stamp:
        return Stamp(self.now_ns)

    def tick(self) -> Stamp:  # type: ignore[override]  # as a device's clock does
        return self.stamp(wait=False)

    def measures(self, start: Stamp, end: Stamp) -> Mapping[str, float]:
        wall_ms = (end.wall_ns - start.wall_ns) / 1e6
        return {WALL: wall_ms, DEVICE: wall_ms / 2}


def test_on_an_accelerator_all_times_are_the_devices() -> None:
    clock = DeviceTime()
    recorder = Recorder(clock)
    recorder.mark(Boundary.CALL_START)
    recorder.mark(Boundary.GENERATE_CALLED)
    recorder.mark(Boundary.GENERATE_START)
    recorder.mark(Boundary.ENTER, Phase.PREFILL)
    clock.advance_ms(10)
    recorder.mark(Boundary.PROMPT_READY, Phase.PREFILL)
    recorder.step_starts.append(clock.tick())
    clock.advance_ms(20)
    recorder.mark(Boundary.GENERATE_END)
    recorder.mark(Boundary.GENERATE_RETURNED)
    recorder.mark(Boundary.CALL_END)

    trace = chrome_trace(recorder, (), title="a call", metadata={})

    assert [ms(bar) for bar in bars(trace, "phases") if bar[1] < bar[2]] == [
        ("prefill", 0, 5),
        ("decode", 5, 15),
    ]
    assert [ms(bar) for bar in bars(trace, "decode steps")] == [("step 1", 5, 15)]
    assert trace["otherData"] == {"clock": "device events of cpu"}
