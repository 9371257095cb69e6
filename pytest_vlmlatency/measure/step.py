"""Which module generate() calls once a forward, and which ends the prompt. Pure over a Trace."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.errors import PhasesNotFound
from pytest_vlmlatency.measure.override import HOW_TO_NAME, name_by_hand
from pytest_vlmlatency.measure.trace import Node, Trace, descend

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def find_step(trace: Trace) -> str:
    """Return the module that was called by no other and gave logits, most often.

    Without logits, it is what was called most often after all work on pixels, with modules inside:
    embedding and head are called as often, or once more, and have fewer inside; a tower perhaps
    runs for more images than tokens.
    """
    with_logits = Counter(node.path for node in trace.roots if node.has_logits)
    if with_logits:
        return with_logits.most_common(1)[0][0]
    first = {(it.path, it.pixels): it.index for it in reversed(trace.roots) if it.has_raw_pixels}
    pixels_end = max(first.values(), default=-1)  # the same pixels again are no further images
    after = [node for node in trace.roots if node.index > pixels_end and node.method is None]
    called = Counter(node.path for node in after)
    sizes = {node.path: sum(1 for _ in descend(node)) for node in after}
    around_others = [path for path in called if sizes[path] > 1] or list(called)
    most = max((called[path] for path in around_others), default=0)
    often = [path for path in around_others if called[path] >= max(2, most - 1)]
    step = max(often, key=lambda path: (sizes[path], called[path]), default=None)
    if step is not None:
        _check_whole(step, called)
        return step
    seen = ", ".join(repr(node.path) for node in trace.roots[:8]) or "no module call at all"
    raise PhasesNotFound(
        f"no module was seen to run once a token: outermost were {seen}, none with logits in its "
        f"output; expected one such forward a token; {HOW_TO_NAME}"
    )


def _check_whole(step: str, called: Mapping[str, int]) -> None:
    """Raise where the members of a list ran on their own: what goes through them was not seen."""
    owner, _, name = step.rpartition(".")
    alike = [path for path in called if path.rpartition(".")[0] == owner]
    if name.isdigit() and len(alike) > 1 and len({called[path] for path in alike}) == 1:
        raise PhasesNotFound(
            f"{', '.join(alike[:4])} were called by no module, each once a token; expected one "
            f"module around them that runs once a token: generate() must call it, as in "
            f"self(input_ids), because hooks do not see a forward() that is called by itself. If "
            f"it calls a method, {name_by_hand('step')}, such as 'forward'"
        )


def find_prompt_end(model: torch.nn.Module, trace: Trace, steps: Sequence[Node]) -> str:
    """Return the module that ends the prompt: the step, or a head that is called after it.

    An embedding there is the next token's, and so is what ran before the prompt, too.
    """
    if steps[0].has_logits or len(steps) < 2:
        return steps[0].label
    before = {node.path for node in trace.roots if node.index < steps[0].index}
    between = [
        node
        for node in trace.roots
        if steps[0].index < node.index < steps[1].index
        and node.method is None
        and node.path not in before
        and not isinstance(model.get_submodule(node.path), torch.nn.Embedding)
    ]
    return between[-1].path if between else steps[0].label
