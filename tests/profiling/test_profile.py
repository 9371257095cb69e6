"""`vlmlatency profile`: each sample under each configuration, once, however often it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency import cli
from pytest_vlmlatency.errors import InvalidMeasurement
from pytest_vlmlatency.export import read_records
from pytest_vlmlatency.measure.run import measure
from pytest_vlmlatency.profiling import sweep as room
from tests.profiling.datasets import a_grid, questions
from tests.projects import REPOSITORY
from tests.threads import torch_threads

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "dummy:molmoe-nano"
LIMIT_S = 240.0


def _arguments(folder: Path, n_samples: int = 2, *more: str) -> list[str]:
    data = ["--dataset", str(questions(folder, n_samples)), "--max-new-tokens", "3"]
    grid = ["--configs", str(a_grid(folder)), "--to", str(folder / "out")]
    return ["profile", "--model", MODEL, *data, *grid, *more]


def _n_lines(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.rglob("*.jsonl"))


def test_each_sample_is_measured_under_each_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = cli.main(_arguments(tmp_path))

    assert (status, capsys.readouterr().out) == (
        0,
        f"{tmp_path / 'out'}: 4 records written, 0 were there, 0 calls refused\n",
    )
    reader = read_records(tmp_path / "out")
    records = list(reader)
    assert dict(reader.left_out) == {}
    assert Counter(record["top_k"] for record in records) == {4: 2, 8: 2}
    assert {record["dataset"] for record in records} == {"questions"}
    assert {record["image_count"] for record in records} == {1}
    assert {record["model_name"] for record in records} == {MODEL}


def test_a_second_time_there_is_nothing_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(_arguments(tmp_path, 1))
    cli.main(_arguments(tmp_path, 1))

    assert "0 records written, 2 were there, 0 calls refused" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--attn", "eager", 'attention "sdpa", this profile "eager"'),
        ("--max-new-tokens", "4", "max_new_tokens 3, this profile 4"),
    ],
)
def test_a_profile_of_another_kind_does_not_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, words: str
) -> None:
    cli.main(_arguments(tmp_path, 1))
    before = _n_lines(tmp_path / "out")

    assert cli.main([*_arguments(tmp_path, 1), option, value]) == 1

    assert words in capsys.readouterr().err
    assert _n_lines(tmp_path / "out") == before


def test_a_profile_on_other_threads_does_not_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(_arguments(tmp_path, 1))

    with torch_threads(3):
        assert cli.main([*_arguments(tmp_path, 1), "--threads", "0"]) == 1

    assert "n_threads 1, this profile 3" in capsys.readouterr().err


def test_more_rounds_add_what_is_missing(tmp_path: Path) -> None:
    cli.main(_arguments(tmp_path, 1))
    cli.main(_arguments(tmp_path, 1, "--rounds", "3", "--measure", "wall"))

    assert len(list(read_records(tmp_path / "out"))) == 6


def test_cpu_time_is_recorded_on_demand(tmp_path: Path) -> None:
    cli.main(_arguments(tmp_path, 1, "--measure", "cpu"))

    assert {record["measure"] for record in read_records(tmp_path / "out")} == {"cpu_ms"}


def test_what_is_refused_is_counted_named_and_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(4))

    def refuses_the_second(*args: object, **kwargs: object) -> object:
        if next(calls) == 1:
            raise InvalidMeasurement("decode took no time")
        return measure(*args, **kwargs)  # type: ignore[arg-type]  # as it was given

    with monkeypatch.context() as patched:
        patched.setattr(room, "measure", refuses_the_second)
        assert cli.main(_arguments(tmp_path)) == 1

    printed = capsys.readouterr()
    assert "3 records written, 0 were there, 1 calls refused" in printed.out
    assert "refused: low-k8-b8, sample 0-" in printed.err
    assert "decode took no time" in printed.err
    assert cli.main(_arguments(tmp_path)) == 0
    assert len(list(read_records(tmp_path / "out"))) == 4


def test_a_profile_that_is_interrupted_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(4))

    def interrupted(*args: object, **kwargs: object) -> object:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return measure(*args, **kwargs)  # type: ignore[arg-type]  # as it was given

    with monkeypatch.context() as patched:
        patched.setattr(room, "measure", interrupted)
        assert cli.main(_arguments(tmp_path)) == 130

    assert "the same command goes on" in capsys.readouterr().err
    assert cli.main(_arguments(tmp_path)) == 0
    assert "2 records written, 2 were there" in capsys.readouterr().out


def test_a_profile_that_refuses_everything_stops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_args: object, **_kwargs: object) -> object:
        raise InvalidMeasurement("decode took no time")

    monkeypatch.setattr(room, "measure", refuses)

    assert cli.main(_arguments(tmp_path, 30)) == 1
    assert "the first 20 calls were all refused" in capsys.readouterr().err


def test_a_picture_that_is_none_costs_its_own_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = _arguments(tmp_path, 1)
    (tmp_path / "a.png").write_text("no picture")

    assert cli.main(arguments) == 1
    assert "no picture that can be read" in capsys.readouterr().err


def test_knobs_of_another_model_are_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["dummy:llava-tiny" if one == MODEL else one for one in _arguments(tmp_path)]

    assert cli.main(arguments) == 2
    assert "fits a MolmoE-shaped model" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_killed_profile_goes_on_where_it_was(tmp_path: Path) -> None:
    n_samples = 6
    command = [sys.executable, "-m", "pytest_vlmlatency", *_arguments(tmp_path, n_samples)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment)
    deadline_s = time.monotonic() + LIMIT_S
    while _n_lines(tmp_path / "out") < 3 and process.poll() is None:
        assert time.monotonic() < deadline_s, "nothing was measured"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.jsonl")}
    n_before = _n_lines(tmp_path / "out")

    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )

    assert (process.returncode, done.returncode) == (-signal.SIGKILL, 0), done.stderr
    assert 3 <= n_before < 2 * n_samples
    assert f"{2 * n_samples - n_before} records written, {n_before} were there" in done.stdout
    assert all(path.read_bytes().startswith(content) for path, content in before.items())
    reader = read_records(tmp_path / "out")
    counts = Counter((record["sample"], record["top_k"]) for record in reader)
    assert set(counts.values()) == {1}
    assert len(counts) == 2 * n_samples
    assert dict(reader.left_out) == {}
