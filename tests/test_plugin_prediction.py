"""`pytest --vlm-predict`: what an estimator expected beside what was measured, or why it cannot."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vlmlatency.estimator import Knob, LatencyEstimator, RooflineEstimator
from pytest_vlmlatency.estimator.training import TrainingPlan
from pytest_vlmlatency.export import read_records
from tests.estimator.machines import simulated
from tests.projects import in_subprocess, project, table_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TWO = """\
def test_caption(vlm_latency):
    vlm_latency(model.generate)

def test_chat(vlm_latency):
    vlm_latency(model.generate)
"""
KNOBS = """\
def test_knobs(vlm_latency):
    vlm_latency.interleaved(model.generate, [Knob(1), Knob(2)])
"""
TIMES = ("T_vision_total", "T_LLM_prefill", "T_LLM_decode")
DERIVED = ("T_prefill_total", "T_decode_per_token", "T_decode_per_step")
OTHERS = ("schema_version", "T_total", "T_other", *DERIVED)


def _like(pytester: pytest.Pytester) -> dict[str, Any]:
    """Return a record of the case that a project measures, on this machine."""
    project(pytester)
    pytester.runpytest_inprocess("--vlm-export=records.jsonl", "--vlm-history=none")
    record = next(iter(read_records(pytester.path / "records.jsonl")))
    return {name: value for name, value in record.items() if name not in OTHERS}


def _estimator(
    pytester: pytest.Pytester,
    *,
    slowdown: float = 1.0,
    n_more_tokens: int = 0,
    knobs: tuple[Knob, ...] = (),
    fields: Mapping[str, object] | None = None,
) -> Path:
    """Fit an estimator on records like the project's case; return its file."""
    base = {**_like(pytester), **(fields or {})}
    noise = random.Random(3407)
    records = [
        {
            **base,
            "source": f"made/{number}",
            "actual_vision_tokens": base["actual_vision_tokens"] + n_more_tokens + number % 4,
            **{name: base[name] * slowdown * noise.uniform(0.98, 1.02) for name in TIMES},
        }
        for number in range(60)
    ]
    path = pytester.path / "estimator.json"
    RooflineEstimator(knobs=knobs).fit(records).save(path)
    return path


def _predict(pytester: pytest.Pytester, *more: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess(
        "--vlm-predict=estimator.json", "--vlm-history=none", "--vlm-json=run.json", *more
    )


def _predictions(pytester: pytest.Pytester) -> list[Mapping[str, Any]]:
    run = json.loads((pytester.path / "run.json").read_text(encoding="utf-8"))
    return [case["prediction"] for case in run["cases"]]


def test_a_case_within_its_interval_is_predicted_and_not_flagged(
    pytester: pytest.Pytester,
) -> None:
    _estimator(pytester)

    result = _predict(pytester)

    assert result.ret == pytest.ExitCode.OK
    (told,) = _predictions(pytester)
    assert told["p5_ms"] < told["measured_ms"] < told["p95_ms"]
    assert (told["standing"], told["refused_because"], told["outside"]) == ("within", "", [])
    table = table_of(result)
    assert "predicted" in table[1]
    assert f"{told['p50_ms']:.2f} ≤{told['p95_ms']:.2f}" in table[3]
    result.stdout.no_fnmatch_line("*than-predicted*")
    result.stdout.no_fnmatch_line("*Off by*")


@pytest.mark.parametrize(("slowdown", "standing"), [(0.5, "slower"), (2.0, "faster")])
def test_a_case_off_by_more_than_the_interval_is_flagged_and_passes(
    pytester: pytest.Pytester, slowdown: float, standing: str
) -> None:
    _estimator(pytester, slowdown=slowdown)

    result = _predict(pytester)

    assert result.ret == pytest.ExitCode.OK
    assert [told["standing"] for told in _predictions(pytester)] == [standing]
    result.stdout.fnmatch_lines(
        [
            f"  {standing}-than-predicted",
            f"{standing}-than-predicted: the measured median lies *",
            "Off by more than the predicted interval: 1 of 1.",
            f"  test_caption: {standing} than predicted: * ms measured, * ms predicted (* to *)",
        ]
    )


def test_workers_are_judged_by_the_controller(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    _estimator(pytester, slowdown=0.5)
    project(pytester, TWO)

    result = in_subprocess(
        pytester,
        monkeypatch,
        *("-n", "2", "--vlm-predict=estimator.json", "--vlm-json=run.json", "--vlm-history=none"),
    )

    result.assert_outcomes(passed=2)
    assert [told["standing"] for told in _predictions(pytester)] == ["slower", "slower"]
    result.stdout.fnmatch_lines(["Off by more than the predicted interval: 2 of 2."])


def test_an_estimator_of_another_machine_judges_nothing_and_says_so(
    pytester: pytest.Pytester,
) -> None:
    _estimator(pytester, slowdown=0.5, fields={"machine": "000000000000"})

    result = _predict(pytester)

    (told,) = _predictions(pytester)
    assert told["standing"] == "not judged"
    assert told["measured_ms"] > told["p95_ms"]
    result.stdout.fnmatch_lines(
        ["*estimator.json was measured on another machine, 000000000000, and this is *"]
    )
    result.stdout.no_fnmatch_line("*Off by*")


def test_a_case_beyond_what_was_measured_is_marked_with_its_numbers(
    pytester: pytest.Pytester,
) -> None:
    _estimator(pytester, n_more_tokens=100)

    result = _predict(pytester)

    (told,) = _predictions(pytester)
    assert any(one.startswith("vision_tokens is ") for one in told["outside"])
    result.stdout.fnmatch_lines(
        [
            "  *extrapolated",
            "Note on test_caption: outside of what was measured: vision_tokens is * from * to *.",
        ]
    )


def test_a_configuration_that_the_estimator_does_not_know_is_not_predicted(
    pytester: pytest.Pytester,
) -> None:
    _estimator(pytester)
    project(pytester, KNOBS)

    result = _predict(pytester)

    assert [told["p50_ms"] for told in _predictions(pytester)] == [None, None]
    result.stdout.fnmatch_lines(
        [
            "  not-predicted",
            "Note on *: not predicted: its configuration sets knob, which is no input of "
            "estimator.json.",
        ]
    )


def test_a_case_that_lacks_an_input_is_not_predicted(pytester: pytest.Pytester) -> None:
    _estimator(pytester, fields={"top_k": 8})

    result = _predict(pytester)

    result.stdout.fnmatch_lines(["Note on test_caption: not predicted: the inputs lack top_k; *"])


def test_a_level_that_was_never_measured_is_not_predicted(pytester: pytest.Pytester) -> None:
    _estimator(pytester, fields={"dtype": "float16"}, knobs=(Knob("dtype", is_category=True),))

    result = _predict(pytester)

    result.stdout.fnmatch_lines(["Note on test_caption: not predicted: dtype is *never measured*"])


@pytest.mark.parametrize(
    ("name", "value"),
    [("model", "Other"), ("n_parameters", 7_000_000_000), ("n_threads", 64), ("batch_size", 7)],
)
def test_an_estimator_of_other_conditions_is_not_asked(
    pytester: pytest.Pytester, name: str, value: object
) -> None:
    _estimator(pytester, fields={name: value})

    result = _predict(pytester)

    assert [told["standing"] for told in _predictions(pytester)] == ["not judged"]
    result.stdout.fnmatch_lines(
        [
            f"Note on test_caption: not predicted: its {name} is *, and all records of "
            f"estimator.json have {value}."
        ]
    )


def test_cpu_times_are_compared_with_cpu_times(pytester: pytest.Pytester) -> None:
    _estimator(
        pytester, slowdown=0.5, fields={"measure": "cpu_ms"}
    )  # half of the wall time is CPU time

    result = _predict(pytester)

    (told,) = _predictions(pytester)
    assert (told["measure"], told["standing"], told["measured_ms"]) == ("cpu_ms", "within", 30.0)
    result.stdout.fnmatch_lines(["Note on test_caption: predicted and compared as cpu_ms."])


def test_times_that_a_case_does_not_have_are_not_predicted(pytester: pytest.Pytester) -> None:
    _estimator(pytester, fields={"measure": "device_ms"})

    result = _predict(pytester)

    result.stdout.fnmatch_lines(["Note on test_caption: not predicted: *it has no device_ms*"])


def test_without_the_option_nothing_is_said_of_predictions(pytester: pytest.Pytester) -> None:
    project(pytester)

    result = pytester.runpytest_inprocess("--vlm-json=run.json", "--vlm-history=none")

    assert _predictions(pytester) == [None]
    result.stdout.no_fnmatch_line("*predicted*")


def test_a_run_that_measured_nothing_says_so(pytester: pytest.Pytester) -> None:
    _estimator(pytester)
    project(pytester, "def test_other():\n    pass\n")

    result = _predict(pytester)

    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["--vlm-predict: nothing was measured beside which to predict."])


def test_a_file_that_is_no_estimator_ends_the_run_before_a_test(pytester: pytest.Pytester) -> None:
    project(pytester)
    (pytester.path / "estimator.json").write_text('{"format": "mine"}', encoding="utf-8")

    result = _predict(pytester)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --vlm-predict: *estimator.json is no estimator that can be trusted: *'mine'*"]
    )


@pytest.mark.parametrize(
    ("recipe", "is_fitted", "message"),
    [
        ("mended", False, "*this network, of the mended recipe, was not calibrated since *"),
        (
            "origin",
            True,
            "*'T_decode_per_step' was asked of an estimator trained with the origin *",
        ),
    ],
)
def test_a_network_that_cannot_be_compared_ends_the_run_before_a_test(
    pytester: pytest.Pytester, recipe: str, *, is_fitted: bool, message: str
) -> None:
    plan = TrainingPlan(batch_size=64, num_epochs=40, lr=1e-2)
    network = LatencyEstimator(16, recipe=recipe, plan=plan)
    if is_fitted:
        network.fit(simulated(100))
    project(pytester)
    network.save(pytester.path / "estimator.json")

    result = _predict(pytester)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --vlm-predict: {message}"])


def test_a_file_that_is_not_there_is_a_usage_error(pytester: pytest.Pytester) -> None:
    project(pytester)

    result = _predict(pytester)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*argument --vlm-predict: expected a file that exists, *"])
