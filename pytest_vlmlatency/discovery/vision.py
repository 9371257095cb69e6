"""Whether vision ran once for one prompt, read from a trace and the model's structure. Pure.

A module that is given the pixels in each step need not work on them: many own loops pass all
arguments on, and the module looks at the prompt, or at a cache, first. It works on them where
modules with weights run inside, as they did for the prompt.

What ran for the prompt alone and may be vision or not: refused by name rather than guessed.

Pure over a Trace and the model's structure. Only what has weights is doubted: masks and rotary
angles are made once for a prompt by many models, and embeddings belong to the text.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_vlmlatency.calls.arguments import find_sounds
from pytest_vlmlatency.discovery.trace import Node, Trace, ancestors, descend, has_weights
from pytest_vlmlatency.errors import InvalidMeasurement, PhasesNotFound
from pytest_vlmlatency.options import HOW_TO_NAME, name_by_hand

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence, Set

    import torch

    from pytest_vlmlatency.discovery.trace import Node, Trace


def find_handed(
    model: torch.nn.Module, trace: Trace, later_steps: Sequence[Node]
) -> frozenset[str]:
    """Return the modules and methods that later steps hand the pixels to, and that leave them."""
    if not later_steps:
        return frozenset()
    start = later_steps[0].index
    late = [node for node in trace.nodes() if node.index >= start and _is_given_pixels(node)]
    first: dict[str, Node] = {}
    for node in trace.nodes():
        if node.index < start:
            first.setdefault(node.label, node)
    at_work = {node.label for node in late if _works(model, node, first.get(node.label))}
    return frozenset({node.label for node in late} - at_work)


def _is_given_pixels(node: Node) -> bool:
    return node.is_features or node.has_raw_pixels


def _works(model: torch.nn.Module, node: Node, first: Node | None) -> bool:
    """Whether a call that was given pixels works on them, by what the first such call ran."""
    module = model.get_submodule(node.path)
    if first is None:
        return any(True for _ in module.parameters())
    if not _weighted(model, first):
        return node.is_features or _has_own_weights(module)
    went_deeper = any(map(_is_given_pixels, _inside(first)))
    goes_deeper = any(map(_is_given_pixels, _inside(node)))
    return bool(_weighted(model, node)) and (goes_deeper or not went_deeper)


def _weighted(model: torch.nn.Module, node: Node) -> list[Node]:
    """Return the calls inside one that have weights of their own, and work on more than ids."""
    return [
        inner
        for inner in _inside(node)
        if not inner.takes_ids_alone and _has_own_weights(model.get_submodule(inner.path))
    ]


def _inside(node: Node) -> Iterator[Node]:
    return (inner for inner in descend(node) if inner is not node)


def _has_own_weights(module: torch.nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))


def check_vision_once(
    trace: Trace,
    later_steps: Sequence[Node],
    first_block: Node,
    blocks: Sequence[str],
    vision: Sequence[str],
    handed: Set[str],
) -> None:
    """Raise if pixels are encoded again, in a decode step or for the prompt itself.

    Raises PhasesNotFound if they are encoded after the first block has begun.
    """
    late = _outermost(_late_vision(trace, later_steps, set(blocks), vision, handed))
    again = sorted({node.label for node in late})
    if again:
        raise InvalidMeasurement(
            f"{', '.join(again)} worked on the pixels again in decode steps; expected vision to "
            f"run once, before the prompt's logits. The model recomputes vision "
            f"(use_cache=False, or a forward that keeps the pixels); {name_by_hand('vision')}"
        )
    check_vision_first(trace, first_block, blocks, handed)
    seen = Counter(
        (node.label, node.pixels)
        for node in trace.nodes()
        if node.has_raw_pixels and node.index < first_block.index and node.label not in handed
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
            f"vision to run once per call: the image is encoded twice. If it has to be, "
            f"{name_by_hand('vision')}"
        )


def check_vision_first(
    trace: Trace, first_block: Node, blocks: Sequence[str], handed: Set[str]
) -> None:
    """Raise if pixels are worked on for the prompt after the first block has begun."""
    known = set(blocks)
    late = _outermost(
        node
        for node in trace.nodes()
        if node.index > first_block.index
        and _is_given_pixels(node)
        and node.label not in handed
        and not _runs(known, node)
    )
    if late:
        raise PhasesNotFound(
            f"{late[0].label} worked on the pixels after the first block {first_block.path!r} had "
            f"begun; expected vision to be over by then: a model that encodes images between its "
            f"blocks cannot be measured by phase, unless you {name_by_hand('vision')}"
        )


def count_vision_calls(trace: Trace, end: int, entries: Container[str]) -> Mapping[str, int]:
    """Return how often each outermost entry into vision ran before the call at `end`."""
    calls = _outermost(node for node in trace.nodes() if node.index < end and node.label in entries)
    return dict(Counter(node.label for node in calls))


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
        and all(not at.is_features and at.path not in vision for at in ancestors(node))
    ]


def _late_vision(
    trace: Trace,
    later_steps: Sequence[Node],
    blocks: set[str],
    vision: Sequence[str],
    handed: Set[str],
) -> Iterator[Node]:
    """Yield calls on raw pixels, or of parts of vision, after the prompt, none around blocks."""
    if not later_steps:
        return
    start = later_steps[0].index
    for node in trace.nodes():
        is_part = any(path and node.path.startswith(f"{path}.") for path in vision)
        is_part = is_part and all(at.label not in blocks for at in ancestors(node))  # shared blocks
        is_on_pixels = (_is_given_pixels(node) and node.label not in handed) or is_part
        if node.index >= start and is_on_pixels and not _runs(blocks, node):
            yield node


def _runs(blocks: set[str], node: Node) -> bool:
    return any(inner.label in blocks for inner in descend(node))


def check_no_sound(named: Mapping[str, object]) -> None:
    """Raise where a call was given sound: its encoder is neither vision nor the prompt."""
    sounds = find_sounds(named)
    if sounds:
        raise InvalidMeasurement(
            f"{', '.join(sounds)} looks like sound; expected text and images or videos alone: "
            f"there is no phase for what encodes sound, so its time and its tokens would be "
            f"another phase's. Measure the call without it, or {name_by_hand('vision')}"
        )


def check_no_vision(once: Iterable[Node]) -> None:
    """Raise where something ran for the prompt alone although no pixels were seen."""
    names = _names(once)
    if names:
        raise PhasesNotFound(
            f"no pixels were seen among the arguments, but {', '.join(names[:4])} ran for the "
            f"prompt alone, as vision does; expected nothing of the kind in a call with text "
            f"alone; {HOW_TO_NAME}"
        )


def check_before_vision(
    model: torch.nn.Module, once: Sequence[Node], vision: Sequence[str]
) -> None:
    """Raise where something ran for the prompt alone before the pixels were seen to be used.

    It may be a tower for pixels of another size, a part that works on sound, or one for text.
    """
    seen = [node.is_features or node.path in vision for node in once]
    first = seen.index(True) if any(seen) else 0
    names = _names(node for node in once[:first] if _is_doubtful(model, node))
    if names:
        raise PhasesNotFound(
            f"{', '.join(names[:4])} ran for the prompt alone, before {once[first].label!r} was "
            f"seen to work on the pixels; expected to tell whether it is vision, from the pixels "
            f"that were passed or a copy of them: {HOW_TO_NAME}"
        )


def check_after_vision(model: torch.nn.Module, once: Sequence[Node], vision: Sequence[str]) -> None:
    """Raise where something ran on whole numbers for the prompt alone, after vision began.

    It works on no features: it may be a prompt that was learnt, or an embedding of the image's
    places.
    """
    names = _names(
        node
        for node in once
        if node.takes_ids_alone and not node.has_raw_pixels and node.path in vision
        if _is_doubtful(model, node)
    )
    if names:
        raise PhasesNotFound(
            f"{', '.join(names[:4])} ran for the prompt alone, after vision began, on whole "
            f"numbers and no features; expected to tell whether it is vision, or a part of the "
            f"prompt that was learnt: {HOW_TO_NAME}"
        )


def check_whole_prompt(
    model: torch.nn.Module, once: Sequence[Node], vision: Sequence[str], first_block: Node
) -> None:
    """Raise where something ran for the prompt alone, after vision, on just what the blocks get.

    It may work on the whole prompt, vision and text.
    """
    names = _names(
        node
        for node in once
        if node.path in vision and not node.has_raw_pixels
        if node.sizes is not None and node.sizes == first_block.sizes
        if _is_doubtful(model, node)
    )
    if names:
        raise PhasesNotFound(
            f"{', '.join(names[:4])} ran for the prompt alone, after vision began, on states of "
            f"the sizes {list(first_block.sizes or ())} that {first_block.path!r} was given, too; "
            f"expected to tell whether it is vision, or works on the whole prompt: {HOW_TO_NAME}"
        )


def check_no_missed_phase(
    model: torch.nn.Module, trace: Trace, steps: Sequence[Node], known: Callable[[Node], bool]
) -> None:
    """Raise where something with weights ran outside of all phases, before the prompt's forwards.

    `steps` are those forwards, `known` tells vision and text encoder. Time in no phase is `other`,
    which may be long: what checks arguments or prepares inputs has no weights. What embeds the
    words of each step, from their ids alone, may have some.
    """
    end = steps[-1].index
    explained = [*steps, *(node for node in trace.nodes() if node.index < end and known(node))]
    inside = {id(node) for node in explained}
    around = {id(caller) for node in explained for caller in ancestors(node)} - inside

    def outermost(nodes: Sequence[Node]) -> Iterator[Node]:
        for node in nodes:
            if id(node) in around or node.method is not None:
                yield from outermost(() if id(node) in inside else node.children)
            elif node.index < end and id(node) not in inside:
                yield node

    again = {node.path for node in trace.nodes() if node.index > end}
    ran = [
        node
        for node in outermost(trace.roots)
        if not node.is_in_span and not (node.takes_ids_alone and node.path in again)
    ]
    names = _names(node for node in ran if _is_doubtful(model, node))
    names += dict.fromkeys(name for index, name in trace.foreign if index <= end)
    if names:
        raise PhasesNotFound(
            f"{', '.join(names[:4])} ran inside generate(), before the prompt's forward and "
            f"outside of every phase; expected modules with weights to be part of vision, a text "
            f"encoder or the prompt: put a pytest_vlmlatency.span() around work of your own, or "
            f"{HOW_TO_NAME}"
        )


def _is_doubtful(model: torch.nn.Module, node: Node) -> bool:
    return has_weights(model.get_submodule(node.path))


def _names(nodes: Iterable[Node]) -> list[str]:
    return list(dict.fromkeys(node.label for node in nodes))
