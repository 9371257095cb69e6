"""Predictions beside what was measured, as text: a column, marks, and what must be said.

Pure: records in, text out. What is compared with what is decided by `session.predicting`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vlmlatency.records import WALL, Standing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_vlmlatency.records import Case, Prediction

HEADER = "predicted"
LEGEND = (
    "vision, prefill and decode together, without the rest of the total: median ≤95th percentile."
)


def predicted_marks(case: Case) -> tuple[str, ...]:
    """Return the words about a case's prediction that stand below its row."""
    told = case.prediction
    if told is None:
        return ()
    if told.refused_because:
        return ("not-predicted",)
    off = (f"{told.standing}-than-predicted",) if told.is_off else ()
    return (*off, "extrapolated") if told.outside else off


def off_lines(cases: Iterable[Case]) -> list[str]:
    """Return a line for each case that is off by more than its interval, and their number first."""
    predicted = [(case, case.prediction) for case in cases if case.prediction is not None]
    off = [(case, told) for case, told in predicted if told.is_off]
    if not off:
        return []
    n_judged = sum(told.standing is not Standing.NOT_JUDGED for _case, told in predicted)
    head = f"Off by more than the predicted interval: {len(off)} of {n_judged}."
    return [head, *(f"  {case.name}: {_off(told)}" for case, told in off)]


def about_lines(cases: Iterable[Case]) -> list[tuple[str, tuple[str, ...]]]:
    """Return, for each case, the sentences that a reader of its prediction must know."""
    return [(case.name, _about(case.prediction)) for case in cases if case.prediction is not None]


def predicted_figures(cases: Sequence[Case]) -> list[tuple[float, float] | None]:
    """Return median and 95th percentile of each case, None where nothing was predicted."""
    return [_figures(case.prediction) for case in cases]


def _figures(told: Prediction | None) -> tuple[float, float] | None:
    if told is None or told.p50_ms is None or told.p95_ms is None:
        return None
    return told.p50_ms, told.p95_ms


def _off(told: Prediction) -> str:
    of = "" if told.measure == WALL else f" of {told.measure.removesuffix('_ms').upper()} time"
    return (
        f"{told.standing} than predicted: {told.measured_ms:.1f} ms{of} measured, "
        f"{told.p50_ms:.1f} ms predicted ({told.p5_ms:.1f} to {told.p95_ms:.1f})"
    )


def _about(told: Prediction) -> tuple[str, ...]:
    if told.refused_because:
        return (f"not predicted: {told.refused_because}.",)
    outside = (f"outside of what was measured: {one}." for one in told.outside)
    kind = () if told.measure == WALL else (f"predicted and compared as {told.measure}.",)
    return (*outside, *kind, *told.notes)
