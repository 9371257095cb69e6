"""`vlmlatency estimator train`: from a folder of results to an estimator's file.

Its options are those of the legacy project's training command. Imports nothing heavy until it runs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import EstimatorProblem, UsageProblem
from pytest_vlmlatency.estimator.commands.inputs_text import add_knobs, knobs_of
from pytest_vlmlatency.estimator.commands.opening import data_sets, read_table
from pytest_vlmlatency.printing import has_terminal, plural, tell, tell_ready, warn, write_over

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from pytest_vlmlatency.estimator.inputs import Knob
    from pytest_vlmlatency.estimator.protocol import Estimator
    from pytest_vlmlatency.estimator.training import Progress

NAME = "train"
SUMMARY = "train an estimator on a folder of results"
DESCRIPTION = """\
Train an estimator on exported or profiled records, say how far it is off on a
fifth of them that it was not trained on, then train it on all and write
OUTPUT_DIR/estimator.json. Options of the network's training choose the network.

Data sets are the sub-folders of DIR; files beside them are one more, which has
DIR's name. .json, .jsonl and .parquet are read.
"""
EXAMPLES = """\
examples:
  vlmlatency estimator train --results_dir records/ --output_dir estimator/
  vlmlatency estimator train --results_dir records.parquet --estimator trees
  vlmlatency estimator train --results_dir records/ --dataset_names vqa \\
      --estimator network --num_epochs 50 --seed 1
  vlmlatency estimator train --results_dir records/ --knob batch_size \\
      --knob dtype:category
"""
KINDS = ("roofline", "separate", "trees", "look-up", "network")
FILE = "estimator.json"
RECIPES = ("mended", "origin")
OF_NETWORK = ("recipe", "batch_size", "num_epochs", "lr", "device", "seed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--results_dir", metavar="DIR", type=Path, required=True, help="records")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--dataset_names", metavar="NAME", nargs="+", default=(), help="only these data sets"
    )
    chosen.add_argument(
        "--use_all_datasets", action="store_true", help="all that are found, as without names"
    )
    parser.add_argument(
        "--output_dir", metavar="DIR", type=Path, default=Path(), help="where estimator.json goes"
    )
    parser.add_argument("--estimator", choices=KINDS, help="default: roofline")
    add_knobs(parser)
    parser.add_argument(
        "--recipe",
        choices=RECIPES,
        help="of the network's training: origin predicts decode / N, as it did (default: mended)",
    )
    parser.add_argument("--batch_size", metavar="N", type=int, help="of the network's training")
    parser.add_argument("--num_epochs", metavar="N", type=int, help="of the network's training")
    parser.add_argument("--lr", metavar="RATE", type=float, help="of the network's training")
    parser.add_argument("--device", metavar="NAME", help="of the network's training: cpu, cuda:0")
    parser.add_argument("--seed", metavar="N", type=int, help="of the network (default: 3407)")


def run(given: argparse.Namespace) -> int:
    """Train, report, and write the file; return the exit status."""
    from pytest_vlmlatency.estimator.calibrated import CalibratedEstimator  # noqa: PLC0415
    from pytest_vlmlatency.estimator.evaluation import (  # noqa: PLC0415
        Split,
        judge_split,
        outliers_text,
        scores_text,
    )
    from pytest_vlmlatency.estimator.undeclared import (  # noqa: PLC0415 - as above
        undeclared_knobs,
        undeclared_text,
    )

    kind = _kind(given)
    sets = data_sets(given.results_dir, given.dataset_names)
    knobs = knobs_of(given.knobs)
    table = read_table(sets, knobs=knobs)
    tell(
        f"{len(table):,} records of {plural(len(table.configurations), 'configuration')}, "
        f"data sets: {', '.join(sets)}",
        f"{kind}, on records held out:",
    )
    text = undeclared_text(undeclared_knobs(table))
    if text:
        warn(*text.splitlines())
    make = _maker(kind, given, knobs)
    judged = judge_split(make, table, Split.RANDOM)
    if judged is not None:
        tell_ready(scores_text({"random": judged.scores()}))
    estimator = make().fit(table)
    assert isinstance(estimator, CalibratedEstimator), "every kind is one"
    kept = "they stay in the fit, which they hardly move, and in every figure"
    tell(outliers_text(estimator.outliers, "in all records", kept))
    path = given.output_dir / FILE
    try:
        given.output_dir.mkdir(parents=True, exist_ok=True)
        estimator.save(path)
    except (OSError, ValueError) as problem:
        raise EstimatorProblem(
            f"{path} cannot be written: {problem}; name another --output_dir"
        ) from problem
    tell(f"trained on all of them: {path}")
    return 0


def _kind(given: argparse.Namespace) -> str:
    named = [f"--{name}" for name in OF_NETWORK if getattr(given, name) is not None]
    if named and given.estimator not in (None, "network"):
        raise UsageProblem(
            f"{', '.join(named)} is of the network's training, and --estimator is "
            f"{given.estimator}, which has no such option; leave one of them out"
        )
    return given.estimator or ("network" if named else "roofline")


def _maker(kind: str, given: argparse.Namespace, knobs: Sequence[Knob]) -> Callable[[], Estimator]:
    from pytest_vlmlatency.estimator.files import maker_of  # noqa: PLC0415 - light --help

    if kind != "network":
        return maker_of(kind, knobs=knobs)
    from dataclasses import replace  # noqa: PLC0415 - with what follows

    from pytest_vlmlatency.estimator.network import LatencyEstimator  # noqa: PLC0415 - torch
    from pytest_vlmlatency.estimator.recipes import Recipe  # noqa: PLC0415
    from pytest_vlmlatency.estimator.training import PLANS  # noqa: PLC0415

    said = {name: getattr(given, name) for name in ("batch_size", "num_epochs", "lr", "seed")}
    changed = {name: value for name, value in said.items() if value is not None}
    recipe = Recipe(given.recipe or "mended")
    plan, device = replace(PLANS[recipe], **changed), given.device or "cpu"
    return lambda: LatencyEstimator(
        recipe=recipe, plan=plan, device=device, on_epoch=_show, knobs=knobs
    )


def _show(progress: Progress) -> None:
    """Write over the last line of progress, if somebody looks on."""
    if has_terminal(sys.stderr):
        is_last = progress.epoch == progress.n_epochs
        text = f"epoch {progress.epoch} of {progress.n_epochs}: loss {progress.loss:.5f}"
        write_over("" if is_last else text)
