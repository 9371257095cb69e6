"""Each invariant, really broken by a real model, is refused with its numbers."""

import functools
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

from pytest_vlmlatency import InvalidMeasurement, measure_generate
from pytest_vlmlatency.calls.clock import Stamp
from pytest_vlmlatency.records import WALL, Case
from tests.builders import FakeClock, delayed
from tests.zoo import Specimen, block_modules, build, vision_module


def measure(specimen: Specimen, **settings: object) -> None:
    measure_generate(specimen.generate, kwargs=specimen.inputs, rounds=2, **settings)  # type: ignore[arg-type]  # each test gives what it means


def test_no_decode_time_with_output_tokens_is_refused(llava: Specimen, clock: FakeClock) -> None:
    with (
        delayed(vision_module(llava), lambda: clock.advance_ms(5)),
        pytest.raises(InvalidMeasurement, match=r"decode took 0.0 wall_ms although 8 tokens"),
    ):
        measure(llava, clock=clock)


def test_a_clock_that_runs_backwards_is_refused(llava: Specimen, clock: FakeClock) -> None:
    with (
        delayed(block_modules(llava)[0], lambda: clock.advance_ms(-2)),
        pytest.raises(InvalidMeasurement, match=r"the clock ran backwards by 2000000 ns"),
    ):
        measure(llava, clock=clock)


def test_phases_that_do_not_add_up_to_the_total_are_refused(llava: Specimen) -> None:
    class Forgetful(FakeClock):
        """Loses a millisecond between two neighbouring marks, but not over the whole call."""

        def measures(self, start: Stamp, end: Stamp) -> dict[str, float]:
            wall_ms = (end.wall_ns - start.wall_ns) / 1e6
            return {"wall_ms": wall_ms - 1 if wall_ms == 9 else wall_ms}

    clock = Forgetful()
    with (
        delayed(vision_module(llava), lambda: clock.advance_ms(9)),
        delayed(block_modules(llava)[0], lambda: clock.advance_ms(1)),
        pytest.raises(InvalidMeasurement, match=r"add up to 16.000000 wall_ms but .* took 17"),
    ):
        measure(llava, clock=clock)


def test_a_cache_flush_inside_a_block_is_refused(llava: Specimen) -> None:
    with (
        delayed(block_modules(llava)[1], lambda: torch.cuda.empty_cache()),
        pytest.raises(InvalidMeasurement, match=r"empty_cache\(\) was called 8 times"),
    ):
        measure(llava)


def test_a_cache_flush_before_some_rounds_only_is_refused(llava: Specimen) -> None:
    n_setups = 0

    def setup() -> None:
        nonlocal n_setups
        n_setups += 1
        if n_setups == 6:
            torch.cuda.empty_cache()

    with pytest.raises(InvalidMeasurement, match=r"before some rounds only .*: 0, 1"):
        measure(llava, setup=setup)


def test_a_cache_flush_before_every_round_is_noted(llava: Specimen) -> None:
    case = measure_generate(
        llava.generate, kwargs=llava.inputs, rounds=2, setup=lambda: torch.cuda.empty_cache()
    )

    assert "empty_cache() was called 1 times before every round" in case.notes


def test_a_model_that_recomputes_vision_in_every_step_is_named(llava: Specimen) -> None:
    def encode_again() -> None:
        llava.model.model.get_image_features(llava.inputs["pixel_values"])  # type: ignore[operator, union-attr]  # a method of the inner model

    with (
        delayed(block_modules(llava)[0], encode_again),
        pytest.raises(InvalidMeasurement, match=r"model.get_image_features .*again in decode"),
    ):
        measure(llava)


def test_a_model_without_a_cache_that_recomputes_vision_is_named() -> None:
    git = build("git")

    with pytest.raises(InvalidMeasurement, match=r"git.image_encoder.* again in decode"):
        measure_generate(git.generate, kwargs={**git.inputs, "use_cache": False}, rounds=1)


def test_vision_that_runs_twice_before_the_prompt_is_refused(llava: Specimen) -> None:
    generate = llava.generate

    def twice(**inputs: torch.Tensor) -> object:
        llava.model.model.get_image_features(inputs["pixel_values"])  # type: ignore[operator, union-attr]  # a method of the inner model
        return generate(**inputs)

    llava.model.generate = twice  # type: ignore[assignment]  # a generate of the model's own
    with pytest.raises(InvalidMeasurement, match=r"the same pixels more than once for one prompt"):
        measure_generate(twice, model=llava.model, kwargs=llava.inputs, rounds=1)


def test_vision_without_pixels_is_refused(llava: Specimen) -> None:
    assert llava.text_inputs is not None
    pixels = llava.inputs["pixel_values"]

    def encode() -> None:
        llava.model.model.get_image_features(pixels)  # type: ignore[operator, union-attr]  # a method of the inner model

    with (
        before_inputs(llava, encode),
        pytest.raises(InvalidMeasurement, match=r"although no pixels were passed"),
    ):
        measure_generate(llava.generate, kwargs=llava.text_inputs, rounds=1)


def test_more_tokens_than_forwards_are_refused(llava: Specimen) -> None:
    generate = llava.generate

    def padded(**inputs: torch.Tensor) -> torch.Tensor:
        tokens = generate(**inputs)
        return torch.cat([tokens, tokens[:, -1:]], dim=1)

    llava.model.generate = padded  # type: ignore[assignment]  # a generate of the model's own
    with pytest.raises(
        InvalidMeasurement,
        match=r"greedy decoding ran 7 step forwards .* 9 output tokens; expected 8",
    ):
        measure_generate(padded, model=llava.model, kwargs=llava.inputs, rounds=1)


def test_a_compiled_forward_whose_hooks_cannot_fire_is_refused(mllama: Specimen) -> None:
    forward = torch.compile(mllama.model.forward, backend="eager")
    mllama.model.forward = functools.wraps(mllama.model.forward)(forward)
    mllama.generate(**mllama.inputs)
    with pytest.raises(InvalidMeasurement, match=r"compiled"):
        measure(mllama)


def test_a_measured_output_unlike_the_unmeasured_one_is_refused(llava: Specimen) -> None:
    """The model turns on its fourth call: one watched, two unmeasured, then measured ones."""
    n_calls = 0

    def turn() -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 4:
            with torch.no_grad():
                for parameter in block_modules(llava)[0].parameters():
                    parameter.mul_(-3)

    with (
        delayed(vision_module(llava), turn),
        pytest.raises(InvalidMeasurement, match=r"returned other tokens"),
    ):
        measure(llava)


def test_unmeasured_outputs_that_differ_are_said(llava: Specimen) -> None:
    """Each call adds noise of its own to a block, behind the back of the restored random state."""
    generator = torch.Generator().manual_seed(1)

    def drift() -> None:
        with torch.no_grad():
            for parameter in block_modules(llava)[0].parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))

    with delayed(vision_module(llava), drift):
        case = measure_generate(llava.generate, kwargs=llava.inputs, rounds=1)

    assert case.notes == (
        "unmeasured calls returned different outputs, so it could not be checked that measuring "
        "leaves the output as it is",
    )


def hooks_and_attributes(model: torch.nn.Module) -> list[object]:
    """Return all that measuring could leave behind."""
    return [
        (path, sorted(vars(module)), list(module._forward_hooks), list(module._forward_pre_hooks))
        for path, module in model.named_modules()
    ]


@pytest.mark.parametrize("name", ["llava", "mllama", "florence2", "blip-2"])
def test_measuring_leaves_no_trace_on_the_model(name: str) -> None:
    specimen = build(name)
    specimen.generate(**specimen.inputs)
    before = hooks_and_attributes(specimen.model)

    measure(specimen)

    assert hooks_and_attributes(specimen.model) == before


def test_a_model_that_copies_its_hook_tables_is_refused_and_left_clean(llava: Specimen) -> None:
    model = llava.model

    def copy_tables() -> None:
        model._forward_hooks = OrderedDict(model._forward_hooks)

    llava.generate(**llava.inputs)
    before = hooks_and_attributes(model)
    with (
        delayed(block_modules(llava)[0], copy_tables),
        pytest.raises(InvalidMeasurement, match=r"of our hooks stayed on the model \(Llava"),
    ):
        measure(llava)

    assert hooks_and_attributes(model) == before


@pytest.mark.parametrize("n_blocks_before", [1, 13, 40, 75])
def test_an_exception_half_way_leaves_no_trace(llava: Specimen, n_blocks_before: int) -> None:
    """Raised while the phases are found (1, 13), in an unmeasured call (40), in a round (75)."""
    llava.generate(**llava.inputs)
    before = hooks_and_attributes(llava.model)
    with (
        delayed(block_modules(llava)[2], raise_after(n_blocks_before)),
        pytest.raises(RuntimeError, match=r"half-way"),
    ):
        measure_generate(llava.generate, kwargs=llava.inputs, rounds=9)

    assert hooks_and_attributes(llava.model) == before


def raise_after(n_calls: int) -> Callable[[], None]:
    left = iter(range(n_calls))

    def count() -> None:
        if next(left, None) is None:
            raise RuntimeError("half-way")

    return count


def test_a_disturbed_round_is_discarded_and_kept_in_the_record(
    llava: Specimen, clock: FakeClock
) -> None:
    n_calls = 0

    def disturb_once() -> None:
        nonlocal n_calls
        n_calls += 1
        clock.advance_ms(50 if n_calls == 5 else 1)

    with (
        delayed(vision_module(llava), lambda: None),
        delayed(block_modules(llava)[0], lambda: clock.advance_ms(10)),
        before_inputs(llava, disturb_once),
    ):
        case = measure_generate(llava.generate, kwargs=llava.inputs, rounds=4, clock=clock)

    assert len(case.calls) == 4
    assert [call.discarded_because for call in case.discarded] == [
        "other took 50.00 cpu_ms, more than its bound of 5.00 where the median is 1.00"
    ]


def test_too_many_disturbed_rounds_fail_the_case(llava: Specimen, clock: FakeClock) -> None:
    """Every other round has 49 ms more before its prompt: a cost that does not repeat."""
    times_ms = itertools.chain([1] * 4, itertools.cycle([50, 1]))
    with (
        delayed(block_modules(llava)[0], lambda: clock.advance_ms(10)),
        before_inputs(llava, lambda: clock.advance_ms(next(times_ms))),
        pytest.raises(InvalidMeasurement, match=r"2 rounds were discarded and 1 kept.*other took"),
    ):
        measure(llava, clock=clock)


@pytest.mark.parametrize("other_ms", [6, 150, 3000])
def test_a_cost_that_every_call_has_is_no_disturbance(
    llava: Specimen, clock: FakeClock, other_ms: int
) -> None:
    with (
        delayed(block_modules(llava)[0], lambda: clock.advance_ms(10)),
        before_inputs(llava, lambda: clock.advance_ms(other_ms)),
    ):
        case = measure_generate(llava.generate, kwargs=llava.inputs, rounds=3, clock=clock)

    assert [call.other_ms for call in case.calls] == [other_ms] * 3
    assert not case.discarded


@pytest.mark.parametrize("n_rounds", [1, 2, 9])
def test_a_disturbance_is_told_by_what_the_case_repeats(
    llava: Specimen, clock: FakeClock, n_rounds: int
) -> None:
    """150 ms repeat, and the first round takes 350: no more than one of a single round, too."""
    times_ms = itertools.chain([150] * 4, [350], itertools.repeat(150))
    with (
        delayed(block_modules(llava)[0], lambda: clock.advance_ms(10)),
        before_inputs(llava, lambda: clock.advance_ms(next(times_ms))),
    ):
        case = measure_generate(llava.generate, kwargs=llava.inputs, rounds=n_rounds, clock=clock)

    assert [call.other_ms for call in case.calls] == [150] * n_rounds
    assert [call.other_ms for call in case.discarded] == [350]


def spans_of_other(case: Case) -> dict[str, float]:
    call = case.calls[0]
    return {span.name: call.phase_time(span.name, WALL) for span in call.spans if "." in span.name}


def test_a_long_other_is_timed_by_the_parts_of_generate(llava: Specimen, clock: FakeClock) -> None:
    criteria = llava.model._get_stopping_criteria
    assert callable(criteria)

    def slow_criteria(*args: object, **kwargs: object) -> object:
        clock.advance_ms(200)
        return criteria(*args, **kwargs)

    vars(llava.model)["_get_stopping_criteria"] = slow_criteria
    with (
        delayed(block_modules(llava)[0], lambda: clock.advance_ms(10)),
        before_inputs(llava, lambda: clock.advance_ms(30)),
    ):
        case = measure_generate(llava.generate, kwargs=llava.inputs, rounds=2, clock=clock)

    parts = spans_of_other(case)
    assert case.calls[0].other_ms == 230
    assert (parts["other.stopping_criteria"], parts["other.settings"]) == (200, 30)
    assert sum(parts.values()) == 230


def test_a_short_other_has_no_parts(llava: Specimen, clock: FakeClock) -> None:
    with (
        delayed(block_modules(llava)[0], lambda: clock.advance_ms(10)),
        before_inputs(llava, lambda: clock.advance_ms(5)),
    ):
        case = measure_generate(llava.generate, kwargs=llava.inputs, rounds=1, clock=clock)

    assert not spans_of_other(case)


@contextmanager
def before_inputs(specimen: Specimen, delay: Callable[[], None]) -> Iterator[None]:
    """Delay the preamble of generate(), where no phase is at work."""
    prepare = specimen.model._prepare_generation_config
    assert callable(prepare)

    @functools.wraps(prepare)
    def slower(*args: object, **kwargs: object) -> object:
        delay()
        return prepare(*args, **kwargs)

    vars(specimen.model)["_prepare_generation_config"] = slower
    try:
        yield
    finally:
        del vars(specimen.model)["_prepare_generation_config"]
