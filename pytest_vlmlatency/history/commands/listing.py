"""`vlmlatency history`: its options and help."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from pytest_vlmlatency.history.arguments import add_cases, add_history
from pytest_vlmlatency.printing import tell, tell_json, tell_ready, warn

NAME = "history"
SUMMARY = "list the runs that are kept, their cases, and what cannot be read"
DESCRIPTION = """\
List the runs of a history, newest last: when, of which commit, on which machine
(by its fingerprint: what is measured on another one is not compared), whether
the tree had changes, whether it is a pull request's, and their cases.
"""
EXAMPLES = """\
examples:
  vlmlatency history
  vlmlatency history --case test_caption --last 0
      every run that has such a case, with its median total
  vlmlatency history --history s3://our-bucket/latency --json
  vlmlatency history --sql "SELECT case_name, median(time_ms) FROM rounds
                            WHERE phase = 'decode' GROUP BY case_name"
      DuckDB's answer; tables: runs, cases, rounds
"""
LAST = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_history(parser)
    add_cases(parser)
    parser.add_argument(
        "--last", metavar="N", type=_count, default=LAST, help=f"runs; 0 is all (default: {LAST})"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.add_argument("--sql", metavar="QUERY", help="answer a query by DuckDB, as CSV")


def run(given: argparse.Namespace) -> int:
    """Print what was asked for; return the exit status."""
    from pytest_vlmlatency.history import listing  # noqa: PLC0415 - light --help
    from pytest_vlmlatency.history.location import (  # noqa: PLC0415 - as above
        named_or_default,
        waiting_for,
    )

    store = named_or_default(given.history, is_readonly=True)
    if given.sql is not None:
        from pytest_vlmlatency.history.queries import answer  # noqa: PLC0415 - imports duckdb

        text, problems = answer(store, given.sql)
        tell_ready(text.removesuffix("\n"))
        warn(*(f"Left out of the history: {problem}" for problem in problems))
        return 0
    waiting = waiting_for(store, Path.cwd())
    n_waiting = 0 if waiting is None else len(waiting.index().names)
    if waiting is not None and n_waiting:
        warn(f"Waiting for the next run of pytest to upload them: {n_waiting}, in {waiting.url}")
    found = listing.listing_of(store, cases=given.case, n_last=given.last)
    if given.json:
        tell_json(asdict(found))
    else:
        tell(*listing.page_lines(found))
    return 0


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, not {text!r}")
    return int(text)
