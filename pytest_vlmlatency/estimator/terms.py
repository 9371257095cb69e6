"""Products of physical amounts, such as tokens x blocks x top_k, and their sum: a law.

Each factor is at least 0 and never falls as its amount grows, and coefficients are positive: the
sum is monotone by construction. It is added term by term in one order, so that rounding keeps the
order of predictions too.

The candidate products follow from physics: weights are read once per block, each token is
multiplied with those of top_k experts and attends to all others; the vision backbone and the fixed
cost of a call are added. Then come hinges, steps and tiles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from typing import TYPE_CHECKING, assert_never

import numpy as np

from pytest_vlmlatency.errors import EstimatorProblem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_vlmlatency.estimator.inputs import Column, Columns, FloatArray, Knob


N_AT_ONCE = 16_384  # rows that fit into a processor's cache with what is computed from them


class Shape(StrEnum):
    """How a factor follows its amount."""

    AMOUNT = "amount"  # x
    ABOVE = "above"  # max(0, x - at): a hinge
    AT_LEAST = "at_least"  # 1 where x >= at: a step, a cliff
    ROUNDED_UP = "rounded_up"  # x up to a multiple of `at`: tiles
    IS = "is"  # 1 where a category is `at`


@dataclass(frozen=True, slots=True)
class Factor:
    """One factor of a term: an amount, in one of the shapes. `at` is None for the amount itself."""

    name: str
    shape: Shape = Shape.AMOUNT
    at: float | str | None = None

    def __post_init__(self) -> None:
        kinds = {Shape.AMOUNT: "NoneType", Shape.IS: "str"}
        expected = kinds.get(self.shape, "float")
        least = 1.0 if self.shape is Shape.ROUNDED_UP else 0.0
        if type(self.at).__name__ != expected or (
            isinstance(self.at, float) and not least <= self.at < math.inf
        ):
            raise EstimatorProblem(
                f"a factor in {self.name} of the shape {self.shape.value!r} is at {self.at!r}; "
                f"expected a finite {expected}, from {least:g} up if it is a number"
            )

    def of_column(self, values: Column) -> FloatArray:
        """Return the factor for each row."""
        at = self._at
        match self.shape:
            case Shape.AMOUNT:
                return values
            case Shape.ABOVE:
                return np.maximum(values - at, 0.0)
            case Shape.AT_LEAST:
                return (values >= at).astype(np.float64)
            case Shape.ROUNDED_UP:
                return np.ceil(values / at) * at
            case Shape.IS:
                return np.equal(values, str(self.at)).astype(np.float64)
            case _:
                assert_never(self.shape)

    def of_value(self, value: float | str) -> float:
        """Return the factor of one request, the same number as in a column."""
        if self.shape is Shape.IS or isinstance(value, str):
            return float(value == self.at)
        at = self._at
        match self.shape:
            case Shape.AMOUNT:
                return value
            case Shape.ABOVE:
                return max(value - at, 0.0)
            case Shape.AT_LEAST:
                return float(value >= at)
            case Shape.ROUNDED_UP:
                return math.ceil(value / at) * at
            case _:
                assert_never(self.shape)

    @property
    def _at(self) -> float:
        return self.at if isinstance(self.at, float) else math.nan


Term = tuple[Factor, ...]  # () is the constant


@dataclass(frozen=True, slots=True)
class Law:
    """A sum of terms with positive coefficients, in ms."""

    terms: tuple[Term, ...]
    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.terms) != len(self.coefficients):
            raise EstimatorProblem(
                f"{len(self.terms)} terms have {len(self.coefficients)} coefficients; expected one "
                f"for each"
            )
        if not all(math.isfinite(value) and value > 0 for value in self.coefficients):
            raise EstimatorProblem(
                f"coefficients must be finite and above 0, or the law would not be monotone; "
                f"seen: {', '.join(f'{value:g}' for value in self.coefficients)}"
            )

    def of_columns(self, amounts: Columns) -> FloatArray:
        """Return the ms of each row."""
        n_rows = len(next(iter(amounts.values())))
        total_ms = np.zeros(n_rows)
        for rows in rows_at_once(n_rows):
            part = {name: amounts[name][rows] for name in self.names}
            for term, coefficient in zip(self.terms, self.coefficients, strict=True):
                total_ms[rows] += product(term, part, start=coefficient)
        return total_ms

    def of_values(self, amounts: Mapping[str, float | str]) -> float:
        """Return the ms of one request, the same number as in a column."""
        total_ms = 0.0
        for term, coefficient in zip(self.terms, self.coefficients, strict=True):
            part_ms = coefficient
            for factor in term:
                part_ms *= factor.of_value(amounts[factor.name])
            total_ms += part_ms
        return total_ms

    @property
    def names(self) -> frozenset[str]:
        """The amounts that the law follows."""
        return frozenset(factor.name for term in self.terms for factor in term)


def rows_at_once(n_rows: int) -> Iterator[slice]:
    """Return all rows in pieces: what is computed from one piece is small."""
    return (slice(first, first + N_AT_ONCE) for first in range(0, n_rows, N_AT_ONCE))


def product(term: Term, amounts: Columns, *, start: float = 1.0) -> FloatArray | float:
    """Return the product of a term's factors for each row; of the constant, `start` itself."""
    total: FloatArray | float = start
    for factor in term:
        total = total * factor.of_column(amounts[factor.name])
    return total


def design(terms: tuple[Term, ...], amounts: Columns) -> FloatArray:
    """Return the terms as the columns of a matrix, a row a request."""
    n_rows = len(next(iter(amounts.values())))
    matrix = np.empty((n_rows, len(terms)), order="F")
    for index, term in enumerate(terms):
        matrix[:, index] = product(term, amounts)
    return matrix


TOKENS = "tokens"  # vision and text together: what the decoder reads
VISION, TEXT = "vision_tokens", "text_tokens"
EXPERTS, BLOCKS = "top_k", "num_active_blocks"
PHYSICAL = (VISION, TEXT, EXPERTS, BLOCKS)  # of the inputs, what has a physical amount; no tier

PREFILL_PRODUCTS = (
    (),
    (BLOCKS,),
    (BLOCKS, EXPERTS),
    (TOKENS, BLOCKS),
    (TOKENS, BLOCKS, EXPERTS),
    (TOKENS, TOKENS, BLOCKS),
    (VISION,),
)
DECODE_PRODUCTS = ((), (BLOCKS,), (BLOCKS, EXPERTS), (TOKENS, BLOCKS))

HINGE_SHARES = (0.25, 0.5, 0.75)  # of the records, below a hinge in tokens
TILES = (64.0, 128.0, 256.0)  # tokens that matrix kernels round up to
MOST_LEVELS = 12  # an amount with more values than this has no steps

Families = Mapping[str, tuple[Term, ...]]


def amounts_of(columns: Columns) -> dict[str, Column]:
    """Return the columns with what is computed from them: all tokens."""
    present = [columns[name] for name in (VISION, TEXT) if name in columns]
    if not present:
        return dict(columns)
    return {**columns, TOKENS: present[0] if len(present) == 1 else present[0] + present[1]}


def base_terms(
    products: Sequence[tuple[str, ...]], amounts: Columns, knobs: Sequence[Knob]
) -> tuple[Term, ...]:
    """Return the physics products, also per unit of each declared amount and per category."""
    plain = [
        tuple(Factor(name) for name in names)
        for names in products
        if all(name in amounts for name in names)
    ]
    rates = [knob.name for knob in knobs if not knob.is_category]
    multipliers: list[Term] = [
        tuple(Factor(name) for name in chosen)
        for n_chosen in range(1, len(rates) + 1)
        for chosen in combinations(rates, n_chosen)
    ]
    multipliers += [
        (Factor(knob.name, Shape.IS, str(level)),)
        for knob in knobs
        if knob.is_category
        for level in np.unique(amounts[knob.name])
    ]
    return (*plain, *(term + more for more in multipliers for term in plain))


def families(products: Sequence[tuple[str, ...]], amounts: Columns) -> Families:
    """Return what may be added where the data ask for it, by what it stands for."""
    per_block = (Factor(BLOCKS),) if BLOCKS in amounts else ()
    work: list[Term] = [per_block, (*per_block, Factor(EXPERTS))]
    if EXPERTS not in amounts:
        work = [per_block]
    asked: dict[str, tuple[Term, ...]] = {}
    if TOKENS in amounts:
        knots = np.unique(np.quantile(amounts[TOKENS], HINGE_SHARES))
        asked["hinges in tokens"] = tuple(
            (Factor(TOKENS, Shape.ABOVE, float(knot)), *rest) for knot in knots for rest in work
        )
    if EXPERTS in amounts and (levels := _levels(amounts[EXPERTS])):
        asked["steps in top_k"] = tuple(
            (Factor(EXPERTS, Shape.AT_LEAST, level), *rest)
            for level in levels[1:]
            for rest in _beside_steps(products, per_block)
        )
    if products is PREFILL_PRODUCTS and TOKENS in amounts:
        asked["tiles of tokens"] = tuple(
            (Factor(TOKENS, Shape.ROUNDED_UP, tile), *rest) for tile in TILES for rest in work
        )
    return {name: terms for name, terms in asked.items() if terms}


def _beside_steps(products: Sequence[tuple[str, ...]], per_block: Term) -> tuple[Term, ...]:
    if products is PREFILL_PRODUCTS:
        return (per_block, (Factor(TOKENS), *per_block))
    return (per_block,)


def _levels(values: Column) -> list[float]:
    levels = np.unique(values)
    return [float(level) for level in levels] if len(levels) <= MOST_LEVELS else []
