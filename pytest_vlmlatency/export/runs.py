"""A run as training records: one for each kept call, under the legacy names."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vlmlatency.export.checking import checked
from pytest_vlmlatency.export.fields import KNOBS, SCHEMA_VERSION, WALL_MS, Reason, Refused
from pytest_vlmlatency.export.reading import N_NAMED, LeftOut
from pytest_vlmlatency.records import Phase, Place, fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_vlmlatency.export.fields import Record
    from pytest_vlmlatency.records import Call, Case, Run

OF_IMAGES = ("image_count", "image_width", "image_height")
"""Of the pictures themselves. A call was given what a processor made of them, tiles or patches,
which tells neither how many there were nor their size: a test says it by parameters of these names.
"""
MOST_DIGITS = 9
OWN_FIELDS = frozenset({Phase.VISION, Phase.PREFILL, Phase.DECODE})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecords:
    """The records of a run, and what of its calls could not become one, by reason."""

    records: tuple[Record, ...]
    left_out: Mapping[Reason, LeftOut]


def records_of(run: Run, *, measure: str = WALL_MS) -> RunRecords:
    """Return a record for each kept call, in wall time or another measure that all calls have.

    Discarded calls were disturbed and are no records. A call whose steps are not one less than its
    tokens (assisted decoding, beams that went on) has no time per token in the format's sense and
    is left out, as is one without the asked measure.
    """
    records: list[Record] = []
    counts: Counter[Reason] = Counter()
    first: dict[Reason, list[str]] = {}
    for case in run.cases:
        for index, call in enumerate(case.calls if case.is_measured else ()):
            try:
                records.append(record_of(run, case, index, call, measure=measure))
            except Refused as problem:
                counts[problem.reason] += 1
                named = first.setdefault(problem.reason, [])
                if len(named) < N_NAMED:
                    named.append(f"{case.id}, round {index}: {problem.seen}")
    return RunRecords(
        records=tuple(records),
        left_out={
            reason: LeftOut(count=count, first=tuple(first[reason]))
            for reason, count in counts.most_common()
        },
    )


def record_of(run: Run, case: Case, index: int, call: Call, *, measure: str = WALL_MS) -> Record:
    """Return one call as a record; Refused if it has none."""
    _check_stepwise(call)
    for times in (call.total, *(span.measures for span in call.spans)):
        if measure not in times:
            raise Refused(Reason.MISSING, f"it has no {measure}, only {', '.join(times)}")
    configuration = dict(case.config or {})
    commit = run.commit
    return checked(
        {
            "schema_version": SCHEMA_VERSION,
            "actual_vision_tokens": call.n_vision_tokens,
            "actual_text_tokens": call.n_text_tokens,
            "output_tokens": call.n_output_tokens,
            **{name: configuration.get(name) for name in KNOBS},
            "T_vision_total": call.phase_time(Phase.VISION, measure),
            "T_LLM_prefill": call.phase_time(Phase.PREFILL, measure),
            "T_LLM_decode": call.phase_time(Phase.DECODE, measure),
            "T_total": call.total[measure],
            "T_other": _other_ms(call, measure),
            "batch_size": call.batch_size,
            "measure": measure,
            "configuration": configuration,
            "machine": fingerprint_of(run.environment),
            "dataset": dataset_of(case),
            "source": f"{run.id}/{case.id}#{index}",
            "commit": commit.id + ("-dirty" if commit.is_dirty else "") if commit else None,
            "contended_ratio": call.contended_ratio,
            **_circumstances(case),
        }
    )


def dataset_of(case: Case) -> str:
    """Return what a case's records are filed under: its parameter `dataset`, else its test."""
    named = case.params.get("dataset")
    if named is not None:
        return named
    return (case.test or case.name).rpartition("::")[2]


def _circumstances(case: Case) -> Record:
    """Return what an estimator may take as further columns: words and numbers of the case."""
    workload = case.workload
    names = () if workload is None else ("model", "n_parameters", "dtype", "attention")
    said = {name: getattr(workload, name) for name in names}
    images = {name: _count(case.params.get(name)) for name in OF_IMAGES}
    return {**said, "device": case.device, "n_threads": case.n_threads, **images}


def _count(parameter: str | None) -> int | None:
    """Return a test's parameter as a number, None where it is none."""
    if parameter is None or not parameter.isascii() or not parameter.isdecimal():
        return None
    return int(parameter) if len(parameter) <= MOST_DIGITS else None


def _other_ms(call: Call, measure: str) -> float:
    """Return the time of all other parts: other, a text encoder, spans of the user's own."""
    return sum(
        span.measures[measure]
        for span in call.spans
        if span.place is Place.PART and span.name not in OWN_FIELDS
    )


def _check_stepwise(call: Call) -> None:
    if call.n_decode_steps != call.n_output_tokens - 1:
        raise Refused(
            Reason.NOT_STEPWISE,
            f"{call.n_output_tokens} output tokens took {call.n_decode_steps} decode steps, as in "
            f"assisted decoding; a record needs one step less than tokens",
        )
