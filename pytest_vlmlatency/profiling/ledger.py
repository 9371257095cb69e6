"""What was measured so far, on disk: append-only JSON Lines, a file for each configuration.

A line is written by one call of the system, so that a killed process leaves whole lines, and is
forced to the disk before its sample counts as measured. What a machine that lost power leaves of a
line is cut off: its sample was not finished.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from pytest_vlmlatency.errors import RecordsProblem
from pytest_vlmlatency.export.checking import checked, digest_of_content
from pytest_vlmlatency.export.fields import CONFIGURATION, DIGEST, Refused
from pytest_vlmlatency.export.files import objects_in, shown_path
from pytest_vlmlatency.export.writing import configuration_name, file_of, json_line
from pytest_vlmlatency.inspection.user_function import recorded_name
from pytest_vlmlatency.whole_files import force_names_to_disk, make_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_vlmlatency.export.fields import Record

MODEL_NAME = "model_name"
TAIL_BYTES = 2**16
NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # a file that a link leads to is not cut, nor added to
ADVICE = "Remove that line, or name another folder"


class Ledger:
    """The records of one data set in a folder: which are there, and adding more.

    `identity` is what all records of a profile share, and `n_new_tokens` what each sample's were
    asked for: a folder with others would mix up two experiments, and is refused.
    """

    def __init__(
        self,
        folder: Path,
        dataset: str,
        identity: Mapping[str, object],
        *,
        n_new_tokens: Mapping[str, int],
    ) -> None:
        self._folder = folder
        self._identity = dict(identity)
        self._n_new_tokens = n_new_tokens
        self._counts: dict[tuple[str, str], int] = {}
        self._dataset_folder = (folder / file_of({"dataset": dataset})).parent
        try:
            make_folder(self._dataset_folder)
        except (OSError, ValueError) as problem:
            raise RecordsProblem(
                f"{shown_path(self._dataset_folder)} cannot be made: {problem}; name another folder"
            ) from problem
        self._lock = FileLock(self._dataset_folder / ".profile.lock")
        self._take_over()

    @property
    def n_records(self) -> int:
        """How many records there are."""
        return sum(self._counts.values())

    def count(self, configuration: Mapping[str, object], sample: str) -> int:
        """Return how many calls of a sample under a configuration are there."""
        return self._counts.get((configuration_name(configuration), sample), 0)

    def add(self, records: Sequence[Record]) -> None:
        """Append the records of one sample under one configuration, all or none."""
        path = self._folder / file_of(records[0], suffix=".jsonl")
        content = "".join(f"{json_line(_signed(record))}\n" for record in records).encode()
        try:
            is_new = not path.exists()
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | NO_LINK, 0o666)
            try:
                written = os.write(handle, content)
                os.fsync(handle)  # a sample takes longer to measure than the disk to write it
            finally:
                os.close(handle)
            if is_new:
                force_names_to_disk(path.parent)
        except OSError as problem:
            raise RecordsProblem(f"{path} cannot be written: {problem}") from problem
        if written != len(content):
            raise RecordsProblem(f"{path}: the disk took {written} of {len(content)} bytes")
        for record in records:
            self._remember(record)

    def close(self) -> None:
        """Let another process profile into this folder."""
        self._lock.release()

    def _take_over(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise RecordsProblem(
                f"another process profiles into {self._dataset_folder}; wait for it, or name "
                f"another folder"
            ) from None
        except OSError as problem:  # of which Timeout is one
            raise RecordsProblem(
                f"{self._dataset_folder} cannot be written to: {problem}; name another folder"
            ) from problem
        force_names_to_disk(self._dataset_folder)  # of files that a killed process made
        for path in sorted(self._dataset_folder.glob("*.jsonl")):
            try:
                _cut_off_part(path)
            except OSError as problem:
                raise RecordsProblem(
                    f"{path} cannot be gone on from: {problem}; name another folder"
                ) from problem
            for where, found in objects_in(path, cannot="be gone on from", advice=ADVICE):
                self._check(where, found)
                self._remember(found)

    def _check(self, where: str, record: Record) -> None:
        try:
            checked(record)
        except Refused as problem:
            raise RecordsProblem(
                f"{where} cannot be gone on from, {problem.reason}: {problem.seen}. {ADVICE}"
            ) from problem
        wanted = dict(self._identity)
        sample = str(record.get("sample"))
        if sample in self._n_new_tokens:
            wanted["max_new_tokens"] = self._n_new_tokens[sample]
        found = {name: record.get(name) for name in wanted}
        if MODEL_NAME in found:  # earlier versions recorded the path of a local model
            found[MODEL_NAME] = recorded_name(str(found[MODEL_NAME]))
        unlike = [
            f"{name} {json.dumps(found[name])}, this profile {json.dumps(value)}"
            for name, value in wanted.items()
            if found[name] != value
        ]
        if unlike:
            raise RecordsProblem(
                f"{where} has {'; '.join(unlike)}: records of both would be mixed up. Name another "
                f"folder"
            )

    def _remember(self, record: Record) -> None:
        key = (configuration_name(record.get(CONFIGURATION) or {}), str(record.get("sample")))
        self._counts[key] = self._counts.get(key, 0) + 1


def _signed(record: Record) -> Record:
    """Return a record with the digest of what will be read back."""
    return {**record, DIGEST: digest_of_content(checked(record))}


def _cut_off_part(path: Path) -> None:
    """Cut off what stands behind the last whole line."""
    with os.fdopen(os.open(path, os.O_RDWR | NO_LINK), "r+b") as file:
        end = file.seek(0, os.SEEK_END)
        at = end
        while at:
            start = max(0, at - TAIL_BYTES)
            file.seek(start)
            newline = file.read(at - start).rfind(b"\n")
            if newline >= 0:
                at = start + newline + 1
                break
            at = start
        if at < end:
            file.truncate(at)
