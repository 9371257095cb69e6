"""`--recipe origin`: what each command does with a network that predicts decode / N."""

import json
from pathlib import Path

import pytest

from pytest_vlmlatency import cli
from pytest_vlmlatency.estimator import LatencyEstimator, load_estimator
from pytest_vlmlatency.estimator.__main__ import main as train_main
from pytest_vlmlatency.estimator.commands.training import RECIPES
from pytest_vlmlatency.estimator.recipes import Recipe
from tests.estimator.test_commands import CONFIG
from tests.generated_records import LAUNCH_BOUND, generate_records, write_results

QUICK = ["--batch_size", "64", "--num_epochs", "8", "--lr", "1e-2"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of results, 9 of each configuration."""
    folder = tmp_path_factory.mktemp("results")
    write_results(folder, generate_records(LAUNCH_BOUND, n_of_configuration=9))
    return folder


@pytest.fixture(scope="module")
def model(results: Path) -> Path:
    """Return the file of a network trained by the origin's recipe."""
    folder = results.with_name("origins")
    words = ["--recipe", "origin", "--results_dir", str(results), "--output_dir", str(folder)]
    assert train_main([*words, *QUICK]) == 0
    return folder / "estimator.json"


def test_the_options_name_the_recipes_that_there_are() -> None:
    assert set(RECIPES) == {str(recipe) for recipe in Recipe}


def test_training_by_the_origins_recipe_is_judged_by_decode_over_n(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["estimator", "train", "--estimator", "network", "--recipe", "origin"]

    assert cli.main([*words, f"--results_dir={results}", f"--output_dir={tmp_path}", *QUICK]) == 0

    printed = capsys.readouterr().out
    assert "network, on records held out:\n" in printed
    assert [line.split()[0:3] for line in printed.splitlines() if "decode" in line] == [
        ["decode", "/", "N"]
    ]
    read = load_estimator(tmp_path / "estimator.json")
    assert isinstance(read, LatencyEstimator)
    assert read.recipe is Recipe.ORIGIN


def test_a_recipe_of_another_estimator_is_refused(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--estimator", "trees", "--recipe", "origin"]

    assert train_main(["--results_dir", str(results), *options]) == 2

    assert "--recipe is of the network's training" in capsys.readouterr().err


def test_predicting_says_decode_over_n_under_its_own_name(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["estimator", "predict", str(model), *CONFIG, "--json"]) == 0

    said = json.loads(capsys.readouterr().out)
    assert {name for name in said if name.startswith("T_")} == {
        "T_prefill_total",
        "T_decode_per_token",
        "T_prefill_total at 0.95",
        "T_decode_per_token at 0.95",
    }


def test_an_evaluation_compares_decode_over_n(
    model: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["estimator", "evaluate", f"--results_dir={results}", f"--model={model}", "--json"]

    assert cli.main(words) == 0

    scores = json.loads(capsys.readouterr().out)["scores"]
    assert set(scores[str(model)]) == {"T_prefill_total", "T_decode_per_token"}
    assert set(scores["2 tokens"]) == {"T_prefill_total", "T_decode_per_token"}


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "--max-mape", "decode=10"],
        ["search", "--budget", "1e6", "--output-tokens", "4", *CONFIG],
    ],
    ids=["bound", "search"],
)
def test_what_is_about_steps_says_why_not(
    model: Path, results: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    command, *rest = words
    named = (
        [f"--results_dir={results}", f"--model={model}"] if command == "evaluate" else [str(model)]
    )

    assert cli.main(["estimator", command, *named, *rest]) == 1

    said = capsys.readouterr().err
    assert "asked of an estimator trained with the origin recipe" in said
    assert "Train one with recipe='mended', the default" in said
