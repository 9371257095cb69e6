"""`vlmlatency estimator plot`: an estimator against records, as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.commands import file_to_write
from pytest_vlmlatency.estimator.commands.opening import data_sets, opened, read_table, tell_unlike
from pytest_vlmlatency.printing import tell

if TYPE_CHECKING:
    import argparse

NAME = "plot"
SUMMARY = "draw predictions against records as PNG or SVG"
DESCRIPTION = """\
Draw predicted against measured times, the residuals of decode by output length,
and how many tokens a budget leaves room for. Needs matplotlib:
pip install 'pytest-vlmlatency[plot]'
"""
EXAMPLES = """\
examples:
  vlmlatency estimator plot estimator.json --results_dir records/ --to fit.svg
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("model", metavar="MODEL", type=Path, help="an estimator's file")
    parser.add_argument("--results_dir", metavar="PATH", type=Path, required=True, help="records")
    parser.add_argument("--dataset_names", metavar="NAME", nargs="+", default=(), help="only these")
    parser.add_argument(
        "--to", metavar="FILE", type=file_to_write, required=True, help=".png or .svg"
    )


def run(given: argparse.Namespace) -> int:
    """Draw, and say where; return the exit status."""
    from pytest_vlmlatency.estimator.evaluation import judge  # noqa: PLC0415 - light --help
    from pytest_vlmlatency.estimator.figures import draw  # noqa: PLC0415

    estimator = opened(given.model)
    table = read_table(data_sets(given.results_dir, given.dataset_names), knobs=estimator.knobs)
    tell_unlike(estimator, table, given.model)
    draw(judge(estimator, table, has_quantiles=False), given.to)
    tell(str(given.to))
    return 0
