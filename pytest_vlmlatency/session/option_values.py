"""Single values of the command line and the ini file, read from text.

Owns what one value may be; each reader raises ArgumentTypeError with what was expected. Loaded
whenever pytest starts, so it imports nothing heavy. Also what one row of a table of options is.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

IniType = Literal["int", "float", "bool", "string", "linelist"]


class Setting(NamedTuple):
    """One option: a switch where `metavar` is None, command line only where `ini_type` is None.

    One whose `ini_type` is "linelist" may be given several times.
    """

    name: str
    metavar: str | None
    read: Callable[[str], object] | None
    ini_type: IniType | None
    help: str


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


def ratio(text: str) -> float:
    """Read a change as a ratio between 0 and 1, where 0.03 is 3 %."""
    try:
        change_ratio = float(text)
    except ValueError:
        change_ratio = 0.0
    if not 0 < change_ratio < 1:
        raise argparse.ArgumentTypeError(
            f"expected a change as a ratio between 0 and 1, such as 0.03 for 3 %, not {text!r}"
        )
    return change_ratio


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
    if text.endswith(("/", os.sep)) or _is_folder(path):
        raise argparse.ArgumentTypeError(f"expected a file to write, but {text!r} is a folder")
    if not _is_folder(path.parent):
        raise argparse.ArgumentTypeError(
            f"expected a file in a folder that exists, but there is no folder {str(path.parent)!r}"
        )
    return path


def existing_file(text: str) -> Path:
    """Read the path of a file to read, which must be there now, not after measuring."""
    path = Path(text)
    if not _is_file(path):
        raise argparse.ArgumentTypeError(f"expected a file that exists, but there is no {text!r}")
    return path


def records_target(text: str) -> Path:
    """Read where training records go: a folder, which may be new, or a file by its ending."""
    path = Path(text)
    is_file_name = path.suffix in (".json", ".jsonl", ".parquet")
    if not text.strip() or (_is_folder(path) and is_file_name):
        raise argparse.ArgumentTypeError(f"expected a folder or a file to write, not {text!r}")
    if _is_file(path) and not is_file_name:
        raise argparse.ArgumentTypeError(
            f"expected a folder, or a file that ends in .json, .jsonl or .parquet, but {text!r} is "
            f"a file"
        )
    if not _is_folder(path.parent):
        raise argparse.ArgumentTypeError(
            f"expected a place in a folder that exists, but there is no folder {str(path.parent)!r}"
        )
    return path


def history(text: str) -> str:
    """Read where a history is: a folder, a URL, or `none`."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a folder, a URL or 'none', not an empty text")
    return text


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises for what no disk takes


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - as above
