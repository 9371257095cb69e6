"""Vision in the measured function, around generate(): found in an unmeasured call, timed in rounds.

A function that encodes its images and calls generate(inputs_embeds=...) has vision outside of the
interval that the phases divide. It is found by what runs: every module of the process is watched
while the function runs and generate() does not. Vision is a feature method, a module that is given
pixels, and what works on their features after that; what feeds embeddings that generate() is given,
too. In rounds only these are timed, as `vision_outside`, each by its own time.
"""

from __future__ import annotations

import functools
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import get_ident
from typing import TYPE_CHECKING

import torch

from pytest_vlmlatency.calls.arguments import PIXEL_WORDS, SOUND_WORDS, find_pixels, name_arguments
from pytest_vlmlatency.calls.compilation import run_uncompiled
from pytest_vlmlatency.calls.handles import Handles, around_every_call
from pytest_vlmlatency.calls.hooks import FEATURE_METHODS, replaced_method
from pytest_vlmlatency.calls.timeline import Boundary
from pytest_vlmlatency.discovery.trace import (
    are_ids,
    has_logits,
    has_weights,
    without_hook_warning,
)
from pytest_vlmlatency.records import VISION_OUTSIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_vlmlatency.calls.interception import Generate, Handler
    from pytest_vlmlatency.calls.recorder import Recorder
    from pytest_vlmlatency.records import PhaseMap

ENCODED = ("embeds", "encoder_outputs", "features")
"""Words in the names of arguments of generate() that may hold an image, but not as pixels."""
BATCHED_IMAGE_DIMS = 4
"""Of (B, C, H, W): so many tell pixels by any name from states, which have three."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What vision begins with around generate(): a module, or a feature method of one."""

    module: torch.nn.Module
    method: str | None = None


@dataclass(slots=True, kw_only=True)
class _Ran:
    """One call of a module, or of a feature method, and what it called.

    `has_images`: it was given pixels. `is_work`: it has weights and was given neither token ids
    alone nor sound. `has_logits`: it is a whole model's forward.
    """

    entry: Entry
    is_before: bool
    is_work: bool = True
    has_images: bool = False
    has_logits: bool = False
    children: list[_Ran] = field(default_factory=list)

    @property
    def is_vision(self) -> bool:
        """Whether it is vision whatever ran before it."""
        return self.has_images or self.entry.method is not None

    def is_text(self, encoder: object) -> bool:
        """Whether it is the encoder of an encoder-decoder, on no pixels of its own."""
        return self.entry.module is encoder and not self.is_vision


class OutsideSearch:
    """Watches what runs in the measured function while generate() does not."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self._roots: list[_Ran] = []
        self._open: dict[int, list[_Ran]] = {}
        self._is_before = True
        self._takes_features = False
        self._undo = ExitStack()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while entered, but for what a handler of `around` runs."""
        with without_hook_warning():
            self._start()
            try:
                yield
            finally:
                self._undo.close()

    def around(self, handler: Handler) -> Handler:
        """Return a handler of generate() that is not watched."""

        def led(original: Generate, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
            self._undo.close()
            self._is_before = False
            named = name_arguments(original, args, kwargs)
            self._takes_features = any(word in name for name in named for word in ENCODED)
            try:
                return handler(original, args, kwargs)
            finally:
                self._start()

        return led

    def found(self, phase_map: PhaseMap) -> tuple[Entry, ...]:
        """Return what vision began with; none of it is a part of the decoder, or around it.

        Where vision is named by hand, it is what was named.
        """
        if phase_map.is_vision_named:
            return tuple(_named(self._model, phase_map))
        decoder = _Decoder(self._model, phase_map)
        entries = _visions(self._roots, decoder, feeds_embeddings=self._takes_features)
        return tuple(dict.fromkeys(entries))

    def _start(self) -> None:
        self._open.clear()
        self._undo.enter_context(run_uncompiled())
        self._undo.enter_context(around_every_call(self._enter, self._leave))
        for module in self._model.modules():
            for name in FEATURE_METHODS:
                method = getattr(module, name, None)
                if callable(method):
                    watched = self._watched(method, Entry(module, name))
                    self._undo.enter_context(replaced_method(module, name, watched))

    def _watched(self, method: Callable[..., object], entry: Entry) -> Callable[..., object]:
        @functools.wraps(method)
        def features(*args: object, **kwargs: object) -> object:
            self._push(entry)
            try:
                return method(*args, **kwargs)
            finally:
                self._stack().pop()

        return features

    def _enter(self, module: torch.nn.Module, _args: object) -> None:
        self._push(Entry(module))

    def _leave(
        self,
        module: torch.nn.Module,
        args: Sequence[object],
        kwargs: Mapping[str, object],
        output: object,
    ) -> None:
        ran = self._stack().pop()
        named = name_arguments(module.forward, args, kwargs)
        is_sound = any(word in name for name in named for word in SOUND_WORDS)
        is_text = are_ids((*args, *kwargs.values()))
        ran.is_work = has_weights(module) and not (is_sound or is_text)
        ran.has_images = any(_is_pixels(*item) for item in find_pixels(named).items())
        ran.has_logits = has_logits(output)

    def _stack(self) -> list[_Ran]:
        return self._open.setdefault(get_ident(), [])

    def _push(self, entry: Entry) -> None:
        ran = _Ran(entry=entry, is_before=self._is_before)
        stack = self._stack()
        (stack[-1].children if stack else self._roots).append(ran)
        stack.append(ran)


def _named(model: torch.nn.Module, phase_map: PhaseMap) -> Iterator[Entry]:
    for path in phase_map.vision:
        yield Entry(model.get_submodule(path))
    for label in phase_map.vision_methods:
        path, _, name = label.rpartition(".")
        yield Entry(model.get_submodule(path), name)


class _Decoder:
    """The modules that hold the decoder's blocks, those in them, and what encodes text for it."""

    def __init__(self, model: torch.nn.Module, phase_map: PhaseMap) -> None:
        self.holders = {
            module
            for path, module in model.named_modules()
            if any(block.startswith(f"{path}." if path else "") for block in phase_map.blocks)
        }
        blocks = [model.get_submodule(block) for block in phase_map.blocks]
        self.blocks = {part for block in blocks for part in block.modules()}
        is_read = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
        encoder = getattr(model, "get_encoder", None)
        self.encoder = encoder() if is_read and callable(encoder) else None


def _visions(
    calls: Sequence[_Ran], decoder: _Decoder, *, feeds_embeddings: bool
) -> Iterator[Entry]:
    """Yield what vision began with among calls and, in a forward by hand, among what it called.

    What follows vision works on its features, until blocks run. With `feeds_embeddings` whatever
    works before generate() does.
    """
    has_started = feeds_embeddings
    for ran in calls:
        is_module = ran.entry.method is None
        if is_module and ran.entry.module in decoder.blocks:
            has_started = False
        elif is_module and ran.entry.module in decoder.holders:
            yield from _visions(ran.children, decoder, feeds_embeddings=False)
        elif ran.is_work and not ran.has_logits and not ran.is_text(decoder.encoder):
            has_started = has_started or ran.is_vision
            if ran.is_vision or (ran.is_before and has_started):
                yield ran.entry


class OutsideMarks:
    """Marks the entries of vision around generate(), in rounds."""

    def __init__(self, entries: Sequence[Entry], recorder: Recorder) -> None:
        self._entries = entries
        self._recorder = recorder
        self._depth = 0
        self._undo = ExitStack()

    @contextmanager
    def marking(self) -> Iterator[None]:
        """Mark while entered, but for what runs while `paused` is."""
        self._start()
        try:
            yield
        finally:
            self._undo.close()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the model alone while generate() runs: its phases have marks of their own."""
        self._undo.close()
        try:
            yield
        finally:
            self._start()

    def _start(self) -> None:
        handles = self._undo.enter_context(Handles())
        for entry in self._entries:
            if entry.method is None:
                handles.pre(entry.module, self._enter)
                handles.post(entry.module, self._exit)
            else:
                method = self._timed(getattr(entry.module, entry.method))
                self._undo.enter_context(replaced_method(entry.module, entry.method, method))

    def _timed(self, method: Callable[..., object]) -> Callable[..., object]:
        @functools.wraps(method)
        def features(*args: object, **kwargs: object) -> object:
            self._enter()
            output = method(*args, **kwargs)
            self._exit()
            return output

        return features

    def _enter(self, *_: object) -> None:
        self._depth += 1
        if self._depth == 1:
            self._recorder.n_outside += 1
            self._recorder.mark(Boundary.ENTER, VISION_OUTSIDE, wait=True)

    def _exit(self, *_: object) -> None:
        if self._depth == 1:
            self._recorder.mark(Boundary.EXIT, VISION_OUTSIDE, wait=True)
        self._depth -= 1


def _is_pixels(name: str, values: Sequence[object]) -> bool:
    is_named = any(word in name for word in PIXEL_WORDS)
    return is_named or any(
        not isinstance(value, torch.Tensor) or value.dim() >= BATCHED_IMAGE_DIMS for value in values
    )
