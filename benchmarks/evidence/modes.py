"""Ways of calling generate(), in families that are wired differently: right, or refused, and why.

Every cell is found by running: a bare call with counters on the parts that the tests know by name,
then a measured one on a clock that these parts move by hand. Right is a case whose phases are those
delays exactly, whose tokens, steps and labels are as asked for, and whose output is the bare one.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.evidence._record import (
    Claim,
    Evidence,
    now,
    publish_figures,
    read_machine,
    say,
)
from benchmarks.evidence._statistics import table
from pytest_vlmlatency.machine.cpu import pinned_threads
from tests.modes import FAMILIES, MODES, Outcome, Verdict, judge
from tests.zoo import build

NAME = "modes"
SEED = 0
FEWEST_MODES, FEWEST_FAMILIES = 14, 6
LONGEST = 160
"""Characters of a reason that the table shows; the JSON file has all of it."""
WORDS = {
    Outcome.RIGHT: "right",
    Outcome.WRONG: "WRONG",
    Outcome.REFUSED: "refused",
    Outcome.FAILING: "fails",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What became of one mode in one family; `why` where it is not right, `labels` where it is."""

    mode: str
    family: str
    outcome: str
    why: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All cells, mode by mode."""

    cells: tuple[Cell, ...]


def main() -> int:
    """Fill every cell, publish, and return the exit status."""
    started_at = now()
    with pinned_threads(1):
        figures = _figures()
        machine = read_machine()
    return publish_figures(
        NAME,
        figures,
        judge_figures,
        describe,
        seed=SEED,
        started_at=started_at,
        environment=machine,
    )


def _figures() -> Figures:
    specimens = {family: build(family, seed=SEED) for family in FAMILIES}
    cells = []
    for mode in MODES:
        say(f"{NAME}: {mode.name}")
        for family, specimen in specimens.items():
            cells.append(_cell(mode.name, family, judge(mode, specimen)))
    return Figures(cells=tuple(cells))


def _cell(mode: str, family: str, verdict: Verdict) -> Cell:
    labels = verdict.case.labels if verdict.case else ()
    return Cell(
        mode=mode,
        family=family,
        outcome=str(verdict.outcome),
        why=" ".join(verdict.why.split()),
        labels=labels,
    )


def judge_figures(figures: Figures) -> tuple[Claim, ...]:
    """Return the claims: nothing is wrong, every refusal has a reason, the table is large."""
    wrong = [cell for cell in figures.cells if cell.outcome == Outcome.WRONG]
    silent = [cell for cell in figures.cells if cell.outcome != Outcome.RIGHT and not cell.why]
    n_modes = len({cell.mode for cell in figures.cells})
    n_families = len({cell.family for cell in figures.cells})
    n_right = sum(cell.outcome == Outcome.RIGHT for cell in figures.cells)
    return (
        Claim(
            text="Each mode is measured right, or refused, or raises what it raises unmeasured.",
            holds=not wrong,
            seen="; ".join(f"{cell.mode}, {cell.family}: {cell.why}" for cell in wrong)
            or f"no cell is wrong, {n_right} of {len(figures.cells)} are right.",
        ),
        Claim(
            text="Whatever is not measured says why.",
            holds=not silent,
            seen=", ".join(f"{cell.mode}, {cell.family}" for cell in silent) or "all.",
        ),
        Claim(
            text=f"There are at least {FEWEST_MODES} modes and {FEWEST_FAMILIES} families.",
            holds=n_modes >= FEWEST_MODES and n_families >= FEWEST_FAMILIES,
            seen=f"{n_modes} modes, {n_families} families.",
        ),
    )


def describe(evidence: Evidence[Figures]) -> str:
    """Return what the words mean, and the table."""
    return (
        "'fails': generate() itself raises that error, measured or not. Numbers are of the reasons "
        "below the table. Labels are those of the cases that are right.\n\n"
        f"{cells_text(evidence.figures.cells)}"
    )


def cells_text(cells: Sequence[Cell]) -> str:
    """Return the table, and below it each reason once."""
    reasons = list(dict.fromkeys(_reason(cell) for cell in cells if cell.why))
    families = list(dict.fromkeys(cell.family for cell in cells))
    rows = []
    for mode in dict.fromkeys(cell.mode for cell in cells):
        own = [cell for cell in cells if cell.mode == mode]
        rows.append([mode, *(_told(cell, reasons) for cell in own), _labels(own)])
    notes = "\n".join(f"{number}. {reason}" for number, reason in enumerate(reasons, start=1))
    return f"{table(['mode', *families, 'labels'], rows)}\n\n{notes}"


def _told(cell: Cell, reasons: list[str]) -> str:
    word = WORDS[Outcome(cell.outcome)]
    return f"{word} {reasons.index(_reason(cell)) + 1}" if cell.why else word


def _reason(cell: Cell) -> str:
    """Return a reason as the list has it: whose it is, and its beginning."""
    whose = {Outcome.FAILING: "transformers: "}
    text = cell.why if len(cell.why) <= LONGEST else f"{cell.why[:LONGEST]}..."
    return f"{whose.get(Outcome(cell.outcome), 'refused: ')}{text}"


def _labels(cells: list[Cell]) -> str:
    """Return the labels of a mode's cases; where a family has others, those too."""
    found = dict.fromkeys(", ".join(cell.labels) for cell in cells if cell.outcome == Outcome.RIGHT)
    return " / ".join(labels or "none" for labels in found) or "-"


if __name__ == "__main__":
    sys.exit(main())
