"""What ran for the prompt alone and may be vision or not: refused by name rather than guessed.

Pure over a Trace and the model's structure. Only what has weights is doubted: masks and rotary
angles are made once for a prompt by many models, and embeddings belong to the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import InvalidMeasurement, PhasesNotFound
from pytest_vlmlatency.measure.override import HOW_TO_NAME, name_by_hand
from pytest_vlmlatency.measure.trace import ancestors, has_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import torch

    from pytest_vlmlatency.measure.trace import Node, Trace

SOUND_WORDS = ("audio", "speech", "waveform", "input_features")
"""In the names of tensors that are sound; transformers calls a spectrogram input_features."""


def find_sounds(named: Mapping[str, object]) -> list[str]:
    """Return the arguments that are sound, by their names; a flag or a path's name is none."""
    return [
        name
        for name, value in named.items()
        if any(word in name for word in SOUND_WORDS)
        and not isinstance(value, str | int | float | bool)
    ]


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
