"""Watch one call of generate(), never timed, to find where its phases are.

Where phases are depends on the inputs, the settings and the state of the model; `discovery` decides
whether a case watches, or what another case saw is right for it, too. The watched call is the
user's call. It ends after a few tokens where that surely changes nothing: transformers' own
generate(), and no argument (a logits processor, a criterion, a streamer) that could depend on how
the call goes on. A call of a single token shows no decode step, so another one is watched then,
longer and without such arguments. Compiled parts run as they were written, so that what they are
made of is seen, and hooks are no part of what torch compiled.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import PhasesNotFound, VlmLatencyError
from pytest_vlmlatency.measure.alignment import read_alignment
from pytest_vlmlatency.measure.arguments import function_of, name_arguments
from pytest_vlmlatency.measure.call_kind import LENGTHS, UnknownKind, call_kind
from pytest_vlmlatency.measure.compilation import run_uncompiled
from pytest_vlmlatency.measure.doubt import check_no_sound
from pytest_vlmlatency.measure.drafts import check_drafts
from pytest_vlmlatency.measure.feature_rows import width_of
from pytest_vlmlatency.measure.generation import Mode, read_settings
from pytest_vlmlatency.measure.hooks import COMPILED_CALL, replaced_method
from pytest_vlmlatency.measure.loop import watching_loop
from pytest_vlmlatency.measure.one_prompt import (
    attends_across,
    check_one_prompt,
    outermost_calls,
)
from pytest_vlmlatency.measure.override import HOW_TO_NAME
from pytest_vlmlatency.measure.phases import CallKind, PromptAlone, VisionNotSeen, find_phases
from pytest_vlmlatency.measure.pixels import find_pixels
from pytest_vlmlatency.measure.regions import seen_from_outside
from pytest_vlmlatency.measure.trace import tracing
from pytest_vlmlatency.measure.workload import in_force, read_inputs
from pytest_vlmlatency.measure.wrapping import configured_part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch

    from pytest_vlmlatency.measure.hooks import Method
    from pytest_vlmlatency.measure.interception import Generate
    from pytest_vlmlatency.measure.override import Named
    from pytest_vlmlatency.measure.trace import Trace
    from pytest_vlmlatency.measure.workload import Inputs
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
