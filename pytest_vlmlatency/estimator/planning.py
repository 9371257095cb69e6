"""The questions of budgets and search, as methods that every estimator has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator import search
from pytest_vlmlatency.estimator.budgets import Limits, Predicts, longest, within
from pytest_vlmlatency.estimator.inputs import INPUTS, are_scalars

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from pytest_vlmlatency.estimator.search import Accuracy, Config


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
        return search.feasible_configs(asks, grid, request or {}, limits)

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
        return search.generation_ms(asks, grid, request or {}, limits)

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
        return search.feasible_pairs(asks, grid, requests, limits)

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
        return search.best_config(asks, grid, request or {}, limits, accuracy)


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
