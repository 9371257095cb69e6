from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from pytest_vlmlatency.errors import NotConfirmed
from pytest_vlmlatency.paired.checkouts import Checkout, Side
from pytest_vlmlatency.paired.imports import imported_by
from tests.repositories import write

BENCHMARK = frozenset({Path("benchmarks/test_x.py"), Path("conftest.py")})


def a_checkout(root: Path, side: Side) -> Checkout:
    write(root, {"src/captioner/__init__.py": "", "conftest.py": "", "benchmarks/test_x.py": ""})
    paths = (root, root / "src")
    return Checkout(side=side, root=root, commit="0" * 40, paths=paths, is_worktree=True)


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Checkout, Checkout]:
    root = tmp_path.resolve()
    return (
        a_checkout(root / "before", Side.BASELINE),
        a_checkout(root / "after", Side.CANDIDATE),
    )


def test_what_a_process_imported_from_its_checkout_is_counted(
    sides: tuple[Checkout, Checkout],
) -> None:
    own = sides[0].root
    modules = {
        "captioner": str(own / "src/captioner/__init__.py"),
        "captioner.vision": str(own / "src/captioner/vision.py"),
        "words": str(own / "words.py"),
        "test_x": str(own / "benchmarks/test_x.py"),
        "torch": f"{sysconfig.get_path('purelib')}/torch/__init__.py",
    }

    imported = imported_by(*sides, modules, BENCHMARK)

    assert imported == (
        f"captioner: 2 modules of {own / 'src/captioner'}",
        f"words: 1 module of {own / 'words.py'}",
    )


def test_code_of_the_other_side_is_refused(sides: tuple[Checkout, Checkout]) -> None:
    foreign = sides[1].root / "src/captioner/vision.py"
    modules = {
        "captioner": str(sides[0].root / "src/captioner/__init__.py"),
        "captioner.vision": str(foreign),
    }

    with pytest.raises(NotConfirmed) as refusal:
        imported_by(*sides, modules, BENCHMARK)

    assert str(refusal.value) == (
        f"the baseline's process imported captioner.vision from {foreign}, which is the "
        f"candidate's code; name the folder that the project's packages are in with "
        f"--vlm-confirm-path (relative to the repository's root), and build a project that must "
        f"be built with --vlm-confirm-setup"
    )


def test_a_process_that_ran_only_benchmark_files_is_refused(
    sides: tuple[Checkout, Checkout],
) -> None:
    modules = {"test_x": str(sides[0].root / "benchmarks/test_x.py")}

    with pytest.raises(NotConfirmed, match="both ran the same code, so nothing was compared"):
        imported_by(*sides, modules, BENCHMARK)


@pytest.mark.parametrize("elsewhere", ["/opt/clone/src", sysconfig.get_path("purelib")])
def test_the_same_file_for_both_sides_is_refused(
    sides: tuple[Checkout, Checkout], elsewhere: str
) -> None:
    modules = {
        "words": str(sides[0].root / "words.py"),
        "captioner": f"{elsewhere}/captioner/__init__.py",
    }

    with pytest.raises(NotConfirmed, match=r"though its checkout .*before has that code too"):
        imported_by(*sides, modules, BENCHMARK)


def test_an_environment_inside_the_working_tree_is_nobodys_code(
    sides: tuple[Checkout, Checkout], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = sides[1].root / ".venv/lib/python3.11/site-packages"
    monkeypatch.setattr(sysconfig, "get_path", lambda _kind: str(installed))
    modules = {
        "captioner": str(sides[0].root / "src/captioner/__init__.py"),
        "torch": str(installed / "torch/__init__.py"),
    }

    assert imported_by(*sides, modules, BENCHMARK) == (
        f"captioner: 1 module of {sides[0].root / 'src/captioner'}",
    )
