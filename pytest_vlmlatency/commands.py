"""What the commands of a command line have in common: how each is declared, how it may end.

Owns no command. A command is a module that imports nothing heavy until it runs: `--help` is quick.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn, Protocol, TextIO

from pytest_vlmlatency.errors import VlmLatencyError
from pytest_vlmlatency.printing import printable_lines, warn, without_secrets
from pytest_vlmlatency.signals import ending_signals_raise, interruption, status_of
from pytest_vlmlatency.versions import installed_versions, untested_lines

CLOSED_STATUS = 141
"""As a shell reports a program that SIGPIPE ended."""

Run = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """A parser whose errors quote a command line, such as one that CI made of a branch's name."""

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

    Ctrl-C, SIGTERM and SIGHUP end it with 128 and the signal's number, as a shell reports them.
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


def until_closed(main: Callable[[], int]) -> int:
    """Run a command line; end quietly once whoever reads its output has closed it (`| head -1`)."""
    try:
        try:
            return main()
        finally:  # argparse leaves by SystemExit
            sys.stdout.flush()
    except BrokenPipeError:
        closed = [stream for stream in (sys.stdout, sys.stderr) if _is_closed(stream)]
        if not closed:  # another pipe, such as one to a child process
            raise
        for stream in closed:
            _discard(stream)
        return CLOSED_STATUS


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


def _is_closed(stream: TextIO) -> bool:
    """Whether nobody reads a stream any more: what could not be written is still on its way."""
    try:
        stream.flush()
    except BrokenPipeError:
        return True
    return False


def _discard(stream: TextIO) -> None:
    """Let what is left for a closed stream go nowhere: Python writes it out when it ends."""
    with suppress(OSError, ValueError):  # a stream of a test's has no descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
