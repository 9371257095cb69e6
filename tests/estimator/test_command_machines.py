"""What a command says of the machine and the conditions that an estimator's records were of."""

import json
from pathlib import Path

import pytest

from pytest_vlmlatency import cli
from pytest_vlmlatency.estimator.roofline import RooflineEstimator
from pytest_vlmlatency.export import write_records
from tests.estimator.machines import simulated

KIND = {"machine": "8f1c2d3e4a5b", "model": "Molmoe", "dtype": "bfloat16", "n_threads": 1}
CONFIG = ["vision_tokens=450", "text_tokens=30", "tier=medium", "top_k=8", "num_active_blocks=12"]
BUDGET = ["--budget", "9000", "--output-tokens", "4"]


def _records(folder: Path, n: int = 40, **changed: object) -> Path:
    kind: dict[str, object] = {**KIND, **changed}
    path = folder / f"{len(list(folder.iterdir()))}.jsonl"
    write_records([record | kind for record in simulated(n, seed=3)], path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of an estimator of one machine, model, dtype and number of threads."""
    path = tmp_path_factory.mktemp("model") / "estimator.json"
    RooflineEstimator().fit([record | KIND for record in simulated(300)]).save(path)
    return path


@pytest.mark.parametrize("command", [["predict"], ["search", *BUDGET]])
def test_the_machine_is_always_said(
    model: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert cli.main(["estimator", command[0], str(model), *CONFIG, *command[1:]]) == 0

    printed = capsys.readouterr()
    assert printed.out.endswith("measured on the machine 8f1c2d3e4a5b\n")
    assert printed.err == ""


def test_json_has_the_machine_too(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["estimator", "predict", str(model), *CONFIG, "--json"])
    assert json.loads(capsys.readouterr().out)["machine"] == "8f1c2d3e4a5b"

    cli.main(["estimator", "search", str(model), *CONFIG, *BUDGET, "--json"])
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)) == 1
    assert printed.err == "measured on the machine 8f1c2d3e4a5b\n"


@pytest.mark.parametrize("command", [["predict"], ["search", *BUDGET]])
@pytest.mark.parametrize(
    ("machine", "warning"),
    [
        ("8f1c2d3e4a5b", ""),
        ("8f1c", ""),
        ("ba9876543210", "machine 8f1c2d3e4a5b, and is used for ba9876543210: its numbers may be"),
        ("here", "machine 8f1c2d3e4a5b, and is used for aa or bb: its numbers may be off by any"),
    ],
)
def test_another_machine_is_warned_of(
    model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    machine: str,
    warning: str,
) -> None:
    monkeypatch.setattr(cli, "_fingerprints_here", lambda: frozenset({"bb", "aa"}))
    options = [*CONFIG, *command[1:], "--machine", machine]

    assert cli.main(["estimator", command[0], str(model), *options]) == 0

    said = capsys.readouterr().err
    assert warning in said
    assert bool(said) is bool(warning)


def test_this_machine_is_known_by_its_fingerprint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = min(cli._fingerprints_here())
    path = tmp_path / "estimator.json"
    RooflineEstimator().fit([one | {"machine": here} for one in simulated(100)]).save(path)

    cli.main(["estimator", "predict", str(path), *CONFIG, "--machine", "here"])

    assert capsys.readouterr().err == ""


def test_no_machine_at_all_is_a_usage_error(model: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["estimator", "predict", str(model), *CONFIG, "--machine", ""])


def test_an_unknown_machine_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "estimator.json"
    RooflineEstimator().fit([one | {"machine": None} for one in simulated(100)]).save(path)

    cli.main(["estimator", "predict", str(path), *CONFIG, "--machine", "8f1c"])

    said = capsys.readouterr()
    assert said.err == (
        "its records do not say on which machine they were measured: it may be another than 8f1c\n"
    )


@pytest.mark.parametrize("command", [["evaluate", "--max-mape", "prefill=900"], ["plot"]])
def test_records_of_another_kind_of_time_are_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    records = _records(tmp_path, measure="cpu_ms")
    of_model = [str(model), f"--to={tmp_path / 'x.svg'}"]
    named = of_model if command[0] == "plot" else [f"--model={model}"]

    status = cli.main(["estimator", *command, *named, f"--results_dir={records}"])

    printed = capsys.readouterr()
    assert (status, printed.out) == (1, "")
    assert f"the times of the records are cpu_ms, and {model} was trained on wall_ms" in printed.err


def test_what_else_differs_is_said_in_words(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = _records(tmp_path, machine="ba9876543210", dtype="float32", model=None)
    options = [f"--model={model}", f"--results_dir={records}", "--json"]

    assert cli.main(["estimator", "evaluate", *options]) == 0

    printed = capsys.readouterr()
    unlike = [
        "model is not the same in all, or unsaid, there Molmoe",
        "dtype is float32, there bfloat16",
    ]
    assert json.loads(printed.out)["unlike"] == unlike
    assert f"the records differ from those of {model}: {'; '.join(unlike)}\n" in printed.err
    assert "measured on the machine 8f1c2d3e4a5b, and is used for ba9876543210" in printed.err


def test_records_of_the_same_kind_are_compared_in_silence(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--model={model}", f"--results_dir={_records(tmp_path)}", "--json"]

    cli.main(["estimator", "evaluate", *options])

    printed = capsys.readouterr()
    assert json.loads(printed.out)["unlike"] == []
    assert printed.err == ""
