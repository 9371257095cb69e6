"""Tensors in, tensors out: the same numbers, on their device, with gradients."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.columns import Knob
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL, TARGETS
from pytest_vlmlatency.estimator.roofline import RooflineEstimator
from pytest_vlmlatency.estimator.tensors import of_roofline
from pytest_vlmlatency.estimator.terms import Factor, Law, Shape
from tests.estimator.machines import simulated
from tests.estimator.test_roofline import A_CONFIG

N_ROWS = 200


@pytest.fixture(scope="module")
def with_cliff() -> RooflineEstimator:
    return RooflineEstimator().fit(simulated(800, seed=4, cliff=0.5))


def some_columns() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "vision_tokens": random.integers(50, 1500, N_ROWS).astype(float),
        "text_tokens": random.integers(5, 200, N_ROWS).astype(float),
        "tier_idx": random.integers(0, 3, N_ROWS).astype(float),
        "top_k": random.integers(2, 16, N_ROWS).astype(float),
        "num_active_blocks": random.integers(4, 20, N_ROWS).astype(float),
    }


def as_tensors(columns: dict[str, np.ndarray], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(values, dtype=dtype) for name, values in columns.items()}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.int64])
def test_tensors_give_the_numbers_of_arrays(
    with_cliff: RooflineEstimator, dtype: torch.dtype
) -> None:
    columns = some_columns()

    predicted = with_cliff.predict_from_config(as_tensors(columns, dtype))

    expected = with_cliff.predict_batch(columns)
    for target in TARGETS:
        tensor = predicted[target]
        assert isinstance(tensor, torch.Tensor)
        assert tensor.numpy() == pytest.approx(expected[target], rel=1e-5)


def test_quantiles_of_tensors_are_those_of_arrays(with_cliff: RooflineEstimator) -> None:
    columns = some_columns()

    high = with_cliff.predict_quantile(as_tensors(columns, torch.float64), 0.95)

    expected = with_cliff.predict_quantile(columns, 0.95)
    for target in TARGETS:
        assert np.asarray(high[target]) == pytest.approx(expected[target], rel=1e-9)


def test_budgets_of_tensors_are_those_of_arrays(with_cliff: RooflineEstimator) -> None:
    columns = some_columns()
    tensors = as_tensors(columns, torch.float64)

    inside = with_cliff.check_budget_feasibility(tensors, 150.0, 8, prefill_share=0.8)
    longest = with_cliff.max_output_tokens(tensors, torch.full((N_ROWS,), 150.0))

    assert isinstance(inside, torch.Tensor)
    assert isinstance(longest, torch.Tensor)
    expected = with_cliff.check_budget_feasibility(columns, 150.0, 8, prefill_share=0.8)
    assert inside.tolist() == np.asarray(expected).tolist()
    assert longest.tolist() == np.asarray(with_cliff.max_output_tokens(columns, 150.0)).tolist()


def test_what_was_learnt_online_counts_for_tensors_too(updated: RooflineEstimator) -> None:
    for record in simulated(5, seed=9, factor=1.2):
        updated.update(record)
    columns = some_columns()

    predicted = updated.predict_batch(as_tensors(columns, torch.float64))

    assert np.asarray(predicted[PREFILL]) == pytest.approx(updated.predict_batch(columns)[PREFILL])


def test_scalars_beside_tensors_are_broadcast(with_cliff: RooflineEstimator) -> None:
    predicted = with_cliff.predict({**A_CONFIG, "top_k": torch.tensor([[4.0], [8.0]])})

    assert np.shape(predicted[PREFILL]) == (2, 1)  # type: ignore[call-overload]  # a tensor


def test_a_gradient_is_the_slope_of_the_prediction(fitted: RooflineEstimator) -> None:
    blocks = torch.tensor([12.0], dtype=torch.float64, requires_grad=True)

    predicted = fitted.predict({**A_CONFIG, "num_active_blocks": blocks})[DECODE_STEP]
    assert isinstance(predicted, torch.Tensor)
    (slope,) = torch.autograd.grad(predicted.sum(), blocks)

    beside = fitted.predict_batch({**A_CONFIG, "num_active_blocks": [12.0, 12.5]})[DECODE_STEP]
    assert slope.item() == pytest.approx((beside[1] - beside[0]) / 0.5)


def test_a_budget_may_carry_a_gradient_into_a_penalty(fitted: RooflineEstimator) -> None:
    weights = torch.zeros(3, requires_grad=True)
    latency = fitted.predict({**A_CONFIG, "num_active_blocks": torch.tensor([8.0, 12.0, 16.0])})
    prefill_ms = latency[PREFILL]
    assert isinstance(prefill_ms, torch.Tensor)

    (slopes,) = torch.autograd.grad((weights.softmax(0) * prefill_ms).sum(), weights)

    assert slopes[0] < 0 < slopes[2]


def test_everything_stays_on_its_device(fitted: RooflineEstimator) -> None:
    """The meta device has no values: whatever looked at one would fail."""
    columns = {
        name: value.to("meta") for name, value in as_tensors(some_columns(), torch.float32).items()
    }

    high = fitted.predict_quantile(columns, 0.95)
    inside = fitted.check_budget_feasibility(columns, 100.0, 8, quantile=0.95)

    assert isinstance(inside, torch.Tensor)
    assert {str(np_like.device) for np_like in high.values()} == {"meta"}
    assert inside.device.type == "meta"
    assert inside.shape == (N_ROWS,)


@pytest.mark.parametrize("shape", [Shape.ABOVE, Shape.AT_LEAST, Shape.ROUNDED_UP])
def test_every_shape_is_the_same_for_tensors(fitted: RooflineEstimator, shape: Shape) -> None:
    law = Law(((Factor("tokens", shape, 64.0), Factor("top_k")),), (0.5,))
    model = replace(fitted.model, prefill=law)
    columns = some_columns()

    predicted = of_roofline(model, as_tensors(columns, torch.float64), ())[PREFILL]

    assert predicted.tolist() == model.predict(columns)[PREFILL].tolist()


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_values_that_mean_nothing_are_refused(fitted: RooflineEstimator, value: float) -> None:
    with pytest.raises(EstimatorProblem, match="top_k has values that are below 0 or not finite"):
        fitted.predict({**A_CONFIG, "top_k": torch.tensor([value])})


def test_a_category_goes_beside_tensors() -> None:
    records = [
        record | {"dtype": dtype}
        for dtype, factor in (("float16", 1.0), ("float32", 2.0))
        for record in simulated(100, factor=factor)
    ]
    estimator = RooflineEstimator(knobs=[Knob("dtype", is_category=True)]).fit(records)
    asked = {**A_CONFIG, "dtype": ["float16", "float32"]}

    predicted = estimator.predict({**asked, "top_k": torch.tensor([8.0, 8.0])})[PREFILL]

    assert np.asarray(predicted) == pytest.approx(estimator.predict_batch(asked)[PREFILL], rel=1e-5)


def test_torch_is_not_imported_for_arrays() -> None:
    code = (
        "import sys; from pytest_vlmlatency.estimator import RooflineEstimator as E; "
        "from tests.estimator.machines import simulated; "
        "E().fit(simulated(50)).max_output_tokens(dict(vision_tokens=9, text_tokens=9, top_k=8, "
        "num_active_blocks=8), 100); sys.exit('torch' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=120)

    assert done.returncode == 0
