"""What differs between a commit and the code that was measured, and whether the tests may read it.

Owns two facts: that two trees are identical, and that a change lies outside of what the tests read.
Where either is not certain, it does not hold: then both sides are measured.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.paired.commits import local_commit
from pytest_vlmlatency.paired.git import GitFailed, git
from pytest_vlmlatency.paired.imports import installed_places
from pytest_vlmlatency.paired.overlay import CONFTEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PYTHON = ".py"
DOCUMENTATION = frozenset({".md", ".rst", ".adoc"})
FOR_PEOPLE = frozenset(
    {
        *("LICENSE", "LICENCE", "COPYING", "NOTICE", "AUTHORS", "CONTRIBUTORS", "CODEOWNERS"),
        *("CHANGELOG", "CHANGES", "README", ".gitignore", ".editorconfig", ".mailmap"),
        *(".git-blame-ignore-revs", ".pre-commit-config.yaml", "LICENSE.txt", "CITATION.cff"),
        *(".gitlab-ci.yml", ".travis.yml", "azure-pipelines.yml", "Jenkinsfile", "mkdocs.yml"),
        *(".readthedocs.yaml", ".readthedocs.yml"),
    }
)
OF_A_SERVICE = (".github", ".gitlab", ".circleci", ".buildkite", ".vlm_accepted")
"""Folders of CI services, and of accepted runs: what is in them has chosen this run, no more."""

N_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What is known of the tests: their files, and the files that their processes imported.

    `since_s` is when they began, as a file's time has it; None where they did not run.
    """

    tests: frozenset[Path]
    imported: frozenset[Path]
    since_s: float | None = None

    @property
    def folders(self) -> frozenset[Path]:
        """The folders of the tests, but the root: what lies in them may be data of theirs."""
        return frozenset({test.parent for test in self.tests} - {Path()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The files that differ, relative to the repository's root; a submodule is one of them.

    `deleted` are those that the candidate no longer has. `hidden_from_git` are files that the tests
    imported and git does not keep, so that nobody knows whether they are the same.
    """

    paths: tuple[Path, ...]
    deleted: frozenset[Path] = frozenset()
    hidden_from_git: tuple[Path, ...] = ()

    @property
    def is_identical(self) -> bool:
        """Whether both sides certainly run the same code."""
        return not self.paths and not self.hidden_from_git


def files_in_words(paths: Sequence[Path]) -> str:
    """Return the first few of some files, and how many more there are."""
    names = ", ".join(path.as_posix() for path in paths[:N_NAMED])
    more = len(paths) - N_NAMED
    return f"{names} and {more} more" if more > 0 else names


def changes_between(root: Path, before: str, after: str | None, read: Read) -> Changes | None:
    """Return what differs from a commit in another one, in the working tree where that is None.

    Uncommitted changes, new files and submodules count; of new files not those that this run wrote,
    nor what is no Python file and nothing that the tests import names. None where git does not
    know.
    """
    commits = [local_commit(root, ref) for ref in (before, after) if ref is not None]
    if None in commits:
        return None
    try:
        flags = ("--name-status", "-z", "--no-renames", "--no-ext-diff", "--ignore-submodules=none")
        words = git(root, "diff", *flags, *filter(None, commits), "--").split("\0")
        changed = {
            Path(path): status for status, path in zip(words[::2], words[1::2], strict=False)
        }
        if after is None:
            changed |= dict.fromkeys(_new_files(root, read), "A")
            changed |= dict.fromkeys(_unwatched_files(root), "M")
        kept = _kept(root)
    except GitFailed:
        return None
    imported = _inside(root, read.imported)
    return Changes(
        paths=tuple(sorted(changed)),
        deleted=frozenset(path for path, status in changed.items() if status == "D"),
        hidden_from_git=tuple(sorted(imported - kept - changed.keys())),
    )


def possibly_read(root: Path, changes: Changes, read: Read) -> tuple[Path, ...]:
    """Return those files that differ and that the tests may read; () where they read none for sure.

    They certainly do not read documentation, and Python files that are there and were not imported,
    unless a file that the tests import, or may import, names them. Whatever else there is may be
    data, and a Python file that is gone may have been imported before.
    """
    found = [path for path in changes.paths if not _may_be_unread(path, changes, read)]
    if not found and changes.paths:
        reached, texts = _reach(root, read)
        found = [path for path in changes.paths if path in reached or _is_named(path, texts)]
    return (*found, *changes.hidden_from_git)


def _is_named(path: Path, texts: Sequence[str]) -> bool:
    """Whether texts name a file, or files of its kind, as "*.md" does.

    A Python file is named by what imports it as well, which `_reach` has followed.
    """
    kind = re.compile(rf"[\"'*}}]{re.escape(path.suffix)}\b") if path.suffix else None
    is_python = path.suffix == PYTHON
    return any(
        (not is_python and path.name in text) or (kind is not None and kind.search(text))
        for text in texts
    )


def _may_be_unread(path: Path, changes: Changes, read: Read) -> bool:
    """Whether a file is of a kind that tests read only by importing it, or by its name."""
    if any(path.is_relative_to(folder) for folder in read.folders):
        return False
    if path.suffix == PYTHON:
        return path not in changes.deleted and path.name != CONFTEST
    return _is_for_people(path)


def _reach(root: Path, read: Read) -> tuple[set[Path], list[str]]:
    """Return the Python files that the tests may import or run, with their texts.

    Those that were imported, the tests' files with their folders and conftests, and each whose name
    stands in one of these, and so on: what another process imports is among them.
    """
    kept = {path for path in _kept(root) if path.suffix == PYTHON}
    near = {test.parent for test in read.tests}
    begin = _inside(root, read.imported) | read.tests
    begin |= {path for path in kept if path.name == CONFTEST or path.parent in near}
    by_name: dict[str, set[Path]] = {}
    for path in kept:
        name = path.parent.name if path.stem == "__init__" else path.stem
        by_name.setdefault(name, set()).add(path)
    reached: set[Path] = set()
    texts = []
    left = list(begin)
    while left:
        path = left.pop()
        if path in reached or not (root / path).is_file() or path.suffix != PYTHON:
            continue
        reached.add(path)
        text = (root / path).read_text(encoding="utf-8", errors="replace")
        texts.append(text)
        words = set(re.findall(r"\w+", text))
        left += [file for name in words & by_name.keys() for file in by_name[name]]
    return reached, texts


def _is_for_people(path: Path) -> bool:
    is_of_a_service = path.parts[0] in OF_A_SERVICE
    return is_of_a_service or path.suffix in DOCUMENTATION or path.name in FOR_PEOPLE


def _kept(root: Path) -> set[Path]:
    """Return what git keeps in the working tree, or would keep if it were added."""
    own = git(root, "ls-files", "-z", "-co", "--exclude-standard")
    of_submodules = git(root, "ls-files", "-z", "--recurse-submodules")
    return {Path(name) for name in (own + of_submodules).split("\0") if name}


def _new_files(root: Path, read: Read) -> list[Path]:
    """Return files that git does not track and does not ignore; a repository counts as one.

    What this run wrote is left out, and so is what the tests do not read.
    """
    listed = git(root, "ls-files", "-z", "-o", "--exclude-standard")
    names = [name for name in listed.split("\0") if name]
    repositories = {Path(name) for name in names if name.endswith("/")}
    found = [path for path in map(Path, names) if not _is_written_since(root / path, read.since_s)]
    texts = _reach(root, read)[1] if found else []
    return [
        path
        for path in found
        if path.suffix == PYTHON
        or path in repositories
        or any(path.is_relative_to(folder) for folder in read.folders)
        or _is_named(path, texts)
    ]


def _is_written_since(file: Path, since_s: float | None) -> bool:
    return since_s is not None and file.suffix != PYTHON and file.lstat().st_mtime >= since_s


def _unwatched_files(root: Path) -> list[Path]:
    """Return files whose changes git was made to overlook (assume-unchanged, skip-worktree)."""
    lines = (line for line in git(root, "ls-files", "-z", "-v").split("\0") if line)
    marked = (Path(line[2:]) for line in lines if line[0].islower() or line[0] == "S")
    return [path for path in marked if (root / path).exists()]


def _inside(root: Path, files: Iterable[Path]) -> set[Path]:
    """Return those files that are the repository's, relative to its root."""
    real = Path(os.path.realpath(root))
    places = [place for place in installed_places() if place.is_relative_to(real)]
    found = (Path(os.path.realpath(file)) for file in files)
    return {
        file.relative_to(real)
        for file in found
        if file.is_relative_to(real) and not any(file.is_relative_to(place) for place in places)
    }


def read_by(
    tests: Sequence[str | None], imported: Iterable[str], *, since_s: float | None = None
) -> Read:
    """Return what tests read, as their cases name them and as their processes imported it."""
    files = frozenset(Path(test.partition("::")[0]) for test in tests if test)
    return Read(tests=files, imported=frozenset(map(Path, imported)), since_s=since_s)
