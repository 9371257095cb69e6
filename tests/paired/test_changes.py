from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_vlmlatency.paired.changes import (
    Changes,
    Read,
    changes_between,
    possibly_read,
)
from tests.repositories import commit, git, repository, write

FILES = {
    "src/own/__init__.py": "from own import model\n",
    "src/own/model.py": "RECIPE = 'recipes/fast.py'\n",
    "src/own/worker.py": "from own import kernels\n",
    "src/own/kernels.py": "",
    "src/own/launcher.py": "import subprocess\nsubprocess.run(['python', '-m', 'own.worker'])\n",
    "recipes/fast.py": "LAYERS = 2\n",
    "tools/release.py": "print('released')\n",
    "benchmarks/test_x.py": "from own import launcher\n",
    "benchmarks/prompt.md": "Describe it.\n",
    "tests/test_unit.py": "import json\n",
    "docs/model.md": "# A model\n",
    "docs/template.md": "",
    "src/own/card.py": "TEXT = open('docs/template.md').read()\n",
    "weights.json": "{}",
    ".gitignore": "__pycache__/\n_version.py\n",
}
IMPORTED = ("src/own/__init__.py", "src/own/model.py", "src/own/launcher.py", "src/own/card.py")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    repository(tmp_path / "project", FILES)
    return tmp_path / "project"


def read_in(root: Path, *more: str) -> Read:
    imported = frozenset(root / name for name in (*IMPORTED, *more))
    return Read(tests=frozenset({Path("benchmarks/test_x.py")}), imported=imported)


def changes_in(root: Path, *more: str, after: str | None = None) -> Changes:
    before = git(root, "rev-list", "--max-parents=0", "HEAD")
    changes = changes_between(root, before, after, read_in(root, *more))
    assert changes is not None
    return changes


def is_outside(root: Path) -> bool:
    changes = changes_in(root)
    return not (changes.is_identical or possibly_read(root, changes, read_in(root)))


def test_an_empty_commit_is_identical(root: Path) -> None:
    git(root, "commit", "--quiet", "--allow-empty", "--message", "Nothing")

    assert changes_in(root).is_identical
    assert changes_in(root, after="HEAD").is_identical


def test_a_change_that_was_taken_back_is_identical(root: Path) -> None:
    commit(root, {"src/own/model.py": "RECIPE = None\n"})
    write(root, {"src/own/model.py": FILES["src/own/model.py"]})

    assert changes_in(root).is_identical
    assert not changes_in(root, after="HEAD").is_identical


@pytest.mark.parametrize(
    ("name", "is_staged"),
    [("src/own/model.py", False), ("src/own/model.py", True), ("new.py", False)],
)
def test_uncommitted_changes_and_new_files_are_no_identical_tree(
    root: Path, name: str, *, is_staged: bool
) -> None:
    write(root, {name: "a change\n"})
    git(root, "add", *(["--all"] if is_staged else ["--update", "docs"]))

    assert changes_in(root).paths == (Path(name),)
    assert changes_in(root, after="HEAD").is_identical


def test_a_change_that_git_was_made_to_overlook_is_no_identical_tree(root: Path) -> None:
    git(root, "update-index", "--assume-unchanged", "src/own/model.py")
    write(root, {"src/own/model.py": "a change\n"})

    assert not changes_in(root).is_identical


def test_an_imported_file_that_git_ignores_is_not_known_to_be_the_same(root: Path) -> None:
    write(root, {"src/own/_version.py": "VERSION = 2\n"})

    assert changes_in(root).is_identical
    assert not changes_in(root, "src/own/_version.py").is_identical


def test_a_submodule_that_moved_or_has_changes_is_no_identical_tree(
    root: Path, tmp_path: Path
) -> None:
    repository(tmp_path / "part", {"part.py": "PART = 1\n"})
    allow = ("-c", "protocol.file.allow=always")
    git(root, *allow, "submodule", "add", "--quiet", str(tmp_path / "part"), "part")
    git(root, "commit", "--quiet", "--message", "A part")
    before = git(root, "rev-parse", "HEAD")
    read = read_in(root, "part/part.py")

    unchanged = changes_between(root, before, None, read)
    write(root / "part", {"part.py": "PART = 2\n"})
    changed = changes_between(root, before, None, read)

    assert unchanged is not None
    assert unchanged.is_identical
    assert changed is not None
    assert changed.paths == (Path("part"),)


@pytest.mark.parametrize(
    "files",
    [
        {"docs/model.md": "# Another model\n", "README.md": "new\n", "LICENSE": "MIT\n"},
        {".github/workflows/ci.yml": "on: push\n", ".circleci/config.yml": "version: 2.1\n"},
        {".gitlab-ci.yml": "test:\n", ".readthedocs.yaml": "version: 2\n", "Jenkinsfile": ""},
        {"tools/release.py": "print('done')\n"},
        {"tests/test_unit.py": "import os\n", "tests/test_new.py": ""},
    ],
    ids=["documentation", "folders of CI", "files of CI", "a tool", "other tests"],
)
def test_what_the_tests_neither_import_nor_name_is_outside_of_them(
    root: Path, files: dict[str, str]
) -> None:
    commit(root, files)

    assert is_outside(root)


@pytest.mark.parametrize(
    "name",
    [
        "src/own/model.py",
        "src/own/kernels.py",
        "recipes/fast.py",
        "docs/template.md",
        "benchmarks/prompt.md",
        "benchmarks/another.py",
        "conftest.py",
        "weights.json",
        "pyproject.toml",
    ],
)
def test_what_the_tests_may_read_is_not_outside_of_them(root: Path, name: str) -> None:
    commit(root, {"docs/model.md": "# Another model\n", name: "# a change\n"})

    assert not is_outside(root)


def test_a_python_file_that_is_gone_may_have_been_imported_before(root: Path) -> None:
    (root / "tools/release.py").unlink()

    assert not is_outside(root)


def test_any_documentation_may_be_read_where_files_of_its_kind_are(root: Path) -> None:
    write(root, {"src/own/card.py": "open(f'docs/{NAME}.md')\n"})
    before = commit(root, {})
    commit(root, {"docs/model.md": "# Another model\n"})
    changes = changes_between(root, before, None, read_in(root))

    assert changes is not None
    assert possibly_read(root, changes, read_in(root))


def test_a_commit_that_git_does_not_know_is_not_known_to_be_the_same(root: Path) -> None:
    assert changes_between(root, "0" * 40, None, read_in(root)) is None


@pytest.mark.parametrize(
    ("name", "is_identical"),
    [("junit.xml", True), ("benchmarks/more.json", False), ("recipe.json", False)],
)
def test_a_new_file_counts_where_the_tests_may_read_it(
    root: Path, name: str, *, is_identical: bool
) -> None:
    model = "src/own/model.py"
    write(root, {model: "open('recipe.json')\n"})
    commit(root, {})
    write(root, {name: "{}"})
    before = git(root, "rev-parse", "HEAD")

    changes = changes_between(root, before, None, read_in(root))

    assert changes is not None
    assert changes.is_identical == is_identical


def test_what_the_run_itself_wrote_is_no_change(root: Path) -> None:
    write(root, {"benchmarks/out.json": "{}"})
    before = git(root, "rev-parse", "HEAD")

    changes = changes_between(root, before, None, replace(read_in(root), since_s=0.0))

    assert changes is not None
    assert changes.is_identical


@pytest.mark.parametrize("ends", [("--output=here", None), ("HEAD", "--output=here")])
def test_a_commit_that_git_could_take_for_an_option_is_unknown_and_writes_nothing(
    root: Path, ends: tuple[str, str | None]
) -> None:
    assert changes_between(root, *ends, read_in(root)) is None
    assert not (root / "here").exists()
