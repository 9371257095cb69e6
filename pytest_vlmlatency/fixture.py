"""`vlm_latency`, the object a test calls: one measurement of a generate(), or several in turn.

Owns what a test may ask, and when: merges the settings of the call with the layers below it, and
keeps the cases until they are delivered. Its frames are hidden in tracebacks.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypedDict, Unpack

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.options import KEYS, MARKER_KEYS, Configuration, check_keys, merge_options
from pytest_vlmlatency.terms import check_effect, check_names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import date

    import torch

    from pytest_vlmlatency.measure.case import Identity
    from pytest_vlmlatency.measure.rounds import Measured
    from pytest_vlmlatency.options import Options, PhaseOverride
    from pytest_vlmlatency.records import Case, GateTerms

    Generate = Callable[..., object]

__tracebackhide__ = True

HOW_TO_CALL = "output = vlm_latency(model.generate, **inputs, max_new_tokens=32)"


class Settings(TypedDict, total=False):
    """What a call may set by hand; it overrides the marker, the command line and the ini file."""

    rounds: int | None
    warmup_rounds: int | None
    max_time_s: float | None
    per_token: bool | None
    threads: int | None
    setup: Callable[[], object] | None
    model: object | None
    phases: PhaseOverride | None
    config: Configuration | None
    target: float | Mapping[str, float] | None
    alpha: float | None
    min_effect: float | None
    budget_ms: Mapping[str, float | Mapping[str, float]] | None
    gate: str | None
    why: str | None
    until: str | date | None


@dataclass(frozen=True, kw_only=True)
class Work:
    """A generate() with its arguments."""

    generate: Generate
    args: Sequence[object]
    kwargs: Mapping[str, object] | None


class Measurement(Protocol):
    """What measures for one test, and what is known of it afterwards."""

    identity: Identity
    devices: tuple[torch.device, ...]
    waited_ms: float

    def run(self, work: Work, options: Options) -> Measured:
        """Measure one case."""

    def run_interleaved(
        self, work: Work, configs: Sequence[Configuration], options: Options
    ) -> tuple[Measured, ...]:
        """Measure a case for each configuration, a round of each in turn."""


class VlmLatency:
    """Measures what it is called with, once in a test."""

    def __init__(self, measurement: Measurement, *, layers: Sequence[Mapping[str, object]]) -> None:
        self.is_used = False
        self.measurement = measurement
        self._layers = layers
        self._cases: tuple[Case, ...] = ()
        self._n_taken = 0

    def __call__(self, generate: Generate, /, *args: object, **kwargs: object) -> object:
        """Measure `generate(*args, **kwargs)` and return what it returned last."""
        _check_no_settings(generate, kwargs)
        return self._measure(Work(generate=generate, args=args, kwargs=kwargs), {})

    def pedantic(
        self,
        generate: Generate,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
        **settings: Unpack[Settings],
    ) -> object:
        """Measure `generate(*args, **kwargs)` with settings of this call's own.

        `setup` runs before each round, unmeasured, and may return fresh (args, kwargs) for it.
        """
        return self._measure(Work(generate=generate, args=args, kwargs=kwargs), dict(settings))

    def interleaved(
        self,
        generate: Generate,
        configs: Sequence[Configuration],
        *,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
        **settings: Unpack[Settings],
    ) -> tuple[Case, ...]:
        """Measure a case for each configuration, a round of each in turn, and return them all.

        In turn, because a machine drifts: of two cases measured one after the other, the second
        may look slower for what happened meanwhile.
        """
        options = self._begin(dict(settings))
        if not configs:
            raise UsageProblem("interleaved() was given no configuration; expected at least one")
        if options.config is not None:
            raise UsageProblem("interleaved() takes its configurations as `configs`, not `config`")
        work = Work(generate=generate, args=args, kwargs=kwargs)
        measured = self.measurement.run_interleaved(work, configs, options)
        self._cases = tuple(_with_terms(one.case, options.terms) for one in measured)
        return self._cases

    @property
    def case(self) -> Case:
        """The case just measured."""
        if not self._cases:
            raise UsageProblem(
                f"vlm_latency.case is what was measured, and nothing was so far; "
                f"measure first: {HOW_TO_CALL}"
            )
        if len(self._cases) > 1:
            raise UsageProblem(
                f"interleaved() measured {len(self._cases)} cases; they are in vlm_latency.cases"
            )
        return self._cases[0]

    @property
    def cases(self) -> tuple[Case, ...]:
        """All cases of this test; empty before anything was measured."""
        return self._cases

    def take_unsent(self) -> tuple[Case, ...]:
        """Return the measured cases that were not taken before."""
        unsent = tuple(case for case in self._cases[self._n_taken :] if case.is_measured)
        self._n_taken = len(self._cases)
        return unsent

    def _measure(self, work: Work, settings: Mapping[str, object]) -> object:
        options = self._begin(settings)
        measured = self.measurement.run(work, options)
        self._cases = (_with_terms(measured.case, options.terms),)
        return measured.output

    def _begin(self, settings: Mapping[str, object]) -> Options:
        if self.is_used:
            raise UsageProblem(
                "vlm_latency was used before in this test; it measures once a test: write a test "
                "for each measurement, or one interleaved() call for several configurations"
            )
        self.is_used = True
        _check_settings(settings)
        options = merge_options(settings, *self._layers)
        check_effect(options.terms)
        return options


def _check_settings(settings: Mapping[str, object]) -> None:
    try:
        check_keys(settings, MARKER_KEYS, source="vlm_latency.pedantic()")
    except UsageProblem as problem:
        raise UsageProblem(f"{problem} Arguments of generate() go into kwargs={{...}}.") from None


def _check_no_settings(generate: Generate, kwargs: Mapping[str, object]) -> None:
    """Raise where a setting of ours was passed as an argument of a function that has none such."""
    try:
        taken = {
            name
            for name, parameter in inspect.signature(generate).parameters.items()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        }
    except (TypeError, ValueError):
        return
    ours = [key for key in kwargs if key in KEYS and key not in taken]
    if ours:
        given = ", ".join(f"{key}=..." for key in ours)
        them = "it" if len(ours) == 1 else "them"
        raise UsageProblem(
            f"{', '.join(ours)} would be passed on to the function, which does not name {them}; to "
            f"set how to measure, call vlm_latency.pedantic(model.generate, kwargs=inputs, "
            f"{given}); to pass {them} on, put {them} into those kwargs"
        )


def _with_terms(case: Case, terms: GateTerms) -> Case:
    """Return the case with how it is to be judged; its own phases are known only now."""
    if case.is_measured:
        check_names(terms, case)
    return replace(case, terms=terms)
