"""A place writes whole or not at all, whatever it is; here what the other tests don't reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

import fsspec
import pytest

from pytest_vlmlatency import cli
from pytest_vlmlatency.errors import HistoryProblem
from pytest_vlmlatency.history.places import Folder, Remote, place_of
from pytest_vlmlatency.whole_files import is_draft

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SECRET_URL = "leaky://key:hunter2/%2B@host/path?token=swordfish&x=1"
SECRETS = ("hunter2", "swordfish", "hunter2/+", "key:")


def test_a_url_of_the_machines_own_files_is_a_folder(tmp_path: Path) -> None:
    place = place_of(tmp_path.as_uri())

    assert isinstance(place, Folder)
    assert place.folder == tmp_path


def test_a_share_that_has_no_objects_gets_a_draft_that_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = Remote(tmp_path.as_uri())
    written: list[str] = []
    pipe = share.file_system.pipe_file

    def noting(path: str, data: bytes) -> None:
        written.append(path)
        pipe(path, data)

    monkeypatch.setattr(share.file_system, "pipe_file", noting)

    share.write("runs/x.json", b"whole")

    assert [is_draft(path) for path in written] == [True]
    assert share.list("runs") == ["runs/x.json"]
    assert share.read(["runs/x.json"]) == {"runs/x.json": b"whole"}
    share.remove("runs/x.json")
    share.remove("runs/x.json")
    assert list(tmp_path.rglob("*.json")) == []


def test_a_write_that_fails_leaves_no_file_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = Remote(tmp_path.as_uri())

    def lost(*_: object) -> None:
        raise ConnectionError("the share went away")

    monkeypatch.setattr(share.file_system, "mv", lost)

    with pytest.raises(HistoryProblem, match="not written: ConnectionError: the share went away"):
        share.write("runs/x.json", b"whole")

    assert [path for path in share.list("runs") if not is_draft(path)] == []


def test_a_disk_that_is_full_leaves_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)

    with pytest.raises(HistoryProblem, match=r"x\.json could not be written: .*No space left"):
        Folder(tmp_path).write("runs/x.json", b"whole")

    assert list((tmp_path / "runs").iterdir()) == []


def test_one_file_that_cannot_be_read_does_not_keep_the_others(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    place.write("runs/x.json", b"whole")
    (tmp_path / "runs/y.json").mkdir()

    read = place.read(["runs/x.json", "runs/y.json", "runs/z.json"])

    assert read["runs/x.json"] == b"whole"
    assert isinstance(read["runs/y.json"], OSError)
    assert isinstance(read["runs/z.json"], FileNotFoundError)


def test_a_bucket_that_is_not_there_is_an_error_that_names_it(s3: str) -> None:
    missing = place_of("s3://latncy/runs-of-us")

    with pytest.raises(HistoryProblem) as refusal:
        missing.list("runs")

    assert str(refusal.value) == (
        "s3://latncy/runs-of-us: there is no bucket 'latncy'; create it, or name another: a "
        "history makes none itself"
    )
    assert place_of(f"{s3}/nothing-yet").list("runs") == []


class Leaky(fsspec.AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A store whose errors say all that it was given, and more."""

    protocol = "leaky"

    def ls(self, path: str, **_options: object) -> Sequence[object]:
        raise ConnectionError(f"no answer of {SECRET_URL} ({path}), nor with hunter2/+")

    pipe_file = cat_ranges = rm_file = makedirs = ls


@pytest.mark.parametrize(
    "command",
    [
        "history",
        "history --json",
        "trend --machine 1",
        "compact",
        "compare last last",
        "accept HEAD --why x",
        "import run.json",
        "merge a b --to x.json",
        "export-benchmark 12345678 --to x.json",
        "export 12345678 --to x",
        "history --sql SELECT",
        "history --nonsense",
    ],
)
def test_no_command_shows_what_a_url_says_of_its_user(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fsspec.register_implementation("leaky", Leaky, clobber=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").mkdir()

    try:
        status = cli.main([*command.split(), "--history", SECRET_URL])
    except SystemExit as end:  # of argparse
        status = end.code  # type: ignore[assignment]  # its code is a number

    said = "".join(capsys.readouterr())
    assert status
    assert not [secret for secret in SECRETS if secret in said]


def test_a_place_behind_a_url_is_called_without_its_user_and_query() -> None:
    fsspec.register_implementation("leaky", Leaky, clobber=True)
    share = Remote(SECRET_URL)

    with pytest.raises(HistoryProblem) as listed:
        share.list("runs")
    with pytest.raises(HistoryProblem) as written:
        share.write("runs/x.json", b"whole")
    told = [str(listed.value), str(written.value), str(share.read(["x"])["x"]), share.url]

    assert share.url == "leaky://host/path"
    assert not [text for text in told for secret in SECRETS if secret in text]
    assert (listed.value.__cause__, listed.value.__suppress_context__) == (None, True)
