"""`vlmlatency export-benchmark`: its options and help, and the files it writes."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.history.arguments import add_history
from pytest_vlmlatency.printing import tell

if TYPE_CHECKING:
    import argparse

NAME = "export-benchmark"
SUMMARY = "write runs as files that pytest-benchmark's tools read"
DESCRIPTION = """\
Write runs as pytest-benchmark saves its own, for `pytest-benchmark compare` and
other tools that read its files: an entry for each phase of each case, and for
the total, in the measure that the case is judged by. Where one of the files
cannot be written, none is.

RUN is a file that --vlm-json wrote, or a run of the history by the beginning of
its id or commit.
"""
EXAMPLES = """\
examples:
  vlmlatency export-benchmark run.json --to benchmark.json
  vlmlatency export-benchmark 8f1c2d3e 0b7a99c1 --to folder/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a file, or a run's id")
    parser.add_argument(
        "--to",
        metavar="DIR|FILE",
        required=True,
        help="a file that ends in .json, or a folder, which may be new, with a file for each run",
    )
    add_history(parser)


def run(given: argparse.Namespace) -> int:
    """Write the files, and name them; return the exit status."""
    from pytest_vlmlatency.history.benchmark_files import file_of_run  # noqa: PLC0415 - light --help
    from pytest_vlmlatency.history.location import named_or_default  # noqa: PLC0415 - as above
    from pytest_vlmlatency.history.run_files import is_file, run_at, run_in_file  # noqa: PLC0415
    from pytest_vlmlatency.whole_files import make_folder, write_all_whole  # noqa: PLC0415

    paths = [Path(text) for text in given.runs]
    to = Path(given.to)
    is_folder = to.is_dir() or given.to.endswith(("/", os.sep)) or _may_be_folder(to)
    if len(paths) > 1 and not is_folder:
        raise UsageProblem(f"--to: {to} is a file; expected a folder for {len(paths)} runs")
    if all(is_file(path) for path in paths):
        found = [run_in_file(path) for path in paths]
    else:
        store = named_or_default(given.history, is_readonly=True)
        found = [run_at(text, store) for text in given.runs]
    twice = [id_ for id_, number in Counter(one.id for one in found).items() if number > 1]
    if twice:
        raise UsageProblem(
            f"{len(found)} runs have {len(twice)} ids twice ({', '.join(twice)}), and one "
            f"file would replace another; name each run once"
        )
    by_path = {to / f"{one.id}.json" if is_folder else to: one for one in found}
    texts = {
        path: json.dumps(file_of_run(one), indent=1, allow_nan=False) + "\n"
        for path, one in by_path.items()
    }
    make_folder(to if is_folder else to.parent)
    write_all_whole(texts)
    tell(*(f"{path}: {len(one.cases)} cases" for path, one in by_path.items()))
    return 0


def _may_be_folder(path: Path) -> bool:
    """Whether a path that is no folder yet names one: it does not end as a file of JSON does."""
    return path.suffix != ".json" and not path.exists()
