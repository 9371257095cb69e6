"""When --vlm-gate starts its fresh processes: once memory is free."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.projects import in_subprocess
from tests.repositories import commit, repository

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

GATE = ("--vlm-gate", "-p", "no:cacheprovider", "benchmarks")

WATCHED: Mapping[str, str] = {
    "own.py": "",
    "benchmarks/conftest.py": """\
        import json
        import os
        import sys
        from pathlib import Path

        import pytest
        from tests.projects import alive

        LOG = Path(os.environ["VLM_TEST_LOG"])


        def log(word):
            with LOG.open("a") as file:
                file.write(f"{word} {os.getpid()}\\n")


        @pytest.fixture(scope="session")
        def loaded():
            log("loaded")
            yield
            log("freed")


        @pytest.fixture(scope="session")
        def _vlm_engine():
            from tests.noisy_engine import NoisyEngine

            return NoisyEngine()


        if "--vlm-asked" in sys.argv:
            lines = [line.split() for line in LOG.read_text().splitlines()]
            loaders = {pid for word, pid in lines if word == "loaded"}
            freed = {pid for word, pid in lines if word == "freed"}
            seen = {
                "loaders": len(loaders),
                "not_freed": len(loaders - freed),
                "alive": len([pid for pid in loaders if alive(int(pid))]),
            }
            LOG.with_name("launches").open("a").write(json.dumps(seen) + "\\n")
            os._exit(3)
        """,
    "benchmarks/test_x.py": """\
        import own
        import pytest
        import torch


        class Model(torch.nn.Module):
            def generate(self, **kwargs):
                return {}


        @pytest.mark.parametrize("size", [1, 2])
        def test_caption(vlm_latency, loaded, size):
            vlm_latency(Model().generate)
        """,
    "pytest.ini": "[pytest]\npythonpath = .\n",
    ".gitignore": "__pycache__/\n.vlm_latency/\n.benchmarks/\n",
}


@pytest.mark.parametrize(
    ("workers", "n_loaders", "n_alive"), [((), 1, 1), (("-n2",), 2, 0)], ids=["one", "n2"]
)
def test_fresh_processes_start_once_fixtures_are_torn_down_and_workers_have_ended(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    workers: tuple[str, ...],
    n_loaders: int,
    n_alive: int,
) -> None:
    monkeypatch.setenv("VLM_TEST_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("VLM_TEST_SEEDS", str(tmp_path / "seeds"))
    repository(pytester.path, WATCHED)
    commit(pytester.path, {"own.py": "# a change\n"})

    result = in_subprocess(pytester, monkeypatch, *GATE, *workers)

    result.assert_outcomes(passed=2)
    assert result.ret == 12
    assert json.loads((tmp_path / "launches").read_text()) == {
        "loaders": n_loaders,
        "not_freed": 0,
        "alive": n_alive,
    }
    result.stdout.fnmatch_lines(["*the launch of the baseline (*) ended with status 3*"])
