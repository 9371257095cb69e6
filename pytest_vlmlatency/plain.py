"""Records as plain JSON values, and back.

Owns the conversion only; the records own their checks, which run again when they are read.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeVar

from cattrs.preconf.json import make_converter

from pytest_vlmlatency.records import Scalar

if TYPE_CHECKING:
    from collections.abc import Mapping

Record = TypeVar("Record")

_CONVERTER = make_converter(forbid_extra_keys=True)
_CONVERTER.register_structure_hook_func(
    lambda declared: declared == Scalar, lambda value, _declared: _scalar(value)
)


def to_plain(record: object) -> dict[str, object]:
    """Return a record as a dict of JSON values."""
    plain = _CONVERTER.unstructure(record)
    assert isinstance(plain, dict), "records are dataclasses"
    return plain


def from_plain(kind: type[Record], plain: Mapping[str, object]) -> Record:
    """Return a record of `kind` from its plain form; the record's own checks run again."""
    return _CONVERTER.structure(plain, kind)


def to_json(record: object, *, indent: int | None = 1) -> str:
    """Return a record as JSON; a NaN or an infinity is an error, never written."""
    return json.dumps(to_plain(record), indent=indent, allow_nan=False)


def _scalar(value: object) -> Scalar:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"expected a string, number, boolean or null, not {type(value).__name__}")
