"""Which configurations fit a budget, and which of them is the most accurate.

A grid holds configurations (knobs), a request holds tokens. Works for every kind of estimator; the
methods that all estimators have for it are here too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.budgets import (
    Limits,
    Predicts,
    longest,
    output_length,
    predicted_at,
    within,
)
from pytest_vlmlatency.estimator.columns import CONFIGURATION
from pytest_vlmlatency.estimator.inputs import (
    ALIASES,
    INPUTS,
    TIERS,
    Column,
    are_scalars,
    tier_index,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


Config = Mapping[str, object]
Accuracy = Mapping[Any, float] | Sequence[float] | Sequence[Config] | Callable[[Config], float]
"""By (tier, top_k, num_active_blocks), by place in the grid, in entries, or computed."""


def config_grid(**values: Sequence[object]) -> list[dict[str, object]]:
    """Return all combinations of the values, as in `config_grid(tier=["low"], top_k=[4, 8])`."""
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


def feasible_pairs(
    estimator: Predicts, grid: Sequence[Config], requests: Config, limits: Limits
) -> NDArray[np.bool_]:
    """Return which configuration (column) fits which request (row), all predicted at once.

    `requests` holds the inputs that the grid lacks, a list for each. What follows the tier, as
    vision tokens do, may be a mapping: {"vision_tokens": {"low": [144, 288], "high": [576, 1152]}}.
    """
    columns, shape = _pairs(grid, requests)
    of_pairs = replace(
        limits,
        budget_ms=_for_each_pair(limits.budget_ms, shape),
        expected_output_tokens=_for_each_pair(limits.expected_output_tokens, shape),
    )
    return within(estimator, columns, of_pairs).reshape(shape)


def generation_ms(
    estimator: Predicts, grid: Sequence[Config], request: Config, limits: Limits
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the prefill and the whole generation of one request, by configuration, in ms."""
    columns, shape = _pairs(grid, request)
    if shape[0] != 1:
        raise EstimatorProblem(f"there are {shape[0]} requests; expected one")
    prefill_ms, step_ms = predicted_at(estimator, columns, limits.quantile)
    return prefill_ms, prefill_ms + (output_length(estimator, limits) - 1) * step_ms


def feasible_configs(
    estimator: Predicts, grid: Sequence[Config], request: Config, limits: Limits
) -> list[Config]:
    """Return the configurations within the limits for one request, in the grid's order."""
    inside = _of_one_request(estimator, grid, request, limits)
    return [config for config, fit in zip(grid, inside, strict=True) if fit]


def best_config(
    estimator: Predicts,
    grid: Sequence[Config],
    request: Config,
    limits: Limits,
    accuracy: Accuracy,
) -> Config | None:
    """Return the most accurate configuration within the limits; None if none is.

    Of equally accurate ones, the first of the grid.
    """
    known = accuracies(_grid_of(grid), accuracy)
    inside = _of_one_request(estimator, grid, request, limits)
    ranked = [(known[index], -index) for index, fits in enumerate(inside) if fits]
    return grid[-max(ranked)[1]] if ranked else None


def accuracies(grid: Sequence[Config], accuracy: Accuracy) -> list[float]:
    """Return the accuracy of each configuration of a grid, from a table, a list or a function.

    A table's keys are (tier, top_k, num_active_blocks), a tier by name or index. Entries in place
    of numbers are a table as well: [{"tier": "low", "top_k": 4, ..., "accuracy": 0.7}, ...].
    """
    found: Sequence[object]
    if callable(accuracy):
        found = [accuracy(config) for config in grid]
    elif isinstance(accuracy, Mapping):
        table = _table_of(accuracy)
        found = [_in_table(table, config) for config in grid]
    elif not hasattr(accuracy, "__len__"):
        raise EstimatorProblem(
            f"accuracy is {accuracy!r}; expected a table, a list with one for each configuration, "
            f"or a function of one"
        )
    elif len(accuracy) and all(isinstance(entry, Mapping) for entry in accuracy):
        table = _table_of_entries(accuracy)
        found = [_in_table(table, config) for config in grid]
    elif len(accuracy) == len(grid):
        found = accuracy
    else:
        raise EstimatorProblem(
            f"there are {len(accuracy)} accuracies for {len(grid)} configurations; expected one "
            f"for each"
        )
    return [_checked(config, value) for config, value in zip(grid, found, strict=True)]


def _of_one_request(
    estimator: Predicts, grid: Sequence[Config], request: Config, limits: Limits
) -> NDArray[np.bool_]:
    inside = feasible_pairs(estimator, grid, request, limits)
    if len(inside) != 1:
        raise EstimatorProblem(
            f"there are {len(inside)} requests; expected one: for several, ask for feasible_pairs"
        )
    one: NDArray[np.bool_] = inside[0]
    return one


def _checked(config: Config, accuracy: object) -> float:
    try:
        value = math.nan if isinstance(accuracy, str) else float(cast("float", accuracy))
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise EstimatorProblem(
            f"the accuracy of {dict(config)} is {accuracy!r}; expected a finite number"
        )
    return value


def _table_of(accuracy: Mapping[Any, object]) -> dict[tuple[object, ...], object]:
    strange = [key for key in accuracy if not isinstance(key, tuple)]
    if strange:
        raise EstimatorProblem(
            f"a table of accuracies has the key {strange[0]!r}; expected keys such as "
            f"('low', 8, 16), of (tier, top_k, num_active_blocks)"
        )
    return {tuple(map(_level, key)): value for key, value in accuracy.items()}


def _table_of_entries(entries: Sequence[object]) -> dict[tuple[object, ...], object]:
    table: dict[tuple[object, ...], object] = {}
    for entry in cast("Sequence[Config]", entries):
        named = {ALIASES.get(name, name): _level(value) for name, value in entry.items()}
        missing = [name for name in (*CONFIGURATION, "accuracy") if name not in named]
        if missing:
            raise EstimatorProblem(
                f"the accuracy {dict(entry)} lacks {missing[0].replace('tier_idx', 'tier')}; "
                f"expected tier, top_k, num_active_blocks and accuracy in each"
            )
        key = tuple(named[name] for name in CONFIGURATION)
        if key in table:
            raise EstimatorProblem(f"the accuracy of {dict(entry)} is there twice; give it once")
        table[key] = named["accuracy"]
    return table


def _in_table(table: Mapping[tuple[object, ...], object], config: Config) -> object:
    named = {ALIASES.get(name, name): _level(value) for name, value in config.items()}
    key = tuple(named.get(name) for name in CONFIGURATION)
    if key not in table:
        raise EstimatorProblem(
            f"the table of accuracies has no entry for {dict(config)}; its keys are "
            f"(tier, top_k, num_active_blocks), and it has {len(table)}"
        )
    return table[key]


def _level(value: object) -> object:
    return tier_index(value) if isinstance(value, str) and value.lower() in TIERS else value


def _pairs(grid: Sequence[Config], requests: Config) -> tuple[dict[str, Column], tuple[int, int]]:
    """Return the inputs of all pairs, the configurations of one request after one another."""
    grid = _grid_of(grid)
    if not isinstance(requests, Mapping):
        raise EstimatorProblem(
            f"the requests are a {type(requests).__name__}; expected a mapping of names to values, "
            f'such as {{"text_tokens": [12, 40]}}'
        )
    of_grid = {
        name: np.array([_level(config[name]) for config in grid])[None, :] for name in grid[0]
    }
    of_requests = {name: _rows(name, value, of_grid) for name, value in requests.items()}
    try:
        shape = np.broadcast_shapes(
            (1, len(grid)), *(values.shape for values in of_requests.values())
        )
    except ValueError as error:
        raise EstimatorProblem(
            f"the requests' inputs have lengths that do not go together: "
            f"{', '.join(f'{name} {values.shape[0]}' for name, values in of_requests.items())}"
        ) from error
    columns = {
        name: np.broadcast_to(values, shape).ravel()
        for name, values in {**of_grid, **of_requests}.items()
    }
    return columns, (shape[0], shape[1])


def _grid_of(grid: object) -> Sequence[Config]:
    """Return a grid, or say what one is."""
    if not isinstance(grid, Sequence) or not all(isinstance(one, Mapping) for one in grid):
        raise EstimatorProblem(
            f"a grid is a list of configurations, as config_grid(top_k=[4, 8]) makes it; seen a "
            f"{type(grid).__name__}"
        )
    names = set(grid[0]) if len(grid) else set()
    if not names or any(set(config) != names for config in grid):
        raise EstimatorProblem(
            f"a grid is a list of configurations with the same knobs, at least one; seen "
            f"{len(grid)}, the first with {', '.join(sorted(names)) or 'nothing'}"
        )
    return grid


def _rows(name: str, value: object, of_grid: Mapping[str, Column]) -> Column:
    """Return an input as (requests, 1), or (requests, configurations) where it follows the tier."""
    if name in of_grid:
        raise EstimatorProblem(f"{name} is given by the grid and by the request; give it once")
    if not isinstance(value, Mapping):
        return np.atleast_1d(np.asarray(value))[:, None]
    by_tier = {_level(tier): np.atleast_1d(np.asarray(rows)) for tier, rows in value.items()}
    tiers = of_grid.get("tier", of_grid.get("tier_idx"))
    if tiers is None or not set(tiers[0].tolist()) <= set(by_tier):
        raise EstimatorProblem(
            f"{name} is given for the tiers {', '.join(map(str, value))}; expected a grid with a "
            f"tier, and a number for each tier in it"
        )
    return np.stack([by_tier[tier] for tier in tiers[0].tolist()], axis=1)


def _for_each_pair(value: object, shape: tuple[int, int]) -> object:
    if value is None or np.ndim(value) == 0:  # type: ignore[arg-type]  # whatever it is
        return value
    of_requests = np.asarray(value)
    if of_requests.shape not in ((1,), (shape[0],)):
        raise EstimatorProblem(
            f"budgets or lengths have the shape {of_requests.shape} for {shape[0]} requests; "
            f"expected one number, or one for each request"
        )
    return np.repeat(np.broadcast_to(of_requests, shape[:1]), shape[1])


class Plans(Predicts, Protocol):
    """An estimator that says who answers the questions of a budget, and in which terms."""

    def _in_steps(self, limits: Limits) -> tuple[Predicts, Limits]: ...


class Planning:
    """Budgets and search on top of predictions. All times are in ms."""

    def _in_steps(self: Predicts, limits: Limits) -> tuple[Predicts, Limits]:
        """Return who is asked, and for what, in terms of prefill and steps."""
        return self, limits

    def check_budget_feasibility(
        self: Plans,
        *asked: object,
        percentile: float | None = None,
        prefill_share: float | None = None,
        quantile: float | None = None,
        **named: object,
    ) -> bool | NDArray[np.bool_]:
        """Return whether a generation stays within `latency_budget` ms; for lists, an array.

        (config, latency_budget, expected_output_tokens), or the five inputs in place of the config,
        one after another; everything by name as well.
        """
        config, given = budget_question(asked, named)
        limits = Limits(
            budget_ms=given["latency_budget"],
            expected_output_tokens=given.get("expected_output_tokens"),
            percentile=percentile,
            prefill_share=prefill_share,
            quantile=quantile,
        )
        asks, limits = self._in_steps(limits)
        inside = within(asks, config, limits)
        return bool(inside[0]) if are_scalars(config) and inside.shape == (1,) else inside

    def max_output_tokens(
        self: Predicts, config: Config, budget_ms: object, *, quantile: float | None = None
    ) -> int | NDArray[np.int64]:
        """Return the longest output within a budget; 0 if not even the first token fits."""
        tokens = longest(self, config, budget_ms, quantile)
        return int(tokens[0]) if are_scalars(config) and tokens.shape == (1,) else tokens

    def feasible_configs(
        self: Plans,
        grid: Sequence[Config],
        budget_ms: float,
        expected_output_tokens: float | None = None,
        *,
        request: Config | None = None,
        percentile: float | None = None,
        prefill_share: float | None = None,
        quantile: float | None = None,
    ) -> list[Config]:
        """Return the configurations of a grid that fit one request, in the grid's order.

        `request` holds the inputs that the grid's configurations lack.
        """
        limits = Limits(
            budget_ms=budget_ms,
            expected_output_tokens=expected_output_tokens,
            percentile=percentile,
            prefill_share=prefill_share,
            quantile=quantile,
        )
        asks, limits = self._in_steps(limits)
        return feasible_configs(asks, grid, request or {}, limits)

    def generation_ms(
        self: Plans,
        grid: Sequence[Config],
        expected_output_tokens: float | None = None,
        *,
        request: Config | None = None,
        percentile: float | None = None,
        quantile: float | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the prefill and the whole generation of one request, by configuration, in ms."""
        limits = Limits(
            budget_ms=math.inf,
            expected_output_tokens=expected_output_tokens,
            percentile=percentile,
            quantile=quantile,
        )
        asks, limits = self._in_steps(limits)
        return generation_ms(asks, grid, request or {}, limits)

    def feasible_pairs(
        self: Plans,
        grid: Sequence[Config],
        requests: Mapping[str, object],
        budget_ms: object,
        expected_output_tokens: object | None = None,
        *,
        percentile: float | None = None,
        prefill_share: float | None = None,
        quantile: float | None = None,
    ) -> NDArray[np.bool_]:
        """Return which configuration (column) fits which request (row)."""
        limits = Limits(
            budget_ms=budget_ms,
            expected_output_tokens=expected_output_tokens,
            percentile=percentile,
            prefill_share=prefill_share,
            quantile=quantile,
        )
        asks, limits = self._in_steps(limits)
        return feasible_pairs(asks, grid, requests, limits)

    def best_config(
        self: Plans,
        grid: Sequence[Config],
        budget_ms: float,
        expected_output_tokens: float | None = None,
        *,
        accuracy: Accuracy,
        request: Config | None = None,
        percentile: float | None = None,
        prefill_share: float | None = None,
        quantile: float | None = None,
    ) -> Config | None:
        """Return the most accurate configuration that fits one request; None if none fits."""
        limits = Limits(
            budget_ms=budget_ms,
            expected_output_tokens=expected_output_tokens,
            percentile=percentile,
            prefill_share=prefill_share,
            quantile=quantile,
        )
        asks, limits = self._in_steps(limits)
        return best_config(asks, grid, request or {}, limits, accuracy)


BUDGET = ("latency_budget", "expected_output_tokens")


def budget_question(
    asked: Sequence[object], named: Mapping[str, object]
) -> tuple[Config, dict[str, object]]:
    """Return the inputs and what they must stay within, however both were written."""
    config: dict[str, object] = {}
    rest = list(asked)
    if rest and isinstance(first := rest[0], Mapping):
        config, rest = dict(first), rest[1:]
    else:
        config = dict(zip(INPUTS, rest, strict=False))
        rest = rest[len(INPUTS) :]
    given = dict(zip(BUDGET, rest, strict=False))
    twice = [name for name in named if name in config or name in given]
    if twice or len(rest) > len(BUDGET):
        raise EstimatorProblem(
            f"{len(asked)} values and {', '.join(named) or 'no names'} were given"
            f"{': ' + twice[0] + ' is there twice' if twice else ''}; expected a config or the "
            f"five inputs, then latency_budget and expected_output_tokens"
        )
    for name, value in named.items():
        (given if name in BUDGET else config)[name] = value
    if "latency_budget" not in given:
        raise EstimatorProblem("there is no latency_budget; expected a time in ms, such as 500")
    return config, given
