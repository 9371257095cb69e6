"""The claims about two real commits can fail."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.evidence.ab_real import (
    N_LAYERS,
    N_MORE_LAYERS,
    N_UNCHANGED,
    PHASES,
    Figures,
    Trial,
    judge,
    two_commits,
)

SAME = dict.fromkeys(PHASES, "same")
FOUND = Trial(
    kind="ab",
    status=10,
    verdicts={**SAME, "vision": "slower", "total": "slower"},
    change_ratios=dict.fromkeys(PHASES, 1.0),
    n_pairs=5,
    time_s=60.0,
)
UNCHANGED = replace(FOUND, kind="unchanged", status=0, verdicts=SAME)
WHOLE = (FOUND, replace(FOUND, kind="gate"), *[UNCHANGED] * N_UNCHANGED)


def held(*trials: Trial) -> list[bool]:
    return [claim.holds for claim in judge(Figures(trials=trials))]


def test_a_phase_found_alone_and_nothing_else_holds() -> None:
    assert held(*WHOLE) == [True, True]


@pytest.mark.parametrize(
    "verdicts", [SAME, {**SAME, "vision": "undecided"}, {**FOUND.verdicts, "decode": "slower"}]
)
def test_a_phase_not_found_or_not_alone_does_not_hold(verdicts: dict[str, str]) -> None:
    assert held(WHOLE[0], replace(WHOLE[1], verdicts=verdicts), *WHOLE[2:]) == [False, True]


def test_one_false_alarm_in_twenty_does_not_hold() -> None:
    alarm = replace(UNCHANGED, verdicts={**SAME, "decode": "slower"}, status=10)

    assert held(*WHOLE[:-1], alarm) == [True, False]


def test_fewer_trials_than_planned_do_not_hold() -> None:
    assert held(*WHOLE[1:-1]) == [False, False]


def test_the_second_commit_differs_in_the_number_of_layers_alone(tmp_path: Path) -> None:
    two_commits(tmp_path)

    shown = subprocess.run(
        ["git", "-C", str(tmp_path), "diff", "--unified=0", "HEAD~1", "HEAD"],
        capture_output=True,
        check=True,
        text=True,
    ).stdout.splitlines()
    changed = [line for line in shown if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert changed == [f"-N_VISION_LAYERS = {N_LAYERS}", f"+N_VISION_LAYERS = {N_MORE_LAYERS}"]
