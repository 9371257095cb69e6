"""What pytest's arguments mean in the candidate's checkout: asked of a pytest that only collects.

Where a gate stands at the end of a pytest run, that run knows; `vlmlatency ab` has to ask.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.paired import observer
from pytest_vlmlatency.paired.arguments import Invocation
from pytest_vlmlatency.paired.launch import Launch, ended_process, told_output
from pytest_vlmlatency.errors import NotConfirmed, UsageProblem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vlmlatency.paired.checkouts import Checkouts

USAGE_ERROR = 4  # pytest's own statuses
NO_TESTS = 5
TIMEOUT_S = 600.0


def survey(
    checkouts: Checkouts, args: Sequence[str], *, folder: Path
) -> tuple[Invocation, tuple[str, ...], tuple[str, ...]]:
    """Return how pytest is called with these arguments, the tests that measure, and their imports.

    Those are the files of the modules that were imported to collect the tests.

    `folder` is where the user stands in his own working tree.
    """
    told = checkouts.scratch / "told.json"
    asked = {"root": str(checkouts.candidate.root), "tests": [], "told": str(told)}
    (checkouts.scratch / "asked.json").write_text(json.dumps(asked), encoding="utf-8")
    launch = Launch(
        checkout=checkouts.candidate,
        other=checkouts.baseline,
        working_tree=checkouts.working_tree,
        invocation=Invocation(options=(), folder=folder, rootdir=folder, inifile=None),
        tests=(),
        benchmark=frozenset(),
        scratch=checkouts.scratch,
    )
    own = ("-p", observer.MODULE, observer.ASKED, str(checkouts.scratch / "asked.json"))
    quiet = ("--collect-only", "-q")
    said = (*shlex.split(os.environ.get("PYTEST_ADDOPTS", "")), *args)
    status, output = ended_process(
        [sys.executable, "-m", "pytest", *own, *quiet, *said],
        launch.environment(),
        launch.folder,
        checkouts.scratch / "output",
        TIMEOUT_S,
    )
    if status == USAGE_ERROR:
        raise UsageProblem(
            f"pytest does not understand {shlex.join(args)!r}:\n{told_output(output)}"
        )
    if status not in (0, NO_TESTS) or not told.is_file():
        raise NotConfirmed(f"pytest could not collect the tests:\n{told_output(output)}")
    seen = json.loads(told.read_text(encoding="utf-8"))
    if not seen["measuring"]:
        raise UsageProblem(
            f"no test that pytest collects with {shlex.join(args)!r} in "
            f"{checkouts.candidate.commit[:10]} uses the vlm_latency fixture; name some behind --"
        )
    invocation = _invocation(seen, checkouts, folder)
    return invocation, tuple(seen["measuring"]), tuple(seen["modules"].values())


def _invocation(seen: dict[str, object], checkouts: Checkouts, folder: Path) -> Invocation:
    """Return what was told, as if it had been said in the user's own working tree."""

    def at_home(path: object) -> Path:
        real = Path(os.path.realpath(str(path)))
        root = checkouts.candidate.root
        inside = real.is_relative_to(root)
        return checkouts.working_tree / real.relative_to(root) if inside else real

    options, inifile = seen["options"], seen["inifile"]
    assert isinstance(options, list), "the observer tells a list"
    return Invocation(
        options=tuple(options),
        folder=folder,
        rootdir=at_home(seen["rootdir"]),
        inifile=None if inifile is None else at_home(inifile),
    )
