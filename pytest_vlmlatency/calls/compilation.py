"""Where torch.compile is at work: what it returned, how often it compiled, and keeping it from it.

Reads what torch leaves behind, and only once its compiler is loaded; never loads it.
"""

from __future__ import annotations

import re
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

COMPILED_MARK = "_torchdynamo_orig_callable"
"""The attribute by which torch tells a compiled function from the one that it was made of."""
LIMIT = re.compile(r"recompile.limit|cache.size.limit")
"""How torch's own counters name a frame that it gave up compiling again."""


def n_compilations() -> int:
    """Return how often torch has compiled a frame in this process, again or for the first time."""
    module = sys.modules.get("torch._dynamo.convert_frame")
    return sum(getattr(module, "FRAME_COMPILE_COUNTER", {}).values())


def n_limits_reached() -> int:
    """Return for how many frames torch reached its recompile limit: they run uncompiled."""
    counters = getattr(sys.modules.get("torch._dynamo.utils"), "counters", {})
    reasons = counters.get("unimplemented", {})
    return sum(n for reason, n in reasons.items() if LIMIT.search(str(reason)))


def run_uncompiled() -> AbstractContextManager[object]:
    """Let everything that torch.compile has made run as it was written, compiling nothing."""
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance


def is_compiled(function: object) -> bool:
    """Whether a function is what torch.compile returned, and its compiler is in force."""
    stance = getattr(sys.modules.get("torch._dynamo.eval_frame"), "_stance", None)
    return hasattr(function, COMPILED_MARK) and getattr(stance, "stance", "") != "force_eager"
