"""Records as columns, to fit and evaluate estimators on.

`export` decides which records are valid and reads them; here they become arrays. Nothing is filled
in: an input that only some records have is an error. All records must have one kind of time, as
they must be of one machine; other conditions may differ, with a warning, as one law is then fitted
on all of them.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.gathered import Amounts, Levels, Places
from pytest_vlmlatency.estimator.inputs import (
    ALIASES,
    INPUTS,
    TIERS,
    Columns,
    FloatArray,
    Knob,
    tier_index,
)
from pytest_vlmlatency.export import RecordReader, read_records
from pytest_vlmlatency.export.contention import Contention
from pytest_vlmlatency.export.fields import PARQUET_TYPES
from pytest_vlmlatency.printing import printable

if TYPE_CHECKING:
    from numpy.typing import NDArray


CONDITIONS = (
    "measure",
    "model",
    "n_parameters",
    "dtype",
    "device",
    "batch_size",
    "n_threads",
)
N_SHOWN = 5
UNSAID = "unsaid"


class Conditions:
    """How many records are of which model, dtype and so on; some are added at a time."""

    def __init__(self, names: Sequence[str]) -> None:
        self._counts: dict[str, Counter[object]] = {name: Counter() for name in names}
        self._of_blocks: set[tuple[object, object]] = set()

    def add(self, records: Sequence[Mapping[str, object]]) -> None:
        """Count more records."""
        for name, counts in self._counts.items():
            counts.update(_hashable(record.get(name)) for record in records)
        self._of_blocks.update(
            (record.get("num_active_blocks"), _hashable(record.get("n_parameters")))
            for record in records
        )

    def alike(self) -> dict[str, str]:
        """Return what all records say alike."""
        alike = {
            name: next(iter(counts)) for name, counts in self._counts.items() if len(counts) == 1
        }
        return {name: str(value) for name, value in alike.items() if isinstance(value, str | int)}

    def differing(self) -> dict[str, Counter[str]]:
        """Return the counts of what differs.

        Blocks that are switched off may take their parameters along: that is one model still.
        """
        differing: dict[str, Counter[str]] = {}
        for name, counts in self._counts.items():
            if len(counts) == 1 or (name == "n_parameters" and self._follow_blocks()):
                continue
            differing[name] = Counter()
            for value, count in counts.items():
                differing[name][UNSAID if value is None else str(value)] += count
        return differing

    def _follow_blocks(self) -> bool:
        """Whether the number of active blocks, where it is given, determines that of parameters."""
        n_blocks = [blocks for blocks, _ in self._of_blocks]
        return None not in n_blocks and len(set(n_blocks)) == len(n_blocks)


def _hashable(value: object) -> object:
    """Return a word, a number or None as it is; anything else is no condition, and bytes here."""
    return value if isinstance(value, str | int | float | None) else repr(value).encode()


def differing_text(differing: Mapping[str, Counter[str]]) -> str:
    """Return what differs as a warning says it, a line for each condition."""
    lines = [f"  {name}: {_counts(counts)}" for name, counts in differing.items()]
    return "\n".join(
        [
            "records that differ in what is no input are fitted together, and no prediction can "
            "tell them apart:",
            *lines,
            "fit them apart, or declare what differs as a knob, such as "
            f'Knob("{next(iter(differing))}", is_category=True)',
        ]
    )


def check_alike(held: Mapping[str, str], seen: Mapping[str, str]) -> None:
    """Refuse a record of other conditions than an estimator's; what it does not say is passed."""
    for name, expected in held.items():
        if seen.get(name, expected) != expected:
            raise EstimatorProblem(
                f"the record's {name} is {seen[name]}, and all records that this estimator was "
                f"fitted on have {expected}: its times say nothing about a change; update with "
                f"records of {expected}, or fit an estimator on those of {seen[name]}"
            )


def _counts(counts: Counter[str]) -> str:
    shown = [f"{printable(value)} ({count:,})" for value, count in counts.most_common(N_SHOWN)]
    n_more = len(counts) - len(shown)
    return ", ".join([*shown, *([f"and {n_more} more"] if n_more else [])])


__all__ = ["CONFIGURATION", "INPUTS", "TIERS", "Columns", "FloatArray", "Knob", "Table", "table_of"]

Record = Mapping[str, object]
Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Iterable[Record]

KNOWN_FIELDS = frozenset(
    {
        *(
            *PARQUET_TYPES,
            "T_prefill_total",
            "tier_idx",
            "configuration",
            "commit",
            "sample",
            "model_name",
        ),
        *("max_new_tokens", "contended_ratio", "image_count", "image_width", "image_height"),
        *("model", "n_parameters", "dtype", "device", "n_threads"),
    }
)
"""The fields that an export or a profile writes; others are the user's own."""

CONFIGURATION = ("tier_idx", "top_k", "num_active_blocks")  # with the declared knobs
N_AT_ONCE = 2_000  # records held as dicts at a time, so that millions stream


class RecordsLeftOut(UserWarning):
    """Records that were given and could not be used, by reason."""


class ContendedRecords(UserWarning):
    """Wall times of calls that waited for a core: of the machine more than of the model."""


class MixedRecords(RecordsLeftOut):
    """Records of several models, dtypes and so on, of which most would better be left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Records as arrays of one length. `decode_steps` is output_tokens - 1, and may be 0.

    `configuration` holds, for each record, the index of its configuration in `configurations`, and
    `conditions` what is no input and was the same in all records. `undeclared` are knobs of the
    records that are no input and differ, None where a record lacks one: of all records alone, as
    some of them (`rows`) do not show it. `further` are fields of the user's own, likewise.
    """

    columns: Columns
    knobs: tuple[Knob, ...]
    prefill_ms: FloatArray
    decode_ms: FloatArray  # of all steps together
    output_tokens: FloatArray
    configuration: NDArray[np.int64]
    configurations: tuple[str, ...]
    machine: str | None
    places: Places  # where each record came from: its own word, else its file's
    records: NDArray[np.int64]  # the number of each row in `places`
    conditions: Mapping[str, str] = field(default_factory=dict)
    undeclared: Mapping[str, Levels] = field(default_factory=dict)
    further: Mapping[str, Levels] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.prefill_ms)

    @property
    def sources(self) -> tuple[str | None, ...]:
        """Where each record came from, None where nothing says it."""
        return self.places.of(self.records)

    @property
    def decode_steps(self) -> FloatArray:
        """Forward passes after the first token, of each record."""
        return self.output_tokens - 1

    @property
    def decode_per_step_ms(self) -> FloatArray:
        """The mean decode step of each record; of those alone that `has_decode` (NaN otherwise)."""
        steps = np.where(self.has_decode, self.decode_steps, np.nan)
        return self.decode_ms / steps

    @property
    def has_decode(self) -> NDArray[np.bool_]:
        """Which records have a decode step at all."""
        return self.output_tokens > 1

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Table:
        """Return the chosen records, by a mask or by indices."""
        indices = np.arange(len(self))[chosen]
        return Table(
            columns={name: values[indices] for name, values in self.columns.items()},
            knobs=self.knobs,
            prefill_ms=self.prefill_ms[indices],
            decode_ms=self.decode_ms[indices],
            output_tokens=self.output_tokens[indices],
            configuration=self.configuration[indices],
            configurations=self.configurations,
            machine=self.machine,
            places=self.places,
            records=self.records[indices],
            conditions=self.conditions,
        )


def table_of(source: Source | Table, *, knobs: Sequence[Knob] = ()) -> Table:
    """Return records as a table: from dicts, a file, a folder, or several.

    Of the five inputs, those that all records have become columns. An input that only some have,
    or a declared knob that is missing, is an error. Records that cannot be believed, or are of
    another machine or kind of time than the first, are left out, and a warning says how many and
    why; another warning says in what else they differ.
    """
    if isinstance(source, Table):
        return source
    reader = read_records(source)
    contention = Contention()
    gathered = _Gathered(knobs, has_files=reader.has_files)
    for located in _in_chunks(reader.located()):
        for _where, record in located:
            contention.add(record)
        gathered.add(located)
    if reader.left_out:
        warnings.warn(_summary(reader), RecordsLeftOut, stacklevel=2)
    for line in contention.lines():
        warnings.warn(line, ContendedRecords, stacklevel=2)
    if differing := gathered.conditions.differing():
        warnings.warn(differing_text(differing), MixedRecords, stacklevel=2)
    return gathered.table()


def _summary(reader: RecordReader) -> str:
    n_left_out = sum(left_out.count for left_out in reader.left_out.values())
    lines = "\n".join(reader.report_lines())
    return f"{n_left_out} of {n_left_out + reader.n_read} records are not used\n{lines}"


def _in_chunks(records: Iterable[Located]) -> Iterator[list[Located]]:
    rest = iter(records)
    while chunk := list(islice(rest, N_AT_ONCE)):
        yield chunk


Located = tuple[str, Record]


class _Gathered:
    """All that a table holds, added a few records at a time."""

    def __init__(self, knobs: Sequence[Knob], *, has_files: bool) -> None:
        self._knobs, self._has_files = tuple(knobs), has_files
        declared = {knob.name: knob.is_category for knob in knobs}
        self._inputs = {
            name: Amounts(name, is_category=declared.get(name, False))
            for name in (*INPUTS, *declared)
        }
        self._measured = {name: Amounts(name) for name in _MEASURED}
        self.conditions = Conditions([name for name in CONDITIONS if name not in declared])
        self._known = {*_MEASURED, "machine", "source", *CONDITIONS, *self._inputs}
        self._undeclared: dict[str, Levels] = {}
        self._further: dict[str, Levels] = {}
        self._places = Places()
        self._machine: object = None

    def add(self, located: Sequence[Located]) -> None:
        """Add records, each with its place."""
        places, records = zip(*located, strict=True)
        n_before = len(self._places)
        if not n_before:
            self._machine = records[0].get("machine")
        for name, amounts in self._measured.items():
            amounts.add([record.get(name) for record in records], places)
        for name, amounts in self._inputs.items():
            values = _inputs_of(records, name)
            amounts.add(list(map(tier_index, values)) if name == "tier_idx" else values, places)
        self.conditions.add(records)
        _add_further(
            self._undeclared,
            [record.get("configuration") for record in records],
            self._known,
            n_before=n_before,
            of_numbers=True,
        )
        known = {*self._known, *self._undeclared, *KNOWN_FIELDS}
        _add_further(self._further, records, known, n_before=n_before, of_numbers=False)
        sources = [record.get("source") for record in records]
        if self._has_files:
            sources = [
                where if source is None else source
                for where, source in zip(places, sources, strict=True)
            ]
        self._places.add(sources)

    def table(self) -> Table:
        """Return what was gathered, which is not kept here."""
        declared = {knob.name for knob in self._knobs}
        columns = {
            name: amounts.taken()
            for name, amounts in self._inputs.items()
            if amounts.is_given or name in declared
        }
        configuration, configurations = configurations_of(columns, self._knobs)
        return Table(
            columns=columns,
            knobs=self._knobs,
            prefill_ms=self._measured["T_prefill_total"].taken(),
            decode_ms=self._measured["T_LLM_decode"].taken(),
            output_tokens=self._measured["output_tokens"].taken(),
            configuration=configuration,
            configurations=configurations,
            machine=None if self._machine is None else str(self._machine),
            places=self._places,
            records=np.arange(len(self._places)),
            conditions=self.conditions.alike(),
            undeclared={name: one for name, one in self._undeclared.items() if one.differs},
            further={name: one for name, one in self._further.items() if one.differs},
        )


_MEASURED = ("T_prefill_total", "T_LLM_decode", "output_tokens")


def _add_further(
    held: dict[str, Levels],
    mappings: Sequence[object],
    known: Collection[str],
    *,
    n_before: int,
    of_numbers: bool,
) -> None:
    """Add the words and numbers that are none of the known fields, None where one lacks it."""
    found = [one for one in mappings if isinstance(one, Mapping)]
    for name in dict.fromkeys((*held, *(name for one in found for name in one))):
        if ALIASES.get(name, name) in known:
            continue
        values = [one.get(name) if isinstance(one, Mapping) else None for one in mappings]
        if not all(value is None or isinstance(value, str | int | float) for value in values):
            values = [None] * len(values)
        if name not in held:
            held[name] = Levels(n_before=n_before, of_numbers=of_numbers)
        held[name].add(values)


def _inputs_of(records: Sequence[Record], name: str) -> list[object]:
    """Return an input of records, by any of its names, also out of their configuration."""
    aliases = (name, *(alias for alias, official in ALIASES.items() if official == name))
    return [_field(record, aliases) for record in records]


def _field(record: Record, aliases: Sequence[str]) -> object:
    for name in aliases:
        value = record.get(name)
        if value is not None:
            return value
    configuration = record.get("configuration")
    if isinstance(configuration, Mapping):
        for name in aliases:
            if configuration.get(name) is not None:
                return configuration[name]
    return None


def configurations_of(
    columns: Columns, knobs: Sequence[Knob]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the index of each record's configuration, and the names of all."""
    names = [name for name in (*CONFIGURATION, *(knob.name for knob in knobs)) if name in columns]
    n_records = len(next(iter(columns.values()))) if columns else 0
    ids = np.zeros(n_records, dtype=np.int64)
    for name in names:  # the pairs of what is known so far and of this knob's level
        levels = np.unique(columns[name], return_inverse=True)[1]
        ids = np.unique(ids * (levels.max() + 1) + levels, return_inverse=True)[1]
    first = np.unique(ids, return_index=True)[1]
    return ids, tuple(_named({name: columns[name][row] for name in names}) for row in first)


def _named(configuration: Mapping[str, object]) -> str:
    words = [
        f"{name.replace('tier_idx', 'tier')}={_level(name, value)}"
        for name, value in configuration.items()
    ]
    return " ".join(words) or "one configuration"


def _level(name: str, value: object) -> str:
    if name == "tier_idx" and value in range(len(TIERS)):
        return TIERS[int(value)]  # type: ignore[call-overload]  # a whole number, as just seen
    return str(value) if isinstance(value, str) else f"{value:g}"
