"""Which tests a commit has itself: asked of a pytest that collects the commit's own files.

Both sides run the candidate's benchmark files, so a test that fails on the baseline's code may be
one that the baseline has and cannot run, or one that came after it. Only its own files tell.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.paired import observer
from pytest_vlmlatency.paired.arguments import cached_in
from pytest_vlmlatency.paired.git import asked, repository_around
from pytest_vlmlatency.paired.launch import OutOfTime, ended_process

if TYPE_CHECKING:
    from collections.abc import Iterable

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
