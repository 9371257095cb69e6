"""`vlmlatency ab`: its options and their help, and what it prints.

Imports nothing heavy until it runs.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import NotConfirmed, UsageProblem
from pytest_vlmlatency.gate.output import add_output_arguments, show_report
from pytest_vlmlatency.printing import has_terminal, warn
from pytest_vlmlatency.records import GateStatus

if TYPE_CHECKING:
    import argparse

    from pytest_vlmlatency.gate.ab import AbRequest
    from pytest_vlmlatency.report.progress import StatusLine

NAME = "ab"
SUMMARY = "measure two commits now, in turn, and say which phase became slower"
DESCRIPTION = """\
Measure two commits against each other, now and on this machine: each is checked
out in a temporary folder, and fresh processes of both measure in turn (A B,
B A, ...) until every phase is decided, or the time is over. Both run the
benchmark files of REF_B, each on its own code. Your working tree is untouched.
Two names of identical trees are the same, and nothing is measured; the same
name twice is measured, and shows the noise.

What is behind -- goes to pytest, as you would give it.
"""
EXAMPLES = """\
examples:
  vlmlatency ab main HEAD -- benchmarks/
      what the last commits of this branch did

  vlmlatency ab v1.2 v1.3 --confirm-time 3600 -- benchmarks/ --gpu -k page
      two releases, on the accelerator, for an hour at most

  vlmlatency ab HEAD HEAD -- benchmarks/
      nothing changed: what the noise of this machine looks like

  vlmlatency ab main HEAD --confirm-setup "make -C python" \\
          --confirm-path python -- benchmarks/
      a project that must be built, with its packages in the folder python

exit status: 0 passed, 10 slower or over a budget, 11 undecided under --strict,
12 not applied (nothing could be measured), 2 usage error, 130 interrupted:
after Ctrl-C, SIGTERM or SIGHUP the pairs measured by then are judged and shown
"""
TIME_LIMIT_S = 600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.usage = "vlmlatency ab REF_A REF_B [options] -- [pytest arguments]"
    parser.add_argument("ref_a", metavar="REF_A", help="the baseline: a branch, tag or commit")
    parser.add_argument("ref_b", metavar="REF_B", help="what is judged against it")
    parser.add_argument(
        "--confirm-path",
        metavar="FOLDER",
        action="append",
        default=[],
        help="where the project's packages are, relative to the repository's root; may be given "
        "several times (default: the root, and src)",
    )
    parser.add_argument(
        "--confirm-setup",
        metavar="COMMAND",
        help="a shell command that is run in both checkouts first",
    )
    parser.add_argument(
        "--confirm-time",
        metavar="SECONDS",
        type=float,
        default=TIME_LIMIT_S,
        help="begin no pair that would not end within this time, and judge those that are there "
        "(default: %(default)g)",
    )
    parser.add_argument(
        "--fail-fast",
        action="store_true",
        help="measure no more pairs once a phase is certainly slower (or undecided under --strict)",
    )
    parser.add_argument(
        "--skip-unchanged",
        action="store_true",
        help="pass at once where the commits differ only in files that the tests do not read, such "
        "as documentation",
    )
    add_output_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """Compare, print, and return the exit status of a gate."""
    from pytest_vlmlatency.gate.ab import compare_commits  # noqa: PLC0415 - imports scipy

    try:
        report = compare_commits(_request(given), say=warn, bar=_bar())
    except NotConfirmed as problem:
        warn(f"vlmlatency: not applied: {problem}")
        return int(GateStatus.NOT_APPLIED)
    except KeyboardInterrupt:
        warn("vlmlatency: interrupted; the checkouts are removed")
        return int(GateStatus.INTERRUPTED)
    return show_report(report, given)


def _request(given: argparse.Namespace) -> AbRequest:
    from pytest_vlmlatency.gate.ab import AbRequest  # noqa: PLC0415
    from pytest_vlmlatency.paired.checkouts import default_paths  # noqa: PLC0415 - as above
    from pytest_vlmlatency.paired.git import repository_of  # noqa: PLC0415

    if not given.confirm_time > 0:
        raise UsageProblem(
            f"--confirm-time {given.confirm_time:g}: expected a number of seconds above 0"
        )
    folder = Path.cwd()
    root = repository_of(folder)
    return AbRequest(
        root=root,
        folder=folder,
        refs=(given.ref_a, given.ref_b),
        args=tuple(given.behind),
        paths=tuple(given.confirm_path) or default_paths(root, folder),
        setup=given.confirm_setup,
        time_limit_s=given.confirm_time,
        is_strict=given.strict,
        is_fail_fast=given.fail_fast,
        is_skipping_unchanged=given.skip_unchanged,
    )


def _bar() -> StatusLine | None:
    """Return the line that shows how far it is, None where nobody watches."""
    from pytest_vlmlatency.report.progress import StatusLine, Stderr  # noqa: PLC0415 - light --help

    if not has_terminal(sys.stderr):
        return None
    return StatusLine(Stderr(), width=get_terminal_size().columns, uncaptured=nullcontext)
