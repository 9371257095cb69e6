"""The name of a stored run: time, commit, machine, state of the tree, and a random id.

Runs are chosen by their names, without being opened. No counter is in them, so that many writers
need no lock: two runs never have the same name. Names sort by time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pytest_vlmlatency.records import fingerprint_of

if TYPE_CHECKING:
    from pytest_vlmlatency.records import Run, RunHeader

SUFFIX = ".json"
NO_COMMIT = "none"
CLEAN, DIRTY, PULL_REQUEST = "clean", "dirty", "pr"
_NAME = re.compile(
    r"(?P<time>[0-9]{8}T[0-9]{9}Z)_(?P<commit>[0-9a-f]{7,64}|none)_(?P<fingerprint>[0-9a-f]{12})_"
    r"(?P<state>clean|dirty|pr|pr-dirty)_(?P<id>[0-9a-z]{8,32})"
)
_TIME = "%Y%m%dT%H%M%S%f"


@dataclass(frozen=True, slots=True, order=True)
class RunName:
    """What a run's name says; `text` is the name. They sort by time, then by id.

    `time` is in UTC, to the millisecond. `commit` is the whole id, None outside a repository.
    """

    time: str
    id: str
    commit: str | None
    fingerprint: str
    is_dirty: bool
    is_pull_request: bool

    @property
    def text(self) -> str:
        """The name as it is written, without a suffix."""
        state = PULL_REQUEST if self.is_pull_request else DIRTY if self.is_dirty else CLEAN
        if self.is_pull_request and self.is_dirty:
            state = f"{PULL_REQUEST}-{DIRTY}"
        commit = self.commit or NO_COMMIT
        return f"{self.time}_{commit}_{self.fingerprint}_{state}_{self.id}"

    @property
    def started_at(self) -> datetime:
        """When the run began."""
        return datetime.strptime(self.time.removesuffix("Z"), _TIME).replace(tzinfo=UTC)


def name_of(run: Run | RunHeader) -> RunName:
    """Return the name of a run; ValueError if its id, commit or time make none.

    A name decides where a file is written, so nothing but the pattern of a name gets into it.
    """
    if not run.id:
        raise ValueError("the run has no id; every run is given a random one where it is made")
    commit = run.commit
    name = RunName(
        time=_time_of(run.started_at),
        id=run.id,
        commit=None if commit is None else commit.id,
        fingerprint=fingerprint_of(run.environment),
        is_dirty=commit is not None and commit.is_dirty,
        is_pull_request=run.is_pull_request,
    )
    if parse_name(name.text) != name:
        raise ValueError(
            f"its id {run.id!r:.80}, its commit {name.commit!r:.80} and its time "
            f"{run.started_at!r:.80} make no name of a run; expected an id of 8 to 32 letters a-z "
            f"and digits, and a commit of 7 to 64 hexadecimal digits"
        )
    return name


def parse_name(text: str) -> RunName | None:
    """Return what a name says, None for a text that is no name of a run."""
    found = _NAME.fullmatch(text)
    if found is None:
        return None
    return RunName(
        time=found["time"],
        id=found["id"],
        commit=None if found["commit"] == NO_COMMIT else found["commit"],
        fingerprint=found["fingerprint"],
        is_dirty=found["state"].endswith(DIRTY),
        is_pull_request=found["state"].startswith(PULL_REQUEST),
    )


def _time_of(started_at: str) -> str:
    moment = datetime.fromisoformat(started_at)
    if moment.tzinfo is None:
        raise ValueError(f"the run began at {started_at!r}, without a time zone")
    text = moment.astimezone(UTC).strftime(_TIME)
    return f"{text[:-3]}Z"  # milliseconds are enough: the id tells apart what began together
