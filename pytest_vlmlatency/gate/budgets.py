"""Bounds in absolute terms: medians in wall time against `budget_ms`. Pure.

A budget needs no baseline: a new case can be over it, too.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from pytest_vlmlatency.records import ANY_DEVICE, WALL, BudgetVerdict, Phase
from pytest_vlmlatency.terms import QUANTITIES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_vlmlatency.records import Case, Environment

CPU_KIND = "cpu"


def budgets_of(case: Case, environment: Environment) -> tuple[BudgetVerdict, ...]:
    """Return a verdict for each budget that is there for the case's device.

    A device is named by its model ("NVIDIA H200"), by its kind ("cuda"), or "*" stands for any.
    """
    names = device_names(case.device, environment)
    return tuple(
        BudgetVerdict(
            quantity=quantity,
            device=name,
            measured_ms=_median_ms(case, quantity),
            budget_ms=budgets[name],
        )
        for quantity, budgets in case.terms.budgets_ms.items()
        for name in [next((name for name in names if name in budgets), None)]
        if name is not None
    )


def budgets_for_others(case: Case, environment: Environment) -> tuple[str, ...]:
    """Return in words which budgets say nothing of the case's device."""
    names = device_names(case.device, environment)
    return tuple(
        f"budget_ms of {quantity} is for {', '.join(budgets)}, and says nothing of {names[0]}"
        for quantity, budgets in case.terms.budgets_ms.items()
        if not set(names) & set(budgets)
    )


def device_names(device: str, environment: Environment) -> tuple[str, ...]:
    """Return what a budget may call a device: its model, its kind, or any."""
    kind = device.partition(":")[0]
    models = [_model_of(facts) for facts in environment.devices if facts.get("device") == device]
    if kind == CPU_KIND:
        models = [str(environment.machine.get("cpu"))]
    return (*dict.fromkeys([*models, kind, ANY_DEVICE]),)


def _model_of(facts: Mapping[str, object]) -> str:
    return str(facts.get("name"))


def _median_ms(case: Case, quantity: str) -> float | None:
    if quantity in QUANTITIES:
        is_absent = quantity in set(Phase) and not _occurs(case, quantity)
        return None if is_absent else case.median_of(f"{quantity}_ms")
    if not _occurs(case, quantity):
        return None
    return median(call.phase_time(quantity, WALL) for call in case.calls)


def _occurs(case: Case, name: str) -> bool:
    return any(span.name == name for call in case.calls for span in call.spans)
