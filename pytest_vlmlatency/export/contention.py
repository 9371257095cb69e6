"""Wall times of calls that waited for a core: true, and of the machine more than of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vlmlatency.export.fields import WALL_MS
from pytest_vlmlatency.records import CONTENDED_ABOVE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from pytest_vlmlatency.export.fields import Record


class Contention:
    """Counts the records that pass whose wall time a contended CPU lengthened."""

    def __init__(self) -> None:
        self._n_records = self._n_contended = 0
        self._worst = 0.0

    def counted(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield the records as they are."""
        for record in records:
            self.add(record)
            yield record

    def add(self, record: Mapping[str, object]) -> None:
        """Count one record; one that does not say how long it waited is not contended."""
        ratio = record.get("contended_ratio")
        is_on_cpu = str(record.get("device") or "").startswith("cpu")
        self._n_records += 1
        if not is_on_cpu or record.get("measure") != WALL_MS or not isinstance(ratio, float | int):
            return
        self._n_contended += ratio > CONTENDED_ABOVE
        self._worst = max(self._worst, float(ratio))

    def lines(self) -> list[str]:
        """Return a warning, as one line; nothing where no record was contended."""
        if not self._n_contended:
            return []
        return [
            f"contended: {self._n_contended:,} of {self._n_records:,} records are wall times of "
            f"calls that waited for a core for more than {CONTENDED_ABOVE:.0%} of their time, the "
            f"worst for {self._worst:.0%}: they hold other processes' work. Take CPU times "
            f"(`vlmlatency export --measure cpu`, `profile --measure cpu`), or measure again on a "
            f"quiet machine"
        ]
