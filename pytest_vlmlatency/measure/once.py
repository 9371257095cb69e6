"""Whether vision ran once for one prompt, read from a trace. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import InvalidMeasurement, PhasesNotFound
from pytest_vlmlatency.measure.trace import Node, Trace, ancestors, descend

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence


def check_vision_once(
    trace: Trace,
    later_steps: Sequence[Node],
    first_block: Node,
    blocks: Sequence[str],
    vision: Sequence[str],
) -> None:
    """Raise if pixels are encoded again, in a decode step or for the prompt itself.

    Raises PhasesNotFound if they are encoded after the first block has begun.
    """
    again = sorted(
        {node.label for node in _outermost(_late_vision(trace, later_steps, set(blocks), vision))}
    )
    if again:
        raise InvalidMeasurement(
            f"{', '.join(again)} worked on the pixels again in decode steps; expected vision to "
            f"run once, before the prompt's logits. The model recomputes vision "
            f"(use_cache=False, or a forward that keeps the pixels)"
        )
    check_vision_first(trace, first_block, blocks)
    seen = Counter(
        (node.label, node.pixels)
        for node in trace.nodes()
        if node.has_raw_pixels and node.index < first_block.index
    )
    twice = [
        label
        for (label, pixels), n_calls in seen.items()
        if n_calls > max(1, *(trace.n_given[mark] for mark in pixels))
    ]
    twice += _restarted(trace, first_block, vision)
    if twice:
        raise InvalidMeasurement(
            f"{twice[0]} worked on the same pixels more than once for one prompt; expected "
            f"vision to run once per call: the image is encoded twice"
        )


def check_vision_first(trace: Trace, first_block: Node, blocks: Sequence[str]) -> None:
    """Raise if pixels are worked on for the prompt after the first block has begun."""
    known = set(blocks)
    late = _outermost(
        node
        for node in trace.nodes()
        if node.index > first_block.index
        and (node.method is not None or node.has_raw_pixels)
        and not _runs(known, node)
    )
    if late:
        raise PhasesNotFound(
            f"{late[0].label} worked on the pixels after the first block {first_block.path!r} had "
            f"begun; expected vision to be over by then: a model that encodes images between its "
            f"blocks cannot be measured by phase"
        )


def count_vision_calls(
    trace: Trace, first_block: Node, vision: Sequence[str], *, has_methods: bool
) -> Mapping[str, int]:
    """Return how often each outermost entry into vision ran before the first block.

    Entries are what is named in `vision` and, with `has_methods`, the feature methods.
    """
    entries = _outermost(
        node
        for node in trace.nodes()
        if node.index < first_block.index and is_entry(node, vision, has_methods=has_methods)
    )
    return dict(Counter(node.label for node in entries))


def is_entry(node: Node, vision: Sequence[str], *, has_methods: bool) -> bool:
    """Whether a call is of a part of `vision` or, with `has_methods`, of a feature method."""
    return node.label in vision or (has_methods and node.method is not None)


def _outermost(nodes: Iterable[Node]) -> list[Node]:
    """Return the nodes that none of the others called."""
    listed = list(nodes)
    known = {id(node) for node in listed}
    return [
        node
        for node in listed
        if not any(id(caller) in known for caller in ancestors(node) if caller is not node)
    ]


def _restarted(trace: Trace, first_block: Node, vision: Sequence[str]) -> list[str]:
    """Return what a vision module begins with, where it also ran outside: a forward() of its own.

    No hook sees a module whose forward is called past its call; what it calls is seen.
    """
    nodes = [node for node in trace.nodes() if node.index < first_block.index]
    begins = {node.children[0].path for node in nodes if node.path in vision and node.children}
    return [
        node.label
        for node in nodes
        if node.path in begins
        and all(at.method is None and at.path not in vision for at in ancestors(node))
    ]


def _late_vision(
    trace: Trace, later_steps: Sequence[Node], blocks: set[str], vision: Sequence[str]
) -> Iterator[Node]:
    """Yield calls on raw pixels, or of parts of vision, after the prompt, none around blocks."""
    if not later_steps:
        return
    start = later_steps[0].index
    for node in trace.nodes():
        is_part = any(path and node.path.startswith(f"{path}.") for path in vision)
        is_part = is_part and all(at.path not in blocks for at in ancestors(node))  # shared blocks
        is_on_pixels = node.method is not None or node.has_raw_pixels or is_part
        if node.index >= start and is_on_pixels and not _runs(blocks, node):
            yield node


def _runs(blocks: set[str], node: Node) -> bool:
    return any(inner.path in blocks for inner in descend(node))
