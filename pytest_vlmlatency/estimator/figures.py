"""An estimator against records, drawn: predictions, residuals by output length, budgets.

matplotlib, an extra, is imported when something is drawn; it needs no display.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.budgets import tokens_within
from pytest_vlmlatency.estimator.calibration import measured
from pytest_vlmlatency.estimator.evaluation import OUTPUT_LENGTHS, Judged, length_name
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL, TARGETS
from pytest_vlmlatency.whole_files import write_whole

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".png", ".svg")
MOST_POINTS = 5_000
N_BUDGETS = 120
TITLES = {PREFILL: "prefill", DECODE_STEP: "decode step"}


def draw(judged: Judged, path: Path) -> None:
    """Write one figure of four panels, as PNG or SVG by the file's name."""
    if path.suffix not in SUFFIXES:
        raise EstimatorProblem(f"{path} is no {' or '.join(SUFFIXES)}; name the figure so")
    figure = _figure()
    panels = figure.subplots(2, 2)
    for panel, target in zip(panels[0], TARGETS, strict=True):
        _predicted(panel, judged, target)
    _residuals(panels[1][0], judged)
    _budgets(panels[1][1], judged)
    drawn = BytesIO()
    figure.savefig(drawn, format=path.suffix.removeprefix("."))
    write_whole(path, drawn.getvalue())


def _figure() -> Any:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise EstimatorProblem(
            "figures are drawn by matplotlib, which is not installed; install it with: "
            "pip install 'pytest-vlmlatency[plot]'"
        ) from error
    return Figure(figsize=(11, 9), layout="constrained")


def _predicted(panel: Any, judged: Judged, target: str) -> None:
    every = max(1, len(judged.table) // MOST_POINTS)
    measured_ms, predicted_ms = measured(judged.table)[target], judged.predicted[target]
    panel.scatter(measured_ms[::every], predicted_ms[::every], s=4, alpha=0.4)
    ends = [np.nanmin(measured_ms), np.nanmax(measured_ms)]
    panel.plot(ends, ends, color="black", linewidth=1)
    panel.set(xlabel="measured, ms", ylabel="predicted, ms", title=TITLES[target])


def _residuals(panel: Any, judged: Judged) -> None:
    """Draw decode's relative residuals: were it decode / N, they would rise with the length."""
    tokens = judged.table.output_tokens
    relative = measured(judged.table)[DECODE_STEP] / judged.predicted[DECODE_STEP] - 1
    groups = {
        length_name(low, high): relative[(tokens >= low) & (tokens <= (high or np.inf))]
        for low, high in OUTPUT_LENGTHS
        if low > 1
    }
    held = {name: 100 * values for name, values in groups.items() if len(values)}
    panel.boxplot(list(held.values()), tick_labels=list(held), showfliers=False)
    panel.axhline(0, color="black", linewidth=1)
    panel.set(xlabel="output tokens", ylabel="measured over predicted, %", title="decode residuals")


def _budgets(panel: Any, judged: Judged) -> None:
    """Draw the longest output by budget: of the quickest, the median and the slowest request."""
    prefill_ms, step_ms = judged.predicted[PREFILL], judged.predicted[DECODE_STEP]
    order = np.argsort(prefill_ms + step_ms * 10)
    budgets_ms = np.linspace(prefill_ms.min(), 2 * prefill_ms.max() + 20 * step_ms.max(), N_BUDGETS)
    for name, row in (("quickest", 0), ("median", len(order) // 2), ("slowest", -1)):
        at = order[row]
        tokens = tokens_within(
            np.full(N_BUDGETS, prefill_ms[at]), np.full(N_BUDGETS, step_ms[at]), budgets_ms
        )
        panel.plot(budgets_ms, tokens, label=f"{name} request")
    panel.set(xlabel="budget, ms", ylabel="longest output, tokens", title="budget frontier")
    panel.legend()
