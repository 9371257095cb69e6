"""Damaged and made-up files of every kind stop nothing, and no other number is read from one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fuzzing.__main__ import fuzz
from tests.fuzzing.kinds import KINDS

if TYPE_CHECKING:
    from pathlib import Path

N_FILES, SEED = 2000, 20261201


def test_no_damaged_file_is_believed_or_stops_a_command(tmp_path: Path) -> None:
    found = fuzz(N_FILES, SEED, tmp_path / "a", kinds=KINDS)

    assert "\n".join(map(str, found)) == ""
