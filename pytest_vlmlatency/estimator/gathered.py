"""The fields of records as they are read, kept compactly: a million of them fit in memory.

Owns how a field is held: numbers as arrays, words as codes of their levels, places compressed.
What the fields mean is decided by `columns`.
"""

from __future__ import annotations

import json
import zlib
from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.inputs import Column, column

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

MOST_LEVELS = 20
"""A category of more levels names each record rather than a knob; a further field of more levels is
a measurement rather than a choice."""
LACKING, BEYOND = 255, 254  # codes of a record without the field, and of a level that is not kept


class Amounts:
    """One input of all records. What lacks it is counted, and is an error only if it is used."""

    def __init__(self, name: str, *, is_category: bool = False) -> None:
        self._name, self._is_category = name, is_category
        self._pieces: list[Column | list[object]] = []
        self._n_records = self._n_lacking = 0
        self._first_lacking = ""

    @property
    def is_given(self) -> bool:
        """Whether any record has it."""
        return self._n_lacking < self._n_records

    def add(self, values: list[Any], places: Sequence[str]) -> None:
        """Add the values of more records, which stand at these places."""
        if None in values:
            self._first_lacking = self._first_lacking or places[values.index(None)]
            self._n_lacking += values.count(None)
        self._n_records += len(values)
        if self._is_category:
            self._pieces.append(np.asarray(values, dtype=np.str_))
            return
        if self._n_lacking:
            self._pieces.clear()  # either no record has it, or it is an error
            return
        try:
            numbers = np.asarray(values)
        except ValueError:  # lists of several lengths
            self._pieces.append(values)
            return
        is_plain = numbers.dtype.kind in "biuf" and numbers.ndim == 1
        self._pieces.append(numbers.astype(np.float64) if is_plain else values)

    def taken(self) -> Column:
        """Return the checked column and let go of it; EstimatorProblem where a record lacks it."""
        if self._n_lacking:
            raise EstimatorProblem(
                f"{self._n_lacking} of {self._n_records} records lack {self._name}, the first "
                f"being {self._first_lacking}; expected it in all of them: leave those records "
                f"out, or measure it"
            )
        pieces, self._pieces = self._pieces, []
        arrays = [piece for piece in pieces if isinstance(piece, np.ndarray)]
        if len(arrays) < len(pieces):
            return column(self._name, [value for piece in pieces for value in piece])
        return column(self._name, np.concatenate(arrays), self._is_category)


class Levels:
    """One field of all records that is no input: its first levels, and what each record has of it.

    Up to `MOST_LEVELS` levels each record is one byte. Beyond, numbers are kept if `of_numbers`,
    and nothing but the first levels otherwise.
    """

    def __init__(self, *, n_before: int, of_numbers: bool) -> None:
        self._of_numbers = of_numbers
        self._levels: dict[object, int] = {}
        self._held: array[Any] | None = array("B", bytes([LACKING]) * n_before)
        self.n_lacking = n_before
        self.is_category = False
        self.has_many = False

    @property
    def names(self) -> tuple[str, ...]:
        """The first levels, `MOST_LEVELS` at most, in the order of the records."""
        return tuple(dict.fromkeys(str(level) for level in self._levels))

    @property
    def differs(self) -> bool:
        """Whether two records differ in it, one of them perhaps by lacking it."""
        return len(self._levels) + bool(self.n_lacking) > 1

    def add(self, values: Iterable[object]) -> None:
        """Add the words and numbers of more records, None where one lacks it."""
        codes = array("B")
        numbers = array("d")
        for value in values:
            codes.append(LACKING if value is None else self._code(value))
            if value is None:
                self.n_lacking += 1
            elif isinstance(value, bool) or not isinstance(value, int | float):
                self.is_category = True
            if not self.is_category:
                numbers.append(_as_float(value))
        if self.has_many and (self.is_category or not self._of_numbers):
            self._held = None
        if self._held is None:
            return
        if self.has_many and self._held.typecode == "B":
            known = dict(enumerate(map(_as_float, self._levels)))
            self._held = array("d", (known.get(code, np.nan) for code in self._held))
        self._held.extend(numbers if self.has_many else codes)

    def values(self) -> Column | None:
        """Return the field as the column of a knob; None where it cannot be one."""
        if self.n_lacking or self._held is None:
            return None
        if self._held.typecode == "d":
            return np.asarray(self._held)
        levels = [str(level) if self.is_category else level for level in self._levels]
        column_of: Column = np.asarray(levels)[np.asarray(self._held)]
        return column_of

    def _code(self, value: object) -> int:
        code = self._levels.get(value)
        if code is not None:
            return code
        if len(self._levels) == MOST_LEVELS:
            self.has_many = True
            return BEYOND
        self._levels[value] = len(self._levels)
        return len(self._levels) - 1


class Places:
    """Where each record came from. Neighbours are much alike: kept compressed, many together."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._first: list[int] = []
        self._n_texts = 0
        self._read: tuple[int, list[str | None]] | None = None

    def __len__(self) -> int:
        return self._n_texts

    def add(self, texts: Sequence[object]) -> None:
        """Add the places of more records, None where it is unknown."""
        plain = [None if text is None else str(text) for text in texts]
        self._blocks.append(zlib.compress(json.dumps(plain).encode(), level=1))
        self._first.append(self._n_texts)
        self._n_texts += len(plain)

    def of(self, records: NDArray[np.int64]) -> tuple[str | None, ...]:
        """Return the places of some records, by their number among all."""
        return tuple(self._one(int(record)) for record in records)

    def _one(self, record: int) -> str | None:
        block = bisect_right(self._first, record) - 1
        if self._read is None or self._read[0] != block:
            self._read = block, json.loads(zlib.decompress(self._blocks[block]))
        return self._read[1][record - self._first[block]]


def _as_float(value: Any) -> float:
    try:
        return np.nan if value is None else float(value)
    except OverflowError:  # a whole number beyond any float
        return np.inf
