"""Where a case's phases are: watched once for a kind of call, then remembered in the process.

The memory's key is the model's fingerprint with the kind of the call, so it serves all models of a
class that are alike, and holds none of them. Where something cannot be told, nothing is recalled.
What no key can hold (closures, globals, methods replaced in a class) shows in the rehearsal: there
a remembered map is held against what runs in this very case, and if it is not exactly what
watching would have found it is dropped, and the case watches. Only maps whose own rehearsal went
well are kept.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_vlmlatency.discovery.compiled_regions import compiled_regions
from pytest_vlmlatency.discovery.fingerprint import (
    UnknownKind,
    call_kind,
    fingerprint,
    kind_in_words,
)
from pytest_vlmlatency.discovery.override import Named, read_override
from pytest_vlmlatency.discovery.watch import read_phases, watch_call, watching
from pytest_vlmlatency.errors import InvalidMeasurement, PhasesNotFound
from pytest_vlmlatency.records import Discovery, PhaseMap

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch

    from pytest_vlmlatency.calls.interception import Generate
    from pytest_vlmlatency.calls.workload import Inputs
    from pytest_vlmlatency.discovery.fingerprint import Form
    from pytest_vlmlatency.discovery.trace import Trace
    from pytest_vlmlatency.options import Configuration, PhaseOverride

MS_PER_S = 1000
MAX_MAPS = 64
"""A test suite measures fewer kinds of calls at a time; the one used longest ago is forgotten."""


class Memory:
    """Maps by key, the most recently used last."""

    def __init__(self) -> None:
        self._maps: OrderedDict[Form, PhaseMap] = OrderedDict()

    def recall(self, key: Form | None) -> PhaseMap | None:
        """Return the map of a key, None if there is none."""
        if key is None or key not in self._maps:
            return None
        self._maps.move_to_end(key)
        return self._maps[key]

    def keep(self, key: Form, phase_map: PhaseMap) -> None:
        """Remember a map, and forget the one that was used longest ago if there are many."""
        self._maps[key] = phase_map
        self._maps.move_to_end(key)
        while len(self._maps) > MAX_MAPS:
            self._maps.popitem(last=False)

    def forget(self, key: Form | None) -> None:
        """Drop the map of a key, if there is one."""
        if key is not None:
            self._maps.pop(key, None)

    def clear(self) -> None:
        """Drop all maps."""
        self._maps.clear()


MEMORY = Memory()
"""This process's own; a worker of pytest-xdist has its own."""


class PhaseSearch:
    """Finds the phases of one case. `phase_map` is None until they are found.

    `discovery` says how they were, with the time that it took.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        override: PhaseOverride | None,
        config: Configuration | None,
    ) -> None:
        self.phase_map: PhaseMap | None = None
        self.discovery: Discovery | None = None
        self._model = model
        self._override = override or {}
        self._config = config
        self._named = Named()
        self._key: Form | None = None
        self._rehearsed: tuple[Inputs, Trace] | None = None
        self._is_too_short = False

    @property
    def is_remembered(self) -> bool:
        """Whether the phases are those of another case, and not watched in this one."""
        return self.discovery is not None and self.discovery.is_remembered

    def search(
        self,
        original: Generate,
        args: Sequence[object],
        kwargs: Mapping[str, object],
        inputs: Inputs,
    ) -> tuple[object, bool]:
        """Recall or watch, call generate() once, and return its output and whether it is whole.

        A watched call may be shorter than asked for. Where it ends before its first decode step,
        the phases stay unknown, and the next search watches a longer one.
        """
        start_s = time.perf_counter()
        self._named = read_override(self._model, self._override)
        self._key, reason = self._key_of(original, args, kwargs, inputs)
        remembered = MEMORY.recall(self._key)
        found_s = time.perf_counter()
        if remembered is None:
            output, self.phase_map = watch_call(
                original,
                args,
                kwargs,
                self._model,
                inputs,
                named=self._named,
                is_longer=self._is_too_short,
            )
            self._is_too_short = self.phase_map is None
            found_s = time.perf_counter()
        else:
            self.phase_map = remembered
            output = original(*args, **kwargs)
        self.discovery = Discovery(
            model=type(self._model).__name__,
            inputs=kind_in_words(original, args, kwargs, inputs),
            time_ms=(found_s - start_s) * MS_PER_S,
            is_remembered=remembered is not None,
            not_kept_because=reason,
        )
        return output, remembered is not None

    @contextmanager
    def rehearsing(self, inputs: Inputs) -> Iterator[None]:
        """See which modules run in the rehearsal, where the phases are remembered ones."""
        if not self.is_remembered:
            yield
            return
        methods, others = self._named.vision_methods, self._named.methods
        with watching(self._model, inputs, methods=methods, others=others) as trace:
            yield
        self._rehearsed = inputs, trace

    def settle(self) -> bool:
        """Return whether the rehearsal bears the phases out; otherwise they are found anew."""
        assert self.phase_map is not None, "a rehearsal comes after the search"
        if self.is_remembered and not self._is_borne_out():
            self.distrust()
            return False
        if self._key is not None:
            MEMORY.keep(self._key, self.phase_map)
        return True

    def distrust(self) -> None:
        """Forget remembered phases, here and for later cases."""
        MEMORY.forget(self._key)
        self.phase_map, self.discovery = None, None

    def _is_borne_out(self) -> bool:
        assert self._rehearsed is not None, "remembered phases are rehearsed under watch"
        inputs, trace = self._rehearsed
        try:
            found = read_phases(self._model, trace, inputs, self._named)
        except (InvalidMeasurement, PhasesNotFound):
            return False
        remembered = self.phase_map
        assert remembered is not None, "what is borne out is there"
        return found == replace(
            remembered, n_start_tokens=0, is_fed=False, n_ahead=0
        )  # the output's

    def _key_of(
        self,
        original: Generate,
        args: Sequence[object],
        kwargs: Mapping[str, object],
        inputs: Inputs,
    ) -> tuple[Form | None, str]:
        """Return the key of this case, None with a reason where something cannot be told."""
        if compiled_regions(self._model) or "cache_implementation" in inputs.settings:
            return None, "it may be compiled, and must not be with hooks on every module"
        try:
            kind = call_kind(original, args, kwargs, inputs)
        except UnknownKind as problem:
            return None, str(problem)
        knobs = None if self._config is None else tuple(self._config.values().items())
        return (fingerprint(self._model), kind, self._named, knobs), ""
