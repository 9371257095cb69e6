"""Further inputs on the command line: declared for training, given for a prediction."""

import json
from pathlib import Path

import numpy as np
import pytest

from pytest_vlmlatency import cli
from pytest_vlmlatency.estimator import Knob, load_estimator
from pytest_vlmlatency.export import write_records
from tests.estimator.machines import simulated

REQUEST = ["vision_tokens=450", "text_tokens=30", "tier=medium"]
CONFIG = [*REQUEST, "top_k=8", "num_active_blocks=12"]
KNOBS = ["--knob", "batch_size", "--knob", "resolution:category"]
TIMES = ("T_vision_total", "T_LLM_prefill", "T_LLM_decode")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return records that take a half more with a batch of 2, and twice as long at 672 pixels."""
    random = np.random.default_rng(1)
    records = []
    for record in simulated(600, noise=0.01):
        batch_size, resolution = int(random.choice([1, 2])), int(random.choice([336, 672]))
        factor = (0.5 + 0.5 * batch_size) * resolution / 336
        times = {name: factor * float(str(record[name])) for name in TIMES}
        configuration = {"resolution": resolution}
        records.append(record | times | {"batch_size": batch_size, "configuration": configuration})
    path = tmp_path_factory.mktemp("results") / "records.jsonl"
    write_records(records, path)
    return path


@pytest.fixture(scope="module")
def model(results: Path) -> Path:
    """Return the file of an estimator with both knobs."""
    folder = results.with_name("model")
    options = [f"--results_dir={results}", f"--output_dir={folder}", *KNOBS]
    assert cli.main(["estimator", "train", *options]) == 0
    return folder / "estimator.json"


def test_declared_knobs_are_inputs_of_what_is_trained(model: Path) -> None:
    assert load_estimator(model).knobs == (
        Knob("batch_size"),
        Knob("resolution", is_category=True),
    )


def test_a_prediction_takes_the_declared_knobs(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*CONFIG, "batch_size=1", "resolution=336,672"]

    assert cli.main(["estimator", "predict", str(model), *given, "--json"]) == 0

    small, large = json.loads(capsys.readouterr().out)["T_prefill_total"]
    assert large > 1.5 * small


def test_a_level_that_was_never_measured_is_refused(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*CONFIG, "batch_size=1", "resolution=336.0"]

    assert cli.main(["estimator", "predict", str(model), *given]) == 1

    assert "resolution is '336.0', which was never measured" in capsys.readouterr().err


def test_a_search_has_the_declared_knobs_in_its_grid(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = ["top_k=8", "num_active_blocks=12", "batch_size=1,2", "resolution=336,672"]
    options = ["--budget", "99000", "--output-tokens", "4", "--json"]

    assert cli.main(["estimator", "search", str(model), *REQUEST, *grid, *options]) == 0

    rows = json.loads(capsys.readouterr().out)
    assert [(row["batch_size"], row["resolution"]) for row in rows] == [
        (1, "336"),
        (1, "672"),
        (2, "336"),
        (2, "672"),
    ]


def test_an_evaluation_takes_declared_knobs_too(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def error(*options: str) -> float:
        cli.main(["estimator", "evaluate", f"--results_dir={results}", "--json", *options])
        scores = json.loads(capsys.readouterr().out)["scores"]
        return float(scores["random"]["T_prefill_total"]["relative_error"])

    assert error(*KNOBS) < 0.5 * error()


def test_a_file_is_judged_with_its_own_knobs(
    results: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--results_dir={results}", f"--model={model}"]

    assert cli.main(["estimator", "evaluate", *options]) == 0
    assert cli.main(["estimator", "evaluate", *options, *KNOBS]) == 2

    assert "--knob is for training, and --model has its knobs" in capsys.readouterr().err


def test_a_figure_is_drawn_with_the_files_own_knobs(
    results: Path, model: Path, tmp_path: Path
) -> None:
    options = [f"--results_dir={results}", f"--to={tmp_path / 'x.svg'}"]

    assert cli.main(["estimator", "plot", str(model), *options]) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--knob", "batch_size", "--knob", "batch_size"], "--knob batch_size is given twice"),
        (["--knob", "nothing"], "records lack nothing"),
        (["--knob", "top_k"], "'top_k' cannot be declared as a further knob"),
        (["--knob", "batch_size", "--estimator", "network"], "further knobs"),
        (["--knob", "batch_size", "--estimator", "separate"], "further knob"),
    ],
)
def test_a_knob_that_cannot_be_is_said(
    results: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert cli.main(["estimator", "train", f"--results_dir={results}", *options]) > 0

    assert words in capsys.readouterr().err


@pytest.mark.parametrize("text", ["batch_size:amount", ":category", ""])
def test_a_declaration_that_means_nothing_is_a_usage_error(results: Path, text: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["estimator", "train", f"--results_dir={results}", "--knob", text])


def test_an_input_that_is_given_twice_is_a_usage_error(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["estimator", "predict", str(model), *CONFIG, "top_k=4"]) == 2

    assert "top_k is given twice; give all of its values at once" in capsys.readouterr().err
