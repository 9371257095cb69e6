"""docs/reference.md: options, marker keys, commands and exit statuses, generated from the code.

python -m benchmarks.evidence._reference

No evidence: a test compares the page with what this generates.
"""

from __future__ import annotations

import argparse
import sys
from textwrap import dedent
from typing import TYPE_CHECKING

from benchmarks.evidence._record import ROOT
from pytest_vlmlatency import cli
from pytest_vlmlatency.estimator import command as estimator
from pytest_vlmlatency.records import GateStatus
from pytest_vlmlatency.session.command_line import GPU, GPU_HELP, dest_of
from pytest_vlmlatency.session.option_table import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_vlmlatency.commands import Command

PAGE = ROOT / "docs" / "reference.md"
HEAD = """\
# Commands and options

Generated from the code by `python -m benchmarks.evidence._reference`. [Settings](settings.md) has
the keys of the marker, [A gate in CI](ci.md#commands) shows the commands in use.
"""
STATUSES = {
    GateStatus.SLOWER: "a phase is slower, or a median exceeds its budget",
    GateStatus.UNDECIDED: "no phase is slower and one is undecided, under `--vlm-strict`",
    GateStatus.NOT_APPLIED: "the gate could not be applied",
    GateStatus.INTERRUPTED: "interrupted; the pairs measured until then show nothing slower",
}


def main() -> int:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    return 0


def page() -> str:
    """Return the page."""
    return "\n".join([HEAD, _statuses(), "", _options(), "", *_commands(cli.COMMANDS, cli.PROG)])


def _statuses() -> str:
    rows = [(str(status.value), STATUSES[status]) for status in GateStatus if status.value]
    return "## Exit statuses of a gate\n\n" + _table(("status", "meaning"), rows)


def _options() -> str:
    rows = [
        (_code(option.name, option.metavar), _ini(option.name, option.ini_type), option.help % ())
        for option in SETTINGS
    ]
    rows.append((_code(GPU), "", GPU_HELP))
    return "## Options of pytest\n\n" + _table(("option", "ini key", "effect"), rows)


def _ini(name: str, ini_type: object) -> str:
    return _code(dest_of(name)) if ini_type is not None else ""


def _commands(commands: Iterable[Command], prog: str) -> list[str]:
    """Return a section for each command; those of `estimator` are sections of their own."""
    lines: list[str] = []
    for command in commands:
        name = f"{prog} {command.NAME}"
        lines += [f"## `{name}`", "", "```text", command.DESCRIPTION.rstrip(), "```", ""]
        if command is estimator:
            lines += [*_commands(estimator.COMMANDS, name)]
            continue
        parser = argparse.ArgumentParser(add_help=False)
        command.add_arguments(parser)
        rows = [
            (_argument(action), (action.help or "") % {"default": action.default})
            for action in parser._actions
        ]
        lines += [_table(("argument", "meaning"), rows), "", "```text"]
        lines += [dedent(command.EXAMPLES.split("\n", 1)[1]).rstrip(), "```", ""]
    return lines


def _argument(action: argparse.Action) -> str:
    names = ", ".join(action.option_strings)
    metavar = action.metavar or ("" if action.nargs == 0 else action.dest.upper())
    if action.choices is not None:
        metavar = "{" + ",".join(map(str, action.choices)) + "}"
    shown = " ".join(metavar) if isinstance(metavar, tuple) else metavar
    return _code(names, shown) if names else _code(shown)


def _code(name: str, metavar: str | None = None) -> str:
    return f"`{name} {metavar}`" if metavar else f"`{name}`"


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    lines = [headers, ["---"] * len(headers), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
