"""The GitHub Actions workflow in docs/ci.md: it can be read, and all that it names exists."""

import re
from typing import TypedDict

import yaml

from benchmarks.evidence._record import ROOT
from pytest_vlmlatency.session import option_table

PAGE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
(SOURCE,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
OPTION = re.compile(r"(?<![\w-])--vlm-[a-z-]+")
READONLY = "${{ github.event_name == 'pull_request' && '--vlm-history-readonly' || '' }}"

Step = TypedDict(
    "Step",
    {"uses": str, "with": dict[str, object], "run": str, "name": str, "if": str},
    total=False,
)


class Job(TypedDict):
    steps: list[Step]
    env: dict[str, str]


def gate() -> Job:
    job: Job = yaml.safe_load(SOURCE)["jobs"]["gate"]
    return job


def command() -> str:
    (step,) = [step for step in gate()["steps"] if step.get("name") == "Gate"]
    return step["run"]


def test_it_is_one_command_on_one_line() -> None:
    assert command().startswith(".venv/bin/pytest benchmarks/ --gpu --vlm-gate ")
    assert "\n" not in command()


def test_every_option_in_it_exists() -> None:
    named = set(OPTION.findall(SOURCE))
    existing = {option.name for option in option_table.SETTINGS}

    assert "--vlm-gate" in named
    assert named - existing == set()


def test_only_pushes_to_main_are_kept_in_the_history() -> None:
    events = yaml.safe_load(SOURCE)[True]  # YAML 1.1 reads the key `on` so

    assert events == {"push": {"branches": ["main"]}, "pull_request": None}
    assert READONLY in command()


def test_forks_do_not_run_and_nothing_may_write_to_the_repository() -> None:
    workflow = yaml.safe_load(SOURCE)

    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["jobs"]["gate"]["if"] == (
        "github.event_name == 'push' || "
        "github.event.pull_request.head.repo.full_name == github.repository"
    )


def test_the_baseline_is_in_the_checkout_and_models_are_kept() -> None:
    checkout = gate()["steps"][0]

    assert checkout["uses"].startswith("actions/checkout@")
    assert checkout["with"] == {"fetch-depth": 0, "persist-credentials": False}
    assert "HF_HOME" in gate()["env"]


def test_what_is_uploaded_is_what_the_gate_writes() -> None:
    upload = gate()["steps"][-1]

    written = re.findall(r"--(?:vlm-verdict|junit-xml) (\S+)", command())
    assert str(upload["with"]["path"]).split() == written
    assert upload["if"] == "${{ !cancelled() }}"
