"""Records as plain JSON values, and back.

Owns the conversion only; the records own their checks, which run again when they are read. A value
of another type than the declared one is refused, never converted: "12" is no number, and a
dict no name.
"""

from __future__ import annotations

import json
import math
import reprlib
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

from cattrs.preconf.json import make_converter

from pytest_vlmlatency.records import CASES, DIGEST, Run, RunDigest, Scalar, digest_of_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Record = TypeVar("Record")

_CONVERTER = make_converter(forbid_extra_keys=True)
_CONVERTER.register_structure_hook_func(
    lambda declared: declared == Scalar, lambda value, _declared: _scalar(value)
)


def _checked(value: object, kind: type) -> object:
    """Return a value of exactly this type; a number may be an int where a float is declared."""
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value):
            return float(value)
    elif kind is str and isinstance(value, str):
        return sys.intern(str(value))  # the names of phases recur in each of many calls
    elif isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise TypeError(f"expected {kind.__name__}, not {reprlib.repr(value)}")


def _is_tuple(kind: object) -> bool:
    origin: object = get_origin(kind)
    return origin is tuple


def _tuples(kind: Any) -> Callable[[object, object], object]:
    of = get_args(kind)[0]
    each = _CONVERTER.get_structure_hook(of)

    def hook(values: object, _declared: object) -> object:
        if not isinstance(values, list | tuple):  # a text would be taken for its letters
            raise TypeError(f"expected a list, not {reprlib.repr(values)}")
        return tuple(each(value, of) for value in values)

    return hook


# By the type itself: hooks by class would be taken for enumerations of texts, too.
_CONVERTER.register_structure_hook_func(lambda kind: kind in (str, int, bool, float), _checked)
_CONVERTER.register_structure_hook_factory(_is_tuple, _tuples)


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


def run_json(run: Run, *, indent: int | None = None) -> str:
    """Return a run as JSON with its digest; a NaN or an infinity is an error, never written."""
    return "".join(run_pieces(run, indent=indent))


def run_pieces(run: Run, *, indent: int | None = None) -> Iterator[str]:
    """Yield the pieces of `run_json`, a case at a time: thousands as one text fill the memory."""
    plain = to_plain(replace(run, cases=()))
    digest = RunDigest()
    newline, between = ("", ", ") if indent is None else ("\n" + " " * indent, ",")
    inner = newline + " " * (indent or 0)
    yield "{"
    for key, value in plain.items():
        yield f"{newline}{json.dumps(key)}: "
        if key == CASES and run.cases:
            for number, case in enumerate(run.cases):
                one = to_plain(case)
                digest.add_case(one)
                text = json.dumps(one, indent=indent, allow_nan=False)
                start = "[" if number == 0 else between
                yield f"{start}{inner}{text.replace(chr(10), inner)}"
            yield f"{newline}]"
        else:
            text = json.dumps(value, indent=indent, allow_nan=False)
            yield text.replace("\n", newline) if newline else text
        yield between
    yield f"{newline}{json.dumps(DIGEST)}: {json.dumps(digest.digits(plain))}{newline[:1]}}}"


def run_of_json(text: str) -> Run:
    """Return the run that `run_json` wrote; ValueError if its digest is another."""
    plain: dict[str, object] = json.loads(text)
    if plain.pop(DIGEST, None) != digest_of_run(plain):
        raise ValueError("the run's digest is another than that of its content")
    return from_plain(Run, plain)


def _scalar(value: object) -> Scalar:
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, float):
        _checked(value, float)
        return value
    raise TypeError(f"expected a string, number, boolean or null, not {type(value).__name__}")
