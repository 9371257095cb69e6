"""`vlmlatency compact`: its options and help, and what it prints."""

from __future__ import annotations

import argparse
import sys

from pytest_vlmlatency.history.arguments import add_history
from pytest_vlmlatency.printing import has_terminal, tell, warn

NAME = "compact"
SUMMARY = "fold old runs into Parquet, for a history that is read fast"
DESCRIPTION = """\
Fold the runs of a history, each a file of its own, into Parquet beside them. A
run's own file is removed once the Parquet file was read back and holds the run
unchanged. Nothing is lost if it is stopped, and writers need not wait: a run
that comes meanwhile is folded the next time. What cannot be read is named, and
stays.
"""
EXAMPLES = """\
examples:
  vlmlatency compact
  vlmlatency compact --history s3://our-bucket/latency --keep-newest 100
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_history(parser)
    parser.add_argument(
        "--keep-newest",
        metavar="N",
        type=_count,
        default=0,
        help="leave the newest N runs in files of their own (default: 0)",
    )


def run(given: argparse.Namespace) -> int:
    """Compact, and say what was done; 1 if some runs could not be read."""
    from pytest_vlmlatency.history.compaction import compact  # noqa: PLC0415 - imports duckdb
    from pytest_vlmlatency.history.location import named_or_default, shortened  # noqa: PLC0415 - light

    store = named_or_default(given.history, is_readonly=False)
    done = compact(store, n_newest_kept=given.keep_newest, report=_progress)
    joined = f"; {done.n_joined} small files became one" if done.n_joined else ""
    tell(f"{shortened(store.url)}: {done.n_folded} runs folded{joined}")
    for problem in done.problems:
        warn(f"left as it is: {problem}")
    return 1 if done.problems else 0


def _progress(line: str) -> None:
    if has_terminal(sys.stderr):
        warn(line)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, not {text!r}")
    return int(text)
