"""The samples of a data set: JSON Lines, a folder of images, or a folder of `datasets`.

Owns what is one sample and what it is called. Pictures are opened one sample at a time; that their
files are there is looked at first.

Pictures on disk: where they are looked for, and how one is opened.

Owns what is refused on the way. What is asked about a picture is `dataset`'s.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from PIL import Image

from pytest_vlmlatency.errors import InvalidMeasurement, UsageProblem
from pytest_vlmlatency.export.files import shown_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


LINE = 'expected {"image": "path", "prompt": "text"}'
OF_DATASETS = ("dataset_dict.json", "dataset_info.json")
KEYS = frozenset({"image", "prompt", "id", "max_new_tokens"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One question about its pictures. `open_images` reads them, and refuses what is none."""

    id: str
    prompt: str
    open_images: Callable[[], list[Image.Image]]
    n_new_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Samples under the name that their records are filed by."""

    name: str
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Where a folder of `datasets` has what is needed."""

    image: str = "image"
    prompt: str = "prompt"
    split: str | None = None


def open_dataset(
    path: Path,
    *,
    name: str | None = None,
    prompt: str | None = None,
    columns: Columns | None = None,
    limit: int | None = None,
) -> Dataset:
    """Return the samples of a data set; UsageProblem with what was expected if it is none."""
    if not is_folder(path, where="--dataset", expected="file or folder"):
        if prompt is not None:
            raise UsageProblem("--prompt is for a folder of images; a file has a prompt each line")
        samples = _of_lines(path)
    elif any(os.path.isfile(path / file) for file in OF_DATASETS):  # noqa: PTH113 - never raises
        samples = _of_datasets(path, columns or Columns())
    else:
        samples = _of_images(path, prompt)
    _check_distinct(path, samples)
    if not samples:
        raise UsageProblem(f"--dataset {path} has no sample in it")
    return Dataset(name=name or path.resolve().stem, samples=tuple(samples[:limit]))


def _of_lines(path: Path) -> list[Sample]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageProblem(f"--dataset {path} cannot be read: {problem}; {LINE} a line") from None
    return [
        _of_line(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()
    ]


def _of_line(path: Path, number: int, line: str) -> Sample:
    where = f"--dataset {path}, line {number}"
    try:
        said = json.loads(line)
    except (ValueError, RecursionError) as problem:
        raise UsageProblem(f"{where} is no JSON: {problem}; {LINE}") from None
    if not isinstance(said, dict) or not isinstance(said.get("prompt"), str):
        raise UsageProblem(f"{where} has no prompt; {LINE}")
    unknown = sorted(set(said) - KEYS)
    if unknown:
        raise UsageProblem(f"{where} has {', '.join(unknown)}; expected {', '.join(sorted(KEYS))}")
    images = _files(where, path.parent, said.get("image"))
    n_new_tokens = said.get("max_new_tokens")
    is_count = isinstance(n_new_tokens, int) and not isinstance(n_new_tokens, bool)
    if n_new_tokens is not None and not (is_count and n_new_tokens > 0):
        raise UsageProblem(f"{where}: max_new_tokens is {n_new_tokens!r}; expected 1 or more")
    own = said.get("id")
    return Sample(
        id=_id(number - 1, line) if own is None else str(own),
        prompt=said["prompt"],
        open_images=lambda: [opened(file) for file in images],
        n_new_tokens=n_new_tokens,
    )


def _files(where: str, folder: Path, said: object) -> list[Path]:
    """Return the paths of a line's images, beside the file; they have to be there."""
    named = [said] if isinstance(said, str) else said
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        raise UsageProblem(f"{where}: image is {said!r}; expected a path, or a list of paths")
    files = [folder / one for one in named]
    for file in files:
        if is_folder(file, where=where, expected="image"):
            raise UsageProblem(f"{where}: the image {file} is a folder; expected a file")
    return files


def _of_images(path: Path, prompt: str | None) -> list[Sample]:
    files = sorted(images_below(path))
    if not files:
        raise UsageProblem(
            f"--dataset {path} is a folder without images ({', '.join(SUFFIXES)}) and not what "
            f"save_to_disk of `datasets` writes"
        )
    if prompt is None:
        raise UsageProblem(
            f"--dataset {path} is a folder of images; say what to ask: --prompt TEXT"
        )
    return [
        Sample(
            id=f"{file.relative_to(path).as_posix()}-{_digest(prompt)}",
            prompt=prompt,
            open_images=_opener(file),
        )
        for file in files
    ]


def _opener(file: Path) -> Callable[[], list[Image.Image]]:
    return lambda: [opened(file)]


def _of_datasets(path: Path, columns: Columns) -> list[Sample]:
    if find_spec("datasets") is None:
        raise UsageProblem(
            f"--dataset {path} is a folder of Hugging Face datasets, and the package `datasets` is "
            f"not installed: pip install datasets, or write JSON Lines: {LINE}"
        )
    from datasets import DatasetDict, load_from_disk  # noqa: PLC0415 - only where it is installed

    try:
        loaded = load_from_disk(str(path))
    except (OSError, ValueError) as problem:
        raise UsageProblem(
            f"--dataset {path} is no folder that save_to_disk of `datasets` wrote: {problem}"
        ) from problem
    if isinstance(loaded, DatasetDict):
        splits = ", ".join(loaded)
        if columns.split not in loaded:
            raise UsageProblem(f"--split is {columns.split!r}; this data set has {splits}")
        loaded = loaded[columns.split]
    elif columns.split is not None:
        raise UsageProblem(f"--split {columns.split}: this data set has no splits")
    for option, column in (("--image-column", columns.image), ("--prompt-column", columns.prompt)):
        if column not in loaded.column_names:
            raise UsageProblem(
                f"{option} {column}: the columns are {', '.join(loaded.column_names)}"
            )
    prompts = list(loaded[columns.prompt])
    return [
        Sample(
            id=_id(index, str(prompt)),
            prompt=str(prompt),
            open_images=_row_opener(loaded, index, columns.image),
        )
        for index, prompt in enumerate(prompts)
    ]


def _row_opener(
    loaded: Sequence[Mapping[str, object]], index: int, column: str
) -> Callable[[], list[Image.Image]]:
    def open_images() -> list[Image.Image]:
        value = loaded[index][column]
        values = value if isinstance(value, list) else [value]
        images = [one.convert("RGB") for one in values if isinstance(one, Image.Image)]
        if len(images) != len(values):
            kinds = ", ".join(sorted({type(one).__name__ for one in values}))
            raise InvalidMeasurement(f"row {index}: {column} holds {kinds}; expected pictures")
        return images

    return open_images


def _check_distinct(path: Path, samples: Sequence[Sample]) -> None:
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise UsageProblem(f"--dataset {path} has two samples of the id {sample.id!r}")
        seen.add(sample.id)


def _id(index: int, content: str) -> str:
    """Return a sample's name: where it stands, and a digest, so that an edited one is another."""
    return f"{index}-{_digest(content)}"


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:8]


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
