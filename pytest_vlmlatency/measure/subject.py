"""A case in progress: what is called, under which configuration, and what was seen so far.

Owns the order of calls. The first ones warm up: a watched call finds the phases where they are not
known yet, and unmeasured ones show the true output. Then each round is one measured call, kept,
discarded or refused.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from pytest_vlmlatency.errors import InvalidMeasurement
from pytest_vlmlatency.measure.disturbance import check_discards, timing_problem
from pytest_vlmlatency.measure.generation import Mode
from pytest_vlmlatency.measure.hooks import replaced_method
from pytest_vlmlatency.measure.interception import Generate, Target, call_target
from pytest_vlmlatency.measure.invariants import (
    Observation,
    check_inputs,
    check_same_output,
    check_structure,
    check_work,
)
from pytest_vlmlatency.measure.output import read_output
from pytest_vlmlatency.measure.phases import CallKind, find_phases
from pytest_vlmlatency.measure.preparation import prepared
from pytest_vlmlatency.measure.recorder import Recorder
from pytest_vlmlatency.measure.repeatability import no_garbage_collection
from pytest_vlmlatency.measure.stopping import MIN_ROUNDS
from pytest_vlmlatency.measure.timed import Rig, measure_call
from pytest_vlmlatency.measure.trace import tracing
from pytest_vlmlatency.measure.workload import Inputs, read_inputs
from pytest_vlmlatency.records import CPU, WALL, Call, PhaseMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import torch

    from pytest_vlmlatency.measure.clock import Clock
    from pytest_vlmlatency.options import Configuration, Options

__tracebackhide__ = True  # an error inside generate() points at the user's own code

N_REFERENCES = 2
"""Unmeasured calls whose outputs must agree before a measured one is held against them."""

_PHASE_MAPS: WeakKeyDictionary[torch.nn.Module, dict[object, PhaseMap]] = WeakKeyDictionary()


class Subject:
    """One case while it is measured. `restore_random` puts the random state back."""

    def __init__(
        self,
        target: Target,
        *,
        options: Options,
        config: Configuration | None,
        clock: Clock,
        rig: Rig,
        restore_random: Callable[[], None],
    ) -> None:
        self.target = target
        self.config = config
        self.calls: list[Call] = []
        self.discarded: list[Call] = []
        self.first: Observation | None = None
        self.result: object = None
        self.phase_map: PhaseMap | None = None
        self.references: list[str] = []
        self._options = options
        self._clock = clock
        self._rig = rig
        self._restore_random = restore_random
        self._n_flushes_seen = 0
        self._first_inputs: Inputs | None = None

    @property
    def is_warm(self) -> bool:
        """Whether the phases are known, and enough unmeasured calls were made."""
        n_calls = max(N_REFERENCES, self._options.warmup_rounds)
        return self.phase_map is not None and len(self.references) >= n_calls

    @property
    def is_on_cpu(self) -> bool:
        """Whether the host computes, so that CPU time is what to judge by."""
        return all(device.type == "cpu" for device in self._rig.devices)

    @property
    def device(self) -> str:
        """What was timed, by the clock's own name."""
        return self._clock.device

    def times_ms(self) -> list[float]:
        """Return the kept totals, in CPU time where the host computes."""
        measure = CPU if self.is_on_cpu else WALL
        return [call.total.get(measure, call.total_ms) for call in self.calls]

    def warm_up(self) -> None:
        """Make one unmeasured call; the first one is watched if the phases are not known yet."""
        with self._prepared() as (args, kwargs):
            call_target(self.target, args, kwargs, self._watch_or_run)
        self._n_flushes_seen = self._rig.watch.n_calls

    def measure_round(self, *, started_ms: float) -> None:
        """Make one measured call: keep it, discard it, or raise if it cannot be true."""
        assert self.phase_map is not None, "a round before the warm-up"
        with self._prepared() as (args, kwargs):
            recorder = Recorder(self._clock)
            seen = measure_call(
                self.target, args, kwargs, self.phase_map, recorder=recorder, rig=self._rig
            )
        self.result = seen.result
        n_flushes_before = seen.n_flushes_at_start - self._n_flushes_seen
        self._n_flushes_seen = self._rig.watch.n_calls
        check_structure(seen.observation)
        self.first = self.first or seen.observation
        check_work(self.first, seen.observation, round_index=len(self.calls))
        problem = timing_problem(seen.call, seen.observation.evidence)
        self._file(
            replace(
                seen.call,
                started_ms=started_ms,
                n_flushes_before=n_flushes_before,
                discarded_because=problem,
            )
        )

    def _file(self, call: Call) -> None:
        """Put a call where it belongs; too many discarded ones fail the case."""
        if call.discarded_because is None:
            self.calls.append(call)
            return
        self.discarded.append(call)
        check_discards(
            len(self.calls), self.discarded, n_planned=self._options.rounds or MIN_ROUNDS
        )

    def check_output(self) -> str | None:
        """Hold the measured output against the unmeasured one; return a note where that fails.

        Greedy decoding must return the same. Where two unmeasured calls already differ, nothing
        can be said, which is what the note says.
        """
        first, *others = self.references
        if any(other != first for other in others):
            return (
                "unmeasured calls returned different outputs, so it could not be checked that "
                "measuring leaves the output as it is"
            )
        assert self.first is not None, "an output check before the first round"
        measured = self.first
        if measured.inputs.mode is Mode.GREEDY:
            check_same_output(first, measured.output.digest)
        elif measured.output.digest != first:
            return f"{measured.inputs.mode} decoding returned other tokens than when unmeasured"
        return None

    def check_flushes_between(self) -> None:
        """Raise if the cache was flushed before some rounds and not before others."""
        counts = [call.n_flushes_before for call in self.calls]
        if len(set(counts)) > 1:
            raise InvalidMeasurement(
                f"empty_cache() was called before some rounds only (times before each round: "
                f"{', '.join(map(str, counts))}); expected the same state before every round: "
                f"flush in setup= before each one, or never"
            )

    @contextmanager
    def _prepared(self) -> Iterator[tuple[Sequence[object], Mapping[str, object]]]:
        """Apply the configuration, make the arguments, restore the random state, hold off gc."""
        with prepared(self.target, self.config, self._options.setup) as arguments:
            self._restore_random()
            with no_garbage_collection():
                yield arguments

    def _watch_or_run(
        self, original: Generate, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> object:
        """Run generate unmeasured, and watched if this kind of call was never watched before."""
        inputs = read_inputs(original, self.target.model, args, kwargs)
        self._first_inputs = self._first_inputs or inputs
        check_inputs(self._first_inputs, inputs)
        known = _PHASE_MAPS.setdefault(self.target.model, {})
        key = self._phase_key(inputs)
        if key not in known:
            output, known[key] = self._watch(original, args, kwargs, inputs)
            self.phase_map = known[key]
            return output
        self.phase_map = known[key]
        output = original(*args, **kwargs)
        self.references.append(read_output(output, inputs).digest)
        return output

    def _watch(
        self,
        original: Generate,
        args: Sequence[object],
        kwargs: Mapping[str, object],
        inputs: Inputs,
    ) -> tuple[object, PhaseMap]:
        model = self.target.model
        with tracing(model, inputs.pixels) as trace, _never_compiled(model):
            output = original(*args, **kwargs)
        kind = CallKind(
            has_pixels=inputs.has_pixels,
            has_text=inputs.input_ids is not None,
            is_encoder_decoder=inputs.is_encoder_decoder,
        )
        return output, find_phases(model, trace, kind, override=self._options.phases)

    def _phase_key(self, inputs: Inputs) -> object:
        """Return what decides where the phases are: the modules, the kind of call, the knobs."""
        modules = hash(
            tuple((path, id(module)) for path, module in self.target.model.named_modules())
        )
        config = tuple(sorted(self.config.values().items())) if self.config else ()
        return (
            modules,
            inputs.has_pixels,
            inputs.input_ids is None,
            config,
            repr(self._options.phases),
        )


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
