"""docs/gate.md and docs/ci.md: what they say of the gate is what the code does."""

import re

import pytest

from benchmarks.evidence import _gate_sample
from benchmarks.evidence._docs import blocks
from benchmarks.evidence._record import ROOT
from pytest_vlmlatency.options import MARKER_KEYS
from pytest_vlmlatency.records import GateStatus, Verdict
from pytest_vlmlatency.report.gate_terminal import gate_lines
from pytest_vlmlatency.report.gate_verdict import (
    VERDICT_SCHEMA_VERSION,
    FailingCase,
    VerdictFile,
)
from pytest_vlmlatency.report.gate_words import Standing, title_of
from pytest_vlmlatency.session import option_table
from pytest_vlmlatency.stats import GateRule
from tests.gate_reports import ALSO_SAME, SAME, SLOWER, UNDECIDED, a_report

PAGE = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
CI_PAGE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")


def first_cells(text: str, header: str) -> list[str]:
    """Return the first column of the table with this header."""
    table = text.split(f"| {header} |", 1)[1].split("\n\n", 1)[0]
    return [row.split("|")[1].strip() for row in table.splitlines()[2:]]


@pytest.mark.parametrize(
    ("text", "header"), [(PAGE, "status | meaning"), (CI_PAGE, "status | what it means")]
)
def test_every_exit_status_is_in_the_table(text: str, header: str) -> None:
    failing = [str(status.value) for status in GateStatus if status is not GateStatus.PASSED]

    assert first_cells(text, header) == [*failing, "other"]


def test_the_sample_is_of_a_gate_that_failed() -> None:
    """Its figures are a machine's, and are not looked at: `_gate_sample` runs a real gate."""
    origin, _, report = blocks(PAGE)["gate_sample"].partition("\n\n```text\n")

    assert origin.startswith(f"`{_gate_sample.COMMAND}`, ")
    assert "- vlm gate FAILED: " in report.splitlines()[0]
    assert report.endswith("The gate failed with exit status 10: slower, or over a budget.\n```")


def test_a_sample_is_the_section_of_the_gate() -> None:
    report = a_report([SLOWER, UNDECIDED, SAME, ALSO_SAME])
    shown = [f"- {title_of(report)} -", *(line.text for line in gate_lines(report, width=88))]
    printed = "\n".join(["1 passed", *shown, "====== the end ======"])

    block = _gate_sample.block_of(printed, "today")

    assert block.partition("```text\n")[2] == "\n".join([*shown, "```"])


def test_every_verdict_is_explained() -> None:
    assert first_cells(PAGE, "verdict | what it says | what you do") == [
        Verdict.SLOWER,
        Verdict.FASTER,
        Verdict.SAME,
        Verdict.UNDECIDED,
    ]


def test_the_target_is_that_of_the_rule() -> None:
    rule = GateRule()

    assert f"the target, {rule.target_ratio:.0%} unless".replace("%", " %") in PAGE
    assert rule.min_effect_ratio == pytest.approx(rule.target_ratio / 3)


def test_every_key_of_the_verdict_file_is_explained() -> None:
    keys = re.findall(r"`(\w+)`", " ".join(first_cells(PAGE, "key | what it holds")))
    outcomes = {"slower", "over budget", *(str(one) for one in Standing if one != "fails")}

    assert keys == list(VerdictFile.__dataclass_fields__)
    assert f"| `schema_version` | {VERDICT_SCHEMA_VERSION} |" in PAGE
    assert all(f"`{outcome}`" in PAGE for outcome in outcomes)
    assert all(f"`{status.name.lower()}`" in PAGE for status in GateStatus)
    assert all(f"`{name}`" in PAGE for name in FailingCase.__dataclass_fields__)


def test_the_options_and_marker_keys_that_it_names_exist() -> None:
    options = set(re.findall(r"--vlm-[a-z-]+", PAGE))
    marked = " ".join(re.findall(r"@pytest.mark.vlm_latency\((.*)\)", PAGE))

    assert options - {option.name for option in option_table.SETTINGS} == set()
    assert set(re.findall(r"(\w+)=", marked)) - set(MARKER_KEYS) == set()
