"""`vlmlatency`: what is done outside a test run. Owns the choice of a command, and nothing else.

Each command is a module with NAME, SUMMARY, DESCRIPTION, EXAMPLES, `add_arguments(parser)` and
`run(arguments)`, and imports nothing heavy until it runs: `--help` is quick.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Protocol

import pytest_vlmlatency
from pytest_vlmlatency import export_command as export
from pytest_vlmlatency.errors import UsageProblem, VlmLatencyError
from pytest_vlmlatency.estimator import command as estimator
from pytest_vlmlatency.history.commands import (
    compacting,
    exporting,
    importing,
    listing,
    merging,
)
from pytest_vlmlatency.inspection import command as inspect
from pytest_vlmlatency.judging import ab_command as ab
from pytest_vlmlatency.judging import accept_command as accept
from pytest_vlmlatency.judging import compare_command as compare
from pytest_vlmlatency.judging import trend_command as trend
from pytest_vlmlatency.profiling import command as profile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DESCRIPTION = """\
pytest-vlmlatency outside a test run. Measuring is done in tests, by the
vlm_latency fixture: see pytest --help.
"""
USAGE_STATUS = 2
"""As argparse ends where it does not understand the command line."""


class Command(Protocol):
    """What a command's module offers."""

    NAME: str
    SUMMARY: str
    DESCRIPTION: str
    EXAMPLES: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's options."""

    def run(self, given: argparse.Namespace) -> int:
        """Do it, and return the exit status."""


COMMANDS: tuple[Command, ...] = (
    inspect,
    compare,
    accept,
    trend,
    listing,
    compacting,
    merging,
    importing,
    exporting,
    ab,
    profile,
    export,
    estimator,
)
HAVE_ARGUMENTS_BEHIND = (ab.NAME,)
"""Commands that hand what is behind -- to another program, as `given.behind`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0, 1 where it was refused, 2 where it was asked in a wrong way."""
    words = list(sys.argv[1:] if argv is None else argv)
    own, behind = _parted(words)
    given = _parser().parse_args(own)
    given.behind = behind
    run: Callable[[argparse.Namespace], int] = given.run
    try:
        return run(given)
    except VlmLatencyError as problem:
        notes = getattr(problem, "__notes__", ())  # absent until the first one is added
        lines = (f"vlmlatency: {type(problem).__name__}: {problem}", *notes)
        sys.stderr.write("\n".join(lines) + "\n")
        return USAGE_STATUS if isinstance(problem, UsageProblem) else 1


def _parted(words: list[str]) -> tuple[list[str], list[str]]:
    """Part a command line at --, where its command hands on what is behind."""
    if words[:1] and words[0] in HAVE_ARGUMENTS_BEHIND and "--" in words:
        at = words.index("--")
        return words[:at], words[at + 1 :]
    return words, []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vlmlatency",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = f"pytest-vlmlatency {pytest_vlmlatency.__version__}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        described = commands.add_parser(
            command.NAME,
            help=command.SUMMARY,
            description=command.DESCRIPTION,
            epilog=command.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(described)
        described.set_defaults(run=command.run)
    return parser
