"""What a test may say about how it is judged, made into GateTerms.

Owns the forms that a user may write (a ratio, or a ratio by phase; a budget, or one by device) and
how layers of them join: what a stronger layer does not name is left to the next one. What values
are possible is checked by `records.GateTerms`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from difflib import get_close_matches
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.records import (
    ANY_DEVICE,
    ANY_PHASE,
    MOST_EFFECT_SHARE,
    TARGET_RATIO,
    TOTAL,
    VISION_OUTSIDE,
    Case,
    GateMode,
    GateTerms,
    Phase,
    Place,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

QUANTITIES = (*(str(phase) for phase in Phase), TOTAL, "ttft", "tpot", "outside")
"""What a budget may bound in every case, beside the user's own spans."""

JUDGED = (*(str(phase) for phase in Phase if phase is not Phase.OTHER), TOTAL)
"""What may have a target in every case, beside those of the user's spans that are parts."""

QUARANTINE = ("gate", "why", "until")
JOINED = ("target", "budget_ms")
"""Keys whose values have keys of their own: a layer fills in what a stronger one does not name."""


def gate_terms(
    *,
    target: object = None,
    alpha: object = None,
    min_effect: object = None,
    budget_ms: object = None,
    gate: object = None,
    why: object = None,
    until: object = None,
) -> GateTerms:
    """Return the terms of a case from what a user wrote; UsageProblem for what means nothing."""
    mode = _mode(gate)
    if mode is not GateMode.REPORT and (why is not None or until is not None):
        raise UsageProblem(
            f"why= and until= explain a quarantine and were given with gate={str(mode)!r}; "
            f"write gate='report' beside them, or leave them out"
        )
    return GateTerms(
        target_ratios=by_phase(target),
        budgets_ms=by_quantity(budget_ms),
        alpha=_number("alpha", alpha),
        min_effect_ratio=_number("min_effect", min_effect),
        mode=mode,
        why=None if why is None else str(why),
        until=until.isoformat() if isinstance(until, date) else _text("until", until),
    )


def joined(key: str, stronger: object, weaker: object) -> object:
    """Return a value of a joined key from two layers: the stronger one, filled in by the weaker."""
    if key == "target":
        return {**by_phase(weaker), **by_phase(stronger)}
    return {**by_quantity(weaker), **by_quantity(stronger)}


def by_phase(target: object) -> dict[str, float]:
    """Return targets by phase; a plain ratio is that of all phases."""
    if target is None:
        return {}
    given = target if isinstance(target, Mapping) else {ANY_PHASE: target}
    return {_name("target", phase): _ratio("target", value) for phase, value in given.items()}


def by_quantity(budget_ms: object) -> dict[str, dict[str, float]]:
    """Return budgets by quantity and device; a plain number is that of any device."""
    if budget_ms is None:
        return {}
    if not isinstance(budget_ms, Mapping):
        raise UsageProblem(
            f"budget_ms is {budget_ms!r}; expected a mapping such as {{'ttft': 250}}, or "
            f"{{'ttft': {{'NVIDIA H200': 250}}}} for one device"
        )
    return {
        _name("budget_ms", quantity): {
            _name("budget_ms", device): _ratio("budget_ms", value)
            for device, value in _by_device(given).items()
        }
        for quantity, given in budget_ms.items()
    }


def check_effect(terms: GateTerms) -> None:
    """Raise UsageProblem for a min_effect that a target leaves no room for.

    To be called once all layers are merged: target and min_effect may come from different ones.
    """
    least = terms.min_effect_ratio
    if least is None:
        return
    told = f"min_effect is {least:g}, which the vlm_latency marker or the call itself says"
    if least == 0:
        raise UsageProblem(
            f"{told}; expected more than 0: leave it out, and it is a third of the target"
        )
    for phase in (*terms.target_ratios, *JUDGED):
        target = terms.target_ratio(phase)
        ratio = TARGET_RATIO if target is None else target
        if not least < MOST_EFFECT_SHARE * ratio:
            where = (
                "the default"
                if target is None
                else "which the marker, the call, --vlm-target or vlm_target in the ini file says"
            )
            name = "every phase" if phase == ANY_PHASE else repr(phase)
            raise UsageProblem(
                f"{told}, and the target of {name} is {ratio:g}, {where}; expected a min_effect "
                f"of less than {MOST_EFFECT_SHARE:g} of the target: what is too small to be slower "
                f"must not be too large to be the same. Lower min_effect, or raise the target"
            )


def check_names(terms: GateTerms, case: Case) -> None:
    """Raise UsageProblem for the first phase of the terms that this case cannot have."""
    spans = {span.name: span.place for call in case.calls for span in call.spans}
    parts = [name for name, place in spans.items() if place is Place.PART or name == VISION_OUTSIDE]
    targets = dict.fromkeys((*JUDGED, *(name for name in parts if name != Phase.OTHER)))
    for name in terms.target_ratios:
        if name != ANY_PHASE and name not in targets:
            raise UsageProblem(_unknown("target", name, tuple(targets), spans))
    quantities = dict.fromkeys((*QUANTITIES, *spans))
    for name in terms.budgets_ms:
        if name not in quantities:
            raise UsageProblem(_unknown("budget_ms", name, tuple(quantities), spans))


def _unknown(key: str, name: str, known: Sequence[str], spans: Mapping[str, Place]) -> str:
    if name == Phase.OTHER:
        return (
            f"{key} names 'other', which is what no phase accounts for: its change is shown and "
            f"not judged; judge 'total', which holds it"
        )
    if name in spans:
        return (
            f"{key} names {name!r}, a span of yours that is no part of generate()'s total "
            f"({spans[name]}): it is measured and not judged; give it a budget_ms instead"
        )
    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"{key} names {name!r}, which this case does not have{hint} It has {', '.join(known)}."


def _mode(gate: object) -> GateMode:
    if gate is None:
        return GateMode.FAIL
    if gate not in list(GateMode):
        modes = ", ".join(repr(str(mode)) for mode in GateMode)
        raise UsageProblem(f"gate is {gate!r}; expected one of {modes}")
    return GateMode(str(gate))


def _by_device(given: object) -> Mapping[object, object]:
    return given if isinstance(given, Mapping) else {ANY_DEVICE: given}


def _name(key: str, name: object) -> str:
    if not isinstance(name, str) or not name:
        raise UsageProblem(f"{key} has the key {name!r}; expected a name, such as 'decode'")
    return str(name)


def _ratio(key: str, value: object) -> float:
    number = _number(key, value)
    if number is None:
        raise UsageProblem(f"{key} holds None; expected a number, or no such key")
    return number


def _number(key: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageProblem(f"{key} is {value!r}; expected a number")
    return float(value)


def _text(key: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise UsageProblem(f"{key} is {value!r}; expected a date such as '2026-12-31'")
    return value
