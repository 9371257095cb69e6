"""`vlmlatency estimator search`: which configurations fit a budget, and which one is the best."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_vlmlatency.errors import EstimatorProblem, UsageProblem
from pytest_vlmlatency.estimator.commands.inputs_text import Value, inputs_of, named_values
from pytest_vlmlatency.estimator.commands.opening import add_machine, machine_line, opened_for

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from pytest_vlmlatency.estimator.calibrated import CalibratedEstimator
    from pytest_vlmlatency.estimator.search import Config

NAME = "search"
SUMMARY = "find the configurations that fit a latency budget"
DESCRIPTION = """\
List the configurations that fit a budget for one request. Knobs with their
values make the grid, those that were declared among them; vision tokens may
follow the tier. The machine that the estimator was measured on is said.

exit status: 0 if some fit, 10 if none does, 2 if asked in a wrong way.
"""
EXAMPLES = """\
examples:
  vlmlatency estimator search estimator.json --budget 500 --output-tokens 10 \\
      tier=low,medium,high vision_tokens=low:288,medium:504,high:792 \\
      text_tokens=30 top_k=4,8,12 num_active_blocks=8,12,16
  vlmlatency estimator search estimator.json --budget 500 --percentile 95 \\
      tier=low,high vision_tokens=low:288,high:792 text_tokens=30 \\
      top_k=8 num_active_blocks=16 --accuracy accuracy.json
"""
NONE_FITS = 10
QUANTILE = 0.95
KNOBS = ("tier", "tier_idx", "top_k", "num_active_blocks")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("model", metavar="MODEL", type=Path, help="an estimator's file")
    parser.add_argument("inputs", metavar="NAME=VALUE", nargs="+", type=named_values)
    parser.add_argument("--budget", metavar="MS", type=float, required=True)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--output-tokens", metavar="N", type=float, help="to be planned for")
    length.add_argument("--percentile", metavar="P", type=float, help="of the lengths measured")
    parser.add_argument(
        "--quantile",
        metavar="Q",
        type=float,
        default=QUANTILE,
        help="of both times (default: 0.95)",
    )
    parser.add_argument("--prefill-share", metavar="PART", type=float, help="such as 0.8")
    parser.add_argument(
        "--accuracy",
        metavar="FILE",
        type=Path,
        help="JSON: a list of {tier, top_k, num_active_blocks, accuracy}; the best comes first",
    )
    add_machine(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON list instead")


def run(given: argparse.Namespace) -> int:
    """Print the configurations that fit, a row each; return the exit status."""
    from pytest_vlmlatency.estimator.search import accuracies, config_grid  # noqa: PLC0415

    estimator = opened_for(given)
    inputs = inputs_of(given.inputs, estimator.knobs)
    declared = [
        knob.name for knob in estimator.knobs if not isinstance(inputs.get(knob.name), dict)
    ]
    names = [name for name in inputs if name in (*KNOBS, *declared)]
    grid = config_grid(**{name: _listed(name, inputs.pop(name)) for name in names})
    found = estimator.feasible_configs(
        grid,
        given.budget,
        given.output_tokens,
        request=inputs,
        percentile=given.percentile,
        prefill_share=given.prefill_share,
        quantile=given.quantile,
    )
    rows = [_row(estimator, config, inputs, given) for config in found]
    if given.accuracy is not None:
        known = accuracies(found, _accuracies(given.accuracy)) if found else []
        ranked = sorted(zip(known, rows, strict=True), key=lambda pair: -pair[0])
        rows = [{"accuracy": accuracy, **row} for accuracy, row in ranked]
    _print(rows, n_configurations=len(grid), given=given)
    (sys.stderr if given.json else sys.stdout).write(f"{machine_line(estimator)}\n")
    return 0 if rows else NONE_FITS


def _listed(name: str, value: Value) -> Sequence[object]:
    if isinstance(value, dict):
        raise UsageProblem(f"{name} is a knob; expected its values, {name}=A,B, and none by tier")
    return value


def _row(
    estimator: CalibratedEstimator[Any],
    config: Config,
    request: Mapping[str, object],
    given: argparse.Namespace,
) -> dict[str, object]:
    asked = {**config, **{name: _of_tier(value, config) for name, value in request.items()}}
    upper = estimator.predict_quantile(asked, given.quantile)
    return {
        **config,
        "prefill ms": float(upper["T_prefill_total"][0]),
        "step ms": float(upper["T_decode_per_step"][0]),
        "longest output": estimator.max_output_tokens(asked, given.budget, quantile=given.quantile),
    }


def _of_tier(value: object, config: Config) -> object:
    """Return the value of a configuration's tier, where it follows the tier."""
    if isinstance(value, dict):
        return value[config.get("tier", config.get("tier_idx"))]
    return value[0] if isinstance(value, list) else value


def _print(
    rows: list[dict[str, object]], *, n_configurations: int, given: argparse.Namespace
) -> None:
    from pytest_vlmlatency.estimator.evaluation_text import table_text  # noqa: PLC0415

    if given.json:
        sys.stdout.write(json.dumps(rows) + "\n")
        return
    sys.stdout.write(
        f"{len(rows)} of {n_configurations} configurations fit {given.budget:g} ms "
        f"at their {100 * given.quantile:g}th percentile\n"
    )
    if rows:
        cells = [[_cell(value) for value in row.values()] for row in rows]
        sys.stdout.write(table_text(list(rows[0]), cells, n_left=1) + "\n")


def _cell(value: object) -> str:
    return (
        f"{value:g}"
        if isinstance(value, int)
        else str(value)
        if isinstance(value, str)
        else (f"{value:.4g}")
    )


def _accuracies(path: Path) -> list[Mapping[str, object]]:
    """Return the entries of a file, in which `accuracies` looks."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        seen = "it is no list of objects"
    except (OSError, ValueError, RecursionError) as error:
        entries, seen = None, f"{type(error).__name__}: {error}"
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise EstimatorProblem(
            f"{path} holds no accuracies ({seen}); expected a JSON list of objects with tier, "
            f"top_k, num_active_blocks and accuracy"
        )
    return entries
