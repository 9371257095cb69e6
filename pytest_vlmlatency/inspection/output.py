"""Print and write what was found: the edge to the terminal and to files.

One measured call as a Chrome trace: the Trace Event Format, which Perfetto opens.

Pure over the marks of the call. All times are distances from the start of generate() on one clock,
in whole nanoseconds until they are written as microseconds, so that the phases add up to the whole.
On an accelerator that clock is the device's own; where it has none, the host's.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from pytest_vlmlatency.calls.timeline import generate_bounds, stretches
from pytest_vlmlatency.inspection.look import Look, look_at
from pytest_vlmlatency.inspection.page import page_lines
from pytest_vlmlatency.inspection.user_function import recorded_name
from pytest_vlmlatency.plain import to_plain
from pytest_vlmlatency.printing import has_terminal, tell, tell_json, warn
from pytest_vlmlatency.records import DEVICE, Phase, Place
from pytest_vlmlatency.whole_files import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_vlmlatency.calls.clock import Clock, Stamp, Tick
    from pytest_vlmlatency.calls.recorder import Recorder
    from pytest_vlmlatency.inspection.findings import Inspection
    from pytest_vlmlatency.inspection.request import Request
    from pytest_vlmlatency.measure.single import BlockRun


NARROWEST = 60
"""Columns that the tree needs; a terminal with fewer wraps by itself."""
ONE_CALL = "one call, after a warm-up: no measurement, and no basis for a comparison"
BLOCKS_COST = "every decoder block was hooked, which slows the call: its phases are too long"
TOKENS_COST = "every decode step was timed, which costs a little itself"


def looked(request: Request) -> Look:
    """Look at the model, with a line of progress where somebody watches."""
    return look_at(request, report=_progress)


def print_page(look: Look) -> None:
    """Print what was found, as wide as the terminal is."""
    width = max(NARROWEST, shutil.get_terminal_size().columns)
    tell(*page_lines(look.inspection, width=width))


def print_json(look: Look) -> None:
    """Print what was found as one JSON object."""
    tell_json(to_plain(look.inspection))


def write_trace(look: Look, request: Request, *, to_stderr: bool) -> None:
    """Write the trace of the measured call, and say where it is."""
    assert request.trace is not None, "asked for with --trace"
    trace = chrome_trace(
        look.single.observation.recorder,
        look.single.block_runs,
        title=f"generate() of {recorded_name(request.source)}",
        metadata=_metadata(look.inspection, _notes(look, request)),
    )
    write_whole(request.trace, json.dumps(trace, indent=1, allow_nan=False))
    line = f"{request.trace}: one call; open it at https://ui.perfetto.dev"
    (warn if to_stderr else tell)(line)


def _metadata(found: Inspection, notes: list[str]) -> dict[str, object]:
    return {
        "schema_version": found.schema_version,
        "source": recorded_name(found.source),
        "model": found.workload.model,
        "n_parameters": found.workload.n_parameters,
        "dtype": found.workload.dtype,
        "mode": found.mode,
        "notes": notes,
        "phase_map": to_plain(found.phase_map),
        "tokens": to_plain(found.tokens),
        "versions": dict(found.versions),
    }


def _notes(look: Look, request: Request) -> list[str]:
    """Return what a reader of the trace must beware of."""
    single = look.single
    notes = [ONE_CALL]
    if request.has_trace_blocks:
        notes.append(BLOCKS_COST)
        n_seen, n_usual = len(single.block_runs), _n_block_runs(look)
        if n_seen != n_usual:
            notes.append(
                f"{n_seen} runs of blocks were seen, and would be {n_usual} if each block ran "
                f"once a forward"
            )
    if request.has_trace_tokens:
        notes.append(TOKENS_COST)
    if single.disturbed_because is not None:
        notes.append(f"the call was disturbed: {single.disturbed_because}")
    return notes


def _n_block_runs(look: Look) -> int:
    observation = look.single.observation
    return len(observation.phase_map.blocks) * observation.recorder.n_forwards


def _progress(line: str) -> None:
    if has_terminal(sys.stderr):
        warn(f"{line} ...")


NS_PER_US = 1000
NS_PER_MS = 1_000_000
PROCESS = 1
ROWS = {
    "generate()": 1,
    "phases": 2,
    "your spans": 3,
    "parts of other": 4,
    "decode steps": 5,
    "decoder blocks": 6,
}
"""The rows of the trace from top to bottom, with their thread numbers."""

Event = dict[str, object]


@dataclass(frozen=True, slots=True)
class Slice:
    """One bar of the trace, in ns from the start of generate()."""

    row: str
    name: str
    start_ns: int
    end_ns: int
    args: Mapping[str, object]

    def event(self) -> Event:
        """Return the bar as a complete event, in microseconds."""
        return {
            "ph": "X",
            "pid": PROCESS,
            "tid": ROWS[self.row],
            "name": self.name,
            "cat": self.row,
            "ts": microseconds(self.start_ns),
            "dur": microseconds(self.end_ns - self.start_ns),
            "args": dict(self.args),
        }


def microseconds(ns: int) -> float:
    """Return whole nanoseconds as microseconds that are no less, as a double, than they are.

    Perfetto multiplies by 1000 and cuts off. A double a little too small would lose a nanosecond
    there, and a bar that begins a nanosecond before its neighbour ends is dropped.
    """
    us = ns / NS_PER_US
    return us if int(us * NS_PER_US) == ns else math.nextafter(us, math.inf)


def chrome_trace(
    recorder: Recorder,
    block_runs: Sequence[BlockRun],
    *,
    title: str,
    metadata: Mapping[str, object],
) -> dict[str, object]:
    """Return the JSON object of one call; `metadata` says what it is of, and what to beware of."""
    start, end = generate_bounds(recorder.marks)
    axis = Axis(recorder.clock, start, end)
    slices = [
        Slice("generate()", "generate()", 0, axis.ns(end), {}),
        *_phase_slices(recorder, axis),
        *_step_slices(recorder.step_starts, axis),
        *_block_slices(block_runs, axis),
    ]
    rows = [row for row in ROWS if any(slice_.row == row for slice_ in slices)]
    return {
        "traceEvents": [*_names(title, rows), *(slice_.event() for slice_ in slices)],
        "displayTimeUnit": "ms",
        "otherData": {**metadata, "clock": axis.description},
    }


class Axis:
    """Moments as whole nanoseconds from the start of generate()."""

    def __init__(self, clock: Clock, start: Stamp, end: Stamp) -> None:
        self._clock, self._start, self._end = clock, start, end
        self._is_device = DEVICE in clock.measures(start, end)

    @property
    def description(self) -> str:
        """Which clock the times are of."""
        if self._is_device:
            return f"device events of {self._clock.device}"
        return f"the host's wall clock, of a model on {self._clock.device}"

    @property
    def end_ns(self) -> int:
        """When generate() returned."""
        return self.ns(self._end)

    def ns(self, moment: Tick) -> int:
        """Return how long after the start of generate() a moment was."""
        if isinstance(moment, int):
            return moment - self._start.wall_ns
        if self._is_device:
            return round(self._clock.measures(self._start, moment)[DEVICE] * NS_PER_MS)
        return moment.wall_ns - self._start.wall_ns

    def holds(self, start_ns: int, end_ns: int) -> bool:
        """Whether a stretch lies inside generate()."""
        return 0 <= start_ns <= end_ns <= self.end_ns


def _phase_slices(recorder: Recorder, axis: Axis) -> Iterator[Slice]:
    """Yield each stretch of a phase, and of a user's span inside one; neighbours are joined."""
    open_slices: dict[str, Slice] = {}
    for stretch in stretches(recorder.marks):
        start_ns, end_ns = axis.ns(stretch.start), axis.ns(stretch.end)
        rows = {row: name for name, place in stretch.owners if (row := _row_of(name, place))}
        for row in tuple(open_slices):
            if rows.get(row) != open_slices[row].name:
                yield open_slices.pop(row)
        for row, name in rows.items():
            began_ns = open_slices[row].start_ns if row in open_slices else start_ns
            open_slices[row] = Slice(row, name, began_ns, end_ns, {})
    yield from open_slices.values()


def _row_of(name: str, place: Place) -> str | None:
    """Return the row of a phase, a span or a part of `other`, None for what has none."""
    if place is Place.WITHIN and name.startswith(f"{Phase.OTHER}."):
        return "parts of other"
    return {Place.PART: "phases", Place.WITHIN: "your spans"}.get(place)


def _step_slices(step_starts: Sequence[Tick], axis: Axis) -> Iterator[Slice]:
    """Yield each decode step, from its preparation to the next one's, the last one's to the end."""
    bounds_ns = [*(axis.ns(start) for start in step_starts), axis.end_ns]
    for index, (start_ns, end_ns) in enumerate(pairwise(bounds_ns), start=1):
        yield Slice("decode steps", f"step {index}", start_ns, end_ns, {"step": index})


def _block_slices(runs: Sequence[BlockRun], axis: Axis) -> Iterator[Slice]:
    """Yield each run of a block inside generate(); `forward` counts the block's runs from 1."""
    n_runs: dict[str, int] = {}
    for run in runs:
        start_ns, end_ns = axis.ns(run.start), axis.ns(run.end)
        if axis.holds(start_ns, end_ns):
            n_runs[run.path] = n_runs.get(run.path, 0) + 1
            args = {"path": run.path, "forward": n_runs[run.path]}
            name = ".".join(run.path.split(".")[-2:])
            yield Slice("decoder blocks", name, start_ns, end_ns, args)


def _names(title: str, rows: Sequence[str]) -> Iterator[Event]:
    """Yield the names and the order of the rows."""
    yield _name("process_name", 0, {"name": title})
    for row in rows:
        yield _name("thread_name", ROWS[row], {"name": row})
        yield _name("thread_sort_index", ROWS[row], {"sort_index": ROWS[row]})


def _name(kind: str, thread: int, args: Mapping[str, object]) -> Event:
    return {"ph": "M", "pid": PROCESS, "tid": thread, "ts": 0, "name": kind, "args": dict(args)}
