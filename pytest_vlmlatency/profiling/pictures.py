"""Pictures on disk: where they are looked for, and how one is opened.

Owns what is refused on the way. What is asked about a picture is `dataset`'s.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from PIL import Image

from pytest_vlmlatency.errors import InvalidMeasurement, UsageProblem
from pytest_vlmlatency.export.files import shown_path

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
PICTURE_ERRORS = (Image.DecompressionBombError, EOFError, OSError, SyntaxError, ValueError)
"""What Pillow raises for pictures that are none, damaged, or too large to be meant."""


def is_folder(path: Path, *, where: str, expected: str) -> bool:
    """Whether what was named is a folder, and no file; UsageProblem if it is neither."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as problem:
        why = (problem.strerror if isinstance(problem, OSError) else None) or str(problem)
        raise UsageProblem(
            f"{where}: there is no {expected} {shown_path(path)}: {why}"
        ) from problem
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UsageProblem(f"{where}: {path} is neither a file nor a folder")
    return stat.S_ISDIR(mode)


def images_below(folder: Path) -> Iterator[Path]:
    """Yield what has an image's name below a folder, which has to be readable throughout."""
    for place, _folders, names in os.walk(folder, onerror=_refuse_folder):
        yield from (Path(place, name) for name in names if Path(name).suffix.lower() in SUFFIXES)


def opened(file: Path) -> Image.Image:
    """Return a picture in RGB; InvalidMeasurement if it is none, or damaged."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):  # a pipe would be waited for
            raise InvalidMeasurement(f"{file} is no picture that can be read: it is no file")
        with Image.open(file) as image:
            return image.convert("RGB")
    except PICTURE_ERRORS as problem:
        raise InvalidMeasurement(f"{file} is no picture that can be read: {problem}") from problem


def _refuse_folder(problem: OSError) -> NoReturn:
    raise UsageProblem(
        f"--dataset: the folder {problem.filename} cannot be read: {problem.strerror}"
    ) from problem
