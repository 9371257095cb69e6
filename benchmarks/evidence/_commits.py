"""A repository with two commits of a small model: the second's vision does 5 % more work.

The work is in layers of the same size, 40 and then 42: what a layer more costs is what the clock
says, and nothing waits or sleeps.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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
    files = {
        "src/captioner/__init__.py": MODEL.replace("{n_vision_layers}", str(N_LAYERS)),
        "benchmarks/test_caption.py": BENCHMARK,
        "pytest.ini": "[pytest]\npythonpath = src\n",
        ".gitignore": IGNORED,
    }
    _git(root, "init", "--quiet", "--initial-branch=main")
    _commit(root, files)
    slower = MODEL.replace("{n_vision_layers}", str(N_MORE_LAYERS))
    _commit(root, {"src/captioner/__init__.py": slower})


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
