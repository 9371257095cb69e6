"""Which of pytest's arguments a launch is given again: those that say how to measure.

What selects tests, distributes them, stops early or writes files is left out: a launch is told
which tests to run, runs them in one process, and writes nowhere but where it is told. Options of
the project's own and of plugins that are not listed here are kept.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import pytest

SELECTION = (
    *("-k", "-m", "--deselect", "--ignore", "--ignore-glob", "--pyargs", "--keep-duplicates"),
    *("--last-failed", "--failed-first", "--new-first", "--last-failed-no-failures", "--stepwise"),
    *("--stepwise-skip", "--stepwise-reset", "--cache-show", "--cache-clear", "--collect-only"),
    *("--doctest-modules", "--doctest-glob", "--setup-only", "--setup-show", "--setup-plan"),
    *(
        "--exitfirst",
        "--maxfail",
        "--continue-on-collection-errors",
        "--reruns",
        "--basetemp",
        "--max-warnings",
        "--picked",
    ),
)
DISTRIBUTION = (
    *("-n", "--numprocesses", "--maxprocesses", "--max-worker-restart", "--dist", "--tx", "--px"),
    *("-d", "--rsyncdir", "--rsyncignore", "--testrunuid", "--maxschedchunk", "--looponfail"),
    *("--no-loadscope-reorder", "--loadscope-reorder", "--workers"),
)
SHOWING = (
    *("--verbose", "--quiet", "--verbosity", "-r", "--tb", "--show-capture", "--full-trace"),
    *("--color", "--code-highlight", "--durations", "--durations-min", "--no-header", "--pdb"),
    *("--no-summary", "--showlocals", "--no-showlocals", "--trace", "--pdbcls", "--pastebin"),
    *("--xfail-tb", "--no-fold-skipped", "--force-short-summary", "--capture", "-s", "--debug"),
    *("--version", "--help", "--markers", "--fixtures", "--fixtures-per-test", "--trace-config"),
)
WRITING = (
    *("--junit-xml", "--junit-prefix", "--html", "--report-log", "--json-report-file"),
    *("--store-durations", "--clean-durations"),
)
OF_A_LAUNCH = ("--rootdir", "--config-file", "--confcutdir")
MEASURING = (
    *("--vlm-per-token", "--vlm-threads", "--vlm-device", "--vlm-model", "--vlm-dtype"),
    *("--vlm-attn", "--vlm-compile", "--vlm-trust-remote-code"),
)
"""Of this package's own options, those that a launch is given; it has rounds of its own."""

MODEL = "--vlm-model"

LEFT_OUT = frozenset((*SELECTION, *DISTRIBUTION, *SHOWING, *WRITING, *OF_A_LAUNCH))
LEFT_OUT_PREFIXES = (
    *("--cov", "--no-cov", "--testmon", "--tmnet"),  # what traces each line is no part of a time
    *("--benchmark-", "--log-file", "--json-report", "--allure"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """How pytest was called: the options that are given again, and where.

    `folder`, `rootdir` and `inifile` are absolute; those inside the repository are looked for at
    the same place in each checkout.
    """

    options: tuple[str, ...]
    folder: Path
    rootdir: Path
    inifile: Path | None


def invocation_of(config: pytest.Config) -> Invocation:
    """Return how this pytest was called, PYTEST_ADDOPTS and the ini file's addopts included.

    The ini file's model is named as an option: a folder is looked for before it is launched.
    """
    model = config.getini("vlm_model")
    said = (
        *([MODEL, model] if model else []),
        *config.getini("addopts"),
        *shlex.split(os.environ.get("PYTEST_ADDOPTS", "")),
        *config.invocation_params.args,
    )
    return Invocation(
        options=kept_options([str(token) for token in said], known_options(config)),
        folder=config.invocation_params.dir,
        rootdir=config.rootpath,
        inifile=config.inipath,
    )


def cached_in(folder: Path, options: Sequence[str]) -> tuple[str, ...]:
    """Return where pytest's cache of a launch goes; without its plugin it knows no such setting."""
    is_off = "no:cacheprovider" in {token.removeprefix("-p") for token in options}
    return () if is_off else ("-o", f"cache_dir={folder / 'cache'}")


def with_model_found(options: Sequence[str], checkout: Path, folder: Path) -> tuple[str, ...]:
    """Return the options with a model's folder that a checkout lacks named where the user has it.

    `checkout` and `folder` are where pytest is called, there and in the user's working tree. A
    folder that both have is each side's own: a commit may change it. Hub ids stay as they are.
    """
    found = list(options)
    for index, token in enumerate(options):
        name, equals, value = token.partition("=")
        if name != MODEL:
            continue
        value = value if equals else options[index + 1]
        if not (checkout / value).exists() and (folder / value).is_dir():
            found[index if equals else index + 1] = f"{MODEL}={folder / value}"
            if not equals:
                found[index] = ""
    return tuple(token for token in found if token)


def known_options(config: pytest.Config) -> Mapping[str, argparse.Action]:
    """Return every option that this pytest understands, by each of its names."""
    parser = config._parser
    own = getattr(parser, "optparser", None)
    own = parser._getparser() if own is None else own  # type: ignore[attr-defined]  # pytest 8
    return dict(own._option_string_actions)


def kept_options(tokens: Sequence[str], known: Mapping[str, argparse.Action]) -> tuple[str, ...]:
    """Return the tokens of a command line that a launch is given again."""
    kept = []
    for name, written in _options(tokens, known):
        action = known.get(name)
        names = {name} if action is None else {name, *action.option_strings}
        if not any(_is_left_out(alias) for alias in names):
            kept += written
    return tuple(kept)


def _is_left_out(name: str) -> bool:
    if name.startswith("--vlm-"):
        return name not in MEASURING
    return name in LEFT_OUT or name.startswith(LEFT_OUT_PREFIXES)


def _options(
    tokens: Sequence[str], known: Mapping[str, argparse.Action]
) -> Iterator[tuple[str, list[str]]]:
    """Yield each option's name and its tokens; positional arguments are passed over."""
    rest = list(tokens)
    while rest:
        token = rest.pop(0)
        if token == "--":
            return
        if not token.startswith("-") or token == "-":
            continue
        name, is_complete = _name_of(token, known)
        written = [token]
        if not is_complete:
            written += _values(rest, known.get(name))
        yield name, written


def _name_of(token: str, known: Mapping[str, argparse.Action]) -> tuple[str, bool]:
    """Return the name of an option, and whether its value is in the same token."""
    if token.startswith("--"):
        name, equals, _value = token.partition("=")
        return name, bool(equals)
    name, attached = token[:2], token[2:]
    if token in known:
        return token, False
    return name, bool(attached)


def _values(rest: list[str], action: argparse.Action | None) -> list[str]:
    """Take the values of an option off the rest of the command line."""
    if action is None or action.nargs == 0:
        return []
    if action.nargs in ("*", "+"):
        n_values = next((i for i, token in enumerate(rest) if token.startswith("-")), len(rest))
    elif action.nargs == "?":
        n_values = int(bool(rest) and not rest[0].startswith("-"))
    else:
        n_values = action.nargs if isinstance(action.nargs, int) else 1
    values, rest[:] = rest[:n_values], rest[n_values:]
    return values
