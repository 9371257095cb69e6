"""Real git repositories in a test's folder: commits of a few files, and what git says of them."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent
from typing import TYPE_CHECKING

from tests.projects import FAKE_ENGINE, REPOSITORY
from tests.warm_python import warm_python

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pytest

BENCHMARK = """\
import captioner
import torch


class Model(torch.nn.Module):
    def generate(self, **kwargs):
        return captioner.NAME


def test_caption(vlm_latency):
    vlm_latency(Model().generate)
"""

SMALL: Mapping[str, str] = {
    "src/captioner/__init__.py": "NAME = 'first'\n",
    "benchmarks/conftest.py": FAKE_ENGINE,
    "benchmarks/test_x.py": BENCHMARK,
    "pytest.ini": "[pytest]\n",
    ".gitignore": "__pycache__/\n.pytest_cache/\n",
}
"""A project whose benchmark is measured by the engine that makes times up."""

CAPTION = "benchmarks/test_x.py::test_caption"


def repository(root: Path, files: Mapping[str, str]) -> str:
    """Make a repository with one commit of these files; return the commit."""
    root.mkdir(parents=True, exist_ok=True)
    git(root, "init", "--quiet", "--initial-branch=main")
    return commit(root, files)


def commit(root: Path, files: Mapping[str, str]) -> str:
    """Write files, commit all there is, and return the commit."""
    write(root, files)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "A change")
    return git(root, "rev-parse", "HEAD")


def write(root: Path, files: Mapping[str, str]) -> None:
    """Write files, with their folders."""
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text))


def git(root: Path, *args: str) -> str:
    """Run git as a user who has a name, and return what it printed."""
    who = ("-c", "user.name=A User", "-c", "user.email=user@example.org")
    done = subprocess.run(
        ("git", "-C", str(root), *who, *args), capture_output=True, check=True, text=True
    )
    return done.stdout.strip()


def find_these_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let launched processes start as forks, and find this repository: the package, the engine."""
    monkeypatch.setattr(sys, "executable", warm_python())
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))


def state_of(root: Path) -> dict[str, object]:
    """Return what must stay: what git says, its index, and every file and folder with its times."""
    own = [path for path in sorted(root.rglob("*")) if ".git" not in path.parts]
    of_git = [root / ".git" / name for name in ("index", "HEAD", "config", "logs/HEAD")]
    files = {
        str(path): (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in (*own, *of_git)
    }
    return files | {
        "status": git(root, "--no-optional-locks", "status", "--porcelain"),
        "stashes": git(root, "stash", "list"),
        "branches": git(root, "branch", "--all"),
    }
