"""judge: a screen, then looks at fresh pairs until one decides. Pure but for what `pairs` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vlmlatency.stats.rule import GateRule
from pytest_vlmlatency.stats.screen import screen
from pytest_vlmlatency.stats.sequential import Pair, look
from pytest_vlmlatency.records import Judgement

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_vlmlatency.stats.noise import Noise


def judge(
    history: Sequence[Sequence[float]],
    candidate: Sequence[float],
    *,
    pairs: Callable[[int], Sequence[Pair]] | None = None,
    noise: Noise | None = None,
    rule: GateRule | None = None,
    is_disturbed: bool = False,
) -> Judgement:
    """Judge whether a candidate's run is slower than its history, confirmed by fresh pairs.

    `history`: runs, newest last, each its round times in ms in order, warm-up included (the rule
    drops it); `candidate` likewise. `pairs(k)` returns the first k fresh (baseline, candidate)
    pairs, so that a larger k extends a smaller one, or fewer where no more can be had. `noise`:
    `pool_noise` of all histories of this pytest run. `is_disturbed`: throttling or contention was
    seen, so the history alone shows no change.

    Without a history, pairs alone decide. It is `screen`, then `look` at each of `rule.looks`.
    """
    rule = rule or GateRule()
    seen = screen(history, candidate, noise=noise, rule=rule, is_disturbed=is_disturbed)
    if isinstance(seen, Judgement):
        return seen
    if pairs is None:
        return seen.unconfirmed
    for n_pairs in rule.looks:
        measured = tuple(pairs(n_pairs))[:n_pairs]
        is_last = len(measured) < n_pairs or n_pairs == rule.looks[-1]
        judgement = look(seen, measured, rule=rule, is_last=is_last)
        if judgement is not None:
            return judgement
    raise AssertionError("the last look always comes to a judgement")
