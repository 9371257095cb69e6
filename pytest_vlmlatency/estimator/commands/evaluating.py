"""`vlmlatency estimator evaluate`: how far an estimator is off, and a gate on it.

Imports nothing heavy until it runs.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.estimator.commands.inputs_text import add_knobs, knobs_of
from pytest_vlmlatency.estimator.commands.opening import data_sets, opened, read_table, tell_unlike
from pytest_vlmlatency.estimator.commands.training import KINDS
from pytest_vlmlatency.printing import has_terminal, tell, tell_json, tell_ready, warn, write_over

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_vlmlatency.estimator.evaluation import Judged, Score

NAME = "evaluate"
SUMMARY = "measure the errors of an estimator, and fail over a bound"
DESCRIPTION = """\
Compare predictions with records: of a file, as it is (--model), or of an
estimator that is trained anew on the rest of the records: on a fifth drawn at
random, on configurations that it was not trained on, and beyond the top level
of each input. Outliers are listed, and count in every figure. Records of
another kind of time than the file's are refused; other differences are listed.

exit status:
  0   every bound of --max-mape is kept, or none was given
  10  a mean absolute percentage error is above its bound
  1   nothing could be compared
  2   usage error
"""
EXAMPLES = """\
examples:
  vlmlatency estimator evaluate --results_dir records/
  vlmlatency estimator evaluate --results_dir records/ --all --estimator trees
  vlmlatency estimator evaluate --results_dir today/ \\
      --model estimator/estimator.json --max-mape prefill=5 decode=10
"""
OVER_BOUND = 10
TARGETS = {"prefill": "T_prefill_total", "decode": "T_decode_per_step"}

Groups = dict[str, "dict[str, Score]"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--results_dir", metavar="PATH", type=Path, required=True, help="records")
    parser.add_argument("--dataset_names", metavar="NAME", nargs="+", default=(), help="only these")
    parser.add_argument("--model", metavar="FILE", type=Path, help="an estimator's file, as it is")
    parser.add_argument(
        "--estimator", choices=KINDS, default="roofline", help="without --model (default: roofline)"
    )
    add_knobs(parser)
    parser.add_argument(
        "--max-mape",
        metavar="TARGET=PERCENT",
        nargs="+",
        type=_bound,
        default=[],
        help="bounds for CI, such as prefill=5 decode=10: of the model, else of the random split",
    )
    parser.add_argument("--all", action="store_true", help="by configuration, too")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")


def run(given: argparse.Namespace) -> int:
    """Evaluate, print, and hold the bounds; return the exit status."""
    judged, unlike = _judged_model(given) if given.model else (_judged_splits(given), [])
    name, first = next(iter(judged.items()))
    groups: Groups = {split: one.scores() for split, one in judged.items()}
    groups |= {f"{length} tokens": one for length, one in first.by_output_length().items()}
    if given.all or given.json:
        groups |= first.by_configuration()
    over = over_bounds(dict(given.max_mape), first.scores())
    if given.json:
        plain = {
            group: {target: asdict(score) for target, score in scores.items()}
            for group, scores in groups.items()
        }
        tell_json({"scores": plain, "over": over, "unlike": unlike})
    else:
        _print(groups, name, first)
    for line in over:
        warn(f"vlmlatency estimator evaluate: {name}: {line}")
    return OVER_BOUND if over else 0


def over_bounds(bounds: Mapping[str, float], scores: Mapping[str, Score]) -> list[str]:
    """Return a line for each bound, in percent, that is not kept; what is unknown keeps none."""
    lines = []
    for name, bound in bounds.items():
        score = scores.get(TARGETS[name])
        percent = math.nan if score is None else 100 * score.relative_error
        if not percent <= bound:
            lines.append(f"MAPE of {name} is {percent:.2f} %, above its bound of {bound:g} %")
    return lines


def _judged_model(given: argparse.Namespace) -> tuple[dict[str, Judged], list[str]]:
    """Return what a file says of the records, and what differs between them and its own."""
    from pytest_vlmlatency.estimator.evaluation import judge  # noqa: PLC0415 - light --help

    if given.knobs:
        raise UsageProblem("--knob is for training, and --model has its knobs; leave one out")
    estimator = opened(given.model)
    sets = data_sets(given.results_dir, given.dataset_names)
    table = read_table(sets, knobs=estimator.knobs)
    unlike = tell_unlike(estimator, table, given.model)
    return {str(given.model): judge(estimator, table)}, unlike


def _judged_splits(given: argparse.Namespace) -> dict[str, Judged]:
    from pytest_vlmlatency.errors import EstimatorProblem  # noqa: PLC0415 - light --help
    from pytest_vlmlatency.estimator.evaluation import Split, judge_split  # noqa: PLC0415
    from pytest_vlmlatency.estimator.files import maker_of  # noqa: PLC0415

    knobs = knobs_of(given.knobs)
    table = read_table(data_sets(given.results_dir, given.dataset_names), knobs=knobs)
    make = maker_of(given.estimator, knobs=knobs)
    judged: dict[str, Judged] = {}
    for split in Split:
        if has_terminal(sys.stderr):
            write_over(f"training without the records held out: {split}")
        one = judge_split(make, table, split)
        if one is not None:
            judged[split] = one
    if has_terminal(sys.stderr):
        write_over("")
    if Split.RANDOM not in judged:
        raise EstimatorProblem(f"{len(table)} records are too few to hold some of them out")
    return judged


def _print(groups: Groups, name: str, first: Judged) -> None:
    from pytest_vlmlatency.estimator.calibration import outliers  # noqa: PLC0415 - light --help
    from pytest_vlmlatency.estimator.evaluation import outliers_text, scores_text  # noqa: PLC0415

    tell_ready(f"{scores_text(groups)}\n")
    found = outliers(first.table, first.predicted)
    tell(outliers_text(found, f"on {name}", "they stay in every figure"))


def _bound(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        percent = float(value)
    except ValueError:
        percent = math.nan
    if name not in TARGETS or not 0 < percent < math.inf:
        raise argparse.ArgumentTypeError(
            f"expected prefill=PERCENT or decode=PERCENT, such as prefill=5, not {text!r}"
        )
    return name, percent
