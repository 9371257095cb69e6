"""A Run: all cases of one pytest run, with the machine, the versions and the commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_vlmlatency.records.case import Case, Scalar

SCHEMA_VERSION = 1


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything that one pytest run measured. `lost` names tests whose cases never arrived."""

    started_at: str
    environment: Environment
    commit: Commit | None
    cases: tuple[Case, ...]
    lost: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION
