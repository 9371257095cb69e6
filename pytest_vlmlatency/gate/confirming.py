"""Confirmation: fresh pairs of processes, look by look, for all that is undecided together.

A launch costs imports and a model load, so one launch a side and pair measures every case that is
still open; a case leaves once all of its phases are decided. Owns when to look and when to stop.
How pairs are measured is `confirmation`'s, and what they show is `gate`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pytest_vlmlatency.errors import NotConfirmed
from pytest_vlmlatency.records import Judgement, rounds_of
from pytest_vlmlatency.stats import Suspicion, look

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_vlmlatency.gate.comparisons import Comparison
    from pytest_vlmlatency.records import Rounds, Run

Key = tuple[str, str]
"""The case's id and the phase."""

RunPair = tuple["Run", "Run"]
"""A run of the baseline's commit, then one of the candidate's, of fresh processes."""


class PairSource(Protocol):
    """What measures pairs: fresh processes of both checkouts, in ABBA order."""

    def extend_to(
        self, n_pairs: int, tests: Sequence[str], *, most_pairs: int | None = None
    ) -> Sequence[RunPair]:
        """Return all pairs so far after measuring these tests until there are `n_pairs`.

        Fewer come back where no more can be had, such as at a time limit or after Ctrl-C.
        `most_pairs` is how many may be asked for in all.
        """

    def stop(self, because: str) -> None:
        """Measure no more pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What fresh pairs came to: a judgement for each comparison, and the pairs themselves.

    `broken_because`: no more could be measured, so what was open then has no judgement.
    """

    judgements: Mapping[Key, Judgement]
    pairs: tuple[RunPair, ...]
    broken_because: str = ""


def confirm(
    suspicions: Mapping[Key, Suspicion],
    comparisons: Mapping[Key, Comparison],
    source: PairSource,
    *,
    stop_because: Callable[[Mapping[Key, Judgement]], str] = lambda _decided: "",
) -> Looked:
    """Measure pairs until each suspicion is decided, or its rule's looks are used up.

    `stop_because` returns why what was decided so far makes more pairs needless, "" where it does
    not; what is open then is judged by the pairs that are there. Raises NotConfirmed where not one
    pair could be measured; later, what was decided is kept.
    """
    open_keys = dict(suspicions)
    decided: dict[Key, Judgement] = {}
    pairs: Sequence[RunPair] = ()
    for n_pairs in sorted({k for key in open_keys for k in comparisons[key].rule.looks}):
        if not open_keys:
            break
        tests = sorted({_test(comparisons[key]) for key in open_keys})
        try:
            most_pairs = max(comparisons[key].rule.looks[-1] for key in open_keys)
            pairs = source.extend_to(n_pairs, tests, most_pairs=most_pairs)
        except NotConfirmed as problem:
            if not pairs:
                raise
            return Looked(judgements=decided, pairs=tuple(pairs), broken_because=str(problem))
        _look_at_all(
            open_keys, decided, comparisons, pairs, n_pairs, is_cut_short=len(pairs) < n_pairs
        )
        why = stop_because(decided) if open_keys else ""
        if why:
            source.stop(why)
            _look_at_all(open_keys, decided, comparisons, pairs, n_pairs, is_cut_short=True)
    assert not open_keys, "each rule's last look comes to a judgement"
    return Looked(judgements=decided, pairs=tuple(pairs))


def pair_rounds(pairs: Sequence[RunPair], case_id: str) -> tuple[tuple[Rounds, Rounds], ...]:
    """Return the rounds of a case in each pair that has them on both sides."""
    both = ((_rounds(before, case_id), _rounds(after, case_id)) for before, after in pairs)
    return tuple(
        (before, after) for before, after in both if before is not None and after is not None
    )


def _look_at_all(
    open_keys: dict[Key, Suspicion],
    decided: dict[Key, Judgement],
    comparisons: Mapping[Key, Comparison],
    pairs: Sequence[RunPair],
    n_pairs: int,
    *,
    is_cut_short: bool,
) -> None:
    """Move what the pairs so far decide from the open ones to the decided ones."""
    for key in list(open_keys):
        judgement = _looked(
            open_keys[key], comparisons[key], pairs, n_pairs, is_cut_short=is_cut_short
        )
        if judgement is not None:
            decided[key] = judgement
            del open_keys[key]


def _looked(
    suspicion: Suspicion,
    comparison: Comparison,
    pairs: Sequence[RunPair],
    n_pairs: int,
    *,
    is_cut_short: bool,
) -> Judgement | None:
    """Look where the rule says so, or for the last time where no more can be had.

    What no pair has on both sides so far (a side that lacks the case or the phase) is not waited
    for.
    """
    looks = comparison.rule.looks
    if n_pairs not in looks and not is_cut_short:
        return None
    phase = comparison.phase
    times = [
        (before.times_ms[phase], after.times_ms[phase])
        for before, after in pair_rounds(pairs, comparison.case_id)
        if phase in before.times_ms and phase in after.times_ms
    ]
    is_last = is_cut_short or n_pairs == looks[-1] or not times
    return look(suspicion, times, rule=comparison.rule, is_last=is_last)


def _rounds(run: Run, case_id: str) -> Rounds | None:
    found = run.by_id.get(case_id)
    return None if found is None or not (found.is_measured and found.calls) else rounds_of(found)


def _test(comparison: Comparison) -> str:
    assert comparison.test is not None, "what is judged was measured by a test"
    return comparison.test
