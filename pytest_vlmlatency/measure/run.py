"""A callable becomes a Case: the ways in, with pytest and without.

`measure_generate` is the public way without pytest; the fixture uses the others. `rounds` repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_vlmlatency.calls.clock import check_devices, clock_for, model_devices
from pytest_vlmlatency.calls.interception import find_target
from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.machine.turns import alone_with
from pytest_vlmlatency.measure.case import Identity, unmeasured_case
from pytest_vlmlatency.measure.rounds import Measured, Progress, measure_in_turn
from pytest_vlmlatency.measure.subject import prepared
from pytest_vlmlatency.options import Options, as_configuration, merge_options

if TYPE_CHECKING:
    from pytest_vlmlatency.calls.clock import Clock
    from pytest_vlmlatency.options import Configuration, PhaseOverride
    from pytest_vlmlatency.records import Case

__tracebackhide__ = True  # an error inside generate() points at the user's own code

Generate = Callable[..., object]


def measure_generate(
    generate: Generate,
    /,
    *,
    args: Sequence[object] = (),
    kwargs: Mapping[str, object] | None = None,
    setup: Callable[[], object] | None = None,
    rounds: int | None = None,
    warmup_rounds: int | None = None,
    max_time_s: float | None = None,
    model: object | None = None,
    phases: PhaseOverride | None = None,
    config: Configuration | None = None,
    per_token: bool | None = None,
    threads: int | None = None,
    device: str | None = None,
    clock: Clock | None = None,
) -> Case:
    """Measure `generate(*args, **kwargs)` phase by phase and return the Case; times in ms.

    `generate` is a model's generate, or any callable that ends in it when `model=` is given.
    Raises InvalidMeasurement rather than returning a number that cannot be true, PhasesNotFound
    where the phases cannot be told, UsageProblem for arguments that make no sense. Waits for other
    measurements of this user on the same device, as the fixture does.
    """
    given = {
        "setup": setup,
        "rounds": rounds,
        "warmup_rounds": warmup_rounds,
        "max_time_s": max_time_s,
        "model": model,
        "phases": phases,
        "config": config,
        "per_token": per_token,
        "threads": threads,
        "device": device,
    }
    name = str(getattr(generate, "__qualname__", "generate"))
    options = merge_options(given, source="measure_generate()")
    target = find_target(generate, args, kwargs or {}, options.model)
    with alone_with(model_devices(target.model), progress=None):
        measured = measure_in_turn(
            target, [options.config], options, Identity(id=name, name=name), clock, None
        )
    return measured[0].case


def measure(
    generate: Generate,
    *,
    args: Sequence[object] = (),
    kwargs: Mapping[str, object] | None = None,
    options: Options,
    identity: Identity,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Measure one case."""
    target = find_target(generate, args, kwargs or {}, options.model)
    return measure_in_turn(target, [options.config], options, identity, clock, progress)[0]


def measure_interleaved(
    generate: Generate,
    *,
    args: Sequence[object] = (),
    kwargs: Mapping[str, object] | None = None,
    configs: Sequence[Configuration],
    options: Options,
    identity: Identity,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> tuple[Measured, ...]:
    """Measure a case for each configuration, a round of each in turn."""
    if not configs:
        raise UsageProblem("no configurations were given to measure in turn; expected at least one")
    target = find_target(generate, args, kwargs or {}, options.model)
    checked = [as_configuration(config) for config in configs]
    return measure_in_turn(target, checked, options, identity, clock, progress)


def run_once(
    generate: Generate,
    *,
    args: Sequence[object] = (),
    kwargs: Mapping[str, object] | None = None,
    options: Options,
    identity: Identity,
) -> Measured:
    """Call the function once, unmeasured, as `--benchmark-disable` asks; the case says so."""
    target = find_target(generate, args, kwargs or {}, options.model)
    devices = model_devices(target.model)
    check_devices(devices, options.device)
    with prepared(target, options.config, options.setup) as (fresh_args, fresh_kwargs):
        output = target.function(*fresh_args, **fresh_kwargs)
    return Measured(
        output, unmeasured_case(identity, options.config, device=clock_for(devices).device)
    )
