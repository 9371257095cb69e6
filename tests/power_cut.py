"""What was reported as written is there after the power was cut: `python -m tests.power_cut`.

The commands of `tests.killing`, run to their end, on disks that lose what was not forced to them:
one that is made up (a content as of the file's last fsync, names as of their folder's last one),
and, where a file system can be mounted, ext4 in an image that is shut down without its journal.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.killing import COMMANDS, _say, in_a_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.killing import Command

SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32), of ext4 and xfs
NO_LOG_FLUSH = 2
IMAGE_BYTES = 2**26


class NoMount(Exception):
    """No file system can be mounted here."""


class MadeUpDisk:
    """What a disk holds for sure of a folder: what fsync was called for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.contents: dict[int, bytes] = {}
        self.names: dict[int, dict[str, tuple[int, int]]] = {}
        self._held: list[int] = []  # open, so that no other file gets the number of one
        for folder, _, files in os.walk(root):
            for path in (folder, *(os.path.join(folder, name) for name in files)):  # noqa: PTH118
                handle = os.open(path, os.O_RDONLY)
                self.force(handle)
                os.close(handle)

    def force(self, handle: int) -> None:
        """Note a file's content, or a folder's names, as they are now."""
        found = os.fstat(handle)
        path = Path(f"/proc/self/fd/{handle}")
        self._held.append(os.dup(handle))
        if stat.S_ISDIR(found.st_mode):
            entries = [one.lstat() for one in path.iterdir()]
            names = [one.name for one in path.iterdir()]
            self.names[found.st_ino] = {
                name: (one.st_ino, one.st_mode) for name, one in zip(names, entries, strict=True)
            }
        else:
            self.contents[found.st_ino] = path.read_bytes()

    def write_to(self, target: Path) -> None:
        """Write what is left after the power was cut."""
        self._write(self.root.stat().st_ino, target)

    def _write(self, folder: int, target: Path) -> None:
        target.mkdir()
        for name, (number, mode) in self.names.get(folder, {}).items():
            if stat.S_ISDIR(mode):
                self._write(number, target / name)
            else:
                (target / name).write_bytes(self.contents.get(number, b""))


def lost_on_a_made_up_disk(command: Command, folder: Path) -> str:
    """Return what a command reported that such a disk lost, "" if nothing."""
    work, left, out = folder / "work", folder / "left", folder / "ran"
    work.mkdir(parents=True)
    command.prepare(work)

    def run() -> object:
        disk = MadeUpDisk(work)
        own = os.fsync

        def fsync(fd: Any) -> None:
            own(fd)
            disk.force(fd)

        os.fsync = fsync
        answer = command.run(work)
        disk.write_to(left)
        return answer

    status = in_a_fork(run, work, out)
    assert status == command.status, f"{command.name}: {out.read_text()}"
    return _lost(command, command.state(work), left)


def lost_on_a_real_disk(command: Command, folder: Path) -> str:
    """Return what a command reported that ext4 lost when it was shut down, "" if nothing."""
    folder.mkdir(parents=True)
    with _mounted(folder) as disk:
        work = disk / "work"
        work.mkdir()
        command.prepare(work)
        os.sync()
        (disk / "not forced").write_text("x")
        status = in_a_fork(lambda: command.run(work), work, folder / "ran")
        assert status == command.status, f"{command.name}: {(folder / 'ran').read_text()}"
        shutil.copytree(work, folder / "before")
        _cut(disk)
    with _mounted(folder) as disk:
        return _lost(command, command.state(folder / "before"), disk / "work")


def a_real_disk_loses(folder: Path) -> bool:
    """Whether the power is cut indeed: what was not forced to the disk is gone."""
    folder.mkdir(parents=True)
    with _mounted(folder) as disk:
        os.sync()
        (disk / "not forced").write_text("x")
        _cut(disk)
    with _mounted(folder) as disk:
        return not (disk / "not forced").exists()


def _lost(command: Command, reported: object, left: Path) -> str:
    try:
        found = command.state(left)
    except Exception as problem:
        return f"{command.name}: cannot be read: {problem!r}"
    return "" if found == reported else f"{command.name}: {found}, reported was {reported}"


def _cut(disk: Path) -> None:
    handle = os.open(disk, os.O_RDONLY)
    fcntl.ioctl(handle, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    os.close(handle)


@contextmanager
def _mounted(folder: Path) -> Iterator[Path]:
    """Mount the folder's image, which is made if there is none."""
    image, disk = folder / "image", folder / "disk"
    if not image.exists():
        with image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        disk.mkdir()
        _system("mkfs.ext4", "-q", "-F", str(image))
    _system("mount", "-o", "loop", str(image), str(disk))
    try:
        yield disk
    finally:
        _system("umount", str(disk))


def _system(*words: str) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError as problem:
        raise NoMount(f"{words[0]} is not installed") from problem
    if done.returncode:
        raise NoMount(f"{' '.join(words)}: {done.stderr.strip()}")


def main() -> int:
    """Print what each command lost; 1 if anything was."""
    found: list[str] = []
    kinds: dict[str, Callable[[Command, Path], str]] = {
        "made up": lost_on_a_made_up_disk,
        "ext4": lost_on_a_real_disk,
    }
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        try:
            _say(f"ext4 loses what is not forced: {a_real_disk_loses(folder / 'loses')}")
        except NoMount as problem:
            _say(f"no real disk: {problem}")
            del kinds["ext4"]
        for kind, lost in kinds.items():
            for command in COMMANDS:
                what = lost(command, folder / kind.replace(" ", "-") / command.name)
                _say(f"{kind}, {command.name}: {what or 'all is there'}")
                found += [what] if what else []
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
