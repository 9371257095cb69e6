"""The records that the estimators are judged by: measured by `vlmlatency profile`, and committed.

Owns what was measured, how, and where it lies; judging is `estimator_measured`'s. A model of
MolmoE's shape answers ten questions about six pictures under 27 configurations. Each piece of work,
a question under a configuration, is measured in two passes minutes apart: noise that lasts for
seconds is then not taken for the work itself.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from benchmarks.evidence._record import RESULTS, now, read_machine, say
from pytest_vlmlatency.export import read_records, write_records
from pytest_vlmlatency.models.images import photograph
from pytest_vlmlatency.plain import from_plain, to_json
from pytest_vlmlatency.records import Environment

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
