"""What every fitted estimator holds beside its model, as plain values; and its drift.

Drift is one factor per target that is learned online, by which the hardware became faster or
slower: a mean of log ratios with a floor on the weight of each (EWMA), in which one record moves
it by a few sigmas at most (Huber). Three records in a row that are far off on the same side
restart the mean from them: the hardware has changed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.calibration import Outlier, Spread
from pytest_vlmlatency.estimator.columns import Table
from pytest_vlmlatency.estimator.inputs import Columns, Knob
from pytest_vlmlatency.estimator.recipes import Recipe
from pytest_vlmlatency.estimator.terms import TOKENS, amounts_of
from pytest_vlmlatency.printing import printable

LEAST_WEIGHT = 0.1  # of a new record, once many have been seen
MOST_SIGMAS = 2.0  # by which one record can pull
FAR_SIGMAS = 2.5  # from which a record speaks for a change
N_IN_A_ROW = 3  # by chance once in millions of records; with 5 % outliers, in tens of thousands
MOST_LOG = 20.0  # a factor of 500 million is a mistake in the units
N_BEFORE = 10  # records that the fitted level counts for


@dataclass(frozen=True, slots=True)
class Drift:
    """The log of measured / predicted now, of how many records, and what the last ones said."""

    log_ratio: float = 0.0
    n_records: int = N_BEFORE
    last: tuple[float, ...] = ()  # logs against the fitted level, the newest last

    def __post_init__(self) -> None:
        if not all(abs(value) <= MOST_LOG for value in (self.log_ratio, *self.last)):
            raise EstimatorProblem(
                f"an online correction is {self.log_ratio} (the log of a ratio); expected at most "
                f"{MOST_LOG} either way: were the times in ms?"
            )
        if self.n_records < 1 or len(self.last) > N_IN_A_ROW:
            raise EstimatorProblem(
                f"an online correction is of {self.n_records} records and keeps {len(self.last)}; "
                f"expected at least 1, and at most {N_IN_A_ROW} kept"
            )

    @property
    def ratio(self) -> float:
        """What predictions are multiplied with."""
        return math.exp(self.log_ratio)

    def after(self, log_ratio: float, sigma: float) -> Drift:
        """Return the drift after one more record, `log_ratio` being measured / fitted."""
        last = (*self.last, log_ratio)[-N_IN_A_ROW:]
        offs = [value - self.log_ratio for value in last]
        far = FAR_SIGMAS * sigma
        if len(offs) == N_IN_A_ROW and (min(offs) > far or max(offs) < -far):
            return Drift(median(last), N_IN_A_ROW, ())
        weight = max(LEAST_WEIGHT, 1 / (self.n_records + 1))
        pull = max(-MOST_SIGMAS * sigma, min(MOST_SIGMAS * sigma, log_ratio - self.log_ratio))
        return Drift(self.log_ratio + weight * pull, self.n_records + 1, last)


N_OUTLIERS_KEPT = 20
PERCENTILES = tuple(range(101))
TIER, VISION_TOKENS = "tier_idx", "vision_tokens"
OF_PROMPTS = (VISION_TOKENS, "text_tokens")


Tokens = tuple[float, float, float]
"""The least, the median and the most tokens of records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Ranges of what was measured, spreads, online corrections, and where it all came from."""

    inputs: tuple[str, ...]
    knobs: tuple[Knob, ...]
    ranges: Mapping[str, tuple[float, float]]  # of each amount, all tokens among them
    categories: Mapping[str, tuple[str, ...]]  # the levels that were measured
    spreads: Mapping[str, Spread]  # by target
    drifts: Mapping[str, Drift]  # by target
    output_tokens: tuple[float, ...]  # percentiles 0 to 100 of what was generated
    tokens: Mapping[str, Mapping[str, Tokens]]  # by input, then by a tier's index, "" without one
    machine: str | None
    conditions: Mapping[str, str]  # what is no input and was the same in all records
    n_records: int
    n_outliers: int
    outliers: tuple[Outlier, ...]  # the first of them

    def __post_init__(self) -> None:
        pairs = [set(recipe.targets) for recipe in Recipe]
        if set(self.spreads) not in pairs or set(self.drifts) != set(self.spreads):
            raise EstimatorProblem(
                f"the spreads are of {', '.join(self.spreads) or 'nothing'}, the drifts of "
                f"{', '.join(self.drifts) or 'nothing'}; expected both of "
                f"{' or of '.join(' and '.join(recipe.targets) for recipe in Recipe)}"
            )
        for name, (low, high) in self.ranges.items():
            if not (math.isfinite(low) and math.isfinite(high) and 0 <= low <= high):
                raise EstimatorProblem(
                    f"{name} ranges from {low} to {high}; expected 0 <= low <= high"
                )
        for name, by_tier in self.tokens.items():
            for low, middle, high in by_tier.values():
                if not (0 <= low <= middle <= high < math.inf):
                    raise EstimatorProblem(
                        f"{name} are {low} to {high}, {middle} in the middle; expected "
                        f"0 <= low <= middle <= high"
                    )
        if len(self.output_tokens) != len(PERCENTILES) or sorted(self.output_tokens) != list(
            self.output_tokens
        ):
            raise EstimatorProblem(
                f"expected {len(PERCENTILES)} rising percentiles of output tokens; "
                f"seen {len(self.output_tokens)}"
            )

    def is_extrapolated(self, columns: Columns) -> NDArray[np.bool_]:
        """Return, for each row, whether an amount lies outside its range."""
        amounts = amounts_of(columns)
        outside = np.zeros(len(next(iter(amounts.values()))), dtype=bool)
        for name, (low, high) in self.ranges.items():
            if name in amounts:
                outside |= (amounts[name] < low) | (amounts[name] > high)
        return outside

    def check_categories(self, columns: Columns) -> None:
        """Refuse a category that was never measured: no number can be told from others."""
        for name, levels in self.categories.items():
            unknown = sorted(set(np.unique(columns[name])) - set(levels))
            if unknown:
                raise EstimatorProblem(
                    f"{name} is {str(unknown[0])!r}, which was never measured; expected one of "
                    f"{', '.join(levels)}: measure it and fit again"
                )

    def factors(self, target: str, q: float) -> tuple[float, float]:
        """Return what a prediction is multiplied with at a quantile: beyond the ranges, inside."""
        spread = self.spreads[target]
        return spread.wide_factor(q), spread.factor(q)

    def sigma(self, target: str) -> float:
        """Return the robust relative error of a target."""
        spread = self.spreads[target]
        return max(math.log(spread.factor(0.84) / spread.factor(0.16)) / 2, 1e-4)


class OtherMachine(UserWarning):
    """An estimator is used for a machine that it was not measured on."""


def warn_of_another(measured_on: str | None, used_for: str | None) -> None:
    """Warn if both machines are known, and differ."""
    if measured_on is not None and used_for is not None and measured_on != used_for:
        warnings.warn(
            f"this estimator was measured on the machine {printable(measured_on)}, and is used "
            f"for {printable(used_for)}: its numbers may be off by any factor; `update` it with "
            f"records of that machine, or fit one on them",
            OtherMachine,
            stacklevel=3,
        )


def state_of(
    table: Table,
    inputs: tuple[str, ...],
    spreads: Mapping[str, Spread],
    outliers: Sequence[Outlier],
) -> State:
    """Return the state after a fit: nothing is corrected yet."""
    return State(
        inputs=inputs,
        knobs=table.knobs,
        ranges=ranges_of(table, inputs),
        categories=categories_of(table),
        spreads=spreads,
        drifts={target: Drift() for target in spreads},
        output_tokens=output_percentiles(table),
        tokens=tokens_of(table),
        machine=table.machine,
        conditions=dict(table.conditions),
        n_records=len(table),
        n_outliers=len({outlier.record for outlier in outliers}),
        outliers=tuple(outliers[:N_OUTLIERS_KEPT]),
    )


def ranges_of(table: Table, inputs: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """Return the least and the greatest of each amount among the inputs, and of all tokens."""
    amounts = amounts_of(table.columns)
    return {
        name: (float(values.min()), float(values.max()))
        for name, values in amounts.items()
        if values.dtype.kind == "f" and name in (*inputs, TOKENS)
    }


def categories_of(table: Table) -> dict[str, tuple[str, ...]]:
    """Return the levels of each declared category."""
    return {
        knob.name: tuple(str(level) for level in np.unique(table.columns[knob.name]))
        for knob in table.knobs
        if knob.is_category
    }


def tokens_of(table: Table) -> dict[str, dict[str, Tokens]]:
    """Return how many tokens the prompts had; those of vision for each tier, where there are."""
    found: dict[str, dict[str, Tokens]] = {}
    tiers = table.columns.get(TIER)
    for name in OF_PROMPTS:
        tokens = table.columns.get(name)
        if tokens is None:
            continue
        if name == VISION_TOKENS and tiers is not None:
            by_tier = {f"{int(tier)}": tokens[tiers == tier] for tier in np.unique(tiers)}
        else:
            by_tier = {"": tokens}
        found[name] = {
            tier: (float(some.min()), float(np.median(some)), float(some.max()))
            for tier, some in by_tier.items()
        }
    return found


def output_percentiles(table: Table) -> tuple[float, ...]:
    """Return the percentiles 0 to 100 of the output tokens, each a number that occurred."""
    levels = np.percentile(table.output_tokens, PERCENTILES, method="higher")
    return tuple(float(level) for level in levels)
