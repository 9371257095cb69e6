"""Which products a law may be made of: physics first, then hinges, steps and tiles.

Weights are read once a block, each token is multiplied with those of top_k experts, and looks at
all others; the vision backbone and what happens once a call are beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from pytest_vlmlatency.estimator.terms import Factor, Shape, Term

if TYPE_CHECKING:
    from pytest_vlmlatency.estimator.inputs import Column, Columns, Knob

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
