"""Small projects that pytest is run on, with a model that only answers."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

from pytest_benchmark.session import BenchmarkSession

# Torch cannot be imported twice in a process, and pytester forgets what a run in it imported; so
# does it with modules of ours, which a test could not patch then.
import tests.fake_engine  # noqa: F401
from tests.warm_python import warm_python

if TYPE_CHECKING:
    import pytest

WARNS_OF_ANY_WORKERS = not hasattr(BenchmarkSession, "note_xdist_benchmark")
"""Whether this pytest-benchmark (before 5.3) warns of workers before it knows of benchmarks."""

REPOSITORY = Path(__file__).parent.parent

FAKE_ENGINE = """\
import pytest


@pytest.fixture(scope="session")
def _vlm_engine():
    from tests.fake_engine import FakeEngine

    return FakeEngine()


"""

MODEL = """\
from contextlib import nullcontext

import pytest
import torch


class Knob:
    def __init__(self, value):
        self.value = value

    def values(self):
        return {"knob": self.value}

    def apply(self, model):
        return nullcontext()

    def read_back(self, model):
        return self.values()


class Model(torch.nn.Module):
    def generate(self, **kwargs):
        return kwargs.get("answer")


model = Model()
"""

MEASURED = """\
def test_caption(vlm_latency):
    vlm_latency(model.generate)
"""


TWICE = """\

def pytest_runtest_protocol(item, nextitem):
    from _pytest.runner import runtestprotocol

    for attempt in range(2):
        if attempt:
            item._initrequest()
        for report in runtestprotocol(item, nextitem=nextitem, log=False):
            if report.failed and not attempt:
                report.outcome = "rerun"
            item.ihook.pytest_runtest_logreport(report=report)
    return True
"""
"""A plugin that runs each test twice, as pytest-rerunfailures does where the first one failed."""


def project(pytester: pytest.Pytester, tests: str = MEASURED, *, conftest: str = "") -> None:
    """Write test_x.py and a conftest.py that takes over the engine which measures nothing."""
    pytester.makeconftest(FAKE_ENGINE + dedent(conftest))
    pytester.makepyfile(test_x=MODEL + "\n\n" + dedent(tests))


def in_subprocess(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, *args: str, is_new: bool = False
) -> pytest.RunResult:
    """Run pytest in a process of its own, which finds this repository's tests.

    `is_new`: by a new interpreter, where it matters what pytest imports and when.
    """
    if not is_new:
        monkeypatch.setattr(sys, "executable", warm_python())
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY), prepend=os.pathsep)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    return pytester.runpytest_subprocess(*args)


def heed_interrupts() -> None:
    """Let a new process end at Ctrl-C, as one of a terminal does, however its parent was started.

    To be run before its program: a shell starts what is in the background with Ctrl-C ignored, and
    every process below inherits that.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def alive(pid: int) -> bool:
    """Whether a process of this user still runs: one that only waits to be buried does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # gone since, or a system without /proc
        return not Path("/proc").exists()
    return state not in {"Z", "X"}


def ends(pid: int, *, limit_s: float = 30.0) -> bool:
    """Whether a process is gone, at the latest after a while: a killed one takes a moment."""
    deadline_s = time.monotonic() + limit_s
    while alive(pid) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return not alive(pid)


def table_of(result: pytest.RunResult) -> list[str]:
    """Return our section of the summary, without the lines that pytest adds around it."""
    lines = result.stdout.lines
    start = next(index for index, line in enumerate(lines) if "- vlm latency: " in line)
    length = next(
        (index for index, line in enumerate(lines[start:]) if line.startswith("====")), None
    )
    return lines[start:][:length]
