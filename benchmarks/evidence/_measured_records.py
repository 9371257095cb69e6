"""The committed records that the estimators are judged by, and the error of a perfect predictor.

A model of MolmoE's shape answers ten questions about six pictures under 27 configurations. Each
question under a configuration is measured in two passes minutes apart, so that noise that lasts
for seconds is not taken for the work itself.

A perfect predictor knows the median time of each piece of work over all passes; its error is the
noise. A pass may be slower as a whole: that is estimated from all works together and counted in
full. The rest of a call is compared with the median of the other pass's calls of the same work,
less the error of that median, which is computed for normal noise (for Laplace noise up to 6 % too
little is subtracted).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from itertools import combinations, cycle, islice
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.evidence._record import RESULTS, now, read_machine, say
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL
from pytest_vlmlatency.export import read_records, write_records
from pytest_vlmlatency.models.images import photograph
from pytest_vlmlatency.plain import from_plain, to_json
from pytest_vlmlatency.records import Environment  # noqa: TC001  # cattrs resolves it

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pytest_vlmlatency.estimator.columns import Table

    Times = NDArray[np.float64]
    Indices = NDArray[np.int64]


FOLDER = RESULTS / "estimator_measured"
RECORDS = FOLDER / "records.parquet"
CIRCUMSTANCES = FOLDER / "environment.json"

MODEL = "dummy:molmoe-nano"
DATASET = "photographs"
GRID: Mapping[str, Sequence[str | int]] = {
    "tier": ["low", "medium", "high"],
    "top_k": [4, 8, 12],
    "num_active_blocks": [8, 12, 16],
}
N_CONFIGURATIONS = 27
PASSES = (3, 6)
"""Calls of each piece of work that are there after each pass."""
LONGEST_SIDE = 320


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One sample: a picture, the words of its prompt, and how many tokens are the answer."""

    picture: str
    n_words: int
    n_new_tokens: int


QUESTIONS = (  # short and long prompts with short and long answers
    Question(picture="coffee", n_words=12, n_new_tokens=2),
    Question(picture="astronaut", n_words=90, n_new_tokens=3),
    Question(picture="chelsea", n_words=30, n_new_tokens=4),
    Question(picture="page", n_words=140, n_new_tokens=5),
    Question(picture="rocket", n_words=6, n_new_tokens=6),
    Question(picture="text", n_words=60, n_new_tokens=8),
    Question(picture="coffee", n_words=20, n_new_tokens=11),
    Question(picture="astronaut", n_words=110, n_new_tokens=14),
    Question(picture="chelsea", n_words=45, n_new_tokens=18),
    Question(picture="rocket", n_words=75, n_new_tokens=24),
)
N_ASKED = N_CONFIGURATIONS * len(QUESTIONS) * PASSES[-1]
TEXT = (
    "What can be seen in this picture and where is it and which of the things in front would "
    "you look at first if you had never seen anything like it before"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """Where and when the records were measured. A load is the system's mean over a minute."""

    command: str
    started_at: str
    ended_at: str
    loads: tuple[float, ...]  # before the first pass, and after each
    n_asked: int
    n_left_out: int
    environment: Environment


def measure_records(folder: Path) -> None:
    """Measure all records and keep them as Parquet, with their circumstances beside it.

    The profile lies in the folder meanwhile; one that was stopped goes on there.
    """
    started_at, loads = now(), [_load()]
    folder.mkdir(parents=True, exist_ok=True)
    command = profile_command(write_dataset(folder), _grid(folder), folder / "profile")
    for n_rounds in PASSES:
        whole = [*command, "--rounds", str(n_rounds)]
        status = subprocess.run([sys.executable, "-m", *whole], check=False).returncode
        if status not in (0, 1):  # 1: some calls were refused, and are missing below
            raise RuntimeError(f"the profile ended with {status}; expected 0 or 1, see above")
        loads.append(_load())
    reader = read_records(folder / "profile")
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_records(reader, RECORDS, is_kept=False)  # measured anew
    for line in reader.report_lines():
        say(line)
    circumstances = Circumstances(
        command=said_command(),
        started_at=started_at,
        ended_at=now(),
        loads=tuple(loads),
        n_asked=N_ASKED,
        n_left_out=sum(left_out.count for left_out in reader.left_out.values()),
        environment=read_machine(),
    )
    CIRCUMSTANCES.write_text(to_json(circumstances) + "\n", encoding="utf-8")


def read_circumstances() -> Circumstances:
    """Return what is known of the committed records."""
    return from_plain(Circumstances, json.loads(CIRCUMSTANCES.read_text(encoding="utf-8")))


def profile_command(dataset: Path, grid: Path, to: Path) -> list[str]:
    """Return the command of a profile, less its rounds, as `python -m` takes it."""
    return [
        *(
            "pytest_vlmlatency",
            "profile",
            "--model",
            MODEL,
            "--dataset",
            str(dataset),
            "--configs",
            str(grid),
        ),
        *("--to", str(to), "--measure", "cpu", "--threads", "1"),
    ]


def said_command() -> str:
    """Return the command of the last pass as one would type it."""
    return (
        f"vlmlatency profile --model {MODEL} --dataset {DATASET}.jsonl --configs grid.json "
        f"--to profile/ --measure cpu --threads 1 --rounds {PASSES[-1]}"
    )


def write_dataset(folder: Path) -> Path:
    """Write the questions and their pictures into a folder; return the file of questions."""
    lines = []
    for question in QUESTIONS:
        picture = folder / f"{question.picture}.png"
        photograph(question.picture, longest_side=LONGEST_SIDE).save(picture)
        said = {
            "id": f"{question.picture}-{question.n_words}-{question.n_new_tokens}",
            "image": picture.name,
            "prompt": prompt_of(question.n_words),
            "max_new_tokens": question.n_new_tokens,
        }
        lines.append(f"{json.dumps(said)}\n")
    path = folder / f"{DATASET}.jsonl"
    path.write_text("".join(lines), encoding="utf-8")
    return path


def prompt_of(n_words: int) -> str:
    """Return a prompt of so many words."""
    return " ".join(islice(cycle(TEXT.split()), n_words)) + "?"


def _grid(folder: Path) -> Path:
    path = folder / "grid.json"
    path.write_text(json.dumps(GRID), encoding="utf-8")
    return path


def _load() -> float:
    return round(os.getloadavg()[0], 2)


SEED = 3407
N_DRAWS = 200_000
N_RESAMPLED = 10_000
OUTSIDE = (0.025, 0.975)
N_PASSES = 2
FEWEST = 2  # calls of a work in a pass
DIGITS = 2  # of a share of noise: more would not change what is simulated from it


@dataclass(frozen=True, slots=True, kw_only=True)
class Perfect:
    """What a perfect predictor misses of each record; their mean is its mean relative error.

    `shift` is by how much, in parts of 1, one pass as a whole was slower than the other; `shared`
    the part of the other noise's variance that calls of a work in one pass have in common.
    """

    misses: Times
    shift: float
    shared: float


def works_of(table: Table) -> Indices:
    """Return the index of each record's work: the same sample under the same configuration."""
    samples = [_parts_of(source)[1] for source in table.sources]
    sample = np.unique(samples, return_inverse=True)[1]
    pairs = sample * (table.configuration.max() + 1) + table.configuration
    return np.unique(pairs, return_inverse=True)[1].astype(np.int64)


def perfect_of(table: Table) -> dict[str, Perfect]:
    """Return what a perfect predictor would miss, by target."""
    works = works_of(table)
    runs = np.array([_parts_of(source)[0] for source in table.sources])
    order = list(dict.fromkeys(runs))
    groups = [
        tuple(np.flatnonzero((works == work) & (runs == run)) for run in order)
        for work in np.unique(works)
    ]
    for passes in groups:
        counts = [len(rows) for rows in passes]
        if len(counts) != N_PASSES or min(counts) < FEWEST:
            raise ValueError(
                f"a piece of work was measured {counts} times by pass; expected {N_PASSES} passes "
                f"of {FEWEST} calls or more each, or nothing is known of its noise"
            )
    return {
        PREFILL: _perfect(table.prefill_ms, groups),
        DECODE_STEP: _perfect(table.decode_per_step_ms, groups),
    }


def intervals_of(table: Table, known: Mapping[str, Perfect]) -> dict[str, tuple[float, float]]:
    """Return between what the perfect predictor's error lies with 95 %, by target.

    Samples are drawn anew, with all of their records: what is measured one after the other shares
    noise, so that records by themselves would make it look more certain than it is.
    """
    cases = [_parts_of(source)[1].partition("{")[0] for source in table.sources]
    sample = np.unique(cases, return_inverse=True)[1]
    n_samples = int(sample.max()) + 1
    drawn = np.random.default_rng(SEED).integers(0, n_samples, (N_RESAMPLED, n_samples))
    intervals = {}
    for target, perfect in known.items():
        sums = np.bincount(sample, weights=perfect.misses)[drawn].sum(axis=1)
        means = sums / np.bincount(sample)[drawn].sum(axis=1)
        low, high = np.quantile(means, OUTSIDE)
        intervals[target] = (float(low), float(high))
    return intervals


def own_median_errors(table: Table) -> dict[str, float]:
    """Return the mean relative error of what no predictor can know, by target.

    That is the median of all calls of a work, the very call that it is judged by among them.
    """
    works = works_of(table)
    errors = {}
    for target, measured_ms in (
        (PREFILL, table.prefill_ms),
        (DECODE_STEP, table.decode_per_step_ms),
    ):
        medians = np.array([np.median(measured_ms[works == work]) for work in np.unique(works)])
        errors[target] = float(np.abs(medians[works] / measured_ms - 1).mean())
    return errors


@cache
def inflation(n_others: int, shared: float) -> float:
    """Return how many times larger an error is against the median of another pass's calls than
    against the true middle, for normal noise of which calls of a pass share a part.
    """
    rng = np.random.default_rng(SEED)
    call, common = rng.standard_normal((2, N_DRAWS))
    own = rng.standard_normal((N_DRAWS, n_others))
    others = np.sqrt(shared) * common[:, None] + np.sqrt(1 - shared) * own
    off = np.abs(call - np.median(others, axis=1))
    return float(off.mean() / np.abs(call).mean())


def _perfect(measured_ms: Times, groups: list[tuple[Indices, ...]]) -> Perfect:
    log = np.log(measured_ms)
    slower = [np.median(log[first]) - np.median(log[second]) for first, second in groups]
    shift = float(np.median(slower)) / 2  # of the first pass from the middle, and back
    for first, second in groups:
        log[first] -= shift
        log[second] += shift
    shared = _shared(log, groups)
    misses = np.full(len(log), np.nan)
    for first, second in groups:
        for rows, others, own in ((first, second, shift), (second, first, -shift)):
            noise = (log[rows] - np.median(log[others])) / inflation(len(others), shared)
            misses[rows] = np.abs(np.exp(-(own + noise)) - 1)
    return Perfect(misses=misses, shared=shared, shift=abs(2 * shift))


def _shared(log: Times, groups: list[tuple[Indices, ...]]) -> float:
    """Return the share of the noise's variance that calls of a work in one pass have in common.

    Two calls of one pass differ by their own noise alone, two of different passes by all of it.
    """
    within = [abs(log[i] - log[j]) for passes in groups for i, j in _pairs_within(passes)]
    across = [abs(log[i] - log[j]) for first, second in groups for i in first for j in second]
    return round(max(0.0, 1 - float(np.mean(within) / np.mean(across)) ** 2), DIGITS)


def _pairs_within(passes: tuple[Indices, ...]) -> Iterator[tuple[int, int]]:
    for rows in passes:
        yield from combinations(rows, 2)


def _parts_of(source: str | None) -> tuple[str, str]:
    """Return the run and the case of a source, `run/dataset/sample{configuration}#round`."""
    run, _, rest = (source or "").partition("/")
    case = rest.rpartition("#")[0]
    if not case:
        raise ValueError(f"the source {source!r} names no case; expected run/dataset/sample#round")
    return run, case
