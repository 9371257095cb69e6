"""What is judged: a run, what each of its cases is compared with, and what measures fresh pairs.

Made by `gate`, `ab` and `compare`, answered by `flow`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pytest_vlmlatency.gate.confirming import PairSource

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from pytest_vlmlatency.gate.comparisons import CaseBaseline
    from pytest_vlmlatency.paired.pairs import Failure
    from pytest_vlmlatency.records import BudgetVerdict, Confirmation, Rounds, RunHeader, RunRounds


class MeasuringPairs(PairSource, Protocol):
    """A source of pairs that says in the end what was measured, and where it came from."""

    @property
    def failures(self) -> Sequence[Failure]:
        """The tests that a side could not measure, and why."""

    @property
    def interrupted_by(self) -> str | None:
        """What ended the measuring from outside: Ctrl-C or SIGTERM; None where nothing did."""

    def look_for_missing_tests(self) -> None:
        """Find out which of them the baseline does not have; no pair is asked for after."""

    def confirmation(self) -> Confirmation:
        """Return how many pairs there are, how long they took and what cut them short."""


OpenPairs = Callable[[str], AbstractContextManager[MeasuringPairs]]
"""Opens a source of pairs against one commit; NotConfirmed where that can't be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be judged: a run, and what each of its cases is compared with.

    `baselines` has each case that has one; `new` are those that the baseline's runs don't have,
    `unmatched` says why stored rounds of a case are not comparable, `uncollected` are cases of the
    newest baseline run. `no_pairs_because` says why nothing can be measured now, where that is so;
    `no_baseline_because` why there can be no baseline yet, which fails nothing. `unchanged` says
    why a case's code is certainly the same on both sides: it is the same, without pairs.
    `is_fail_fast`: no more pairs are measured once it is certain that the gate fails.
    """

    candidate: RunRounds
    today: date
    baseline: str
    baselines: Mapping[str, CaseBaseline]
    runs: tuple[RunHeader, ...] = ()
    new: frozenset[str] = frozenset()
    unmatched: Mapping[str, str] = field(default_factory=dict)
    unchanged: Mapping[str, str] = field(default_factory=dict)
    uncollected: tuple[Rounds, ...] = ()
    budgets: Mapping[str, tuple[BudgetVerdict, ...]] = field(default_factory=dict)
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    not_applied_because: tuple[str, ...] = ()
    no_pairs_because: str = ""
    no_baseline_because: str = ""
    is_strict: bool = False
    is_fail_fast: bool = False
