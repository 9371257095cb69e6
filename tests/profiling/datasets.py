"""Small data sets on disk, of pictures that are all alike."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path

GRID = {"tier": ["low"], "top_k": [4, 8], "num_active_blocks": [8]}


def a_picture(path: Path) -> Path:
    Image.new("RGB", (32, 24), "red").save(path)
    return path


def questions(folder: Path, n_samples: int = 2, **fields: object) -> Path:
    """Write a file of JSON Lines about one picture, and return it."""
    a_picture(folder / "a.png")
    lines = [
        {"image": "a.png", "prompt": f"What is in picture {number}?", **fields}
        for number in range(n_samples)
    ]
    path = folder / "questions.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


def a_grid(folder: Path) -> Path:
    path = folder / "grid.json"
    path.write_text(json.dumps(GRID), encoding="utf-8")
    return path
