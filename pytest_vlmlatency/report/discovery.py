"""How the phases of each case were found, for `-v`. Pure: records in, lines of text out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_vlmlatency.records import Case, Discovery


def discovery_lines(cases: Iterable[Case]) -> list[str]:
    """Return a line for each case whose phases were found: for which model and call, in what time.

    The time is in no phase and no total.
    """
    return [
        f"Phases of {case.name}: {case.discovery.model}, {case.discovery.inputs}: "
        f"{_how(case.discovery)}."
        for case in cases
        if case.discovery is not None
    ]


def _how(discovery: Discovery) -> str:
    if discovery.is_remembered:
        return f"remembered from a case before it, in {discovery.time_ms:.1f} ms"
    watched = f"watched in {discovery.time_ms:.1f} ms"
    if discovery.not_kept_because:
        return f"{watched}, and not remembered: {discovery.not_kept_because}"
    return watched
