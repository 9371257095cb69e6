"""A search keeps what fits, of a grid and many requests at once, and takes the most accurate."""

from collections.abc import Mapping

import numpy as np
import pytest

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL
from pytest_vlmlatency.estimator.roofline import RooflineEstimator
from pytest_vlmlatency.estimator.search import Accuracy, config_grid

GRID = config_grid(tier=["low", "high"], top_k=[4, 8, 12], num_active_blocks=[8, 16])
A_REQUEST = {"text_tokens": 40, "vision_tokens": {"low": 200, "high": 900}}
BY_SIZE = {
    (config["tier"], config["top_k"], config["num_active_blocks"]): index / 100
    for index, config in enumerate(GRID)
}
VISION = {"low": 200, "high": 900}


def total_ms(estimator: RooflineEstimator, config: dict[str, object], n_tokens: int) -> float:
    asked = {**config, "text_tokens": 40, "vision_tokens": VISION[str(config["tier"])]}
    predicted = estimator.predict_batch(asked)
    return float(predicted[PREFILL][0] + (n_tokens - 1) * predicted[DECODE_STEP][0])


def place(config: Mapping[str, object]) -> int:
    return GRID.index(dict(config))


def test_a_grid_holds_all_combinations() -> None:
    assert len(GRID) == 12
    assert GRID[0] == {"tier": "low", "top_k": 4, "num_active_blocks": 8}


def test_the_feasible_ones_are_those_whose_total_fits(fitted: RooflineEstimator) -> None:
    totals = [total_ms(fitted, config, 12) for config in GRID]
    budget_ms = sorted(totals)[6] * 1.0001

    feasible = fitted.feasible_configs(GRID, budget_ms, 12, request=A_REQUEST)

    assert feasible == [
        config for config, total in zip(GRID, totals, strict=True) if total <= budget_ms
    ]
    assert len(feasible) == 7


def test_a_grid_may_hold_all_inputs_itself(fitted: RooflineEstimator) -> None:
    grid = config_grid(vision_tokens=[200], text_tokens=[40], top_k=[4, 8], num_active_blocks=[8])

    assert fitted.feasible_configs(grid, 10_000, 12) == grid


def test_the_most_accurate_feasible_configuration_is_the_best(fitted: RooflineEstimator) -> None:
    totals = [total_ms(fitted, config, 12) for config in GRID]
    budget_ms = sorted(totals)[6] * 1.0001

    best = fitted.best_config(GRID, budget_ms, 12, accuracy=BY_SIZE, request=A_REQUEST)

    assert best == max(fitted.feasible_configs(GRID, budget_ms, 12, request=A_REQUEST), key=place)


def test_nothing_feasible_is_none(fitted: RooflineEstimator) -> None:
    assert fitted.best_config(GRID, 0.1, 12, accuracy=BY_SIZE, request=A_REQUEST) is None


def test_of_equally_accurate_ones_the_first_is_taken(fitted: RooflineEstimator) -> None:
    best = fitted.best_config(GRID, 1e6, 12, accuracy=[1.0] * 12, request=A_REQUEST)

    assert best == GRID[0]


def test_accuracy_may_be_a_table_a_list_or_a_function(fitted: RooflineEstimator) -> None:
    by_index = {
        (0 if tier == "low" else 2, top_k, blocks): value
        for (tier, top_k, blocks), value in BY_SIZE.items()
    }

    entries = [{**config, "accuracy": place(config)} for config in reversed(GRID)]
    tables: list[Accuracy] = [BY_SIZE, by_index, list(BY_SIZE.values()), place, entries]

    best = [
        fitted.best_config(GRID, 1e6, 12, accuracy=accuracy, request=A_REQUEST)
        for accuracy in tables
    ]

    assert best == [GRID[-1]] * 5


def test_pairs_are_answered_as_each_request_alone_is(fitted: RooflineEstimator) -> None:
    text, budgets = [10, 40, 100], [120.0, 260.0, 400.0]
    requests = {"text_tokens": text, "vision_tokens": {"low": [150, 200, 220], "high": [700] * 3}}

    inside = fitted.feasible_pairs(GRID, requests, budgets, [4, 8, 12], quantile=0.9)

    for row in range(3):
        alone = fitted.feasible_configs(
            GRID,
            budgets[row],
            [4, 8, 12][row],
            request={
                "text_tokens": text[row],
                "vision_tokens": {"low": [150, 200, 220][row], "high": 700},
            },
            quantile=0.9,
        )
        assert [config for config, fit in zip(GRID, inside[row], strict=True) if fit] == alone
    assert inside.shape == (3, 12)
    assert 0 < inside.sum() < 36


def test_the_best_for_several_requests_is_not_that_of_the_first(
    fitted: RooflineEstimator,
) -> None:
    with pytest.raises(EstimatorProblem, match="there are 2 requests; expected one: for several"):
        fitted.best_config(
            GRID, 1e6, 12, accuracy=BY_SIZE, request={**A_REQUEST, "text_tokens": [40, 90]}
        )


def test_budgets_are_as_many_as_requests(fitted: RooflineEstimator) -> None:
    with pytest.raises(EstimatorProblem, match=r"the shape \(2,\) for 3 requests; expected one"):
        fitted.feasible_pairs(GRID, {**A_REQUEST, "text_tokens": [1, 2, 3]}, [100, 200], 8)


def test_a_prefill_share_leaves_time_for_decode(fitted: RooflineEstimator) -> None:
    every = fitted.feasible_configs(GRID, 150, 1, request=A_REQUEST)
    some = fitted.feasible_configs(GRID, 150, 1, request=A_REQUEST, prefill_share=0.8)

    assert len(some) < len(every)


@pytest.mark.parametrize(
    ("grid", "request_", "message"),
    [
        ({"top_k": [4]}, A_REQUEST, "a grid is a list of configurations, as .*; seen a dict"),
        (GRID, [A_REQUEST], "the requests are a list; expected a mapping of names to values"),
        ([], A_REQUEST, "a grid is a list of configurations with the same knobs"),
        ([{"top_k": 4}, {"top_p": 4}], A_REQUEST, "with the same knobs, at least one; seen 2"),
        (GRID, {}, "the inputs lack vision_tokens, text_tokens"),
        (GRID, {**A_REQUEST, "top_k": 4}, "top_k is given by the grid and by the request"),
        (GRID, {**A_REQUEST, "vision_tokens": {"low": 1}}, "expected a grid with a tier, and"),
        (GRID, {**A_REQUEST, "text_tokens": [1, 2]}, "there are 2 requests; expected one"),
        (
            GRID,
            {"text_tokens": [1, 2], "vision_tokens": [1, 2, 3]},
            "requests' inputs have lengths that do not go together",
        ),
    ],
)
def test_a_grid_or_request_that_means_nothing_is_refused(
    fitted: RooflineEstimator,
    grid: list[dict[str, object]],
    request_: dict[str, object],
    message: str,
) -> None:
    with pytest.raises(EstimatorProblem, match=message):
        fitted.feasible_configs(grid, 100, 12, request=request_)


@pytest.mark.parametrize(
    ("accuracy", "message"),
    [
        ({("low", 4, 8): 1.0}, "the table of accuracies has no entry for"),
        ([1.0], "there are 1 accuracies for 12 configurations"),
        ([1.0] * 11 + [float("nan")], r"the accuracy of {'tier': 'high', 'top_k': 12, .*} is nan"),
        (lambda config: float("inf"), r"the accuracy of {'tier': 'low', 'top_k': 4, .*} is inf"),
        ([None] * 12, r"is None; expected a finite number"),
        ({8: 1.0}, r"has the key 8; expected keys such as \('low', 8, 16\)"),
        ([{"tier": "low", "top_k": 4}], "lacks num_active_blocks; expected tier, top_k,"),
        ([{**GRID[0], "accuracy": 1.0}] * 2, "is there twice; give it once"),
        (0.5, "accuracy is 0.5; expected a table, a list with one for each"),
    ],
)
def test_an_accuracy_that_is_missing_is_told(
    fitted: RooflineEstimator, accuracy: object, message: str
) -> None:
    with pytest.raises(EstimatorProblem, match=message):
        fitted.best_config(GRID, 1e6, 12, accuracy=accuracy, request=A_REQUEST)  # type: ignore[arg-type]  # two kinds


def test_a_million_pairs_are_one_array(fitted: RooflineEstimator) -> None:
    random = np.random.default_rng(0)
    grid = config_grid(tier=["low"], top_k=range(4, 14), num_active_blocks=range(7, 17))
    requests = {
        "text_tokens": random.integers(10, 100, 10_000),
        "vision_tokens": random.integers(100, 900, 10_000),
    }

    inside = fitted.feasible_pairs(grid, requests, 150, 8)

    assert inside.shape == (10_000, 100)
    assert 0.05 < inside.mean() < 0.95
