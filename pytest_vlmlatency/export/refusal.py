"""Why a record is not believed: the reasons, in words that a report counts by."""

from __future__ import annotations

from enum import StrEnum


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
