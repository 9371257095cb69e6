"""Watch one call of generate(), never timed, to find where its phases are.

Where phases are depends on the inputs, the settings and the state of the model; `discovery` decides
whether a case watches, or what another case saw is right for it, too. The watched call is the
user's call. It ends after a few tokens where that surely changes nothing: transformers' own
generate(), and no argument (a logits processor, a criterion, a streamer) that could depend on how
the call goes on. A call of a single token shows no decode step, so another one is watched then,
longer and without such arguments. Compiled parts run as they were written, so that what they are
made of is seen, and hooks are no part of what torch compiled.

How the tokens of a loop agree with what it returned. Pure over a Trace and an output.

A loop of a model's own may return tokens that no forward gave, such as the one that begins a
sequence, before the first that one did, and may run one forward after its last token, or several
where it looks for the end now and then. Which it does shows in the ids that each step is given.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from pytest_vlmlatency.calls.arguments import find_pixels, function_of, name_arguments
from pytest_vlmlatency.calls.compilation import run_uncompiled
from pytest_vlmlatency.calls.drafts import check_drafts
from pytest_vlmlatency.calls.generation import Mode, read_settings
from pytest_vlmlatency.calls.hooks import COMPILED_CALL, replaced_method
from pytest_vlmlatency.calls.image_tokens import width_of
from pytest_vlmlatency.calls.interception import configured_part
from pytest_vlmlatency.calls.loop import watching_loop
from pytest_vlmlatency.calls.output import new_rows
from pytest_vlmlatency.calls.workload import in_force, read_inputs
from pytest_vlmlatency.discovery.compiled_regions import seen_from_outside
from pytest_vlmlatency.discovery.fingerprint import LENGTHS, UnknownKind, call_kind
from pytest_vlmlatency.discovery.one_prompt import (
    attends_across,
    check_one_prompt,
    outermost_calls,
)
from pytest_vlmlatency.discovery.phases import CallKind, PromptAlone, VisionNotSeen, find_phases
from pytest_vlmlatency.discovery.trace import descend, tracing
from pytest_vlmlatency.discovery.vision import check_no_sound
from pytest_vlmlatency.errors import PhasesNotFound, VlmLatencyError
from pytest_vlmlatency.options import HOW_TO_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_vlmlatency.calls.workload import Inputs
    from pytest_vlmlatency.discovery.trace import Trace


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch

    from pytest_vlmlatency.calls.hooks import Method
    from pytest_vlmlatency.calls.interception import Generate
    from pytest_vlmlatency.calls.workload import Inputs
    from pytest_vlmlatency.discovery.override import Named
    from pytest_vlmlatency.discovery.trace import Trace
    from pytest_vlmlatency.records import PhaseMap

    State = Mapping[
        torch.nn.Module, tuple[Mapping[str, object], Mapping[str, dict[object, object]]]
    ]

WATCHED_TOKENS = 3
"""The prompt's, and two that show what a decode step does."""
COURSE = (
    "logits_processor",
    "prefix_allowed_tokens_fn",
    "stopping_criteria",
    "stop_strings",
    "max_time",
    "streamer",
)
"""What ends a call, or depends on its tokens; left out where more tokens are watched than asked."""


def watch_call(
    original: Generate,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    model: torch.nn.Module,
    inputs: Inputs,
    *,
    named: Named,
    is_longer: bool = False,
) -> tuple[object, PhaseMap | None]:
    """Return what a watched call returned, which may be shorter than asked for, and its phases.

    None in place of the phases where the call ended before its first decode step, and one that
    `is_longer` shows more.
    """
    if named.vision is None:
        check_no_sound(name_arguments(original, args, kwargs))
    check_drafts(model, inputs)
    is_longer = is_longer or (_asks_for_one(inputs) and not named.is_complete)
    output, trace = trace_call(
        original,
        args,
        kwargs,
        model,
        inputs,
        methods=named.vision_methods,
        others=named.methods,
        is_longer=is_longer,
    )
    try:
        try:
            phase_map = read_phases(model, trace, inputs, named)
        except VisionNotSeen as problem:
            if not _are_features(name_arguments(original, args, kwargs), problem.width):
                raise
            inputs = read_inputs(original, model, args, kwargs, has_vision=False)
            phase_map = read_phases(model, trace, inputs, named)
    except PromptAlone:
        if is_longer or not _takes_lengths(original):
            raise
        return output, None
    alignment = read_alignment(trace, phase_map.step, output, inputs)
    return output, replace(
        phase_map,
        n_start_tokens=alignment.n_start_tokens,
        is_fed=alignment.is_fed,
        n_ahead=alignment.n_ahead,
    )


def _are_features(named: Mapping[str, object], width: int | None) -> bool:
    """Whether what looks like images are vectors as wide as the decoder's states."""
    return {width_of(named[name]) for name in find_pixels(named)} == {width}


def read_phases(model: torch.nn.Module, trace: Trace, inputs: Inputs, named: Named) -> PhaseMap:
    """Return where the phases of a traced call are, or raise with what was seen."""
    assert trace.loop is not None, "a watched call has its loop"
    trace.loop.check()
    kind = CallKind(
        has_pixels=inputs.has_pixels,
        has_text=inputs.input_ids is not None,
        is_encoder_decoder=inputs.is_encoder_decoder,
        n_prompt_forwards=inputs.n_prompt_forwards,
    )
    phase_map = find_phases(model, trace, kind, named=named)
    assert trace.loop is not None, "watching() sets it before generate() runs"
    check_one_prompt(
        trace,
        phase_map.step,
        phase_map.blocks,
        mode=in_force(inputs, trace.loop.innermost).mode,
        n_prompt_forwards=inputs.n_prompt_forwards,
        n_rows=inputs.batch_size,
    )
    phase_map = replace(phase_map, attends_across=attends_across(trace, phase_map.blocks))
    return seen_from_outside(model, trace, phase_map)


def trace_call(
    original: Generate,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    model: torch.nn.Module,
    inputs: Inputs,
    *,
    methods: Sequence[str] = (),
    others: Sequence[str] = (),
    is_longer: bool = False,
) -> tuple[object, Trace]:
    """Return what a watched call returned, and which module, or method of `methods`, called which.

    With `is_longer`, transformers' own generate() makes enough tokens to show decode steps.
    """
    is_longer = is_longer and _takes_lengths(original)
    watch = watching(model, inputs, methods=methods, others=others)
    if not is_longer:
        short = _shortened(original, args, kwargs, model, inputs)
        with watch as trace, _never_compiled(model), run_uncompiled():
            return original(*args, **short), trace
    before = state_of(model)
    with _without_ends(model, name_arguments(original, args, kwargs)):
        try:
            with watch as trace, _never_compiled(model), run_uncompiled():
                return original(*args, **_lengthened(kwargs)), trace
        except VlmLatencyError:
            raise
        except Exception as error:
            put_back(before)
            raise PhasesNotFound(
                f"generate() raised {type(error).__name__} when it was watched for "
                f"{WATCHED_TOKENS} tokens; the call itself ends with its first, and phases show "
                f"only in a call with decode steps. Expected it to go on: measure a call of "
                f"{WATCHED_TOKENS} tokens or more, or name vision, blocks and step: {HOW_TO_NAME}"
            ) from error


def state_of(model: torch.nn.Module) -> State:
    """Return each module's attributes, and what its tables of hooks hold."""
    return {
        module: (
            dict(vars(module)),
            {name: dict(it) for name, it in vars(module).items() if isinstance(it, OrderedDict)},
        )
        for module in model.modules()
    }


def put_back(state: State) -> None:
    """Undo what a call left on the modules that was not asked for, such as a cache half made.

    Hooks go with the attributes: transformers notes in one that it has registered the others.
    """
    for module, (attributes, tables) in state.items():
        vars(module).clear()
        vars(module).update(attributes)
        for name, hooks in tables.items():
            table = attributes[name]
            assert isinstance(table, OrderedDict), "it was one before"
            table.clear()
            table.update(hooks)


def _asks_for_one(inputs: Inputs) -> bool:
    n_tokens = inputs.settings.get("max_new_tokens")
    return n_tokens is not None and int(n_tokens) < 2


@contextmanager
def watching(
    model: torch.nn.Module,
    inputs: Inputs,
    *,
    methods: Sequence[str] = (),
    others: Sequence[str] = (),
) -> Iterator[Trace]:
    """Trace the generate() that runs inside for a few tokens; those after them run as usual."""
    n_steps = inputs.n_prompt_forwards + WATCHED_TOKENS - 1
    tracer = tracing(
        model,
        inputs.pixels,
        n_steps=n_steps,
        methods=methods,
        others=others,
        has_images=inputs.has_pixels,
    )
    looped = watching_loop(model, assistant=inputs.assistant)
    with tracer as trace, looped as loop, outermost_calls(model, loop.is_assistants) as calls:
        trace.loop, trace.calls = loop, calls
        yield trace


def _takes_lengths(generate: Generate) -> bool:
    """Whether it is a generate() of transformers' own; a user's may take other arguments."""
    return str(getattr(function_of(generate), "__module__", "")).startswith("transformers.")


def _shortened(
    original: Generate,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    model: torch.nn.Module,
    inputs: Inputs,
) -> Mapping[str, object]:
    """Return arguments for the call's first tokens alone, or its own where those may differ."""
    named = name_arguments(original, args, kwargs)
    settings = read_settings(configured_part(model), named)
    n_tokens, n_least = settings.get("max_new_tokens"), int(settings.get("min_new_tokens") or 0)
    is_open = n_tokens is None or bool(settings.get("min_length")) or inputs.mode is Mode.ASSISTED
    if is_open or int(n_tokens or 0) <= WATCHED_TOKENS or not _takes_lengths(original):
        return kwargs
    try:
        call_kind(original, args, kwargs, inputs)
    except UnknownKind:
        return kwargs
    kept = {name: value for name, value in kwargs.items() if name not in LENGTHS}
    least = {"min_new_tokens": min(n_least, WATCHED_TOKENS)} if n_least else {}
    return {**kept, "max_new_tokens": WATCHED_TOKENS, **least}


def _lengthened(kwargs: Mapping[str, object]) -> dict[str, object]:
    kept = {name: value for name, value in kwargs.items() if name not in LENGTHS + COURSE}
    return {**kept, "max_new_tokens": WATCHED_TOKENS, "min_new_tokens": WATCHED_TOKENS}


@contextmanager
def _without_ends(model: torch.nn.Module, named: Mapping[str, object]) -> Iterator[None]:
    """Take out of the generation configurations in force what ends a call early."""
    owners = (named, *(vars(module) for module in model.modules()))
    with ExitStack() as undo:
        for config in [owner.get("generation_config") for owner in owners]:
            kept = vars(config) if hasattr(config, "__dict__") else {}
            ends = {name: kept[name] for name in COURSE if kept.get(name) is not None}
            undo.callback(kept.update, ends)
            kept.update(dict.fromkeys(ends))
        yield


@contextmanager
def _never_compiled(model: torch.nn.Module) -> Iterator[None]:
    """Keep generate() from compiling decode while every module is hooked.

    It compiles by itself for static caches, its own call or a part's. A graph with our hooks would
    be thrown away after them.
    """
    with ExitStack() as undo:
        for module in model.modules():
            if hasattr(module, COMPILED_CALL):
                plain = functools.partial(_plain_call, module)
                undo.enter_context(replaced_method(module, COMPILED_CALL, plain))
        yield


def _plain_call(module: torch.nn.Module, *_args: object, **_kwargs: object) -> Method:
    return module.__call__


Ids = tuple[int, ...]
"""A token for each row."""
MOST_START = 4
"""Tokens that a loop puts before what it generates; more than one are believed if two after them
agree."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """`n_start_tokens` of the output were given by no forward; `is_fed`: each step is given one.

    Not fed where that was not seen, or the ids are others than those that were returned.
    `n_ahead` forwards, each given one token, ran after the one that was given the last that was
    returned.
    """

    n_start_tokens: int = 0
    is_fed: bool = False
    n_ahead: int = 0


def read_alignment(trace: Trace, step: str, output: object, inputs: Inputs) -> Alignment:
    """Return how the ids that the first decode steps were given agree with the output."""
    rows = new_rows(output, inputs)
    fed = list(_fed_ids(trace, step, inputs.n_prompt_forwards))
    if not rows or not fed or inputs.mode not in (Mode.GREEDY, Mode.SAMPLE):
        return Alignment()
    columns = list(zip(*rows, strict=True))
    for n_start in range(MOST_START + 1):
        given = columns[n_start:]
        n_compared = min(len(fed), len(given))
        if n_compared > (n_start > 1) and fed[:n_compared] == given[:n_compared]:
            return Alignment(n_start, is_fed=True, n_ahead=_n_ahead(trace, step, given, inputs))
    return Alignment()


def _n_ahead(trace: Trace, step: str, given: Sequence[Ids], inputs: Inputs) -> int:
    """Return how many forwards ran after the one that was given the last token returned.

    0 where not each forward is seen to be given one token of each row, and those that were returned
    in their order.
    """
    fed: list[Ids] = []
    n_steps = 0
    between: tuple[Ids, ...] = ()
    for call in trace.calls:
        between = between or call.ids
        if call.label == step:
            n_steps += 1
            if n_steps > inputs.n_prompt_forwards:
                if len(between) != 1:
                    return 0
                fed.append(between[0])
            between = ()
    return max(0, len(fed) - len(given)) if fed[: len(given)] == list(given) else 0


def _fed_ids(trace: Trace, step: str, n_prompt_forwards: int) -> Iterator[Ids]:
    """Yield the first ids that came after each forward up to the end of the next: its token."""
    nodes = list(trace.nodes())
    steps = [node for node in nodes if node.label == step][n_prompt_forwards - 1 :]
    ends = [max(node.index for node in descend(one)) for one in steps]
    for start, end in pairwise(ends):
        ids = next((node.ids for node in nodes if start < node.index <= end and node.ids), None)
        if ids is None:
            return
        yield ids
