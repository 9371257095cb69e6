"""From a test to its row, file and entries with the real engine and a tiny real model."""

from __future__ import annotations

import json
import os
import pty
import re
import sys

import pytest

from pytest_vlmlatency.history.run_files import run_in_file
from pytest_vlmlatency.records import Phase
from tests.projects import REPOSITORY, in_subprocess, table_of
from tests.zoo import build


@pytest.fixture(autouse=True, scope="module")
def _transformers_is_imported() -> None:
    """Import what a model needs here: it cannot be imported again after a run in this process."""
    build("llava")


REAL = """\
import pytest

import pytest_vlmlatency
from tests.zoo import build


@pytest.fixture(scope="session")
def llava():
    return build("llava")


def test_caption(vlm_latency, llava):
    output = vlm_latency(llava.model.generate, **llava.inputs, max_new_tokens=3)
    assert output.shape[0] == 1
    vlm_latency.case.check(decode_ms=60_000)


def test_chat(vlm_latency, llava):
    def chat():
        with pytest_vlmlatency.span("preprocess"):
            inputs = dict(llava.inputs)
        return llava.model.generate(**inputs, max_new_tokens=2)

    vlm_latency.pedantic(chat, model=llava.model)
"""

NAMED = """\
from pytest_vlmlatency.models.images import photograph


def test_own(vlm_latency, vlm_model):
    inputs = vlm_model.prepare(photograph("chelsea", longest_side=128), "What is this?")
    vlm_latency(vlm_model.model.generate, **inputs, max_new_tokens=2, min_new_tokens=2)
"""

RAISES = """\
import pytest
import torch
from tests.zoo import build


def test_raises(vlm_latency):
    llava = build("llava")

    def broken():
        raise OSError("the photograph is gone")

    vlm_latency.pedantic(broken, model=llava.model)


def test_no_model(vlm_latency):
    vlm_latency(len, "abc")
"""


def test_a_real_model_is_measured_shown_and_saved(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_x=REAL)

    result = pytester.runpytest_inprocess(
        "--vlm-rounds=3", "--vlm-warmup-rounds=0", "--vlm-json=run.json"
    )

    result.assert_outcomes(passed=2)
    run = run_in_file(pytester.path / "run.json")
    assert [case.id for case in run.cases] == ["test_x.py::test_caption", "test_x.py::test_chat"]
    assert [len(case.calls) for case in run.cases] == [3, 3]
    assert {span.name for span in run.cases[0].calls[0].spans} >= {
        Phase.VISION,
        Phase.PREFILL,
        Phase.DECODE,
    }
    table = table_of(result)
    assert re.match(r"test_caption +\d.* 16\+\d+→3 +3$", table[3])
    assert any(line.startswith("  preprocess: ") for line in table)


def test_phases_of_a_real_model_from_workers_are_saved_by_pytest_benchmark(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(test_x=REAL)

    result = in_subprocess(
        pytester, monkeypatch, "-n2", "--vlm-rounds=3", "--benchmark-json=out.json"
    )

    result.assert_outcomes(passed=2)
    run = json.loads((pytester.path / "out.json").read_text())
    rounds = {entry["name"]: entry["stats"]["rounds"] for entry in run["benchmarks"]}
    assert rounds["test_caption:prefill"] == 3
    assert rounds["test_chat:decode"] == 3
    assert all(entry["stats"]["min"] > 0 for entry in run["benchmarks"])


def test_the_named_model_is_loaded_and_measured(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(test_x=NAMED)

    result = in_subprocess(
        pytester, monkeypatch, "--vlm-model=dummy:smolvlm-tiny", "--vlm-rounds=2"
    )

    result.assert_outcomes(passed=1)
    assert re.match(r"test_own +\d.* \d+\+\d+→2 +2$", table_of(result)[3])


def test_errors_point_at_the_tests_own_line(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_x=RAISES)

    result = pytester.runpytest_inprocess("--tb=short")

    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "test_x.py:12: in test_raises",
            "E   OSError: the photograph is gone",
            "test_x.py:16: in test_no_model",
            "E   pytest_vlmlatency.errors.UsageProblem: cannot tell which model len runs; *",
        ]
    )


def test_a_terminal_shows_progress_and_keeps_none_of_it(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(test_x=REAL)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY), prepend=os.pathsep)
    monkeypatch.setenv("TERM", "xterm")
    written = bytearray()

    def keep(descriptor: int) -> bytes:
        data = os.read(descriptor, 4096)
        written.extend(data)
        return b"." * len(data)

    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--vlm-rounds=3"]
    code = pty.spawn(command, keep)

    assert os.waitstatus_to_exitcode(code) == 0
    text = written.decode()
    assert "\rcase 1/1: warm-up call 1" in text
    assert not any("warm-up" in line.rsplit("\r", 1)[-1] for line in text.split("\r\n"))
