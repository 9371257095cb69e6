"""In which phase each module ran, and which call is which phase: read from a trace. Pure.

A call belongs to the phase that a measurement would give its time to: the innermost of vision and
text encoder around it, else what generate() was at.

The phase map as a tree over the model's modules: as deep as phases differ, and no deeper. Pure.

Prefill and decode run the same modules, so they do not tell two modules apart.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from pytest_vlmlatency.discovery.trace import ancestors
from pytest_vlmlatency.inspection.findings import CallRow, ModuleRow
from pytest_vlmlatency.records import Phase, PhaseMap

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence, Set

    import torch

    from pytest_vlmlatency.discovery.trace import Node, Trace
    from pytest_vlmlatency.records import PhaseMap


class Attributed(NamedTuple):
    """One call with its phase. `is_entry`: generate() made it, or a phase of its own begins."""

    node: Node
    phase: Phase
    is_entry: bool


def attribute(
    trace: Trace, phase_map: PhaseMap, *, n_prompt_forwards: int
) -> tuple[Attributed, ...]:
    """Return every traced call with its phase, in order."""
    return tuple(_Walk(phase_map, n_prompt_forwards).visit_all(trace))


def phases_by_module(calls: tuple[Attributed, ...]) -> Mapping[str, frozenset[Phase]]:
    """Return the phases in which each module, or a part of it, ran."""
    found: dict[str, set[Phase]] = {}
    for call in calls:
        if call.node.method is None:
            names = call.node.path.split(".") if call.node.path else []
            for length in range(len(names) + 1):
                found.setdefault(".".join(names[:length]), set()).add(call.phase)
    return {path: frozenset(phases) for path, phases in found.items()}


def call_rows(
    calls: tuple[Attributed, ...], phase_map: PhaseMap, *, n_prompt_forwards: int, n_forwards: int
) -> tuple[CallRow, ...]:
    """Return what generate() called, and where phases begin inside, alike calls as one row.

    `n_forwards` is how often the step module ran in a whole call; a trace is of a few only.
    """
    counts: dict[tuple[str, Phase, str | None], int] = {}
    inside: dict[str, dict[str, None]] = {}
    entries = {id(call.node) for call in calls if call.is_entry}
    for call in calls:
        if call.is_entry:
            key = (call.node.label, call.phase, _entry_around(call.node, entries))
            counts[key] = counts.get(key, 0) + 1
            if call.node.method is not None:
                known = inside.setdefault(call.node.label, {})
                known.update(dict.fromkeys(_outermost_modules(call.node)))
    n_by_phase = {Phase.PREFILL: n_prompt_forwards, Phase.DECODE: n_forwards - n_prompt_forwards}
    return tuple(
        CallRow(
            what=what,
            phase=str(phase),
            n_calls=(
                n_by_phase.get(phase, n)
                if what == phase_map.step
                else None
                if phase is Phase.DECODE
                else n
            ),
            within=within,
            inside=tuple(inside.get(what, ())),
        )
        for (what, phase, within), n in counts.items()
    )


class _Walk:
    """Goes through a trace in order, and knows what generate() is at."""

    def __init__(self, phase_map: PhaseMap, n_prompt_forwards: int) -> None:
        self._map = phase_map
        self._n_expected = n_prompt_forwards
        self._n_ended = 0
        self._now = Phase.OTHER

    def visit_all(self, trace: Trace) -> Iterator[Attributed]:
        for root in trace.roots:
            yield from self._visit(root, None)

    def _visit(self, node: Node, around: Phase | None) -> Iterator[Attributed]:
        if node.label == self._map.step and self._now is Phase.OTHER:
            self._now = Phase.PREFILL
        begins = self._begins(node)
        is_new = begins is not None and begins is not around
        around = begins or around
        yield Attributed(node, around or self._now, node.parent is None or is_new)
        for child in node.children:
            yield from self._visit(child, around)
        if node.label == self._map.prompt_end:
            self._n_ended += 1
            if self._n_ended == self._n_expected:
                self._now = Phase.DECODE

    def _begins(self, node: Node) -> Phase | None:
        """Return the phase that a call begins whatever generate() is at."""
        if node.label in self._map.vision_calls:
            return Phase.VISION
        is_text = node.method is None and node.path in self._map.text_encoder
        return Phase.TEXT_ENCODER if is_text else None


def _entry_around(node: Node, entries: Set[int]) -> str | None:
    """Return the entry that a call happened inside, None for generate()'s own calls."""
    callers = (caller for caller in ancestors(node) if caller is not node)
    return next((caller.label for caller in callers if id(caller) in entries), None)


def _outermost_modules(node: Node) -> Iterator[str]:
    for child in node.children:
        if child.method is None:
            yield child.path
        else:
            yield from _outermost_modules(child)


BLOCKS = "blocks"


def module_rows(
    model: torch.nn.Module, phase_map: PhaseMap, phases: Mapping[str, frozenset[Phase]]
) -> tuple[ModuleRow, ...]:
    """Return the rows of the tree, parents first.

    Modules without parameters are left out unless the phase map uses them.
    """
    return tuple(_Tree(model, phase_map, phases).rows())


def roles_by_module(phase_map: PhaseMap) -> Mapping[str, tuple[str, ...]]:
    """Return what the phase map uses modules for."""
    roles: dict[str, list[str]] = {}
    roles.setdefault(phase_map.step, []).append("step")
    roles.setdefault(phase_map.prompt_end, []).append("prompt end")
    for label in phase_map.vision_calls:
        owner, _, method = label.rpartition(".")
        if owner in phase_map.feature_owners and method.startswith("get_"):
            roles.setdefault(owner, []).append(f"{method}()")
    for path in phase_map.vision:
        roles.setdefault(path, []).append("vision")
    for path in phase_map.text_encoder:
        roles.setdefault(path, []).append("text encoder")
    for path in phase_map.blocks:
        roles.setdefault(path, []).append(BLOCKS)
    return {path: tuple(names) for path, names in roles.items()}


class _Tree:
    def __init__(
        self, model: torch.nn.Module, phase_map: PhaseMap, phases: Mapping[str, frozenset[Phase]]
    ) -> None:
        self._model, self._phases = model, phases
        self._blocks = frozenset(phase_map.blocks)
        self._roles = roles_by_module(phase_map)

    def rows(self) -> Iterator[ModuleRow]:
        yield self._row([""], depth=0, name=type(self._model).__name__)
        yield from self._below("", depth=1)

    def _below(self, path: str, *, depth: int) -> Iterator[ModuleRow]:
        for group in self._groups(path):
            if len(group) > 1:
                yield self._row(group, depth=depth, name=_range(group))
            else:
                yield from self._child(group[0], depth=depth)

    def _child(self, path: str, *, depth: int) -> Iterator[ModuleRow]:
        name = path.rpartition(".")[2]
        groups = self._groups(path)
        if not self._is_opened(path):
            if path in self._roles or _n_parameters(self._model.get_submodule(path)):
                yield self._row([path], depth=depth, name=name)
        elif path not in self._roles and len(groups) == 1 and len(groups[0]) > 1:
            yield self._row(groups[0], depth=depth, name=f"{name}.{_range(groups[0])}")
        else:
            yield self._row([path], depth=depth, name=name)
            yield from self._below(path, depth=depth + 1)

    def _groups(self, path: str) -> list[list[str]]:
        """Return the children; of a list, neighbours that are alike together."""
        children = self._children(path)
        if not all(child.rpartition(".")[2].isdigit() for child in children):
            return [[child] for child in children]
        return [list(group) for _, group in groupby(children, key=self._kind)]

    def _kind(self, path: str) -> object:
        if path in self._blocks:
            return BLOCKS
        if self._is_opened(path):
            return path
        return type(self._model.get_submodule(path)), self._place(path), self._roles.get(path)

    def _is_opened(self, path: str) -> bool:
        """Whether a row says too little: parts of it run elsewhere, or have a role."""
        if path in self._blocks:
            return False
        if any(role.startswith(f"{path}.") for role in self._roles):
            return True
        places = {place for child in self._children(path) if (place := self._place(child))}
        return len(places) > 1

    def _place(self, path: str) -> frozenset[Phase]:
        """Return where a module runs, the prompt's forward being like any other."""
        phases = self._phases.get(path, frozenset())
        return frozenset(Phase.DECODE if at is Phase.PREFILL else at for at in phases)

    def _children(self, path: str) -> list[str]:
        module = self._model.get_submodule(path)
        return [f"{path}.{name}".lstrip(".") for name, _ in module.named_children()]

    def _row(self, paths: Sequence[str], *, depth: int, name: str) -> ModuleRow:
        modules = [self._model.get_submodule(path) for path in paths]
        roles = [role for path in paths for role in self._roles.get(path, ())]
        phases = {phase for path in paths for phase in self._phases.get(path, frozenset())}
        return ModuleRow(
            path=paths[0],
            last_path=paths[-1],
            name=name,
            type=" | ".join(dict.fromkeys(type(module).__name__ for module in modules)),
            depth=depth,
            n_modules=len(paths),
            n_parameters=sum(map(_n_parameters, modules)),
            phases=tuple(str(phase) for phase in Phase if phase in phases),
            roles=tuple(dict.fromkeys(roles)),
        )


def _range(paths: Sequence[str]) -> str:
    first, last = (path.rpartition(".")[2] for path in (paths[0], paths[-1]))
    return first if len(paths) == 1 else f"{first}..{last}"


def _n_parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
