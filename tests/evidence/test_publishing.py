"""How evidence is kept: tables, the parts of a document, and what happens to a failed claim."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from benchmarks.evidence import _record
from benchmarks.evidence._docs import blocks, filled
from benchmarks.evidence._record import Claim, Evidence, document_of, publish, read_evidence
from benchmarks.evidence._statistics import folded, table
from pytest_vlmlatency.records import Environment

DOCUMENT = """# Title

<!-- evidence:speed -->
old
<!-- /evidence -->

<!-- evidence:size -->
kept
<!-- /evidence -->
"""

OTHER_DOCUMENT = """# Another

<!-- evidence:weight -->

<!-- /evidence -->
"""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Figures of an evidence that a test makes up."""

    times_ms: tuple[float, ...]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let evidence be kept in a folder of the test's own."""
    (tmp_path / "measuring.md").write_text(DOCUMENT, encoding="utf-8")
    (tmp_path / "other.md").write_text(OTHER_DOCUMENT, encoding="utf-8")
    monkeypatch.setattr(_record, "DOCS", tmp_path)
    monkeypatch.setattr(_record, "RESULTS", tmp_path / "results")
    return tmp_path


def speed(*, holds: bool = True) -> Evidence[Speed]:
    """Return evidence with one claim."""
    return Evidence[Speed](
        name="speed",
        command="python -m speed",
        seed=3,
        started_at="2026-11-20T10:00:00+00:00",
        environment=Environment(
            machine={"cpu": "A CPU", "n_cores": 2, "memory_bytes": 8 * 2**30},
            versions={"python": "CPython 3", "torch": "2", "transformers": "5", "pytest": "9"},
            settings={"n_threads": 1},
            devices=(),
        ),
        claims=(Claim(text="It is fast.", holds=holds, seen="4.0 ms."),),
        figures=Speed(times_ms=(4.0,)),
    )


def describe(evidence: Evidence[Speed]) -> str:
    """Return the figures as text."""
    return f"It took {evidence.figures.times_ms[0]} ms."


BLOCK = """\
`python -m speed`, 2026-11-20, seed 3, on A CPU (2 cores seen, 8 GiB), 1 torch thread, CPython 3, \
torch 2, transformers 5, pytest 9.

It took 4.0 ms.

- Holds: It is fast. Seen: 4.0 ms."""


def test_evidence_that_holds_is_printed_documented_and_ends_with_0(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = publish(speed(), describe)

    assert status == 0
    assert capsys.readouterr() == (f"\n{BLOCK}\n", "")
    assert blocks((folder / "measuring.md").read_text(encoding="utf-8")) == {
        "speed": BLOCK,
        "size": "kept",
    }


def test_a_claim_that_fails_is_documented_and_ends_with_1(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = publish(speed(holds=False), describe)

    assert status == 1
    assert capsys.readouterr().err == "speed: does not hold: It is fast. Seen: 4.0 ms.\n"
    assert "- DOES NOT HOLD: It is fast." in (folder / "measuring.md").read_text(encoding="utf-8")


def test_a_script_fills_the_document_that_has_its_block_and_no_other(folder: Path) -> None:
    publish(replace(speed(), name="weight"), describe)

    assert blocks((folder / "other.md").read_text(encoding="utf-8")) == {"weight": BLOCK}
    assert (folder / "measuring.md").read_text(encoding="utf-8") == DOCUMENT


def test_an_empty_block_is_one_that_waits_for_its_script() -> None:
    assert blocks(OTHER_DOCUMENT) == {"weight": ""}


def test_evidence_without_a_place_is_refused_and_its_figures_kept(folder: Path) -> None:
    with pytest.raises(
        ValueError, match=r"0 documents in \S+ have a block '<!-- evidence:age -->'"
    ):
        publish(replace(speed(), name="age"), describe)

    assert (folder / "results" / "age.json").exists()


def test_evidence_with_two_places_is_refused(folder: Path) -> None:
    (folder / "third.md").write_text(OTHER_DOCUMENT, encoding="utf-8")

    with pytest.raises(ValueError, match=r"2 documents in \S+ have a block"):
        document_of("weight")


def test_evidence_survives_its_file() -> None:
    publish(speed(), describe)

    assert read_evidence(Evidence[Speed], "speed") == speed()


def test_a_file_of_evidence_is_plain_json(folder: Path) -> None:
    publish(speed(), describe)

    kept = json.loads((folder / "results" / "speed.json").read_text(encoding="utf-8"))
    assert kept["figures"] == {"times_ms": [4.0]}


def test_a_document_without_the_block_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has 0 blocks '<!-- evidence:cost -->' .* speed, size"):
        filled(DOCUMENT, "cost", "new")


def test_filling_leaves_the_rest_of_a_document_alone() -> None:
    assert filled(DOCUMENT, "speed", "old") == DOCUMENT


def test_a_table_is_aligned() -> None:
    assert table(["model", "ms"], [["a", "1.25"], ["longer", "10.5"]]) == (
        "| model  |   ms |\n| ------ | ---: |\n| a      | 1.25 |\n| longer | 10.5 |"
    )


def test_columns_of_words_are_set_to_the_left() -> None:
    assert table(["name", "why", "ms"], [["a", "no", "1"]], left=2) == (
        "| name | why | ms |\n| ---- | --- | -: |\n| a    | no  |  1 |"
    )


def test_a_fold_is_a_title_and_what_is_behind_it() -> None:
    assert folded("More", "| a |") == ("<details>\n<summary>More</summary>\n\n| a |\n\n</details>")
