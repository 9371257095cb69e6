"""What a script of the evidence leaves behind: its figures, its claims, and where they were made.

Owns writing and reading the JSON files, and publishing: the same text to the terminal and into the
documentation, and an exit status that says whether every claim holds. Host names, users and paths
are never read.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, TypeVar

import torch

from benchmarks.evidence._docs import blocks, filled
from benchmarks.evidence._statistics import erase_progress
from pytest_vlmlatency.machine.environment import read_environment
from pytest_vlmlatency.plain import from_plain, to_json
from pytest_vlmlatency.records import Environment

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results" / "cpu"
BYTES_PER_GIB = 2**30

Figures = TypeVar("Figures")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One sentence that can be false, whether it held, and what was seen."""

    text: str
    holds: bool
    seen: str


@dataclass(frozen=True, kw_only=True)
class Evidence(Generic[Figures]):
    """One run of a script. `figures` are its own, raw enough to recompute what is claimed."""

    name: str
    command: str
    seed: int
    started_at: str
    environment: Environment
    claims: tuple[Claim, ...]
    figures: Figures


def now() -> str:
    """Return the time as text, for `started_at`."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_machine() -> Environment:
    """Return the machine and its software; call it while the threads are those of the run."""
    return read_environment([torch.device("cpu")])


def command_of(name: str) -> str:
    """Return the command that runs a script."""
    return f"python -m benchmarks.evidence.{name}"


def path_of(name: str) -> Path:
    """Return where a script's results are kept."""
    return RESULTS / f"{name}.json"


def read_evidence(kind: type[Evidence[Figures]], name: str) -> Evidence[Figures]:
    """Return what a script wrote last."""
    return from_plain(kind, json.loads(path_of(name).read_text(encoding="utf-8")))


def document_of(name: str) -> Path:
    """Return the one document that has a script's block."""
    having = [
        document
        for document in sorted(DOCS.glob("*.md"))
        if name in blocks(document.read_text(encoding="utf-8"))
    ]
    if len(having) != 1:
        raise ValueError(
            f"{len(having)} documents in {DOCS.name}/ have a block '<!-- evidence:{name} -->'; "
            f"expected one: put the two markers, with an empty line between, where it belongs"
        )
    return having[0]


def publish(evidence: Evidence[Figures], describe: Callable[[Evidence[Figures]], str]) -> int:
    """Print the evidence, keep it, fill its block of a document; return the exit status.

    Evidence that fails a claim is kept and documented too: it is what was found.
    """
    text = block_of(evidence, describe)
    sys.stdout.write(f"\n{text}\n")
    RESULTS.mkdir(parents=True, exist_ok=True)
    path_of(evidence.name).write_text(to_json(evidence) + "\n", encoding="utf-8")
    document = document_of(evidence.name)
    whole = document.read_text(encoding="utf-8")
    document.write_text(filled(whole, evidence.name, text), encoding="utf-8")
    failed = [claim for claim in evidence.claims if not claim.holds]
    for claim in failed:
        sys.stderr.write(f"{evidence.name}: does not hold: {claim.text} Seen: {claim.seen}\n")
    return 1 if failed else 0


def publish_figures(
    name: str,
    figures: Figures,
    judge: Callable[[Figures], tuple[Claim, ...]],
    describe: Callable[[Evidence[Figures]], str],
    *,
    seed: int,
    started_at: str,
    environment: Environment,
) -> int:
    """Judge a script's figures and publish them as evidence; return the exit status."""
    evidence = Evidence[Figures](
        name=name,
        command=command_of(name),
        seed=seed,
        started_at=started_at,
        environment=environment,
        claims=judge(figures),
        figures=figures,
    )
    return publish(evidence, describe)


def block_of(evidence: Evidence[Figures], describe: Callable[[Evidence[Figures]], str]) -> str:
    """Return the evidence as Markdown: where it was made, the figures, the claims."""
    claims = [
        f"- {'Holds' if claim.holds else 'DOES NOT HOLD'}: {claim.text} Seen: {claim.seen}"
        for claim in evidence.claims
    ]
    origin = (
        f"`{evidence.command}`, {evidence.started_at[:10]}, seed {evidence.seed}, "
        f"on {machine_kind(evidence.environment)}."
    )
    return "\n\n".join((origin, describe(evidence), "\n".join(claims)))


def machine_kind(environment: Environment) -> str:
    """Return the machine and the software that decides, in one phrase."""
    machine, versions = environment.machine, environment.versions
    memory = machine["memory_bytes"]
    gib = f", {float(memory) / BYTES_PER_GIB:.0f} GiB" if memory is not None else ""
    threads = environment.settings.get("n_threads")
    return (
        f"{machine['cpu']} ({machine['n_cores']} cores seen{gib}), {threads} torch thread"
        f"{'' if threads == 1 else 's'}, {versions['python']}, torch {versions['torch']}, "
        f"transformers {versions['transformers']}, pytest {versions['pytest']}"
    )


def say(line: str) -> None:
    """Report progress to whoever waits."""
    erase_progress()
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
