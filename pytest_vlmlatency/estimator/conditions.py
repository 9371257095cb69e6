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

Chunks = Sequence[Mapping[str, Sequence[object]]]


def alike_in(chunks: Chunks, declared: Sequence[str]) -> dict[str, str]:
    """Return what all records say alike; a declared knob is an input, and no condition."""
    return {
        name: str(chunks[0][name][0])
        for name in CONDITIONS
        if name not in declared
        and isinstance(chunks[0][name][0], str | int)
        and _is_one(chunks, name)
    }


def differing_in(chunks: Chunks, declared: Sequence[str]) -> dict[str, Counter[str]]:
    """Return how many records are of which model, dtype and so on, where they differ.

    Blocks that are switched off may take their parameters along: that is one model still.
    """
    return {
        name: Counter(_said(value) for chunk in chunks for value in chunk[name])
        for name in CONDITIONS
        if name not in declared
        and not _is_one(chunks, name)
        and not (name == "n_parameters" and _follow_blocks(chunks))
    }


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


def _is_one(chunks: Chunks, name: str) -> bool:
    first = chunks[0][name][0]
    return all(chunk[name].count(first) == len(chunk[name]) for chunk in chunks)


def _follow_blocks(chunks: Chunks) -> bool:
    """Whether the number of active blocks, where it is said, says the number of parameters."""
    names = ("num_active_blocks", "n_parameters")
    pairs = {
        pair for chunk in chunks for pair in zip(*(chunk[name] for name in names), strict=True)
    }
    n_blocks = [blocks for blocks, _ in pairs]
    return None not in n_blocks and len(set(n_blocks)) == len(n_blocks)


def _said(value: object) -> str:
    return UNSAID if value is None else str(value)


def _counts(counts: Counter[str]) -> str:
    shown = [f"{printable(value)} ({count:,})" for value, count in counts.most_common(N_SHOWN)]
    n_more = len(counts) - len(shown)
    return ", ".join([*shown, *([f"and {n_more} more"] if n_more else [])])
