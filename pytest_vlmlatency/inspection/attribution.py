"""In which phase each module ran, and which call is which phase: read from a trace. Pure.

A call belongs to the phase that a measurement would give its time to: the innermost of vision and
text encoder around it, else what generate() was at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_vlmlatency.inspection.findings import CallRow
from pytest_vlmlatency.measure.trace import ancestors
from pytest_vlmlatency.records import Phase

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Set

    from pytest_vlmlatency.measure.trace import Node, Trace
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
