"""Where torch.compile is at work: regions that hooks cannot see into, and compiling in a round.

Reads what torch leaves behind, and only once its compiler is loaded; never loads it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

COMPILED_MARK = "_torchdynamo_orig_callable"
"""The attribute by which torch tells a compiled function from the one that it was made of."""


def n_compilations() -> int:
    """Return how often torch has compiled a frame in this process, again or for the first time."""
    module = sys.modules.get("torch._dynamo.convert_frame")
    return sum(getattr(module, "FRAME_COMPILE_COUNTER", {}).values())


def compiled_modules(model: torch.nn.Module) -> dict[str, bool]:
    """Return the modules that are compiled as a whole, and whether their own hooks fire.

    They do where the forward was compiled, and not where the call around it was (`Module.compile`).
    Hooks inside never do, or only by compiling everything anew.
    """
    found = {}
    for path, module in model.named_modules():
        if getattr(module, "_compiled_call_impl", None) is not None:
            found[path] = False
        elif hasattr(getattr(module, "forward", None), COMPILED_MARK):
            found[path] = True
    return found


def hidden_modules(model: torch.nn.Module) -> frozenset[str]:
    """Return the modules whose hooks lie inside compiled code."""
    regions = compiled_modules(model)
    return frozenset(
        path
        for path, _ in model.named_modules()
        if not regions.get(path, True)
        or any(path != region and _is_inside(path, region) for region in regions)
    )


def outermost_hidden(model: torch.nn.Module) -> frozenset[str]:
    """Return the modules compiled with the call around them, inside no other compiled region."""
    regions = compiled_modules(model)
    return frozenset(
        path
        for path, has_hooks in regions.items()
        if not has_hooks and not any(path != other and _is_inside(path, other) for other in regions)
    )


def _is_inside(path: str, region: str) -> bool:
    return not region or path.startswith(f"{region}.")
