"""A run's file read a case at a time: thousands of cases with their rounds fill the memory.

Owns walking through the JSON text; what a case or a header holds is checked by `slim`.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, Any

from pytest_vlmlatency.history.checked_runs import (
    KEYS,
    OTHER_DIGEST,
    Unreadable,
    checked,
    form_of_a_run,
    header_of,
    parse,
    refuse_constant,
    rounds_of_case,
    was_measured,
)
from pytest_vlmlatency.records import (
    CASES,
    DIGEST,
    SCHEMA_VERSION,
    Rounds,
    RunDigest,
    RunRounds,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_vlmlatency.history.checked_runs import Plain
    from pytest_vlmlatency.history.names import RunName


TAIL_LENGTH = 4096
"""What follows the cases in a file that we wrote is shorter."""
PART_BYTES = 2**20
"""How much of a file is decoded at once: some dozens of cases."""
_DECODER = json.JSONDecoder(parse_constant=refuse_constant)
_SPACE = re.compile(r"[ \t\n\r]*")
_VERSION = re.compile(rb'"schema_version": ?(\d+)')


def pieces_of(content: bytes) -> Iterator[tuple[bool, Plain]]:
    """Yield the cases of a run one by one (True), and last its other values (False).

    The digest is checked before the last; whatever is wrong is Unreadable, when it is come to. A
    file of an older schema is parsed as a whole.
    """
    version = _VERSION.search(content, max(0, len(content) - TAIL_LENGTH))
    is_of_today = version is not None and int(version[1]) == SCHEMA_VERSION
    if is_of_today and b"\\ud" not in content and b"\\uD" not in content:
        yield from _streamed(content)
        return
    plain = parse(content)
    with form_of_a_run():
        cases = plain.pop(CASES)
    yield from ((True, case) for case in cases)
    yield False, plain


def rounds_of_pieces(content: bytes, name: RunName) -> RunRounds:
    """Return a run as it is judged from its file's content, a case at a time."""
    cases: list[Rounds] = []
    rest: Plain = {}
    for is_case, piece in pieces_of(content):
        with form_of_a_run():
            if is_case:
                cases += [rounds_of_case(piece)] if was_measured(piece) else []
            else:
                rest = piece
    with form_of_a_run():
        return RunRounds(header=header_of(checked(rest, name)), cases=tuple(cases))


def _streamed(content: bytes) -> Iterator[tuple[bool, Plain]]:
    digest = RunDigest()
    rest: Plain = {}
    try:
        for key, value in _members(_Text(content)):
            if key == CASES:
                digest.add_case(value)
                yield True, value
            else:
                rest[key] = value
        if rest.pop(DIGEST, None) != digest.digits(rest):
            raise Unreadable(OTHER_DIGEST)
    except (ValueError, RecursionError) as problem:
        raise Unreadable(f"no whole JSON: {problem}") from None
    if not rest.keys() >= KEYS - {CASES}:
        raise Unreadable("no run of pytest-vlmlatency")
    yield False, rest


def _members(text: _Text) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of a JSON object; of a list under `CASES`, each of its values."""
    keys = set()
    for _ in _between(text, "{", "}"):
        key = text.key()
        if key in keys:
            raise ValueError(f"it has {key!r:.80} twice")
        keys.add(key)
        text.take(":")
        if key == CASES:
            yield from ((key, text.value()) for _ in _between(text, "[", "]"))
        else:
            yield key, text.value()
    if text.next_sign():
        raise ValueError("there are values behind its end")


def _between(text: _Text, opening: str, closing: str) -> Iterator[None]:
    """Stop at each value or member between two brackets, which is then taken from the text."""
    text.take(opening)
    if text.next_sign() != closing:
        yield
        while text.next_sign() != closing:
            text.take(",")
            yield
    text.take(closing)


class _Text:
    """JSON in UTF-8, walked through from its start; of it, a part is decoded at a time."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._n_decoded_bytes = 0
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._part = ""
        self._at = 0

    def next_sign(self) -> str:
        """Return the character that follows white space, "" at the end."""
        while True:
            self._at = _SPACE.match(self._part, self._at).end()  # type: ignore[union-attr]  # it always matches
            if self._at < len(self._part):
                return self._part[self._at]
            if not self._decode_more():
                return ""

    def take(self, sign: str) -> None:
        """Pass a sign, which must come next."""
        found = self.next_sign()
        if found != sign:
            raise ValueError(f"{found!r} stands where {sign!r} is expected")
        self._at += 1

    def key(self) -> str:
        """Return the text that comes next, and pass it."""
        if self.next_sign() != '"':
            raise ValueError("one of its keys is no text")
        return str(self.value())

    def value(self) -> Any:
        """Return the value that comes next, and pass it."""
        self.next_sign()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._part, self._at)
            except ValueError:  # or it goes on in the next part
                if not self._decode_more():
                    raise
                continue
            if end < len(self._part) or not self._decode_more():
                self._at = end
                return value

    def _decode_more(self) -> bool:
        """Decode the next part, longer than what is left of this one; False at the end."""
        start, rest = self._n_decoded_bytes, self._part[self._at :]
        if start == len(self._content):
            return False
        end = min(len(self._content), start + max(PART_BYTES, len(rest)))
        more = self._decoder.decode(self._content[start:end], final=end == len(self._content))
        self._part, self._at, self._n_decoded_bytes = rest + more, 0, end
        return True
