"""`vlmlatency merge`: its options and help, and where the joined run goes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import HistoryProblem, UsageProblem
from pytest_vlmlatency.history.arguments import add_history
from pytest_vlmlatency.printing import tell, without_secrets

if TYPE_CHECKING:
    import argparse

    from pytest_vlmlatency.records import Run

NAME = "merge"
SUMMARY = "join the runs of a sharded job into one"
DESCRIPTION = """\
Join the runs of a job whose tests were split over several pytest processes, so
that they are judged, and kept, as one run. All must be of the same commit, on
the same kind of machine, with the same versions, and no case may be in two.

RUN is a file that --vlm-json wrote, or a run of the history by the beginning of
its id. Let the shards write files and keep themselves nowhere:
  pytest benchmarks/ --vlm-json shard-1.json --vlm-history none
"""
EXAMPLES = """\
examples:
  vlmlatency merge shard-*.json --to .vlm_latency
  vlmlatency merge shard-1.json shard-2.json --to s3://our-bucket/latency
  vlmlatency merge shard-1.json shard-2.json --to whole.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a file, or a run's id")
    parser.add_argument(
        "--to",
        metavar="PLACE",
        required=True,
        help="a history (a folder or a URL), or a new file that ends in .json",
    )
    add_history(parser)


def run(given: argparse.Namespace) -> int:
    """Join the runs and write the one; return the exit status."""
    from pytest_vlmlatency.history.merging import merged  # noqa: PLC0415 - as above
    from pytest_vlmlatency.history.run_files import is_file, run_in_file  # noqa: PLC0415 - light --help

    if len(given.runs) < 2:
        raise UsageProblem("merge was given one run; expected the runs of all shards of a job")
    paths = [Path(text) for text in given.runs]
    if all(is_file(path) for path in paths):
        shards = [run_in_file(path) for path in paths]
    else:
        shards = _in_history(given.runs, given.history)
    whole = merged(shards)
    where = without_secrets(_write(whole, given.to))
    tell(f"{len(shards)} runs with {len(whole.cases)} cases: run {whole.id} in {where}")
    return 0


def _in_history(texts: list[str], url: str | None) -> list[Run]:
    from pytest_vlmlatency.history.location import named_or_default  # noqa: PLC0415 - as above
    from pytest_vlmlatency.history.run_files import run_at  # noqa: PLC0415 - light --help

    store = named_or_default(url, is_readonly=True)
    return [run_at(text, store) for text in texts]


def _write(whole: Run, target: str) -> str:
    from pytest_vlmlatency.history.run_files import write_run  # noqa: PLC0415 - light --help
    from pytest_vlmlatency.history.store import open_store  # noqa: PLC0415 - as above

    if target.endswith(".json") and "://" not in target:
        write_run(whole, Path(target))
        return target
    store = open_store(target)
    held = {name.id for name in store.index().names}
    twice = [run_id for run_id in whole.merged_from if run_id in held]
    if twice:
        raise HistoryProblem(
            f"{len(twice)} of these runs stand in {target} already ({', '.join(twice)}) and would "
            f"count twice there; let shards write files, with --vlm-history none"
        )
    store.write(whole)
    return target
