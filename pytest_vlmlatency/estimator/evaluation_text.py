"""Scores as a table that reads at a glance. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL
from pytest_vlmlatency.estimator.recipes import PER_TOKEN
from pytest_vlmlatency.printing import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_vlmlatency.estimator.evaluation import Score

HEADERS = ("", "target", "records", "MAE ms", "RMSE ms", "MAPE", "R2", "P95 holds", "origin's aim")
AIMS = {PREFILL: (5.0, 0.05), DECODE_STEP: (1.0, 0.10), PER_TOKEN: (1.0, 0.10)}
"""MAE in ms and relative error that the origin aimed at, of prefill and of a token."""
SHORT = {PREFILL: "prefill", DECODE_STEP: "decode", PER_TOKEN: "decode / N"}
"""Targets as options name them, and the origin's."""


def scores_text(groups: Mapping[str, Mapping[str, Score]]) -> str:
    """Return named groups of scores as one table."""
    rows = [
        _row(name if index == 0 else "", target, score)
        for name, scores in groups.items()
        for index, (target, score) in enumerate(scores.items())
    ]
    return table_text(HEADERS, rows, n_left=2)


def meets_aim(target: str, score: Score) -> bool:
    """Whether a score is under both of the origin's bounds."""
    mae_ms, relative_error = AIMS[target]
    return score.mae_ms < mae_ms and score.relative_error < relative_error


def table_text(headers: Sequence[str], rows: Sequence[Sequence[str]], *, n_left: int) -> str:
    """Return rows under their headers; all but the first `n_left` columns end at one place."""
    headers, *rows = ([printable(cell) for cell in row] for row in (headers, *rows))
    widths = [max(len(row[column]) for row in (headers, *rows)) for column in range(len(headers))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < n_left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (headers, *rows)
    )


def _row(name: str, target: str, score: Score) -> tuple[str, ...]:
    return (
        name,
        SHORT[target],
        f"{score.n_records:,}",
        f"{score.mae_ms:.2f}",
        f"{score.rmse_ms:.2f}",
        f"{score.relative_error:.2%}",
        "-" if score.r2 is None else f"{score.r2:.3f}",
        "-" if score.coverage is None else f"{score.coverage:.1%}",
        "met" if meets_aim(target, score) else "missed",
    )
