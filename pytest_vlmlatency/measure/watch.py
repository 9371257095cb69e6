"""Watch one call of generate(), never timed, to find where its phases are.

Where phases are depends on the inputs, the settings and the state of the model; `discovery` decides
whether a case watches, or what another case saw is right for it, too. A transformers model is
watched for a few tokens only, whatever the call asks for: a prompt alone, or a prompt that ends at
once, would not show what runs in every step. Compiled parts run as they were written, so that what
they are made of is seen, and hooks are no part of what torch compiled.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import PhasesNotFound
from pytest_vlmlatency.measure.arguments import function_of
from pytest_vlmlatency.measure.call_kind import LENGTHS
from pytest_vlmlatency.measure.compilation import run_uncompiled
from pytest_vlmlatency.measure.doubt import check_no_sound
from pytest_vlmlatency.measure.drafts import check_drafts
from pytest_vlmlatency.measure.hooks import replaced_method
from pytest_vlmlatency.measure.interception import prompted_once
from pytest_vlmlatency.measure.phases import CallKind, find_phases
from pytest_vlmlatency.measure.regions import seen_from_outside
from pytest_vlmlatency.measure.trace import tracing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch

    from pytest_vlmlatency.measure.interception import Generate
    from pytest_vlmlatency.measure.override import Named
    from pytest_vlmlatency.measure.trace import Trace
    from pytest_vlmlatency.measure.workload import Inputs
    from pytest_vlmlatency.records import PhaseMap

WATCHED_TOKENS = 3
"""The prompt's, and two that show what a decode step does."""
ENDS = ("stopping_criteria", "stop_strings", "max_time")
"""What else ends a call early; left out of a watched one."""


def watch_call(
    original: Generate,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    model: torch.nn.Module,
    inputs: Inputs,
    *,
    named: Named,
) -> tuple[object, PhaseMap]:
    """Return what a watched call gave, which may be shorter than asked for, and its phases."""
    check_no_sound(inputs.shapes)
    check_drafts(model, inputs)
    output, trace = trace_call(original, args, kwargs, model, inputs, methods=named.vision_methods)
    return output, read_phases(model, trace, inputs, named)


def read_phases(model: torch.nn.Module, trace: Trace, inputs: Inputs, named: Named) -> PhaseMap:
    """Return where the phases of a traced call are, or raise with what was seen."""
    kind = CallKind(
        has_pixels=inputs.has_pixels,
        has_text=inputs.input_ids is not None,
        is_encoder_decoder=inputs.is_encoder_decoder,
        n_prompt_forwards=inputs.n_prompt_forwards,
    )
    phase_map = replace(find_phases(model, trace, kind, named=named), cache=trace.cache)
    return seen_from_outside(model, trace, phase_map)


def trace_call(
    original: Generate,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    model: torch.nn.Module,
    inputs: Inputs,
    *,
    methods: Sequence[str] = (),
) -> tuple[object, Trace]:
    """Return what a short call gave, and which module, or method of `methods`, called which."""
    short = _shortened(kwargs) if _takes_lengths(original) else kwargs
    watch = watching(model, inputs, methods=methods)
    before = {module: dict(vars(module)) for module in model.modules()}
    try:
        with watch as trace, _never_compiled(model), run_uncompiled():
            output = original(*args, **short)
    except Exception as error:
        if short is kwargs or not _asks_for_fewer(inputs):
            raise
        _put_back(before)
        raise PhasesNotFound(
            f"generate() raised {type(error).__name__} when it was watched for {WATCHED_TOKENS} "
            f"tokens, though not for as few as were asked for; expected it to go on: the phases "
            f"show only in a call with decode steps. Ask for {WATCHED_TOKENS} tokens or more to "
            f"see the error as it is"
        ) from error
    return output, trace


def _put_back(attributes: Mapping[torch.nn.Module, Mapping[str, object]]) -> None:
    """Undo what a call left on the modules that was not asked for, such as a cache half made."""
    for module, before in attributes.items():
        vars(module).clear()
        vars(module).update(before)


def _asks_for_fewer(inputs: Inputs) -> bool:
    n_tokens = inputs.settings.get("max_new_tokens")
    return n_tokens is not None and int(n_tokens) < WATCHED_TOKENS


@contextmanager
def watching(
    model: torch.nn.Module, inputs: Inputs, *, methods: Sequence[str] = ()
) -> Iterator[Trace]:
    """Trace the generate() that runs inside for a few tokens; those after them run as usual."""
    n_steps = inputs.n_prompt_forwards + WATCHED_TOKENS - 1
    tracer = tracing(model, inputs.pixels, n_steps=n_steps, methods=methods)
    with tracer as trace, prompted_once(model):
        yield trace


def _takes_lengths(generate: Generate) -> bool:
    """Whether it is a generate() of transformers' own; a user's may take other arguments."""
    return str(getattr(function_of(generate), "__module__", "")).startswith("transformers.")


def _shortened(kwargs: Mapping[str, object]) -> dict[str, object]:
    kept = {name: value for name, value in kwargs.items() if name not in LENGTHS + ENDS}
    return {**kept, "max_new_tokens": WATCHED_TOKENS, "min_new_tokens": WATCHED_TOKENS}


@contextmanager
def _never_compiled(model: torch.nn.Module) -> Iterator[None]:
    """Keep generate() from compiling decode while every module is hooked.

    It compiles by itself for static caches. A graph with our hooks would be thrown away after them.
    """
    if not hasattr(model, "_valid_auto_compile_criteria"):
        yield
        return
    with replaced_method(model, "_valid_auto_compile_criteria", lambda *_args, **_kwargs: False):
        yield
