"""Which history a pytest run keeps itself in, and keeping it there.

Owns what --vlm-history and --vlm-history-readonly mean together, and what is said of it. What a
history is, is `history.store`'s.

Whether this is a run of a pull request, as the CI service says in the environment.

Owns the variables that are asked. A run of a pull request never becomes a baseline by itself, since
its commit may never be merged. Elsewhere than in CI, and in services that are not listed, no run is
one: there, keep such runs out of the history with --vlm-history-readonly.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import HistoryProblem
from pytest_vlmlatency.history.location import (
    DEFAULT,
    repository_root,
    shortened,
    waiting_for,
)
from pytest_vlmlatency.history.store import open_store
from pytest_vlmlatency.machine.commit import why_unknown
from pytest_vlmlatency.session.command_line import setting

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

    from pytest_vlmlatency.history.store import Store
    from pytest_vlmlatency.records import Run


NONE = "none"


def repository_of(config: pytest.Config) -> Path | None:
    """Return the repository of a run, None if its tests are in none, or in several.

    It is the one around pytest's rootdir, or around the folder of the call, that has some of the
    tests; else the one that has all of them. An option that names an existing path, as
    `--vlm-json /tmp/run.json`, moves the rootdir to a folder that has none.
    """
    called_in = config.invocation_params.dir
    tests = [called_in / argument.partition("::")[0] for argument in config.args]
    for folder in (config.rootpath, called_in):
        root = repository_root(folder)
        if root is not None and any(test.is_relative_to(root) for test in tests):
            return root
    around = {repository_root(test) for test in tests}
    of_all = around.pop() if len(around) == 1 else None
    return of_all or repository_root(config.rootpath)  # tests of an installed package: no paths


def home_of(config: pytest.Config) -> Path:
    """Return the folder that ids of a run are relative to: its repository, else the rootdir."""
    return repository_of(config) or config.rootpath


def why_not_kept(config: pytest.Config) -> list[str]:
    """Return what to tell of a run for which there is no history; nothing where that was chosen."""
    if setting(config, "--vlm-history") == NONE:
        return []
    folders = dict.fromkeys(map(str, (config.rootpath, config.invocation_params.dir)))
    return [
        f"Not kept in a history: no git repository around {' or '.join(folders)}; name a place "
        f"with --vlm-history."
    ]


def moved_root(config: pytest.Config) -> list[str]:
    """Return a warning where pytest's rootdir is outside of the repository of the tests."""
    home, root = home_of(config), config.rootpath
    if config.inipath is not None or root.is_relative_to(home):
        return []
    return [
        f"Warning, pytest's rootdir is {root}, outside of {home}: no ini file of the repository "
        f"was read. An option's existing path moves it; write --option=PATH, or give --rootdir."
    ]


def history_of(config: pytest.Config) -> Store | None:
    """Return the history of this run, None where nothing is to be kept or read.

    A folder named on the command line is relative to the working directory, one named in the ini
    file to pytest's root directory.
    """
    is_readonly = bool(setting(config, "--vlm-history-readonly"))
    said = setting(config, "--vlm-history")
    if said == NONE:
        return None
    if said is None:
        root = repository_of(config)
        return None if root is None else open_store(root / DEFAULT, is_readonly=is_readonly)
    is_of_ini = config.getoption("vlm_history", None) is None and "://" not in str(said)
    return open_store(
        config.rootpath / str(said) if is_of_ini else str(said), is_readonly=is_readonly
    )


def keep(run: Run, history: Store, *, root: Path) -> str:
    """Keep a run in a history, and return what to tell of it; HistoryProblem if it cannot be.

    `root` is the repository of the run: one whose commit git does not tell is named.
    """
    where = shortened(history.url)
    if history.is_readonly:
        return f"Not kept in {where}: --vlm-history-readonly."
    waiting = waiting_for(history, root)
    try:
        n_before, left = (0, ()) if waiting is None else history.take_over(waiting)
        history.write(run)
    except HistoryProblem as problem:
        raise HistoryProblem(
            f"--vlm-history: this run could not be kept: {problem}; "
            f"{_put_aside(run, waiting)}name another place, or 'none'"
        ) from problem
    kept = f"Kept in {where} as run {run.id}."
    if n_before:
        kept += f" {n_before} {'run' if n_before == 1 else 'runs'} that had waited came first."
    if left:
        kept += f" Not uploaded, and still waiting: {'; '.join(left)}."
    why = " ".join(why_unknown(root).split()) if run.commit is None else ""
    if not why:
        return kept
    return f"{kept} It becomes no baseline of later runs, since its commit is unknown: {why}"


def _put_aside(run: Run, waiting: Store | None) -> str:
    """Write a run that could not be kept on this machine, and return what becomes of it there.

    Where it waits, the next run uploads it; else `vlmlatency import` takes it from a file.
    """
    from pytest_vlmlatency.history.run_files import write_run  # noqa: PLC0415 - light collecting

    path = Path(gettempdir()) / f"vlmlatency-{run.id}.json"
    try:
        if waiting is not None:
            waiting.write(run)
            return f"it waits in {shortened(waiting.url)}, and the next run uploads it; "
        write_run(run, path)
    except (HistoryProblem, OSError):
        return ""
    return f"it lies in {path}, from where `vlmlatency import` keeps it; "


GITHUB_EVENT = "GITHUB_EVENT_NAME"  # Gitea and Forgejo set it too
GITHUB_EVENTS = frozenset(("pull_request", "pull_request_target", "pull_request_review"))
# Set to the number of the request, or to "false" where there is none.
NUMBERS = (
    "CI_MERGE_REQUEST_IID",  # GitLab
    "BITBUCKET_PR_ID",
    "BUILDKITE_PULL_REQUEST",
    "CHANGE_ID",  # Jenkins, multibranch pipelines
    "CIRCLE_PULL_REQUEST",
    "DRONE_PULL_REQUEST",
    "CI_COMMIT_PULL_REQUEST",  # Woodpecker
    "SYSTEM_PULLREQUEST_PULLREQUESTID",  # Azure Pipelines
    "TRAVIS_PULL_REQUEST",
    "APPVEYOR_PULL_REQUEST_NUMBER",
)


def is_pull_request(environ: Mapping[str, str]) -> bool:
    """Return whether the environment is that of a pull request's (or merge request's) run."""
    if environ.get(GITHUB_EVENT) in GITHUB_EVENTS:
        return True
    return any(environ.get(name, "") not in ("", "false") for name in NUMBERS)
