"""Many writers at once, and writers that are killed: real processes, and nothing is lost."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.history.names import name_of
from pytest_vlmlatency.history.store import open_store
from pytest_vlmlatency.records import run_rounds_of
from tests.projects import REPOSITORY
from tests.runs import a_run
from tests.warm_python import warm_python

if TYPE_CHECKING:
    from pathlib import Path

N_WRITERS, N_EACH = 10, 15

WRITE = """\
import sys
from pytest_vlmlatency.history.store import open_store
from tests.runs import a_run

store = open_store(sys.argv[1])
first, count = int(sys.argv[2]), int(sys.argv[3])
for number in range(first, first + count):
    store.write(a_run(number))
    print(number, flush=True)
"""
COMPACT = """\
import sys
from pytest_vlmlatency.history.compaction import compact
from pytest_vlmlatency.history.store import open_store

print("ready", flush=True)
for _ in range(int(sys.argv[2])):
    compact(open_store(sys.argv[1]))
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a process that finds this repository's packages."""
    command = [warm_python(), "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)


def test_ten_processes_that_write_at_once_lose_nothing(url_of_processes: str) -> None:
    writers = [start(WRITE, url_of_processes, 1 + n * N_EACH, N_EACH) for n in range(N_WRITERS)]
    statuses = [(writer.communicate(), writer.returncode)[1] for writer in writers]

    store = open_store(url_of_processes)
    runs = [a_run(number) for number in range(1, 1 + N_WRITERS * N_EACH)]
    assert statuses == [0] * N_WRITERS
    assert store.index().names == tuple(name_of(run) for run in runs)
    assert store.read(store.index().names).runs == tuple(run_rounds_of(run) for run in runs)


def test_writers_lose_nothing_to_compactions_beside_them(url_of_processes: str) -> None:
    writers = [start(WRITE, url_of_processes, 1 + n * N_EACH, N_EACH) for n in range(3)]
    compactions = [start(COMPACT, url_of_processes, 4) for _ in range(2)]
    for process in (*writers, *compactions):
        process.communicate()

    store = open_store(url_of_processes)
    runs = [a_run(number) for number in range(1, 1 + 3 * N_EACH)]
    assert [process.returncode for process in (*writers, *compactions)] == [0] * 5
    assert store.index().problems == ()
    assert store.index().names == tuple(name_of(run) for run in runs)
    assert store.read(store.index().names).runs == tuple(run_rounds_of(run) for run in runs)


@pytest.mark.parametrize("wait_ms", [0, 1, 2, 3, 5, 8, 13, 21, 34, 55])
def test_a_writer_that_is_killed_leaves_a_history_that_can_be_read(
    tmp_path: Path, wait_ms: int
) -> None:
    writer = start(WRITE, tmp_path, 1, 100_000)
    assert writer.stdout is not None
    first = writer.stdout.readline()
    time.sleep(wait_ms / 1000)  # the moment of the kill is what is varied
    writer.kill()
    said = [int(line) for line in (first, *writer.communicate()[0].splitlines())]

    store = open_store(tmp_path)
    names = store.index().names
    read = store.read(names)
    assert store.index().problems == read.problems == ()
    assert len(read.runs) == len(names)
    assert {name_of(a_run(number)) for number in said} <= set(names)
    assert len(names) <= len(said) + 1
    store.write(a_run(80_000))
    assert store.read(store.index().names).problems == ()


@pytest.mark.parametrize("wait_ms", [0, 20, 40, 60, 80, 120, 180, 270])
def test_a_compaction_that_is_killed_loses_nothing(tmp_path: Path, wait_ms: int) -> None:
    store = open_store(tmp_path)
    runs = [a_run(number) for number in range(1, 61)]
    for run in runs:
        store.write(run)
    compaction = start(COMPACT, tmp_path, 3)
    assert compaction.stdout is not None
    compaction.stdout.readline()
    time.sleep(wait_ms / 1000)  # the moment of the kill is what is varied
    compaction.kill()
    compaction.communicate()

    after = open_store(tmp_path)
    names = after.index().names
    assert after.index().problems == ()
    assert names == tuple(name_of(run) for run in runs)
    assert after.read(names).runs == tuple(run_rounds_of(run) for run in runs)
