"""The prompt's forwards: where they start, where the first block does, where the logits are ready.

Each hook removes itself once it has fired, so that decode runs (and compiles) without any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.errors import InvalidMeasurement
from pytest_vlmlatency.measure.attended import find_attended
from pytest_vlmlatency.measure.override import name_by_hand
from pytest_vlmlatency.measure.timeline import Boundary
from pytest_vlmlatency.records import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_vlmlatency.measure.handles import Handles
    from pytest_vlmlatency.measure.recorder import Recorder
    from pytest_vlmlatency.records import PhaseMap

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
