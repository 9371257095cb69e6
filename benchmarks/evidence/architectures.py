"""Which architectures are covered: each is built, measured, and held against its configuration.

Every model that the tests can build from a configuration alone, and every name of transformers'
image-text-to-text mapping: those that cannot be built that way, or cannot generate from an image,
are listed with the reason. Nothing is counted by hand.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from benchmarks.evidence._checks import Found, failed_checks, look_at
from benchmarks.evidence._progress import one_by_one, quiet_transformers
from benchmarks.evidence._record import (
    Claim,
    Evidence,
    now,
    publish_figures,
    read_machine,
    say,
)
from benchmarks.evidence._table import folded, table
from pytest_vlmlatency.errors import VlmLatencyError
from pytest_vlmlatency.machine.cpu import pinned_threads
from tests.zoo import available, build
from tests.zoo.uncovered import UNCOVERED

NAME = "architectures"
SEED = 0
FEWEST_COVERED = 60
OUTSIDE = {"llava+olmoe", "molmo"}
"""Members of the zoo that no mapping knows: LLaVA with OLMoE, and a model in nobody's library."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model: what was found, and what is wrong with it. `found` is None if it was refused."""

    name: str
    found: Found | None
    problems: tuple[str, ...]

    @property
    def is_covered(self) -> bool:
        """Whether it was measured and every check held."""
        return self.found is not None and not self.problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All models. `mapping` are the names that transformers knows, `reasons` why some are not here.

    `reasons` holds names of the mapping alone.
    """

    rows: tuple[Row, ...]
    mapping: tuple[str, ...]
    reasons: Mapping[str, str]

    @property
    def covered(self) -> tuple[str, ...]:
        """The names of the mapping that are covered."""
        mapped = set(self.mapping)
        return tuple(row.name for row in self.rows if row.is_covered and row.name in mapped)

    @property
    def outside(self) -> tuple[str, ...]:
        """The covered models that the mapping does not know."""
        mapped = set(self.mapping)
        return tuple(row.name for row in self.rows if row.is_covered and row.name not in mapped)


def main() -> int:
    """Look at every model, and publish what was found."""
    quiet_transformers()
    started_at = now()
    mapping = tuple(sorted(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES))
    with pinned_threads(1):
        figures = Figures(
            rows=tuple(row_of(name) for name in one_by_one(sorted(available()))),
            mapping=mapping,
            reasons={name: UNCOVERED[name] for name in mapping if name in UNCOVERED},
        )
        environment = read_machine()
    return publish_figures(
        NAME, figures, judge, describe, seed=SEED, started_at=started_at, environment=environment
    )


def row_of(name: str) -> Row:
    """Build one model, measure it and check it."""
    specimen = build(name, seed=SEED)
    try:
        found = look_at(specimen)
    except VlmLatencyError as error:
        row = Row(name=name, found=None, problems=(f"refused: {error}",))
    else:
        row = Row(name=name, found=found, problems=failed_checks(specimen, found))
    if row.problems:
        say(f"{name}: {'; '.join(row.problems)}")
    return row


def judge(figures: Figures) -> tuple[Claim, ...]:
    """Return what is claimed of the coverage, and whether it held."""
    n_covered, n_names = len(figures.covered), len(figures.mapping)
    failed = [f"{row.name}: {'; '.join(row.problems)}" for row in figures.rows if row.problems]
    known = {row.name for row in figures.rows}
    unexplained = sorted(set(figures.mapping) - known - set(figures.reasons))
    both = sorted(known & set(figures.reasons))
    return (
        Claim(
            text=f"At least {FEWEST_COVERED} architectures of the mapping are covered.",
            holds=n_covered >= FEWEST_COVERED,
            seen=f"{n_covered} of {n_names} names, {n_covered / n_names:.0%}.",
        ),
        Claim(
            text="Models outside the mapping are covered too: LLaVA around OLMoE, and one written "
            "by hand.",
            holds=set(figures.outside) >= OUTSIDE,
            seen=f"{', '.join(figures.outside) or 'none'}.",
        ),
        Claim(
            text="Every model that can be built passes every check.",
            holds=bool(figures.rows) and not failed,
            seen=f"{'; '.join(failed) or 'all'}, {len(figures.rows)} in all.",
        ),
        Claim(
            text="Every other name of the mapping has its reason.",
            holds=not (unexplained or both),
            seen=f"{len(figures.reasons)} reasons; without one: {', '.join(unexplained) or 'none'};"
            f" covered all the same: {', '.join(both) or 'none'}.",
        ),
    )


def describe(evidence: Evidence[Figures]) -> str:
    """Return the share, the ways in which phases were found, all rows, and what is missing."""
    figures = evidence.figures
    n_covered, n_names = len(figures.covered), len(figures.mapping)
    parts = [
        f"Covered: {n_covered} of the {n_names} names in the image-text-to-text mapping "
        f"({n_covered / n_names:.0%}), and {len(figures.outside)} models outside it. Not covered, "
        f"for the reasons below: {len(figures.reasons)}.",
        _ways_table(figures.rows),
        folded(f"Each of the {len(figures.rows)} models", _rows_table(figures.rows)),
        _reasons_table(figures.reasons),
    ]
    return "\n\n".join(part for part in parts if part)


def _ways_table(rows: Sequence[Row]) -> str:
    """Return how many models have their phases in the same way, most of them first."""
    ways = Counter(_way(row.found) for row in rows if row.found is not None)
    examples = {_way(row.found): row.name for row in reversed(rows) if row.found is not None}
    cells = [[*way, str(n_models), examples[way]] for way, n_models in ways.most_common()]
    return table(["vision is entered by", "it runs", "step module", "models", "such as"], cells)


def _way(found: Found) -> tuple[str, str, str]:
    entries = {"get_*_features()" if "get_" in entry else "a module" for entry in found.vision}
    where = {"before": "before the prompt", "inside": "inside its forward"}
    return (
        " and ".join(sorted(entries)),
        where.get(found.vision_runs, found.vision_runs),
        "the model" if found.step == "" else "a part of it",
    )


def _rows_table(rows: Sequence[Row]) -> str:
    headers = ["model", "vision", "runs", "blocks", "step", "vision+text tokens", "verdict"]
    return table(headers, [_cells(row) for row in rows])


def _cells(row: Row) -> list[str]:
    verdict = "covered" if row.is_covered else "FAIL" if row.found else "REFUSED"
    if row.found is None:
        return [row.name, "", "", "", "", "", verdict]
    found = row.found
    return [
        row.name,
        ", ".join(entry.rpartition(".")[2] for entry in found.vision),
        found.vision_runs,
        str(found.n_blocks),
        found.step or "model",
        f"{found.n_vision_tokens}+{found.n_text_tokens}",
        verdict,
    ]


def _reasons_table(reasons: Mapping[str, str]) -> str:
    if not reasons:
        return ""
    cells = [[name, reason] for name, reason in sorted(reasons.items())]
    return table(["not covered", "why"], cells, left=2)


if __name__ == "__main__":
    sys.exit(main())
