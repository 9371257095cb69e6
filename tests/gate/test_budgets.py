from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_vlmlatency.gate.verdicts import budgets_for_others, budgets_of, device_names
from pytest_vlmlatency.records import Place, Span
from pytest_vlmlatency.terms import gate_terms
from tests.cases import a_call, a_case
from tests.gate.runs import ENVIRONMENT

WITH_GPUS = replace(
    ENVIRONMENT,
    devices=(
        {"device": "cuda:0", "name": "NVIDIA H200"},
        {"device": "cuda:1", "name": "NVIDIA A100"},
    ),
)


@pytest.mark.parametrize(
    ("device", "names"),
    [
        ("cpu", ("A processor", "cpu", "*")),
        ("cuda:0", ("NVIDIA H200", "cuda", "*")),
        ("cuda:1", ("NVIDIA A100", "cuda", "*")),
        ("mps", ("mps", "*")),
    ],
)
def test_a_device_is_called_by_its_model_its_kind_or_any(
    device: str, names: tuple[str, ...]
) -> None:
    assert device_names(device, WITH_GPUS) == names


def test_the_budget_of_the_devices_own_model_comes_before_that_of_any_device() -> None:
    terms = gate_terms(budget_ms={"ttft": {"*": 10, "NVIDIA H200": 50}})
    case = a_case(device="cuda:0", terms=terms)

    (budget,) = budgets_of(case, WITH_GPUS)

    assert (budget.device, budget.budget_ms, budget.is_over) == ("NVIDIA H200", 50, False)


def test_a_budget_for_another_model_says_nothing_and_that_is_said() -> None:
    case = a_case(device="cuda:1", terms=gate_terms(budget_ms={"ttft": {"NVIDIA H200": 50}}))

    assert budgets_of(case, WITH_GPUS) == ()
    assert budgets_for_others(case, WITH_GPUS) == (
        "budget_ms of ttft is for NVIDIA H200, and says nothing of NVIDIA A100",
    )


def test_a_quantity_that_did_not_occur_does_not_keep_its_budget() -> None:
    case = a_case(terms=gate_terms(budget_ms={"text_encoder": 5}))

    (budget,) = budgets_of(case, ENVIRONMENT)

    assert (budget.measured_ms, budget.is_over) == (None, True)


def test_a_span_of_the_users_own_is_bounded_by_its_median_in_wall_time() -> None:
    calls = [a_call(extra_spans=[_span(ms)], cpu_share=None) for ms in (4.0, 5.0, 9.0)]
    case = a_case(calls, terms=gate_terms(budget_ms={"preprocess": 6}))

    (budget,) = budgets_of(case, ENVIRONMENT)

    assert (budget.measured_ms, budget.is_over) == (5.0, False)


def _span(ms: float) -> Span:
    return Span(name="preprocess", start_ms=0.0, measures={"wall_ms": ms}, place=Place.OUTSIDE)
