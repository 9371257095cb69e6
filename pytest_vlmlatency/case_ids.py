"""What a test is called in every run: its file from the repository's root, then pytest's own name.

Owns the id that histories, gates and fresh processes know a test by, and the shorter name that a
table shows. Paths are all relative to one folder, so that two tests of a run never share an id,
whatever packages or submodules hold them. What differs from process to process is no part of an
id: the address of an object, the group of a distribution to workers.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.printing import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pytest

_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+")
"""As in `<Model object at 0x7f31c0>`, what repr() returns for an object without one of its own."""


def id_of(item: pytest.Item, root: Path) -> str:
    """Return the id of a test: `tests/test_x.py::TestCaption::test_page[512]`."""
    return f"{path_of(item.path, root)}::{name_in_file(item)}"


def path_of(path: Path, root: Path) -> str:
    """Return a path from a folder, by way of `..` where it lies outside.

    Links are followed only where one of the two was reached through a link: two linked folders
    of tests stay two.
    """
    for file, folder in ((path, root), (path.resolve(), root.resolve())):
        if file.is_relative_to(folder):
            return file.relative_to(folder).as_posix()
    try:
        return Path(os.path.relpath(path, root)).as_posix()
    except ValueError:  # another drive
        return path.as_posix()


def name_in_file(item: pytest.Item) -> str:
    """Return the names of a test below its file: `TestCaption::test_page[512]`.

    Made of the names that were collected: pytest-xdist's loadgroup adds `@group` to a node's id.
    """
    parent = item.parent
    above = "" if parent is None else parent.nodeid.partition("::")[2]
    return f"{above}::{steady_name(item)}" if above else steady_name(item)


def steady_name(item: pytest.Item) -> str:
    """Return a test's own name, each address in it replaced by the index of its parameters.

    `test_page[<Model object at 0x7f31c0>]` becomes `test_page[<Model object #0>]`.
    """
    return _ADDRESS.sub(f"#{_index(item)}", item.name) if has_address(item) else item.name


def has_address(item: pytest.Item) -> bool:
    """Whether a test's name holds the address of an object, which each process has another of."""
    return _ADDRESS.search(item.name) is not None


def _index(item: pytest.Item) -> str:
    """Return where a test stands among the parameters of its function; those are in order."""
    callspec = getattr(item, "callspec", None)
    indices = [] if callspec is None else callspec.indices.values()
    return "-".join(map(str, dict.fromkeys(indices))) or "0"


def told_apart(named: Iterable[tuple[str, str]]) -> list[str]:
    """Return what a table calls each case; `named` are the cases' ids with their own names.

    A name that several cases have gets as much of their files and classes as tells them apart:
    `one/test_x.py::test_page` and `two/test_x.py::test_page`. Names that show other settings by the
    same values give way to the ids.
    """
    named = list(named)
    alike: dict[str, list[str]] = {}
    for case_id, name in dict.fromkeys(named):
        alike.setdefault(name, []).append(case_id)
    shown: dict[tuple[str, str], str] = {}
    for name, ids in alike.items():
        if len(ids) > 1:
            places = _places(ids)
            is_apart = len(set(places.values())) == len(ids)
            shown |= {(one, name): f"{places[one]}::{name}" if is_apart else one for one in ids}
    return [printable(shown.get(one, one[1])) for one in named]


def _places(ids: Sequence[str]) -> dict[str, str]:
    """Return the ends of the places of tests that differ, of the same number of parts."""
    parts = {case_id: _parts(case_id) for case_id in ids}
    longest = max(map(len, parts.values()))
    for n_parts in range(1, longest + 1):
        ends = {case_id: "".join(of_id[-n_parts:]) for case_id, of_id in parts.items()}
        if len(set(ends.values())) == len(ids):
            break
    return {case_id: end.removesuffix("/").removesuffix("::") for case_id, end in ends.items()}


def _parts(case_id: str) -> list[str]:
    """Return the folders, the file and the classes that an id names, each with what ends it."""
    path, _, rest = case_id.partition("::")
    *folders, file = path.split("/")
    *classes, _test = re.split(r"[\[{]", rest, maxsplit=1)[0].split("::")
    return [*(f"{folder}/" for folder in folders), *(f"{name}::" for name in (file, *classes))]
