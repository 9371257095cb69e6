"""A gate's report as a command prints it. Imports nothing heavy until there is one."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from pytest_vlmlatency.commands import file_to_write
from pytest_vlmlatency.printing import has_terminal, tell, tell_ready, warn

if TYPE_CHECKING:
    import argparse

    from pytest_vlmlatency.records import GateReport


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what a command offers that ends as a gate does."""
    parser.add_argument("--strict", action="store_true", help="undecided phases fail, too")
    parser.add_argument("--all", action="store_true", help="show every phase of every case")
    parser.add_argument(
        "--markdown", metavar="FILE", type=file_to_write, help="write the report there, too"
    )
    parser.add_argument(
        "--verdict", metavar="FILE", type=file_to_write, help="and as JSON, for programs"
    )


def show_report(report: GateReport, given: argparse.Namespace) -> int:
    """Print a report, write it where that was asked for, and return the exit status.

    A file that cannot be written is said, and fails a report that passed with status 1.
    """
    from pytest_vlmlatency.report.gate_markdown import gate_markdown  # noqa: PLC0415
    from pytest_vlmlatency.report.gate_terminal import coloured, gate_lines  # noqa: PLC0415
    from pytest_vlmlatency.report.gate_verdict import verdict_json  # noqa: PLC0415
    from pytest_vlmlatency.report.gate_words import title_of  # noqa: PLC0415
    from pytest_vlmlatency.whole_files import write_whole  # noqa: PLC0415 - light --help

    is_terminal = has_terminal(sys.stdout)
    width = shutil.get_terminal_size().columns if is_terminal else None
    lines = gate_lines(report, width=width, is_verbose=given.all)
    is_written = True
    for path, text_of in ((given.markdown, gate_markdown), (given.verdict, verdict_json)):
        try:
            if path is not None:
                write_whole(path, text_of(report))
        except OSError as problem:
            warn(f"vlmlatency: {problem}")
            is_written = False
    tell(title_of(report))
    tell_ready(coloured(lines, has_colours=is_terminal))
    return int(report.status) or int(not is_written)
