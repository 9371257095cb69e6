"""Which history a pytest run keeps itself in, and keeping it there.

Owns what --vlm-history and --vlm-history-readonly mean together, and what is said of it. What a
history is, is `history.store`'s.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import HistoryProblem
from pytest_vlmlatency.history.location import DEFAULT, repository_root, shortened
from pytest_vlmlatency.history.store import open_store
from pytest_vlmlatency.measure.commit import why_unknown
from pytest_vlmlatency.session.command_line import setting

if TYPE_CHECKING:
    import pytest

    from pytest_vlmlatency.history.store import Store
    from pytest_vlmlatency.records import Run

NONE = "none"


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
        root = repository_root(config.rootpath)
        return None if root is None else open_store(root / DEFAULT, is_readonly=is_readonly)
    is_of_ini = config.getoption("vlm_history", None) is None and "://" not in str(said)
    return open_store(
        config.rootpath / str(said) if is_of_ini else str(said), is_readonly=is_readonly
    )


def keep(run: Run, history: Store, *, root: Path) -> str:
    """Keep a run in a history, and return what to tell of it; HistoryProblem if it cannot be.

    `root` is pytest's rootdir: a repository there whose commit git does not tell is named.
    """
    where = shortened(history.url)
    if history.is_readonly:
        return f"Not kept in {where}: --vlm-history-readonly."
    try:
        history.write(run)
    except HistoryProblem as problem:
        raise HistoryProblem(
            f"--vlm-history: this run could not be kept: {problem}; {_put_aside(run)}name another "
            f"place, or 'none'"
        ) from problem
    kept = f"Kept in {where} as run {run.id}."
    why = " ".join(why_unknown(root).split()) if run.commit is None else ""
    if not why:
        return kept
    return f"{kept} It becomes no baseline of later runs, since its commit is unknown: {why}"


def _put_aside(run: Run) -> str:
    """Write a run that could not be kept into a temporary file, if one can be written at all."""
    from pytest_vlmlatency.history.run_file import write_run  # noqa: PLC0415 - light collecting

    path = Path(gettempdir()) / f"vlmlatency-{run.id}.json"
    try:
        write_run(run, path)
    except OSError:
        return ""
    return f"it lies in {path}, from where `vlmlatency import` keeps it; "
