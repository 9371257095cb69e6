from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency.paired.changes import lay_over, take_off
from pytest_vlmlatency.paired.checkouts import Checkout, Side
from tests.repositories import commit, git, repository, write

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def two_sides(
    folder: Path, before: Mapping[str, str], after: Mapping[str, str]
) -> tuple[Checkout, Checkout]:
    made: list[Checkout] = []
    for side, files in ((Side.BASELINE, before), (Side.CANDIDATE, after)):
        root = folder / side
        repository(root, files)
        paths = tuple(path for path in (root, root / "src") if path.is_dir())
        made.append(
            Checkout(side=side, root=root, commit="0" * 40, paths=paths, is_worktree=not made)
        )
    return made[0], made[1]


def texts(root: Path, names: Iterable[str]) -> list[str | None]:
    return [(root / name).read_text() if (root / name).exists() else None for name in names]


def test_a_folder_of_tests_is_taken_whole(tmp_path: Path) -> None:
    before = {"src/model.py": "old", "benchmarks/test_x.py": "old", "benchmarks/gone.txt": "old"}
    after = {"src/model.py": "new", "benchmarks/test_x.py": "new", "benchmarks/data/a.txt": "new"}
    baseline, candidate = two_sides(tmp_path, before, after)
    write(candidate.root, {"benchmarks/untracked.py": "new", "conftest.py": "new"})

    laid = lay_over([Path("benchmarks/test_x.py")], source=candidate, target=baseline)

    names = ["src/model.py", "benchmarks/test_x.py", "benchmarks/gone.txt"]
    assert texts(baseline.root, names) == ["old", "new", None]
    brought = ["benchmarks/data/a.txt", "benchmarks/test_x.py", "benchmarks/untracked.py"]
    assert sorted(map(str, laid)) == [*brought, "conftest.py"]
    assert texts(baseline.root, [*brought, "conftest.py"]) == ["new"] * 4


def test_data_that_git_ignores_is_linked(tmp_path: Path) -> None:
    before = {"src/model.py": "old", ".gitignore": "*.png\n__pycache__/\n"}
    baseline, candidate = two_sides(tmp_path, before, {**before, "benchmarks/test_x.py": "new"})
    write(candidate.root, {"benchmarks/cat.png": "a cat", "benchmarks/__pycache__/x.pyc": "code"})

    lay_over([Path("benchmarks/test_x.py")], source=candidate, target=baseline)

    assert (baseline.root / "benchmarks/cat.png").resolve() == candidate.root / "benchmarks/cat.png"
    assert not (baseline.root / "benchmarks/__pycache__").exists()


@pytest.mark.parametrize("folder", ["", "src/", "src/captioner/sub/"])
def test_code_beside_a_test_stays_each_sides_own(tmp_path: Path, folder: str) -> None:
    names = [f"{folder}test_x.py", f"{folder}conftest.py", f"{folder}code.py"]
    packages = ["src/captioner/__init__.py", "src/captioner/sub/__init__.py"]
    before = dict.fromkeys([*names, *packages], "old")
    baseline, candidate = two_sides(tmp_path, before, dict.fromkeys([*names, *packages], "new"))

    lay_over([Path(f"{folder}test_x.py")], source=candidate, target=baseline)

    assert texts(baseline.root, [*names, *packages]) == ["new", "new", "old", "old", "old"]


def test_the_candidate_is_only_read(tmp_path: Path) -> None:
    files = {"src/model.py": "", "benchmarks/test_x.py": ""}
    baseline, candidate = two_sides(tmp_path, files, files)

    with pytest.raises(AssertionError, match="working tree is never written to"):
        lay_over([Path("benchmarks/test_x.py")], source=baseline, target=candidate)


def test_a_folder_of_tests_in_a_submodule_is_taken_whole_and_given_back(tmp_path: Path) -> None:
    baseline, candidate = two_sides(tmp_path, {"a.txt": "1"}, {"a.txt": "1"})
    for side, text in ((baseline, "old"), (candidate, "new")):
        repository(
            side.root / "one", {"model.py": text, "tests/test_x.py": text, "test_y.py": text}
        )
        commit(side.root, {"a.txt": "2"})
    names = ["one/model.py", "one/tests/test_x.py", "one/test_y.py"]

    laid = lay_over([Path(name) for name in names[1:]], source=candidate, target=baseline)
    during = texts(baseline.root, names)
    take_off(laid, baseline)

    assert during == ["old", "new", "new"]
    assert texts(baseline.root, names) == ["old"] * 3


def test_hooks_that_a_commit_brings_do_not_run_in_its_checkout(tmp_path: Path) -> None:
    hook = "#!/bin/sh\ntouch ran\n"
    before = {"benchmarks/test_x.py": "old", ".hooks/post-checkout": hook}
    baseline, candidate = two_sides(tmp_path, before, {"benchmarks/test_x.py": "new"})
    (baseline.root / ".hooks/post-checkout").chmod(0o755)
    git(baseline.root, "config", "core.hooksPath", ".hooks")

    laid = lay_over([Path("benchmarks/test_x.py")], source=candidate, target=baseline)
    take_off(laid, baseline)

    assert texts(baseline.root, ["benchmarks/test_x.py", "ran"]) == ["old", None]
