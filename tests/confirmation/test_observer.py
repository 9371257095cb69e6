from __future__ import annotations

import sys
from types import ModuleType

import pytest

from pytest_vlmlatency.confirmation.observer import modules_with_files


def test_a_module_that_made_its_path_up_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    made_up = ModuleType("made_up")
    made_up.__file__ = "_ops.py"
    monkeypatch.setitem(sys.modules, "made_up", made_up)

    modules = modules_with_files()

    assert "made_up" not in modules
    assert modules["pytest"] == pytest.__file__
