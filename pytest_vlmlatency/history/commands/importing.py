"""`vlmlatency import`: its options and help, and what becomes of each file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import HistoryProblem
from pytest_vlmlatency.history.arguments import add_history
from pytest_vlmlatency.printing import tell, warn

if TYPE_CHECKING:
    import argparse

    from pytest_vlmlatency.records import Run

NAME = "import"
SUMMARY = "keep runs from files: pytest-benchmark's, or those of --vlm-json"
DESCRIPTION = """\
Keep runs in a history that lie in files: those that pytest-benchmark saved with
its samples (--benchmark-save-data, or --benchmark-json), and those that
--vlm-json wrote, by this or an older version. A file that is imported again is
the same run.
"""
EXAMPLES = """\
examples:
  vlmlatency import .benchmarks/*/*.json
  vlmlatency import run.json --history s3://our-bucket/latency
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="a file to keep")
    add_history(parser)


def run(given: argparse.Namespace) -> int:
    """Import each file, and say what was kept; 1 if one could not be read."""
    from pytest_vlmlatency.history.location import named_or_default, shortened  # noqa: PLC0415 - light

    store = named_or_default(given.history, is_readonly=False)
    held = {name.id for name in store.index().names}
    n_kept = 0
    problems = []
    for path in given.files:
        try:
            found, left_out = _read(path)
            problems += [f"{path}: {name} was saved without samples" for name in left_out]
            if found.id not in held:
                store.write(found)
                held.add(found.id)
                n_kept += 1
        except HistoryProblem as problem:
            problems.append(str(problem))
    n_held = len(given.files) - n_kept
    rest = f", {n_held} not (unreadable, or there already)" if n_held else ""
    tell(f"{shortened(store.url)}: {n_kept} runs imported{rest}")
    for line in problems:
        warn(line)
    return 1 if problems else 0


def _read(path: Path) -> tuple[Run, tuple[str, ...]]:
    from pytest_vlmlatency.history import benchmark_files  # noqa: PLC0415 - light --help
    from pytest_vlmlatency.history.checked_runs import Unreadable, json_of  # noqa: PLC0415 - as above
    from pytest_vlmlatency.history.run_files import run_in_file  # noqa: PLC0415 - as above

    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise OSError("it is no regular file")
        content = path.read_bytes()
        if benchmark_files.is_benchmark_file(json_of(content, has_constants=True)):
            return benchmark_files.run_of_file(content)
    except (OSError, Unreadable) as problem:
        raise HistoryProblem(f"{path} cannot be imported: {problem}") from problem
    return run_in_file(path), ()
