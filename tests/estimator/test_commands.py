"""`vlmlatency estimator ...` on a folder of results, as a user types it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_vlmlatency import cli
from pytest_vlmlatency.estimator import load_estimator, training
from pytest_vlmlatency.estimator.__main__ import main as train_main
from pytest_vlmlatency.estimator.recipes import Recipe
from pytest_vlmlatency.estimator.roofline import RooflineEstimator
from pytest_vlmlatency.export import write_records
from tests.estimator.machines import simulated
from tests.generated_records import LAUNCH_BOUND, generate_records, write_results

REQUEST = ["text_tokens=30", "top_k=4,12", "num_active_blocks=8,16"]
BY_TIER = ["tier=low,high", "vision_tokens=low:288,high:792"]
CONFIG = ["vision_tokens=288", "text_tokens=30", "tier=low", "top_k=8", "num_active_blocks=12"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of results, 27 of each configuration."""
    folder = tmp_path_factory.mktemp("results")
    write_results(folder, generate_records(LAUNCH_BOUND, n_of_configuration=27))
    return folder


@pytest.fixture(scope="module")
def model(results: Path) -> Path:
    """Return the file of an estimator trained on them."""
    folder = results.with_name("model")
    assert train_main(["--results_dir", str(results), "--output_dir", str(folder)]) == 0
    return folder / "estimator.json"


def test_training_reports_records_held_out_and_writes_a_file(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = cli.main(
        ["estimator", "train", f"--results_dir={results}", f"--output_dir={tmp_path}"]
    )

    printed = capsys.readouterr().out
    assert status == 0
    assert printed.startswith("729 records of 27 configurations, data sets: coco_2014_vqa, coco_")
    assert "roofline, on records held out:\n" in printed
    assert printed.endswith(f"trained on all of them: {tmp_path / 'estimator.json'}\n")
    assert load_estimator(tmp_path / "estimator.json").kind == "roofline"


def test_training_counts_outliers_and_names_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [
        record | {"source": f"call {number}"}
        for number, record in enumerate(simulated(400, outliers=0.02, seed=4))
    ]
    write_records(records, tmp_path / "records.jsonl")
    arguments = [f"--results_dir={tmp_path}", f"--output_dir={tmp_path / 'out'}"]

    cli.main(["estimator", "train", *arguments])

    printed = capsys.readouterr().out
    found = RooflineEstimator().fit(records).outliers
    assert len(found) > 5
    named = [
        f"  {one.source}: {one.target} {one.measured_ms:.1f} ms, expected {one.expected_ms:.1f} ms"
        for one in found[:5]
    ]
    told = [f"{len(found)} outliers in all records; they stay in the fit", *named]
    assert all(line in printed for line in told)
    assert f"  and {len(found) - 5} more\n" in printed


def test_the_origins_options_train_the_network(
    results: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One epoch indeed, and not as many as the network needs to learn."""
    short = replace(training.PLANS[Recipe.MENDED], fewest_steps=0)
    monkeypatch.setitem(training.PLANS, Recipe.MENDED, short)
    words = f"--use_all_datasets --output_dir {tmp_path} --batch_size 512 --num_epochs 1 --lr 1e-3"
    options = [*words.split(), "--device", "cpu", "--seed", "1"]

    assert train_main(["--results_dir", str(results), *options]) == 0

    assert "network, on records held out:" in capsys.readouterr().out
    assert load_estimator(tmp_path / "estimator.json").kind == "network"


def test_named_data_sets_are_read_alone(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = ["--dataset_names", "mmmu", "doc_qa", "--output_dir", str(tmp_path)]

    assert train_main(["--results_dir", str(results), *named]) == 0

    assert "162 records of 27 configurations, data sets: mmmu, doc_qa\n" in capsys.readouterr().out


def test_a_data_set_that_is_not_there_lists_near_ones(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_main(["--results_dir", str(results), "--dataset_names", "doc_q"]) == 1

    assert "no data set 'doc_q'; did you mean doc_qa? It has coco_" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert train_main(["--results_dir", "nowhere"]) == 1

    assert "there is no nowhere; expected a folder with a sub-folder" in capsys.readouterr().err


def test_an_option_of_the_network_with_another_estimator_is_refused(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--estimator", "roofline", "--batch_size", "64"]

    assert train_main(["--results_dir", str(results), *options]) == 2

    assert "--batch_size is of the network's training" in capsys.readouterr().err


def test_an_evaluation_shows_all_splits_and_lengths(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["estimator", "evaluate", f"--results_dir={results}"]) == 0

    printed = capsys.readouterr().out
    begun = [line.split("  ")[0] for line in printed.splitlines()]
    assert [word for word in begun if word in {"random", "configurations", "extrapolation"}] == [
        "random",
        "configurations",
        "extrapolation",
    ]
    assert "2 tokens" in begun
    assert "outliers on random; they stay in every figure" in printed


@pytest.mark.parametrize(
    ("bounds", "status"),
    [(["prefill=50", "decode=50"], 0), (["prefill=50", "decode=0.1"], 10), (["decode=0.1"], 10)],
)
def test_a_bound_that_is_not_kept_ends_with_10(
    results: Path, model: Path, bounds: list[str], status: int
) -> None:
    options = [f"--results_dir={results}", f"--model={model}", "--max-mape", *bounds]

    assert cli.main(["estimator", "evaluate", *options]) == status


def test_the_bound_that_is_not_kept_is_named_with_its_number(
    results: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--results_dir={results}", f"--model={model}", "--max-mape", "prefill=0.1"]

    cli.main(["estimator", "evaluate", *options])

    assert "%, above its bound of 0.1 %" in capsys.readouterr().err


@pytest.mark.parametrize("bound", ["prefill", "other=5", "decode=-1", "decode=nan"])
def test_a_bound_that_means_nothing_is_a_usage_error(results: Path, bound: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["estimator", "evaluate", f"--results_dir={results}", "--max-mape", bound])


def test_an_evaluation_as_json_has_every_configuration(
    results: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["estimator", "evaluate", f"--results_dir={results}", f"--model={model}", "--json"])

    scores = json.loads(capsys.readouterr().out)["scores"]
    assert scores["tier=low top_k=4 num_active_blocks=8"]["T_prefill_total"]["n_records"] == 27


def test_predictions_are_a_row_a_request(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = ["vision_tokens=288,5000", *CONFIG[1:]]

    assert cli.main(["estimator", "predict", str(model), *inputs]) == 0

    first, second, _machine = capsys.readouterr().out.splitlines()[1:]
    assert len(first.split()) == 4
    assert second.endswith("beyond")


def test_a_prediction_as_json_is_what_the_estimator_says(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["estimator", "predict", str(model), *CONFIG, "--json"])

    said = json.loads(capsys.readouterr().out)
    request = {"vision_tokens": 288, "text_tokens": 30, "top_k": 8, "num_active_blocks": 12}
    expected = load_estimator(model).predict({**request, "tier": "low"})
    assert said["T_prefill_total"] == [pytest.approx(expected["T_prefill_total"])]
    assert said["is_extrapolated"] == [False]


def test_a_search_lists_what_fits_and_how_long_it_may_be(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--budget", "400", "--output-tokens", "10"]

    assert cli.main(["estimator", "search", str(model), *options, *BY_TIER, *REQUEST]) == 0

    title, header, *rows, _machine = capsys.readouterr().out.splitlines()
    assert title == f"{len(rows)} of 8 configurations fit 400 ms at their 95th percentile"
    assert header.split()[:3] == ["tier", "top_k", "num_active_blocks"]
    assert all(int(row.split()[-1]) >= 10 for row in rows)


def test_a_search_in_vain_ends_with_10(model: Path) -> None:
    options = ["--budget", "5", "--output-tokens", "10"]

    assert cli.main(["estimator", "search", str(model), *options, *BY_TIER, *REQUEST]) == 10


def test_the_most_accurate_configuration_comes_first(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = [
        {"tier": tier, "top_k": top_k, "num_active_blocks": blocks, "accuracy": top_k + blocks / 10}
        for tier in ("low", "high")
        for top_k in (4, 12)
        for blocks in (8, 16)
    ]
    path = tmp_path / "accuracy.json"
    path.write_text(json.dumps(known), encoding="utf-8")
    options = ["--budget", "9000", "--output-tokens", "10", f"--accuracy={path}", "--json"]

    cli.main(["estimator", "search", str(model), *options, *BY_TIER, *REQUEST])

    rows = json.loads(capsys.readouterr().out)
    assert [row["accuracy"] for row in rows] == sorted([one["accuracy"] for one in known])[::-1]


def test_a_file_that_holds_no_accuracies_is_said(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "accuracy.json"
    path.write_text("[1]", encoding="utf-8")
    options = ["--budget", "9000", "--output-tokens", "10", f"--accuracy={path}"]

    assert cli.main(["estimator", "search", str(model), *options, *BY_TIER, *REQUEST]) == 1

    assert "holds no accuracies" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["top_k", "=4", "top_k=4,,8", "vision_tokens=low:1,2"])
def test_inputs_that_are_no_values_are_usage_errors(model: Path, text: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["estimator", "predict", str(model), text])


@pytest.mark.parametrize(("suffix", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_a_figure_is_drawn(
    results: Path, model: Path, tmp_path: Path, suffix: str, begins: bytes
) -> None:
    path = tmp_path / f"figure.{suffix}"
    options = [f"--results_dir={results}", f"--to={path}"]

    assert cli.main(["estimator", "plot", str(model), *options]) == 0

    assert path.read_bytes().startswith(begins)


def test_a_figure_that_cannot_be_written_leaves_the_former_one(
    results: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "figure.png"
    path.write_bytes(b"former")
    options = [f"--results_dir={results}", f"--to={path}"]

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        status = cli.main(["estimator", "plot", str(model), *options])

    assert (status, path.read_bytes()) == (1, b"former")


def test_a_figure_of_another_form_is_refused(
    results: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--results_dir={results}", "--to=figure.pdf"]

    assert cli.main(["estimator", "plot", str(model), *options]) == 1

    assert "is no .png or .svg" in capsys.readouterr().err


def test_a_search_takes_tokens_that_are_not_given_from_the_records(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    estimator = load_estimator(model)
    assert isinstance(estimator, RooflineEstimator)
    tokens = estimator.state.tokens
    options = ["--budget", "9000", "--output-tokens", "10"]
    said = [
        f"vision_tokens=low:{tokens['vision_tokens']['0'][1]},high:{tokens['vision_tokens']['2'][1]}",
        f"text_tokens={tokens['text_tokens'][''][1]}",
    ]
    grid = ["tier=low,high", "top_k=4", "num_active_blocks=8"]

    assert cli.main(["estimator", "search", str(model), *options, *grid, *said, "--json"]) == 0
    given = capsys.readouterr()
    assert cli.main(["estimator", "search", str(model), *options, *grid, "--json"]) == 0
    taken = capsys.readouterr()

    assert taken.out == given.out
    assert "vision_tokens, not given: low " in taken.err
    assert "vision_tokens" not in given.err


def test_a_search_in_vain_names_the_configuration_that_exceeds_the_budget_least(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--budget", "5", "--output-tokens", "10"]

    assert cli.main(["estimator", "search", str(model), *options, *BY_TIER, *REQUEST]) == 10

    assert "\nnearest: tier=low top_k=4 num_active_blocks=8: its generation takes " in (
        capsys.readouterr().out
    )


def test_equally_accurate_configurations_are_in_the_order_of_their_time(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = [
        {"tier": tier, "top_k": top_k, "num_active_blocks": blocks, "accuracy": 0.7}
        for tier in ("low", "high")
        for top_k in (4, 12)
        for blocks in (8, 16)
    ]
    path = tmp_path / "accuracy.json"
    path.write_text(json.dumps(known), encoding="utf-8")
    options = ["--budget", "9000", "--output-tokens", "10", f"--accuracy={path}", "--json"]
    slowest_first = ["tier=high,low", BY_TIER[1], "text_tokens=30", "top_k=12,4"]

    cli.main(
        ["estimator", "search", str(model), *options, *slowest_first, "num_active_blocks=16,8"]
    )

    printed = capsys.readouterr()
    times = [row["prefill ms"] + 9 * row["step ms"] for row in json.loads(printed.out)]
    assert times == sorted(times)
    assert "8 configurations have the best accuracy, 0.7" in printed.err
