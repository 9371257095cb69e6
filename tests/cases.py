"""Builders of records with boring values, so that a test says only what it is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vlmlatency.records import CPU, WALL, Call, Case, Phase, Scalar, Span, Workload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def a_call(
    *,
    vision_ms: float = 10.0,
    prefill_ms: float = 20.0,
    decode_ms: float = 30.0,
    other_ms: float = 1.0,
    extra_spans: Sequence[Span] = (),
    cpu_share: float | None = 0.5,
    n_output_tokens: int = 4,
    n_vision_tokens: int = 16,
    contended_ratio: float | None = 0.0,
    discarded_because: str | None = None,
) -> Call:
    """Return a call whose CPU time is a share of its wall time; None leaves CPU time out."""
    phases = {
        Phase.VISION: vision_ms,
        Phase.PREFILL: prefill_ms,
        Phase.DECODE: decode_ms,
        Phase.OTHER: other_ms,
    }
    spans = [_span(str(phase), ms, cpu_share) for phase, ms in phases.items() if ms]
    return Call(
        total=_measures(sum(phases.values()), cpu_share),
        outside=_measures(0.0, cpu_share),
        spans=(*spans, *extra_spans),
        n_output_tokens=n_output_tokens,
        n_decode_steps=n_output_tokens - 1,
        n_generated_tokens=n_output_tokens,
        n_vision_tokens=n_vision_tokens,
        n_text_tokens=8,
        batch_size=1,
        n_vision_calls=1 if vision_ms else 0,
        contended_ratio=contended_ratio,
        discarded_because=discarded_because,
    )


def a_case(
    calls: Sequence[Call] | None = None,
    *,
    name: str = "test_caption[low]",
    config: Mapping[str, Scalar] | None = None,
    **fields: object,
) -> Case:
    """Return a measured case of two equal calls, or of the given ones."""
    calls = tuple(calls) if calls is not None else (a_call(), a_call())
    settings = "" if config is None else f"{{{','.join(f'{k}={v}' for k, v in config.items())}}}"
    given: dict[str, object] = {
        "id": f"tests/test_x.py::{name}{settings}",
        "name": f"{name}{settings}",
        "test": f"tests/test_x.py::{name}",
        "device": "cpu",
        "workload": a_workload(calls[0]) if calls else None,
        "phase_map": None,
        "calls": calls,
        "config": config,
        "stop_reason": "rounds",
    }
    return Case(**{**given, **fields})  # type: ignore[arg-type]  # the fields of Case, by name


def a_workload(call: Call) -> Workload:
    return Workload(
        model="TinyForConditionalGeneration",
        n_parameters=1000,
        dtype="float32",
        attention="eager",
        inputs={"pixel_values": "float32[1, 3, 32, 32]"},
        generation={"max_new_tokens": call.n_output_tokens},
        batch_size=call.batch_size,
        n_vision_tokens=call.n_vision_tokens,
        n_text_tokens=call.n_text_tokens,
        n_output_tokens=call.n_output_tokens,
        output_digest="0" * 16,
    )


def _span(name: str, ms: float, cpu_share: float | None) -> Span:
    return Span(name=name, start_ms=0.0, measures=_measures(ms, cpu_share))


def _measures(ms: float, cpu_share: float | None) -> dict[str, float]:
    return {WALL: ms} if cpu_share is None else {WALL: ms, CPU: ms * cpu_share}
