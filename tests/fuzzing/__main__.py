"""Damaged and made-up files, given to all that reads files: `python -m tests.fuzzing --n 20000`.

What has to hold for each: no exception but this package's own; a value that is believed is the one
that was written, and what is missing is named; nothing is written elsewhere; memory and time are
bounded. A finding is shown with what repeats it: `--seed S --kind KIND --only NUMBER`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from pytest_vlmlatency import cli
from pytest_vlmlatency.errors import VlmLatencyError
from tests.fuzzing.kinds import KINDS, Believed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.fuzzing.kinds import Kind

MOST_BYTES = 2**28
"""By which one file may raise the most memory so far; a damaged file of kilobytes needs none."""
MOST_ADDRESSED_BYTES = 2**33
"""More than at the start, and a bomb is a MemoryError: libraries reserve more than they use."""
MOST_S = 20
N_LINES, LONGEST = 12, 300  # shown of a traceback
OUTSIDE = Path("/tmp/vlm-fuzzed-outside")  # what ODD names


class Hung(BaseException):
    """A reader that does not come back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What went wrong with which file."""

    kind: str
    number: int
    what: str

    def __str__(self) -> str:
        """Return it with what repeats it."""
        return f"--kind {self.kind!r} --only {self.number}: {self.what}"


def fuzz(
    n_files: int,
    seed: int,
    folder: Path,
    *,
    kinds: Sequence[Kind] = KINDS,
    only: int | None = None,
    say: Callable[[str], object] | None = None,
) -> list[Finding]:
    """Return what was found with so many files of all kinds together, or with one of each kind."""
    shares = sum(kind.share for kind in KINDS)
    found: list[Finding] = []
    with _limits(), _inside(folder):
        for kind in kinds:
            case = _Case(kind, folder / kind.name.replace(" ", "_"))
            n_of_kind = round(n_files * kind.share / shares)
            for number in range(n_of_kind) if only is None else (only,):
                found += case.findings(number, seed)
            if say is not None:
                spent = f"{time.process_time():.0f} s of CPU time"
                say(f"{kind.name}: {n_of_kind} files, {spent}, {len(found)} findings")
    return found


class _Case:
    """A kind of file in a folder of its own, and what it looks like undamaged."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind = kind
        self.source, self.out = folder / "in", folder / "out"
        self.file = kind.make(self.source)
        self.content = self.file.read_bytes()
        self.whole = self._believed()
        self.outside = _listing(self.source)

    def findings(self, number: int, seed: int) -> Iterator[Finding]:
        """Damage the file, let all that reads it read it, and yield what went wrong."""
        random = Random(f"{seed} {self.kind.name} {number}")
        content = self.kind.mutate(random, self.content)
        self.file.write_bytes(content)
        self.out.mkdir()
        signal.setitimer(signal.ITIMER_REAL, MOST_S)
        try:
            before = _most_bytes()
            problems = [self._read(), self._commanded(random), self._written_elsewhere()]
            if _most_bytes() - before > MOST_BYTES:
                problems.append(f"took {(_most_bytes() - before) / 2**20:.0f} MB")
            for problem in problems:
                if problem:
                    yield Finding(kind=self.kind.name, number=number, what=problem)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            shutil.rmtree(self.out)
            self.file.write_bytes(self.content)

    def _believed(self) -> Believed:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.kind.read(self.source, self.file)

    def _read(self) -> str:
        try:
            believed = self._believed()
        except VlmLatencyError:
            return ""
        except (Exception, Hung):
            return _last_lines()
        if not self.kind.is_sealed:
            return ""
        return _unlike(self.whole, believed)

    def _commanded(self, random: Random) -> str:
        if not self.kind.commands:
            return ""
        words = random.choice(self.kind.commands)(self.source, self.out)
        silent = io.StringIO()
        try:
            with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
                cli.main([str(word) for word in words])
        except SystemExit:
            return ""
        except (Exception, Hung):
            return f"{words}\n{_last_lines()}"
        return ""

    def _written_elsewhere(self) -> str:
        return _told(self.outside, _listing(self.source))


def _last_lines() -> str:
    """Return the end of a traceback, long lines cut."""
    return "\n".join(line[:LONGEST] for line in traceback.format_exc().splitlines()[-N_LINES:])


def _unlike(whole: Believed, found: Believed) -> str:
    """Return which value is believed that was not written, or is missing without a word."""
    for where, value in found.values.items():
        if whole.values.get(where) != value:
            return f"believed: {where} is {value!r:.300}; written: {whole.values.get(where)!r:.300}"
    missing = whole.values.keys() - found.values.keys()
    return (
        f"left out without a word: {sorted(missing)[:3]}" if missing and not found.is_named else ""
    )


def _most_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _told(before: frozenset[str], after: frozenset[str]) -> str:
    changed = sorted(before ^ after)
    return f"written elsewhere: {changed}" if changed else ""


def _listing(source: Path) -> frozenset[str]:
    """Return the paths of all that no command may write: beside, above, and at odd places."""
    folder = source.parent
    above = [*folder.iterdir(), *folder.parent.iterdir(), *folder.parent.parent.iterdir()]
    here = [path for path in source.rglob("*") if not path.name.endswith(".lock")]
    odd = OUTSIDE.parent.glob(f"{OUTSIDE.name}*")
    return frozenset(str(path) for path in (*above, *here, *odd) if path.name != "out")


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in an empty folder in which no relative path leads to anything."""
    before = Path.cwd()
    (folder / "cwd").mkdir(parents=True)
    os.chdir(folder / "cwd")
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    """Bound the memory, and the time of each file."""

    def hung(_number: int, _frame: object) -> None:
        raise Hung

    held_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, hung)
    resource.setrlimit(resource.RLIMIT_AS, (held_bytes + MOST_ADDRESSED_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGALRM, handler)


def main() -> int:
    """Fuzz as the command line says; return 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("--n", type=int, default=2000, help="files of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=[kind.name for kind in KINDS], action="append")
    parser.add_argument("--only", type=int, help="the number of one file")
    given = parser.parse_args()
    kinds = [kind for kind in KINDS if given.kind is None or kind.name in given.kind]
    with tempfile.TemporaryDirectory(prefix="vlm-fuzzing-") as folder:
        found = fuzz(
            given.n, given.seed, Path(folder) / "a", kinds=kinds, only=given.only, say=print
        )
    for finding in found:
        sys.stdout.write(f"{finding}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
