"""What a user asks of a measurement, and gets: rounds, arguments, spans, modes, settings."""

import functools
import gc
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import pytest
import torch
from transformers import DynamicCache

import pytest_vlmlatency
from pytest_vlmlatency import InvalidMeasurement, measure_generate
from pytest_vlmlatency.errors import KnobNotApplied, OverBound, PhasesNotFound, UsageProblem
from pytest_vlmlatency.measure.case import Identity
from pytest_vlmlatency.measure.run import measure_interleaved, run_once
from pytest_vlmlatency.options import Options
from pytest_vlmlatency.plain import from_plain, to_plain
from pytest_vlmlatency.records import Case, Place, Scalar
from tests.builders import FakeClock, delayed
from tests.zoo import Specimen, block_modules, build, vision_module


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


def test_one_token_has_decode_time_but_no_time_per_step(llava: Specimen) -> None:
    case = measure_generate(llava.generate, kwargs={**llava.inputs, "max_new_tokens": 1}, rounds=1)

    call = case.calls[0]
    assert (call.n_output_tokens, call.n_decode_steps) == (1, 0)
    assert call.decode_ms > 0
    assert call.tpot_ms is None
    assert call.tpot_cpu_ms is None


def test_a_text_only_call_has_no_vision_and_says_so(llava: Specimen) -> None:
    assert llava.text_inputs is not None

    case = measure_generate(llava.generate, kwargs=llava.text_inputs, rounds=1)

    call = case.calls[0]
    assert (call.vision_ms, call.n_vision_calls, call.n_vision_tokens) == (0, 0, 0)
    assert case.labels == ("text-only",)


def test_per_token_times_are_a_labelled_extra(llava: Specimen, clock: FakeClock) -> None:
    step_ms = iter([50, *range(1, 8)] * 9)
    with delayed(block_modules(llava)[0], lambda: clock.advance_ms(next(step_ms))):
        case = measure_generate(
            llava.generate, kwargs=llava.inputs, rounds=1, per_token=True, clock=clock
        )

    assert case.calls[0].decode_step_times_ms == (1, 2, 3, 4, 5, 6, 7)
    assert case.labels == ("per-token",)


def test_token_times_are_not_kept_unasked(llava: Specimen) -> None:
    case = measure_generate(llava.generate, kwargs=llava.inputs, rounds=1)

    assert case.calls[0].decode_step_times_ms is None


def test_setup_is_not_measured(llava: Specimen, clock: FakeClock) -> None:
    def setup() -> tuple[tuple[()], Mapping[str, object]]:
        clock.advance_ms(200)
        return (), llava.inputs

    with delayed(block_modules(llava)[0], lambda: clock.advance_ms(1)):
        case = measure_generate(llava.generate, setup=setup, rounds=2, clock=clock)

    assert [call.total_ms for call in case.calls] == [8, 8]
    assert [call.outside_ms for call in case.calls] == [0, 0]


def test_setup_and_arguments_together_are_refused(llava: Specimen) -> None:
    with pytest.raises(UsageProblem, match=r"setup returned arguments, but args or kwargs"):
        measure_generate(
            llava.generate, kwargs=llava.inputs, setup=lambda: ((), llava.inputs), rounds=1
        )


def test_a_setup_that_returns_nonsense_is_refused(llava: Specimen) -> None:
    with pytest.raises(UsageProblem, match=r"setup returned int; expected \(args, kwargs\)"):
        measure_generate(llava.generate, setup=lambda: 3, rounds=1)


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


def test_a_function_that_never_generates_is_refused(llava: Specimen) -> None:
    with pytest.raises(InvalidMeasurement, match=r"returned without calling LlavaFor"):
        measure_generate(lambda: 3, model=llava.model, rounds=1)


def test_a_function_that_generates_twice_is_refused(llava: Specimen) -> None:
    def twice(**inputs: torch.Tensor) -> None:
        llava.model.generate(**inputs)  # type: ignore[operator]  # a method
        llava.model.generate(**inputs)  # type: ignore[operator]  # a method

    with pytest.raises(InvalidMeasurement, match=r"called generate\(\) more than once"):
        measure_generate(twice, model=llava.model, kwargs=llava.inputs, rounds=1)


def test_a_callable_without_a_model_is_refused() -> None:
    with pytest.raises(UsageProblem, match=r"cannot tell which model len runs.*model=model"):
        measure_generate(len, rounds=1)


def test_a_model_that_cannot_generate_is_refused() -> None:
    with pytest.raises(UsageProblem, match=r"Linear has no generate\(\)"):
        measure_generate(print, model=torch.nn.Linear(2, 2), rounds=1)


def test_something_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(UsageProblem, match=r"expected something to call"):
        measure_generate(cast("type", 3), rounds=1)


def test_a_partial_is_measured_as_the_method_it_wraps(llava: Specimen) -> None:
    generate = functools.partial(llava.generate, **llava.inputs)

    case = measure_generate(generate, kwargs={"max_new_tokens": 3}, rounds=1)

    assert case.calls[0].n_output_tokens == 3


def test_no_rounds_are_refused(llava: Specimen) -> None:
    with pytest.raises(UsageProblem, match=r"rounds is 0; expected a whole number of at least 1"):
        measure_generate(llava.generate, kwargs=llava.inputs, rounds=0)


def test_pixels_without_placeholders_are_refused(llava: Specimen) -> None:
    assert llava.text_inputs is not None
    kwargs = {**llava.text_inputs, "pixel_values": llava.inputs["pixel_values"]}

    with pytest.raises(UsageProblem, match=r"pixels were passed \(pixel_values\) but input_ids"):
        measure_generate(llava.generate, kwargs=kwargs, rounds=1)


def test_placeholders_without_pixels_are_refused(llava: Specimen) -> None:
    kwargs = {name: value for name, value in llava.inputs.items() if name != "pixel_values"}

    with pytest.raises(UsageProblem, match=r"holds 16 image placeholder tokens but no pixels"):
        measure_generate(llava.generate, kwargs=kwargs, rounds=1)


def test_a_grown_cache_is_refused_with_advice(llava: Specimen) -> None:
    assert llava.text_inputs is not None
    kwargs = {**llava.text_inputs, "past_key_values": DynamicCache()}

    with pytest.raises(InvalidMeasurement, match=r"past_key_values: cache\[0\] then cache\[\d+\]"):
        measure_generate(llava.generate, kwargs=kwargs, rounds=3)


def test_a_fresh_cache_from_setup_is_measured(llava: Specimen) -> None:
    text_inputs = llava.text_inputs
    assert text_inputs is not None

    case = measure_generate(
        llava.generate,
        setup=lambda: ((), {**text_inputs, "past_key_values": DynamicCache()}),
        rounds=2,
    )

    assert case.workload is not None
    assert case.workload.inputs["past_key_values"] == "cache[0]"


def test_sampling_gives_the_same_work_in_every_round(llava: Specimen) -> None:
    case = measure_generate(llava.generate, kwargs={**llava.inputs, "do_sample": True}, rounds=3)

    assert case.labels == ("sample",)
    assert case.notes == ()


def test_rounds_with_other_lengths_are_refused(llava: Specimen) -> None:
    lengths = iter([4, 4, 4, 4, 5])

    def chat(**inputs: torch.Tensor) -> object:
        return llava.model.generate(**inputs, max_new_tokens=next(lengths))  # type: ignore[operator]  # a method

    with pytest.raises(
        InvalidMeasurement, match=r"round 2 did other work .*output tokens: 4 then 5"
    ):
        measure_generate(chat, model=llava.model, kwargs=llava.inputs, rounds=3)


def test_early_ends_in_a_batch_count_tokens_without_padding(llava: Specimen) -> None:
    """The rows are the same but for one pixel's image; the end token is one that a row gives."""
    inputs = {name: torch.cat([value, value]) for name, value in llava.inputs.items()}
    inputs["pixel_values"][1] *= -3
    rows = llava.generate(**inputs)[:, inputs["input_ids"].shape[1] :].tolist()
    end = next(token for token in rows[0] if token not in rows[1])
    n_first = rows[0].index(end) + 1

    case = measure_generate(
        llava.generate, kwargs={**inputs, "eos_token_id": end, "pad_token_id": 0}, rounds=1
    )

    call = case.calls[0]
    assert (call.n_output_tokens, call.n_decode_steps) == (8, 7)
    assert call.n_generated_tokens == n_first + 8
    assert call.batch_size == 2


@pytest.mark.parametrize(
    ("mode", "settings"),
    [
        ("beam", {"num_beams": 3}),
        ("assisted", {"prompt_lookup_num_tokens": 2}),
        ("greedy", {"cache_implementation": "static"}),
    ],
)
def test_other_ways_to_decode_are_measured_and_labelled(
    llava: Specimen, mode: str, settings: dict[str, object]
) -> None:
    case = measure_generate(llava.generate, kwargs={**llava.inputs, **settings}, rounds=1)

    assert case.labels == (() if mode == "greedy" else (mode,))
    assert case.calls[0].n_output_tokens == 8


def test_a_prompt_in_chunks_is_prefill_as_a_whole(llava: Specimen, clock: FakeClock) -> None:
    with delayed(block_modules(llava)[0], lambda: clock.advance_ms(1)):
        case = measure_generate(
            llava.generate,
            kwargs={**llava.inputs, "prefill_chunk_size": 10},
            rounds=1,
            clock=clock,
        )

    call = case.calls[0]
    assert call.prefill_ms == 3  # 25 tokens, ten at a time
    assert (call.decode_ms, call.n_decode_steps) == (7, 7)
    assert case.labels == ("chunked",)


def test_the_random_state_is_the_same_in_every_round(llava: Specimen) -> None:
    drawn: list[tuple[float, float]] = []

    def draw() -> None:
        drawn.append((random.random(), float(torch.rand(()))))

    with delayed(vision_module(llava), draw):
        measure_generate(llava.generate, kwargs=llava.inputs, rounds=3)

    assert len(drawn) == 6
    assert len(set(drawn)) == 1


def test_garbage_is_not_collected_inside_a_round(llava: Specimen) -> None:
    states: list[bool] = []
    with delayed(vision_module(llava), lambda: states.append(gc.isenabled())):
        measure_generate(llava.generate, kwargs=llava.inputs, rounds=1)

    assert not any(states)
    assert gc.isenabled()


def test_one_thread_measures_by_default_and_is_given_back(llava: Specimen) -> None:
    counts: list[int] = []
    before = torch.get_num_threads()
    with delayed(vision_module(llava), lambda: counts.append(torch.get_num_threads())):
        case = measure_generate(llava.generate, kwargs=llava.inputs, rounds=1)

    assert set(counts) == {1}
    assert torch.get_num_threads() == before
    assert case.n_threads == 1


def test_threads_are_left_alone_when_asked(llava: Specimen) -> None:
    case = measure_generate(llava.generate, kwargs=llava.inputs, rounds=1, threads=0)

    assert case.n_threads == torch.get_num_threads()


class Knob:
    """A configuration of one attribute on the model; `is_stuck` makes it take no effect."""

    def __init__(self, value: int, *, is_stuck: bool = False) -> None:
        self._value, self._is_stuck = value, is_stuck

    def values(self) -> Mapping[str, Scalar]:
        return {"knob": self._value}

    @contextmanager
    def apply(self, model: object, /) -> Iterator[None]:
        if not self._is_stuck:
            vars(model)["knob"] = self._value
        try:
            yield
        finally:
            vars(model).pop("knob", None)

    def read_back(self, model: object, /) -> Mapping[str, Scalar]:
        return {"knob": vars(model).get("knob")}


def test_a_configuration_is_part_of_the_case(llava: Specimen) -> None:
    case = measure_generate(llava.generate, kwargs=llava.inputs, rounds=1, config=Knob(3))

    assert case.config == {"knob": 3}
    assert case.id.endswith("{knob=3}")


def test_a_knob_that_did_not_take_effect_is_refused(llava: Specimen) -> None:
    with pytest.raises(KnobNotApplied, match=r"\{'knob': 3\} did not take .*\{'knob': None\}"):
        measure_generate(
            llava.generate, kwargs=llava.inputs, rounds=1, config=Knob(3, is_stuck=True)
        )


def test_a_configuration_that_cannot_be_applied_is_refused(llava: Specimen) -> None:
    with pytest.raises(UsageProblem, match=r"without values, apply, read_back\(\)"):
        measure_generate(llava.generate, kwargs=llava.inputs, rounds=1, config=cast("Knob", 3))


def test_configurations_are_measured_in_turn(llava: Specimen) -> None:
    order: list[object] = []

    def note() -> None:
        order.append(vars(llava.model)["knob"])

    with delayed(vision_module(llava), note):
        measured = measure_interleaved(
            llava.generate,
            kwargs=llava.inputs,
            configs=[Knob(1), Knob(2)],
            options=Options(rounds=3),
            identity=Identity(id="test", name="test"),
        )

    assert order[-6:] == [1, 2, 1, 2, 1, 2]
    assert [one.case.id for one in measured] == ["test{knob=1}", "test{knob=2}"]
    assert "knob" not in vars(llava.model)


def test_nothing_to_interleave_is_refused(llava: Specimen) -> None:
    with pytest.raises(UsageProblem, match=r"no configurations were given"):
        measure_interleaved(
            llava.generate, configs=[], options=Options(), identity=Identity(id="t", name="t")
        )


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


def test_a_path_that_does_not_exist_lists_near_matches(llava: Specimen) -> None:
    with pytest.raises(UsageProblem, match=r"near matches: .*'model.vision_tower'"):
        measure_generate(
            llava.generate, kwargs=llava.inputs, rounds=1, phases={"vision": "model.visin_tower"}
        )


def test_a_model_without_blocks_is_refused_with_how_to_name_them(llava: Specimen) -> None:
    class Bare(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(2, 2)

        def generate(self, input_ids: torch.Tensor) -> torch.Tensor:
            for _ in range(3):
                self.head(torch.zeros(1, 2))
            return input_ids

    model = Bare()
    with pytest.raises(PhasesNotFound, match=r"no list of blocks was seen.*name them by hand"):
        measure_generate(model.generate, args=[torch.zeros(1, 2, dtype=torch.long)], rounds=1)


def test_a_bound_that_holds_passes_and_one_that_does_not_fails(
    llava: Specimen, clock: FakeClock
) -> None:
    with delayed(block_modules(llava)[0], lambda: clock.advance_ms(1)):
        case = measure_generate(llava.generate, kwargs=llava.inputs, rounds=3, clock=clock)

    assert case.check(decode_ms=7, ttft_ms=1, total_ms=8) is case
    with pytest.raises(OverBound, match=r"median decode_ms is 7.00 ms over 3 rounds, above"):
        case.check(decode_ms=6.5)


def test_a_bound_on_something_unknown_is_refused(llava: Specimen) -> None:
    case = measure_generate(llava.generate, kwargs=llava.inputs, rounds=1)

    with pytest.raises(UsageProblem, match=r"does not know decod_ms"):
        case.check(decod_ms=3)


@pytest.mark.parametrize("name", ["llava", "florence2", "git"])
def test_a_case_survives_the_way_through_plain_values(name: str) -> None:
    specimen = build(name)
    case = measure_generate(specimen.generate, kwargs=specimen.inputs, rounds=2, per_token=True)

    assert from_plain(Case, to_plain(case)) == case


def test_no_secret_argument_reaches_the_record(llava: Specimen) -> None:
    generate = llava.generate

    def chat(token: str, **inputs: torch.Tensor) -> object:
        return generate(**inputs)

    llava.model.generate = chat  # type: ignore[assignment]  # a generate of the model's own
    case = measure_generate(
        chat, model=llava.model, kwargs={**llava.inputs, "token": "hf_secret"}, rounds=1
    )

    assert "hf_secret" not in repr(case)
