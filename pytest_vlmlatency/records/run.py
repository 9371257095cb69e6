"""A Run: all cases of one pytest run, with the machine, the versions and the commit."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pytest_vlmlatency.records.case import Case, Scalar

SCHEMA_VERSION = 3
"""Of a run's file; older ones are still read. 2 had no digest of what the file holds, and 1 no
`id`, `is_pull_request`, `merged_from`, and no `terms` of a case."""


DIGEST = "digest"
"""The key in a run's file."""
N_DIGEST_DIGITS = 32
CASES = "cases"
"""The key of the cases: before all others in the order of the alphabet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """The commit that was measured. `is_dirty`: tracked files differ from it."""

    id: str
    branch: str | None
    is_dirty: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The machine and software of a run. No host names, URLs, arguments or variables."""

    machine: Mapping[str, Scalar]
    versions: Mapping[str, str]
    settings: Mapping[str, Scalar]
    devices: tuple[Mapping[str, Scalar], ...]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything that one pytest run measured. `lost` names tests whose cases never arrived.

    `id` is random and unique. `merged_from` are the ids of the runs of a sharded job that were
    joined. A run of a pull request never becomes a baseline by itself.
    """

    started_at: str
    environment: Environment
    commit: Commit | None
    cases: tuple[Case, ...]
    lost: tuple[str, ...] = ()
    id: str = ""
    is_pull_request: bool = False
    merged_from: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION

    @cached_property
    def by_id(self) -> Mapping[str, Case]:
        """Return the cases by their ids, the first where there are several."""
        return {case.id: case for case in reversed(self.cases)}


def digest_of_run(plain: Mapping[str, object]) -> str:
    """Return the digest of a run's JSON values: of the values, whatever their layout."""
    digest = RunDigest()
    cases = plain.get(CASES)
    for case in cases if isinstance(cases, list) else ():
        digest.add_case(case)
    return digest.digits(plain)


class RunDigest:
    """The digest of a run whose cases are added one by one, as thousands fill the memory.

    It is that of one compact JSON text with sorted keys, in which `cases` is the first. 10.0 is 10
    in it, as programs such as jq write what they have read.
    """

    def __init__(self) -> None:
        self._has_cases = False
        self._digest = hashlib.sha256()

    def add_case(self, plain: object) -> None:
        """Add a case."""
        self._digest.update(("," if self._has_cases else f'{{"{CASES}":[').encode())
        self._digest.update(_compact(plain).encode())
        self._has_cases = True

    def digits(self, plain: Mapping[str, object]) -> str:
        """Return the digest, once all cases were added; `plain` are the run's other values."""
        rest = {key: value for key, value in plain.items() if key not in (CASES, DIGEST)}
        text = f"],{_compact(rest)[1:]}" if self._has_cases else _compact({**rest, CASES: []})
        self._digest.update(text.encode())
        return self._digest.hexdigest()[:N_DIGEST_DIGITS]


def _compact(plain: object) -> str:
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return _NO_FRACTION.sub("", text)


_NO_FRACTION = re.compile(r"\.0(?=[,\]}])")
