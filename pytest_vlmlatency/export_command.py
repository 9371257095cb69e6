"""`vlmlatency export`: its options and help, and which records come from what was named.

Above `judging` because runs are named as `vlmlatency compare` names them. Imports nothing heavy
until it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import HistoryProblem
from pytest_vlmlatency.history.arguments import add_history
from pytest_vlmlatency.printing import plural, printable, tell, warn

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

    from pytest_vlmlatency.export import LeftOut, Reason, RecordReader
    from pytest_vlmlatency.export.fields import Record
    from pytest_vlmlatency.history.store import Store
    from pytest_vlmlatency.records import Run

NAME = "export"
SUMMARY = "write runs as training records, one for each call"
DESCRIPTION = """\
Write the kept calls of runs as training records: one for each call, with
its tokens, its configuration, and its times in milliseconds. Discarded calls
are none. Every record is checked; what cannot be true is counted and named.

RUN is
  a file that --vlm-json wrote,
  last, the newest run of the history,
  a run by its id or the beginning of it (vlmlatency history lists them),
  a branch, tag or commit: all its clean runs,
  a file or folder of records (.json, .jsonl, .parquet), to turn them into
  another form: those of `vlmlatency profile`, or of the legacy format.

--to names
  a folder        DIR/<dataset>/<configuration>.json, the legacy layout; the
                  data set is a test's parameter `dataset`, else the test
  a file          all records in one, as its name ends: .json, .jsonl, .parquet

What stands there already is kept, and a call that is there is not added again.
"""
EXAMPLES = """\
examples:
  vlmlatency export last --to records/
  vlmlatency export main run.json --to records.parquet --measure cpu
  vlmlatency export profiled/ --to records/    (JSON Lines to legacy)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a run, or records, see above")
    parser.add_argument(
        "--to", metavar="DIR|FILE", type=Path, required=True, help="where the records go"
    )
    parser.add_argument(
        "--measure",
        choices=("wall", "cpu"),
        default="wall",
        help="wall time (default), or CPU time of what ran on a CPU; records keep their own",
    )
    add_history(parser)


def run(given: argparse.Namespace) -> int:
    """Write the records, and say how many and what was left out; return the exit status."""
    from pytest_vlmlatency.export.contention import Contention  # noqa: PLC0415 - light --help
    from pytest_vlmlatency.export.writing import write_checked  # noqa: PLC0415 - as above

    readers: list[RecordReader] = []
    left_out: list[str] = []
    unread: list[str] = []
    records = _records(given, readers, left_out, unread)
    contention = Contention()
    written = write_checked(contention.counted(records), given.to, is_kept=True)
    for reader in readers:
        left_out += reader.report_lines()
    tell(f"{given.to}: {sum(written.values()):,} records in {plural(len(written), 'file')}")
    warn(*unread, *left_out, *contention.lines())
    return 1 if unread else 0


def _records(
    given: argparse.Namespace,
    readers: list[RecordReader],
    left_out: list[str],
    unread: list[str],
) -> Iterator[Record]:
    """Yield the records of all that was named, one run in memory at a time."""
    from pytest_vlmlatency.export import read_records, records_of  # noqa: PLC0415 - light --help
    from pytest_vlmlatency.export.files import holds_records  # noqa: PLC0415 - as above
    from pytest_vlmlatency.history.run_files import is_file  # noqa: PLC0415 - as above

    store: Store | None = None
    for text in given.runs:
        if holds_records(Path(text)):
            reader = read_records(text)
            readers.append(reader)
            yield from reader
            continue
        if store is None and not is_file(text):
            from pytest_vlmlatency.history.location import (  # noqa: PLC0415 - light --help
                named_or_default,
            )

            store = named_or_default(given.history, is_readonly=True)
        for one in _runs_of(text, store, unread):
            found = records_of(one, measure=f"{given.measure}_ms")
            left_out += left_out_lines(found.left_out)
            yield from found.records


def left_out_lines(left_out: Mapping[Reason, LeftOut]) -> list[str]:
    """Return what of a run became no record, as text."""
    return [
        f"left out, {reason}: {found.count:,}\n  " + "\n  ".join(map(printable, found.first))
        for reason, found in left_out.items()
    ]


def _runs_of(text: str, store: Store | None, unread: list[str]) -> Iterator[Run]:
    """Yield the runs that a word names; one of several that cannot be read is named in `unread`."""
    from pytest_vlmlatency.gate.named_runs import names_of  # noqa: PLC0415 - as above
    from pytest_vlmlatency.history.run_files import is_file, run_in_file  # noqa: PLC0415 - light --help

    if is_file(text):
        yield run_in_file(Path(text))
        return
    assert store is not None, "opened where a text is no file"
    names = names_of(text, store.index().names)
    for name in names:
        try:
            yield store.read_whole(name)
        except HistoryProblem as problem:
            if len(names) == 1:
                raise
            unread.append(f"left out: {problem}")
