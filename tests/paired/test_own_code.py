"""Each side runs its own code, whatever is installed and however pytest finds its tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_vlmlatency.errors import NotConfirmed
from pytest_vlmlatency.paired.arguments import Invocation
from pytest_vlmlatency.paired.checkouts import default_paths
from pytest_vlmlatency.paired.pairs import open_pairs
from tests.projects import REPOSITORY
from tests.repositories import CAPTION, SMALL, commit, repository, write

BUILD = """\
import sys
from setuptools import build_meta

print(build_meta.build_editable(sys.argv[1]))
"""
SITE = "import site\nsite.addsitedir({folder!r})\n"
PROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "captioner"
version = "1"

[tool.setuptools]
packages = ["captioner"]
package-dir = {"captioner" = "%s/captioner"}
"""


def imported(
    root: Path, *options: str, paths: tuple[str, ...] = (), below: str = "."
) -> dict[str, str]:
    """Measure one pair of HEAD~1 and the working tree; return what each side imported."""
    project = root / below
    invocation = Invocation(
        options=options, folder=project, rootdir=project, inifile=project / "pytest.ini"
    )
    opened = open_pairs(
        root,
        baseline="HEAD~1",
        paths=paths,
        invocation=invocation,
        time_limit_s=300.0,
        say=lambda _line: None,
    )
    with opened as pairs:
        pairs.extend_to(1, [(Path(below) / CAPTION).as_posix()])
        folder = pairs._checkouts.baseline.root
        found = pairs.confirmation().imported
    return {
        side: "; ".join(told).replace(str(folder), "BASELINE").replace(str(root), "CANDIDATE")
        for side, told in found.items()
    }


def install_editably(root: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let setuptools make a real editable install, and every process find it as installed."""
    site.mkdir()
    built = subprocess.run(
        [sys.executable, "-c", BUILD, str(site)],
        cwd=root,
        capture_output=True,
        check=True,
        text=True,
    )
    wheel = site / built.stdout.split()[-1]
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(site)], check=True)
    startup = site / "startup"
    write(startup, {"sitecustomize.py": SITE.format(folder=str(site))})
    monkeypatch.setenv("PYTHONPATH", f"{startup}:{REPOSITORY}")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    repository(tmp_path / "project", SMALL)
    commit(tmp_path / "project", {"src/captioner/__init__.py": "NAME = 'second'\n"})
    return tmp_path / "project"


OWN = {
    "baseline": "captioner: 1 module of BASELINE/src/captioner",
    "candidate": "captioner: 1 module of CANDIDATE/src/captioner",
}


@pytest.mark.parametrize("mode", ["prepend", "importlib"])
def test_each_side_imports_its_own_in_either_import_mode(root: Path, mode: str) -> None:
    assert imported(root, f"--import-mode={mode}") == OWN


def test_a_real_editable_install_of_the_working_tree_is_passed_by(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, {"pyproject.toml": PROJECT % "src"})
    install_editably(root, tmp_path / "site", monkeypatch)
    finder = "import captioner; print(captioner.__file__)"
    installed = subprocess.run(
        [sys.executable, "-c", finder], cwd=tmp_path, capture_output=True, check=True, text=True
    )

    found = imported(root)

    assert installed.stdout.strip() == str(root / "src/captioner/__init__.py")
    assert found == OWN


def test_an_editable_install_that_wins_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "src").rename(root / "lib")
    commit(root, {"pyproject.toml": PROJECT % "lib"})
    commit(root, {"lib/captioner/__init__.py": "NAME = 'third'\n"})
    install_editably(root, tmp_path / "site", monkeypatch)

    with pytest.raises(NotConfirmed) as refusal:
        imported(root)

    assert str(refusal.value).startswith(
        f"the baseline's process imported captioner from {root / 'lib/captioner/__init__.py'}, "
        f"which is the candidate's code; name the folder that the project's packages are in with "
        f"--vlm-confirm-path"
    )


def test_the_path_that_was_named_comes_before_the_editable_install(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "src").rename(root / "lib")
    commit(root, {"pyproject.toml": PROJECT % "lib"})
    commit(root, {"lib/captioner/__init__.py": "NAME = 'third'\n"})
    install_editably(root, tmp_path / "site", monkeypatch)

    found = imported(root, paths=("lib",))

    assert found == {side: told.replace("/src/", "/lib/") for side, told in OWN.items()}


def test_a_pythonpath_into_the_working_tree_means_each_sides_own(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "src").rename(root / "lib")
    commit(root, {})
    commit(root, {"lib/captioner/__init__.py": "NAME = 'third'\n"})
    monkeypatch.setenv("PYTHONPATH", f"{root / 'lib'}:{REPOSITORY}")

    found = imported(root)

    assert found == {side: told.replace("/src/", "/lib/") for side, told in OWN.items()}


def test_a_project_in_a_folder_of_the_repository_is_run_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    root = tmp_path / "many"
    stands_there = "from pathlib import Path\n\nassert Path.cwd().name == 'python'\n"
    files = {**SMALL, "benchmarks/test_x.py": stands_there + SMALL["benchmarks/test_x.py"]}
    repository(root, {f"python/{name}": text for name, text in files.items()})
    commit(root, {"python/src/captioner/__init__.py": "NAME = 'second'\n"})

    found = imported(root, below="python", paths=default_paths(root, root / "python"))

    assert found == {side: told.replace("/src/", "/python/src/") for side, told in OWN.items()}


def test_the_ini_file_of_the_working_tree_is_obeyed_on_both_sides_but_for_workers_and_selection(
    root: Path,
) -> None:
    write(
        root,
        {
            "pytest.ini": "[pytest]\naddopts = -n 2 -k nothing --strict-markers\n"
            "markers = vision: about images\n",
            "benchmarks/test_x.py": "import pytest\n"
            + SMALL["benchmarks/test_x.py"].replace(
                "def test_caption", "@pytest.mark.vision\ndef test_caption"
            ),
        },
    )

    assert imported(root, "--strict-markers") == OWN
