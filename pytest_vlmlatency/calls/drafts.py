"""Assisted decoding: whose time drafting is, and how much of each draft was accepted.

Owns watching the assistant and the two methods of the model that tell lengths, for one call. A
model that drafts with itself is refused: its drafts could not be told from its own forwards.
"""

from __future__ import annotations

import functools
import itertools
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vlmlatency.calls.generation import Mode
from pytest_vlmlatency.calls.hooks import Method, replaced_method
from pytest_vlmlatency.calls.timeline import Boundary
from pytest_vlmlatency.errors import InvalidMeasurement

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from pytest_vlmlatency.calls.recorder import Recorder
    from pytest_vlmlatency.calls.workload import Inputs

ASSISTANT = "assistant"
STEP_UPDATE = "_update_model_kwargs_for_generation"
"""Called after each forward, with the number of tokens that it gave. Private to transformers: where
it is missing, accepted lengths stay unknown, and nothing else changes."""


def check_drafts(model: torch.nn.Module, inputs: Inputs) -> None:
    """Raise where a model drafts with itself."""
    is_early = bool(inputs.settings.get("assistant_early_exit"))
    if is_early or any(part is inputs.assistant for part in model.modules()):
        how = "assistant_early_exit" if is_early else "its assistant_model is part of it"
        raise InvalidMeasurement(
            f"the model drafts with itself ({how}); expected an assistant of its own, or prompt "
            f"lookup: forwards that draft could not be told from those that answer. Pass "
            f"assistant_model=copy.deepcopy(model), or measure without an assistant"
        )


@contextmanager
def watching_drafts(step: torch.nn.Module, recorder: Recorder, inputs: Inputs) -> Iterator[None]:
    """Time the assistant, and note how much of its drafts each forward accepts."""
    with ExitStack() as undo:
        if inputs.assistant is not None:
            _watch_assistant(inputs.assistant, recorder, undo)
        if inputs.mode is Mode.ASSISTED:
            _watch_lengths(step, recorder, undo)
        yield


def _watch_assistant(assistant: torch.nn.Module, recorder: Recorder, undo: ExitStack) -> None:
    """Give an assistant's drafts before the prompt's logits a span of their own, as no `other`."""
    method: Method = assistant.generate  # type: ignore[assignment]  # a method, not a module

    @functools.wraps(method)
    def draft(*args: object, **kwargs: object) -> object:
        if recorder.has_prompt:
            return method(*args, **kwargs)
        recorder.mark(Boundary.ENTER, ASSISTANT)
        output = method(*args, **kwargs)
        recorder.mark(Boundary.EXIT, ASSISTANT, wait=True)
        return output

    undo.enter_context(replaced_method(assistant, "generate", draft))


def _watch_lengths(step: torch.nn.Module, recorder: Recorder, undo: ExitStack) -> None:
    """Note how many tokens each forward gave."""
    update = getattr(step, STEP_UPDATE, None)
    if update is None:
        return

    @functools.wraps(update)
    def updated(*args: object, **kwargs: object) -> object:
        recorder.accepted.append(kwargs.get("num_new_tokens", 1))
        return update(*args, **kwargs)

    undo.enter_context(replaced_method(step, STEP_UPDATE, updated))


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafts:
    """What each forward was given to verify, and how many tokens it gave: one more than matched.

    None where it is unknown, or nothing is drafted.
    """

    drafted: tuple[int, ...] | None = None
    accepted: tuple[int, ...] | None = None

    @property
    def n_with_prompt(self) -> int:
        """The length of the draft that came with the prompt."""
        return self.drafted[0] if self.drafted else 0


def read_drafts(recorder: Recorder, inputs: Inputs, n_output_tokens: int | None) -> Drafts:
    """Return the lengths of one call's drafts; raise where they disagree with its output."""
    if inputs.mode is not Mode.ASSISTED or not (recorder.accepted and recorder.widths):
        return Drafts()
    accepted = tuple(int(n_new) for n_new in recorder.accepted)  # type: ignore[call-overload]  # an int or a tensor
    n_before = itertools.accumulate(accepted, initial=_n_first_columns(inputs))
    drafted = tuple(
        width - n_columns for width, n_columns in zip(recorder.widths, n_before, strict=False)
    )
    is_consistent = all(n >= 1 for n in accepted) and all(
        0 <= n_new - 1 <= n_drafted for n_new, n_drafted in zip(accepted, drafted, strict=False)
    )
    has_all = len(accepted) == len(drafted) == recorder.n_forwards
    if not (is_consistent and has_all and sum(accepted) >= (n_output_tokens or 0)):
        raise InvalidMeasurement(
            f"assisted decoding drafted {drafted} tokens and accepted {accepted} in "
            f"{recorder.n_forwards} forwards, for {n_output_tokens} output tokens; expected both "
            f"for each forward, 1 to 1 more than drafted accepted, and all output accepted: "
            f"generate() counts otherwise than it did when this was written"
        )
    return Drafts(drafted=drafted, accepted=accepted)


def _n_first_columns(inputs: Inputs) -> int:
    """Return the width of the ids that generate() begins its loop with."""
    if inputs.is_encoder_decoder:
        return inputs.n_start_columns
    return 0 if inputs.input_ids is None else inputs.n_prompt_columns
