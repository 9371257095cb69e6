"""The command line and the ini file: what can be said there, and what was said.

Owns how options are registered and looked up. The options are in `option_table`. What values mean
together is decided in `options`, and what `--gpu` finds in `settings`. This module is loaded
whenever pytest starts, so it imports only pytest, which is loaded already, and the table.

Precedence, strongest first: the call, the `vlm_latency` marker, the command line, the ini file,
the default (see `options`).
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.session.option_table import OUTPUTS, SETTINGS

if TYPE_CHECKING:
    from collections.abc import Sequence

GPU = "--gpu"
MARKER_LINE = (
    "vlm_latency(rounds, warmup_rounds, max_time_s, per_token, threads, setup, model, phases, "
    "config, target, alpha, min_effect, budget_ms, gate, why, until): how the vlm_latency fixture "
    "measures this test, and how --vlm-gate judges it; see the --vlm-* options."
)

GPU_HELP = (
    "Measure on the accelerator that torch finds (CUDA, XPU or MPS): as --vlm-device, without "
    "knowing its name. An error where there is none."
)


def add_options(parser: pytest.Parser) -> None:
    """Register every --vlm-* option, and the ini keys of those that a project may fix."""
    group = parser.getgroup("vlmlatency", "latency of vision-language models, phase by phase")
    for name, metavar, read, ini_type, text in SETTINGS:
        dest = dest_of(name)
        if metavar is None:
            group.addoption(name, dest=dest, action="store_const", const=True, help=text)
        elif ini_type == "linelist":
            group.addoption(name, dest=dest, metavar=metavar, action="append", help=text)
        else:
            group.addoption(name, dest=dest, metavar=metavar, type=read or str, help=text)
        if ini_type is not None:
            parser.addini(dest, f"As {name}, which overrides it.", type=ini_type, default=None)


def add_gpu_option(parser: pytest.Parser, args: Sequence[str]) -> None:
    """Register --gpu where it is free; to be called once conftests have registered theirs.

    Only when it is asked for, or help is: a conftest that is loaded later, with its tests, may
    define one too, and pytest would refuse that one.
    """
    if {GPU, "-h", "--help"} & set(args) and _is_free(parser, GPU):
        group = parser.getgroup("vlmlatency")
        group.addoption(GPU, dest="vlm_gpu", action="store_true", help=GPU_HELP)


def _is_free(parser: pytest.Parser, name: str) -> bool:
    """Whether nobody has an option of this name: the project's own would keep its meaning."""
    try:
        _known, unknown = parser.parse_known_and_unknown_args([name])
    except pytest.UsageError:  # somebody's, which wants a value
        return False
    return name in unknown


def setting(config: pytest.Config, name: str) -> object:
    """Return what the command line says of an option such as `--vlm-model`, else the ini file."""
    value: object = config.getoption(dest_of(name), None)
    return said_in_ini(config, name) if value is None else value


def said_in_ini(config: pytest.Config, name: str) -> object:
    """Return what the ini file says of an option; a value that means nothing is a UsageError."""
    option = next(option for option in SETTINGS if option.name == name)
    read, ini_type = option.read, option.ini_type
    if ini_type is None:
        return None
    key = dest_of(name)
    try:
        value: object = config.getini(key)
        return value if value is None or read is None else read(str(value))
    except (argparse.ArgumentTypeError, TypeError, ValueError) as problem:
        raise pytest.UsageError(f"{config.inipath}: {key}: {problem}") from problem


def check_ini(config: pytest.Config) -> None:
    """Raise UsageError for the first ini key of ours whose value means nothing."""
    for option in SETTINGS:
        said_in_ini(config, option.name)


def check_outputs(config: pytest.Config) -> None:
    """Raise UsageError where a gate's report is to be written, and there is no gate."""
    for option in OUTPUTS:
        is_asked = config.getoption(dest_of(option.name), None) is not None
        if is_asked and not config.getoption("vlm_gate", None):
            raise pytest.UsageError(f"{option.name} writes a gate's report: it needs --vlm-gate")


def dest_of(name: str) -> str:
    """Return the name under which pytest keeps the value of an option."""
    return name.removeprefix("--").replace("-", "_")
