"""What a user asks of a measurement, and gets: rounds, arguments, spans, bounds."""

import functools
from collections.abc import Mapping

import pytest
import torch
from transformers import DynamicCache

import pytest_vlmlatency
from pytest_vlmlatency import measure_generate
from pytest_vlmlatency.errors import OverBound, UsageProblem
from pytest_vlmlatency.measure.case import Identity
from pytest_vlmlatency.measure.run import run_once
from pytest_vlmlatency.options import Options
from pytest_vlmlatency.plain import from_plain, to_plain
from pytest_vlmlatency.records import Case, Place
from tests.builders import FakeClock, delayed
from tests.zoo import Specimen, block_modules, build, vision_module
from tests.zoo.earlier import CACHE
from tests.zoo.once import encoding_once


def test_the_rounds_that_were_asked_for_are_kept(llava: Specimen) -> None:
    case = measure_generate(llava.generate, kwargs=llava.inputs, rounds=4, warmup_rounds=1)

    assert len(case.calls) == 4
    assert case.stop_reason == "4 rounds as asked"


def test_every_time_of_a_real_call_is_plausible(llava: Specimen) -> None:
    call = measure_generate(llava.generate, kwargs=llava.inputs, rounds=1).calls[0]

    parts_ms = (call.vision_ms, call.prefill_ms, call.decode_ms, call.other_ms)
    assert all(part_ms > 0 for part_ms in parts_ms)
    assert sum(parts_ms) == pytest.approx(call.total_ms, abs=1e-6)
    assert call.ttft_ms == pytest.approx(call.total_ms - call.decode_ms)
    assert call.tpot_ms == pytest.approx(call.decode_ms / 7)
    assert call.total_cpu_ms is not None
    assert call.total_cpu_ms > 0


def test_setup_is_not_measured(llava: Specimen, clock: FakeClock) -> None:
    def setup() -> tuple[tuple[()], Mapping[str, object]]:
        clock.advance_ms(200)
        return (), llava.inputs

    with delayed(block_modules(llava)[0], lambda: clock.advance_ms(1)):
        case = measure_generate(llava.generate, setup=setup, rounds=2, clock=clock)

    assert [call.total_ms for call in case.calls] == [8, 8]
    assert [call.outside_ms for call in case.calls] == [0, 0]


def test_what_a_function_does_around_generate_is_outside(llava: Specimen, clock: FakeClock) -> None:
    def chat(**inputs: torch.Tensor) -> str:
        with pytest_vlmlatency.span("preprocess"):
            clock.advance_ms(13)
        tokens = llava.model.generate(**inputs)  # type: ignore[operator]  # a method
        clock.advance_ms(4)
        return f"{len(tokens[0])} tokens"

    with delayed(block_modules(llava)[0], lambda: clock.advance_ms(1)):
        case = measure_generate(chat, model=llava.model, kwargs=llava.inputs, rounds=2, clock=clock)

    call = case.calls[0]
    assert call.outside_ms == 17
    assert call.total_ms == 8
    assert (call.spans[0].name, call.spans[0].place) == ("preprocess", Place.OUTSIDE)
    assert call.phase_time("preprocess", "wall_ms") == 13


def test_a_span_outside_a_measurement_does_nothing() -> None:
    with pytest_vlmlatency.span("preprocess"):
        pass


def test_a_span_may_not_take_a_phases_name() -> None:
    with (
        pytest.raises(UsageProblem, match=r"span\('decode'\): that name is taken"),
        pytest_vlmlatency.span("decode"),
    ):
        pass


def test_a_partial_is_measured_as_the_method_it_wraps(llava: Specimen) -> None:
    generate = functools.partial(llava.generate, **llava.inputs)

    case = measure_generate(generate, kwargs={"max_new_tokens": 3}, rounds=1)

    assert case.calls[0].n_output_tokens == 3


def test_a_fresh_cache_from_setup_is_measured(llava: Specimen) -> None:
    text_inputs = llava.text_inputs
    assert text_inputs is not None

    case = measure_generate(
        llava.generate,
        setup=lambda: ((), {**text_inputs, CACHE: DynamicCache()}),
        rounds=2,
    )

    assert case.workload is not None
    assert case.workload.inputs[CACHE] == "cache[0]"


def test_an_unmeasured_run_generates_once(llava: Specimen) -> None:
    runs: list[int] = []
    with delayed(vision_module(llava), lambda: runs.append(1)):
        measured = run_once(
            llava.generate,
            kwargs=llava.inputs,
            options=Options(),
            identity=Identity(id="t", name="t"),
        )

    assert runs == [1]
    assert not measured.case.is_measured
    assert measured.case.check(decode_ms=0.001) is measured.case


def test_phases_named_by_hand_are_used(llava: Specimen, clock: FakeClock) -> None:
    phases = {
        "vision": ["model.vision_tower", "model.multi_modal_projector"],
        "blocks": "model.language_model.layers",
        "step": "",
    }
    with (
        delayed(vision_module(llava), lambda: clock.advance_ms(8)),
        delayed(block_modules(llava)[0], lambda: clock.advance_ms(1)),
    ):
        case = measure_generate(
            llava.generate, kwargs=llava.inputs, rounds=1, phases=phases, clock=clock
        )

    assert case.calls[0].vision_ms == 8
    assert case.phase_map is not None
    assert case.phase_map.vision == tuple(phases["vision"])


def test_a_bound_that_holds_passes_and_one_that_does_not_fails(
    llava: Specimen, clock: FakeClock
) -> None:
    with delayed(block_modules(llava)[0], lambda: clock.advance_ms(1)):
        case = measure_generate(llava.generate, kwargs=llava.inputs, rounds=3, clock=clock)

    assert case.check(decode_ms=7, ttft_ms=1, total_ms=8) is case
    with pytest.raises(OverBound, match=r"median decode_ms is 7.00 ms over 3 rounds, above"):
        case.check(decode_ms=6.5)


@pytest.mark.parametrize("name", encoding_once("llava", "florence2", "git"))
def test_a_case_survives_the_way_through_plain_values(name: str) -> None:
    specimen = build(name)
    case = measure_generate(specimen.generate, kwargs=specimen.inputs, rounds=2, per_token=True)

    assert from_plain(Case, to_plain(case)) == case
