"""A stored run as it is judged, straight from its JSON values: times checked, spans not built.

Owns the quick way from plain values to RunRounds, which gives what `run_rounds_of` gives of the
whole Run, and the upgrade of older schemas. A time that cannot be true is an Unreadable run.
"""

from __future__ import annotations

import hashlib
import json
import math
import reprlib
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass, replace
from functools import cache
from statistics import median
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from pytest_vlmlatency.errors import Quoting, VlmLatencyError, reason_in_words
from pytest_vlmlatency.history.names import name_of
from pytest_vlmlatency.records import (
    CPU,
    DIGEST,
    SCHEMA_VERSION,
    TOTAL,
    VISION_OUTSIDE,
    WALL,
    Commit,
    Environment,
    GateMode,
    GateTerms,
    Phase,
    Place,
    Rounds,
    RunHeader,
    RunRounds,
    Workload,
    digest_of_run,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_vlmlatency.history.names import RunName


Plain = dict[str, Any]
"""What JSON holds, of any shape: reading it is finding out."""

KEYS = frozenset(("started_at", "environment", "commit", "cases", "schema_version"))
FORM_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    VlmLatencyError,
)
"""What reading values of another form raises: the last comes from the records' own checks."""
MOST_MS = 1e12
"""32 years: no call takes so long, and sums of what is larger leave the range of floats."""


OTHER_DIGEST = "damaged or changed: its digest is another than that of its content"
WITHOUT_ID = 1
"""The first schema."""


class Unreadable(Quoting, Exception):
    """Why a file is no run that can be read."""


class Gone(Unreadable):
    """The file is not where it was: compaction moved the run, or somebody removed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseSummary:
    """One case of a run: how many rounds, and their median total in the measure that gates."""

    id: str
    name: str
    device: str
    measure: str
    n_rounds: int
    median_total_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """What a listing shows of a run beside its name."""

    started_at: str
    branch: str | None
    cases: tuple[CaseSummary, ...]


def summary_of(run: RunRounds) -> RunSummary:
    """Return what a listing shows of a run."""
    commit = run.header.commit
    return RunSummary(
        started_at=run.header.started_at,
        branch=None if commit is None else commit.branch,
        cases=tuple(
            CaseSummary(
                id=rounds.case_id,
                name=rounds.case_name,
                device=rounds.device,
                measure=rounds.measure,
                n_rounds=len(rounds.times_ms[TOTAL]),
                median_total_ms=median(rounds.times_ms[TOTAL]),
            )
            for rounds in run.cases
        ),
    )


def parse(content: bytes) -> Plain:
    """Return a run's plain values in today's schema, or raise Unreadable with the reason."""
    plain = json_of(content)
    if not isinstance(plain, dict) or not plain.keys() >= KEYS:
        raise Unreadable("no run of pytest-vlmlatency")
    with form_of_a_run():
        return upgraded(plain, content)


def json_of(content: bytes, *, has_constants: bool = False) -> object:
    """Return the value of a JSON file in UTF-8, or raise Unreadable; every text is Unicode.

    `has_constants`: what other programs write may have NaN and Infinity in places nobody reads.
    """
    try:
        text = content.decode("utf-8-sig")
        constant = float if has_constants else refuse_constant
        value: object = json.loads(text, parse_constant=constant)
        if "\\ud" in text or "\\uD" in text:  # half a character can neither be printed nor stored
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as problem:
        raise Unreadable(f"no whole JSON: {problem}") from None
    return value


def refuse_constant(text: str) -> float:
    """Raise ValueError for NaN and Infinity, as `parse_constant` of JSON."""
    raise ValueError(f"it holds {text}, which is no time and no JSON")


def checked(plain: Plain, name: RunName) -> Plain:
    """Return the values if they are of the run that the name says, else raise Unreadable."""
    with form_of_a_run():
        held = name_of(header_of(plain))
    if replace(held, fingerprint=name.fingerprint) != name:  # its rules may have changed since
        raise Unreadable(f"it holds another run, {held.text}")
    return plain


def rounds_of_run(plain: Mapping[str, Any]) -> RunRounds:
    """Return a run as it is judged, or raise Unreadable; the values are in today's schema."""
    with form_of_a_run():
        header = header_of(plain)
        measured = filter(was_measured, plain["cases"])
        return RunRounds(header=header, cases=tuple(rounds_of_case(case) for case in measured))


@contextmanager
def form_of_a_run() -> Iterator[None]:
    """Turn whatever reading values of another form raises into Unreadable."""
    try:
        yield
    except FORM_ERRORS as problem:
        raise Unreadable(f"not of the form of a run: {reason_in_words(problem)}") from None


def was_measured(case: Mapping[str, Any]) -> bool:
    """Whether a case has round times to be judged."""
    return bool(case["is_measured"] and case["calls"])


def header_of(plain: Mapping[str, Any]) -> RunHeader:
    """Return the run without its cases."""
    commit, environment = plain["commit"], plain["environment"]
    header = RunHeader(
        id=plain["id"],
        started_at=plain["started_at"],
        environment=Environment(**{**environment, "devices": _tuple(environment["devices"])}),
        commit=None if commit is None else Commit(**commit),
        is_pull_request=plain["is_pull_request"],
        lost=_tuple(plain["lost"]),
    )
    check_kinds(header)
    return header


def rounds_of_case(case: Mapping[str, Any]) -> Rounds:
    """Return the round times of one measured case."""
    calls = case["calls"]
    measure = CPU if CPU in calls[0]["total"] else WALL
    return slim_rounds(_slim_case(case, measure), _times_ms(case["id"], calls, measure))


def slim_rounds(slim: Mapping[str, Any], times_ms: Mapping[str, Sequence[float]]) -> Rounds:
    """Return Rounds from the plain values of their other fields and their times."""
    terms, workload = slim["terms"], slim["workload"]
    rounds = Rounds(
        **{
            **slim,
            "workload": None if workload is None else Workload(**workload),
            "throttle_reasons": _tuple(slim["throttle_reasons"]),
            "terms": GateTerms(**{**terms, "mode": GateMode(terms["mode"])}),
        },
        times_ms={name: tuple(values) for name, values in times_ms.items()},
    )
    check_kinds(rounds)
    all_times = rounds.times_ms.values()
    if len({len(times) for times in all_times}) != 1 or min(map(min, all_times)) < 0:
        raise ValueError(f"{rounds.case_id} has times below 0, or not in all of its rounds")
    if TOTAL not in rounds.times_ms or max(map(max, all_times)) > MOST_MS:
        raise ValueError(f"{rounds.case_id} has no total, or times above {MOST_MS:g} ms")
    return rounds


def check_kinds(record: Any) -> None:
    """Raise TypeError for a field whose value is not of its declared type: none is converted."""
    for name, is_of_kind in _fields_of(record.__class__):
        if not is_of_kind(value := getattr(record, name)):
            raise TypeError(f"{name} is {reprlib.repr(value)}")


@cache
def _fields_of(record: Any) -> tuple[tuple[str, Callable[[Any], bool]], ...]:
    return tuple((name, _check_of(kind)) for name, kind in get_type_hints(record).items())


@cache
def _check_of(kind: Any) -> Callable[[Any], bool]:
    """Return a check of values of a type; types are taken apart once and not for each value."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        checks = tuple(map(_check_of, arguments))
        return lambda value: any(check(value) for check in checks)
    if origin is tuple:
        check_item = _check_of(arguments[0])
        return lambda value: isinstance(value, tuple) and all(map(check_item, value))
    if origin is Mapping:
        check_key, check_value = map(_check_of, arguments)
        return lambda value: (
            isinstance(value, Mapping)
            and all(map(check_key, value))
            and all(map(check_value, value.values()))
        )
    if kind is float or kind is int:
        allowed = (int, float) if kind is float else (int,)
        return lambda value: type(value) in allowed and -math.inf < value < math.inf
    if is_dataclass(kind):
        return lambda value: isinstance(value, kind) and _has_kinds(value)  # type: ignore[arg-type]  # a class
    return lambda value: isinstance(value, kind)


def _has_kinds(record: Any) -> bool:
    check_kinds(record)
    return True


def _tuple(values: object) -> tuple[Any, ...]:
    if not isinstance(values, list | tuple):
        raise TypeError(f"{reprlib.repr(values)} stands where a list is expected")
    return tuple(values)


def _slim_case(case: Mapping[str, Any], measure: str) -> Plain:
    shares = [call["contended_ratio"] for call in case["calls"]]
    known = [share for share in shares if share is not None]
    states = (*case["device_before"], *case["device_after"])
    others = [state.get("n_other_processes") for state in states]
    return {
        "case_id": case["id"],
        "case_name": case["name"],
        "test": case["test"],
        "device": case["device"],
        "workload": case["workload"],
        "config": case["config"],
        "n_threads": case["n_threads"],
        "measure": measure,
        "contended_ratio": median(known) if known else None,
        "throttle_reasons": sorted({why for state in states for why in state["throttle_reasons"]}),
        "n_other_processes": max((n for n in others if n is not None), default=None),
        "terms": case["terms"],
        "former_id": case.get("former_id"),
    }


def _times_ms(case_id: str, calls: Sequence[Plain], measure: str) -> dict[str, list[float]]:
    """Return the times by name as `records.rounds_of` does: phases, parts that occurred, total."""
    part = str(Place.PART)
    spans = (span for call in calls for span in call["spans"])
    parts = (
        span["name"] for span in spans if span["place"] == part or span["name"] == VISION_OUTSIDE
    )
    times: dict[str, list[float]] = {name: [] for name in (*map(str, Phase), *parts)}
    total = []
    for call in calls:
        total.append(_time(case_id, TOTAL, call["total"].get(measure), is_total=True))
        of_call: dict[str, list[float]] = {name: [] for name in times}
        for span in call["spans"]:
            if (name := span["name"]) in of_call:
                of_call[name].append(_time(case_id, name, span["measures"].get(measure)))
        for name, found in of_call.items():
            times[name].append(sum(found))
    return {name: values for name, values in times.items() if any(values)} | {TOTAL: total}


def _time(case_id: str, name: str, time_ms: object, *, is_total: bool = False) -> float:
    """Return a time that can be true: finite, at least 0, and of a total more than that."""
    if not isinstance(time_ms, int | float) or isinstance(time_ms, bool):
        raise Unreadable(f"{case_id}: {name} has no time in one of its rounds, but {time_ms!r}")
    if not 0 <= time_ms <= MOST_MS or (is_total and time_ms == 0):
        raise Unreadable(f"{case_id}: {name} took {time_ms} ms in one of its rounds")
    return time_ms


def upgraded(plain: Plain, content: bytes = b"") -> Plain:
    """Return the values in today's schema, without their digest, which is checked first.

    1 had no id of a run: its content's digest is one.
    """
    version = plain["schema_version"]
    if type(version) is not int or version < 1:
        raise Unreadable(f"its schema_version is {version!r}; expected a number from 1")
    if version > SCHEMA_VERSION:
        raise Unreadable(
            f"written by a newer pytest-vlmlatency, in schema {version}; this one reads up to "
            f"{SCHEMA_VERSION}: update it"
        )
    if version == SCHEMA_VERSION:
        if plain.get(DIGEST) != digest_of_run(plain):
            raise Unreadable(OTHER_DIGEST)
        return {key: value for key, value in plain.items() if key != DIGEST}
    if version > WITHOUT_ID:
        return {**plain, "schema_version": SCHEMA_VERSION}
    if not isinstance(plain["cases"], list):
        raise Unreadable("its cases are no list")
    return {
        **plain,
        "cases": [{**case, "terms": asdict(GateTerms())} for case in plain["cases"]],
        "id": hashlib.sha256(content).hexdigest()[:16],
        "is_pull_request": False,
        "merged_from": [],
        "schema_version": SCHEMA_VERSION,
    }
