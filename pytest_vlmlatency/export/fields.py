"""The fields of a record: names, order, types, possible values, derived fields, refusal reasons.

Names and meanings up to T_total are those of the legacy record format and never change:
T_decode_per_token is decode over N tokens, though N tokens take N - 1 decode steps. The time of a
step is T_decode_per_step. Times are milliseconds.
"""

from __future__ import annotations

import math
from enum import StrEnum
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


Record = dict[str, Any]
"""One call as it is exported: JSON values by the names below, and others that pass unread."""

SCHEMA_VERSION = 1
"""Of the records. Those without a version are legacy records."""
RESULTS = "per_sample_results"
TIERS = ("low", "medium", "high")
KNOBS = ("tier", "top_k", "num_active_blocks")

COUNTS = ("actual_vision_tokens", "actual_text_tokens", "output_tokens")
TIMES = ("T_vision_total", "T_LLM_prefill", "T_LLM_decode")
PARQUET_TYPES = {
    "schema_version": "BIGINT",
    "actual_vision_tokens": "BIGINT",
    "actual_text_tokens": "BIGINT",
    "output_tokens": "BIGINT",
    "tier": "VARCHAR",
    "top_k": "BIGINT",
    "num_active_blocks": "BIGINT",
    "T_vision_total": "DOUBLE",
    "T_LLM_prefill": "DOUBLE",
    "T_LLM_decode": "DOUBLE",
    "T_decode_per_token": "DOUBLE",
    "T_total": "DOUBLE",
    "decode_steps": "BIGINT",
    "T_decode_per_step": "DOUBLE",
    "T_other": "DOUBLE",
    "batch_size": "BIGINT",
    "measure": "VARCHAR",
    "machine": "VARCHAR",
    "dataset": "VARCHAR",
    "source": "VARCHAR",
}
"""The columns of a Parquet file; a configuration and further fields are JSON beside them."""
DIGEST = "record_digest"
"""Of what a record held when it was written: whatever was changed in it since is not believed."""
CONFIGURATION = "configuration"
FURTHER = "further"
WALL_MS = "wall_ms"


def derived(record: Record) -> Record:
    """Return what follows from a checked record: never read from a file, always computed."""
    n_tokens, decode_ms = record["output_tokens"], record["T_LLM_decode"]
    n_steps = n_tokens - 1
    tier = record.get("tier")
    return {
        "T_prefill_total": record["T_vision_total"] + record["T_LLM_prefill"],
        "T_decode_per_token": decode_ms / n_tokens,
        "decode_steps": n_steps,
        "T_decode_per_step": decode_ms / n_steps if n_steps else None,
        "tier_idx": None if tier is None else TIERS.index(tier),
    }


class Reason(StrEnum):
    """The kinds of records, lines and files that are left out, as they are counted."""

    UNREADABLE = "unreadable"
    FOREIGN = "foreign"
    NEWER = "of a newer version"
    WRONG_TYPE = "of a wrong type"
    MISSING = "missing a field"
    NOT_FINITE = "not finite"
    NEGATIVE = "negative"
    IMPOSSIBLE = "impossible"
    INCONSISTENT = "inconsistent"
    MIXED_MACHINE = "of another machine"
    MIXED_MEASURE = "of another kind of time"
    DUPLICATE = "duplicate"
    CHANGED = "changed since it was written"
    NOT_STEPWISE = "not one token a step"


class Refused(Exception):
    """A record, line or file that is left out, with the reason and what was seen in it."""

    def __init__(self, reason: Reason, seen: str) -> None:
        super().__init__(seen)
        self.reason = reason
        self.seen = seen


SHOWN = 60


def shown(value: object) -> str:
    """Return a value as a message shows it: short, on one line, in letters that print anywhere."""
    if isinstance(value, int) and value.bit_length() > SHOWN:
        return f"a whole number of {value.bit_length()} bits"  # str() of a huge one is an error
    try:
        text = ascii(value)
    except (RecursionError, ValueError):
        return f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


MOST_TOKENS = 10**9
MOST_MS = 10**9
"""Eleven days: no call takes so long, and products of what is larger leave the range of floats."""


def schema_version(given: Mapping[str, object]) -> int | None:
    """Return the version of a record or a whole file, None where it has none, as legacy ones."""
    version = given.get("schema_version")
    if version is None:
        return None
    number = whole("schema_version", version)
    if number > SCHEMA_VERSION:
        raise Refused(
            Reason.NEWER,
            f"schema_version is {shown(number)}; this version of pytest-vlmlatency reads up to "
            f"{SCHEMA_VERSION}",
        )
    if number < 1:
        raise Refused(Reason.IMPOSSIBLE, f"schema_version is {shown(number)}; the first was 1")
    return number


def text(given: Mapping[str, object], name: str) -> str | None:
    """Return a text, None where there is none."""
    value = given.get(name)
    if value is None or isinstance(value, str):
        return value
    raise Refused(Reason.WRONG_TYPE, f"{name} is {shown(value)}; expected a text")


def optional_count(given: Mapping[str, object], name: str) -> int | None:
    """Return a count, None where there is none."""
    return None if given.get(name) is None else count(given, name)


def count(given: Mapping[str, object], name: str) -> int:
    """Return a count of at least 0, or raise Refused."""
    value = given.get(name)
    if type(value) is int and 0 <= value <= MOST_TOKENS:  # nearly always; numbers.Integral is slow
        return value
    if value is None:
        raise Refused(Reason.MISSING, f"{name} is missing")
    number = whole(name, value)
    if number < 0:
        raise Refused(Reason.NEGATIVE, f"{name} is {shown(number)}")
    if number > MOST_TOKENS:
        raise Refused(Reason.IMPOSSIBLE, f"{name} is {shown(number)}, more than {MOST_TOKENS:,}")
    return number


def whole(name: str, value: object) -> int:
    """Return a whole number, of any size; a float must be one, too."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, Real) and not isinstance(value, bool):
        number = float(value)
        if not math.isfinite(number):
            raise Refused(Reason.NOT_FINITE, f"{name} is {number}")
        if number.is_integer():
            return int(number)
    raise Refused(Reason.WRONG_TYPE, f"{name} is {shown(value)}; expected a whole number")


def time_ms(given: Mapping[str, object], name: str, *, is_needed: bool = True) -> float | None:
    """Return a finite time of at least 0 ms, None where it may be missing."""
    value = given.get(name)
    if type(value) is float and 0 <= value <= MOST_MS:  # nearly always; numbers.Real is slow
        return value
    if value is None:
        if is_needed:
            raise Refused(Reason.MISSING, f"{name} is missing")
        return None
    if isinstance(value, bool) or not isinstance(value, Real):
        raise Refused(Reason.WRONG_TYPE, f"{name} is {shown(value)}; expected a number of ms")
    number = _float(value)
    if math.isnan(number) or value in (math.inf, -math.inf):
        raise Refused(Reason.NOT_FINITE, f"{name} is {number}")
    if number < 0:
        raise Refused(Reason.NEGATIVE, f"{name} is {shown(value)} ms")
    if number > MOST_MS:
        raise Refused(Reason.IMPOSSIBLE, f"{name} is more than {MOST_MS:,} ms, eleven days")
    return number


def _float(value: Real) -> float:
    """Return a number as a float; a whole number beyond all floats is infinite, with its sign."""
    try:
        return float(value)
    except OverflowError:
        return -math.inf if isinstance(value, Integral) and int(value) < 0 else math.inf
