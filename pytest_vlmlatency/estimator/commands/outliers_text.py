"""Outliers as a command tells of them: how many, and the first few by name. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vlmlatency.estimator.calibration import Outlier

N_NAMED = 5


def outliers_text(found: Sequence[Outlier], where: str, kept: str) -> str:
    """Return how many outliers were found where, what is done with them, and the first few."""
    lines = [f"{len(found):,} outlier{'' if len(found) == 1 else 's'} {where}; {kept}"]
    lines += [
        f"  {outlier.source or f'record {outlier.record}'}: {outlier.target} "
        f"{outlier.measured_ms:.1f} ms, expected {outlier.expected_ms:.1f} ms"
        for outlier in found[:N_NAMED]
    ]
    if len(found) > N_NAMED:
        lines.append(f"  and {len(found) - N_NAMED:,} more")
    return "\n".join(lines)
