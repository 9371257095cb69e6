"""What the evidence claims can be false: each claim fails on figures that should fail it."""

from dataclasses import replace

import pytest

from benchmarks.evidence import cost, delays, delays_zoo, origin_mistake, startup
from benchmarks.evidence._delays import Delay, Figures, ModelFigures, Part, Row, Waiter, judge
from benchmarks.evidence._statistics import Interval
from pytest_vlmlatency.records import CPU, WALL
from tests.zoo import build, vision_module

PLAN = replace(delays.PLAN, tolerance_ratio=0.02, tolerance_ms=0.5)


def a_row(**changes_ms: float) -> Row:
    """Return a delay of 60 ms in vision, and what each phase showed."""
    return Row(model="m", part="vision", put_in_ms=60, changes_ms=changes_ms)


def a_model(*rows: Row, refused: str = "") -> ModelFigures:
    """Return one model with these delays."""
    return ModelFigures(
        model="m",
        undelayed_ms={},
        control_ms={},
        rows=rows,
        n_rounds=1,
        n_discarded=0,
        refused=refused,
    )


@pytest.mark.parametrize(
    ("row", "held"),
    [
        (a_row(vision=60.89, prefill=0.0), (True, True)),
        (a_row(vision=60.91, prefill=0.0), (False, True)),
        (a_row(vision=59.09, prefill=0.0), (False, True)),
        (a_row(vision=60.0, prefill=-0.91), (True, False)),
        (a_row(vision=0.0, prefill=60.0), (False, False)),
    ],
)
def test_a_delay_must_come_back_within_its_tolerance_and_nowhere_else(
    row: Row, held: tuple[bool, bool]
) -> None:
    claims = delays.judge(Figures(n_turns=1, models=(a_model(row),)))

    assert tuple(claim.holds for claim in claims) == held


@pytest.mark.parametrize(
    ("row", "held"),
    [
        (a_row(vision=61.69, prefill=0.0), (True, True)),
        (a_row(vision=61.71, prefill=0.0), (False, True)),
        (a_row(vision=60.0, prefill=1.71), (True, False)),
    ],
)
def test_the_tolerance_is_that_of_the_plan(row: Row, held: tuple[bool, bool]) -> None:
    claims = judge(Figures(n_turns=1, models=(a_model(row),)), PLAN)

    assert tuple(claim.holds for claim in claims) == held


def test_a_model_that_could_not_be_measured_is_no_pass() -> None:
    seen = a_model(a_row(vision=60.0, prefill=0.0))
    refused = a_model(refused="vision ran twice")

    claims = judge(Figures(n_turns=1, models=(seen, refused)), PLAN)

    assert not claims[0].holds
    assert "m: vision ran twice" in claims[0].seen


def test_no_models_at_all_are_no_pass() -> None:
    claims = judge(Figures(n_turns=1, models=()), PLAN)

    assert not any(claim.holds for claim in claims)


def test_the_delays_of_all_architectures_are_judged_by_2_percent_and_half_a_millisecond() -> None:
    plan = delays_zoo.PLAN

    assert (plan.tolerance_ratio, plan.tolerance_ms) == (0.02, 0.5)
    assert plan.n_turns >= 5


def test_the_delay_of_decode_is_that_of_all_its_steps() -> None:
    assert delays.PLAN.put_in_ms("decode") == 3 * delays.PLAN.delay_ms[Part.DECODE]
    assert delays.PLAN.put_in_ms("vision") == delays.PLAN.delay_ms[Part.VISION]


def test_a_delay_is_read_back_from_the_module_and_taken_off_again() -> None:
    specimen = build("llava")
    delay = Delay(specimen, Waiter(specimen), Part.VISION, 1.0)

    with delay.apply(specimen.model):
        assert delay.read_back(specimen.model) == {"slow": "vision"}

    assert delay.read_back(specimen.model) == {"slow": "off"}
    assert "forward" not in vars(vision_module(specimen))


def exactly(value: float) -> Interval:
    """Return an interval without width."""
    return Interval(middle=value, low=value, high=value)


@pytest.mark.parametrize(
    ("wrapped", "control", "is_free"),
    [
        (exactly(1.004), exactly(1.0), True),
        (exactly(1.006), exactly(1.0), False),
        (exactly(0.994), exactly(1.0), False),
        (exactly(1.006), Interval(middle=1.0, low=0.99, high=1.01), True),
    ],
)
def test_wrapped_calls_are_free_within_the_bound_or_within_the_control(
    wrapped: Interval, control: Interval, *, is_free: bool
) -> None:
    assert cost.is_free(wrapped, control) is is_free


def test_drift_within_a_block_cancels_in_its_ratios() -> None:
    now_ms = 10.0

    def drifting() -> dict[str, float]:
        nonlocal now_ms
        now_ms += 1
        return {CPU: now_ms, WALL: now_ms}

    blocks = cost.run_blocks(dict.fromkeys(cost.Kind, drifting), 8)

    ratio = cost.ratio_of(blocks, cost.Kind.WRAPPED, CPU)
    assert ratio.ratio == exactly(1.0)
    assert ratio.difference_ms == 0


def a_trial_row(subtracted: tuple[float, ...], one_flow: tuple[float, ...]) -> origin_mistake.Row:
    """Return decode times at two tokens, by both ways."""
    return origin_mistake.Row(
        n_tokens=2,
        measure=CPU,
        subtracted=origin_mistake.Way(decode_ms=subtracted),
        one_flow=origin_mistake.Way(decode_ms=one_flow),
    )


@pytest.mark.parametrize(
    ("row", "held"),
    [
        (a_trial_row((-3.0, 5.0, 9.0), (4.0, 5.0, 6.0)), (True, True)),
        (a_trial_row((-3.0, 5.0, 9.0), (0.0, 5.0, 6.0)), (False, True)),
        (a_trial_row((4.0, 5.0, 6.0), (3.0, 5.0, 9.0)), (True, False)),
    ],
)
def test_one_flow_must_give_possible_times_that_spread_less(
    row: origin_mistake.Row, held: tuple[bool, bool]
) -> None:
    figures = origin_mistake.Figures(model="m", photograph="p", n_runs=1, rows=(row,))

    claims = origin_mistake.judge(figures)

    assert tuple(claim.holds for claim in claims) == held


def test_a_value_of_nothing_or_less_is_impossible() -> None:
    assert origin_mistake.Way(decode_ms=(-1.0, 0.0, 1.0, 2.0)).impossible_ratio == 0.5


@pytest.mark.parametrize(
    ("added_ms", "imported", "held"),
    [(5.0, (), (True, True)), (5.1, (), (False, True)), (1.0, ("torch",), (True, False))],
)
def test_the_start_up_must_stay_short_and_light(
    added_ms: float, imported: tuple[str, ...], held: tuple[bool, bool]
) -> None:
    added = startup.Added(
        name="pytest-vlmlatency",
        without_ms=(200.0,) * 6,
        with_ms=(200.0,) * 5 + (200.0 + added_ms,),
        full_collections=(2, 2),
    )
    figures = startup.Figures(added=(added,), imported=imported, plugins=())

    claims = startup.judge(figures)

    assert tuple(claim.holds for claim in claims) == held
