"""Attach boundary marks to a model, and always detach them.

Four boundaries matter: vision starts and ends, the prompt's forward starts, its logits are ready.
The hooks on the step module and on the first block remove themselves there, so that decode runs
(and compiles) without any; vision is watched until the end, so that a model that recomputes it is
seen. `get_image_features` is wrapped as an instance attribute with `functools.wraps`, because
generate() inspects signatures. Only our own handles are ever removed.

The prompt's forwards: where they start, where the first block does, where the logits are ready.

Each hook removes itself once it has fired, so that decode runs (and compiles) without any.

What a decoder attends to across: an encoder's states, which its first block is given to read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.calls.arguments import is_given_nothing
from pytest_vlmlatency.calls.compilation import is_compiled
from pytest_vlmlatency.calls.handles import Handles, part_of
from pytest_vlmlatency.calls.image_tokens import count_feature_rows, features_of, states_of
from pytest_vlmlatency.calls.recorder import Recorder, VisionCall
from pytest_vlmlatency.calls.timeline import Boundary
from pytest_vlmlatency.errors import InvalidMeasurement
from pytest_vlmlatency.options import name_by_hand
from pytest_vlmlatency.records import Phase, PhaseMap

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_vlmlatency.calls.recorder import Recorder
    from pytest_vlmlatency.records import PhaseMap


FEATURE_METHODS = ("get_image_features", "get_video_features")
STEP_PREPARATION = "prepare_inputs_for_generation"
COMPILED_CALL = "get_compiled_call"
PARTS_OF_OTHER = {
    "_prepare_generation_config": "settings",
    "_prepare_model_inputs": "inputs",
    "_prepare_position_ids_for_generation": "position_ids",
    "_expand_inputs_for_generation": "expanded_inputs",
    "_prepare_cache_for_generation": "cache",
    "_get_logits_processor": "logits_processors",
    "_get_stopping_criteria": "stopping_criteria",
    STEP_PREPARATION: "step_inputs",
}
"""What transformers' generate() does before the prompt's forward, by the method that does it. Most
are private to transformers: one that is missing has no name, and its time is `other` all the same.
"""

Method = Callable[..., object]


@contextmanager
def attached(
    model: torch.nn.Module,
    phase_map: PhaseMap,
    recorder: Recorder,
    *,
    n_prompt_forwards: int = 1,
    is_chunked: bool = False,
    is_per_token: bool = False,
    is_encoder_decoder: bool = False,
) -> Iterator[None]:
    """Record the boundaries of one generate() of `model`; everything is undone on the way out.

    `n_prompt_forwards` is the number of forwards that a chunked prefill splits the prompt into:
    one, too, where the prompt is no longer than a chunk.
    """
    with ExitStack() as undo:
        handles = undo.enter_context(Handles())
        for path in phase_map.vision:
            _watch_vision(model.get_submodule(path), path, recorder, handles)
        for path in phase_map.feature_owners:
            _wrap_features(model.get_submodule(path), path, recorder, undo)
        for label in phase_map.vision_methods:
            path, _, name = label.rpartition(".")
            _wrap_method(model.get_submodule(path), name, label, recorder, undo)
        for path in phase_map.text_encoder:
            _watch_phase(model.get_submodule(path), Phase.TEXT_ENCODER, recorder, handles)
        step, _ = part_of(model, phase_map.step)
        prompt = PromptHooks(
            recorder,
            handles,
            n_forwards=n_prompt_forwards,
            is_encoder_decoder=is_encoder_decoder,
        )
        prompt.attach(model, phase_map)
        _watch_compiled_call(step, phase_map, prompt, recorder, undo, is_chunked=is_chunked)
        _count_forwards(model, phase_map, recorder, handles, undo, is_per_token=is_per_token)
        if recorder.names_parts:
            for owner in {model: None, step: None}:
                _name_parts(owner, recorder, undo)
        yield


def _watch_vision(module: torch.nn.Module, path: str, recorder: Recorder, handles: Handles) -> None:
    handles.pre(module, lambda *_: _enter_vision(recorder, path))

    def leave(_module: torch.nn.Module, _args: object, output: object) -> None:
        if recorder.vision_depth == 1 and not recorder.has_prompt:
            n_pooled = count_feature_rows(getattr(output, "pooler_output", None))
            recorder.pooled_rows[path] = recorder.pooled_rows.get(path, 0) + n_pooled
        _exit_vision(recorder, path, states_of(output))

    handles.post(module, leave)


def _wrap_features(owner: torch.nn.Module, path: str, recorder: Recorder, undo: ExitStack) -> None:
    for name in FEATURE_METHODS:
        if getattr(owner, name, None) is not None:
            _wrap_method(owner, name, f"{path}.{name}".lstrip("."), recorder, undo)


def _wrap_method(
    owner: torch.nn.Module, name: str, label: str, recorder: Recorder, undo: ExitStack
) -> None:
    method: Method = getattr(owner, name)
    undo.enter_context(replaced_method(owner, name, _timed_features(method, label, recorder)))


def _timed_features(method: Method, label: str, recorder: Recorder) -> Method:
    @functools.wraps(method)
    def features(*args: object, **kwargs: object) -> object:
        if is_given_nothing(args, kwargs):
            return method(*args, **kwargs)
        _enter_vision(recorder, label)
        output = method(*args, **kwargs)
        _exit_vision(recorder, label, features_of(output))
        return output

    return features


def _enter_vision(recorder: Recorder, path: str) -> None:
    recorder.vision_depth += 1
    if recorder.vision_depth == 1:
        recorder.vision_calls.append(VisionCall(path, recorder.has_prompt))
        if not recorder.has_prompt:  # later work is of the step that does it
            recorder.mark(Boundary.ENTER, Phase.VISION)


def _exit_vision(recorder: Recorder, path: str, features: object) -> None:
    if recorder.vision_depth == 1 and not recorder.vision_calls[-1].is_late:
        recorder.mark(Boundary.EXIT, Phase.VISION, wait=True)
        n_before = recorder.feature_rows.get(path, 0)  # a call for each image
        recorder.feature_rows[path] = n_before + count_feature_rows(features)
    recorder.vision_depth -= 1


def _watch_phase(
    module: torch.nn.Module, phase: Phase, recorder: Recorder, handles: Handles
) -> None:
    """Time a phase of its own before the prompt's logits; what runs again after them is decode."""

    def enter(*_: object) -> None:
        if not recorder.has_prompt:
            recorder.mark(Boundary.ENTER, phase)

    def leave(*_: object) -> None:
        if not recorder.has_prompt:
            recorder.mark(Boundary.EXIT, phase, wait=True)

    handles.pre(module, enter)
    handles.post(module, leave)


def _name_parts(owner: torch.nn.Module, recorder: Recorder, undo: ExitStack) -> None:
    """Time the known parts of `other` before the prompt, each inside the one that calls it."""
    for name, part in PARTS_OF_OTHER.items():
        method: Method | None = getattr(owner, name, None)
        if method is not None:
            timed = _timed_part(method, f"{Phase.OTHER}.{part}", recorder)
            undo.enter_context(replaced_method(owner, name, timed))


def _timed_part(method: Method, part: str, recorder: Recorder) -> Method:
    @functools.wraps(method)
    def timed(*args: object, **kwargs: object) -> object:
        if recorder.has_step:
            return method(*args, **kwargs)
        recorder.mark(Boundary.PART_ENTER, part)
        output = method(*args, **kwargs)
        recorder.mark(Boundary.PART_EXIT, part)
        return output

    return timed


def _watch_compiled_call(
    step: torch.nn.Module,
    phase_map: PhaseMap,
    prompt: PromptHooks,
    recorder: Recorder,
    undo: ExitStack,
    *,
    is_chunked: bool,
) -> None:
    """See whether generate() compiles the step module by itself, as it does for static caches.

    Decode then runs what it compiled. So does a prompt in chunks: its boundaries go around that.
    """
    method: Callable[..., Method] | None = getattr(step, COMPILED_CALL, None)
    if method is None:
        return

    @functools.wraps(method)
    def compiled_call(*args: object, **kwargs: object) -> Method:
        call = method(*args, **kwargs)
        if not is_compiled(call):
            return call
        recorder.is_step_compiled = True
        return prompt.around(call, phase_map) if is_chunked else call

    undo.enter_context(replaced_method(step, COMPILED_CALL, compiled_call))


def _count_forwards(
    model: torch.nn.Module,
    phase_map: PhaseMap,
    recorder: Recorder,
    handles: Handles,
    undo: ExitStack,
    *,
    is_per_token: bool,
) -> None:
    """Count the step module's forwards; with `is_per_token`, mark where each decode step begins.

    Where generate() prepares its forwards by a method of the model, that is the place: a hook on
    the module itself would be seen by a compiled decode.
    """
    tick, starts = recorder.clock.tick, recorder.step_starts

    def begin(*_: object) -> None:
        recorder.n_forwards += 1
        if is_per_token and recorder.has_prompt:
            starts.append(tick())

    if not phase_map.has_step_preparation:
        handles.pre_of(model, phase_map.step, begin)
        return
    step, _ = part_of(model, phase_map.step)
    method: Method = getattr(step, STEP_PREPARATION)

    @functools.wraps(method)
    def prepare(*args: object, **kwargs: object) -> object:
        recorder.n_forwards += 1  # as begin() does: another frame would be paid for in each step
        ids = args[0] if args else kwargs.get("input_ids")
        if ids is not None:
            recorder.widths.append(ids.shape[-1])  # type: ignore[attr-defined]  # a tensor
        if is_per_token and recorder.has_prompt:
            starts.append(tick())
        return method(*args, **kwargs)

    undo.enter_context(replaced_method(step, STEP_PREPARATION, prepare))


@contextmanager
def replaced_method(
    owner: torch.nn.Module | type, name: str, replacement: Method
) -> Iterator[None]:
    """Put an attribute of a module, or of a class, over a method, and take it off again."""
    had_own = name in vars(owner)
    before = vars(owner).get(name)
    put, take_off = _accessors(owner)
    put(name, replacement)
    try:
        yield
    finally:
        if had_own:
            put(name, before)
        else:
            take_off(name)


def _accessors(
    owner: torch.nn.Module | type,
) -> tuple[Callable[[str, object], None], Callable[[str], object]]:
    """Return how an attribute is put and taken off: past what a module's own setting does."""
    if isinstance(owner, type):
        return functools.partial(setattr, owner), functools.partial(delattr, owner)
    attributes = vars(owner)
    return attributes.__setitem__, lambda name: attributes.pop(name, None)


STATES = ("hidden_states", "inputs_embeds")
"""What blocks, and the modules around them, call what they work on, (B, L, D)."""
STATE_DIMS = 3
"""So many dimensions tell states by another name from a mask, which has two or four."""


class PromptHooks:
    """Marks the prompt of one call; `n_forwards` is the number of its chunks."""

    def __init__(
        self,
        recorder: Recorder,
        handles: Handles,
        *,
        n_forwards: int,
        is_encoder_decoder: bool,
    ) -> None:
        self._has_encoder = is_encoder_decoder
        self._n_forwards = n_forwards
        self._recorder = recorder
        self._handles = handles
        self._is_vision_named = False
        self._n_done = 0
        self._hooks: dict[str, int] = {}

    def attach(self, model: torch.nn.Module, phase_map: PhaseMap) -> None:
        """Attach to the step module, its prompt's end, and the first block or what hides it."""
        entry = phase_map.blocks[0] if phase_map.entry is None else phase_map.entry
        self._is_vision_named = phase_map.is_vision_named
        self._has_encoder = self._has_encoder and entry == phase_map.blocks[0]
        self._hooks = {
            "block": self._handles.pre_of(model, entry, self._enter_block),
            "start": self._handles.pre_of(model, phase_map.step, self._start),
            "end": self._handles.post_of(model, phase_map.prompt_end, self._end),
        }

    def around(self, call: Callable[..., object], phase_map: PhaseMap) -> Callable[..., object]:
        """Return a compiled call of the step module with its boundaries outside.

        The hooks on the model come off: inside, they would be compiled, or skipped.
        """
        if phase_map.vision_runs in ("inside", "both"):
            part = next(iter(phase_map.vision_calls))
            raise InvalidMeasurement(
                f"{part!r} runs inside a forward that generate() compiles as a "
                f"whole for a prompt in chunks: its time cannot be told from the prompt's; "
                f"expected vision before it: leave out prefill_chunk_size, pass "
                f"disable_compile=True, or {name_by_hand('vision')}"
            )
        while self._hooks:
            self._handles.drop(self._hooks.popitem()[1])

        def forward(*args: object, **kwargs: object) -> object:
            if self._recorder.has_prompt:
                return call(*args, **kwargs)
            if self._n_done == 0:
                self._start()
                self._enter_block(None, args, kwargs)
            output = call(*args, **kwargs)
            self._end()
            return output

        return forward

    def _start(self, *_: object) -> None:
        self._drop("start")
        self._recorder.has_step = True
        self._recorder.mark(Boundary.ENTER, Phase.PREFILL)

    def _enter_block(
        self, block: object, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> None:
        if not self._recorder.has_step or self._recorder.vision_depth:
            return  # a block that vision shares
        self._drop("block")
        self._recorder.is_block_in_prompt = not self._recorder.has_prompt
        if self._is_vision_named:  # else it is over by now
            self._recorder.mark(Boundary.BLOCKS_START)
        states = _states(args, kwargs) if block is None else _states_of_block(args, kwargs)
        if states is not None:
            has_rows = states.dim() > 2
            self._recorder.prompt_length = states.shape[1 if has_rows else 0]  # (B, L, ..., D) -> L
            self._recorder.prompt_rows = states.shape[0] if has_rows else 1
            if self._has_encoder:  # a block is given its states, and their mask in full
                self._recorder.attended = find_attended(states, (*args, *kwargs.values()))

    def _end(self, *_: object) -> None:
        self._n_done += 1
        if self._n_done == self._n_forwards:
            self._drop("end")
            self._recorder.mark(Boundary.PROMPT_READY, Phase.PREFILL, wait=True)
            self._recorder.has_prompt = True
            self._recorder.n_prompt_forwards = self._recorder.n_forwards

    def _drop(self, name: str) -> None:
        if name in self._hooks:
            self._handles.drop(self._hooks.pop(name))


def _states_of_block(args: Sequence[object], kwargs: Mapping[str, object]) -> torch.Tensor | None:
    """Return what a block works on, which may be by a name of its own."""
    states = _states(args, kwargs)
    if states is not None or args:
        return states
    named = (value for value in kwargs.values() if isinstance(value, torch.Tensor))
    return next((it for it in named if it.is_floating_point() and it.dim() == STATE_DIMS), None)


def _states(args: Sequence[object], kwargs: Mapping[str, object]) -> torch.Tensor | None:
    """Return what a block, or a compiled region around it, works on; None if it has token ids."""
    for value in (*args[:1], *(kwargs.get(name) for name in STATES)):
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.dim() >= 2:
            return value
    return None


# B rows, Q queries, L states, D width.
STATES_DIMS = 3
MASK_DIMS = 4


@dataclass(frozen=True, slots=True)
class Attended:
    """An encoder's states by their sizes, and the mask over them: None where all count."""

    n_rows: int
    length: int
    mask: torch.Tensor | None

    def n_tokens(self) -> int:
        """Return how many states of all rows are no padding. Waits for the mask's device."""
        if self.mask is None:
            return self.n_rows * self.length
        last_query = self.mask[:, 0, -1]  # (B, 1, Q, L) -> (B, L)
        is_floating = last_query.is_floating_point()
        floor = torch.finfo(last_query.dtype).min / 2 if is_floating else 0
        return int((last_query > floor).sum()) * self.n_rows // len(last_query)


def find_attended(hidden: torch.Tensor, inputs: Sequence[object]) -> Attended | None:
    """Return the states (B, L, D) that a block was given beside `hidden`, None without any."""
    tensors = [value for value in inputs if isinstance(value, torch.Tensor)]
    for states in tensors:
        is_other = states is not hidden and states.is_floating_point()
        if is_other and states.dim() == STATES_DIMS and len(states) == len(hidden):
            length = states.shape[1]
            masks = [mask for mask in tensors if mask.dim() == MASK_DIMS]
            # A block's own mask comes first, and may be as long.
            over_states = [mask for mask in masks if mask.shape[-1] == length]
            return Attended(len(states), length, over_states[-1] if over_states else None)
    return None
