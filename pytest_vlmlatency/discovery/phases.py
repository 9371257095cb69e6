"""Which modules are vision, blocks and step: read from a trace, never from a list of model names.

Pure over a Trace and the model's structure. The step module is what generate() calls once a
forward. The blocks are the list whose children each run once, in order, in every step. Vision is
what runs on the pixels before the first block and never again. Where this cannot be told, the
error says what was seen, and `phases=` names them by hand.

Which module generate() calls once a forward, and which ends the prompt. Pure over a Trace.

Which modules are the decoder's blocks: the list that runs in every step. Pure over a Trace.

A list is a ModuleList or a Sequential, or a ModuleDict of modules that are all alike (one that has
embedding, blocks and norm side by side is no list of blocks). Its children run in their order in
every step, once each, or several times if the model goes through all of them, or a part of them,
again. Of several such lists the outermost are looked at. A head may have more parameters than all
blocks, so lists in which few modules run are left out before parameters decide.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.calls.generation import NO_CACHE
from pytest_vlmlatency.calls.hooks import FEATURE_METHODS
from pytest_vlmlatency.discovery.override import Named
from pytest_vlmlatency.discovery.trace import Node, Trace, ancestors, descend
from pytest_vlmlatency.discovery.vision import (
    check_after_vision,
    check_before_vision,
    check_no_missed_phase,
    check_no_vision,
    check_vision_once,
    check_whole_prompt,
    count_vision_calls,
    find_handed,
)
from pytest_vlmlatency.errors import PhasesNotFound
from pytest_vlmlatency.options import HOW_TO_NAME, name_by_hand
from pytest_vlmlatency.records import PhaseMap

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence, Set


class PromptAlone(PhasesNotFound):
    """A watched call that ended before its first decode step."""


class VisionNotSeen(PhasesNotFound):
    """Nothing worked on what looks like images; `width` is that of the first block's states."""

    def __init__(self, problem: str, width: int | None) -> None:
        super().__init__(problem)
        self.width = width


@dataclass(frozen=True, slots=True, kw_only=True)
class CallKind:
    """What generate() was given, as far as it decides where phases are."""

    has_pixels: bool
    has_text: bool
    is_encoder_decoder: bool
    n_prompt_forwards: int = 1

    @property
    def has_text_encoder(self) -> bool:
        """Whether text runs once, before the decoder, as vision does."""
        return self.is_encoder_decoder and (self.has_text or not self.has_pixels)


def find_phases(
    model: torch.nn.Module,
    trace: Trace,
    kind: CallKind,
    *,
    named: Named | None = None,
) -> PhaseMap:
    """Return where the phases of a model are, or raise PhasesNotFound with what was seen.

    Raises InvalidMeasurement where vision is seen to run more than once for one prompt.
    """
    named = named or Named()
    steps = _find_steps(trace, kind, named)
    blocks = named.blocks or find_blocks(model, steps)
    first_block = _first_call(steps[0], blocks[0])
    later_steps = steps[kind.n_prompt_forwards :]
    handed = find_handed(model, trace, later_steps)
    calls = list(_before(trace, first_block, handed))
    vision, text_encoder, is_seen = _find_vision(trace, steps, calls, kind)
    has_methods = named.vision is None
    if named.vision is not None:
        vision, is_seen = named.vision, True
    if kind.has_pixels and not is_seen:
        raise VisionNotSeen(
            f"pixels were passed, but no module was seen to work on them before {blocks[0]!r}; "
            f"expected a vision tower or get_image_features(). If images were made into features "
            f"before the call, pass phases={{'vision': []}}; else {HOW_TO_NAME}",
            first_block.sizes[-1] if first_block.sizes else None,
        )
    if named.vision is None:
        check_vision_once(trace, later_steps, first_block, blocks, vision, handed)
    if named.vision is None and not kind.has_text_encoder:
        _check_doubts(model, trace, first_block, calls, vision, has_pixels=kind.has_pixels)
    if named.vision is None:
        known = {*vision, *text_encoder}
        check_no_missed_phase(
            model,
            trace,
            steps[: kind.n_prompt_forwards],
            lambda node: node.is_features or node.label in known,
        )
    end = first_block.index if has_methods or not later_steps else later_steps[0].index
    entries = {*vision, *named.vision_methods}
    if has_methods:
        entries |= {node.label for node in trace.nodes() if node.is_features} - handed
    return PhaseMap(
        step=steps[0].label,
        blocks=blocks,
        feature_owners=_feature_owners(model, handed) if has_methods else (),
        vision=vision,
        text_encoder=text_encoder,
        vision_runs=(_vision_runs(trace, steps[0], entries) if kind.has_pixels else "never"),
        has_step_preparation=trace.n_prepared.get(steps[0].path) == len(steps),
        prompt_end=find_prompt_end(model, trace, steps),
        vision_calls=count_vision_calls(trace, end, entries),
        is_vision_named=not has_methods,
        is_step_named=named.step is not None,
        vision_methods=named.vision_methods,
        experts={str(phase): name for phase, name in trace.experts.items() if name},
        cache=_cache(steps[kind.n_prompt_forwards - 1 :], blocks[0]),
    )


def _find_steps(trace: Trace, kind: CallKind, named: Named) -> list[Node]:
    """Return the forwards of the step module: the prompt's, and decode steps after it."""
    step = find_step(trace) if named.step is None else named.step
    steps = [node for node in trace.nodes() if node.label == step]
    if not steps:
        raise PhasesNotFound(
            f"{step!r} is named as the step module, but it did not run; expected the module that "
            f"generate() calls once for each forward, or its method where it calls that, as in "
            f"phases={{'step': '{f'{step}.forward'.lstrip('.')}'}}; {HOW_TO_NAME}"
        )
    if named.step is None:
        _check_all_seen(trace, steps)
    if len(steps) <= kind.n_prompt_forwards and not named.is_complete:
        raise PromptAlone(
            f"{len(steps)} forwards of {step!r} were seen, the prompt's alone; expected a decode "
            f"step too, which shows what runs once only: generate two tokens more, or {HOW_TO_NAME}"
        )
    return steps


def _check_all_seen(trace: Trace, steps: Sequence[Node]) -> None:
    """Raise where generate() prepared forwards that were no calls of the step module."""
    n_prepared = trace.n_prepared.get(steps[0].path, 0)
    if n_prepared > len(steps):
        raise PhasesNotFound(
            f"generate() prepared {n_prepared} forwards of {steps[0].path!r}, but called it "
            f"{len(steps)} times; expected a call for each: hooks do not see a forward() that is "
            f"called by itself. transformers 4 runs the chunks of a prompt so: leave out "
            f"prefill_chunk_size, update transformers, or {name_by_hand('step')}"
        )


def _check_doubts(
    model: torch.nn.Module,
    trace: Trace,
    first_block: Node,
    calls: Sequence[Node],
    vision: Sequence[str],
    *,
    has_pixels: bool,
) -> None:
    """Raise where it cannot be told what belongs to vision."""
    again = {node.path for node in trace.nodes() if node.index > first_block.index}
    if has_pixels:
        once = [node for node in calls if node.is_features or node.path not in again]
        check_before_vision(model, once, vision)
        check_after_vision(model, once, vision)
        check_whole_prompt(model, once, vision, first_block)
    else:
        check_no_vision(node for node in calls if node.method is None and node.path not in again)


def _feature_owners(model: torch.nn.Module, handed: Set[str]) -> tuple[str, ...]:
    """Return the paths of the modules that define a feature method, but for what is `handed`."""
    return tuple(
        path
        for path, module in model.named_modules()
        if any(callable(getattr(module, name, None)) for name in FEATURE_METHODS)
        and not any(f"{path}.{name}".lstrip(".") in handed for name in FEATURE_METHODS)
    )


def _first_call(step: Node, path: str) -> Node:
    for node in descend(step):
        if node.label == path:
            return node
    raise PhasesNotFound(
        f"the block {path!r} did not run for the prompt; expected it to be called inside the step "
        f"{step.label!r}, as a module or by the method that is named; {HOW_TO_NAME}"
    )


def _find_vision(
    trace: Trace, steps: Sequence[Node], calls: Sequence[Node], kind: CallKind
) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Return the vision modules, the text encoder, and whether any vision was seen at all."""
    end = max(node.index for node in descend(steps[0]))
    later = {node.path for node in trace.nodes() if node.index > end and node.method is None}
    later_roots = {node.path for node in trace.roots if node.index > end}  # guidance encodes anew
    vision: list[str] = []
    text_encoder: list[str] = []
    has_started = False
    for node in calls:
        if node.is_features:
            has_started = has_started or kind.has_pixels
        elif kind.is_encoder_decoder and kind.has_text and node.parent is None:
            if node.path not in later or (node.children and node.path not in later_roots):
                text_encoder.append(node.path)
            inner = _outermost_on_pixels(node)
            vision += inner
            has_started = has_started or bool(inner)
        elif node.has_raw_pixels or (has_started and node.path not in later):
            vision.append(node.path)
            has_started = True
    return tuple(dict.fromkeys(vision)), tuple(dict.fromkeys(text_encoder)), has_started


def _before(trace: Trace, first_block: Node, handed: Set[str]) -> Iterator[Node]:
    """Yield the outermost calls that ended before the first block began.

    Of what later steps hand the pixels to in vain, the calls inside are yielded: it works in every
    step, and vision is a part of it.
    """
    around = {id(node) for node in ancestors(first_block)}

    def outermost(nodes: Sequence[Node]) -> Iterator[Node]:
        for node in nodes:
            if node.index >= first_block.index:
                return
            if id(node) in around or node.label in handed:
                yield from outermost(node.children)
            elif not node.is_given_nothing:
                yield node

    yield from outermost(trace.roots)


def _outermost_on_pixels(encoder: Node) -> list[str]:
    """Return the outermost modules inside a mixed encoder that work on raw pixels."""
    found: list[str] = []
    for child in encoder.children:
        if child.method is None and child.has_raw_pixels:
            found.append(child.path)
        else:
            found += _outermost_on_pixels(child)
    return found


def _cache(steps: Sequence[Node], block: str) -> str:
    """Return the kind of cache that the last step worked with, "" where that is not seen.

    Without any, each step computes the whole prompt again: its first block works on one position
    more than it did in the step before.
    """
    if steps[-1].cache:
        return steps[-1].cache
    first_runs = [next((at for at in descend(it) if at.path == block), None) for it in steps]
    lengths = [run.length if run else None for run in first_runs]
    is_growing = len(steps) > 1 and all(
        before is not None and after == before + 1 for before, after in pairwise(lengths)
    )
    return NO_CACHE if is_growing else ""


def _vision_runs(trace: Trace, step: Node, entries: Container[str]) -> str:
    """Say where vision ran: "before" the prompt's forward, "inside" it, or "both"."""
    inside_step = {id(node) for node in descend(step)}
    places = {
        "inside" if id(node) in inside_step else "before"
        for node in trace.nodes()
        if node.index <= step.index + len(inside_step) and node.label in entries
    }
    if not places:
        return "never"
    return places.pop() if len(places) == 1 else "both"


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
