"""What the commands of a command line have in common: how each is declared, how it may end.

Owns no command. A command is a module that imports nothing heavy until it runs: `--help` is quick.
"""

from __future__ import annotations

import argparse
import gc
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol

from pytest_vlmlatency.errors import VlmLatencyError
from pytest_vlmlatency.printing import (
    NotPrinted,
    discard_printed,
    flush_printed,
    print_any_character,
    printable_lines,
    tell_ready,
    warn,
    without_secrets,
)
from pytest_vlmlatency.signals import ending_signals_raise, interruption, status_of
from pytest_vlmlatency.versions import installed_versions, untested_lines

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

CLOSED_STATUS = 141
"""As a shell reports a program that SIGPIPE ended."""

Run = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """A parser whose errors quote a command line, such as one that CI made of a branch's name."""

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Print the help; argparse itself passes over help that is lost."""
        if file is None:
            tell_ready(self.format_help().removesuffix("\n"))
        else:
            super().print_help(file)

    def error(self, message: str) -> NoReturn:
        """End with status 2, the message made fit to be printed."""
        super().error("\n".join(printable_lines(without_secrets(message))))


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
        warn(line)


def ended(prog: str, run: Run, given: argparse.Namespace) -> int:
    """Run a command; return its status, or print its problem and return the problem's status.

    Ctrl-C, SIGTERM and SIGHUP end it with 128 and the signal's number, as a shell reports them. A
    file or a connection that fails where nobody expected it is named in a line, too.
    """
    try:
        with ending_signals_raise():
            return run(given)
    except KeyboardInterrupt as end:
        warn(f"{prog}: interrupted by {interruption(end)}")
        return status_of(end)
    except VlmLatencyError as problem:
        notes = getattr(problem, "__notes__", ())  # absent until the first one is added
        warn(f"{prog}: {type(problem).__name__}: {problem}", *notes)
        return problem.exit_status
    except OSError as problem:
        where = "" if problem.filename is None else f"{problem.filename}: "
        warn(f"{prog}: {where}{problem.strerror or problem}")
        return VlmLatencyError.exit_status


def until_closed(main: Callable[[], int]) -> int:
    """Run a command line; end quietly once whoever reads its output has closed it (`| head -1`).

    Output that gets lost otherwise, as on a full disk, is named and fails the command.
    """
    print_any_character()
    try:
        try:
            return main()
        finally:  # argparse leaves by SystemExit
            flush_printed()
    except NotPrinted as problem:
        discard_printed(problem.stream)
        if problem.is_closed:
            return CLOSED_STATUS
        with suppress(NotPrinted):
            warn(str(problem))
        return VlmLatencyError.exit_status


@contextmanager
def without_collecting() -> Iterator[None]:
    """Look for no cyclic garbage meanwhile: with thousands of records, that is half of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def file_to_write(text: str) -> Path:
    """Read the path of a file to write; one that ends as a folder does is none."""
    if text.endswith(("/", os.sep)) or os.path.isdir(text):  # noqa: PTH112 - never raises
        raise argparse.ArgumentTypeError(f"expected a file to write, but {text!r} is a folder")
    return Path(text)
