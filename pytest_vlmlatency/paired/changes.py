"""What differs between a commit and the code that was measured, and whether the tests may read it.

Owns two facts: that two trees are identical, and that a change lies outside of what the tests read.
Where either is not certain, it does not hold: then both sides are measured.

The candidate's benchmark files, laid over the baseline's: both sides run the same tests.

A test file's folder is taken whole, with its conftest, data and modules, in the place of the
baseline's. Where that folder may hold code that is to be compared, only test files, conftests and
files that are no Python are taken: so it is at the root, of a submodule too, in a folder that code
is imported from, and inside a package that begins further up. Conftests above a test's folder are
taken too.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.paired.git import GitFailed, git, local_commit, repository_around
from pytest_vlmlatency.paired.imports import installed_places

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_vlmlatency.paired.checkouts import Checkout


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


CONFTEST = "conftest.py"
NOT_TAKEN = ("__pycache__",)


def lay_over(tests: Sequence[Path], *, source: Checkout, target: Checkout) -> frozenset[Path]:
    """Bring the files that `tests` (relative paths of test files) need from one to the other.

    Returns what was brought, relative to a checkout. Folders taken whole hold nothing else after.
    """
    assert target.is_worktree, "the user's own working tree is never written to"
    taken: set[Path] = set()
    for folder in sorted({test.parent for test in tests}):
        own = [test for test in tests if test.parent == folder]
        if _is_code(folder, source):
            taken |= _bring_beside_code(folder, own, source.root, target.root)
        else:
            shutil.rmtree(target.root / folder, ignore_errors=True)
            taken |= _bring(_files_in(folder, source.root), source.root, target.root)
            _link_ignored(folder, source.root, target.root)
    above = {up / CONFTEST for test in tests for up in test.parents}
    return frozenset(taken | _bring(above, source.root, target.root))


def take_off(laid: Iterable[Path], target: Checkout) -> None:
    """Give a worktree its own files back: those of its commit, where others were laid over."""
    assert target.is_worktree, "the user's own working tree is never written to"
    homes = {target.root}
    for path in laid:
        file = target.root / path
        homes.add(repository_around(file.parent, target.root))
        file.unlink(missing_ok=True)
    for home in homes:
        gone = git(home, "ls-files", "-z", "--deleted").split("\0")
        own = [f":(literal){name}" for name in gone if name]
        if own:
            git(home, "checkout", "--quiet", "--force", "HEAD", "--", *own)


def _is_code(folder: Path, checkout: Checkout) -> bool:
    """Whether a folder of tests may hold, or lies in, code that is to be compared."""
    absolute = checkout.root / folder
    is_importable_from = any(path.is_relative_to(absolute) for path in checkout.paths)
    above = absolute.parent
    in_package = (absolute / "__init__.py").is_file() and (above / "__init__.py").is_file()
    return is_importable_from or in_package or _is_repository(absolute)


def _is_repository(folder: Path) -> bool:
    """Whether a folder is the root of a submodule."""
    return (folder / ".git").exists()


def _bring_beside_code(
    folder: Path, tests: Sequence[Path], source: Path, target: Path
) -> set[Path]:
    is_root = folder == Path() or _is_repository(source / folder)
    data = [] if is_root else [path for path in _files_in(folder, source) if path.suffix != ".py"]
    return _bring([*tests, folder / CONFTEST, *data], source, target)


def _files_in(folder: Path, root: Path) -> list[Path]:
    """Return what git keeps in a folder, or would keep if it were added."""
    return _listed(folder, root, "-co", "--exclude-standard")


def _listed(folder: Path, root: Path, *flags: str) -> list[Path]:
    """Return what git lists in a folder, relative to the root; the folder may be a submodule's."""
    home = repository_around(root / folder, root)
    inside = (root / folder).relative_to(home)
    listed = git(home, "ls-files", "-z", *flags, "--", str(inside))
    above = home.relative_to(root)
    return [above / name for name in dict.fromkeys(listed.split("\0")) if name]


def _bring(paths: Iterable[Path], source: Path, target: Path) -> set[Path]:
    taken = {path for path in paths if (source / path).is_file()}
    for path in sorted(taken):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).unlink(missing_ok=True)
        shutil.copy2(source / path, target / path)
    return taken


def _link_ignored(folder: Path, source: Path, target: Path) -> None:
    """Link to what git ignores in a folder of tests: data that was downloaded, and may be large."""
    for path in _listed(folder, source, "-o", "-i", "--exclude-standard", "--directory"):
        is_data = path.name not in NOT_TAKEN and path.suffix not in {".py", ".pyc"}
        if is_data and path != folder and not (target / path).exists():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).symlink_to((source / path).resolve())
