"""Which boundaries of a model lie inside compiled code, where no hook fires.

A model is watched with its compiled parts run as they were written, so everything is seen there.
What is measured is the compiled model: its boundaries must lie outside of every compiled region,
where hooks are no part of what torch compiled, and change none of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_vlmlatency.calls.compilation import is_compiled
from pytest_vlmlatency.calls.hooks import FEATURE_METHODS
from pytest_vlmlatency.discovery.trace import Trace, ancestors
from pytest_vlmlatency.errors import InvalidMeasurement
from pytest_vlmlatency.options import name_by_hand

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

    from pytest_vlmlatency.discovery.trace import Node
    from pytest_vlmlatency.records import PhaseMap


def compiled_regions(model: torch.nn.Module) -> tuple[str, ...]:
    """Return the modules and feature methods of a model that are compiled as a whole.

    A module is if its forward is, or the call around it (`Module.compile`).
    """
    return tuple(_regions(model))


def _regions(model: torch.nn.Module) -> Iterator[str]:
    for path, module in model.named_modules():
        own = (getattr(module, name, None) for name in ("forward", "_compiled_call_impl"))
        if any(is_compiled(function) for function in own):
            yield path
        for name in FEATURE_METHODS:
            if is_compiled(getattr(module, name, None)):
                yield f"{path}.{name}".lstrip(".")


def seen_from_outside(model: torch.nn.Module, trace: Trace, phase_map: PhaseMap) -> PhaseMap:
    """Return the phases as they can be seen while compiled parts run compiled.

    Where the first block lies inside a compiled region, the region's own entry stands for it.
    Raises InvalidMeasurement where another boundary does, naming the region.
    """
    regions = compiled_regions(model)
    ran = {node.label for node in trace.nodes()}
    first_block = next(node for node in trace.nodes() if node.label == phase_map.blocks[0])
    for node in _boundaries(trace, first_block, phase_map):
        _check_visible(node, regions)
    around = _compiled_callers(first_block, regions)
    return replace(
        phase_map,
        entry=around[0] if around else phase_map.blocks[0],
        compiled=tuple(region for region in regions if region in ran),
    )


def _boundaries(trace: Trace, first_block: Node, phase_map: PhaseMap) -> Iterator[Node]:
    """Yield the calls that a phase begins or ends with, but for the first block's."""
    labels = {*phase_map.vision_calls, *phase_map.text_encoder}
    for node in trace.nodes():
        if node.label in labels and node.index < first_block.index:
            if not labels.intersection(at.label for at in ancestors(node) if at is not node):
                yield node
        elif node.label in (phase_map.step, phase_map.prompt_end):
            yield node


def _compiled_callers(node: Node, regions: Sequence[str]) -> list[str]:
    """Return the compiled regions around a call, outermost first."""
    around = [at.label for at in ancestors(node) if at is not node]
    return [label for label in reversed(around) if label in regions]


def _check_visible(node: Node, regions: Sequence[str]) -> None:
    around = _compiled_callers(node, regions)
    if around:
        raise InvalidMeasurement(
            f"{node.label!r} runs inside {region_name(around[0])}, which is compiled as a whole: "
            f"hooks inside compiled code do not fire, so its time cannot be told from what is "
            f"around it; expected vision, and the forward of a step, outside of compiled code. "
            f"Compile the decoder alone, or its blocks one by one (block.forward = "
            f"torch.compile(block.forward)), measure the model uncompiled, or, if it is vision, "
            f"{name_by_hand('vision')}"
        )


def region_name(region: str) -> str:
    """Return a compiled region as it is called in a sentence."""
    return repr(region or "the model")
