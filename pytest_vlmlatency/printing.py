"""What the commands and pytest print, and foreign text made fit for it.

Foreign is whatever others wrote: names and notes of a run's file, the reason of a pin, branches,
file names, devices, messages of git and of other packages, the output of other processes. Printed
as it is, it could move the cursor, forge a line of ours, or give an order to the CI service that
reads the log. Owns how such text is shown, and writing to stdout, stderr and pytest's terminal.
"""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

_ORDER = re.compile(r"##(?=\w*\[)")
"""GitHub takes `##[error]` for an order anywhere in a line, Azure Pipelines `##vso[...]`."""
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,30})://"
    r"(?P<rest>(?:(?!::[A-Za-z][\w+.-]{0,30}://)[^\s'\"<>`])+)"
)
"""A scheme's length is bounded: a text without one is searched in proportion to its length."""
_HOST_AND_PORT = re.compile(r"([^:@]*|\[[^\]]*\]):\d+")
LEAST_SECRET = 4
"""Shorter ones would be replaced within words of a message."""
OF_AZURE = ("abfs", "abfss", "wasb", "wasbs")
"""Before the @ of these URLs stands a container, and no user."""


class NotPrinted(Exception):
    """Stdout or stderr takes no more: its reader closed it (`| head -1`), or a disk is full."""

    def __init__(self, stream: TextIO, problem: OSError) -> None:
        name = "stderr" if stream is sys.stderr else "stdout"
        super().__init__(f"{name} could not be written: {problem.strerror or problem}")
        self.stream = stream
        self.is_closed = isinstance(problem, BrokenPipeError)


class Reporter(Protocol):
    """What is used of pytest's terminal reporter."""

    def write_line(self, line: str, **markup: bool) -> None:
        """Write a line."""


def plural(number: int, noun: str) -> str:
    """Return a count with its noun: "1 case", "2,000 cases"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def short_commit(commit: str) -> str:
    """Return the first digits of a commit's id, as many as people need to tell commits apart."""
    return commit[:10]


def printable(text: str) -> str:
    """Return text as one line without control characters, which no CI service takes for an order.

    What is not printable is shown as Python escapes it: ANSI sequences, line breaks, marks that
    turn the direction of writing, lone surrogates. So is a part of `::` at the beginning, of `##[`.
    """
    shown = text if text.isprintable() else "".join(map(_escaped, text))
    shown = _ORDER.sub(r"#\\x23", shown)
    begin = shown.lstrip()
    if begin.startswith("::"):
        shown = f"{shown[: len(shown) - len(begin)]}\\x3a{begin[1:]}"
    return shown


def printable_lines(text: str) -> list[str]:
    """Return the lines of a text, each printable; all but the first are set in.

    So nothing foreign in the middle of a text begins a line of the output.
    """
    first, *others = map(printable, text.replace("\r\n", "\n").split("\n"))
    return [first, *(f"  {line}" if line and not line.startswith(" ") else line for line in others)]


def without_secrets(text: str) -> str:
    """Return text whose URLs name no user or password, no query and no fragment."""
    return _URL.sub(_url_without_secrets, text)


def without_private(text: str) -> str:
    """Return what a process printed as a report may quote it: no secrets of URLs, `~` for home."""
    home = os.path.expanduser("~")  # noqa: PTH111 - as it is where there is none
    return without_secrets(text.replace(f"{home.rstrip(os.sep)}{os.sep}", f"~{os.sep}"))


def secrets_in(url: str) -> tuple[str, ...]:
    """Return user, password and values of the query of a URL, also unquoted; longest first."""
    rest, shown = (text.partition("://")[2] for text in (url, without_secrets(url)))
    user, password = rest.rpartition("@")[0], rest.rpartition("@")[0].partition(":")[2]
    query = re.split(r"[?#]", rest, maxsplit=1)[1:]
    values = [one.partition("=")[2] for text in query for one in re.split(r"[&;#]", text)]
    found = {unquote(one) for one in (user, password, *values)} | {user, password, *values}
    secrets = [one for one in found if len(one) >= LEAST_SECRET and one not in shown]
    return tuple(sorted(secrets, key=len, reverse=True))


def tell(*texts: str) -> None:
    """Write texts to stdout, each from the beginning of a line."""
    _write(sys.stdout, texts)


def tell_ready(text: str) -> None:
    """Write a text to stdout that was made of printable lines, such as one with colours."""
    _put(sys.stdout, [f"{text}\n"])


def warn(*texts: str) -> None:
    """Write texts to stderr, each from the beginning of a line, at once."""
    _write(sys.stderr, texts)
    _put(sys.stderr, [], is_flushed=True)


def tell_json(value: object, *, indent: int | None = 1) -> None:
    """Write a value to stdout as JSON, in ASCII; no string in it is an order to a CI service."""
    text = json.dumps(value, indent=indent, allow_nan=False)
    _put(sys.stdout, [text.replace("##", "#\\u0023") + "\n"])


def write_over(text: str) -> None:
    """Write a text over the last line of a terminal's stderr."""
    _put(sys.stderr, [f"\r\x1b[K{printable(text)}"], is_flushed=True)


def print_any_character() -> None:
    """Escape characters that the encoding of a terminal lacks, such as ASCII, and do not fail."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # None where it is closed; a test's own may be another kind
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # caught


def has_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal; None is one that was closed before this process began."""
    return stream is not None and stream.isatty()


def flush_printed() -> None:
    """Write out what waits for stdout; NotPrinted where it takes no more."""
    _put(sys.stdout, [], is_flushed=True)


def discard_printed(stream: TextIO) -> None:
    """Let what is left for a stream go nowhere: Python writes it out when it ends."""
    with suppress(OSError, ValueError):  # a stream of a test's has no descriptor
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def print_line(reporter: Reporter, text: str, **markup: bool) -> None:
    """Write a text to pytest's terminal from the beginning of a line."""
    for line in printable_lines(text):
        reporter.write_line(line, **markup)


def _write(stream: TextIO, texts: tuple[str, ...]) -> None:
    _put(stream, [f"{line}\n" for text in texts for line in printable_lines(text)])


def _put(stream: TextIO | None, lines: Iterable[str], *, is_flushed: bool = False) -> None:
    if stream is None:  # this process was started with it closed
        return
    try:
        stream.writelines(lines)
        if is_flushed:
            stream.flush()
    except OSError as problem:
        raise NotPrinted(stream, problem) from problem


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")


def _url_without_secrets(found: re.Match[str]) -> str:
    scheme, rest = found["scheme"], found["rest"]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    has_password = ":" in authority and not _HOST_AND_PORT.fullmatch(authority)
    if "@" in rest and has_password:  # in which there may be any character, another @ too
        rest = rest.rpartition("@")[2]
    elif "@" in authority and scheme not in OF_AZURE:
        rest = rest.partition("@")[2]
    before, *behind = re.split(r"[?#]", rest, maxsplit=1)
    sentence = re.search(r"[.,;:)]*$", behind[0]) if behind else None  # it goes on behind the URL
    return f"{scheme}://{before}{sentence[0] if sentence else ''}"
