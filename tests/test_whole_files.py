"""Files that are written whole, or not at all."""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
from typing import TYPE_CHECKING

import pytest

from pytest_vlmlatency import whole_files
from pytest_vlmlatency.whole_files import (
    ABANDONED_AFTER_S,
    LOCK,
    SCRATCH,
    NotWritten,
    draft_of,
    locked,
    make_folder,
    remove_abandoned_drafts,
    scratch_folder,
    write_all_whole,
    write_whole,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note what reaches the disk: files and folders that are forced to it, and renames."""
    noted: list[str] = []
    force, rename = os.fsync, os.rename

    def fsync(handle: int) -> None:
        noted.append(f"fsync {os.path.basename(os.readlink(f'/proc/self/fd/{handle}'))}")  # noqa: PTH115, PTH119
        force(handle)

    def replace(draft: Path, target: Path) -> Path:
        noted.append(f"rename to {target.name}")
        rename(draft, target)
        return target

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr("pathlib.Path.replace", replace)
    return noted


def test_content_is_on_the_disk_before_the_name_and_the_name_before_it_is_reported(
    tmp_path: Path, calls: list[str]
) -> None:
    write_whole(tmp_path / "a.json", "text")

    draft, renamed, folder = calls
    assert draft.startswith("fsync .a.json.")
    assert (renamed, folder) == ("rename to a.json", f"fsync {tmp_path.name}")
    assert list(tmp_path.iterdir()) == [tmp_path / "a.json"]


def test_each_new_folder_is_on_the_disk_in_the_one_above(tmp_path: Path, calls: list[str]) -> None:
    make_folder(tmp_path / "one" / "two")

    assert {f"fsync {tmp_path.name}", "fsync one"} <= set(calls)


def test_a_folder_that_a_killed_process_made_is_forced_to_the_disk(
    tmp_path: Path, calls: list[str]
) -> None:
    (tmp_path / "one").mkdir()

    make_folder(tmp_path / "one")

    assert calls == [f"fsync {tmp_path.name}"]


@pytest.mark.parametrize("function", ["os.fsync", "pathlib.Path.replace"])
def test_whatever_fails_leaves_the_former_file_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text("former")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(function, full)
        with pytest.raises(NotWritten, match="No space left on device; name a place"):
            write_whole(path, "new")

    assert path.read_text() == "former"
    assert list(tmp_path.iterdir()) == [tmp_path / "a.json"]


def test_a_link_stays_one_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "real.json").write_text("former")
    (tmp_path / "link.json").symlink_to("real.json")

    write_whole(tmp_path / "link.json", "new")

    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == "new"


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()

    write_whole(pipe, "text")

    reader.join()
    assert read == ["text"]
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    ("name", "reason"), [("gone/a.json", "there is no folder"), (".", "Is a directory|busy")]
)
def test_a_place_that_cannot_be_written_to_is_named_with_the_reason(
    tmp_path: Path, name: str, reason: str
) -> None:
    with pytest.raises(NotWritten, match=rf"could not be written: .*({reason})"):
        write_whole(tmp_path / name, "text")


def test_drafts_of_killed_processes_are_removed_and_others_stay(tmp_path: Path) -> None:
    killed, in_use, other = (
        tmp_path / draft_of("a.json"),
        tmp_path / draft_of("a.json"),
        tmp_path / ".hidden",
    )
    for path in (killed, in_use, other):
        path.write_text("")

    with in_use.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        remove_abandoned_drafts(tmp_path)

    assert set(tmp_path.iterdir()) == {in_use, other}


def test_where_nothing_can_be_locked_drafts_of_the_last_day_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_files, "fcntl", None)
    killed, in_use = tmp_path / draft_of("a.json"), tmp_path / draft_of("a.json")
    for path in (killed, in_use):
        path.write_text("")
    os.utime(killed, (1, in_use.stat().st_mtime - ABANDONED_AFTER_S - 60))

    remove_abandoned_drafts(tmp_path)

    assert list(tmp_path.iterdir()) == [in_use]


def test_a_file_that_is_written_again_takes_its_abandoned_draft_with_it(tmp_path: Path) -> None:
    other = tmp_path / draft_of("b.json")
    for path in (tmp_path / draft_of("a.json"), other):
        path.write_text("half of")

    write_whole(tmp_path / "a.json", "text")

    assert set(tmp_path.iterdir()) == {tmp_path / "a.json", other}


@pytest.mark.parametrize("second", ["gone/b.json", "folder"])
def test_of_files_that_are_written_together_none_is_if_one_cannot_be(
    tmp_path: Path, second: str
) -> None:
    (tmp_path / "folder").mkdir()

    with pytest.raises(NotWritten, match=second):
        write_all_whole({tmp_path / "a.json": "text", tmp_path / second: "text"})

    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


def test_a_temporary_folder_that_a_kill_left_is_removed_by_the_next_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, link = tmp_path / f"{SCRATCH}left", tmp_path / f"{SCRATCH}link"
    (left / "below").mkdir(parents=True)
    (tmp_path / "of others").mkdir()
    link.symlink_to("of others")

    with scratch_folder() as mine, scratch_folder() as another:
        seen = set(tmp_path.iterdir())

    assert seen == {mine, another, link, tmp_path / "of others"}
    assert set(tmp_path.iterdir()) == {link, tmp_path / "of others"}


@pytest.mark.parametrize("can_lock_folders", [True, False])
def test_a_folder_that_another_process_keeps_writing_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, can_lock_folders: bool
) -> None:
    monkeypatch.setattr(whole_files, "LOCK_TIMEOUT_S", 0.0)
    if not can_lock_folders:
        monkeypatch.setattr(whole_files, "fcntl", None)

    with locked(tmp_path), pytest.raises(NotWritten, match="another process"), locked(tmp_path):
        pass

    with locked(tmp_path):
        assert list(tmp_path.iterdir()) == ([] if can_lock_folders else [tmp_path / LOCK])
