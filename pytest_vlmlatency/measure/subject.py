"""A case in progress: what is called, under which configuration, and what was seen so far.

Owns the order of calls. Unmeasured ones warm up and show the true output, a watched one after the
first of them finds the phases, and a rehearsal is measured like a round and thrown away: what
happens only once under our hooks (compiling, above all) happens there. Then each round is one
measured call, kept, discarded or refused.

Before each call, unmeasured: the configuration is applied and read back, the arguments made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_vlmlatency.calls.generation import Mode
from pytest_vlmlatency.calls.interception import Generate, Target, call_target
from pytest_vlmlatency.calls.output import read_output
from pytest_vlmlatency.calls.recorder import Recorder
from pytest_vlmlatency.calls.workload import Inputs, read_inputs
from pytest_vlmlatency.discovery.cache import PhaseSearch
from pytest_vlmlatency.errors import InvalidMeasurement, KnobNotApplied, UsageProblem
from pytest_vlmlatency.measure.invariants import (
    Observation,
    check_inputs,
    check_same_output,
    check_structure,
    check_work,
)
from pytest_vlmlatency.measure.isolation import no_garbage_collection
from pytest_vlmlatency.measure.outside import OutsideSearch
from pytest_vlmlatency.measure.stopping import (
    MAX_ROUNDS,
    check_discards,
    is_other_long,
    judge_other,
    timing_problem,
)
from pytest_vlmlatency.measure.timed import Rig, Seen, measure_call
from pytest_vlmlatency.records import CPU, WALL, Call, Discovery, PhaseMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_vlmlatency.calls.clock import Clock
    from pytest_vlmlatency.calls.interception import Target
    from pytest_vlmlatency.measure.outside import Entry
    from pytest_vlmlatency.measure.timed import Around
    from pytest_vlmlatency.options import Configuration, Options


__tracebackhide__ = True  # an error inside generate() points at the user's own code

N_REFERENCES = 2
"""Unmeasured calls whose outputs must agree before a measured one is held against them."""


class Subject:
    """One case while it is measured. `restore_random` puts the random state back.

    `references` are the digests of what unmeasured calls returned, `problem` is why the last round
    is discarded.
    """

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
        self.last: Observation | None = None
        self.result: object = None
        self.references: list[str] = []
        self.is_warm = False
        self.problem: str | None = None
        self._rounds: list[Call] = []
        self._rehearsed: Call | None = None
        self._outside: tuple[Entry, ...] = ()
        self._search = PhaseSearch(target.model, options.phases, config)
        self.options = options
        self._clock = clock
        self._rig = rig
        self._restore_random = restore_random
        self._n_flushes_at_preparation = 0
        self._first_inputs: Inputs | None = None

    @property
    def phase_map(self) -> PhaseMap | None:
        """Where the phases are, None until they are found."""
        return self._search.phase_map

    @property
    def discovery(self) -> Discovery | None:
        """How the phases were found, None until they are."""
        return self._search.discovery

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
        """Make one call that does not count; the last of them, a rehearsal, makes it warm."""
        n_calls = max(N_REFERENCES, self.options.warmup_rounds)
        if self.phase_map is not None and len(self.references) >= n_calls:
            self._rehearse()
            return
        with self._prepared() as (args, kwargs):
            if self.phase_map is None and self.references:
                self._watch(args, kwargs)
            else:
                call_target(self.target, args, kwargs, self._watch_or_run)

    def _watch(self, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
        """Find the phases inside generate(), and vision around it where the function is more."""
        if self.target.function == self.target.model.generate:
            call_target(self.target, args, kwargs, self._watch_or_run)
            return
        search = OutsideSearch(self.target.model)
        with search.watching():
            call_target(self.target, args, kwargs, search.around(self._watch_or_run))
        if self.phase_map is not None:
            self._outside = search.found(self.phase_map)

    def measure_round(self, *, started_ms: float) -> None:
        """Make one measured call: keep it, discard it, or raise if it cannot be true."""
        seen = self._measure()
        self.result = seen.result
        check_structure(seen.observation)
        self.first = self.first or seen.observation
        self.last = seen.observation
        check_work(self.first, seen.observation, round_index=len(self.calls))
        self._check_output(seen.observation)
        problem = timing_problem(seen.observation)
        self._file(
            replace(
                seen.call,
                started_ms=started_ms,
                n_flushes_before=seen.n_flushes_at_start - self._n_flushes_at_preparation,
                discarded_because=problem,
            )
        )

    def _rehearse(self) -> None:
        """Measure a call that is no round; where it belies remembered phases, find them anew."""
        try:
            seen = self._measure(self._search.rehearsing)
            check_structure(seen.observation)
        except InvalidMeasurement:
            if not self._search.is_remembered:
                raise
            self._search.distrust()
            return
        self.is_warm = self._search.settle()
        self._rehearsed = seen.call

    def _measure(self, around: Around = lambda _inputs: nullcontext()) -> Seen:
        assert self.phase_map is not None, "a measured call before the phases are found"
        with self._prepared() as (args, kwargs):
            is_long = self._rehearsed is not None and is_other_long(self._rehearsed)
            recorder = Recorder(self._clock, names_parts=is_long)
            return measure_call(
                self.target,
                args,
                kwargs,
                self.phase_map,
                recorder=recorder,
                rig=self._rig,
                outside=self._outside,
                around=around,
            )

    def _file(self, call: Call) -> None:
        """Judge all rounds anew with one more; too many discarded ones fail the case."""
        self._rounds.append(call)
        judged = judge_other(self._rounds, self._rehearsed)
        self.calls = [one for one in judged if one.discarded_because is None]
        self.discarded = [one for one in judged if one.discarded_because is not None]
        self.problem = judged[-1].discarded_because
        n_possible = self.options.rounds or MAX_ROUNDS
        check_discards(len(self.calls), self.discarded, n_rounds=n_possible)

    def check_discards(self) -> None:
        """Raise if too many of the rounds that were made were discarded."""
        n_rounds = len(self.calls) + len(self.discarded)
        check_discards(len(self.calls), self.discarded, n_rounds=n_rounds)

    @property
    def is_repeatable(self) -> bool:
        """Whether unmeasured calls all returned the same, so that a measured one must, too."""
        return len(set(self.references)) == 1

    def _check_output(self, seen: Observation) -> None:
        if self.is_repeatable and seen.inputs.mode is not Mode.SAMPLE:
            check_same_output(self.references[0], seen.output.digest)

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
        self._n_flushes_at_preparation = self._rig.watch.n_calls
        with prepared(self.target, self.config, self.options.setup) as arguments:
            self._restore_random()
            with no_garbage_collection():
                yield arguments

    def _watch_or_run(
        self, original: Generate, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> object:
        """Run generate unmeasured, and find the phases the second time, unless they are known.

        What compiles does so in the first, without hooks.
        """
        inputs = read_inputs(original, self.target.model, args, kwargs)
        self._first_inputs = self._first_inputs or inputs
        check_inputs(self._first_inputs, inputs)
        if self.phase_map is None and self.references:
            output, is_whole = self._search.search(original, args, kwargs, inputs)
            if not is_whole:
                return output
        else:
            output = original(*args, **kwargs)
        self.references.append(read_output(output, inputs).digest)
        return output


__tracebackhide___in_preparation = True  # an error inside generate() points at the user's own code

Arguments = tuple[Sequence[object], Mapping[str, object]]


@contextmanager
def prepared(
    target: Target, config: Configuration | None, setup: Callable[[], object] | None
) -> Iterator[Arguments]:
    """Yield the arguments of one call while the configuration is in force."""
    if config is None:
        yield _arguments(target, setup)
        return
    with config.apply(target.model):
        wanted, found = dict(config.values()), dict(config.read_back(target.model))
        if wanted != found:
            raise KnobNotApplied(
                f"the configuration {wanted} did not take effect: the model has {found}; expected "
                f"them to be equal. Does this model have these knobs?"
            )
        yield _arguments(target, setup)


def _arguments(target: Target, setup: Callable[[], object] | None) -> Arguments:
    fresh = setup() if setup else None
    if fresh is None:
        return _joined(target, target.args, target.kwargs)
    if target.args or target.kwargs:
        raise UsageProblem("setup returned arguments, but args or kwargs were given as well")
    if not (isinstance(fresh, tuple) and len(fresh) == 2 and isinstance(fresh[1], Mapping)):
        raise UsageProblem(
            f"setup returned {type(fresh).__name__}; expected (args, kwargs), or None to use those "
            f"that were given"
        )
    return _joined(target, tuple(fresh[0]), fresh[1])


def _joined(target: Target, args: Sequence[object], kwargs: Mapping[str, object]) -> Arguments:
    return (*target.bound_args, *args), {**target.bound_kwargs, **kwargs}
