"""Reads records back: a stream of the valid ones, and a count of the rest by reason.

Checks what concerns many records together: one machine, one kind of time, no record twice (16 to
32 bytes are kept of each). `checking` checks a record by itself, `files` reads files.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import RecordsProblem
from pytest_vlmlatency.export.checking import checked
from pytest_vlmlatency.export.fields import COUNTS, TIMES, Reason, Refused, shown
from pytest_vlmlatency.export.files import found_in, record_files
from pytest_vlmlatency.printing import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_vlmlatency.export.fields import Record
    from pytest_vlmlatency.export.files import Found


Location = str | os.PathLike[str]
File = tuple[Path, str | None]
Source = Location | Iterable[Location] | Iterable[Mapping[str, object]]
N_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """How many records, lines or files were left out for one reason, and the first few by name."""

    count: int
    first: tuple[str, ...]


def read_records(source: Source, *, machine: str | None = None) -> RecordReader:
    """Return a reader of records: iterate it, then ask it what was `left_out`.

    `source` is a file (.json, .jsonl, .parquet), a folder, several of them, or record dicts; of
    either, a generator goes for a list.
    Records are of one machine: the one given by its fingerprint, else that of the first record.
    A path that is not there is an error now; if no record at all can be believed, the end of the
    iteration is one.
    """
    return RecordReader(source, machine=machine)


class RecordReader:
    """Believable records, one after another; after that, what was left out, and the machines.

    Iterating again starts over, where the source can be read again.
    """

    def __init__(self, source: Source, *, machine: str | None = None) -> None:
        self._machine = machine
        self._source, self._files = _opened(source)
        self._start()

    def _start(self) -> None:
        self._counts: Counter[Reason] = Counter()
        self._first: dict[Reason, list[str]] = {}
        self._machines: Counter[str] = Counter()
        self._seen = Seen()
        self._told: tuple[str | None, str] | None = None
        self.n_read = 0

    @property
    def left_out(self) -> Mapping[Reason, LeftOut]:
        """What was left out so far, by reason, most frequent first."""
        return {
            reason: LeftOut(count=count, first=tuple(self._first[reason]))
            for reason, count in self._counts.most_common()
        }

    @property
    def machines(self) -> Mapping[str, int]:
        """How many believable records were of which machine, by fingerprint; "" says none."""
        return dict(self._machines)

    def report_lines(self) -> list[str]:
        """Return what was left out as text, a line for each reason and each named example."""
        lines = []
        for reason, left_out in self.left_out.items():
            lines.append(f"left out, {reason}: {left_out.count:,}")
            lines += [f"  {name}" for name in left_out.first]
            if left_out.count > len(left_out.first):
                lines.append(f"  and {left_out.count - len(left_out.first):,} more")
        return lines

    @property
    def has_files(self) -> bool:
        """Whether the records come from files, so that each has a place in one."""
        return self._files is not None

    def __iter__(self) -> Iterator[Record]:
        """Yield the believable records; RecordsProblem at the end if there was none."""
        return (record for _where, record in self.located())

    def located(self) -> Iterator[tuple[str, Record]]:
        """Yield the believable records, each with its place: `a.jsonl, line 3`, or `record 3`."""
        self._start()
        for where, given, dataset in self._found():
            try:
                if isinstance(given, Refused):
                    raise given
                record = checked(given)
                self._accept(record)
            except Refused as problem:
                self._leave_out(where, problem)
                continue
            if record["dataset"] is None:
                record["dataset"] = dataset
            self.n_read += 1
            yield where, record
        if not self.n_read:
            reasons = "\n".join(self.report_lines()) or "there was none to read"
            raise RecordsProblem(f"no record that can be believed was found:\n{reasons}")

    def _found(self) -> Iterator[tuple[str, object, str | None]]:
        if self._files is None:
            records = self._source
            for index, record in enumerate(records):
                yield f"record {index}", record, None
            return
        for path, dataset in self._files:
            found: Iterator[Found] = found_in(path)
            for where, given in found:
                yield where, given, dataset

    def _accept(self, record: Record) -> None:
        """Refuse what does not go with the records before it."""
        machine, measure = record["machine"], record["measure"]
        if not self._seen.is_new(record):
            raise Refused(Reason.DUPLICATE, "the same call with the same times came before")
        self._machines[machine or ""] += 1
        if self._told is None:
            self._told = (self._machine or machine, measure)
        if machine != self._told[0]:
            raise Refused(
                Reason.MIXED_MACHINE,
                f"machine is {shown(machine)}, expected {shown(self._told[0])}: read them apart",
            )
        if measure != self._told[1]:
            raise Refused(
                Reason.MIXED_MEASURE,
                f"times are {shown(measure)}, expected {shown(self._told[1])}: read them apart",
            )

    def _leave_out(self, where: str, problem: Refused) -> None:
        self._counts[problem.reason] += 1
        first = self._first.setdefault(problem.reason, [])
        if len(first) < N_NAMED:
            first.append(printable(f"{where}: {problem.seen}"))


def _opened(source: Source) -> tuple[Iterable[object], list[File] | None]:
    """Return the records, or nothing and the files that a source names."""
    if isinstance(source, str | os.PathLike):
        return (), record_files(_path(source))
    if isinstance(source, Mapping | bytes) or not isinstance(source, Iterable):
        raise RecordsProblem(
            f"{shown(source)} is nothing to read records from; expected a path, several paths, or "
            f"record dicts in a list"
        )
    first, records = _looked_at(source)
    if not isinstance(first, str | os.PathLike):
        return records, None
    return (), [file for path in records for file in record_files(_path(path))]


def _looked_at(source: Iterable[object]) -> tuple[object, Iterable[object]]:
    """Return the first of a source, None of an empty one, and all of it, the first included."""
    values = iter(source)
    for first in values:
        return first, chain([first], values) if values is source else source
    return None, ()


def _path(value: object) -> Path:
    """Return one of several paths; RecordsProblem if it is none."""
    if isinstance(value, str | os.PathLike):
        found = os.fspath(value)
        if isinstance(found, str) and found:
            return Path(found)
    raise RecordsProblem(
        f"{shown(value)} is no path, and stands where one is expected: give paths alone, or record "
        f"dicts alone"
    )


FIRST_SLOTS = 1024
DIGEST_BYTES = 8
"""Of 10 million records, two different ones share 64 bits once in 370,000 times."""
IDENTITY = (
    *COUNTS,
    *TIMES,
    "T_total",
    "batch_size",
    "measure",
    "machine",
    "source",
)
"""What makes two records the same one, with the configuration: what was measured, and where."""


class Seen:
    """A set of 64-bit digests in one flat table with open addressing; 0 is an empty slot."""

    def __init__(self) -> None:
        self._slots = array("Q", bytes(DIGEST_BYTES * FIRST_SLOTS))
        self._n_held = 0

    def is_new(self, record: Record) -> bool:
        """Return whether no equal record came before, and remember this one."""
        digest = digest_of(record)
        if not self._add(digest):
            return False
        if 2 * self._n_held > len(self._slots):
            self._grow()
        return True

    def _add(self, digest: int) -> bool:
        mask = len(self._slots) - 1
        at = digest & mask
        while held := self._slots[at]:
            if held == digest:
                return False
            at = (at + 1) & mask
        self._slots[at] = digest
        self._n_held += 1
        return True

    def _grow(self) -> None:
        held = self._slots
        self._slots = array("Q", bytes(DIGEST_BYTES * 2 * len(self._slots)))
        self._n_held = 0
        for digest in held:
            if digest:
                self._add(digest)


def digest_of(record: Record) -> int:
    """Return a checked record's identity in 64 bits: what was measured and where, and no more."""
    values = [record.get(name) for name in IDENTITY]
    knobs = sorted(record["configuration"].items())
    digest = hashlib.blake2b(
        repr((values, knobs)).encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES
    )
    return int.from_bytes(digest.digest(), "little") or 1
