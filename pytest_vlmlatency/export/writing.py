"""Writing records: the legacy layout, or one file of JSON, JSON Lines or Parquet.

A file is written whole or not at all, and piece by piece: the records may be a stream.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import RecordsProblem
from pytest_vlmlatency.export.checking import checked, digest_of_content
from pytest_vlmlatency.export.fields import CONFIGURATION, DIGEST, KNOBS, RESULTS, Refused, shown
from pytest_vlmlatency.export.files import SUFFIXES, mode_of, objects_in, shown_path
from pytest_vlmlatency.export.reading import digest_of
from pytest_vlmlatency.whole_files import NotWritten, locked, make_folder, put_in_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pytest_vlmlatency.export.fields import Record

NO_DATASET = "unnamed"
NO_CONFIGURATION = "default"
LONGEST_NAME = 100
UNSAFE = re.compile(r"[^A-Za-z0-9._=-]+")
SCRATCH = ".vlmlatency-"
N_WAITING = 200
"""Lines of a file that are held back: few, since hundreds of files may be on their way."""


def write_records(
    records: Iterable[Record], target: Path | str, *, is_kept: bool = True
) -> dict[Path, int]:
    """Write records to a file (.json, .jsonl, .parquet) or a folder; return the count by file.

    In a folder each data set and configuration has a file, `DIR/<dataset>/<configuration>.json`.
    What stands in files of these names is kept and added to: a record whose `source` is there
    already is not added again, nor one without a source that is the same call with the same
    times, and the counts are of what is new. Without `is_kept` such files are replaced. A record
    that could not be read back is a RecordsProblem, and then nothing is written.
    """
    return _write(records, Path(target), is_kept=is_kept, is_checked=False)


def write_checked(
    records: Iterable[Record], target: Path | str, *, is_kept: bool = True
) -> dict[Path, int]:
    """Write records of `records_of` or `read_records`, which checked them, without another check.

    They must be unchanged since; otherwise as `write_records`.
    """
    return _write(records, Path(target), is_kept=is_kept, is_checked=True)


def file_of(record: Mapping[str, object], *, suffix: str = ".json") -> Path:
    """Return `<dataset>/<configuration>.json` of a record, in letters that any disk takes."""
    dataset = record.get("dataset")
    configuration = record.get(CONFIGURATION)
    name = configuration_name(configuration if isinstance(configuration, dict) else {})
    return Path(_safe(str(dataset) if dataset else NO_DATASET)) / f"{_safe(name)}{suffix}"


def configuration_name(configuration: Mapping[str, object]) -> str:
    """Return a configuration in one word: `low-k4-b12`, then other knobs, `batch=2`."""
    tier, top_k, n_blocks = (configuration.get(name) for name in KNOBS)
    words = [str(tier)] if tier is not None else []
    words += [f"k{top_k}"] if top_k is not None else []
    words += [f"b{n_blocks}"] if n_blocks is not None else []
    words += [f"{key}={configuration[key]}" for key in sorted(configuration) if key not in KNOBS]
    return "-".join(words) or NO_CONFIGURATION


def _safe(word: str) -> str:
    """Return a word as a file's name: what had to be changed has a digest, so none are confused."""
    safe = UNSAFE.sub("-", word).strip("-.")[:LONGEST_NAME]
    if safe == word:
        return safe
    return f"{safe}-{hashlib.sha256(word.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _write(
    records: Iterable[Record], target: Path, *, is_kept: bool, is_checked: bool
) -> dict[Path, int]:
    """Collect all records in drafts beside their target, then put the files in their places."""
    mode = mode_of(target)
    is_file = target.suffix in SUFFIXES
    if is_file and mode is not None and not stat.S_ISREG(mode):
        seen = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise RecordsProblem(f"{shown_path(target)} is {seen}; expected a file to write")
    if not is_file and mode is not None and not stat.S_ISDIR(mode):
        raise RecordsProblem(
            f"{shown_path(target)} is a file; expected a folder, or a name that ends in "
            f"{', '.join(SUFFIXES)}"
        )
    folder = target.parent if is_file else target
    placed = (
        (record if is_checked else _read_back(index, record), record)
        for index, record in enumerate(records)
    )
    try:
        make_folder(folder)
        with locked(folder), TemporaryDirectory(prefix=SCRATCH, dir=folder) as scratch:
            _remove_abandoned_scratch(folder, but=Path(scratch))
            drafts: dict[Path, _Draft] = {}
            for held, record in placed:
                path = target if is_file else target / file_of(record)
                if path not in drafts:
                    drafts[path] = _Draft(path, Path(scratch) / str(len(drafts)))
                    if is_kept and drafts[path].stood is not None:
                        drafts[path].keep(path)
                drafts[path].add(record, held)
            if not drafts:
                raise RecordsProblem("there is no record to write; nothing was written")
            whole = {path: draft.whole() for path, draft in drafts.items()}
            for path, draft in drafts.items() if is_kept else ():
                draft.check_unchanged(path)
            for path, file in whole.items():  # nothing is replaced before all of it is written
                make_folder(path.parent)
                put_in_place(file, path)
        return {path: draft.n_records for path, draft in drafts.items()}
    except NotWritten as problem:
        raise RecordsProblem(str(problem)) from problem
    except OSError as problem:
        raise RecordsProblem(f"records cannot be written: {problem}") from problem


def _remove_abandoned_scratch(folder: Path, *, but: Path) -> None:
    """Remove what killed processes left; the folder is locked, so nobody else is writing now."""
    for left in folder.glob(f"{SCRATCH}*"):
        if left != but and left.is_dir():
            shutil.rmtree(left, ignore_errors=True)


def _read_back(index: int, record: object) -> Record:
    """Return a record as it will be read; RecordsProblem if a reader would leave it out."""
    try:
        return checked(record)
    except Refused as problem:
        source = record.get("source") if isinstance(record, dict) else None
        origin = f"it came from {shown(source)}; " if source else ""
        raise RecordsProblem(
            f"record {index} could not be read back, {problem.reason}: {problem.seen}; "
            f"{origin}nothing was written"
        ) from problem


def _state_of(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is written, None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


class _Draft:
    """One file on its way: JSON Lines in a scratch folder until the last record is in."""

    def __init__(self, path: Path, scratch: Path) -> None:
        self.n_records = 0
        self.stood = _state_of(path)
        self._suffix = path.suffix
        self._lines = scratch.with_suffix(".lines")
        self._whole = scratch.with_suffix(path.suffix)
        self._waiting: list[str] = []
        self._longest_bytes = 0
        self._sources: set[str] = set()
        self._digests: set[int] = set()  # of records without a source

    def keep(self, path: Path) -> None:
        """Take over what stands in a file, unchanged; RecordsProblem if it cannot be read."""
        advice = "Move the file away, or name another place; nothing was written"
        for _, record in objects_in(path, cannot="be kept", advice=advice):
            self._put(record)
            if isinstance(record.get("source"), str):
                self._sources.add(record["source"])
            else:
                with suppress(Refused):  # it stays as it is, and equals no record that is checked
                    self._digests.add(digest_of(checked(record)))

    def check_unchanged(self, path: Path) -> None:
        """Refuse to replace what another process wrote since it was read: it would be lost."""
        if _state_of(path) != self.stood:
            raise RecordsProblem(
                f"{shown_path(path)} was changed by another process meanwhile; nothing was "
                f"written: do the same again"
            )

    def add(self, record: Record, held: Record) -> None:
        """Take in a record, `held` when read back, unless its call is there."""
        source = record.get("source")
        is_there = digest_of(held) in self._digests if source is None else source in self._sources
        if not is_there:
            self._put({**record, DIGEST: digest_of_content(held)})
            self.n_records += 1

    def _put(self, record: Record) -> None:
        if self._suffix == ".parquet":
            from pytest_vlmlatency.export.files import row_of  # noqa: PLC0415 - imports duckdb

            line = json_line(record, form=row_of)
        else:
            line = json_line(record)
        self._longest_bytes = max(self._longest_bytes, len(line))
        self._waiting.append(line)
        if len(self._waiting) >= N_WAITING:
            self._flush()

    def whole(self) -> Path:
        """Finish the file, and return where it lies."""
        self._flush()
        if self._suffix == ".parquet":
            from pytest_vlmlatency.export.files import write_rows  # noqa: PLC0415 - as above

            write_rows(self._lines, self._whole, longest_bytes=self._longest_bytes)
        elif self._suffix == ".jsonl":
            self._lines.replace(self._whole)
        else:
            self._join()
        return self._whole

    def _flush(self) -> None:
        with self._lines.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in self._waiting)
        self._waiting.clear()

    def _join(self) -> None:
        with (
            self._lines.open(encoding="utf-8") as lines,
            self._whole.open("w", encoding="utf-8") as file,
        ):
            file.write(f'{{"{RESULTS}": [\n')
            for index, line in enumerate(lines):
                file.write((",\n" if index else "") + line.rstrip("\n"))
            file.write("\n]}\n")


def json_line(record: Record, *, form: Callable[[Record], object] = dict) -> str:
    """Return a record, in another form on demand, on one line; RecordsProblem if JSON cannot."""
    try:
        return json.dumps(form(record), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as problem:
        raise RecordsProblem(
            f"the record {shown(record)} cannot be written as JSON: {problem}"
        ) from problem
