"""The command line and the ini file: what can be said there, and what was said.

Owns the names, the help and the reading of single values. What values mean together is decided in
`options`, and what `--gpu` finds in `placement`. This module is loaded whenever pytest starts, so
it imports nothing but pytest, which is there already.

Precedence, strongest first: the call, the `vlm_latency` marker, the command line, the ini file,
the default (see `options`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GPU = "--gpu"
MARKER_LINE = (
    "vlm_latency(rounds, warmup_rounds, max_time_s, per_token, threads, setup, model, phases, "
    "config): how the vlm_latency fixture measures this test; see the --vlm-* options."
)


def at_least(least: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from `least` on."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(
                f"expected a whole number of at least {least}, not {text!r}"
            )
        return number

    return read


def seconds(text: str) -> float:
    """Read a time limit: a number of seconds above 0."""
    try:
        limit_s = float(text)
    except ValueError:
        limit_s = 0.0
    if not 0 < limit_s < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, not {text!r}")
    return limit_s


def device(text: str) -> str:
    """Read a device: a kind that torch names, and perhaps an index."""
    kind, colon, index = text.partition(":")
    if not kind.isalpha() or (colon and not index.isdecimal()):
        raise argparse.ArgumentTypeError(
            f"expected a device such as cpu, cuda, cuda:1, xpu or mps, not {text!r}"
        )
    return text


def dtype(text: str) -> str:
    """Read a dtype, or `auto` for the one that the model was saved in."""
    from pytest_vlmlatency.options import DTYPES  # noqa: PLC0415 - only when a dtype is given

    if text not in DTYPES:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(DTYPES)}, not {text!r}")
    return text


def new_file(text: str) -> Path:
    """Read the path of a file to write, whose folder must be there now, not after measuring."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"expected a file to write, but {text!r} is a folder")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(
            f"expected a file in a folder that exists, but there is no folder {str(path.parent)!r}"
        )
    return path


IniType = Literal["int", "float", "bool", "string"]

# option, metavar (None: a switch), reader, type of the ini key (None: command line only), help
_SETTINGS: Sequence[tuple[str, str | None, Callable[[str], object] | None, IniType | None, str]] = (
    (
        "--vlm-rounds",
        "N",
        at_least(1),
        "int",
        "Keep exactly N rounds of each case. Default: repeat until the noise is low or has "
        "stopped falling, or the time limit is reached.",
    ),
    (
        "--vlm-warmup-rounds",
        "N",
        at_least(0),
        "int",
        "Run each case N times before it is measured, at its full shape. Default: 2.",
    ),
    (
        "--vlm-max-time",
        "SECONDS",
        seconds,
        "float",
        "Begin no further round of a case after this time, unless --vlm-rounds asks for more. "
        "Default: 20.",
    ),
    (
        "--vlm-per-token",
        None,
        None,
        "bool",
        "Time every decode step too: a mode for finding a slow step. It costs a little itself, so "
        "its cases are marked.",
    ),
    (
        "--vlm-threads",
        "N",
        at_least(0),
        "int",
        "CPU threads while a model on the CPU is measured, pinned to as many cores. 0 leaves "
        "threads and cores as they are. Default: 1, which has the least noise.",
    ),
    (
        "--vlm-device",
        "DEVICE",
        device,
        "string",
        "Measure on this device: cpu, cuda, cuda:1, xpu, mps. --vlm-model is placed there; a model "
        "of your own that lives elsewhere is an error. Default: --vlm-model on the CPU, your own "
        "model wherever it is.",
    ),
    (
        "--vlm-model",
        "MODEL",
        None,
        "string",
        "What the vlm_model fixture loads: a hub id, a folder written by save_pretrained(), or "
        "dummy:NAME, a real shape with random weights.",
    ),
    (
        "--vlm-dtype",
        "DTYPE",
        dtype,
        "string",
        "The dtype of --vlm-model: auto (as it was saved), float32, float16 or bfloat16. "
        "Default: auto.",
    ),
    (
        "--vlm-attn",
        "NAME",
        None,
        "string",
        "The attention implementation of --vlm-model, as transformers names them: eager, sdpa, "
        "flash_attention_2 and others. Default: the model's own choice.",
    ),
    (
        "--vlm-compile",
        None,
        None,
        "bool",
        "Compile each decoder block of --vlm-model with torch.compile().",
    ),
    (
        "--vlm-trust-remote-code",
        None,
        None,
        None,
        "Let --vlm-model run code that comes with it. Command line only: it is your machine.",
    ),
    (
        "--vlm-json",
        "FILE",
        new_file,
        None,
        "Write the whole run to FILE: every call with its phases, the machine, the commit.",
    ),
)

_GPU_HELP = (
    "Measure on the accelerator that torch finds (CUDA, XPU or MPS): as --vlm-device, without "
    "knowing its name. An error where there is none."
)


def add_options(parser: pytest.Parser) -> None:
    """Register every --vlm-* option, and the ini keys of those that a project may fix."""
    group = parser.getgroup("vlmlatency", "latency of vision-language models, phase by phase")
    for name, metavar, read, ini_type, text in _SETTINGS:
        dest = dest_of(name)
        if metavar is None:
            group.addoption(name, dest=dest, action="store_const", const=True, help=text)
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
        group.addoption(GPU, dest="vlm_gpu", action="store_true", help=_GPU_HELP)


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
    read, ini_type = next((row[2], row[3]) for row in _SETTINGS if row[0] == name)
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
    for name, *_rest in _SETTINGS:
        said_in_ini(config, name)


def dest_of(name: str) -> str:
    """Return the name under which pytest keeps the value of an option."""
    return name.removeprefix("--").replace("-", "_")
