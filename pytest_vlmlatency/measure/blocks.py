"""Which modules are the decoder's blocks: the list that runs in every step. Pure over a Trace.

A list is a ModuleList or a Sequential, or a ModuleDict of modules that are all alike (one that has
embedding, blocks and norm side by side is no list of blocks). Its children run in their order in
every step, once each, or several times if the model goes through all of them, or a part of them,
again. Of several such lists the outermost are looked at. A head may have more parameters than all
blocks, so lists in which few modules run are left out before parameters decide.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.errors import PhasesNotFound
from pytest_vlmlatency.measure.override import HOW_TO_NAME
from pytest_vlmlatency.measure.trace import Node, descend

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BUSY_RATIO = 0.5
"""Of the modules that run in the busiest list, the share that runs in any list of blocks."""


def find_blocks(model: torch.nn.Module, steps: Sequence[Node]) -> tuple[str, ...]:
    """Return the paths of the decoder's blocks as they ran in a step, first to last."""
    lists = {
        path: [f"{path}.{name}".lstrip(".") for name, _ in module.named_children()]
        for path, module in model.named_modules()
        if is_list(module)
    }
    runs = [_called_children(step, lists) for step in steps]
    candidates = {
        path: tuple(node.path for node in runs[-1][path])
        for path, children in lists.items()
        if _is_run_in_all([run.get(path, []) for run in runs], children)
    }
    outermost = [path for path in candidates if not _is_within(path, candidates)]
    if not outermost:
        raise PhasesNotFound(
            f"no list of blocks was seen whose children run once each, in order, in all of "
            f"{len(steps)} steps; {len(lists)} lists of modules were looked at; {HOW_TO_NAME}"
        )
    n_calls = {path: _n_calls(runs[-1][path]) for path in outermost}
    busy = [path for path in outermost if n_calls[path] > BUSY_RATIO * max(n_calls.values())]
    return candidates[max(busy, key=lambda path: _n_parameters(model, candidates[path]))]


def is_list(module: torch.nn.Module) -> bool:
    """Whether a module holds others that may be run one after another."""
    if isinstance(module, torch.nn.ModuleDict):
        return len({type(child) for child in module.children()}) == 1
    return isinstance(module, torch.nn.ModuleList | torch.nn.Sequential)


def _called_children(step: Node, lists: Mapping[str, list[str]]) -> dict[str, list[Node]]:
    owner = {child: path for path, children in lists.items() for child in children}
    called: dict[str, list[Node]] = {}
    for node in descend(step):
        if node.method is None and node.path in owner:
            called.setdefault(owner[node.path], []).append(node)
    return called


def _is_run_in_all(runs: Sequence[Sequence[Node]], children: Sequence[str]) -> bool:
    """Whether children ran in their order in each step, once or in the same rounds each time."""
    orders = [[children.index(node.path) for node in run] for run in runs]
    is_once = all(order and order == sorted(set(order)) for order in orders)
    return is_once or (all(order == orders[0] for order in orders) and _is_in_rounds(orders[0]))


def _is_in_rounds(order: Sequence[int]) -> bool:
    """Whether children ran first to last, all or some in between again: they share their weights.

    Each round goes on from a child to the next one that runs at all, and starts no further than
    where the one before it ended.
    """
    once = sorted(set(order))
    following = dict(pairwise(once))
    ends = bool(order) and (order[0], order[-1]) == (once[0], once[-1])
    return ends and all(
        after <= before or after == following[before] for before, after in pairwise(order)
    )


def _is_within(path: str, others: Mapping[str, Sequence[str]]) -> bool:
    return any(
        path.startswith(f"{block}.") or path == block
        for blocks in others.values()
        for block in blocks
    )


def _n_calls(nodes: Sequence[Node]) -> int:
    """Return how many modules ran in these calls, themselves included."""
    return sum(1 for node in nodes for _ in descend(node))


def _n_parameters(model: torch.nn.Module, paths: Sequence[str]) -> int:
    return sum(
        parameter.numel()
        for path in set(paths)
        for parameter in model.get_submodule(path).parameters()
    )
