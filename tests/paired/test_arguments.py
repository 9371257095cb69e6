from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.paired.arguments import (
    MEASURING,
    invocation_of,
    kept_options,
    known_options,
    with_model_found,
)
from pytest_vlmlatency.session import option_table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@pytest.fixture
def known(pytestconfig: pytest.Config) -> Mapping[str, object]:
    return known_options(pytestconfig)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("benchmarks/ --vlm-model dummy:llava-tiny", "--vlm-model dummy:llava-tiny"),
        ("--vlm-device=cpu tests -k caption -m gpu", "--vlm-device=cpu"),
        ("-kcaption -x -vv -p no:randomly -W error", "-p no:randomly -W error"),
        ("-n 2 --dist loadfile -n4 --vlm-threads 2", "--vlm-threads 2"),
        ("--junitxml out.xml --junit-xml=out.xml -o x=1", "-o x=1"),
        ("--benchmark-json out.json --cov pkg --cov-report=xml", ""),
        ("--vlm-gate --vlm-baseline main --vlm-history s3://b --vlm-confirm-time 9", ""),
        ("--vlm-rounds 30 --vlm-json run.json --vlm-per-token a.py", "--vlm-per-token"),
        ("--lf --maxfail=2 --ignore below --deselect a.py::b --runxfail", "--runxfail"),
        ("--picked --testmon --testmon-noselect --size=3", "--size=3"),
        ("--rootdir . -c other.ini --all-shapes --size=3 -- a.py", "--all-shapes --size=3"),
    ],
)
def test_what_selects_distributes_shows_or_writes_is_left_out(
    known: Mapping[str, object], said: str, kept: str
) -> None:
    tokens = said.split()

    options = kept_options(tokens, known)  # type: ignore[arg-type]  # argparse's actions

    assert list(options) == kept.split()


def test_options_of_measuring_are_kept_but_for_rounds_and_files() -> None:
    names = {setting.name for setting in option_table.MEASURING}

    assert names - set(MEASURING) == {
        "--vlm-rounds",
        "--vlm-warmup-rounds",
        "--vlm-max-time",
        "--vlm-json",
    }


def test_options_of_the_ini_file_and_the_environment_are_kept_too(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:randomly -n0")
    pytester.makeini("[pytest]\naddopts = --strict-markers -q\n")

    invocation = invocation_of(pytester.parseconfig("--vlm-threads=3", "."))

    assert invocation.options == ("--strict-markers", "-p", "no:randomly", "--vlm-threads=3")
    assert invocation.rootdir == invocation.folder == pytester.path
    assert invocation.inifile == pytester.path / "tox.ini"


def test_a_model_of_the_ini_file_is_named_as_an_option_that_the_command_line_overrides(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeini("[pytest]\nvlm_model = models/tiny\n")

    invocation = invocation_of(pytester.parseconfig("--vlm-model=models/small"))

    assert invocation.options == ("--vlm-model", "models/tiny", "--vlm-model=models/small")


@pytest.mark.parametrize("written", [("--vlm-model", "tiny"), ("--vlm-model=tiny",)])
def test_a_models_folder_that_only_the_user_has_is_named_where_he_has_it(
    tmp_path: Path, written: tuple[str, ...]
) -> None:
    (tmp_path / "tiny").mkdir()
    checkout = tmp_path / "checkout"

    found = with_model_found(("-x", *written, "--color=no"), checkout, tmp_path)

    assert found == ("-x", f"--vlm-model={tmp_path / 'tiny'}", "--color=no")


def test_a_models_folder_of_the_checkout_and_a_hub_id_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "checkout" / "tiny").mkdir(parents=True)
    options = ("--vlm-model", "tiny", "--vlm-model=org/name")

    assert with_model_found(options, tmp_path / "checkout", tmp_path) == options
