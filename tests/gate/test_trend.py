"""Series of a history's runs, and the commits between which their steps lie."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_vlmlatency.gate.trend import Wanted, series_of_runs
from pytest_vlmlatency.records import Rounds, RunRounds, Workload, run_rounds_of
from tests.cases import a_call, a_workload
from tests.runs import a_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

EVERYTHING = Wanted()
N_RUNS = 40
STEP_AT = 25


def nothing_between(_last_good: str, _first_bad: str) -> tuple[str, ...]:
    return ()


def commit(number: int) -> str:
    return f"{number:040x}"


def some_rounds(times_ms: Mapping[str, Sequence[float]], **fields: object) -> Rounds:
    given: dict[str, object] = {
        "case_id": "tests/test_x.py::test_caption",
        "case_name": "test_caption",
        "test": "tests/test_x.py::test_caption",
        "device": "cpu",
        "workload": a_workload(a_call()),
        "config": None,
        "n_threads": 1,
        "measure": "cpu_ms",
        "times_ms": {phase: tuple(times) for phase, times in times_ms.items()},
    }
    return Rounds(**{**given, **fields})  # type: ignore[arg-type]  # its fields, by name


def a_stored_run(number: int, *cases: Rounds, of: int | None = None) -> RunRounds:
    header = run_rounds_of(a_run(number, commit=commit(number if of is None else of))).header
    return RunRounds(header=header, cases=cases)


def runs_with_a_step(*, ratio: float, seed: int = 7, **fields: object) -> list[RunRounds]:
    """Return runs whose decode takes `ratio` times as long from STEP_AT on, vision the same."""
    noise = random.Random(seed)
    return [
        a_stored_run(number, some_rounds(_times(noise, number, ratio), **fields))
        for number in range(N_RUNS)
    ]


def _times(noise: random.Random, number: int, ratio: float) -> dict[str, list[float]]:
    decode_ms = 300 * (ratio if number >= STEP_AT else 1) * noise.gauss(1, 0.005)
    vision_ms = 80 * noise.gauss(1, 0.005)
    return {"vision": [vision_ms] * 6, "decode": [decode_ms * noise.gauss(1, 0.01)] * 6}


def test_a_step_is_found_in_its_phase_alone_and_lies_between_its_commits() -> None:
    asked: list[tuple[str, str]] = []

    def between(last_good: str, first_bad: str) -> tuple[str, ...]:
        asked.append((last_good, first_bad))
        return ("3f2a1c9 Use a loop",)

    vision, decode = series_of_runs(runs_with_a_step(ratio=1.06), EVERYTHING, between)

    assert (vision.phase, vision.steps) == ("vision", ())
    (step,) = decode.steps
    assert step.position == STEP_AT
    assert step.low_ratio < 1.06 < step.high_ratio
    assert abs(step.after_ms / step.before_ms - 1.06) < 0.01
    assert (step.n_before, step.n_after) == (STEP_AT, N_RUNS - STEP_AT)
    assert asked == [(step.last_good, step.first_bad)]
    assert str(step.last_good) < commit(STEP_AT) <= str(step.first_bad)
    assert step.commits == ("3f2a1c9 Use a loop",)


def test_a_faster_step_is_told_and_is_no_alarm() -> None:
    _, decode = series_of_runs(runs_with_a_step(ratio=0.94), EVERYTHING, nothing_between)

    assert len(decode.steps) == 1
    assert not decode.is_slower


def test_without_a_step_there_is_none() -> None:
    series = series_of_runs(runs_with_a_step(ratio=1.0), EVERYTHING, nothing_between)

    assert [one.steps for one in series] == [(), ()]


def test_runs_that_were_disturbed_are_left_out_and_counted() -> None:
    runs = runs_with_a_step(ratio=1.0)
    hot = [
        RunRounds(
            header=run.header,
            cases=(replace(run.cases[0], throttle_reasons=("power cap",)),),
        )
        for run in runs[:4]
    ]

    vision, _ = series_of_runs([*hot, *runs[4:]], EVERYTHING, nothing_between)

    assert len(vision.points) == N_RUNS - 4
    assert vision.n_left_out == 4
    assert vision.left_out_because == {"throttled by power cap": 4}


def test_runs_that_did_other_work_than_the_latest_are_left_out() -> None:
    runs = runs_with_a_step(ratio=1.0)
    work: Workload = replace(a_workload(a_call()), batch_size=2)
    other = [
        RunRounds(header=run.header, cases=(replace(run.cases[0], workload=work),))
        for run in runs[:10]
    ]

    vision, _ = series_of_runs([*other, *runs[10:]], EVERYTHING, nothing_between)

    assert [point.run for point in vision.points] == [run.header.id for run in runs[10:]]
    assert vision.n_left_out == 10
    assert vision.left_out_because == {"of other work than the latest": 10}


def test_too_few_runs_are_not_looked_at_and_say_so() -> None:
    vision, _ = series_of_runs(runs_with_a_step(ratio=1.5)[-9:], EVERYTHING, nothing_between)

    assert vision.steps == ()
    assert vision.reason == "9 of at least 10 runs for two levels"


def test_only_the_named_cases_and_phases_are_looked_at() -> None:
    runs = runs_with_a_step(ratio=1.0)

    named = series_of_runs(runs, Wanted(cases=("caption",), phases=("decode",)), nothing_between)
    none = series_of_runs(runs, Wanted(cases=("page",)), nothing_between)

    assert [one.phase for one in named] == ["decode"]
    assert none == ()


def test_runs_without_commits_have_steps_without_ends() -> None:
    runs = [
        RunRounds(header=replace(run.header, commit=None), cases=run.cases)
        for run in runs_with_a_step(ratio=1.06)
    ]

    _, decode = series_of_runs(runs, EVERYTHING, nothing_between)

    (step,) = decode.steps
    assert (step.last_good, step.first_bad, step.commits) == (None, None, ())


OF_A_SUBMODULE = "one/tests/test_x.py::test_caption"


def test_runs_of_earlier_versions_are_in_the_series_of_a_case_that_has_another_id_now() -> None:
    times = {"total": [10.0] * 5}
    named = {"case_id": OF_A_SUBMODULE, "former_id": "tests/test_x.py::test_caption"}
    runs = [
        a_stored_run(0, some_rounds(times)),
        a_stored_run(1, some_rounds(times, **named)),
    ]

    (series,) = series_of_runs(runs, EVERYTHING, nothing_between)

    assert (series.case_id, len(series.points)) == (OF_A_SUBMODULE, 2)


def test_a_run_with_several_cases_under_one_id_is_left_out_of_its_series() -> None:
    runs = [
        a_stored_run(0, some_rounds({"total": [10.0] * 5}), some_rounds({"total": [90.0] * 5})),
        a_stored_run(1, some_rounds({"total": [10.0] * 5})),
    ]

    (series,) = series_of_runs(runs, EVERYTHING, nothing_between)

    assert [point.run for point in series.points] == [f"{1:016x}"]
