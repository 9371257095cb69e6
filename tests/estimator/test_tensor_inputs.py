"""Inputs beside tensors: names, lists and numbers land where the tensors are, or are refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator import (
    BoostedTreesEstimator,
    LatencyEstimator,
    LookUpEstimator,
    RooflineEstimator,
    SeparateEstimator,
)
from pytest_vlmlatency.estimator.calibrated import CalibratedEstimator
from pytest_vlmlatency.estimator.protocol import PREFILL, TARGETS
from pytest_vlmlatency.estimator.tensors import amounts_of
from tests.estimator.machines import simulated

Through = CalibratedEstimator[Any]

FOUR = {
    "vision_tokens": torch.tensor([200.0, 900.0]),
    "text_tokens": torch.tensor([40.0, 40.0]),
    "top_k": torch.tensor([8.0, 8.0]),
    "num_active_blocks": torch.tensor([12.0, 12.0]),
}
THROUGH_NUMPY: list[Callable[[], Through]] = [
    LookUpEstimator,
    SeparateEstimator,
    BoostedTreesEstimator,
]


@pytest.fixture(scope="module", params=THROUGH_NUMPY)
def through_numpy(request: pytest.FixtureRequest) -> Through:
    """An estimator without a law in tensors."""
    made: Through = request.param()
    return made.fit(simulated(300, seed=1))


@pytest.fixture(scope="module")
def network() -> LatencyEstimator:
    """A network as it begins: what it says depends on the tier."""
    torch.manual_seed(1)
    return LatencyEstimator(16)


def prefill_of(network: LatencyEstimator, tier: object) -> list[float]:
    prefill = network.predict_from_config({**FOUR, "tier": tier})[PREFILL]
    assert isinstance(prefill, torch.Tensor)
    return [float(ms) for ms in prefill.detach()]


@pytest.mark.parametrize(
    ("tier", "index"),
    [
        ("high", [2, 2]),
        ("HIGH", [2, 2]),
        (["low", "High"], [0, 2]),
        (["low", 2], [0, 2]),
        (np.array(["low", "high"]), [0, 2]),
        (2, [2, 2]),
        ([0, 2], [0, 2]),
        (np.array([0, 2]), [0, 2]),
        (torch.tensor(2), [2, 2]),
    ],
    ids=repr,
)
def test_a_tier_beside_tensors_is_a_name_a_list_of_names_or_an_index(
    network: LatencyEstimator, tier: object, index: list[int]
) -> None:
    assert prefill_of(network, tier) == prefill_of(network, torch.tensor(index))


def test_tiers_have_the_shape_of_the_tensors(network: LatencyEstimator) -> None:
    asked = {name: values.reshape(2, 1) for name, values in FOUR.items()}

    said = network.predict({**asked, "tier": [["low", "medium", "high"]] * 2})[PREFILL]

    assert isinstance(said, torch.Tensor)
    assert said.shape == (2, 3)


@pytest.mark.parametrize("tier", ["hihg", ["low", "hihg"], np.array(["hihg", "low"])], ids=repr)
def test_a_tier_that_there_is_not_is_named_beside_tensors(
    network: LatencyEstimator, fitted: RooflineEstimator, tier: object
) -> None:
    with pytest.raises(EstimatorProblem, match="there is no tier 'hihg'; a tier is one of low,"):
        network.predict({**FOUR, "tier": tier})
    with pytest.raises(EstimatorProblem, match="there is no tier 'hihg'"):
        fitted.predict({**FOUR, "tier": tier})  # its law has no tier; a wrong name is one


@pytest.mark.parametrize("index", [3.0, -1.0, 0.5, float("nan")])
def test_an_index_that_is_no_tier_is_refused_as_it_is_of_arrays(
    network: LatencyEstimator, index: float
) -> None:
    with pytest.raises(EstimatorProblem, match=r"no tier \(1 of 2\); expected low, medium, high"):
        network.predict({**FOUR, "tier_idx": torch.tensor([0.0, index])})


def test_a_number_that_is_none_is_refused_beside_tensors(network: LatencyEstimator) -> None:
    with pytest.raises(EstimatorProblem, match=r"top_k must be a number, a list, .* not 'eight'"):
        network.predict({**FOUR, "tier": 1, "top_k": "eight"})


def test_shapes_that_do_not_go_together_are_told(network: LatencyEstimator) -> None:
    with pytest.raises(EstimatorProblem, match=r"shapes that do not go together: .*tier_idx \(3,"):
        network.predict({**FOUR, "tier": ["low"] * 3})


def test_what_stands_beside_tensors_lands_on_their_device() -> None:
    """The meta device stands for an accelerator: a tensor on it among others on the CPU."""
    asked = {**FOUR, "tier": ["low", "high"], "top_k": torch.ones(2, device="meta")}

    amounts = amounts_of(asked, ("vision_tokens", "text_tokens", "tier_idx", "top_k"), ())

    assert {values.device.type for values in amounts.values()} == {"meta"}  # type: ignore[union-attr]  # none is a category


def test_a_loop_over_groups_asks_estimators_without_tensors_too(through_numpy: Through) -> None:
    asked = {name: values.reshape(2, 1).expand(2, 4) for name, values in FOUR.items()}
    asked["top_k"] = torch.tensor([4.0, 8.0, 10.0, 12.0])
    flat = {name: values.expand(2, 4).reshape(-1).numpy() for name, values in asked.items()}
    by_name = {**asked, "tier": [["low"] * 4, ["high"] * 4]}
    by_index = flat | {"tier_idx": [0] * 4 + [2] * 4}

    high = through_numpy.predict_quantile(by_name, 0.95)
    inside = through_numpy.check_budget_feasibility(by_name, torch.full((2, 4), 200.0), 4)
    longest = through_numpy.max_output_tokens(by_name, 200.0)

    expected = through_numpy.predict_quantile(by_index, 0.95)
    for target in TARGETS:
        assert np.asarray(high[target]).reshape(-1).tolist() == expected[target].tolist()
    assert isinstance(inside, torch.Tensor)
    assert inside.tolist() == [
        row.tolist()
        for row in np.reshape(through_numpy.check_budget_feasibility(by_index, 200.0, 4), (2, 4))
    ]
    assert np.shape(longest) == (2, 4)


def test_a_gradient_that_there_is_not_is_refused_and_not_0(through_numpy: Through) -> None:
    asked = {**FOUR, "tier": 1, "num_active_blocks": torch.tensor([8.0, 12.0], requires_grad=True)}

    with pytest.raises(EstimatorProblem, match="RooflineEstimator and LatencyEstimator predict wi"):
        through_numpy.predict(asked)
    with torch.no_grad():
        assert through_numpy.predict(asked)[PREFILL].shape == (2,)  # type: ignore[attr-defined]  # a tensor
