"""Which module generate() calls once a forward, and which ends the prompt. Pure over a Trace."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.errors import PhasesNotFound
from pytest_vlmlatency.measure.override import HOW_TO_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vlmlatency.measure.trace import Node, Trace


def find_step(trace: Trace) -> str:
    """Return the module that was called by no other and gave logits, most often.

    Without logits, it is what was called most often after all work on pixels, with modules inside:
    embedding and head are called as often, and a tower perhaps for more images than tokens.
    """
    with_logits = Counter(node.path for node in trace.roots if node.has_logits)
    if with_logits:
        return with_logits.most_common(1)[0][0]
    pixels_end = max((node.index for node in trace.roots if node.has_raw_pixels), default=-1)
    after = [node for node in trace.roots if node.index > pixels_end and node.method is None]
    around_others = [node for node in after if node.children] or after
    called = Counter(node.path for node in around_others).most_common(1)
    if called and called[0][1] > 1:
        return called[0][0]
    seen = ", ".join(repr(node.path) for node in trace.roots[:8]) or "no module call at all"
    raise PhasesNotFound(
        f"no module was seen to run once a token: outermost were {seen}, none with logits in its "
        f"output; expected one such forward a token; {HOW_TO_NAME}"
    )


def find_prompt_end(model: torch.nn.Module, trace: Trace, steps: Sequence[Node]) -> str:
    """Return the module that ends the prompt: the step, or a head that is called after it.

    An embedding there is the next token's.
    """
    if steps[0].has_logits or len(steps) < 2:
        return steps[0].path
    between = [
        node
        for node in trace.roots
        if steps[0].index < node.index < steps[1].index
        and node.method is None
        and not isinstance(model.get_submodule(node.path), torch.nn.Embedding)
    ]
    return between[-1].path if between else steps[0].path
