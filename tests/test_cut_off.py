"""Commands that are killed, and disks whose power is cut, lose nothing that was reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.killing import COMMANDS, kill_all
from tests.power_cut import (
    NoMount,
    a_real_disk_loses,
    lost_on_a_made_up_disk,
    lost_on_a_real_disk,
)

if TYPE_CHECKING:
    from pathlib import Path

N_KILLS = 40


@pytest.fixture(autouse=True)
def _outside_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the commands be no workers of this run, with locks of their own."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


def test_a_kill_at_any_operation_loses_nothing_and_disturbs_no_later_run(tmp_path: Path) -> None:
    assert "\n".join(kill_all(N_KILLS, tmp_path)) == ""


def test_what_was_reported_was_forced_to_the_disk(tmp_path: Path) -> None:
    lost = [lost_on_a_made_up_disk(command, tmp_path / command.name) for command in COMMANDS]

    assert "\n".join(filter(None, lost)) == ""


def test_what_was_reported_is_there_after_ext4_was_shut_down(tmp_path: Path) -> None:
    try:
        assert a_real_disk_loses(tmp_path / "loses")
    except NoMount as problem:
        pytest.skip(f"no file system can be mounted here: {problem}")

    lost = [lost_on_a_real_disk(command, tmp_path / command.name) for command in COMMANDS]

    assert "\n".join(filter(None, lost)) == ""
