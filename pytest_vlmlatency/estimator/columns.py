"""Records as columns, to be fitted and judged on.

Owns the step from records to arrays; which records are believed is decided by `export`, which reads
them. Nothing is filled in: an input that only some records have is an error.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.conditions import (
    CONDITIONS,
    alike_in,
    differing_in,
    differing_text,
)
from pytest_vlmlatency.estimator.inputs import (
    ALIASES,
    INPUTS,
    TIERS,
    Column,
    Columns,
    FloatArray,
    Knob,
    column,
    tier_index,
)
from pytest_vlmlatency.export import RecordReader, read_records
from pytest_vlmlatency.export.contention import Contention
from pytest_vlmlatency.export.fields import PARQUET_TYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
N_AT_ONCE = 20_000  # records held as dicts at a time, so that millions stream


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
    sources: tuple[str | None, ...]  # where each record came from: its own word, else its file's
    conditions: Mapping[str, str] = field(default_factory=dict)
    undeclared: Mapping[str, Sequence[object]] = field(default_factory=dict)
    further: Mapping[str, Sequence[object]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.prefill_ms)

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
            sources=tuple(self.sources[index] for index in indices),
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
    chunks = [
        _chunk(located, knobs, has_files=reader.has_files, contention=contention)
        for located in _in_chunks(reader.located())
    ]
    if reader.left_out:
        warnings.warn(_summary(reader), RecordsLeftOut, stacklevel=2)
    for line in contention.lines():
        warnings.warn(line, ContendedRecords, stacklevel=2)
    declared = [knob.name for knob in knobs]
    if differing := differing_in(chunks, declared):
        warnings.warn(differing_text(differing), MixedRecords, stacklevel=2)
    raw = {
        name: [value for chunk in chunks for value in chunk[name]] for name in ("machine", "source")
    }
    columns = _inputs(chunks, knobs)
    configuration, configurations = configurations_of(columns, knobs)
    return Table(
        columns=columns,
        knobs=tuple(knobs),
        prefill_ms=_all(chunks, "T_prefill_total"),
        decode_ms=_all(chunks, "T_LLM_decode"),
        output_tokens=_all(chunks, "output_tokens"),
        configuration=configuration,
        configurations=configurations,
        machine=None if raw["machine"][0] is None else str(raw["machine"][0]),
        sources=tuple(None if value is None else str(value) for value in raw["source"]),
        conditions=alike_in(chunks, declared),
        undeclared=_differing([chunk.others for chunk in chunks], chunks),
        further=_differing([chunk.further for chunk in chunks], chunks),
    )


def _summary(reader: RecordReader) -> str:
    n_left_out = sum(left_out.count for left_out in reader.left_out.values())
    lines = "\n".join(reader.report_lines())
    return f"{n_left_out} of {n_left_out + reader.n_read} records are not used\n{lines}"


def _in_chunks(records: Iterable[Located]) -> Iterator[list[Located]]:
    rest = iter(records)
    while chunk := list(islice(rest, N_AT_ONCE)):
        yield chunk


Located = tuple[str, Record]


class Chunk(dict[str, list[object]]):
    """The fields of some records as lists; None where a record lacks one.

    `lacking` is the place of the first record that lacks a field, by field. `others` are further
    knobs of the records, `further` fields of the user's own.
    """

    lacking: dict[str, str]
    others: dict[str, list[object]]
    further: dict[str, list[object]]


def _chunk(
    located: list[Located], knobs: Sequence[Knob], *, has_files: bool, contention: Contention
) -> Chunk:
    """Return the fields of records as lists."""
    records = [record for _where, record in located]
    chunk = Chunk({name: [record.get(name) for record in records] for name in _FIELDS})
    for record in records:
        contention.add(record)
    for name in (*INPUTS, *(knob.name for knob in knobs)):
        aliases = (name, *(alias for alias, official in ALIASES.items() if official == name))
        chunk[name] = [_field(record, aliases) for record in records]
    chunk["tier_idx"] = [tier_index(tier) for tier in chunk["tier_idx"]]
    chunk.lacking = {
        name: located[values.index(None)][0] for name, values in chunk.items() if None in values
    }
    chunk.others = _others([record.get("configuration") for record in records], chunk.keys())
    chunk.further = _others(records, {*chunk.keys(), *chunk.others, *KNOWN_FIELDS})
    if has_files:
        chunk["source"] = [
            where if source is None else source
            for (where, _record), source in zip(located, chunk["source"], strict=True)
        ]
    return chunk


def _others(mappings: Sequence[object], known: Collection[str]) -> dict[str, list[object]]:
    """Return the words and numbers that are none of the inputs, None where a mapping lacks one."""
    names = dict.fromkeys(name for one in mappings if isinstance(one, Mapping) for name in one)
    columns = {
        name: [one.get(name) if isinstance(one, Mapping) else None for one in mappings]
        for name in names
        if ALIASES.get(name, name) not in known
    }
    return {
        name: values
        for name, values in columns.items()
        if all(value is None or isinstance(value, str | int | float) for value in values)
    }


def _differing(
    parts: Sequence[Mapping[str, list[object]]], chunks: Sequence[Chunk]
) -> dict[str, list[object]]:
    """Return the columns of all chunks that are not the same in all records."""
    columns = {
        name: [
            value
            for part, chunk in zip(parts, chunks, strict=True)
            for value in part.get(name, [None] * len(chunk["machine"]))
        ]
        for name in dict.fromkeys(name for part in parts for name in part)
    }
    return {
        name: values for name, values in columns.items() if values.count(values[0]) < len(values)
    }


_FIELDS = ("T_prefill_total", "T_LLM_decode", "output_tokens", "machine", "source", *CONDITIONS)


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


def _inputs(chunks: Sequence[Chunk], knobs: Sequence[Knob]) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    for name in INPUTS:
        if any(value is not None for chunk in chunks for value in chunk[name]):
            columns[name] = _all(chunks, name)
    for knob in knobs:
        columns[knob.name] = _all(chunks, knob.name, is_category=knob.is_category)
    return columns


def _all(chunks: Sequence[Chunk], name: str, *, is_category: bool = False) -> Column:
    values = [value for chunk in chunks for value in chunk[name]]
    n_missing = values.count(None)
    if n_missing:
        first = next(chunk.lacking[name] for chunk in chunks if name in chunk.lacking)
        raise EstimatorProblem(
            f"{n_missing} of {len(values)} records lack {name}, the first being {first}; expected "
            f"it in all of them: leave those records out, or measure it"
        )
    return column(name, values, is_category)


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
