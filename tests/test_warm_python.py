"""A fork that stands for a new process ends as one does, and with what stands for it."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.projects import ends
from tests.warm_python import warm_python

if TYPE_CHECKING:
    from pathlib import Path

PARENT = "import os; print(open(f'/proc/{os.getppid()}/cmdline').read())"


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("pass", 0, ""),
        ("import sys; sys.exit(7)", 7, ""),
        ("import sys; sys.exit('no')", 1, "no\n"),
        ("import os; os._exit(3)", 3, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -15, ""),
        ("import sys, torch; sys.exit(torch.get_num_threads())", 1, ""),
    ],
)
def test_the_status_and_the_errors_of_a_fork_are_the_executables(
    code: str, status: int, error: str
) -> None:
    done = subprocess.run([warm_python(), "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (status, error)


def test_a_fork_has_its_own_folder_variables_and_path(tmp_path: Path) -> None:
    code = "import os, sys; print(os.getcwd(), os.environ['MINE'], sys.path[1], sys.argv[1])"
    variables = {**os.environ, "MINE": "yes", "PYTHONPATH": "/somewhere"}

    done = subprocess.run(
        [warm_python(), "-c", code, "more"],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == [str(tmp_path), "yes", "/somewhere", "more"]


@pytest.mark.parametrize(
    ("options", "variables", "is_fork"),
    [((), {}, True), (("-O",), {}, False), ((), {"HF_HOME": "/nowhere"}, False)],
)
def test_what_a_fork_cannot_do_is_a_new_process(
    options: tuple[str, ...], variables: dict[str, str], *, is_fork: bool
) -> None:
    done = subprocess.run(
        [warm_python(), *options, "-c", PARENT],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )

    assert ("/server\0" in done.stdout) is is_fork


def test_a_fork_ends_with_the_executable_that_is_killed() -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(300)"
    with subprocess.Popen([warm_python(), "-c", code], stdout=subprocess.PIPE, text=True) as done:
        assert done.stdout is not None
        process = int(done.stdout.readline())
        done.kill()

    assert ends(process)


def test_a_fork_ends_with_its_server_and_later_launches_are_new_processes() -> None:
    code = "import os, signal; os.kill(os.getppid(), signal.SIGKILL); signal.pause()"
    warm_python.cache_clear()
    executable = warm_python()

    killed = subprocess.run([executable, "-c", code], check=False, timeout=60)
    after = subprocess.run([executable, "-c", "pass"], check=False, timeout=60)
    warm_python.cache_clear()

    assert (killed.returncode, after.returncode) == (-9, 0)
