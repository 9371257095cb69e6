"""A commit with 5 % more work in one phase is found in that phase alone; no change, no finding.

Two commits of a small model in a real git repository, fresh processes, the CPU's own clock. The
second commit's vision has 42 layers of the same size instead of 40. `vlmlatency ab` and `--vlm-
gate` compare both commits, and `ab` compares a commit with itself, 20 times. It takes about an
hour: each trial is kept as it ends, and an interrupted run goes on.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
from pytest_vlmlatency.plain import from_plain, to_plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


N_LAYERS, N_MORE_LAYERS = 40, 42

MODEL = """\
from types import SimpleNamespace

import torch
from torch import nn

N_VISION_LAYERS = {n_vision_layers}
WIDTH, HIDDEN, N_WORDS, PATCH = 128, 512, 50, 16


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, states):
        return states + self.down(torch.tanh(self.up(states)))


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.layers = nn.ModuleList([Block() for _ in range(N_VISION_LAYERS)])

    def forward(self, images):
        states = self.patch(images).flatten(2).transpose(1, 2)
        for layer in self.layers:
            states = layer(states)
        return states


class Captioner(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(N_WORDS, WIDTH)
        self.blocks = nn.ModuleList([Block() for _ in range(24)])
        self.lm_head = nn.Linear(WIDTH, N_WORDS)
        self.vision = Tower()

    def forward(self, input_ids, images=None):
        states = self.embed(input_ids)
        if images is not None:
            states = torch.cat([self.vision(images), states], dim=1)
        for block in self.blocks:
            states = block(states)
        return SimpleNamespace(logits=self.lm_head(states[:, -1:]))

    @torch.no_grad()
    def generate(self, input_ids, images=None, max_new_tokens=16):
        tokens = [self(input_ids, images).logits[:, -1].argmax(-1, keepdim=True)]
        while len(tokens) < max_new_tokens:
            tokens.append(self(tokens[-1]).logits[:, -1].argmax(-1, keepdim=True))
        return torch.cat([input_ids, *tokens], dim=1)
"""

BENCHMARK = """\
import torch
from captioner import Captioner


def test_caption(vlm_latency):
    images = torch.linspace(0, 1, 3 * 256 * 256).reshape(1, 3, 256, 256)
    vlm_latency(Captioner().generate, input_ids=torch.tensor([[1, 2, 3, 4]]), images=images)
"""

IGNORED = "__pycache__/\n.vlm_latency/\n.benchmarks/\n.pytest_cache/\n"


def two_commits(root: Path) -> None:
    """Make the repository: HEAD~1 has the first model, HEAD the one with 5 % more vision."""
    commits_of(root, (N_LAYERS, N_MORE_LAYERS))


def commits_of(root: Path, n_vision_layers: Sequence[int]) -> None:
    """Make a repository with a commit of the model for each number of vision layers."""
    files = {
        "benchmarks/test_caption.py": BENCHMARK,
        "pytest.ini": "[pytest]\npythonpath = src\n",
        ".gitignore": IGNORED,
    }
    _git(root, "init", "--quiet", "--initial-branch=main")
    for number in n_vision_layers:
        model = MODEL.replace("{n_vision_layers}", str(number))
        _commit(root, {**files, "src/captioner/__init__.py": model})


def _commit(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    _git(root, "add", "--all")
    who = ("-c", "user.name=evidence", "-c", "user.email=evidence@example.org")
    _git(root, *who, "commit", "--quiet", "--message", "A model")


def _git(root: Path, *args: str) -> None:
    subprocess.run(["git", "-C", str(root), *args], check=True)


NAME = "ab_real"
N_UNCHANGED = 20
SLOWER_PHASE = "vision"
CONSEQUENCE = "total"
PHASES = ("vision", "prefill", "decode", "total")
KEPT = Path(tempfile.gettempdir()) / "vlmlatency-ab-real-trials.jsonl"
TIME_LIMIT_S = 1800
UNCHANGED_TIME_LIMIT_S = 150
"""Of a commit with itself: it may be left undecided, but each look at it may not say slower."""

AB = ("-m", "pytest_vlmlatency", "ab")
GATE = (
    "-m",
    "pytest",
    "--vlm-gate",
    f"--vlm-confirm-time={TIME_LIMIT_S}",
    "-p",
    "no:cacheprovider",
)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One comparison: its exit status, and of each phase the verdict and the change."""

    kind: str
    status: int
    verdicts: Mapping[str, str]
    change_ratios: Mapping[str, float]
    n_pairs: int
    time_s: float

    @property
    def slower(self) -> list[str]:
        """The phases that were called slower."""
        return [phase for phase, verdict in self.verdicts.items() if verdict == "slower"]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """All trials."""

    trials: tuple[Trial, ...]

    def of(self, *kinds: str) -> list[Trial]:
        """Return the trials of these kinds."""
        return [trial for trial in self.trials if trial.kind in kinds]


def main() -> int:
    """Make the trials that are missing, and publish all of them."""
    started_at = now()
    plan = ["ab", "gate", *["unchanged"] * N_UNCHANGED]
    trials = kept_trials()
    with tempfile.TemporaryDirectory(prefix="ab-real-") as folder:
        root = Path(folder).resolve() / "project"
        root.mkdir()
        two_commits(root)
        for kind in plan[len(trials) :]:
            trials.append(try_once(root, kind))
            with KEPT.open("a", encoding="utf-8") as file:
                file.write(json.dumps(to_plain(trials[-1])) + "\n")
    with pinned_threads(1):
        environment = read_machine()
    figures = Figures(trials=tuple(trials))
    status = publish_figures(
        NAME,
        figures,
        judge,
        describe,
        seed=0,
        started_at=started_at,
        environment=environment,
    )
    KEPT.unlink()
    return status


def kept_trials() -> list[Trial]:
    """Return the trials of a run that was interrupted."""
    lines = KEPT.read_text(encoding="utf-8").splitlines() if KEPT.exists() else []
    return [from_plain(Trial, json.loads(line)) for line in lines]


def try_once(root: Path, kind: str) -> Trial:
    """Compare once: by `ab`, by a gate, or a commit with itself."""
    file = root.parent / "verdict.json"
    file.unlink(missing_ok=True)
    start_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, *_command(kind, file)],
        cwd=root,
        check=False,
        capture_output=True,
        text=True,
    )
    if not file.exists():
        raise RuntimeError(f"{kind} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    report = json.loads(file.read_text(encoding="utf-8"))["report"]
    (case,) = report["cases"]
    judged = {phase["phase"]: phase["judgement"] for phase in case["phases"]}
    trial = Trial(
        kind=kind,
        status=done.returncode,
        verdicts={phase: judgement["verdict"] for phase, judgement in judged.items()},
        change_ratios={phase: judgement["change_ratio"] for phase, judgement in judged.items()},
        n_pairs=sum(confirmation["n_pairs"] for confirmation in report["confirmations"]),
        time_s=time.monotonic() - start_s,
    )
    say(f"{kind}: status {trial.status}, {trial.n_pairs} pairs, {trial.time_s:.0f} s")
    return trial


def judge(figures: Figures) -> tuple[Claim, ...]:
    """Return what is claimed of the trials, and whether it held."""
    found = [
        set(trial.slower) - {CONSEQUENCE} == {SLOWER_PHASE} for trial in figures.of("ab", "gate")
    ]
    unchanged = figures.of("unchanged")
    wrong = [trial for trial in unchanged if trial.slower or trial.status]
    return (
        Claim(
            text="5 % more work in vision is found by ab and by a gate, in that phase alone.",
            holds=len(found) == 2 and all(found),
            seen=f"{'; '.join(map(_told, figures.of('ab', 'gate')))}.",
        ),
        Claim(
            text=f"{N_UNCHANGED} comparisons of a commit with itself raise nothing.",
            holds=len(unchanged) == N_UNCHANGED and not wrong,
            seen=f"{len(wrong)} of {len(unchanged)}.",
        ),
    )


def describe(evidence: Evidence[Figures]) -> str:
    """Return the table: a row a trial, those without a change in one row."""
    figures = evidence.figures
    rows = [_row(trial.kind, [trial]) for trial in figures.of("ab", "gate")]
    rows.append(_row(f"a commit with itself, {N_UNCHANGED} times", figures.of("unchanged")))
    return (
        f"Two commits of a model with {N_LAYERS}, then {N_MORE_LAYERS} layers in its vision tower, "
        f"and the second with itself; CPU time of fresh processes. Up to {TIME_LIMIT_S // 60} "
        f"minutes for a change, {UNCHANGED_TIME_LIMIT_S} s for each comparison of a commit with "
        f"itself.\n\n" + table(["comparison", *PHASES, "pairs", "s each"], rows)
    )


def _command(kind: str, file: Path) -> Sequence[str]:
    if kind == "gate":
        return (*GATE, f"--vlm-verdict={file}", "--vlm-history=none", "benchmarks")
    first, limit_s = ("HEAD~1", TIME_LIMIT_S) if kind == "ab" else ("HEAD", UNCHANGED_TIME_LIMIT_S)
    limited = (*AB, "--confirm-time", str(limit_s))
    return (*limited, "--verdict", str(file), first, "HEAD", "--", "benchmarks")


def _row(name: str, trials: Sequence[Trial]) -> list[str]:
    cells = [_cell(trials, phase) for phase in PHASES]
    pairs = sorted(trial.n_pairs for trial in trials)
    told = str(pairs[0]) if pairs[0] == pairs[-1] else f"{pairs[0]} to {pairs[-1]}"
    mean_s = sum(trial.time_s for trial in trials) / len(trials)
    return [name, *cells, told, f"{mean_s:.0f}"]


def _cell(trials: Sequence[Trial], phase: str) -> str:
    changes = sorted(100 * (trial.change_ratios[phase] - 1) for trial in trials)
    verdicts = [trial.verdicts[phase] for trial in trials]
    if len(trials) == 1:
        return f"{verdicts[0]} {changes[0]:+.1f} %"
    counted = ", ".join(f"{verdicts.count(one)} {one}" for one in dict.fromkeys(verdicts))
    return f"{counted} ({changes[0]:+.1f} to {changes[-1]:+.1f} %)"


def _told(trial: Trial) -> str:
    return f"{trial.kind}: slower in {', '.join(trial.slower) or 'nothing'}"


if __name__ == "__main__":
    sys.exit(main())
