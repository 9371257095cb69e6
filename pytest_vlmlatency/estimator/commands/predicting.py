"""`vlmlatency estimator predict`: what one request, or several, would take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.estimator.commands.inputs_text import Value, inputs_of, named_values
from pytest_vlmlatency.estimator.commands.opening import add_machine, machine_line, opened_for
from pytest_vlmlatency.printing import tell, tell_json, tell_ready

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

NAME = "predict"
SUMMARY = "predict prefill and decode step of requests"
DESCRIPTION = """\
Predict T_prefill_total and T_decode_per_step, in ms. Inputs are NAME=VALUE, or
NAME=VALUE,VALUE for several requests; knobs that were declared are among them.
The output names the machine that the estimator was measured on.
"""
EXAMPLES = """\
examples:
  vlmlatency estimator predict estimator.json vision_tokens=288,576 \\
      text_tokens=30 tier=low top_k=8 num_active_blocks=12
  vlmlatency estimator predict estimator.json vision_tokens=288 \\
      text_tokens=30 tier=low top_k=4,8,12 num_active_blocks=12 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("model", metavar="MODEL", type=Path, help="an estimator's file")
    parser.add_argument("inputs", metavar="NAME=VALUE", nargs="+", type=named_values)
    parser.add_argument(
        "--quantile", metavar="Q", type=float, default=0.95, help="beside it (default: 0.95)"
    )
    add_machine(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")


def run(given: argparse.Namespace) -> int:
    """Print a row a request; return the exit status."""
    from pytest_vlmlatency.estimator.evaluation import table_text  # noqa: PLC0415

    estimator = opened_for(given)
    inputs = inputs_of(given.inputs, estimator.knobs)
    asked = {name: _listed(name, value) for name, value in inputs.items()}
    usual = estimator.predict_batch(asked)
    upper = estimator.predict_quantile(asked, given.quantile)
    beyond = [bool(one) for one in estimator.is_extrapolated(asked)]
    columns = {
        **{target: values.tolist() for target, values in usual.items()},
        **{f"{target} at {given.quantile:g}": values.tolist() for target, values in upper.items()},
    }
    if given.json:
        said = {**columns, "is_extrapolated": beyond, "machine": estimator.machine}
        tell_json(said, indent=None)
        return 0
    rows = [
        [*(f"{values[row]:.2f}" for values in columns.values()), "beyond" if is_beyond else ""]
        for row, is_beyond in enumerate(beyond)
    ]
    headers = [*(f"{name}, ms" for name in columns), "what was measured"]
    tell_ready(table_text(headers, rows, n_left=0))
    tell(machine_line(estimator))
    return 0


def _listed(name: str, value: Value) -> Sequence[object]:
    if isinstance(value, dict):
        raise UsageProblem(f"{name} is given for each tier; expected numbers: that is for search")
    return value
