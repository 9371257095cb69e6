"""A history in S3 that does not answer: it is reported soon, and no run is lost."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency import cli
from pytest_vlmlatency.errors import HistoryProblem
from pytest_vlmlatency.history import location, places
from pytest_vlmlatency.history.names import name_of
from pytest_vlmlatency.history.store import file_of, open_store
from pytest_vlmlatency.session.keeping import keep
from tests.runs import a_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    find_spec("s3fs") is None, reason="what reaches S3, s3fs, is of the extra `dev`"
)


class Silent:
    """A server that takes connections and never answers."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(0.05)
        self._taken: list[socket.socket] = []
        self._is_open = True
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    @property
    def n_connections(self) -> int:
        """How often somebody came."""
        return len(self._taken)

    def close(self) -> None:
        """Let everybody go."""
        self._is_open = False
        self._thread.join()
        for taken in (self._socket, *self._taken):
            taken.close()

    def _take(self) -> None:
        while self._is_open:
            with suppress(TimeoutError):
                self._taken.append(self._socket.accept()[0])


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Silent]:
    """What S3's address leads to, with time-outs that a test can wait for."""
    server = Silent()
    _reach(monkeypatch, server.url)
    monkeypatch.setattr(places, "READ_S", 0.2)
    monkeypatch.setattr(places, "LIMIT_S", 0.5)
    monkeypatch.setattr(places, "QUIET_S", 0.05)
    yield server
    server.close()


def _reach(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    from s3fs import S3FileSystem  # type: ignore[import-untyped]  # noqa: PLC0415 - slow

    S3FileSystem.clear_instance_cache()  # one of them remembers its address
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)


def test_a_write_without_an_answer_is_named_while_it_waits_and_given_up(
    silent: Silent, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store("s3://latency/history")

    with pytest.raises(HistoryProblem, match="no answer within"):
        store.write(a_run())

    assert "Waiting for s3://latency/history ..." in capsys.readouterr().err
    assert silent.n_connections <= places.N_ATTEMPTS


def test_a_list_without_an_answer_is_given_up_after_few_attempts(
    silent: Silent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "LIMIT_S", 60.0)

    with pytest.raises(HistoryProblem, match=r"cannot be listed: .*[Tt]imeout"):
        open_store("s3://latency/history").index()

    assert silent.n_connections <= 2 * places.N_ATTEMPTS  # its packages try each one twice


def test_a_users_own_settings_of_fsspec_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.config import conf  # noqa: PLC0415 - as above

    monkeypatch.setitem(conf, "s3", {"config_kwargs": {"read_timeout": 300}})

    place = places.Remote("s3://latency/history-with-own-settings")

    assert place.file_system.config_kwargs["read_timeout"] == 300
    assert place.file_system.config_kwargs["connect_timeout"] == places.CONNECT_S


def test_a_run_that_could_not_be_uploaded_waits_and_the_next_run_uploads_it_first(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    s3: str,
    silent: Silent,
) -> None:
    location.repository_root.cache_clear()
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    url = f"{s3}/waiting"
    for number in (1, 2):
        with pytest.raises(HistoryProblem, match=r"it waits in .*, and the next run uploads it"):
            keep(a_run(number), open_store(url), root=tmp_path)
    silent.close()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    _clear()

    assert cli.main(["history", "--history", url]) == 0
    assert "upload them: 2, in " in capsys.readouterr().err
    said = keep(a_run(3), open_store(url), root=tmp_path)
    again = keep(a_run(4), open_store(url), root=tmp_path)

    assert "2 runs that had waited came first" in said
    assert "waited" not in again
    index = open_store(url).index()
    assert [name.id for name in index.names] == [a_run(number).id for number in (1, 2, 3, 4)]
    assert open_store(url).read(index.names).problems == ()
    assert list((tmp_path / ".vlm_latency" / "waiting").rglob("*.json")) == []


def _clear() -> None:
    from s3fs import S3FileSystem  # noqa: PLC0415 - as above

    S3FileSystem.clear_instance_cache()


def test_a_waiting_run_that_was_damaged_is_named_and_stays(tmp_path: Path) -> None:
    history, waiting = open_store("memory://taken-over/history"), open_store(tmp_path)
    for number in (1, 2):
        waiting.write(a_run(number))
    damaged = tmp_path / file_of(name_of(a_run(1)))
    damaged.write_bytes(damaged.read_bytes()[:-20])
    (tmp_path / "runs" / "a folder.json").mkdir()

    n_moved, problems = history.take_over(waiting)

    assert (n_moved, len(problems)) == (1, 2)
    assert history.index().names == (name_of(a_run(2)),)
    assert damaged.exists()
