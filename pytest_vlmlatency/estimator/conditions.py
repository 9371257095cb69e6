"""What is no input of an estimator, and must be the same in all records for one law to hold.

Kinds of time are never mixed: reading leaves all but the first's out, as it does with machines.
Other conditions may differ, and a warning says which, as one law is then fitted on all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.printing import printable

CONDITIONS = (
    "measure",
    "model",
    "n_parameters",
    "dtype",
    "device",
    "batch_size",
    "n_threads",
)
N_SHOWN = 5
UNSAID = "unsaid"


class Conditions:
    """How many records are of which model, dtype and so on; some are added at a time."""

    def __init__(self, names: Sequence[str]) -> None:
        self._counts: dict[str, Counter[object]] = {name: Counter() for name in names}
        self._of_blocks: set[tuple[object, object]] = set()

    def add(self, records: Sequence[Mapping[str, object]]) -> None:
        """Count more records."""
        for name, counts in self._counts.items():
            counts.update(_hashable(record.get(name)) for record in records)
        self._of_blocks.update(
            (record.get("num_active_blocks"), _hashable(record.get("n_parameters")))
            for record in records
        )

    def alike(self) -> dict[str, str]:
        """Return what all records say alike."""
        alike = {
            name: next(iter(counts)) for name, counts in self._counts.items() if len(counts) == 1
        }
        return {name: str(value) for name, value in alike.items() if isinstance(value, str | int)}

    def differing(self) -> dict[str, Counter[str]]:
        """Return the counts of what differs.

        Blocks that are switched off may take their parameters along: that is one model still.
        """
        differing: dict[str, Counter[str]] = {}
        for name, counts in self._counts.items():
            if len(counts) == 1 or (name == "n_parameters" and self._follow_blocks()):
                continue
            differing[name] = Counter()
            for value, count in counts.items():
                differing[name][UNSAID if value is None else str(value)] += count
        return differing

    def _follow_blocks(self) -> bool:
        """Whether the number of active blocks, where it is given, determines that of parameters."""
        n_blocks = [blocks for blocks, _ in self._of_blocks]
        return None not in n_blocks and len(set(n_blocks)) == len(n_blocks)


def _hashable(value: object) -> object:
    """Return a word, a number or None as it is; anything else is no condition, and bytes here."""
    return value if isinstance(value, str | int | float | None) else repr(value).encode()


def differing_text(differing: Mapping[str, Counter[str]]) -> str:
    """Return what differs as a warning says it, a line for each condition."""
    lines = [f"  {name}: {_counts(counts)}" for name, counts in differing.items()]
    return "\n".join(
        [
            "records that differ in what is no input are fitted together, and no prediction can "
            "tell them apart:",
            *lines,
            "fit them apart, or declare what differs as a knob, such as "
            f'Knob("{next(iter(differing))}", is_category=True)',
        ]
    )


def check_alike(held: Mapping[str, str], seen: Mapping[str, str]) -> None:
    """Refuse a record of other conditions than an estimator's; what it does not say is passed."""
    for name, expected in held.items():
        if seen.get(name, expected) != expected:
            raise EstimatorProblem(
                f"the record's {name} is {seen[name]}, and all records that this estimator was "
                f"fitted on have {expected}: its times say nothing about a change; update with "
                f"records of {expected}, or fit an estimator on those of {seen[name]}"
            )


def _counts(counts: Counter[str]) -> str:
    shown = [f"{printable(value)} ({count:,})" for value, count in counts.most_common(N_SHOWN)]
    n_more = len(counts) - len(shown)
    return ", ".join([*shown, *([f"and {n_more} more"] if n_more else [])])
