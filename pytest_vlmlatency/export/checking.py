"""Whether a record can be true: every check of one record by itself, and what it becomes.

A record is taken over as it is, with what follows from it computed anew, or refused with its
numbers. Nothing is clamped, filled in or converted from text.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from numbers import Real

from pytest_vlmlatency.export.fields import (
    CONFIGURATION,
    COUNTS,
    DIGEST,
    KNOBS,
    TIERS,
    TIMES,
    WALL_MS,
    Reason,
    Record,
    Refused,
    count,
    derived,
    optional_count,
    schema_version,
    shown,
    text,
    time_ms,
    whole,
)

ROUNDING_MS = 0.005
"""Legacy files have two decimals, each half of the last one off at most."""
ALIASES = {"tier": ("tier", "tier_idx")}
"""A tier may stand by its name, by its index, or by both."""
RELATIVE = 1e-6
"""What floating point may do to sums of times that were not rounded."""
COMPUTED = frozenset(
    (
        DIGEST,
        *KNOBS,  # stand in the configuration
        "tier_idx",
        "T_prefill_total",
        "T_decode_per_token",
        "decode_steps",
        "T_decode_per_step",
    )
)
"""What no digest covers, because it is computed anew from what one covers."""


def checked(given: object) -> Record:
    """Return a believable record with what follows from it, or raise Refused."""
    if not isinstance(given, Mapping):
        raise Refused(Reason.WRONG_TYPE, f"{shown(given)} is no object with fields")
    rounding_ms = ROUNDING_MS if schema_version(given) is None else 0.0
    record: Record = dict(given)
    for name in COUNTS:
        record[name] = count(given, name)
    for name in TIMES:
        record[name] = time_ms(given, name)
    for name in ("T_total", "T_other"):
        record[name] = time_ms(given, name, is_needed=name == "T_total" and rounding_ms == 0)
    record["batch_size"] = _batch_size(given)
    for name in ("machine", "dataset", "source", "measure"):
        record[name] = text(given, name)
    record["measure"] = record["measure"] or WALL_MS
    record[CONFIGURATION] = _configuration(given)
    record |= {name: record[CONFIGURATION].get(name) for name in KNOBS}
    _check_possible(record)
    record |= derived(record)
    _check_agreement(given, record, rounding_ms)
    digest = record.pop(DIGEST, None)
    if digest is not None and digest != digest_of_content(record):
        raise Refused(
            Reason.CHANGED,
            f"its content is not what {DIGEST} {shown(digest)} was written for; remove that field "
            f"if the change was meant",
        )
    return record


def digest_of_content(record: Record) -> str | None:
    """Return the digest of a checked record, None where its further fields are no JSON."""
    held = {name: one for name, one in record.items() if one is not None and name not in COMPUTED}
    try:
        text = json.dumps(held, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _batch_size(given: Mapping[str, object]) -> int:
    """Return the rows of a call; a file without it has one, as legacy files."""
    n_rows = optional_count(given, "batch_size")
    if n_rows == 0:
        raise Refused(Reason.IMPOSSIBLE, "batch_size is 0; a call has at least one row")
    return 1 if n_rows is None else n_rows


def _check_possible(record: Record) -> None:
    """Refuse what no call can have been."""
    n_vision, n_text, n_output = (record[name] for name in COUNTS)
    vision_ms, prefill_ms, decode_ms = (record[name] for name in TIMES)
    if n_output < 1:
        raise Refused(Reason.IMPOSSIBLE, "output_tokens is 0; a call gives at least one")
    if n_vision + n_text < 1:
        raise Refused(Reason.IMPOSSIBLE, "neither vision nor text tokens went in")
    if decode_ms == 0:
        raise Refused(Reason.IMPOSSIBLE, f"T_LLM_decode is 0 ms for {n_output} output tokens")
    if prefill_ms == 0:
        raise Refused(Reason.IMPOSSIBLE, f"T_LLM_prefill is 0 ms for {n_text} text tokens")
    if n_vision and vision_ms == 0:
        raise Refused(Reason.IMPOSSIBLE, f"T_vision_total is 0 ms for {n_vision} vision tokens")


def _check_agreement(given: Mapping[str, object], record: Record, rounding_ms: float) -> None:
    """Refuse a record whose own figures contradict each other."""
    n_tokens, decode_ms = record["output_tokens"], record["T_LLM_decode"]
    said = time_ms(given, "T_decode_per_token", is_needed=False)
    if said is not None and not _equal(
        said * n_tokens, decode_ms, most_ms=rounding_ms * (n_tokens + 1)
    ):
        ratio = f"{decode_ms / said:.4g}" if said else "infinite"
        raise Refused(
            Reason.INCONSISTENT,
            f"T_LLM_decode / T_decode_per_token = {decode_ms:g} / {said:g} = {ratio}, but "
            f"output_tokens is {n_tokens}",
        )
    _check_equal(given, record, "T_prefill_total", 3 * rounding_ms)
    n_steps = optional_count(given, "decode_steps")
    if n_steps is not None and n_steps != n_tokens - 1:
        raise Refused(
            Reason.INCONSISTENT, f"decode_steps is {n_steps} for {n_tokens} output tokens"
        )
    _check_equal(given, record, "T_decode_per_step", rounding_ms * 2)
    _check_sum(record, rounding_ms)


def _check_equal(given: Mapping[str, object], record: Record, name: str, most_ms: float) -> None:
    said, computed = time_ms(given, name, is_needed=False), record[name]
    if said is None or (computed is not None and _equal(said, computed, most_ms=most_ms)):
        return
    found = "undefined" if computed is None else f"{computed:g}"
    raise Refused(Reason.INCONSISTENT, f"{name} is {said:g}, by the other fields it is {found}")


def _check_sum(record: Record, rounding_ms: float) -> None:
    total_ms, other_ms, parts_ms = record["T_total"], record["T_other"], _parts_ms(record)
    most_ms = 5 * rounding_ms
    if total_ms is None:
        return
    if other_ms is not None and not _equal(parts_ms + other_ms, total_ms, most_ms=most_ms):
        raise Refused(
            Reason.INCONSISTENT,
            f"vision, prefill, decode and other add up to {parts_ms + other_ms:g} ms, T_total is "
            f"{total_ms:g}",
        )
    if parts_ms > total_ms and not _equal(parts_ms, total_ms, most_ms=most_ms):
        raise Refused(
            Reason.INCONSISTENT,
            f"vision, prefill and decode add up to {parts_ms:g} ms, more than T_total, "
            f"{total_ms:g}",
        )


def _parts_ms(record: Record) -> float:
    return sum(float(record[name]) for name in TIMES)


def _equal(one: float, other: float, *, most_ms: float) -> bool:
    return abs(one - other) <= most_ms + RELATIVE * max(one, other)


def _configuration(given: Mapping[str, object]) -> dict[str, object]:
    """Return the knobs: those of `configuration`, and the three legacy ones wherever they stand."""
    found = _scalars(given.get(CONFIGURATION))
    for name in KNOBS:
        said = [
            (f"{alias}{where}", value)
            for holder, where in ((given, ""), (found, " in the configuration"))
            for alias in ALIASES.get(name, (name,))
            if (value := _knob(holder, alias)) is not None
        ]
        for alias, value in said[1:]:
            if value != said[0][1]:
                raise Refused(
                    Reason.INCONSISTENT,
                    f"{said[0][0]} is {shown(said[0][1])}, {alias} {shown(value)}",
                )
        for alias in ALIASES.get(name, (name,)):
            found.pop(alias, None)
        if said:
            found[name] = said[0][1]
    return found


def _scalars(said: object) -> dict[str, object]:
    """Return a configuration's values by name: texts and finite numbers."""
    if said is None:
        return {}
    if not isinstance(said, Mapping):
        raise Refused(Reason.WRONG_TYPE, f"configuration is {shown(said)}; expected an object")
    for name, value in said.items():
        if not isinstance(name, str) or not isinstance(value, str | Real | None):
            raise Refused(Reason.WRONG_TYPE, f"configuration has {shown(name)}: {shown(value)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise Refused(Reason.NOT_FINITE, f"configuration has {shown(name)}: {value}")
    return dict(said)


def _knob(given: Mapping[str, object], name: str) -> str | int | None:
    value = given.get(name)
    if name not in ALIASES["tier"] or value is None:
        return optional_count(given, name)
    if name == "tier" and isinstance(value, str):
        if value in TIERS:
            return value
        raise Refused(
            Reason.IMPOSSIBLE, f"tier is {shown(value)}; expected one of {', '.join(TIERS)}"
        )
    index = whole(name, value)
    if not 0 <= index < len(TIERS):
        raise Refused(
            Reason.IMPOSSIBLE, f"{name} is {shown(index)}; expected 0 to {len(TIERS) - 1}"
        )
    return TIERS[index]
