"""Look at one call of a model: from what was asked for to what was found.

Owns putting the parts together. Whatever a measurement would refuse is refused here, by the same
error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vlmlatency.inspection.attribution import attribute, call_rows, phases_by_module
from pytest_vlmlatency.inspection.checks import static_checks
from pytest_vlmlatency.inspection.findings import Inspection
from pytest_vlmlatency.inspection.module_rows import module_rows
from pytest_vlmlatency.inspection.sources import Source, open_source
from pytest_vlmlatency.inspection.token_counts import count_tokens
from pytest_vlmlatency.inspection.untold import untold
from pytest_vlmlatency.measure.case import describe_workload
from pytest_vlmlatency.measure.devices import model_devices
from pytest_vlmlatency.measure.environment import read_environment
from pytest_vlmlatency.measure.labels import labels_of
from pytest_vlmlatency.measure.placeholders import placeholder_ids
from pytest_vlmlatency.measure.single import Single, observe
from pytest_vlmlatency.measure.wrapping import configured_part
from pytest_vlmlatency.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_vlmlatency.inspection.request import Request
    from pytest_vlmlatency.measure.clock import Clock


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was found, and the measured call that a trace is made of."""

    inspection: Inspection
    single: Single
    clock: Clock


def look_at(request: Request, *, report: Callable[[str], None], clock: Clock | None = None) -> Look:
    """Return what one call of the model shows; raise where a measurement would."""
    report(f"loading {request.source}")
    source = open_source(request)
    single = observe(
        source.target,
        _options(request, source),
        has_blocks=request.has_trace_blocks,
        clock=clock,
        report=report,
    )
    return Look(
        inspection=_inspection(request.source, source, single),
        single=single,
        clock=single.observation.recorder.clock,
    )


def _options(request: Request, source: Source) -> Options:
    """Return how to measure: on one thread where times are shown, else on all that there are."""
    threads = 0 if request.threads is None and request.trace is None else request.threads
    return Options(
        setup=source.setup,
        phases=request.phases,
        threads=threads,
        per_token=request.has_trace_tokens,
        device=request.loading.device,
    )


def _inspection(name: str, source: Source, single: Single) -> Inspection:
    model, seen = source.target.model, single.observation
    n_prompt_forwards = seen.inputs.n_prompt_forwards
    calls = attribute(single.trace, seen.phase_map, n_prompt_forwards=n_prompt_forwards)
    phases = phases_by_module(calls)
    tokens = count_tokens(
        seen,
        n_images=source.n_images,
        placeholders=placeholder_ids(getattr(configured_part(model), "config", None)),
    )
    return Inspection(
        source=name,
        description=source.description,
        device=single.device,
        mode=str(seen.inputs.mode),
        is_encoder_decoder=seen.inputs.is_encoder_decoder,
        labels=labels_of(seen),
        workload=describe_workload(model, seen),
        phase_map=seen.phase_map,
        modules=module_rows(model, seen.phase_map, phases),
        calls=call_rows(
            calls,
            seen.phase_map,
            n_prompt_forwards=n_prompt_forwards,
            n_forwards=seen.recorder.n_forwards,
        ),
        tokens=tokens,
        checks=static_checks(model, seen.phase_map, phases),
        untold=untold(single, tokens),
        versions=read_environment(model_devices(model)).versions,
    )
