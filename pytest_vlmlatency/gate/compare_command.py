"""`vlmlatency compare`: its options and help. Imports nothing heavy until it runs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pytest_vlmlatency.commands import without_collecting
from pytest_vlmlatency.gate.output import add_output_arguments, show_report
from pytest_vlmlatency.history.arguments import add_history

if TYPE_CHECKING:
    import argparse

NAME = "compare"
SUMMARY = "judge a stored run against others, without measuring"
DESCRIPTION = """\
Judge run B against A as pytest --vlm-gate does: slower, faster, same or
undecided, for each phase of each case. Nothing is measured: a phase that the
stored runs do not decide stays undecided. vlmlatency ab measures two commits.

A and B are
  a file that --vlm-json wrote,
  last, the newest run of the history,
  a run by its id or the beginning of it (vlmlatency history lists them),
  a branch, tag or commit: A is all its clean runs, B the newest of them;
  A may be accepted, too: the run that vlmlatency accept pinned for B's machine.

Machines must be the same in processor, devices, driver's major version, power
limit and threads; another one is refused, unless --across-machines asks for it.
"""
EXAMPLES = """\
examples:
  vlmlatency compare main last
  vlmlatency compare accepted last --strict
  vlmlatency compare before.json after.json --across-machines

exit status: 0 passed, 10 slower or over a budget, 11 undecided under --strict,
12 not applied (another machine, nothing comparable), 2 usage error
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("before", metavar="A", help="the baseline")
    parser.add_argument("after", metavar="B", help="the run that is judged")
    add_history(parser)
    parser.add_argument(
        "--across-machines", action="store_true", help="compare runs of different machines, too"
    )
    add_output_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """Compare, print, and return the exit status of a gate."""
    from pytest_vlmlatency.gate.compare import CompareRequest, compare_runs  # noqa: PLC0415
    from pytest_vlmlatency.history.location import named_or_default  # noqa: PLC0415 - light --help

    store = named_or_default(given.history, is_readonly=True)
    request = CompareRequest(
        before=given.before,
        after=given.after,
        today=datetime.now(UTC).date(),
        is_across_machines=given.across_machines,
        is_strict=given.strict,
    )
    with without_collecting():
        return show_report(compare_runs(store, request), given)
