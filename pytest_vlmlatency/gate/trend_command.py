"""`vlmlatency trend`: its options and their help, and what it prints.

Imports nothing heavy until it runs.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.commands import without_collecting
from pytest_vlmlatency.history.arguments import add_cases, add_history
from pytest_vlmlatency.printing import has_terminal, tell_json, tell_ready

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pytest_vlmlatency.gate.trend import Chosen
    from pytest_vlmlatency.records import RunHeader, Trend

NAME = "trend"
SUMMARY = "look for change points over the runs of many commits"
DESCRIPTION = """\
Look for level steps in the history: in each phase of each case, over the runs
of many commits on one machine. A step too small for one commit's gate is found
here, later; so is a slow creep, as several steps. Each step comes with its
interval and with the commits between which it lies.

Clean runs count, in the order of HEAD's first parents; runs of dirty trees and
of pull requests do not, nor what was throttled, contended, or did other work.

What is found rests on runs of many days. Be sure before you revert anything:
  vlmlatency ab GOOD BAD -- benchmarks/
measures both commits now, in turn.

exit status:
  0   no series ends with a step towards slower
  10  the latest step of a series is one towards slower
  12  nothing could be looked at: fewer than 10 runs of each series
  2   usage error, such as a machine without runs
"""
EXAMPLES = """\
examples:
  vlmlatency trend
      all phases of all cases, on this machine, in .vlm_latency/

  vlmlatency trend --history s3://bucket/latency --machine 3fa9c2d1 --last 500
      another history, another machine, farther back

  vlmlatency trend --case test_caption --phase decode
      one series, shown with or without a step

  vlmlatency trend --json | jq '.series[] | select(.steps != [])'
      the same for programs
"""
DEFAULT_LAST = 200
"""Runs: 20 a week for ten weeks. A level of the past says little about the code of today."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_history(parser)
    parser.add_argument(
        "--machine", metavar="FINGERPRINT", help="its first digits do (default: this machine)"
    )
    add_cases(parser)
    parser.add_argument(
        "--phase",
        metavar="NAME",
        action="append",
        default=[],
        help="only this phase: vision, prefill, decode, total, a span; as often as you like",
    )
    parser.add_argument(
        "--last",
        metavar="N",
        type=_count,
        default=DEFAULT_LAST,
        help=f"look at the last N runs; 0 is all (default: {DEFAULT_LAST})",
    )
    parser.add_argument("--all", action="store_true", help="show the series without a step, too")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")


def run(given: argparse.Namespace) -> int:
    """Look at the history and print what was found; return the exit status."""
    with without_collecting():
        trend = _trend(given)
    if given.json:
        from pytest_vlmlatency.plain import to_plain  # noqa: PLC0415 - light until it runs

        ended = {"status": trend.status.value, "outcome": trend.status.name.lower()}
        tell_json(ended | to_plain(trend))
    else:
        _print(trend, has_all=given.all or bool(given.case or given.phase))
    return trend.status.value


def _trend(given: argparse.Namespace) -> Trend:
    from pytest_vlmlatency.gate import trend  # noqa: PLC0415
    from pytest_vlmlatency.gate.trend import Wanted, series_of_runs  # noqa: PLC0415
    from pytest_vlmlatency.history.location import named_or_default  # noqa: PLC0415 - light --help
    from pytest_vlmlatency.records import Trend  # noqa: PLC0415

    root = Path.cwd()
    store = named_or_default(given.history, is_readonly=True)
    index = store.index()
    clean = trend.clean_runs(index.names)
    here = () if given.machine else _fingerprints_here()
    machine = trend.machine_of(clean, named=given.machine, here=here)
    chosen = trend.in_order(
        [name for name in clean if name.fingerprint == machine], _commits_to_head(root)
    )
    stored = store.read(chosen.names[-given.last :])
    headers = [run.header for run in stored.runs]
    return Trend(
        history=store.url,
        machine=machine,
        described=_described(machine, headers),
        n_runs=len(headers),
        n_commits=len({header.commit.id for header in headers if header.commit}),
        series=series_of_runs(
            stored.runs,
            Wanted(cases=tuple(given.case), phases=tuple(given.phase)),
            lambda good, bad: trend.subjects_between(root, good, bad),
        ),
        remarks=_remarks(chosen, [*index.problems, *stored.problems]),
    )


def _commits_to_head(root: Path) -> tuple[str, ...] | str:
    """Return the commits in order, or why they are not known: then the order is that of time."""
    from pytest_vlmlatency.gate.trend import commits_to_head  # noqa: PLC0415
    from pytest_vlmlatency.paired.git import GitUnusable  # noqa: PLC0415 - light --help

    try:
        return commits_to_head(root)
    except GitUnusable as problem:
        return str(problem)


def _remarks(chosen: Chosen, problems: Sequence[str]) -> tuple[str, ...]:
    return (*chosen.remarks, *(f"Left out of the history: {problem}" for problem in problems))


def _fingerprints_here() -> Collection[str]:
    from pytest_vlmlatency.machine.environment import fingerprints  # noqa: PLC0415 - imports torch

    return fingerprints()


def _described(machine: str, headers: Sequence[RunHeader]) -> str:
    if not headers:
        return f"on {machine}"
    environment = headers[-1].environment
    devices = [str(device.get("name")) for device in environment.devices]
    hardware = ", ".join([str(environment.machine.get("cpu")), *devices])
    first, last = headers[0].started_at[:10], headers[-1].started_at[:10]
    return f"on {machine} ({hardware}), {first} to {last}"


def _print(trend: Trend, *, has_all: bool) -> None:
    from pytest_vlmlatency.report.gate_terminal import coloured  # noqa: PLC0415 - light start
    from pytest_vlmlatency.report.trend_text import trend_lines  # noqa: PLC0415

    is_terminal = has_terminal(sys.stdout)
    width = shutil.get_terminal_size().columns if is_terminal else None
    lines = trend_lines(trend, width=width, has_all=has_all)
    tell_ready(coloured(lines, has_colours=is_terminal))


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, not {text!r}")
    return int(text)
