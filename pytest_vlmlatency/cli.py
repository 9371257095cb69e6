"""`vlmlatency`: what is done outside a test run. Owns the list of its commands alone."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import pytest_vlmlatency
from pytest_vlmlatency import export_command as export
from pytest_vlmlatency.commands import Command, Parser, add_commands, ended, until_closed
from pytest_vlmlatency.estimator import command as estimator
from pytest_vlmlatency.gate import ab_command as ab
from pytest_vlmlatency.gate import accept_command as accept
from pytest_vlmlatency.gate import compare_command as compare
from pytest_vlmlatency.gate import trend_command as trend
from pytest_vlmlatency.history.commands import (
    compacting,
    exporting,
    importing,
    listing,
    merging,
)
from pytest_vlmlatency.inspection import command as inspect
from pytest_vlmlatency.profiling import command as profile

if TYPE_CHECKING:
    from collections.abc import Sequence

PROG = "vlmlatency"
DESCRIPTION = """\
pytest-vlmlatency outside a test run. Measuring is done in tests, by the
vlm_latency fixture: see pytest --help.
"""

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
    """Run one command; return 0, 1 where it was refused, 2 after a usage error."""
    return until_closed(lambda: _main(list(sys.argv[1:] if argv is None else argv)))


def _main(words: list[str]) -> int:
    own, behind = _parted(words)
    given = _parser().parse_args(own)
    given.behind = behind
    given.read_fingerprints = _fingerprints_here
    return ended(PROG, given.run, given)


def _fingerprints_here() -> frozenset[str]:
    """Return what this machine's runs may be marked with; imports torch, which knows its devices.

    Handed to the commands of the estimator, which do not know the engine.
    """
    from pytest_vlmlatency.machine.environment import fingerprints  # noqa: PLC0415 - torch, only if asked

    return fingerprints()


def _parted(words: list[str]) -> tuple[list[str], list[str]]:
    """Part a command line at --, where its command hands on what is behind."""
    if words[:1] and words[0] in HAVE_ARGUMENTS_BEHIND and "--" in words:
        at = words.index("--")
        return words[:at], words[at + 1 :]
    return words, []


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog=PROG,
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = f"pytest-vlmlatency {pytest_vlmlatency.__version__}"
    parser.add_argument("--version", action="version", version=version)
    add_commands(parser, COMMANDS, key="run")
    return parser
