"""The verdict file for programs: pinned whole, and read back."""

from __future__ import annotations

import json
from pathlib import Path

from pytest_vlmlatency.plain import from_plain
from pytest_vlmlatency.report.gate_verdict import VerdictFile, verdict_file, verdict_json
from tests.gate_reports import OVER_BUDGET, SAME, SLOWER, WHOLE, a_report

GOLDEN = Path(__file__).parent / "golden"


def test_the_whole_file() -> None:
    text = verdict_json(a_report([SLOWER, OVER_BUDGET, SAME]))

    assert text == (GOLDEN / "gate_verdict.json").read_text(encoding="utf-8")


def test_a_verdict_file_is_read_back_as_it_was() -> None:
    plain = json.loads(verdict_json(WHOLE))

    assert from_plain(VerdictFile, plain) == verdict_file(WHOLE)


def test_a_gate_that_passed_names_nothing_that_fails() -> None:
    file = verdict_file(a_report([SAME]))

    assert (file.status, file.outcome, file.failing) == (0, "passed", ())
