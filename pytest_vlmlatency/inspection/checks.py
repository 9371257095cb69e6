"""What a model says of itself, without running, against what was seen when it ran.

A cross-check only: such look-ups were seen to be wrong for a tenth of all architectures, so a
disagreement is reported and changes nothing.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from pytest_vlmlatency.inspection.findings import Check, Verdict
from pytest_vlmlatency.inspection.wording import counted
from pytest_vlmlatency.measure.wrapping import configured_part
from pytest_vlmlatency.records import Phase, PhaseMap

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

LOOKUP_ERRORS = (AttributeError, NotImplementedError, TypeError, ValueError)
"""What get_encoder() and get_decoder() raise where a model has no such part."""


def static_checks(
    model: torch.nn.Module, phase_map: PhaseMap, phases: Mapping[str, frozenset[Phase]]
) -> tuple[Check, ...]:
    """Return the look-ups for vision (if there was any), the decoder and the number of blocks."""
    checks = [_decoder_check(model, phase_map), _count_check(model, phase_map)]
    if phase_map.vision_calls:
        checks.insert(0, _vision_check(model, phases))
    return tuple(checks)


def _vision_check(model: torch.nn.Module, phases: Mapping[str, frozenset[Phase]]) -> Check:
    said = _part(model, "get_encoder", modality="image")
    vision = [path for path, found in phases.items() if found == {Phase.VISION}]
    outermost = [path for path in vision if path.rpartition(".")[0] not in vision]
    return Check(
        what='get_encoder(modality="image")',
        said=said,
        seen=f"vision is {', '.join(outermost) or 'no module of its own'}",
        verdict=_verdict(said, is_right=said in vision),
    )


def _decoder_check(model: torch.nn.Module, phase_map: PhaseMap) -> Check:
    said = _part(model, "get_decoder")
    first = phase_map.blocks[0]
    return Check(
        what="get_decoder()",
        said=said,
        seen=f"the first block is {first}",
        verdict=_verdict(said, is_right=said is not None and first.startswith(f"{said}.")),
    )


def _count_check(model: torch.nn.Module, phase_map: PhaseMap) -> Check:
    said = _n_configured(model)
    n_seen = len(phase_map.blocks)
    return Check(
        what="config",
        said=None if said is None else counted(said, "block"),
        seen=f"{counted(n_seen, 'block')} ran",
        verdict=_verdict(said, is_right=said == n_seen),
    )


def _verdict(said: object, *, is_right: bool) -> Verdict:
    if said is None:
        return Verdict.SILENT
    return Verdict.AGREES if is_right else Verdict.DISAGREES


def _part(model: torch.nn.Module, method: str, **arguments: str) -> str | None:
    """Return the path of what a look-up names; None for the model itself, or for nothing."""
    asked = configured_part(model)
    look_up = getattr(asked, method, None)
    if not callable(look_up):
        return None
    try:
        if not set(arguments) <= set(inspect.signature(look_up).parameters):
            return None
        part = look_up(**arguments)
    except LOOKUP_ERRORS:
        return None
    paths = {id(module): path for path, module in model.named_modules()}
    return None if part is asked else paths.get(id(part)) or None


def _n_configured(model: torch.nn.Module) -> int | None:
    config = getattr(configured_part(model), "config", None)
    read = getattr(config, "get_text_config", None)
    if not callable(read):
        return None
    text = read(decoder=True)
    names = ("decoder_layers", "num_decoder_layers", "num_hidden_layers")
    found = next((getattr(text, name) for name in names if hasattr(text, name)), None)
    return found if isinstance(found, int) else None
