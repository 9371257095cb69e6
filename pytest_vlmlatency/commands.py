"""What the commands of a command line have in common: how each is declared, how it may end.

Owns no command. A command is a module that imports nothing heavy until it runs: `--help` is quick.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import Protocol

from pytest_vlmlatency.errors import UsageProblem, VlmLatencyError
from pytest_vlmlatency.versions import installed_versions, untested_lines

USAGE_STATUS = 2
"""As argparse ends where it does not understand the command line."""
REFUSED_STATUS = 1

Run = Callable[[argparse.Namespace], int]


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


def add_commands(parser: argparse.ArgumentParser, commands: Iterable[Command], *, key: str) -> None:
    """Declare the commands; the chosen one's `run` is found under the key in what was given."""
    choices = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in commands:
        described = choices.add_parser(
            command.NAME,
            help=command.SUMMARY,
            description=command.DESCRIPTION,
            epilog=command.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(described)
        described.set_defaults(**{key: command.run})


def warn_of_versions() -> None:
    """Write to stderr where torch or transformers are none that this release was tested with."""
    for line in untested_lines(installed_versions()):
        sys.stderr.write(f"{line}\n")


def ended(prog: str, run: Run, given: argparse.Namespace) -> int:
    """Run a command; return its status, or tell its problem and return 1, 2 for a wrong use."""
    try:
        return run(given)
    except VlmLatencyError as problem:
        notes = getattr(problem, "__notes__", ())  # absent until the first one is added
        lines = (f"{prog}: {type(problem).__name__}: {problem}", *notes)
        sys.stderr.write("\n".join(lines) + "\n")
        return USAGE_STATUS if isinstance(problem, UsageProblem) else REFUSED_STATUS
