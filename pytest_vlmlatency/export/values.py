"""Single values of a record: counts, times and texts, of the right type and a possible size."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TYPE_CHECKING

from pytest_vlmlatency.export.fields import SCHEMA_VERSION
from pytest_vlmlatency.export.refusal import Reason, Refused, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_TOKENS = 10**9
MOST_MS = 10**9
"""Eleven days: no call takes so long, and products of what is larger leave the range of floats."""


def schema_version(given: Mapping[str, object]) -> int | None:
    """Return the version of a record or a whole file, None where it says none, as the origin's."""
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
