"""Which tests a commit has itself: asked of a pytest that collects the commit's own files.

Both sides run the candidate's benchmark files, so a test that fails on the baseline's code may be
one that the baseline has and cannot run, or one that came after it. Only its own files tell.

Which files were renamed since a commit, as git finds it. The working tree is only read.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.paired import observer
from pytest_vlmlatency.paired.arguments import cached_in
from pytest_vlmlatency.paired.git import GitFailed, asked, git, local_commit, repository_around
from pytest_vlmlatency.paired.launch import OutOfTime, ended_process
from pytest_vlmlatency.whole_files import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_vlmlatency.paired.launch import Launch


TIMEOUT_S = 300.0  # a launch that only imports; what takes longer is taken for a test that is there


def tests_missing_in(launch: Launch) -> frozenset[str]:
    """Return those of a launch's tests that its checkout's own files do not have.

    The checkout has to hold its own files (see `overlay.take_off`). A test whose file is there and
    cannot be collected counts as one that is there.
    """
    files = {test: Path(test.partition("::")[0]) for test in launch.tests}
    there = {test for test, file in files.items() if _has_file(launch, file)}
    without_file = frozenset(files.keys() - there)
    return without_file | _uncollected(launch, there) if there else without_file


def _has_file(launch: Launch, file: Path) -> bool:
    root = launch.checkout.root
    home = repository_around((root / file).parent, root)  # a submodule's files are its own commit's
    question = ("ls-tree", "--name-only", "HEAD", "--", str((root / file).relative_to(home)))
    return asked(home, *question) is not None


def _uncollected(launch: Launch, tests: Iterable[str]) -> frozenset[str]:
    """Return the tests that are not collected, and whose file is; none where that is not known."""
    told, said = launch.scratch / "own.json", launch.scratch / "own_asked.json"
    told.unlink(missing_ok=True)
    wanted = {"root": str(launch.checkout.root), "tests": sorted(tests), "told": str(told)}
    said.write_text(json.dumps(wanted), encoding="utf-8")
    files = dict.fromkeys(str(launch.checkout.root / test.partition("::")[0]) for test in tests)
    own = ("-p", observer.MODULE, observer.ASKED, str(said))
    quiet = ("--collect-only", "--continue-on-collection-errors", "-q")
    options = launch.invocation.options
    ours = (*own, *quiet, "-o", "addopts=", *cached_in(launch.scratch, options))
    command = [sys.executable, "-m", "pytest", *options, *ours]
    try:
        ended_process(
            [*command, *files],
            launch.environment(),
            launch.folder,
            launch.scratch / "output",
            TIMEOUT_S,
        )
    except OutOfTime:
        return frozenset()
    if not told.is_file():
        return frozenset()
    failed = json.loads(told.read_text(encoding="utf-8"))["failed"]
    return frozenset(test for test in tests if failed.get(test) == observer.NOT_COLLECTED)


DIFF = (
    *("-c", "diff.relative=false", "diff", "--no-ext-diff", "--find-renames"),
    *("--diff-filter=R", "--name-status", "-z"),
)
PYTHON = "*.py"


def renamed_files(root: Path, before: str, after: str | None = None) -> dict[str, str]:
    """Return the former path of each renamed file by its path now, both relative to the root.

    `after` None: the working tree, with Python files that were not added yet. Nothing is known of
    a commit that this clone lacks.
    """
    commit = local_commit(root, before)
    now = None if after is None else local_commit(root, after)
    if commit is None or (after is not None and now is None):
        return {}
    try:
        if now is not None:
            return _parsed(git(root, *DIFF, commit, now, "--"))
        return _to_working_tree(root, commit)
    except GitFailed:
        return {}


def former_name(test: str, renamed: Mapping[str, str]) -> str:
    """Return what a test, or a case of it, was called before its file was renamed."""
    file, separator, rest = test.partition("::")
    return f"{renamed.get(file, file)}{separator}{rest}"


def _to_working_tree(root: Path, commit: str) -> dict[str, str]:
    """Compare with the working tree by way of a copy of the index, in which new files are added."""
    index = root / git(root, "rev-parse", "--git-path", "index").strip()
    new = git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", PYTHON)
    if not new or not index.is_file():
        return _parsed(git(root, *DIFF, commit, "--"))
    with scratch_folder() as folder:
        copy = Path(shutil.copy2(index, folder / "index"))
        git(root, "add", "--intent-to-add", "--", PYTHON, index=copy)
        return _parsed(git(root, *DIFF, commit, "--", index=copy))


def _parsed(answer: str) -> dict[str, str]:
    """Return new paths with their old ones from `R100`, the old path, the new path, and so on."""
    fields = answer.split("\0")[:-1]
    return {now: before for before, now in zip(fields[1::3], fields[2::3], strict=True)}
