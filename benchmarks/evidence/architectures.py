"""Which architectures are covered: each is built, measured, and compared with its configuration.

All models that the tests can build from a configuration, and all names of transformers'
image-text-to-text mapping: those that cannot be built that way, or cannot generate from an image,
are listed with the reason. The expected phases come from the model's recipe: its configuration and
source. The output is compared token by token, before and after measuring.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from benchmarks.evidence._record import (
    Claim,
    Evidence,
    now,
    publish_figures,
    read_machine,
    say,
)
from benchmarks.evidence._statistics import folded, one_by_one, quiet_transformers, table
from pytest_vlmlatency.errors import VlmLatencyError
from pytest_vlmlatency.machine.cpu import pinned_threads
from pytest_vlmlatency.measure.case import Identity
from pytest_vlmlatency.measure.run import measure
from pytest_vlmlatency.options import Options
from pytest_vlmlatency.records import Call, Phase
from tests.zoo import Specimen, available, build
from tests.zoo.uncovered import UNCOVERED

N_ROUNDS = 2
SUM_TOLERANCE_MS = 1e-6
PARTS = tuple(str(phase) for phase in Phase)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What measuring showed of one model.

    `vision` are the outermost entries into vision, a module's path or a method's name; `block_list`
    is what the blocks' paths begin with, `decode_ms` the least and `residual_ms` the furthest from
    the total of any round. `changed` is what was left behind, or other than without us.
    """

    step: str
    block_list: str
    n_blocks: int
    vision: tuple[str, ...]
    vision_runs: str
    n_vision_calls: int
    n_vision_tokens: int | None
    n_text_tokens: int | None
    decode_ms: float
    residual_ms: float
    changed: tuple[str, ...]


def look_at(specimen: Specimen) -> Found:
    """Measure a model, and call it bare before and after."""
    before = specimen.generate(**specimen.inputs)
    traces = dict(_traces(specimen.model))
    measured = measure(
        specimen.generate,
        kwargs=specimen.inputs,
        options=Options(rounds=N_ROUNDS),
        identity=Identity(id=specimen.name, name=specimen.name),
    )
    left = dict(_traces(specimen.model))
    after = specimen.generate(**specimen.inputs)
    case = measured.case
    assert case.phase_map is not None, "a measured case has its phases"
    blocks = case.phase_map.blocks
    call = case.calls[0]
    outputs = {"the measured output": measured.output, "the next output": after}
    return Found(
        step=case.phase_map.step,
        block_list=blocks[0].rpartition(".")[0],
        n_blocks=len(blocks),
        vision=tuple(case.phase_map.vision_calls),
        vision_runs=case.phase_map.vision_runs,
        n_vision_calls=max(call.n_vision_calls for call in case.calls),
        n_vision_tokens=call.n_vision_tokens,
        n_text_tokens=call.n_text_tokens,
        decode_ms=min(call.decode_ms for call in case.calls),
        residual_ms=max(map(_residual_ms, case.calls)),
        changed=(
            *(name for name, output in outputs.items() if not _is_same(output, before)),
            *(f"{path or 'the model'} afterwards" for path in left if left[path] != traces[path]),
        ),
    )


def failed_checks(specimen: Specimen, found: Found) -> tuple[str, ...]:
    """Return what is other than the recipe says, or cannot be true."""
    compared = {
        "step module": (found.step, specimen.step_path),
        "list of blocks": (found.block_list, specimen.block_path),
        "number of blocks": (found.n_blocks, specimen.n_blocks),
        "where vision runs": (found.vision_runs, specimen.all_vision_runs),
        "runs of vision": (found.n_vision_calls, 1),
        "vision tokens": (found.n_vision_tokens, specimen.n_vision_tokens),
        "text tokens": (found.n_text_tokens, specimen.n_text_tokens),
    }
    problems = [
        f"{name}: {seen!r}, expected {expected!r}"
        for name, (seen, expected) in compared.items()
        if seen != expected
    ]
    if not covers_tower(found.vision, specimen.vision_path):
        problems.append(f"the tower {specimen.vision_path} is no part of {found.vision}")
    if not found.decode_ms > 0:
        problems.append(f"decode took {found.decode_ms} ms")
    if found.residual_ms > SUM_TOLERANCE_MS:
        problems.append(f"the phases miss the total by {found.residual_ms} ms")
    return (*problems, *(f"changed: {what}" for what in found.changed))


def covers_tower(entries: tuple[str, ...], tower: str) -> bool:
    """Whether vision is entered by the tower, by a module around it, or by a method above it."""
    return any(tower == entry or f"{tower}.".startswith(_reach(entry)) for entry in entries)


def _reach(entry: str) -> str:
    """Return what the paths below an entry begin with; a method reaches all of its owner."""
    owner, _, name = entry.rpartition(".")
    inside = owner if name.startswith("get_") else entry
    return f"{inside}." if inside else ""


def _traces(model: torch.nn.Module) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Yield what measuring might leave on each module: hooks, and attributes of its own."""
    for path, module in model.named_modules():
        hooks = (module._forward_pre_hooks, module._forward_hooks)
        yield path, (sorted(vars(module)), *(tuple(own.items()) for own in hooks))


def _residual_ms(call: Call) -> float:
    """Return how far the parts are from the total."""
    return abs(sum(call.phase_time(part, "wall_ms") for part in PARTS) - call.total_ms)


def _is_same(output: object, expected: torch.Tensor) -> bool:
    return isinstance(output, torch.Tensor) and torch.equal(output, expected)


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
