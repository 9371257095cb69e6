"""`vlmlatency estimator search`: which configurations fit a budget, and which one is the best."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_vlmlatency.errors import EstimatorProblem, UsageProblem
from pytest_vlmlatency.estimator.commands.inputs_text import Value, inputs_of, named_values
from pytest_vlmlatency.estimator.commands.opening import add_machine, machine_line, opened_for
from pytest_vlmlatency.printing import tell, tell_json, tell_ready, warn

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from pytest_vlmlatency.estimator.calibrated import CalibratedEstimator
    from pytest_vlmlatency.estimator.search import Config
    from pytest_vlmlatency.estimator.state import Tokens

NAME = "search"
SUMMARY = "find the configurations that fit a latency budget"
DESCRIPTION = """\
List the configurations that fit a budget for one request. Knobs with their
values make the grid, those that were declared among them; vision tokens may
follow the tier. Token counts that are not given are those of the records that
the estimator was trained on: their median, of vision tokens for each tier. The
machine that the estimator was measured on is printed, too.

With --accuracy, equally accurate configurations are in the order of their time.
Where none fits, the one that exceeds the budget least is named.

exit status: 0 if some fit, 10 if none does, 2 usage error.
"""
EXAMPLES = """\
examples:
  vlmlatency estimator search estimator.json --budget 500 --output-tokens 10 \\
      tier=low,medium,high top_k=4,8,12 num_active_blocks=8,12,16
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
    from pytest_vlmlatency.estimator.search import accuracies, config_grid  # noqa: PLC0415 - numpy

    estimator = opened_for(given)
    inputs = inputs_of(given.inputs, estimator.knobs)
    declared = [
        knob.name for knob in estimator.knobs if not isinstance(inputs.get(knob.name), dict)
    ]
    names = [name for name in inputs if name in (*KNOBS, *declared)]
    grid = config_grid(**{name: _listed(name, inputs.pop(name)) for name in names})
    told = _with_measured_tokens(estimator, grid, inputs)
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
    if given.accuracy is not None and found:
        known = accuracies(found, _accuracies(given.accuracy))
        times_ms = _times_ms(estimator, found, inputs, given)[1]
        order = sorted(range(len(found)), key=lambda i: (-known[i], times_ms[i]))
        rows = [{"accuracy": known[i], **rows[i]} for i in order]
        told += _ties(known)
    if not found:
        told.append(_nearest(estimator, grid, inputs, given))
    _print(rows, n_configurations=len(grid), given=given)
    (warn if given.json else tell)(*told, machine_line(estimator))
    return 0 if rows else NONE_FITS


def _with_measured_tokens(
    estimator: CalibratedEstimator[Any], grid: Sequence[Config], inputs: dict[str, Value]
) -> list[str]:
    """Give a request the tokens that it lacks, as the records have them; return what to tell."""
    from pytest_vlmlatency.estimator.inputs import ALIASES  # noqa: PLC0415 - imports numpy

    told = []
    given = {ALIASES.get(name, name) for name in inputs}
    for name, by_tier in estimator.state.tokens.items():
        if name in given or name not in estimator.inputs:
            continue
        if "" in by_tier:
            inputs[name] = [by_tier[""][1]]
            told.append(f"{name}, not given: {_tokens_text(by_tier[''])}")
            continue
        tiers = dict.fromkeys(config.get("tier", config.get("tier_idx")) for config in grid)
        found = {tier: by_tier.get(_index(tier)) for tier in tiers}
        missing = [tier for tier, tokens in found.items() if tokens is None]
        if missing:
            raise UsageProblem(
                f"{name} are not given, and the records have none of the tier {missing[0]}; "
                f"expected {name}=TIER:VALUE,..."
            )
        inputs[name] = {tier: tokens[1] for tier, tokens in found.items()}  # type: ignore[index,misc]  # none is missing
        texts = (f"{tier} {_tokens_text(tokens)}" for tier, tokens in found.items())  # type: ignore[arg-type]  # as above
        told.append(f"{name}, not given: {'; '.join(texts)}")
    return told


def _index(tier: object) -> str:
    from pytest_vlmlatency.estimator.inputs import tier_index  # noqa: PLC0415 - imports numpy

    index = tier_index(tier)
    return f"{index:g}" if isinstance(index, int | float) else str(index)


def _tokens_text(tokens: Tokens) -> str:
    low, middle, high = tokens
    if low == high:
        return f"{middle:g}, as in all records"
    return f"{middle:g}, the median of the records' {low:g} to {high:g}"


def _times_ms(
    estimator: CalibratedEstimator[Any],
    grid: Sequence[Config],
    request: Mapping[str, object],
    given: argparse.Namespace,
) -> tuple[list[float], list[float]]:
    """Return the prefill and the whole generation of each configuration, at the quantile."""
    prefill_ms, total_ms = estimator.generation_ms(
        grid,
        given.output_tokens,
        request=request,
        percentile=given.percentile,
        quantile=given.quantile,
    )
    return prefill_ms.tolist(), total_ms.tolist()


def _ties(known: Sequence[float]) -> list[str]:
    """Return that the best accuracy is that of several configurations, where it is."""
    best = max(known)
    n_best = list(known).count(best)
    if n_best == 1:
        return []
    return [f"{n_best} configurations have the best accuracy, {best:g}: the fastest comes first"]


def _nearest(
    estimator: CalibratedEstimator[Any],
    grid: Sequence[Config],
    request: Mapping[str, object],
    given: argparse.Namespace,
) -> str:
    """Return which configuration exceeds its bounds least, and by how much."""
    bounds = {"generation": given.budget}
    if given.prefill_share is not None:
        bounds["prefill"] = given.prefill_share * given.budget
    prefill_ms, total_ms = _times_ms(estimator, grid, request, given)

    def excess(index: int) -> tuple[float, float]:
        times_ms = {"generation": total_ms[index], "prefill": prefill_ms[index]}
        return max(times_ms[name] / bound for name, bound in bounds.items()), times_ms["generation"]

    nearest = min(range(len(grid)), key=excess)
    words = " ".join(f"{name}={_cell(value)}" for name, value in grid[nearest].items())
    times_ms = {"generation": total_ms[nearest], "prefill": prefill_ms[nearest]}
    over = ", ".join(
        f"its {name} takes {times_ms[name]:.4g} ms, {times_ms[name] - bound:.4g} ms too long"
        for name, bound in bounds.items()
        if times_ms[name] > bound
    )
    return f"nearest: {words}: {over}"


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
    from pytest_vlmlatency.estimator.evaluation import table_text  # noqa: PLC0415

    if given.json:
        tell_json(rows, indent=None)
        return
    tell(
        f"{len(rows)} of {n_configurations} configurations fit {given.budget:g} ms "
        f"at their {100 * given.quantile:g}th percentile"
    )
    if rows:
        cells = [[_cell(value) for value in row.values()] for row in rows]
        tell_ready(table_text(list(rows[0]), cells, n_left=1))


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
