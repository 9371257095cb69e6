"""Which records were seen before, in 16 to 32 bytes each: millions of them fit into memory."""

from __future__ import annotations

import hashlib
from array import array
from typing import TYPE_CHECKING

from pytest_vlmlatency.export.fields import COUNTS, TIMES

if TYPE_CHECKING:
    from pytest_vlmlatency.export.fields import Record

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
