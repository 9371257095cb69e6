"""Which modules are the decoder's blocks: a list whose children run in order, in every step.

Pure over the steps of a Trace and the model's structure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.errors import PhasesNotFound
from pytest_vlmlatency.measure.override import HOW_TO_NAME
from pytest_vlmlatency.measure.trace import descend

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_vlmlatency.measure.trace import Node

    Run = tuple[str, ...]


def find_blocks(model: torch.nn.Module, steps: Sequence[Node]) -> tuple[str, ...]:
    """Return the children of the largest list that run once each, in order, in every step.

    Where there is none: of a list whose children run in as many rounds in every step.
    """
    lists = {
        path: [f"{path}.{name}".lstrip(".") for name, _ in module.named_children()]
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList | torch.nn.Sequential)
    }
    runs = [_called_children(step, lists) for step in steps]

    def candidates_by(is_run: Callable[[Sequence[str], Sequence[str]], bool]) -> dict[str, Run]:
        return {
            path: tuple(runs[-1][path])
            for path, children in lists.items()
            if all(is_run(run.get(path, []), children) for run in runs)
        }

    repeated = {
        path: run
        for path, run in candidates_by(_is_in_rounds).items()
        if all(len(other[path]) == len(run) for other in runs)
    }
    candidates = candidates_by(_is_once_in_order) or repeated
    outermost = [path for path in candidates if not _is_within(path, candidates)]
    if not outermost:
        raise PhasesNotFound(
            f"no list of blocks was seen whose children run once each, in order, in all of "
            f"{len(steps)} steps; {len(lists)} lists of modules were looked at; {HOW_TO_NAME}"
        )
    return candidates[max(outermost, key=lambda path: _n_parameters(model, candidates[path]))]


def _called_children(step: Node, lists: Mapping[str, list[str]]) -> dict[str, list[str]]:
    owner = {child: path for path, children in lists.items() for child in children}
    called: dict[str, list[str]] = {}
    for node in descend(step):
        if node.method is None and node.path in owner:
            called.setdefault(owner[node.path], []).append(node.path)
    return called


def _is_once_in_order(called: Sequence[str], children: Sequence[str]) -> bool:
    order = [children.index(child) for child in called]
    return bool(order) and order == sorted(set(order))


def _is_in_rounds(called: Sequence[str], children: Sequence[str]) -> bool:
    """Whether the children run in order, round after round: blocks that share their weights."""
    n_distinct = len(set(called))
    starts = range(0, len(called), n_distinct or 1)
    rounds = [called[start : start + n_distinct] for start in starts]
    return bool(rounds) and all(
        one == rounds[0] and _is_once_in_order(one, children) for one in rounds
    )


def _is_within(path: str, others: Mapping[str, Sequence[str]]) -> bool:
    return any(
        path.startswith(f"{block}.") or path == block
        for blocks in others.values()
        for block in blocks
    )


def _n_parameters(model: torch.nn.Module, paths: Sequence[str]) -> int:
    return sum(
        parameter.numel() for path in paths for parameter in model.get_submodule(path).parameters()
    )
