"""Print and write what was found: the edge to the terminal and to files."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING

from pytest_vlmlatency.inspection.chrome_trace import chrome_trace
from pytest_vlmlatency.inspection.look import Look, look_at
from pytest_vlmlatency.inspection.page import page_lines
from pytest_vlmlatency.inspection.user_function import recorded_name
from pytest_vlmlatency.plain import to_plain
from pytest_vlmlatency.printing import has_terminal, tell, tell_json, warn
from pytest_vlmlatency.whole_files import write_whole

if TYPE_CHECKING:
    from pytest_vlmlatency.inspection.findings import Inspection
    from pytest_vlmlatency.inspection.request import Request

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
