"""ARCHITECTURE.md's picture of the rooms is the one that the import contracts enforce."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pytest_vlmlatency"
OUTSIDE = {"__init__", "__main__"}


def contract_rows() -> list[set[str]]:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    layers = tool["importlinter"]["contracts"][0]["layers"]
    return [{name.strip() for name in layer.split("|")} for layer in layers]


def table_rows() -> list[set[str]]:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## Who may import")[2]
    rows = re.findall(r"^\| \d+ \| (.*) \|$", text, re.MULTILINE)
    parts = [part for row in rows for part in row.split(", then ")]
    return [set(re.findall(r"`(\w+)`", part)) for part in parts]


def test_the_table_of_rows_is_the_import_contract() -> None:
    assert table_rows() == contract_rows()


def test_every_room_has_a_row() -> None:
    found = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    rooms = {name for name in found if not name.startswith("__pycache__")}

    assert rooms - OUTSIDE == set().union(*contract_rows())
