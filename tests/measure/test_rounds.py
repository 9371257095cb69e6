"""What every round must share with the others, when to stop, and how many may be discarded."""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest
import torch

from pytest_vlmlatency import InvalidMeasurement, measure_generate
from pytest_vlmlatency.measure.case import Identity
from pytest_vlmlatency.measure.run import measure_interleaved
from pytest_vlmlatency.measure.stopping import MIN_ROUNDS, stop_reason
from pytest_vlmlatency.options import Options
from pytest_vlmlatency.records import Case
from tests.builders import FakeClock, delayed
from tests.measure.test_configurations import Knob
from tests.zoo import Specimen, block_modules, vision_module

CALLS_BEFORE_ROUNDS = 4
"""One watched, two unmeasured, one rehearsal."""


@contextmanager
def calls_that_do(specimen: Specimen, do: Callable[[int], None]) -> Iterator[None]:
    """Let `do` run in the preamble of each call, told its round: 1 for the first measured one."""
    prepare = specimen.model._prepare_generation_config
    assert callable(prepare)
    n_calls = 0

    @functools.wraps(prepare)
    def told(*args: object, **kwargs: object) -> object:
        nonlocal n_calls
        n_calls += 1
        do(n_calls - CALLS_BEFORE_ROUNDS)
        return prepare(*args, **kwargs)

    vars(specimen.model)["_prepare_generation_config"] = told
    try:
        yield
    finally:
        del vars(specimen.model)["_prepare_generation_config"]


def measure_disturbed(
    specimen: Specimen, clock: FakeClock, disturbed: set[int], *, rounds: int | None
) -> Case:
    """Measure with 10 ms in a block, and 50 ms in the preamble of some rounds."""
    with (
        delayed(block_modules(specimen)[0], lambda: clock.advance_ms(10)),
        calls_that_do(specimen, lambda which: clock.advance_ms(50 * (which in disturbed))),
    ):
        return measure_generate(
            specimen.generate, kwargs=specimen.inputs, rounds=rounds, clock=clock
        )


def test_weights_that_change_in_a_later_round_are_refused(llava: Specimen) -> None:
    def flip(parameter: torch.Tensor, *, which: int) -> None:
        with torch.no_grad():
            parameter.mul_(-3 if which == 3 else 1)

    parameters = list(block_modules(llava)[0].parameters())

    def flip_in_the_third_round(which: int) -> None:
        for parameter in parameters:
            flip(parameter, which=which)

    with (
        calls_that_do(llava, flip_in_the_third_round),
        pytest.raises(InvalidMeasurement, match=r"the measured call returned other tokens"),
    ):
        measure_generate(llava.generate, kwargs=llava.inputs, rounds=5)


def test_a_cache_flush_in_every_setup_of_cases_in_turn_is_noted_for_each(llava: Specimen) -> None:
    measured = measure_interleaved(
        llava.generate,
        kwargs=llava.inputs,
        configs=[Knob(1), Knob(2)],
        options=Options(rounds=3, setup=lambda: torch.cuda.empty_cache()),
        identity=Identity(id="test", name="test"),
    )

    notes = [one.case.notes for one in measured]
    assert notes == [("empty_cache() was called 1 times before every round",)] * 2


def test_a_partial_joins_the_arguments_that_setup_returns(llava: Specimen) -> None:
    def setup() -> tuple[tuple[()], Mapping[str, object]]:
        return (), llava.inputs

    generate = functools.partial(llava.generate, max_new_tokens=4)
    case = measure_generate(generate, setup=setup, rounds=2)

    assert [call.n_output_tokens for call in case.calls] == [4, 4]


def test_a_slow_first_round_does_not_keep_measuring_going(
    llava: Specimen, clock: FakeClock
) -> None:
    n_runs = 0

    def slow_once() -> None:
        nonlocal n_runs
        n_runs += 1
        clock.advance_ms(900 if n_runs == CALLS_BEFORE_ROUNDS + 1 else 60)

    with (
        delayed(vision_module(llava), slow_once),
        delayed(block_modules(llava)[0], lambda: clock.advance_ms(3)),
    ):
        case = measure_generate(llava.generate, kwargs=llava.inputs, clock=clock)

    assert [call.vision_ms for call in case.calls] == [900, *[60] * (MIN_ROUNDS - 1)]
    assert case.stop_reason == "noise of the median under 1.0%"


@pytest.mark.parametrize("outlier_ms", [6.0, 600.0])
def test_how_far_off_an_outlier_is_does_not_matter(outlier_ms: float) -> None:
    quiet = [5.0, 5.02, 5.04, 5.06] * 3
    noisy = [5.0, 5.5, 6.0, 6.5] * 3

    reasons = [
        stop_reason([outlier_ms, *times_ms], elapsed_s=0, max_time_s=20, is_cpu=True)
        for times_ms in (quiet, noisy)
    ]

    assert reasons == ["noise of the median under 1.0%", None]


def test_early_discards_are_judged_by_all_rounds_that_were_asked_for(
    llava: Specimen, clock: FakeClock
) -> None:
    case = measure_disturbed(llava, clock, {1, 2}, rounds=20)

    assert (len(case.calls), len(case.discarded)) == (20, 2)


def test_discards_are_judged_at_the_end_where_rounds_are_not_asked_for(
    llava: Specimen, clock: FakeClock
) -> None:
    with pytest.raises(InvalidMeasurement, match=r"^3 rounds were discarded and 10 kept"):
        measure_disturbed(llava, clock, {1, 2, 3}, rounds=None)


def test_one_discard_of_few_rounds_is_allowed(llava: Specimen, clock: FakeClock) -> None:
    case = measure_disturbed(llava, clock, {1}, rounds=None)

    assert (len(case.calls), len(case.discarded)) == (MIN_ROUNDS, 1)
